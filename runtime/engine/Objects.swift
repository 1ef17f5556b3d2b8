// Runs in the engine before the tree exists, on the region's stack; no allocation, no libc.
// Files that the tree maps or has open: looked at once, before any process is made, so that a changed file is refused early and by name.
import CkptABI
import EngineBoot
import Freestanding

/// Moves a descriptor above every number that the tree uses.
func lift(_ fd: Int32, _ what: StaticString) -> Int32 {
    if fd >= state.pointee.fd_floor { return fd }
    let r = system(CKPT_SYS_fcntl, Int(fd), 1030, Int(state.pointee.fd_floor))
    guard r >= 0 else {
        refuse(.lacks) { l in
            l.put(what); l.put(": no descriptor is free above those of the tree: "); putError(r, &l); l.put("; raise the limit on open files (ulimit -Hn)")
        }
    }
    _ = ckpt_close(fd)
    return Int32(truncatingIfNeeded: r)
}

/// Leaves the tree's descriptor numbers free: everything of ours lies above them.
func reserveDescriptors() {
    var top: Int32 = 2
    for i in 0..<fds.count { top = max(top, fds[i].pointee.number) }
    for i in 0..<watched.count { top = max(top, watched[i].pointee.number) }
    state.pointee.fd_floor = top + 1
    var limit = ckpt_rlimit()
    if system(CKPT_SYS_prlimit64, 0, 7, 0, int(&limit)) == 0 {
        let wanted = UInt64(top) + UInt64(descriptions.count + objects.count + mounts.count) + 64
        limit.soft = limit.hard
        _ = system(CKPT_SYS_prlimit64, 0, 7, int(&limit), 0)
        if limit.hard < wanted {
            // Only with CAP_SYS_RESOURCE.
            limit.hard = wanted; limit.soft = wanted
            _ = system(CKPT_SYS_prlimit64, 0, 7, int(&limit), 0)
        }
    }
    for i in 0..<UInt32(bases.count) { engine_base_fd(i).pointee = lift(engine_base_fd(i).pointee, "base of the statefile") }
    for i: UInt32 in 0..<3 {
        let r = system(CKPT_SYS_fcntl, Int(i), 1030, Int(state.pointee.fd_floor))
        engine_standard(i).pointee = r < 0 ? -1 : Int32(truncatingIfNeeded: r)
    }
    state.pointee.statefile = lift(state.pointee.statefile, "statefile")
    if state.pointee.working_set > 0 { state.pointee.working_set = lift(state.pointee.working_set, "working set") }
}

func putObject(_ o: Int, _ l: inout Line) { l.put("file "); l.put(text: bytes(objects[o].pointee.path)); l.put(": ") }

func checkObjects() {
    if state.pointee.objects_place == 0 { forgetLeads() }
    for i in 0..<objects.count where isOfThisPlace(i) {
        switch objects[i].pointee.kind {
        case CKPT_OBJECT_REGULAR.rawValue: refuseUsedOutside(i); if !checkSaved(i) { checkRegular(i) }
        case CKPT_OBJECT_PATH.rawValue: checkName(i)
        case CKPT_OBJECT_DIRECTORY.rawValue: checkKind(i, 0o040000, "a folder")
        case CKPT_OBJECT_FIFO.rawValue where hasLostName(i): continue
        case CKPT_OBJECT_FIFO.rawValue: checkKind(i, 0o010000, "a FIFO")
        case CKPT_OBJECT_DEVICE.rawValue: checkDevice(i)
        default: break
        }
    }
}

private func checkKind(_ i: Int, _ kind: UInt32, _ name: StaticString) {
    let st = status(of: i)
    guard st.result == 0 else { refuseMissing(i, st.result) }
    guard st.status.kind == kind else { refuse(.systemCall) { l in putObject(i, &l); l.put("no longer "); l.put(name); l.put("; put it back, or use --relocate OLD=NEW") } }
}
/// Opened with O_PATH: the name itself, which may be a symbolic link.
private func checkName(_ i: Int) {
    let st = anchors[i].pointee >= 0 ? (result: 0, status: status(fd: anchors[i].pointee)) : status(of: i, follow: false), kind = objects[i].pointee.mode & 0o170000
    guard st.result == 0 else { refuseMissing(i, st.result) }
    guard st.status.kind == kind else { refuse(.systemCall) { l in putObject(i, &l); l.put("another kind of file than at the checkpoint; put it back, or use --relocate OLD=NEW") } }
}
private func checkDevice(_ i: Int) {
    checkKind(i, 0o020000, "a character device")
    let st = status(of: i)
    guard st.status.rdev == objects[i].pointee.rdev || st.status.kind != 0o020000 else {
        refuse(.systemCall) { l in putObject(i, &l); l.put("another device than at the checkpoint; use --relocate OLD=NEW") }
    }
}
private func refuseMissing(_ i: Int, _ r: Int) -> Never {
    refuseFile(i, r, or: { l in putObject(i, &l); putError(r, &l); l.put("; put it back, or use --relocate OLD=NEW") }) { l in putObject(i, &l); l.put("cannot be found") }
}

