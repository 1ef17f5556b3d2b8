// Runs in the engine before the tree exists, on its own stack; no allocation, no libc.
// Opens the statefile, finds its tables and copies them: first to a mapping of our own, later (Region.swift) into the region.
import CkptABI
import EngineBoot
import Freestanding
import CkptMemory

func refuseStatefile(_ record: StaticString, at offset: UInt64, _ why: StaticString) -> Never {
    refuse(.badStatefile) { l in
        l.put("statefile: "); l.put(record); l.put(" at offset 0x"); l.put(hex: offset); l.put(": "); l.put(why)
        l.put("; the file is damaged, take another")
    }
}

func openStatefile(_ path: Text) {
    if state.pointee.streamed != 0 { return }
    let r = ckpt_open(path, 0o2000000, 0)
    guard r >= 0 else { refuse(r) { $0.put("statefile: cannot be opened") } }
    state.pointee.statefile = Int32(truncatingIfNeeded: r)
    // flock(LOCK_SH): as long as the tree lives, ckptctl must not turn the file over.
    _ = system(73, r, 1 | 4)
}

private func readExactly(_ p: UnsafeMutableRawPointer, _ n: UInt64, at offset: UInt64) -> Bool { readExactly(state.pointee.statefile, p, n, at: offset) }
func readExactly(_ fd: Int32, _ p: UnsafeMutableRawPointer, _ n: UInt64, at offset: UInt64) -> Bool {
    var done: UInt64 = 0
    while done < n {
        let r = ckpt_pread(fd, p + Int(done), Int(n - done), offset + done)
        if r == -4 { continue }
        if r <= 0 { return false }
        done += UInt64(r)
    }
    return true
}
/// Reads from the statefile, into memory of ours or into place.
func readStatefile(_ p: UnsafeMutableRawPointer, _ n: UInt64, at offset: UInt64) {
    guard readExactly(p, n, at: offset) else { refuseStatefile("data", at: offset, "cannot be read") }
}

func statefileSize() -> UInt64 {
    var st = InlineArray<18, UInt64>(repeating: 0)
    let fd = state.pointee.statefile
    let r = withUnsafeMutableBytes(of: &st) { system(CKPT_SYS_fstat, Int(fd), int($0.baseAddress!)) }
    guard r == 0 else { refuse(r) { $0.put("statefile: fstat") } }
    return st[6]
}

/// The superblock, checked against its own checksum and the file's size.
func readSuperblock() -> ckpt_superblock {
    var sb = ckpt_superblock()
    let at = UInt64(CKPT_SUPERBLOCK_OFFSET), size = statefileSize()
    guard readExactly(&sb, UInt64(MemoryLayout<ckpt_superblock>.size), at: at) else { refuseStatefile("superblock", at: at, "the file ends before it") }
    guard sb.magic == ckpt_statefile_magic() else { refuseStatefile("superblock", at: at, "not a statefile") }
    guard sb.version == UInt32(CKPT_STATEFILE_VERSION), sb.size == UInt32(MemoryLayout<ckpt_superblock>.size) else {
        refuseStatefile("superblock", at: at, "written by another version")
    }
    let crc = withUnsafeBytes(of: &sb) { ckpt_crc32c_hw(0, $0.baseAddress!, 128) }
    guard crc == sb.crc else { refuseStatefile("superblock", at: at, "wrong checksum") }
    if sb.file_size == ckpt_size_streamed() { sb = readTrailer(size) }
    guard sb.file_size <= size else { refuseStatefile("superblock", at: at, "the file is shorter than it says (an incomplete copy)") }
    guard sb.tables_offset < size, sb.tables_size <= size - sb.tables_offset, sb.tables_size < 1 << 32 else {
        refuseStatefile("superblock", at: at, "its tables lie outside the file")
    }
    return sb
}

