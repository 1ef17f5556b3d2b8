// Reads a statefile.  It never touches a live process and believes nothing that it reads: every size, offset and index is checked
// before it is used, and an error names the record and where it lies.
import CElf
import CkptABI
import CkptReport
import CkptSystem

/// A face: which of the two program-header tables the ELF header shows.
public enum Face: String, Sendable, CaseIterable { case core, exec }

/// A statefile, open for reading.  All tables have been checked.
public final class Statefile: @unchecked Sendable {
    public let path: String
    let file: MappedFile
    public let superblock: ckpt_superblock
    public let face: Face
    public let tree: ckpt_tree
    public let processes: Table<ckpt_process_record>
    public let tasks: Table<ckpt_task_record>
    public let vmas: Table<ckpt_vma_record>
    public let objects: Table<ckpt_object_record>
    public let descriptions: Table<ckpt_description_record>
    public let descriptors: Table<ckpt_fd_record>
    public let pending: Table<ckpt_pending_record>
    public let timers: Table<ckpt_timer_record>
    public let groups: Table<UInt32>
    public let locks: Table<ckpt_lock_record>
    public let sockets: Table<ckpt_socket_record>
    public let options: Table<ckpt_option_record>
    public let messages: Table<ckpt_message_record>
    public let carried: Table<UInt32>
    public let events: Table<ckpt_event_record>
    public let watched: Table<ckpt_watched_record>
    public let watches: Table<ckpt_watch_record>
    public let namespaces: Table<ckpt_namespace_record>
    public let settings: Table<ckpt_setting_record>
    public let networkSteps: Table<ckpt_network_record>
    public let idRanges: Table<ckpt_id_range_record>
    public let numbers: Table<ckpt_number_record>
    public let entries: Table<ckpt_entry_record>
    public let mounts: Table<ckpt_mount_record>
    public let guards: Table<ckpt_guard_record>
    public let credentials: Table<ckpt_credentials_record>
    public let terminals: Table<ckpt_terminal_record>
    public let saved: Table<ckpt_saved_record>
    public let extents: Table<ckpt_extent_record>
    public let bases: Table<ckpt_base_record>
    public let ipc: Table<ckpt_ipc_record>
    public let semaphores: Table<ckpt_semaphore_record>
    public let adjustments: Table<ckpt_adjustment_record>
    public let queued: Table<ckpt_queued_record>
    public let rings: Table<ckpt_ring_record>
    public let packing: Table<ckpt_packing_record>
    let text: Table<UInt8>
    lazy var sharedRuns = SharedRuns(self)
    var openBases: [Base]?

    public convenience init(path: String) throws(Problem) {
        let file: MappedFile
        do throws(SystemError) { file = try MappedFile(path) } catch {
            throw Problem(error.isNoEntry ? .noSession : .system, "statefile", object: path, cause: error.text)
        }
        try self.init(file, path: path)
    }

