// Runs in the engine before the tree exists; no allocation, no system call.
// Every index, range and text offset of the tables is checked once, here: later code may use them.  A statefile is an input like any other.
import CkptABI
import EngineBoot
import Freestanding

private func bad(_ table: StaticString, _ i: Int, _ why: StaticString) -> Never {
    refuse(.badStatefile) { l in
        l.put("statefile: "); l.put(table); l.put(" record "); l.put(decimal: UInt64(i)); l.put(": "); l.put(why); l.put("; the file is damaged, take another")
    }
}
private func within(_ first: UInt32, _ count: UInt32, _ total: Int) -> Bool { UInt64(first) + UInt64(count) <= UInt64(total) }
private func isText(_ offset: UInt32) -> Bool { UInt64(offset) < engine_table_count(CKPT_TABLE_BYTES.rawValue).pointee }
private func isData(_ offset: UInt64, _ size: UInt64, _ file: UInt64) -> Bool { offset <= file && size <= file - offset }
private let topOfMemory: UInt64 = 0x7fff_ffff_f000
private var none: UInt32 { ckpt_no_index() }

/// All tables against each other and the size of the file.
func verifyTables(fileSize: UInt64) {
    requireTable(CKPT_TABLE_TREE); requireTable(CKPT_TABLE_PROCESS); requireTable(CKPT_TABLE_TASK); requireTable(CKPT_TABLE_VMA); requireTable(CKPT_TABLE_BYTES)
    emptyTables()
    let end = engine_table_count(CKPT_TABLE_BYTES.rawValue).pointee
    guard Table<CChar>(at: engine_table(CKPT_TABLE_BYTES.rawValue).pointee, count: end)[Int(end) - 1].pointee == 0 else { bad("BYTES", 0, "its last text has no end") }
    verifyTree()
    for i in 0..<processes.count { verifyProcess(i, fileSize) }
    for i in 0..<tasks.count { verifyTask(i) }
    for i in 0..<vmas.count { verifyVma(i, fileSize) }
    for i in 0..<objects.count { verifyObject(i, fileSize) }
    for i in 0..<descriptions.count {
        let d = descriptions[i].pointee
        guard d.object < objects.count, d.standard >= -1, d.standard <= 2 else { bad("DESCRIPTION", i, "names no object") }
    }
    for i in 0..<fds.count {
        let f = fds[i].pointee
        guard f.process < processes.count, f.description < descriptions.count, f.number >= 0, f.number < 1 << 30 else { bad("FD", i, "names no description") }
    }
    for i in 0..<pendings.count where pendings[i].pointee.info.si_signo < 1 || pendings[i].pointee.info.si_signo > 64 { bad("PENDING", i, "no such signal") }
    verifySockets(fileSize)
    verifyTerminals(fileSize)
    verifySaved(fileSize)
    for i in 0..<bases.count where i >= Int(CKPT_MAX_BASES) || !isText(bases[i].pointee.path) { bad("BASE", i, "one too many, or its path") }
    verifyEvents(fileSize)
    verifyIPC(fileSize)
    verifyRings(fileSize)
    for i in 0..<namespaces.count {
        let n = namespaces[i].pointee
        guard i < Int(CKPT_MAX_NAMESPACES), n.kind >= CKPT_NAMESPACE_UTS.rawValue, n.kind <= CKPT_NAMESPACE_NET.rawValue || (n.kind == CKPT_NAMESPACE_MOUNT.rawValue && n.around <= i && (n.around == 0 || isPartMounts(Int(n.around) - 1))) || n.kind == CKPT_NAMESPACE_CGROUP.rawValue || n.kind == CKPT_NAMESPACE_TIME.rawValue || (n.kind == CKPT_NAMESPACE_PID.rawValue && n.around <= i) || (n.kind == CKPT_NAMESPACE_USER.rawValue && n.owner <= i), n.owner == 0 || isUsers(n.owner), isText(n.host), isText(n.domain) else { bad("NAMESPACE", i, "its kind or name") }
    }
    for i in 0..<mounts.count {
        let m = mounts[i].pointee
        guard m.namespaces < namespaces.count, m.kind <= CKPT_MOUNT_NEW.rawValue, isText(m.source), isText(m.target), isText(m.options), m.shows <= namespaces.count else { bad("MOUNT", i, "its namespace or paths") }
        if !isPartMounts(Int(m.namespaces)) { guard m.kind <= CKPT_MOUNT_PROC.rawValue else { bad("MOUNT", i, "its kind") }; continue }
        guard m.kind != CKPT_MOUNT_TMPFS.rawValue, m.parent == none || (m.parent < mounts.count && mounts[m.parent].pointee.namespaces == m.namespaces), m.system < mounts.count, isText(m.place), isText(m.root), isText(m.type), isText(m.line),
              bytes(m.root).pointee == 47 else { bad("MOUNT", i, "what it is mounted on, or what it shows") }
    }
    var folders: UInt64 = 0, gone: UInt64 = 0
    for i in 0..<entries.count {
        let e = entries[i].pointee, most: UInt64 = 65536
        // A checkpoint permits as many names that are gone in a folder.
        if e.mode & 0o170000 == 0o040000 { folders += 1 }
        gone += UInt64(e.gap) + UInt64(e.after)
        guard e.gap <= most, e.after <= most, gone <= most * folders else { bad("ENTRY", i, "too many names that are gone") }
        guard e.mount < mounts.count, e.link <= i, isText(e.path), isText(e.target), isData(e.content, e.size, fileSize) else { bad("ENTRY", i, "its mount, name or contents") }
    }
    for i in 0..<numbers.count where numbers[i].pointee.namespaces >= namespaces.count || numbers[i].pointee.pid <= 0 || numbers[i].pointee.inside <= 0 { bad("NUMBER", i, "its namespace or pids") }
    for i in 0..<idRanges.count where idRanges[i].pointee.namespaces >= namespaces.count || idRanges.count > 2 * Int(CKPT_MAX_ID_RANGES) { bad("ID_RANGE", i, "its namespace, or one too many") }
    for i in 0..<networkSteps.count {
        let s = networkSteps[i].pointee, room = engine_table_count(CKPT_TABLE_BYTES.rawValue).pointee
        guard s.namespaces < namespaces.count, s.other == none || s.other < namespaces.count, isText(s.what), s.size >= 16, UInt64(s.message) + UInt64(s.size) <= room, s.message % 8 == 0, UInt64(s.place) + 4 <= UInt64(s.size), s.place % 4 == 0 else { bad("NETWORK", i, "its namespace or message") }
    }
    for i in 0..<settings.count where settings[i].pointee.namespaces >= namespaces.count || !isText(settings[i].pointee.path) || !isText(settings[i].pointee.value) { bad("SETTING", i, "its namespace or value") }
    for i in 0..<credentials.count where !within(credentials[i].pointee.first_group, credentials[i].pointee.group_count, groups.count) { bad("CREDENTIALS", i, "its groups") }
    for i in 0..<guards.count { guard guards[i].pointee.process < processes.count, guards[i].pointee.start < guards[i].pointee.end, inMemory(guards[i].pointee.start, guards[i].pointee.end - guards[i].pointee.start) else { bad("GUARD", i, "its process or range") } }
    for i in 0..<locks.count {
        let l = locks[i].pointee
        // One that no process holds is of a description.
        guard l.process == none ? l.fd >= 0 && l.fd < descriptions.count : l.process < processes.count else { bad("LOCK", i, "names no process") }
    }
    for i in 0..<timers.count where timers[i].pointee.process >= processes.count || timers[i].pointee.id < 0 { bad("TIMER", i, "names no process") }
}

