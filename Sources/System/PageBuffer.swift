// Memory of another process (process_vm_readv(2)), page by page.
import CkptABI
import Glibc

public func areEqual(_ a: UnsafeRawPointer, _ b: UnsafeRawPointer, _ count: Int) -> Bool { memcmp(a, b, count) == 0 }

public final class PageBuffer: @unchecked Sendable {
    public let base: UnsafeMutableRawPointer
    public let size: Int
    /// Touched already: nobody waits for its pages later.
    public init?(size: Int) {
        let hugePages: Int32 = 14, populate: Int32 = 23, whole = (max(size, 1) + (2 << 20) - 1) & ~((2 << 20) - 1)
        guard let p = mmap(nil, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), p != MAP_FAILED else { return nil }
        madvise(p, whole, hugePages)
        madvise(p, whole, populate)
        base = p; self.size = whole
    }
    deinit { munmap(base, size) }

    /// How many bytes from the beginning of the ranges, one after the other, are at `offset` now.
    public func read(pid: Int32, _ ranges: ArraySlice<(start: UInt64, end: UInt64)>, at offset: Int) -> Int {
        var done = 0, next = ranges.startIndex
        while next < ranges.endIndex {
            let part = ranges[next..<min(next + 1000, ranges.endIndex)]
            let remote = part.map { ckpt_iovec(base: $0.start, length: $0.end - $0.start) }, wanted = part.reduce(0) { $0 + Int($1.end - $1.start) }
            guard offset + done + wanted <= size else { return done }
            var local = ckpt_iovec(base: UInt64(UInt(bitPattern: base + offset + done)), length: UInt64(wanted))
            let got = remote.withUnsafeBufferPointer { r in
                withUnsafeMutablePointer(to: &local) { ckpt_syscall(CKPT_SYS_process_vm_readv, Int(pid), Int(bitPattern: $0), 1, Int(bitPattern: r.baseAddress!), r.count, 0) }
            }
            if got > 0 { done += got }
            if got != wanted { return done }
            next = part.endIndex
        }
        return done
    }
    public func isZero(page offset: Int) -> Bool { ckpt_page_is_zero(base + offset) }
}
