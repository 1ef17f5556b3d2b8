// What the initiator knows of a stopped tree: read from /proc and from the slots that the tasks filled.  Values only; nothing here reads.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

struct ObservedTask {
    var tid: Int32                      // as the tree sees it, in the namespace where that was started
    var slotTid: Int32 = 0              // as it sees itself
    var view: Int32                     // as we see it
    var slot: Int
    var comm = ""
    var sched = ckpt_sched_attr()
    var affinity = [UInt64](repeating: 0, count: 16)
    var ioprio: UInt32 = 0
    var pendingMask: UInt64 = 0         // SigPnd
    var childrenPids: UInt32?, childrenTimes: UInt32?       // the namespaces where its children are born
    var status: ProcStatus
}

final class ObservedProcess {
    let pid: Int32                      // as we see it
    let startTime: UInt64
    var view: Int32                     // where /proc shows its memory and descriptors: its pid, or a thread's id when the main thread is gone
    var ownPid: Int32                   // as the tree sees it, in the namespace where that was started
    var slotPid: Int32 = 0              // as it sees itself
    var pids: UInt32 = 0                // its pid namespace, if it is one of the tree's own
    var ipc: UInt32 = 0                 // its IPC namespace, if it is one of a part of the tree
    var childrenPids = ObservedChildren.own
    var childrenTimes: Int?             // the time namespace of its children, in the tree's list, if it is another than its own
    var stat: ProcStat
    var status: ProcStatus
    var isZombie = false
    var isStopped = false
    var leaderIsGone = false
    var slot = -1                       // of the segment
    var tasks: [ObservedTask] = []
    var parent: Int? = nil              // index in the tree
    var innerLevels = 0                 // pid namespaces of the tree that it was born in, also when nobody lives there any more
    var group: Int32 = 0, terminalSession: Int32 = 0    // as the tree sees them; 0: outside
    var isOrphan = false
    var namespaces: [UInt32: Int] = [:]                 // by kind: its own, in the tree's list
    var namespaceNumbers: [String: UInt32] = [:]        // those that have been asked for, by name
    var uncollected: (code: Int32, signal: Int32) = (0, 0)      // what its parent has not collected yet: CLD_STOPPED or CLD_CONTINUED
    var mappings: [ProcMapping] = []
    var policies: [UInt64: ckpt_policy_query] = [:]     // by address; only mappings that have a memory policy
    var areMappingsProven = true                        // false: partly from before the call (EarlyMappings)
    var guards: [(start: UInt64, end: UInt64)] = []
    var descriptors: [ObservedDescriptor] = []
    var owners: [Int32: ckpt_owner_query] = [:]         // by descriptor; only those that have one
    var peers: [Int32: ckpt_owner_query] = [:]          // by descriptor: whom a socket shows as its peer
    var timers: [ObservedTimer] = []
    var timerQueries: ArenaArray<ckpt_timer_query>?     // one for each
    var ranges: ArenaArray<ckpt_range>?                 // what it is told to write
    var auxv: [UInt8] = [], commandLine: [UInt8] = []
    var exe = "", cwd = "", root = "/"
    var personality: UInt32 = 0, oomScoreAdj: Int32 = 0, coredumpFilter: UInt64 = 0
    var label = ""                      // of a security module
    var limits = [ckpt_rlimit](repeating: ckpt_rlimit(), count: 16)
    var sharedPendingMask: UInt64 = 0   // ShdPnd
    var queuedSignals: QueuedSignals?   // nil: nothing is pending, or its tasks have taken what was
    var hasTakenSignals = false
    var ringNotes: RingNotes?
    var ringContents: [UInt64: RingContents] = [:]      // of io_urings, by inode
    var contexts: [UInt64: AsynchronousRing] = [:]      // of asynchronous I/O, by address
    init(pid: Int32, startTime: UInt64, ownPid: Int32, stat: ProcStat, status: ProcStatus) {
        self.pid = pid; view = pid; self.startTime = startTime; self.ownPid = ownPid; self.stat = stat; self.status = status
    }
    var stillLives: Bool {
        guard !isZombie, let now = ProcStat(pid: pid) else { return false }
        return now.startTime == startTime && !now.isZombie
    }
}