private func requireTable(_ t: ckpt_table) {
    if engine_table(t.rawValue).pointee == 0 || engine_table_count(t.rawValue).pointee == 0 {
        refuse(.badStatefile) { l in l.put("statefile: table "); l.put(decimal: UInt64(t.rawValue)); l.put(": missing; the file is damaged, take another") }
    }
}
/// A table that is not in the file has no entries: it gets the address of one that is.
private func emptyTables() {
    for t: UInt32 in 1..<UInt32(ENGINE_TABLES) where engine_table(t).pointee == 0 {
        engine_table(t).pointee = engine_table(CKPT_TABLE_TREE.rawValue).pointee
        engine_table_count(t).pointee = 0
    }
}

private func verifyTree() {
    let t = tree.pointee
    guard t.root < processes.count, t.page_size == 4096 else { bad("TREE", 0, "names no main process, or pages of another size") }
    guard isText(t.name), isText(t.command) else { bad("TREE", 0, "a text outside the BYTES") }
    let id = engine_tree_session_id(tree)
    for i in 0..<16 where !((id[i] >= 48 && id[i] <= 57) || (id[i] >= 97 && id[i] <= 102)) { bad("TREE", 0, "a session id that is none") }
    guard id[16] == 0 else { bad("TREE", 0, "a session id that is none") }
}

