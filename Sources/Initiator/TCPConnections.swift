// TCP: which sockets are the two ends of one connection, and what is in their queues.
// What was sent and has not arrived is in no queue that can be looked at.  It is let arrive: a larger receive buffer opens the window; the buffer's
// size is in the undo list meanwhile.  So both directions' data lies in receive queues, where MSG_PEEK shows it.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

extension SystemContent {
    func surveyConnections(_ all: [ObservedSocket], _ tree: ObservedTree) {
        if all.isEmpty { return }
        let ends = TCPEnds(all, networks.map { ($0, InternetTables.tcp(view(of: $0))) })
        for s in all { recordConnection(s, ends) }
        recordOutside()
        for s in all where s.isListening && !s.refused { recordWaiting(s, ends) }
        for s in all where !s.refused && s.record.peer != ckpt_no_index() { letArrive(s, ends) }
        for s in all where !s.refused && !s.isListening { readStream(s) }
        if options.afterwards == .kill { abrupt = all.filter { $0.record.peer != ckpt_no_index() }.map(\.file) }
        recordOrder()
    }

    private func recordConnection(_ s: ObservedSocket, _ ends: TCPEnds) {
        guard let info = s.file.tcpInfo else { return refuse(s, "TCP socket \(s.local.text): its state can't be read", "close it before the checkpoint") }
        if let u = s.file.option(SocketLevel.tcp, 31), !u.isEmpty { return refuse(s, "TCP socket \(s.local.text) with an upper layer (TCP_ULP)", "let the program do TLS by itself") }
        name(s)
        let ready = s.readiness, urgent: Int32 = 2, hangsUp: Int32 = 0x2000, error: Int32 = 8
        switch info.state {
        case .listening: s.record.state = CKPT_SOCKET_LISTENING.rawValue; s.record.backlog = info.backlog
        case .synSent: recordConnecting(s, ends)
        case .synReceived: refuseForNow(s, "a connection that is being made")
        case .closed where ready & hangsUp == 0: s.record.state = CKPT_SOCKET_OPEN.rawValue
        case .closed, .timeWait:
            s.record.state = CKPT_SOCKET_ENDED.rawValue
            if ready & error != 0 { s.record.flags |= (info.wasEstablished ? CKPT_SOCKET_RESET : CKPT_SOCKET_REFUSED).rawValue }
        default:
            s.record.state = CKPT_SOCKET_CONNECTED.rawValue
            if info.state.hasFinished { s.record.flags |= CKPT_SOCKET_SHUT_WRITE.rawValue }
            if info.state.peerHasFinished { s.record.flags |= CKPT_SOCKET_PEER_FINISHED.rawValue }
            else if ready & hangsUp != 0 { s.record.flags |= CKPT_SOCKET_SHUT_READ.rawValue }
            if ready & urgent != 0 { return refuseForNow(s, "urgent data that is not read yet") }
            findPeer(s, ends)
        }
    }

    func refuseForNow(_ s: ObservedSocket, _ what: String) {
        s.refused = true
        refusals.add(pid: s.pid, fd: s.fd, "TCP \(s.local.text): \(what)", "try again", status: .temporary)
    }

    private func recordConnecting(_ s: ObservedSocket, _ ends: TCPEnds) {
        guard let line = ends.byInode[s.inode] else { return refuseForNow(s, "a connection that is being made") }
        s.record.state = CKPT_SOCKET_CONNECTING.rawValue
        (s.record.remote, s.record.remote_size) = address(line.remote.sockaddr(family: s.family))
    }

