// Runs in each process of the tree, on the region's main stack, and in its fillers on stacks of their own; no allocation, no libc.
// Fills private memory from the statefile.  Large memory is filled through a userfaultfd: what is read goes to its place by one call, where dense
// 2 MiB at a time as a huge page, whatever madvise(2) says of the mapping, whose flags stay as they were.  (No advice takes MADV_HUGEPAGE back.)
import CkptABI
import EngineBoot
import Freestanding

private let huge: UInt64 = 2 << 20

/// What one filler works with: its stack, a chunk of runs, a run's pages, 2 MiB that become a huge page, and where it takes frames apart.
private struct Room {
    let base: UInt64
    init(_ k: UInt32) { base = state.pointee.fill + UInt64(k) * Room.size }
    static let size: UInt64 = 4 * huge, stackSize: UInt64 = 65536
    var chunk: UInt64 { base + Room.stackSize }
    var pages: UInt64 { base + (1 << 20) }
    var block: UInt64 { base + huge }
    var frames: UInt64 { base + 2 * huge }
}
/// Bytes of the region for `fillers` rooms, which begin at a multiple of 2 MiB in them.
func fillRooms(_ fillers: UInt32) -> UInt64 { UInt64(fillers) * Room.size + huge }

/// How many cores the engine may use, and whether the kernel gives huge pages at all.
func countFillers() {
    var cores = InlineArray<16, UInt64>(repeating: 0), count: UInt32 = 0
    _ = withUnsafeMutableBytes(of: &cores) { system(CKPT_SYS_sched_getaffinity, 0, 128, int($0.baseAddress!)) }
    for k in 0..<16 { count += UInt32(cores[k].nonzeroBitCount) }
    state.pointee.fillers = min(max(count, 1), UInt32(ENGINE_FILLERS))
    var text = InlineArray<64, UInt8>(repeating: 0)
    let fd = ckpt_open(StaticString("/sys/kernel/mm/transparent_hugepage/enabled").cString, 0o2000000, 0)
    guard fd >= 0 else { return }
    let n = withUnsafeMutableBytes(of: &text) { ckpt_read(Int32(truncatingIfNeeded: fd), $0.baseAddress!, 63) }
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
    var never = false
    if n > 0 { for i in 0..<n - 1 where text[i] == 91 && text[i + 1] == 110 { never = true } }      // "[n"
    state.pointee.huge_pages = n > 0 && !never ? 1 : 0
}

func fillMemory(_ i: Int) {
    let s = state
    if s.pointee.warm != 0 && s.pointee.vdso_matches != 0 && !needsReading(i) { return }
    s.pointee.fill_from = processes[i].pointee.runs
    s.pointee.fill_process = UInt32(i)
    s.pointee.fill_next = 0
    handOverMemory(i)
    openMemory(i)
    let helpers = isLarge(i) ? s.pointee.fillers : 1
    var wanted = Int32(32767)
    for k in 1..<max(helpers, 1) { startFiller(k, &wanted) }
    fillAsOne(0)
    for k in 1..<max(helpers, 1) { awaitFiller(k) }
    // Closing it makes ordinary memory of what was registered.
    if s.pointee.fill_memory >= 0 { _ = ckpt_close(s.pointee.fill_memory) }
}

/// More than a few tens of MiB: helpers cost less than they bring.
private func isLarge(_ i: Int) -> Bool {
    var stored: UInt64 = 0
    let p = processes[i]
    for k in 0..<p.pointee.vma_count where isStaged(Int(p.pointee.first_vma + k)) { stored += vmas[p.pointee.first_vma + k].pointee.end - vmas[p.pointee.first_vma + k].pointee.start }
    return stored >= 8 * huge
}

/// Is it filled through the userfaultfd?
private func isStaged(_ v: Int) -> Bool {
    let r = vmas[v].pointee
    return r.kind == CKPT_VMA_ANONYMOUS.rawValue && r.page_shift == 0 && r.data_offset != 0 && r.end - r.start >= huge && !isLazy(v) && !isHeld(v)
        && !has(v, CKPT_VMA_GROWSDOWN) && !has(v, CKPT_VMA_DROPPABLE)
}
/// May its dense parts become huge pages?  A move keeps the page where it was allocated, and wants the same protection on both sides.
private func mayBeHuge(_ v: Int) -> Bool {
    let s = state
    return s.pointee.fill_moves != 0 && s.pointee.huge_pages != 0 && !has(v, CKPT_VMA_NOHUGEPAGE) && vmas[v].pointee.policy == 0
        && fillProtection(v) == 3 && processes[Int(s.pointee.fill_process)].pointee.thp_disable <= 0
}

