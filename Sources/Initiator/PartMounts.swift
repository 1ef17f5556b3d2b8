// The mounts of a mount namespace that only a part of the tree lives in: all of them, in their order.  What it has as the place that it was made in is inherited
// by a restart; what shows something of there is bound again; what only the tree has is made anew.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

/// A mount of a part, beside what every mount has.
struct PartMount {
    var id: Int32, device: String, parent: Int?, place: String, root: String, type: String
    var system: MountPlace?                     // NEW, PROC: the mount that makes its file system
    var shows = 0                               // 1 + the namespace of its message queues or network devices
    var propagation: UInt32, peers: Int32, master: Int32
    var outer: Mount?                           // INHERITED, BIND: what it was copied from
    var mode: UInt32 = 0, rdev: UInt64 = 0, owner: UInt32 = 0
    var line: String
    var isLate = false                          // it shows processes, or is on what does
}
struct MountPlace: Hashable { var namespace: Int, mount: Int }

/// One such namespace, for those who look up files in it.
struct PartMounts { var namespace: Int, view: Int32, mounts: [Mount] }

/// Where the tree was started, or where all of it lives.
struct Surroundings { var view: Int32, mounts: [Mount] }

extension Operation {
    func lookAtPartMounts(_ n: inout ObservedNamespace, _ tree: ObservedTree, _ refuse: (String, String) -> Void) throws(SystemError) {
        let around: Surroundings
        if let known = tree.surroundings { around = known } else {
            guard let view = surroundings(tree) else {
                return refuse("it lives in a mnt namespace of its own, which can only be compared with the one that it was started in", "run ckptctl where ckrun was started")
            }
            around = Surroundings(view: view, mounts: try Namespace.mounts(view))
            tree.surroundings = around
        }
        let mine = PartMounts(namespace: tree.namespaces.count, view: n.sample.view, mounts: try Namespace.mounts(n.sample.view)), all = MountTree(mine.mounts)
        let atMost = 4096           // of engine/MountTable
        if mine.mounts.count > atMost { return refuse("\(mine.mounts.count) mounts in a mnt namespace of a part of the tree, and \(atMost) at most can come back", "unmount some before the checkpoint") }
        // A copy of the one with which it has most in common.
        var source = around, inherited = all.common(with: MountTree(around.mounts))
        for p in tree.parts {
            let common = all.common(with: MountTree(p.mounts))
            if common.count > inherited.count { source = Surroundings(view: p.view, mounts: p.mounts); inherited = common; n.copiedFrom = p.namespace }
        }
        n.mounts = mine.mounts.indices.map { skeleton(mine.mounts[$0], mine, source) }
        for (i, o) in inherited { n.mounts[i].part!.outer = source.mounts[o] }
        for i in all.parentsFirst {
            let m = mine.mounts[i], parent = n.mounts[i].part!.parent
            // What shows processes comes last, in every namespace.
            let maker = tree.systems[m.device].map { $0.namespace == mine.namespace ? n.mounts[$0.mount].kind : tree.mount($0)?.kind }
            let isLate = maker == CKPT_MOUNT_PROC || parent.map { n.mounts[$0].part!.isLate } ?? false
            n.mounts[i].part!.isLate = isLate
            do throws(Unmakeable) { try classify(&n.mounts[i], m, inherited[i] != nil && !isLate, mine, source, n, tree) } catch {
                refuse("mount \(m.point) (\(m.type) \(m.source)) in a mnt namespace of a part of the tree: \(error.cause)", error.remedy)
            }
            if n.mounts[i].kind == CKPT_MOUNT_PROC { n.mounts[i].part!.isLate = true }
        }
        let stay = Set(mine.mounts.indices.filter { n.mounts[$0].kind == CKPT_MOUNT_INHERITED && inherited[$0] != nil })
        for i in mine.covered(inherited: stay) { n.mounts[i].part!.propagation |= CKPT_PROPAGATION_COVERED.rawValue }
        PropagationRules(mine, n.mounts, source.mounts).check { refuse("mount \(mine.mounts[$0].point) (\(mine.mounts[$0].type) \(mine.mounts[$0].source)) in a mnt namespace of a part of the tree: \($1.cause)", $1.remedy) }
        tree.parts.append(mine)
        try takeContents(&n, mine, tree, refuse)
    }

    private func surroundings(_ tree: ObservedTree) -> Int32? {
        if let whole = tree.namespaces.first(where: { $0.isWhole && $0.kind == CKPT_NAMESPACE_MOUNT }) { return whole.sample.view }
        let outer = ckpt_session_namespaces(segment.pointer)[Int(CKPT_NAMESPACE_MOUNT.rawValue) - 1]
        if let there = tree.live.first(where: { $0.namespace("mnt") == outer }) { return there.view }
        // Or we, or the engine that has restarted it.
        return [Kernel.processID, tree.processes[tree.root].stat.parent].first { Namespace.number($0, "mnt") == outer }
    }

