// Runs in the engine, on its own stacks; no allocation, no libc.  Short names for the state, the board and the tables.
import CkptABI
import EngineBoot
import Freestanding
import CkptMemory

typealias Text = UnsafePointer<CChar>
typealias State = UnsafeMutablePointer<engine_state>

@inline(__always) var state: State { engine_state() }

/// The board lies at a fixed place of the region: its first page after the stacks.
@inline(__always) var board: UnsafeMutablePointer<engine_board> {
    UnsafeMutablePointer(bitPattern: UInt(state.pointee.scratch))!
}

/// An array that lies in the region or in a table; every access is checked.
struct Table<Element> {
    let base: UnsafeMutablePointer<Element>
    let count: Int
    init(at address: UInt64, count: UInt64) {
        base = UnsafeMutableRawPointer(bitPattern: UInt(address))!.assumingMemoryBound(to: Element.self)
        self.count = Int(count)
    }
    subscript(i: Int) -> UnsafeMutablePointer<Element> {
        @inline(__always) get { precondition(i >= 0 && i < count); return base + i }
    }
    subscript(i: UInt32) -> UnsafeMutablePointer<Element> { @inline(__always) get { self[Int(i)] } }
}

@inline(__always) private func table<E>(_ kind: ckpt_table, _ type: E.Type) -> Table<E> {
    Table(at: engine_table(kind.rawValue).pointee, count: engine_table_count(kind.rawValue).pointee)
}
var processes: Table<ckpt_process_record> { table(CKPT_TABLE_PROCESS, ckpt_process_record.self) }
var tasks: Table<ckpt_task_record> { table(CKPT_TABLE_TASK, ckpt_task_record.self) }
var vmas: Table<ckpt_vma_record> { table(CKPT_TABLE_VMA, ckpt_vma_record.self) }
var objects: Table<ckpt_object_record> { table(CKPT_TABLE_OBJECT, ckpt_object_record.self) }
var descriptions: Table<ckpt_description_record> { table(CKPT_TABLE_DESCRIPTION, ckpt_description_record.self) }
var fds: Table<ckpt_fd_record> { table(CKPT_TABLE_FD, ckpt_fd_record.self) }
var pendings: Table<ckpt_pending_record> { table(CKPT_TABLE_PENDING, ckpt_pending_record.self) }
var timers: Table<ckpt_timer_record> { table(CKPT_TABLE_TIMER, ckpt_timer_record.self) }
var locks: Table<ckpt_lock_record> { table(CKPT_TABLE_LOCK, ckpt_lock_record.self) }
var sockets: Table<ckpt_socket_record> { table(CKPT_TABLE_SOCKET, ckpt_socket_record.self) }
var options: Table<ckpt_option_record> { table(CKPT_TABLE_OPTION, ckpt_option_record.self) }
var messages: Table<ckpt_message_record> { table(CKPT_TABLE_MESSAGE, ckpt_message_record.self) }
var saved: Table<ckpt_saved_record> { table(CKPT_TABLE_SAVED, ckpt_saved_record.self) }
var extents: Table<ckpt_extent_record> { table(CKPT_TABLE_EXTENT, ckpt_extent_record.self) }
var bases: Table<ckpt_base_record> { table(CKPT_TABLE_BASE, ckpt_base_record.self) }
var carried: Table<UInt32> { table(CKPT_TABLE_CARRIED, UInt32.self) }
var events: Table<ckpt_event_record> { table(CKPT_TABLE_EVENT, ckpt_event_record.self) }
var watched: Table<ckpt_watched_record> { table(CKPT_TABLE_WATCHED, ckpt_watched_record.self) }
var watches: Table<ckpt_watch_record> { table(CKPT_TABLE_WATCH, ckpt_watch_record.self) }
var credentials: Table<ckpt_credentials_record> { table(CKPT_TABLE_CREDENTIALS, ckpt_credentials_record.self) }
var mounts: Table<ckpt_mount_record> { table(CKPT_TABLE_MOUNT, ckpt_mount_record.self) }
var numbers: Table<ckpt_number_record> { table(CKPT_TABLE_NUMBER, ckpt_number_record.self) }
var entries: Table<ckpt_entry_record> { table(CKPT_TABLE_ENTRY, ckpt_entry_record.self) }
var settings: Table<ckpt_setting_record> { table(CKPT_TABLE_SETTING, ckpt_setting_record.self) }
var idRanges: Table<ckpt_id_range_record> { table(CKPT_TABLE_ID_RANGE, ckpt_id_range_record.self) }
var networkSteps: Table<ckpt_network_record> { table(CKPT_TABLE_NETWORK, ckpt_network_record.self) }
var namespaces: Table<ckpt_namespace_record> { table(CKPT_TABLE_NAMESPACE, ckpt_namespace_record.self) }
var guards: Table<ckpt_guard_record> { table(CKPT_TABLE_GUARD, ckpt_guard_record.self) }
var terminals: Table<ckpt_terminal_record> { table(CKPT_TABLE_TERMINAL, ckpt_terminal_record.self) }
var ipc: Table<ckpt_ipc_record> { table(CKPT_TABLE_IPC, ckpt_ipc_record.self) }
var semaphores: Table<ckpt_semaphore_record> { table(CKPT_TABLE_SEMAPHORE, ckpt_semaphore_record.self) }
var adjustments: Table<ckpt_adjustment_record> { table(CKPT_TABLE_ADJUSTMENT, ckpt_adjustment_record.self) }
var queued: Table<ckpt_queued_record> { table(CKPT_TABLE_QUEUED, ckpt_queued_record.self) }
var rings: Table<ckpt_ring_record> { table(CKPT_TABLE_RING, ckpt_ring_record.self) }
var groups: Table<UInt32> { table(CKPT_TABLE_GROUP, UInt32.self) }
var tree: UnsafeMutablePointer<ckpt_tree> { table(CKPT_TABLE_TREE, ckpt_tree.self)[0] }

