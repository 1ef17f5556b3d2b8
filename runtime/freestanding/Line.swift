// Runs in the runtime (inside applications) and in the engine: no allocation, any stack with 1 kB left.
// One line of text built in place: paths below /proc, diagnostics of the engine.
import CkptABI

public struct Line: ~Copyable {
    private var bytes = InlineArray<1024, UInt8>(repeating: 0)
    public private(set) var count = 0
    public init() {}
    public mutating func put(byte b: UInt8) { if count < 1023 { bytes[count] = b; count &+= 1 } }
    public mutating func put(_ s: StaticString) { s.withUTF8Buffer { for c in $0 { put(byte: c) } } }
    public mutating func put(decimal v: UInt64) {
        var digits = InlineArray<20, UInt8>(repeating: 0)
        var i = 20, v = v
        repeat { i &-= 1; digits[i] = UInt8(truncatingIfNeeded: 48 &+ v % 10); v /= 10 } while v != 0
        while i < 20 { put(byte: digits[i]); i &+= 1 }
    }
    public mutating func put(signed v: Int64) {
        if v < 0 { put(byte: 45) }
        put(decimal: v.magnitude)
    }
    public mutating func put(hex v: UInt64) {
        var shift: UInt64 = 60
        while shift > 0 && (v >> shift) & 15 == 0 { shift &-= 4 }
        while true {
            let d = UInt8(truncatingIfNeeded: (v >> shift) & 15)
            put(byte: d < 10 ? 48 &+ d : 87 &+ d)
            if shift == 0 { return }
            shift &-= 4
        }
    }
    public mutating func put(text p: UnsafePointer<CChar>) {
        var p = p
        while p.pointee != 0 { put(byte: UInt8(bitPattern: p.pointee)); p += 1 }
    }
    /// The text as a C string; valid inside `body`.
    public mutating func withCString<R, E: Error>(_ body: (UnsafePointer<CChar>) throws(E) -> R) throws(E) -> R {
        bytes[count] = 0
        return try bytes.span.withUnsafeBytes { (b) throws(E) -> R in try body(b.baseAddress!.assumingMemoryBound(to: CChar.self)) }
    }
    /// The text and a NUL, cut to `capacity` bytes.
    public borrowing func copy(to p: UnsafeMutablePointer<CChar>, capacity: Int) {
        let n = count < capacity ? count : capacity - 1
        for i in 0..<n { p[i] = CChar(bitPattern: bytes[i]) }
        p[n] = 0
    }
    public func write(to descriptor: Descriptor) {
        let n = count
        bytes.span.withUnsafeBytes { _ = ckpt_write(descriptor.value, $0.baseAddress!, n) }
    }
}
