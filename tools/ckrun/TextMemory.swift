// Part of ckrun (freestanding, one stack, no allocation): memory for the strings and tables that execve(2) is given.
import CkptABI
import Freestanding

/// Anonymous memory, used from the bottom up and never given back: execve(2) does that.
struct TextMemory: ~Copyable {
    private let base: UnsafeMutablePointer<UInt8>
    private var used = 0
    private static let capacity = 16 << 20  // reserved only; pages come as they are touched

    init() {
        let readWrite: Int32 = 3, privateAnonymousNoReserve: Int32 = 0x4022
        let r = ckpt_mmap(0, UInt64(Self.capacity), readWrite, privateAnonymousNoReserve, -1, 0)
        if r < 0 && r > -4096 { fail(ExitCode.system, nil, "memory for the environment", Errno(Int32(truncatingIfNeeded: -r))) }
        base = UnsafeMutablePointer(bitPattern: r)!
    }

    /// Where the next text begins.
    var mark: Int { used }
    mutating func put(byte: UInt8) {
        if used >= Self.capacity { fail(ExitCode.system, nil, "the environment is larger than 16 MiB") }
        base[used] = byte
        used &+= 1
    }
    mutating func put(_ s: StaticString) { s.withUTF8Buffer { for c in $0 { put(byte: c) } } }
    mutating func put(text p: UnsafePointer<CChar>) {
        var p = p
        while p.pointee != 0 { put(byte: UInt8(bitPattern: p.pointee)); p += 1 }
    }
    mutating func put(text p: UnsafePointer<CChar>, count: Int) { for i in 0..<count { put(byte: UInt8(bitPattern: p[i])) } }
    mutating func put(decimal v: UInt64) {
        if v >= 10 { put(decimal: v / 10) }
        put(byte: UInt8(truncatingIfNeeded: 48 &+ v % 10))
    }
    mutating func put(hex v: UInt64, digits: Int) {
        for i in 0..<digits {
            let d = UInt8(truncatingIfNeeded: (v >> UInt64(4 * (digits - 1 - i))) & 15)
            put(byte: d < 10 ? 48 &+ d : 87 &+ d)
        }
    }
    /// Ends the text that began at `mark`; it stays where it is.
    mutating func finish(from mark: Int) -> UnsafePointer<CChar> {
        put(byte: 0)
        return UnsafeRawPointer(base + mark).assumingMemoryBound(to: CChar.self)
    }
    mutating func drop(from mark: Int) { used = mark }
    /// Room for `count` pointers, all null.
    mutating func pointers(_ count: Int) -> Strings {
        used = (used + 7) & ~7
        if used + count * 8 > Self.capacity { fail(ExitCode.system, nil, "the environment is larger than 16 MiB") }
        let p = UnsafeMutableRawPointer(base + used).assumingMemoryBound(to: UnsafeMutablePointer<CChar>?.self)
        used += count * 8
        for i in 0..<count { p[i] = nil }       // dropped text may have been here
        return p
    }
}

func length(_ p: UnsafePointer<CChar>) -> Int {
    var n = 0
    while p[n] != 0 { n &+= 1 }
    return n
}

func equal(_ p: UnsafePointer<CChar>, _ s: StaticString) -> Bool {
    let n = s.utf8CodeUnitCount
    return prefix(p, s) && p[n] == 0
}

/// Whether the text at `p` begins with `s`.
func prefix(_ p: UnsafePointer<CChar>, _ s: StaticString) -> Bool {
    s.withUTF8Buffer { b in
        for i in 0..<b.count where UInt8(bitPattern: p[i]) != b[i] { return false }
        return true
    }
}

func index(of byte: UInt8, in p: UnsafePointer<CChar>) -> Int? {
    var i = 0
    while p[i] != 0 { if UInt8(bitPattern: p[i]) == byte { return i }; i &+= 1 }
    return nil
}

func lastIndex(of byte: UInt8, in p: UnsafePointer<CChar>) -> Int? {
    var i = length(p) - 1
    while i >= 0 { if UInt8(bitPattern: p[i]) == byte { return i }; i &-= 1 }
    return nil
}
