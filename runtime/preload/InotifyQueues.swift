// Runs in a leader, parked in the SIGCKPT handler, every signal blocked: unread events of inotify queues, which can only be read.
// They are taken and put back in one go, so that neither an abort nor a dead initiator can come in between.  Programs outside the tree may change watched
// files meanwhile: a second queue, the guard, has the same watches, and knows what its own queue was not told of while it had none or was full.
import CkptABI
import PreloadBoot
import Freestanding

func keepUnreadEvents(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>) {
    let queries = ckpt_arena(session, process.pointee.unread_offset).assumingMemoryBound(to: ckpt_unread_query.self)
    let mask = system(CKPT_SYS_umask, 0), limit = OpenFilesLimit()
    var i = 0
    while i < Int(process.pointee.unread_count) {
        var queue = UnreadQueue(session, queries + i)
        (queries + i).pointee.outcome = queue.keep().rawValue
        queue.close()
        i += 1
    }
    limit.restore()
    _ = system(CKPT_SYS_umask, mask)
}

/// A descriptor per watch: up to what the process may have at most.
private struct OpenFilesLimit {
    private static let openFiles = 7
    private var before: (soft: UInt64, hard: UInt64) = (0, 0)
    init() {
        withUnsafeMutablePointer(to: &before) { _ = system(CKPT_SYS_prlimit64, 0, OpenFilesLimit.openFiles, 0, Int(bitPattern: $0)) }
        set(before.hard, before.hard)
    }
    func restore() { set(before.soft, before.hard) }
    private func set(_ soft: UInt64, _ hard: UInt64) {
        var limit = (soft, hard)
        withUnsafeMutablePointer(to: &limit) { _ = system(CKPT_SYS_prlimit64, 0, OpenFilesLimit.openFiles, Int(bitPattern: $0), 0) }
    }
}

private struct UnreadQueue {
    private let q: UnsafeMutablePointer<ckpt_unread_query>
    private let session: UnsafeMutablePointer<ckpt_session>
    private let watches: UnsafeMutablePointer<ckpt_unread_watch>
    private let queue: Int
    private var stage: EventStage?, replay: EventReplay?, guardian = -1
    private let buffer = UnsafeMutableRawPointer(ckpt_chunk_buffer(ckpt_own_workspace())), size = Int(CKPT_CHUNK_SIZE)
    private static let rounds = 10

    init(_ session: UnsafeMutablePointer<ckpt_session>, _ q: UnsafeMutablePointer<ckpt_unread_query>) {
        self.session = session; self.q = q
        queue = Int(q.pointee.fd)
        watches = ckpt_arena(session, q.pointee.watches).assumingMemoryBound(to: ckpt_unread_watch.self)
        for i in 0..<Int(q.pointee.count) { watches[i].file = -1 }
    }
    func close() {
        for i in 0..<Int(q.pointee.count) where watches[i].file >= 0 { _ = system(CKPT_SYS_close, Int(watches[i].file)) }
        if guardian >= 0 { _ = system(CKPT_SYS_close, guardian) }
        replay?.close()
        stage?.close()
    }

    mutating func keep() -> ckpt_unread_outcome {
        let events = EventList(ckpt_arena(session, q.pointee.events), room: Int(q.pointee.room))
        stage = EventStage(queue: queue, buffer: buffer, size: size)
        guard let stage else { return CKPT_UNREAD_NO_STAGE }
        replay = EventReplay(queue: queue, stage, events, buffer: buffer, size: size)
        guard replay != nil else { return CKPT_UNREAD_NO_STAGE }
        guard openFiles(), setGuard() else { return CKPT_UNREAD_WATCH }
        guard watchesAreEqual() else { return CKPT_UNREAD_OTHERS }
        guard let known = commonMoment() else { return CKPT_UNREAD_BUSY }
        // From here on there is no way back but to the end.
        let all = take(known)
        guard let next = replay!.watchMarkers(nil) else { return CKPT_UNREAD_LOST }
        q.pointee.next = next
        let isDone = putBack(missesSome: !all)
        q.pointee.used = UInt64(replay!.list.used)
        return isDone && watchesAreEqual() ? CKPT_UNREAD_KEPT : CKPT_UNREAD_LOST
    }

