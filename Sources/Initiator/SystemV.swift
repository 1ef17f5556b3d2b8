// System V IPC: which shared memory, semaphores and message queues are the tree's.  Leaders look, since they are in the IPC namespace and have its rights.
// Nobody notes who has the id of such an object: what the kernel notes are the pids that used it last, and who has memory attached.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

struct ObservedIPC {
    var kind: ckpt_ipc_kind
    var place: UInt32 = 0                       // the number of a part's namespace; 0: the tree's
    var viewedFrom: UInt32 = 0                  // a part's: the pid namespace whose numbers these are
    var id: Int32
    var permission: ckpt_ipc_permission
    var flags: UInt32 = 0                       // enum ckpt_ipc_flags
    var knowledge = CKPT_IPC_UNKNOWN            // whether a member has asked for it
    var size: UInt64
    var creator: Int32 = 0, last: Int32 = 0
    var changed: Int64
    var pids: [(pid: Int32, time: Int64)] = []  // whoever the kernel names, as the tree sees them (0: in another pid namespace), and when it was
    var operated: Int64 = 0                     // semaphores: the last operation or change
    var mayBeUndone = false                     // semaphores: nobody has an undo value before there has been an operation
    var attachments: UInt64 = 0                 // segment
    var bytes: UInt64 = 0, count: UInt64 = 0    // queue: what is in it
    var lister = 0                              // index of the process that sees the users as they are called here
    var reader = 0                              // index of the process that may look into it
    var values: [Int32] = [], lastPids: [Int32] = []
    var adjustments: [(process: Int, number: Int, value: Int32)] = []
    var messages: [(type: Int64, bytes: [UInt8])] = []
    var isOutside: Bool { flags & CKPT_IPC_OUTSIDE.rawValue != 0 }
    /// Others have changed it since a member asked, or made it anew under its id.
    var isOthers: Bool { knowledge == CKPT_IPC_CHANGED }
    var name: String {
        let what = kind == CKPT_IPC_SEGMENT ? "shared memory" : kind == CKPT_IPC_SEMAPHORES ? "semaphores" : "message queue"
        return "System V \(what) \(id)" + (permission.key == 0 ? "" : " (key 0x\(hex(UInt64(permission.key))))")
    }
    func isAttached(_ m: ProcMapping, _ p: ObservedProcess) -> Bool { m.isSegment && m.inode == UInt64(UInt32(bitPattern: id)) && p.ipc == place }
}

/// The numbers that a kind of object has in its system calls.
private struct IPCCalls {
    let kind: ckpt_ipc_kind, control: Int, highest: Int64, stateByIndex: Int64
    static let all = [IPCCalls(kind: CKPT_IPC_SEGMENT, control: CKPT_SYS_shmctl, highest: 14, stateByIndex: 15),
                      IPCCalls(kind: CKPT_IPC_SEMAPHORES, control: CKPT_SYS_semctl, highest: 19, stateByIndex: 20),
                      IPCCalls(kind: CKPT_IPC_QUEUE, control: CKPT_SYS_msgctl, highest: 12, stateByIndex: 13)]
    /// semctl(2) has the number of a semaphore before the command.
    func call(_ id: Int64, _ command: Int64, buffer: ArenaArray<UInt8>) -> Ask { control == CKPT_SYS_semctl ? Ask(control, [id, 0, command], buffer: buffer) : Ask(control, [id, command], buffer: buffer) }
}

/// A question to a leader; `buffer`, its room in the arena, is its last argument.
struct Ask {
    var record = ckpt_ask()
    init(_ number: Int, _ arguments: [Int64], buffer: ArenaArray<UInt8>? = nil, at: Int? = nil) {
        record.number = Int64(number)
        var all = arguments
        if let buffer { record.relative = 1 << UInt32(at ?? all.count); all.insert(Int64(bitPattern: buffer.offset), at: at ?? all.count) }
        for (i, a) in all.enumerated() { ckpt_ask_argument(&record, Int32(i)).pointee = a }
    }
}

