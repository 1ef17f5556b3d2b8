// The system phase: which descriptors are one description, what each stands for, and the contents that only exist in the kernel (pipes, deleted files).
// Nothing is consumed: an aborted checkpoint leaves no trace.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

extension Operation {
    func gatherSystem(_ tree: ObservedTree, _ segment: Segment, _ options: CheckpointOptions, _ draft: Draft, _ fetch: DescriptorFetch) throws(CheckpointFailure) -> SystemContent {
        let content = SystemContent(tree, draft, options, segment, fetch, watchedPlaces)
        content.files = OpenFiles(tree)
        defer { content.dropCopies() }
        content.surveyInotify()
        content.addTerminals(tree)
        content.addSystemV(tree)
        content.addQueues(tree)
        try content.expectManySockets()
        content.surveySockets(tree, segment)     // finds the files that are in flight, too
        content.surveyEpolls(tree, segment)
        content.pipes = PipeEnds(content.files.all.map { ($0.sample, $0.samplePid) })
        for i in content.files.all.indices { content.describe(i) }
        for p in tree.live { content.addPlaces(p) }
        for (i, p) in tree.processes.enumerated() {
            let first = content.tables.fds.count
            for d in p.descriptors {
                guard let description = content.files.description(process: i, number: d.number) else { continue }
                content.tables.fds.append(ckpt_fd_record(process: UInt32(i), number: d.number, description: UInt32(description), close_on_exec: d.closeOnExec ? 1 : 0))
                content.addLocks(d, description, process: i, p)
            }
            content.fdRange[ObjectIdentifier(p)] = (first, content.tables.fds.count - first)
        }
        content.completeUsers()
        content.addLocksInFlight()
        content.refuseTooManyDescriptors()
        return content      // refusals are told when the mappings have added theirs
    }
}

extension SystemContent {
    /// A restart makes sockets, and what several processes share, in one process, above the numbers of the tree; only a privileged one may raise its limit, up to fs.nr_open.
    fileprivate func refuseTooManyDescriptors() {
        let margin = 64, always = 1024, top = Int(tables.fds.map(\.number).max() ?? 0)
        let made = files.all.count { f in f.sample.isSocket || f.sample.link.hasPrefix("pipe:") || f.holders.contains { $0.process != f.holders[0].process } }
        let wanted = top + made + margin
        if wanted <= always { return }
        guard let limit = Kernel.userID == 0 ? Kernel.highestOpenFiles : Machine.limit(Machine.openFiles)?.hard, UInt64(wanted) > limit else { return }
        refusals.add(pid: tree.processes[tree.root].pid, "\(made) sockets and shared open files: a restart needs \(wanted) descriptors, and may have \(limit)", "raise the limit on open files (\(Kernel.userID == 0 ? "sysctl fs.nr_open" : "ulimit -Hn")), or close some")
    }

    /// A socket shows its state only through a copy of its descriptor; all of them are open at once.
    fileprivate func expectManySockets() throws(CheckpointFailure) {
        let margin = 64, sockets = files.all.filter(\.sample.isSocket)
        guard let first = sockets.first, let limit = Machine.limit(Machine.openFiles)?.soft, UInt64(sockets.count + margin) > limit else { return }
        refusals.add(pid: first.samplePid, fd: first.sample.number, "\(sockets.count) sockets, of which this is the first: ckptctl has to open them all, and may open \(limit) files", "raise the limit on open files (ulimit -Hn) of ckptctl, or run it as root")
        try refusals.check()
    }

    /// The record of one open file description; its index is the file's.
    fileprivate func describe(_ i: Int) {
        let f = files.all[i]
        var d = ckpt_description_record()
        d.standard = -1
        defer { tables.descriptions.append(d) }
        guard let object = placed(i, f) else { return }
        d.object = object
        d.flags = f.sample.statusFlags
        d.position = f.sample.position
        if let owner = f.owner { d.owner_type = owner.type; d.owner_pid = owner.pid; d.owner_signal = owner.signal }
        if tables.objects[Int(object)].kind == CKPT_OBJECT_OUTSIDE.rawValue { d.standard = f.standard }
        if tables.objects[Int(object)].kind == CKPT_OBJECT_FIFO.rawValue && f.sample.canRead && pipes.writer(f.sample.inode) == nil,
           let copy = try? fetch.copy(of: f.samplePid, f.sample.number), !Pipe.reportsHangup(copy) { d.no_hangup = 1 }
        if f.sample.canWrite && f.sample.mode & FileType.mask == FileType.regular { tables.objects[Int(object)].written = 1 }
    }

