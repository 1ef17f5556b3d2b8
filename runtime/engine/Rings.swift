// Runs in each process of the tree when its memory is in place: io_uring.  A ring is made and mapped by the process,
// and filled by the task that may use it, just before that leaves for the runtime.  No allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding
import CkptMemory

private let setupCall = 425, enterCall = 426, registerCall = 427
private let readWrite: Int32 = 3, shared: Int32 = 1

private func putRing(_ r: Int, _ l: inout Line) {
    putThisProcess(&l)
    let p = processes[rings[r].pointee.process]
    for k in 0..<p.pointee.fd_count where descriptions[fds[p.pointee.first_fd + k].pointee.description].pointee.object == rings[r].pointee.object {
        l.put("fd "); l.put(signed: Int64(fds[p.pointee.first_fd + k].pointee.number)); l.put(": ")
        break
    }
    l.put("io_uring: ")
}
private func refuseRing(_ r: Int, _ e: Int, _ what: StaticString) -> Never { refuse(e) { l in putRing(r, &l); l.put(what) } }
private func hasFlag(_ r: Int, _ flag: ckpt_ring_setup) -> Bool { rings[r].pointee.parameters.flags & flag.rawValue != 0 }
private func isStillDisabled(_ r: Int) -> Bool { rings[r].pointee.flags & CKPT_RING_STILL_DISABLED.rawValue != 0 }

func makeRings(_ i: Int) {
    func each(ownMemory: Bool, _ body: (Int) -> Void) {
        for r in 0..<rings.count where rings[r].pointee.process == UInt32(i) && hasFlag(r, CKPT_RING_NO_MMAP) == ownMemory { body(r) }
    }
    each(ownMemory: false, makeRing)
    // Nothing of ours may be in the way yet.
    mapRings(i)
    each(ownMemory: false, keepContents)
    // The kernel clears the memory that it is given.
    each(ownMemory: true) { r in keepContents(r); makeRing(r) }
}

private func makeRing(_ r: Int) {
    let saved = rings[r].pointee.parameters, fixed = CKPT_RING_CLAMP.rawValue | CKPT_RING_ATTACH_WQ.rawValue
    var p = ckpt_ring_parameters()
    p.flags = saved.flags & ~fixed | CKPT_RING_CQSIZE.rawValue
    p.cq_entries = saved.cq_entries
    p.sq.user_address = saved.sq.user_address; p.cq.user_address = saved.cq.user_address
    // It becomes the ring of whoever enables it.
    if hasFlag(r, CKPT_RING_SINGLE_ISSUER) || isStillDisabled(r) { p.flags |= CKPT_RING_R_DISABLED.rawValue } else { p.flags &= ~CKPT_RING_R_DISABLED.rawValue }
    let fd = system(setupCall, Int(saved.sq_entries), int(&p))
    if fd == -1 { refuseRing(r, fd, "cannot be made; allow it with sysctl kernel.io_uring_disabled=0") }
    guard fd >= 0 else { refuseRing(r, fd, "cannot be made") }
    let isEqual = p.sq_entries == saved.sq_entries && p.cq_entries == saved.cq_entries && p.features & saved.features == saved.features
        && p.sq.head == saved.sq.head && p.sq.tail == saved.sq.tail && p.sq.ring_mask == saved.sq.ring_mask && p.sq.ring_entries == saved.sq.ring_entries
        && p.sq.flags == saved.sq.flags && p.sq.dropped == saved.sq.dropped && p.sq.array == saved.sq.array
        && p.cq.head == saved.cq.head && p.cq.tail == saved.cq.tail && p.cq.ring_mask == saved.cq.ring_mask && p.cq.ring_entries == saved.cq.ring_entries
        && p.cq.overflow == saved.cq.overflow && p.cq.cqes == saved.cq.cqes && p.cq.flags == saved.cq.flags
    guard isEqual else { refuse(.lacks) { l in putRing(r, &l); l.put("this kernel lays its rings out in another way, or lacks a feature of the old one; restart it where it was") } }
    let number = lift(Int32(truncatingIfNeeded: fd), "io_uring")
    for d in 0..<descriptions.count where descriptions[d].pointee.object == rings[r].pointee.object {
        descriptionFd[d].pointee = number
        setFlags(number, descriptions[d].pointee.flags)
    }
}

/// What was in it, for the task that fills it: the statefile is closed then.
private func keepContents(_ r: Int) {
    let ring = rings[r], size = UInt64(ring.pointee.rings_size), entries = UInt64(ring.pointee.entries_size)
    let kept = anonymous(size + entries)
    if hasFlag(r, CKPT_RING_NO_MMAP) {
        _ = memcpy(kept, pointer(ring.pointee.parameters.cq.user_address), Int(size))
        _ = memcpy(kept + Int(size), pointer(ring.pointee.parameters.sq.user_address), Int(entries))
    } else {
        readStatefile(kept, size, at: ring.pointee.rings)
        readStatefile(kept + Int(size), entries, at: ring.pointee.entries)
    }
    ring.pointee.rings = UInt64(UInt(bitPattern: kept))
}
private func pointer(_ address: UInt64) -> UnsafeMutableRawPointer { UnsafeMutableRawPointer(bitPattern: UInt(address))! }

