// The memory phase: every process clones a snapshot (or writes in place), and the wait until all pages are in the statefile.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

extension Operation {
    func saveMemory(_ tree: ObservedTree, _ plan: MemoryPlan, _ draft: Draft, _ barrier: Barrier, _ server: ChannelServer) throws(CheckpointFailure) {
        ckpt_store64(&segment.pointer.pointee.file_tail, plan.memoryEnd)
        ckpt_store(&segment.pointer.pointee.file_use, (draft.isInMemory && !options.direct && !takesIn(tree, draft) ? CKPT_FILE_FREE : CKPT_FILE_LOCKED).rawValue)
        segment.pointer.pointee.has_subreaper = tree.live.contains { segment.process($0.slot).pointee.child_subreaper != 0 } ? 1 : 0
        for p in tree.live {
            // With nobody to be released, memory can be written where it is; a full descriptor table has no room for the channel, a snapshot has.
            let room = p.limits[7].soft > UInt64(p.descriptors.count + 4 + (base.map { $0.files.count + 1 } ?? 0))
            // A clone would need huge pages of its own for what is written meanwhile, and is killed when there are none.
            let onHugePages = p.mappings.contains { $0.flags.contains("ht") && !$0.isShared && $0.hugeBytes > 0 }
            // A clone would be born where its children are to be: the first process of a namespace, maybe.
            let bornElsewhere = p.hasOtherChildrenPids
            let inPlace = (options.afterwards != .run || onHugePages || bornElsewhere) && room
            if bornElsewhere && !room { throw CheckpointFailure([problem(.refused, "pid \(p.pid)", "its descriptor table is full while its children are to be born in another pid namespace", remedy: "close a descriptor")]) }
            if onHugePages && !room { throw CheckpointFailure([problem(.refused, "pid \(p.pid)", "its descriptor table is full while it has private huge pages", remedy: "close a descriptor")]) }
            if onHugePages && options.afterwards == .run { report.remarks.append("pid \(p.pid): its memory was written while it waited: huge pages of hugetlbfs have no copies to spare") }
            segment.process(p.slot).pointee.writers = takesIn(tree, draft) || bornElsewhere ? 1 : writers(for: p, plan)       // a stream has one order
            segment.process(p.slot).pointee.hold = p.areMappingsProven ? 0 : 1
            segment.process(p.slot).pointee.memory_mode = (inPlace ? CKPT_MEMORY_IN_PLACE : CKPT_MEMORY_SNAPSHOT).rawValue
        }
        let slots = tree.live.map { segment.process($0.slot) }
        try barrier.run(CKPT_PHASE_MEMORY, expecting: tree.live.count, patience: max(options.patience, 60_000),
                        progress: { self.written(slots, plan) }) { self.unfinished(tree, CKPT_SNAPSHOT_DETACHED) }
        for p in tree.live where segment.process(p.slot).pointee.snapshot_clone_errno != 0 {
            let e = SystemError("clone", errno: segment.process(p.slot).pointee.snapshot_clone_errno)
            report.remarks.append("pid \(p.pid): no snapshot could be cloned (\(e.text)); its memory was written while it waited")
        }
        try proveMappings(tree)
        if options.afterwards != .run { try awaitSnapshots(tree, plan, barrier, server) }
    }

    /// As many as there are cores, shared between processes by the size of their memory.
    private func writers(for p: ObservedProcess, _ plan: MemoryPlan) -> UInt32 {
        let cores = UInt64(Machine.cores), own = plan.bytes(of: p), all = max(1, plan.expectedBytes)
        return UInt32(min(cores, max(1, (own * cores + all / 2) / all), UInt64(CKPT_MAX_WRITERS)))
    }

    private func written(_ slots: [UnsafeMutablePointer<ckpt_process>], _ plan: MemoryPlan) -> UInt64 {
        let bytes = slots.reduce(0) { $0 &+ ckpt_load64(&$1.pointee.bytes_done) &+ ckpt_load64(&$1.pointee.pages_kept) &* 4096 }
        options.onBytes(min(bytes, plan.expectedBytes), plan.expectedBytes)
        return plan.progress(bytes)
    }

