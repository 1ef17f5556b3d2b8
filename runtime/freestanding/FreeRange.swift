// Runs in the engine: no allocation, no system call; tested as ordinary Swift.
// Looks for addresses that nobody uses, in any of the address spaces of a tree.

public struct AddressRange: Equatable {
    public var start: UInt64, end: UInt64
    public init(_ start: UInt64, _ end: UInt64) { self.start = start; self.end = end }
}

/// The lowest base ≥ `from`, a multiple of `alignment`, at which `size` bytes and a `guardSize` on both sides meet none of `count` ranges, or nil.
/// The ranges may come in any order: they are looked through until a whole pass moves nothing.
public func freeBase(size: UInt64, from: UInt64, limit: UInt64, guardSize: UInt64, alignment: UInt64, count: Int, range: (Int) -> AddressRange) -> UInt64? {
    var base = (from &+ alignment &- 1) & ~(alignment &- 1)
    var moved = true
    while moved {
        moved = false
        var i = 0
        while i < count {
            guard base < limit, limit &- base >= size &+ guardSize else { return nil }
            let r = range(i)
            if r.start < base &+ size &+ guardSize && r.end &+ guardSize > base {
                base = (r.end &+ guardSize &+ alignment &- 1) & ~(alignment &- 1)
                moved = true
            }
            i += 1
        }
    }
    return base < limit && limit &- base >= size &+ guardSize ? base : nil
}
