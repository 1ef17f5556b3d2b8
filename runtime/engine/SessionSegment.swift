// Runs in the engine before the tree exists, on the region's stack; no allocation, no libc.
// The session of the restarted tree: a new segment, filled as the runtime left the old one when the tasks were called.
import CkptABI
import EngineBoot
import Freestanding

/// What newfstatat(2) tells.
struct FileStatus {
    var words = InlineArray<18, UInt64>(repeating: 0)
    var device: UInt64 { words[0] }
    var inode: UInt64 { words[1] }
    var links: UInt64 { words[2] }
    var mode: UInt32 { UInt32(truncatingIfNeeded: words[3]) }
    var uid: UInt32 { UInt32(truncatingIfNeeded: words[3] >> 32) }
    var gid: UInt32 { UInt32(truncatingIfNeeded: words[4]) }
    var rdev: UInt64 { words[5] }
    var size: UInt64 { words[6] }
    var mtimeSec: Int64 { Int64(bitPattern: words[11]) }
    var mtimeNsec: Int64 { Int64(bitPattern: words[12]) }
    var kind: UInt32 { mode & 0o170000 }
}
func status(path: Text, follow: Bool = true) -> (result: Int, status: FileStatus) {
    var s = FileStatus()
    let r = withUnsafeMutableBytes(of: &s.words) { system(CKPT_SYS_newfstatat, -100, int(path), int($0.baseAddress!), follow ? 0 : 0x100) }
    return (r, s)
}
func status(fd: Int32) -> FileStatus {
    var s = FileStatus()
    _ = withUnsafeMutableBytes(of: &s.words) { system(CKPT_SYS_fstat, Int(fd), int($0.baseAddress!)) }
    return s
}

/// Root restarts somebody's tree: the session is that user's.
private func sessionOwner() -> (uid: UInt32, gid: UInt32) {
    let uid = currentIds(false)[1], gid = currentIds(true)[1], root = processes[tree.pointee.root]
    // The records are numbered as in the tree's own user namespace; in it, the owner is whom we are.
    if state.pointee.own_users != 0 { return (uid, gid) }
    if uid == 0, let i = ownUsers(outermost: true) { return (namespaces[i].pointee.outer_user, namespaces[i].pointee.outer_group) }
    return uid == 0 ? (engine_uid(root, 1).pointee, engine_gid(root, 1).pointee) : (uid, gid)
}

private func put(_ l: borrowing Line) { l.copy(to: engine_session_directory(), capacity: 256) }

/// $CKPT_DIR, else /dev/shm/ckpt-UID, else /tmp/ckpt-UID; kept for later, when the environment is gone.
func findSessionDirectory(_ stack: InitialStack) {
    var l = Line()
    if let d = stack.variable("CKPT_DIR"), d.pointee != 0 { l.put(text: d) } else {
        let memory = status(path: StaticString("/dev/shm").cString)
        l.put(memory.result == 0 && memory.status.kind == 0o040000 ? "/dev/shm/ckpt-" : "/tmp/ckpt-")
        l.put(decimal: UInt64(sessionOwner().uid))
    }
    put(l)
}

/// Creates the segment's file.  The old id is taken when it is free: children of the tree find it in their environment.
func createSegment() {
    let directory = Text(engine_session_directory()), owner = sessionOwner()
    let isNew = system(CKPT_SYS_mkdir, int(directory), 0o700) == 0, folder = openSessionDirectory(), st = status(fd: folder)
    // Root's own folder serves a program of root's that has given its uid away, as it did when ckrun made it.
    let me = UInt32(truncatingIfNeeded: system(CKPT_SYS_geteuid))
    guard folder >= 0, st.uid == owner.uid || st.uid == me, st.mode & 0o077 == 0 else {
        refuse(.systemCall) { l in l.put("sessions directory "); l.put(text: directory); l.put(": not a folder of this user with mode 0700; set CKPT_DIR to one") }
    }
    if isNew && st.uid == me { _ = system(93, Int(folder), Int(owner.uid), Int(owner.gid)) }      // fchown(2)
    state.pointee.session_folder_device = st.device
    state.pointee.session_folder_inode = st.inode
    var fd = openSegment(engine_tree_session_id(tree), in: folder)
    var attempts = 0
    while fd == -17 && attempts < 16 { fd = openRandomSegment(in: folder); attempts += 1 }
    _ = ckpt_close(folder)
    guard fd >= 0 else { refuse(fd) { l in l.put("session segment in "); l.put(text: directory) } }
    state.pointee.segment_fd = lift(Int32(truncatingIfNeeded: fd), "session segment")
    state.pointee.segment_made = 1
    sizeSegment(state.pointee.segment_fd, owner.uid, owner.gid)
}

