// Unread events of inotify queues: only reading shows them.  So a leader takes them and puts them back at once (preload/InotifyQueues.swift), when
// everything else has been found to be all right.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

struct UnreadQueue {
    var event: Int                          // index in EVENT
    var process: Int, number: Int32         // whose leader does it
    var file: OpenFile
    var watches: [(watch: InotifyWatch, path: String)]         // the oldest first
    var bytes: Int
}

extension SystemContent {
    /// The event's record is the next one.
    func noteUnread(_ bytes: Int, _ f: OpenFile, _ watches: [InotifyWatch], _ e: inout ckpt_event_record) {
        if options.unreadEvents != .keep { e.flags = CKPT_EVENT_OVERFLOW.rawValue; return }
        guard let holder = f.holders.first else {
            return refusals.add(pid: f.samplePid, fd: f.sample.number, "inotify queue: it is in a message, and holds unread events", "receive it before the checkpoint, or use --inotify overflow", status: .temporary)
        }
        let asynchronous: UInt32 = 0o20000
        if f.sample.flags & asynchronous != 0 {
            return refusals.add(pid: f.samplePid, fd: f.sample.number, "inotify queue: it holds unread events, and signals (O_ASYNC)", "try again when the program has read them, or use --inotify overflow", status: .temporary)
        }
        unreadQueues.append(UnreadQueue(event: tables.events.count, process: holder.process, number: holder.number, file: f,
                                        watches: watches.reversed().map { ($0, watchedPaths[$0.file] ?? "") }, bytes: bytes))
    }

    /// Nobody else may read from it meanwhile.
    fileprivate func refuseSharedQueues() {
        let inside = Set(tree.processes.map(\.pid))
        for pid in Proc.processes() where !inside.contains(pid) && pid != Kernel.processID {
            for number in ((try? Path.names(in: "/proc/\(pid)/fd")) ?? []).compactMap({ Int32($0) }) where (try? Path.link("/proc/\(pid)/fd/\(number)")) == "anon_inode:inotify" {
                for q in unreadQueues where (try? Kernel.compare(pid, q.file.samplePid, .file, number, q.file.sample.number)) == 0 {
                    refusals.add(pid: q.file.samplePid, fd: q.file.sample.number, "inotify queue: it holds unread events, and process \(pid) outside the tree has it too", "end that process, or use --inotify overflow")
                }
            }
        }
    }

    /// A watch for one event (IN_ONESHOT) that has come since it was recorded.  What is left are the first of its queue's records.
    private func forget(_ wd: Int32, _ event: Int) {
        let first = Int(tables.events[event].first_item), last = first + Int(tables.events[event].item_count) - 1
        guard first <= last, let k = (first...last).first(where: { tables.watches[$0].wd == wd }) else { return }
        tables.watches.swapAt(k, last)
        tables.events[event].item_count -= 1
    }
    private func endedWatches(_ events: [UInt8]) -> [Int32] {
        let header = 16, ignored: UInt32 = 0x8000
        var at = 0, ended: [Int32] = []
        events.withUnsafeBytes { b in
            while at + header <= b.count {
                if b.loadUnaligned(fromByteOffset: at + 4, as: UInt32.self) & ignored != 0 { ended.append(b.loadUnaligned(fromByteOffset: at, as: Int32.self)) }
                at += header + Int(b.loadUnaligned(fromByteOffset: at + 12, as: UInt32.self))
            }
        }
        return ended
    }

    fileprivate func keep(_ q: UnreadQueue, _ answer: ckpt_unread_query, _ events: [UInt8]) {
        let pid = q.file.samplePid, fd = q.file.sample.number, what = "inotify queue: it holds unread events, "
        let remedy = "try again when the program has read them, or use --inotify overflow", cause = answer.error == 0 ? "" : ": \(SystemError("", errno: answer.error).text)"
        switch ckpt_unread_outcome(rawValue: answer.outcome) {
        case CKPT_UNREAD_KEPT:
            do throws(SystemError) {
                tables.events[q.event].value = try store(events)
                tables.events[q.event].set_flags = UInt32(events.count); tables.events[q.event].clock = answer.next
                tables.events[q.event].flags |= CKPT_EVENT_UNREAD.rawValue
                for wd in endedWatches(events) { forget(wd, q.event) }
            } catch { refusals.add(pid: pid, fd: fd, "inotify queue: its events can't be stored: \(error.call): \(error.text)", "free space, or choose another place with -o") }
        case CKPT_UNREAD_NO_STAGE: refusals.add(pid: pid, fd: fd, what + "and there is no place to make them again: neither a mount nor a user namespace is permitted", remedy, status: .temporary)
        case CKPT_UNREAD_WATCH: refusals.add(pid: pid, fd: fd, what + "and what it watches can't be watched a second time\(cause)", remedy, status: .temporary)
        case CKPT_UNREAD_OTHERS: refusals.add(pid: pid, fd: fd, what + "and its watches have changed meanwhile, or their paths lead elsewhere for the process", remedy, status: .temporary)
        case CKPT_UNREAD_BUSY: refusals.add(pid: pid, fd: fd, what + "and what it watches is being changed", remedy, status: .temporary)
        default: refusals.add(pid: pid, fd: fd, "inotify queue: its watches could not be set as they were\(cause)", "let the program watch anew")
        }
    }
}

extension Operation {
    func keepUnreadEvents(_ tree: ObservedTree, _ content: SystemContent, _ barrier: Barrier) throws(CheckpointFailure) {
        let queues = content.unreadQueues
        if queues.isEmpty || !content.refusals.problems.isEmpty { return }
        content.refuseSharedQueues()
        try content.refusals.check()
        phase("unread")
        let asked = Dictionary(grouping: queues.indices) { queues[$0].process }
        for (process, own) in asked {
            let p = tree.processes[process], slot = segment.process(p.slot)
            var queries: [ckpt_unread_query] = []
            for i in own { queries.append(try query(queues[i], p)) }
            slot.pointee.unread_offset = try claim(p, queries)
            slot.pointee.unread_count = UInt64(queries.count)
        }
        try barrier.run(CKPT_PHASE_UNREAD, expecting: asked.count, patience: options.patience) { "a leader with unread inotify events" }
        for (process, own) in asked {
            let answers = arena(segment.process(tree.processes[process].slot).pointee.unread_offset, ckpt_unread_query.self)
            for (k, i) in own.enumerated() {
                let a = answers[k]
                content.keep(queues[i], a, Array(UnsafeBufferPointer(start: arena(a.events, UInt8.self), count: Int(a.used))))
            }
        }
        try content.refusals.check()
    }

    private func query(_ q: UnreadQueue, _ p: ObservedProcess) throws(CheckpointFailure) -> ckpt_unread_query {
        let slack = 256 << 10                   // what comes meanwhile
        var a = ckpt_unread_query(), watches: [ckpt_unread_watch] = []
        for w in q.watches { watches.append(ckpt_unread_watch(wd: w.watch.wd, mask: w.watch.mask, path: try claim(p, w.path.nameBytes + [0]), file: -1)) }
        a.fd = q.number; a.count = UInt64(watches.count); a.watches = try claim(p, watches)
        a.room = UInt64(q.bytes + slack); a.events = try room(p, Int(a.room))
        return a
    }
}
