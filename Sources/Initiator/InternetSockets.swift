// Sockets of the Internet families and of netlink: what each becomes.  Those of other families are refused by name.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

/// What becomes of TCP connections that lead out of the tree.
public enum OutsideConnections: String, Sendable, CaseIterable { case auto, repair, reset, refuse }

extension SystemContent {
    func surveyInternetSockets(_ tree: ObservedTree) {
        let others = survey.all.filter { $0.family != SocketFamily.unix && !$0.refused }
        for s in others where !s.isTCP {
            if s.isUDP { recordDatagrams(s) } else if s.family == SocketFamily.netlink { recordNetlink(s) } else { refuseFamily(s) }
        }
        surveyConnections(others.filter(\.isTCP), tree)
    }

    private func refuseFamily(_ s: ObservedSocket) {
        let close = "close it before the checkpoint"
        switch (s.family, s.type, s.protocolNumber) {
        case (17, _, _): refuse(s, "packet socket", close)
        case (40, _, _): refuse(s, "vsock socket", close + ", or use TCP")
        case (SocketFamily.inet, _, 262), (SocketFamily.inet6, _, 262): refuse(s, "MPTCP socket", "use plain TCP")
        case (SocketFamily.inet, SocketType.raw, _), (SocketFamily.inet6, SocketType.raw, _): refuse(s, "raw IP socket", close)
        case (SocketFamily.inet, _, let p), (SocketFamily.inet6, _, let p): refuse(s, "IP socket of protocol \(p)", close)
        default: refuse(s, "socket of family \(s.family)", close + ", or use a Unix socket")
        }
    }

    // MARK: UDP

    private func recordDatagrams(_ s: ObservedSocket) {
        name(s)
        if !s.remote.isEmpty { s.record.state = CKPT_SOCKET_CONNECTED.rawValue }
        s.record.first_message = UInt32(tables.messages.count)
        let peekOffset: Int32 = 42, error: Int32 = 8
        // A look at the queue would take it away.
        if s.readiness & error != 0 {
            s.refused = true
            refusals.add(pid: s.pid, fd: s.fd, "UDP \(s.local.text): an error that is not read yet", "try again when it has been read", status: .temporary)
            return
        }
        do throws(SystemError) {
            // Only through the peek offset every datagram can be seen.
            if !isShownTwice(s) && s.readiness & 1 != 0 {
                try survey.undo.with(s.file, s.holders, SocketLevel.socket, peekOffset, 0) { () throws(SystemError) in
                    let largest = 65536
                    while let m = try s.file.peek(capacity: largest) {
                        if m.bytes.isEmpty { noteEmptyMessage(s) }
                        try addDatagram(s, m)
                    }
                }
            }
        } catch {
            refuse(s, "UDP \(s.local.text): its queue can't be read: \(error.call): \(error.text)", "read it empty before the checkpoint")
        }
        s.record.message_count = UInt32(tables.messages.count) - s.record.first_message
    }

    private func addDatagram(_ s: ObservedSocket, _ m: QueuedMessage) throws(SystemError) {
        guard let source = Endpoint(m.source) else { return }
        guard let home = home(of: source, near: s.network), home == s.network || !(Endpoint(s.local)?.isAny ?? true) else {
            s.refused = true
            refusals.add(pid: s.pid, fd: s.fd, "UDP \(s.local.text): an unread datagram from \(source.text), which no one here can send again", "try again when it has been read", status: .temporary)
            return
        }
        var r = ckpt_message_record()
        if !m.bytes.isEmpty { r.content = try store(m.bytes); r.content_size = UInt64(m.bytes.count) }
        (r.source, r.source_size) = address(m.source)
        let sender = survey.all.first { $0.isUDP && $0 !== s && $0.network == home && reaches($0.local, source) } ?? (home == s.network && reaches(s.local, source) ? s : nil)
        r.sender = sender.map { UInt32($0.index) } ?? ckpt_no_index()
        // A sender that is gone is made once more in the network of the receiver.
        if sender == nil && home != s.network {
            s.refused = true
            refusals.add(pid: s.pid, fd: s.fd, "UDP \(s.local.text): an unread datagram from \(source.text), in another network of the tree, whose sender is gone", "try again when it has been read", status: .temporary)
            return
        }
        tables.messages.append(r)
    }
    /// A socket with this name sends from `source`.
    private func reaches(_ local: [UInt8], _ source: Endpoint) -> Bool {
        guard let e = Endpoint(local) else { return false }
        return e.port == source.port && (e.address == source.address || e.isAny)
    }

    func name(_ s: ObservedSocket) {
        if let e = Endpoint(s.local), !(e.port == 0 && e.isAny) { (s.record.local, s.record.local_size) = address(s.local) }
        (s.record.remote, s.record.remote_size) = address(s.remote)
    }

    // MARK: netlink

    /// An idle socket to the kernel: getaddrinfo(3) and language runtimes keep them.
    private func recordNetlink(_ s: ObservedSocket) {
        let names: [Int32: String] = [0: "route", 4: "sock_diag", 9: "audit", 15: "uevent"]
        guard let family = names[s.protocolNumber] else { return refuse(s, "netlink socket of family \(s.protocolNumber)", "close it before the checkpoint") }
        // /proc/net/netlink: sk, Eth, Pid, Groups, Rmem, Wmem, Dump, Locks, Drops, Inode
        let line = ((try? Path.text("/proc/\(view(of: s.network))/net/netlink")) ?? "").split(separator: "\n").map { $0.split(separator: " ") }.first { $0.count > 9 && UInt64($0[9]) == s.inode }
        guard s.readiness & 1 == 0, line == nil || (line![4] == "0" && line![6] == "0") else {
            s.refused = true
            refusals.add(pid: s.pid, fd: s.fd, "netlink \(family) socket with an answer that is not read yet", "try again", status: .temporary)
            return
        }
        (s.record.local, s.record.local_size) = address(s.local)
    }

    func captureNetlinkGroups(_ s: ObservedSocket) {
        let level: Int32 = 270, list: Int32 = 9, join: Int32 = 1
        for (word, bits) in (s.file.option(level, list, capacity: 128) ?? []).enumerated() {
            for bit in 0..<8 where bits >> bit & 1 != 0 {
                add(level, join, withUnsafeBytes(of: Int32(word * 8 + bit + 1)) { [UInt8]($0) }, CKPT_OPTION_CONNECTED, "NETLINK_ADD_MEMBERSHIP")
            }
        }
    }
}

extension ObservedSocket {
    var readiness: Int32 { file.readiness }
}