/// Whose folder it is may put a link in its place: root goes by the descriptor.
func openSessionDirectory() -> Int32 { Int32(truncatingIfNeeded: ckpt_open(Text(engine_session_directory()), 0o2600000, 0)) }     // O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC

private func openSegment(_ id: Text, in folder: Int32) -> Int {
    var l = Line()
    l.put(text: Text(engine_session_directory())); l.put("/"); l.put(text: id)
    l.copy(to: engine_segment_path(), capacity: 256)
    return ckpt_openat(folder, id, 0o2000302, 0o600)
}
private func openRandomSegment(in folder: Int32) -> Int {
    var v: UInt64 = 0
    guard system(CKPT_SYS_getrandom, int(&v), 8, 0) == 8 else { return -5 }
    var id = InlineArray<20, CChar>(repeating: 0)
    for i in 0..<16 { let d = Int8(truncatingIfNeeded: (v >> UInt64(i * 4)) & 15); id[i] = d < 10 ? 48 + d : 87 + d }
    return id.span.withUnsafeBufferPointer { openSegment($0.baseAddress!, in: folder) }
}

private func slotsUsed() -> (processes: UInt32, tasks: UInt32) {
    var p: UInt32 = 0, t: UInt32 = 0
    for i in 0..<processes.count where processes[i].pointee.flags & CKPT_PROCESS_ZOMBIE.rawValue == 0 { p = max(p, processes[i].pointee.process_slot + 1) }
    for i in 0..<tasks.count { t = max(t, tasks[i].pointee.slot + 1) }
    return (p, t)
}

/// Allocated now: a full file system is our error and never a SIGBUS in the application.
private func sizeSegment(_ fd: Int32, _ uid: UInt32, _ gid: UInt32) {
    if uid != currentIds(false)[1] { _ = system(93, Int(fd), Int(uid), Int(gid)) }
    var r = system(CKPT_SYS_ftruncate, Int(fd), Int(ckpt_session_size()))
    let used = slotsUsed(), arena = UInt64(timers.count) * 40 + UInt64(processes.count) * 8
    if r == 0 { r = system(CKPT_SYS_fallocate, Int(fd), 0, 0, Int(CKPT_OFFSET_PROCESSES) + Int(used.processes) * 4096) }
    if r == 0 { r = system(CKPT_SYS_fallocate, Int(fd), 0, Int(CKPT_OFFSET_TASKS), Int(used.tasks) * 256) }
    if r == 0 && arena > 0 { r = system(CKPT_SYS_fallocate, Int(fd), 0, Int(CKPT_OFFSET_ARENA), Int(arena)) }
    guard r == 0 else { refuse(r) { l in l.put("session segment "); l.put(text: Text(engine_segment_path())); l.put(": no room for it; set CKPT_DIR to a folder with space") } }
    let st = status(fd: fd)
    state.pointee.segment_device = st.device
    state.pointee.segment_inode = st.inode
    let m = ckpt_mmap(state.pointee.segment, segmentMapping, 3, 0x11, fd, 0)
    guard !failed(m) else { refuse(m) { $0.put("session segment: cannot be mapped") } }
}