    /// Who holds a description is known when all have been found: processes, and whatever else holds one.
    fileprivate func completeUsers() {
        for (i, f) in files.all.enumerated() where i < tables.descriptions.count {
            // Who lives in mounts of a part has no paths of others when it gets its descriptors.
            let isForeign = f.users.contains { tree.place(of: tree.processes[$0]) != 0 } && tables.objects[Int(tables.descriptions[i].object)].kind != CKPT_OBJECT_PROC.rawValue
            tables.descriptions[i].users = f.heldOtherwise == 0 && !isForeign ? UInt32(f.users.count) : max(2, UInt32(f.users.count) + f.heldOtherwise)
        }
    }
}

/// A terminal, a pseudo-terminal's master (5:2), the console or /dev/tty.
func isTerminal(_ d: ObservedDescriptor) -> Bool {
    let major = d.rdev >> 8 & 0xfff
    return d.mode & FileType.mask == FileType.character && (major == 4 || (major >= 136 && major <= 143) || (0x500...0x502).contains(d.rdev))
}

/// Which ends of each pipe the tree holds.
struct PipeEnds {
    private var readers: [UInt64: String] = [:], writers: [UInt64: String] = [:]
    private var packets: Set<UInt64> = []
    init(_ all: [(ObservedDescriptor, Int32)]) {
        for (d, pid) in all where d.mode & FileType.mask == FileType.fifo {
            if d.flags & 0o40000 != 0 { packets.insert(d.inode) }
            if d.canRead { readers[d.inode] = "/proc/\(pid)/fd/\(d.number)" }
            if d.canWrite { writers[d.inode] = "/proc/\(pid)/fd/\(d.number)" }
        }
    }
    /// Some end writes packets (O_DIRECT): what is in the pipe has boundaries that a copy loses.
    func hasPackets(_ inode: UInt64) -> Bool { packets.contains(inode) }
    func reader(_ inode: UInt64) -> String? { readers[inode] }
    func writer(_ inode: UInt64) -> String? { writers[inode] }
    /// True when somebody outside the tree holds the end that the tree doesn't.
    func leadsOutside(_ inode: UInt64, isNamed: Bool) throws(SystemError) -> Bool {
        switch (readers[inode], writers[inode]) {
        case (let r?, nil): return try Pipe.otherEndIsOpen(r, reading: true, isNamed: isNamed)
        case (nil, let w?): return try Pipe.otherEndIsOpen(w, reading: false, isNamed: isNamed)
        default: return false
        }
    }
}

extension SystemContent {
    /// Looked up in the mounts to which it belongs.
    fileprivate func placed(_ i: Int, _ f: OpenFile) -> UInt32? {
        let d = f.sample, isNamed = d.link.hasPrefix("/") && !d.link.hasPrefix("/memfd:") && !d.link.hasPrefix("/secretmem") && !d.link.hasPrefix("/dev/zero")
        if tree.parts.isEmpty || !isNamed || [FileSystem.proc, FileSystem.namespaces, FileSystem.messageQueues].contains(Path.fileSystem(of: "/proc/\(f.samplePid)/fd/\(d.number)")) { return object(of: i, f) }
        let kind = d.mode & FileType.mask
        if kind == FileType.regular || kind == FileType.directory, d.links > 0, let s = try? Path.status("/proc/\(f.samplePid)/fd/\(d.number)"),
           let left = detachedObject(kind == FileType.regular ? CKPT_OBJECT_REGULAR : CKPT_OBJECT_DIRECTORY, d.link, s, d.mount, live.first(where: { $0.view == f.samplePid }), fd: d.number) { return left }
        guard let place = placeOfOpen(d.link, d.mount, f.samplePid, d.number) else { return nil }
        if isTerminal(d) && d.flags & SystemContent.pathOnly == 0 {
            guard let m = tree.mount(d.mount), m.kind == CKPT_MOUNT_NEW else { return object(of: i, f) }
            refusals.add(pid: f.samplePid, fd: d.number, "terminal \(d.link) of a devpts that only a part of the tree sees", "close it before the checkpoint, or let the part use the terminals of /dev/pts outside")
            return nil
        }
        return within(place) { object(of: i, f) }
    }

