// Unread events of inotify queues.  Reading would take them from a program that runs on, and they can't be put back without a moment in which they may be
// lost: so they are looked at where the kernel has them (System/InotifyQueue.swift), or the checkpoint is refused for the moment.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem
import FreestandingHosted

/// What becomes of events that nobody has read.
public enum UnreadEvents: String, Sendable, CaseIterable { case keep, refuse, overflow }

/// A queue's events, and its watches at that moment.
struct UnreadQueue {
    var pid: Int32, number: Int32, events: QueuedEvents, watches: [InotifyWatch]
    /// The kernel takes a watch away a little before it queues IN_IGNORED.
    func tellsOfEnds(since before: [InotifyWatch]) -> Bool {
        let left = Set(watches.map(\.wd)), gone = before.map(\.wd).filter { !left.contains($0) }
        return gone.isEmpty || Set(gone).isSubset(of: events.endedWatches)
    }
}

final class UnreadQueues {
    fileprivate struct Place: Hashable { var pid: Int32, number: Int32 }
    fileprivate enum State { case empty, overflow, refused, kept(UnreadQueue) }
    /// `before`: the watches at the first look, before anything was found in the queue or not.
    fileprivate struct Queue { var before: [InotifyWatch], state: State }
    fileprivate var queues: [Place: Queue] = [:]
    fileprivate lazy var view = Result { () throws(InotifyLookFailure) in try InotifyQueueView() }
    var kept: [UnreadQueue] { queues.values.compactMap { if case .kept(let q) = $0.state { q } else { nil } }.sorted { ($0.pid, $0.number) < ($1.pid, $1.number) } }
    /// A full queue of Linux's usual size, but for long names; they are looked at in the pause.
    static let most = 4 << 20
}

private let remedy = "try again when the program has read them, or use --inotify overflow"

extension SystemContent {
    /// Once per queue, before anything else is looked at.  A queue that only a message in flight holds is found later than the others.
    func surveyUnread(_ f: OpenFile) throws(SystemError) {
        if unread.queues[place(f)] == nil { try lookAtUnread(f) }
    }

    /// What is unread now; the watches come first, so that an end of one between the two looks is not missed.
    func lookAtUnread(_ f: OpenFile) throws(SystemError) {
        let watches = try watches(of: f), queue = try fetch.copy(of: f.samplePid, f.sample.number)
        let state: UnreadQueues.State = try queue.unreadBytes() == 0 ? .empty : unreadState(f, watches, queue)
        unread.queues[place(f), default: UnreadQueues.Queue(before: watches, state: state)].state = state
    }
    private func unreadState(_ f: OpenFile, _ watches: [InotifyWatch], _ queue: File) -> UnreadQueues.State {
        switch options.unreadEvents {
        case .overflow: return .overflow
        case .refuse:
            refuse(f, "it holds events that the program has not read", "try again when it has, or leave --inotify refuse out")
            return .refused
        case .keep:
            do throws(InotifyLookFailure) {
                let events = try unread.view.get().events(in: queue, most: UnreadQueues.most)
                return .kept(UnreadQueue(pid: f.samplePid, number: f.sample.number, events: events, watches: watches))
            } catch {
                refuse(f, error)
                return .refused
            }
        }
    }

    /// Of a refused queue no paths are searched: who is not root has to look through folders for that.
    func isRefused(_ f: OpenFile) -> Bool { if case .refused = unread.queues[place(f)]?.state { true } else { false } }

    /// Whether `watches`, which have been recorded, and what was found unread are of one moment.  Somebody outside may remove a watched file at any time,
    /// which ends its watch and is an event.  What changes after this look has changed after that moment.
    func isOneMoment(_ f: OpenFile, _ watches: [InotifyWatch]) throws(SystemError) -> Bool {
        guard let q = unread.queues[place(f)], try self.watches(of: f) == watches else { return false }
        switch q.state {
        // The watches first: one that goes after that look is told of later, and is still there in the statefile, as is nothing in the queue.
        case .empty:
            let left = try fetch.copy(of: f.samplePid, f.sample.number).unreadBytes()
            return watches == q.before && left == 0
        case .overflow: return true         // which says that there may have been anything
        case .kept(let unread): return unread.watches == watches && unread.tellsOfEnds(since: q.before)
        case .refused: return false
        }
    }

    /// Into the queue's record.
    func recordUnread(_ f: OpenFile, _ e: inout ckpt_event_record) throws(SystemError) {
        switch unread.queues[place(f)]?.state {
        case .overflow: e.flags |= CKPT_EVENT_OVERFLOW.rawValue
        case .kept(let q):
            e.value = try store(q.events.bytes)
            e.set_flags = UInt32(q.events.bytes.count); e.clock = q.events.nextWatch
            e.flags |= CKPT_EVENT_UNREAD.rawValue
        case .empty, .refused, nil: break
        }
    }

    func watches(of f: OpenFile) throws(SystemError) -> [InotifyWatch] { InotifyWatch.all(try DescriptorInfo(f.samplePid, f.sample.number)) }
    private func place(_ f: OpenFile) -> UnreadQueues.Place { UnreadQueues.Place(pid: f.samplePid, number: f.sample.number) }

