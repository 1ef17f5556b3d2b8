// What is below /dev/shm is memory (POSIX shared memory, named semaphores) and stored always; with --save-files the contents of all files that the tree writes go into the statefile while everybody stands still, so that file and memory
// are of the same instant.  Where the file system can share blocks nothing is copied; the checksums are computed after the release.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

extension Operation {
    func saveFiles(_ tree: ObservedTree, _ content: SystemContent, limit: UInt64?) throws(CheckpointFailure) {
        content.addWritableMappings(tree, segment, onlyMemory: limit == nil)
        let outside = content.usersOutside(tree)
        var done: [String: Int] = [:]
        let holders = FileHolders(tree)
        for (i, o) in content.tables.objects.enumerated() where o.kind == CKPT_OBJECT_REGULAR.rawValue && o.written != 0 {
            let path = content.tables.text(at: o.path)
            if path.hasPrefix("/proc/") || path.hasPrefix("/sys/") { continue }
            if o.mounts != 0 {
                // What only the tree sees comes back as a whole.
                if limit != nil && !content.isOwn(path, o.mounts) { throw CheckpointFailure([problem(.refused, "\(path): --save-files: a file in mounts of a part of the tree", remedy: "leave out --save-files, or let the part write into a tmpfs of its own")]) }
                continue
            }
            let isMemory = isSharedMemory(path)
            if !isMemory && limit == nil { continue }
            if isMemory {
                if outside[o.inode] != nil { content.tables.objects[i].flags |= CKPT_OBJECT_USED_OUTSIDE.rawValue; continue }
                content.tables.objects[i].flags |= CKPT_OBJECT_MEMORY.rawValue
            }
            if let limit, !isMemory, o.size > limit {
                report.remarks.append("\(path): \(sizeText(o.size)) are more than --save-files=\(sizeText(limit)): it is not stored")
                continue
            }
            // A file that is mapped and open has two objects: both stand for what is stored once.
            if let first = done[path] {
                var again = content.tables.saved[first]
                again.object = UInt32(i)
                content.tables.saved.append(again)
            } else {
                guard content.save(i, path, holders[o]) else { continue }
                done[path] = content.tables.saved.count - 1
                if !isMemory { report.savedFiles += 1 }
            }
            content.tables.objects[i].flags |= CKPT_OBJECT_SAVED.rawValue
        }
        if limit != nil { report.savedBytes = content.tables.extents.reduce(0) { $0 + $1.size } }
        try content.refusals.check()
    }

    /// Of what is in the statefile, not of what the files are by now.
    func checksumSavedFiles(_ content: SystemContent, _ draft: Draft) throws(SystemError) {
        for i in content.tables.extents.indices {
            let e = content.tables.extents[i]
            content.tables.extents[i].crc = try draft.checksum(e.content, e.size)
        }
    }
}

extension SystemContent {
    /// Files that are written through shared mappings alone have no descriptor that says so.
    fileprivate func addWritableMappings(_ tree: ObservedTree, _ segment: Segment, onlyMemory: Bool) {
        for p in tree.live {
            for m in p.mappings where m.isShared && m.flags.contains("mw") && m.name.hasPrefix("/") && m.inode != segment.identity.inode {
                // sem_open(3) gives a file its name when it is mapped already.
                if m.name.hasPrefix("/dev/shm/") && m.name.hasSuffix(deletedMark) {
                    if let i = stillNamed(m, p) { tables.objects[Int(i)].written = 1; tables.objects[Int(i)].flags |= CKPT_OBJECT_MAPPED.rawValue }
                    continue
                }
                if m.name.hasSuffix(" (deleted)") || m.name.hasPrefix("/dev/") && !m.name.hasPrefix("/dev/shm/") || m.name.hasPrefix("/memfd:") || m.name.hasPrefix("/SYSV") || m.name.hasPrefix("/[") { continue }
                if onlyMemory && !isSharedMemory(m.name) { continue }
                guard let i = objectByPath(CKPT_OBJECT_REGULAR, m.name, device: m.device, inode: m.inode, mapped: true, at: m, pid: p.pid, fd: nil) else { continue }
                tables.objects[Int(i)].written = 1
            }
        }
    }

