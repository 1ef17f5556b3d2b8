// Runs in a template's keeper, on the region's main stack; no allocation, no libc.
// It holds what the main process has in memory, private pages that are stored in the statefile and mapped files, where it belongs, and elsewhere what is large of
// the others': a process is born with its own and moves it (mremap(2) moves page tables).  None of it ever runs here.
// All else is made for each branch as in any restart: mappings without contents, those of files that are shared, special pages.
import CkptABI
import EngineBoot
import Freestanding
import CkptMemory

private let hugePage: UInt64 = 2 << 20
private let privateAnonymous: Int32 = 0x4022            // and MAP_NORESERVE
private let fixed: Int32 = 0x10, shared: Int32 = 1

private func isAlive(_ i: Int) -> Bool { processes[i].pointee.flags & CKPT_PROCESS_ZOMBIE.rawValue == 0 }

/// Can a fork of the keeper bring it along, exactly?  Pages of a pool (hugetlb) are not there for a copy, droppable ones may go at any time;
/// files that each restart makes anew, or puts back, or that lie in mounts of the tree's own, are mapped by each branch.
private func isHoldable(_ v: Int) -> Bool {
    let r = vmas[v].pointee
    guard r.page_shift == 0, r.policy == 0, !has(v, CKPT_VMA_DROPPABLE) else { return false }
    return (r.kind == CKPT_VMA_ANONYMOUS.rawValue && r.data_offset != 0) || (r.kind == CKPT_VMA_FILE.rawValue && mounts.count == 0 && isAsMapped(Int(r.object)))
}
/// Whoever bears others passes over all that these have, at each birth: what is small is sooner mapped and read again.
private func isWorthwhile(_ v: Int, _ i: Int) -> Bool {
    let r = vmas[v].pointee
    return UInt32(i) == tree.pointee.root || (r.kind == CKPT_VMA_ANONYMOUS.rawValue && r.end - r.start >= 1 << 20)
}
/// Does this restart have it from a template?
func isHeld(_ v: Int) -> Bool { state.pointee.warm != 0 && images[v].pointee != 0 }

/// Some of the process's contents are not held.
func needsReading(_ i: Int) -> Bool {
    let p = processes[i]
    for k in 0..<p.pointee.vma_count {
        let v = Int(p.pointee.first_vma + k)
        if vmas[v].pointee.data_offset != 0 && vmas[v].pointee.kind <= CKPT_VMA_FILE.rawValue && !isHeld(v) { return true }
    }
    return false
}

/// Before the template's processes are made: where everything will lie.
func planImages() {
    let t = engine_template(), stacks = UInt64(ENGINE_SHARING_STACKS) * UInt64(ENGINE_SHARING_STACK)
    var masters: UInt64 = 0
    for i in 0..<objects.count where objectStaging[i].pointee != 0 { masters += sharedSize(i) }
    let runs = pageAlignUp((masters / 4096 + 1) * UInt64(MemoryLayout<engine_master_run>.stride))
    var held: UInt64 = 0
    for i in 0..<processes.count where isAlive(i) {
        for k in 0..<processes[i].pointee.vma_count {
            let v = Int(processes[i].pointee.first_vma + k)
            images[v].pointee = isWorthwhile(v, i) && isHoldable(v) ? 1 : 0
            held += images[v].pointee
        }
    }
    checkMappings(held)
    let size = (layImages(from: hugePage) + stacks + masters + runs + 2 * hugePage) & ~(hugePage - 1)
    t.pointee.range = mapRegion(size)
    t.pointee.range_size = size
    t.pointee.master_runs = t.pointee.range + stacks
    t.pointee.masters = t.pointee.master_runs + runs
    t.pointee.images = t.pointee.masters + masters
    _ = layImages(from: t.pointee.images)
}
/// The keeper has those of all processes, and some of its own.
private func checkMappings(_ held: UInt64) {
    var text = InlineArray<24, UInt8>(repeating: 0), most: UInt64 = 0, i = 0
    let fd = ckpt_open(StaticString("/proc/sys/vm/max_map_count").cString, 0o2000000, 0)
    if fd >= 0 { _ = withUnsafeMutableBytes(of: &text) { ckpt_read(Int32(truncatingIfNeeded: fd), $0.baseAddress!, 20) }; _ = ckpt_close(Int32(truncatingIfNeeded: fd)) }
    while text[i] >= 48 && text[i] <= 57 { most = most &* 10 &+ UInt64(text[i] - 48); i += 1 }
    guard most == 0 || held + 256 <= most else {
        refuse(.lacks) { l in
            l.put("a template holds the mappings of all processes, here "); l.put(decimal: held); l.put(", of which a process may have "); l.put(decimal: most)
            l.put("; raise sysctl vm.max_map_count, or restart it without --warm")
        }
    }
}
/// Each VMA lies as its own address does within a huge page: so its huge pages stay, and whole tables move.
private func layImages(from start: UInt64) -> UInt64 {
    var at = (start + hugePage - 1) & ~(hugePage - 1)
    for i in 0..<processes.count where isAlive(i) {
        let p = processes[i], inPlace = UInt32(i) == tree.pointee.root
        for k in 0..<p.pointee.vma_count {
            let v = Int(p.pointee.first_vma + k), r = vmas[v].pointee
            if images[v].pointee == 0 { continue }
            if inPlace { images[v].pointee = r.start; continue }
            at += (r.start &- at) & (hugePage - 1)
            images[v].pointee = at
            at += r.end - r.start + 4096        // so that neighbours don't become one
        }
        at = (at + hugePage - 1) & ~(hugePage - 1)
    }
    return at - start
}

