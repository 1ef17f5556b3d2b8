// Runs in the engine before the tree exists: first on the initial stack, then on the region's.
// Everything that the engine needs while a process's memory is replaced lies in one range that is free in every process of the tree: a copy
// of the engine, a stack per task, the tables, staged shared memory.  The runtime unmaps it as one when everybody is back in it.
import CkptABI
import EngineBoot
import Freestanding
import CkptMemory

private let shared: Int32 = 0x01, privately: Int32 = 0x02, fixed: Int32 = 0x10, anonymously: Int32 = 0x20, noReserve: Int32 = 0x4000, noReplace: Int32 = 0x100000

/// One page more than the segment has: what maps exactly the segment is a member of the session, and the engine is none.
var segmentMapping: UInt64 { pageAlignUp(ckpt_session_size()) + 4096 }

/// Sizes of the region's parts, in their order.
private struct Layout {
    var image: UInt64 = 0, stacks: UInt64 = 0, tables: UInt64 = 0, buffers: UInt64 = 2 * 65536 + frameRoom + UInt64(CKPT_RUN_PAGES) * 4096, board: UInt64 = 0, arrays: UInt64 = 0, fill: UInt64 = 0, staging: UInt64 = 0
    var segment = segmentMapping
    var total: UInt64 { image + stacks + tables + buffers + board + arrays + fill + staging + segment }
}

private func planLayout() -> Layout {
    var l = Layout()
    l.image = boot_image_end() - boot_image_start()
    var most: UInt64 = 0
    for i in 0..<processes.count where processes[i].pointee.flags & CKPT_PROCESS_ZOMBIE.rawValue == 0 { most = max(most, UInt64(processes[i].pointee.task_count)) }
    state.pointee.stack_count = most + 1
    l.stacks = UInt64(ENGINE_MAIN_STACK) + (most + 1) * UInt64(ENGINE_TASK_STACK)
    l.tables = pageAlignUp(state.pointee.scratch_size)
    l.board = boardBytes
    l.arrays = pageAlignUp(UInt64(descriptions.count) * 4 + UInt64(objects.count) * 12 + 64 + maximumNodes * UInt64(MemoryLayout<BirthNode>.stride) + 128 + UInt64(vmas.count) * 8 + UInt64(objects.count) * 36)
    countFillers()
    l.fill = fillRooms(state.pointee.fillers)
    for i in 0..<objects.count where objects[i].pointee.kind == CKPT_OBJECT_SHMEM.rawValue && objects[i].pointee.page_shift == 0 { l.staging += sharedSize(i) }
    return l
}

/// A shared object is as large as the farthest mapping of it (verifyTables).
func sharedSize(_ object: Int) -> UInt64 { pageAlignUp(objects[object].pointee.size) }

/// Maps the region and goes on in it; `argument` is passed to `entry`.
func moveToRegion(_ entry: @convention(c) (UInt64) -> Void) -> Never {
    let l = planLayout(), s = state
    let home = s.pointee.vdso_home_size
    let base = mapRegion(l.total + home)
    s.pointee.region_base = base
    s.pointee.region_size = l.total
    s.pointee.vdso_home = base + l.total
    var at = base + l.image
    s.pointee.stacks = at; at += l.stacks
    copyTables(to: at); at += l.tables
    s.pointee.chunk = at; s.pointee.copy = at + 65536; s.pointee.frames = at + 2 * 65536; at += l.buffers
    mapFixed(at, l.board, shared | anonymously, -1)
    let board = at; at += l.board
    layArrays(at); at += l.arrays
    s.pointee.arrays_size = l.arrays
    s.pointee.fill = (at + (2 << 20) - 1) & ~((2 << 20) - 1); at += l.fill
    stageShared(at); at += l.staging
    s.pointee.segment = at
    s.pointee.scratch = board
    s.pointee.image_base = base
    s.pointee.image_size = l.image
    copyImage()
    boot_continue_at(entry, boot_image_start(), base, s.pointee.stacks + UInt64(ENGINE_MAIN_STACK), boot_image_start())
}

