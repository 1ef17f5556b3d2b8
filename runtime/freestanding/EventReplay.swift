// Runs in a parked leader and in the engine, every signal blocked: no allocation, no libc; 8 kB of stack.
// Puts events into an inotify queue.  They happen once more to stand-ins (EventStage.swift).  That a stand-in's watch goes would be an event as well: so
// these go while the queue is full, when the kernel drops what comes.  It is full with markers, events of a file of ours, which stand before the wanted
// ones and are read away at the end: the first event that is told of from then on is the next one behind them.
import CkptABI

public struct EventReplay {
    private let queue: Int, stage: EventStage?, buffer: UnsafeMutableRawPointer, size: Int
    private let file: Int                           // what the markers' watch is on
    private var turn = false, isVerifying = false
    private var front = 0                           // events before the wanted ones
    private var played = 0                          // bytes of the list that are in the queue
    public var list: EventList
    private static let most = 1 << 22, perLook = 1024

    /// A queue whose events are all overflows needs no stage.
    public init?(queue: Int, _ stage: EventStage?, _ list: EventList, buffer: UnsafeMutableRawPointer, size: Int) {
        let closeOnExec = 1, name: StaticString = "markers"
        file = call(CKPT_SYS_memfd_create, address(name.cString), closeOnExec)
        guard file >= 0 else { return nil }
        self.queue = queue; self.stage = stage; self.list = list; self.buffer = buffer; self.size = size
    }
    public func close() { _ = call(CKPT_SYS_close, file) }

    /// Watches a file of ours; nil: as the number that the queue would give next.
    public func watchMarkers(_ number: Int32?) -> Int32? {
        var place = Line()
        place.put("/proc/self/fd/"); place.put(signed: Int64(file))
        if let number { setNextWatch(queue, number) }
        let r = place.withCString { call(CKPT_SYS_inotify_add_watch, queue, address($0), Int(EventMask.access | EventMask.attributes)) }
        return r > 0 ? Int32(truncatingIfNeeded: r) : nil
    }

    /// Makes the queue full: markers, then the events.  No watch of ours is left.  What can't be made is replaced by an overflow.
    public mutating func fill(markers: Int32) -> Bool {
        for _ in 0..<4 {
            guard watchMarkers(markers) == markers else { return false }
            list.tidy(from: 0)
            let isArranged = arrange()
            removeWatches(from: 0)
            _ = call(CKPT_SYS_inotify_rm_watch, queue, Int(markers))
            if isArranged && unread(queue) == front * QueuedEvent.header + list.used { return true }
            if list.removeStruck() { list.addOverflow() } else if isVerifying { return false }
            isVerifying = true
        }
        return false
    }

    /// The list has grown: what is new goes into the full queue as well, in the place of markers; false: there are not enough of them.  In haste: others go on.
    public mutating func extend() -> Bool {
        let old = played
        list.tidy(from: old)
        let count = list.count(from: old, to: list.used)
        if count == 0 { return true }
        guard front - count >= (list.overflow == nil ? 1 : 0), readAway(count) else { return false }
        front -= count
        let isPlayed = play(from: old, to: list.used)
        removeWatches(from: old)
        return isPlayed
    }

    /// From now on the queue takes what comes.
    public func open() -> Bool { readAway(front) && unread(queue) >= list.used }

    private mutating func arrange() -> Bool {
        empty()
        guard let capacity = overflow() else { return false }
        list.cut(to: capacity)
        guard let middle = list.overflow else {
            let count = min(list.count(from: 0, to: list.used), capacity - 1)
            front = capacity - count
            // With an event in each place the overflow could only come behind them.
            if list.count(from: 0, to: list.used) > count { list.addOverflow(); return arrange() }
            return readAway(count + 1) && play(from: 0, to: list.used)
        }
        let before = list.count(from: 0, to: middle), after = list.count(from: list.next(middle), to: list.used), away = after == 0 ? 0 : after + 1
        guard capacity - before >= away else { return false }
        front = capacity - before - away
        empty()
        mark(capacity - before)
        guard play(from: 0, to: middle) else { return false }
        mark(1)
        return readAway(away) && play(from: list.next(middle), to: list.used)
    }

    private mutating func play(from start: Int, to end: Int) -> Bool {
        var at = start, isExact = true
        while at < end {
            let following = list.next(at), follower = following < end && list[at].brings(list[following]) ? list[following] : nil
            if let stage, stage.play(list, at, follower: follower, verifying: isVerifying) {} else { list.strike(at); isExact = false }
            at = follower == nil ? following : list.next(following)
        }
        played = end
        return isExact
    }

    private func removeWatches(from start: Int) {
        var at = start
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