/// By the task that may use them.
func fillRings(_ t: Int) {
    let task = tasks[t]
    for r in 0..<rings.count where rings[r].pointee.process == task.pointee.process {
        let thread = rings[r].pointee.thread
        if thread == 0 ? task.pointee.is_leader != 0 : thread == task.pointee.fs_base { fillRing(r) }
        if rings[r].pointee.index_thread != 0 && rings[r].pointee.index_thread == task.pointee.fs_base { registerIndex(r) }
    }
}

private func fillRing(_ r: Int) {
    let ring = rings[r], p = ring.pointee.parameters, fd = ringFd(r), own = hasFlag(r, CKPT_RING_NO_MMAP)
    let size = UInt64(ring.pointee.rings_size), entries = UInt64(ring.pointee.entries_size), kept = pointer(ring.pointee.rings)
    let at = own ? pointer(p.cq.user_address) : mapPart(r, fd, size, UInt64(CKPT_RING_SUBMISSIONS_AT))
    let entriesAt = own ? pointer(p.sq.user_address) : mapPart(r, fd, entries, UInt64(CKPT_RING_ENTRIES_AT))
    if !isStillDisabled(r) {
        if hasFlag(r, CKPT_RING_SINGLE_ISSUER) {
            let e = system(registerCall, fd, Int(CKPT_RING_ENABLE.rawValue), 0, 0)
            guard e == 0 else { refuseRing(r, e, "cannot be enabled") }
        }
        advance(r, fd, at, entriesAt)
    }
    _ = memcpy(at, kept, Int(size))
    _ = memcpy(entriesAt, kept + Int(size), Int(entries))
    _ = ckpt_munmap(ring.pointee.rings, size + entries)
    if !own { _ = ckpt_munmap(UInt64(UInt(bitPattern: at)), size); _ = ckpt_munmap(UInt64(UInt(bitPattern: entriesAt)), entries) }
    registerFiles(r, fd)
    registerEvent(r, fd)
    renewNote(r, fd)
}

private func ringFd(_ r: Int) -> Int {
    let p = processes[rings[r].pointee.process]
    for k in 0..<p.pointee.fd_count where descriptions[fds[p.pointee.first_fd + k].pointee.description].pointee.object == rings[r].pointee.object { return Int(fds[p.pointee.first_fd + k].pointee.number) }
    refuse(.badStatefile) { $0.put("statefile: RING records: one without a descriptor; the file is damaged, take another") }
}
private func mapPart(_ r: Int, _ fd: Int, _ size: UInt64, _ offset: UInt64) -> UnsafeMutableRawPointer {
    let m = ckpt_mmap(0, size, readWrite, shared, Int32(truncatingIfNeeded: fd), offset)
    guard !failed(m) else { refuseRing(r, m, "cannot be mapped") }
    return pointer(UInt64(m))
}

/// The kernel keeps counts of its own, which only operations move: as many as there were, which do nothing.
private func advance(_ r: Int, _ fd: Int, _ at: UnsafeMutableRawPointer, _ entries: UnsafeMutableRawPointer) {
    let ring = rings[r].pointee, p = ring.parameters, completed = ring.submitted - ring.dropped, hasArray = !hasFlag(r, CKPT_RING_NO_SQARRAY)
    func word(_ offset: UInt32) -> UnsafeMutablePointer<UInt32> { (at + Int(offset)).assumingMemoryBound(to: UInt32.self) }
    // An entry that is all zeros is IORING_OP_NOP.
    entries.initializeMemory(as: UInt64.self, repeating: 0, count: Int(ring.entries_size) / 8)
    if hasArray { for k in 0..<p.sq_entries { word(p.sq.array + k * 4).pointee = k } }
    var done: UInt32 = 0, rounds = 0
    while done < completed {
        let n = min(min(p.sq_entries, p.cq_entries), completed - done)
        word(p.sq.tail).pointee &+= n
        let e = system(enterCall, fd, Int(n), 0, 0, 0, 0)
        guard e == Int(n) else { refuseRing(r, e < 0 ? e : -5, "its counts cannot be set") }
        word(p.cq.head).pointee = word(p.cq.tail).pointee
        done += n
        rounds += 1
        if rounds & 0xffff == 0 { _ = ckpt_add(&board.pointee.progress, 1) }
    }
    // An entry whose index is wrong is dropped.
    if hasArray { for k in 0..<p.sq_entries { word(p.sq.array + k * 4).pointee = UInt32.max } }
    for k in 0..<ring.dropped {
        word(p.sq.tail).pointee &+= 1
        _ = system(enterCall, fd, 1, 0, 0, 0, 0)
        if k & 0xffff == 0 { _ = ckpt_add(&board.pointee.progress, 1) }
    }
    guard word(p.sq.head).pointee == ring.submitted, word(p.cq.tail).pointee == completed else { refuseRing(r, -5, "its counts cannot be set") }
}

