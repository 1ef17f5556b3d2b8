// io_uring: what the runtime noted when a ring was made, what its tasks found out, and what fdinfo shows.  A ring is restored while nothing is in flight;
// what is, the kernel shows only in part: every entry taken must have completed, once.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

/// The runtime's notes of one process.
struct RingNotes {
    let address: UInt64
    let isBusy: Bool
    let rings: [UInt64: (note: ckpt_ring_note, address: UInt64)]            // by inode
    let contexts: [UInt64: UInt64]                                          // submitted, by context
    let indexes: [(note: ckpt_ring_index, address: UInt64)], indexesLost: Bool
    init(_ notes: UnsafeMutablePointer<ckpt_ring_notes>, address: UInt64) {
        self.address = address
        isBusy = notes.pointee.busy != 0
        var rings: [UInt64: (note: ckpt_ring_note, address: UInt64)] = [:], contexts: [UInt64: UInt64] = [:]
        for i in 0..<Int32(CKPT_RING_NOTES) {
            let note = ckpt_ring_note(notes, i)
            rings[note.pointee.inode] = (note.pointee, address &+ UInt64(UnsafeRawPointer(note) - UnsafeRawPointer(notes)))
        }
        for i in 0..<Int32(CKPT_CONTEXT_NOTES) { contexts[ckpt_context_note(notes, i).pointee.context] = ckpt_context_note(notes, i).pointee.submitted }
        indexes = (0..<Int32(CKPT_RING_INDEXES)).map { i in
            let n = ckpt_ring_index(notes, i)
            return (n.pointee, address &+ UInt64(UnsafeRawPointer(n) - UnsafeRawPointer(notes)))
        }
        indexesLost = notes.pointee.indexes_lost != 0
        self.rings = rings.filter { $0.key != 0 && $0.key != .max }
        self.contexts = contexts.filter { $0.key != 0 }
    }
}

/// The two parts of a ring that a program maps.
struct RingContents { var rings: [UInt8] = [], entries: [UInt8] = [] }

extension ckpt_ring_parameters {
    func has(_ flag: ckpt_ring_setup) -> Bool { flags & flag.rawValue != 0 }
    var ringsSize: Int {
        let completions = Int(cq.cqes) + Int(cq_entries) * (has(CKPT_RING_CQE32) ? 32 : 16), array = has(CKPT_RING_NO_SQARRAY) ? 0 : Int(sq.array) + Int(sq_entries) * 4
        return (max(completions, array) + 4095) & ~4095
    }
    var entriesSize: Int { (Int(sq_entries) * (has(CKPT_RING_SQE128) ? 128 : 64) + 4095) & ~4095 }
}

extension ObservedDescriptor { var isRing: Bool { link == "anon_inode:[io_uring]" } }

extension Operation {
    /// Leaders copy their notes, and what is in their rings.
    func recordRings(_ tree: ObservedTree, _ barrier: Barrier) throws(CheckpointFailure) {
        let holders = tree.processes.indices.filter { i in
            let p = tree.processes[i]
            return !p.isZombie && (p.descriptors.contains(where: \.isRing) || p.mappings.contains(where: \.isAsynchronousContext))
        }
        if holders.isEmpty { return }
        tree.ringGeneration = barrier.generation
        var places: [Int: ArenaArray<UInt8>] = [:]
        for i in holders { places[i] = try room(tree.processes[i], MemoryLayout<ckpt_ring_notes>.size) }
        let addresses = try ask(tree, barrier, places.mapValues { [Ask(Int(CKPT_ASK_RING_NOTES), [], buffer: $0)] })
        for (i, place) in places { tree.processes[i].ringNotes = try told { () throws(SystemError) in RingNotes(try place.pointer(to: ckpt_ring_notes.self), address: UInt64(bitPattern: addresses[i]![0])) } }
        try copyRings(tree, barrier, holders)
        try askContexts(tree, barrier, holders)
    }

