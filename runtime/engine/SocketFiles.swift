// The files of Unix sockets' path names.  A child makes each as who had made it, with its mode: nothing is done afterwards to what a path leads to then, which
// another user may have exchanged.
// A file that was moved after bind(2) cannot be made at its name: that may be taken, or gone.  It is made in a folder of nobody else's beside its place, where the
// name leads to it for the child only (chroot), and moved to its place when nothing is bound any more.
// Runs in the builder, or in the task that makes the sockets of a pid namespace (InnerSockets); no allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

private let socketName = StaticString(".socket")

/// bind(2); 0 or a negative errno.
func bindAsOwner(_ i: Int, _ fd: Int32, _ address: UnsafeMutableRawPointer, _ size: Int, in folder: Int32 = -1) -> Int {
    let s = state, r = sockets[i].pointee, isGone = r.path_state == CKPT_SOCKET_PATH_GONE.rawValue
    s.pointee.creator_fd.0 = fd; s.pointee.creator_fd.1 = folder
    s.pointee.creator_address = UInt64(UInt(bitPattern: address)); s.pointee.creator_length = UInt64(size)
    s.pointee.creator_uid = idHere(isGone ? r.creator_uid : r.path_uid, isGroup: 0); s.pointee.creator_gid = idHere(isGone ? r.creator_gid : r.path_gid, isGroup: 1)
    s.pointee.creator_number = Int64(isGone ? 0o777 : r.path_mode); s.pointee.creator_result = -5
    let sharesMemory: UInt64 = 0x100, sharesFiles: UInt64 = 0x400, waits: UInt64 = 0x4000
    var a = ckpt_clone_args()
    a.flags = sharesMemory | sharesFiles | waits
    a.stack = s.pointee.chunk; a.stack_size = 65536
    let child = ckpt_clone3(&a, ownerEntry, 0)
    guard child > 0 else { return child }
    awaitChild(child)
    showOwnFiles()
    return Int(s.pointee.creator_result)
}

private let ownerEntry: @convention(c) (UInt64) -> Void = { _ in
    let s = state, fd = Int(s.pointee.creator_fd.0), folder = s.pointee.creator_fd.1, address = UnsafeMutableRawPointer(bitPattern: UInt(s.pointee.creator_address))!
    // The file gets the mode of the socket's inode (unix_bind_bsd in the kernel), which keeps its own.
    let before = status(fd: Int32(fd)).mode
    _ = system(CKPT_SYS_umask, 0)
    _ = system(CKPT_SYS_fchmod, fd, Int(s.pointee.creator_number) & 0o7777)
    var r = 0
    if folder >= 0 { r = system(CKPT_SYS_fchdir, Int(folder)); if r == 0 { r = system(CKPT_SYS_chroot, int(StaticString(".").cString)) } }
    if r == 0 {
        takeFileIds(s.pointee.creator_uid, s.pointee.creator_gid)
        r = folder >= 0 ? bindInside(Int32(fd), address, Int(s.pointee.creator_length)) : bind(Int32(fd), to: address, Int(s.pointee.creator_length))
        if r == 0 && folder < 0 { giveGroup(address + 2, s.pointee.creator_uid, s.pointee.creator_gid) }
    }
    _ = system(CKPT_SYS_fchmod, fd, Int(before) & 0o7777)
    s.pointee.creator_result = Int64(r)
    ckpt_exit_group(0)
}
/// Of a user without privileges, who may give what is his to another group of his.
private func giveGroup(_ path: UnsafeMutableRawPointer, _ user: UInt32, _ group: UInt32) {
    let lchown = 94, mayGive: UInt64 = 1
    if effectiveCapabilities() & mayGive == 0 && currentIds(false)[1] == user && currentIds(true)[1] != group { _ = system(lchown, int(path), -1, Int(group)) }
}

/// In the folder that is the root now: the name's folders are made for it, and go.
private func bindInside(_ fd: Int32, _ address: UnsafeMutableRawPointer, _ size: Int) -> Int {
    let path = (address + 2).assumingMemoryBound(to: CChar.self), slash: CChar = 47
    func forEachFolder(_ body: (Int) -> Void, backwards: Bool) {
        let n = length(Text(path))
        var k = backwards ? n - 1 : 1
        while k > 0 && k < n {
            if path[k] == slash { path[k] = 0; body(int(path)); path[k] = slash }
            k += backwards ? -1 : 1
        }
    }
    forEachFolder({ _ = system(CKPT_SYS_mkdir, $0, 0o700) }, backwards: false)
    var r = system(CKPT_SYS_bind, Int(fd), int(address), size)
    if r == 0 { r = system(CKPT_SYS_renameat, -100, int(path), -100, int(StaticString("/.socket").cString)) }
    forEachFolder({ _ = system(CKPT_SYS_rmdir, $0) }, backwards: true)
    return r
}

// MARK: files that were moved

/// Of a name that nobody could take before.
private func folderName(_ i: Int) -> UnsafeMutablePointer<CChar> {
    let s = state, size = 8
    if s.pointee.hidden_word == 0 {
        var word: UInt64 = 0
        _ = withUnsafeMutableBytes(of: &word) { system(CKPT_SYS_getrandom, int($0.baseAddress!), size, 0) }
        s.pointee.hidden_word = word | 1
    }
    var l = Line()
    l.put(".ckpt-"); l.put(decimal: s.pointee.hidden_word); l.put("-"); l.put(decimal: UInt64(i))
    l.copy(to: engine_path(), capacity: 64)
    return engine_path()
}

