// Runs in the engine's builder, every signal blocked, and in the initiator: no allocation, no libc; 8 kB of stack.
// Puts events into an inotify queue that nobody else uses yet.  They happen once more to stand-ins (EventStage.swift).  That a stand-in's watch goes would
// be an event as well: so these go while the queue is full, when the kernel drops what comes.  It is full with markers, events of a file of ours, which
// stand before the wanted ones and are read away at the end.  Some microsecond each.
import CkptABI

public enum ReplayOutcome: Equatable {
    case done
    case limited(ReplayLimit)
    case noPlace(Int)       // no file system of ours: a negative errno
    case noNumber           // the kernel lacks CONFIG_CHECKPOINT_RESTORE
    case tooMany            // the queue does not take as many (fs.inotify.max_queued_events)
    case queueTooLong       // it takes too many more
    case different          // what has come of it are other events

    /// What inotify_add_watch(2) has met with, when it did not give the number of our choice; nil: it is not the machine's fault.
    public static func ofWatch(_ r: Int) -> ReplayOutcome? { r > 0 ? .noNumber : r == -Number.full ? .limited(.watches) : ofFile(r) }
    static func ofFile(_ r: Int) -> ReplayOutcome? {
        switch -r {
        case Number.processFiles, Number.systemFiles: return .limited(.files)
        case Number.memory, Number.full: return .limited(.memory)
        default: return nil
        }
    }
    private enum Number { static let memory = 12, systemFiles = 23, processFiles = 24, full = 28 }
}

/// What there is not enough of.
public enum ReplayLimit {
    case watches, queues, files, memory
    public var cause: StaticString {
        switch self {
        case .watches: return "no more inotify watches can be added"
        case .queues: return "no more inotify queues can be made"
        case .files: return "no more files can be opened"
        case .memory: return "there is no memory left"
        }
    }
    public var remedy: StaticString {
        switch self {
        case .watches: return "raise sysctl fs.inotify.max_user_watches, in a user namespace user.max_inotify_watches, too"
        case .queues: return "raise sysctl fs.inotify.max_user_instances, in a user namespace user.max_inotify_instances, too, or the limit on open files (ulimit -n)"
        case .files: return "raise the limit on open files (ulimit -n)"
        case .memory: return "free some, or raise the limit of the control group"
        }
    }
}

public struct EventReplay {
    private let queue: Int, buffer: UnsafeMutableRawPointer, size: Int
    private let file: Int                           // what the markers' watch is on
    private var stage: EventStage?
    private var turn = false
    private var front = 0                           // events before the wanted ones
    private let list: EventList
    /// Places of a queue that are filled, each with a system call: to tell of an overflow there is no other way.
    public static let most = 1 << 22
    private static let mostForOverflow = 1 << 24

    /// A queue whose events are all overflows needs no stage.
    public init?(queue: Int, _ stage: EventStage?, _ list: EventList, buffer: UnsafeMutableRawPointer, size: Int) {
        let closeOnExec = 1, name: StaticString = "markers"
        file = call(CKPT_SYS_memfd_create, address(name.cString), closeOnExec)
        guard file >= 0 else { return nil }
        self.queue = queue; self.stage = stage; self.list = list; self.buffer = buffer; self.size = size
    }
    public func close() { _ = call(CKPT_SYS_close, file) }

    /// Makes the events and reads the queue empty again: whether they have been what was wanted.  `again` has room for one more than the list.
    public mutating func rehearse(_ again: EventList) -> ReplayOutcome {
        var again = again
        if list.hasRepetition { return .different }
        let outcome = list.overflow == nil ? playAlone(&again) : playInFullQueue(&again)
        empty()
        return outcome
    }

    /// What comes of the stand-ins' end is behind the events here, and nobody has to fill the queue.
    private mutating func playAlone(_ again: inout EventList) -> ReplayOutcome {
        let markers = list.freeNumber
        if let failure = watchMarkers(markers) { return failure }
        defer { removeWatches(and: markers) }
        empty()
        guard play(from: 0, to: list.used) else { return failure }
        // One more has to fit: see arrange().
        mark(1)
        guard again.take(from: queue) else { return .different }
        if again.overflow != nil { return .tooMany }
        guard again.used == list.used + QueuedEvent.header, again[list.used].watch == markers else { return .different }
        again.dropLast(again[list.used])
        return list.tellsTheSame(as: again) ? .done : .different
    }