private func isUsers(_ n: UInt32) -> Bool { Int(n) <= namespaces.count && isUser(Int(n) - 1) }

private func verifyProcess(_ i: Int, _ file: UInt64) {
    let p = processes[i]
    guard p.pointee.pid > 0, p.pointee.parent == none || (p.pointee.parent < processes.count && p.pointee.parent != i) else { bad("PROCESS", i, "its pid or parent") }
    guard p.pointee.pids == 0 || (Int(p.pointee.pids) <= namespaces.count && namespaces[Int(p.pointee.pids) - 1].pointee.kind == CKPT_NAMESPACE_PID.rawValue) else { bad("PROCESS", i, "its pid namespace") }
    if p.pointee.flags & CKPT_PROCESS_ZOMBIE.rawValue != 0 { return }
    guard within(p.pointee.first_task, p.pointee.task_count, tasks.count), p.pointee.task_count > 0 else { bad("PROCESS", i, "its tasks") }
    guard within(p.pointee.first_vma, p.pointee.vma_count, vmas.count), p.pointee.vma_count > 0 else { bad("PROCESS", i, "its VMAs") }
    guard within(p.pointee.first_fd, p.pointee.fd_count, fds.count) else { bad("PROCESS", i, "its descriptors") }
    guard within(p.pointee.first_pending, p.pointee.pending_count, pendings.count), within(p.pointee.first_timer, p.pointee.timer_count, timers.count),
          within(p.pointee.first_group, p.pointee.group_count, groups.count) else { bad("PROCESS", i, "its signals, timers or groups") }
    guard p.pointee.process_slot < UInt32(CKPT_MAX_PROCESSES), p.pointee.runs < file, p.pointee.shared_runs < file else { bad("PROCESS", i, "its slot or pages") }
    guard isText(p.pointee.auxv), UInt64(p.pointee.auxv) + UInt64(p.pointee.auxv_size) <= engine_table_count(CKPT_TABLE_BYTES.rawValue).pointee,
          isText(p.pointee.comm), isText(p.pointee.cmdline), isText(p.pointee.label) else { bad("PROCESS", i, "a text outside the BYTES") }
    guard p.pointee.exe < objects.count, p.pointee.cwd < objects.count, p.pointee.root == none || p.pointee.root < objects.count else { bad("PROCESS", i, "its exe, cwd or root") }
    guard Int(p.pointee.uts) <= namespaces.count, Int(p.pointee.ipc) <= namespaces.count, Int(p.pointee.net) <= namespaces.count, Int(p.pointee.mounts) <= namespaces.count,
          Int(p.pointee.cgroups) <= namespaces.count, Int(p.pointee.times) <= namespaces.count, p.pointee.users == 0 || isUsers(UInt32(p.pointee.users)), Int(p.pointee.children_times) <= namespaces.count,
          Int(p.pointee.children_pids) <= namespaces.count || p.pointee.children_pids >= UInt8(CKPT_CHILDREN_DEAD),
          isText(p.pointee.cgroup) else { bad("PROCESS", i, "its namespaces or control group") }
    guard inMemory(p.pointee.session_address, ckpt_session_size()) else { bad("PROCESS", i, "its session segment") }
    if p.pointee.vdso_size != 0 { guard inMemory(p.pointee.vdso_address, p.pointee.vdso_size) else { bad("PROCESS", i, "its vdso") } }
    if p.pointee.vvar_size != 0 { guard inMemory(p.pointee.vvar_address, p.pointee.vvar_size) else { bad("PROCESS", i, "its vvar") } }
    verifyProcessTasks(i)
    verifyProcessVmas(i)
    for k in 0..<p.pointee.fd_count where fds[p.pointee.first_fd + k].pointee.process != UInt32(i) { bad("PROCESS", i, "another process's descriptor") }
}
private func inMemory(_ start: UInt64, _ size: UInt64) -> Bool { start & 4095 == 0 && start >= 4096 && start < topOfMemory && size <= topOfMemory - start }