extension Operation {
    /// Lets the leaders of some processes make calls; their results, in the same order.
    func ask(_ tree: ObservedTree, _ barrier: Barrier, _ questions: [Int: [Ask]]) throws(CheckpointFailure) -> [Int: [Int64]] {
        if questions.isEmpty { return [:] }
        var asked: [Int: ArenaArray<ckpt_ask>] = [:]
        for (i, p) in tree.processes.enumerated() where !p.isZombie {
            let slot = segment.process(p.slot), own = questions[i] ?? []
            let records = try claim(p, own.map(\.record))
            slot.pointee.asks_offset = records.offset
            slot.pointee.asks_count = UInt64(records.count)
            asked[i] = records
        }
        try barrier.run(CKPT_PHASE_ASK, expecting: tree.live.count, patience: options.patience) { "a leader that looks at System V IPC" }
        return asked.mapValues { records in (0..<records.count).map { records[$0].result } }
    }
    /// As many questions as objects have parts have room in the arena, or there are none: what the kernel told a leader may be anybody's word by now.
    func requireRoom(_ p: ObservedProcess, questions count: UInt64) throws(CheckpointFailure) {
        if count > ckpt_arena_size() / UInt64(MemoryLayout<ckpt_ask>.stride) { throw noRoom(p) }
    }
    /// What only a leader can have told us.
    func told<T>(_ body: () throws(SystemError) -> T) throws(CheckpointFailure) -> T {
        do throws(SystemError) { return try body() } catch { throw damaged(error.call) }
    }

    func recordSystemV(_ tree: ObservedTree, _ barrier: Barrier) throws(CheckpointFailure) {
        for place in tree.ipcPlaces where mayHaveSystemV(tree, place) {
            tree.systemV += try listSystemV(tree, barrier, place).compactMap { place.number == 0 ? classify($0, tree) : inPart($0, tree) }
        }
        if tree.systemV.isEmpty { return }
        for o in tree.systemV where o.isOutside { log.debug("\(o.name) is used outside the tree") }
        try readSystemV(tree, barrier)
    }

    private func listSystemV(_ tree: ObservedTree, _ barrier: Barrier, _ place: IPCPlace) throws(CheckpointFailure) -> [ObservedIPC] {
        let i = tree.lister(place), p = tree.processes[i], number = p.namespace("ipc") ?? 0, size = 128, scratch = try room(p, size)
        let highest = try ask(tree, barrier, [i: IPCCalls.all.map { $0.call(0, $0.highest, buffer: scratch) }])[i]!
        var questions: [Ask] = [], about: [(calls: IPCCalls, buffer: ArenaArray<UInt8>)] = []
        for (calls, top) in zip(IPCCalls.all, highest) where top >= 0 {
            try requireRoom(p, questions: UInt64(top))
            for index in 0...top {
                let buffer = try room(p, size)
                questions.append(calls.call(index, calls.stateByIndex, buffer: buffer)); about.append((calls, buffer))
            }
        }
        let ids = questions.isEmpty ? [] : try ask(tree, barrier, [i: questions])[i]!
        var found: [ObservedIPC] = []
        let kernel = tree.isOthers(segment) && !ids.isEmpty ? KernelIPC(seenBy: p.pid, tree) : nil
        for (about, id) in zip(about, ids) where id >= 0 {
            var o = try told { () throws(SystemError) in try observed(about.calls.kind, Int32(truncatingIfNeeded: id), at: about.buffer) }
            o.knowledge = ckpt_ipc_noted(segment.pointer, o.kind.rawValue, ckpt_ipc_object(number, o.id), ckpt_ipc_what(o.kind.rawValue, o.permission.key, o.size), UInt32(truncatingIfNeeded: o.changed))
            if let kernel, !kernel.isTrees(o) { o.flags |= CKPT_IPC_OUTSIDE.rawValue }
            o.place = place.number; o.viewedFrom = place.pids; o.lister = i; o.reader = tree.reader(of: o.permission, place)
            found.append(o)
        }
        return found
    }

