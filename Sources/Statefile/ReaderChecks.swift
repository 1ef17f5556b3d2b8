// Every index and offset in the tables is checked once, when the file is opened: everything after may follow them.
import CkptABI
import CkptReport

extension Statefile {
    func checkTables() throws(Problem) {
        guard text.first == 0, text.last == 0 else { throw bad("table BYTES", at: text.fileOffset, "does not begin and end with a NUL") }
        guard Int(tree.root) < processes.count else { throw bad("TREE", at: nil, "its main process \(tree.root) is not in the table") }
        guard tree.page_size == UInt32(CKPT_PAGE) else { throw bad("TREE", at: nil, "pages of \(tree.page_size) bytes") }
        for offset in [tree.name, tree.host, tree.kernel, tree.command] { try checkText(offset, "TREE", nil) }
        for i in processes.indices { try checkProcess(i) }
        try checkParents()
        for i in tasks.indices { try checkTask(i) }
        for i in vmas.indices { try checkVMA(i) }
        for i in objects.indices { try checkObject(i) }
        try checkDescriptors()
        for i in pending.indices {
            let p = pending[i]
            try check(index(p.process, processes) && (p.task == ckpt_no_index() || index(p.task, tasks)), "PENDING \(i)", pending.offset(of: i), "an index is out of range")
        }
        try checkSockets()
        try checkTerminals()
        try checkSaved()
        try check(bases.count <= Int(CKPT_MAX_BASES), "BASE", bases.fileOffset, "\(bases.count) statefiles to refer to")
        for i in bases.indices { try checkText(bases[i].path, "BASE \(i)", bases.offset(of: i)) }
        try checkEvents()
        try checkIPC()
        try checkRings()
        for i in namespaces.indices {
            try checkText(namespaces[i].host, "NAMESPACE \(i)", namespaces.offset(of: i)); try checkText(namespaces[i].domain, "NAMESPACE \(i)", namespaces.offset(of: i))
        }
        for i in mounts.indices {
            try check(index(mounts[i].namespaces, namespaces), "MOUNT \(i)", mounts.offset(of: i), "its namespace is out of range")
            for text in [mounts[i].source, mounts[i].target, mounts[i].options, mounts[i].place, mounts[i].root, mounts[i].type, mounts[i].line] { try checkText(text, "MOUNT \(i)", mounts.offset(of: i)) }
        }
        for i in numbers.indices { try check(index(numbers[i].namespaces, namespaces), "NUMBER \(i)", numbers.offset(of: i), "its namespace is out of range") }
        for i in entries.indices {
            let e = entries[i]
            try check(index(e.mount, mounts) && Int(e.link) <= i && contains(e.content, e.size), "ENTRY \(i)", entries.offset(of: i), "its mount or contents are out of range")
            for text in [e.path, e.target] { try checkText(text, "ENTRY \(i)", entries.offset(of: i)) }
        }
        for i in idRanges.indices { try check(index(idRanges[i].namespaces, namespaces), "ID_RANGE \(i)", idRanges.offset(of: i), "its namespace is out of range") }
        for i in networkSteps.indices {
            try check(index(networkSteps[i].namespaces, namespaces), "NETWORK \(i)", networkSteps.offset(of: i), "its namespace is out of range")
            try checkText(networkSteps[i].what, "NETWORK \(i)", networkSteps.offset(of: i))
        }
        for i in settings.indices {
            try check(index(settings[i].namespaces, namespaces), "SETTING \(i)", settings.offset(of: i), "its namespace is out of range")
            for text in [settings[i].path, settings[i].value] { try checkText(text, "SETTING \(i)", settings.offset(of: i)) }
        }
        for i in credentials.indices { try check(slice(credentials[i].first_group, credentials[i].group_count, groups), "CREDENTIALS \(i)", credentials.offset(of: i), "its groups are out of range") }
        for i in guards.indices { try check(index(guards[i].process, processes) && guards[i].start < guards[i].end, "GUARD \(i)", guards.offset(of: i), "its process or range") }
        for i in locks.indices { try check(locks[i].process == ckpt_no_index() ? locks[i].fd >= 0 && Int(locks[i].fd) < descriptions.count : index(locks[i].process, processes), "LOCK \(i)", locks.offset(of: i), "its process is out of range") }
        for i in timers.indices { try check(index(timers[i].process, processes), "TIMER \(i)", timers.offset(of: i), "its process is out of range") }
    }