/// Of a statefile that was written to a pipe: the superblock that counts is its end.
private func readTrailer(_ size: UInt64) -> ckpt_superblock {
    var sb = ckpt_superblock()
    let length = UInt64(MemoryLayout<ckpt_superblock>.size), at = size - length
    guard readExactly(&sb, length, at: at), sb.magic == ckpt_statefile_magic(), sb.version == UInt32(CKPT_STATEFILE_VERSION), UInt64(sb.size) == length,
          withUnsafeBytes(of: &sb, { ckpt_crc32c_hw(0, $0.baseAddress!, 128) }) == sb.crc, sb.file_size == size else {
        refuseStatefile("superblock", at: at, "the end is missing: it came through a pipe that broke")
    }
    return sb
}

private func entrySize(_ type: UInt32) -> Int {
    switch type {
    case CKPT_TABLE_TREE.rawValue: MemoryLayout<ckpt_tree>.stride
    case CKPT_TABLE_PROCESS.rawValue: MemoryLayout<ckpt_process_record>.stride
    case CKPT_TABLE_TASK.rawValue: MemoryLayout<ckpt_task_record>.stride
    case CKPT_TABLE_VMA.rawValue: MemoryLayout<ckpt_vma_record>.stride
    case CKPT_TABLE_OBJECT.rawValue: MemoryLayout<ckpt_object_record>.stride
    case CKPT_TABLE_DESCRIPTION.rawValue: MemoryLayout<ckpt_description_record>.stride
    case CKPT_TABLE_FD.rawValue: MemoryLayout<ckpt_fd_record>.stride
    case CKPT_TABLE_PENDING.rawValue: MemoryLayout<ckpt_pending_record>.stride
    case CKPT_TABLE_TIMER.rawValue: MemoryLayout<ckpt_timer_record>.stride
    case CKPT_TABLE_GROUP.rawValue: 4
    case CKPT_TABLE_BYTES.rawValue: 1
    case CKPT_TABLE_LOCK.rawValue: MemoryLayout<ckpt_lock_record>.stride
    case CKPT_TABLE_SOCKET.rawValue: MemoryLayout<ckpt_socket_record>.stride
    case CKPT_TABLE_OPTION.rawValue: MemoryLayout<ckpt_option_record>.stride
    case CKPT_TABLE_MESSAGE.rawValue: MemoryLayout<ckpt_message_record>.stride
    case CKPT_TABLE_CARRIED.rawValue: 4
    case CKPT_TABLE_EVENT.rawValue: MemoryLayout<ckpt_event_record>.stride
    case CKPT_TABLE_WATCHED.rawValue: MemoryLayout<ckpt_watched_record>.stride
    case CKPT_TABLE_WATCH.rawValue: MemoryLayout<ckpt_watch_record>.stride
    case CKPT_TABLE_MOUNT.rawValue: MemoryLayout<ckpt_mount_record>.stride
    case CKPT_TABLE_SETTING.rawValue: MemoryLayout<ckpt_setting_record>.stride
    case CKPT_TABLE_ID_RANGE.rawValue: MemoryLayout<ckpt_id_range_record>.stride
    case CKPT_TABLE_NETWORK.rawValue: MemoryLayout<ckpt_network_record>.stride
    case CKPT_TABLE_NUMBER.rawValue: MemoryLayout<ckpt_number_record>.stride
    case CKPT_TABLE_ENTRY.rawValue: MemoryLayout<ckpt_entry_record>.stride
    case CKPT_TABLE_NAMESPACE.rawValue: MemoryLayout<ckpt_namespace_record>.stride
    case CKPT_TABLE_GUARD.rawValue: MemoryLayout<ckpt_guard_record>.stride
    case CKPT_TABLE_CREDENTIALS.rawValue: MemoryLayout<ckpt_credentials_record>.stride
    case CKPT_TABLE_TERMINAL.rawValue: MemoryLayout<ckpt_terminal_record>.stride
    case CKPT_TABLE_IPC.rawValue: MemoryLayout<ckpt_ipc_record>.stride
    case CKPT_TABLE_SEMAPHORE.rawValue: MemoryLayout<ckpt_semaphore_record>.stride
    case CKPT_TABLE_ADJUSTMENT.rawValue: MemoryLayout<ckpt_adjustment_record>.stride
    case CKPT_TABLE_QUEUED.rawValue: MemoryLayout<ckpt_queued_record>.stride
    case CKPT_TABLE_RING.rawValue: MemoryLayout<ckpt_ring_record>.stride
    case CKPT_TABLE_SAVED.rawValue: MemoryLayout<ckpt_saved_record>.stride
    case CKPT_TABLE_EXTENT.rawValue: MemoryLayout<ckpt_extent_record>.stride
    case CKPT_TABLE_BASE.rawValue: MemoryLayout<ckpt_base_record>.stride
    default: 0
    }
}

