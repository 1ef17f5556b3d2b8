// Where the file of a Unix socket's path name is: at that name, moved to another place after bind(2), as servers do that publish a socket when it listens,
// or gone.  A relative name counts from a working directory of the tree, which may be another by now.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem
import Glibc

extension SystemContent {
    /// What is no socket has its name now: it is bound where that is not in the way.
    private func noteTakenName(_ s: ObservedSocket, _ path: String, _ isAbsolute: Bool, _ place: Place) {
        let full = isAbsolute ? path : (place.folders.first ?? "") + "/" + path
        guard let taken = place.root.isEmpty ? try? Path.statusOfName(full) : Path.statusInside(full, root: place.root, follow: false), UInt32(taken.st_mode) & FileType.mask != FileType.socket else { return }
        if full.utf8.count > 107 { return refuse(s, "Unix \(s.name): its file was removed, and another has its name, a path of more than 107 bytes: \(full)", "move that away") }
        s.record.path_file = tables.text(full)
    }

    /// In whose mounts, from which folders.
    private struct Place { var number: UInt32, root: String, folders: [String], mounts: Mounts }

    func findFile(_ s: ObservedSocket, _ state: UnixSocketState, _ tree: ObservedTree) {
        let path = unixName(s.local), isAbsolute = path.hasPrefix("/"), places = places(of: s, isAbsolute, tree)
        s.record.path_state = CKPT_SOCKET_PATH_GONE.rawValue
        s.record.mounts = UInt8(places[0].number)
        s.record.path_folder = tables.text(places[0].folders.first ?? "")
        // Root is told by the kernel.
        let file = try? s.file.boundFile(), isRemoved = (try? file?.status())?.st_nlink == 0
        defer { if s.record.path_state == CKPT_SOCKET_PATH_GONE.rawValue { noteTakenName(s, path, isAbsolute, places[0]) } }
        if isRemoved { return }
        for place in places {
            for folder in place.folders {
                guard let status = status(of: isAbsolute ? path : folder + "/" + path, place, state) else { continue }
                return take(s, status, place, folder: folder)
            }
        }
        // Who would look for it: what was accepted has the name of the listener, and needs no file.
        if s.isListening || s.type == SocketType.datagram || !state.isConnected { findMoved(s, state, path, file, places) }
    }

    /// First in the mounts of who holds it.
    private func places(of s: ObservedSocket, _ isAbsolute: Bool, _ tree: ObservedTree) -> [Place] {
        func folders(_ p: (ObservedProcess) -> Bool) -> [String] { isAbsolute ? [""] : tree.live.filter(p).map(\.cwd) }
        if tree.parts.isEmpty {
            // A whole tree's own mounts, of which we may see nothing.
            let view = tree.live.first?.view ?? Kernel.processID
            return [Place(number: 0, root: livesElsewhere ? "/proc/\(view)/root" : "", folders: folders { _ in true }, mounts: mountsOf(view))]
        }
        let homes = files.all[s.description].holders.map { tree.place(of: tree.processes[$0.process]) }
        var seen: Set<UInt32> = []
        return (homes + [0] + tree.parts.map { UInt32($0.namespace + 1) }).filter { seen.insert($0).inserted }.map { place in
            let view = tree.part(place)?.view ?? tree.surroundings?.view ?? Kernel.processID
            return Place(number: place, root: "/proc/\(view)/root", folders: folders { tree.place(of: $0) == place }, mounts: mountsOf(view))
        }
    }
    private func mountsOf(_ view: Int32) -> Mounts {
        let mounts = mountsOfViews[view] ?? Mounts(of: view)
        mountsOfViews[view] = mounts
        return mounts
    }

    /// Of the name itself, also if it is a link to what is sought.
    private func status(of path: String, _ place: Place, _ state: UnixSocketState) -> stat? {
        guard let s = place.root.isEmpty ? try? Path.statusOfName(path) : Path.statusInside(path, root: place.root, follow: false),
              UInt32(s.st_mode) & FileType.mask == FileType.socket, UInt32(truncatingIfNeeded: s.inodeNumber) == state.fileInode else { return nil }
        // Other file systems have files of the same number.
        let device = Path.mount(of: place.root + path, follow: false).flatMap { place.mounts.device(of: $0) }
        return device == nil || device == state.fileDevice ? s : nil
    }

    private func take(_ s: ObservedSocket, _ status: stat, _ place: Place, folder: String, file: String = "") {
        if status.st_nlink > 1 { return refuse(s, "Unix \(s.name): its file has other names (hard links)", "remove these") }
        s.record.path_state = CKPT_SOCKET_PATH.rawValue; s.record.path_folder = tables.text(folder); s.record.mounts = UInt8(place.number)
        s.record.path_mode = UInt32(status.st_mode) & 0o7777; (s.record.path_uid, s.record.path_gid) = ownUsers.inside(status.st_uid, status.st_gid)
        if !file.isEmpty { s.record.path_file = tables.text(file) }
    }

    /// A user looks where programs put such names.
    private func findMoved(_ s: ObservedSocket, _ state: UnixSocketState, _ path: String, _ file: File?, _ places: [Place]) {
        let isAbsolute = path.hasPrefix("/"), shown = file.flatMap { try? Path.link("/proc/self/fd/\($0.number)") }
        for place in places {
            func found(_ candidate: String?) -> Bool {
                guard let candidate, candidate.hasPrefix("/"), let status = status(of: candidate, place, state) else { return false }
                let folder = Path.folder(of: candidate)
                // From there its name leads to it, without another folder.
                if !isAbsolute && candidate == (folder == "/" ? "" : folder) + "/" + path { take(s, status, place, folder: folder); return true }
                if candidate.utf8.count > 107 { refuse(s, "Unix \(s.name): its file was moved to \(candidate), a path of more than 107 bytes", "give it a shorter one"); return true }
                take(s, status, place, folder: isAbsolute ? "" : folder, file: candidate)
                return true
            }
            if found(shown) || (file == nil || !place.root.isEmpty) && place.folders.contains(where: { f in (isAbsolute ? [path] : [f + "/" + path, f + "/"]).contains { found(near($0, place, state)) } }) { return }
        }
        if file != nil || !isAbsolute || path.hasPrefix("/proc/") {
            refuse(s, "Unix \(s.name): \(isAbsolute ? "its file is not at this name" : "no process of the tree is in the folder from which its name counts, or its file was moved"), and is not found",
                   Kernel.userID == 0 ? "move it back" : "run ckptctl as root, or bind it by an absolute path")
        }
    }

    private func near(_ path: String, _ place: Place, _ state: UnixSocketState) -> String? {
        guard let inode = state.fileInode else { return nil }
        return filesNear(place.root + path)[UInt64(inode)]?.lazy.map { String($0.dropFirst(place.root.count)) }.first { self.status(of: $0, place, state) != nil }
    }
}
