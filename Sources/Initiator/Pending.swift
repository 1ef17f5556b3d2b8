// Pending signals and POSIX timers: what only the tasks themselves can read, they are asked for here.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

extension Operation {
    /// Pending signals and timers are of one instant: a timer that runs out between the two looks would be lost, or would run out twice.  So queues are
    /// emptied, timers are read, and when a queue has something again, both once more; then everybody queues what it took.
    func recordSignals(_ tree: ObservedTree, _ barrier: Barrier) throws(CheckpointFailure) {
        guard tree.refusals.problems.isEmpty else { return try recordTimers(tree, barrier) }
        // Who took terminals or messages meanwhile may have raised signals for single tasks; else nobody in the tree did since each was looked at.
        try drain(tree, tree.live, barrier, again: !tree.terminals.isEmpty || !tree.queues.isEmpty)
        let timed = tree.live.filter { hasTimers($0) }
        try recordTimers(tree, barrier)
        let attempts = 8            // a timer that runs out all the time may have done so once more or less
        for _ in 0..<attempts {
            guard try drain(tree, timed, barrier, again: true) else { break }
            try barrier.run(CKPT_PHASE_RECORD, expecting: tree.live.count, patience: options.patience) { "a leader" }
        }
        let asked = asked(tree) { $0 != 0 }
        if asked == 0 { return }
        phase("requeue")
        try barrier.run(CKPT_PHASE_REQUEUE, expecting: asked, patience: options.patience) { "a task with pending signals" }
    }

    private func hasTimers(_ p: ObservedProcess) -> Bool {
        let slot = segment.process(p.slot)
        return !p.timers.isEmpty || (0..<Int32(3)).contains { i in let t = ckpt_process_itimer(slot, i).pointee; return t.value_sec != 0 || t.value_usec != 0 }
    }

    /// Where they can't be seen, leaders take theirs and the process's, then the others theirs; only in processes that have something pending.
    /// false: nothing is, or nothing has changed.
    @discardableResult private func drain(_ tree: ObservedTree, _ processes: [ObservedProcess], _ barrier: Barrier, again: Bool) throws(CheckpointFailure) -> Bool {
        var found = false, areTaken = false
        for p in processes where lookAtPending(p, again) {
            if !p.hasTakenSignals, let now = QueuedSignals(p) {
                if p.queuedSignals != now { p.queuedSignals = now; found = true }
                continue
            }
            p.queuedSignals = nil; p.hasTakenSignals = true
            found = true; areTaken = true
            try refuseDoubleQueues(p)
            try refuseFullQueues(p)
            let first = p.tasks.first { $0.tid == p.ownPid }?.slot ?? Int(segment.process(p.slot).pointee.leader_task)
            for t in p.tasks where t.slot == first || t.pendingMask != 0 {
                segment.task(t.slot).pointee.spare.0 = t.pendingMask
                segment.task(t.slot).pointee.request = CKPT_REQUEST_DRAIN.rawValue | (t.slot == first ? CKPT_REQUEST_DRAIN_SHARED.rawValue : 0)
            }
        }
        if !areTaken { return found }
        try makeRoomForSignals(tree)
        let leaders = asked(tree) { $0 & CKPT_REQUEST_DRAIN_SHARED.rawValue != 0 }, others = asked(tree) { $0 == CKPT_REQUEST_DRAIN.rawValue }
        try barrier.run(CKPT_PHASE_DRAIN, expecting: leaders, patience: options.patience) { "a leader with pending signals" }
        try barrier.run(CKPT_PHASE_DRAIN_OTHERS, expecting: others, patience: options.patience) { "a task with pending signals" }
        return true
    }

    /// A place for each that may be queued, and for one of each kind that is not; and some that come meanwhile.  The tasks fill it: there must be blocks behind it.
    private func makeRoomForSignals(_ tree: ObservedTree) throws(CheckpointFailure) {
        let kinds = 64, come = 4096
        var queued: [UInt32: Int] = [:], tasks = 0
        for p in tree.live {
            let asked = p.tasks.count { segment.task($0.slot).pointee.request & CKPT_REQUEST_DRAIN.rawValue != 0 }
            guard asked > 0, let status = ProcStatus(pid: p.pid) else { continue }
            tasks += asked
            // It counts all of its user.
            let user = UInt32(status["Uid"]?.split(separator: "\t").first ?? "") ?? 0
            queued[user] = max(queued[user] ?? 0, signalsQueued(status)?.queued ?? 0)
        }
        guard let first = tree.live.first else { return }
        let count = queued.values.reduce(0, +) + tasks * kinds + come
        let block = try room(first) { () throws(SystemError) in try segment.claim(roomFor: ckpt_pending.self, count) }
        ckpt_store64(&segment.pointer.pointee.signals_end, block.offset + UInt64(count * MemoryLayout<ckpt_pending>.stride))
        ckpt_store64(&segment.pointer.pointee.signals_next, block.offset)
    }

    /// proc_pid_status(5): SigQ, of the process's user, and how many he may have.
    private func signalsQueued(_ status: ProcStatus) -> (queued: Int, limit: Int)? {
        let numbers = (status["SigQ"] ?? "").split(separator: "/").compactMap { Int($0) }
        return numbers.count == 2 ? (numbers[0], numbers[1]) : nil
    }

    /// How many tasks have such a request.
    private func asked(_ tree: ObservedTree, _ isMeant: (UInt32) -> Bool) -> Int {
        tree.live.reduce(0) { n, p in n + p.tasks.count { isMeant(segment.task($0.slot).pointee.request) } }
    }

