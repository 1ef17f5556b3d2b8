// Runs in the builder and in every process of the tree, on the main stack of the region; no allocation, no libc.
// Creates the tree as the plan (freestanding/BirthPlan.swift) says.  Every signal is blocked from here until the runtime's sigreturn.
import CkptABI
import EngineBoot
import Freestanding

let cloneParent: UInt64 = 0x8000

/// Makes the plan for this attempt.
func planTree(adoptOrphans: Bool) {
    let s = state
    s.pointee.node_count = maximumNodes
    let all = UnsafeMutableBufferPointer(start: nodes.base, count: Int(maximumNodes))
    for i in 0..<processes.count {
        let p = processes[i]
        let parent = p.pointee.parent == ckpt_no_index() ? -1 : Int32(p.pointee.parent)
        var n = BirthNode(pid: p.pointee.pid, sid: p.pointee.sid, pgid: p.pointee.pgid, parent: parent, record: Int32(i))
        n.zombie = p.pointee.flags & CKPT_PROCESS_ZOMBIE.rawValue != 0 ? 1 : 0
        n.orphan = p.pointee.flags & CKPT_PROCESS_ORPHAN.rawValue != 0 && UInt32(i) != tree.pointee.root ? 1 : 0
        n.mainGone = p.pointee.flags & CKPT_PROCESS_LEADER_GONE.rawValue != 0 ? 1 : 0
        all[i] = n
    }
    var plan = BirthPlan(all, count: processes.count, adoptOrphans: adoptOrphans)
    // In a pid namespace our own session and group have no number.  Without a terminal nobody needs them: the tree gets those that it had.
    let ownNumbers = s.pointee.mode == ENGINE_PIDS_NS.rawValue && s.pointee.has_terminal == 0
    do throws(BirthError) { try plan.plan(outerSid: ownNumbers ? 0 : tree.pointee.outer_sid, outerPgid: ownNumbers ? 0 : tree.pointee.outer_pgid) } catch {
        refuse(.badStatefile) { $0.put("statefile: PROCESS records: the parents form a circle; the file is damaged, take another") }
    }
    s.pointee.node_count = UInt64(plan.count)
    placeNodes()
}

/// Creates one process that goes on with `entry` on the main stack: a copy of this one.
func fork(pid: Int32, inside place: UInt32 = 0, flags: UInt64 = 0, exitSignal: Int32 = 17, argument: UInt64, _ entry: @convention(c) (UInt64) -> Void) -> Int {
    var wanted = InlineArray<32, Int32>(repeating: 0), a = childArguments(flags: flags, exitSignal: exitSignal)
    if pid != 0 && state.pointee.entered_users != 0 { return cloneNumbered(&a, pid, inside: place, group: 0, entry, argument) }
    let levels = pid == 0 ? 0 : fillPids(pid, of: place, &wanted)
    return withUnsafeMutableBytes(of: &wanted) { w in
        if pid != 0 { a.set_tid = UInt64(UInt(bitPattern: w.baseAddress!)); a.set_tid_size = UInt64(levels) }
        return ckpt_clone3(&a, entry, argument)
    }
}

func childArguments(flags: UInt64, exitSignal: Int32) -> ckpt_clone_args {
    var a = ckpt_clone_args()
    a.flags = flags
    a.exit_signal = flags & cloneParent != 0 ? 0 : UInt64(exitSignal)
    a.stack = state.pointee.stacks
    a.stack_size = UInt64(ENGINE_MAIN_STACK)
    return a
}

/// The pid to ask for: with --pids new the kernel chooses.
func wantedPid(_ n: Int) -> Int32 { state.pointee.mode == ENGINE_PIDS_NEW.rawValue ? 0 : nodes[n].pointee.pid }

