// Files that the tree has by their paths, where root restarts it.  Where somebody else than root may exchange what a path leads to, it is looked for, opened and
// changed as the user who had it, with his groups and without capabilities: wherever the path leads, it does not lead further than he could go himself.  What is
// opened is held by a descriptor (O_PATH) first, is looked at by that, and is opened through it.
// Runs in the engine, in the builder and in each process of the tree; no allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

private let pathOnly: Int32 = 0o10000000, noFollow: Int32 = 0o400000, closeOnExec: Int32 = 0o2000000
private let kindOfFile: UInt32 = 0o170000

/// By OBJECT: whether its path may be led elsewhere, or leads to another file than it did, which its user may or may not have; the kernel's own files show more to
/// whom root has opened them for.
private enum Lead { static let unknown: UInt32 = 0, none: UInt32 = 1, possible: UInt32 = 2 }
private var leads: Table<UInt32> { Table(at: state.pointee.leads, count: UInt64(objects.count)) }
/// A template's branches look for themselves.
func forgetLeads() { for o in 0..<objects.count { leads[o].pointee = Lead.unknown } }
/// In the mounts of a part, where its path is looked up only once.
func noteLead(_ o: Int, _ isPossible: Bool) { leads[o].pointee = isPossible ? Lead.possible : Lead.none }

func isLed(_ o: Int) -> Bool {
    let lead = leads[o]
    if lead.pointee == Lead.unknown { noteLead(o, objects[o].pointee.mounts == 0 && isRootAmongOthers && (mayBeLed(pathToFind(o), to: .file) || isNotRoots(o) && (isKernels(o) || isAnotherNow(o)))) }
    return lead.pointee == Lead.possible
}

private func isKernels(_ o: Int) -> Bool {
    let path = path(of: o), proc: StaticString = "/proc/", sys: StaticString = "/sys/"
    return hasPrefix(path, proc.cString) || hasPrefix(path, sys.cString)
}
private func isNotRoots(_ o: Int) -> Bool {
    let all = treeUsers
    if !all.isRoot || !all.areOthers { return all.areOthers }
    let had = holders(of: o)
    return had.user != nil && !had.isRoots
}
/// Not the file of the checkpoint, or not as open to others as it was.
private func isAnotherNow(_ o: Int) -> Bool {
    let fd = ckpt_open(path(of: o), pathOnly | closeOnExec, 0)
    if fd < 0 { return true }
    defer { _ = ckpt_close(Int32(truncatingIfNeeded: fd)) }
    return !isSame(fd, o) || status(fd: Int32(truncatingIfNeeded: fd)).mode & 0o7777 != objects[o].pointee.mode & 0o7777
}

// MARK: who

private func holds(_ i: Int, _ o: Int) -> Bool {
    let p = processes[i].pointee, o = UInt32(o)
    if p.cwd == o || p.root == o || p.exe == o { return true }
    for k in 0..<p.fd_count where descriptions[fds[p.first_fd + k].pointee.description].pointee.object == o { return true }
    for k in 0..<p.vma_count {
        let v = vmas[p.first_vma + k].pointee
        if v.object == o && (v.kind == CKPT_VMA_FILE.rawValue || v.kind == CKPT_VMA_SHARED_FILE.rawValue) { return true }
    }
    return false
}
/// The first user who had it, and whether root had it.  What is in a message only is the main process's.
private func holders(of o: Int) -> (user: Identity?, isRoots: Bool) {
    var user: Identity?, isRoots = false
    func look(_ i: Int) {
        let me = Identity(Int(processes[i].pointee.first_task)), root = idHere(0, isGroup: 0)
        for k: Int32 in 0..<4 where me.user(k) == root { isRoots = true }
        if user == nil && me.user(3) != root { user = me }
    }
    for i in 0..<processes.count where processes[i].pointee.flags & CKPT_PROCESS_ZOMBIE.rawValue == 0 && holds(i, o) { look(i) }
    if user == nil && !isRoots { look(Int(tree.pointee.root)) }
    return (user, isRoots)
}

