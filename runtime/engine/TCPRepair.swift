// Runs in the engine before the tree exists, on the region's stack; no allocation, no libc.
// TCP connections to programs outside of the tree.  With TCP_REPAIR one goes on where it was: it stays in repair mode, in which the kernel sends
// nothing, until the tree is complete; so a restart that fails leaves the peer alone.  Else the program gets a connection that has been reset.
import CkptABI
import EngineBoot
import Freestanding

private let tcp = 6, repair = 19, repairQueue = 20, queueSequence = 21, repairOptions = 22, timestamp = 24, repairWindow = 29
private let receiveQueue: Int32 = 1, sendQueue: Int32 = 2, noQueue: Int32 = 0
private let netAdmin: UInt64 = 1 << 12

func makeOutside(_ i: Int) {
    let recorded = sockets[i].pointee.repair_size != 0
    switch state.pointee.tcp {
    case ENGINE_TCP_REFUSE.rawValue: refuse(.lacks) { l in putInternet(i, &l); l.put("leads out of the tree; use --tcp repair or --tcp reset") }
    case ENGINE_TCP_RESET.rawValue: makeReset(i)
    case ENGINE_TCP_REPAIR.rawValue:
        guard recorded else { refuse(.lacks) { l in putInternet(i, &l); l.put("was not recorded for a repair; take checkpoints as root, or use --tcp reset") } }
        guard mayRepair else { refuse(.lacks) { l in putInternet(i, &l); l.put("--tcp repair needs the capability CAP_NET_ADMIN; restart it as root, or use --tcp reset") } }
        makeRepaired(i)
    default: if recorded && mayRepair && isHere(i) { makeRepaired(i) } else { makeReset(i) }
    }
}
var mayRepair: Bool { effectiveCapabilities() & netAdmin != 0 }
/// A bind(2) meanwhile asks nobody who has the port.
func whileRepairing(_ fd: Int32, _ body: () -> Bool) -> Bool {
    let withoutProbe: Int32 = -1
    guard setOption(fd, tcp, repair, 1) == 0 else { return false }
    let r = body()
    return setOption(fd, tcp, repair, withoutProbe) == 0 && r
}

/// The machine still has the address, and nobody has the connection.
private func isHere(_ i: Int) -> Bool {
    let fd = newSocket(sockets[i].pointee.family, 1, 6, i)
    defer { _ = ckpt_close(fd) }
    guard setOption(fd, tcp, repair, 1) == 0 else { return false }
    return system(CKPT_SYS_bind, Int(fd), int(bytes(sockets[i].pointee.local)), Int(sockets[i].pointee.local_size)) == 0
}

/// As after a network failure: what is unread can be read, then ECONNRESET.
private func makeReset(_ i: Int) {
    let (fd, peer) = makeNearby(i)
    setInternetFd(i, fd)
    fill(i, from: peer)
    if has(i, CKPT_SOCKET_PEER_FINISHED) { _ = system(CKPT_SYS_shutdown, Int(peer), 1) }
    reset(peer)
}

func isRepairing(_ fd: Int32) -> Bool { getOption(fd, tcp, repair) == 1 }

