// What stands behind descriptors and mappings: each inode once (objects), each open file once (descriptions).  What can't be restored is refused here by name.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

final class SystemContent {
    let tables = Tables()
    var exe: [ObjectIdentifier: UInt32] = [:], cwd: [ObjectIdentifier: UInt32] = [:], root: [ObjectIdentifier: UInt32] = [:]
    var fdRange: [ObjectIdentifier: (first: Int, count: Int)] = [:]
    fileprivate var objectOf: [ObjectKey: UInt32] = [:]
    let tree: ObservedTree
    let segment: Segment
    let fetch: DescriptorFetch
    var refusals: Refusals { tree.refusals }
    let draft: Draft
    let options: CheckpointOptions
    var files = OpenFiles()
    var pipes = PipeEnds([])
    var observed = ObservedTree()
    var live: [ObservedProcess] { tree.live }
    var epollItems: [Int: (first: UInt32, count: UInt32)] = [:]       // by description: in WATCHED
    var watchedByEdge: Set<Int> = []                                   // descriptions
    var watchedPaths: [InotifyWatch.File: WatchedPath] = [:]                // of inotify's watches
    var noisyInodes: Set<UInt64> = []                                  // of files that an inotify queue of the tree sees read
    let unread = UnreadQueues()
    let watchedPlaces: WatchedPlaces                                    // found before the pause
    lazy var watchLook = makeWatchLook(mounts)
    var partLooks: [Int: WatchLook] = [:]                               // by namespace
    var mountsOfViews: [Int32: Mounts] = [:], nearFiles: [String: [UInt64: [String]]] = [:]      // by process; by folder
    lazy var livesElsewhere = tree.live.first.map { $0.namespace("mnt") != Namespace.number(Kernel.processID, "mnt") } ?? false
    var surveyedWatches: [InotifyWatch] = []
    var partSearches: [PartSystem: [InotifyWatch.File: String]] = [:]   // where those that no nearer look finds are
    lazy var mounts = Mounts()
    var place: UInt32 = 0                                               // where paths are looked up (FilePlaces.swift)
    var mappedPlaces: [MappedFile: UInt32] = [:]
    var lockHolders: [Int: (process: Int, number: Int32)] = [:]      // by description: whose descriptor its locks are set again through
    var survey: SocketSurvey
    var waitingClients: [WaitingClient] = []
    /// --kill: connections that end without a word once the statefile is complete: to the outside (no FIN), and in the tree (no TIME_WAIT).
    var silenced: [File] = [], abrupt: [File] = []
    var outside: [(socket: ObservedSocket, what: String)] = []          // TCP connections that may be repaired
    var ownUsers: IdMaps? { tree.ownUsers }
    init(_ tree: ObservedTree, _ draft: Draft, _ options: CheckpointOptions, _ segment: Segment, _ fetch: DescriptorFetch, _ watchedPlaces: WatchedPlaces) {
        self.watchedPlaces = watchedPlaces
        self.tree = tree; self.segment = segment; self.fetch = fetch; self.draft = draft; self.options = options; survey = SocketSurvey(OptionUndo(segment))
    }
}

struct ObjectKey: Hashable { var kind: UInt32, device: UInt64, inode: UInt64, path: String, place: UInt32 = 0 }

enum FileType {
    static let mask: UInt32 = 0o170000, regular: UInt32 = 0o100000, directory: UInt32 = 0o040000, character: UInt32 = 0o020000, block: UInt32 = 0o060000
    static let fifo: UInt32 = 0o010000, socket: UInt32 = 0o140000
}

extension SystemContent {
    /// The object of a path that must still lead to the same inode.
    func objectByPath(_ kind: ckpt_object_kind, _ path: String, device: UInt64, inode: UInt64, mapped: Bool, at m: ProcMapping? = nil, pid: Int32, fd: Int32?) -> UInt32? {
        let key = ObjectKey(kind: kind.rawValue, device: device, inode: inode, path: path, place: place)
        if let known = objectOf[key] { mark(known, mapped: mapped); return known }
        guard let s = try? Path.status(path) else {
            refusals.add(pid: pid, fd: fd, "\(path): it can't be reached by this path any more", "close it, or put the file back")
            return nil
        }
        guard s.inodeNumber == inode, kind == CKPT_OBJECT_DEVICE || mapped || s.deviceNumber == device else {
            refusals.add(pid: pid, fd: fd, "\(path): another file has taken its place", "close it, or put the file back")
            return nil
        }
        var o = record(kind, s, path)
        if mapped {
            let id = buildID(path, inode, pid, m)
            if !id.isEmpty { o.build_id = tables.blob(id); o.build_id_size = UInt32(id.count) }
        }
        let index = append(o, key)
        mark(index, mapped: mapped)
        return index
    }

    /// From where the file's beginning is mapped: opening it would show to those who watch it, and break a lease.
    private func buildID(_ path: String, _ inode: UInt64, _ pid: Int32, _ m: ProcMapping?) -> [UInt8] {
        if let p = tree.processes.first(where: { $0.pid == pid }), let m = m ?? p.mappings.first(where: { $0.inode == inode && $0.name == path }),
           m.offset == 0, m.protection & 1 != 0, let memory = try? File("/proc/\(p.view)/mem"), let id = Executable.buildID({ at, count in
               at + UInt64(count) <= m.end - m.start ? (try? memory.read(at: m.start + at, count: count)) : nil }) { return id }
        return Executable.buildID(path)
    }

