// Which pages a process has written since they were protected: by a userfaultfd that asks nobody (UFFD_FEATURE_WP_ASYNC, Linux 6.7) and ioctl(PAGEMAP_SCAN).
// A write to a protected page costs the process one fault, and nothing is told to it.  The tracking ends with the last copy of the descriptor.
import CkptABI
import Glibc

public final class WriteTracking: Sendable {
    private let descriptor: File

    /// A descriptor that has been one before.
    public init(again descriptor: File) { self.descriptor = descriptor }
    /// `descriptor`: what userfaultfd(2) gave the process itself.
    public init(new descriptor: File) throws(SystemError) {
        self.descriptor = descriptor
        var api = ckpt_uffdio_api(api: 0xaa, features: UInt64(CKPT_UFFD_WP_ASYNC | CKPT_UFFD_WP_UNPOPULATED), ioctls: 0)
        let r = withUnsafeMutablePointer(to: &api) { ckpt_syscall(Int(CKPT_SYS_ioctl), Int(descriptor.number), Int(CKPT_UFFDIO_API), Int(bitPattern: $0), 0, 0, 0) }
        if r < 0 { throw SystemError("userfaultfd", errno: Int32(-r)) }
    }
    public static var isPossible: Bool {
        let r = ckpt_syscall(Int(CKPT_SYS_userfaultfd), Int(CKPT_UFFD_CLOEXEC | CKPT_UFFD_USER_MODE_ONLY), 0, 0, 0, 0, 0)
        return r >= 0 && (try? WriteTracking(new: File(adopting: Int32(r)))) != nil && Machine.hasPagemapScan
    }

    /// Whether this tracks the range now: not when it is another's, nor when the process has executed another program since.  What is tracked already stays as it is.
    public func add(_ start: UInt64, _ end: UInt64) -> Bool {
        var a = ckpt_uffdio_register(start: start, size: end - start, mode: UInt64(CKPT_UFFD_WP), ioctls: 0)
        return withUnsafeMutablePointer(to: &a) { ckpt_syscall(Int(CKPT_SYS_ioctl), Int(descriptor.number), Int(CKPT_UFFDIO_REGISTER), Int(bitPattern: $0), 0, 0, 0) } == 0
    }

    /// What an earlier tracking may have left on the pages is taken off (close(2) did not before Linux 6.9): all count as written.
    public func clear(_ start: UInt64, _ end: UInt64) -> Bool {
        var a = ckpt_uffdio_writeprotect(start: start, size: end - start, mode: 0)
        return withUnsafeMutablePointer(to: &a) { ckpt_syscall(Int(CKPT_SYS_ioctl), Int(descriptor.number), Int(CKPT_UFFDIO_WRITEPROTECT), Int(bitPattern: $0), 0, 0, 0) } == 0
    }

    /// The descriptor and a few bytes go into a socket, where they stay until somebody takes them; false: there is no room.
    public func put(_ bytes: [UInt8], into socket: Int32) -> Bool {
        var bytes = bytes, control = ckpt_cmsg_fd(length: 20, level: SOL_SOCKET, type: 1, fd: descriptor.number, pad: 0)
        return bytes.withUnsafeMutableBytes { b in
            withUnsafeMutablePointer(to: &control) { control in
                var vector = iovec(iov_base: b.baseAddress, iov_len: b.count)
                return withUnsafeMutablePointer(to: &vector) { v in
                    var message = msghdr()
                    message.msg_iov = v; message.msg_iovlen = 1
                    message.msg_control = UnsafeMutableRawPointer(control); message.msg_controllen = MemoryLayout<ckpt_cmsg_fd>.size
                    return sendmsg(socket, &message, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)) == b.count
                }
            }
        }
    }
}

extension PageMap {
    public enum Written { case sinceProtected, not }
    /// The pages that are there, present or swapped out, and have been written since they were protected, or have not; in their order.
    /// `protecting`: those that have been written count as unwritten from now on.
    public func tracked(from start: UInt64, to end: UInt64, _ wanted: Written, protecting: Bool = false) throws(SystemError) -> [(start: UInt64, end: UInt64)] {
        var found: [(start: UInt64, end: UInt64)] = [], a = ckpt_pm_scan_arg()
        let protect: UInt64 = 1, onlyTracked: UInt64 = 2
        a.flags = protecting ? protect | onlyTracked : 0
        a.category_mask = UInt64(CKPT_PAGE_IS_WRITTEN | CKPT_PAGE_IS_WPALLOWED)
        a.category_inverted = wanted == .not ? UInt64(CKPT_PAGE_IS_WRITTEN) : 0
        a.return_mask = UInt64(CKPT_PAGE_IS_WPALLOWED)
        try scan(from: start, to: end, a) { r in
            if let last = found.last, last.end == r.start { found[found.count - 1].end = r.end } else { found.append((r.start, r.end)) }
        }
        return found
    }
    /// All pages that are there, in their order; `isUnwritten`: they are tracked, and as they were when they were protected.
    public func present(from start: UInt64, to end: UInt64, _ body: (_ start: UInt64, _ end: UInt64, _ isUnwritten: Bool) -> Void) throws(SystemError) {
        var a = ckpt_pm_scan_arg()
        a.return_mask = UInt64(CKPT_PAGE_IS_WRITTEN | CKPT_PAGE_IS_WPALLOWED)
        try scan(from: start, to: end, a) { r in body(r.start, r.end, r.categories & UInt64(CKPT_PAGE_IS_WRITTEN | CKPT_PAGE_IS_WPALLOWED) == UInt64(CKPT_PAGE_IS_WPALLOWED)) }
    }

    private func scan(from start: UInt64, to end: UInt64, _ question: ckpt_pm_scan_arg, _ body: (ckpt_page_region) -> Void) throws(SystemError) {
        var regions = [ckpt_page_region](repeating: ckpt_page_region(), count: 4096), at = start
        while at < end {
            var a = question
            a.size = UInt64(MemoryLayout<ckpt_pm_scan_arg>.size)
            a.start = at; a.end = end; a.vec_len = UInt64(regions.count)
            a.category_anyof_mask = UInt64(CKPT_PAGE_IS_PRESENT | CKPT_PAGE_IS_SWAPPED)
            let got = regions.withUnsafeMutableBufferPointer { r in
                a.vec = UInt64(UInt(bitPattern: r.baseAddress!))
                return withUnsafeMutablePointer(to: &a) { ckpt_syscall(Int(CKPT_SYS_ioctl), Int(file.number), Int(CKPT_PAGEMAP_SCAN), Int(bitPattern: $0), 0, 0, 0) }
            }
            if got == -4 { continue }
            if got < 0 { throw SystemError("PAGEMAP_SCAN", errno: Int32(-got)) }
            for i in 0..<got { body(regions[i]) }
            if a.walk_end <= at { break }
            at = a.walk_end
        }
    }
}
