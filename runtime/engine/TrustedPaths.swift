// Runs in the builder and its children, on the region's main stack; no allocation, no libc.
// What root does by a path where other users may be about: nobody else may put something else in its way (freestanding/PathWalk.swift).
import CkptABI
import EngineBoot
import Freestanding

/// Opens what a path leads to (O_PATH), through links only if `links`; as root, by whom others could let things be done, only where nobody else can exchange it.
/// `owner`: may do that too, since it is his.
func walk(_ path: Text, links: Bool, to end: PathEnd, owner: UInt32 = ckpt_no_index()) -> Passage {
    guard isRootAmongOthers else {
        precondition(end == .file)
        let r = openPlace(-100, path, followsLinks: links)
        return r < 0 ? .failed(r) : .to(Int32(truncatingIfNeeded: r))
    }
    return walkPath(path, from: nil, root: nil, links: links, to: end) { user in user == owner || isTrusted(user) }
}

/// Root, or who root is where this process is: not who is called so in a user namespace of a user's.
var isRootAmongOthers: Bool {
    let root = idHere(0, isGroup: 0)
    return root != unknownUser && currentIds(false)[1] == root && state.pointee.user_namespace == 0 && state.pointee.own_users == 0 && state.pointee.is_root_of_user == 0
}
private let unknownUser: UInt32 = 65534

private func isTrusted(_ user: UInt32) -> Bool {
    func isHe(_ id: UInt32) -> Bool { let here = idHere(id, isGroup: 0); return here == user && here != unknownUser }
    if isHe(0) { return true }
    for i in 0..<processes.count where isHe(engine_uid(processes[i], 1).pointee) { return true }
    return false
}

// MARK: names of sockets

/// Before a name is taken, or a connection made by it; where the whole tree lives names are taken as in an ordinary restart.
func refuseExchangeable(_ i: Int, _ path: Text, to end: PathEnd = .folder) {
    if !isRootAmongOthers || !isInParts { return }
    switch walk(path, links: true, to: end) {
    case .to(let fd): _ = ckpt_close(fd)
    case .exchangeable:
        let isRelative = path.pointee != 47 && system(CKPT_SYS_getcwd, int(engine_path()), 4096) > 0
        refuseExchange(i, isRelative ? Text(engine_path()) : nil)
    case .failed(let r): refuse(r) { l in putSocket(i, &l); l.put(end == .file ? "nobody is there where it sends to; start that program first" : "a folder of its path; put it back") }
    }
}
private func refuseExchange(_ i: Int, _ folder: Text? = nil) -> Never {
    refuse(.systemCall) { l in
        putSocket(i, &l)
        if let folder { l.put("in "); l.put(text: folder); l.put(": ") }
        l.put("another user may exchange a folder of its path; restart it as the user whose it is, or give it a name in a folder of its own")
    }
}
private var isInParts: Bool { state.pointee.visited_mounts != 0 || state.pointee.entered_mounts != 0 }

/// The folder from which a relative name counts, by its path without links.
func enterFolder(of i: Int, _ folder: Text) {
    if !isInParts { _ = system(CKPT_SYS_chdir, int(relocated(folder))); return }
    var r = 0
    switch walk(folder, links: false, to: .file) {
    case .to(let fd): r = system(CKPT_SYS_fchdir, Int(fd)); _ = ckpt_close(fd)
    case .exchangeable: refuseExchange(i, folder)
    case .failed(let e): r = e
    }
    if r == 0 { return }
    // The folder had gone before the checkpoint: the name is there for a moment only.
    guard endsDeleted(folder) else { refuse(r) { l in putSocket(i, &l); l.put("its folder "); l.put(text: folder); l.put("; put it back") } }
    _ = system(CKPT_SYS_chdir, int(StaticString("/").cString))
}
private func endsDeleted(_ path: Text) -> Bool {
    let end: StaticString = " (deleted)", n = length(path), k = end.utf8CodeUnitCount
    return n > k && equal(path + (n - k), to: end)
}
