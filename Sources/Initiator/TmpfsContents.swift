// What is in a tmpfs that only the tree sees: it is memory of the tree's, and comes back with it, below a size.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem
import Glibc

struct TmpfsContents {
    /// What may be in all files of one, and how many files.
    static let limit: UInt64 = 64 << 20, names = 20_000
    struct Entry { var path: String, place: String, status: stat, target = "", link: Int? = nil, gap: UInt32 = 0, after: UInt32 = 0, listing: UInt64 = 0 }
    private(set) var entries: [Entry] = []
    private var bytes: UInt64 = 0, views: [File] = []
    private let loud: LoudFiles, reading: FoldersInReading

    init(_ tree: ObservedTree) { loud = tree.loudFiles; reading = tree.foldersInReading }
    init(_ root: String, _ tree: ObservedTree, refuse: (String, String) -> Void) throws(SystemError) { self.init(tree); try walk(root, below: "", refuse) }

    /// What a mount shows of it: `folder` and all below.  The folders around that nobody sees.
    mutating func add(_ view: File, below folder: String, refuse: (String, String) -> Void) throws(SystemError) {
        views.append(view)
        let place = "/proc/self/fd/\(view.number)", names = folder.split(separator: "/").map(String.init)
        let s = try view.status()
        for k in names.indices {
            let path = names[..<k].joined(separator: "/")
            if entries.contains(where: { $0.path == path }) { continue }
            var around = stat()
            around.st_mode = mode_t(FileType.directory | 0o755); around.st_uid = s.st_uid; around.st_gid = s.st_gid; around.st_mtim = s.st_mtim; around.st_atim = s.st_atim
            entries.append(Entry(path: path, place: "", status: around))
        }
        try walk(place, below: names.joined(separator: "/"), refuse)
    }

    private mutating func walk(_ root: String, below prefix: String, _ refuse: (String, String) -> Void) throws(SystemError) {
        var first: [UInt64: Int] = [:], waiting = [(path: "", isHeard: false, gap: UInt32(0))]
        let device = try Path.status(root).deviceNumber
        reading.remade.insert(Path.deviceWord(device))
        while let (path, isHeard, gap) = waiting.popLast() {
            let place = path.isEmpty ? root : root + "/" + path, s = path.isEmpty ? try Path.status(root) : try Path.statusOfName(place)
            var e = Entry(path: prefix.isEmpty ? path : path.isEmpty ? prefix : prefix + "/" + path, place: place, status: s)
            let kind = UInt32(s.st_mode) & FileType.mask
            if s.deviceNumber != device { return refuse("\(path) is a mount in it", "unmount it") }
            let isLoud = loud.contains(s), isOpened = kind == FileType.directory || kind == 0o100000
            if isOpened && (isLoud || isHeard) { return refuse("the tree watches whether \(path.isEmpty ? "its root" : path) is opened (inotify), and a look into it would be told of", "let the program watch for changes only (IN_MODIFY, IN_CREATE, IN_DELETE, IN_MOVE)") }
            if let flags = Path.attributes(of: place), flags != 0 { return refuse("\(path.isEmpty ? "its root" : path) is immutable, append-only or not to be dumped (chattr)", "remove the attribute (chattr -i -a -d)") }
            if hasAttributes(place) { return refuse("\(path.isEmpty ? "its root" : path) has extended attributes", "remove them (setfattr)") }
            if kind != 0o040000, let known = first[s.inodeNumber] { e.link = known } else {
                first[s.inodeNumber] = entries.count
                if kind == 0o120000 { e.target = try Path.linkUnnoticed(place) }
                if kind == 0o100000 { bytes += UInt64(s.st_blocks) * 512 }
            }
            if bytes > Self.limit || entries.count >= Self.names {
                return refuse("there is more in it than \(Self.limit >> 20) MiB or \(Self.names) files", "move what is large to a folder outside")
            }
            e.gap = gap
            var names: [(name: String, gap: UInt32)] = []
            if kind == 0o040000 {
                let all = try Path.listing(of: place, unnoticed: true)
                names = all.filter { $0.name != "." && $0.name != ".." }.map { ($0.name, 0) }
                if let readers = reading.readers(of: s) {
                    let shown = path.isEmpty ? "its root" : path, ordered = reading.inOrder(all, readers)
                    let hasSocket = names.contains { n in (try? Path.statusOfName(place + "/" + n.name)).map { UInt32($0.st_mode) & FileType.mask == FileType.socket } ?? false }
                    if readers.isHalfWay {
                        if hasSocket { return refuse("\(shown) is a folder that the tree is reading, and has a socket's name in it: a restart could not go on there", "try again when it has been read or closed") }
                        if case .failure(let cause) = ordered { return refuse("\(shown) is a folder that the tree is reading, and \(cause.rawValue): a restart could not go on there", "try again when it has been read or closed") }
                        e.listing = FoldersInReading.digest(all)
                    }
                    if !hasSocket, case .success(let o) = ordered { (names, e.after) = (o.names, o.after) }
                }
            }
            entries.append(e)
            // The last is the first to be made.
            waiting += names.map { (path.isEmpty ? $0.name : path + "/" + $0.name, isLoud, $0.gap) }
        }
    }

