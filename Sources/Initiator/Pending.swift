// Pending signals and POSIX timers: what only the tasks themselves can read, they are asked for here.
import CkptABI
import CkptReport
import CkptSession

extension Operation {
    /// Three short phases, only for processes that have something pending: leaders take theirs and the process's, the others theirs, everybody queues it again.
    func drainPending(_ tree: ObservedTree, _ barrier: Barrier) throws(CheckpointFailure) {
        var leaders = 0, others = 0
        for p in tree.live where p.sharedPendingMask != 0 || p.tasks.contains(where: { $0.pendingMask != 0 }) {
            let leader = Int(segment.process(p.slot).pointee.leader_task)
            for t in p.tasks where t.slot == leader || t.pendingMask != 0 {
                segment.task(t.slot).pointee.spare.0 = t.pendingMask
                segment.task(t.slot).pointee.request = CKPT_REQUEST_DRAIN.rawValue
                if t.slot == leader { leaders += 1 } else { others += 1 }
            }
        }
        let patience = options.patience
        try barrier.run(CKPT_PHASE_DRAIN, expecting: leaders, patience: patience) { "a leader with pending signals" }
        try barrier.run(CKPT_PHASE_DRAIN_OTHERS, expecting: others, patience: patience) { "a task with pending signals" }
        try barrier.run(CKPT_PHASE_REQUEUE, expecting: leaders + others, patience: patience) { "a task with pending signals" }
    }

    func recordTimers(_ tree: ObservedTree, _ barrier: Barrier) throws(CheckpointFailure) {
        var any = false
        for p in tree.live where !p.timers.isEmpty {
            any = true
            let size = UInt64(MemoryLayout<ckpt_timer_query>.size)
            let at = ckpt_arena_claim(segment.pointer, size * UInt64(p.timers.count))
            guard at != ~0 else { throw CheckpointFailure([problem(.refused, "pid \(p.pid)", "more POSIX timers than the session's arena holds")]) }
            let queries = ckpt_arena(segment.pointer, at).assumingMemoryBound(to: ckpt_timer_query.self)
            for (i, t) in p.timers.enumerated() { queries[i] = ckpt_timer_query(id: t.id, overrun: 0, left: ckpt_itimerspec()) }
            segment.process(p.slot).pointee.timers_offset = at
            segment.process(p.slot).pointee.timers_count = UInt32(p.timers.count)
        }
        if any { try barrier.run(CKPT_PHASE_RECORD, expecting: tree.live.count, patience: options.patience) { "a leader" } }
    }
}