/// Reads the notes that hold the tables, verifies their checksum and lays each table out on its own cache line.
func readTables(_ sb: ckpt_superblock) {
    let raw = anonymous(pageAlignUp(sb.tables_size)), out = anonymous(tablesSize(sb))
    readStatefile(raw, sb.tables_size, at: sb.tables_offset)
    guard ckpt_crc32c_hw(0, raw, Int(sb.tables_size)) == sb.tables_crc else { refuseStatefile("tables", at: sb.tables_offset, "wrong checksum") }
    var at: UInt64 = 0, used: UInt64 = 0
    while at + 12 <= sb.tables_size {
        let nameSize = UInt64(field(raw, Int(at), UInt32.self)), size = UInt64(field(raw, Int(at) + 4, UInt32.self))
        let type = field(raw, Int(at) + 8, UInt32.self) &- UInt32(CKPT_NOTE_BASE)
        let body = at + 12 + ((nameSize + 3) & ~3)
        guard nameSize <= 64, body <= sb.tables_size, size <= sb.tables_size - body else { refuseStatefile("note", at: sb.tables_offset + at, "longer than the tables") }
        if nameSize == 5 && entrySize(type) != 0 { copyTable(type, raw + Int(body), size, at: sb.tables_offset + body, to: out, &used) }
        at = body + ((size + 3) & ~3)
    }
    _ = ckpt_munmap(UInt64(UInt(bitPattern: raw)), pageAlignUp(sb.tables_size))
    state.pointee.scratch_size = used      // bytes of all tables, for the region
}

func tablesSize(_ sb: ckpt_superblock) -> UInt64 { pageAlignUp(sb.tables_size + UInt64(ENGINE_TABLES) * 64) }

private func copyTable(_ type: UInt32, _ note: UnsafeMutableRawPointer, _ size: UInt64, at offset: UInt64, to out: UnsafeMutableRawPointer, _ used: inout UInt64) {
    let header = UInt64(MemoryLayout<ckpt_table_header>.size)
    guard size >= header else { refuseStatefile("table", at: offset, "shorter than its header") }
    let h = field(note, 0, ckpt_table_header.self), entry = UInt64(entrySize(type))
    guard UInt64(h.entry_size) == entry else { refuseStatefile("table", at: offset, "entries of another size (another version)") }
    guard h.count <= (size - header) / entry else { refuseStatefile("table", at: offset, "fewer entries than it says") }
    guard engine_table(type).pointee == 0 else { refuseStatefile("table", at: offset, "twice in the file") }
    _ = memcpy(out + Int(used), note + Int(header), Int(h.count * entry))
    engine_table(type).pointee = UInt64(UInt(bitPattern: out)) + used
    engine_table_count(type).pointee = h.count
    used = (used + h.count * entry + 63) & ~63
}

/// Fresh memory of our own.
func anonymous(_ size: UInt64) -> UnsafeMutableRawPointer {
    let r = ckpt_mmap(0, size == 0 ? 4096 : size, 3, 0x22, -1, 0)
    guard !failed(r), let p = UnsafeMutableRawPointer(bitPattern: r) else { refuse(r) { $0.put("memory for the restart") } }
    return p
}
