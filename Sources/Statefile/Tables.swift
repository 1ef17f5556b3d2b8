// The tables of a statefile as the initiator fills them.
import CkptABI

public final class Tables {
    public var tree = ckpt_tree()
    public var processes: [ckpt_process_record] = []
    public var tasks: [ckpt_task_record] = []
    public var vmas: [ckpt_vma_record] = []
    public var objects: [ckpt_object_record] = []
    public var descriptions: [ckpt_description_record] = []
    public var fds: [ckpt_fd_record] = []
    public var pending: [ckpt_pending_record] = []
    public var timers: [ckpt_timer_record] = []
    public var groups: [UInt32] = []
    public var locks: [ckpt_lock_record] = []
    public var sockets: [ckpt_socket_record] = []
    public var options: [ckpt_option_record] = []
    public var messages: [ckpt_message_record] = []
    public var carried: [UInt32] = []
    public var events: [ckpt_event_record] = []
    public var watched: [ckpt_watched_record] = []
    public var watches: [ckpt_watch_record] = []
    public var credentials: [ckpt_credentials_record] = []
    public var mounts: [ckpt_mount_record] = []
    public var settings: [ckpt_setting_record] = []
    public var networkSteps: [ckpt_network_record] = []
    public var idRanges: [ckpt_id_range_record] = []
    public var numbers: [ckpt_number_record] = []
    public var entries: [ckpt_entry_record] = []
    public var namespaces: [ckpt_namespace_record] = []
    public var guards: [ckpt_guard_record] = []
    public var terminals: [ckpt_terminal_record] = []
    public var saved: [ckpt_saved_record] = []
    public var extents: [ckpt_extent_record] = []
    public var bases: [ckpt_base_record] = []
    public var ipc: [ckpt_ipc_record] = []
    public var semaphores: [ckpt_semaphore_record] = []
    public var adjustments: [ckpt_adjustment_record] = []
    public var queued: [ckpt_queued_record] = []
    public var rings: [ckpt_ring_record] = []
    public var packing: [ckpt_packing_record] = []      // none: pages lie at the places of their mappings
    private var bytes: [UInt8] = [0]
    private var texts: [[UInt8]: UInt32] = [[]: 0]      // by bytes: Swift takes texts for equal that Unicode does
    public init() {}

    /// The offset of a NUL-terminated text; equal texts are stored once.
    public func text(_ s: String) -> UInt32 {
        let name = s.nameBytes
        if let known = texts[name] { return known }
        let at = UInt32(bytes.count)
        bytes += name + [0]
        texts[name] = at
        return at
    }
    public func text(at offset: UInt32) -> String { String(name: bytes[Int(offset)...].prefix { $0 != 0 }) }
    public func blob(_ b: [UInt8]) -> UInt32 {
        while bytes.count % 8 != 0 { bytes.append(0) }
        let at = UInt32(bytes.count)
        bytes += b
        return at
    }

    public func blob(at offset: UInt32, _ size: Int) -> [UInt8] { Array(bytes[Int(offset)..<(Int(offset) + size)]) }

    /// All tables as ELF notes, owner "CKPT".
    public func encoded() -> [UInt8] {
        var out: [UInt8] = []
        add(CKPT_TABLE_TREE, [tree], to: &out); add(CKPT_TABLE_PROCESS, processes, to: &out); add(CKPT_TABLE_TASK, tasks, to: &out)
        add(CKPT_TABLE_VMA, vmas, to: &out); add(CKPT_TABLE_OBJECT, objects, to: &out); add(CKPT_TABLE_DESCRIPTION, descriptions, to: &out)
        add(CKPT_TABLE_FD, fds, to: &out); add(CKPT_TABLE_PENDING, pending, to: &out); add(CKPT_TABLE_TIMER, timers, to: &out)
        add(CKPT_TABLE_GROUP, groups, to: &out); add(CKPT_TABLE_LOCK, locks, to: &out)
        add(CKPT_TABLE_SOCKET, sockets, to: &out); add(CKPT_TABLE_OPTION, options, to: &out); add(CKPT_TABLE_MESSAGE, messages, to: &out)
        add(CKPT_TABLE_CARRIED, carried, to: &out); add(CKPT_TABLE_EVENT, events, to: &out); add(CKPT_TABLE_WATCHED, watched, to: &out); add(CKPT_TABLE_WATCH, watches, to: &out)
        add(CKPT_TABLE_CREDENTIALS, credentials, to: &out)
        add(CKPT_TABLE_NAMESPACE, namespaces, to: &out); add(CKPT_TABLE_MOUNT, mounts, to: &out); add(CKPT_TABLE_SETTING, settings, to: &out); add(CKPT_TABLE_ID_RANGE, idRanges, to: &out); add(CKPT_TABLE_NETWORK, networkSteps, to: &out)
        add(CKPT_TABLE_NUMBER, numbers, to: &out); add(CKPT_TABLE_ENTRY, entries, to: &out)
        add(CKPT_TABLE_GUARD, guards, to: &out)
        add(CKPT_TABLE_TERMINAL, terminals, to: &out)
        add(CKPT_TABLE_SAVED, saved, to: &out); add(CKPT_TABLE_EXTENT, extents, to: &out)
        add(CKPT_TABLE_BASE, bases, to: &out)
        add(CKPT_TABLE_IPC, ipc, to: &out); add(CKPT_TABLE_SEMAPHORE, semaphores, to: &out)
        add(CKPT_TABLE_ADJUSTMENT, adjustments, to: &out); add(CKPT_TABLE_QUEUED, queued, to: &out)
        add(CKPT_TABLE_RING, rings, to: &out)
        if !packing.isEmpty { add(CKPT_TABLE_PACKING, packing, to: &out) }
        add(CKPT_TABLE_BYTES, bytes, to: &out)
        return out
    }

    /// namesz, descsz, type, "CKPT\0" padded to 8, the table's header, the entries, padding to 4.
    private func add<T>(_ type: ckpt_table, _ entries: [T], to out: inout [UInt8]) {
        let size = MemoryLayout<T>.stride
        let header = ckpt_table_header(version: UInt32(CKPT_STATEFILE_VERSION), entry_size: UInt32(size), count: UInt64(entries.count))
        let length = MemoryLayout<ckpt_table_header>.size + size * entries.count
        for word in [5, UInt32(length), UInt32(CKPT_NOTE_BASE) + type.rawValue] { withUnsafeBytes(of: word) { out += $0 } }
        out += [0x43, 0x4b, 0x50, 0x54, 0, 0, 0, 0]
        withUnsafeBytes(of: header) { out += $0 }
        entries.withUnsafeBytes { out += $0 }
        while out.count % 4 != 0 { out.append(0) }
    }
}