/// A table of files without any (IORING_RSRC_REGISTER_SPARSE).
private func registerFiles(_ r: Int, _ fd: Int) {
    let count = rings[r].pointee.files, sparse: UInt64 = 1
    if count == 0 { return }
    var table = InlineArray<4, UInt64>(repeating: 0)
    table[0] = UInt64(count) | sparse << 32
    let e = withUnsafeMutableBytes(of: &table) { system(registerCall, fd, Int(CKPT_RING_FILES2.rawValue), int($0.baseAddress!), $0.count) }
    guard e == 0 else { refuseRing(r, e, "its table of files cannot be registered; raise the limit on open files (ulimit -n)") }
}

/// What this task calls it.
private func registerIndex(_ r: Int) {
    let fd = ringFd(r)
    var update = InlineArray<2, UInt64>(repeating: 0)
    update[0] = UInt64(rings[r].pointee.index); update[1] = UInt64(fd)
    let e = withUnsafeMutableBytes(of: &update) { system(registerCall, fd, Int(CKPT_RING_DESCRIPTORS.rawValue), int($0.baseAddress!), 1) }
    guard e == 1 else { refuseRing(r, e < 0 ? e : -5, "it cannot be registered") }
    if let note = UnsafeMutablePointer<ckpt_ring_index>(bitPattern: UInt(rings[r].pointee.index_note)) { note.pointee.inode = inode(of: fd) }
}
private func inode(of fd: Int) -> UInt64 {
    let at = 1
    var status = InlineArray<18, UInt64>(repeating: 0)
    _ = withUnsafeMutableBytes(of: &status) { system(CKPT_SYS_fstat, fd, int($0.baseAddress!)) }
    return status[at]
}

private func registerEvent(_ r: Int, _ fd: Int) {
    let event = rings[r].pointee.event, p = processes[rings[r].pointee.process]
    if event == ckpt_no_index() { return }
    let how = rings[r].pointee.flags & CKPT_RING_EVENT_ASYNC.rawValue != 0 ? CKPT_RING_EVENTFD_ASYNC : CKPT_RING_EVENTFD
    for k in 0..<p.pointee.fd_count where fds[p.pointee.first_fd + k].pointee.description == event {
        var number = fds[p.pointee.first_fd + k].pointee.number
        let e = system(registerCall, fd, Int(how.rawValue), int(&number), 1)
        guard e == 0 else { refuseRing(r, e, "its eventfd cannot be registered") }
        return
    }
}

/// The runtime knows it by its inode, which is another now.
private func renewNote(_ r: Int, _ fd: Int) {
    guard let note = UnsafeMutablePointer<ckpt_ring_note>(bitPattern: UInt(rings[r].pointee.note)) else { return }
    note.pointee.inode = inode(of: fd)
    note.pointee.fd = Int32(truncatingIfNeeded: fd)
    note.pointee.pid = ckpt_getpid()
    if let event = eventNote(r) { note.pointee.event = event }
}

/// An eventfd's number in the kernel, which is another now; from its fdinfo.
private func eventNote(_ r: Int) -> UInt64? {
    let event = rings[r].pointee.event, p = processes[rings[r].pointee.process]
    if event == ckpt_no_index() { return nil }
    for k in 0..<p.pointee.fd_count where fds[p.pointee.first_fd + k].pointee.description == event {
        var l = Line()
        l.put("/proc/thread-self/fdinfo/"); l.put(signed: Int64(fds[p.pointee.first_fd + k].pointee.number))
        let file = l.withCString { ckpt_open($0, 0o2000000, 0) }
        if file < 0 { return nil }
        var text = InlineArray<512, UInt8>(repeating: 0)
        let n = withUnsafeMutableBytes(of: &text) { ckpt_read(Int32(truncatingIfNeeded: file), $0.baseAddress!, 512) }
        _ = ckpt_close(Int32(truncatingIfNeeded: file))
        return number(after: "eventfd-id:", in: text, n)
    }
    return nil
}
private func number(after key: StaticString, in text: InlineArray<512, UInt8>, _ count: Int) -> UInt64? {
    let size = key.utf8CodeUnitCount
    var i = 0
    while i + size < count {
        var k = 0
        while k < size && text[i + k] == key.utf8Start[k] { k += 1 }
        if k == size {
            var at = i + size, value: UInt64 = 0
            while at < count && (text[at] == 32 || text[at] == 9) { at += 1 }
            while at < count && text[at] >= 48 && text[at] <= 57 { value = value * 10 + UInt64(text[at] - 48); at += 1 }
            return 1 + value
        }
        i += 1
    }
    return nil
}
