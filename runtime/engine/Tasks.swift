// Runs in each process of the tree; the first half on the region's main stack, the second in each new task on its own stack of 16 KiB.
// Creates the tasks and lets each restore what belongs to it alone; then it leaves for the runtime's handler.
import CkptABI
import EngineBoot
import Freestanding

// CLONE_VM | FS | FILES | SIGHAND | THREAD | SYSVSEM
private let threadFlags: UInt64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000

/// Creates all tasks but the main one; returns that one's index, nil when it had left.
func createTasks(_ i: Int) -> Int? {
    let p = processes[i]
    leaderGone[i].pointee = 1
    var main: Int? = nil, stack: UInt64 = 0
    for k in 0..<p.pointee.task_count {
        let t = Int(p.pointee.first_task + k)
        if tasks[t].pointee.tid == p.pointee.pid { main = t; taskTids[t].pointee = ckpt_getpid(); continue }
        createTask(t, state.pointee.stacks + UInt64(ENGINE_MAIN_STACK) + stack * UInt64(ENGINE_TASK_STACK))
        stack += 1
    }
    if main != nil { leaderGone[i].pointee = 0 }
    return main
}

private func createTask(_ t: Int, _ stack: UInt64) {
    var wanted = InlineArray<32, Int32>(repeating: 0), a = ckpt_clone_args()
    a.flags = threadFlags
    a.stack = stack
    a.stack_size = UInt64(ENGINE_TASK_STACK)
    let r: Int
    if state.pointee.mode == ENGINE_PIDS_NEW.rawValue { r = ckpt_clone3(&a, taskEntry, UInt64(t)) }
    else if state.pointee.entered_users != 0 { r = cloneNumbered(&a, tasks[t].pointee.tid, inside: here, group: processes[tasks[t].pointee.process].pointee.pid, numberedTaskEntry, UInt64(t)) }
    else {
        let levels = fillOwnPids(tasks[t].pointee.tid, &wanted)
        r = withUnsafeMutableBytes(of: &wanted) { w in
            a.set_tid = UInt64(UInt(bitPattern: w.baseAddress!)); a.set_tid_size = UInt64(levels)
            return ckpt_clone3(&a, taskEntry, UInt64(t))
        }
    }
    if r == -17 || r == -1 || r == -22 { refuseTaken(pid: tasks[t].pointee.tid, r) }
    guard r > 0 else {
        refuse(r) { l in putThisProcess(&l); l.put("tid "); l.put(signed: Int64(tasks[t].pointee.tid)); l.put(": task cannot be created; raise the limit on processes (ulimit -u)") }
    }
    taskTids[t].pointee = Int32(truncatingIfNeeded: r)
}

private let taskEntry: @convention(c) (UInt64) -> Void = { t in
    let i = Int(tasks[Int(t)].pointee.process)
    waitForOpening(i)
    becomeTask(Int(t))
}

private let numberedTaskEntry: @convention(c) (UInt64) -> Void = { t in
    if !isNumbered() { ckpt_exit_thread(0) }
    taskEntry(t)
}

/// Tasks start only when all of the process is restored; and when a main thread that had left is gone.
private func waitForOpening(_ i: Int) {
    let word = processOpen[i]
    while ckpt_load(word) == 0 { _ = ckpt_futex_wait(word, 0, nil) }
    let gone = leaderGone[i]
    while true {
        let v = ckpt_load(gone)
        // The kernel wakes one waiter only: each wakes the rest.
        if v == 0 { _ = ckpt_futex_wake(gone, Int32.max); return }
        _ = ckpt_futex_wait(gone, v, nil)
    }
}
func openTasks(_ i: Int) {
    ckpt_store(processOpen[i], 1)
    _ = ckpt_futex_wake(processOpen[i], Int32.max)
}