    /// The other end: in the tree, in a listener's queue, closed, or somebody else's.
    private func findPeer(_ s: ObservedSocket, _ ends: TCPEnds) {
        guard let local = Endpoint(s.local), let remote = Endpoint(s.remote) else { return refuseForNow(s, "a connection that is ending") }
        if ends.servesAt(local, more: remote) { s.record.flags |= CKPT_SOCKET_SERVER.rawValue }
        let other = Connection4(local: remote, remote: local)
        if let peer = ends.socket(other, near: s.network) { s.record.peer = UInt32(peer.index); return }
        let (line, place): (TCPLine?, PartNetwork) = ends.line(other, near: s.network).map { ($0.line, $0.network) } ?? (nil, s.network)
        switch line {
        case let l? where l.inode == 0 && (l.state == .established || l.state == .closeWait):
            guard let listener = ends.listener(at: remote, place) else { return leadsOutside(s, remote) }
            recordPending(s, listener, l)
        case let l? where l.inode == 0: gone(s, l.state == .finWait1 || l.state == .closing, place)
        case nil:
            guard let place = home(of: remote, near: s.network) else { return leadsOutside(s, remote) }
            gone(s, false, place)
        default: leadsOutside(s, remote)
        }
    }

    /// Its peer is closed; `more`: what it left behind is still on its way.
    private func gone(_ s: ObservedSocket, _ more: Bool, _ network: PartNetwork) {
        s.record.flags |= CKPT_SOCKET_PEER_GONE.rawValue
        s.record.peer_network = UInt8((network ?? -1) + 1)
        if !more { return }
        do throws(SystemError) {
            try openWindow(s) { s.file.tcpInfo?.state.peerHasFinished ?? true }
            if s.file.tcpInfo?.state.peerHasFinished == false { refuseForNow(s, "data on its way that does not arrive") }
        } catch { refuseForNow(s, "its window can't be opened: \(error.call): \(error.text)") }
    }

    /// The client's end `s` of a connection that nobody has accepted.
    private func recordPending(_ s: ObservedSocket, _ listener: ObservedSocket, _ l: TCPLine) {
        let finished: UInt32 = l.state == .closeWait ? 1 : 0
        guard l.readable <= finished, s.file.tcpInfo?.written == 0 else {
            return refuseForNow(s, "data that it sent lies in a connection that the program has not accepted yet")
        }
        var r = ckpt_socket_record()
        r.object = ckpt_no_index(); r.description = ckpt_no_index(); r.peer = UInt32(s.index); r.listener = UInt32(listener.index); r.network = listener.record.network
        r.family = UInt32(listener.family); r.type = UInt32(listener.type); r.protocol = UInt32(listener.protocolNumber); r.state = CKPT_SOCKET_PENDING.rawValue
        s.record.listener = UInt32(listener.index)
        // The kernel shows no queue's order; the clients' ages do, and within a millisecond their inodes.
        waitingClients.append(WaitingClient(age: s.file.tcpInfo?.acknowledgedAgo ?? 0, inode: s.inode, record: r))
    }

    private func recordOrder() {
        for p in waitingClients.sorted(by: { ($0.age, $1.inode) > ($1.age, $0.inode) }) { survey.pending.append(p.record) }
        waitingClients = []
    }

    /// Connections that wait at a listener and whose client is not in the tree.
    private func recordWaiting(_ s: ObservedSocket, _ ends: TCPEnds) {
        guard let local = Endpoint(s.local) else { return }
        for l in ends.waiting(s.network) where l.local.port == local.port && (local.isAny || l.local.address == local.address) {
            if ends.socket(Connection4(local: l.remote, remote: l.local), near: s.network) != nil { continue }
            if options.outside == .refuse { refuse(s, "TCP \(s.local.text): a connection from \(l.remote.text), outside of the tree, is not accepted yet", "leave out --tcp refuse") }
        }
    }

    // MARK: queues

