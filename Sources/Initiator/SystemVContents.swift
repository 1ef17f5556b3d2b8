// What is in System V semaphores and message queues, and their records.  Messages are copied (MSG_COPY), never received.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

private enum SemaphoreCommand { static let pid: Int64 = 11, all: Int64 = 13 }
private let ipcNoWait: Int64 = 0o4000, copyMessage: Int64 = 0o40000

extension Operation {
    func readSemaphores(_ tree: ObservedTree, _ barrier: Barrier) throws(CheckpointFailure) {
        var questions: [Int: [Ask]] = [:], buffers: [Int: ArenaArray<UInt8>] = [:]
        let sets = tree.systemV.indices.filter { tree.systemV[$0].kind == CKPT_IPC_SEMAPHORES }
        try requireRoom(tree.processes[tree.root], questions: sets.reduce(0) { $0 + tree.systemV[$1].size })
        for i in sets {
            let o = tree.systemV[i], id = Int64(o.id), values = try room(tree.processes[o.reader], Int(o.size) * 2)
            buffers[i] = values
            questions[o.reader, default: []] += [Ask(CKPT_SYS_semctl, [id, 0, SemaphoreCommand.all], buffer: values)] + (0..<Int64(o.size)).map { Ask(CKPT_SYS_semctl, [id, $0, SemaphoreCommand.pid]) }
        }
        let results = try ask(tree, barrier, questions)
        var next: [Int: Int] = [:]
        for i in sets {
            let o = tree.systemV[i], count = Int(o.size), from = next[o.reader, default: 0], own = results[o.reader]![from...(from + count)]
            next[o.reader] = from + count + 1
            guard own.allSatisfy({ $0 >= 0 }) else { continue }        // not permitted: nobody of the tree uses it
            let buffer = buffers[i]!
            tree.systemV[i].values = try told { () throws(SystemError) in
                try buffer.bytes(0, UInt64(count) * 2).withUnsafeBytes { values in (0..<count).map { Int32(values.loadUnaligned(fromByteOffset: $0 * 2, as: UInt16.self)) } }
            }
            tree.systemV[i].lastPids = own.dropFirst().map { Int32(truncatingIfNeeded: $0) }
            tree.systemV[i].pids = zip(tree.systemV[i].values, tree.systemV[i].lastPids).filter { $0.0 != 0 || $0.1 != 0 }.map { (pid: $0.1, time: o.operated) }
        }
    }

    /// An undo value says that its process uses the set, whoever used it last.
    func readAdjustments(_ tree: ObservedTree, _ barrier: Barrier) throws(CheckpointFailure) {
        let sets = tree.systemV.indices.filter { tree.systemV[$0].mayBeUndone }
        if sets.isEmpty { return }
        try requireRoom(tree.processes[tree.root], questions: sets.reduce(0) { $0 + tree.systemV[$1].size } * UInt64(tree.live.count))
        var questions: [Int: [Ask]] = [:]
        for (i, p) in tree.processes.enumerated() where !p.isZombie {
            let own = sets.filter { tree.systemV[$0].place == p.ipc }
            if !own.isEmpty { questions[i] = own.flatMap { s in (0..<Int64(tree.systemV[s].size)).map { Ask(Int(CKPT_ASK_ADJUSTMENT), [Int64(tree.systemV[s].id), $0]) } } }
        }
        let results = try ask(tree, barrier, questions), lowest: Int64 = -32768, mayNot: Set<Int64> = [13, 22, 43]      // EACCES, EINVAL, EIDRM: no operation of it was permitted
        let busy: Int64 = 16
        for (i, p) in tree.processes.enumerated() where !p.isZombie {
            var at = 0
            for s in sets where tree.systemV[s].place == p.ipc {
                for number in 0..<Int32(tree.systemV[s].size) {
                    let value = results[i]![at]
                    at += 1
                    if value == 0 { continue }
                    if value >= lowest && value <= Int64(CKPT_SEMAPHORE_LARGEST) { tree.systemV[s].adjustments.append((process: i, number: Int(number), value: Int32(value))); continue }
                    let e = 0 &- (value &+ 65536)
                    if e == busy, tree.systemV[s].place == 0, !isInside(anyOf: tree.systemV[s].pids, tree) { continue }
                    if !mayNot.contains(e) { tree.refusals.add(pid: p.pid, "\(tree.systemV[s].name): its undo value can't be found out: \(SystemError("semop", errno: Int32(truncatingIfNeeded: e)).text)", "try again") }
                }
            }
        }
    }

