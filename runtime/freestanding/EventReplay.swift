// Runs in the engine's builder, every signal blocked, and in the initiator: no allocation, no libc; 8 kB of stack.
// Puts events into an inotify queue that nobody else uses yet.  They happen once more to stand-ins (EventStage.swift).  That a stand-in's watch goes would
// be an event as well: so these go while the queue is full, when the kernel drops what comes.  It is full with markers, events of a file of ours, which
// stand before the wanted ones and are read away at the end.
import CkptABI

public enum ReplayOutcome {
    case done
    case noWatch            // limits on watches or descriptors
    case tooMany            // the queue does not take as many (fs.inotify.max_queued_events)
    case different          // what has come of it are other events
}

public struct EventReplay {
    private let queue: Int, stage: EventStage?, buffer: UnsafeMutableRawPointer, size: Int
    private let file: Int                           // what the markers' watch is on
    private var turn = false
    private var front = 0                           // events before the wanted ones
    private let list: EventList
    private static let most = 1 << 22, perLook = 1024

    /// A queue whose events are all overflows needs no stage.
    public init?(queue: Int, _ stage: EventStage?, _ list: EventList, buffer: UnsafeMutableRawPointer, size: Int) {
        let closeOnExec = 1, name: StaticString = "markers"
        file = call(CKPT_SYS_memfd_create, address(name.cString), closeOnExec)
        guard file >= 0 else { return nil }
        self.queue = queue; self.stage = stage; self.list = list; self.buffer = buffer; self.size = size
    }
    public func close() { _ = call(CKPT_SYS_close, file) }

    /// Fills the queue and reads it empty again: whether that has been what was wanted.  `again` is as large as the list.
    public mutating func rehearse(_ again: EventList) -> ReplayOutcome {
        var again = again
        if list.hasRepetition { return .different }
        let outcome = fill()
        guard outcome == .done, open() else { empty(); return outcome == .done ? .different : outcome }
        let same = again.take(from: queue) && list.tellsTheSame(as: again)
        empty()
        return same ? .done : .different
    }

    /// Makes the queue full: markers, then the events.  No watch of ours is left.
    public mutating func fill() -> ReplayOutcome {
        let markers = list.freeNumber
        guard watchMarkers(markers) == markers else { return .noWatch }
        let outcome = arrange()
        removeWatches()
        _ = call(CKPT_SYS_inotify_rm_watch, queue, Int(markers))
        guard outcome == .done else { return outcome }
        return unread(queue) == front * QueuedEvent.header + list.used ? .done : .different
    }

    /// From now on the queue takes what comes, behind the events.
    public func open() -> Bool { readAway(front) && unread(queue) >= list.used }

    private func watchMarkers(_ number: Int32) -> Int32? {
        var place = Line()
        place.put("/proc/self/fd/"); place.put(signed: Int64(file))
        let r = place.withCString { addWatch(queue, $0, EventMask.access | EventMask.attributes, number: number) }
        return r > 0 ? Int32(truncatingIfNeeded: r) : nil
    }

    private mutating func arrange() -> ReplayOutcome {
        empty()
        guard let capacity = overflow() else { return .tooMany }
        let count = list.count(from: 0, to: list.used)
        guard let middle = list.overflow else {
            // With an event in each place the overflow, which is there already, could only come behind them.
            if count >= capacity { return .tooMany }
            front = capacity - count
            return readAway(count + 1) && play(from: 0, to: list.used) ? .done : .different
        }
        let before = list.count(from: 0, to: middle), after = count - before - 1, away = after == 0 ? 0 : after + 1
        if capacity - before < away || before > capacity { return .tooMany }
        front = capacity - before - away
        empty()
        mark(capacity - before)
        guard play(from: 0, to: middle) else { return .different }
        mark(1)
        return readAway(away) && play(from: list.next(middle), to: list.used) ? .done : .different
    }

    private func play(from start: Int, to end: Int) -> Bool {
        var at = start
        while at < end {
            let following = list.next(at), follower = following < end && list[at].brings(list[following]) ? list[following] : nil
            guard let stage, stage.play(list, at, follower: follower) else { return false }
            at = follower == nil ? following : list.next(following)
        }
        return true
    }

    private func removeWatches() {
        var at = 0
        while at < list.used {
            let e = list[at]
            if !e.isOverflow { _ = call(CKPT_SYS_inotify_rm_watch, queue, Int(e.watch)); stage?.clear(e.watch) }
            at = list.next(at)
        }
    }

    /// Fills the queue beyond its end; how many events it takes.
    private mutating func overflow() -> Int? {
        var before = -1, made = 0
        while made < EventReplay.most {
            let now = unread(queue)
            if now == before { return now / QueuedEvent.header - 1 }
            before = now
            mark(EventReplay.perLook)
            made += EventReplay.perLook
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
        while unread(queue) > 0 { if ckpt_read(Int32(truncatingIfNeeded: queue), buffer, size) <= 0 { return } }
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
