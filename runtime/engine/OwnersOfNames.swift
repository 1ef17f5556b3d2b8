// What is done by the name of a Unix socket's file where somebody else than root may exchange a folder of it: as whose the file is, by a child without groups
// and capabilities.  Wherever such a name leads, it does not lead further than that user could go himself.
// Runs in the builder, or in the task that makes the sockets of a pid namespace (InnerSockets); no allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

enum OwnerCall { static let bind: UInt32 = 1, removeDead: UInt32 = 2, remove: UInt32 = 3, open: UInt32 = 4, removeFolder: UInt32 = 5, connect: UInt32 = 6, send: UInt32 = 7 }
/// Why a name stays taken; no errno.
enum Taken { static let noSocket = -5001, foreign = -5002, live = -5003, tooManyFolders = -5004 }

/// Whose a file is, as this process calls them.
struct FileOwner {
    var user: UInt32, group: UInt32, mode: UInt32 = 0o777
    /// Not as root: others may exchange a folder.
    var isAlone = false
}

/// That of a record's; who has left no name is taken for the one whose the tree is.
func ownerHere(_ user: UInt32, _ group: UInt32, mode: UInt32 = 0o777) -> FileOwner {
    let unknown = UInt32.max, first = processes[tree.pointee.root]
    return FileOwner(user: idHere(user == unknown ? engine_uid(first, 1).pointee : user, isGroup: 0), group: idHere(group == unknown ? engine_gid(first, 1).pointee : group, isGroup: 1), mode: mode)
}
func creatorHere(_ i: Int) -> FileOwner { ownerHere(sockets[i].pointee.creator_uid, sockets[i].pointee.creator_gid) }
func fileOwner(_ i: Int) -> FileOwner {
    let r = sockets[i].pointee
    return r.path_state == CKPT_SOCKET_PATH_GONE.rawValue ? creatorHere(i) : ownerHere(r.path_uid, r.path_gid, mode: r.path_mode)
}
/// By a path; a relative one counts from the folder of socket `i`.
func owner(_ o: FileOwner, of i: Int, at path: Text, to end: PathEnd = .folder) -> FileOwner {
    var o = o
    let folder = bytes(sockets[i].pointee.path_folder)
    o.isAlone = isRootAmongOthers && o.user != currentIds(false)[1] && (path.pointee != 47 && folder.pointee != 0 && mayBeLed(relocatedName(folder), to: .file) || mayBeLed(path, to: end))
    return o
}

/// Whether somebody else than root may let it lead elsewhere, also by making what is not there yet.
func mayBeLed(_ path: Text, to end: PathEnd) -> Bool {
    var copy = InlineArray<4096, CChar>(repeating: 0)
    return withUnsafeMutableBytes(of: &copy) { b in
        let text = b.baseAddress!.assumingMemoryBound(to: CChar.self), root = idHere(0, isGroup: 0), slash: CChar = 47, noEntry = -2
        var n = length(path), isWhole = true, end = end
        guard n < 4096 else { return true }
        memcpyBytes(b.baseAddress!, UnsafeRawPointer(path), n + 1)
        while true {
            switch walkPath(text, from: nil, root: nil, links: true, to: isWhole ? end : .folder, { $0 == root }) {
            case .to(let fd):
                let others: UInt32 = 0o022, isOpen = status(fd: fd).mode & others != 0
                _ = ckpt_close(fd)
                return !isWhole && isOpen
            case .failed(noEntry) where end == .folder: break
            // Not even a link is there.
            case .failed(noEntry) where status(path: Text(text), follow: false).result == noEntry: end = .folder; isWhole = false; continue
            default: return true
            }
            while n > 0 && text[n - 1] != slash { n -= 1 }
            while n > 0 && text[n - 1] == slash { n -= 1 }
            if n == 0 { return false }
            text[n] = 0
            isWhole = false
        }
    }
}

