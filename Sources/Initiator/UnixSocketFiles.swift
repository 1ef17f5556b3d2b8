// Where the file of a Unix socket's path name is: at that name, moved to another place after bind(2), as servers do that publish a socket when it listens,
// or gone.  A relative name counts from a working directory of the tree, which may be another by now.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem
import Glibc

extension SystemContent {
    /// In whose mounts, from which folders.
    private struct Place { var number: UInt32, root: String, folders: [String] }

    func findFile(_ s: ObservedSocket, _ state: UnixSocketState, _ tree: ObservedTree) {
        let path = unixName(s.local), isAbsolute = path.hasPrefix("/")
        let places = places(of: s, isAbsolute, tree)
        s.record.path_state = CKPT_SOCKET_PATH_GONE.rawValue
        s.record.mounts = UInt8(places[0].number)
        s.record.path_folder = tables.text(places[0].folders.first ?? "")
        for place in places {
            for folder in place.folders {
                guard let status = status(of: isAbsolute ? path : folder + "/" + path, place, state) else { continue }
                return take(s, status, place, folder: folder)
            }
        }
        // Who would look for it: what was accepted has the name of the listener, and needs no file.
        if s.isListening || s.type == SocketType.datagram || !state.isConnected { findMoved(s, state, path, places, tree) }
    }

    /// First in the mounts of who holds it.
    private func places(of s: ObservedSocket, _ isAbsolute: Bool, _ tree: ObservedTree) -> [Place] {
        if tree.parts.isEmpty { return [Place(number: 0, root: "", folders: isAbsolute ? [""] : tree.live.map(\.cwd))] }
        let homes = files.all[s.description].holders.map { tree.place(of: tree.processes[$0.process]) }
        return (homes + [0] + tree.parts.map { UInt32($0.namespace + 1) }).map { place in
            let view = tree.part(place)?.view ?? tree.surroundings?.view ?? Kernel.processID
            return Place(number: place, root: "/proc/\(view)/root", folders: isAbsolute ? [""] : tree.live.filter { tree.place(of: $0) == place }.map(\.cwd))
        }
    }

    private func status(of path: String, _ place: Place, _ state: UnixSocketState) -> stat? {
        guard let s = place.root.isEmpty ? try? Path.status(path) : Path.statusInside(path, root: place.root, follow: true),
              UInt32(s.st_mode) & FileType.mask == FileType.socket, UInt32(truncatingIfNeeded: s.inodeNumber) == state.fileInode else { return nil }
        return s
    }

    private func take(_ s: ObservedSocket, _ status: stat, _ place: Place, folder: String, file: String = "") {
        s.record.path_state = CKPT_SOCKET_PATH.rawValue; s.record.path_folder = tables.text(folder); s.record.mounts = UInt8(place.number)
        s.record.path_mode = UInt32(status.st_mode) & 0o7777; (s.record.path_uid, s.record.path_gid) = ownUsers.inside(status.st_uid, status.st_gid)
        if !file.isEmpty { s.record.path_file = tables.text(file) }
    }

    /// Root is told by the kernel; a user looks where programs put such names.
    private func findMoved(_ s: ObservedSocket, _ state: UnixSocketState, _ path: String, _ places: [Place], _ tree: ObservedTree) {
        let file = try? s.file.boundFile(), isAbsolute = path.hasPrefix("/")
        if let file, (try? file.status())?.st_nlink == 0 { return }
        let shown = file.flatMap { try? Path.link("/proc/self/fd/\($0.number)") }
        for place in places {
            let near = place.folders.lazy.compactMap { self.near(isAbsolute ? path : $0 + "/" + path, place, state) }
            for found in [shown].compactMap({ $0 }) + (near.first.map { [$0] } ?? []) {
                guard found.hasPrefix("/"), let status = status(of: found, place, state) else { continue }
                let folder = Path.folder(of: found)
                if !isAbsolute && found == (folder == "/" ? "" : folder) + "/" + path { return take(s, status, place, folder: folder) }
                if found.utf8.count > 107 { return refuse(s, "Unix \(s.name): its file was moved to \(found), a path of more than 107 bytes", "give it a shorter one") }
                return take(s, status, place, folder: isAbsolute ? "" : folder, file: found)
            }
        }
        if file != nil || !isAbsolute {
            refuse(s, "Unix \(s.name): \(isAbsolute ? "its file was moved" : "no process of the tree is in the folder from which its name counts, or its file was moved"), and is not found",
                   Kernel.userID == 0 ? "move it back" : "run ckptctl as root, or bind it by an absolute path")
        }
    }
    private func near(_ path: String, _ place: Place, _ state: UnixSocketState) -> String? {
        guard let inode = state.fileInode else { return nil }
        return otherName(of: place.root + path, inode: UInt64(inode), device: nil).map { String($0.dropFirst(place.root.count)) }
    }
}
