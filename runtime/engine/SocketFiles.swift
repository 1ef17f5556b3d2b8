// The files of Unix sockets' path names.  A child makes each as who had made it, with its mode: nothing is done afterwards to what a path leads to then, which
// another user may have exchanged.
// A file that was moved after bind(2) cannot be made at its name: that may be taken, or gone.  It is made in a folder of nobody else's beside its place, where the
// name leads to it for the child only (chroot), and moved to its place when nothing is bound any more.
// Runs in the builder, or in the task that makes the sockets of a pid namespace (InnerSockets); no allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

// No folder of a socket's name is called so.
private let socketName = StaticString(".ckpt-socket-that-is-to-be-moved"), insideName = StaticString("/.ckpt-socket-that-is-to-be-moved")

/// bind(2) in the owner's child; 0 or a negative errno.  In `folder`: that is its root.
func bindHere(_ fd: Int32, _ address: UnsafeMutableRawPointer, _ size: Int, _ o: FileOwner, in folder: Int32) -> Int {
    // The file gets the mode of the socket's inode (unix_bind_bsd in the kernel), which keeps its own.
    let before = status(fd: fd).mode
    _ = system(CKPT_SYS_umask, 0)
    _ = system(CKPT_SYS_fchmod, Int(fd), Int(o.mode) & 0o7777)
    var r = 0
    if folder >= 0 { r = system(CKPT_SYS_fchdir, Int(folder)); if r == 0 { r = system(CKPT_SYS_chroot, int(StaticString(".").cString)) } }
    if r == 0 && o.isAlone { r = leaveRights(o.user, o.group) } else { takeFileIds(o.user, o.group) }
    if r == 0 {
        r = folder >= 0 ? bindInside(fd, address, size) : bind(fd, to: address, size, as: o)
        if r == 0 { finish(folder >= 0 ? int(insideName.cString) : int(address + 2), o) }
    }
    _ = system(CKPT_SYS_fchmod, Int(fd), Int(before) & 0o7777)
    return r
}
/// A folder with the setgid bit, or with an ACL for what is made in it, gives a file another group or mode than it had.
private func finish(_ path: Int, _ o: FileOwner) {
    let itself = 0o12400000, empty = 0x1000, nothing = int(StaticString("").cString), fchownat = 260, fchmodat2 = 452, notThere = -38, chmod = 90
    let file = system(CKPT_SYS_openat, -100, path, itself)
    guard file >= 0 else { return }
    let st = status(fd: Int32(truncatingIfNeeded: file)), mode = Int(o.mode) & 0o7777
    if st.kind == 0o140000 && st.uid == o.user {
        if st.gid != o.group { _ = system(fchownat, file, nothing, -1, Int(o.group), empty) }
        if Int(status(fd: Int32(truncatingIfNeeded: file)).mode) & 0o7777 != mode && system(fchmodat2, file, nothing, mode, empty) == notThere {
            var l = Line()
            l.put("/proc/self/fd/"); l.put(signed: Int64(file))
            l.copy(to: engine_path(), capacity: 64)
            _ = system(chmod, int(engine_path()), mode)
        }
    }
    _ = ckpt_close(Int32(truncatingIfNeeded: file))
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
    if r == 0 { r = system(CKPT_SYS_renameat, -100, int(path), -100, int(insideName.cString)) }
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
private func withFolder(_ i: Int, _ body: (_ folder: Int, _ name: UnsafeMutablePointer<CChar>, _ address: UnsafeMutableRawPointer, _ size: Int, _ owner: FileOwner) -> Void) {
    var b = InlineArray<17, UInt64>(repeating: 0)
    withUnsafeMutableBytes(of: &b) { b in
        let size = fileAddress(i, b.baseAddress!), path = (b.baseAddress! + 2).assumingMemoryBound(to: CChar.self), slash: CChar = 47
        refuseExchangeable(i, Text(path))
        let o = owner(fileOwner(i), of: i, at: Text(path))
        var end = length(Text(path))
        while end > 0 && path[end - 1] != slash { end -= 1 }
        let first = path[end]
        path[end] = 0
        let folder = o.isAlone ? call(as: o, OwnerCall.open, path) : Int(ckpt_open(Text(path), 0o2200000, 0))
        path[end] = first
        if folder < 0 { refuseName(i, folder, o, "the folder of its file cannot be opened") }
        body(folder, path + end, b.baseAddress!, size, o)
        _ = ckpt_close(Int32(truncatingIfNeeded: folder))
    }
}

func bindHidden(_ i: Int, _ fd: Int32) {
    giveUpIfAborted()
    withFolder(i) { folder, _, _, _, _ in
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
        let r = call(as: fileOwner(i), OwnerCall.bind, a.baseAddress!, size, fd: fd, in: Int32(sockets[i].pointee.hidden) - 1)
        guard r != notPermitted else { refuse(.lacks) { l in putSocket(i, &l); l.put("its file was moved after it was bound, which only who may change his root folder can do again (CAP_SYS_CHROOT); restart it with --pids ns, or as root") } }
        _ = made(r, i, "cannot be bound to its name")
    }
}

/// How it is reached until it is at its place: from its folder.
func hiddenAddress(_ i: Int, _ out: UnsafeMutableRawPointer) -> Int {
    _ = system(CKPT_SYS_fchdir, Int(sockets[i].pointee.hidden) - 1)
    out.storeBytes(of: UInt16(1), as: UInt16.self)
    memcpyBytes(out + 2, UnsafeRawPointer(socketName.cString), socketName.utf8CodeUnitCount + 1)
    return socketName.utf8CodeUnitCount + 3
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
    withFolder(i) { folder, name, address, size, owner in
        removeDead(i, address, size, owner)
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