/// Maps `size` bytes where no process of the tree, nor we ourselves, have anything.
func mapRegion(_ size: UInt64) -> UInt64 {
    var from: UInt64 = 0x3000_0000_0000, wrapped = false
    while true {
        let found = freeBase(size: size, from: from, limit: 0x7fff_0000_0000, guardSize: 4 << 20, alignment: 4096, count: vmas.count) { i in
            AddressRange(vmas[i].pointee.start, vmas[i].pointee.end)
        }
        guard let base = found else {
            if wrapped { refuse(.lacks) { $0.put("no address range is free in all processes of the tree") } }
            wrapped = true; from = 64 << 20
            continue
        }
        let r = ckpt_mmap(base, size, 3, privately | anonymously | noReserve | noReplace, -1, 0)
        if !failed(r) && UInt64(r) == base { return base }
        if !failed(r) { _ = ckpt_munmap(UInt64(r), size) } else if r != -17 { refuse(r) { $0.put("memory for the restart") } }
        from = base + size
    }
}

private func mapFixed(_ at: UInt64, _ size: UInt64, _ flags: Int32, _ fd: Int32) {
    let r = ckpt_mmap(at, size, 3, flags | fixed, fd, 0)
    guard !failed(r) else { refuse(r) { $0.put("memory for the restart") } }
}

/// All tables were laid out one after the other, from the first one's address on.
private func copyTables(to at: UInt64) {
    var first = UInt64.max
    for t: UInt32 in 1..<UInt32(ENGINE_TABLES) { first = min(first, engine_table(t).pointee) }
    _ = memcpy(UnsafeMutableRawPointer(bitPattern: UInt(at))!, UnsafeRawPointer(bitPattern: UInt(first))!, Int(state.pointee.scratch_size))
    for t: UInt32 in 1..<UInt32(ENGINE_TABLES) { engine_table(t).pointee &+= at &- first }
}

private func layArrays(_ at: UInt64) {
    let s = state
    s.pointee.object_staging = at
    s.pointee.object_fd = at + UInt64(objects.count) * 8
    s.pointee.description_fd = s.pointee.object_fd + UInt64(objects.count) * 4
    s.pointee.nodes = (s.pointee.description_fd + UInt64(descriptions.count) * 4 + 63) & ~63
    s.pointee.images = (s.pointee.nodes + maximumNodes * UInt64(MemoryLayout<BirthNode>.stride) + 7) & ~7
    s.pointee.seen = s.pointee.images + UInt64(vmas.count) * 8
    s.pointee.uses = s.pointee.seen + UInt64(objects.count) * 24
    s.pointee.anchors = s.pointee.uses + UInt64(objects.count) * 4
    s.pointee.leads = s.pointee.anchors + UInt64(objects.count) * 4
    for i in 0..<objects.count { objectFd[i].pointee = -1; anchors[i].pointee = -1 }
    for i in 0..<descriptions.count { descriptionFd[i].pointee = -1 }
}

/// Shared anonymous memory is made once, before the processes that map it.
private func stageShared(_ start: UInt64) {
    var at = start
    for i in 0..<objects.count where objects[i].pointee.kind == CKPT_OBJECT_SHMEM.rawValue && objects[i].pointee.page_shift == 0 {
        let size = sharedSize(i)
        if size > 0 { mapFixed(at, size, shared | anonymously | noReserve, -1) }
        objectStaging[i].pointee = at
        at += size
    }
}

/// The copy gets its own relocations and its segments' protections.  Between the segments there may be nothing.
private func copyImage() {
    let base = state.pointee.image_base, from = boot_image_start()
    forEachSegment { va, size, _ in
        _ = memcpy(UnsafeMutableRawPointer(bitPattern: UInt(base + va))!, UnsafeRawPointer(bitPattern: UInt(from + va))!, Int(size))
    }
    boot_relocate_at(base)
    forEachSegment { va, size, protection in
        let start = pageAlignDown(base + va)
        if protection & 4 != 0 { _ = ckpt_mprotect(start, pageAlignUp(base + va + size) - start, protection) }
    }
}

/// The PT_LOADs of the running image: address from its start, size in memory, PROT_*.
private func forEachSegment(_ body: (UInt64, UInt64, Int32) -> Void) {
    let image = UnsafeRawPointer(bitPattern: UInt(boot_image_start()))!
    let phoff = Int(field(image, 32, UInt64.self)), phnum = Int(field(image, 56, UInt16.self))
    for i in 0..<phnum {
        let ph = image + phoff + i * 56
        guard field(ph, 0, UInt32.self) == 1 else { continue }
        let flags = field(ph, 4, UInt32.self)
        body(field(ph, 16, UInt64.self), field(ph, 40, UInt64.self), Int32((flags & 4) >> 2 | flags & 2 | (flags & 1) << 2))
    }
}