/// The addresses of process `i`'s image, in their order.
func forEachImage(_ i: Int, _ body: (Int, UInt64, UInt64) -> Void) {
    let p = processes[i]
    for k in 0..<p.pointee.vma_count {
        let v = Int(p.pointee.first_vma + k)
        if images[v].pointee != 0 { body(v, images[v].pointee, vmas[v].pointee.end - vmas[v].pointee.start) }
    }
}

let keeperEntry: @convention(c) (UInt64) -> Void = { _ in
    let s = state, t = engine_template()
    s.pointee.is_engine = 0
    callThisProcess("ckpt-keeper")
    _ = ckpt_prctl(1, sigkill, 0, 0, 0)
    var held: UInt64 = 0
    // What lies between images would be a mapping each.
    _ = ckpt_munmap(pageAlignUp(t.pointee.images), t.pointee.range + t.pointee.range_size - pageAlignUp(t.pointee.images))
    fillMasters()
    for i in 0..<processes.count where isAlive(i) { held += fillImage(i) }
    closeMappedFile()
    var limit = ckpt_rlimit()
    _ = system(CKPT_SYS_prlimit64, 0, 7, 0, int(&limit))
    let top = Int32(truncatingIfNeeded: min(limit.soft, 1 << 20))
    t.pointee.requests = raise(t.pointee.requests, to: top - 8)
    t.pointee.numbers = top / 2
    _ = system(CKPT_SYS_close_range, 0, Int(t.pointee.requests) - 1, 0)
    held += t.pointee.held
    _ = send(t.pointee.requests, &held, 8)
    keep()
}
private let sigkill = 9

/// Reads and verifies the image of a process; returns its size.
private func fillImage(_ i: Int) -> UInt64 {
    var size: UInt64 = 0, block: UInt64 = 0
    state.pointee.process = UInt32(i)
    forEachImage(i) { v, at, _ in mapVma(v, at: at) }
    forEachRun(from: processes[i].pointee.runs) { run in
        guard let v = vmaToFill(i, run.address, run.address &+ UInt64(run.pages) * 4096), images[v].pointee != 0 else { return }
        let at = images[v].pointee + (run.address - vmas[v].pointee.start), length = UInt64(run.pages) * 4096
        if at & ~(hugePage - 1) != block { collapse(block); block = 0 }
        if run.pages >= 8 { _ = ckpt_madvise(at, length, populate) }
        readRun(run, to: at, frames: state.pointee.frames)
        if run.flags & CKPT_RUN_HUGE.rawValue != 0 { block = at & ~(hugePage - 1) }
        size += length
    }
    collapse(block)
    forEachImage(i) { v, at, length in
        let wanted = Int32(vmas[v].pointee.protection)
        if wanted == fillProtection(v) || vmas[v].pointee.key != 0 { return }
        let m = ckpt_mprotect(at, length, wanted)
        guard m == 0 else { refuseVma(v, m, "its protection cannot be set") }
    }
    return size
}

/// What was a huge page is one again, if the kernel has one to give (MADV_COLLAPSE): its flags stay as they were.
private func collapse(_ block: UInt64) { if block != 0 { _ = ckpt_madvise(block, hugePage, 25) } }
private let populate: Int32 = 23        // MADV_POPULATE_WRITE

