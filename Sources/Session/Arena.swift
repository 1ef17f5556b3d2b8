// The arena of a session segment.  Every process of the session's user may write anywhere in the segment at any moment.  So what the initiator has put there it finds
// again by what it remembers itself, and never by an offset or a count that it reads there; and what a task has put there, by a place that is looked at first.
import CkptABI
import CkptSystem

extension SystemError {
    /// Somebody has written into the segment what the runtime does not write.
    public static func damaged(_ what: String) -> SystemError { SystemError(what, errno: SystemError.protocolError) }
}

/// Elements (C structs) in the arena, inside of it whatever the segment says by now.  Each look may find another value: what must stay the same is copied first.
public struct ArenaArray<Element>: @unchecked Sendable {
    /// What a task is told.
    public let offset: UInt64
    public let count: Int
    private let start: UnsafeMutablePointer<Element>?

    fileprivate init(offset: UInt64, count: Int, start: UnsafeMutablePointer<Element>?) { self.offset = offset; self.count = count; self.start = start }
    public func pointer(_ i: Int) -> UnsafeMutablePointer<Element> {
        precondition(i >= 0 && i < count)
        return start! + i
    }
    public subscript(i: Int) -> Element { pointer(i).pointee }
    public func copy() -> [Element] { Array(UnsafeBufferPointer(start: start, count: count)) }
}

extension ArenaArray where Element == UInt8 {
    /// A value within these bytes.
    public func load<T: BitwiseCopyable>(_ type: T.Type, at: UInt64 = 0) throws(SystemError) -> T {
        try require(at, UInt64(MemoryLayout<T>.size))
        return UnsafeRawPointer(pointer(Int(at))).loadUnaligned(as: T.self)
    }
    public func bytes(_ at: UInt64, _ size: UInt64) throws(SystemError) -> [UInt8] {
        try require(at, size)
        return size == 0 ? [] : Array(UnsafeBufferPointer(start: pointer(Int(at)), count: Int(size)))
    }
    /// The bytes as one value that is too large to be copied.
    public func pointer<T>(to type: T.Type) throws(SystemError) -> UnsafeMutablePointer<T> {
        try require(0, UInt64(MemoryLayout<T>.size))
        return UnsafeMutableRawPointer(pointer(0)).assumingMemoryBound(to: T.self)
    }
    private func require(_ at: UInt64, _ size: UInt64) throws(SystemError) {
        guard at <= UInt64(count), size <= UInt64(count) - at else { throw .damaged("\(size) bytes at \(at) of \(count)") }
    }
}

extension Segment {
    /// What a task says is there.
    public func arena<T>(_ type: T.Type, at offset: UInt64, count: UInt64 = 1) throws(SystemError) -> ArenaArray<T> {
        let size = count.multipliedReportingOverflow(by: UInt64(MemoryLayout<T>.stride)), room = ckpt_arena_size()
        guard !size.overflow, size.partialValue <= room, offset <= room - size.partialValue, offset % UInt64(MemoryLayout<T>.alignment) == 0 else {
            throw .damaged("\(count) elements at \(offset) of the session's arena")
        }
        return ArenaArray(offset: offset, count: Int(count), start: ckpt_arena(pointer, offset).assumingMemoryBound(to: T.self))
    }

    /// Room with blocks behind it, so that nobody who writes there finds the file system full; nil: the arena is.
    public func claim<T>(roomFor type: T.Type, _ count: Int) throws(SystemError) -> ArenaArray<T>? {
        if count == 0 { return ArenaArray(offset: 0, count: 0, start: nil) }
        let size = count.multipliedReportingOverflow(by: MemoryLayout<T>.stride)
        guard !size.overflow, size.partialValue > 0, UInt64(size.partialValue) <= ckpt_arena_size() else { return nil }
        let at = ckpt_arena_claim(pointer, UInt64(size.partialValue))
        guard at != .max else { return nil }
        let place = try arena(type, at: at, count: UInt64(count))
        try allocate(at: UInt64(CKPT_OFFSET_ARENA) + at, count: UInt64(size.partialValue))
        return place
    }
    /// A copy of an array.
    public func claim<T>(_ array: [T]) throws(SystemError) -> ArenaArray<T>? {
        guard let place = try claim(roomFor: T.self, array.count) else { return nil }
        if !array.isEmpty { place.pointer(0).update(from: array, count: array.count) }
        return place
    }
    /// Elements of zeros.
    public func claim<T>(zeroed type: T.Type, _ count: Int) throws(SystemError) -> ArenaArray<T>? {
        guard let place = try claim(roomFor: type, count) else { return nil }
        if count > 0 { UnsafeMutableRawPointer(place.pointer(0)).initializeMemory(as: UInt8.self, repeating: 0, count: count * MemoryLayout<T>.stride) }
        return place
    }
    /// How much is left, as far as the segment says so.
    public var arenaLeft: UInt64 { ckpt_arena_size() - min(ckpt_load64(&pointer.pointee.arena_used), ckpt_arena_size()) }
}
