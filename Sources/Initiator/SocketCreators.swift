// Whose pid a Unix socket shows (SO_PEERCRED), in a tree with pid namespaces of its own: each process sees another number.  Sockets are made before the tree
// exists; inside of a namespace a number can only be shown by who was there.  So some are made by its first process, before that has children.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

extension SystemContent {
    func setCreatorOfSeveral(_ s: ObservedSocket, _ tree: ObservedTree) {
        let holders = files.all[s.description].holders.map { (process: tree.processes[$0.process], peer: tree.processes[$0.process].peers[$0.number]) }
        let seen = s.file.peerCredentials, known = holders.first { $0.process.pids == 0 }?.peer
        (s.record.creator_uid, s.record.creator_gid) = known.map { ($0.peer_uid, $0.peer_gid) } ?? seen.map { ownUsers.inside($0.uid, $0.gid) } ?? (0, 0)
        // Who is further out shows inside as nobody.
        let inner = holders.filter { $0.process.pids != 0 && ($0.peer?.peer_pid ?? 0) != 0 }
        guard let first = inner.first else {
            s.record.creator_pid = seen.flatMap { c in tree.processes.first { $0.pid == c.pid }?.ownPid } ?? known?.peer_pid ?? 0
            return
        }
        guard inner.allSatisfy({ $0.process.pids == first.process.pids }) else {
            return refuse(s, "Unix \(s.name): it shows the pid of who connected it or listens (SO_PEERCRED) to processes in several pid namespaces of the tree's own", "start ckrun inside of the namespace")
        }
        s.creatorPids = first.process.pids
        s.record.creator_pid = first.peer!.peer_pid
    }

    /// Sockets that are connected to each other are made together, in one place.
    func placeCreators(_ tree: ObservedTree) {
        let all = survey.all.map(\.record) + survey.pending
        var group = Array(all.indices)
        func root(_ i: Int) -> Int { var i = i; while group[i] != i { i = group[i] }; return i }
        for (i, r) in all.enumerated() where r.family == UInt32(SocketFamily.unix) {
            for other in [r.peer, r.listener] where other != ckpt_no_index() { group[root(i)] = root(Int(other)) }
        }
        let members = Dictionary(grouping: all.indices.filter { all[$0].family == UInt32(SocketFamily.unix) }, by: root)
        for (_, list) in members.sorted(by: { $0.key < $1.key }) {
            let places = Set(list.filter { all[$0].creator_pid != 0 }.map { place(of: $0, tree) })
            guard places.contains(where: { $0 != 0 }) else { continue }
            let sockets = list.filter { $0 < survey.all.count }.map { survey.all[$0] }
            guard places.count == 1, let p = places.first, let index = tree.namespaces.firstIndex(where: { $0.kind == CKPT_NAMESPACE_PID && $0.number == p }),
                  sockets.allSatisfy({ s in files.all[s.description].holders.allSatisfy { isBelowFirst(of: p, $0.process, tree) } }) else {
                if let s = sockets.first(where: { $0.creatorPids != 0 }) ?? sockets.first {
                    refuse(s, "Unix \(s.name): it was connected or listens inside of a pid namespace of the tree's own, and shows the pid of who did that (SO_PEERCRED) to others than the children of its first process",
                           "start ckrun inside of the namespace")
                }
                continue
            }
            for i in list {
                guard i >= survey.all.count else { survey.all[i].record.creator_pids = UInt8(index + 1); continue }
                let k = i - survey.all.count
                survey.pending[k].creator_pid = client(of: k, tree)?.slotPid ?? 0
                survey.pending[k].creator_pids = UInt8(index + 1)
            }
            refuseNames(of: sockets, elsewhereThan: p, index, tree)
        }
        refuseMessages()
    }
    /// Who is in a user namespace can enter other mounts, and not come back: names are made in those that the first process lives in.
    private func refuseNames(of sockets: [ObservedSocket], elsewhereThan pids: UInt32, _ index: Int, _ tree: ObservedTree) {
        guard let users = tree.namespaces[index].owner, !tree.isWhole(users), let first = tree.live.first(where: { $0.pids == pids && $0.slotPid == 1 }) else { return }
        let home = tree.place(of: first)
        for s in sockets where [s.local, s.remote].contains(where: { $0.count > 2 && $0[2] != 0 }) {
            if UInt32(s.record.mounts) == home { continue }
            refuse(s, "Unix \(s.name): it was made in a pid namespace within a user namespace of the tree's own, and its name lies in other mounts than those of the first process there (pid \(first.pid))",
                   "bind it where that process sees it, or start ckrun inside of the namespace")
        }
    }
    private func place(of i: Int, _ tree: ObservedTree) -> UInt32 { i < survey.all.count ? survey.all[i].creatorPids : client(of: i - survey.all.count, tree)?.pids ?? 0 }
    private func client(of pending: Int, _ tree: ObservedTree) -> ObservedProcess? { tree.live.first { $0.ownPid == survey.pending[pending].creator_pid } }
    /// They have what that has made before they were born.
    private func isBelowFirst(of place: UInt32, _ i: Int, _ tree: ObservedTree) -> Bool {
        var next: Int? = i
        while let n = next {
            let p = tree.processes[n]
            if p.pids == place && p.slotPid == 1 { return true }
            next = p.parent
        }
        return false
    }
    /// Queues are filled where they are made.
    private func refuseMessages() {
        for s in survey.all where s.family == SocketFamily.unix {
            for m in tables.messages[Int(s.record.first_message)..<Int(s.record.first_message + s.record.message_count)] {
                if s.record.creator_pids != 0 && m.flags & CKPT_MESSAGE_CREDENTIALS.rawValue != 0 {
                    refuse(s, "Unix \(s.name): an unread message shows credentials, in a pid namespace of the tree's own", "read it before the checkpoint")
                }
                for d in tables.carried[Int(m.first_carried)..<Int(m.first_carried + m.carried_count)] {
                    guard let i = survey.byDescription[Int(d)], survey.all[i].record.creator_pids != 0, survey.all[i].record.creator_pids != s.record.creator_pids else { continue }
                    refuse(s, "Unix \(s.name): an unread message carries a socket that was made inside of a pid namespace of the tree's own", "read it before the checkpoint")
                }
            }
        }
    }
}
