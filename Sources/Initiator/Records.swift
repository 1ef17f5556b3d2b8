// Observations and slots become the records of the statefile.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

extension Operation {
    func fillTables(_ tree: ObservedTree, _ content: SystemContent, _ plan: MemoryPlan, _ chains: [Int: ChainHeads]) throws(SystemError) {
        let tables = content.tables
        for (i, p) in tree.processes.enumerated() { tables.processes.append(try processRecord(p, i, tree, content, plan, chains[p.slot] ?? ChainHeads())) }
        tables.tree = treeRecord(tree, tables)
        namespaceRecords(tree, tables)
    }

    private func treeRecord(_ tree: ObservedTree, _ tables: Tables) -> ckpt_tree {
        var t = ckpt_tree()
        let root = tree.processes[tree.root]
        t.root = UInt32(tree.root); t.page_size = 4096; t.ipc_unseen = segment.pointer.pointee.ipc_unseen
        t.realtime = Kernel.clock(0)
        if root.slot >= 0 { t.monotonic = segment.process(root.slot).pointee.monotonic; t.boottime = segment.process(root.slot).pointee.boottime }
        if let own = root.namespaces[CKPT_NAMESPACE_TIME.rawValue] {
            t.monotonic = t.monotonic &- UInt64(bitPattern: tree.namespaces[own].ahead.monotonic); t.boottime = t.boottime &- UInt64(bitPattern: tree.namespaces[own].ahead.boottime)
        }
        t.name = tables.text(segment.name); t.host = tables.text(Kernel.hostName); t.kernel = tables.text(Kernel.release); t.command = tables.text(segment.command)
        t.xcr0 = ckpt_xgetbv(); t.xsave_size = ckpt_xsave_size()
        withUnsafeMutablePointer(to: &t) { ckpt_cpu_words(ckpt_tree_cpuid($0)) }
        if let v = OwnVdso.bytes { t.vdso_crc = v.withUnsafeBytes { ckpt_crc32c_hw(0, $0.baseAddress!, v.count) }; t.vdso_size = UInt32(v.count) }
        withUnsafeMutableBytes(of: &t.session_id) { b in for (i, c) in segment.id.utf8.prefix(23).enumerated() { b[i] = c } }
        t.outer_sid = tree.outerSession; t.outer_pgid = tree.outerGroup
        return t
    }