/// A regular file must be what it was: a mapped one in build-id, or size and time; a written one in size; any other in size and time.
private func checkRegular(_ i: Int) {
    let o = objects[i]
    let st = status(of: i)
    let stored = o.pointee.flags & CKPT_OBJECT_SELF_CONTAINED.rawValue != 0
    if st.result != 0 || st.status.kind != 0o100000 {
        if stored { makeMemoryFile(i); return }
        if st.result != 0 { refuseMissing(i, st.result) }
        refuse(.systemCall) { l in putObject(i, &l); l.put("no longer a regular file; put it back, or use --relocate OLD=NEW") }
    }
    if o.pointee.flags & CKPT_OBJECT_MAPPED.rawValue != 0 && o.pointee.written == 0 {
        if unchanged(i, st.status) { return }
        if stored { makeMemoryFile(i); return }
        if state.pointee.files == ENGINE_FILES_KEEP.rawValue && o.pointee.build_id_size == 0 { return }
        refuse(.systemCall) { l in
            putObject(i, &l)
            l.put("mapped by the program and changed since the checkpoint; put the old version back, use --relocate OLD=NEW, or take checkpoints with --self-contained")
        }
    }
    if o.pointee.written != 0 { checkWritten(i, st.status.size); return }
    if o.pointee.flags & CKPT_OBJECT_OPENED.rawValue != 0 && state.pointee.files != ENGINE_FILES_KEEP.rawValue && !unchanged(i, st.status) {
        refuse(.systemCall) { l in putObject(i, &l); l.put("changed since the checkpoint; put the old version back, use --relocate OLD=NEW, or --files keep") }
    }
}

private func checkWritten(_ i: Int, _ size: UInt64) {
    let o = objects[i]
    if size == o.pointee.size || state.pointee.files == ENGINE_FILES_KEEP.rawValue { return }
    guard state.pointee.files == ENGINE_FILES_TRUNCATE.rawValue else {
        refuse(.systemCall) { l in
            putObject(i, &l)
            l.put("open for writing, was "); l.put(decimal: o.pointee.size); l.put(" bytes and is "); l.put(decimal: size)
            l.put("; put the old version back, or use --files keep or --files truncate")
        }
    }
    let toWrite: Int32 = 0o2000001, fd = openFile(i, toWrite), r = fd < 0 ? fd : system(CKPT_SYS_ftruncate, fd, int(o.pointee.size))
    guard r == 0 else { refuseFile(i, r) { l in putObject(i, &l); l.put("cannot be truncated") } }
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
}

/// Mapped by processes and what it was: a template maps it once for all branches.
func isAsMapped(_ i: Int) -> Bool {
    let special = CKPT_OBJECT_SAVED.rawValue | CKPT_OBJECT_USED_OUTSIDE.rawValue
    guard objects[i].pointee.kind == CKPT_OBJECT_REGULAR.rawValue, objects[i].pointee.written == 0, objects[i].pointee.flags & special == 0 else { return false }
    let st = status(of: i)
    guard st.result == 0, st.status.kind == 0o100000, unchanged(i, st.status) else { return false }
    seenFiles[i].pointee = engine_seen(inode: st.status.inode, seconds: st.status.words[13], nanoseconds: st.status.words[14])
    return true
}
/// Whoever changes a file, or puts another in its place, changes one of these (st_ctim).
private func wasSeen(_ i: Int, _ st: FileStatus) -> Bool {
    let seen = seenFiles[i].pointee
    return seen.inode == st.inode && seen.seconds == st.words[13] && seen.nanoseconds == st.words[14] && st.inode != 0
}

/// Files of /proc and /sys have no size, and a time that says nothing.
private func unchanged(_ i: Int, _ st: FileStatus) -> Bool {
    let o = objects[i]
    if state.pointee.warm != 0 && wasSeen(i, st) { return true }
    guard st.size == o.pointee.size else { return false }
    if o.pointee.build_id_size > 0 { return buildIdMatches(i) }
    if st.size == 0 { return true }
    return st.mtimeSec == o.pointee.mtime_sec && st.mtimeNsec == o.pointee.mtime_nsec
}

/// Compares the GNU build-id note of an ELF file.
private func buildIdMatches(_ i: Int) -> Bool {
    let r = openFile(i, 0o2000000)
    guard r >= 0 else { return false }
    let fd = Int32(truncatingIfNeeded: r)
    defer { _ = ckpt_close(fd) }
    let b = UnsafeMutableRawPointer(bitPattern: UInt(state.pointee.copy))!
    let head = ckpt_pread(fd, b, 4096, 0)
    guard head >= 64, field(b, 0, UInt32.self) == 0x464c457f else { return false }
    let phoff = field(b, 32, UInt64.self), phnum = Int(field(b, 56, UInt16.self))
    for k in 0..<min(phnum, 64) {
        let at = phoff &+ UInt64(k) * 56
        var ph = InlineArray<7, UInt64>(repeating: 0)
        let got = withUnsafeMutableBytes(of: &ph) { ckpt_pread(fd, $0.baseAddress!, 56, at) }
        guard got == 56 else { return false }
        guard UInt32(truncatingIfNeeded: ph[0]) == 4, ph[4] <= 4096 else { continue }
        let n = ckpt_pread(fd, b, Int(ph[4]), ph[1])
        if n > 0 && noteMatches(i, b, n) { return true }
    }
    return false
}
private func noteMatches(_ i: Int, _ b: UnsafeMutableRawPointer, _ n: Int) -> Bool {
    let o = objects[i]
    var at = 0
    while at + 12 <= n {
        let name = Int(field(b, at, UInt32.self)), size = Int(field(b, at + 4, UInt32.self)), type = field(b, at + 8, UInt32.self)
        let body = at + 12 + ((name + 3) & ~3)
        guard name <= 4096, size <= 4096, body + size <= n else { return false }
        if type == 3 && name == 4 && field(b, at + 12, UInt32.self) == 0x00554e47 && size == Int(o.pointee.build_id_size) {
            let id = bytes(o.pointee.build_id)
            for k in 0..<size where field(b, body + k, CChar.self) != id[k] { return false }
            return true
        }
        at = body + ((size + 3) & ~3)
    }
    return false
}
