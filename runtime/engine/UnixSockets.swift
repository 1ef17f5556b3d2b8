// Runs in the builder, before the tree's first process, on the region's main stack; no allocation, no libc.
// Unix sockets.  The order: names that lead nowhere any more come first and free their place; then connections whose listener is gone, through one that
// lives for a moment; then names, listeners, connections, and those that nobody has accepted yet, in their order.
import CkptABI
import EngineBoot
import Freestanding

private let unix: UInt32 = 1, datagram: UInt32 = 2, closeOnExec = 0o2000000
private let folderOfPaths: Int32 = -100
private typealias Record = UnsafeMutablePointer<ckpt_socket_record>

func makeUnixSockets() {
    let here = ckpt_open(StaticString(".").cString, 0o12000000, 0)      // O_PATH
    for i in 0..<sockets.count where isOurs(i) && !isConnection(i) { makeOne(i) }
    for i in 0..<sockets.count where isOurs(i) && freesItsName(i) && !isConnection(i) {
        bind(i)
        // Its connections need the name once more.
        if isListening(i) && !isMoved(i) { connectThrough(i); unlinkGone(i, remote: false) }
    }
    for i in 0..<sockets.count where isConnection(i) && socketFd(i) == nil && !hasListener(i) { connectPair(i) }
    for i in 0..<sockets.count where isOurs(i) && !isConnection(i) && !freesItsName(i) { bind(i) }
    for i in 0..<sockets.count where isOurs(i) && isListening(i) && (isMoved(i) || !freesItsName(i)) { connectThrough(i) }
    if here >= 0 { _ = system(CKPT_SYS_fchdir, here); _ = ckpt_close(Int32(here)) }
}

private func isOurs(_ i: Int) -> Bool { isMadeHere(i) && sockets[i].pointee.object != ckpt_no_index() }
private func isListening(_ i: Int) -> Bool { sockets[i].pointee.state == CKPT_SOCKET_LISTENING.rawValue }
private func flag(_ i: Int, _ f: ckpt_socket_flags) -> Bool { sockets[i].pointee.flags & f.rawValue != 0 }
private func peer(_ i: Int) -> Int? { sockets[i].pointee.peer == ckpt_no_index() ? nil : Int(sockets[i].pointee.peer) }

/// One end of a pair: of streams, or of datagram sockets that have each other as peers and could not find each other by name.
private func isConnection(_ i: Int) -> Bool {
    guard isOurs(i), sockets[i].pointee.state == CKPT_SOCKET_CONNECTED.rawValue else { return false }
    if sockets[i].pointee.type != datagram { return true }
    guard let p = peer(i) else { return flag(i, CKPT_SOCKET_PEER_GONE) && sockets[i].pointee.remote_size == 0 }
    return peer(p) == i && (sockets[i].pointee.local_size == 0 || sockets[p].pointee.local_size == 0)
}
/// Its connection goes through a listening socket of the tree: its own, its peer's, or the one in whose queue its peer is.
private func hasListener(_ i: Int) -> Bool {
    if sockets[i].pointee.listener != ckpt_no_index() { return true }
    guard let p = peer(i) else { return false }
    return sockets[p].pointee.listener != ckpt_no_index()
}

func made(_ r: Int, _ i: Int, _ what: StaticString) -> Int {
    guard r >= 0 else { refuse(r) { l in putSocket(i, &l); l.put(what) } }
    return r
}
private func makeOne(_ i: Int) {
    adopt(i, newSocket(i))
}
/// One of the type of `i`, in its network.
private func newSocket(_ i: Int) -> Int { made(socket(1, Int(sockets[i].pointee.type) | closeOnExec, 0, in: sockets[i].pointee.network), i, "cannot be made") }
private func fd(_ i: Int) -> Int32 { descriptionFd[sockets[i].pointee.description].pointee }

// MARK: Names

/// Its file was moved to another place, or is gone.  Of one that is gone and whose name another file has, that is the place.
private func freesItsName(_ i: Int) -> Bool { isMoved(i) || sockets[i].pointee.path_state == CKPT_SOCKET_PATH_GONE.rawValue }
func isMoved(_ i: Int) -> Bool { sockets[i].pointee.path_file != 0 }

private func isPath(_ i: Int) -> Bool { isPath(sockets[i].pointee.local, sockets[i].pointee.local_size) }
private func isPath(_ name: UInt32, _ size: UInt32) -> Bool { size > 2 && bytes(name + 2).pointee != 0 }

