// Runs in the runtime (inside applications) and in the engine: no allocation, no libc, no TLS, any stack.
// Distinct types for the numbers that must not be mixed up, and the kernel's error convention.
import CkptABI

/// An errno(3) value, positive.
public struct Errno: Error, Equatable {
    public var code: Int32
    public init(_ code: Int32) { self.code = code }
    public static let interrupted = Errno(4), again = Errno(11), noMemory = Errno(12), exists = Errno(17), noSpace = Errno(28)
}

/// Turns a raw system call's return value into a value or a thrown errno.
@inline(__always) @discardableResult
public func check(_ result: Int) throws(Errno) -> Int {
    if result < 0 && result > -4096 { throw Errno(Int32(truncatingIfNeeded: -result)) }
    return result
}

/// An address in this or another process's memory.
public struct Address: Equatable, Comparable {
    public var value: UInt64
    public init(_ value: UInt64) { self.value = value }
    @inline(__always) public static func < (a: Address, b: Address) -> Bool { a.value < b.value }
    @inline(__always) public static func + (a: Address, n: UInt64) -> Address { Address(a.value &+ n) }
    @inline(__always) public static func - (a: Address, b: Address) -> UInt64 { a.value &- b.value }
    @inline(__always) public var pointer: UnsafeMutableRawPointer? { UnsafeMutableRawPointer(bitPattern: UInt(value)) }
}
/// A process id as the tasks themselves see it.
public struct Pid: Equatable { public var value: Int32; public init(_ value: Int32) { self.value = value } }
/// A thread id as the tasks themselves see it.
public struct Tid: Equatable { public var value: Int32; public init(_ value: Int32) { self.value = value } }
/// An offset in a file, in bytes.
public struct FileOffset: Equatable {
    public var value: UInt64
    public init(_ value: UInt64) { self.value = value }
    @inline(__always) public static func + (a: FileOffset, n: UInt64) -> FileOffset { FileOffset(a.value &+ n) }
}
/// A descriptor number, not owned.
public struct Descriptor: Equatable { public var value: Int32; public init(_ value: Int32) { self.value = value } }

/// A descriptor that is closed when its scope ends.
@frozen public struct OwnedDescriptor: ~Copyable {
    public let raw: Descriptor
    public init(adopting raw: Descriptor) { self.raw = raw }
    public init(path: UnsafePointer<CChar>, flags: Int32, mode: Int32 = 0) throws(Errno) {
        raw = Descriptor(Int32(truncatingIfNeeded: try check(ckpt_open(path, flags, mode))))
    }
    deinit { _ = ckpt_close(raw.value) }
    /// Gives the number away: nobody closes it any more.
    public consuming func release() -> Descriptor { let r = raw; discard self; return r }
}

extension StaticString {
    /// A String literal passed as `const char *` would allocate; a StaticString's bytes don't.
    @inline(__always) public var cString: UnsafePointer<CChar> { UnsafeRawPointer(utf8Start).assumingMemoryBound(to: CChar.self) }
}

@inline(__always) public func pageAlignDown(_ v: UInt64) -> UInt64 { v & ~4095 }
@inline(__always) public func pageAlignUp(_ v: UInt64) -> UInt64 { (v &+ 4095) & ~4095 }
