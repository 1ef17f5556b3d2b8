// In which mount namespace a file of the tree has its path: its mount says, since a process may hold files of others.  Paths are looked up there.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

extension ObservedTree {
    func isPart(_ namespace: Int?) -> Bool { namespace.map { n in parts.contains { $0.namespace == n } } ?? false }
    /// 1 + the namespace of a part; 0: it is where the tree was started.  nil: the mount is in none of them.
    func place(ofMount id: Int32?) -> UInt32? {
        guard let id, let surroundings else { return 0 }
        if surroundings.mounts.contains(where: { $0.id == id }) || mountsOutside.contains(id) { return 0 }
        return parts.first { $0.mounts.contains { $0.id == id } }.map { UInt32($0.namespace + 1) }
    }
    /// What a restart in namespaces of its own has opened before: our mounts, and those of whoever the tree is a child of.
    func findMountsOutside() -> Set<Int32> {
        var all: Set<Int32> = []
        for process in ["self", "\(processes[root].stat.parent)"] { all.formUnion(((try? Mount.all(of: process)) ?? []).map(\.id)) }
        for p in live where part(place(of: p)) == nil { all.formUnion(((try? Mount.all(of: "\(p.stat.parent)")) ?? []).map(\.id)) }
        return all.subtracting(parts.flatMap(\.mounts).map(\.id))
    }
    func place(of p: ObservedProcess) -> UInt32 { p.namespaces[CKPT_NAMESPACE_MOUNT.rawValue].map { isPart($0) ? UInt32($0 + 1) : 0 } ?? 0 }
    func part(_ place: UInt32) -> PartMounts? { parts.first { $0.namespace + 1 == Int(place) } }
    func mount(_ place: MountPlace) -> ObservedMount? { namespaces.indices.contains(place.namespace) ? namespaces[place.namespace].mounts[place.mount] : nil }
    /// How a mount of a part is made again; nil: it is not one of a part's.
    func mount(_ id: Int32?) -> ObservedMount? {
        guard let id else { return nil }
        for p in parts { if let i = p.mounts.firstIndex(where: { $0.id == id }) { return namespaces[p.namespace].mounts[i] } }
        return nil
    }
}

extension SystemContent {
    /// Runs `body` where paths are those of that place, and what it adds has them there.
    func within<R>(_ place: UInt32, _ body: () -> R) -> R {
        let before = self.place
        self.place = place
        defer { self.place = before }
        return MountVisit.within(tree.part(place)?.view, body)
    }

    /// A file or folder in a mount that was unmounted while it was in use, as the root is that a container has left behind: the same mount is still there outside.
    func detachedObject(_ kind: ckpt_object_kind, _ link: String, _ s: StatBuffer, _ mount: Int32?, _ p: ObservedProcess?, fd: Int32?) -> UInt32? {
        guard let p, let around = tree.surroundings, tree.place(ofMount: mount) == nil, tree.place(of: p) != 0 else { return nil }
        let own = tree.place(of: p), apart: UInt32 = 1 << 16
        for o in around.mounts where o.root == "/" && o.deviceNumber == Path.deviceWord(s.deviceNumber) {
            let path = o.point == "/" ? link : o.point + link
            guard Path.mount(ofPath: path, in: around.view) == o.id, (try? Path.statusOfName(Path.of(path, in: around.view)))?.inodeNumber == s.inodeNumber else { continue }
            if let trusted = tree.trustedUsers, o.point != "/", trusted.mayBeExchanged(o.point, of: around.view, links: false, to: .file) {
                refusals.add(pid: p.pid, fd: fd, "\(path): in a mount that was unmounted while it was in use, and another user may exchange \(o.point), where it is mounted outside", "mount it in a folder that only root may change")
            }
            let before = place
            place = own | apart         // not the same that its own mounts show
            defer { place = before }
            guard let object = MountVisit.within(around.view, { objectByPath(kind, path, device: s.deviceNumber, inode: s.inodeNumber, mapped: false, pid: p.pid, fd: fd) }) else { return nil }
            tables.objects[Int(object)].mounts = own
            tables.objects[Int(object)].flags |= CKPT_OBJECT_DETACHED.rawValue
            tables.objects[Int(object)].detail = tables.text(o.point)
            return object
        }
        return nil
    }

