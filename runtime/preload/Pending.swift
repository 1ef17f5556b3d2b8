// Runs in the SIGCKPT handler, every signal blocked.
// Queued signals have no passive reader: a task takes them off its queues into the arena and queues them to itself again.  Between the two it is parked,
// so nobody can see the empty queue; an abort in between queues them all the same.
import CkptABI
import PreloadBoot
import Freestanding

/// Takes every pending signal that is this task's to take.  One task of each process runs first: it takes its own and then the process's;
/// so what the others find afterwards is their own.  `spare.0` of the slot: the task's private set as the initiator read it in /proc.
func drainSignals(_ session: UnsafeMutablePointer<ckpt_session>, _ slot: UnsafeMutablePointer<ckpt_task>) {
    let mine = slot.pointee.spare.0, leads = slot.pointee.request & CKPT_REQUEST_DRAIN_SHARED.rawValue != 0
    var zero = ckpt_timespec(sec: 0, nsec: 0)
    var pending: UInt64 = 0
    _ = ckpt_syscall(Int(CKPT_SYS_rt_sigpending), Int(bitPattern: withUnsafeMutablePointer(to: &pending) { $0 }), 8, 0, 0, 0, 0)
    var signal: UInt64 = 0
    while signal < UInt64(CKPT_SIGCKPT) - 1 {
        signal += 1
        var set: UInt64 = 1 << (signal - 1)
        if pending & set == 0 { continue }
        var isPrivate = mine & set != 0
        let queues = signal >= 32
        while leads || isPrivate {
            // The record is claimed first: a signal in hand with no place to keep it would be lost.
            let at = ckpt_arena_claim(session, UInt64(MemoryLayout<ckpt_pending>.size))
            guard at != ~0 else { ckpt_fail(session, CKPT_ERROR_ARENA.rawValue, 0, signal); return }
            let record = ckpt_arena(session, at).assumingMemoryBound(to: ckpt_pending.self)
            record.initialize(to: ckpt_pending())
            let got = ckpt_syscall(Int(CKPT_SYS_rt_sigtimedwait), Int(bitPattern: withUnsafeMutablePointer(to: &set) { $0 }),
                                   Int(bitPattern: withUnsafeMutablePointer(to: &record.pointee.info) { $0 }),
                                   Int(bitPattern: withUnsafeMutablePointer(to: &zero) { $0 }), 8, 0, 0)
            if got <= 0 { break }
            record.pointee.shared = isPrivate ? 0 : 1
            link(session, slot, at)
            // One of a kind below the real-time signals; a real-time one in both queues is refused by the initiator.
            if isPrivate && !queues { isPrivate = false; if !leads { break } }
        }
    }
}

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
    var at = slot.pointee.pending_offset
    var left = slot.pointee.pending_count
    while left > 0 {
        let record = ckpt_arena(session, at).assumingMemoryBound(to: ckpt_pending.self)
        let info = Int(bitPattern: withUnsafeMutablePointer(to: &record.pointee.info) { $0 })
        let signal = Int(record.pointee.info.si_signo)
        let result = record.pointee.shared != 0
            ? ckpt_syscall(Int(CKPT_SYS_rt_sigqueueinfo), Int(slot.pointee.pid), signal, info, 0, 0, 0)
            : ckpt_syscall(Int(CKPT_SYS_rt_tgsigqueueinfo), Int(slot.pointee.pid), Int(slot.pointee.tid), signal, info, 0, 0)
        if result < 0 { ckpt_fail(session, CKPT_ERROR_SIGNALS.rawValue, Int32(truncatingIfNeeded: result), UInt64(signal)) }
        if record.pointee.pad == 0 { break }
        at = UInt64(record.pointee.pad - 1) * 8
        left -= 1
    }
}
