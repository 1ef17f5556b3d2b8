// Runs in each process of the tree, on the region's main stack; no allocation, no libc.
// Replaces the process's memory: everything but the region and the kernel's vdso goes, every recorded VMA comes, filled from the statefile.
import CkptABI
import EngineBoot
import Freestanding

private let topOfMemory: UInt64 = 0x7fff_ffff_f000
private let mapFixed: Int32 = 0x10
private let mapShared: Int32 = 1, mapPrivate: Int32 = 2, mapAnonymous: Int32 = 0x20, mapGrowsDown: Int32 = 0x100, mapNoReserve: Int32 = 0x4000, mapNoReplace: Int32 = 0x100000
private let mapDroppable: Int32 = 8

func restoreMemory(_ i: Int) {
    let p = processes[i]
    if state.pointee.warm != 0 { takeImage(i) } else { clearMemory() }
    countUses(i)
    for k in 0..<p.pointee.vma_count where !isHeld(Int(p.pointee.first_vma + k)) { mapVma(Int(p.pointee.first_vma + k)) }
    closeMappedFile()
    placeVdso(i)
    fillMemory(i)
    finishVdso(i)
    restoreGuards(i)
    takeProtectionKeys(i)
    for k in 0..<p.pointee.vma_count { finishVma(Int(p.pointee.first_vma + k)) }
    makeRings(i)
    restoreAsynchronousContexts(i)
}

private func clearMemory() {
    let s = state, keepEnd = s.pointee.vdso_home + s.pointee.vdso_home_size
    _ = ckpt_munmap(0, s.pointee.region_base)
    _ = ckpt_munmap(keepEnd, topOfMemory - keepEnd)
}

func refuseVma(_ v: Int, _ r: Int, _ what: StaticString) -> Never {
    refuse(r) { l in putVma(v, what, &l) }
}
private func putVma(_ v: Int, _ what: StaticString, _ l: inout Line) {
    putThisProcess(&l); l.put("memory at 0x"); l.put(hex: vmas[v].pointee.start)
    if vmas[v].pointee.name != 0 { l.put(" ("); l.put(text: bytes(vmas[v].pointee.name)); l.put(")") }
    l.put(": "); l.put(what)
}

func has(_ v: Int, _ flag: ckpt_vma_flags) -> Bool { vmas[v].pointee.flags & flag.rawValue != 0 }

/// Writable while it is filled, if anything of it is stored.
func fillProtection(_ v: Int) -> Int32 { Int32(vmas[v].pointee.protection) | (vmas[v].pointee.data_offset != 0 ? 3 : 0) }

func mapVma(_ v: Int) { mapVma(v, at: vmas[v].pointee.start) }
/// A template holds some elsewhere.
func mapVma(_ v: Int, at address: UInt64) {
    let r = vmas[v].pointee
    var flags = address == r.start ? mapNoReplace : mapFixed, fd: Int32 = -1, offset: UInt64 = 0, protection = fillProtection(v)
    if has(v, CKPT_VMA_NORESERVE) { flags |= mapNoReserve }
    switch ckpt_vma_kind(r.kind) {
    case CKPT_VMA_ANONYMOUS:
        flags |= has(v, CKPT_VMA_DROPPABLE) ? mapDroppable : mapPrivate
        flags |= mapAnonymous | (has(v, CKPT_VMA_GROWSDOWN) ? mapGrowsDown : 0)
        if r.page_shift != 0 { flags |= hugePages(UInt32(r.page_shift)) }
    case CKPT_VMA_FILE:
        flags |= mapPrivate; fd = fileToMap(v, write: false); offset = r.object_offset
    case CKPT_VMA_SHARED_FILE:
        flags |= mapShared; fd = fileToMap(v, write: has(v, CKPT_VMA_MAYWRITE) || r.protection & 2 != 0); offset = r.object_offset
        protection = Int32(r.protection)
    case CKPT_VMA_SHARED_ANONYMOUS where objects[r.object].pointee.kind == CKPT_OBJECT_SEGMENT.rawValue: return mapSegment(v)
    case CKPT_VMA_SHARED_ANONYMOUS where r.page_shift != 0:
        // mremap(2) makes no second mapping of huge pages: they come from a memfd.
        flags |= mapShared; fd = fileToMap(v, write: true); offset = r.object_offset
    case CKPT_VMA_SHARED_ANONYMOUS: return mapStaged(v)
    case CKPT_VMA_SESSION:
        flags |= mapShared; fd = state.pointee.segment_fd; offset = r.object_offset
    default: return
    }
    let m = ckpt_mmap(address, r.end - r.start, protection, flags, fd, offset)
    if m == -12 && r.page_shift != 0 { refuseHugePages(v, r.end - r.start) }
    guard !failed(m), UInt64(m) == address else { refuseVma(v, failed(m) ? m : -17, "cannot be mapped") }
    if r.policy != 0 { restorePolicy(v) }
    if has(v, CKPT_VMA_HUGEPAGE) { _ = ckpt_madvise(address, r.end - r.start, 14) }
    if has(v, CKPT_VMA_NOHUGEPAGE) { _ = ckpt_madvise(address, r.end - r.start, 15) }
}

