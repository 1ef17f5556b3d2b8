// Namespaces that the tree has for itself, and its control groups.  What can't be made again of what they hold is refused by name.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

/// One namespace of the tree's own.
struct ObservedNamespace {
    var kind: ckpt_namespace_kind, number: UInt32, isWhole: Bool
    var sample: ObservedProcess
    var loopback = false
    var owner: Int?                             // the user namespace that it belongs to, in the tree's list; of a USER: the one around it
    var users: IdMaps?                          // USER
    var mounts: [ObservedMount] = []            // MOUNT
    var copiedFrom: Int?                        // MOUNT: another one of a part's
    var settings: [(path: String, value: String)] = []          // NET, IPC: other than in a new one
    var steps: [NetworkStep] = []               // NET
    var controlGroup = ""                       // CGROUP: its root
    var ahead = ClockOffsets()                  // TIME
}

private let kinds: [(kind: ckpt_namespace_kind, name: String)] = [
    (CKPT_NAMESPACE_UTS, "uts"), (CKPT_NAMESPACE_IPC, "ipc"), (CKPT_NAMESPACE_NET, "net"), (CKPT_NAMESPACE_CGROUP, "cgroup"), (CKPT_NAMESPACE_USER, "user"),
    (CKPT_NAMESPACE_MOUNT, "mnt"), (CKPT_NAMESPACE_PID, "pid"), (CKPT_NAMESPACE_TIME, "time"),
]

extension ObservedProcess {
    /// The number of one of its namespaces, by the name in /proc/PID/ns: read once, since it stands still.  nil: we may not know.
    func namespace(_ name: String) -> UInt32? {
        if let known = namespaceNumbers[name] { return known }
        let number = Namespace.number(view, name)
        namespaceNumbers[name] = number
        return number
    }
}

func kindName(_ kind: UInt32) -> String { kinds.first { $0.kind.rawValue == kind }?.name ?? "" }

extension Operation {
    /// Finds the namespaces that are not those the session was started in.
    func observeNamespaces(_ tree: ObservedTree) {
        guard tree.processes.indices.contains(tree.root), !tree.processes[tree.root].isZombie else { return }
        let root = tree.processes[tree.root]
        addUserNamespaces(tree, outerUsers != 0 ? outerUsers : root.namespace("user") ?? 0)
        addPidNamespaces(tree)          // mounts of /proc show one
        for (i, (kind, name)) in kinds.enumerated() where kind != CKPT_NAMESPACE_PID && kind != CKPT_NAMESPACE_USER {
            let started = ckpt_session_namespaces(segment.pointer)[i]
            let outer = started != 0 ? started : root.namespace(name) ?? 0
            var own: [UInt32: [ObservedProcess]] = [:]
            for p in tree.live { if let n = p.namespace(name), n != outer { own[n, default: []].append(p) } }
            // Outer ones first: what they have mounted may be in inner ones too.
            func depth(_ p: ObservedProcess) -> Int { kind == CKPT_NAMESPACE_MOUNT ? (try? Namespace.ownerFile("/proc/\(p.view)/ns/mnt")).flatMap { Namespace.chain($0, below: outerUsers)?.count } ?? 0 : 0 }
            for (number, members) in own.map({ ($0, $1, depth($1[0])) }).sorted(by: { ($0.2, $0.0) < ($1.2, $1.0) }).map({ ($0.0, $0.1) }) { add(kind, name, number, members, tree) }
        }
        observeChildrenTimes(tree)
        refuseBornInside(tree)
        if tree.namespaces.count > Int(CKPT_MAX_NAMESPACES) {
            tree.refusals.add(pid: root.pid, "the tree has \(tree.namespaces.count) namespaces of its own, more than \(CKPT_MAX_NAMESPACES)", "start its parts as sessions of their own")
        }
    }

