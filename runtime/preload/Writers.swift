// Runs in the snapshot, or in a leader that writes in place; every signal blocked, on the writer's stack.  Raw system calls, no locks.
// Several processes that share this memory write it at once: each takes the next piece of the ranges, and fills a chain of runs of its own.  They are
// processes and not threads (CLONE_VM, exit signal 0): nobody sees them in /proc/PID/task, and they end with their owner.
import CkptABI
import PreloadBoot
import Freestanding

/// A piece is what one writer takes at a time; its edges lie on huge pages.
private let pieceSize: UInt64 = 32 << 20, hugePage: UInt64 = 2 << 20

func isSharedKind(_ kind: UInt32) -> Bool { kind == CKPT_RANGE_SHARED.rawValue || kind == CKPT_RANGE_SEGMENT.rawValue }
func isWanted(_ r: ckpt_range, shared: Bool) -> Bool { isSharedKind(r.kind) == shared && r.file_offset != 0 }

/// What is copied, made readable, or attached for the time being is one piece.
private func isDivisible(_ r: ckpt_range) -> Bool {
    if r.kind == CKPT_RANGE_SHARED.rawValue { return true }
    return (r.kind == CKPT_RANGE_ANONYMOUS.rawValue || r.kind == CKPT_RANGE_FILE.rawValue) && r.object == 0 && r.copy == 0
}
func pieces(of r: ckpt_range) -> UInt64 { isDivisible(r) ? max(1, (r.end - r.start + pieceSize - 1) / pieceSize) : 1 }
func part(of range: ckpt_range, _ k: UInt64) -> ckpt_range {
    let count = pieces(of: range)
    if count == 1 { return range }
    func edge(_ k: UInt64) -> UInt64 { k == 0 ? range.start : k == count ? range.end : (range.start + k * pieceSize) & ~(hugePage - 1) }
    var r = range
    r.start = edge(k); r.end = edge(k + 1)
    r.file_offset += r.start - range.start; r.object_offset += r.start - range.start
    return r
}

/// Writes all ranges of one sort, shared or private; returns the statefile offset of the chain's first chunk, 0 if there is nothing.
func writeRanges(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>, _ channel: Channel,
                 shared: Bool, isSnapshot: Bool, _ generation: UInt32) throws(WriteError) -> UInt64 {
    let list = ckpt_arena(session, process.pointee.ranges_offset).assumingMemoryBound(to: ckpt_range.self)
    var crew = ckpt_crew(next: 0, session: session, process: process, ranges: list, range_count: UInt64(process.pointee.ranges_count), statefile: channel.statefile.value,
                         pagemap: channel.pagemap.value, is_shared: shared ? 1 : 0, is_snapshot: isSnapshot ? 1 : 0, is_stream: channel.isStream ? 1 : 0, failed: 0, code: 0, error: 0, detail: 0,
                         others: 0, others_end: 0, generation: generation, pad: 0)
    return try withUnsafeMutablePointer(to: &crew) { (crew) throws(WriteError) in
        var others = startWriters(crew, wanted(crew))
        var own = PageWriter(crew, ckpt_own_workspace(), window: others.window(0))
        do throws(WriteError) { try own.write(crew) } catch { fail(crew, error) }
        awaitWriters(others)
        defer { others.unmap() }
        if ckpt_load(&crew.pointee.failed) != 0 { throw WriteError(code: ckpt_error(crew.pointee.code), errno: Errno(crew.pointee.error), detail: crew.pointee.detail) }
        // One chain of all: the last chunk of each, still in its workspace, leads to the next one's first.
        var next: UInt64 = 0, i = others.count
        while i > 0 {
            i -= 1
            let w = PageWriter(crew, continuing: others.writer(i))
            if w.firstChunk != 0 { try w.flushChunk(next: next); next = w.firstChunk }
        }
        if own.firstChunk != 0 { try own.flushChunk(next: next); next = own.firstChunk }
        return next
    }
}

/// The first failure counts.
private func fail(_ crew: UnsafeMutablePointer<ckpt_crew>, _ error: WriteError) {
    guard ckpt_cas(&crew.pointee.failed, 0, 1) else { return }
    crew.pointee.code = error.code.rawValue; crew.pointee.error = error.errno.code; crew.pointee.detail = error.detail
    ckpt_store(&crew.pointee.failed, 2)
}

/// As many as there are pieces for.
private func wanted(_ crew: UnsafeMutablePointer<ckpt_crew>) -> Int {
    var total: UInt64 = 0, i = 0
    while i < Int(crew.pointee.range_count) {
        if isWanted(crew.pointee.ranges[i], shared: crew.pointee.is_shared != 0) { total += pieces(of: crew.pointee.ranges[i]) }
        i += 1
    }
    return Int(min(min(UInt64(crew.pointee.process.pointee.writers), UInt64(CKPT_MAX_WRITERS)), total))
}