    func readMessages(_ tree: ObservedTree, _ barrier: Barrier) throws(CheckpointFailure) {
        var questions: [Int: [Ask]] = [:], buffers: [Int: [ArenaArray<UInt8>]] = [:]
        let queues = tree.systemV.indices.filter { tree.systemV[$0].kind == CKPT_IPC_QUEUE && !tree.systemV[$0].isOutside && tree.systemV[$0].count > 0 }
        for i in queues {
            let o = tree.systemV[i]
            for n in 0..<Int64(o.count) {
                // A type, then at most all that is in the queue.
                let buffer = try room(tree.processes[o.reader], 8 + Int(o.bytes))
                buffers[i, default: []].append(buffer)
                questions[o.reader, default: []].append(Ask(CKPT_SYS_msgrcv, [Int64(o.id), Int64(o.bytes), n, copyMessage | ipcNoWait], buffer: buffer, at: 1))
            }
        }
        let results = try ask(tree, barrier, questions)
        var next: [Int: Int] = [:]
        for i in queues {
            let o = tree.systemV[i], from = next[o.reader, default: 0]
            next[o.reader] = from + Int(o.count)
            for (buffer, size) in zip(buffers[i]!, results[o.reader]![from..<(from + Int(o.count))]) {
                guard size >= 0 else {
                    tree.refusals.add(pid: tree.processes[o.reader].pid, "\(o.name): its messages can't be read: \(SystemError("msgrcv", errno: Int32(truncatingIfNeeded: 0 &- size)).text)",
                                      "let its owner read it (IPC_SET)")
                    break
                }
                tree.systemV[i].messages.append(try told { () throws(SystemError) in (try buffer.load(Int64.self), try buffer.bytes(8, UInt64(size))) })
            }
        }
    }
}

extension SystemContent {
    /// The records, and an object for each segment: its pages come with the memory.
    func addSystemV(_ tree: ObservedTree) {
        for o in tree.systemV {
            var r = ckpt_ipc_record(), p = o.permission
            p.mode &= 0o777
            let lister = tree.processes[o.lister]
            (p.uid, p.gid) = inTree(lister, p.uid, p.gid); (p.cuid, p.cgid) = inTree(lister, p.cuid, p.cgid)
            r.kind = o.kind.rawValue; r.flags = o.flags; r.id = o.id; r.key = p.key; r.mode = p.mode; r.uid = p.uid; r.gid = p.gid; r.cuid = p.cuid; r.cgid = p.cgid
            r.creator = o.creator; r.last = o.last; r.size = o.size; r.object = ckpt_no_index()
            place(&r, tree)
            r.place = ipcRecord(o.place); r.pids = pidsRecord(of: o)
            if o.kind == CKPT_IPC_SEGMENT { r.object = addSegment(o) }
            if o.kind == CKPT_IPC_SEMAPHORES { addSemaphores(o, &r) }
            if o.kind == CKPT_IPC_QUEUE { addMessages(o, &r) }
            tables.ipc.append(r)
        }
    }

    /// In which namespace and boot an id or name was this object's.
    func place(_ r: inout ckpt_ipc_record, _ tree: ObservedTree) {
        r.name_space = tree.live.first { $0.ipc == 0 }.flatMap { try? Path.status("/proc/\($0.view)/ns/ipc") }?.inodeNumber ?? 0
        let digits = ((try? Path.text("/proc/sys/kernel/random/boot_id")) ?? "").utf8.compactMap { Character(UnicodeScalar($0)).hexDigitValue }
        withUnsafeMutablePointer(to: &r) { let b = ckpt_ipc_boot($0); for (i, d) in digits.prefix(32).enumerated() { b[i / 2] = b[i / 2] << 4 | UInt8(d) } }
    }

    private func addSegment(_ o: ObservedIPC) -> UInt32 {
        var s = ckpt_object_record()
        s.kind = CKPT_OBJECT_SEGMENT.rawValue; s.size = o.size; s.device = UInt64(o.place); s.inode = UInt64(UInt32(bitPattern: o.id)); s.flags = CKPT_OBJECT_MAPPED.rawValue
        s.path = tables.text(o.name); s.detail = UInt32(tables.ipc.count)
        return append(s, segmentKey(s.inode, o.place))
    }
    private func segmentKey(_ id: UInt64, _ place: UInt32) -> ObjectKey { ObjectKey(kind: CKPT_OBJECT_SEGMENT.rawValue, device: UInt64(place), inode: id, path: "") }
    /// The object of an attachment.
    func attachedSegment(_ m: ProcMapping, _ p: ObservedProcess) -> UInt32? {
        if let index = known(segmentKey(m.inode, p.ipc)) { return index }
        refusals.add(pid: p.pid, "mapping \(hex(m.start))-\(hex(m.end)): System V shared memory \(m.inode): it is of another ipc namespace than the process lives in", "detach it (shmdt) before the checkpoint")
        return nil
    }

