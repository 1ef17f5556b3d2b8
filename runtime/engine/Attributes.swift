// Runs in each process of the tree, on the region's main stack; no allocation, no libc.
// What belongs to the whole process and is neither memory, descriptor nor signal.
import CkptABI
import EngineBoot
import Freestanding

/// /proc files: before the root folder may change.
func restoreProcFiles(_ i: Int) {
    let p = processes[i]
    if readNumber("/proc/self/oom_score_adj", hexadecimal: false) != Int64(p.pointee.oom_score_adj) {
        let r = writeText("/proc/self/oom_score_adj") { $0.put(signed: Int64(p.pointee.oom_score_adj)) }
        guard r > 0 else {
            refuse(r) { l in
                putProcess(i, &l); l.put("oom_score_adj "); l.put(signed: Int64(p.pointee.oom_score_adj)); l.put(" cannot be set; restart it with that value or with CAP_SYS_RESOURCE")
            }
        }
    }
    if readNumber("/proc/self/coredump_filter", hexadecimal: true) != Int64(bitPattern: p.pointee.coredump_filter) {
        _ = writeText("/proc/self/coredump_filter") { l in l.put("0x"); l.put(hex: p.pointee.coredump_filter) }
    }
    restoreAutogroup(i)
}

/// A terminal session that the tree made has a nice value as a whole; it may be set once in 100 ms, by all users together.
private func restoreAutogroup(_ i: Int) {
    let nice = Int64(processes[i].pointee.autogroup_nice), node = nodes[Int(state.pointee.node)].pointee
    guard node.sid != 0, let now = readNumber("/proc/self/autogroup", hexadecimal: false, behind: 32), now != nice else { return }     // "/autogroup-179 nice 0"
    var r = 0
    for _ in 0..<300 {
        r = writeText("/proc/self/autogroup") { $0.put(signed: nice) }
        if r != -11 { break }
        pause(milliseconds: 10)
        if readNumber("/proc/self/autogroup", hexadecimal: false, behind: 32) == nice { return }
    }
    guard r > 0 else { refuse(r) { l in putProcess(i, &l); l.put("nice value "); l.put(signed: nice); l.put(" of its terminal session (autogroup): restart it with CAP_SYS_NICE") } }
}

/// The first number in a file, or the one behind the last `separator` in its first line.
func readNumber(_ path: StaticString, hexadecimal: Bool, behind separator: UInt8? = nil) -> Int64? {
    let fd = Int32(truncatingIfNeeded: ckpt_open(path.cString, 0o2000000, 0))
    guard fd >= 0 else { return nil }
    var text = InlineArray<64, UInt8>(repeating: 0)
    let n = withUnsafeMutableBytes(of: &text) { ckpt_read(fd, $0.baseAddress!, 63) }
    _ = ckpt_close(fd)
    var v: Int64 = 0, i = 0
    if let separator { for k in 0..<max(0, n) where text[k] == separator { i = k + 1 } }
    let negative = n > i && text[i] == 45
    if negative { i += 1 }
    while i < n {
        let c = Int64(text[i])
        if c >= 48 && c <= 57 { v = v &* (hexadecimal ? 16 : 10) &+ c - 48 } else if hexadecimal && c >= 97 && c <= 102 { v = v &* 16 &+ c - 87 } else { break }
        i += 1
    }
    return negative ? -v : v
}

/// Folders, umask, personality and prctl(2) settings.
func restoreProcessAttributes(_ i: Int) {
    let p = processes[i]
    registerBarriers(i)
    if !hasPlaces(i) {
        changeFolder(i)
        changeRoot(i)
    }
    _ = system(CKPT_SYS_umask, Int(p.pointee.umask))
    if system(CKPT_SYS_personality, 0xffff_ffff) != Int(p.pointee.personality) {
        let r = system(CKPT_SYS_personality, Int(p.pointee.personality))
        guard r >= 0 else { refuse(r) { l in putProcess(i, &l); l.put("personality") } }
    }
    set(i, 36, 37, p.pointee.child_subreaper, byPointer: true, "child sub-reaper")
    set(i, 26, 25, p.pointee.tsc_mode == 0 ? 1 : p.pointee.tsc_mode, byPointer: true, "access to the time stamp counter")
    set(i, 41, 42, p.pointee.thp_disable, byPointer: false, "transparent huge pages")
    set(i, 57, 58, p.pointee.io_flusher, byPointer: false, "PR_SET_IO_FLUSHER; restart it with CAP_SYS_RESOURCE")
}

/// Working folder and root in the mounts of a part: known by descriptors.
private func hasPlaces(_ i: Int) -> Bool { processes[i].pointee.mounts != 0 && isPartMounts(Int(processes[i].pointee.mounts) - 1) }
/// What that takes; −1: nothing.
func placeDescriptors(_ i: Int) -> (mounts: Int32, folder: Int32, root: Int32) {
    guard hasPlaces(i) else { return (-1, -1, -1) }
    let p = processes[i].pointee, folder = Int(p.cwd), isGone = objects[folder].pointee.kind == CKPT_OBJECT_DELETED_FOLDER.rawValue
    return (engine_namespace_fd(UInt32(p.mounts) - 1).pointee, isGone ? objectFd[folder].pointee : anchors[folder].pointee, p.root == ckpt_no_index() ? -1 : anchors[Int(p.root)].pointee)
}
/// When nothing is looked for by outer paths any more, or in the outer /proc.
func enterPlaces(_ i: Int) {
    guard hasPlaces(i) else { return }
    let places = placeDescriptors(i), users = usersDescriptor(i)
    findPidsOfChildren(i)
    enterMounts(of: i, outside: 0)
    var r = 0
    if places.root >= 0 {
        r = system(CKPT_SYS_fchdir, Int(places.root))
        if r == 0 { r = system(CKPT_SYS_chroot, int(StaticString(".").cString)) }
        guard r == 0 else { refuse(.lacks) { l in putProcess(i, &l); l.put("root folder: "); putObject(Int(processes[i].pointee.root), &l); putError(r, &l); l.put("; restart it as root") } }
    }
    r = system(CKPT_SYS_fchdir, Int(places.folder))
    guard r == 0 else { refuse(.lacks) { l in putProcess(i, &l); l.put("current folder: "); putObject(Int(processes[i].pointee.cwd), &l); putError(r, &l); l.put("; put it back") } }
    for fd in 0..<3 {
        let number = fd == 0 ? places.mounts : fd == 1 ? places.folder : places.root
        if number >= state.pointee.fd_floor && number != users { _ = ckpt_close(number) }
    }
}

