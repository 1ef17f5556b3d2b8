// Runs in the engine before the tree exists, on the region's stack; no allocation, no libc.
// How pids are given, and the namespaces that it takes.  Capabilities decide, and what the kernel then says.
import CkptABI
import EngineBoot
import Freestanding

private let newTime = 0x80, newMount = 0x20000, newUser = 0x10000000, newPid = 0x20000000, newIPC = 0x8000000
enum Capability { static let sysAdmin: UInt64 = 1 << 21, checkpointRestore: UInt64 = 1 << 40, sysTime: UInt64 = 1 << 25 }

func effectiveCapabilities() -> UInt64 { currentCapabilities().effective }

/// Chooses KEEP, NS or NEW.
func chooseMode() -> engine_pids {
    switch state.pointee.pids {
    case ENGINE_PIDS_NS.rawValue: return ENGINE_PIDS_NS
    case ENGINE_PIDS_NEW.rawValue: return ENGINE_PIDS_NEW
    case ENGINE_PIDS_KEEP.rawValue:
        guard maySetPids else {
            refuse(.lacks) { $0.put("--pids keep: needs the capability CAP_CHECKPOINT_RESTORE; restart it as root, or use --pids ns") }
        }
        guard state.pointee.own_users == 0 else { refuse(.lacks) { $0.put("--pids keep: the tree has a user namespace of its own, where pids can't be chosen; use --pids ns") } }
        if let pid = takenPid() { refuseTaken(pid: pid, -17) }
        if takenIPC() >= 0 { refuseTakenIPC(takenIPC()) }
        return ENGINE_PIDS_KEEP
    default: return maySetPids && state.pointee.own_users == 0 && takenPid() == nil && takenIPC() < 0 ? ENGINE_PIDS_KEEP : ENGINE_PIDS_NS
    }
}

private var maySetPids: Bool { effectiveCapabilities() & (Capability.sysAdmin | Capability.checkpointRestore) != 0 && pidsAreOurs }

/// Root of a user namespace (unshare --user) has no power over a pid namespace outside of that (ioctl_ns(2), NS_GET_USERNS).
private var pidsAreOurs: Bool {
    let pids = ckpt_open(StaticString("/proc/self/ns/pid").cString, 0o2000000, 0), ownerOf = 0xb701, notPermitted = -1
    if pids < 0 { return true }
    let owner = system(CKPT_SYS_ioctl, pids, ownerOf, 0)
    _ = ckpt_close(Int32(truncatingIfNeeded: pids))
    if owner >= 0 { _ = ckpt_close(Int32(truncatingIfNeeded: owner)) }
    return owner != notPermitted
}

/// A pid, tid, process group or session of the tree that exists here.
private func takenPid() -> Int32? {
    func used(_ id: Int32) -> Bool { id != 0 && system(CKPT_SYS_kill, Int(id), 0) != -3 }
    for i in 0..<processes.count {
        let p = processes[i]
        if used(p.pointee.pid) { return p.pointee.pid }
        if p.pointee.pgid > 0 && p.pointee.pgid != tree.pointee.outer_pgid && used(-p.pointee.pgid) { return p.pointee.pgid }
        if p.pointee.sid > 0 && p.pointee.sid != tree.pointee.outer_sid && used(p.pointee.sid) { return p.pointee.sid }
    }
    for i in 0..<tasks.count where used(tasks[i].pointee.tid) { return tasks[i].pointee.tid }
    return nil
}

/// keep and new: only a time namespace, where it is permitted.  Else the machine's clocks have to do.
func enterTimeNamespace() {
    if system(CKPT_SYS_unshare, newTime) == 0 && writeClockOffsets() { state.pointee.time_namespace = 1 } else { checkClocks() }
}

/// ns: a pid namespace with everything that goes with it; a user namespace around it for a user without privileges.
func enterNamespaces() {
    let s = state, privileged = effectiveCapabilities() & Capability.sysAdmin != 0
    let ipc = needsIPCNamespace() && !isWhole(CKPT_NAMESPACE_IPC) ? newIPC : 0
    s.pointee.ipc_namespace = ipc != 0 ? 1 : 0
    // Files that are open already belong to the mounts of the tree's own.
    let mounts = isWhole(CKPT_NAMESPACE_MOUNT) ? 0 : newMount
    // A template's midwife makes the time namespace: who shares memory can't enter one (Midwife.swift).
    let time = s.pointee.warm != 0 ? 0 : newTime
    if privileged && system(CKPT_SYS_unshare, newPid | mounts | time | ipc) == 0 { return goOnWithClocks() }
    let uid = currentIds(false)[1], gid = currentIds(true)[1]
    let owner = singleOwner()
    s.pointee.foreign_groups = groupsDiffer() ? 1 : 0
    let r = system(CKPT_SYS_unshare, newUser | newPid | mounts | time | ipc)
    guard r == 0 else {
        refuse(.lacks) { l in
            l.put("a user namespace: "); putError(r, &l)
            l.put("; restart it as root, permit user namespaces (sysctl user.max_user_namespaces), or use --pids new")
        }
    }
    s.pointee.user_namespace = 1
    mapIds(owner, uid, gid)
    goOnWithClocks()
}
private func goOnWithClocks() {
    if state.pointee.warm != 0 ? enterMidwifesClocks() : writeClockOffsets() { state.pointee.time_namespace = 1 } else { checkClocks() }
}

