// The paths of what inotify queues watch.  The kernel shows only inode and file handle; who may not open by handle has to look for the file.  It permits that
// to a user in namespaces of their own as well, but only for folders that belong to them, as all above must (may_decode_fh in fs/fhandle.c): never /etc.
// Paths are ours, whatever mounts the tree has: what is found must lie there for it, too.
// A look through a file system takes time: it is done before anybody is stopped, and in the pause what it found is only compared.
import CkptABI
import CkptSession
import CkptSystem

/// For all attempts of a checkpoint.
final class WatchedPlaces {
    private(set) var paths: [InotifyWatch.File: String] = [:]
    private var missed: Set<InotifyWatch.File> = []

    /// While the tree runs.
    func find(for processes: [CalledProcess]) {
        guard let tree = WatchingTree(processes) else { return }
        let look = WatchLook(near: tree.near, noisy: Set(tree.watches.filter(\.seesReaders).map(\.inode)), Mounts())
        var far: [InotifyWatch] = []
        for w in tree.watches where !missed.contains(w.file) && path(of: w, look.mounts) == nil {
            paths[w.file] = look.nearPath(w) ?? look.pathByHandle(w)
            if paths[w.file] == nil { far.append(w) }
        }
        if far.isEmpty { return }
        for (file, path) in look.search(for: far, everywhere: true) { paths[file] = path }
        missed.formUnion(far.map(\.file).filter { paths[$0] == nil })
    }

    /// Where it still is.
    func path(of w: InotifyWatch, _ mounts: Mounts) -> String? { paths[w.file].flatMap { w.matches($0, mounts) ? $0 : nil } }
}

/// What processes watch, and what they have open, run, and work in.  nil: they watch nothing.
private struct WatchingTree {
    var watches: [InotifyWatch] = [], near: [String] = []

    init?(_ processes: [CalledProcess]) {
        for p in processes {
            guard let stat = ProcStat(pid: p.pid) else { continue }
            let view = Proc.view(of: stat), base = "/proc/\(view)"
            for n in (try? Path.numbers(in: base + "/fd")) ?? [] {
                guard let link = try? Path.link("\(base)/fd/\(n)") else { continue }
                if link == ObservedDescriptor.inotifyLink { watches += (try? DescriptorInfo(view, n)).map(InotifyWatch.all) ?? [] } else { near.append(link) }
            }
            near += ["/cwd", "/exe"].compactMap { try? Path.link(base + $0) }
        }
        if watches.isEmpty { return nil }
    }
}

/// The ways to find a file by its watch.
struct WatchLook {
    let mounts: Mounts
    private let noisy: Set<UInt64>          // inodes of what the tree watches being read
    private let folders: [String]           // of what the tree has open, runs or works in
    private let near: [String]              // these, and all above
    private let nearByHandle: [[UInt8]: [String]]

    init(near paths: [String], noisy: Set<UInt64>, _ mounts: Mounts) {
        let named = Set(paths.filter { $0.hasPrefix("/") && !$0.hasSuffix(deletedMark) && !$0.hasPrefix("/proc/") })
        var all = named
        for var p in named { while p != "/" { p = Path.folder(of: p); if !all.insert(p).inserted { break } } }
        self.mounts = mounts
        self.noisy = noisy
        folders = Set(named.flatMap { [$0, Path.folder(of: $0)] }).filter { $0 != "/" && !$0.hasPrefix("/usr") && !$0.hasPrefix("/dev") }.sorted()
        near = all.sorted { $0.utf8.count > $1.utf8.count }
        nearByHandle = Dictionary(near.compactMap { p in FileHandle(of: mounts.outer(p)).map { ($0.bytes, [p]) } }, uniquingKeysWith: +)
    }

    func nearPath(_ w: InotifyWatch) -> String? { (w.hasHandle ? nearByHandle[w.handle] ?? [] : near).first { w.matches($0, mounts) } }

    /// open_by_handle_at(2) in the mounts of the file's system, where it is permitted.
    func pathByHandle(_ w: InotifyWatch) -> String? {
        for place in mounts.places(of: w.device) {
            if let path = FileHandle(w.handle)?.path(in: place), w.matches(path, mounts) { return path }
        }
        return nil
    }

    /// Not where the tree would notice.  In the pause only near what the tree has open.
    func search(for watches: [InotifyWatch], everywhere: Bool) -> [InotifyWatch.File: String] {
        let nearby = 50_000, all = 4_000_000, patience: UInt64 = 3_000_000_000, deadline = Kernel.clock(1) + patience
        let sought = Dictionary(grouping: watches, by: \.inode), devices = Set(watches.map(\.device))
        var found: [InotifyWatch.File: String] = [:], wanted = Set(sought.keys)
        func see(_ inode: UInt64, _ outer: String) -> Bool {
            let same = sought[inode] ?? [], path = mounts.inner(outer)
            for w in same where found[w.file] == nil && w.matches(path, mounts) { found[w.file] = path }
            return same.allSatisfy { found[$0.file] != nil }
        }
        var search = FolderSearch(shunning: noisy, edges: mounts.points.map(mounts.outer))
        search.look(below: folders.filter { devices.contains(mounts.device(at: $0)) }.map(mounts.outer), for: &wanted, entries: nearby, until: deadline, see)
        if !everywhere { return found }
        // The top of a file system is in no folder of it.
        let tops = devices.sorted().flatMap { mounts.tops(of: $0) }
        for w in watches where found[w.file] == nil { if let top = tops.first(where: { w.matches($0, mounts) }) { found[w.file] = top; _ = see(w.inode, mounts.outer(top)) } }
        wanted = wanted.filter { inode in !sought[inode]!.allSatisfy { found[$0.file] != nil } }
        search.look(below: tops.map(mounts.outer), for: &wanted, entries: all, until: deadline, see)
        return found
    }
}

/// Our mounts, or those of a part of the tree, as seen by a process there.
struct Mounts {
    private let list: [Mount], root: String
    init() { list = (try? Mount.all(of: "self")) ?? []; root = "" }
    init(of view: Int32) { list = (try? Mount.all(of: "\(view)")) ?? []; root = "/proc/\(view)/root" }
    init(of part: PartMounts) { list = part.mounts; root = "/proc/\(part.view)/root" }
    var isPart: Bool { !root.isEmpty }
    /// Where a path of theirs lies for us, and the other way round.
    func outer(_ path: String) -> String { root + path }
    func inner(_ path: String) -> String { String(path.dropFirst(root.count)) }
    func device(of id: Int32) -> UInt64? { list.first { $0.id == id }?.deviceNumber }
    /// 0: not known.
    func device(at path: String) -> UInt64 { Path.mount(of: outer(path), follow: false).flatMap { device(of: $0) } ?? 0 }
    func places(of device: UInt64) -> [String] { list.filter { $0.deviceNumber == device }.map { outer($0.point) } }
    var points: [String] { list.map(\.point) }
    /// Where all of a file system can be seen; else its parts.
    func tops(of device: UInt64) -> [String] {
        let seen = list.filter { $0.deviceNumber == device && Path.mount(of: outer($0.point), follow: false) == $0.id }, whole = seen.filter { $0.root == "/" }
        return (whole.isEmpty ? seen : [whole[0]]).map(\.point)
    }
}
