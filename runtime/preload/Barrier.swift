// Runs parked in the SIGCKPT handler, every signal blocked; a leader on its own stack, the other tasks on the application's.
// The phase word belongs to the initiator.  A task waits for it to change, does its part of the new phase and says so; nothing else moves it on,
// except that whoever finds the initiator dead turns it to ABORT.
import CkptABI
import PreloadBoot
import Freestanding

/// How long a wait may last before the waiter looks whether the other side still lives.
private let patience: Int64 = 100_000_000   // ns

/// Says that this task has done its part of `phase`; wakes the initiator when it was the last.
func arrive(_ part: UnsafeMutablePointer<Part>, _ phase: ckpt_phase) {
    let session = part.pointee.session
    ckpt_store(&part.pointee.slot.pointee.status, phase.rawValue)
    // The count comes after the status: an initiator that sees the count sees every status.
    let arrived = ckpt_add(ckpt_arrived_word(session), 1) + 1
    if arrived >= ckpt_load(&session.pointee.expected) { _ = ckpt_futex_wake(ckpt_arrived_word(session), Int32.max) }
}

/// Does the phases as the initiator calls them, until the release or the abort; which of them it was.
func followPhases(_ part: UnsafeMutablePointer<Part>, _ process: UnsafeMutablePointer<ckpt_process>?) -> ckpt_phase {
    let session = part.pointee.session, slot = part.pointee.slot, role = process == nil ? CKPT_WAITS_AS_FOLLOWER : CKPT_WAITS_AS_LEADER
    var seen = part.pointee.generation << 8 | CKPT_PHASE_CALL.rawValue
    while true {
        let word = awaitChange(session, from: seen, as: role)
        // A task that was stopped by job control while the others left: its slot may be another's by now.
        if generation(word) != part.pointee.generation { return CKPT_PHASE_RELEASE }
        seen = word
        let now = phase(word)
        switch now {
        case CKPT_PHASE_RECORD:
            if let process { recordTimers(session, process); recordOwners(session, process); recordPolicies(session, process); recordChildren(session, process); arrive(part, now) }
        case CKPT_PHASE_DRAIN where slot.pointee.request & CKPT_REQUEST_DRAIN_SHARED.rawValue != 0,
             CKPT_PHASE_DRAIN_OTHERS where slot.pointee.request == CKPT_REQUEST_DRAIN.rawValue:
            drainSignals(session, slot); arrive(part, now)
        case CKPT_PHASE_REQUEUE where slot.pointee.request & CKPT_REQUEST_DRAIN.rawValue != 0:
            requeueSignals(session, slot); arrive(part, now)
        case CKPT_PHASE_TERMINALS:
            if let process, process.pointee.terminals_count > 0, hold(session, process, CKPT_HELD_TERMINALS, during: word, { takeTerminals(session, process) }) { arrive(part, now) }
        case CKPT_PHASE_TERMINALS_BACK:
            if let process, process.pointee.terminals_count > 0 { putBackTerminals(session, process); letGo(process, CKPT_HELD_TERMINALS); arrive(part, now) }
        case CKPT_PHASE_ASK:
            if let process { answerAsks(session, process); arrive(part, now) }
        case CKPT_PHASE_QUEUES:
            if let process, process.pointee.queues_count > 0, hold(session, process, CKPT_HELD_MESSAGES, during: word, { recordQueues(session, process) }) { letGo(process, CKPT_HELD_MESSAGES); arrive(part, now) }
        case CKPT_PHASE_MEMORY:
            if let process { saveMemory(session, process); arrive(part, now) }
        case CKPT_PHASE_END:
            endWithTheOthers()
        case CKPT_PHASE_RELEASE, CKPT_PHASE_ABORT, CKPT_PHASE_IDLE:
            if let process { putBackTerminals(session, process); letGo(process, CKPT_HELD_TERMINALS) }
            awaitHolders(session, leads: process != nil)
            if let process, now != CKPT_PHASE_RELEASE { dropSnapshot(); closeTracking() }
            undoOptions(session)
            requeueSignals(session, slot)
            return now
        default: break
        }
    }
}

/// Waits until the phase word is no longer `seen`.  Phases of others may pass unseen; the release, the end and an abort wake everybody.
func awaitChange(_ session: UnsafeMutablePointer<ckpt_session>, from seen: UInt32, as role: Int) -> UInt32 {
    let monotonic: Int32 = 1, second: Int64 = 1_000_000_000
    while true {
        let word = ckpt_load(ckpt_phase_word(session))
        if word != seen { return word }
        if initiatorIsGone(session) { abort(session, from: word); continue }
        var until = ckpt_timespec()
        _ = ckpt_clock(monotonic, &until)
        until.nsec += patience
        if until.nsec >= second { until.nsec -= second; until.sec += 1 }
        _ = ckpt_futex_wait_bits(ckpt_phase_word(session), seen, &until, UInt32(role))
    }
}

/// The kernel marks the initiator's robust lock when it dies (get_robust_list(2)); zero means that it gave the lock back.
func initiatorIsGone(_ session: UnsafeMutablePointer<ckpt_session>) -> Bool {
    let word = ckpt_load(ckpt_lock_word(session))
    return word & UInt32(CKPT_LOCK_OWNER_DIED) != 0 || word & UInt32(CKPT_LOCK_OWNER) == 0
}