    public init(_ file: MappedFile, path: String) throws(Problem) {
        self.path = path
        self.file = file
        let scan = Scan(file: file, path: path)
        let block = try scan.superblock()
        superblock = block
        face = try scan.face()
        let notes = try scan.tables(block)
        func table<T>(_ type: ckpt_table, _ name: String) throws(Problem) -> Table<T> { try scan.table(notes[type.rawValue], name) }
        let trees: Table<ckpt_tree> = try table(CKPT_TABLE_TREE, "TREE")
        guard trees.count == 1 else { throw scan.bad("TREE", at: block.tables_offset, "\(trees.count) entries instead of one") }
        tree = trees[0]
        processes = try table(CKPT_TABLE_PROCESS, "PROCESS")
        tasks = try table(CKPT_TABLE_TASK, "TASK")
        vmas = try table(CKPT_TABLE_VMA, "VMA")
        objects = try table(CKPT_TABLE_OBJECT, "OBJECT")
        descriptions = try table(CKPT_TABLE_DESCRIPTION, "DESCRIPTION")
        descriptors = try table(CKPT_TABLE_FD, "FD")
        pending = try table(CKPT_TABLE_PENDING, "PENDING")
        timers = try table(CKPT_TABLE_TIMER, "TIMER")
        groups = try table(CKPT_TABLE_GROUP, "GROUP")
        locks = try scan.optionalTable(notes[CKPT_TABLE_LOCK.rawValue], "LOCK")
        sockets = try scan.optionalTable(notes[CKPT_TABLE_SOCKET.rawValue], "SOCKET")
        options = try scan.optionalTable(notes[CKPT_TABLE_OPTION.rawValue], "OPTION")
        messages = try scan.optionalTable(notes[CKPT_TABLE_MESSAGE.rawValue], "MESSAGE")
        carried = try scan.optionalTable(notes[CKPT_TABLE_CARRIED.rawValue], "CARRIED")
        events = try scan.optionalTable(notes[CKPT_TABLE_EVENT.rawValue], "EVENT")
        watched = try scan.optionalTable(notes[CKPT_TABLE_WATCHED.rawValue], "WATCHED")
        watches = try scan.optionalTable(notes[CKPT_TABLE_WATCH.rawValue], "WATCH")
        mounts = try scan.optionalTable(notes[CKPT_TABLE_MOUNT.rawValue], "MOUNT")
        settings = try scan.optionalTable(notes[CKPT_TABLE_SETTING.rawValue], "SETTING")
        networkSteps = try scan.optionalTable(notes[CKPT_TABLE_NETWORK.rawValue], "NETWORK")
        idRanges = try scan.optionalTable(notes[CKPT_TABLE_ID_RANGE.rawValue], "ID_RANGE")
        numbers = try scan.optionalTable(notes[CKPT_TABLE_NUMBER.rawValue], "NUMBER")
        entries = try scan.optionalTable(notes[CKPT_TABLE_ENTRY.rawValue], "ENTRY")
        namespaces = try scan.optionalTable(notes[CKPT_TABLE_NAMESPACE.rawValue], "NAMESPACE")
        guards = try scan.optionalTable(notes[CKPT_TABLE_GUARD.rawValue], "GUARD")
        credentials = try scan.optionalTable(notes[CKPT_TABLE_CREDENTIALS.rawValue], "CREDENTIALS")
        terminals = try scan.optionalTable(notes[CKPT_TABLE_TERMINAL.rawValue], "TERMINAL")
        saved = try scan.optionalTable(notes[CKPT_TABLE_SAVED.rawValue], "SAVED")
        extents = try scan.optionalTable(notes[CKPT_TABLE_EXTENT.rawValue], "EXTENT")
        bases = try scan.optionalTable(notes[CKPT_TABLE_BASE.rawValue], "BASE")
        ipc = try scan.optionalTable(notes[CKPT_TABLE_IPC.rawValue], "IPC")
        semaphores = try scan.optionalTable(notes[CKPT_TABLE_SEMAPHORE.rawValue], "SEMAPHORE")
        adjustments = try scan.optionalTable(notes[CKPT_TABLE_ADJUSTMENT.rawValue], "ADJUSTMENT")
        queued = try scan.optionalTable(notes[CKPT_TABLE_QUEUED.rawValue], "QUEUED")
        rings = try scan.optionalTable(notes[CKPT_TABLE_RING.rawValue], "RING")
        packing = try scan.optionalTable(notes[CKPT_TABLE_PACKING.rawValue], "PACKING")
        text = try table(CKPT_TABLE_BYTES, "BYTES")
        try checkTables()
    }

    /// The bytes of a text, without its NUL; it was checked when the file was opened.
    public func bytes(at offset: UInt32) -> [UInt8] { Array(text[Int(offset)...].prefix { $0 != 0 }) }
    public func string(_ offset: UInt32) -> String { String(name: bytes(at: offset)) }
    /// `count` bytes of the BYTES table, NULs included.
    public func blob(at offset: UInt32, count: UInt32) -> [UInt8] { Array(text[Int(offset)..<Int(offset) + Int(count)]) }

    public func tasks(of p: ckpt_process_record) -> Table<ckpt_task_record>.SubSequence { tasks[Int(p.first_task)..<Int(p.first_task + p.task_count)] }
    public func vmas(of p: ckpt_process_record) -> Table<ckpt_vma_record>.SubSequence { vmas[Int(p.first_vma)..<Int(p.first_vma + p.vma_count)] }
    public func descriptors(of p: ckpt_process_record) -> Table<ckpt_fd_record>.SubSequence { descriptors[Int(p.first_fd)..<Int(p.first_fd + p.fd_count)] }
    /// The index of the process with this pid, as the tasks see it.
    public func process(pid: Int32) -> Int? { processes.firstIndex { $0.pid == pid } }

    func bad(_ record: String, at offset: UInt64? = nil, _ cause: String) -> Problem { Scan(file: file, path: path).bad(record, at: offset, cause) }
}

extension SystemError {
    var isNoEntry: Bool { self.errno == 2 || self.errno == 20 }
}

/// A table of a statefile: fixed-size records in the mapped file, read one at a time, copied by value.
public struct Table<Record>: RandomAccessCollection, @unchecked Sendable {
    public let startIndex = 0
    public let endIndex: Int
    private let base: UnsafeRawPointer?
    private let file: MappedFile
    /// Where the first record lies in the file.
    public let fileOffset: UInt64

    init(base: UnsafeRawPointer?, count: Int, file: MappedFile) {
        self.base = base; self.endIndex = count; self.file = file
        fileOffset = base.map { UInt64($0 - file.bytes.baseAddress!) } ?? 0
    }
    public subscript(i: Int) -> Record {
        precondition(i >= 0 && i < endIndex)
        // Notes are aligned to four bytes only.
        return withUnsafeTemporaryAllocation(of: Record.self, capacity: 1) { slot in
            UnsafeMutableRawPointer(slot.baseAddress!).copyMemory(from: base! + i * MemoryLayout<Record>.stride, byteCount: MemoryLayout<Record>.size)
            return slot[0]
        }
    }
    public func offset(of i: Int) -> UInt64 { fileOffset + UInt64(i * MemoryLayout<Record>.stride) }
}