    /// Lets all that `s` has sent arrive at its peer.
    private func letArrive(_ s: ObservedSocket, _ ends: TCPEnds) {
        let peer = survey.all[Int(s.record.peer)]
        func arrived() -> Bool {
            guard let from = s.file.tcpInfo, let to = peer.file.tcpInfo else { return true }
            if to.state.peerHasFinished { return true }
            return !from.state.hasFinished && (from.written == to.received || s.file.unsent == 0)
        }
        if arrived() { return }
        Kernel.sleep(milliseconds: 2)
        do throws(SystemError) {
            if !arrived() { try openWindow(peer, until: arrived) }
            if !arrived() { refuseUnarrived(s, at: peer) }
        } catch { refuseForNow(s, "its window can't be opened: \(error.call): \(error.text)") }
    }
    private func refuseUnarrived(_ s: ObservedSocket, at peer: ObservedSocket) {
        s.refused = true
        refusals.add(pid: s.pid, fd: s.fd, "TCP \(s.local.text): \(s.file.unsent) bytes on their way for which the queue of its reader (pid \(peer.pid) fd \(peer.fd)) has no room",
                     "try again when that has read some, run ckptctl as root, or raise sysctl net.ipv4.tcp_rmem", status: .temporary)
    }

    /// SO_RCVBUF grows to sysctl net.core.rmem_max only, but for the privileged; SO_RCVLOWAT lets a buffer without a size of its own grow as far as the kernel
    /// itself would let it (tcp(7), net.ipv4.tcp_rmem).
    private func openWindow(_ s: ObservedSocket, until arrived: () -> Bool) throws(SystemError) {
        let level = SocketLevel.socket, undo = survey.undo, locks = s.file.intOption(level, SocketOption.bufferLock) ?? 0
        let before = s.file.intOption(level, SocketOption.receiveBuffer) ?? 0, half = withUnsafeBytes(of: before / 2) { [UInt8]($0) }
        let all: Int32 = 1 << 30, clamp: Int32 = 10, lowWater: Int32 = 18, receiveBufferForce: Int32 = 33, unlocked: Int32 = 0
        func enlarged(_ body: () throws(SystemError) -> Void) throws(SystemError) {
            // Who sets it back may be a task without privileges.
            let settable = Int(before) / 2 <= InternetTables.maximumReceiveBuffer
            if settable {
                return try undo.with(s.file, s.holders, level, SocketOption.receiveBuffer, all, before: half) { () throws(SystemError) in
                    try? s.file.setOption(level, receiveBufferForce, all)
                    try body()
                }
            }
            let isTheKernels = locks & 2 == 0       // and may stay as large as it gets
            do throws(SystemError) { try s.file.setOption(level, receiveBufferForce, before / 2) } catch { if isTheKernels { return try body() } else { throw error } }
            try undo.with(s.file, s.holders, level, receiveBufferForce, all, before: half, body)
        }
        try undo.with(s.file, s.holders, level, SocketOption.bufferLock, locks) { () throws(SystemError) in
            try undo.with(s.file, s.holders, SocketLevel.tcp, clamp, all) { () throws(SystemError) in
                try enlarged { () throws(SystemError) in
                    try s.file.setOption(level, SocketOption.bufferLock, unlocked)
                    try undo.with(s.file, s.holders, level, lowWater, all) { () throws(SystemError) in
                        // What the kernel moves at all it moves at once; the tree waits meanwhile.
                        let deadline = Kernel.clock(1) + 3_000_000_000, patience = 200
                        var readable = s.file.readable, idle = 0
                        repeat {
                            s.file.announceWindow()
                            if arrived() { return }
                            Kernel.sleep(milliseconds: 1)
                            let now = s.file.readable
                            idle = now == readable ? idle + 1 : 0
                            readable = now
                        } while idle < patience && Kernel.clock(1) < deadline
                    }
                }
            }
        }
    }

    /// The receive queue, as one message.
    private func readStream(_ s: ObservedSocket) {
        guard s.record.state == CKPT_SOCKET_CONNECTED.rawValue || s.record.state == CKPT_SOCKET_ENDED.rawValue else { return }
        if s.record.repair_size != 0 { return }
        s.record.first_message = UInt32(tables.messages.count)
        do throws(SystemError) {
            let bytes = try peekAll(s)
            if bytes.isEmpty { return }
            guard bytes.count == s.file.readable else { return refuseForNow(s, "its queue can't be read at once") }
            try addStream(s, bytes)
        } catch { refuse(s, "TCP \(s.local.text): its queue can't be read: \(error.call): \(error.text)", "read it empty before the checkpoint") }
    }

