// Runs in the SIGCKPT handler: in the interrupted task, every signal blocked, on the application's stack (or its alternate one) until a leader changes to its own.
// Raw system calls only.  Whatever happens here, the application's memory, descriptors, errno and signal state are the same when it returns.
import CkptABI
import PreloadBoot
import Freestanding

@c(ckpt_on_signal)
func onSignal(_ signal: Int32, _ info: UnsafeMutablePointer<ckpt_siginfo>, _ context: UnsafeMutablePointer<ckpt_ucontext>) {
    if let session = ckpt_runtime().pointee.session {
        reapSnapshot()
        let word = ckpt_load(ckpt_phase_word(session))
        if phase(word) == CKPT_PHASE_CALL {
            takePart(session, word, context)
        } else {
            if deliverApplicationSIGCKPT(info, context) { return }       // its handler ran: an interrupted call stays interrupted
        }
    }
    reviseInterruptedCall(context)
}

/// A snapshot that has written its pages is a zombie child that no wait of the application's shows; this task's process takes it away.
func reapSnapshot() {
    let runtime = ckpt_runtime()
    if runtime.pointee.snapshot_pid == 0 || runtime.pointee.snapshot_owner != ckpt_getpid() { return }
    if let session = runtime.pointee.session, initiatorIsGone(session) { return dropSnapshot() }
    _ = takeSnapshotAway()
}

/// Joins the checkpoint that is being called: claims a slot, parks, and does what the phases ask until the release.
private func takePart(_ session: UnsafeMutablePointer<ckpt_session>, _ word: UInt32, _ context: UnsafeMutablePointer<ckpt_ucontext>) {
    let index = ckpt_claim(&session.pointee.task_claims, generation(word))
    if index == UInt32(CKPT_TOO_LATE) { return }
    guard index < UInt32(CKPT_MAX_TASKS) else {
        ckpt_fail(session, CKPT_ERROR_SLOTS.rawValue, 0, UInt64(CKPT_MAX_TASKS))
        awaitEnd(session, generation(word))
        return
    }
    let slot = ckpt_task_slot(session, index)
    slot.initialize(to: ckpt_task())
    slot.pointee.tid = ckpt_gettid()
    slot.pointee.pid = ckpt_getpid()
    slot.pointee.ucontext = UInt64(UInt(bitPattern: context))
    recordTask(slot)
    let led = ckpt_load(ckpt_led_word())
    let leads = led != generation(word) && ckpt_cas(ckpt_led_word(), led, generation(word))
    slot.pointee.is_leader = leads ? 1 : 0

    var part = Part(session: session, slot: slot, index: index, generation: generation(word))
    if leads && !takeLeaderStack(session, word) {
        awaitEnd(session, part.generation)
        _ = leave(&part)
        return
    }
    let result = withUnsafeMutablePointer(to: &part) { part in
        leads ? ckpt_call_on_stack(leaderEntry, UnsafeMutableRawPointer(part), ckpt_leader_stack_top())
              : ckpt_park(slot, followerEntry, UnsafeMutableRawPointer(part))
    }
    if leads { ckpt_store64(ckpt_stack_owner_word(), 0) }
    if result == 1 && !leads { comeBack(session, leads: false) }
}

/// There is one for the process, and who led before may still be on it: everybody else has been released, or its hook takes its time.
private func takeLeaderStack(_ session: UnsafeMutablePointer<ckpt_session>, _ word: UInt32) -> Bool {
    let owner = ckpt_stack_owner_word()
    var moment = ckpt_timespec(sec: 0, nsec: 100_000)
    while ckpt_load(ckpt_phase_word(session)) == word {
        let other = ckpt_load64(owner)
        // A fork brings the word along, and not the task.
        if other == 0 || other >> 32 != UInt64(UInt32(bitPattern: ckpt_getpid())) { if ckpt_cas64(owner, other, thisTask()) { return true } }
        else { _ = withUnsafeMutablePointer(to: &moment) { ckpt_syscall(Int(CKPT_SYS_nanosleep), Int(bitPattern: $0), 0, 0, 0, 0, 0) } }
    }
    return false
}
func thisTask() -> UInt64 { UInt64(UInt32(bitPattern: ckpt_getpid())) << 32 | UInt64(UInt32(bitPattern: ckpt_gettid())) }