/// Creates every node that `creator` has to, in one of its stages.
func giveBirth(creator: Int32, stage: UInt8) {
    for n in 0..<Int(state.pointee.node_count) where nodes[n].pointee.creator == creator && nodes[n].pointee.stage == stage {
        if creator < 0 && n == Int(state.pointee.init_node) { continue }
        create(n, by: creator)
    }
}
func create(_ n: Int, by creator: Int32) {
    let way = nodes[n].pointee.way, locked = way == Birth.adopted && state.pointee.entered_users != 0 && lockNumbers()
    let r: Int
    if way == Birth.adopted { r = state.pointee.warm != 0 && creator >= 0 ? share(ENGINE_INTERMEDIATE, pid: sparePid(), argument: UInt64(n), intermediate) : forkSpare(argument: UInt64(n), intermediate) }
    else {
        if way == Birth.sibling { refuseOtherSignal(n, creator) }
        prune(for: n)
        r = forkNode(n, pid: wantedPid(n), flags: way == Birth.sibling ? cloneParent : 0, exitSignal: exitSignal(n), nodeEntry)
    }
    guard r > 0 else { refuseBirth(n, r) }
    if way == Birth.adopted { _ = system(CKPT_SYS_wait4, r, 0, 0, 0) }
    unlockNumbers(locked)
    forgetImages(of: n)
}
/// With a pid that nobody in the tree needs, where pids can be asked for: the kernel's choice may be somebody's who is born next.
private func forkSpare(argument: UInt64, _ entry: @convention(c) (UInt64) -> Void) -> Int {
    if state.pointee.mode == ENGINE_PIDS_NEW.rawValue || state.pointee.entered_users != 0 || here != 0 { return fork(pid: 0, argument: argument, entry) }
    // Others look for one at the same time.
    var pid: Int32 = 1, r = 0, attempts = 0
    repeat {
        pid = sparePid(from: pid + 1)
        r = fork(pid: pid, argument: argument, entry)
        attempts += 1
    } while r == -17 && attempts < 10_000
    return r
}
/// A sibling gets the exit signal of the one that creates it.
private func refuseOtherSignal(_ n: Int, _ creator: Int32) {
    if exitSignal(n) == (creator < 0 ? 17 : exitSignal(Int(creator))) { return }
    refuse(.lacks) { l in
        putProcess(Int(nodes[n].pointee.record), &l)
        l.put("its parent gets another signal for it than for the leader of its session; take the checkpoint when the session's other processes have ended")
    }
}
func refuseBirth(_ n: Int, _ r: Int) -> Never {
    if r == -17 || r == -1 || r == -22 { refuseTaken(pid: nodes[n].pointee.pid, r) }
    refuse(r) { l in l.put("pid "); l.put(signed: Int64(nodes[n].pointee.pid)); l.put(": process cannot be created") }
}

/// Forks the node and leaves: the node goes to the nearest reaper.
private let intermediate: @convention(c) (UInt64) -> Void = { n in
    state.pointee.is_engine = 0
    state.pointee.is_builder = 0
    prune(for: Int(n))
    let r = forkNode(Int(n), pid: wantedPid(Int(n)), flags: 0, exitSignal: 17, nodeEntry)
    if r <= 0 { refuseBirth(Int(n), r) }
    ckpt_exit_group(0)
}

let nodeEntry: @convention(c) (UInt64) -> Void = { n in
    state.pointee.node = Int32(truncatingIfNeeded: n)
    state.pointee.holds_numbers = 0
    if state.pointee.entered_users != 0 && !isNumbered() { ckpt_exit_group(0) }
    engine_template().pointee.owns = 1
    engine_template().pointee.bears = 0
    runNode(Int(n))
}

/// The whole life of a node until it leaves for the application's code.
func runNode(_ n: Int) -> Never {
    let s = state
    s.pointee.is_engine = 0
    s.pointee.is_builder = 0
    s.pointee.node = Int32(n)
    let me = nodes[n].pointee
    let parentLeaves = me.parent >= 0 && nodes[Int(me.parent)].pointee.mainGone != 0
    // A dead parent takes its children along while nothing has been released.
    let borneByMidwife = s.pointee.warm != 0 && me.creator < 0
    if me.way != Birth.adopted && !parentLeaves && !borneByMidwife { _ = ckpt_prctl(1, 9, 0, 0, 0) }
    if isFirst(n) { makeInnerSockets(); makeInnerSystemV() }
    nodePids[n].pointee = me.place == 0 ? ckpt_getpid() : me.pid
    startNumbering(n)
    if me.record >= 0 { s.pointee.process = UInt32(me.record); makeTimesOfChildren(Int(me.record)) }
    giveBirth(creator: Int32(n), stage: 0)
    if me.leadsSession && system(CKPT_SYS_setsid) < 0 { refuse(-1) { l in l.put("pid "); l.put(signed: Int64(me.pid)); l.put(": setsid") } }
    if me.leadsSession { takeControl(n) }
    giveBirth(creator: Int32(n), stage: 1)
    if me.leadsGroup != 0 && !me.leadsSession { joinGroup(n, 0) }
    bearHeirs(n)
    arrive(ENGINE_STAGE_BIRTH)
    waitFor(ENGINE_STAGE_GROUPS)
    if me.pgid != 0 && me.pgid != me.pid && !me.joinsLast { joinGroup(n, me.pgid) }
    arrive(ENGINE_STAGE_GROUPS)
    waitFor(ENGINE_STAGE_LEAVE)
    if me.joinsLast && me.pgid != 0 { joinGroup(n, me.pgid) }
    if me.isTemporary { arrive(ENGINE_STAGE_LEAVE); ckpt_exit_group(0) }
    checkParent(n)
    reapTemporaries(of: Int32(n))
    if me.zombie != 0 { becomeZombie(Int(me.record)) }
    continueChildren(of: Int32(n))
    beContinued(n)
    arrive(ENGINE_STAGE_LEAVE)
    waitFor(ENGINE_STAGE_RESTORE)
    confirmZombies(of: Int32(n))
    drainChildSignals()
    becomeProcess(Int(me.record))
}

