// Runs in the SIGCKPT handler, every signal blocked.
// Queued signals have no passive reader: a task takes them off its queues into the arena and queues them to itself again.  Between the two it is parked,
// so nobody can see the empty queue; an abort in between queues them all the same.
// Senders outside of the tree run on meanwhile.  So each real-time signal that is taken leaves one in its place, which counts as much against the limit on
// queued signals: what could not be sent before cannot be sent now.  And what has come since goes behind what was taken.
import CkptABI
import PreloadBoot
import Freestanding

/// Signals from here on are queued, each of them; of those below one is kept.
private let firstQueued: UInt64 = 32
private func bit(_ signal: UInt64) -> UInt64 { 1 << (signal - 1) }

/// Takes every pending signal that is this task's to take.  One task of each process runs first: it takes its own and then the process's;
/// so what the others find afterwards is their own.  `spare.0` of the slot: the task's private set as the initiator read it in /proc.
func drainSignals(_ session: UnsafeMutablePointer<ckpt_session>, _ slot: UnsafeMutablePointer<ckpt_task>) {
    let mine = slot.pointee.spare.0, leads = slot.pointee.request & CKPT_REQUEST_DRAIN_SHARED.rawValue != 0, pending = pendingSignals()
    var signal: UInt64 = 0
    while signal < UInt64(CKPT_SIGCKPT) - 1 {
        signal += 1
        if pending & bit(signal) == 0 { continue }
        var isPrivate = mine & bit(signal) != 0
        let queues = signal >= firstQueued
        // Whoever sends faster than we take is not followed for ever: what comes behind the mark stays where it is.
        var end = own(slot, Int32(signal), slot)
        let isMarked = queues && (leads || isPrivate) && queue(slot, &end, shared: !isPrivate) == 0
        while leads || isPrivate {
            // The record is claimed first: a signal in hand with no place to keep it would be lost.
            let at = ckpt_signal_claim(session)
            guard at != ~0 else {
                ckpt_fail(session, CKPT_ERROR_SIGNALS.rawValue, Errno.noSpace.code, signal)
                // Nothing of ours stays in its queue.
                if isMarked { putBehind(session, slot, signal, shared: !isPrivate) }
                return
            }
            let record = ckpt_arena(session, at).assumingMemoryBound(to: ckpt_pending.self)
            record.initialize(to: ckpt_pending())
            if !take(signal, &record.pointee.info) || (isMarked && isMark(record.pointee.info, end)) { break }
            if queues { keepPlace(slot) }
            record.pointee.shared = isPrivate ? 0 : 1
            link(session, slot, at)
            // One of a kind below the real-time signals; a real-time one in both queues is refused by the initiator.
            if isPrivate && !queues { isPrivate = false; if !leads { break } }
        }
    }
}

private func pendingSignals() -> UInt64 {
    var pending: UInt64 = 0
    _ = ckpt_syscall(Int(CKPT_SYS_rt_sigpending), Int(bitPattern: withUnsafeMutablePointer(to: &pending) { $0 }), 8, 0, 0, 0, 0)
    return pending
}

/// The next one of its kind; false: there is none.
private func take(_ signal: UInt64, _ info: inout ckpt_siginfo) -> Bool {
    var zero = ckpt_timespec(sec: 0, nsec: 0), set = bit(signal)
    return ckpt_syscall(Int(CKPT_SYS_rt_sigtimedwait), Int(bitPattern: withUnsafeMutablePointer(to: &set) { $0 }),
                        Int(bitPattern: withUnsafeMutablePointer(to: &info) { $0 }),
                        Int(bitPattern: withUnsafeMutablePointer(to: &zero) { $0 }), 8, 0, 0) > 0
}

/// What was taken, or came since.  What the kernel or kill(2) has sent only the main thread may queue for the process; where that has gone, the sender is another.
private func queueAgain(_ session: UnsafeMutablePointer<ckpt_session>, _ slot: UnsafeMutablePointer<ckpt_task>, _ info: inout ckpt_siginfo, shared: Bool) {
    let notPermitted = -1
    var result = queue(slot, &info, shared: shared)
    if result == notPermitted && shared { result = ckpt_syscall(Int(CKPT_SYS_kill), Int(slot.pointee.pid), Int(info.si_signo), 0, 0, 0, 0) }
    if result < 0 { ckpt_fail(session, CKPT_ERROR_SIGNALS.rawValue, Int32(truncatingIfNeeded: result), UInt64(info.si_signo)) }
}
/// At its end, for the process or for this task alone.
private func queue(_ slot: UnsafeMutablePointer<ckpt_task>, _ info: inout ckpt_siginfo, shared: Bool) -> Int {
    let signal = Int(info.si_signo), at = Int(bitPattern: withUnsafeMutablePointer(to: &info) { $0 }), pid = Int(slot.pointee.pid)
    return shared ? ckpt_syscall(Int(CKPT_SYS_rt_sigqueueinfo), pid, signal, at, 0, 0, 0)
        : ckpt_syscall(Int(CKPT_SYS_rt_tgsigqueueinfo), pid, Int(slot.pointee.tid), signal, at, 0, 0)
}