/// A text of the BYTES table, by its offset; verified to be NUL-terminated.
func bytes(_ offset: UInt32) -> Text {
    let t: Table<CChar> = table(CKPT_TABLE_BYTES, CChar.self)
    return Text(t[Int(offset)])
}

var descriptionFd: Table<Int32> { Table(at: state.pointee.description_fd, count: UInt64(descriptions.count)) }
var objectFd: Table<Int32> { Table(at: state.pointee.object_fd, count: UInt64(objects.count)) }
var objectStaging: Table<UInt64> { Table(at: state.pointee.object_staging, count: UInt64(objects.count)) }
/// How many mappings of each object the process that is being made has.
var objectUses: Table<UInt32> { Table(at: state.pointee.uses, count: UInt64(objects.count)) }
var nodes: Table<BirthNode> { Table(at: state.pointee.nodes, count: state.pointee.node_count) }

/// Files that the template has compared already.
var seenFiles: Table<engine_seen> { Table(at: state.pointee.seen, count: UInt64(objects.count)) }
/// Where the keeper of a template holds each VMA's contents; 0: nowhere.
var images: Table<UInt64> { Table(at: state.pointee.images, count: UInt64(vmas.count)) }

/// The new pid of each node of the plan, on the board.
var nodePids: Table<Int32> { Table(at: state.pointee.scratch + boardSize, count: maximumNodes) }
/// How many stages each node has completed, on the board.
var nodeReached: Table<UInt32> { Table(at: state.pointee.scratch + boardSize + maximumNodes * 4, count: maximumNodes) }
/// Cleared by the kernel when a main thread that had left has left again, on the board.
var leaderGone: Table<UInt32> { Table(at: state.pointee.scratch + boardSize + maximumNodes * 8, count: UInt64(processes.count)) }
/// The new tid of each task, on the board.
var taskTids: Table<Int32> {
    Table(at: state.pointee.scratch + boardSize + maximumNodes * 8 + UInt64(processes.count) * 4, count: UInt64(tasks.count))
}
/// Set when a process is restored: its tasks may go on; on the board.
var processOpen: Table<UInt32> {
    Table(at: state.pointee.scratch + boardSize + maximumNodes * 8 + UInt64(processes.count + tasks.count) * 4, count: UInt64(processes.count))
}
let boardSize: UInt64 = 4096
/// Temporary leaders come on top of the processes.
var maximumNodes: UInt64 { UInt64(processes.count) * 3 + 4 }
/// Bytes of the board with its arrays.
var boardBytes: UInt64 { pageAlignUp(boardSize + maximumNodes * 8 + UInt64(processes.count * 2 + tasks.count) * 4) + pageAlignUp(UInt64(mounts.count) * 24) }

func length(_ t: Text) -> Int {
    var n = 0
    while t[n] != 0 { n &+= 1 }
    return n
}
func equal(_ a: Text, _ b: Text) -> Bool {
    var i = 0
    while a[i] == b[i] { if a[i] == 0 { return true }; i &+= 1 }
    return false
}
func equal(_ a: Text, to b: StaticString) -> Bool { equal(a, b.cString) }
func hasPrefix(_ t: Text, _ prefix: Text) -> Bool {
    var i = 0
    while prefix[i] != 0 { if t[i] != prefix[i] { return false }; i &+= 1 }
    return true
}
func hasSuffix(_ t: Text, _ suffix: StaticString) -> Bool {
    let n = length(t), m = suffix.utf8CodeUnitCount
    return n >= m && equal(t + (n - m), suffix.cString)
}
/// Copies a text with its NUL; false when it does not fit.
func copyText(_ from: Text, to: UnsafeMutablePointer<CChar>, capacity: Int) -> Bool {
    var i = 0
    while i < capacity { to[i] = from[i]; if from[i] == 0 { return true }; i &+= 1 }
    if capacity > 0 { to[capacity - 1] = 0 }
    return false
}

/// A kernel structure seen through its bytes.
@inline(__always) func field<T>(_ p: UnsafeRawPointer, _ offset: Int, _ type: T.Type) -> T { p.loadUnaligned(fromByteOffset: offset, as: type) }

@inline(__always) @discardableResult
func system(_ n: Int, _ a: Int = 0, _ b: Int = 0, _ c: Int = 0, _ d: Int = 0, _ e: Int = 0, _ f: Int = 0) -> Int { ckpt_syscall(n, a, b, c, d, e, f) }
@inline(__always) func failed(_ r: Int) -> Bool { r < 0 && r > -4096 }
@inline(__always) func int(_ p: UnsafeRawPointer) -> Int { Int(bitPattern: p) }
@inline(__always) func int(_ v: UInt64) -> Int { Int(bitPattern: UInt(v)) }