    private func processRecord(_ p: ObservedProcess, _ index: Int, _ tree: ObservedTree, _ content: SystemContent, _ plan: MemoryPlan, _ chains: ChainHeads) throws(SystemError) -> ckpt_process_record {
        let tables = content.tables, key = ObjectIdentifier(p)
        var r = ckpt_process_record()
        r.pid = p.ownPid; r.pgid = p.group; r.sid = p.terminalSession
        r.parent = p.parent.map { UInt32($0) } ?? ckpt_no_index()
        r.comm = tables.text(p.stat.comm)
        r.exit_signal = p.stat.exitSignal
        r.cwd = ckpt_no_index(); r.root = ckpt_no_index(); r.exe = ckpt_no_index()
        if p.isZombie {
            r.flags = CKPT_PROCESS_ZOMBIE.rawValue
            r.exit_status = p.stat.exitCode
            takeNamespaces(p, &r, tree, tables)
            return r
        }
        let slot = segment.process(p.slot).pointee
        r.flags = (p.isStopped ? CKPT_PROCESS_STOPPED.rawValue : 0) | (p.leaderIsGone ? CKPT_PROCESS_LEADER_GONE.rawValue : 0) | (p.isOrphan ? CKPT_PROCESS_ORPHAN.rawValue : 0)
        takeNamespaces(p, &r, tree, tables)
        r.wait_code = UInt16(p.uncollected.code); r.wait_signal = UInt16(truncatingIfNeeded: p.uncollected.signal)
        r.first_pending = UInt32(tables.pending.count)
        try addTasks(p, index, &r, tables, isOthers: tree.isOthers(segment))
        (r.first_vma, r.vma_count) = pair(plan.vmaRange[key]); (r.first_fd, r.fd_count) = pair(content.fdRange[key])
        addTimers(p, index, &r, tables)
        r.runs = chains.own; r.shared_runs = chains.shared
        r.session_address = plan.sessionAddress[key] ?? 0
        r.process_slot = UInt32(p.slot)
        for m in p.mappings {
            if m.name == "[vdso]" { r.vdso_address = m.start; r.vdso_size = m.size }
            if m.name.hasPrefix("[vvar") {
                if r.vvar_size == 0 { r.vvar_address = m.start }
                r.vvar_size = m.end - r.vvar_address
            }
        }
        r.start_code = p.stat.startCode; r.end_code = p.stat.endCode; r.start_data = p.stat.startData; r.end_data = p.stat.endData
        r.start_brk = p.stat.startBrk; r.brk = slot.brk; r.start_stack = p.stat.startStack
        r.arg_start = p.stat.argStart; r.arg_end = p.stat.argEnd; r.env_start = p.stat.envStart; r.env_end = p.stat.envEnd
        r.auxv = tables.blob(p.auxv); r.auxv_size = UInt32(p.auxv.count)
        r.exe = content.exe[key] ?? ckpt_no_index(); r.cwd = content.cwd[key] ?? ckpt_no_index(); r.root = content.root[key] ?? ckpt_no_index()
        r.umask = p.status.octalUmask; r.personality = p.personality; r.oom_score_adj = p.oomScoreAdj
        takeIdentity(tables.credentials[Int(tables.tasks[Int(r.first_task)].credentials)], &r)
        r.dumpable = slot.dumpable; r.child_subreaper = slot.child_subreaper; r.keep_caps = slot.keep_caps; r.securebits = slot.securebits
        r.tsc_mode = slot.tsc_mode; r.no_new_privs = slot.no_new_privs; r.thp_disable = slot.thp_disable; r.io_flusher = slot.io_flusher
        withUnsafeMutablePointer(to: &r) { r in
            for i in 0..<16 { ckpt_record_limit(r, Int32(i)).pointee = p.limits[i] }
            for i in 0..<3 { ckpt_record_itimer(r, Int32(i)).pointee = ckpt_process_itimer(segment.process(p.slot), Int32(i)).pointee }
            for s in 1...64 { ckpt_record_action(r, Int32(s)).pointee = ckpt_process_action(segment.process(p.slot), Int32(s)).pointee }
        }
        r.cmdline = tables.text(String(name: p.commandLine.map { $0 == 0 ? 32 : $0 }))
        r.coredump_filter = p.coredumpFilter; r.autogroup_nice = autogroupNice(p, tree)
        if !p.label.isEmpty { r.label = tables.text(p.label) }
        r.protection_keys = slot.protection_keys; r.memory_merge = slot.memory_merge
        r.membarrier = slot.membarrier; r.no_exec_gain = slot.no_exec_gain; r.future_locks = slot.future_locks
        for g in p.guards { tables.guards.append(ckpt_guard_record(start: g.start, end: g.end, process: UInt32(index), pad: 0)) }
        r.terminal = tree.terminal(of: p).map { UInt32($0) + 1 } ?? 0
        return r
    }

    /// The nice value that a terminal session has as a whole (sched(7)), unless it is led from outside of the tree: that one stays where it is.
    private func autogroupNice(_ p: ObservedProcess, _ tree: ObservedTree) -> Int32 {
        if p.terminalSession == 0 || p.terminalSession == tree.outerSession { return 0 }
        if let known = tree.autogroups[p.terminalSession] { return known }
        let text = (try? Path.text("/proc/\(p.view)/autogroup")) ?? ""
        let nice = text.split(whereSeparator: \.isWhitespace).last.flatMap { Int32($0) } ?? 0
        tree.autogroups[p.terminalSession] = nice
        return nice
    }

    private func pair(_ range: (first: Int, count: Int)?) -> (UInt32, UInt32) { (UInt32(range?.first ?? 0), UInt32(range?.count ?? 0)) }