    func addStream(_ s: ObservedSocket, _ bytes: [UInt8]) throws(SystemError) {
        var r = ckpt_message_record()
        r.sender = ckpt_no_index()
        if !bytes.isEmpty { r.content = try store(bytes); r.content_size = UInt64(bytes.count) }
        tables.messages.append(r)
        s.record.message_count += 1
    }

    /// A peek offset of the program's own would move.
    func peekAll(_ s: ObservedSocket) throws(SystemError) -> [UInt8] {
        let peekOffset: Int32 = 42
        guard let offset = s.file.intOption(SocketLevel.socket, peekOffset), offset >= 0 else { return try s.file.peekStream() }
        return try survey.undo.with(s.file, s.holders, SocketLevel.socket, peekOffset, -1) { () throws(SystemError) in try s.file.peekStream() }
    }
}

/// A connection that nobody has accepted: how long ago its client got it, in milliseconds.
struct WaitingClient { var age: UInt32, inode: UInt64, record: ckpt_socket_record }

struct Connection4: Hashable { var local: Endpoint, remote: Endpoint }

/// All ends of connections: the tree's, and the kernel's lists of everybody's in the same networks.
struct TCPEnds {
    private var sockets: [Connection4: [ObservedSocket]] = [:]
    private var lines: [Connection4: [(line: TCPLine, network: PartNetwork)]] = [:]
    var byInode: [UInt64: TCPLine] = [:]
    private var unheld: [(line: TCPLine, network: PartNetwork)] = []          // made, and held by no descriptor
    private var listeners: [ObservedSocket] = []
    private var users: [UInt16: Int] = [:]

    init(_ all: [ObservedSocket], _ networks: [(PartNetwork, [TCPLine])]) {
        for s in all {
            guard let local = Endpoint(s.local) else { continue }
            users[local.port, default: 0] += s.isListening ? 1 << 20 : 1
            if s.isListening { listeners.append(s) }
            if let remote = Endpoint(s.remote) { sockets[Connection4(local: local, remote: remote), default: []].append(s) }
        }
        for (network, list) in networks {
            for l in list {
                lines[Connection4(local: l.local, remote: l.remote), default: []].append((l, network))
                if l.inode != 0 { byInode[l.inode] = l }
                if l.inode == 0 && (l.state == .established || l.state == .closeWait) { unheld.append((l, network)) }
            }
        }
    }
    /// A connection stays in one network or, but for a loopback's, leads into another.
    func socket(_ c: Connection4, near network: PartNetwork) -> ObservedSocket? {
        let found = sockets[c] ?? []
        return found.first { $0.network == network } ?? (c.local.isLoopback ? nil : found.first)
    }
    func line(_ c: Connection4, near network: PartNetwork) -> (line: TCPLine, network: PartNetwork)? {
        let found = lines[c] ?? []
        return found.first { $0.network == network } ?? (c.local.isLoopback ? nil : found.first)
    }
    func waiting(_ network: PartNetwork) -> [TCPLine] { unheld.filter { $0.network == network }.map(\.line) }
    func listener(at e: Endpoint, _ network: PartNetwork) -> ObservedSocket? {
        let found = listeners.filter { $0.network == network && Endpoint($0.local)?.port == e.port }
        return found.first { Endpoint($0.local)?.address == e.address } ?? found.first { Endpoint($0.local)?.isAny == true }
    }
    /// The end that shares its port with a listener or with more connections was accepted; where neither does, the one with the lower number.
    func servesAt(_ local: Endpoint, more remote: Endpoint) -> Bool {
        let a = users[local.port] ?? 0, b = users[remote.port] ?? 0
        return a != b ? a > b : local.port < remote.port
    }
}