/// What a task hands down to the code that runs while it is parked; lives on its own stack.
struct Part {
    var session: UnsafeMutablePointer<ckpt_session>
    var slot: UnsafeMutablePointer<ckpt_task>
    var index: UInt32
    var generation: UInt32
}

/// On the leader's stack.
private let leaderEntry: @convention(c) (UnsafeMutableRawPointer?) -> UInt32 = { argument in
    let part = argument!.assumingMemoryBound(to: Part.self)
    let result = ckpt_park(part.pointee.slot, leaderBody, argument)
    if result == 1 {
        comeBack(part.pointee.session, leads: true)
        _ = tellApplication(CKPT_RESTARTED)
    }
    return result
}

private let leaderBody: @convention(c) (UnsafeMutableRawPointer?) -> UInt32 = { argument in
    let part = argument!.assumingMemoryBound(to: Part.self)
    ckpt_store(&part.pointee.slot.pointee.parked, 1)
    let refused = tellApplication(CKPT_BEFORE)
    var last = CKPT_PHASE_ABORT
    if refused != 0 {
        ckpt_fail(part.pointee.session, CKPT_ERROR_APPLICATION.rawValue, 0, UInt64(UInt32(bitPattern: refused)))
        awaitEnd(part.pointee.session, part.pointee.generation)
    } else if let process = claimProcess(part) {
        dropSnapshot()          // of a checkpoint that was given up
        recordProcess(process)
        arrive(part, CKPT_PHASE_CALL)
        last = followPhases(part, process)
    } else {
        awaitEnd(part.pointee.session, part.pointee.generation)
    }
    _ = tellApplication(last == CKPT_PHASE_RELEASE ? CKPT_CONTINUED : CKPT_ABORTED)
    return leave(part)
}

/// Calls the application's hook (ckpt.h), in its leader, on the leader's stack; its answer.
private func tellApplication(_ event: ckpt_hook_event) -> Int32 {
    let runtime = ckpt_runtime()
    guard let hook = runtime.pointee.hook else { return 0 }
    return hook(event, runtime.pointee.hook_argument)
}

private let followerEntry: @convention(c) (UnsafeMutableRawPointer?) -> UInt32 = { argument in
    let part = argument!.assumingMemoryBound(to: Part.self)
    ckpt_store(&part.pointee.slot.pointee.parked, 1)
    arrive(part, CKPT_PHASE_CALL)
    _ = followPhases(part, nil)
    return leave(part)
}

private func claimProcess(_ part: UnsafeMutablePointer<Part>) -> UnsafeMutablePointer<ckpt_process>? {
    let session = part.pointee.session
    let index = ckpt_claim(&session.pointee.process_claims, part.pointee.generation)
    if index == UInt32(CKPT_TOO_LATE) { return nil }
    guard index < UInt32(CKPT_MAX_PROCESSES) else {
        ckpt_fail(session, CKPT_ERROR_SLOTS.rawValue, 0, UInt64(CKPT_MAX_PROCESSES))
        return nil
    }
    let process = ckpt_process_slot(session, index)
    process.initialize(to: ckpt_process())
    process.pointee.pid = part.pointee.slot.pointee.pid
    process.pointee.leader_task = part.pointee.index
    ckpt_runtime().pointee.process = index
    return process
}

private func leave(_ part: UnsafeMutablePointer<Part>) -> UInt32 {
    if part.pointee.slot.pointee.is_leader != 0 { reapSnapshot() }
    if generation(ckpt_load(ckpt_phase_word(part.pointee.session))) != part.pointee.generation { return 0 }
    ckpt_store(&part.pointee.slot.pointee.left, 1)
    _ = ckpt_add(&part.pointee.session.pointee.left, 1)
    return 0
}