    private func addTasks(_ p: ObservedProcess, _ index: Int, _ r: inout ckpt_process_record, _ tables: Tables, isOthers: Bool) throws(SystemError) {
        r.first_task = UInt32(tables.tasks.count)
        r.task_count = UInt32(p.tasks.count)
        let firstTask = tables.tasks.count
        // The main thread first; then in the order of their slots.
        let ordered = p.tasks.sorted { ($0.tid == p.ownPid ? -1 : $0.slot) < ($1.tid == p.ownPid ? -1 : $1.slot) }
        for o in ordered {
            let s = segment.task(o.slot).pointee
            var t = ckpt_task_record()
            t.tid = o.tid; t.process = UInt32(index); t.ucontext = s.ucontext; t.resume_rip = s.resume_rip; t.resume_rsp = s.resume_rsp
            t.fs_base = s.fs_base; t.gs_base = s.gs_base; t.robust_head = s.robust_head; t.robust_length = s.robust_length; t.tid_address = s.tid_address
            t.rseq_address = s.rseq_address; t.rseq_length = s.rseq_length; t.rseq_signature = s.rseq_signature
            t.timer_slack = s.timer_slack; t.parent_death_signal = s.parent_death_signal; t.slot = UInt32(o.slot); t.is_leader = s.is_leader
            t.mce_kill = UInt64(s.mce_kill) + 1
            t.speculation = s.speculation
            t.policy = s.policy; t.policy_nodes = s.policy_nodes
            t.sched = o.sched; t.ioprio = o.ioprio
            t.credentials = credentials(o, tables, isOthers: isOthers)
            withUnsafeMutablePointer(to: &t) { t in
                for (i, w) in o.affinity.enumerated() { ckpt_record_affinity(t)[i] = w }
                let name = ckpt_record_comm(t)
                for (i, c) in o.comm.nameBytes.prefix(15).enumerated() { name[i] = CChar(bitPattern: c) }
            }
            tables.tasks.append(t)
        }
        // Signals for the process first, then each task's own.
        var pending = try ordered.map { o throws(SystemError) in p.hasTakenSignals ? try pendingSignals(o.slot) : [] }
        if let queued = p.queuedSignals, !ordered.isEmpty {
            pending[0] += queued.shared.map { ckpt_pending(info: $0, shared: 1, pad: 0) }
            for (i, o) in ordered.enumerated() { pending[i] += (queued.own[o.slot] ?? []).map { ckpt_pending(info: $0, shared: 0, pad: 0) } }
        }
        for all in pending { for q in all where q.shared != 0 { tables.pending.append(ckpt_pending_record(process: UInt32(index), task: ckpt_no_index(), info: q.info)) } }
        r.pending_count = UInt32(tables.pending.count) - r.first_pending
        for (i, all) in pending.enumerated() {
            tables.tasks[firstTask + i].first_pending = UInt32(tables.pending.count)
            for q in all where q.shared == 0 { tables.pending.append(ckpt_pending_record(process: UInt32(index), task: UInt32(firstTask + i), info: q.info)) }
            tables.tasks[firstTask + i].pending_count = UInt32(tables.pending.count) - tables.tasks[firstTask + i].first_pending
        }
    }

    private func pendingSignals(_ slot: Int) throws(SystemError) -> [ckpt_pending] {
        var result: [ckpt_pending] = []
        let t = segment.task(slot).pointee
        var at = t.pending_offset
        for _ in 0..<t.pending_count {
            // Each has its own place.
            if result.count > Int(ckpt_arena_size()) / MemoryLayout<ckpt_pending>.size { throw .damaged("more signals than there is room for") }
            let q = try segment.arena(ckpt_pending.self, at: at)[0]
            result.append(q)
            if q.pad == 0 { break }
            at = UInt64(q.pad - 1) * 8
        }
        return result
    }

    private func addTimers(_ p: ObservedProcess, _ index: Int, _ r: inout ckpt_process_record, _ tables: Tables) {
        r.first_timer = UInt32(tables.timers.count); r.timer_count = UInt32(p.timers.count)
        let queries = p.timerQueries?.copy() ?? []
        for (i, t) in p.timers.enumerated() where i < queries.count {
            tables.timers.append(ckpt_timer_record(process: UInt32(index), id: t.id, clock: t.clock, overrun: queries[i].overrun, left: queries[i].left,
                                                   value: t.value, signo: t.signal, notify: t.notify, tid: t.tid, pad: 0))
        }
    }

}

/// The vdso is the kernel's: ours is the same as theirs.
enum OwnVdso {
    static var bytes: [UInt8]? {
        guard let m = (try? ProcMapping.all(of: Kernel.processID, withFlags: false))?.first(where: { $0.name == "[vdso]" }),
              let p = UnsafeRawPointer(bitPattern: UInt(m.start)) else { return nil }
        return [UInt8](UnsafeRawBufferPointer(start: p, count: Int(m.size)))
    }
}