private func openMemory(_ i: Int) {
    let s = state, p = processes[i]
    s.pointee.fill_memory = -1
    s.pointee.fill_moves = 1
    var any = false
    for k in 0..<p.pointee.vma_count where isStaged(Int(p.pointee.first_vma + k)) { any = true }
    guard any else { return }
    var fd = openUserfault(user: true, features: UInt64(CKPT_UFFD_MOVE))
    if fd < 0 { s.pointee.fill_moves = 0; fd = openUserfault(user: true, features: 0) }
    guard fd >= 0 else { return }
    s.pointee.fill_memory = Int32(truncatingIfNeeded: fd)
    for k in 0..<p.pointee.vma_count where isStaged(Int(p.pointee.first_vma + k)) {
        let r = vmas[p.pointee.first_vma + k].pointee
        let e = registerMemory(s.pointee.fill_memory, r.start, r.end)
        guard e == 0 else { refuseVma(Int(p.pointee.first_vma + k), e, "cannot be filled") }
    }
}

/// A task of this process, with a number that nobody of the tree has: other processes make theirs at the same time.
private func startFiller(_ k: UInt32, _ wanted: inout Int32) {
    let room = Room(k), running = engine_fill_running(k)
    for _ in 0..<64 {
        while isOfTree(wanted) { wanted -= 1 }
        // The same number in each pid namespace that it is in.
        var a = ckpt_clone_args(), tid = InlineArray<32, Int32>(repeating: wanted)
        // CLONE_VM | FS | FILES | SIGHAND | THREAD | SYSVSEM | CHILD_CLEARTID
        a.flags = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000 | 0x200000
        a.stack = room.base; a.stack_size = Room.stackSize
        a.child_tid = UInt64(UInt(bitPattern: running))
        ckpt_store(running, 1)
        let r = withUnsafeMutableBytes(of: &tid) { w in
            if state.pointee.mode != ENGINE_PIDS_NEW.rawValue { a.set_tid = UInt64(UInt(bitPattern: w.baseAddress!)); a.set_tid_size = UInt64(levelsHere) }
            return ckpt_clone3(&a, fillerEntry, UInt64(k))
        }
        if r > 0 { wanted -= 1; return }
        ckpt_store(running, 0)
        if r == -22 { wanted = wanted / 2 } else if r == -17 { wanted -= 1 } else { return }
        if wanted < 2 { return }
    }
}
func isOfTree(_ number: Int32) -> Bool {
    for t in 0..<tasks.count where tasks[t].pointee.tid == number { return true }
    for i in 0..<processes.count where processes[i].pointee.pid == number || processes[i].pointee.pgid == number || processes[i].pointee.sid == number { return true }
    return false
}
private let fillerEntry: @convention(c) (UInt64) -> Void = { k in
    fillAsOne(UInt32(k))
    ckpt_exit_thread(0)
}
private func awaitFiller(_ k: UInt32) {
    let word = engine_fill_running(k)
    while true {
        let v = ckpt_load(word)
        if v == 0 { return }
        _ = ckpt_futex_wait(word, v, nil)
    }
}

/// Takes groups until there are none: neighbouring runs that may become one huge page.
private func fillAsOne(_ k: UInt32) {
    let room = Room(k), s = state
    if s.pointee.fill_memory >= 0 && s.pointee.fill_moves != 0 { _ = ckpt_madvise(room.block, huge, 14) }
    var mine = ckpt_add(&s.pointee.fill_next, 1), group: UInt32 = 0
    forEachChunk(from: s.pointee.fill_from, in: room.chunk) { runs in
        var from = 0
        while from < runs.count {
            var to = from + 1
            while to < runs.count && runs[to].pointee.address / huge == runs[from].pointee.address / huge { to += 1 }
            if group == mine { fill(runs, from, to, room); mine = ckpt_add(&s.pointee.fill_next, 1) }
            group += 1
            from = to
        }
    }
}