private func makeRepaired(_ i: Int) {
    let s = sockets[i], fd = newTCP(i), r = field(bytes(s.pointee.repair), 0, ckpt_tcp_repair.self)
    func must(_ result: Int, _ what: StaticString) { if result < 0 { refuse(result) { l in putInternet(i, &l); l.put("cannot be repaired: "); l.put(what) } } }
    let received = messages[s.pointee.first_message], sent = messages[s.pointee.first_message + 1]
    must(setOption(fd, tcp, repair, 1), "TCP_REPAIR")
    must(system(CKPT_SYS_bind, Int(fd), int(bytes(s.pointee.local)), Int(s.pointee.local_size)), "bind")
    raiseBuffer(fd, receiving: true)
    raiseBuffer(fd, receiving: false)
    must(setSequence(fd, receiveQueue, r.receive_sequence &- UInt32(truncatingIfNeeded: received.pointee.content_size)), "TCP_QUEUE_SEQ")
    must(setSequence(fd, sendQueue, r.send_sequence &- UInt32(truncatingIfNeeded: sent.pointee.content_size)), "TCP_QUEUE_SEQ")
    must(system(CKPT_SYS_connect, Int(fd), int(bytes(s.pointee.remote)), Int(s.pointee.remote_size)), "connect")
    must(setNegotiated(fd, r), "TCP_REPAIR_OPTIONS")
    if r.options & 1 != 0 { must(setOption(fd, tcp, timestamp, Int32(bitPattern: r.timestamp)), "TCP_TIMESTAMP") }
    must(setOption(fd, tcp, repairQueue, receiveQueue), "TCP_REPAIR_QUEUE")
    put(received, 0, received.pointee.content_size, fd, i)
    must(setOption(fd, tcp, repairQueue, sendQueue), "TCP_REPAIR_QUEUE")
    let unsent = min(UInt64(r.unsent), sent.pointee.content_size), was = sent.pointee.content_size - unsent
    put(sent, 0, was, fd, i)
    must(setOption(fd, tcp, repairQueue, noQueue), "TCP_REPAIR_QUEUE")
    put(sent, was, unsent, fd, i)
    var window = r.window
    must(withUnsafeMutableBytes(of: &window) { system(CKPT_SYS_setsockopt, Int(fd), tcp, repairWindow, int($0.baseAddress!), $0.count) }, "TCP_REPAIR_WINDOW")
    setInternetFd(i, fd)
}

private func setSequence(_ fd: Int32, _ queue: Int32, _ sequence: UInt32) -> Int {
    let r = setOption(fd, tcp, repairQueue, queue)
    return r < 0 ? r : setOption(fd, tcp, queueSequence, Int32(bitPattern: sequence))
}

/// What the ends agreed on at the beginning: struct tcp_repair_opt is a code (TCPOPT_*) and a value.
private func setNegotiated(_ fd: Int32, _ r: ckpt_tcp_repair) -> Int {
    let timestamps: UInt32 = 1, selective: UInt32 = 2, scaled: UInt32 = 4
    var agreed = InlineArray<4, UInt64>(repeating: 0), n = 1
    agreed[0] = 2 | UInt64(r.segment) << 32
    if r.options & scaled != 0 { agreed[n] = 3 | UInt64(r.send_scale | r.receive_scale << 16) << 32; n += 1 }
    if r.options & selective != 0 { agreed[n] = 4; n += 1 }
    if r.options & timestamps != 0 { agreed[n] = 8; n += 1 }
    let size = n * 8
    return withUnsafeMutableBytes(of: &agreed) { system(CKPT_SYS_setsockopt, Int(fd), tcp, repairOptions, int($0.baseAddress!), size) }
}

private func put(_ m: UnsafeMutablePointer<ckpt_message_record>, _ from: UInt64, _ count: UInt64, _ fd: Int32, _ i: Int) {
    let b = UnsafeMutableRawPointer(bitPattern: UInt(state.pointee.copy))!
    var at: UInt64 = 0
    while at < count {
        let n = min(32768, count - at)
        readStatefile(b, n, at: m.pointee.content + from + at)
        let r = system(44, Int(fd), int(b), int(n), 0x4000, 0, 0)
        guard r > 0 else { refuse(r < 0 ? r : -5) { l in putInternet(i, &l); l.put("its queues cannot be filled again") } }
        at += UInt64(r)
    }
}

/// The tree is complete: repaired connections are the kernel's again, and ask the peer where it is.
func openRepairedConnections() {
    for i in 0..<sockets.count where isTCP(i) && sockets[i].pointee.repair_size != 0 {
        let fd = internetFd(i)
        guard fd >= 0, isRepairing(fd) else { continue }
        setOption(fd, tcp, repair, 0)
        setOption(fd, 1, 2, recordedInt(i, 1, 2))
    }
}
