// POSIX message queues: attributes and notifications as the file system of queues shows them, messages as a leader takes them and puts them back.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

struct ObservedQueue {
    var device: UInt64, inode: UInt64, link: String
    var place: UInt32 = 0                               // the number of a part's ipc namespace; 0: the tree's
    var holder: Int, number: Int32                      // process and descriptor that it is looked at through
    var attributes: ckpt_posix_attributes, bytes: UInt64
    var notified: Int? = nil                            // index of the process
    var notification: UInt32 = 0, signal: Int32 = 0, value: UInt64 = 0
    var isOutside = false
    var messages: [(priority: UInt32, bytes: [UInt8])] = []
    var isRemoved: Bool { link.hasSuffix(deletedMark) }
}

/// Of one process: its queues, what it is asked about each, and room for their messages.
private struct AskedQueues { let process: ObservedProcess, queues: [Int], queries: ArenaArray<ckpt_posix_query>, rooms: [ArenaArray<UInt8>] }

extension FileSystem { static let messageQueues: UInt64 = 0x19800202, secretMemory: UInt64 = 0x5345434d }

extension Operation {
    func recordQueues(_ tree: ObservedTree, _ barrier: Barrier) throws(CheckpointFailure) {
        let refusals = Refusals(session: segment.name)
        tree.placeIPC(ckpt_session_namespaces(segment.pointer)[Int(CKPT_NAMESPACE_IPC.rawValue) - 1])
        findQueues(tree, refusals)
        if tree.queues.isEmpty { return try refusals.check() }
        placeQueues(tree, refusals)
        findOutsiders(tree, refusals)
        try refusals.check()
        let asked = try askQueues(tree)
        try barrier.run(CKPT_PHASE_QUEUES, expecting: asked.count, patience: options.patience) { "a leader with message queues" }
        for a in asked { try told { () throws(SystemError) in try readQueues(a, tree, refusals) } }
        try refusals.check()
    }

    /// The files of that file system lie in its root: only they need a look.
    private func findQueues(_ tree: ObservedTree, _ refusals: Refusals) {
        for (i, p) in tree.processes.enumerated() where !p.isZombie {
            for d in p.descriptors where d.mode & FileType.mask == FileType.regular && d.link.hasPrefix("/") && !d.link.dropFirst().contains("/") && d.flags & SystemContent.pathOnly == 0 {
                let place = "/proc/\(p.view)/fd/\(d.number)"
                if Path.fileSystem(of: place) != FileSystem.messageQueues || tree.queues.contains(where: { $0.inode == d.inode && $0.device == d.device }) { continue }
                do throws(SystemError) {
                    let attributes = try File(of: p.view, number: d.number).queueAttributes()
                    // "QSIZE:129 NOTIFY:2 SIGNO:0 NOTIFY_PID:8260"
                    var fields: [Substring: Int64] = [:]
                    for f in try Path.text(place).split(whereSeparator: { $0 == " " || $0 == "\n" }) { let parts = f.split(separator: ":"); if parts.count == 2 { fields[parts[0]] = Int64(parts[1]) } }
                    let best = p.descriptors.first { $0.inode == d.inode && $0.device == d.device && $0.canRead && $0.canWrite } ?? d
                    var q = ObservedQueue(device: d.device, inode: d.inode, link: d.link, holder: i, number: best.number, attributes: attributes, bytes: UInt64(fields["QSIZE"] ?? 0))
                    noteNotification(fields, &q, tree, p, d, refusals)
                    tree.queues.append(q)
                } catch { refusals.add(pid: p.pid, fd: d.number, "\(d.link): POSIX message queue: it can't be looked at: \(error.call): \(error.text)", "let its owner read and write it (fchmod)") }
            }
        }
    }

    private func noteNotification(_ fields: [Substring: Int64], _ q: inout ObservedQueue, _ tree: ObservedTree, _ p: ObservedProcess, _ d: ObservedDescriptor, _ refusals: Refusals) {
        guard let pid = fields["NOTIFY_PID"], pid != 0 else { return }
        q.notification = UInt32(fields["NOTIFY"] ?? 0); q.signal = Int32(fields["SIGNO"] ?? 0)
        guard let owner = tree.processes.firstIndex(where: { Int64($0.pid) == pid && !$0.isZombie }), let own = tree.processes[owner].descriptors.filter({ $0.inode == d.inode && $0.device == d.device }).max(by: { !($0.canRead && $0.canWrite) && $1.canRead && $1.canWrite }) else {
            q.isOutside = true
            return
        }
        q.notified = owner; q.holder = owner; q.number = own.number
        if q.notification == CKPT_NOTIFY_THREAD.rawValue { refusals.add(pid: p.pid, fd: d.number, "\(d.link): POSIX message queue that starts a thread (SIGEV_THREAD)", "use SIGEV_SIGNAL") }
        let status = ProcStatus(pid: Int32(pid)), bit = q.signal > 0 ? UInt64(1) << UInt64(q.signal - 1) : 0
        if q.notification == CKPT_NOTIFY_SIGNAL.rawValue, let status, (status.hex("ShdPnd") | status.hex("SigPnd")) & bit != 0 {
            refusals.add(pid: p.pid, fd: d.number, "\(d.link): POSIX message queue whose signal is pending", "try again when it has been taken", status: .temporary)
        }
    }