    private func check(_ condition: Bool, _ record: @autoclosure () -> String, _ offset: UInt64?, _ cause: @autoclosure () -> String) throws(Problem) {
        if !condition { throw bad(record(), at: offset, cause()) }
    }
    private func index(_ i: UInt32, _ table: Table<some Any>) -> Bool { Int(i) < table.count }
    private func slice(_ first: UInt32, _ count: UInt32, _ table: Table<some Any>) -> Bool { UInt64(first) + UInt64(count) <= UInt64(table.count) }
    private func contains(_ offset: UInt64, _ count: UInt64) -> Bool {
        let end = offset.addingReportingOverflow(count)
        return !end.overflow && end.partialValue <= superblock.file_size
    }
    // The table ends with a NUL, so any offset inside begins a text that ends.
    private func checkText(_ offset: UInt32, _ record: String, _ at: UInt64?) throws(Problem) {
        try check(Int(offset) < text.count, record, at, "a text lies outside of the table BYTES")
    }

    private func checkProcess(_ i: Int) throws(Problem) {
        let p = processes[i], name = "PROCESS \(i)", at = processes.offset(of: i)
        try check(p.parent == ckpt_no_index() || index(p.parent, processes), name, at, "its parent is out of range")
        try check(slice(p.first_task, p.task_count, tasks), name, at, "its tasks are out of range")
        try check(slice(p.first_vma, p.vma_count, vmas), name, at, "its VMAs are out of range")
        try check(slice(p.first_fd, p.fd_count, descriptors), name, at, "its descriptors are out of range")
        try check(slice(p.first_pending, p.pending_count, pending), name, at, "its pending signals are out of range")
        try check(slice(p.first_timer, p.timer_count, timers), name, at, "its timers are out of range")
        try check(slice(p.first_group, p.group_count, groups), name, at, "its groups are out of range")
        try check(UInt64(p.auxv) + UInt64(p.auxv_size) <= UInt64(text.count), name, at, "its auxiliary vector lies outside of the table BYTES")
        try checkText(p.comm, name, at)
        try checkText(p.cmdline, name, at)
        try checkText(p.label, name, at)
        try checkText(p.cgroup, name, at)
        try check([p.uts, p.ipc, p.net, p.mounts, p.pids, p.cgroups, p.times, p.children_times, p.users].allSatisfy { Int($0) <= namespaces.count }, name, at, "its namespaces are out of range")
        try check(contains(p.runs, 0) && contains(p.shared_runs, 0), name, at, "its memory lies outside of the file")
        try check(p.terminal == 0 || index(p.terminal - 1, terminals), name, at, "its controlling terminal is out of range")
        if p.flags & CKPT_PROCESS_ZOMBIE.rawValue != 0 { return }
        try check(p.task_count > 0, name, at, "it has no task")
        try check(index(p.exe, objects) && index(p.cwd, objects), name, at, "its executable or working directory is out of range")
        try check(p.root == ckpt_no_index() || index(p.root, objects), name, at, "its root directory is out of range")
        for t in Int(p.first_task)..<Int(p.first_task + p.task_count) {
            try check(Int(tasks[t].process) == i, "TASK \(t)", tasks.offset(of: t), "it belongs to another process than \(i)")
        }
        var end: UInt64 = 0
        for v in Int(p.first_vma)..<Int(p.first_vma + p.vma_count) {
            try check(Int(vmas[v].process) == i, "VMA \(v)", vmas.offset(of: v), "it belongs to another process than \(i)")
            try check(vmas[v].start >= end, "VMA \(v)", vmas.offset(of: v), "it overlaps the one before or is out of order")
            end = vmas[v].end
        }
    }