private func fill(_ runs: Table<ckpt_run>, _ from: Int, _ to: Int, _ room: Room) {
    // The rest of a block may be in the chunk before or behind.
    let isWhole = from > 0 && to < runs.count
    if let v = vmaOfBlock(runs, from, to, isWhole: isWhole), mayBeHuge(v) { return fillBlock(runs, from, to, v, room) }
    for k in from..<to { fill(runs[k].pointee, room) }
}

/// The mapping around the 2 MiB of these runs, if these are dense or, being all there are of it, were a huge page.
private func vmaOfBlock(_ runs: Table<ckpt_run>, _ from: Int, _ to: Int, isWhole: Bool) -> Int? {
    let start = runs[from].pointee.address & ~(huge - 1), end = start &+ huge
    var pages: UInt32 = 0, at = start
    for k in from..<to {
        let run = runs[k].pointee
        guard run.address >= at else { return nil }
        at = run.address + UInt64(run.pages) * 4096
        pages += UInt32(run.pages)
    }
    guard state.pointee.fill_memory >= 0, at <= end, pages == 512 || isWhole && runs[from].pointee.flags & CKPT_RUN_HUGE.rawValue != 0,
          let v = vmaToFill(Int(state.pointee.fill_process), start, end), isStaged(v) else { return nil }
    return v
}

private func fillBlock(_ runs: Table<ckpt_run>, _ from: Int, _ to: Int, _ v: Int, _ room: Room) {
    let start = runs[from].pointee.address & ~(huge - 1)
    for k in from..<to { readRun(runs[k].pointee, to: room.block + (runs[k].pointee.address - start), frames: room.frames) }
    let moved = moveMemory(state.pointee.fill_memory, to: start, from: room.block, huge)
    if moved == huge { return }
    for k in from..<to {
        let run = runs[k].pointee, at = max(run.address, start + moved), end = run.address + UInt64(run.pages) * 4096
        if at < end { place(v, at, from: room.block + (at - start), end - at) }
    }
    _ = ckpt_madvise(room.block, huge, 4)      // MADV_DONTNEED: the next block starts as zeros
}

private func place(_ v: Int, _ address: UInt64, from: UInt64, _ n: UInt64) {
    let e = copyMemory(state.pointee.fill_memory, to: address, from: from, n)
    guard e == 0 else { refuseVma(v, e, "cannot be filled") }
}

private func fill(_ run: ckpt_run, _ room: Room) {
    let i = Int(state.pointee.fill_process), p = processes[i], end = run.address &+ UInt64(run.pages) * 4096
    if p.pointee.vdso_size != 0 && run.address >= p.pointee.vdso_address && end <= p.pointee.vdso_address + p.pointee.vdso_size {
        if state.pointee.vdso_matches == 0 { readRun(run, to: run.address, frames: room.frames) }
        return
    }
    guard let v = vmaToFill(i, run.address, end) else { refuseStatefile("run", at: run.file_offset, "names an address outside the process's memory") }
    if isLazy(v) || isHeld(v) { return }
    if state.pointee.fill_memory >= 0 && isStaged(v) {
        readRun(run, to: room.pages, frames: room.frames)
        return place(v, run.address, from: room.pages, end - run.address)
    }
    if vmas[v].pointee.page_shift != 0 { populateHuge(v, run.address, end) }
    // MADV_POPULATE_WRITE: one call for all pages is a quarter faster than a fault for each.
    else if run.pages >= 8 { _ = ckpt_madvise(run.address, end - run.address, 23) }
    readRun(run, to: run.address, frames: room.frames)
}

/// The VMA around a run, if something of it is stored.
func vmaToFill(_ i: Int, _ start: UInt64, _ end: UInt64) -> Int? {
    let p = processes[i]
    var low = Int(p.pointee.first_vma), high = low + Int(p.pointee.vma_count)
    while low < high {
        let middle = (low + high) / 2
        if vmas[middle].pointee.end <= start { low = middle + 1 } else { high = middle }
    }
    guard low < Int(p.pointee.first_vma + p.pointee.vma_count) else { return nil }
    let v = vmas[low].pointee
    return v.start <= start && end <= v.end && start < end && v.data_offset != 0 && v.kind <= CKPT_VMA_FILE.rawValue ? low : nil
}