var session: UnsafeMutablePointer<ckpt_session> { UnsafeMutablePointer(bitPattern: UInt(state.pointee.segment))! }

/// Everything that the runtime expects to find; again for each attempt.
func fillSegment() {
    let s = session, used = slotsUsed()
    s.pointee = ckpt_session()
    s.pointee.abi_version = UInt32(CKPT_ABI_VERSION)
    s.pointee.header_size = UInt32(CKPT_SESSION_HEADER)
    s.pointee.size = ckpt_session_size()
    s.pointee.ipc_unseen = tree.pointee.ipc_unseen
    _ = copyText(segmentName(), to: ckpt_session_id(s), capacity: 24)
    _ = copyText(bytes(tree.pointee.name), to: ckpt_session_name(s), capacity: 64)
    _ = copyText(bytes(tree.pointee.command), to: ckpt_session_command(s), capacity: 256)
    _ = copyText(Text(engine_segment_path()), to: ckpt_session_path(s), capacity: 256)
    if let library = runtimeLibrary() { _ = copyText(library, to: ckpt_session_library(s), capacity: 256) }
    s.pointee.created = nanoseconds(0)
    s.pointee.restored = nanoseconds(0)
    s.pointee.uid = state.pointee.own_users != 0 ? state.pointee.outer_uid : sessionOwner().uid
    s.pointee.launch_pid = processes[tree.pointee.root].pointee.pid
    s.pointee.task_claims = UInt64(used.tasks)
    s.pointee.process_claims = UInt64(used.processes)
    s.pointee.expected = UInt32(tasks.count)
    s.pointee.loading = state.pointee.lazy
    for i in 0..<processes.count where processes[i].pointee.flags & CKPT_PROCESS_ZOMBIE.rawValue == 0 { fillProcess(i) }
    for i in 0..<tasks.count { fillTask(i) }
    s.pointee.arena_kept = s.pointee.arena_used
    holdLock()
    ckpt_store(ckpt_phase_word(s), phaseWord(CKPT_PHASE_RESTORE))
    s.pointee.magic = ckpt_session_magic()
}

func phaseWord(_ phase: ckpt_phase) -> UInt32 { UInt32(CKPT_RESTORE_GENERATION) << 8 | phase.rawValue }

private func segmentName() -> Text {
    var name = Text(engine_segment_path()), p = name
    while p.pointee != 0 { if p.pointee == 47 { name = p + 1 }; p += 1 }
    return name
}

/// The runtime's path, for LD_PRELOAD of children.
private func runtimeLibrary() -> Text? {
    for i in 0..<vmas.count {
        let n = bytes(vmas[i].pointee.name)
        if hasSuffix(n, "/libckpt.so") { return n }
    }
    return nil
}

private func fillProcess(_ i: Int) {
    let r = processes[i], p = ckpt_process_slot(session, r.pointee.process_slot)
    p.pointee = ckpt_process()
    p.pointee.pid = r.pointee.pid
    p.pointee.engine_base = state.pointee.region_base
    p.pointee.engine_size = state.pointee.region_size
    p.pointee.expected = r.pointee.task_count
    p.pointee.brk = r.pointee.brk
    if r.pointee.flags & CKPT_PROCESS_STOPPED.rawValue != 0 && stopSignal(i) != 19 { p.pointee.stop_signal = UInt32(stopSignal(i)) }
    for k: Int32 in 0..<3 { ckpt_process_itimer(p, k).pointee = ckpt_record_itimer(r, k).pointee }
    for k: Int32 in 1...64 { ckpt_process_action(p, k).pointee = ckpt_record_action(r, k).pointee }
    for k in 0..<r.pointee.task_count where tasks[r.pointee.first_task + k].pointee.is_leader != 0 { p.pointee.leader_task = tasks[r.pointee.first_task + k].pointee.slot }
    fillTimers(i, p)
}