/// What they have of memory, in one block: the others' stacks and workspaces, then a window for each, if they have any.
private struct Writers {
    var block: UInt64 = 0, windows: UInt64 = 0, count = 0, size: UInt64 = 0
    func writer(_ i: Int) -> UnsafeMutablePointer<ckpt_writer> {
        UnsafeMutableRawPointer(bitPattern: UInt(block + UInt64(i) * writerSize))!.assumingMemoryBound(to: ckpt_writer.self)
    }
    /// 0 is the first writer's.
    func window(_ i: Int) -> UInt64 { windows == 0 ? 0 : windows + UInt64(i) * Window.size }
    mutating func unmap() { if block != 0 { _ = ckpt_munmap(block, size); block = 0 } }
}
private let writerSize = (UInt64(MemoryLayout<ckpt_writer>.size) + 4095) & ~4095

/// Starts all writers but the first, which is the caller.  Without memory or processes for more there are fewer.
private func startWriters(_ crew: UnsafeMutablePointer<ckpt_crew>, _ wanted: Int) -> Writers {
    var others = Writers()
    let hasWindows = wanted > 0 && crew.pointee.is_snapshot != 0 && ckpt_load(&crew.pointee.session.pointee.file_use) != CKPT_FILE_LOCKED.rawValue
    let stacks = UInt64(max(wanted - 1, 0)) * writerSize
    others.size = stacks + (hasWindows ? UInt64(wanted) * Window.size : 0)
    if others.size == 0 { return others }
    // For snapshots of snapshots it is shared nowhere: private memory, taken away before anybody goes on.
    let nothing: Int32 = 0
    let block = ckpt_mmap(0, others.size, nothing, Mapping.private | Mapping.anonymous, -1, 0)
    if block < 0 && block > -4096 { return others }
    others.block = UInt64(UInt(bitPattern: block))
    if hasWindows { others.windows = others.block + stacks }
    crew.pointee.others = others.block; crew.pointee.others_end = others.block + others.size
    if stacks > 0 && ckpt_mprotect(others.block, stacks, Mapping.read | Mapping.write) != 0 { return others }
    while others.count < wanted - 1 {
        let w = others.writer(others.count)
        w.pointee.crew = crew; w.pointee.window = others.window(others.count + 1)
        let sharedMemory: UInt64 = 0x100, sharedFiles: UInt64 = 0x400, sharedFolder: UInt64 = 0x200
        var a = ckpt_clone_args()
        a.flags = sharedMemory | sharedFiles | sharedFolder
        a.stack = UInt64(UInt(bitPattern: w)); a.stack_size = UInt64(CKPT_STACK_SIZE)
        let child = withUnsafeMutablePointer(to: &a) { ckpt_clone3($0, writerEntry, UInt64(UInt(bitPattern: w))) }
        if child < 0 { break }
        w.pointee.pid = Int32(truncatingIfNeeded: child)
        others.count += 1
    }
    return others
}

private let writerEntry: @convention(c) (UInt64) -> Void = { argument in
    let w = UnsafeMutableRawPointer(bitPattern: UInt(argument))!.assumingMemoryBound(to: ckpt_writer.self), crew = w.pointee.crew!
    let deathSignal: Int32 = 1, kill = 9
    _ = ckpt_prctl(deathSignal, kill, 0, 0, 0)
    var writer = PageWriter(crew, ckpt_writer_workspace(w), window: w.pointee.window)
    do throws(WriteError) { try writer.write(crew) } catch { fail(crew, error) }
    w.pointee.first_chunk = writer.firstChunk; w.pointee.chunk_offset = writer.chunkOffset; w.pointee.runs = UInt32(writer.runs)
    ckpt_exit_group(0)
}

/// One that was killed has written less than it took: its exit status says so.
private func awaitWriters(_ others: Writers) {
    let clone = Int(Int32(bitPattern: 0x8000_0000))
    var i = 0
    while i < others.count {
        let w = others.writer(i)
        var status: Int32 = 0, r = 0
        repeat { r = withUnsafeMutablePointer(to: &status) { ckpt_syscall(CKPT_SYS_wait4, Int(w.pointee.pid), Int(bitPattern: $0), clone, 0, 0, 0) } } while r == -4
        if r < 0 || status != 0 { fail(w.pointee.crew!, WriteError(code: CKPT_ERROR_WRITE, errno: .noMemory, detail: 0)) }
        i += 1
    }
}
