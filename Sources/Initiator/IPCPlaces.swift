// In which IPC namespace System V objects and POSIX message queues are: the tree's, or one that only a part of the tree lives in.  That one is the tree's
// alone, with all that is in it.  Ids and names are a namespace's own.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

/// One of them, and who of the tree lives there.
struct IPCPlace {
    var number: UInt32                  // of a part; 0: the tree's
    var members: [Int]                  // indices of processes
    // A part's: the pid namespace furthest in, in which its objects are made again, and who sees pids as that shows them.
    var pids: UInt32 = 0, viewers: [Int]
    var owner: UInt32 = 0               // of a part's: the user namespace that it belongs to
}

extension ObservedTree {
    /// Where each process lives; before anybody looks at objects.  `started`: where the tree was started, 0: unknown.
    func placeIPC(_ started: UInt32) {
        let numbers = live.map { $0.namespace("ipc") ?? 0 }
        guard Set(numbers).count > 1 else { return }
        let outer = started != 0 ? started : processes[root].namespace("ipc") ?? 0
        for (p, n) in zip(live, numbers) where n != outer { p.ipc = n }
    }

    var ipcPlaces: [IPCPlace] {
        let all = Dictionary(grouping: processes.indices.filter { !processes[$0].isZombie }) { processes[$0].ipc }
        return all.sorted { $0.key < $1.key }.map { number, members in
            var place = IPCPlace(number: number, members: members, viewers: members)
            guard number != 0 else { return place }
            place.pids = members.map { processes[$0].pids }.max { (depth(of: $0) ?? 0) < (depth(of: $1) ?? 0) } ?? 0
            place.viewers = members.filter { processes[$0].pids == place.pids }
            place.owner = (try? Namespace.owner("/proc/\(processes[members[0]].view)/ns/ipc")) ?? 0
            return place
        }
    }
    /// The place of a part in the list of namespaces.
    func ipcIndex(_ number: UInt32) -> Int? { number == 0 ? nil : namespaces.firstIndex { $0.kind == CKPT_NAMESPACE_IPC && $0.number == number } }

    /// Who lists the objects of a place, and reads one that is somebody's: best one who may read all.
    func lister(_ place: IPCPlace) -> Int {
        place.number == 0 ? place.members.first { processes[$0].effectiveUser == 0 } ?? place.members[0] : place.viewers.first { rules(place, $0) } ?? place.viewers[0]
    }
    func reader(of permission: ckpt_ipc_permission, _ place: IPCPlace) -> Int {
        func isOwner(_ user: UInt32?) -> Bool { user == permission.uid || user == permission.cuid }
        if place.number == 0 { return place.members.first { processes[$0].effectiveUser == 0 } ?? place.members.first { isOwner(processes[$0].effectiveUser) } ?? place.members[0] }
        return place.viewers.first { rules(place, $0) } ?? place.viewers.first { isOwner(ownUser(processes[$0])) } ?? place.viewers[0]
    }
    private func rules(_ place: IPCPlace, _ i: Int) -> Bool {
        let ipcOwner: UInt64 = 1 << 15
        return processes[i].status.hex("CapEff") & ipcOwner != 0 && processes[i].namespace("user") == place.owner
    }

    /// Pids that do not show further in can't be made again there.
    func refuseUnseen(_ o: ObservedIPC, _ place: IPCPlace) {
        if place.pids == 0 { return }
        func refuse(_ what: String, _ remedy: String) { refusals.add(pid: processes[place.viewers[0]].pid, "\(o.name): in an ipc namespace of a part of the tree, \(what)", remedy) }
        let chain = Set(chain(of: place.pids) + [0])
        if !place.members.allSatisfy({ chain.contains(processes[$0].pids) }) { refuse("whose processes live in pid namespaces of which none contains the other", "start ckrun inside of the namespace") }
        let isHidden = switch o.kind {
        case CKPT_IPC_SEGMENT: o.creator == 0
        case CKPT_IPC_SEMAPHORES: zip(o.values, o.lastPids).contains { $0.0 != 0 && $0.1 == 0 }
        default: o.pids.contains { $0.pid == 0 }
        }
        if isHidden { refuse("by a process further out than the pid namespace in which others use it", "make and use it inside of the pid namespace") }
    }
}

