// Descriptors whose files are found again by a name: O_PATH, /proc, namespaces; and files and folders that have lost theirs.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

enum FileSystem { static let proc: UInt64 = 0x9fa0, namespaces: UInt64 = 0x6e736673 }
let deletedMark = " (deleted)"

extension SystemContent {
    /// Opened with O_PATH: only the name counts, whatever has it, a symbolic link too.
    func pathObject(_ d: ObservedDescriptor, _ pid: Int32) -> UInt32? {
        let key = ObjectKey(kind: CKPT_OBJECT_PATH.rawValue, device: d.device, inode: d.inode, path: d.link, place: place)
        if let index = known(key) { return index }
        guard let s = try? Path.statusOfName(d.link), s.inodeNumber == d.inode, s.deviceNumber == d.device else {
            refusals.add(pid: pid, fd: d.number, "\(d.link): opened with O_PATH, and another file has its name by now", "close it, or put the file back")
            return nil
        }
        return append(record(CKPT_OBJECT_PATH, s, d.link), key)
    }

    /// A file or folder of /proc.  A tree may have a /proc of its own, so only the path counts.
    func procObject(_ f: OpenFile) -> UInt32? {
        let d = f.sample, path = d.link.hasSuffix(deletedMark) ? String(d.link.dropLast(deletedMark.count)) : d.link
        let parts = path.split(separator: "/")
        guard parts.count >= 2, let pid = Int32(parts[1]) else { return procObject(d, d.link, pid: 0) }
        // Numbers in our own /proc are ours, those in another are the tree's.
        let ours = (try? Path.status("/proc"))?.deviceNumber == d.device
        guard let owner = live.first(where: { (ours ? $0.pid : $0.ownPid) == pid }) else {
            refusals.add(pid: f.samplePid, fd: d.number, "\(d.link): an open file of a process outside the tree", "close it after reading")
            return nil
        }
        if owner.pids != 0 || live.contains(where: { ($0.pid == f.samplePid || $0.view == f.samplePid) && $0.pids != 0 }) {
            refusals.add(pid: f.samplePid, fd: d.number, "\(d.link): an open file of a process, in a pid namespace of the tree's own", "close it after reading")
            return nil
        }
        if f.isWatched {
            refusals.add(pid: f.samplePid, fd: d.number, "\(d.link): an open file of a process, watched by an epoll instance", "take it out of the instance before the checkpoint (EPOLL_CTL_DEL), or look at it at times")
            return nil
        }
        if f.users.count > 1 || f.heldOtherwise > 0 {
            refusals.add(pid: f.samplePid, fd: d.number, "\(d.link): an open file of a process, shared with another", "let each process open it for itself")
            return nil
        }
        return procObject(d, "/proc/\(owner.ownPid)" + parts.dropFirst(2).map { "/" + $0 }.joined(), pid: owner.ownPid)
    }

    private func procObject(_ d: ObservedDescriptor, _ path: String, pid: Int32) -> UInt32? {
        let key = ObjectKey(kind: CKPT_OBJECT_PROC.rawValue, device: d.device, inode: d.inode, path: path)
        if let index = known(key) { return index }
        var o = ckpt_object_record()
        o.kind = CKPT_OBJECT_PROC.rawValue; o.mode = d.mode; o.device = d.device; o.inode = d.inode
        o.path = tables.text(path); o.detail = UInt32(pid)
        return append(o, key)
    }

    /// "mnt:[4026531841]": restored when the tree lives in it.
    func namespaceObject(_ d: ObservedDescriptor, _ pid: Int32) -> UInt32? {
        let kind = String(d.link.prefix { $0 != ":" })
        guard let view = live.first(where: { $0.pids == 0 })?.view, let now = try? Path.link("/proc/\(view)/ns/\(kind)"), now == d.link else {
            refusals.add(pid: pid, fd: d.number, "\(d.link): a namespace that the tree does not live in", "close it")
            return nil
        }
        let key = ObjectKey(kind: CKPT_OBJECT_NAMESPACE.rawValue, device: d.device, inode: d.inode, path: kind)
        if let index = known(key) { return index }
        var o = ckpt_object_record()
        o.kind = CKPT_OBJECT_NAMESPACE.rawValue; o.mode = d.mode; o.device = d.device; o.inode = d.inode; o.path = tables.text(kind)
        return append(o, key)
    }

    /// A folder that was removed while it was open: made again and removed again.
    func deletedFolder(_ link: String, device: UInt64, inode: UInt64, at open: String, pid: Int32, fd: Int32?) -> UInt32? {
        let key = ObjectKey(kind: CKPT_OBJECT_DELETED_FOLDER.rawValue, device: device, inode: inode, path: "")
        if let index = known(key) { return index }
        guard let s = try? Path.status(open) else {
            refusals.add(pid: pid, fd: fd, "\(link): it can't be looked at", "leave it")
            return nil
        }
        return append(record(CKPT_OBJECT_DELETED_FOLDER, s, String(link.dropLast(deletedMark.count))), key)
    }

    /// Another name of a file that lost the one it was opened by.
    func otherName(of path: String, inode: UInt64, device: UInt64?) -> String? {
        filesNear(path)[inode]?.first { p in (try? Path.statusOfName(p)).map { $0.inodeNumber == inode && (device == nil || $0.deviceNumber == device) } ?? false }
    }

    /// By inode, what lies where programs put other names of a file: in its folder, in those beside it, and in those in it.  Looked at once.
    func filesNear(_ path: String) -> [UInt64: [String]] {
        let folder = Path.folder(of: path)
        if let known = nearFiles[folder] { return known }
        var left = 20_000, found: [UInt64: [String]] = [:], near: [String] = [], deeper: [String] = []
        func read(_ folder: String, _ folders: inout [String]) {
            let entries = Path.entries(in: folder, limit: left)
            left -= entries.count
            for e in entries {
                let full = folder == "/" ? "/" + e.name : "\(folder)/\(e.name)"
                if e.isFolder { folders.append(full) } else { found[e.inode, default: []].append(full) }
            }
        }
        read(folder, &near)
        if folder != "/" { read(Path.folder(of: folder), &near) }
        for other in near where left > 0 && other != folder { read(other, &deeper) }
        nearFiles[folder] = found
        return found
    }
}