    /// What every mount has.
    private func skeleton(_ m: Mount, _ mine: PartMounts, _ around: Surroundings) -> ObservedMount {
        let parent = mine.mounts.firstIndex { $0.id == m.parent && $0.id != m.id }
        let above = parent.map { mine.mounts[$0].point } ?? "/"
        var propagation: UInt32 = 0
        if let group = m.peers { propagation |= CKPT_PROPAGATION_SHARED.rawValue | (around.mounts.contains { $0.peers == group } ? CKPT_PROPAGATION_OUTSIDE.rawValue : 0) }
        if m.master != nil { propagation |= CKPT_PROPAGATION_SLAVE.rawValue }
        if m.propagation.contains("unbindable") { propagation |= CKPT_PROPAGATION_UNBINDABLE.rawValue }
        let shared = m.peers.flatMap { group in around.mounts.first { $0.peers == group && Mount.path(m.root, isBelow: $0.root) && Path.mount(ofPath: $0.point, in: around.view) == $0.id }?.point } ?? ""
        let part = PartMount(id: m.id, device: m.device, parent: parent, place: parent == nil || m.point == above ? "" : String(m.point.dropFirst(above == "/" ? 1 : above.utf8.count + 1)), root: m.root, type: m.type,
                             propagation: propagation, peers: m.peers ?? 0, master: m.master ?? 0, line: m.line(isOwn: false))
        return ObservedMount(kind: CKPT_MOUNT_INHERITED, source: "", target: m.point, flags: m.flags, options: shared, part: part)
    }

    private func classify(_ r: inout ObservedMount, _ m: Mount, _ isInherited: Bool, _ mine: PartMounts, _ around: Surroundings, _ n: ObservedNamespace, _ tree: ObservedTree) throws(Unmakeable) {
        if m.options.contains("idmapped") { throw Unmakeable("it shows its files with other owners (idmapped)", "mount it without a mapping of users") }
        if isInherited { return }
        if m.root.hasSuffix("//deleted") { throw Unmakeable("what it shows has been removed", "unmount it before the checkpoint") }
        let isLateOwn = r.part!.isLate && tree.systems[m.device] != nil
        if !isLateOwn, around.mounts.contains(where: { $0.device == m.device }) { return try bind(&r, m, mine, around, tree) }
        r.kind = CKPT_MOUNT_NEW
        r.source = m.source; r.options = m.superOptions.filter { !Self.shownOnly.contains($0) }.map(inside).joined(separator: ",")
        r.part!.line = m.line(isOwn: true)
        let place = MountPlace(namespace: mine.namespace, mount: mine.mounts.firstIndex { $0.id == m.id }!)
        let maker = tree.systems[m.device] ?? place
        if maker.namespace != mine.namespace && !r.part!.isLate { throw Unmakeable("it is in another mnt namespace of the tree too, of which this one is no copy", "mount it before the namespace is made (unshare)") }
        tree.systems[m.device] = maker
        r.part!.system = maker
        if maker != place {
            if maker.namespace == mine.namespace && mine.mounts[maker.mount].source != m.source { r.part!.line = m.line(isOwn: true, anySource: true) }
            return
        }
        if m.superOptions.contains("ro") && m.type == "tmpfs" { r.part!.propagation |= CKPT_PROPAGATION_READ_ONLY.rawValue }
        switch m.type {
        case "proc":
            guard let pids = pidsShown(by: m, mine, tree) else { throw Unmakeable("it shows a pid namespace that is not the tree's", "start ckrun inside of the namespace") }
            r.kind = CKPT_MOUNT_PROC; r.pids = pids
        case "mqueue":
            guard Namespace.queuesDevice("/proc/\(mine.view)/ns/ipc").map(Path.deviceWord) == m.deviceNumber else { throw Unmakeable("it shows message queues of another IPC namespace than its processes live in", "mount it inside of that namespace") }
            r.part!.shows = n.sample.namespaces[CKPT_NAMESPACE_IPC.rawValue].map { $0 + 1 } ?? 0
        case "sysfs": r.part!.shows = n.sample.namespaces[CKPT_NAMESPACE_NET.rawValue].map { $0 + 1 } ?? 0
        case "tmpfs", "devpts": break
        default: throw Unmakeable("a file system that only a part of the tree sees, and that can't be made again", "mount it before ckrun starts the program, or unmount it before the checkpoint")
        }
    }

