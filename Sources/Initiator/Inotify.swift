// Inotify queues: their watches, by the paths of what they watch (WatchedPlaces).
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

extension SystemContent {
    /// Before anything else is looked at: what we read and write may itself be an event.
    func surveyInotify() {
        for f in files.all where f.sample.isInotify {
            do throws(SystemError) {
                try surveyUnread(f)
                let watches = try watches(of: f)
                surveyedWatches += watches
                for w in watches where w.seesReaders { noisyInodes.insert(w.inode) }
            } catch {
                refusals.add(pid: f.samplePid, fd: f.sample.number, "inotify queue: it can't be looked at: \(error.call): \(error.text)", "run ckptctl as root, or close it before the checkpoint")
            }
        }
    }

    /// false: refused.
    func recordWatches(_ f: OpenFile, _ e: inout ckpt_event_record) throws(SystemError) -> Bool {
        let looks = 8, first = tables.watches.count
        try surveyUnread(f)
        for _ in 0..<looks {
            if isRefused(f) { return false }
            let watches = try watches(of: f), lost = recordPaths(of: watches, f)
            // It may just have lost its name: then its watch goes next.
            if lost != nil { Kernel.sleep(milliseconds: 1) }
            if try isOneMoment(f, watches) {
                if let lost { refuseWatch(lost, f); return false }
                try recordUnread(f, &e)
                e.first_item = UInt32(first); e.item_count = UInt32(tables.watches.count - first)
                return true
            }
            tables.watches.removeSubrange(first...)
            // The kernel may be about to tell of the end of a watch that it has taken away.
            Kernel.sleep(milliseconds: 1)
            try lookAtUnread(f)
        }
        refusals.add(pid: f.samplePid, fd: f.sample.number, "inotify queue: what it watches is being changed by somebody outside", "try again", status: .temporary)
        return false
    }

    /// In their order: the next one that the program adds gets the number after the last.  The one whose path can't be found, if any.
    private func recordPaths(of watches: [InotifyWatch], _ f: OpenFile) -> InotifyWatch? {
        for w in watches.sorted(by: { $0.wd < $1.wd }) {
            guard let found = watchedPath(w, f) else { return w }
            tables.watches.append(ckpt_watch_record(wd: w.wd, mask: w.mask, path: tables.text(found.path), mounts: found.mounts))
        }
        return nil
    }
    private func refuseWatch(_ w: InotifyWatch, _ f: OpenFile) {
        refusals.add(pid: f.samplePid, fd: f.sample.number, "inotify queue: watch \(w.wd) is on a file whose path can't be found (inode \(w.inode), device \(w.device >> 20):\(w.device & 0xfffff))",
                     Kernel.userID == 0 ? "remove the watch" : "run ckptctl as root\(noisyInodes.isEmpty ? "" : " (it could only be looked for in folders that the tree watches being read, and be noticed)"), or remove the watch")
    }

    private func watchedPath(_ w: InotifyWatch, _ f: OpenFile) -> WatchedPath? {
        if let known = watchedPaths[w.file] { return known }
        // First where those live who have the queue.
        let homes = f.holders.map { tree.place(of: tree.processes[$0.process]) }, places = homes + [0] + tree.parts.map { UInt32($0.namespace + 1) }
        for place in places {
            guard let path = tree.part(place).map({ path(of: w, in: $0) }) ?? path(of: w) else { continue }
            let found = WatchedPath(path: path, mounts: place)
            watchedPaths[w.file] = found
            return found
        }
        return nil
    }
    private func path(of w: InotifyWatch) -> String? {
        watchedPlaces.path(of: w, mounts) ?? watchLook.nearPath(w) ?? watchLook.pathByHandle(w) ?? watchLook.search(for: [w], everywhere: false)[w.file]
    }
    private func path(of w: InotifyWatch, in part: PartMounts) -> String? {
        // A file system of its own is small (TmpfsContents).
        let isOnlyThere = mounts.places(of: w.device).isEmpty
        let look = partLooks[part.namespace] ?? makeWatchLook(Mounts(of: part))
        partLooks[part.namespace] = look
        if let path = watchedPlaces.paths[w.file], w.matches(path, look.mounts) { return path }
        if let path = look.nearPath(w) ?? look.pathByHandle(w) { return path }
        // One search for all: everybody waits.
        let system = PartSystem(namespace: part.namespace, device: w.device)
        if partSearches[system] == nil { partSearches[system] = look.search(for: surveyedWatches.filter { $0.device == w.device && watchedPaths[$0.file] == nil }, everywhere: isOnlyThere) }
        if let path = partSearches[system]?[w.file], w.matches(path, look.mounts) { return path }
        return look.search(for: [w], everywhere: isOnlyThere)[w.file]
    }
    func makeWatchLook(_ mounts: Mounts) -> WatchLook { WatchLook(near: files.all.map(\.sample.link) + live.flatMap { [$0.cwd, $0.exe] }, noisy: noisyInodes, mounts) }
}