    private func object(of i: Int, _ f: OpenFile) -> UInt32? {
        let d = f.sample, pid = f.samplePid
        if d.isRing { return ringObject(i, f) }
        if d.link.hasPrefix("anon_inode:") { return eventObject(i, f) }
        let place = "/proc/\(pid)/fd/\(d.number)"
        if d.link.hasPrefix("/"), Path.fileSystem(of: place) == FileSystem.proc {
            return procObject(f)
        }
        if d.link == "/secretmem (deleted)", Path.fileSystem(of: place) == FileSystem.secretMemory {
            refusals.add(pid: pid, fd: d.number, SystemContent.secret.0, SystemContent.secret.1)
            return nil
        }
        if d.flags & SystemContent.pathOnly != 0 {
            if d.link.hasPrefix("/") && !d.link.hasSuffix(deletedMark) { return pathObject(d, pid) }
            if ![FileType.regular, FileType.directory].contains(d.mode & FileType.mask) {
                refusals.add(pid: pid, fd: d.number, "\(d.link): opened with O_PATH, and it has no name", "close it")
                return nil
            }
        }
        switch d.mode & FileType.mask {
        case FileType.regular: return regular(d, pid)
        case FileType.directory where d.links == 0 && d.link.hasSuffix(deletedMark):
            return deletedFolder(d.link, device: d.device, inode: d.inode, at: place, pid: pid, fd: d.number)
        case FileType.directory:
            return objectByPath(CKPT_OBJECT_DIRECTORY, d.link, device: d.device, inode: d.inode, mapped: false, pid: pid, fd: d.number)
        case FileType.character where isTerminal(d): return terminalObject(i, f)
        case FileType.character: return device(f)
        case FileType.fifo: return pipe(f, pipes)
        case FileType.socket: return socketObject(i, f)
        default:
            let (what, remedy) = SystemContent.kindByName(d)
            refusals.add(pid: pid, fd: d.number, what, remedy)
            return nil
        }
    }

    static let secret = ("secret memory (memfd_secret), which would lie open in the statefile", "close and unmap it before the checkpoint, or keep the secret in other memory")
    static let pathOnly: UInt32 = 0o10000000, temporaryFile: UInt32 = 0o20200000

    private func regular(_ d: ObservedDescriptor, _ pid: Int32) -> UInt32? {
        let system = Path.fileSystem(of: "/proc/\(pid)/fd/\(d.number)")
        if system == FileSystem.namespaces { return namespaceObject(d, pid) }
        // A message queue looks like a regular file; only its file system tells.
        if system == FileSystem.messageQueues { return queueObject(d, pid) }
        let isMemory = d.link.hasPrefix("/memfd:"), suffix = " (deleted)"
        if !isMemory && !(d.link.hasSuffix(suffix) && d.links == 0) {
            // A name may end like the kernel's mark.
            if d.link.hasSuffix(suffix), (try? Path.statusOfName(d.link))?.inodeNumber != d.inode {
                let old = String(d.link.dropLast(suffix.count))
                guard let other = otherName(of: old, inode: d.inode, device: d.device) else {
                    refusals.add(pid: pid, fd: d.number, "\(d.link): its name was removed while another hard link remains, which is not near it", "close it, or remove the other link as well")
                    return nil
                }
                return objectByPath(CKPT_OBJECT_REGULAR, other, device: d.device, inode: d.inode, mapped: false, pid: pid, fd: d.number)
            }
            return objectByPath(CKPT_OBJECT_REGULAR, d.link, device: d.device, inode: d.inode, mapped: false, pid: pid, fd: d.number)
        }
        let path = String(d.link.dropLast(suffix.count))
        let object = deleted(path: isMemory ? String(path.dropFirst(7)) : path, isMemory: isMemory, device: d.device, inode: d.inode, at: "/proc/\(pid)/fd/\(d.number)", pid: pid, fd: d.number)
        if let object, d.flags & SystemContent.temporaryFile == SystemContent.temporaryFile { tables.objects[Int(object)].flags |= CKPT_OBJECT_UNNAMED.rawValue }
        return object
    }

    /// A file without a name: its contents go into the statefile.
    private func deleted(path: String, isMemory: Bool, device: UInt64, inode: UInt64, at open: String, pid: Int32, fd: Int32) -> UInt32? {
        let kind = isMemory ? CKPT_OBJECT_MEMFD : CKPT_OBJECT_DELETED
        let key = ObjectKey(kind: CKPT_OBJECT_DELETED.rawValue, device: device, inode: inode, path: "")
        if let index = known(key) { return index }
        do throws(SystemError) {
            let s = try Path.status(open)
            var o = record(kind, s, path)
            o.content = try store(contentsOf: File(unnoticed: open), size: UInt64(s.st_size)); o.content_size = UInt64(s.st_size)
            o.flags = CKPT_OBJECT_OPENED.rawValue
            if isMemory { o.seals = Seals.of(open) }
            if Path.fileSystem(of: open) == Path.hugetlbfs {
                guard isMemory else {
                    refusals.add(pid: pid, fd: fd, "\(path) (deleted): a file of hugetlbfs without a name", "keep its name, or use a memfd with MFD_HUGETLB")
                    return nil
                }
                o.page_shift = UInt32(s.st_blksize.trailingZeroBitCount)
            }
            return append(o, key)
        } catch {
            refusals.add(pid: pid, fd: fd, "\(path) (deleted): its contents can't be read: \(error.text)", "close it")
            return nil
        }
    }

