// Runs in the engine before the tree exists and in each process of it, on the region's main stack; no allocation, no libc.
// Memory on hugetlb pages: they are taken from the machine's pool, and where that is empty the restart ends with the number that it needs.
import CkptABI
import EngineBoot
import Freestanding
import CkptMemory

/// MAP_HUGETLB with the pages' size, as mmap(2) and memfd_create(2) encode it.
func hugePages(_ shift: UInt32) -> Int32 { 0x40000 | Int32(shift) << 26 }
func hugeMemfd(_ shift: UInt32) -> Int { 4 | Int(shift) << 26 }

/// The pool lacks pages: how many, and where to set it.
private func putLack(_ bytes: UInt64, _ shift: UInt32, _ l: inout Line) {
    let page = UInt64(1) << UInt64(shift)
    l.put(decimal: (bytes + page - 1) / page); l.put(" huge pages of "); l.put(decimal: page / 1024); l.put(" kB are not free here; make room with ")
    if shift == 21 { l.put("sysctl vm.nr_hugepages=N") }
    else { l.put("/sys/kernel/mm/hugepages/hugepages-"); l.put(decimal: page / 1024); l.put("kB/nr_hugepages") }
}
func refuseHugePages(_ v: Int, _ size: UInt64) -> Never {
    refuse(.lacks) { l in
        putThisProcess(&l); l.put("memory at 0x"); l.put(hex: vmas[v].pointee.start); l.put(": ")
        putLack(size, UInt32(vmas[v].pointee.page_shift), &l)
    }
}
private func refuseHugeObject(_ o: Int, _ size: UInt64) -> Never {
    refuse(.lacks) { l in putObject(o, &l); putLack(size, objects[o].pointee.page_shift, &l) }
}

/// A page that nobody has reserved raises SIGBUS when it is touched and none is left: MADV_POPULATE_WRITE says so instead.
func populateHuge(_ v: Int, _ start: UInt64, _ end: UInt64) {
    let mask = (UInt64(1) << UInt64(vmas[v].pointee.page_shift)) - 1
    let from = max(start & ~mask, vmas[v].pointee.start), to = min((end + mask) & ~mask, vmas[v].pointee.end)
    let r = ckpt_madvise(from, to - from, 23)
    guard r == 0 else { refuseHugePages(v, to - from) }
}

/// hugetlbfs has no write(2): contents go through a mapping.
private func withMapping(_ o: Int, _ fd: Int32, _ offset: UInt64, _ size: UInt64, _ body: (UnsafeMutableRawPointer) -> Void) {
    let page = UInt64(1) << UInt64(objects[o].pointee.page_shift), start = offset & ~(page - 1)
    let length = (offset + size - start + page - 1) & ~(page - 1)
    let r = ckpt_mmap(0, length, 3, 1, fd, start)
    guard !failed(r), ckpt_madvise(UInt64(r), length, 23) == 0 else { refuseHugeObject(o, length) }
    body(UnsafeMutableRawPointer(bitPattern: r + Int(offset - start))!)
    _ = ckpt_munmap(UInt64(r), length)
}

func copyHugeContent(_ o: Int, to fd: Int32) {
    let b = UnsafeMutableRawPointer(bitPattern: UInt(state.pointee.copy))!
    var at: UInt64 = 0
    while at < objects[o].pointee.content_size {
        let n = min(65536, objects[o].pointee.content_size - at)
        readStatefile(b, n, at: objects[o].pointee.content + at)
        if !isZero(b, Int(n)) { withMapping(o, fd, at, n) { p in _ = memcpy(p, b, Int(n)) } }
        at += n
    }
}

/// Pages that were written through a shared mapping.
func fillHugeObject(_ o: Int, _ run: ckpt_run) {
    guard run.address <= objects[o].pointee.size, UInt64(run.pages) * 4096 <= objects[o].pointee.size - run.address else {
        refuseStatefile("run", at: run.file_offset, "lies outside its shared object")
    }
    withMapping(o, objectFd[o].pointee, run.address, UInt64(run.pages) * 4096) { p in readRun(run, to: UInt64(UInt(bitPattern: p)), frames: state.pointee.frames) }
}