/// Shared anonymous memory: each branch gets a copy of its own, at the place where it is filled here.
private func fillMasters() {
    for i in 0..<objects.count where objectStaging[i].pointee != 0 && sharedSize(i) > 0 { renewShared(i) }
    fillShared()
    var to = engine_template().pointee.masters
    for i in 0..<objects.count where objectStaging[i].pointee != 0 && sharedSize(i) > 0 {
        let m = system(CKPT_SYS_mremap, int(objectStaging[i].pointee), int(sharedSize(i)), int(sharedSize(i)), 3, int(to))
        guard !failed(m) else { refuse(m) { $0.put("memory for a template") } }
        to += sharedSize(i)
    }
}
private func renewShared(_ i: Int) {
    let m = ckpt_mmap(objectStaging[i].pointee, sharedSize(i), 3, shared | 0x4020 | fixed, -1, 0)
    guard !failed(m) else { refuse(m) { $0.put("shared memory of a branch") } }
}

/// A run that has been read: a branch copies it from its master, at the same distance in the masters as here.
func noteMaster(_ o: Int, _ run: ckpt_run) {
    let t = engine_template()
    var at = t.pointee.masters
    for i in 0..<o where objectStaging[i].pointee != 0 { at += sharedSize(i) }
    let list = UnsafeMutablePointer<engine_master_run>(bitPattern: UInt(t.pointee.master_runs))!
    guard t.pointee.master_count < t.pointee.masters.subtractingReportingOverflow(t.pointee.master_runs).partialValue / UInt64(MemoryLayout<engine_master_run>.stride) else {
        refuseStatefile("run", at: run.file_offset, "of shared memory is stored twice")
    }
    list[Int(t.pointee.master_count)] = engine_master_run(from: at + run.address, to: objectStaging[o].pointee + run.address, size: UInt64(run.pages) * 4096)
    t.pointee.master_count += 1
    t.pointee.held += UInt64(run.pages) * 4096
}

/// In the keeper's memory, for the branch that is being made.
func copyMasters() {
    for i in 0..<objects.count where objectStaging[i].pointee != 0 && sharedSize(i) > 0 { renewShared(i) }
    let t = engine_template(), list = UnsafeMutablePointer<engine_master_run>(bitPattern: UInt(t.pointee.master_runs))!
    for k in 0..<Int(t.pointee.master_count) {
        let r = list[k]
        if r.size >= 32768 { _ = ckpt_madvise(r.to, r.size, 23) }
        _ = memcpy(UnsafeMutableRawPointer(bitPattern: UInt(r.to))!, UnsafeRawPointer(bitPattern: UInt(r.from))!, Int(r.size))
    }
}

/// One branch after the other; the keeper sleeps while its midwife works in its memory.
private func keep() -> Never {
    let t = engine_template()
    while true {
        var byte: UInt8 = 0, channel: Int32 = -1
        let r = receive(t.pointee.requests, &byte, 1, &channel, 1)
        if r.size <= 0 { ckpt_exit_group(0) }
        guard channel >= 0 else { continue }
        t.pointee.channel = raise(channel, to: t.pointee.requests + 1)
        setPatience(t.pointee.channel, seconds: 180)       // a branch may wait a minute for a TCP port
        t.pointee.prepared = 0
        let midwife = share(ENGINE_MIDWIFE_STACK, pid: 0, argument: 0, midwifeEntry)
        if midwife > 0 { _ = system(CKPT_SYS_wait4, midwife, 0, 0, 0) }
        _ = ckpt_close(t.pointee.channel)
        forgetBranch()
    }
}

/// Nothing of the branch stays here: its board, its session, its shared memory.
private func forgetBranch() {
    func clear(_ at: UInt64, _ size: UInt64) { if size > 0 { _ = ckpt_mmap(at, size, 3, privateAnonymous | fixed, -1, 0) } }
    clear(state.pointee.scratch, boardBytes)
    clear(state.pointee.segment, segmentMapping)
    for i in 0..<objects.count where objectStaging[i].pointee != 0 { clear(objectStaging[i].pointee, sharedSize(i)) }
}

/// Before the template's processes are made: where images will lie there is nothing of ours.
func clearMemory(but start: UInt64, _ size: UInt64) {
    unmapOutsideRegion(0, start)
    unmapOutsideRegion(start + size, 0x7fff_ffff_f000)
}