    private func lookAtPending(_ p: ObservedProcess, _ again: Bool) -> Bool {
        for i in p.tasks.indices {
            let status = again ? ProcStatus(pid: p.pid, tid: p.tasks[i].view) : p.tasks[i].status
            p.tasks[i].pendingMask = (status?.hex("SigPnd") ?? 0) & ~ckpt_sigckpt_bit()
        }
        p.sharedPendingMask = (p.tasks.first.flatMap { ProcStatus(pid: p.pid, tid: $0.view) }?.hex("ShdPnd") ?? 0) & ~ckpt_sigckpt_bit()
        return p.sharedPendingMask != 0 || p.tasks.contains { $0.pendingMask != 0 }
    }

    private func refuseDoubleQueues(_ p: ObservedProcess) throws(CheckpointFailure) {
        let refusals = Refusals(session: segment.name), realTime: UInt64 = ~0x7fff_ffff
        for t in p.tasks where t.pendingMask & p.sharedPendingMask & realTime != 0 {
            refusals.add(pid: p.pid, "tid \(t.tid): the same real-time signal is queued for the task and for the process", "try again when it has taken them")
        }
        try refusals.check()
    }

    /// A timer's signal stays the timer's when it is taken, and is queued again as another one: nothing is taken that would have no room any more.
    private func refuseFullQueues(_ p: ObservedProcess) throws(CheckpointFailure) {
        if p.timers.isEmpty { return }
        guard let queue = ProcStatus(pid: p.pid).flatMap(signalsQueued), queue.limit - queue.queued < p.timers.count else { return }
        throw CheckpointFailure([problem(.temporary, "pid \(p.pid)", "its user has \(queue.queued) signals queued of \(queue.limit) that are permitted", remedy: "raise the limit on pending signals (ulimit -i), or try again")])
    }

    /// What the leaders look up for us: the time left of POSIX timers, who gets the signals of descriptors, what their children have to tell.
    func recordTimers(_ tree: ObservedTree, _ barrier: Barrier) throws(CheckpointFailure) {
        var asked: [(process: ObservedProcess, owners: ArenaArray<ckpt_owner_query>, descriptors: [Int32], policies: ArenaArray<ckpt_policy_query>, addresses: [UInt64], children: AskedChildren)] = []
        for p in tree.live {
            let slot = segment.process(p.slot)
            let timers = try claim(p, p.timers.map { ckpt_timer_query(id: $0.id, overrun: 0, left: ckpt_itimerspec()) })
            slot.pointee.timers_offset = timers.offset
            slot.pointee.timers_count = UInt32(timers.count)
            p.timerQueries = timers
            let descriptors = p.descriptors.filter { $0.flags & SystemContent.pathOnly == 0 }
            let owners = try claim(p, descriptors.map { ckpt_owner_query(fd: $0.number, type: 0, pid: 0, signal: 0, is_socket: $0.isSocket ? 1 : 0, peer_pid: 0, peer_uid: 0, peer_gid: 0) })
            slot.pointee.owners_offset = owners.offset
            slot.pointee.owners_count = UInt64(owners.count)
            let addresses = p.mappings.filter { !$0.name.hasPrefix("[v") }.map(\.start)
            let policies = try claim(p, addresses.map { ckpt_policy_query(address: $0, nodes: 0, mode: 0, error: 0) })
            slot.pointee.policies_offset = policies.offset
            slot.pointee.policies_count = UInt64(policies.count)
            asked.append((p, owners, descriptors.map(\.number), policies, addresses, try askForChildren(p, tree)))
        }
        try barrier.run(CKPT_PHASE_RECORD, expecting: tree.live.count, patience: options.patience) { "a leader" }
        for (p, owners, descriptors, policies, addresses, children) in asked {
            for (fd, owner) in zip(descriptors, owners.copy()) {
                if owner.pid != 0 || owner.signal != 0 { p.owners[fd] = owner }
                if owner.is_socket != 0 { p.peers[fd] = owner }
            }
            for (address, policy) in zip(addresses, policies.copy()) where policy.mode != 0 || policy.error != 0 { p.policies[address] = policy }
            children.read()
        }
    }

    /// Copies an array into the arena.
    func claim<T>(_ p: ObservedProcess, _ array: [T]) throws(CheckpointFailure) -> ArenaArray<T> { try room(p) { () throws(SystemError) in try segment.claim(array) } }
    /// Bytes that a leader fills.
    func room(_ p: ObservedProcess, _ bytes: Int) throws(CheckpointFailure) -> ArenaArray<UInt8> { try room(p) { () throws(SystemError) in try segment.claim(zeroed: UInt8.self, max(bytes, 8)) } }
    func room<T>(_ p: ObservedProcess, _ claim: () throws(SystemError) -> ArenaArray<T>?) throws(CheckpointFailure) -> ArenaArray<T> {
        let place: ArenaArray<T>?
        do throws(SystemError) { place = try claim() } catch {
            throw CheckpointFailure([problem(.system, segment.path, error.text, remedy: "free memory, or set CKPT_DIR to a folder with room before ckrun")])
        }
        guard let place else { throw noRoom(p) }
        return place
    }
    func noRoom(_ p: ObservedProcess) -> CheckpointFailure {
        CheckpointFailure([problem(.refused, "pid \(p.pid)", "timers, descriptors, mappings, unread terminals, queued messages or signals of more than the \(ckpt_arena_size() >> 20) MiB that a session has for them", remedy: "start parts of it as sessions of their own, or let it read what is unread")])
    }
    /// What a task has left in the segment can't be.
    func damaged(_ what: String) -> CheckpointFailure {
        CheckpointFailure([problem(.refused, "its shared memory says what the runtime does not write there: \(what)", remedy: "end the program of its user that writes there, and try again")])
    }
}