    private func hasAttributes(_ path: String) -> Bool {
        let llistxattr = 195
        return (path.nameBytes + [0]).withUnsafeBufferPointer { ckpt_syscall(llistxattr, Int(bitPattern: $0.baseAddress!), 0, 0, 0, 0, 0) } > 0
    }
}

/// What an inotify queue of the tree watches being opened or read: whoever looks at it, or into it, is told of there.
struct LoudFiles {
    private struct Place: Hashable { var device: UInt64, inode: UInt64 }
    private var places: Set<Place> = []
    init(_ tree: ObservedTree) {
        for p in tree.live {
            for d in p.descriptors where d.isInotify {
                for w in (try? DescriptorInfo(p.view, d.number)).map(InotifyWatch.all) ?? [] where w.seesReaders { places.insert(Place(device: w.device, inode: w.inode)) }
            }
        }
    }
    func contains(_ s: stat) -> Bool { !places.isEmpty && places.contains(Place(device: Path.deviceWord(s.deviceNumber), inode: s.inodeNumber)) }
}

/// Folders of tmpfs that are open.  A position is a number that a name was given when it was made; those of names that are gone are not given again.  So a
/// folder that is made anew gets all of them in the same order, also those that are gone.
final class FoldersInReading {
    enum Obstacle: String, Error {
        case manyGone = "more than 65536 names in it are gone", replaced = "names in it were replaced by others (rename), which changed their order"
        case unknown = "it is not known how this kernel numbers names, since the sessions' folder is on no tmpfs"
    }
    struct Readers { var furthest: UInt64, isHalfWay: Bool }
    private static let limit: UInt64 = 65_536, end: UInt64 = 0x7fff_ffff        // has been read
    private struct Place: Hashable { var device: UInt64, inode: UInt64 }
    private enum Numbering { case unknown, counted, from(UInt64, descends: Bool) }       // counted: positions only count (before Linux 6.6)
    private var places: [Place: Readers] = [:]
    private var numbering = Numbering.unknown
    var remade: Set<UInt64> = []        // devices of those whose contents a restart makes again

    init(_ tree: ObservedTree, _ numbered: @autoclosure () -> FolderNumbering?) {
        for p in tree.live {
            for d in p.descriptors where d.mode & FileType.mask == FileType.directory && d.flags & SystemContent.pathOnly == 0 { add(d.device, d.inode, d.position) }
        }
        if !places.isEmpty, let n = numbered() { numbering = n.first.map { .from($0, descends: n.descends) } ?? .counted }
    }
    private func add(_ device: UInt64, _ inode: UInt64, _ position: UInt64) {
        let place = Place(device: Path.deviceWord(device), inode: inode), at = position == Self.end ? 0 : position, before = places[place]
        places[place] = Readers(furthest: max(at, before?.furthest ?? 0), isHalfWay: at != 0 || before?.isHalfWay ?? false)
    }
    func readers(of s: stat) -> Readers? { places.isEmpty ? nil : places[Place(device: Path.deviceWord(s.deviceNumber), inode: s.inodeNumber)] }

    /// The names, the last made first, each with how many were made before it and are gone; and how many after the last.
    func inOrder(_ all: [(name: String, position: UInt64, next: UInt64)], _ readers: Readers) -> Result<(names: [(name: String, gap: UInt32)], after: UInt32), Obstacle> {
        let at = all.filter { $0.name != "." && $0.name != ".." }
        var expected: UInt64
        let isDescending: Bool
        switch numbering {
        case .unknown: return .failure(.unknown)
        case .counted: return .success((at.map { ($0.name, 0) }, 0))
        case .from(let first, let descends): (expected, isDescending) = (first, descends)
        }
        let sorted = at.sorted { $0.position < $1.position }
        guard at.map(\.position) == (isDescending ? sorted.reversed() : sorted).map(\.position) else { return .failure(.replaced) }
        var ordered: [(name: String, gap: UInt32)] = [], gaps: UInt64 = 0
        for e in sorted {
            guard e.position >= expected, gaps + (e.position - expected) <= Self.limit else { return .failure(.manyGone) }
            ordered.append((e.name, UInt32(e.position - expected)))
            gaps += e.position - expected; expected = e.position + 1
        }
        let after = readers.furthest >= expected ? readers.furthest + 1 - expected : 0
        guard gaps + after <= Self.limit else { return .failure(.manyGone) }
        return .success((ordered.reversed(), UInt32(after)))
    }