    /// Copies the data of one file; holes stay holes.
    fileprivate func save(_ object: Int, _ path: String, _ holder: FileHolders.Holder?) -> Bool {
        let o = tables.objects[object]
        do throws(SystemError) {
            let file = try openToSave(path, holder, o)
            let s = try file.status()
            var record = ckpt_saved_record(object: UInt32(object), first_extent: UInt32(tables.extents.count), extent_count: 0, pad: 0,
                                           atime_sec: Int64(s.st_atim.tv_sec), atime_nsec: Int64(s.st_atim.tv_nsec))
            for (offset, size) in try file.data(upTo: o.size) {
                let at = draft.claim(size)
                try draft.copy(file, offset, size, at: at)
                tables.extents.append(ckpt_extent_record(offset: offset, size: size, content: at, crc: 0, pad: 0))
            }
            record.extent_count = UInt32(tables.extents.count) - record.first_extent
            tables.saved.append(record)
            return true
        } catch {
            refusals.add(pid: holder?.pid ?? 0, fd: holder?.fd, "\(path): its contents can't be read for --save-files: \(error.call): \(error.text)", "make it readable, free space, or leave out --save-files")
            return false
        }
    }

    /// An open of our own would break a lease: there the tree's open file is read, at offsets, which leaves its position where it is.
    private func openToSave(_ path: String, _ holder: FileHolders.Holder?, _ o: ckpt_object_record) throws(SystemError) -> File {
        guard let holder, holder.leased else { return try openRecorded(path, o) }
        guard holder.readable else { throw SystemError("a lease on a file that is open for writing only", errno: 11) }
        return try File(of: holder.view, number: holder.fd)
    }
}

/// shm_open(3) and sem_open(3) make files there.
func isSharedMemory(_ path: String) -> Bool {
    path.hasPrefix("/dev/shm/") && Path.fileSystem(of: "/dev/shm") == Path.tmpfs
}

extension SystemContent {
    /// Processes outside the tree that map what the tree has written of shared memory: by its inode.  Only looked for where there is some.
    fileprivate func usersOutside(_ tree: ObservedTree) -> [UInt64: Int32] {
        let files = tables.objects.filter { $0.kind == CKPT_OBJECT_REGULAR.rawValue && $0.written != 0 && isSharedMemory(tables.text(at: $0.path)) }
        if files.isEmpty { return [:] }
        let inside = Set(tree.processes.map(\.pid)), wanted = Set(files.map(\.inode))
        var found: [UInt64: Int32] = [:]
        for pid in Proc.processes() where !inside.contains(pid) {
            guard let bytes = try? Path.contents("/proc/\(pid)/maps"), bytes.contains(sequence: "/dev/shm/") else { continue }
            for m in ProcMapping.parse(bytes) where m.isShared && wanted.contains(m.inode) && m.name.hasPrefix("/dev/shm/") { found[m.inode] = pid }
        }
        return found
    }
}
extension [UInt8] {
    fileprivate func contains(sequence text: String) -> Bool {
        let needle = [UInt8](text.utf8)
        return indices.contains { self[$0] == needle[0] && self[$0...].starts(with: needle) }
    }
}

/// Who has a regular file open, through a descriptor that reads if there is one, and whether there is a lease on it.
private struct FileHolders {
    struct Holder { var pid: Int32, fd: Int32, view: Int32, leased: Bool, readable: Bool }
    private struct Key: Hashable { var device: UInt64, inode: UInt64 }
    private var holders: [Key: Holder] = [:]

    init(_ tree: ObservedTree) {
        for p in tree.live {
            for d in p.descriptors where d.mode & FileType.mask == FileType.regular && d.flags & SystemContent.pathOnly == 0 {
                let key = Key(device: d.device, inode: d.inode), before = holders[key]
                let leased = before?.leased ?? false || d.locks.contains { $0.kind == CKPT_LOCK_LEASE }
                if before == nil || d.canRead && !before!.readable { holders[key] = Holder(pid: p.pid, fd: d.number, view: p.view, leased: leased, readable: d.canRead) }
                holders[key]!.leased = leased
            }
        }
    }
    subscript(_ o: ckpt_object_record) -> Holder? { holders[Key(device: o.device, inode: o.inode)] }
}