/// Where its name, or its peer's, is looked up; abstract names are a network's.
func at<R>(_ i: Int, _ body: () -> R) -> R {
    isPath(i) || isPath(sockets[i].pointee.remote, sockets[i].pointee.remote_size) ? withMounts(UInt32(sockets[i].pointee.mounts), body) : body()
}

/// A sockaddr_un of the record's, relocated, in a buffer of the caller's; a relative path counts from its folder.  In the mounts of a part names are what they were.
private func address(_ i: Int, _ at: UInt32, _ size: UInt32, _ folder: UInt32, _ out: UnsafeMutableRawPointer) -> Int {
    memcpyBytes(out, UnsafeRawPointer(bytes(at)), Int(size))
    guard isPath(at, size) else { return Int(size) }
    if bytes(at + 2).pointee != 47 && bytes(folder).pointee != 0 { enterFolder(of: i, bytes(folder)) }
    out.storeBytes(of: 0, toByteOffset: Int(size), as: UInt8.self)
    let path = relocatedName(Text(out.assumingMemoryBound(to: CChar.self) + 2))
    if path == Text(out.assumingMemoryBound(to: CChar.self) + 2) { return Int(size) }
    let n = length(path)
    guard n < 108 else { return Int(size) }
    memcpyBytes(out + 2, UnsafeRawPointer(path), n + 1)
    return n + 3
}
func relocatedName(_ path: Text) -> Text { state.pointee.visited_mounts == 0 ? relocated(path) : path }
func memcpyBytes(_ to: UnsafeMutableRawPointer, _ from: UnsafeRawPointer, _ n: Int) { for k in 0..<n { to.storeBytes(of: field(from, k, UInt8.self), toByteOffset: k, as: UInt8.self) } }

/// Runs `body` with the local address of a socket.
private func withLocal<R>(_ i: Int, _ body: (UnsafeMutableRawPointer, Int) -> R) -> R {
    at(i) {
        var a = InlineArray<17, UInt64>(repeating: 0)
        return withUnsafeMutableBytes(of: &a) { body($0.baseAddress!, address(i, sockets[i].pointee.local, sockets[i].pointee.local_size, sockets[i].pointee.path_folder, $0.baseAddress!)) }
    }
}

/// Runs `body` with an address that leads to a socket.
private func withReach<R>(_ i: Int, _ body: (UnsafeMutableRawPointer, Int) -> R) -> R {
    if !isMoved(i) { return withLocal(i, body) }
    return withHidden(i, body)
}

private func bind(_ i: Int) { if sockets[i].pointee.local_size > 2 { bind(i, fd(i)) } }

/// Binds `fd` to the name of socket `i`.
private func bind(_ i: Int, _ fd: Int32) {
    if isMoved(i) { return at(i) { bindHidden(i, fd) } }
    withLocal(i) { a, n in
        let path = Text((a + 2).assumingMemoryBound(to: CChar.self)), o = isPath(i) ? owner(fileOwner(i), of: i, at: path) : creatorHere(i)
        if isPath(i) {
            refuseExchangeable(i, path)
            removeDead(i, a, n, o)
        }
        let r = isPath(i) ? call(as: o, OwnerCall.bind, a, n, fd: fd) : system(CKPT_SYS_bind, Int(fd), int(a), n)
        if r != 0 { refuseName(i, r, o, "cannot be bound to its name") }
        if isPath(i) { removeGone(i, a + 2) }
    }
}
private func removeGone(_ i: Int, _ path: UnsafeMutableRawPointer) {
    guard sockets[i].pointee.path_state == CKPT_SOCKET_PATH_GONE.rawValue, !isListening(i) else { return }
    if sockets[i].pointee.type == datagram { connectSenders(to: i) }
    removeName(i, path, fileOwner(i))
}
/// While its name still leads to it.
private func connectSenders(to i: Int) {
    for k in 0..<sockets.count where isOurs(k) && !isConnection(k) && peer(k) == i { connectDatagram(k) }
}

// MARK: Connections

