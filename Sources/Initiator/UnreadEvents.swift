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
struct UnreadQueue { var pid: Int32, number: Int32, events: QueuedEvents, watches: [InotifyWatch] }

final class UnreadQueues {
    fileprivate struct Place: Hashable { var pid: Int32, number: Int32 }
    fileprivate enum State { case empty, overflow, refused, kept(UnreadQueue) }
    fileprivate var states: [Place: State] = [:]
    fileprivate lazy var view = Result { () throws(InotifyLookFailure) in try InotifyQueueView() }
    var kept: [UnreadQueue] { states.values.compactMap { if case .kept(let q) = $0 { q } else { nil } }.sorted { ($0.pid, $0.number) < ($1.pid, $1.number) } }
    /// A full queue of Linux's usual size, but for long names; they are looked at in the pause.
    static let most = 4 << 20
}

private let remedy = "try again when the program has read them, or use --inotify overflow"

extension SystemContent {
    /// Once per queue.  A queue that only a message in flight holds is found later than the others.
    func surveyUnread(_ f: OpenFile, _ watches: [InotifyWatch]) throws(SystemError) {
        let place = UnreadQueues.Place(pid: f.samplePid, number: f.sample.number)
        if unread.states[place] != nil { return }
        let queue = try fetch.copy(of: f.samplePid, f.sample.number)
        unread.states[place] = try queue.unreadBytes() == 0 ? .empty : .refused
        if case .empty = unread.states[place] { return }
        switch options.unreadEvents {
        case .overflow: unread.states[place] = .overflow
        case .refuse: refuse(f, "it holds events that the program has not read", "try again when it has, or leave --inotify refuse out")
        case .keep:
            do throws(InotifyLookFailure) {
                let events = try unread.view.get().events(in: queue, most: UnreadQueues.most)
                unread.states[place] = .kept(UnreadQueue(pid: f.samplePid, number: f.sample.number, events: events, watches: watches))
            } catch { refuse(f, error) }
        }
    }

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
        case .tooMany: refuse(f, what + "more than \(UnreadQueues.most >> 20) MiB", remedy)
        }
    }

    /// Into the queue's record; false: refused.
    func recordUnread(_ f: OpenFile, _ watches: [InotifyWatch], _ e: inout ckpt_event_record) throws(SystemError) -> Bool {
        try surveyUnread(f, watches)
        switch unread.states[UnreadQueues.Place(pid: f.samplePid, number: f.sample.number)] ?? .empty {
        case .empty: return true
        case .refused: return false         // nobody needs its paths, for which who is not root has to search folders
        case .overflow: e.flags |= CKPT_EVENT_OVERFLOW.rawValue
        case .kept(let q):
            // A watch for one event (IN_ONESHOT), or on a file that others have removed.
            guard q.watches == watches else { refuse(f, "its watches have changed while its unread events were looked at", remedy); return false }
            e.value = try store(q.events.bytes)
            e.set_flags = UInt32(q.events.bytes.count); e.clock = q.events.nextWatch
            e.flags |= CKPT_EVENT_UNREAD.rawValue
        }
        return true
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
            guard let cause = failureOfRehearsal(q.events) else { continue }
            problems.append(problem(.temporary, "pid \(q.pid)", "fd \(q.number)", "inotify queue: its unread events can't be made again: \(cause)", remedy: remedy))
        }
        if !problems.isEmpty { throw CheckpointFailure(problems) }
    }

    private func failureOfRehearsal(_ events: QueuedEvents) -> String? {
        if events.hasHalvesApart { return "something else has happened between the halves of a move" }
        switch rehearse(events.bytes) {
        case .done: return nil
        case .noWatch: return "no inotify queue or watch is left (sysctl fs.inotify)"
        case .tooMany: return "the queue is full to its last place"
        case .different: return "they are of a kind, or in an order, that no program brings about"
        }
    }
}

extension QueuedEvents {
    /// The halves of a move have one cookie.  The kernel queues one after the other, unless another task's event comes between.
    var hasHalvesApart: Bool {
        let header = 16
        var last: [UInt32: Int] = [:], at = 0, n = 0
        while at + header <= bytes.count {
            let (cookie, length) = bytes.withUnsafeBytes { ($0.loadUnaligned(fromByteOffset: at + 8, as: UInt32.self), Int($0.loadUnaligned(fromByteOffset: at + 12, as: UInt32.self))) }
            if cookie != 0 {
                if let before = last[cookie], before != n - 1 { return true }
                last[cookie] = n
            }
            n += 1; at += header + length
        }
        return false
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