/// The last that this task does in the engine.
func becomeTask(_ t: Int) -> Never {
    let r = tasks[t], s = ckpt_task_slot(session, r.pointee.slot)
    let tid = ckpt_gettid()
    s.pointee.tid = tid
    s.pointee.pid = ckpt_getpid()
    if r.pointee.is_leader != 0 { ckpt_process_slot(session, processes[r.pointee.process].pointee.process_slot).pointee.pid = ckpt_getpid() }
    restoreRegistrations(t, tid)
    fillRings(t)
    restoreScheduling(t)
    restoreTaskPending(t)
    restoreTaskPolicy(t)
    _ = ckpt_prctl(29, max(1, int(r.pointee.timer_slack)), 0, 0, 0)
    restoreMceKill(t)
    restoreSpeculation(t)
    _ = ckpt_prctl(15, int(ckpt_record_comm(r)), 0, 0, 0)
    restoreCredentials(t)
    giveUpRights(t)
    if tasks[t].pointee.tid == processes[tasks[t].pointee.process].pointee.pid { restoreOwners(Int(tasks[t].pointee.process)) }
    _ = ckpt_prctl(1, Int(r.pointee.parent_death_signal), 0, 0, 0)
    _ = ckpt_add(&board.pointee.progress, 1)
    _ = system(CKPT_SYS_arch_prctl, 0x1001, int(r.pointee.gs_base))
    _ = system(CKPT_SYS_arch_prctl, 0x1002, int(r.pointee.fs_base))
    boot_resume(r.pointee.resume_rsp, r.pointee.resume_rip)
}

/// What the kernel writes to or reads from the task's memory: robust list, clear_child_tid, rseq.
private func restoreRegistrations(_ t: Int, _ tid: Int32) {
    let r = tasks[t]
    if tid != r.pointee.tid && state.pointee.mode == ENGINE_PIDS_NEW.rawValue { patchCachedTid(t, tid) }
    if r.pointee.robust_head != 0 {
        let e = system(CKPT_SYS_set_robust_list, int(r.pointee.robust_head), int(r.pointee.robust_length))
        guard e == 0 else { refuseTask(t, e, "its robust futex list") }
    }
    _ = system(CKPT_SYS_set_tid_address, int(r.pointee.tid_address))
    if r.pointee.rseq_address != 0 {
        let e = system(CKPT_SYS_rseq, int(r.pointee.rseq_address), Int(r.pointee.rseq_length), 0, Int(r.pointee.rseq_signature))
        guard e == 0 else { refuseTask(t, e, "its rseq area") }
    }
}

/// --pids new: glibc keeps the tid in its thread descriptor (pthread.tid, at this offset since 2.25 on x86_64).
private func patchCachedTid(_ t: Int, _ tid: Int32) {
    let address = tasks[t].pointee.fs_base &+ 0x2d0
    guard isMapped(Int(tasks[t].pointee.process), address), let p = UnsafeMutablePointer<Int32>(bitPattern: UInt(address)) else { return }
    if p.pointee == tasks[t].pointee.tid { p.pointee = tid }
}
private func isMapped(_ i: Int, _ address: UInt64) -> Bool {
    let p = processes[i]
    for k in 0..<p.pointee.vma_count {
        let v = vmas[p.pointee.first_vma + k].pointee
        if address >= v.start && address + 4 <= v.end { return v.protection & 3 == 3 }
    }
    return false
}

func refuseTask(_ t: Int, _ r: Int, _ what: StaticString) -> Never {
    refuse(r) { l in
        putProcess(Int(tasks[t].pointee.process), &l)
        l.put("tid "); l.put(signed: Int64(tasks[t].pointee.tid)); l.put(": "); l.put(what)
    }
}

/// PR_MCE_KILL: what happens to this task when its memory fails.
private func restoreMceKill(_ t: Int) {
    let wanted = int(tasks[t].pointee.mce_kill) - 1
    guard wanted >= 0, wanted <= 2, ckpt_prctl(34, 0, 0, 0, 0) != wanted else { return }
    // PR_MCE_KILL_CLEAR for the default, else PR_MCE_KILL_SET
    let r = wanted == 2 ? ckpt_prctl(33, 0, 0, 0, 0) : ckpt_prctl(33, 1, wanted, 0, 0)
    guard r == 0 else { refuseTask(t, r, "its PR_MCE_KILL policy") }
}