private func fillTimers(_ i: Int, _ p: UnsafeMutablePointer<ckpt_process>) {
    let r = processes[i]
    guard r.pointee.timer_count > 0 else { return }
    let at = ckpt_arena_claim(session, UInt64(r.pointee.timer_count) * UInt64(MemoryLayout<ckpt_timer_query>.stride))
    guard at != UInt64.max else { refuse(.lacks) { l in putProcess(i, &l); l.put("more POSIX timers than the session segment has room for") } }
    let queries = ckpt_arena(session, at).assumingMemoryBound(to: ckpt_timer_query.self)
    for k in 0..<r.pointee.timer_count {
        let t = timers[r.pointee.first_timer + k]
        queries[Int(k)].id = t.pointee.id
        queries[Int(k)].overrun = t.pointee.overrun
        queries[Int(k)].left = t.pointee.left
    }
    p.pointee.timers_offset = at
    p.pointee.timers_count = r.pointee.timer_count
}

private func fillTask(_ i: Int) {
    let r = tasks[i], t = ckpt_task_slot(session, r.pointee.slot)
    t.pointee = ckpt_task()
    t.pointee.tid = r.pointee.tid
    t.pointee.pid = processes[r.pointee.process].pointee.pid
    t.pointee.is_leader = r.pointee.is_leader
    t.pointee.ucontext = r.pointee.ucontext
    t.pointee.resume_rip = r.pointee.resume_rip
    t.pointee.resume_rsp = r.pointee.resume_rsp
    t.pointee.fs_base = r.pointee.fs_base
    t.pointee.gs_base = r.pointee.gs_base
}

/// The lock of the tools (System/RobustLock); while the engine builds, the kernel marks it when the engine dies.
private func holdLock() {
    let word = ckpt_lock_word(session), s = state
    guard s.pointee.is_engine != 0 else { return }
    ckpt_store(word, UInt32(bitPattern: ckpt_gettid()))
    // list.next, futex_offset, list_op_pending; the one entry points back to the head.
    let head = engine_robust_list()
    head[0] = UInt64(UInt(bitPattern: head + 3))
    head[1] = UInt64(UInt(bitPattern: word)) &- head[0]
    head[2] = 0
    head[3] = UInt64(UInt(bitPattern: head))
    _ = system(CKPT_SYS_set_robust_list, int(head), 24)
}

func releaseLock() {
    _ = system(CKPT_SYS_set_robust_list, 0, 24)
    ckpt_store(ckpt_lock_word(session), 0)
    _ = ckpt_futex_wake(ckpt_lock_word(session), 1)
}

func removeSegment() {
    let s = state
    guard s.pointee.segment_made != 0 else { return }
    s.pointee.segment_made = 0
    let folder = openSessionDirectory(), st = status(fd: folder)
    guard folder >= 0 else { return }
    if st.device == s.pointee.session_folder_device && st.inode == s.pointee.session_folder_inode && lockBriefly(folder) && hasOurs(folder) { _ = system(CKPT_SYS_unlinkat, Int(folder), int(segmentName()), 0) }
    _ = ckpt_close(folder)
}

/// Who removes a segment's name holds this lock while he looks whose it is: so it can't become another's between the two.  Where there are no locks the look must do.
private func lockBriefly(_ folder: Int32) -> Bool {
    let exclusiveAtOnce = 2 | 4, isTaken = -11
    for _ in 0..<100 {
        if system(73, Int(folder), exclusiveAtOnce) != isTaken { return true }      // flock(2)
        pauseBriefly()
    }
    return false        // the next ckptctl removes it
}
/// After --kill the name is free, and the tree's next restart takes it.  (Our inode's number is no other file's: we map it.)
private func hasOurs(_ folder: Int32) -> Bool {
    var s = FileStatus()
    let noFollow = 0x100, r = withUnsafeMutableBytes(of: &s.words) { system(CKPT_SYS_newfstatat, Int(folder), int(segmentName()), int($0.baseAddress!), noFollow) }
    return r == 0 && s.device == state.pointee.segment_device && s.inode == state.pointee.segment_inode
}
