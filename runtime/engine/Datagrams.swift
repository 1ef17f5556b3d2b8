// Runs in the engine before the tree exists, on the region's stack; no allocation, no libc.
// UDP sockets.  A datagram that was unread is sent once more, from the socket that sent it or from one of ours with its name.
import CkptABI
import EngineBoot
import Freestanding

func makeDatagramSockets() {
    // Those with something in their queues come first, alone at their ports: whoever shares the port would take a part.
    for i in 0..<sockets.count where isUDP(i) && sockets[i].pointee.message_count > 0 { makeDatagramSocket(i); fill(i) }
    for i in 0..<sockets.count where isUDP(i) && sockets[i].pointee.message_count == 0 { makeDatagramSocket(i) }
    for i in 0..<sockets.count where isUDP(i) { connectDatagrams(i) }
}

private func makeDatagramSocket(_ i: Int) {
    let s = sockets[i], fd = newSocket(s.pointee.family, datagramType, 17, i)
    applySocketOptions(i, fd, CKPT_OPTION_CREATED)
    if recordedInt(i, 1, 2) != 0 { setOption(fd, 1, 2, 1) }     // SO_REUSEADDR counts from the bind on
    if s.pointee.local_size > 0 { bindSocket(fd, bytes(s.pointee.local), s.pointee.local_size, i) }
    setInternetFd(i, fd)
}

private func connectDatagrams(_ i: Int) {
    let s = sockets[i]
    if s.pointee.state == SocketState.connected {
        let r = system(CKPT_SYS_connect, Int(internetFd(i)), int(bytes(s.pointee.remote)), Int(s.pointee.remote_size))
        guard r == 0 else { refuse(r) { l in putInternet(i, &l); l.put("cannot be connected") } }
    }
}

private func fill(_ i: Int) {
    let s = sockets[i], fd = internetFd(i)
    raiseBuffer(fd, receiving: true)
    for k in 0..<s.pointee.message_count {
        let m = messages[s.pointee.first_message + k]
        let known = m.pointee.sender < sockets.count ? internetFd(Int(m.pointee.sender)) : -1
        let from = known >= 0 ? known : sourceSocket(i, m)
        send(i, m, from, family: known >= 0 ? sockets[m.pointee.sender].pointee.family : s.pointee.family)
        if known < 0 { _ = ckpt_close(from) }
    }
}

/// A socket of ours with the name of a sender, where that is or will be.
private func sourceSocket(_ i: Int, _ m: UnsafeMutablePointer<ckpt_message_record>) -> Int32 {
    let a = bytes(m.pointee.source), family = UInt32(UInt8(bitPattern: a[0]))
    let fd = newSocket(family, datagramType, 17, m.pointee.sender < sockets.count ? Int(m.pointee.sender) : i)
    setOption(fd, 1, 2, 1)
    setOption(fd, 1, 15, 1)
    let r = system(CKPT_SYS_bind, Int(fd), int(a), Int(m.pointee.source_size))
    guard r == 0 else {
        refuse(.systemCall) { l in
            putInternet(i, &l); l.put("an unread datagram came from port "); l.put(decimal: UInt64(port(a))); l.put(", which another program has now; end it")
        }
    }
    return fd
}

private func send(_ i: Int, _ m: UnsafeMutablePointer<ckpt_message_record>, _ from: Int32, family: UInt32) {
    let b = UnsafeMutableRawPointer(bitPattern: UInt(state.pointee.copy))!, n = m.pointee.content_size
    guard n <= 65536 else { refuse(.badStatefile) { l in putInternet(i, &l); l.put("a datagram that is too long; the file is damaged, take another") } }
    if n > 0 { readStatefile(b, n, at: m.pointee.content) }
    var to = InlineArray<28, UInt8>(repeating: 0)
    let size = destination(i, bytes(m.pointee.source), family, &to)
    let r = withUnsafeBytes(of: &to) { system(44, Int(from), int(b), int(n), 0, int($0.baseAddress!), size) }
    guard r == int(n) else { refuse(r < 0 ? r : -90) { l in putInternet(i, &l); l.put("an unread datagram cannot be sent again") } }
}

/// Where a sender of `family` reaches the socket; bound to no address, at the sender's own, which is here too.  IPv6 shows IPv4 at its end.
private func destination(_ i: Int, _ source: Text, _ family: UInt32, _ to: inout InlineArray<28, UInt8>) -> Int {
    let local = bytes(sockets[i].pointee.local), isInet = sockets[i].pointee.family == Family.inet
    var address = mapped(local, isInet), any = true
    for k in 0..<16 where address[k] != 0 && !(isInet && k < 12) { any = false }
    if any { address = mapped(source, isInet) }
    to[0] = UInt8(family); to[2] = UInt8(bitPattern: local[2]); to[3] = UInt8(bitPattern: local[3])
    for k in 0..<16 { if family == Family.inet6 { to[8 + k] = address[k] } else if k >= 12 { to[4 + k - 12] = address[k] } }
    return family == Family.inet6 ? 28 : 16
}
/// An address as IPv6 shows it.
private func mapped(_ a: Text, _ isInet: Bool) -> InlineArray<16, UInt8> {
    var address = InlineArray<16, UInt8>(repeating: 0)
    for k in 0..<16 { address[k] = isInet ? (k < 10 ? 0 : k < 12 ? 255 : UInt8(bitPattern: a[4 + k - 12])) : UInt8(bitPattern: a[8 + k]) }
    return address
}
