// Pending signals and POSIX timers: what only the tasks themselves can read, they are asked for here.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

extension Operation {
    /// Three short phases, only for processes that have something pending: leaders take theirs and the process's, the others theirs, everybody queues it again.
    func drainPending(_ tree: ObservedTree, _ barrier: Barrier) throws(CheckpointFailure) {
        var leaders = 0, others = 0
        for p in tree.live where p.sharedPendingMask != 0 || p.tasks.contains(where: { $0.pendingMask != 0 }) {
            let first = p.tasks.first { $0.tid == p.ownPid }?.slot ?? Int(segment.process(p.slot).pointee.leader_task)
            for t in p.tasks where t.slot == first || t.pendingMask != 0 {
                segment.task(t.slot).pointee.spare.0 = t.pendingMask
                segment.task(t.slot).pointee.request = CKPT_REQUEST_DRAIN.rawValue | (t.slot == first ? CKPT_REQUEST_DRAIN_SHARED.rawValue : 0)
                if t.slot == first { leaders += 1 } else { others += 1 }
            }
        }
        let patience = options.patience
        try barrier.run(CKPT_PHASE_DRAIN, expecting: leaders, patience: patience) { "a leader with pending signals" }
        try barrier.run(CKPT_PHASE_DRAIN_OTHERS, expecting: others, patience: patience) { "a task with pending signals" }
        try barrier.run(CKPT_PHASE_REQUEUE, expecting: leaders + others, patience: patience) { "a task with pending signals" }
    }

    /// What the leaders look up for us: the time left of POSIX timers, who gets the signals of descriptors, what their children have to tell.
    func recordTimers(_ tree: ObservedTree, _ barrier: Barrier) throws(CheckpointFailure) {
        for p in tree.live {
            let slot = segment.process(p.slot)
            slot.pointee.timers_offset = try claim(p, p.timers.map { ckpt_timer_query(id: $0.id, overrun: 0, left: ckpt_itimerspec()) })
            slot.pointee.timers_count = UInt32(p.timers.count)
            let asked = p.descriptors.filter { $0.flags & SystemContent.pathOnly == 0 }
            slot.pointee.owners_offset = try claim(p, asked.map { ckpt_owner_query(fd: $0.number, type: 0, pid: 0, signal: 0, is_socket: $0.isSocket ? 1 : 0, peer_pid: 0, peer_uid: 0, peer_gid: 0) })
            slot.pointee.owners_count = UInt64(asked.count)
            let mapped = p.mappings.filter { !$0.name.hasPrefix("[v") }
            slot.pointee.policies_offset = try claim(p, mapped.map { ckpt_policy_query(address: $0.start, nodes: 0, mode: 0, error: 0) })
            slot.pointee.policies_count = UInt64(mapped.count)
            try askForChildren(p, tree)
        }
        try barrier.run(CKPT_PHASE_RECORD, expecting: tree.live.count, patience: options.patience) { "a leader" }
        for p in tree.live {
            let slot = segment.process(p.slot)
            let owners = ckpt_arena(segment.pointer, slot.pointee.owners_offset).assumingMemoryBound(to: ckpt_owner_query.self)
            for i in 0..<Int(slot.pointee.owners_count) {
                if owners[i].pid != 0 || owners[i].signal != 0 { p.owners[owners[i].fd] = owners[i] }
                if owners[i].is_socket != 0 { p.peers[owners[i].fd] = owners[i] }
            }
            let policies = ckpt_arena(segment.pointer, slot.pointee.policies_offset).assumingMemoryBound(to: ckpt_policy_query.self)
            for i in 0..<Int(slot.pointee.policies_count) where policies[i].mode != 0 || policies[i].error != 0 { p.policies[policies[i].address] = policies[i] }
            readChildren(p, tree)
        }
    }

    /// Copies an array into the arena; its offset.
    func claim<T>(_ p: ObservedProcess, _ array: [T]) throws(CheckpointFailure) -> UInt64 {
        if array.isEmpty { return 0 }
        let size = UInt64(MemoryLayout<T>.stride * array.count)
        do throws(SystemError) { try segment.file.allocate(at: UInt64(CKPT_OFFSET_ARENA) + ckpt_load64(&segment.pointer.pointee.arena_used), count: size + 8) } catch {
            throw CheckpointFailure([problem(.system, segment.path, error.text, remedy: "free memory, or set CKPT_DIR to a folder with room before ckrun")])
        }
        let at = ckpt_arena_claim(segment.pointer, size)
        guard at != ~0 else { throw CheckpointFailure([problem(.refused, "pid \(p.pid)", "more timers, descriptors or mappings than the session's arena holds")]) }
        let target = ckpt_arena(segment.pointer, at).assumingMemoryBound(to: T.self)
        for (i, e) in array.enumerated() { target[i] = e }
        return at
    }
}
