// /proc/PID/pagemap, asked by ioctl(PAGEMAP_SCAN).
import CkptABI
import Glibc

public struct PageMap {
    let file: File
    private var regions = [ckpt_page_region](repeating: ckpt_page_region(), count: 512)
    public init(of pid: Int32) throws(SystemError) { file = try File("/proc/\(pid)/pagemap") }

    /// Whether the process has pages of its own there, present or swapped out; nil: the kernel can't tell (before 6.7).
    public func holdsOwn(from start: UInt64, to end: UInt64) -> Bool? {
        var region = ckpt_page_region(), a = ckpt_pm_scan_arg()
        a.size = UInt64(MemoryLayout<ckpt_pm_scan_arg>.size)
        a.start = start; a.end = end; a.vec_len = 1; a.max_pages = 1
        a.category_mask = UInt64(CKPT_PAGE_IS_FILE); a.category_inverted = UInt64(CKPT_PAGE_IS_FILE)
        a.category_anyof_mask = UInt64(CKPT_PAGE_IS_PRESENT | CKPT_PAGE_IS_SWAPPED)
        a.return_mask = UInt64(CKPT_PAGE_IS_PRESENT)
        let got = withUnsafeMutablePointer(to: &region) { r in
            a.vec = UInt64(UInt(bitPattern: r))
            return withUnsafeMutablePointer(to: &a) { ckpt_syscall(CKPT_SYS_ioctl, Int(file.number), Int(CKPT_PAGEMAP_SCAN), Int(bitPattern: $0), 0, 0, 0) }
        }
        return got < 0 ? nil : got > 0
    }

    /// Adds the ranges of guard pages (MADV_GUARD_INSTALL); false where the kernel does not tell them apart (before 6.15).
    public func addGuards(from start: UInt64, to end: UInt64, _ guards: inout [(start: UInt64, end: UInt64)]) throws(SystemError) -> Bool {
        var at = start, regions = self.regions
        while at < end {
            var a = ckpt_pm_scan_arg()
            a.size = UInt64(MemoryLayout<ckpt_pm_scan_arg>.size)
            a.start = at; a.end = end; a.vec_len = UInt64(regions.count)
            a.category_mask = UInt64(CKPT_PAGE_IS_GUARD); a.return_mask = UInt64(CKPT_PAGE_IS_GUARD)
            let got = regions.withUnsafeMutableBufferPointer { r in
                a.vec = UInt64(UInt(bitPattern: r.baseAddress!))
                return withUnsafeMutablePointer(to: &a) { ckpt_syscall(CKPT_SYS_ioctl, Int(file.number), Int(CKPT_PAGEMAP_SCAN), Int(bitPattern: $0), 0, 0, 0) }
            }
            if got == -22 || got == -25 { return false }
            if got < 0 { throw SystemError("PAGEMAP_SCAN", errno: Int32(-got)) }
            for r in regions.prefix(got) {
                if let last = guards.last, last.end == r.start { guards[guards.count - 1].end = r.end } else { guards.append((r.start, r.end)) }
            }
            at = a.walk_end
        }
        return true
    }
}