/// A user namespace without privileges maps one user.
private func singleOwner() -> (UInt32, UInt32) {
    let root = processes[tree.pointee.root], u = engine_uid(root, 0)[0], g = engine_gid(root, 0)[0]
    for t in 0..<tasks.count {
        let me = Identity(t)
        for k: Int32 in 0..<4 where me.user(k) != u || me.group(k) != g {
            refuse(.lacks) { l in putProcess(Int(tasks[t].pointee.process), &l); l.put("runs as another user than the rest of the tree; restart it as root") }
        }
    }
    return (u, g)
}

private func mapIds(_ owner: (UInt32, UInt32), _ uid: UInt32, _ gid: UInt32) {
    _ = writeText("/proc/self/setgroups") { $0.put("deny") }
    let u = writeText("/proc/self/uid_map") { l in l.put(decimal: UInt64(owner.0)); l.put(" "); l.put(decimal: UInt64(uid)); l.put(" 1\n") }
    guard u >= 0 else { refuse(u) { $0.put("user namespace: uid_map") } }
    let g = writeText("/proc/self/gid_map") { l in l.put(decimal: UInt64(owner.1)); l.put(" "); l.put(decimal: UInt64(gid)); l.put(" 1\n") }
    guard g >= 0 else { refuse(g) { $0.put("user namespace: gid_map") } }
}

/// The offsets of the namespace to be: the clocks go on from the checkpoint.  They count from the machine's clocks, so ours are added.
func writeClockOffsets() -> Bool {
    guard let own = state.pointee.clock_offsets_known != 0 ? (state.pointee.own_monotonic, state.pointee.own_boottime) : nil else { return false }
    let monotonic = Int64(bitPattern: tree.pointee.monotonic &- nanoseconds(1)) &+ own.0
    let boottime = Int64(bitPattern: tree.pointee.boottime &- nanoseconds(7)) &+ own.1
    return writeText("/proc/self/timens_offsets") { l in
        l.put("monotonic "); putTime(monotonic, &l); l.put("\nboottime "); putTime(boottime, &l); l.put("\n")
    } > 0
}
func putTime(_ ns: Int64, _ l: inout Line) {
    var sec = ns / 1_000_000_000, left = ns % 1_000_000_000
    if left < 0 { left += 1_000_000_000; sec -= 1 }
    l.put(signed: sec); l.put(" "); l.put(signed: left)
}

/// The offsets of our own time namespace, before a new one replaces it as our children's.
func readClockOffsets() {
    var text = InlineArray<256, UInt8>(repeating: 0)
    let fd = Int32(truncatingIfNeeded: ckpt_open(StaticString("/proc/self/timens_offsets").cString, 0o2000000, 0))
    guard fd >= 0 else { return }
    let n = withUnsafeMutableBytes(of: &text) { ckpt_read(fd, $0.baseAddress!, 255) }
    _ = ckpt_close(fd)
    var i = 0
    let ms = number(text, n, &i), mn = number(text, n, &i), bs = number(text, n, &i), bn = number(text, n, &i)
    state.pointee.own_monotonic = ms &* 1_000_000_000 &+ mn
    state.pointee.own_boottime = bs &* 1_000_000_000 &+ bn
    state.pointee.clock_offsets_known = 1
}

/// The next decimal number of a text of `n` bytes.
private func number(_ text: InlineArray<256, UInt8>, _ n: Int, _ i: inout Int) -> Int64 {
    while i < n && text[i] != 45 && !(text[i] >= 48 && text[i] <= 57) { i += 1 }
    let negative = i < n && text[i] == 45
    if negative { i += 1 }
    var v: Int64 = 0
    while i < n && text[i] >= 48 && text[i] <= 57 { v = v &* 10 &+ Int64(text[i] - 48); i += 1 }
    return negative ? -v : v
}

/// The first process of a pid namespace gives it a /proc of its own; where that is forbidden the old one stays.
func mountProc() {
    let none = StaticString("none").cString, root = StaticString("/").cString, proc = StaticString("proc").cString, at = StaticString("/proc").cString
    guard system(CKPT_SYS_mount, int(none), int(root), 0, 0x4000 | Propagation.slave, 0) == 0 else { return }
    _ = system(CKPT_SYS_mount, int(proc), int(at), int(proc), optionsOfProc, 0)
}

/// As those of the one below (statfs(2)).
private var optionsOfProc: Int {
    var words = InlineArray<15, UInt64>(repeating: 0)
    let statfs = 137, known: UInt64 = 2 | 4 | 8
    let r = withUnsafeMutableBytes(of: &words) { system(statfs, int(StaticString("/proc").cString), int($0.baseAddress!)) }
    return r == 0 ? int(words[10] & known) : int(known)
}

/// Writes a short text to an existing file; the kernel's answer.
func writeText(_ path: StaticString, _ body: (inout Line) -> Void) -> Int {
    let fd = ckpt_open(path.cString, 0o2000001, 0)
    if fd < 0 { return fd }
    var l = Line()
    body(&l)
    let n = l.count
    let r = l.withCString { ckpt_write(Int32(truncatingIfNeeded: fd), $0, n) }
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
    return r
}
