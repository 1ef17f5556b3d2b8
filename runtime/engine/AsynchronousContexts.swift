// Runs in each process of the tree when its memory is in place, on the region's main stack; no allocation, no libc.
// Contexts of asynchronous I/O (io_setup(2)): a context's name is the address of its ring, so the ring goes where it was.
import CkptABI
import EngineBoot
import Freestanding
import CkptMemory

private let submitCall = 209, getEventsCall = 208
private let eventsAt = 4, headAt = 8, tailAt = 12, header = 32, eventSize: UInt64 = 32

func restoreAsynchronousContexts(_ i: Int) {
    let p = processes[i]
    for k in 0..<p.pointee.vma_count where vmas[p.pointee.first_vma + k].pointee.kind == CKPT_VMA_AIO.rawValue { makeContext(i, Int(p.pointee.first_vma + k)) }
}

private func makeContext(_ i: Int, _ v: Int) {
    let r = vmas[v].pointee
    var context: UInt64 = 0
    // The kernel doubles what is asked for, adds two and fills the last page.
    let e = system(CKPT_SYS_io_setup, int(max(1, (r.object_offset - 2) / 2)), int(&context))
    guard e == 0 else { refuseVma(v, e, "asynchronous I/O context; raise sysctl fs.aio-max-nr") }
    // A machine with more CPUs makes larger rings: harmless where there is room, and nothing has gone round.
    let events = UInt64(field(UnsafeRawPointer(bitPattern: UInt(context))!, eventsAt, UInt32.self))
    let size = pageAlignUp(UInt64(header) + events * eventSize)
    let kept = UnsafeMutableRawPointer(bitPattern: UInt(state.pointee.chunk))!
    readStatefile(kept, UInt64(header), at: r.data_offset)
    let head = field(kept, headAt, UInt32.self), tail = field(kept, tailAt, UInt32.self), other = "asynchronous I/O context: larger on this machine; restart it on one with as many CPUs as before" as StaticString
    guard UInt64(head) < r.object_offset, UInt64(tail) < r.object_offset else { refuseStatefile("asynchronous I/O context", at: r.data_offset, "its head or tail lies outside its ring") }
    guard size <= r.end - r.start || isFree(i, r.end, r.start + size), events == r.object_offset || isUnused(v) else { refuseVma(v, -12, other) }
    complete(v, context, Int(head), unread: Int((UInt64(tail) + r.object_offset - UInt64(head)) % r.object_offset))
    if events == r.object_offset { readStatefile(UnsafeMutableRawPointer(bitPattern: UInt(context))! + header, events * eventSize, at: r.data_offset + UInt64(header)) }
    let m = system(CKPT_SYS_mremap, int(context), int(size), int(size), 3, int(r.start))
    guard !failed(m), UInt64(m) == r.start else { refuseVma(v, failed(m) ? m : -17, "asynchronous I/O context: cannot be moved to its address") }
}

/// Nothing was ever given to it: no event was written into its ring.
private func isUnused(_ v: Int) -> Bool {
    let r = vmas[v].pointee, kept = UnsafeMutableRawPointer(bitPattern: UInt(state.pointee.chunk))!
    readStatefile(kept, UInt64(header) + eventSize, at: r.data_offset)
    return field(kept, headAt, UInt64.self) == 0 && field(kept, header, UInt64.self) == 0 && field(kept, header + 8, UInt64.self) == 0
}

/// The kernel's place in the ring moves with completed operations only: reads of one byte of the statefile.
private func complete(_ v: Int, _ context: UInt64, _ taken: Int, unread: Int) {
    var left = taken
    while left > 0 {
        let n = submit(v, context, min(left, 32))
        var events = InlineArray<128, UInt64>(repeating: 0)
        let got = withUnsafeMutableBytes(of: &events) { system(getEventsCall, int(context), n, n, int($0.baseAddress!), 0) }
        guard got == n else { refuseVma(v, got < 0 ? got : -5, "asynchronous I/O context: its events cannot be taken") }
        left -= n
    }
    left = unread
    while left > 0 { left -= submit(v, context, min(left, 32)) }
}
private func submit(_ v: Int, _ context: UInt64, _ count: Int) -> Int {
    var block = InlineArray<8, UInt64>(repeating: 0), blocks = InlineArray<32, UInt64>(repeating: 0), byte: UInt64 = 0
    block[2] = UInt64(UInt32(bitPattern: state.pointee.statefile)) << 32       // IOCB_CMD_PREAD
    block[3] = UInt64(UInt(bitPattern: int(&byte)))
    block[4] = 1
    let n = withUnsafeMutableBytes(of: &block) { b in
        for k in 0..<count { blocks[k] = UInt64(UInt(bitPattern: b.baseAddress!)) }
        return withUnsafeMutableBytes(of: &blocks) { system(submitCall, int(context), count, int($0.baseAddress!)) }
    }
    guard n > 0 else { refuseVma(v, n < 0 ? n : -5, "asynchronous I/O context: nothing can be given to it") }
    return n
}

private func isFree(_ i: Int, _ start: UInt64, _ end: UInt64) -> Bool {
    let p = processes[i], s = state
    for k in 0..<p.pointee.vma_count {
        let v = vmas[p.pointee.first_vma + k].pointee
        if v.start < end && start < v.end { return false }
    }
    return !(s.pointee.region_base < end && start < s.pointee.vdso_home + s.pointee.vdso_home_size)
}
