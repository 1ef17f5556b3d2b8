// Runs in the engine before the tree exists, on the region's stack; no allocation, no libc.
// TCP connections come back over loopback: a listener of ours at the server's address, the client from its own port; then each side sends what the
// other had not read yet.  An end that nobody held any more is closed again, as it was.
import CkptABI
import EngineBoot
import Freestanding

private let stream: UInt32 = 1

func makeConnection(_ i: Int) {
    let s = sockets[i]
    if internetFd(i) >= 0 { return }
    guard s.pointee.state == SocketState.connected, s.pointee.listener == ckpt_no_index() else { return }
    if s.pointee.peer < sockets.count { return makePair(i, Int(s.pointee.peer)) }
    if has(i, CKPT_SOCKET_PEER_GONE) { return makeAbandoned(i) }
    makeOutside(i)
}

/// One end of a connection: its name, and the socket whose options it has, or whose peer it is.  What it calls the other end is in its own family: an IPv4
/// client and a server that listens for both have other names for the same address.
private struct End {
    var socket: Int, address: Text, size: UInt32, isPeer: Bool
    var other: Text { isPeer ? bytes(sockets[socket].pointee.local) : bytes(sockets[socket].pointee.remote) }
    var otherSize: UInt32 { isPeer ? sockets[socket].pointee.local_size : sockets[socket].pointee.remote_size }
    static func local(_ i: Int) -> End { End(socket: i, address: bytes(sockets[i].pointee.local), size: sockets[i].pointee.local_size, isPeer: false) }
    static func remote(_ i: Int) -> End { End(socket: i, address: bytes(sockets[i].pointee.remote), size: sockets[i].pointee.remote_size, isPeer: true) }
}

/// Makes the two ends.  The one that served listens; or the other, where connections that have ended hold the server's port: afterwards nobody can tell.
private func connect(_ client: End, to server: End) -> (client: Int32, server: Int32) {
    if let listener = listensAtOnce(server) {
        let fd = connectFrom(client)
        return (fd, accept(listener, fd, server.socket))
    }
    if let listener = listensAtOnce(client) {
        if let fd = connectsAtOnce(server) { return (accept(listener, fd, client.socket), fd) }
        _ = ckpt_close(listener)
    }
    let listener = newTCP(server.socket, isPeer: server.isPeer)
    bindSocket(listener, server.address, server.size, server.socket)
    listen(listener, server)
    let fd = connectFrom(client)
    return (fd, accept(listener, fd, server.socket))
}

/// Both ends are in the tree.
private func makePair(_ i: Int, _ j: Int) {
    if i == j { return makeSelfConnected(i) }
    let server = has(i, CKPT_SOCKET_SERVER) ? i : j, client = server == i ? j : i
    let made = connect(.local(client), to: .local(server))
    setInternetFd(client, made.client)
    setInternetFd(server, made.server)
    fill(i, from: internetFd(j))
    fill(j, from: internetFd(i))
    finishWriting(i)
    finishWriting(j)
}

private func makeSelfConnected(_ i: Int) {
    let s = sockets[i], fd = newTCP(i)
    bindSocket(fd, bytes(s.pointee.local), s.pointee.local_size, i)
    connect(fd, bytes(s.pointee.remote), s.pointee.remote_size, i)
    setInternetFd(i, fd)
    fill(i, from: fd)
    finishWriting(i)
}

/// The other end has been closed: it is made once more, says what was unread, and is closed.
private func makeAbandoned(_ i: Int) {
    let isServer = has(i, CKPT_SOCKET_SERVER)
    let made = isServer ? connect(.remote(i), to: .local(i)) : connect(.local(i), to: .remote(i))
    setInternetFd(i, isServer ? made.server : made.client)
    let peer = isServer ? made.client : made.server
    fill(i, from: peer)
    finishWriting(i)
    _ = ckpt_close(peer)
}

/// A connection that is over: what is unread, and the error that has not been told, come from one that is made and ended likewise.
func makeEnded(_ i: Int) {
    if has(i, CKPT_SOCKET_REFUSED) { return makeRefused(i) }
    let (fd, peer) = makeNearby(i)
    setInternetFd(i, fd)
    fill(i, from: peer)
    if has(i, CKPT_SOCKET_RESET) { reset(peer); return }
    _ = system(CKPT_SYS_shutdown, Int(peer), 1)
    _ = system(CKPT_SYS_shutdown, Int(fd), 1)
    _ = ckpt_close(peer)
}