struct ObservedLock { var kind: ckpt_lock_kind, isExclusive: Bool, start: UInt64, length: UInt64, isBreaking = false }

struct ObservedDescriptor {
    var number: Int32
    var link: String
    var mode: UInt32, device: UInt64, inode: UInt64, rdev: UInt64, size: UInt64, links: UInt64, uid: UInt32, gid: UInt32
    var modified: (seconds: Int64, nanoseconds: Int64)
    var flags: UInt32                   // as /proc/PID/fdinfo shows them
    var position: UInt64
    var locks: [ObservedLock]
    var mount: Int32 = 0                // its number in mountinfo
    var terminalIndex: Int32 = -1       // of a pseudo-terminal's master
    var closeOnExec: Bool { flags & 0o2000000 != 0 }
    var statusFlags: UInt32 { flags & ~0o2000000 }
    var canRead: Bool { flags & 3 != 1 }
    var canWrite: Bool { flags & 3 != 0 }
    /// O_PATH of a socket's file is a name, not a socket.
    var isSocket: Bool { mode & FileType.mask == FileType.socket && flags & SystemContent.pathOnly == 0 }
}

struct ObservedTimer { var id: Int32, signal: Int32, value: UInt64, notify: Int32, tid: Int32, clock: Int32 }

final class ObservedTree {
    lazy var loudFiles = LoudFiles(self)                // looked at once, in the pause
    lazy var foldersInReading = FoldersInReading(self, folderNumbering)
    var folderNumbering: FolderNumbering?
    lazy var trustedUsers = TrustedUsers(self)
    var processes: [ObservedProcess] = []
    lazy var owners = findOwners()
    var knownToBeOthers: Bool?
    lazy var ourUsers = Namespace.number(Kernel.processID, "user")      // the initiator's user namespace
    var root = 0
    var outerSession: Int32 = 0, outerGroup: Int32 = 0
    var namespaces: [ObservedNamespace] = []            // those that the tree was not started in
    var parts: [PartMounts] = [], surroundings: Surroundings?       // mount namespaces of parts, and what they are compared with
    lazy var mountsOutside = findMountsOutside()
    var systems: [String: MountPlace] = [:]             // file systems that only parts have, by device: the mount that makes each
    var pidNamespaces: [ObservedPidNamespace] = []      // outer ones first
    var numbers: Set<ObservedNumber> = []
    var autogroups: [Int32: Int32] = [:]                // nice values, by terminal session
    var terminals: [ObservedTerminal] = []              // the pseudo-terminals of the tree, and its own terminal
    var systemV: [ObservedIPC] = []
    var queues: [ObservedQueue] = []
    var ringGeneration: UInt32 = 0                      // of the checkpoint, as the runtime writes it into what it finds out
    var refusals = Refusals(session: "")
    var live: [ObservedProcess] { processes.filter { !$0.isZombie } }
}

/// Collects everything that stands in the way, so that the user is told once.
final class Refusals {
    private let session: String
    private(set) var problems: [Problem] = []
    init(session: String) { self.session = session }
    func add(pid: Int32, fd: Int32? = nil, _ what: String, _ remedy: String, status: ExitStatus = .refused) {
        var p = Problem(status, "checkpoint", object: session, remedy: remedy)
        p.cause = ["pid \(pid)"] + (fd.map { ["fd \($0)"] } ?? []) + [what]
        if !problems.contains(p) { problems.append(p) }
    }
    func check() throws(CheckpointFailure) { if !problems.isEmpty { throw CheckpointFailure(problems, passesSoon: problems.allSatisfy { $0.status == .temporary }) } }
}
