// Runs in each process of the tree when its memory is in place, on the region's main stack; no allocation, no libc.
// Contexts of asynchronous I/O (io_setup(2)): a context's name is the address of its ring, so the ring goes where it was.
import CkptABI
import EngineBoot
import Freestanding

func restoreAsynchronousContexts(_ i: Int) {
    let p = processes[i]
    for k in 0..<p.pointee.vma_count where vmas[p.pointee.first_vma + k].pointee.kind == CKPT_VMA_AIO.rawValue { makeContext(i, Int(p.pointee.first_vma + k)) }
}

private func makeContext(_ i: Int, _ v: Int) {
    let r = vmas[v].pointee, ringEvents = 4
    var context: UInt64 = 0
    // The kernel doubles what is asked for, adds two and fills the last page.
    let e = system(CKPT_SYS_io_setup, int(max(1, (r.object_offset - 2) / 2)), int(&context))
    guard e == 0 else { refuseVma(v, e, "asynchronous I/O context; raise sysctl fs.aio-max-nr") }
    // A machine with more CPUs makes larger rings: harmless where there is room.
    let events = UInt64(field(UnsafeRawPointer(bitPattern: UInt(context))!, ringEvents, UInt32.self))
    let size = pageAlignUp(32 + events * 32)
    guard size <= r.end - r.start || isFree(i, r.end, r.start + size) else { refuseVma(v, -12, "asynchronous I/O context: larger on this machine; restart it on one with as many CPUs as before") }
    let m = system(CKPT_SYS_mremap, int(context), int(size), int(size), 3, int(r.start))
    guard !failed(m), UInt64(m) == r.start else { refuseVma(v, failed(m) ? m : -17, "asynchronous I/O context: cannot be moved to its address") }
}

private func isFree(_ i: Int, _ start: UInt64, _ end: UInt64) -> Bool {
    let p = processes[i], s = state
    for k in 0..<p.pointee.vma_count {
        let v = vmas[p.pointee.first_vma + k].pointee
        if v.start < end && start < v.end { return false }
    }
    return !(s.pointee.region_base < end && start < s.pointee.vdso_home + s.pointee.vdso_home_size)
}
