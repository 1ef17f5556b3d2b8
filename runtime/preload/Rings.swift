// Runs in the SIGCKPT handler, every signal blocked.  io_uring tells only by errors what is registered with it, some rings only the task that made
// them; and a leader copies what is in the rings.  Nothing here changes what it looks at.
import CkptABI
import PreloadBoot
import Freestanding

private let registerCall = 427, statusCall = CKPT_SYS_fstat

/// Those that this task alone may use.
func probeOwnRings(threadPointer: UInt64) {
    forEachNote { note in
        if isPrivate(note) && note.pointee.thread == threadPointer { probe(note) }
    }
    findIndexes(threadPointer)
}

/// Which rings it may name by an index still: a question about one fails at its answer's address, not before.
private func findIndexes(_ threadPointer: UInt64) {
    let notes = interpose_ring_notes(), byIndex = 1 << 31, fault = -14, exists = -17
    guard ckpt_load(&notes.pointee.used) != 0, let session = ckpt_runtime().pointee.session else { return }
    var i: Int32 = 0
    while i < Int32(CKPT_RING_INDEXES) {
        let n = ckpt_ring_index(notes, i)
        if n.pointee.thread == threadPointer {
            let r = ckpt_syscall(registerCall, Int(n.pointee.index), Int(CKPT_RING_BUFFERS_STATUS.rawValue) | byIndex, 8, 1, 0, 0)
            if r == fault || r == exists { n.pointee.generation = ckpt_load(ckpt_phase_word(session)) >> 8 } else { n.pointee.thread = 0 }
        }
        i += 1
    }
}
/// By the leader: those that any task may use.
func probeSharedRings() { forEachNote { note in if !isPrivate(note) { probe(note) } } }

private func isPrivate(_ note: UnsafeMutablePointer<ckpt_ring_note>) -> Bool { note.pointee.parameters.flags & CKPT_RING_SINGLE_ISSUER.rawValue != 0 }

private func forEachNote(_ body: (UnsafeMutablePointer<ckpt_ring_note>) -> Void) {
    let notes = interpose_ring_notes()
    if ckpt_load(&notes.pointee.used) == 0 { return }
    var i: Int32 = 0
    while i < Int32(CKPT_RING_NOTES) {
        let note = ckpt_ring_note(notes, i)
        if note.pointee.inode != 0 && note.pointee.inode != UInt64.max { body(note) }
        i += 1
    }
}

private func probe(_ note: UnsafeMutablePointer<ckpt_ring_note>) {
    var status = InlineArray<18, UInt64>(repeating: 0)
    let fd = Int(note.pointee.fd), busy = -16, exists = -17
    let r = withUnsafeMutableBytes(of: &status) { ckpt_syscall(Int(statusCall), fd, Int(bitPattern: $0.baseAddress!), 0, 0, 0, 0) }
    guard r == 0, status[1] == note.pointee.inode, let session = ckpt_runtime().pointee.session else { return }
    var found = CKPT_RING_PROBED.rawValue, none: Int32 = -1
    // No such descriptor; but that there is an eventfd already is found out before.
    let event = withUnsafeMutablePointer(to: &none) { ckpt_syscall(registerCall, fd, Int(CKPT_RING_EVENTFD.rawValue), Int(bitPattern: $0), 1, 0, 0) }
    if event == busy { found |= CKPT_RING_HAS_EVENTFD.rawValue }
    if event == exists { found |= CKPT_RING_FOREIGN.rawValue } else if mayHaveBuffers(note, fd) && hasBuffers(fd) { found |= CKPT_RING_HAS_BUFFERS.rawValue; note.pointee.searched = 0 }
    note.pointee.found = found
    note.pointee.generation = ckpt_load(ckpt_phase_word(session)) >> 8
}

/// Only an operation provides buffers, or a registration.  So that is not looked for twice: there are many groups to look into.
private func mayHaveBuffers(_ note: UnsafeMutablePointer<ckpt_ring_note>, _ fd: Int) -> Bool {
    let isRegistered = note.pointee.registered & 1 << UInt64(CKPT_RING_BUFFERS.rawValue) != 0
    guard let head = taken(note, fd) else { return true }
    if note.pointee.searched == head &+ 1 || (head == 0 && !isRegistered) { return false }
    note.pointee.searched = head &+ 1
    return true
}
/// How many entries it has taken.
private func taken(_ note: UnsafeMutablePointer<ckpt_ring_note>, _ fd: Int) -> UInt32? {
    let p = note.pointee.parameters, shared: Int32 = 1, readable: Int32 = 1, page: UInt64 = 4096
    if p.flags & CKPT_RING_NO_MMAP.rawValue != 0 { return nil }
    let r = ckpt_mmap(0, page, readable, shared, Int32(fd), UInt64(CKPT_RING_SUBMISSIONS_AT))
    if r < 0 && r > -4096 { return nil }
    let head = UnsafeRawPointer(bitPattern: UInt(bitPattern: r))!.load(fromByteOffset: Int(p.sq.head), as: UInt32.self)
    _ = ckpt_munmap(UInt64(r), page)
    return head
}

/// Buffers that the program has provided, in any of the groups that there may be.
private func hasBuffers(_ fd: Int) -> Bool {
    var query = InlineArray<5, UInt64>(repeating: 0), group: UInt64 = 0
    let missing = -2, groups: UInt64 = 65536
    return withUnsafeMutableBytes(of: &query) { q in
        while group < groups {
            q.storeBytes(of: group, as: UInt64.self)        // struct io_uring_buf_status: the group comes first
            let r = ckpt_syscall(registerCall, fd, Int(CKPT_RING_BUFFERS_STATUS.rawValue), Int(bitPattern: q.baseAddress!), 1, 0, 0)
            if r == 0 || r == -22 { return true }
            if r != missing { return false }
            group += 1
        }
        return false
    }
}

func copyRingNotes(to place: Int) -> Int {
    let notes = interpose_ring_notes()
    copy(UnsafeRawPointer(notes), to: place, MemoryLayout<ckpt_ring_notes>.size)
    return Int(bitPattern: notes)
}

/// A part of a ring, mapped for the moment; or, without a descriptor, memory.
func copyRing(_ fd: Int, _ at: Int, _ size: Int, to place: Int) -> Int {
    if fd < 0 { copy(UnsafeRawPointer(bitPattern: UInt(bitPattern: at))!, to: place, size); return 0 }
    let shared: Int32 = 1, readable: Int32 = 1
    let r = ckpt_mmap(0, UInt64(size), readable, shared, Int32(fd), UInt64(at))
    if r < 0 && r > -4096 { return r }
    copy(UnsafeRawPointer(bitPattern: UInt(bitPattern: r))!, to: place, size)
    _ = ckpt_munmap(UInt64(r), UInt64(size))
    return 0
}
private func copy(_ from: UnsafeRawPointer, to place: Int, _ size: Int) { UnsafeMutableRawPointer(bitPattern: UInt(bitPattern: place))!.copyMemory(from: from, byteCount: size) }