    /// A file that a process has by a descriptor or another link in /proc, which leads to it whatever its path; nil: refused.
    func placeOfOpen(_ link: String, _ mount: Int32?, _ pid: Int32, _ fd: Int32?) -> UInt32? {
        if tree.parts.isEmpty { return 0 }
        // Where the tree was started the path is enough.
        let isOutside = live.first { $0.pid == pid || $0.view == pid }.map { tree.place(of: $0) } == 0
        guard let place = tree.place(ofMount: mount) ?? (isOutside ? 0 : nil) else {
            refusals.add(pid: pid, fd: fd, "\(link): it lies in a mount that none of the tree's mnt namespaces has any more", "close it, or unmount after it was closed")
            return nil
        }
        if place != 0 && isSharedWithOutside(mount, link) != nil { return 0 }
        return place
    }

    /// POSIX shared memory that the tree was started with, seen from a part: it comes back where it is.
    private func isSharedWithOutside(_ mount: Int32?, _ path: String) -> String? {
        guard let m = tree.mount(mount), m.kind == CKPT_MOUNT_INHERITED, isSharedMemory(path) else { return nil }
        return path
    }

    /// Is it in a file system that only the tree has?
    func isOwn(_ path: String, _ place: UInt32) -> Bool {
        tree.mount(within(place) { Path.mount(of: path) })?.kind == CKPT_MOUNT_NEW
    }

    /// A mapped file: whose mount it is only root can ask; else the same file under that path, first where the process lives.
    func place(of m: ProcMapping, _ p: ObservedProcess) -> UInt32 {
        if tree.parts.isEmpty || m.inode == 0 || !m.name.hasPrefix("/") { return 0 }
        let key = MappedFile(name: m.name, device: m.device, inode: m.inode, home: tree.place(of: p))
        if let known = mappedPlaces[key] { return known }
        let range = String(m.start, radix: 16) + "-" + String(m.end, radix: 16)
        var found: UInt32?
        if let id = Path.mount(of: "/proc/\(p.view)/map_files/\(range)") { found = tree.place(ofMount: id) }
        let candidates = [key.home, 0] + tree.parts.map { UInt32($0.namespace + 1) }
        found = found ?? candidates.first { place in within(place) { isMapped(m, at: m.name) } }
        if let f = found, f != 0, isSharedMemory(m.name), let id = within(f, { Path.mount(of: m.name) }), isSharedWithOutside(id, m.name) != nil { found = 0 }
        mappedPlaces[key] = found ?? key.home
        return found ?? key.home
    }
    struct MappedFile: Hashable { var name: String, device: UInt64, inode: UInt64, home: UInt32 }

    /// The same number of a file on another file system is another file.
    func isMapped(_ m: ProcMapping, at path: String) -> Bool {
        guard let s = try? Path.status(path), s.inodeNumber == m.inode else { return false }
        if s.deviceNumber == m.device { return true }
        // btrfs and others show programs another device than the kernel has.
        guard let id = Path.mount(of: path), let mount = ((tree.surroundings?.mounts ?? []) + tree.parts.flatMap(\.mounts)).first(where: { $0.id == id }) else { return false }
        return mount.deviceNumber == Path.deviceWord(m.device)
    }

    /// Of a process in a part: its working folder and its root can only be in its own mounts.
    func refuseElsewhere(_ place: UInt32, _ p: ObservedProcess, _ what: String, _ path: String) -> Bool {
        if place == tree.place(of: p) { return false }
        refusals.add(pid: p.pid, "\(what) \(path) lies in another mnt namespace than its own", "let it change to a folder of its own namespace (chdir)")
        return true
    }
}