private func joinGroup(_ n: Int, _ group: Int32) {
    // One that does not show in its pid namespace was inherited.
    if group != 0 && numberHere(group) == 0 { return }
    let r = system(CKPT_SYS_setpgid, 0, Int(group == 0 ? 0 : numberHere(pidNow(group))))
    guard r == 0 else {
        refuse(r) { l in l.put("pid "); l.put(signed: Int64(nodes[n].pointee.pid)); l.put(": process group "); l.put(signed: Int64(group)) }
    }
}

/// An adopted process must have gone to the parent that it had.
private func checkParent(_ n: Int) {
    let p = nodes[n].pointee.parent
    guard p >= 0, nodes[n].pointee.way == Birth.adopted else { return }
    let parent = Int32(truncatingIfNeeded: system(CKPT_SYS_getppid))
    guard parent == pidHere(Int(p)) else {
        refuse(.lacks) { l in
            l.put("pid "); l.put(signed: Int64(nodes[n].pointee.pid)); l.put(": its parent "); l.put(signed: Int64(nodes[Int(p)].pointee.pid))
            l.put(" cannot adopt it here; take the checkpoint when the session of pid "); l.put(signed: Int64(nodes[n].pointee.pid)); l.put(" has ended")
        }
    }
}

/// What the tasks call `pid` now.
func pidNow(_ pid: Int32) -> Int32 {
    guard state.pointee.mode == ENGINE_PIDS_NEW.rawValue, pid > 0 else { return pid }
    for n in 0..<Int(state.pointee.node_count) where nodes[n].pointee.pid == pid { return nodePids[n].pointee }
    for i in 0..<tasks.count where tasks[i].pointee.tid == pid { return taskTids[i].pointee == 0 ? pid : taskTids[i].pointee }
    return pid
}

/// The parent removes temporary leaders; they were never there.
func reapTemporaries(of parent: Int32) {
    for n in 0..<Int(state.pointee.node_count) where nodes[n].pointee.parent == parent && nodes[n].pointee.isTemporary {
        var r = -4
        while r == -4 { r = system(CKPT_SYS_wait4, Int(pidHere(n)), 0, 0x40000000, 0) }
    }
}

/// Exits as the process had: its parent can still wait for it.
private func becomeZombie(_ i: Int) -> Never {
    if processes[i].pointee.comm != 0 { _ = ckpt_prctl(15, int(bytes(processes[i].pointee.comm)), 0, 0, 0) }
    arrive(ENGINE_STAGE_LEAVE)
    waitFor(ENGINE_STAGE_RESTORE)
    exitAs(processes[i].pointee.exit_status)
}

/// Ends with the status `wait`, as wait(2) shows it.
func exitAs(_ wait: Int32) -> Never {
    let signal = Int(wait & 0x7f)
    if signal != 0 {
        // Its own core was dumped then: a limit of one byte forbids another, also through a pipe (core(5)).
        var least = ckpt_rlimit(soft: 1, hard: 1), action = ckpt_sigaction(), unblocked: UInt64 = 0
        _ = system(CKPT_SYS_prlimit64, 0, 4, int(&least), 0)
        _ = ckpt_rt_sigaction(Int32(signal), &action, nil)
        _ = system(CKPT_SYS_kill, Int(ckpt_getpid()), signal)
        _ = ckpt_rt_sigprocmask(2, &unblocked, nil)
    }
    ckpt_exit_group((wait >> 8) & 0xff)
}

/// Waits, without taking the status, until every zombie child is one.
func confirmZombies(of parent: Int32) {
    for n in 0..<Int(state.pointee.node_count) where nodes[n].pointee.parent == parent && nodes[n].pointee.zombie != 0 {
        var info = InlineArray<16, UInt64>(repeating: 0), r = -4
        // waitid(P_PID, WNOWAIT | WEXITED | __WALL)
        while r == -4 { r = withUnsafeMutableBytes(of: &info) { system(CKPT_SYS_waitid, 1, Int(pidHere(n)), int($0.baseAddress!), 0x41000004, 0) } }
    }
}

/// Takes the SIGCHLDs of temporary processes and zombies off the queue: those that were pending are queued again from the records.
func drainChildSignals() {
    var set: UInt64 = 1 << 16, zero = ckpt_timespec(sec: 0, nsec: 0)
    while system(CKPT_SYS_rt_sigtimedwait, int(&set), 0, int(&zero), 8) > 0 {}
}