/// A connection to a listener of ours at any port, from the socket's own address where this machine has it.
func makeNearby(_ i: Int) -> (fd: Int32, peer: Int32) {
    let s = sockets[i], isInet = s.pointee.family == Family.inet
    var at = InlineArray<28, UInt8>(repeating: 0), size = isInet ? 16 : 28
    at[0] = UInt8(s.pointee.family)
    if isInet { at[4] = 127; at[7] = 1 } else { at[23] = 1 }
    if s.pointee.local_size >= UInt32(size), !isAnyAddress(i) { for k in (isInet ? 4..<8 : 8..<24) { at[k] = UInt8(bitPattern: bytes(s.pointee.local)[k]) } }
    let listener = newSocket(s.pointee.family, stream, 6, i)
    var r = withUnsafeBytes(of: &at) { system(CKPT_SYS_bind, Int(listener), int($0.baseAddress!), size) }
    if r != 0 {
        for k in 4..<28 { at[k] = 0 }
        if isInet { at[4] = 127; at[7] = 1 } else { at[23] = 1 }
        r = withUnsafeBytes(of: &at) { system(CKPT_SYS_bind, Int(listener), int($0.baseAddress!), size) }
    }
    guard r == 0, system(CKPT_SYS_listen, Int(listener), 1) == 0 else { refuse(r) { l in putInternet(i, &l); l.put("a listener for it cannot be made") } }
    r = withUnsafeMutableBytes(of: &at) { system(CKPT_SYS_getsockname, Int(listener), int($0.baseAddress!), int(&size)) }
    let fd = newTCP(i)
    if s.pointee.local_size > 0 { _ = system(CKPT_SYS_bind, Int(fd), int(bytes(s.pointee.local)), Int(s.pointee.local_size)) }
    r = withUnsafeBytes(of: &at) { system(CKPT_SYS_connect, Int(fd), int($0.baseAddress!), isInet ? 16 : 28) }
    guard r == 0 || r == -115 else { refuse(r) { l in putInternet(i, &l); l.put("cannot be connected") } }
    return (fd, accept(listener, fd, i))
}
private func isAnyAddress(_ i: Int) -> Bool {
    let a = bytes(sockets[i].pointee.local), isInet = sockets[i].pointee.family == Family.inet
    for k in (isInet ? 4..<8 : 8..<24) where a[k] != 0 { return false }
    return true
}

/// SO_LINGER of no time: the close sends an RST.
func reset(_ peer: Int32) {
    var linger: UInt64 = 1
    _ = system(CKPT_SYS_setsockopt, Int(peer), 1, 13, int(&linger), 8)
    _ = ckpt_close(peer)
}

/// Nobody listens where a socket is bound and does no more.
private func makeRefused(_ i: Int) {
    let s = sockets[i], isInet = s.pointee.family == Family.inet
    var at = InlineArray<28, UInt8>(repeating: 0), size = isInet ? 16 : 28
    at[0] = UInt8(s.pointee.family)
    if isInet { at[4] = 127; at[7] = 1 } else { at[23] = 1 }
    let bound = newSocket(s.pointee.family, stream, 6, i)
    _ = withUnsafeBytes(of: &at) { system(CKPT_SYS_bind, Int(bound), int($0.baseAddress!), size) }
    _ = withUnsafeMutableBytes(of: &at) { system(CKPT_SYS_getsockname, Int(bound), int($0.baseAddress!), int(&size)) }
    let fd = newTCP(i)
    if s.pointee.local_size > 0 { _ = system(CKPT_SYS_bind, Int(fd), int(bytes(s.pointee.local)), Int(s.pointee.local_size)) }
    _ = withUnsafeBytes(of: &at) { system(CKPT_SYS_connect, Int(fd), int($0.baseAddress!), isInet ? 16 : 28) }
    _ = ckpt_close(bound)
    setInternetFd(i, fd)
}

/// The client of a connection that is not accepted yet; its listener is the tree's.
func connectPending(_ i: Int) {
    let client = Int(sockets[i].pointee.peer)
    setInternetFd(client, connectFrom(.local(client)))
    finishWriting(client)
}

/// connect(2) was under way: it begins anew, and may fail as it would have.
func beginConnecting(_ i: Int) {
    let client = End.local(i)
    guard let fd = fromItsPort(client, { fd in
        let r = connect(fd, client)
        return r != notFree && r != inUse
    }) else { refuseInUse(client.address, i) }
    setInternetFd(i, fd)
}

// MARK: the two ends

private func finishWriting(_ i: Int) {
    if has(i, CKPT_SOCKET_SHUT_WRITE) { _ = system(CKPT_SYS_shutdown, Int(internetFd(i)), 1) }
}