func abort(_ session: UnsafeMutablePointer<ckpt_session>, from word: UInt32) {
    // By compare-and-swap: an initiator that finished between our two looks must not be overruled.
    if ckpt_cas(ckpt_phase_word(session), word, word & ~0xff | CKPT_PHASE_ABORT.rawValue) {
        ckpt_fail(session, CKPT_ERROR_INITIATOR.rawValue, 0, 0)
        _ = ckpt_futex_wake(ckpt_phase_word(session), Int32.max)
    }
}

/// --kill is committed.  The initiator may be slower than we, or dead: a parent sees the same end.  (The init process of a namespace survives its own signal.)
private func endWithTheOthers() -> Never {
    _ = ckpt_syscall(Int(CKPT_SYS_kill), Int(ckpt_getpid()), 9, 0, 0, 0, 0)
    ckpt_exit_group(137)
}

/// For a task that can't take part: waits until the others are let go.
func awaitEnd(_ session: UnsafeMutablePointer<ckpt_session>, _ mine: UInt32) {
    var word = ckpt_load(ckpt_phase_word(session))
    while generation(word) == mine {
        switch phase(word) {
        case CKPT_PHASE_RELEASE, CKPT_PHASE_ABORT, CKPT_PHASE_IDLE: return awaitHolders(session, leads: false)
        case CKPT_PHASE_END: endWithTheOthers()
        default: word = awaitChange(session, from: word, as: CKPT_WAITS_AS_FOLLOWER)
        }
    }
}

/// Back in the handler after a restart, in restored memory: waits for every task of the tree, and lets the leader take the engine out of the process.
/// Every signal is still blocked: nothing of the application runs before everybody is back.
func comeBack(_ session: UnsafeMutablePointer<ckpt_session>, leads: Bool) {
    let process = ckpt_process_slot(session, ckpt_runtime().pointee.process)
    var timers = TimersToArm(process)
    _ = ckpt_add(&process.pointee.returned, 1)
    _ = ckpt_futex_wake(&process.pointee.returned, Int32.max)
    if leads {
        // What the image says of the snapshot that wrote it is not true of us, and generations begin anew in the new segment.
        ckpt_runtime().pointee.is_snapshot = 0
        ckpt_runtime().pointee.snapshot_pid = 0
        ckpt_store(ckpt_led_word(), 0)
        ckpt_store64(ckpt_stack_owner_word(), thisTask())       // whose pid and tid may be others now
        ckpt_store(ckpt_timers_word(), 0)
        // The new segment has another name where the old one is still in use: what is executed from now on belongs to this session.
        interposeStart(session)
        var timeout = ckpt_timespec(sec: 0, nsec: patience)
        while true {
            let returned = ckpt_load(&process.pointee.returned)
            if returned >= process.pointee.expected { break }
            if initiatorIsGone(session) { ckpt_exit_group(137) }
            _ = ckpt_futex_wait(&process.pointee.returned, returned, &timeout)
        }
        // Every task of the process runs here now, so nobody needs the engine's memory any more.
        if process.pointee.engine_size != 0, ckpt_munmap(process.pointee.engine_base, process.pointee.engine_size) != 0 {
            ckpt_fail(session, CKPT_ERROR_UNMAP.rawValue, 0, process.pointee.engine_base)
        }
    }
    let arrived = ckpt_add(ckpt_arrived_word(session), 1) + 1
    if arrived >= ckpt_load(&session.pointee.expected) { _ = ckpt_futex_wake(ckpt_arrived_word(session), Int32.max) }
    if leads { letStopIn(process) }
    _ = ckpt_add(&process.pointee.home, 1)
    _ = ckpt_futex_wake(&process.pointee.home, Int32.max)
    awaitRestoreEnd(session)
    if leads {
        armTimers(session, &timers)
        ckpt_store(ckpt_timers_word(), 1)
        _ = ckpt_futex_wake(ckpt_timers_word(), Int32.max)
    } else { awaitTimers() }
}

/// A process that SIGTSTP or its like had stopped is stopped by that again, for which one of its tasks must take the signal; sigreturn blocks it again.
private func letStopIn(_ process: UnsafeMutablePointer<ckpt_process>) {
    let unblock: Int32 = 1
    if process.pointee.stop_signal == 0 { return }
    var set: UInt64 = 1 << (UInt64(process.pointee.stop_signal) - 1)
    _ = ckpt_rt_sigprocmask(unblock, &set, nil)
}

/// No thread looks at its timers before the leader has armed them: a few system calls of a thread that has been released with us.
private func awaitTimers() {
    var timeout = ckpt_timespec(sec: 0, nsec: patience)
    while ckpt_load(ckpt_timers_word()) == 0 { _ = ckpt_futex_wait(ckpt_timers_word(), 0, &timeout) }
}

private func awaitRestoreEnd(_ session: UnsafeMutablePointer<ckpt_session>) {
    var timeout = ckpt_timespec(sec: 0, nsec: patience)
    while true {
        let word = ckpt_load(ckpt_phase_word(session))
        // A checkpoint since then: we have been released, were stopped or got no time, and how it ends is not about us.
        if generation(word) != UInt32(CKPT_RESTORE_GENERATION) { return }
        if phase(word) != CKPT_PHASE_RESTORE {
            if phase(word) == CKPT_PHASE_ABORT || phase(word) == CKPT_PHASE_END { ckpt_exit_group(137) }
            return
        }
        // A half-restored tree must never run on: without the engine there is nobody to release it.
        // (It gives the lock back after the release: the phase is looked at once more.)
        if initiatorIsGone(session) && ckpt_load(ckpt_phase_word(session)) == word { ckpt_exit_group(137) }
        _ = ckpt_futex_wait(ckpt_phase_word(session), word, &timeout)
    }
}
