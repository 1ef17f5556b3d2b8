// Runs in the engine's builder, every signal blocked, and in the initiator: no allocation, no libc.
// Events of an inotify queue, one after the other, as read(2) gives them (inotify(7)).
import CkptABI

public enum EventMask {
    static let access: UInt32 = 1, modify: UInt32 = 2, attributes: UInt32 = 4, closeWritten: UInt32 = 8, closeUnwritten: UInt32 = 0x10, open: UInt32 = 0x20
    static let movedFrom: UInt32 = 0x40, movedTo: UInt32 = 0x80, create: UInt32 = 0x100, delete: UInt32 = 0x200, deleteSelf: UInt32 = 0x400, moveSelf: UInt32 = 0x800
    public static let ignored: UInt32 = 0x8000
    static let unmount: UInt32 = 0x2000, overflow: UInt32 = 0x4000, isFolder: UInt32 = 0x4000_0000
}

/// One event; its name is padded with zeros to `length` bytes.
public struct QueuedEvent {
    public static let header = 16
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

    /// Both come of one thing that happened: the kernel queues `second` as soon as `first`.
    func brings(_ second: QueuedEvent) -> Bool {
        switch kind {
        case EventMask.movedFrom: return second.kind == EventMask.movedTo && second.cookie == cookie
        case EventMask.deleteSelf, EventMask.unmount: return second.kind == EventMask.ignored && second.watch == watch
        default: return false
        }
    }
    /// Equal but for the cookie, whose number is the kernel's own.
    func tells(_ other: QueuedEvent) -> Bool {
        guard watch == other.watch, mask == other.mask, length == other.length, (cookie == 0) == (other.cookie == 0) else { return false }
        for i in 0..<length where name[i] != other.name[i] { return false }
        return true
    }
}

public struct EventList {
    let base: UnsafeMutableRawPointer
    public private(set) var used: Int       // bytes
    private let room: Int
    public init(_ base: UnsafeMutableRawPointer, used: Int = 0, room: Int) { self.base = base; self.used = used; self.room = room }

    subscript(at: Int) -> QueuedEvent { QueuedEvent(base + at) }
    func next(_ at: Int) -> Int { at + self[at].size }
    func count(from start: Int, to end: Int) -> Int {
        var n = 0, at = start
        while at < end { n += 1; at = next(at) }
        return n
    }
    /// Whole events that fill it to its end, at most one of them an overflow.
    public var isSound: Bool {
        var at = 0, overflows = 0
        while at < used {
            guard used - at >= QueuedEvent.header else { return false }
            let e = self[at]
            guard e.length <= used - at - QueuedEvent.header, e.length % QueuedEvent.header == 0, e.length == 0 || e.name[e.length - 1] == 0, e.isOverflow || e.watch > 0 else { return false }
            if e.isOverflow { overflows += 1 }
            at = next(at)
        }
        return overflows <= 1
    }
    /// What the kernel would leave away: the second of two equal neighbours.
    var hasRepetition: Bool {
        var at = 0
        while at < used {
            let following = next(at)
            if following < used && self[at].kind != EventMask.ignored && self[at].tells(self[following]) { return true }
            at = following
        }
        return false
    }

    /// Reads the queue empty; false: there is no room for all.
    mutating func take(from queue: Int) -> Bool {
        used = 0
        while hasUnread(queue) {
            let n = ckpt_read(Int32(truncatingIfNeeded: queue), base + used, room - used)
            if n <= 0 { return false }
            used += n
        }
        return true
    }

    /// The same events in the same order; neighbours have one cookie in both or in none.
    func tellsTheSame(as other: EventList) -> Bool {
        guard used == other.used else { return false }
        var at = 0, previous = -1
        while at < used {
            guard other.used - at >= QueuedEvent.header, self[at].tells(other[at]) else { return false }
            if previous >= 0, self[at].cookie != 0, (self[at].cookie == self[previous].cookie) != (other[at].cookie == other[previous].cookie) { return false }
            previous = at
            at = next(at)
        }
        return true
    }

    mutating func dropLast(_ e: QueuedEvent) { used -= e.size }
    /// The queue has had more events than it says, as IN_Q_OVERFLOW tells.
    public mutating func addOverflow() {
        let p = base + used
        p.storeBytes(of: -1, as: Int32.self); p.storeBytes(of: EventMask.overflow, toByteOffset: 4, as: UInt32.self)
        p.storeBytes(of: 0, toByteOffset: 8, as: UInt64.self)
        used += QueuedEvent.header
    }
    /// A watch's number that none of them has.
    var freeNumber: Int32 {
        var at = 0, number: Int32 = 0
        while at < used { number = max(number, self[at].watch); at = next(at) }
        return number == Int32.max ? 1 : number + 1
    }
    var overflow: Int? {
        var at = 0
        while at < used { if self[at].isOverflow { return at }; at = next(at) }
        return nil
    }
}

/// poll(2): for FIONREAD the kernel goes through the whole queue.
func hasUnread(_ queue: Int) -> Bool { ready(queue, 1) != 0 }
/// FIONREAD
func unread(_ queue: Int) -> Int {
    let request = 0x541b
    var n: Int32 = 0
    return withUnsafeMutablePointer(to: &n) { ckpt_syscall(Int(CKPT_SYS_ioctl), queue, request, Int(bitPattern: $0), 0, 0, 0) } == 0 ? Int(n) : 0
}
