// Runs in each process of the tree when its memory is in place and it has one task; no allocation, no libc.
// An io_uring is mapped where the kernel chooses: asked for an address, by mmap(2) or mremap(2), it fails.  So all other addresses are taken for the moment.
import CkptABI
import EngineBoot
import Freestanding

private let shared: Int32 = 1, reserved: Int32 = 0x104022      // MAP_FIXED_NOREPLACE, NORESERVE, ANONYMOUS, PRIVATE
private let bottom: UInt64 = 0x10000, top: UInt64 = 0x7fff_ffff_f000
private let strays = 16

func mapRings(_ i: Int) {
    let p = processes[i]
    var any = false
    for k in 0..<p.pointee.vma_count where isRing(Int(p.pointee.first_vma + k)) { any = true }
    if !any { return }
    // The rings' own places are taken too, until it is their turn.
    forEachGap(i, aroundRings: false) { start, end in _ = ckpt_mmap(start, end - start, 0, reserved, -1, 0) }
    for k in 0..<p.pointee.vma_count where isRing(Int(p.pointee.first_vma + k)) { mapRing(Int(p.pointee.first_vma + k)) }
    forEachGap(i, aroundRings: true) { start, end in _ = ckpt_munmap(start, end - start) }
}
private func isRing(_ v: Int) -> Bool { vmas[v].pointee.kind == CKPT_VMA_RING.rawValue }

private func mapRing(_ v: Int) {
    let m = vmas[v].pointee, size = m.end - m.start
    var fd: Int32 = -1
    for d in 0..<descriptions.count where descriptions[d].pointee.object == m.object { fd = descriptionFd[d].pointee }
    _ = ckpt_munmap(m.start, size)
    // Elsewhere there is a place still: it is taken as well.
    var others = InlineArray<16, UInt64>(repeating: 0), n = 0, at = 0
    while true {
        at = ckpt_mmap(0, size, Int32(m.protection), shared, fd, m.object_offset)
        if failed(at) || UInt64(at) == m.start || n == strays { break }
        others[n] = UInt64(at)
        n += 1
    }
    while n > 0 { n -= 1; _ = ckpt_munmap(others[n], size) }
    if failed(at) { refuseVma(v, at, "io_uring: cannot be mapped; raise the limit on address space (ulimit -v)") }
    guard UInt64(at) == m.start else { refuseVma(v, -17, "io_uring: cannot be mapped there") }
    if has(v, CKPT_VMA_DONTFORK) { _ = ckpt_madvise(m.start, size, 10) }
    if has(v, CKPT_VMA_DONTDUMP) { _ = ckpt_madvise(m.start, size, 16) }
}

/// What is free between the process's memory and the engine's.
private func forEachGap(_ i: Int, aroundRings: Bool, _ body: (UInt64, UInt64) -> Void) {
    let p = processes[i], engine = state.pointee.region_base, engineEnd = state.pointee.vdso_home + state.pointee.vdso_home_size
    var at = bottom, k: UInt32 = 0, isPast = false
    while true {
        while k < p.pointee.vma_count && !aroundRings && isRing(Int(p.pointee.first_vma + k)) { k += 1 }
        var start = top, end = top
        if k < p.pointee.vma_count { start = vmas[p.pointee.first_vma + k].pointee.start; end = vmas[p.pointee.first_vma + k].pointee.end }
        if !isPast && engine < start { start = engine; end = engineEnd; isPast = true } else { k += 1 }
        if start > at { body(at, min(start, top)) }
        at = max(at, end)
        if at >= top { return }
    }
}