private func verifyProcessTasks(_ i: Int) {
    let p = processes[i]
    var leaders = 0, main = false
    for k in 0..<p.pointee.task_count {
        let t = tasks[p.pointee.first_task + k]
        guard t.pointee.process == UInt32(i) else { bad("PROCESS", i, "another process's task") }
        if t.pointee.is_leader != 0 { leaders += 1 }
        if t.pointee.tid == p.pointee.pid { main = true }
    }
    guard leaders == 1 else { bad("PROCESS", i, "not exactly one leader among its tasks") }
    guard main || p.pointee.flags & CKPT_PROCESS_LEADER_GONE.rawValue != 0 else { bad("PROCESS", i, "no main task") }
}
private func verifyProcessVmas(_ i: Int) {
    let p = processes[i]
    var last: UInt64 = 0
    for k in 0..<p.pointee.vma_count {
        let v = vmas[p.pointee.first_vma + k]
        guard v.pointee.start >= last else { bad("VMA", Int(p.pointee.first_vma + k), "not in order") }
        last = v.pointee.end
    }
}

private func verifyTask(_ i: Int) {
    let t = tasks[i]
    guard t.pointee.tid > 0, t.pointee.process < processes.count, t.pointee.slot < UInt32(CKPT_MAX_TASKS) else { bad("TASK", i, "its tid, process or slot") }
    guard within(t.pointee.first_pending, t.pointee.pending_count, pendings.count) else { bad("TASK", i, "its pending signals") }
    guard t.pointee.credentials < credentials.count else { bad("TASK", i, "its credentials") }
    guard t.pointee.resume_rip != 0, t.pointee.resume_rsp != 0 else { bad("TASK", i, "no place to go on") }
}

private func verifyVma(_ i: Int, _ file: UInt64) {
    let v = vmas[i].pointee
    guard v.start < v.end, inMemory(v.start, v.end - v.start), v.end & 4095 == 0, v.protection < 8, v.kind <= CKPT_VMA_AIO.rawValue || v.kind == CKPT_VMA_RING.rawValue else { bad("VMA", i, "its range or kind") }
    guard v.kind != CKPT_VMA_AIO.rawValue || (v.object_offset >= 4 && v.object_offset < 1 << 24) else { bad("VMA", i, "the size of its ring") }
    guard v.key < 16, v.page_shift == 0 || (v.page_shift >= 12 && v.page_shift < 40) else { bad("VMA", i, "its protection key or pages") }
    guard isText(v.name), v.data_offset < file || v.data_offset == 0 else { bad("VMA", i, "its name or data") }
    let needsObject = v.kind == CKPT_VMA_FILE.rawValue || v.kind == CKPT_VMA_SHARED_FILE.rawValue || v.kind == CKPT_VMA_SHARED_ANONYMOUS.rawValue || v.kind == CKPT_VMA_RING.rawValue
    guard !needsObject || (v.object < objects.count && v.object_offset & 4095 == 0 && v.object_offset < 1 << 56) else { bad("VMA", i, "its object") }
    guard v.kind != CKPT_VMA_RING.rawValue || objects[v.object].pointee.kind == CKPT_OBJECT_RING.rawValue else { bad("VMA", i, "its object is no io_uring") }
    if v.kind == CKPT_VMA_SHARED_ANONYMOUS.rawValue {
        guard objects[v.object].pointee.kind == CKPT_OBJECT_SHMEM.rawValue || objects[v.object].pointee.kind == CKPT_OBJECT_SEGMENT.rawValue else { bad("VMA", i, "its object is no shared memory") }
        guard v.object_offset + (v.end - v.start) <= (objects[v.object].pointee.size + 4095) & ~4095 else { bad("VMA", i, "larger than its shared memory") }
    }
}