    private func device(_ f: OpenFile) -> UInt32? {
        let d = f.sample, restorable: Set<UInt64> = [0x103, 0x105, 0x107, 0x108, 0x109]     // null, zero, full, random, urandom
        if restorable.contains(d.rdev) {
            return objectByPath(CKPT_OBJECT_DEVICE, d.link, device: d.device, inode: d.inode, mapped: false, pid: f.samplePid, fd: d.number)
        }
        refusals.add(pid: f.samplePid, fd: d.number, "device \(d.link)", "close it before the checkpoint")
        return nil
    }

    func outside(_ d: ObservedDescriptor) -> UInt32? {
        let key = ObjectKey(kind: CKPT_OBJECT_OUTSIDE.rawValue, device: d.device, inode: d.inode, path: d.link)
        if let index = known(key) { return index }
        var o = ckpt_object_record()
        o.kind = CKPT_OBJECT_OUTSIDE.rawValue; o.mode = d.mode; o.device = d.device; o.inode = d.inode; o.rdev = d.rdev; o.path = tables.text(d.link)
        return append(o, key)
    }

    private func pipe(_ f: OpenFile, _ pipes: PipeEnds) -> UInt32? {
        let d = f.sample, isNamed = d.link.hasPrefix("/"), lostName = isNamed && d.links == 0 && d.link.hasSuffix(deletedMark)
        let kind = isNamed ? CKPT_OBJECT_FIFO : CKPT_OBJECT_PIPE
        let key = ObjectKey(kind: kind.rawValue, device: d.device, inode: d.inode, path: "")
        if let index = known(key) { return index }
        do throws(SystemError) {
            if !isNamed || lostName, try leadsOutside(f, pipes) {
                if f.standard >= 0 { return outside(d) }
                refusals.add(pid: f.samplePid, fd: d.number, "\(d.link): the other end of this pipe is outside the session", "start the other program under the same ckrun, or use a file or a FIFO")
                return nil
            }
            var o = ckpt_object_record()
            o.kind = kind.rawValue; o.mode = d.mode; o.device = d.device; o.inode = d.inode; (o.uid, o.gid) = ownUsers.inside(d.uid, d.gid)
            o.path = tables.text(isNamed ? d.link : "")
            if isNamed, (try? Path.status(d.link))?.inodeNumber != d.inode {
                guard d.links == 0, d.link.hasSuffix(deletedMark) else {
                    refusals.add(pid: f.samplePid, fd: d.number, "FIFO \(d.link): its name was removed while another hard link remains", "close it, or remove the other link as well")
                    return nil
                }
                o.flags |= CKPT_OBJECT_UNNAMED.rawValue
                o.path = tables.text(String(d.link.dropLast(deletedMark.count)))
            }
            if let end = pipes.reader(d.inode) ?? pipes.writer(d.inode) {
                let (bytes, size) = try Pipe.contents(end)
                if !bytes.isEmpty && pipes.hasPackets(d.inode) {
                    refusals.add(pid: f.samplePid, fd: d.number, "\(d.link): a pipe in packet mode (O_DIRECT) with unread packets", "read it empty first")
                    return nil
                }
                o.size = UInt64(size)
                if !bytes.isEmpty { o.content = try store(bytes); o.content_size = UInt64(bytes.count) }
            }
            return append(o, key)
        } catch {
            refusals.add(pid: f.samplePid, fd: d.number, "\(d.link): it can't be read: \(error.call): \(error.text)", "try again")
            return nil
        }
    }

    /// A pipe that another user made can't be opened; on a standard stream it can only come from outside.
    private func leadsOutside(_ f: OpenFile, _ pipes: PipeEnds) throws(SystemError) -> Bool {
        var answer = true
        do throws(SystemError) { answer = try pipes.leadsOutside(f.sample.inode, isNamed: f.sample.link.hasPrefix("/")) } catch {
            if error.errno != 13 || f.standard < 0 { throw error }
        }
        return answer
    }

    /// What a descriptor is called, and what to do about it.
    static func kindByName(_ d: ObservedDescriptor) -> (String, String) {
        if d.mode & FileType.mask == FileType.socket { return ("socket \(d.link)", "close it before the checkpoint, or use a pipe or a file") }
        if d.mode & FileType.mask == FileType.block { return ("block device \(d.link)", "close it before the checkpoint") }
        if d.mode & FileType.mask == FileType.directory { return ("directory \(d.link)", "close it before the checkpoint") }
        let names = ["[fanotify]": "fanotify queue", "[userfaultfd]": "userfaultfd", "[perf_event]": "performance counter",
                     "bpf-map": "BPF map", "bpf-prog": "BPF program"]
        for (key, name) in names where d.link == "anon_inode:" + key { return (name, "close it before the checkpoint") }
        return (d.link, "close it before the checkpoint")
    }
}