/// Does something as who may; what root alone had is its owner's, and root's only where nobody else can exchange it.
func asHolder(of o: Int, _ body: () -> Int) -> Int {
    if !isLed(o) { return body() }
    let r = objects[o].pointee, denied = -13
    if let me = holders(of: o).user {
        let count = me.wanted.pointee.group_count
        return asUser(me.user(3), me.group(3), count > 0 ? groups[me.wanted.pointee.first_group] : nil, Int(count), body)
    }
    return r.uid == idHere(0, isGroup: 0) ? denied : asUser(r.uid, r.gid, nil, 0, body)
}

// MARK: what

/// The very file of the checkpoint: no other can have been born before that and have its number now.
private func isSame(_ fd: Int, _ o: Int) -> Bool {
    let r = objects[o].pointee, st = status(fd: Int32(truncatingIfNeeded: fd))
    guard st.device == r.device, st.inode == r.inode, st.uid == r.uid, st.kind == r.mode & kindOfFile, let born = birth(Int32(truncatingIfNeeded: fd)) else { return false }
    return born <= tree.pointee.realtime
}

/// Opens (O_PATH) what its path leads to; or an error.  `isOurs`: what is done to it is done as this process.
private func find(_ o: Int, follows: Bool) -> (fd: Int, isOurs: Bool) {
    _ = isLed(o)        // uses the path's buffer
    let path = path(of: o), flags = pathOnly | closeOnExec | (follows ? 0 : noFollow), duplicate = 1030
    if anchors[o].pointee >= 0 { return find(o) { system(CKPT_SYS_fcntl, Int(anchors[o].pointee), duplicate, 0) } }
    return find(o) { ckpt_open(path, flags, 0) }
}
func find(_ o: Int, by look: () -> Int) -> (fd: Int, isOurs: Bool) {
    if !isLed(o) { return (look(), true) }
    // A program of root's gets back what it had, wherever that lies.
    if holders(of: o).isRoots {
        let fd = look()
        if fd < 0 || isSame(fd, o) { return (fd, true) }
        _ = ckpt_close(Int32(truncatingIfNeeded: fd))
    }
    return (asHolder(of: o, look), false)
}

/// Does something to what its path leads to, by that descriptor; another kind of file than it was is none (ESTALE).  `isOurs`: as this process.
func withFile(_ o: Int, follows: Bool = true, _ body: (_ fd: Int, _ isOurs: Bool) -> Int) -> Int {
    let found = find(o, follows: follows), stale = -116
    guard found.fd >= 0 else { return found.fd }
    defer { _ = ckpt_close(Int32(truncatingIfNeeded: found.fd)) }
    if isLed(o) && status(fd: Int32(truncatingIfNeeded: found.fd)).kind != objects[o].pointee.mode & kindOfFile { return stale }
    return found.isOurs ? body(found.fd, true) : asHolder(of: o) { body(found.fd, false) }
}
/// A path that leads to an open file.
func throughProc(_ fd: Int, _ body: (Text) -> Int) -> Int {
    var l = Line()
    l.put("/proc/self/fd/"); l.put(signed: Int64(fd))
    return l.withCString { body($0) }
}
private func openAgain(_ fd: Int, _ flags: Int32) -> Int {
    let duplicate = 1030
    return flags & pathOnly != 0 ? system(CKPT_SYS_fcntl, fd, duplicate, 0) : throughProc(fd) { ckpt_open($0, flags & ~noFollow, 0) }
}
/// A program may open its file before the mode forbids that (git makes its packs so): for its owner the mode is another one for a moment.
private func openForbidden(_ fd: Int, _ flags: Int32) -> Int {
    let now = status(fd: Int32(truncatingIfNeeded: fd)), chmod = 90, denied = -13, mode = Int(now.mode & 0o7777), isFolder = now.kind == 0o040000
    func change(_ mode: Int) -> Int { throughProc(fd) { system(chmod, int($0), mode) } }
    guard now.kind == 0o100000 || isFolder, change(mode | (isFolder ? 0o700 : 0o600)) == 0 else { return denied }
    defer { _ = change(mode) }
    return openAgain(fd, flags)
}