/// Both ends of a connection without a listener in the tree.
private func connectPair(_ i: Int) {
    let p = peer(i)
    if sockets[i].pointee.local_size <= 2 && sockets[i].pointee.remote_size <= 2 {
        let r = call(as: creator(of: sockets[i]), CreatorCall.pair, Int32(bitPattern: sockets[i].pointee.type), in: sockets[i].pointee.network)
        _ = made(r, i, "the pair cannot be made")
        let ends = (engine_creator_fd()[0], engine_creator_fd()[1])
        adopt(i, Int(ends.0))
        if let p { adopt(p, Int(ends.1)) } else { keepGhost(i, Int(ends.1)) }
        if let p, sockets[p].pointee.local_size > 2 { bind(p) }
        return
    }
    // The end with a name was accepted; when both have one, either may have been.
    let server = sockets[i].pointee.local_size > 2 ? i : p, client = server == i ? p : i
    let named = server ?? i
    if sockets[named].pointee.type == datagram { return pairOfDatagrams(i) }
    let listener = Int32(truncatingIfNeeded: newSocket(i))
    let who = client.map { creator(of: sockets[$0]) } ?? creator(of: sockets[i])
    if let server {
        bindForAMoment(server, listener)
        _ = made(call(as: who, CreatorCall.listen, listener, 0, 1), server, "cannot listen")
        connectEnds(listener, server: server, client: client, through: server)
    } else {
        // The server's end is closed: its name is what is left of it.
        bindRemote(i, listener)
        _ = made(call(as: who, CreatorCall.listen, listener, 0, 1), i, "cannot listen")
        connectEnds(listener, server: nil, client: i)
    }
    _ = ckpt_close(listener)
    unlinkGone(server ?? i, remote: server == nil)
}
private func pairOfDatagrams(_ i: Int) {
    _ = made(call(as: creator(of: sockets[i]), CreatorCall.pair, Int32(bitPattern: datagram), in: sockets[i].pointee.network), i, "the pair cannot be made")
    let ends = (engine_creator_fd()[0], engine_creator_fd()[1])
    adopt(i, Int(ends.0)); bind(i)
    if let p = peer(i) { adopt(p, Int(ends.1)); bind(p) } else { keepGhost(i, Int(ends.1)) }
}

/// The name of a listener that is gone: its file, if it has one still, stays a dead one.
private func bindForAMoment(_ i: Int, _ fd: Int32) {
    let before = sockets[i].pointee.path_state
    if before == CKPT_SOCKET_PATH_GONE.rawValue { sockets[i].pointee.path_state = CKPT_SOCKET_PATH.rawValue; sockets[i].pointee.path_mode = 0o777; sockets[i].pointee.path_uid = sockets[i].pointee.creator_uid; sockets[i].pointee.path_gid = sockets[i].pointee.creator_gid }
    bind(i, fd)
    sockets[i].pointee.path_state = before
}
private func bindRemote(_ i: Int, _ fd: Int32) { at(i) { bindRemoteHere(i, fd) } }
private func bindRemoteHere(_ i: Int, _ fd: Int32) {
    var a = InlineArray<17, UInt64>(repeating: 0)
    withUnsafeMutableBytes(of: &a) { b in
        let n = address(i, sockets[i].pointee.remote, sockets[i].pointee.remote_size, sockets[i].pointee.path_folder, b.baseAddress!)
        bindForAMoment(i, fd, b.baseAddress!, n, isPath: isPath(sockets[i].pointee.remote, sockets[i].pointee.remote_size), creatorHere(i), "its peer's name cannot be taken for a moment")
    }
}
/// To the name of somebody who is not in the tree any more.
private func bindForAMoment(_ i: Int, _ fd: Int32, _ a: UnsafeMutableRawPointer, _ n: Int, isPath: Bool, _ whose: FileOwner, _ what: StaticString) {
    guard isPath else { _ = made(bind(fd, to: a, n), i, what); return }
    let path = Text((a + 2).assumingMemoryBound(to: CChar.self)), o = owner(whose, of: i, at: path)
    refuseExchangeable(i, path)
    removeDead(i, a, n, o)
    let r = o.isAlone ? call(as: o, OwnerCall.bind, a, n, fd: fd) : bind(fd, to: a, n)
    if r != 0 { refuseName(i, r, o, what) }
}
private func unlinkGone(_ i: Int, remote: Bool) { at(i) { unlinkHere(i, remote: remote) } }
private func unlinkHere(_ i: Int, remote: Bool) {
    let s = sockets[i].pointee
    if !remote && (s.path_state != CKPT_SOCKET_PATH_GONE.rawValue || !isPath(i) || isMoved(i)) { return }
    let at = remote ? s.remote : s.local, size = remote ? s.remote_size : s.local_size
    guard isPath(at, size) else { return }
    var a = InlineArray<17, UInt64>(repeating: 0)
    withUnsafeMutableBytes(of: &a) { b in
        _ = address(i, at, size, s.path_folder, b.baseAddress!)
        removeName(i, b.baseAddress! + 2, remote ? creatorHere(i) : fileOwner(i))
    }
}