    /// Where pages are not written to their place but taken in, one after the other.
    func takeIn(_ tree: ObservedTree, _ plan: MemoryPlan, _ draft: Draft) throws(CheckpointFailure) -> PageIntake? {
        guard takesIn(tree, draft) else { return nil }
        if options.direct { throw CheckpointFailure([problem(.usage, "--direct: the tree of another user does not write into root's file", remedy: "leave it out, or run ckptctl as that user")]) }
        let main = tree.processes[tree.root], frame: UInt64 = 6 * 4096
        var looked: Set<UInt64> = []
        for t in main.tasks {
            let start = segment.task(t.slot).pointee.ucontext & ~4095
            if start >= 1 << 47 { throw damaged("a signal frame at \(hex(start))") }
            looked.formUnion(stride(from: start, to: start + frame, by: 4096))
        }
        let session = UInt(bitPattern: segment.pointer)
        do throws(SystemError) {
            return try PageIntake(draft, since: sentSince, places: draft.isPacked ? nil : PagePlaces(tree, plan), most: plan.totalBytes, lookingAt: (UInt32(truncatingIfNeeded: main.slot), looked)) { error in
                // Tasks that wait for the memory phase need wait no longer.
                ckpt_fail(UnsafeMutablePointer(bitPattern: session)!, CKPT_ERROR_WRITE.rawValue, error.errno, 0)
            }
        } catch { throw unwritable(error) }
    }

    /// When everybody has sent everything.
    func packed(_ intake: PageIntake?, _ tree: ObservedTree, _ draft: Draft) throws(CheckpointFailure) -> PackedPages? {
        guard let intake else { return nil }
        do throws(SystemError) {
            return try intake.finish(try (draft.isPacked ? preCopy : nil).map { p throws(SystemError) in try packedEarly(tree, p, draft) } ?? ([:], 0))
        } catch { throw unwritable(error) }
    }

    func unwritable(_ e: SystemError) -> CheckpointFailure {
        let brokenPipe: Int32 = 32
        if e.errno == SystemError.protocolError { return damaged(e.call) }
        if e.errno == brokenPipe { return CheckpointFailure([problem(.system, "stdout", "whoever read the statefile has gone before its end", remedy: "see what the reader says, and try again")]) }
        return CheckpointFailure([problem(.system, options.output == "-" ? "stdout" : options.output, "\(e.call): \(e.text)", remedy: "free space, or choose another place with -o")])
    }

    private func unfinished(_ tree: ObservedTree, _ wanted: ckpt_snapshot_state) -> String {
        tree.live.filter { ckpt_load(&segment.process($0.slot).pointee.snapshot_state) < wanted.rawValue }.prefix(5).map { "pid \($0.pid)" }.joined(separator: ", ")
    }

    /// Ends when every writer has said that it is done.  One that died is named.
    func awaitSnapshots(_ tree: ObservedTree, _ plan: MemoryPlan, _ barrier: Barrier, _ server: ChannelServer) throws(CheckpointFailure) {
        let slots = tree.live.map { segment.process($0.slot) }
        var last: UInt64 = 0, deadline = Kernel.clock(1) + 60_000_000_000, allHold = true
        defer { for p in tree.live where !p.areMappingsProven { letSnapshotGo(p) } }        // one that failed
        while true {
            let done = ckpt_load(&segment.pointer.pointee.snapshots_done)
            if barrier.failed { throw CheckpointFailure([Problem(segment.pointer.pointee.failure, session: segment.name)]) }
            for p in tree.live where ckpt_load(&segment.process(p.slot).pointee.snapshot_state) == CKPT_SNAPSHOT_DONE.rawValue { allHold = isSnapshotProven(p) && allHold }
            if Int(done) >= slots.count { if allHold { return }; throw CheckpointFailure.mappingsChanged }
            let steps = written(slots, plan)
            let now = Kernel.clock(1)
            if steps != last { last = steps; deadline = now + 60_000_000_000 }
            let dead = tree.live.filter { isDead($0) }
            if let p = dead.first { throw CheckpointFailure([problem(.temporary, "pid \(p.pid)", "the snapshot that wrote its memory was killed", remedy: "free memory and try again")]) }
            if now > deadline { throw CheckpointFailure([problem(.temporary, unfinished(tree, CKPT_SNAPSHOT_DONE) + ": its memory is not being written any more", remedy: "try again")]) }
            Kernel.wait(&segment.pointer.pointee.snapshots_done, whileEqual: done, milliseconds: 50)
        }
    }