    /// Set for a mount, or shown by the kernel without having been asked for.
    private static let shownOnly: Set<String> = ["rw", "ro", "seclabel"]

    private func bind(_ r: inout ObservedMount, _ m: Mount, _ mine: PartMounts, _ around: Surroundings, _ tree: ObservedTree) throws(Unmakeable) {
        for o in around.mounts.filter({ $0.device == m.device }).sorted(by: { a, b in a.source == m.source && b.source != m.source }) {
            guard let source = o.path(showing: m.root), Path.mount(ofPath: source, in: around.view) == o.id, let s = try? Path.statusOfName(Path.of(source, in: around.view)) else { continue }
            if Path.mount(ofPath: m.point, in: mine.view) == m.id, let seen = try? Path.statusOfName(Path.of(m.point, in: mine.view)), seen.inodeNumber != s.inodeNumber || seen.deviceNumber != s.deviceNumber { continue }
            if o.source != m.source {
                // What the kernel makes by itself is mounted from any word.
                if o.source.contains("/") || m.source.contains("/") { throw Unmakeable("it is mounted from \(m.source), which is mounted from \(o.source) where the tree was started", "mount it before ckrun starts the program, or bind it from there (mount --bind)") }
                r.part!.line = m.line(isOwn: false, anySource: true)
            }
            r.kind = CKPT_MOUNT_BIND; r.source = source; r.part!.outer = o
            r.part!.mode = UInt32(s.st_mode); r.part!.rdev = UInt64(s.st_rdev); r.part!.owner = ownUsers.inside(s.st_uid, s.st_gid).0
            if let trusted = tree.trustedUsers, trusted.mayBeExchanged(source, of: around.view, links: false, to: .file, owner: r.part!.owner) {
                throw Unmakeable("another user may exchange \(source), which it shows, or a folder of that path", "bind it from a folder that only root may change")
            }
            let major = UInt64(s.st_rdev) >> 8 & 0xfff
            if r.part!.mode & FileType.mask == FileType.character && major >= 136 && major <= 143 { throw Unmakeable("a terminal that is bound over a file", "start the program without a terminal (standard streams from and to files), or as a tree in mounts of its own that has its own terminal") }
            return
        }
        throw Unmakeable("what it shows can't be reached where the tree was started", "mount it from a folder that is seen there")
    }

    /// 0: that in which the tree was started.
    private func pidsShown(by m: Mount, _ mine: PartMounts, _ tree: ObservedTree) -> UInt32? {
        for other in mine.mounts where other.device == m.device && other.root == "/" && Path.mount(ofPath: other.point, in: mine.view) == other.id {
            let place = Path.of(other.point, in: mine.view)
            if let shown = Namespace.number(at: place + "/1/ns/pid"), tree.pidNamespaces.contains(where: { $0.number == shown }) { return shown }
            let main = tree.processes[tree.root]
            if let text = try? Path.contents("\(place)/\(main.ownPid)/stat"), let stat = ProcStat(text), stat.startTime == main.startTime { return 0 }
        }
        return nil
    }

    /// What lies over a mount, the uppermost first.
    private func covers(of m: Mount, _ mine: PartMounts) -> [String] {
        if Path.mount(ofPath: m.point, in: mine.view) == m.id { return [] }
        var under: Set<Int32> = [m.id], next = m
        while let above = mine.mounts.first(where: { $0.id == next.parent }), under.insert(above.id).inserted { next = above }
        return mine.mounts.reversed().filter { !under.contains($0.id) && Mount.path(m.point, isBelow: $0.point) }.map(\.point)
    }

    /// Of the tmpfs that are made for this namespace: each part of it that is seen, from the outside in.
    private func takeContents(_ n: inout ObservedNamespace, _ mine: PartMounts, _ tree: ObservedTree, _ refuse: (String, String) -> Void) throws(SystemError) {
        for (i, m) in mine.mounts.enumerated() where m.type == "tmpfs" && n.mounts[i].part?.system == MountPlace(namespace: mine.namespace, mount: i) {
            var contents = TmpfsContents(tree)
            let showing = mine.mounts.filter { $0.device == m.device }.sorted { $0.root.utf8.count < $1.root.utf8.count }
            var roots: [String] = []
            for s in showing where !roots.contains(where: { Mount.path(s.root, isBelow: $0) }) {
                let all = showing.filter { $0.root == s.root }
                let seen = all.first { Path.mount(ofPath: $0.point, in: mine.view) == $0.id } ?? s
                guard let view = try? Namespace.mount(at: seen.point, of: mine.view, under: covers(of: seen, mine), inCopy: m.propagation.contains("unbindable")), (try? view.status()).map({ Path.deviceWord($0.deviceNumber) }) == m.deviceNumber else {
                    refuse("mount \(m.point) (tmpfs \(m.source)) in a mnt namespace of a part of the tree: other mounts hide what is in it", "unmount these before the checkpoint"); continue
                }
                roots.append(s.root)
                try contents.add(view, below: s.root) { refuse("mount \(m.point) in a mnt namespace of a part of the tree: \($0)", $1) }
            }
            n.mounts[i].contents = contents
        }
    }
}