/// A template's region goes on being used.
private var leavesStaging: Bool { state.pointee.warm == 0 && state.pointee.wants_template == 0 }

/// The kernel limits how many mappings a process has (vm.max_map_count), and those in the region count.  Where there are many, this process lets go of what it
/// does not map, and takes what it maps once; where there are few, the region goes as a whole.
private func countUses(_ i: Int) {
    let p = processes[i], many = 30_000
    guard leavesStaging, objects.count + Int(p.pointee.vma_count) > many else { return }
    for o in 0..<objects.count { objectUses[o].pointee = 0 }
    for k in 0..<p.pointee.vma_count where vmas[p.pointee.first_vma + k].pointee.kind == CKPT_VMA_SHARED_ANONYMOUS.rawValue { objectUses[vmas[p.pointee.first_vma + k].pointee.object].pointee += 1 }
    for o in 0..<objects.count where objects[o].pointee.kind == CKPT_OBJECT_SHMEM.rawValue && objectStaging[o].pointee != 0 && objectUses[o].pointee == 0 { _ = ckpt_munmap(objectStaging[o].pointee, sharedSize(o)) }
}

/// A second mapping of the staged pages, by mremap(2) with an old size of 0; the only one of the whole object is the staged one itself.
private func mapStaged(_ v: Int) {
    let r = vmas[v].pointee, size = r.end - r.start
    let from = objectStaging[r.object].pointee + r.object_offset
    let isAll = leavesStaging && objectUses[r.object].pointee == 1 && size == sharedSize(Int(r.object))
    let m = system(CKPT_SYS_mremap, int(from), isAll ? int(size) : 0, int(size), 3, int(r.start))
    guard !failed(m), UInt64(m) == r.start else { refuseVma(v, m, "shared memory cannot be mapped") }
    if r.policy != 0 { restorePolicy(v) }
}

/// Neighbouring VMAs mostly map the same file: the last one stays open.
private func fileToMap(_ v: Int, write: Bool) -> Int32 {
    let s = state, o = Int(vmas[v].pointee.object)
    if s.pointee.mapped_fd >= 0 && s.pointee.mapped_object == UInt32(o) && s.pointee.mapped_write == (write ? 1 : 0) { return s.pointee.mapped_fd }
    closeMappedFile()
    let flags: Int32 = (write ? 2 : 0) | 0o2000000
    let r: Int
    if objectFd[o].pointee >= 0 { r = Int(reopen(objectFd[o].pointee, UInt32(bitPattern: flags), o)) }
    else { r = openNamed(o, flags) }
    guard r >= 0 else { refuseFile(o, r) { l in putVma(v, "its file cannot be opened", &l) } }
    s.pointee.mapped_fd = lift(Int32(truncatingIfNeeded: r), "mapped file")
    s.pointee.mapped_object = UInt32(o)
    s.pointee.mapped_write = write ? 1 : 0
    return s.pointee.mapped_fd
}
func closeMappedFile() {
    if state.pointee.mapped_fd >= 0 { _ = ckpt_close(state.pointee.mapped_fd) }
    state.pointee.mapped_fd = -1
}

/// Final protection, then what madvise(2) and mlock(2) had set.
private func finishVma(_ v: Int) {
    let r = vmas[v].pointee, size = r.end - r.start
    if r.kind > CKPT_VMA_SHARED_ANONYMOUS.rawValue { return }
    if r.key != 0 { protectByKey(v) }
    else if Int32(r.protection) != fillProtection(v) || r.kind == CKPT_VMA_SHARED_ANONYMOUS.rawValue {
        let m = ckpt_mprotect(r.start, size, Int32(r.protection))
        guard m == 0 else { refuseVma(v, m, "its protection cannot be set") }
    }
    func advise(_ flag: ckpt_vma_flags, _ advice: Int32) {
        guard has(v, flag) else { return }
        let m = ckpt_madvise(r.start, size, advice)
        guard m == 0 else { refuseVma(v, m, "madvise") }
    }
    advise(CKPT_VMA_DONTFORK, 10)
    advise(CKPT_VMA_WIPEONFORK, 18)
    advise(CKPT_VMA_DONTDUMP, 16)
    advise(CKPT_VMA_SEQUENTIAL, 2)
    advise(CKPT_VMA_RANDOM, 1)
    if has(v, CKPT_VMA_MERGEABLE) { _ = ckpt_madvise(r.start, size, 12) }
    if has(v, CKPT_VMA_LOCKED) {
        let m = system(CKPT_SYS_mlock2, int(r.start), int(size), has(v, CKPT_VMA_LOCKONFAULT) ? 1 : 0)
        guard m == 0 else { refuseVma(v, m, "cannot be locked; raise the limit on locked memory (ulimit -l)") }
    }
    if has(v, CKPT_VMA_NAMED) { restoreName(v) }
}