    /// A snapshot that is gone, or a zombie, before it said that it had finished.
    private func isDead(_ p: ObservedProcess) -> Bool {
        let slot = segment.process(p.slot)
        guard slot.pointee.snapshot_pid != 0, ckpt_load(&slot.pointee.snapshot_state) < CKPT_SNAPSHOT_DONE.rawValue else { return false }
        guard let outer = snapshotPid(p), let stat = ProcStat(pid: outer) else { return slot.pointee.snapshot_pid != 0 && p.slotPid == p.pid && ProcStat(pid: slot.pointee.snapshot_pid) == nil && ckpt_load(&slot.pointee.snapshot_state) < CKPT_SNAPSHOT_DONE.rawValue }
        return stat.isZombie && ckpt_load(&slot.pointee.snapshot_state) < CKPT_SNAPSHOT_DONE.rawValue
    }

    /// The snapshot's pid as we see it: in our own pid namespace it is the same, else a child of the process says so in NSpid.
    func snapshotPid(_ p: ObservedProcess) -> Int32? {
        let own = segment.process(p.slot).pointee.snapshot_pid
        if own == 0 { return nil }
        if p.pid == p.slotPid { return own }
        guard let children = try? Path.text("/proc/\(p.pid)/task/\(p.pid)/children") else { return nil }
        return children.split(separator: " ").compactMap { Int32($0) }.first { ProcStatus(pid: $0)?.namespacePids.last == own }
    }

    /// Of a checkpoint that failed after the release: nobody wants what they write.
    func endSnapshots(_ tree: ObservedTree, _ barrier: Barrier) {
        for p in tree.live { if let snapshot = snapshotPid(p), snapshot != p.pid { Kernel.kill(pid: snapshot, 9) { p.stillLives && ProcStat(pid: snapshot).map { $0.parent == p.pid && !$0.isZombie } ?? false } } }
        reapSnapshots(tree, barrier)
    }

    /// A finished snapshot is a zombie child of its process, which takes it away in its handler: one more SIGCKPT, outside of any phase.
    func reapSnapshots(_ tree: ObservedTree, _ barrier: Barrier) {
        barrier.idle()
        var asked: [Int32] = []
        let end = Kernel.clock(1) + 1_000_000_000
        for p in tree.live where segment.process(p.slot).pointee.snapshot_pid != 0 {
            let snapshot = snapshotPid(p)
            while Kernel.clock(1) < end, let snapshot, let s = ProcStat(pid: snapshot), !s.isZombie { Kernel.sleep(microseconds: 100) }
            guard p.stillLives, let status = ProcStatus(pid: p.pid), status.hex("SigCgt") & ckpt_sigckpt_bit() != 0 else { continue }
            if p.isStopped { continue }         // it reaps at the next checkpoint or when it runs and is called again
            let tid = Proc.threads(of: p.pid).first { ProcStat(pid: p.pid, tid: $0).map { !$0.isDead } ?? false } ?? p.pid
            if let snapshot { asked.append(snapshot) }
            try? Kernel.signal(pid: p.pid, tid: tid, CKPT_SIGCKPT.int32)
        }
        // Whoever sees the checkpoint end finds no snapshot any more.
        let deadline = Kernel.clock(1) + 1_000_000_000
        while Kernel.clock(1) < deadline, asked.contains(where: { ProcStat(pid: $0)?.isZombie ?? false }) { Kernel.sleep(microseconds: 100) }
    }
}