    /// Whoever else has one of them open: only looked for where there are some.
    private func findOutsiders(_ tree: ObservedTree, _ refusals: Refusals) {
        let inside = Set(tree.processes.map(\.pid)), links = Set(tree.queues.map(\.link))
        for pid in Proc.processes() where !inside.contains(pid) && pid != Kernel.processID {
            for number in (try? Path.names(in: "/proc/\(pid)/fd")) ?? [] {
                let place = "/proc/\(pid)/fd/\(number)"
                guard let link = try? Path.link(place), links.contains(link), let s = try? Path.status(place) else { continue }
                for i in tree.queues.indices where tree.queues[i].inode == s.inodeNumber && tree.queues[i].device == s.deviceNumber { tree.queues[i].isOutside = true }
            }
        }
        for q in tree.queues where q.isOutside && q.isRemoved {
            refusals.add(pid: tree.processes[q.holder].pid, fd: q.number, "\(q.link): POSIX message queue that a program outside the tree has open, and that has no name", "start the other program under the same ckrun")
        }
        for q in tree.queues where q.isOutside && q.place != 0 {
            refusals.add(pid: tree.processes[q.holder].pid, fd: q.number, "\(q.link): POSIX message queue in an ipc namespace of a part of the tree, that a program outside the tree has open", "start the other program under the same ckrun")
        }
    }

    private func askQueues(_ tree: ObservedTree) throws(CheckpointFailure) -> [AskedQueues] {
        var holders: [Int: [Int]] = [:], asked: [AskedQueues] = []
        for (i, q) in tree.queues.enumerated() where !q.isOutside { holders[q.holder, default: []].append(i) }
        for (process, queues) in holders {
            let p = tree.processes[process], slot = segment.process(p.slot)
            var queries: [ckpt_posix_query] = [], rooms: [ArenaArray<UInt8>] = []
            for i in queues {
                let q = tree.queues[i], room = q.bytes + UInt64(q.attributes.count) * 16 + UInt64(q.attributes.largest) + 64
                var query = ckpt_posix_query()
                query.fd = q.number; query.largest = UInt64(q.attributes.largest); query.room = room
                rooms.append(try self.room(p, Int(room)))
                query.messages = rooms[rooms.count - 1].offset
                if q.notified != nil { query.registered = 1 + q.notification; query.signal = q.signal }
                queries.append(query)
            }
            let records = try claim(p, queries)
            slot.pointee.queues_offset = records.offset
            slot.pointee.queues_count = UInt64(records.count)
            asked.append(AskedQueues(process: p, queues: queues, queries: records, rooms: rooms))
        }
        return asked
    }

    private func readQueues(_ asked: AskedQueues, _ tree: ObservedTree, _ refusals: Refusals) throws(SystemError) {
        for (k, i) in asked.queues.enumerated() {
            let query = asked.queries[k], header = UInt64(MemoryLayout<ckpt_posix_message>.size)
            if query.error != 0 {
                refusals.add(pid: asked.process.pid, fd: tree.queues[i].number, "\(tree.queues[i].link): POSIX message queue: its messages can't be read: \(SystemError("mq_receive", errno: query.error).text)", "let its owner read and write it (fchmod), or close a descriptor")
                continue
            }
            tree.queues[i].value = query.value
            var at: UInt64 = 0
            while at < query.used {
                let m = try asked.rooms[k].load(ckpt_posix_message.self, at: at)
                tree.queues[i].messages.append((m.priority, try asked.rooms[k].bytes(at + header, UInt64(m.size))))
                at += header + (UInt64(m.size) + 7) & ~7
            }
        }
    }
}

extension SystemContent {
    func addQueues(_ tree: ObservedTree) {
        for q in tree.queues {
            var r = ckpt_ipc_record(), o = ckpt_object_record()
            let holder = tree.processes[q.holder], d = holder.descriptors.first { $0.number == q.number }!
            let path = q.isRemoved ? String(q.link.dropLast(deletedMark.count)) : q.link
            r.kind = CKPT_IPC_POSIX_QUEUE.rawValue
            r.flags = (q.isOutside ? CKPT_IPC_OUTSIDE.rawValue : 0) | (q.isRemoved ? CKPT_IPC_REMOVED.rawValue : 0)
            r.mode = d.mode & 0o777; (r.uid, r.gid) = ownUsers.inside(d.uid, d.gid); r.size = UInt64(q.attributes.most)
            r.creator = Int32(q.notified ?? -1); r.last = q.signal; r.cuid = q.notification
            withUnsafeMutablePointer(to: &r) { ckpt_ipc_spare($0)[0] = UInt64(q.attributes.largest); ckpt_ipc_spare($0)[1] = q.value }
            place(&r, tree)
            r.place = ipcRecord(q.place)
            o.kind = CKPT_OBJECT_QUEUE.rawValue; o.mode = d.mode; o.device = q.device; o.inode = q.inode; o.path = tables.text(path); o.detail = UInt32(tables.ipc.count)
            r.object = append(o, queueKey(d))
            r.first = UInt32(tables.queued.count); r.count = UInt32(q.messages.count)
            do throws(SystemError) {
                for m in q.messages { tables.queued.append(ckpt_queued_record(type: Int64(m.priority), size: UInt64(m.bytes.count), content: m.bytes.isEmpty ? 0 : try store(m.bytes))) }
            } catch { refusals.add(pid: holder.pid, fd: q.number, "\(q.link): \(error.call): \(error.text)", "free space, or choose another place with -o") }
            tables.ipc.append(r)
        }
    }
    private func queueKey(_ d: ObservedDescriptor) -> ObjectKey { ObjectKey(kind: CKPT_OBJECT_QUEUE.rawValue, device: d.device, inode: d.inode, path: "") }

    func queueObject(_ d: ObservedDescriptor, _ pid: Int32) -> UInt32? {
        if let index = known(queueKey(d)) { return index }
        refusals.add(pid: pid, fd: d.number, "\(d.link): POSIX message queue that only a message in flight holds", "receive it before the checkpoint")
        return nil
    }
}
