// System V IPC of another user's tree, as root sees it.  That its leaders see an object, and whose it is, are their own words: what belongs to nobody of the tree's
// is taken for what it is, an object outside.
import CkptABI
import CkptSession
import CkptSystem

/// sysvipc(5): who owns each object and who made it, in the namespace of a process.
struct KernelIPC {
    private var users: [UInt32: [Int32: (owner: UInt32, creator: UInt32)]] = [:]
    private let tree: Set<UInt32>

    init(seenBy pid: Int32, _ tree: ObservedTree) {
        self.tree = tree.live.users
        let files: [(kind: ckpt_ipc_kind, name: String, id: String)] = [(CKPT_IPC_SEGMENT, "shm", "shmid"), (CKPT_IPC_SEMAPHORES, "sem", "semid"), (CKPT_IPC_QUEUE, "msg", "msqid")]
        func read() -> [String] { files.map { (try? Path.text("/proc/sysvipc/\($0.name)")) ?? "" } }
        let isOurs = Namespace.number(pid, "ipc") == Namespace.number(Kernel.processID, "ipc")
        let texts = isOurs ? read() : (try? Namespace.inside("/proc/\(pid)/ns/ipc", Namespace.ipc, read)) ?? []
        for (file, text) in zip(files, texts) {
            let lines = text.split(separator: "\n").map { $0.split(separator: " ") }
            guard let heads = lines.first, let id = heads.firstIndex(of: file.id[...]), let owner = heads.firstIndex(of: "uid"), let creator = heads.firstIndex(of: "cuid") else { continue }
            for row in lines.dropFirst() where row.count == heads.count {
                guard let id = Int32(row[id]), let owner = UInt32(row[owner]), let creator = UInt32(row[creator]) else { continue }
                users[file.kind.rawValue, default: [:]][id] = (owner, creator)
            }
        }
    }
    func isTrees(_ o: ObservedIPC) -> Bool {
        guard let it = users[o.kind.rawValue]?[o.id] else { return false }
        return tree.contains(it.owner) && tree.contains(it.creator)
    }
}

extension [ObservedProcess] {
    /// The users of their tasks, as we see them.
    var users: Set<UInt32> { Set(flatMap { p in p.tasks.flatMap { t in t.status.numbers("Uid").map { UInt32($0) } } }) }
}