/// Where it will be, in the mounts of its name.
private func fileAddress(_ i: Int, _ out: UnsafeMutableRawPointer) -> Int {
    let path = relocatedName(bytes(sockets[i].pointee.path_file)), n = length(path)
    guard n < 108 else { refuse(.lacks) { l in putSocket(i, &l); l.put("its file lies at a path of more than 107 bytes: "); l.put(text: path) } }
    out.storeBytes(of: UInt16(1), as: UInt16.self)
    memcpyBytes(out + 2, UnsafeRawPointer(path), n + 1)
    return n + 3
}
/// Runs `body` with the folder of its file, and the file's name.
private func withFolder(_ i: Int, _ body: (_ folder: Int, _ name: UnsafeMutablePointer<CChar>, _ address: UnsafeMutableRawPointer, _ size: Int) -> Void) {
    var b = InlineArray<17, UInt64>(repeating: 0)
    withUnsafeMutableBytes(of: &b) { b in
        let size = fileAddress(i, b.baseAddress!), path = (b.baseAddress! + 2).assumingMemoryBound(to: CChar.self), slash: CChar = 47
        refuseExchangeable(i, Text(path))
        var end = length(Text(path))
        while end > 0 && path[end - 1] != slash { end -= 1 }
        let first = path[end]
        path[end] = 0
        let folder = ckpt_open(Text(path), 0o2200000, 0)
        path[end] = first
        _ = made(folder, i, "the folder of its file cannot be opened")
        body(folder, path + end, b.baseAddress!, size)
        _ = ckpt_close(Int32(truncatingIfNeeded: folder))
    }
}

func bindHidden(_ i: Int, _ fd: Int32) {
    withFolder(i) { folder, _, _, _ in
        _ = made(system(CKPT_SYS_mkdirat, folder, int(folderName(i)), 0o700), i, "a folder beside its file cannot be made")
        let noFollow = 0o400000, r = system(CKPT_SYS_openat, folder, int(folderName(i)), 0o2200000 | noFollow)
        let hidden = lift(Int32(truncatingIfNeeded: made(r, i, "a folder beside its file cannot be opened")), "folder")
        let st = status(fd: hidden), others: UInt32 = 0o77
        guard st.uid == currentIds(false)[1], st.mode & others == 0 else { refuse(.systemCall) { l in putSocket(i, &l); l.put("another user exchanges what lies beside its file; restart it as the user whose it is") } }
        sockets[i].pointee.hidden = UInt32(hidden) + 1
    }
    var a = InlineArray<17, UInt64>(repeating: 0)
    withUnsafeMutableBytes(of: &a) { a in
        let size = Int(sockets[i].pointee.local_size), notPermitted = -1
        memcpyBytes(a.baseAddress!, UnsafeRawPointer(bytes(sockets[i].pointee.local)), size)
        a.baseAddress!.storeBytes(of: 0, toByteOffset: size, as: UInt8.self)
        let r = bindAsOwner(i, fd, a.baseAddress!, size, in: Int32(sockets[i].pointee.hidden) - 1)
        guard r != notPermitted else { refuse(.lacks) { l in putSocket(i, &l); l.put("its file was moved after it was bound, which only who may change his root folder can do again (CAP_SYS_CHROOT); restart it with --pids ns, or as root") } }
        _ = made(r, i, "cannot be bound to its name")
    }
}

/// How it is reached until it is at its place: from its folder.
func hiddenAddress(_ i: Int, _ out: UnsafeMutableRawPointer) -> Int {
    _ = system(CKPT_SYS_fchdir, Int(sockets[i].pointee.hidden) - 1)
    out.storeBytes(of: UInt16(1), as: UInt16.self)
    memcpyBytes(out + 2, UnsafeRawPointer(socketName.cString), 8)
    return 10
}
func withHidden<R>(_ i: Int, _ body: (UnsafeMutableRawPointer, Int) -> R) -> R {
    at(i) {
        var a = InlineArray<17, UInt64>(repeating: 0)
        return withUnsafeMutableBytes(of: &a) { body($0.baseAddress!, hiddenAddress(i, $0.baseAddress!)) }
    }
}

/// When nothing is bound any more, and all are listening.
func placeMovedFiles() {
    for i in 0..<sockets.count where sockets[i].pointee.hidden != 0 { at(i) { place(i) } }
}
private func place(_ i: Int) {
    if sockets[i].pointee.path_state == CKPT_SOCKET_PATH_GONE.rawValue { return removeHidden(i) }
    withFolder(i) { folder, name, address, size in
        removeDead(i, address, size)
        let noReplace = 1, notThere = -22, hidden = Int(sockets[i].pointee.hidden) - 1, renameat2 = 316
        var r = system(renameat2, hidden, int(socketName.cString), folder, int(name), noReplace)
        if r == notThere { r = system(CKPT_SYS_linkat, hidden, int(socketName.cString), folder, int(name), 0) }
        _ = made(r, i, "its file cannot be moved to where it was")
    }
    removeHidden(i)
}
/// Also when the restart fails.
func removeHiddenFiles() {
    for i in 0..<sockets.count where sockets[i].pointee.hidden != 0 { removeHidden(i) }
}
private func removeHidden(_ i: Int) {
    let hidden = Int(sockets[i].pointee.hidden) - 1, removesFolder = 0x200, around = system(CKPT_SYS_openat, hidden, int(StaticString("..").cString), 0o12200000)
    _ = system(CKPT_SYS_unlinkat, hidden, int(socketName.cString), 0)
    if around >= 0 {
        _ = system(CKPT_SYS_unlinkat, around, int(folderName(i)), removesFolder)
        _ = ckpt_close(Int32(truncatingIfNeeded: around))
    }
    _ = ckpt_close(Int32(truncatingIfNeeded: hidden))
    sockets[i].pointee.hidden = 0
}