    // MARK: a second queue with the same watches

    /// Held open, they are the same ones whatever becomes of their names.
    private func openFiles() -> Bool {
        let pathOnly: Int32 = 0o10000000, closeOnExec: Int32 = 0o2000000, dontFollow: Int32 = 0o400000
        for i in 0..<Int(q.pointee.count) {
            let r = ckpt_open(ckpt_arena(session, watches[i].path).assumingMemoryBound(to: CChar.self), pathOnly | closeOnExec | dontFollow, 0)
            if r < 0 { return fails(r) }
            watches[i].file = Int64(r)
        }
        return true
    }
    private mutating func setGuard() -> Bool {
        let flags = 0o2004000
        guardian = system(CKPT_SYS_inotify_init1, flags)
        return guardian < 0 ? fails(guardian) : addWatches(guardian)
    }
    private func addWatches(_ queue: Int) -> Bool {
        for i in 0..<Int(q.pointee.count) where watches[i].file >= 0 {
            var place = Line()
            place.put("/proc/self/fd/"); place.put(signed: watches[i].file)
            let r = place.withCString { addWatch(queue, $0, watches[i].mask, number: watches[i].wd) }
            if r != Int(watches[i].wd) { return fails(r) }
        }
        return true
    }
    private func removeWatches() { for i in 0..<Int(q.pointee.count) { _ = system(CKPT_SYS_inotify_rm_watch, queue, Int(watches[i].wd)) } }
    private func fails(_ result: Int) -> Bool { q.pointee.error = result < 0 ? Int32(truncatingIfNeeded: -result) : 0; return false }

    /// As /proc/self/fdinfo lists them: files, numbers, masks, order.
    private func watchesAreEqual() -> Bool {
        var own = WatchLines(queue, buffer, size / 2), other = WatchLines(guardian, buffer + size / 2, size / 2)
        defer { own.close(); other.close() }
        while true {
            let a = own.next(), b = other.next()
            if a != b { return false }
            if a == nil { return true }
        }
    }

    // MARK: taking

    /// Whoever is still being told of an event that has happened has been told when this returns: the end of a queue waits for that.
    private func settle() {
        let queue = system(CKPT_SYS_inotify_init1, 0), unmounted: UInt32 = 0x2000
        if queue < 0 { return }
        var place = Line()
        place.put("/proc/self/fd/"); place.put(signed: Int64(stage!.root))
        _ = place.withCString { addWatch(queue, $0, unmounted, number: 1) }
        _ = system(CKPT_SYS_close, queue)
    }
    private func wait(milliseconds: Int64) {
        var t = ckpt_timespec(sec: 0, nsec: milliseconds * 1_000_000)
        _ = withUnsafeMutablePointer(to: &t) { system(CKPT_SYS_nanosleep, Int(bitPattern: $0), 0) }
    }
    private func microseconds() -> Int {
        let monotonic: Int32 = 1
        var t = ckpt_timespec()
        _ = ckpt_clock(monotonic, &t)
        return Int(t.sec * 1_000_000 + t.nsec / 1000)
    }
    private func emptyGuard() { while unread(guardian) > 0 { if ckpt_read(Int32(truncatingIfNeeded: guardian), buffer, size) <= 0 { return } } }

    /// How many bytes are in the queue at a moment from which the guard is told of the same; nil: watched files are being changed faster than one can follow.
    private func commonMoment() -> Int? {
        for _ in 0..<UnreadQueue.rounds {
            emptyGuard()
            let before = microseconds()
            wait(milliseconds: 2)
            // 16 events with names in a millisecond.
            if unread(guardian) > (microseconds() - before) / 2 { continue }
            emptyGuard()
            let known = unread(queue)
            if isToldOfTheSame(since: known) { return known }
        }
        return nil
    }