    /// Following parents must come to an end.
    private func checkParents() throws(Problem) {
        var ends = [Bool](repeating: false, count: processes.count)
        for i in processes.indices {
            var path: [Int] = [], at = i
            while !ends[at] {
                try check(path.count <= processes.count, "PROCESS \(i)", processes.offset(of: i), "it is its own ancestor")
                path.append(at)
                let parent = processes[at].parent
                if parent == ckpt_no_index() { break }
                at = Int(parent)
            }
            for p in path { ends[p] = true }
        }
    }

    private func checkTask(_ i: Int) throws(Problem) {
        let t = tasks[i], at = tasks.offset(of: i)
        try check(index(t.process, processes), "TASK \(i)", at, "its process is out of range")
        try check(slice(t.first_pending, t.pending_count, pending), "TASK \(i)", at, "its pending signals are out of range")
        try check(t.tid > 0, "TASK \(i)", at, "its tid is \(t.tid)")
        try check(index(t.credentials, credentials), "TASK \(i)", at, "its credentials are out of range")
    }

    private func checkVMA(_ i: Int) throws(Problem) {
        let v = vmas[i], name = "VMA \(i)", at = vmas.offset(of: i)
        try check(v.start < v.end && v.start % 4096 == 0 && v.end % 4096 == 0 && v.end <= 1 << 47, name, at, "no sensible range of addresses")
        try check(index(v.process, processes), name, at, "its process is out of range")
        try check(v.kind <= CKPT_VMA_AIO.rawValue || v.kind == CKPT_VMA_RING.rawValue, name, at, "unknown kind \(v.kind)")
        let needsObject = [CKPT_VMA_FILE, CKPT_VMA_SHARED_FILE, CKPT_VMA_SHARED_ANONYMOUS].contains { $0.rawValue == v.kind }
        try check(index(v.object, objects) || (!needsObject && v.object == ckpt_no_index()), name, at, "its object is out of range")
        try check(v.data_offset == 0 || (isPacked && v.data_offset == UInt64(CKPT_DATA_PACKED)) || (v.data_offset % 4096 == 0 && contains(v.data_offset, v.end - v.start)), name, at, "its memory lies outside of the file")
        try checkText(v.name, name, at)
    }

    private func checkObject(_ i: Int) throws(Problem) {
        let o = objects[i], name = "OBJECT \(i)", at = objects.offset(of: i)
        try check(o.kind >= CKPT_OBJECT_REGULAR.rawValue && o.kind < CKPT_OBJECT_KINDS.rawValue, name, at, "unknown kind \(o.kind)")
        try checkText(o.path, name, at)
        try check(UInt64(o.build_id) + UInt64(o.build_id_size) <= UInt64(text.count), name, at, "its build-id lies outside of the table BYTES")
        try check(contains(o.content, o.content_size), name, at, "its contents lie outside of the file")
        switch ckpt_object_kind(rawValue: o.kind) {
        case CKPT_OBJECT_SOCKET: try check(index(o.detail, sockets), name, at, "its socket is out of range")
        case CKPT_OBJECT_EVENTFD, CKPT_OBJECT_TIMERFD, CKPT_OBJECT_SIGNALFD, CKPT_OBJECT_EPOLL, CKPT_OBJECT_INOTIFY, CKPT_OBJECT_PIDFD: try check(index(o.detail, events), name, at, "its event record is out of range")
        case CKPT_OBJECT_RING: try check(index(o.detail, rings), name, at, "its ring is out of range")
        case CKPT_OBJECT_QUEUE: try check(index(o.detail, ipc) && ipc[Int(o.detail)].kind == CKPT_IPC_POSIX_QUEUE.rawValue, name, at, "its message queue is out of range")
        case CKPT_OBJECT_SEGMENT: try check(index(o.detail, ipc) && ipc[Int(o.detail)].kind == CKPT_IPC_SEGMENT.rawValue, name, at, "its System V shared memory is out of range")
        case CKPT_OBJECT_PTY_MASTER, CKPT_OBJECT_PTY_SLAVE, CKPT_OBJECT_PTY_CONTROLLING: try check(index(o.detail, terminals), name, at, "its terminal is out of range")
        default: break
        }
    }