    private mutating func playInFullQueue(_ again: inout EventList) -> ReplayOutcome {
        let outcome = fill()
        if outcome != .done { return outcome }
        return open() && again.take(from: queue) && list.tellsTheSame(as: again) ? .done : .different
    }

    /// Makes the queue full: markers, then the events.  No watch of ours is left.
    public mutating func fill() -> ReplayOutcome {
        let markers = list.freeNumber
        if let failure = watchMarkers(markers) { return failure }
        let outcome = arrange()
        removeWatches(and: markers)
        guard outcome == .done else { return outcome }
        return unread(queue) == front * QueuedEvent.header + list.used ? .done : .different
    }
    private var failure: ReplayOutcome { stage?.failure ?? .different }

    /// From now on the queue takes what comes, behind the events.
    public func open() -> Bool { readAway(front) && unread(queue) >= list.used }

    private func watchMarkers(_ number: Int32) -> ReplayOutcome? {
        var place = Line()
        place.put("/proc/self/fd/"); place.put(signed: Int64(file))
        let r = place.withCString { addWatch(queue, $0, EventMask.access | EventMask.attributes, number: number) }
        return r == Int(number) ? nil : .ofWatch(r) ?? .different
    }

    private mutating func arrange() -> ReplayOutcome {
        empty()
        guard let capacity = overflow() else { return .queueTooLong }
        let count = list.count(from: 0, to: list.used)
        guard let middle = list.overflow else {
            // With an event in each place the overflow, which is there already, could only come behind them.
            if count >= capacity { return .tooMany }
            front = capacity - count
            return readAway(count + 1) && play(from: 0, to: list.used) ? .done : failure
        }
        let before = list.count(from: 0, to: middle), after = count - before - 1, away = after == 0 ? 0 : after + 1
        if capacity - before < away || before > capacity { return .tooMany }
        front = capacity - before - away
        empty()
        mark(capacity - before)
        guard play(from: 0, to: middle) else { return failure }
        mark(1)
        return readAway(away) && play(from: list.next(middle), to: list.used) ? .done : failure
    }

    private mutating func play(from start: Int, to end: Int) -> Bool {
        var at = start
        while at < end {
            let following = list.next(at), follower = following < end && list[at].brings(list[following]) ? list[following] : nil
            guard stage?.play(list, at, follower: follower) == true else { return false }
            at = follower == nil ? following : list.next(following)
        }
        return true
    }

    private func removeWatches(and markers: Int32) {
        var at = 0
        while at < list.used {
            let e = list[at]
            if !e.isOverflow { _ = call(CKPT_SYS_inotify_rm_watch, queue, Int(e.watch)); stage?.clear(e.watch) }
            at = list.next(at)
        }
        _ = call(CKPT_SYS_inotify_rm_watch, queue, Int(markers))
    }

    /// Fills the queue beyond its end; how many events it takes.
    private mutating func overflow() -> Int? {
        let most = stage == nil ? EventReplay.mostForOverflow : EventReplay.most
        var made = 0, wanted = 1024
        while made < wanted {
            mark(wanted - made)
            made = wanted
            // A look goes through the whole queue: they become rarer.
            let found = unread(queue) / QueuedEvent.header
            if found < made { return found - 1 }
            wanted = min(made + made / 4, most + 2)
        }
        return nil
    }
    /// Of two kinds in turn: equal events in a row are one.
    private mutating func mark(_ count: Int) {
        for _ in 0..<count {
            if turn { _ = call(CKPT_SYS_fchmod, file, 0o600) } else { _ = setOneTime(file, nil, first: true) }
            turn.toggle()
        }
    }
    private func empty() {
        while hasUnread(queue) { if ckpt_read(Int32(truncatingIfNeeded: queue), buffer, size) <= 0 { return } }
    }
    /// So many markers, or the overflow: all without a name.
    private func readAway(_ count: Int) -> Bool {
        var left = count * QueuedEvent.header
        while left > 0 {
            let n = ckpt_read(Int32(truncatingIfNeeded: queue), buffer, min(left, size))
            if n <= 0 { return false }
            left -= n
        }
        return true
    }
}