    private func observed(_ kind: ckpt_ipc_kind, _ id: Int32, at buffer: ArenaArray<UInt8>) throws(SystemError) -> ObservedIPC {
        // More than a machine has; sums of them stay numbers.
        let mostBytes: UInt64 = 1 << 44, mostSemaphores: UInt64 = 1 << 16, mostMessages = ckpt_arena_size()
        switch kind {
        case CKPT_IPC_SEGMENT:
            let s = try buffer.load(ckpt_segment_state.self)
            if s.size > mostBytes { throw .damaged("\(s.size) bytes of System V shared memory") }
            var o = ObservedIPC(kind: kind, id: id, permission: s.permission, size: s.size, creator: s.creator, last: s.last, changed: s.changed, attachments: s.attachments)
            let removed: UInt32 = 0o1000, locked: UInt32 = 0o2000
            if s.permission.mode & removed != 0 { o.flags |= CKPT_IPC_REMOVED.rawValue }
            if s.permission.mode & locked != 0 { o.flags |= CKPT_IPC_LOCKED.rawValue }
            return o
        case CKPT_IPC_SEMAPHORES:
            let s = try buffer.load(ckpt_semaphores_state.self)
            if s.count > mostSemaphores { throw .damaged("\(s.count) semaphores in a set") }
            return ObservedIPC(kind: kind, id: id, permission: s.permission, size: s.count, changed: s.changed, operated: max(s.operated, s.changed), mayBeUndone: s.operated != 0)
        default:
            let s = try buffer.load(ckpt_queue_state.self)
            if s.bytes > mostMessages || s.messages > mostMessages { throw .damaged("\(s.messages) messages in a queue") }
            var o = ObservedIPC(kind: kind, id: id, permission: s.permission, size: s.capacity, creator: s.sender, last: s.receiver, changed: s.changed)
            o.bytes = s.bytes; o.count = s.messages
            o.pids = (s.sent == 0 ? [] : [(s.sender, s.sent)]) + (s.received == 0 ? [] : [(s.receiver, s.received)])
            return o
        }
    }

    /// nil: not the tree's.
    private func classify(_ observed: ObservedIPC, _ tree: ObservedTree) -> ObservedIPC? {
        var o = observed
        let owners = tree.owners
        if o.kind == CKPT_IPC_SEGMENT {
            let mapped = tree.attachments(of: o)
            if mapped == 0 && !isAskedFor(o, anyOf: [(o.creator, o.changed)], tree) { return nil }
            if o.attachments > mapped || (mapped == 0 && !isInside(o.creator, o.changed, tree) && (isOutside(o.creator, tree) || isOlder(o, tree) || o.isOthers)) { o.flags |= CKPT_IPC_OUTSIDE.rawValue }
            return o
        }
        // What semaphores say is known when they have been read; undo values are looked for only where there may be some, since others change the sets meanwhile.
        if o.kind == CKPT_IPC_SEMAPHORES { return ckpt_asked_for_kind(segment.pointer, o.kind.rawValue) && (owners.contains(o.permission.cuid) || owners.contains(0) || owners.contains(o.permission.uid)) ? o : nil }
        return attribute(o, tree)
    }

    /// In a namespace of a part all is the tree's; who has a segment attached must live there.
    private func inPart(_ o: ObservedIPC, _ tree: ObservedTree) -> ObservedIPC? {
        if o.kind == CKPT_IPC_SEGMENT && o.attachments != tree.attachments(of: o) {
            tree.refusals.add(pid: tree.processes[o.reader].pid, "\(o.name): in an ipc namespace of a part of the tree, attached by a process that does not live there", "detach it (shmdt) before the checkpoint")
        }
        return o
    }