/// Makes a call as the owner; what it returned.
func call(as o: FileOwner, _ call: UInt32, _ address: UnsafeMutableRawPointer, _ size: Int = 0, fd: Int32 = -1, in folder: Int32 = -1) -> Int {
    let s = state
    s.pointee.creator_call = call; s.pointee.creator_fd.0 = fd; s.pointee.creator_fd.1 = folder
    s.pointee.creator_address = UInt64(UInt(bitPattern: address)); s.pointee.creator_length = UInt64(size)
    s.pointee.creator_uid = o.user; s.pointee.creator_gid = o.group; s.pointee.creator_number = Int64(o.mode); s.pointee.creator_result = -5
    engine_creator_arguments()[0] = o.isAlone ? 1 : 0
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
    let s = state, o = FileOwner(user: s.pointee.creator_uid, group: s.pointee.creator_gid, mode: UInt32(truncatingIfNeeded: s.pointee.creator_number), isAlone: engine_creator_arguments()[0] != 0)
    let address = UnsafeMutableRawPointer(bitPattern: UInt(s.pointee.creator_address))!, size = Int(s.pointee.creator_length), fd = s.pointee.creator_fd.0
    var r: Int
    if s.pointee.creator_call == OwnerCall.bind { r = bindHere(fd, address, size, o, in: s.pointee.creator_fd.1) } else {
        r = o.isAlone ? leaveRights(o.user, o.group) : 0
        if r == 0 {
            switch s.pointee.creator_call {
            case OwnerCall.removeDead: r = removeDeadHere(address, size, type: Int(fd), o)
            case OwnerCall.remove: r = system(CKPT_SYS_unlink, int(address))
            case OwnerCall.connect: r = system(CKPT_SYS_connect, Int(fd), int(address), size)
            case OwnerCall.send: r = system(CKPT_SYS_sendmsg, Int(fd), int(address), size)
            case OwnerCall.removeFolder: r = system(CKPT_SYS_rmdir, int(address))
            default: r = openFolder(address)
            }
        }
    }
    s.pointee.creator_result = Int64(r)
    ckpt_exit_group(0)
}
/// A folder in which its user may make files.
private func openFolder(_ path: UnsafeMutableRawPointer) -> Int {
    let pathOnlyFolder = 0o12200000, faccessat2 = 439, writeAndSearch = 3, itself = 0x1000, effective = 0x200
    let fd = system(CKPT_SYS_openat, -100, int(path), pathOnlyFolder)
    if fd < 0 { return fd }
    let r = system(faccessat2, fd, int(StaticString("").cString), writeAndSearch, itself | effective)
    if r == 0 { return fd }
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
    return r
}

/// A file that is there and that nobody listens on is what a dead socket left behind.
func removeDead(_ i: Int, _ a: UnsafeMutableRawPointer, _ n: Int, _ taker: FileOwner) {
    let path = Text((a + 2).assumingMemoryBound(to: CChar.self)), type = Int32(bitPattern: sockets[i].pointee.type)
    if !taker.isAlone && status(path: path, follow: false).result != 0 { return }
    // A link in its place leads who connects further.
    let o = taker.isAlone ? taker : owner(taker, of: i, at: path, to: .file)
    let r = o.isAlone ? call(as: o, OwnerCall.removeDead, a, n, fd: type) : removeDeadHere(a, n, type: Int(type), o)
    switch r {
    case 0: return
    case Taken.noSocket: refuse(.systemCall) { l in putSocket(i, &l); l.put("something that is no socket has taken its place, "); l.put(text: path); l.put("; move it away") }
    case Taken.foreign: refuse(.systemCall) { l in putSocket(i, &l); l.put("another user's file has its place, "); l.put(text: path); l.put("; move it away") }
    case Taken.live: refuse(.systemCall) { l in putSocket(i, &l); l.put("another program listens at "); l.put(text: path); l.put("; end that program first") }
    default: refuseName(i, r, o, "the file of a dead socket that has its place cannot be removed")
    }
}
private func removeDeadHere(_ a: UnsafeMutableRawPointer, _ n: Int, type: Int, _ o: FileOwner) -> Int {
    let path = Text((a + 2).assumingMemoryBound(to: CChar.self)), st = status(path: path, follow: false), doesNotWait = 0o2004000, refused = -111
    guard st.result == 0 else { return 0 }
    guard st.status.kind == 0o140000 else { return Taken.noSocket }
    // Who may remove what others have looks at whose it is; they are not called either.
    if isRootAmongOthers || state.pointee.is_root_of_user != 0, st.status.uid != o.user, st.status.uid != currentIds(false)[1] { return Taken.foreign }
    let probe = system(CKPT_SYS_socket, 1, type | doesNotWait, 0)
    guard probe >= 0 else { return probe }
    let r = system(CKPT_SYS_connect, probe, int(a), n), notPermitted = -13
    _ = ckpt_close(Int32(truncatingIfNeeded: probe))
    // ECONNREFUSED: nobody is bound to it; EPROTOTYPE: somebody is, of another type.
    guard r == refused else { return r == notPermitted ? r : Taken.live }
    return system(CKPT_SYS_unlink, int(path))
}
func removeName(_ i: Int, _ path: UnsafeMutableRawPointer, _ o: FileOwner) {
    let o = owner(o, of: i, at: Text(path.assumingMemoryBound(to: CChar.self)))
    _ = o.isAlone ? call(as: o, OwnerCall.remove, path) : system(CKPT_SYS_unlink, int(path))
}

func refuseName(_ i: Int, _ r: Int, _ o: FileOwner, _ what: StaticString) -> Never {
    let inUse = -98, notPermitted = -13, forbidden = -1
    if r == inUse { refuse(.systemCall) { l in putSocket(i, &l); l.put("its name is in use by another program; end that program first") } }
    if r == Taken.tooManyFolders { refuse(.lacks) { l in putSocket(i, &l); l.put("too many names of sockets lie in folders that are gone; make its folder before the restart") } }
    if o.isAlone && (r == notPermitted || r == forbidden) {
        refuse(.systemCall) { l in
            putSocket(i, &l); l.put("others than root may exchange its folder, where user "); l.put(decimal: UInt64(o.user)); l.put(", whose it is, may not write without other groups; restart it as that user")
        }
    }
    refuse(r) { l in putSocket(i, &l); l.put(what) }
}