/// open(2) by the path of an object that is there; `mayForbid`: whatever its mode is.
func openFile(_ o: Int, _ flags: Int32, mayForbid: Bool = false) -> Int {
    let denied = -13, r = isLed(o) ? denied : ckpt_open(path(of: o), flags, 0)
    if r != denied || !isLed(o) && !mayForbid { return r }
    return withFile(o, follows: flags & noFollow == 0) { fd, _ in
        let again = isLed(o) ? openAgain(fd, flags) : denied
        return again == denied && mayForbid ? openForbidden(fd, flags) : again
    }
}
func openNamed(_ o: Int, _ flags: Int32) -> Int { openFile(o, flags, mayForbid: true) }
func status(of o: Int, follow: Bool = true) -> (result: Int, status: FileStatus) {
    if !isLed(o) { return status(path: path(of: o), follow: follow) }
    let found = find(o, follows: follow)
    guard found.fd >= 0 else { return (found.fd, FileStatus()) }
    defer { _ = ckpt_close(Int32(truncatingIfNeeded: found.fd)) }
    return (0, status(fd: Int32(truncatingIfNeeded: found.fd)))
}

// MARK: what is made

/// What root alone had, where its name is all that others may take.
private func isMadeByRoot(_ o: Int, at path: Text) -> Bool {
    let root = idHere(0, isGroup: 0)
    guard holders(of: o).user == nil, objects[o].pointee.uid == root, case .to(let folder) = walkPath(path, from: nil, root: nil, links: true, to: .folder, { $0 == root }) else { return false }
    _ = ckpt_close(folder)
    return true
}
/// Makes something new by its path, never through what has its name.
func asMaker(of o: Int, at path: Text, _ body: () -> Int) -> Int { isLed(o) && isMadeByRoot(o, at: path) ? body() : asHolder(of: o, body) }

/// Opens it for writing, and makes it where it is gone.  `isOurs`: what is done to it further is done as this process.
func openToWrite(_ o: Int) -> (fd: Int, isOurs: Bool) {
    let readWrite: Int32 = 0o2000002, make: Int32 = 0o100, exclusively: Int32 = 0o200, missing = -2, denied = -13
    guard isLed(o) else {
        let r = ckpt_open(path(of: o), readWrite | make, 0o600)
        return (r == denied ? openNamed(o, readWrite) : r, true)
    }
    var isOurs = false
    let r = withFile(o) { fd, ours in
        isOurs = ours
        let again = openAgain(fd, readWrite)
        return again == denied ? openForbidden(fd, readWrite) : again
    }
    if r != missing { return (r, isOurs) }
    let path = path(of: o)
    func makeIt() -> Int { ckpt_open(path, readWrite | make | exclusively | noFollow, 0o600) }
    isOurs = isMadeByRoot(o, at: path)
    if !isOurs { return (asHolder(of: o, makeIt), false) }
    defer { leads[o].pointee = Lead.unknown }       // there it is root's, which others cannot exchange
    return (makeIt(), true)
}

/// Refuses what cannot be had: where it is not this process that may not, it tells who.
func refuseFile(_ o: Int, _ r: Int, _ body: (inout Line) -> Void) -> Never { refuseFile(o, r, or: { l in body(&l); l.put(": "); putError(r, &l) }, body) }
func refuseFile(_ o: Int, _ r: Int, or otherwise: (inout Line) -> Void, _ body: (inout Line) -> Void) -> Never {
    let denied = -13, forbidden = -1, stale = -116, again = -11, noMemory = -12
    guard isLed(o), r == denied || r == forbidden || r == stale else { refuse(r == again || r == noMemory ? .temporary : .systemCall, otherwise) }
    refuse(.systemCall) { l in
        body(&l)
        l.put(": others than root may exchange it or a folder of its path, where user "); l.put(decimal: UInt64(holders(of: o).user?.user(3) ?? objects[o].pointee.uid))
        l.put(", who had it, may not do that; restart it as that user, or move it to a folder that only root may change and use --relocate OLD=NEW")
    }
}