/// connect(2) by the client's maker and accept(2); an end that is gone becomes the other's ghost.
private func connectEnds(_ listener: Int32, server: Int?, client: Int?, through l: Int? = nil) {
    let one = server ?? client!
    var clientFd = Int32(truncatingIfNeeded: newSocket(client ?? one))
    if let client { adopt(client, Int(clientFd)); clientFd = fd(client); bind(client) }
    let who = server.map { creator(of: sockets[$0]) } ?? creator(of: sockets[one])
    if server != nil && client == nil { bindGhost(one, clientFd) }
    var a = InlineArray<17, UInt64>(repeating: 0), n: UInt32 = 128
    at(one) { withUnsafeMutableBytes(of: &a) { b in
        if let l, isMoved(l) { n = UInt32(hiddenAddress(l, b.baseAddress!)) } else {
            _ = system(CKPT_SYS_getsockname, Int(listener), int(b.baseAddress!), int(&n))
            goToFolder(one)
        }
        letConnect(clientFd, to: listener, b.baseAddress!, Int(n), as: who, one)
    } }
    let accepted = acceptOurs(listener, clientFd, one)
    if let server { adopt(server, accepted) } else { keepGhost(one, accepted) }
    if client == nil { keepGhost(one, Int(clientFd)) }
}

// Others may find the name, and connect, before the tree is there.  What they have got is closed, as if the program had ended meanwhile.
private let others = 10_000, full = -11, setFlags = 4, doesNotWait = 0o4000

/// connect(2), which must not wait: nobody but us would make room in the queue.
private func letConnect(_ fd: Int32, to listener: Int32, _ address: UnsafeMutableRawPointer, _ size: Int, as who: Creator, _ i: Int) {
    var r = full, left = others
    _ = system(CKPT_SYS_fcntl, Int(fd), setFlags, doesNotWait)
    while r == full && left > 0 {
        left -= 1
        r = call(as: who, CreatorCall.connect, fd, UInt64(UInt(bitPattern: address)), UInt64(size))
        if r == full, let other = accepted(listener, milliseconds: 0) { _ = ckpt_close(other) }
    }
    _ = system(CKPT_SYS_fcntl, Int(fd), setFlags, 0)
    _ = made(r, i, "cannot be connected")
    requireReached(listener, from: fd, i)
}
/// The other end of `client`, which says what nobody else knows.
private func acceptOurs(_ listener: Int32, _ client: Int32, _ i: Int) -> Int {
    let send = 44, noSignal = 0x4000, size = 16
    var word = InlineArray<2, UInt64>(repeating: 0), left = others
    _ = withUnsafeMutableBytes(of: &word) { system(CKPT_SYS_getrandom, int($0.baseAddress!), size, 0) }
    let said = withUnsafeMutableBytes(of: &word) { system(send, Int(client), int($0.baseAddress!), size, noSignal) }
    guard said == size else { refuse(said) { l in putSocket(i, &l); l.put("cannot be connected") } }
    while left > 0, let fd = accepted(listener, milliseconds: 5000) {
        left -= 1
        if hears(word, from: fd) { return Int(fd) }
        _ = ckpt_close(fd)
    }
    refuse(.temporary) { l in putSocket(i, &l); l.put("the connection does not come back, since others use its name; try again") }
}
/// Takes the word out of the queue.
private func hears(_ word: InlineArray<2, UInt64>, from fd: Int32) -> Bool {
    let receive = 45, dontWait = 0x40, size = 16
    var heard = InlineArray<2, UInt64>(repeating: 0)
    let got = withUnsafeMutableBytes(of: &heard) { system(receive, Int(fd), int($0.baseAddress!), size, dontWait) }
    return got == size && heard[0] == word[0] && heard[1] == word[1]
}
private func accepted(_ listener: Int32, milliseconds: Int) -> Int32? {
    guard isReady(listener, reading: true, milliseconds: milliseconds) else { return nil }
    let r = system(CKPT_SYS_accept4, Int(listener), 0, 0, closeOnExec)
    return r < 0 ? nil : Int32(truncatingIfNeeded: r)
}
private func goToFolder(_ i: Int) { if bytes(sockets[i].pointee.path_folder).pointee != 0 { enterFolder(of: i, bytes(sockets[i].pointee.path_folder)) } }
/// The client is gone, and had a name.
private func bindGhost(_ i: Int, _ fd: Int32) {
    guard sockets[i].pointee.remote_size > 2 else { return }
    bindRemote(i, fd)
    unlinkGone(i, remote: true)
}
private func keepGhost(_ i: Int, _ fd: Int) { sockets[i].pointee.ghost = UInt64(lift(Int32(truncatingIfNeeded: fd), "socket")) + 1 }

