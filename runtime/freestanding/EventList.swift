// Runs in a parked leader and in the engine, every signal blocked: no allocation, no libc.
// Events of an inotify queue, one after the other, as read(2) gives them (inotify(7)).
import CkptABI

enum EventMask {
    static let access: UInt32 = 1, modify: UInt32 = 2, attributes: UInt32 = 4, closeWritten: UInt32 = 8, closeUnwritten: UInt32 = 0x10, open: UInt32 = 0x20
    static let movedFrom: UInt32 = 0x40, movedTo: UInt32 = 0x80, create: UInt32 = 0x100, delete: UInt32 = 0x200, deleteSelf: UInt32 = 0x400, moveSelf: UInt32 = 0x800
    static let unmount: UInt32 = 0x2000, overflow: UInt32 = 0x4000, ignored: UInt32 = 0x8000, isFolder: UInt32 = 0x4000_0000
}

/// One event; its name is padded with zeros to `length` bytes.
struct QueuedEvent {
    static let header = 16
    let watch: Int32, mask: UInt32, cookie: UInt32, length: Int
    let name: UnsafePointer<CChar>
    init(_ p: UnsafeRawPointer) {
        watch = p.load(as: Int32.self); mask = p.load(fromByteOffset: 4, as: UInt32.self)
        cookie = p.load(fromByteOffset: 8, as: UInt32.self); length = Int(p.load(fromByteOffset: 12, as: UInt32.self))
        name = (p + QueuedEvent.header).assumingMemoryBound(to: CChar.self)
    }
    var size: Int { QueuedEvent.header + length }
    var kind: UInt32 { mask & ~EventMask.isFolder }
    var isFolder: Bool { mask & EventMask.isFolder != 0 }
    var isOverflow: Bool { mask & EventMask.overflow != 0 }

    /// Both come of one thing that happened: the kernel queues `second` as soon as `first`, unless something else comes in between.
    func brings(_ second: QueuedEvent) -> Bool {
        switch kind {
        case EventMask.movedFrom: return second.kind == EventMask.movedTo && second.cookie == cookie
        case EventMask.deleteSelf, EventMask.unmount: return second.kind == EventMask.ignored && second.watch == watch
        default: return false
        }
    }
    /// The kernel leaves it away behind `previous`.
    func repeats(_ previous: QueuedEvent) -> Bool {
        guard kind != EventMask.ignored, previous.mask == mask, previous.watch == watch, previous.length == length else { return false }
        for i in 0..<length where name[i] != previous.name[i] { return false }
        return true
    }
}

public struct EventList {
    let base: UnsafeMutableRawPointer
    public private(set) var used: Int       // bytes
    private let room: Int
    /// `room` is 16 bytes larger than what is read into it: an overflow always fits.
    public init(_ base: UnsafeMutableRawPointer, used: Int = 0, room: Int) { self.base = base; self.used = used; self.room = room }

    subscript(at: Int) -> QueuedEvent { QueuedEvent(base + at) }
    func next(_ at: Int) -> Int { at + self[at].size }
    func count(from start: Int, to end: Int) -> Int {
        var n = 0, at = start
        while at < end { n += 1; at = next(at) }
        return n
    }
    /// Whole events that fill it to its end.
    public var isSound: Bool {
        var at = 0
        while at < used {
            guard used - at >= QueuedEvent.header, self[at].length <= used - at - QueuedEvent.header, self[at].length == 0 || self[at].name[self[at].length - 1] == 0 else { return false }
            at = next(at)
        }
        return true
    }

    /// Reads the queue empty; false: there is no room for all.
    public mutating func take(from queue: Int) -> Bool {
        while unread(queue) > 0 {
            let n = ckpt_read(Int32(truncatingIfNeeded: queue), base + used, room - QueuedEvent.header - used)
            if n <= 0 { return false }
            used += n
        }
        return true
    }