    private func add(_ kind: ckpt_namespace_kind, _ name: String, _ number: UInt32, _ members: [ObservedProcess], _ tree: ObservedTree) {
        let isWhole = members.count == tree.live.count
        // The clocks go on from what the tree saw, in whatever namespace the restart has.
        if kind == CKPT_NAMESPACE_TIME && isWhole { return }
        var n = ObservedNamespace(kind: kind, number: number, isWhole: isWhole, sample: members[0])
        do throws(SystemError) {
            try look(&n, members, tree)
            for p in members { p.namespaces[kind.rawValue] = tree.namespaces.count }
            tree.namespaces.append(n)
        } catch {
            tree.refusals.add(pid: members[0].pid, "its \(name) namespace can't be looked at: \(error.call): \(error.text)", "run ckptctl as root, or start ckrun inside of the namespace")
        }
    }

    private func look(_ n: inout ObservedNamespace, _ members: [ObservedProcess], _ tree: ObservedTree) throws(SystemError) {
        let pid = members[0].pid, view = members[0].view
        func refuse(_ what: String, _ remedy: String) { tree.refusals.add(pid: pid, what, remedy) }
        // Whose it is decides who may make it again.
        n.owner = try owner("/proc/\(view)/ns/\(kindName(n.kind.rawValue))", members[0], tree)
        if n.isWhole ? !tree.isWhole(n.owner) : !tree.canMake(in: n.owner) { refuse("its \(kindName(n.kind.rawValue)) namespace belongs to a user namespace that the tree has left", "start ckrun inside of the namespace") }
        if n.kind == CKPT_NAMESPACE_UTS { return }
        if n.kind == CKPT_NAMESPACE_TIME { return lookAtClocks(&n, view, refuse) }
        if n.kind == CKPT_NAMESPACE_CGROUP { return try lookAtControlGroup(&n, members, refuse) }
        if n.kind == CKPT_NAMESPACE_MOUNT {
            if n.isWhole, try lookAtMounts(&n, view, tree) { return }
            // Made before there is a tree are binds, proc and tmpfs; everything else as for a part.
            n.isWhole = false
            return try lookAtPartMounts(&n, tree, refuse)
        }
        let isNetwork = n.kind == CKPT_NAMESPACE_NET, kind = isNetwork ? Namespace.net : Namespace.ipc, place = "/proc/\(view)/ns/\(kind.name)"
        let new = try newNamespaces.like(place, kind), fresh = new.settings
        let (own, writable, hasFilter) = try Namespace.inside(place, kind) {
            let own = NamespaceInside.look(kind)
            return (own, Set(own.settings.keys.filter { fresh[$0] != own.settings[$0] && Path.mayBeWritten($0) }), isNetwork && Namespace.hasPacketFilter())
        }
        let mine = own.settings
        for name in Set(fresh.keys).union(mine.keys).sorted() where fresh[name] != mine[name] {
            // The kernel hides some from all but the first user namespace.
            if n.owner != nil && mine[name] == nil { continue }
            if let value = mine[name], fresh[name] == nil, !writable.contains(name), value == fresh[Namespace.ofAnyDevice(name)] { continue }
            if let value = mine[name], value.utf8.count < 1000, writable.contains(name) { n.settings.append((name, value)); continue }
            refuse("\(name) is \(mine[name] ?? "not there") in its \(kind.name) namespace, in a new one it is \(fresh[name] ?? "not there")", "set it back")
        }
        if n.kind == CKPT_NAMESPACE_IPC { return }
        if hasFilter { refuse("its network namespace has rules of a packet filter", "start ckrun inside of the namespace") }
        if let network = try own.network?.get(), let fresh = try new.network?.get() { try lookAtNetwork(&n, network, fresh, place, tree, refuse) }
    }

    /// The control group that shows as "/" inside: what is left of a member's path outside without its path inside.
    private func lookAtControlGroup(_ n: inout ObservedNamespace, _ members: [ObservedProcess], _ refuse: (String, String) -> Void) throws(SystemError) {
        func group(_ view: Int32) -> String? {
            ((try? Path.text("/proc/\(view)/cgroup")) ?? "").split(separator: "\n").first { $0.hasPrefix("0::/") }.map { String($0.dropFirst(3)) }
        }
        let outside = members.map { group($0.view) }
        let inside = try Namespace.inside("/proc/\(members[0].view)/ns/cgroup", Namespace.cgroup) { members.map { group($0.view) } }
        for case (let o?, let i?) in zip(outside, inside) where !i.hasPrefix("/..") && !o.hasPrefix("/..") {
            if i == "/" { n.controlGroup = o } else if o.hasSuffix(i) { n.controlGroup = o == i ? "/" : String(o.dropLast(i.count)) }
        }
        if n.controlGroup.isEmpty { refuse("none of its cgroup namespace is inside of the control group that is its root", "move one there") }
    }