/// SIGCKPT is blocked here, queued for this task alone, and nobody's beside the initiator's, who sends none now.
private func keepPlace(_ slot: UnsafeMutablePointer<ckpt_task>) {
    var info = own(slot, Int32(CKPT_SIGCKPT), slot)
    _ = queue(slot, &info, shared: false)
}
private func freePlace() {
    var info = ckpt_siginfo()
    _ = take(UInt64(CKPT_SIGCKPT), &info)
}
/// As sigqueue(3) makes it.
private func own(_ slot: UnsafeMutablePointer<ckpt_task>, _ signal: Int32, _ value: UnsafeMutableRawPointer) -> ckpt_siginfo {
    var info = ckpt_siginfo()
    let queued: Int32 = -1
    info.si_signo = signal; info.si_code = queued; info.si_pid = slot.pointee.pid; info.si_value = UInt64(UInt(bitPattern: value))
    return info
}

private func isMark(_ info: ckpt_siginfo, _ mark: ckpt_siginfo) -> Bool { info.si_code == mark.si_code && info.si_pid == mark.si_pid && info.si_value == mark.si_value }

/// Records are claimed by several tasks at once, so one task's need not be neighbours: they are chained through `pad` and the slot (offset / 8 + 1).
private func link(_ session: UnsafeMutablePointer<ckpt_session>, _ slot: UnsafeMutablePointer<ckpt_task>, _ at: UInt64) {
    let index = UInt32(at / 8 + 1)
    if slot.pointee.pending_count == 0 {
        slot.pointee.pending_offset = at
    } else {
        ckpt_arena(session, slot.pointee.spare.1).assumingMemoryBound(to: ckpt_pending.self).pointee.pad = index
    }
    slot.pointee.spare.1 = at
    slot.pointee.pending_count += 1
}

/// Queues everything that was taken, in the order in which it was; does nothing the second time.
func requeueSignals(_ session: UnsafeMutablePointer<ckpt_session>, _ slot: UnsafeMutablePointer<ckpt_task>) {
    if slot.pointee.pending_count == 0 || slot.pointee.requeued != 0 { return }
    slot.pointee.requeued = 1
    let newer = markEnds(session, slot)
    forEachTaken(session, slot) { record in
        if UInt64(record.pointee.info.si_signo) >= firstQueued { freePlace() }
        queueAgain(session, slot, &record.pointee.info, shared: record.pointee.shared != 0)
    }
    var signal = firstQueued
    while signal < UInt64(CKPT_SIGCKPT) {
        if (newer.shared | newer.own) & bit(signal) != 0 { putBehind(session, slot, signal, shared: newer.shared & bit(signal) != 0) }
        signal += 1
    }
}

private func forEachTaken(_ session: UnsafeMutablePointer<ckpt_session>, _ slot: UnsafeMutablePointer<ckpt_task>, _ body: (UnsafeMutablePointer<ckpt_pending>) -> Void) {
    var at = slot.pointee.pending_offset, left = slot.pointee.pending_count
    while left > 0 {
        let record = ckpt_arena(session, at).assumingMemoryBound(to: ckpt_pending.self)
        body(record)
        if record.pointee.pad == 0 { break }
        at = UInt64(record.pointee.pad - 1) * 8
        left -= 1
    }
}

/// The signals of which some have come since; behind those goes a mark.  Where there is no room for one, the newer ones stay where they are.
private struct Newer { var shared: UInt64 = 0, own: UInt64 = 0 }

private func markEnds(_ session: UnsafeMutablePointer<ckpt_session>, _ slot: UnsafeMutablePointer<ckpt_task>) -> Newer {
    let pending = pendingSignals()
    var newer = Newer()
    forEachTaken(session, slot) { record in
        let signal = UInt64(record.pointee.info.si_signo), isShared = record.pointee.shared != 0
        guard signal >= firstQueued, pending & bit(signal) != 0, (newer.shared | newer.own) & bit(signal) == 0 else { return }
        var mark = own(slot, Int32(signal), slot)
        if queue(slot, &mark, shared: isShared) != 0 { return }
        if isShared { newer.shared |= bit(signal) } else { newer.own |= bit(signal) }
    }
    return newer
}

/// Each that is before its mark goes to the end.  More than a queue has room for are not before it.
private func putBehind(_ session: UnsafeMutablePointer<ckpt_session>, _ slot: UnsafeMutablePointer<ckpt_task>, _ signal: UInt64, shared: Bool) {
    let mark = own(slot, Int32(signal), slot), most = 1 << 24
    var info = ckpt_siginfo(), moved = 0
    while moved < most && take(signal, &info) && !isMark(info, mark) {
        queueAgain(session, slot, &info, shared: shared)
        moved += 1
    }
}