    private func checkEvents() throws(Problem) {
        for i in events.indices {
            let e = events[i], name = "EVENT \(i)", at = events.offset(of: i)
            try check(index(e.object, objects), name, at, "its object is out of range")
            let isQueue = objects[Int(e.object)].kind == CKPT_OBJECT_INOTIFY.rawValue
            try check(!isQueue || e.flags & CKPT_EVENT_UNREAD.rawValue == 0 || contains(e.value, UInt64(e.set_flags)), name, at, "its unread events lie outside of the file")
            try check(isQueue ? slice(e.first_item, e.item_count, watches) : slice(e.first_item, e.item_count, watched), name, at, "what it watches is out of range")
        }
        for i in watched.indices {
            let w = watched[i]
            try check(index(w.target, descriptions) && (w.process == ckpt_no_index() || index(w.process, processes)), "WATCHED \(i)", watched.offset(of: i), "its target is out of range")
        }
        for i in watches.indices { try checkText(watches[i].path, "WATCH \(i)", watches.offset(of: i)) }
    }

    private func checkIPC() throws(Problem) {
        for i in ipc.indices {
            let r = ipc[i], name = "IPC \(i)", at = ipc.offset(of: i)
            try check(Int(r.place) <= namespaces.count && Int(r.pids) <= namespaces.count, name, at, "its namespaces are out of range")
            switch ckpt_ipc_kind(rawValue: r.kind) {
            case CKPT_IPC_SEGMENT: try check(index(r.object, objects), name, at, "its object is out of range")
            case CKPT_IPC_SEMAPHORES: try check(slice(r.first, r.count, semaphores) && UInt64(r.count) == r.size, name, at, "its semaphores are out of range")
            case CKPT_IPC_POSIX_QUEUE: try check(slice(r.first, r.count, queued) && index(r.object, objects), name, at, "its messages or object are out of range")
            case CKPT_IPC_QUEUE: try check(slice(r.first, r.count, queued), name, at, "its messages are out of range")
            default: throw bad(name, at: at, "unknown kind \(r.kind)")
            }
        }
        for i in adjustments.indices {
            let a = adjustments[i], isRight = index(a.process, processes) && index(a.set, ipc) && ipc[Int(a.set)].kind == CKPT_IPC_SEMAPHORES.rawValue
            try check(isRight && a.number < ipc[Int(a.set)].count, "ADJUSTMENT \(i)", adjustments.offset(of: i), "its process or semaphore is out of range")
        }
        for i in queued.indices { try check(contains(queued[i].content, queued[i].size), "QUEUED \(i)", queued.offset(of: i), "its contents lie outside of the file") }
    }

    private func checkRings() throws(Problem) {
        for i in rings.indices {
            let r = rings[i], name = "RING \(i)", at = rings.offset(of: i)
            try check(index(r.object, objects) && index(r.process, processes), name, at, "its object or process is out of range")
            try check(r.event == ckpt_no_index() || index(r.event, descriptions), name, at, "its eventfd is out of range")
            try check(contains(r.rings, UInt64(r.rings_size)) && contains(r.entries, UInt64(r.entries_size)), name, at, "its contents lie outside of the file")
        }
    }

    private func checkTerminals() throws(Problem) {
        for i in terminals.indices {
            let t = terminals[i], name = "TERMINAL \(i)", at = terminals.offset(of: i)
            try checkText(t.path, name, at)
            let fits = t.state.output_size <= CKPT_TERMINAL_OUTPUT_ROOM && t.state.input_size <= CKPT_TERMINAL_INPUT_ROOM && t.state.late_size <= CKPT_TERMINAL_LATE_ROOM
            try check(fits && contains(t.output, UInt64(t.state.output_size)) && contains(t.input, UInt64(t.state.input_size)) && contains(t.late, UInt64(t.state.late_size)),
                      name, at, "its contents lie outside of the file")
        }
    }