private func listensAtOnce(_ end: End) -> Int32? {
    let listener = newTCP(end.socket, isPeer: end.isPeer)
    guard bindsAtOnce(listener, end.address, end.size, end.socket) else { _ = ckpt_close(listener); return nil }
    listen(listener, end)
    return listener
}
private func listen(_ listener: Int32, _ end: End) {
    setOption(listener, 6, 9, 0)        // TCP_DEFER_ACCEPT would wait for data
    if system(CKPT_SYS_listen, Int(listener), 1) != 0 { refuseInUse(end.address, end.socket) }
}

private func connectFrom(_ client: End) -> Int32 {
    let patience = 650, patienceWithOthers = 20
    for attempt in 0..<patience {
        if let fd = connectsAtOnce(client) { return fd }
        if attempt >= patienceWithOthers && !onlyLingers(port(client.address), client.socket) { break }
        if attempt == 10 { warnOfLingering() }
        pause(milliseconds: 100)
    }
    refuseInUse(client.address, client.socket)
}

private func connectsAtOnce(_ client: End) -> Int32? {
    fromItsPort(client) { fd in
        let r = connect(fd, client), isThere = r == 0 || r == underWay
        guard isThere || r == notFree || r == inUse else { refuse(r) { l in putInternet(client.socket, &l); l.put("cannot be connected") } }
        return isThere && name(of: fd) == port(client.address)
    }
}
private let underWay = -115, notFree = -99, inUse = -98
private func connect(_ fd: Int32, _ client: End) -> Int { system(CKPT_SYS_connect, Int(fd), int(client.other), Int(client.otherSize)) }

/// A client that had no port of its own choice gets its port as it did then, by connect(2), from a range of one; else by bind(2), which a privileged
/// engine can force past connections that have ended.  nil: each way its port was not free.
private func fromItsPort(_ client: End, _ connects: (Int32) -> Bool) -> Int32? {
    func attempt(_ takePort: (Int32) -> Bool) -> Int32? {
        let fd = newTCP(client.socket, isPeer: client.isPeer)
        if takePort(fd) && connects(fd) { return fd }
        reset(fd)
        return nil
    }
    if client.size == 0 { return attempt { _ in true } }
    if let fd = attempt({ fd in takeByRange(fd, client) }) ?? attempt({ fd in bindsTo(fd, client) }) { return fd }
    guard mayRepair, onlyLingers(port(client.address), client.socket) else { return nil }
    return attempt { fd in whileRepairing(fd) { bindsTo(fd, client) } }
}
private func takeByRange(_ fd: Int32, _ client: End) -> Bool {
    setOption(fd, 0, 24, 1)
    let only = UInt32(port(client.address))
    setOption(fd, 0, 51, Int32(bitPattern: only | only << 16))
    var address = InlineArray<28, UInt8>(repeating: 0)
    for k in 0..<Int(min(client.size, 28)) where k != 2 && k != 3 { address[k] = UInt8(bitPattern: client.address[k]) }
    _ = withUnsafeBytes(of: &address) { system(CKPT_SYS_bind, Int(fd), int($0.baseAddress!), Int(client.size)) }
    return true
}
private func bindsTo(_ fd: Int32, _ client: End) -> Bool { system(CKPT_SYS_bind, Int(fd), int(client.address), Int(client.size)) == 0 }
private func name(of fd: Int32) -> UInt16 {
    var at = InlineArray<28, UInt8>(repeating: 0), size: UInt32 = 28
    _ = withUnsafeMutableBytes(of: &at) { system(CKPT_SYS_getsockname, Int(fd), int($0.baseAddress!), int(&size)) }
    return UInt16(at[2]) << 8 | UInt16(at[3])
}
private func connect(_ fd: Int32, _ remote: Text, _ size: UInt32, _ i: Int) {
    let r = system(CKPT_SYS_connect, Int(fd), int(remote), Int(size))
    guard r == 0 || r == -115 else { refuse(r) { l in putInternet(i, &l); l.put("cannot be connected") } }
}

/// The other end of `client`, out of a listener of ours, which is closed: whoever else connected to it is reset.
private func accept(_ listener: Int32, _ client: Int32, _ i: Int) -> Int32 {
    let getsockname = CKPT_SYS_getsockname, getpeername = CKPT_SYS_getpeername
    var others = 10_000
    while others > 0 {
        others -= 1
        guard isReady(listener, reading: true, milliseconds: 5000) else { break }
        let r = system(CKPT_SYS_accept4, Int(listener), 0, 0, 0o2004000), fd = Int32(truncatingIfNeeded: r)
        guard r >= 0 else { refuse(r) { l in putInternet(i, &l); l.put("the connection does not come back") } }
        if Endpoint(fd, getpeername) == Endpoint(client, getsockname) {
            _ = ckpt_close(listener)
            return lift(fd, "socket")
        }
        reset(fd)
    }
    refuse(.temporary) { l in putInternet(i, &l); l.put("the connection does not come back; try again") }
}
/// An address and port, those of IPv4 as IPv6 shows them.
private struct Endpoint: Equatable {
    private var high: UInt64 = 0, low: UInt64 = 0, port: UInt16 = 0
    init(_ fd: Int32, _ call: Int) {
        var at = InlineArray<28, UInt8>(repeating: 0), size: UInt32 = 28
        _ = withUnsafeMutableBytes(of: &at) { system(call, Int(fd), int($0.baseAddress!), int(&size)) }
        port = UInt16(at[2]) << 8 | UInt16(at[3])
        let isInet = UInt32(at[0]) == Family.inet
        for k in (isInet ? 4..<8 : 16..<24) { low = low << 8 | UInt64(at[k]) }
        if isInet { low |= 0xffff << 32 } else { for k in 8..<16 { high = high << 8 | UInt64(at[k]) } }
    }
}

