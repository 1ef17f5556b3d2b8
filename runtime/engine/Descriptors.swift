// Runs in each process of the tree, on the region's main stack; no allocation, no libc.
// Puts every descriptor at its number.  One description is opened once, whoever shares it.
import CkptABI
import EngineBoot
import Freestanding

private let outside = CKPT_OBJECT_OUTSIDE.rawValue

/// In the engine: descriptions that several processes hold, or whose object exists only here.
func openSharedDescriptions() {
    for d in 0..<descriptions.count where descriptionFd[d].pointee < 0 && isOfThisPlace(Int(descriptions[d].pointee.object)) {
        let r = descriptions[d].pointee, kind = objects[r.object].pointee.kind
        if kind == outside { descriptionFd[d].pointee = openOutside(d); continue }
        if isTerminalKind(kind) || isEventKind(kind) || kind == CKPT_OBJECT_SOCKET.rawValue { continue }       // made where the tree's pids are given
        if kind == CKPT_OBJECT_NAMESPACE.rawValue || isProcOfPid(Int(r.object)) { continue }
        if kind == CKPT_OBJECT_QUEUE.rawValue || kind == CKPT_OBJECT_RING.rawValue { continue }
        if r.users > 1 || objectFd[Int(r.object)].pointee >= 0 { descriptionFd[d].pointee = lift(openDescription(d), "file of the tree") }
    }
}

/// O_CREAT, O_EXCL, O_TRUNC and O_NOCTTY acted when the file was first opened; O_TMPFILE made a file that is made otherwise now.
private let onlyAtOpen: UInt32 = 0o100 | 0o200 | 0o1000 | 0o400 | 0o20000 | 0o2000000 | 0o20000000

/// Opens a description anew, at its position.
func openDescription(_ d: Int) -> Int32 {
    let r = descriptions[d].pointee, o = Int(r.object)
    var flags = r.flags & ~onlyAtOpen
    if flags & 0o10000000 == 0 { flags &= ~0o400000 }     // O_NOFOLLOW: a relocated path may be a link
    if objectFd[o].pointee >= 0 && objects[o].pointee.kind != CKPT_OBJECT_DELETED_FOLDER.rawValue { flags &= ~0o200000 }
    if objects[o].pointee.kind == CKPT_OBJECT_PATH.rawValue && objects[o].pointee.mode & 0o170000 == 0o120000 { flags |= 0o400000 }
    let fd: Int
    if isFirstOfUnnamed(d, o) { fd = system(CKPT_SYS_fcntl, Int(objectFd[o].pointee), 1030, 0) }
    else if objectFd[o].pointee >= 0 { fd = Int(reopen(objectFd[o].pointee, flags, o)) }
    else { fd = openNamed(o, Int32(bitPattern: flags | 0o2000400)) }
    guard fd >= 0 else { refuseFile(o, fd) { l in putObject(o, &l); l.put(objects[o].pointee.rdev == 0x500 ? "restart it from a terminal" : "cannot be opened") } }
    if objectFd[o].pointee >= 0 && flags & 0o10000000 == 0 { setFlags(Int32(truncatingIfNeeded: fd), r.flags) }     // opened again without blocking
    let number = Int32(truncatingIfNeeded: fd), kind = objects[o].pointee.kind
    let seekable = kind == CKPT_OBJECT_REGULAR.rawValue || kind == CKPT_OBJECT_DELETED.rawValue || kind == CKPT_OBJECT_MEMFD.rawValue || kind == CKPT_OBJECT_DIRECTORY.rawValue || kind == CKPT_OBJECT_PROC.rawValue
    if seekable && r.position != 0 && flags & 0o10000000 == 0 {
        let e = system(CKPT_SYS_lseek, fd, int(r.position), 0)
        guard e == int(r.position) else { refuse(e) { l in putObject(o, &l); l.put("cannot be positioned at "); l.put(decimal: r.position) } }
    }
    return number
}

/// The open file that O_TMPFILE gave shows that it did (F_GETFL): the first description is that one.
private func isFirstOfUnnamed(_ d: Int, _ o: Int) -> Bool {
    guard objects[o].pointee.flags & CKPT_OBJECT_UNNAMED.rawValue != 0, objectFd[o].pointee >= 0 else { return false }
    return firstUnnamed(o) == d
}
/// The first description of an object that has O_TMPFILE among its flags.
func firstUnnamed(_ o: Int) -> Int {
    for d in 0..<descriptions.count where descriptions[d].pointee.object == o && descriptions[d].pointee.flags & 0o20200000 == 0o20200000 { return d }
    return -1
}

func restoreDescriptors(_ i: Int) {
    let p = processes[i], floor = state.pointee.fd_floor
    _ = system(CKPT_SYS_close_range, 0, Int(floor) - 1, 0)
    fetchPidfds(i)
    watchFiles(.inside(i))
    for k in 0..<p.pointee.fd_count { place(Int(p.pointee.first_fd + k), from: Int(p.pointee.first_fd)) }
    // Ours; but a user namespace is entered later, and the mounts of a part.
    var kept = InlineArray<24, Int32>(repeating: -1)
    kept[0] = usersDescriptor(i)
    let places = placeDescriptors(i)
    kept[1] = places.mounts; kept[2] = places.folder; kept[3] = places.root
    closeAll(from: floor, but: kept)
}

private func place(_ f: Int, from first: Int) {
    let r = fds[f].pointee, cloexec = r.close_on_exec != 0 ? 0o2000000 : 0
    if isProcOfPid(Int(descriptions[r.description].pointee.object)) { return }     // when the tasks are there
    var source = descriptionFd[Int(r.description)].pointee, opened = false
    if source < 0 {
        for k in first..<f where fds[k].pointee.description == r.description { source = fds[k].pointee.number; break }
    }
    if source < 0 { source = openDescription(Int(r.description)); opened = true }
    let e: Int
    if source == r.number { e = system(CKPT_SYS_fcntl, Int(source), 2, cloexec != 0 ? 1 : 0); opened = false }
    else { e = system(CKPT_SYS_dup3, Int(source), Int(r.number), cloexec) }
    guard e >= 0 else { refuse(e) { l in putThisProcess(&l); l.put("fd "); l.put(signed: Int64(r.number)); l.put(" cannot be placed") } }
    if opened { _ = ckpt_close(source) }
}

/// Who gets SIGIO: set when every task that may be named exists, by the main task with the rights that it had: signals are sent with the rights of who sets this.
func restoreOwners(_ i: Int) {
    let p = processes[i]
    for k in 0..<p.pointee.fd_count {
        let f = fds[p.pointee.first_fd + k].pointee, d = descriptions[f.description].pointee
        let number = Int(f.number)
        if d.owner_pid != 0 {
            var owner = InlineArray<2, Int32>(repeating: 0)
            owner[0] = d.owner_type
            owner[1] = pidNow(d.owner_pid)
            let e = withUnsafeMutableBytes(of: &owner) { system(CKPT_SYS_fcntl, number, 15, int($0.baseAddress!)) }
            guard e == 0 || e == -3 else { refuse(e) { l in putThisProcess(&l); l.put("fd "); l.put(signed: Int64(f.number)); l.put(": owner for SIGIO") } }
        }
        if d.owner_signal != 0 { _ = system(CKPT_SYS_fcntl, number, 10, Int(d.owner_signal)) }
        if d.flags & 0o20000 != 0 { _ = system(CKPT_SYS_fcntl, number, 4, Int(d.flags & (0o2000 | 0o4000 | 0o40000 | 0o1000000 | 0o20000))) }
    }
}