// In a branch's process.

/// In place of clearMemory: all goes but the region and this process's image, which moves to where it belongs.
func takeImage(_ i: Int) {
    var from: UInt64 = 0
    forEachImage(i) { _, at, size in
        unmapOutsideRegion(from, at)
        from = at + size
    }
    unmapOutsideRegion(from, 0x7fff_ffff_f000)
    forEachImage(i) { v, at, size in
        if engine_template().pointee.pruned != 0 && (at != vmas[v].pointee.start || costsPages(v)) { _ = ckpt_madvise(at, size, inherited) }
        if at == vmas[v].pointee.start { return }
        let m = system(CKPT_SYS_mremap, int(at), int(size), int(size), 3, int(vmas[v].pointee.start))
        guard !failed(m) else { refuseVma(v, m, "cannot be moved to its place") }
    }
}
private let inherited: Int32 = 11, notInherited: Int32 = 10     // MADV_DOFORK, MADV_DONTFORK

private func unmapOutsideRegion(_ from: UInt64, _ to: UInt64) {
    let s = state, first = s.pointee.region_base, end = s.pointee.vdso_home + s.pointee.vdso_home_size
    func unmap(_ a: UInt64, _ b: UInt64) { if a < b { _ = ckpt_munmap(a, b - a) } }
    unmap(from, min(to, first))
    unmap(max(from, end), to)
}

/// Is node `m` born of node `n`, whoever is in between?
private func descends(_ m: Int, from n: Int) -> Bool {
    var c = m
    while c >= 0 { if c == n { return true }; c = Int(nodes[c].pointee.creator) }
    return false
}
private func hasImage(_ m: Int) -> Bool { nodes[m].pointee.record >= 0 && nodes[m].pointee.zombie == 0 }

/// Does node `n` or one that is born of it have memory?
func bearsMemory(_ n: Int) -> Bool {
    for m in 0..<Int(state.pointee.node_count) where hasImage(m) && descends(m, from: n) { return true }
    return false
}

/// Before the birth of node `n`: it inherits its own image and those of whom it will bear, and pays for no other.
func prune(for n: Int) {
    guard state.pointee.warm != 0, state.pointee.is_builder == 0 else { return }
    let t = engine_template()
    var all = true
    for m in 0..<Int(state.pointee.node_count) where hasImage(m) && !descends(m, from: n) { all = false }
    if all && t.pointee.pruned == 0 { return }
    t.pointee.pruned = 1
    // Those of whom this process has borne are gone from it: only the next one's change.
    let others = t.pointee.bears == 0
    if t.pointee.owns != 0 { t.pointee.bears = 1 }
    for m in 0..<Int(state.pointee.node_count) where hasImage(m) {
        let isWanted = descends(m, from: n)
        if isWanted || others { advise(Int(nodes[m].pointee.record), isWanted ? inherited : notInherited) }
    }
}
/// In a process that is nobody else's memory: the next births have less to pass over.
func forgetImages(of n: Int) {
    guard state.pointee.warm != 0, engine_template().pointee.owns != 0 else { return }
    for m in 0..<Int(state.pointee.node_count) where hasImage(m) && descends(m, from: n) && UInt32(nodes[m].pointee.record) != tree.pointee.root {
        let (first, end) = extent(Int(nodes[m].pointee.record))
        if first != 0 { _ = ckpt_munmap(first, end - first) }
    }
}
/// Where an image lies that is not in place.
private func extent(_ i: Int) -> (first: UInt64, end: UInt64) {
    var first: UInt64 = 0, end: UInt64 = 0
    forEachImage(i) { _, at, size in if first == 0 { first = at }; end = at + size }
    return (first, end)
}
/// Small ones are copied in less time than it takes to say that they shouldn't be; pages that are a file's are not copied.
private func costsPages(_ v: Int) -> Bool { vmas[v].pointee.data_offset != 0 && vmas[v].pointee.end - vmas[v].pointee.start >= 1 << 20 }
private func advise(_ i: Int, _ advice: Int32) {
    if UInt32(i) == tree.pointee.root { return forEachImage(i) { v, at, size in if costsPages(v) { _ = ckpt_madvise(at, size, advice) } } }
    let (first, end) = extent(i)
    if first != 0 { _ = ckpt_madvise(first, end - first, advice) }
}