private func verifyObject(_ i: Int, _ file: UInt64) {
    let o = objects[i].pointee
    guard o.kind >= CKPT_OBJECT_REGULAR.rawValue, o.kind < CKPT_OBJECT_KINDS.rawValue, isText(o.path) else { bad("OBJECT", i, "its kind or path") }
    guard o.mounts == 0 || (Int(o.mounts) <= namespaces.count && isPartMounts(Int(o.mounts) - 1)), o.flags & CKPT_OBJECT_DETACHED.rawValue == 0 || isText(o.detail) && hasPrefix(bytes(o.path), bytes(o.detail)) else { bad("OBJECT", i, "the mounts in which it has its path") }
    guard isText(o.build_id), UInt64(o.build_id) + UInt64(o.build_id_size) <= engine_table_count(CKPT_TABLE_BYTES.rawValue).pointee else { bad("OBJECT", i, "its build-id") }
    guard isData(o.content, o.content_size, file) else { bad("OBJECT", i, "its content lies outside the file") }
    switch o.kind {
    case CKPT_OBJECT_SOCKET.rawValue: guard o.detail < sockets.count, sockets[o.detail].pointee.object == i else { bad("OBJECT", i, "names no socket") }
    case CKPT_OBJECT_EVENTFD.rawValue...CKPT_OBJECT_PIDFD.rawValue: guard o.detail < events.count, events[o.detail].pointee.object == i else { bad("OBJECT", i, "names no event record") }
    case CKPT_OBJECT_PTY_MASTER.rawValue, CKPT_OBJECT_PTY_SLAVE.rawValue, CKPT_OBJECT_PTY_CONTROLLING.rawValue:
        guard o.detail < terminals.count, terminals[o.detail].pointee.state.flags & CKPT_TERMINAL_OUTSIDE.rawValue == 0 else { bad("OBJECT", i, "names no pseudo-terminal") }
    case CKPT_OBJECT_RING.rawValue: guard o.detail < rings.count, rings[o.detail].pointee.object == i else { bad("OBJECT", i, "names no io_uring") }
    case CKPT_OBJECT_QUEUE.rawValue: guard o.detail < ipc.count, ipc[o.detail].pointee.kind == CKPT_IPC_POSIX_QUEUE.rawValue else { bad("OBJECT", i, "names no message queue") }
    case CKPT_OBJECT_SEGMENT.rawValue:
        guard o.detail < ipc.count, ipc[o.detail].pointee.kind == CKPT_IPC_SEGMENT.rawValue, o.size == ipc[o.detail].pointee.size else { bad("OBJECT", i, "names no System V shared memory") }
    default: break
    }
    guard o.page_shift == 0 || (o.page_shift >= 12 && o.page_shift < 40) else { bad("OBJECT", i, "its pages") }
    if o.kind == CKPT_OBJECT_SHMEM.rawValue || o.kind == CKPT_OBJECT_SEGMENT.rawValue { guard o.size < topOfMemory / 2 else { bad("OBJECT", i, "its size") } }
}

