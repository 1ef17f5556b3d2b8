// A mount namespace of the whole tree: what it has more than the one that the tree was started in.  Binds, tmpfs and proc are mounted again before there is a
// tree; where there is more it is made as that of a part (PartMounts.swift).
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

extension Operation {
    /// Of the whole tree.  false: there is more than this, or it is not known what it was made from.
    func lookAtMounts(_ n: inout ObservedNamespace, _ view: Int32, _ tree: ObservedTree) throws(SystemError) -> Bool {
        let outer = ckpt_session_namespaces(segment.pointer)[Int(CKPT_NAMESPACE_MOUNT.rawValue) - 1]
        // Somebody who is where the tree was started: one of it, or we.
        let there = tree.live.first { $0.namespace("mnt") == outer }?.view ?? Kernel.processID
        guard Namespace.number(there, "mnt") == outer else { return false }
        let ours = try Mount.all(of: "\(there)")
        var missing = ours, extra: [Mount] = [], made: [ObservedMount] = []
        for m in try Mount.all(of: "\(view)") {
            guard let k = missing.firstIndex(where: { $0.isSame(as: m) }) else { extra.append(m); continue }
            if missing[k].flags != m.flags { return false }
            missing.remove(at: k)
        }
        if !missing.isEmpty { return false }
        for (i, m) in extra.enumerated() {
            if m.type == "proc" && m.root == "/" {
                // Only the last at one place is seen.
                if extra[(i + 1)...].contains(where: { $0.point == m.point && $0.type == m.type }) { continue }
                let shown = Namespace.number(at: "/proc/\(view)/root\(m.point)/1/ns/pid")
                if let shown, tree.pidNamespaces.contains(where: { $0.number == shown }) {
                    made.append(ObservedMount(kind: CKPT_MOUNT_PROC, source: "", target: m.point, flags: m.flags, options: "", pids: shown))
                    continue
                }
                if m.point == "/proc" { continue }      // a restart gives it the right one
            }
            guard let r = try record(m, ours, extra, view, tree) else { return false }
            made.append(r)
        }
        n.mounts = made
        return true
    }

    private func record(_ m: Mount, _ ours: [Mount], _ others: [Mount], _ view: Int32, _ tree: ObservedTree) throws(SystemError) -> ObservedMount? {
        let there = "/proc/\(view)/root\(m.point)"
        guard let seen = try? Path.status(there) else { return nil }
        for o in ours where o.device == m.device {
            guard let source = o.path(showing: m.root), let s = try? Path.status(source), s.inodeNumber == seen.inodeNumber, s.deviceNumber == seen.deviceNumber else { continue }
            return ObservedMount(kind: CKPT_MOUNT_BIND, source: source, target: m.point, flags: m.flags, options: "")
        }
        guard m.type == "tmpfs", m.root == "/", !m.superOptions.contains("ro"), !others.contains(where: { $0.device == m.device && $0.point != m.point }) else { return nil }
        var r = ObservedMount(kind: CKPT_MOUNT_TMPFS, source: m.source, target: m.point, flags: m.flags, options: m.superOptions.filter { $0 != "rw" && $0 != "ro" }.map(inside).joined(separator: ","))
        var isRefused = false
        r.contents = try TmpfsContents(there, tree, refuse: { _, _ in isRefused = true })
        return isRefused ? nil : r
    }

    /// Its owner, as it shows in the tree's own user namespace.
    func inside(_ option: String) -> String {
        // The kernel shows them as they are in the first user namespace.
        guard let own = ownUsers ?? Operation.usersHere else { return option }
        if option.hasPrefix("uid="), let id = UInt32(option.dropFirst(4)) { return "uid=\(own.user(id))" }
        if option.hasPrefix("gid="), let id = UInt32(option.dropFirst(4)) { return "gid=\(own.group(id))" }
        return option
    }

    /// nil: we are in the first one.
    static let usersHere: IdMaps? = {
        func ranges(_ name: String) -> [IdMaps.Range] { IdMaps.ranges((try? Path.text("/proc/self/" + name)) ?? "") }
        let maps = IdMaps(users: ranges("uid_map"), groups: ranges("gid_map"), deniesGroups: false, creator: (0, 0))
        return maps.users.count == 1 && maps.users[0].count == UInt32.max ? nil : maps
    }()

    /// Paths are looked up where the tree looks them up.
    func enterWholeMounts(_ tree: ObservedTree) -> MountVisit? {
        tree.namespaces.first { $0.isWhole && $0.kind == CKPT_NAMESPACE_MOUNT && !$0.mounts.isEmpty }.map { MountVisit($0.sample.view) }
    }
}

struct ObservedMount { var kind: ckpt_mount_kind, source: String, target: String, flags: UInt32, options: String, pids: UInt32 = 0, contents: TmpfsContents? = nil, offsets: [UInt64] = [], part: PartMount? = nil }