    private func copyRings(_ tree: ObservedTree, _ barrier: Barrier, _ holders: [Int]) throws(CheckpointFailure) {
        var questions: [Int: [Ask]] = [:], about: [(process: Int, inode: UInt64, at: Int, rings: ArenaArray<UInt8>, entries: ArenaArray<UInt8>)] = []
        for i in holders {
            let p = tree.processes[i]
            var seen: Set<UInt64> = []
            for d in p.descriptors where d.isRing && seen.insert(d.inode).inserted {
                guard let parameters = p.ringNotes?.rings[d.inode]?.note.parameters else { continue }
                let own = parameters.has(CKPT_RING_NO_MMAP), fd = own ? -1 : Int64(d.number)
                let rings = try room(p, parameters.ringsSize), entries = try room(p, parameters.entriesSize)
                let places = own ? (parameters.cq.user_address, parameters.sq.user_address) : (UInt64(CKPT_RING_SUBMISSIONS_AT), UInt64(CKPT_RING_ENTRIES_AT))
                if own && !(p.canRead(places.0, parameters.ringsSize) && p.canRead(places.1, parameters.entriesSize)) { continue }
                about.append((i, d.inode, questions[i]?.count ?? 0, rings, entries))
                questions[i, default: []] += [Ask(Int(CKPT_ASK_RING), [fd, Int64(bitPattern: places.0), Int64(parameters.ringsSize)], buffer: rings),
                                              Ask(Int(CKPT_ASK_RING), [fd, Int64(bitPattern: places.1), Int64(parameters.entriesSize)], buffer: entries)]
            }
        }
        let results = try ask(tree, barrier, questions)
        for a in about where results[a.process]![a.at] == 0 && results[a.process]![a.at + 1] == 0 {
            let p = tree.processes[a.process], parameters = p.ringNotes!.rings[a.inode]!.note.parameters
            p.ringContents[a.inode] = try told { () throws(SystemError) in
                RingContents(rings: try a.rings.bytes(0, UInt64(parameters.ringsSize)), entries: try a.entries.bytes(0, UInt64(parameters.entriesSize)))
            }
        }
    }
}

extension ObservedProcess {
    fileprivate func canRead(_ start: UInt64, _ size: Int) -> Bool {
        mappings.contains { $0.start <= start && start <= $0.end && UInt64(size) <= $0.end - start && $0.protection & 1 != 0 && !$0.name.hasPrefix("anon_inode:") }
    }
}

extension SystemContent {
    func ringObject(_ description: Int, _ f: OpenFile) -> UInt32? {
        let d = f.sample
        func refuse(_ o: RingObstacle) -> UInt32? {
            refusals.add(pid: f.samplePid, fd: d.number, "io_uring" + o.what, o.remedy, status: o.passes ? .temporary : .refused)
            return nil
        }
        guard f.users.count == 1, f.heldOtherwise == 0, let process = f.users.first else {
            return refuse(RingObstacle(" that several processes have", "keep it in one process (close-on-exec, or close it after fork)"))
        }
        let p = tree.processes[process]
        guard let notes = p.ringNotes, let (note, address) = notes.rings[d.inode], note.pid == p.slotPid else {
            if p.ringNotes?.isBusy ?? false { return refuse(RingObstacle(", and a task is making one just now", "try again", passes: true)) }
            return refuse(RingObstacle(" that this program did not make through libc's syscall(2) or liburing's shared library: how it was made can't be known", "close it before the checkpoint, or make it so"))
        }
        do throws(SystemError) {
            let view = RingView(note, p.ringContents[d.inode] ?? RingContents(), try DescriptorInfo(f.samplePid, d.number))
            if let obstacle = view.obstacle(tree.ringGeneration, isBusy: notes.isBusy) { return refuse(obstacle) }
            // One whose task has ended went with it.
            let indexes = notes.indexes.filter { $0.note.inode == d.inode && $0.note.thread != 0 && $0.note.generation == tree.ringGeneration }
            if indexes.count > 1 || notes.indexesLost { return refuse(RingObstacle(" whose descriptor is registered several times (IORING_REGISTER_RING_FDS)", "unregister it before the checkpoint")) }
            var r = ckpt_ring_record()
            if let (i, address) = indexes.first {
                guard !note.parameters.has(CKPT_RING_SINGLE_ISSUER) || i.thread == note.thread else { return refuse(RingObstacle(" that a task has registered which may not use it", "unregister it before the checkpoint")) }
                r.index_thread = i.thread; r.index = i.index; r.index_note = address
            }
            r.event = ckpt_no_index()
            if view.hasEvent {
                guard let event = try eventfd(note.event - 1, of: process) else { return refuse(RingObstacle(": it tells an eventfd that this process has closed", "unregister it (IORING_UNREGISTER_EVENTFD)")) }
                r.event = UInt32(event)
                if note.registered & 1 << UInt64(CKPT_RING_EVENTFD_ASYNC.rawValue) != 0 { r.flags |= CKPT_RING_EVENT_ASYNC.rawValue }
                files.openInEngine(event)
            }
            return try record(&r, view, process, note, address, d, description)
        } catch { return refuse(RingObstacle(": it can't be looked at: \(error.call): \(error.text)", "try again", passes: true)) }
    }