private func verifyIPC(_ file: UInt64) {
    for i in 0..<ipc.count {
        let r = ipc[i].pointee
        guard r.id >= 0, r.flags < 16 else { bad("IPC", i, "its id or flags") }
        guard r.cuid < (r.kind == CKPT_IPC_POSIX_QUEUE.rawValue ? 1 << 31 : UInt32.max) else { bad("IPC", i, "its creator, or how it notifies") }
        guard r.place == 0 || (r.place <= namespaces.count && namespaces[r.place - 1].pointee.kind == CKPT_NAMESPACE_IPC.rawValue && !isWhole(Int(r.place) - 1) && !isShared(i)),
              r.pids == 0 || (r.place != 0 && r.pids <= namespaces.count && isPid(Int(r.pids) - 1)) else { bad("IPC", i, "its namespaces") }
        switch r.kind {
        case CKPT_IPC_SEGMENT.rawValue: guard r.object < objects.count, objects[r.object].pointee.kind == CKPT_OBJECT_SEGMENT.rawValue, objects[r.object].pointee.detail == i else { bad("IPC", i, "names no shared memory") }
        case CKPT_IPC_SEMAPHORES.rawValue: guard within(r.first, r.count, semaphores.count), UInt64(r.count) == r.size, r.count > 0, r.count <= 32767 else { bad("IPC", i, "its semaphores") }
        case CKPT_IPC_POSIX_QUEUE.rawValue:
            guard within(r.first, r.count, queued.count), r.object < objects.count, objects[r.object].pointee.kind == CKPT_OBJECT_QUEUE.rawValue, objects[r.object].pointee.detail == i,
                  bytes(objects[r.object].pointee.path).pointee == 47, r.creator < Int32(processes.count) else { bad("IPC", i, "its messages, name or process") }
        case CKPT_IPC_QUEUE.rawValue: guard within(r.first, r.count, queued.count) else { bad("IPC", i, "its messages") }
        default: bad("IPC", i, "its kind")
        }
    }
    for i in 0..<semaphores.count where semaphores[i].pointee.value < 0 || semaphores[i].pointee.value > 32767 { bad("SEMAPHORE", i, "its value") }
    for i in 0..<adjustments.count {
        let a = adjustments[i].pointee
        guard a.process < processes.count, a.set < ipc.count, ipc[a.set].pointee.kind == CKPT_IPC_SEMAPHORES.rawValue, a.number < ipc[a.set].pointee.count,
              a.value >= -32768, a.value <= 32767 else { bad("ADJUSTMENT", i, "its process, semaphore or value") }
    }
    for i in 0..<queued.count where !isData(queued[i].pointee.content, queued[i].pointee.size, file) || queued[i].pointee.size > 1 << 31 { bad("QUEUED", i, "its contents") }
}

/// Its offsets are those that this kernel gives as well, or it is refused (Rings.swift).
private func verifyRings(_ file: UInt64) {
    let largest: UInt32 = 1 << 26, page: UInt32 = 4096
    for i in 0..<rings.count {
        let r = rings[i].pointee, p = r.parameters
        guard r.object < objects.count, objects[r.object].pointee.kind == CKPT_OBJECT_RING.rawValue, objects[r.object].pointee.detail == i, r.process < processes.count,
              isIndex(r.event, descriptions.count) else { bad("RING", i, "its object, process or eventfd") }
        guard p.sq_entries > 0, p.sq_entries <= 32768, p.cq_entries > 0, p.cq_entries <= 65536, r.submitted <= UInt32(CKPT_RING_LIMIT), r.dropped <= r.submitted, r.files < largest else { bad("RING", i, "its size or counts") }
        guard r.rings_size > 0, r.entries_size > 0, r.rings_size < largest, r.entries_size < largest, r.rings_size % page == 0, r.entries_size % page == 0 else { bad("RING", i, "the size of its parts") }
        if p.flags & CKPT_RING_NO_MMAP.rawValue != 0 {
            guard inMemory(p.cq.user_address, UInt64(r.rings_size)), inMemory(p.sq.user_address, UInt64(r.entries_size)) else { bad("RING", i, "its memory") }
        } else { guard isData(r.rings, UInt64(r.rings_size), file), isData(r.entries, UInt64(r.entries_size), file) else { bad("RING", i, "its contents") } }
    }
}