    /// By the pids that the kernel names: inside, outside, or nobody's who lives; that may be the tree's when it has been made since it runs.
    private func attribute(_ observed: ObservedIPC, _ tree: ObservedTree) -> ObservedIPC? {
        if observed.place != 0 { return observed }
        var o = observed
        guard !o.adjustments.isEmpty || isAskedFor(o, anyOf: o.pids, tree) else { return nil }
        let inside = !o.adjustments.isEmpty || o.pids.contains { isInside($0.pid, $0.time, tree) }, outside = o.pids.contains { isOutside($0.pid, tree) }
        let isOlder = isOlder(o, tree)
        if inside { if outside || isOlder { o.flags |= CKPT_IPC_OUTSIDE.rawValue }; return o }
        let owners = tree.owners
        o.flags |= outside || isOlder || o.isOthers || !owners.contains(o.permission.cuid) ? CKPT_IPC_OUTSIDE.rawValue : CKPT_IPC_LOOSE.rawValue
        return o
    }
    /// What is older than the tree was made by somebody else.
    private func isOlder(_ o: ObservedIPC, _ tree: ObservedTree) -> Bool { Double(o.changed) + span <= since(tree.processes[tree.root]) }
    /// A member of the session has got its id; or, where one may have done so unseen, the kernel names one.
    private func isAskedFor(_ o: ObservedIPC, anyOf pids: [(pid: Int32, time: Int64)], _ tree: ObservedTree) -> Bool {
        o.knowledge != CKPT_IPC_UNKNOWN || (ckpt_asked_unseen(segment.pointer, o.kind.rawValue) && isInside(anyOf: pids, tree))
    }
    func isInside(anyOf pids: [(pid: Int32, time: Int64)], _ tree: ObservedTree) -> Bool { pids.contains { isInside($0.pid, $0.time, tree) } }
    /// How long after such a date it may have been: the kernel keeps seconds, of a clock that is behind by up to a tick.
    private var span: Double { 1.02 }
    /// The number may have been another process's at that time.
    private func isInside(_ pid: Int32, _ time: Int64, _ tree: ObservedTree) -> Bool {
        pid > 0 && tree.processes.contains { $0.ownPid == pid && Double(time) + span > since($0) }
    }
    /// From when on a process was there; a restart makes objects before processes.
    private func since(_ p: ObservedProcess) -> Double {
        let restored = segment.pointer.pointee.restored, start = Proc.started(p.startTime)
        return restored == 0 ? start : min(start, Double(restored) / 1e9)
    }
    /// Of another pid namespace, or alive.  Inside a namespace that is the tree's own there is nobody else.
    private func isOutside(_ pid: Int32, _ tree: ObservedTree) -> Bool {
        if pid == 0 { return true }
        guard !tree.processes.contains(where: { $0.ownPid == pid }), let first = tree.live.first, first.ownPid == first.pid else { return false }
        return ProcStat(pid: pid).map { !$0.isDead } ?? false
    }

    /// Values of semaphores and messages of queues; then the undo values, of those sets that are the tree's.
    private func readSystemV(_ tree: ObservedTree, _ barrier: Barrier) throws(CheckpointFailure) {
        try readSemaphores(tree, barrier)
        for o in tree.systemV where o.kind == CKPT_IPC_SEMAPHORES && o.values.isEmpty && o.place != 0 {
            tree.refusals.add(pid: tree.processes[o.reader].pid, "\(o.name): its values can't be read", "let its owner read it (IPC_SET)")
        }
        tree.systemV.removeAll { $0.kind == CKPT_IPC_SEMAPHORES && $0.values.isEmpty }
        try readAdjustments(tree, barrier)
        tree.systemV = tree.systemV.compactMap { $0.kind == CKPT_IPC_SEMAPHORES ? attribute($0, tree) : $0 }
        try readMessages(tree, barrier)
        for place in tree.ipcPlaces { for o in tree.systemV where o.place == place.number { tree.refuseUnseen(o, place) } }
    }
}

extension ObservedTree {
    /// Who its processes are, as they see it themselves: so the objects show their owners to them.
    func findOwners() -> Set<UInt32> { Set(live.compactMap { ownUser($0) }) }
    func ownUser(_ p: ObservedProcess) -> UInt32? {
        guard let id = p.effectiveUser, p.namespace("user") != ourUsers, let text = try? Path.text("/proc/\(p.view)/uid_map") else { return p.effectiveUser }
        return IdMaps.inside(id, IdMaps.ranges(text))
    }
    /// How often processes of its place have a segment attached.
    func attachments(of o: ObservedIPC) -> UInt64 { live.reduce(0) { n, p in n + UInt64(p.mappings.count { o.isAttached($0, p) }) } }
}

extension ProcMapping {
    /// shmat(2): the kernel gives it the segment's key as a name and its id as an inode.
    var isSegment: Bool { name.hasPrefix("/SYSV") && isShared }
}

extension Proc {
    /// When a process with this start time (proc(5), field 22 of stat) was started, in seconds of CLOCK_REALTIME.
    static func started(_ ticks: UInt64) -> Double {
        let realtime: Int32 = 0, sinceBoot: Int32 = 7
        return (Double(Kernel.clock(realtime)) - Double(Kernel.clock(sinceBoot))) / 1e9 + Double(ticks) / 100
    }
}