func isReady(_ fd: Int32, reading: Bool, milliseconds: Int) -> Bool {
    // struct pollfd
    var p = UInt64(UInt32(bitPattern: fd)) | (reading ? 1 : 4) << 32
    return system(CKPT_SYS_poll, int(&p), 1, milliseconds) > 0
}

// MARK: what was unread

/// Sends what `i` had not read, from the other end; buffers grow as far as that takes.
func fill(_ i: Int, from peer: Int32) {
    let s = sockets[i], fd = internetFd(i)
    guard s.pointee.message_count > 0 else { return }
    let m = messages[s.pointee.first_message]
    let b = UnsafeMutableRawPointer(bitPattern: UInt(state.pointee.copy))!
    var at: UInt64 = 0, room = Room(fd: fd), stalls = 0
    while at < m.pointee.content_size {
        let n = min(65536, m.pointee.content_size - at)
        readStatefile(b, n, at: m.pointee.content + at)
        let noSignal = 0x4000
        let r = system(44, Int(peer), int(b), int(n), noSignal, 0, 0)
        if r > 0 { at += UInt64(r); stalls = 0; continue }
        guard r == -11, stalls < 50 else { refuse(r) { l in putInternet(i, &l); l.put("what was unread does not fit into its queue (raise sysctl net.core.rmem_max)") } }
        stalls += 1
        room.make(peer)
        announceWindow(fd)
        _ = isReady(peer, reading: false, milliseconds: 100)
    }
    awaitArrival(m.pointee.content_size, &room, peer)
    room.settle()
}

/// All of it in the receiver's queue, or as much as ever fits: the kernel brings the rest when that has been read.
private func awaitArrival(_ size: UInt64, _ room: inout Room, _ peer: Int32) {
    for attempt in 0..<200 {
        var queued: Int32 = 0
        _ = system(CKPT_SYS_ioctl, Int(room.fd), 0x541b, int(&queued))
        if UInt64(max(queued, 0)) >= size { return }
        if attempt > 2 { room.make(peer) }
        announceWindow(room.fd)
        pause(milliseconds: 2)
    }
}

/// A receive queue that takes as much as this user may let it: SO_RCVBUFFORCE, or where that is not permitted SO_RCVLOWAT, with which a buffer without a size
/// of its own grows as far as the kernel itself would let it (tcp(7), net.ipv4.tcp_rmem).
private struct Room {
    let fd: Int32
    private var before: Int32 = 0
    private let lock = 72, lowWater = 18
    init(fd: Int32) { self.fd = fd }
    mutating func make(_ peer: Int32) {
        if before != 0 { return }
        let sendBufferForce = 32
        before = getOption(fd, 1, 8)
        raiseBuffer(fd, receiving: true)
        setOption(peer, 1, sendBufferForce, 1 << 29)        // what it has by itself is more than a user may ask for
        setOption(fd, 6, 10, 1 << 30)
        setOption(fd, 1, lock, 0)
        setOption(fd, 1, lowWater, 1 << 30)
    }
    /// What is the program's own of this is set later (settleBuffers).
    func settle() {
        if before == 0 { return }
        setOption(fd, 1, lowWater, 1)
        if setOption(fd, 1, 33, before / 2) < 0 { setOption(fd, 1, 8, before / 2) }
        setOption(fd, 1, lock, 0)
    }
}
private func announceWindow(_ fd: Int32) {
    var byte: UInt8 = 0
    _ = system(45, Int(fd), int(&byte), 1, 0x42, 0, 0)      // recvfrom(2): MSG_PEEK, MSG_DONTWAIT
}

/// As large as this user may make it.
func raiseBuffer(_ fd: Int32, receiving: Bool) {
    let largest: Int32 = 1 << 29
    if setOption(fd, 1, receiving ? 33 : 32, largest) < 0 { setOption(fd, 1, receiving ? 8 : 7, largest) }
}