/// A file system as a part of the tree sees it.
struct PartSystem: Hashable { var namespace: Int, device: UInt64 }

/// Where a watch is set again: 1 + the mount namespace of a part, 0: where the tree was started.
struct WatchedPath { var path: String, mounts: UInt32 }

/// "inotify wd:1 ino:e0001 sdev:fe00000 mask:fce ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:01000e0063bad52b"
struct InotifyWatch: Equatable {
    struct File: Hashable { var device: UInt64, inode: UInt64, handle: [UInt8] }
    var file: File { File(device: device, inode: inode, handle: handle) }
    /// IN_ACCESS, IN_CLOSE_NOWRITE, IN_OPEN: who reads is told of.
    var seesReaders: Bool { mask & 0x31 != 0 }
    static func all(_ info: DescriptorInfo) -> [InotifyWatch] { info.lines.filter { $0.name == "inotify wd" }.compactMap { InotifyWatch($0.value) } }
    var wd: Int32 = 0, inode: UInt64 = 0, device: UInt64 = 0, mask: UInt32 = 0
    var handle: [UInt8] = []            // struct file_handle: size and type as 32-bit words, then the bytes
    /// `text` begins behind "inotify wd:".
    init?(_ text: Substring) {
        var size: UInt32 = 0, type: UInt32 = 0, bytes: [UInt8] = []
        for (i, word) in text.split(separator: " ").enumerated() {
            let parts = i == 0 ? ["wd", word] : word.split(separator: ":")
            guard parts.count == 2 else { continue }
            let number = UInt64(parts[1], radix: 16) ?? 0
            switch parts[0] {
            case "wd": wd = Int32(truncatingIfNeeded: number)
            case "ino": inode = number
            case "sdev": device = number
            case "mask": mask = UInt32(truncatingIfNeeded: number)
            case "fhandle-bytes": size = UInt32(truncatingIfNeeded: number)
            case "fhandle-type": type = UInt32(truncatingIfNeeded: number)
            case "f_handle":
                let digits = Array(parts[1])
                bytes = stride(from: 0, to: digits.count - 1, by: 2).compactMap { UInt8(String(digits[$0...$0 + 1]), radix: 16) }
            default: break
            }
        }
        guard wd > 0 else { return nil }
        handle = withUnsafeBytes(of: size) { Array($0) } + withUnsafeBytes(of: type) { Array($0) } + bytes
    }
    var hasHandle: Bool { handle.count > 8 }
    /// The same file: by its handle and its file system, where that gives one; else by its inode.
    func matches(_ path: String, _ mounts: Mounts) -> Bool {
        let outer = mounts.outer(path)
        if hasHandle, let h = FileHandle(of: outer) { return h.bytes == handle && mounts.device(of: h.mount) == device && (mounts.isPart || isSame(path, inside: (try? Path.statusOfName(path)))) }
        guard let s = try? Path.statusOfName(outer) else { return false }
        return s.inodeNumber == inode && Path.deviceWord(s.deviceNumber) == device
    }
    /// A handle is asked for in our mounts; a tree that has its own must find the same file there (MountVisit).
    private func isSame(_ path: String, inside: StatBuffer?) -> Bool {
        guard let inside, let ours = MountVisit.outside({ try? Path.statusOfName(path) }) else { return false }
        return inside.inodeNumber == ours.inodeNumber && inside.deviceNumber == ours.deviceNumber
    }
}