/// A folder without a name is in the engine's descriptors, which go next.
func enterDeletedFolder(_ i: Int) {
    let o = Int(processes[i].pointee.cwd)
    guard objects[o].pointee.kind == CKPT_OBJECT_DELETED_FOLDER.rawValue else { return }
    let r = system(CKPT_SYS_fchdir, Int(objectFd[o].pointee))
    guard r == 0 else { refuse(r) { l in putProcess(i, &l); l.put("current folder: "); putObject(o, &l); l.put("fchdir") } }
}

/// Before the root changes: recorded paths are the system's.
private func changeFolder(_ i: Int) {
    let o = Int(processes[i].pointee.cwd)
    if objects[o].pointee.kind == CKPT_OBJECT_DELETED_FOLDER.rawValue { return }
    let r = isLed(o) ? withFile(o) { fd, _ in system(CKPT_SYS_fchdir, fd) } : system(CKPT_SYS_chdir, int(relocated(bytes(objects[o].pointee.path))))
    guard r == 0 else { refuseFile(o, r) { l in putProcess(i, &l); l.put("current folder: "); putObject(o, &l); l.put("put it back, or use --relocate OLD=NEW") } }
}
private func changeRoot(_ i: Int) {
    let root = processes[i].pointee.root
    guard root != ckpt_no_index(), !equal(bytes(objects[root].pointee.path), to: "/") else { return }
    let r = isLed(Int(root)) ? changeLedRoot(Int(root)) : system(CKPT_SYS_chroot, int(relocated(bytes(objects[root].pointee.path))))
    guard r == 0 else { refuseFile(Int(root), r) { l in putProcess(i, &l); l.put("root folder: "); putObject(Int(root), &l); l.put("chroot; restart it as root") } }
}

private func changeLedRoot(_ root: Int) -> Int {
    let here = system(CKPT_SYS_openat, -100, int(StaticString(".").cString), 0o12200000)
    if here < 0 { return here }
    var r = withFile(root) { fd, _ in system(CKPT_SYS_fchdir, fd) }
    if r == 0 { r = system(CKPT_SYS_chroot, int(StaticString(".").cString)) }
    _ = system(CKPT_SYS_fchdir, here); _ = ckpt_close(Int32(truncatingIfNeeded: here))
    return r
}

/// A prctl(2) setting, only if it differs.
private func set(_ i: Int, _ setter: Int32, _ getter: Int32, _ value: Int32, byPointer: Bool, _ name: StaticString) {
    var now: Int32 = 0
    if byPointer { if ckpt_prctl(getter, int(&now), 0, 0, 0) < 0 { return } } else { now = Int32(truncatingIfNeeded: ckpt_prctl(getter, 0, 0, 0, 0)) }
    guard now >= 0, now != value else { return }
    let r = ckpt_prctl(setter, Int(value), 0, 0, 0)
    guard r == 0 else { refuse(r) { l in putProcess(i, &l); l.put(name) } }
}

/// As long as that is permitted; what the process needs itself is lowered last.
func raiseLimits(_ i: Int) {
    for k: Int32 in 0..<16 {
        var now = ckpt_rlimit()
        _ = system(CKPT_SYS_prlimit64, 0, Int(k), 0, int(&now))
        if now.hard >= ckpt_record_limit(processes[i], k).pointee.hard { continue }
        now.hard = ckpt_record_limit(processes[i], k).pointee.hard
        _ = system(CKPT_SYS_prlimit64, 0, Int(k), int(&now), 0)
    }
}
func restoreLimits(_ i: Int) {
    for k: Int32 in 0..<16 {
        let wanted = ckpt_record_limit(processes[i], k)
        var now = ckpt_rlimit()
        _ = system(CKPT_SYS_prlimit64, 0, Int(k), 0, int(&now))
        if now.soft == wanted.pointee.soft && now.hard == wanted.pointee.hard { continue }
        let r = system(CKPT_SYS_prlimit64, 0, Int(k), int(wanted), 0)
        guard r == 0 else {
            refuse(r) { l in
                putProcess(i, &l); l.put("limit "); l.put(limitName(k)); l.put(": was "); l.put(decimal: wanted.pointee.hard); l.put(" and is "); l.put(decimal: now.hard)
                l.put(" here; restart it where the hard limit is as high (ulimit -H)")
            }
        }
    }
}
private func limitName(_ k: Int32) -> StaticString {
    switch k {
    case 0: "CPU"; case 1: "FSIZE"; case 2: "DATA"; case 3: "STACK"; case 4: "CORE"; case 5: "RSS"; case 6: "NPROC"; case 7: "NOFILE"; case 8: "MEMLOCK"
    case 9: "AS"; case 10: "LOCKS"; case 11: "SIGPENDING"; case 12: "MSGQUEUE"; case 13: "NICE"; case 14: "RTPRIO"
    default: "RTTIME"
    }
}