    static func digest(_ all: [(name: String, position: UInt64, next: UInt64)]) -> UInt64 {
        var crc: UInt32 = 0
        for e in all {
            e.name.nameBytes.withUnsafeBytes { crc = ckpt_crc32c_hw(crc, $0.baseAddress!, $0.count) }
            withUnsafeBytes(of: e.next) { crc = ckpt_crc32c_hw(crc, $0.baseAddress!, $0.count) }
        }
        return 1 << 32 | UInt64(crc)
    }
}

/// How this kernel numbers the names of a folder of tmpfs: seen where one is made and another stays when it goes.  In the sessions' folder, which nobody else
/// looks into.
struct FolderNumbering {
    let first: UInt64?          // what the first name gets; nil: positions only count
    let descends: Bool          // the last made is listed first
    init?(in sessions: File) {
        guard let found = try? Path.withTemporaryFolder(in: sessions, Self.look) else { return nil }
        (first, descends) = (found.first, found.descends)
    }
    private init(first: UInt64?, descends: Bool) { self.first = first; self.descends = descends }
    private static func look(_ folder: String) -> FolderNumbering? {
        let names = ["/first", "/second"].map { folder + $0 }
        defer { for n in names { Path.remove(n) } }
        guard Path.fileSystem(of: folder) == Path.tmpfs else { return nil }
        func listed() -> [(name: String, position: UInt64, next: UInt64)] { ((try? Path.listing(of: folder, unnoticed: true)) ?? []).filter { $0.name == "first" || $0.name == "second" } }
        for n in names { _ = try? File(n, flags: O_CREAT | O_WRONLY, mode: 0o600) }
        let before = listed()
        Path.remove(names[0])
        guard let first = before.first(where: { $0.name == "first" }), let second = before.first(where: { $0.name == "second" }) else { return nil }
        return FolderNumbering(first: listed().first?.position == second.position ? first.position : nil, descends: before[0].name == "second")
    }
}

extension Operation {
    /// Before the call, if somebody has mounts of his own.
    func folderNumbering(_ census: Census) -> FolderNumbering? {
        let outer = ckpt_session_namespaces(segment.pointer)[Int(CKPT_NAMESPACE_MOUNT.rawValue) - 1]
        return census.processes.contains { Namespace.number($0.pid, "mnt") != outer } ? (try? segment.folder.open()).flatMap { FolderNumbering(in: $0) } : nil
    }

    /// While everybody stands still.
    func saveMounts(_ tree: ObservedTree, _ content: SystemContent, _ draft: Draft) throws(CheckpointFailure) {
        for n in tree.namespaces.indices {
            for m in tree.namespaces[n].mounts.indices {
                guard let c = tree.namespaces[n].mounts[m].contents else { continue }
                do throws(SystemError) { tree.namespaces[n].mounts[m].offsets = try store(c, draft) } catch {
                    throw CheckpointFailure([problem(.system, "mount \(tree.namespaces[n].mounts[m].target): \(error.text)", remedy: "free space, or choose another place with -o")])
                }
            }
        }
    }

    private func store(_ c: TmpfsContents, _ draft: Draft) throws(SystemError) -> [UInt64] {
        var offsets: [UInt64] = []
        for e in c.entries {
            guard e.link == nil, UInt32(e.status.st_mode) & FileType.mask == 0o100000, e.status.st_size > 0 else { offsets.append(0); continue }
            let file = try File(unnoticed: e.place), at = draft.claim(UInt64(e.status.st_size))
            for piece in try file.data(upTo: UInt64(e.status.st_size)) { try draft.copy(file, piece.offset, piece.size, at: at + piece.offset) }
            offsets.append(at)
        }
        return offsets
    }

    func entryRecords(_ m: ObservedMount, _ index: Int, _ tables: Tables) {
        let before = tables.entries.count
        for (i, e) in (m.contents?.entries ?? []).enumerated() {
            var r = ckpt_entry_record()
            let s = e.status
            r.mount = UInt32(index); r.mode = UInt32(s.st_mode)
            (r.uid, r.gid) = ownUsers.inside(s.st_uid, s.st_gid)
            r.path = tables.text(e.path); r.target = tables.text(e.target)
            r.link = e.link.map { UInt32(before + $0) + 1 } ?? 0
            r.rdev = UInt64(s.st_rdev); r.gap = e.gap; r.after = e.after; r.listing = e.listing
            if i < m.offsets.count && m.offsets[i] != 0 { r.size = UInt64(s.st_size); r.content = m.offsets[i] }
            r.accessed = ckpt_timespec(sec: Int64(s.st_atim.tv_sec), nsec: Int64(s.st_atim.tv_nsec))
            r.modified = ckpt_timespec(sec: Int64(s.st_mtim.tv_sec), nsec: Int64(s.st_mtim.tv_nsec))
            tables.entries.append(r)
        }
    }
}