/// What this task has chosen that the processor does not do ahead of time (PR_SET_SPECULATION_CTRL).
private func restoreSpeculation(_ t: Int) {
    let was = SpeculationWord(tasks[t].pointee.speculation), set: Int32 = 53
    SpeculationKind.forEach { kind in
        guard let state = was[kind] else { return }
        switch speculationStep(kind, was: state, now: SpeculationState(of: kind)) {
        case .nothing: return
        case .set(let choice):
            let r = ckpt_prctl(set, kind.rawValue, Int(choice), 0, 0)
            guard r == 0 else { refuseSpeculation(t, kind, r) }
        case .impossible: refuseSpeculation(t, kind, nil)
        }
    }
}
private func refuseSpeculation(_ t: Int, _ kind: SpeculationKind, _ r: Int?) -> Never {
    refuse(.lacks) { l in
        putProcess(Int(tasks[t].pointee.process), &l)
        l.put("tid "); l.put(signed: Int64(tasks[t].pointee.tid)); l.put(": its control of speculation (")
        switch kind {
        case .storeBypass: l.put("store bypass")
        case .indirectBranch: l.put("indirect branches")
        case .flushedCache: l.put("flush of the level 1 data cache")
        }
        l.put(") cannot be set here")
        if let r { l.put(": "); putError(r, &l) }
        l.put("; restart it from a shell whose own is not forced, on a machine that offers it to each task (/proc/self/status, Speculation)")
    }
}

/// Policy, priority, nice value, CPUs and I/O priority; only what differs, since lowering back may be forbidden.
func restoreScheduling(_ t: Int) {
    let r = tasks[t]
    var now = ckpt_sched_attr()
    _ = system(CKPT_SYS_sched_getattr, 0, int(&now), 56, 0)
    var wanted = r.pointee.sched
    wanted.size = 56
    if now.policy != wanted.policy || now.nice != wanted.nice || now.priority != wanted.priority || now.flags & 1 != wanted.flags & 1 {
        if wanted.policy < 3 || wanted.policy == 5 { wanted.runtime = 0; wanted.deadline = 0; wanted.period = 0 }
        wanted.flags &= 1
        let e = system(CKPT_SYS_sched_setattr, 0, int(&wanted), 0)
        guard e == 0 else {
            refuse(e) { l in
                putProcess(Int(r.pointee.process), &l); l.put("tid "); l.put(signed: Int64(r.pointee.tid)); l.put(": nice "); l.put(signed: Int64(r.pointee.sched.nice))
                l.put(", policy "); l.put(decimal: UInt64(r.pointee.sched.policy)); l.put(" cannot be set; restart it at that nice value, or as root")
            }
        }
    }
    // sched_setattr(2) leaves the nice value of an idle task alone.
    if wanted.policy == 5 && now.nice != wanted.nice { _ = system(CKPT_SYS_setpriority, 0, 0, Int(wanted.nice)) }
    restoreAffinity(t)
    let io = system(CKPT_SYS_ioprio_get, 1, 0)
    if io >= 0 && UInt32(io) != r.pointee.ioprio {
        let e = system(CKPT_SYS_ioprio_set, 1, 0, Int(r.pointee.ioprio))
        guard e == 0 else { refuseTask(t, e, "its I/O priority; restart it as root") }
    }
}
private func restoreAffinity(_ t: Int) {
    var now = InlineArray<16, UInt64>(repeating: 0), same = true, any = false
    let n = withUnsafeMutableBytes(of: &now) { system(CKPT_SYS_sched_getaffinity, 0, 128, int($0.baseAddress!)) }
    let wanted = ckpt_record_affinity(tasks[t])
    for k in 0..<16 { if wanted[k] != now[k] { same = false }; if wanted[k] != 0 { any = true } }
    guard n > 0, !same, any else { return }
    let e = system(CKPT_SYS_sched_setaffinity, 0, 128, int(wanted))
    guard e == 0 else { refuseTask(t, e, "none of its CPUs can be used here; restart it where they exist") }
}