private func isProcess(_ pid: UInt64) -> Bool {
    for i in 0..<processes.count where UInt64(processes[i].pointee.pid) == pid { return true }
    return false
}

private func verifyEvents(_ file: UInt64) {
    for i in 0..<events.count {
        let e = events[i].pointee
        guard e.object < objects.count, isEventKind(objects[e.object].pointee.kind), objects[e.object].pointee.detail == i else { bad("EVENT", i, "names no object") }
        let isQueue = objects[e.object].pointee.kind == CKPT_OBJECT_INOTIFY.rawValue
        let t = e.left, year: Int64 = 31_622_400
        guard t.value_sec >= 0, t.value_sec < 1_000 * year, t.value_nsec >= 0, t.value_nsec < 1_000_000_000, t.interval_sec >= 0, t.interval_nsec >= 0, t.interval_nsec < 1_000_000_000 else { bad("EVENT", i, "a time that is none") }
        if objects[e.object].pointee.kind == CKPT_OBJECT_PIDFD.rawValue && e.flags & CKPT_EVENT_REAPED.rawValue == 0 { guard isProcess(e.value) else { bad("EVENT", i, "a process that is not in the tree") } }
        guard !isQueue || e.flags & CKPT_EVENT_UNREAD.rawValue == 0 || isData(e.value, UInt64(e.set_flags), file) && e.clock > 0 else { bad("EVENT", i, "its unread events") }
        guard within(e.first_item, e.item_count, isQueue ? watches.count : watched.count) else { bad("EVENT", i, "what it watches") }
    }
    for i in 0..<watched.count {
        let w = watched[i].pointee
        guard w.target < descriptions.count, w.number >= 0, w.number < 1 << 30, isIndex(w.process, processes.count) else { bad("WATCHED", i, "names no description") }
    }
    for i in 0..<watches.count {
        let w = watches[i].pointee
        guard isText(w.path), w.wd > 0 else { bad("WATCH", i, "its path or number") }
        guard w.mounts == 0 || (w.mounts <= namespaces.count && isPartMounts(Int(w.mounts) - 1)) else { bad("WATCH", i, "its mount namespace") }
    }
}

private func verifyTerminals(_ file: UInt64) {
    for i in 0..<terminals.count {
        let t = terminals[i].pointee, s = t.state
        guard s.output_size <= CKPT_TERMINAL_OUTPUT_ROOM, s.input_size <= CKPT_TERMINAL_INPUT_ROOM, s.late_size <= CKPT_TERMINAL_LATE_ROOM,
              isData(t.output, UInt64(s.output_size), file), isData(t.input, UInt64(s.input_size), file), isData(t.late, UInt64(s.late_size), file),
              isText(t.path), s.index >= 0 else { bad("TERMINAL", i, "its contents, path or number") }
    }
    for i in 0..<processes.count where processes[i].pointee.terminal > terminals.count { bad("PROCESS", i, "its terminal") }
}

private func isBlob(_ offset: UInt32, _ size: UInt32) -> Bool { UInt64(offset) + UInt64(size) <= engine_table_count(CKPT_TABLE_BYTES.rawValue).pointee }
private func isIndex(_ i: UInt32, _ count: Int) -> Bool { i == none || i < count }
private func isNetwork(_ n: UInt8) -> Bool { n == 0 || (Int(n) <= namespaces.count && isPartNetwork(Int(n) - 1)) }

