// The open file descriptions of the tree (open(2)): each once, whoever holds it.  A description's record has the index of its entry here.
import CkptABI
import CkptSession
import CkptSystem

/// One open file description and who holds it.
struct OpenFile {
    var sample: ObservedDescriptor          // one of the descriptors that lead to it …
    var samplePid: Int32                    // … and whose: /proc/samplePid/fd/number opens it
    var holders: [(process: Int, number: Int32)] = []
    var users: Set<Int> = []                // processes
    /// Holders that are no process (a message in flight): it is opened by the engine, before there is one.
    var heldOtherwise: UInt32 = 0
    var isWatched = false               // by an epoll instance
    var owner: ckpt_owner_query?
    var standard: Int32 = -1                // lowest of 0, 1, 2 at which anybody holds it
}

final class OpenFiles {
    private(set) var all: [OpenFile] = []
    private struct Key: Hashable { var link: String, device: UInt64, inode: UInt64, position: UInt64, flags: UInt32 }
    private struct Place: Hashable { var process: Int, number: Int32 }
    private var candidates: [Key: [Int]] = [:]
    private var places: [Place: Int] = [:]
    private var keys: [UInt64: [Key]] = [:]             // of candidates, by inode

    init() {}
    init(_ tree: ObservedTree) {
        for (i, p) in tree.processes.enumerated() {
            for d in p.descriptors {
                let at = index(of: d, pid: p.view)
                if all[at].holders.isEmpty { all[at].owner = p.owners[d.number] }
                places[Place(process: i, number: d.number)] = at
                all[at].holders.append((i, d.number))
                all[at].users.insert(i)
                if d.number <= 2 && (all[at].standard < 0 || d.number < all[at].standard) { all[at].standard = d.number }
            }
        }
        connectTerminals()
    }

    /// Descriptors that may be one description have the same inode, position and flags; kcmp(2) decides.
    private func index(of d: ObservedDescriptor, pid: Int32) -> Int {
        let key = Key(link: d.link, device: d.device, inode: d.inode, position: d.position, flags: d.statusFlags)
        // kcmp(2) orders them: a thousand descriptors that look alike are found by halves.
        var low = 0, high = candidates[key]?.count ?? 0
        while low < high {
            let middle = (low + high) / 2, c = candidates[key]![middle]
            switch try? Kernel.compare(pid, all[c].samplePid, .file, d.number, all[c].sample.number) {
            case 0: return c
            case 1: high = middle
            default: low = middle + 1
            }
        }
        all.append(OpenFile(sample: d, samplePid: pid))
        if candidates[key] == nil { keys[d.inode, default: []].append(key) }
        candidates[key, default: []].insert(all.count - 1, at: low)
        return all.count - 1
    }

    /// The description of this inode for which `order` says 0; 1: what is looked for comes after, 2: before, as kcmp(2) orders them.
    func search(inode: UInt64, _ order: (OpenFile) throws(SystemError) -> Int) throws(SystemError) -> Int? {
        for key in keys[inode] ?? [] {
            let group = candidates[key] ?? []
            var low = 0, high = group.count
            while low < high {
                let middle = (low + high) / 2
                switch try order(all[group[middle]]) {
                case 0: return group[middle]
                case 1: low = middle + 1
                default: high = middle
                }
            }
        }
        return nil
    }

    /// The description behind a descriptor of a process of the tree (by its index there).
    func description(process: Int, number: Int32) -> Int? { places[Place(process: process, number: number)] }

    /// The description behind a descriptor that something other than a process of the tree holds; it may be one that nobody else has.
    func hold(_ d: ObservedDescriptor, pid: Int32) -> Int {
        let at = index(of: d, pid: pid)
        all[at].heldOtherwise += 1
        return at
    }
    func watch(_ description: Int) { all[description].isWatched = true }
    /// Makes the engine open it, although a single process has it.
    func openInEngine(_ description: Int) { all[description].heldOtherwise += 1 }

    /// A terminal that is some task's standard stream is the restart's, at whatever other numbers it is open too.
    private func connectTerminals() {
        var standard: [UInt64: Int32] = [:]
        for f in all where f.standard >= 0 && isTerminal(f.sample) && f.sample.rdev != TerminalDevice.master && standard[f.sample.rdev] == nil { standard[f.sample.rdev] = f.standard }
        for i in all.indices where all[i].standard < 0 && isTerminal(all[i].sample) { all[i].standard = standard[all[i].sample.rdev] ?? -1 }
    }
}