    private func mark(_ index: UInt32, mapped: Bool) {
        let flag = mapped ? CKPT_OBJECT_MAPPED : CKPT_OBJECT_OPENED
        tables.objects[Int(index)].flags |= flag.rawValue
        let o = tables.objects[Int(index)]
        guard mapped, options.selfContained, o.kind == CKPT_OBJECT_REGULAR.rawValue, o.flags & CKPT_OBJECT_SELF_CONTAINED.rawValue == 0 else { return }
        let path = tables.text(at: o.path)
        do throws(SystemError) {
            let at = try within(o.mounts, { Result { () throws(SystemError) in try store(contentsOf: try openRecorded(path, o), size: o.size) } }).get()
            tables.objects[Int(index)].content = at; tables.objects[Int(index)].content_size = o.size
            tables.objects[Int(index)].flags |= CKPT_OBJECT_SELF_CONTAINED.rawValue
        } catch { refusals.add(pid: 0, "\(path): \(error.text)", "leave out --self-contained") }
    }

    /// The executable, the working directory and the root of a process.
    func addPlaces(_ p: ObservedProcess) {
        let key = ObjectIdentifier(p)
        func status(_ link: String) -> StatBuffer? { try? Path.status("/proc/\(p.view)/\(link)") }
        // Only where parts have mounts of their own does it matter in which one it lies.
        func mount(_ link: String) -> Int32? { tree.parts.isEmpty ? nil : Path.mount(of: "/proc/\(p.view)/\(link)") }
        if let s = status("exe"), let place = placeOfOpen(p.exe, mount("exe"), p.pid, nil) {
            exe[key] = within(place) { objectByPath(CKPT_OBJECT_REGULAR, p.exe, device: s.deviceNumber, inode: s.inodeNumber, mapped: true, pid: p.pid, fd: nil) }
        }
        if let s = status("cwd") {
            let mount = mount("cwd")
            if let left = detachedObject(CKPT_OBJECT_DIRECTORY, p.cwd, s, mount, p, fd: nil) { cwd[key] = left }
            else if let place = placeOfOpen(p.cwd, mount, p.pid, nil), !refuseElsewhere(place, p, "its working folder", p.cwd) {
                cwd[key] = within(place) {
                    s.st_nlink == 0 && p.cwd.hasSuffix(deletedMark) ? deletedFolder(p.cwd, device: s.deviceNumber, inode: s.inodeNumber, at: "/proc/\(p.view)/cwd", pid: p.pid, fd: nil)
                        : objectByPath(CKPT_OBJECT_DIRECTORY, p.cwd, device: s.deviceNumber, inode: s.inodeNumber, mapped: false, pid: p.pid, fd: nil)
                }
            }
        }
        if p.root != "/", let s = status("root"), let place = placeOfOpen(p.root, mount("root"), p.pid, nil), !refuseElsewhere(place, p, "its root folder", p.root) {
            root[key] = within(place) { objectByPath(CKPT_OBJECT_DIRECTORY, p.root, device: s.deviceNumber, inode: s.inodeNumber, mapped: false, pid: p.pid, fd: nil) }
        }
    }

    func record(_ kind: ckpt_object_kind, _ s: StatBuffer, _ path: String) -> ckpt_object_record {
        var o = ckpt_object_record()
        o.kind = kind.rawValue; o.mode = UInt32(s.st_mode); o.device = s.deviceNumber; o.inode = s.inodeNumber; o.rdev = UInt64(s.st_rdev)
        o.size = UInt64(s.st_size); o.mtime_sec = Int64(s.st_mtim.tv_sec); o.mtime_nsec = Int64(s.st_mtim.tv_nsec)
        o.path = tables.text(path); (o.uid, o.gid) = ownUsers.inside(s.st_uid, s.st_gid)
        return o
    }
    func append(_ o: ckpt_object_record, _ key: ObjectKey) -> UInt32 {
        let index = UInt32(tables.objects.count)
        tables.objects.append(o)
        tables.objects[Int(index)].mounts = place
        if place != 0, let m = tree.mount(Path.mount(of: tables.text(at: o.path), follow: false)), m.kind == CKPT_MOUNT_INHERITED { tables.objects[Int(index)].flags |= CKPT_OBJECT_INHERITED.rawValue }
        objectOf[key] = index
        return index
    }
    func known(_ key: ObjectKey) -> UInt32? { objectOf[key] }
    func replace(_ key: ObjectKey, _ index: UInt32) { objectOf[key] = index }

    /// The file that was recorded.  Where it is read with more rights than the tree has, another one must not get into its place.
    func openRecorded(_ path: String, _ o: ckpt_object_record) throws(SystemError) -> File {
        let file = try File(unnoticed: path)
        if tree.isOthers(segment) {
            let s = try file.status()
            guard s.isRegular, s.inodeNumber == o.inode, [s.deviceNumber, Path.deviceWord(s.deviceNumber)].contains(o.device) else { throw SystemError("open: another file has its name", errno: 116) }
        }
        return file
    }
    /// Copies a file into the statefile; holes stay holes.
    func store(contentsOf file: File, size: UInt64) throws(SystemError) -> UInt64 {
        let at = draft.claim(max(size, 1))
        for (offset, count) in try file.data(upTo: size) { try draft.copy(file, offset, count, at: at + offset) }
        return at
    }
    func store(_ bytes: [UInt8]) throws(SystemError) -> UInt64 {
        let at = draft.claim(UInt64(max(bytes.count, 1)))
        try draft.put(bytes, at: at)
        return at
    }
}