extension Operation {
    /// Asks what is in its namespace only where something may be.
    func mayHaveSystemV(_ tree: ObservedTree, _ place: IPCPlace) -> Bool {
        if place.number != 0 { return place.members.contains { segment.process(tree.processes[$0].slot).pointee.ipc_objects != 0 } }
        // A tree that has never asked for any costs nobody a phase; nor does an empty list, where we are in the tree's IPC namespace.
        guard ckpt_asked_for_ipc(segment.pointer) || place.members.contains(where: { tree.processes[$0].mappings.contains(where: \.isSegment) }) else { return false }
        guard let ours = try? Path.link("/proc/self/ns/ipc"), (try? Path.link("/proc/\(tree.processes[place.members[0]].view)/ns/ipc")) == ours else { return true }
        return ["shm", "sem", "msg"].contains { ((try? Path.text("/proc/sysvipc/\($0)"))?.split(separator: "\n").count ?? 2) > 1 }
    }

    /// A queue stays where it was made, whoever has it; its device is its namespace's.
    func placeQueues(_ tree: ObservedTree, _ refusals: Refusals) {
        let places = tree.ipcPlaces
        var devices: [UInt64: UInt32] = [:], isSure = true
        for place in places {
            let path = "/proc/\(tree.processes[place.members[0]].view)/ns/ipc"
            if let device = Namespace.queuesDevice(path) { devices[device] = place.number } else if place.number == 0 { isSure = false } else {
                refusals.add(pid: tree.processes[place.members[0]].pid, "its ipc namespace can't be looked at", "run ckptctl as root, or start ckrun inside of the namespace")
            }
        }
        for i in tree.queues.indices {
            let q = tree.queues[i]
            if let number = devices[q.device] { tree.queues[i].place = number } else if isSure {
                refusals.add(pid: tree.processes[q.holder].pid, fd: q.number, "\(q.link): POSIX message queue of an ipc namespace in which nobody of the tree lives", "close it before the checkpoint, or keep a process there")
            }
        }
    }
}

extension SystemContent {
    /// 1 + NAMESPACE of a part; 0: the tree's.
    func ipcRecord(_ number: UInt32) -> UInt32 { tree.ipcIndex(number).map { UInt32($0) + 1 } ?? 0 }

    /// The pid namespace in which a part's objects are made, whose first process must be able to go there.
    func pidsRecord(of o: ObservedIPC) -> UInt32 {
        guard o.viewedFrom != 0, let pids = tree.namespaces.firstIndex(where: { $0.kind == CKPT_NAMESPACE_PID && $0.number == o.viewedFrom }), let place = tree.ipcIndex(o.place) else { return 0 }
        func part(_ i: Int) -> Int? { tree.namespaces[i].owner.flatMap { tree.isWhole($0) ? nil : $0 } }
        if part(pids) != part(place) {
            refusals.add(pid: tree.processes[o.reader].pid, "\(o.name): its ipc namespace and the pid namespace in which it is used belong to different user namespaces", "start ckrun inside of the namespace")
        }
        return UInt32(pids) + 1
    }

    /// What a process calls somebody, as the tree does.
    func inTree(_ p: ObservedProcess, _ user: UInt32, _ group: UInt32) -> (UInt32, UInt32) {
        guard let i = p.namespaces[CKPT_NAMESPACE_USER.rawValue], let maps = tree.namespaces[i].users else { return (user, group) }
        return ownUsers.inside(maps.outerUser(user), maps.outerGroup(group))
    }
}