    private func checkSockets() throws(Problem) {
        func blob(_ offset: UInt32, _ size: UInt32) -> Bool { UInt64(offset) + UInt64(size) <= UInt64(text.count) }
        for i in sockets.indices {
            let s = sockets[i], name = "SOCKET \(i)", at = sockets.offset(of: i)
            try check(s.object == ckpt_no_index() || index(s.object, objects), name, at, "its object is out of range")
            try check(s.peer == ckpt_no_index() || index(s.peer, sockets), name, at, "its peer is out of range")
            try check(Int(max(s.network, s.peer_network, s.creator_pids)) <= namespaces.count, name, at, "its network is out of range")
            try check(s.listener == ckpt_no_index() || index(s.listener, sockets), name, at, "its listener is out of range")
            try check(s.description == ckpt_no_index() || index(s.description, descriptions), name, at, "its description is out of range")
            try checkText(s.path_folder, name, at)
            try checkText(s.path_file, name, at)
            try check(blob(s.local, s.local_size) && blob(s.remote, s.remote_size), name, at, "an address lies outside of the table BYTES")
            try check(s.description == ckpt_no_index() || index(s.description, descriptions), name, at, "its description is out of range")
            try check(blob(s.repair, s.repair_size), name, at, "what repairs it lies outside of the table BYTES")
            try check(slice(s.first_option, s.option_count, options) && slice(s.first_message, s.message_count, messages), name, at, "its options or messages are out of range")
        }
        for i in options.indices { try checkText(options[i].text, "OPTION \(i)", options.offset(of: i)) }
        for i in options.indices { try check(blob(options[i].value, options[i].size), "OPTION \(i)", options.offset(of: i), "its value lies outside of the table BYTES") }
        for i in messages.indices {
            let m = messages[i], name = "MESSAGE \(i)", at = messages.offset(of: i)
            try check(contains(m.content, m.content_size), name, at, "its contents lie outside of the file")
            try check(blob(m.source, m.source_size), name, at, "its sender lies outside of the table BYTES")
            try check(slice(m.first_carried, m.carried_count, carried), name, at, "the descriptors that it carries are out of range")
            try check(m.sender == ckpt_no_index() || index(m.sender, sockets), name, at, "its sender is out of range")
        }
        for i in carried.indices { try check(index(carried[i], descriptions), "CARRIED \(i)", carried.offset(of: i), "its description is out of range") }
    }

    private func checkSaved() throws(Problem) {
        for i in saved.indices {
            let s = saved[i], name = "SAVED \(i)", at = saved.offset(of: i)
            try check(index(s.object, objects) && objects[Int(s.object)].kind == CKPT_OBJECT_REGULAR.rawValue, name, at, "it names no regular file")
            try check(slice(s.first_extent, s.extent_count, extents), name, at, "its extents are out of range")
            var end: UInt64 = 0
            for k in Int(s.first_extent)..<Int(s.first_extent + s.extent_count) {
                let e = extents[k], next = e.offset.addingReportingOverflow(e.size)
                try check(e.offset >= end && !next.overflow && next.partialValue <= objects[Int(s.object)].size, "EXTENT \(k)", extents.offset(of: k), "it overlaps another or lies outside its file")
                try check(contains(e.content, e.size), "EXTENT \(k)", extents.offset(of: k), "its contents lie outside of the statefile")
                end = next.partialValue
            }
        }
    }

    private func checkDescriptors() throws(Problem) {
        for i in descriptions.indices {
            try check(index(descriptions[i].object, objects), "DESCRIPTION \(i)", descriptions.offset(of: i), "its object is out of range")
        }
        for i in descriptors.indices {
            let d = descriptors[i]
            try check(index(d.process, processes) && index(d.description, descriptions) && d.number >= 0, "FD \(i)", descriptors.offset(of: i), "an index is out of range")
        }
    }
}