    private func refuse(_ f: OpenFile, _ what: String, _ remedy: String) {
        refusals.add(pid: f.samplePid, fd: f.sample.number, "inotify queue: \(what)", remedy, status: .temporary)
    }
    private func refuse(_ f: OpenFile, _ failure: InotifyLookFailure) {
        let what = "it holds events that the program has not read, "
        switch failure {
        case .notPermitted(let e) where Kernel.userID == 0: refuse(f, what + "and this kernel lets nobody look at them: \(e.call): \(e.text)", remedy)
        case .notPermitted(let e): refuse(f, what + "and only root may look at them: \(e.call): \(e.text)", "run ckptctl as root or with CAP_BPF and CAP_PERFMON, " + remedy)
        case .unknownKernel: refuse(f, what + "and this kernel does not tell where (/sys/kernel/btf/vmlinux)", remedy)
        case .changing: refuse(f, what + "and somebody outside of the tree is reading them", remedy)
        case .unreadable(let e): refuse(f, what + "and looking at them has failed: \(e.call): \(e.text)", remedy)
        case .tooMany: refuse(f, what + "more than \(UnreadQueues.most >> 20) MiB", remedy)
        }
    }
}

extension Operation {
    /// What a restart will have to do is done once here, in a queue of ours: a statefile never has events that can't be made again.
    func rehearseEvents(_ content: SystemContent) throws(CheckpointFailure) {
        let queues = content.unread.kept
        if queues.isEmpty { return }
        phase("events")
        var problems: [Problem] = []
        for q in queues {
            guard let (cause, remedy) = failureOfRehearsal(q.events) else { continue }
            problems.append(problem(.temporary, "pid \(q.pid)", "fd \(q.number)", "inotify queue: its unread events can't be made again: \(cause)", remedy: remedy))
        }
        if !problems.isEmpty { throw CheckpointFailure(problems) }
    }

    private func failureOfRehearsal(_ events: QueuedEvents) -> (cause: String, remedy: String)? {
        let setting = "sysctl fs.inotify.max_queued_events"
        if events.hasHalvesApart { return ("something else has happened between the halves of a move", remedy) }
        if let length = Kernel.longestInotifyQueue, length > EventReplay.most { return ("a restart has to fill the queue to its end, which takes \(length) events here, and it makes at most \(EventReplay.most)", "lower \(setting), " + remedy) }
        switch rehearse(events.bytes) {
        case .done: return nil
        case .noPlace(let r): return ("there is no place for that: \(SystemError("fsmount", errno: Int32(-r)).text)", "permit user namespaces (sysctl user.max_user_namespaces), or run ckptctl as root")
        case .noNumber: return ("a watch can't have a number of our choice: this kernel lacks CONFIG_CHECKPOINT_RESTORE", "use --inotify overflow")
        case .limited(let limit): return ("\(limit.cause)", "\(limit.remedy), or \(remedy)")
        case .tooMany: return ("the queue is full to its last place", remedy)
        case .queueTooLong: return ("it takes more than \(EventReplay.most) events to fill the queue", "lower \(setting), " + remedy)
        case .different: return ("they are of a kind, or in an order, that no program brings about", remedy)
        }
    }
}

extension QueuedEvents {
    /// The halves of a move have one cookie.  The kernel queues one after the other, with something between only if another task's event comes just then,
    /// or if the first half ends its watch (IN_ONESHOT).
    var hasHalvesApart: Bool {
        var last: [UInt32: Int] = [:], n = 0, areApart = false
        forEach { _, _, cookie in
            if cookie != 0 {
                if let before = last[cookie], before != n - 1 { areApart = true }
                last[cookie] = n
            }
            n += 1
        }
        return areApart
    }
    /// By IN_IGNORED.
    var endedWatches: Set<Int32> {
        var ended: Set<Int32> = []
        forEach { watch, mask, _ in if mask & EventMask.ignored != 0 { ended.insert(watch) } }
        return ended
    }
    private func forEach(_ body: (_ watch: Int32, _ mask: UInt32, _ cookie: UInt32) -> Void) {
        bytes.withUnsafeBytes { b in
            var at = 0
            while at + QueuedEvent.header <= b.count {
                body(b.loadUnaligned(fromByteOffset: at, as: Int32.self), b.loadUnaligned(fromByteOffset: at + 4, as: UInt32.self), b.loadUnaligned(fromByteOffset: at + 8, as: UInt32.self))
                at += QueuedEvent.header + Int(b.loadUnaligned(fromByteOffset: at + 12, as: UInt32.self))
            }
        }
    }
}

private func rehearse(_ events: [UInt8]) -> ReplayOutcome {
    let room = events.count + 16, size = 65536
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 2 * room + size, alignment: 16)
    defer { memory.deallocate() }
    let base = memory.baseAddress!
    UnsafeMutableRawBufferPointer(rebasing: memory[size...]).copyBytes(from: events)
    return EventRehearsal.outcome(base + size, used: events.count, base + size + room, room: room, buffer: base, size: size)
}