    /// Whether the queue has been told what the guard has.  What the queue has, the guard has when it has settled; where others go on and on, the two agree
    /// at most moments, but for the short one between telling one and telling the other.
    private func isToldOfTheSame(since known: Int) -> Bool {
        let looks = 12
        var agreed = 0
        for _ in 0..<looks {
            let told = unread(guardian), heard = unread(queue) - known
            if told == heard { agreed += 1 }
            settle()
            if unread(guardian) == heard { return true }
        }
        return agreed > looks / 2
    }

    /// Reads the queue empty.  What has come since that moment the guard has too, and perhaps what came after that; false: it has something else.
    private mutating func take(_ known: Int) -> Bool {
        guard replay!.list.take(from: queue) else { return false }
        let here = replay!.list.used
        settle()
        guard replay!.list.take(from: guardian), replay!.list.dropSecond(from: known, again: here) else { return false }
        forgetEnded(from: 0)
        return true
    }
    private mutating func takeFromGuard() -> Bool {
        let start = replay!.list.used, all = replay!.list.take(from: guardian)
        forgetEnded(from: start)
        return all
    }
    /// A watch for one event (IN_ONESHOT) that has come since.
    private func forgetEnded(from start: Int) {
        replay!.list.endedWatches(from: start) { number in
            for i in 0..<Int(q.pointee.count) where watches[i].wd == number && watches[i].file >= 0 {
                _ = system(CKPT_SYS_close, Int(watches[i].file))
                watches[i].file = -1
            }
        }
    }

    // MARK: putting back

    private mutating func putBack(missesSome: Bool) -> Bool {
        var missesSome = missesSome
        for round in 0..<UnreadQueue.rounds {
            // An overflow is what programs are told where more has happened than they can be told of.
            if !takeFromGuard() || round == UnreadQueue.rounds - 1 { missesSome = true }
            if missesSome { replay!.list.addOverflow() }
            removeWatches()
            guard replay!.fill(markers: q.pointee.next), complete() || missesSome && addWatches(queue) else { continue }
            setNextWatch(queue, q.pointee.next)
            if replay!.open(), missesSome || isToldOfTheSame(since: replay!.list.used) { return true }
        }
        return false
    }

    /// The queue is full: it gets what the guard has been told meanwhile, and its watches, until the guard has nothing more.
    private mutating func complete() -> Bool {
        for _ in 0..<UnreadQueue.rounds * 5 {
            guard takeFromGuard(), replay!.extend(), addWatches(queue) else { return false }
            if unread(guardian) == 0 { return true }
            removeWatches()
        }
        return false
    }
}

/// The lines of an inotify queue's fdinfo, without those of any descriptor; byte for byte.
private struct WatchLines {
    private let file: Int, buffer: UnsafeMutablePointer<UInt8>, size: Int
    private var at = 0, end = 0
    init(_ queue: Int, _ buffer: UnsafeMutableRawPointer, _ size: Int) {
        let descriptorLines = 4, closeOnExec: Int32 = 0o2000000, newline: UInt8 = 10
        var place = Line()
        place.put("/proc/self/fdinfo/"); place.put(signed: Int64(queue))
        file = place.withCString { ckpt_open($0, closeOnExec, 0) }
        self.buffer = buffer.assumingMemoryBound(to: UInt8.self); self.size = size
        var lines = 0
        while lines < descriptorLines, let c = next() { if c == newline { lines += 1 } }
    }
    mutating func next() -> UInt8? {
        if at == end {
            at = 0; end = max(0, ckpt_read(Int32(truncatingIfNeeded: file), buffer, size))
            if end == 0 { return nil }
        }
        at += 1
        return buffer[at - 1]
    }
    func close() { if file >= 0 { _ = system(CKPT_SYS_close, file) } }
}

@inline(__always) private func system(_ n: Int, _ a: Int = 0, _ b: Int = 0, _ c: Int = 0, _ d: Int = 0) -> Int { ckpt_syscall(n, a, b, c, d, 0, 0) }