private func verifySaved(_ file: UInt64) {
    for i in 0..<saved.count {
        let s = saved[i].pointee
        guard s.object < objects.count, objects[s.object].pointee.kind == CKPT_OBJECT_REGULAR.rawValue else { bad("SAVED", i, "names no regular file") }
        guard within(s.first_extent, s.extent_count, extents.count) else { bad("SAVED", i, "its extents") }
        var end: UInt64 = 0
        for k in 0..<s.extent_count {
            let e = extents[s.first_extent + k].pointee
            guard e.offset >= end, isData(e.offset, e.size, objects[s.object].pointee.size), isData(e.content, e.size, file) else { bad("EXTENT", Int(s.first_extent + k), "its place") }
            end = e.offset + e.size
        }
    }
}

/// Their addresses are read as struct sockaddr_in and sockaddr_in6.
private func verifyInternetSocket(_ i: Int, _ s: ckpt_socket_record) {
    let size: UInt32 = s.family == Family.inet ? 16 : 28
    if s.state == CKPT_SOCKET_PENDING.rawValue { guard s.peer < sockets.count else { bad("SOCKET", i, "a connection without a client") } }
    let connected = s.state == CKPT_SOCKET_CONNECTED.rawValue || s.state == CKPT_SOCKET_CONNECTING.rawValue
    guard s.local_size == size || (s.local_size == 0 && !(s.state == CKPT_SOCKET_CONNECTED.rawValue)), s.remote_size == size || (s.remote_size == 0 && !connected) else { bad("SOCKET", i, "an address of another family") }
    for k in 0..<s.message_count where s.type == 2 { guard messages[s.first_message + k].pointee.source_size == size else { bad("MESSAGE", Int(s.first_message + k), "its sender") } }
}

private func verifySockets(_ file: UInt64) {
    for i in 0..<sockets.count {
        let s = sockets[i].pointee
        guard isIndex(s.object, objects.count), isIndex(s.peer, sockets.count), isIndex(s.listener, sockets.count) else { bad("SOCKET", i, "its object, peer or listener") }
        guard isIndex(s.description, descriptions.count), s.description != none || s.state == CKPT_SOCKET_PENDING.rawValue || s.object == none, isText(s.path_folder), isText(s.path_file), s.hidden == 0 else { bad("SOCKET", i, "its description or folder") }
        guard isNetwork(s.network), isNetwork(s.peer_network) else { bad("SOCKET", i, "its network") }
        guard s.creator_pids == 0 || (Int(s.creator_pids) <= namespaces.count && isPid(Int(s.creator_pids) - 1)) else { bad("SOCKET", i, "the pid namespace of its creator") }
        guard s.mounts == 0 || (Int(s.mounts) <= namespaces.count && isPartMounts(Int(s.mounts) - 1)) else { bad("SOCKET", i, "the mounts in which it has its name") }
        guard isBlob(s.repair, s.repair_size), s.repair_size == 0 || (s.repair_size == UInt32(MemoryLayout<ckpt_tcp_repair>.size) && s.message_count == 2) else { bad("SOCKET", i, "what repairs it") }
        if s.family == Family.inet || s.family == Family.inet6 { verifyInternetSocket(i, s) }
        // An address is copied into a sockaddr_storage.
        guard s.local_size <= 128, s.remote_size <= 128, isBlob(s.local, s.local_size), isBlob(s.remote, s.remote_size) else { bad("SOCKET", i, "an address") }
        guard within(s.first_option, s.option_count, options.count), within(s.first_message, s.message_count, messages.count) else { bad("SOCKET", i, "its options or messages") }
    }
    for i in 0..<options.count where !isBlob(options[i].pointee.value, options[i].pointee.size) || !isText(options[i].pointee.text) { bad("OPTION", i, "its value") }
    for i in 0..<messages.count {
        let m = messages[i].pointee
        guard isData(m.content, m.content_size, file), m.source_size <= 128, isBlob(m.source, m.source_size) else { bad("MESSAGE", i, "its contents or sender") }
        guard within(m.first_carried, m.carried_count, carried.count), isIndex(m.sender, sockets.count) else { bad("MESSAGE", i, "what it carries or its sender") }
    }
    for i in 0..<carried.count where carried[i].pointee >= descriptions.count { bad("CARRIED", i, "names no description") }
}