/// All connections of a listening socket: the accepted ones first, then those in its queue.
private func connectThrough(_ l: Int) {
    let listener = fd(l)
    for i in 0..<sockets.count where sockets[i].pointee.family == unix && sockets[i].pointee.listener == UInt32(l) && sockets[i].pointee.state == CKPT_SOCKET_CONNECTED.rawValue {
        let client = peer(i)
        let who = client.map { creator(of: sockets[$0]) } ?? creator(of: sockets[l])
        _ = made(call(as: who, CreatorCall.listen, listener, 0, 1), l, "cannot listen")
        connectEnds(listener, server: i, client: client, through: l)
    }
    // Room for those of the tree, also when others have come.
    let roomy: UInt64 = 4096
    _ = made(call(as: creator(of: sockets[l]), CreatorCall.listen, listener, 0, roomy), l, "cannot listen")
    for i in 0..<sockets.count where sockets[i].pointee.family == unix && sockets[i].pointee.listener == UInt32(l) && sockets[i].pointee.state == CKPT_SOCKET_PENDING.rawValue {
        guard let c = peer(i) else { continue }
        makeOne(c)
        bind(c)
        withReach(l) { a, n in
            _ = system(CKPT_SYS_fcntl, Int(fd(c)), setFlags, doesNotWait)
            _ = made(call(as: creator(of: sockets[i]), CreatorCall.connect, fd(c), UInt64(UInt(bitPattern: a)), UInt64(n)), c, "cannot be connected")
            _ = system(CKPT_SYS_fcntl, Int(fd(c)), setFlags, 0)
            requireReached(listener, from: fd(c), c)
        }
    }
    _ = made(call(as: creator(of: sockets[l]), CreatorCall.listen, listener, 0, UInt64(sockets[l].pointee.backlog)), l, "cannot listen")
}
/// Whoever may exchange a folder or the file leads a name to others' listeners; who has called listen(2) says which one it was.
private func requireReached(_ listener: Int32, from client: Int32, _ i: Int) {
    func whoListens(_ fd: Int32) -> (Int, UInt64, UInt32) {
        let getOption = 55, level = 1, peerCredentials = 17
        var ids: (UInt64, UInt32) = (0, 0), size: UInt32 = 12
        let r = withUnsafeMutableBytes(of: &ids) { system(getOption, Int(fd), level, peerCredentials, int($0.baseAddress!), int(&size)) }
        return (r, ids.0, ids.1)
    }
    let a = whoListens(listener), b = whoListens(client)
    if a.0 != 0 || a != b { refuse(.systemCall) { l in putSocket(i, &l); l.put("its name leads to another program's socket; end that program, or restart it as the user whose folder it is in") } }
}

// MARK: Queues

/// What is unread in every queue, then the half-closed ends, the peers that are gone, and where datagrams go.
func fillUnixQueues() {
    for i in 0..<sockets.count where isOurs(i) { fill(i) }
    for i in 0..<sockets.count where isOurs(i) { closeEnds(i) }
    for i in 0..<sockets.count where isOurs(i) && sockets[i].pointee.type == datagram && !isConnection(i) && sockets[i].pointee.state == CKPT_SOCKET_CONNECTED.rawValue { connectDatagram(i) }
}

private func fill(_ i: Int) {
    for k in 0..<sockets[i].pointee.message_count {
        let m = messages[sockets[i].pointee.first_message + k]
        if sockets[i].pointee.type == datagram && sockets[i].pointee.ghost == 0 { sendDatagram(i, m) } else {
            let from = sockets[i].pointee.ghost != 0 ? Int32(truncatingIfNeeded: sockets[i].pointee.ghost) - 1 : peer(i).flatMap { socketFd($0) } ?? -1
            send(i, m, from, 0, 0)
        }
    }
}