    private func record(_ r: inout ckpt_ring_record, _ view: RingView, _ process: Int, _ note: ckpt_ring_note, _ address: UInt64, _ d: ObservedDescriptor, _ description: Int) throws(SystemError) -> UInt32 {
        var o = ckpt_object_record()
        o.kind = CKPT_OBJECT_RING.rawValue; o.mode = d.mode; o.device = d.device; o.inode = d.inode; o.detail = UInt32(tables.rings.count)
        r.object = append(o, ObjectKey(kind: o.kind, device: o.device, inode: o.inode, path: "\(description)"))
        r.process = UInt32(process); r.note = address
        if note.parameters.has(CKPT_RING_SINGLE_ISSUER) && !view.isDisabled { r.thread = note.thread }
        if view.isDisabled { r.flags |= CKPT_RING_STILL_DISABLED.rawValue }
        r.submitted = view.submitted; r.dropped = view.dropped; r.files = view.files
        r.parameters = note.parameters
        r.rings_size = UInt32(note.parameters.ringsSize); r.entries_size = UInt32(note.parameters.entriesSize)
        if !note.parameters.has(CKPT_RING_NO_MMAP) { r.rings = try store(view.contents.rings); r.entries = try store(view.contents.entries) }
        tables.rings.append(r)
        return r.object
    }

    /// The description of an eventfd of this process, by the number that the kernel gave it.
    private func eventfd(_ id: UInt64, of process: Int) throws(SystemError) -> Int? {
        for d in tree.processes[process].descriptors where d.link == "anon_inode:[eventfd]" {
            if try DescriptorInfo(tree.processes[process].view, d.number).decimal("eventfd-id") == id { return files.description(process: process, number: d.number) }
        }
        return nil
    }

    /// A mapping of one; nil: refused, here or where its descriptor was.
    func ringMapping(_ m: ProcMapping, _ vma: ckpt_vma_record, _ p: ObservedProcess) -> ckpt_vma_record? {
        if let r = tables.rings.first(where: { tables.objects[Int($0.object)].inode == m.inode && tree.processes[Int($0.process)] === p }) {
            var v = vma
            v.kind = CKPT_VMA_RING.rawValue; v.object = r.object; v.object_offset = m.offset
            return v
        }
        if !p.descriptors.contains(where: { $0.isRing && $0.inode == m.inode }) {
            refusals.add(pid: p.pid, "mapping \(hex(m.start))-\(hex(m.end)): io_uring that this process has no descriptor of", "unmap it, or exclude it from fork (MADV_DONTFORK)")
        }
        return nil
    }
}
