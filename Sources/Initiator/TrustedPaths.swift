// What root's restart would refuse to do by a path is refused at the checkpoint, while the program can still go on: names of sockets in mounts of a part, and
// what is bound or was mounted there, that another user may exchange (engine/TrustedPaths).
import CkptABI
import CkptSession
import CkptSystem
import FreestandingHosted

/// Who may exchange what root finds by a path: root, and whoever is in the tree.
struct TrustedUsers {
    private let users: Set<UInt32>
    private let folderOnly: Int32 = 0o10200000       // O_PATH, O_DIRECTORY
    /// nil: it is not root who will restart it, or one of a user namespace of the tree's own.
    init?(_ tree: ObservedTree) {
        users = Set(tree.live.compactMap(\.effectiveUser))
        guard Kernel.userID == 0, Operation.usersHere == nil, tree.ownUsers == nil, users.contains(0) else { return nil }
    }

    /// May somebody else put something in the way?  The path is that of a process; a relative one counts from `folder`.  One that leads nowhere is no answer.
    func mayBeExchanged(_ path: String, of view: Int32, folder: String = "", links: Bool, to end: PathEnd, owner: UInt32? = nil) -> Bool {
        guard let root = try? File("/proc/\(view)/root", flags: folderOnly) else { return false }
        var start: File?
        if !path.hasPrefix("/") {
            switch walk(folder, nil, root, links: false, .file, owner) {
            case .to(let fd): start = File(adopting: fd)
            case .exchangeable: return true
            case .failed: return false
            }
        }
        switch walk(path, start, root, links: links, end, owner) {
        case .to(let fd): _ = File(adopting: fd); return false
        case .exchangeable: return true
        case .failed: return false
        }
    }
    private func walk(_ path: String, _ start: File?, _ root: File, links: Bool, _ end: PathEnd, _ owner: UInt32?) -> Passage {
        (path.nameBytes + [0]).map(CChar.init(bitPattern:)).withUnsafeBufferPointer { walkPath($0.baseAddress!, from: start.map { Descriptor($0.number) }, root: Descriptor(root.number), links: links, to: end) { $0 == owner || users.contains($0) } }
    }
}

extension SystemContent {
    /// When it is known who is connected to whom.
    func refuseExchangeableNames() {
        if tree.parts.isEmpty { return }
        guard let trusted = tree.trustedUsers else { return }
        for s in survey.all where s.family == SocketFamily.unix && !s.refused {
            guard let part = tree.part(UInt32(s.record.mounts)) else { continue }
            let folder = tables.text(at: s.record.path_folder)
            var names = [(s.local, PathEnd.folder)]
            if s.record.path_file != 0 { names.append(([0, 0] + tables.text(at: s.record.path_file).nameBytes, .folder)) }
            // A peer in the tree has its name by itself; one outside is there already, and is found as a whole.
            if s.record.peer == ckpt_no_index() { names.append((s.remote, s.record.flags & CKPT_SOCKET_PEER_GONE.rawValue == 0 ? .file : .folder)) }
            for m in tables.messages[Int(s.record.first_message)..<Int(s.record.first_message + s.record.message_count)] where m.sender == ckpt_no_index() && m.source_size > 0 {
                names.append((tables.blob(at: m.source, Int(m.source_size)), .folder))
            }
            if let (name, _) = names.first(where: { $0.0.count > 2 && $0.0[2] != 0 && trusted.mayBeExchanged(unixName($0.0), of: part.view, folder: folder, links: true, to: $0.1) }) {
                refuse(s, "Unix \(s.name): \(unixName(name).hasPrefix("/") ? "" : "in \(folder): ")another user may exchange a folder of its path, which is in mounts of a part of the tree",
                       "give it a name in a folder that only root may change")
            }
        }
    }
}