private func sendDatagram(_ i: Int, _ m: UnsafeMutablePointer<ckpt_message_record>) {
    let s = sockets[i].pointee
    var from: Int32 = -1, temporary = false
    if m.pointee.sender != ckpt_no_index(), let known = socketFd(Int(m.pointee.sender)) { from = known } else {
        from = Int32(truncatingIfNeeded: newSocket(i))
        temporary = true
        if m.pointee.source_size > 2 { bindSource(i, m, from) }
    }
    if s.local_size > 2 && (s.path_state != CKPT_SOCKET_PATH_GONE.rawValue || isMoved(i)) {
        withReach(i) { a, n in
            let o = isPath(i) && !isMoved(i) ? owner(fileOwner(i), of: i, at: Text((a + 2).assumingMemoryBound(to: CChar.self)), to: .file) : nil
            send(i, m, from, UInt64(UInt(bitPattern: a)), UInt32(n), as: o)
        }
    }
    else { send(i, m, from, 0, 0) }
    if temporary { _ = ckpt_close(from) }
}
/// The name of a sender that is gone, for a moment.
private func bindSource(_ i: Int, _ m: UnsafeMutablePointer<ckpt_message_record>, _ fd: Int32) { at(i) { bindSourceHere(i, m, fd) } }
private func bindSourceHere(_ i: Int, _ m: UnsafeMutablePointer<ckpt_message_record>, _ fd: Int32) {
    var a = InlineArray<17, UInt64>(repeating: 0)
    withUnsafeMutableBytes(of: &a) { b in
        let n = address(i, m.pointee.source, m.pointee.source_size, sockets[i].pointee.path_folder, b.baseAddress!), isPath = bytes(m.pointee.source + 2).pointee != 0
        let there = isPath && status(path: Text((b.baseAddress! + 2).assumingMemoryBound(to: CChar.self)), follow: false).result == 0
        let known = m.pointee.flags & CKPT_MESSAGE_CREDENTIALS.rawValue != 0, sender = known ? ownerHere(m.pointee.uid, m.pointee.gid) : creatorHere(i)
        bindForAMoment(i, fd, b.baseAddress!, n, isPath: isPath, sender, "the name of a sender that is gone cannot be taken for a moment")
        if isPath && !there { removeName(i, b.baseAddress! + 2, sender) }
    }
}

private func closeEnds(_ i: Int) {
    let s = sockets[i].pointee, own = Int(fd(i))
    if s.ghost != 0 {
        let ghost = Int32(truncatingIfNeeded: s.ghost) - 1
        if flag(i, CKPT_SOCKET_RESET) { var byte: UInt8 = 0; _ = ckpt_write(Int32(own), &byte, 1) }
        _ = ckpt_close(ghost)
        sockets[i].pointee.ghost = 0
        return
    }
    let both = s.flags & 3
    if both != 0 { _ = system(CKPT_SYS_shutdown, own, both == 3 ? 2 : Int(both) - 1) }
}

private func connectDatagram(_ i: Int) { at(peer(i) ?? i) { connectDatagramHere(i) } }
private func connectDatagramHere(_ i: Int) {
    let s = sockets[i].pointee
    if s.remote_size <= 2 { return }
    var now: UInt32 = 128, a = InlineArray<17, UInt64>(repeating: 0)
    withUnsafeMutableBytes(of: &a) { b in
        if system(CKPT_SYS_getpeername, Int(fd(i)), int(b.baseAddress!), int(&now)) == 0 { return }
        let folder = peer(i).map { sockets[$0].pointee.path_folder } ?? s.path_folder, isOutside = peer(i) == nil && !flag(i, CKPT_SOCKET_PEER_GONE)
        let moved = peer(i).map(isMoved) ?? false
        let n = moved ? hiddenAddress(peer(i)!, b.baseAddress!) : address(i, s.remote, s.remote_size, folder, b.baseAddress!)
        var o = peer(i).map(fileOwner) ?? creatorHere(i)
        if !moved && isPath(s.remote, s.remote_size) {
            let path = Text((b.baseAddress! + 2).assumingMemoryBound(to: CChar.self))
            refuseExchangeable(i, path, to: isOutside ? .file : .folder)
            o = owner(o, of: peer(i) ?? i, at: path, to: .file)
        }
        var ghost = -1
        if flag(i, CKPT_SOCKET_PEER_GONE) {
            ghost = newSocket(i)
            bindRemote(i, Int32(truncatingIfNeeded: ghost))
        }
        let r = o.isAlone ? call(as: o, OwnerCall.connect, b.baseAddress!, n, fd: fd(i)) : system(CKPT_SYS_connect, Int(fd(i)), int(b.baseAddress!), n)
        if r != 0 { refuseName(i, r, o, "nobody is there where it sends to; start that program first") }
        if ghost >= 0 { _ = ckpt_close(Int32(truncatingIfNeeded: ghost)); unlinkGone(i, remote: true) }
    }
}