    /// Where writers connect; nil: here.
    func networks(_ tree: ObservedTree) -> [String?] {
        var seen: Set<UInt32> = []
        return tree.live.filter { p in p.namespace("net").map { seen.insert($0).inserted } == true }.map(\.networkElsewhere)
    }

    func namespaceRecords(_ tree: ObservedTree, _ tables: Tables) {
        let starts = tree.namespaces.reduce(into: [0]) { $0.append($0.last! + $1.mounts.count) }
        for n in tree.namespaces {
            var r = ckpt_namespace_record()
            r.kind = n.kind.rawValue
            take(n, &r, tree, tables)
            r.owner = tree.ownerRecord(n)
            r.flags |= (n.isWhole ? CKPT_NAMESPACE_WHOLE.rawValue : 0) | (n.loopback ? CKPT_NAMESPACE_LOOPBACK.rawValue : 0)
            if let from = n.copiedFrom { r.around = UInt32(from + 1) }
            let slot = segment.process(n.sample.slot)
            if n.kind == CKPT_NAMESPACE_PID { r.around = pidIndex(tree.pidNamespaces.first { $0.number == n.number }?.around ?? 0, tree).map { UInt32($0) + 1 } ?? 0 }
            r.host = tables.text(hostName(ckpt_process_host(slot))); r.domain = tables.text(hostName(ckpt_process_domain(slot)))
            if n.kind == CKPT_NAMESPACE_CGROUP { r.host = tables.text(n.controlGroup) }
            r.monotonic = n.ahead.monotonic; r.boottime = n.ahead.boottime
            take(n.steps, tree, tables)
            for s in n.settings {
                tables.settings.append(ckpt_setting_record(namespaces: UInt32(tables.namespaces.count), path: tables.text(s.path), value: tables.text(s.value), pad: 0))
            }
            for m in n.mounts {
                entryRecords(m, tables.mounts.count, tables)
                tables.mounts.append(mountRecord(m, tables.namespaces.count, starts, tree, tables))
            }
            tables.namespaces.append(r)
        }
        pidNumbers(tree, tables)
    }

    func takeNamespaces(_ p: ObservedProcess, _ r: inout ckpt_process_record, _ tree: ObservedTree, _ tables: Tables) {
        func index(_ kind: ckpt_namespace_kind) -> UInt8 { p.namespaces[kind.rawValue].map { UInt8($0 + 1) } ?? 0 }
        r.uts = index(CKPT_NAMESPACE_UTS); r.ipc = index(CKPT_NAMESPACE_IPC); r.net = index(CKPT_NAMESPACE_NET); r.mounts = index(CKPT_NAMESPACE_MOUNT); r.pids = index(CKPT_NAMESPACE_PID)
        if p.isZombie { return }
        r.children_pids = childrenPids(p, tree)
        r.users = index(CKPT_NAMESPACE_USER); r.cgroups = index(CKPT_NAMESPACE_CGROUP); r.times = index(CKPT_NAMESPACE_TIME); r.children_times = p.childrenTimes.map { UInt8($0 + 1) } ?? 0
        let lines = (try? Path.text("/proc/\(p.view)/cgroup"))?.split(separator: "\n") ?? []
        if let group = lines.first(where: { $0.hasPrefix("0::/") }) { r.cgroup = tables.text(String(group.dropFirst(3))) }
    }
}

/// As uname(2) gives it, at most 64 bytes, whether it ends there or not.
private func hostName(_ text: UnsafePointer<CChar>) -> String { String(name: UnsafeBufferPointer(start: text, count: 64).prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }) }