    private func addSemaphores(_ o: ObservedIPC, _ r: inout ckpt_ipc_record) {
        r.first = UInt32(tables.semaphores.count); r.count = UInt32(o.values.count)
        for (value, last) in zip(o.values, o.lastPids) { tables.semaphores.append(ckpt_semaphore_record(value: value, last: last)) }
        for a in o.adjustments { tables.adjustments.append(ckpt_adjustment_record(process: UInt32(a.process), set: UInt32(tables.ipc.count), number: UInt32(a.number), value: a.value)) }
    }
    private func addMessages(_ o: ObservedIPC, _ r: inout ckpt_ipc_record) {
        r.first = UInt32(tables.queued.count); r.count = UInt32(o.messages.count)
        do throws(SystemError) {
            for m in o.messages { tables.queued.append(ckpt_queued_record(type: m.type, size: UInt64(m.bytes.count), content: m.bytes.isEmpty ? 0 : try store(m.bytes))) }
        } catch { refusals.add(pid: 0, "\(o.name): \(error.call): \(error.text)", "free space, or choose another place with -o") }
    }
}

extension ProcMapping {
    /// All of a segment, readable: whoever has this attachment can write its contents.
    func coversSegment(_ size: UInt64) -> Bool { offset == 0 && self.size >= (size + 4095) & ~4095 && protection & 1 != 0 }
}

extension MemoryPlan {
    private func hasRoom(_ p: ObservedProcess) -> Bool { p.limits[7].soft > UInt64(p.descriptors.count + 4) }

    /// An attachment: the first one that shows all of a segment gives its contents.
    func segmentRange(_ m: ProcMapping, _ v: inout ckpt_vma_record, _ range: ckpt_range, _ content: SystemContent, _ draft: Draft, _ p: ObservedProcess, hasSwap: Bool) -> ckpt_range {
        var r = range
        let size = content.tables.objects[Int(v.object)].size, isOutside = content.tables.ipc[Int(content.tables.objects[Int(v.object)].detail)].flags & CKPT_IPC_OUTSIDE.rawValue != 0
        r.kind = CKPT_RANGE_SEGMENT.rawValue; r.object = v.object; r.object_offset = m.offset; r.copy = (hasSwap ? 1 : 0) | (m.flags.contains("dc") ? 2 : 0)
        if isOutside || segmentsWritten.contains(v.object) || !m.coversSegment(size) || !hasRoom(p) { return r }
        segmentsWritten.insert(v.object)
        r.file_offset = draft.claimPages(m.size)
        v.data_offset = r.file_offset
        return r
    }

    /// Segments of the tree that no process has attached as a whole: the one that may read them attaches them for the moment of writing.
    func unattached(_ content: SystemContent, _ tree: ObservedTree, _ process: Int, _ draft: Draft, hasSwap: Bool) -> [ckpt_range] {
        var ranges: [ckpt_range] = []
        for (i, o) in tree.systemV.enumerated() where o.kind == CKPT_IPC_SEGMENT && !o.isOutside && o.reader == process {
            let object = content.tables.ipc[i].object, size = (o.size + 4095) & ~4095
            if tree.live.contains(where: { p in hasRoom(p) && p.mappings.contains { o.isAttached($0, p) && $0.coversSegment(o.size) } }) { continue }
            guard hasRoom(tree.processes[process]) else {
                content.refusals.add(pid: tree.processes[process].pid, "\(o.name): no process with a free descriptor has all of it attached", "close a descriptor")
                continue
            }
            var r = ckpt_range(start: 0, end: size, file_offset: 0, kind: CKPT_RANGE_SEGMENT.rawValue, object: object, object_offset: 0, copy: (hasSwap ? 1 : 0) | UInt64(UInt32(bitPattern: o.id)) << 32)
            r.file_offset = draft.claimPages(size)
            ranges.append(r)
        }
        return ranges
    }
}
