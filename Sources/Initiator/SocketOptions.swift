// Socket options: which there are, and which of a socket differ from a fresh one's.  Those are set again by the engine; what can't be is refused.
import CkptABI
import CkptReport
import CkptSystem

/// One option of getsockopt(2) and setsockopt(2).
struct SocketOption {
    var level: Int32, name: Int32, text: String
    var stage = CKPT_OPTION_CREATED
    /// Which sockets have it.
    var applies: (ObservedSocket) -> Bool = { _ in true }

    init(_ level: Int32, _ name: Int32, _ text: String, _ stage: ckpt_option_stage = CKPT_OPTION_CREATED, _ applies: @escaping (ObservedSocket) -> Bool = { _ in true }) {
        self.level = level; self.name = name; self.text = text; self.stage = stage; self.applies = applies
    }
}

extension SocketOption {
    static let receiveBuffer: Int32 = 8, sendBuffer: Int32 = 7, bufferLock: Int32 = 72, attachFilter: Int32 = 26

    /// SOL_SOCKET, without the buffers' sizes and the filter, which are read otherwise.
    nonisolated(unsafe) static let general: [SocketOption] = [
        SocketOption(1, 2, "SO_REUSEADDR"), SocketOption(1, 15, "SO_REUSEPORT"), SocketOption(1, 5, "SO_DONTROUTE"), SocketOption(1, 6, "SO_BROADCAST"),
        SocketOption(1, 9, "SO_KEEPALIVE"), SocketOption(1, 10, "SO_OOBINLINE"), SocketOption(1, 11, "SO_NO_CHECK"), SocketOption(1, 12, "SO_PRIORITY"),
        SocketOption(1, 25, "SO_BINDTODEVICE"), SocketOption(1, 36, "SO_MARK"), SocketOption(1, 46, "SO_BUSY_POLL"), SocketOption(1, 69, "SO_PREFER_BUSY_POLL"),
        SocketOption(1, 70, "SO_BUSY_POLL_BUDGET"), SocketOption(1, 43, "SO_NOFCS"), SocketOption(1, 45, "SO_SELECT_ERR_QUEUE"), SocketOption(1, 41, "SO_WIFI_STATUS"),
        SocketOption(1, 47, "SO_MAX_PACING_RATE"), SocketOption(1, 60, "SO_ZEROCOPY"), SocketOption(1, 61, "SO_TXTIME"), SocketOption(1, 73, "SO_RESERVE_MEM"),
        SocketOption(1, 74, "SO_TXREHASH"), SocketOption(1, 40, "SO_RXQ_OVFL"), SocketOption(1, 75, "SO_RCVMARK"), SocketOption(1, 82, "SO_RCVPRIORITY"),
        SocketOption(1, 29, "SO_TIMESTAMP"), SocketOption(1, 35, "SO_TIMESTAMPNS"), SocketOption(1, 63, "SO_TIMESTAMP_NEW"), SocketOption(1, 64, "SO_TIMESTAMPNS_NEW"),
        SocketOption(1, 37, "SO_TIMESTAMPING"), SocketOption(1, 65, "SO_TIMESTAMPING_NEW"),
        // What a message shows is decided when it is sent: these would add to those that are put back.
        SocketOption(1, 16, "SO_PASSCRED", CKPT_OPTION_FILLED), SocketOption(1, 34, "SO_PASSSEC", CKPT_OPTION_FILLED),
        SocketOption(1, 76, "SO_PASSPIDFD", CKPT_OPTION_FILLED), SocketOption(1, 83, "SO_PASSRIGHTS", CKPT_OPTION_FILLED), SocketOption(1, 84, "SO_INQ", CKPT_OPTION_FILLED),
        // These would stop the messages, or close before them.
        SocketOption(1, 13, "SO_LINGER", CKPT_OPTION_FILLED), SocketOption(1, 18, "SO_RCVLOWAT", CKPT_OPTION_FILLED), SocketOption(1, 20, "SO_RCVTIMEO", CKPT_OPTION_FILLED),
        SocketOption(1, 21, "SO_SNDTIMEO", CKPT_OPTION_FILLED), SocketOption(1, 42, "SO_PEEK_OFF", CKPT_OPTION_FILLED), SocketOption(1, 44, "SO_LOCK_FILTER", CKPT_OPTION_FILLED),
    ]
}

extension SystemContent {
    /// Records every option that a fresh socket does not have.
    func captureOptions(_ s: ObservedSocket) {
        if s.record.flags & CKPT_SOCKET_OUTSIDE.rawValue != 0 { return }
        s.record.first_option = UInt32(tables.options.count)
        let fresh = freshSocket(s)
        captureBuffers(s)
        for o in SocketOption.general + SocketOption.internet where o.applies(s) {
            guard let value = s.file.option(o.level, o.name) else { continue }
            if let fresh, fresh.option(o.level, o.name) == value { continue }
            if o.level == SocketLevel.socket && o.name == 44 { captureFilter(s) }       // SO_LOCK_FILTER comes after the filter
            add(o.level, o.name, value, o.stage, o.text)
        }
        captureFilter(s)
        if s.isUDP { captureMemberships(s) }
        if s.family == SocketFamily.netlink { captureNetlinkGroups(s) }
        s.record.option_count = UInt32(tables.options.count) - s.record.first_option
    }

    func add(_ level: Int32, _ name: Int32, _ value: [UInt8], _ stage: ckpt_option_stage, _ text: String) {
        tables.options.append(ckpt_option_record(level: level, name: name, value: tables.blob(value), size: UInt32(value.count), stage: stage.rawValue, text: tables.text(text)))
    }

    /// A socket of ours of the same kind, to compare with; nil where we may not make one: then everything is recorded.
    private func freshSocket(_ s: ObservedSocket) -> File? {
        let key = SocketSurvey.FreshKind(network: s.network, family: s.family, type: s.type, protocolNumber: s.protocolNumber)
        if let known = survey.fresh[key] { return known }
        let made = try? inNetwork(s.network) { try? File.socket(family: s.family, type: s.type, protocol: s.protocolNumber) }
        survey.fresh[key] = made
        return made
    }

    /// Sizes that the program has set, not those that the system chose: the kernel shows the double of what is asked for.
    private func captureBuffers(_ s: ObservedSocket) {
        let locked = s.file.intOption(SocketLevel.socket, SocketOption.bufferLock) ?? 0
        for (bit, name, text) in [(Int32(1), SocketOption.sendBuffer, "SO_SNDBUF"), (2, SocketOption.receiveBuffer, "SO_RCVBUF")] where locked & bit != 0 {
            if let size = s.file.intOption(SocketLevel.socket, name) { add(SocketLevel.socket, name, withUnsafeBytes(of: size / 2) { [UInt8]($0) }, CKPT_OPTION_CREATED, text) }
        }
    }

    private func captureFilter(_ s: ObservedSocket) {
        if s.isFenced { return }        // by us, and it had none
        if tables.options[Int(s.record.first_option)...].contains(where: { $0.level == SocketLevel.socket && $0.name == SocketOption.attachFilter }) { return }
        guard let filter = s.file.classicFilter else { return refuse(s, "socket with an eBPF filter (SO_ATTACH_BPF), which can't be read", "use a classic filter (SO_ATTACH_FILTER), or none") }
        if !filter.isEmpty { add(SocketLevel.socket, SocketOption.attachFilter, filter, CKPT_OPTION_FILLED, "SO_ATTACH_FILTER") }
    }
}