    /// The watches that have ended by themselves, in what is from `start` on.
    public func endedWatches(from start: Int, _ body: (Int32) -> Void) {
        var at = start
        while at < used {
            if self[at].kind == EventMask.ignored { body(self[at].watch) }
            at = next(at)
        }
    }

    /// Two queues were told the same: what is from `start` on begins once more at `again`, and goes there; false: it does not.
    public mutating func dropSecond(from start: Int, again: Int) -> Bool {
        let size = again - start
        guard used - again >= size else { return false }
        let b = base.assumingMemoryBound(to: UInt8.self)
        for i in 0..<size where b[start + i] != b[again + i] { return false }
        remove(again, again + size)
        return true
    }

    /// The queue has had more events than it says, as IN_Q_OVERFLOW tells.
    public mutating func addOverflow() {
        if overflow != nil { return }
        let p = base + used
        p.storeBytes(of: -1, as: Int32.self); p.storeBytes(of: EventMask.overflow, toByteOffset: 4, as: UInt32.self)
        p.storeBytes(of: 0, toByteOffset: 8, as: UInt64.self)
        used += QueuedEvent.header
    }
    var overflow: Int? {
        var at = 0
        while at < used { if self[at].isOverflow { return at }; at = next(at) }
        return nil
    }

    /// Brings it into the form in which the kernel queues it again: what one thing brings about stands together, nothing is said twice in a row, and
    /// there is one overflow.  What is before `start` is so already.
    mutating func tidy(from start: Int) {
        var at = 0, previous = -1, overflows = 0
        while at < start { if self[at].isOverflow { overflows += 1 }; previous = at; at = next(at) }
        while at < used {
            if self[at].isOverflow { overflows += 1 }
            if self[at].isOverflow && overflows > 1 || previous >= 0 && self[at].repeats(self[previous]) { remove(at); continue }
            bringTogether(at)
            previous = at
            at = next(at)
        }
    }
    /// Others can only have come between in the moment between two steps of the kernel.
    private mutating func bringTogether(_ at: Int) {
        let first = next(at), nearby = 64
        var other = first, looked = 0
        while other < used && looked < nearby {
            if self[at].brings(self[other]) { rotate(first, other, next(other)); return }
            other = next(other); looked += 1
        }
    }
    /// What is in middle..<end comes before start..<middle.
    private func rotate(_ start: Int, _ middle: Int, _ end: Int) { reverse(start, middle); reverse(middle, end); reverse(start, end) }
    private func reverse(_ start: Int, _ end: Int) {
        let b = base.assumingMemoryBound(to: UInt8.self)
        var low = start, high = end - 1
        while low < high { let x = b[low]; b[low] = b[high]; b[high] = x; low += 1; high -= 1 }
    }

    mutating func remove(_ at: Int) { remove(at, next(at)) }
    private mutating func remove(_ at: Int, _ end: Int) {
        (base + at).copyMemory(from: base + end, byteCount: used - end)
        used -= end - at
    }
    /// No more than `most` events, an overflow not counted.
    mutating func cut(to most: Int) {
        var at = 0, n = 0
        while at < used {
            if !self[at].isOverflow { n += 1 }
            if n > most { used = at; return addOverflow() }
            at = next(at)
        }
    }
    /// One that can't be made again: nobody can say more than that something is missing.
    mutating func strike(_ at: Int) { base.storeBytes(of: 0, toByteOffset: at + 4, as: UInt32.self) }
    /// false: none was struck.
    mutating func removeStruck() -> Bool {
        var at = 0, found = false
        while at < used { if self[at].mask == 0 { remove(at); found = true } else { at = next(at) } }
        return found
    }
}

/// FIONREAD
public func unread(_ queue: Int) -> Int {
    let request = 0x541b
    var n: Int32 = 0
    return withUnsafeMutablePointer(to: &n) { ckpt_syscall(Int(CKPT_SYS_ioctl), queue, request, Int(bitPattern: $0), 0, 0, 0) } == 0 ? Int(n) : 0
}