/// Why a mount can't come back.
struct Unmakeable: Error {
    let cause: String, remedy: String
    init(_ cause: String, _ remedy: String) { self.cause = cause; self.remedy = remedy }
}

extension Mount {
    /// What of its line a restart has to bring back: not the numbers, and only of its own file systems their options.
    func line(isOwn: Bool, anySource: Bool = false) -> String {
        let words = text.mount.split(separator: " ")
        return (type.hasPrefix("cgroup") ? "* \(words[1]) \(words[2])" : text.mount) + " - " + (anySource ? type + " *" : text.system) + (isOwn ? " " + text.superOptions : "")
    }
    static func path(_ path: String, isBelow folder: String) -> Bool { path == folder || folder == "/" || path.hasPrefix(folder + "/") }
}

extension Path {
    /// The mount that is seen at a path, for a process.
    static func mount(ofPath path: String, in view: Int32) -> Int32? { mount(of: of(path, in: view), follow: false) }
    /// A path without links, as that process has it.
    static func of(_ path: String, in view: Int32) -> String { "/proc/\(view)/root\(path)" }
}

/// Mounts, and what is mounted on each.
struct MountTree {
    let all: [Mount]
    private var children: [Int32: [Int]] = [:]
    init(_ all: [Mount]) {
        self.all = all
        for (i, m) in all.enumerated() where m.parent != m.id { children[m.parent, default: []].append(i) }
    }
    var parentsFirst: [Int] {
        var order = root.map { [$0] } ?? [], next = 0
        while next < order.count { order += children[all[order[next]].id] ?? []; next += 1 }
        return order
    }
    private var root: Int? {
        let ids = Set(all.map(\.id))
        return all.indices.first { !ids.contains(all[$0].parent) || all[$0].parent == all[$0].id }
    }
    private func place(_ i: Int, on parent: Int) -> Substring { all[i].point.dropFirst(all[parent].point == "/" ? 0 : all[parent].point.count) }

    /// From the root on, what both have: the same part of the same file system at the same place on the same mount.  By index here: the index there.
    func common(with other: MountTree) -> [Int: Int] {
        guard let mine = root, let its = other.root, all[mine].device == other.all[its].device, all[mine].root == other.all[its].root else { return [:] }
        var found = [mine: its], waiting = [(mine, its)]
        while let (a, b) = waiting.popLast() {
            var used: Set<Int> = []
            for c in children[all[a].id] ?? [] {
                guard let d = (other.children[other.all[b].id] ?? []).first(where: { d in
                    !used.contains(d) && all[c].device == other.all[d].device && all[c].root == other.all[d].root && all[c].type == other.all[d].type && all[c].source == other.all[d].source && place(c, on: a) == other.place(d, on: b)
                }) else { continue }
                used.insert(d)
                found[c] = d
                waiting.append((c, d))
            }
        }
        return found
    }
}

extension Operation {
    /// The records of a part's mounts, in their order.
    func mountRecord(_ m: ObservedMount, _ namespace: Int, _ starts: [Int], _ tree: ObservedTree, _ tables: Tables) -> ckpt_mount_record {
        var r = ckpt_mount_record()
        r.namespaces = UInt32(namespace); r.kind = m.kind.rawValue
        r.source = tables.text(m.source)
        if m.kind == CKPT_MOUNT_PROC { r.shows = pidIndex(m.pids, tree).map { UInt32($0) + 1 } ?? 0 }
        r.target = tables.text(m.target); r.options = tables.text(m.options); r.flags = m.flags
        r.parent = ckpt_no_index()
        guard let p = m.part else { return r }
        if let parent = p.parent { r.parent = UInt32(starts[namespace] + parent) }
        r.place = tables.text(p.place); r.root = tables.text(p.root); r.type = tables.text(p.type); r.line = tables.text(p.line)
        r.system = p.system.map { UInt32(starts[$0.namespace] + $0.mount) } ?? UInt32(tables.mounts.count)
        if m.kind != CKPT_MOUNT_PROC { r.shows = UInt32(p.shows) }
        r.propagation = p.propagation; r.peers = UInt32(bitPattern: p.peers); r.master = UInt32(bitPattern: p.master)
        r.mode = p.mode; r.rdev = p.rdev; r.owner = p.owner
        return r
    }
}
