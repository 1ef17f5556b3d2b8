// Looks for files of which only the inode number is known, folder by folder, the upper ones first.  Opening and reading a folder is an event for who watches
// it or the folder in which it lies: of what is shunned neither is done.
import CkptABI
import Glibc

public struct FolderSearch {
    private let shunned: Set<UInt64>        // inodes, on whatever file system
    private let edges: Set<String>          // where other file systems begin
    private struct Folder: Hashable { var device: UInt64, inode: UInt64 }
    private var seen: Set<Folder> = []
    private let bufferSize = 65536

    public init(shunning shunned: Set<UInt64>, edges: [String]) { self.shunned = shunned; self.edges = Set(edges) }

    /// Offers each name of a wanted inode, until all are found or a limit is reached; `deadline` by CLOCK_MONOTONIC.  `isFound`: this inode is not wanted any more.
    public mutating func look(below places: [String], for wanted: inout Set<UInt64>, entries limit: Int, until deadline: UInt64, _ isFound: (_ inode: UInt64, _ path: String) -> Bool) {
        let often = 64
        var folders = places.filter { !isShunned($0) }, next = 0, left = limit
        while next < folders.count, left > 0, !wanted.isEmpty {
            if next % often == 0 && Kernel.clock(1) > deadline { return }
            let folder = folders[next]
            next += 1
            guard let file = open(folder) else { continue }
            forEachEntry(of: file) { inode, mayBeFolder, name in
                left -= 1
                let isWanted = wanted.contains(inode), descends = mayBeFolder && !shunned.contains(inode)
                guard isWanted || descends else { return }
                let path = (folder == "/" ? "/" : folder + "/") + String(name: name)
                if isWanted && isFound(inode, path) { wanted.remove(inode) }
                if descends && !edges.contains(path) { folders.append(path) }
            }
        }
    }

    private func isShunned(_ path: String) -> Bool {
        if shunned.isEmpty { return false }
        return [path, Path.folder(of: path)].contains { p in (try? Path.statusOfName(p)).map { shunned.contains($0.inodeNumber) } ?? true }
    }

    /// nil: it can't be read, is no folder, or has been.
    private mutating func open(_ path: String) -> File? {
        let quietly: Int32 = 0o1000000, flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW         // O_NOATIME, for the owner
        guard let file = (try? File(path, flags: flags | quietly)) ?? (try? File(path, flags: flags)), let s = try? file.status(),
              seen.insert(Folder(device: s.deviceNumber, inode: s.inodeNumber)).inserted else { return nil }
        return file
    }

    /// getdents64(2)
    private func forEachEntry(of folder: File, _ body: (_ inode: UInt64, _ mayBeFolder: Bool, _ name: UnsafeRawBufferPointer) -> Void) {
        withUnsafeTemporaryAllocation(byteCount: bufferSize, alignment: 8) { b in
            let header = 19         // struct linux_dirent64: inode, offset, length of the entry at 16, type at 18, name
            while true {
                let n = ckpt_syscall(CKPT_SYS_getdents64, Int(folder.number), Int(bitPattern: b.baseAddress!), b.count, 0, 0, 0)
                if n <= 0 { return }
                var at = 0
                while at + header < n {
                    let length = Int(b.load(fromByteOffset: at + 16, as: UInt16.self)), type = b[at + 18]
                    if length <= header || at + length > n { return }
                    let room = UnsafeRawBufferPointer(rebasing: b[(at + header)..<(at + length)]), name = UnsafeRawBufferPointer(rebasing: room.prefix { $0 != 0 })
                    let isDot = name.count <= 2 && name.allSatisfy { $0 == UInt8(ascii: ".") }
                    if !isDot { body(b.load(fromByteOffset: at, as: UInt64.self), type == UInt8(DT_DIR) || type == UInt8(DT_UNKNOWN), name) }
                    at += length
                }
            }
        }
    }
}
