// Unix sockets: who is whose peer (sock_diag), names, files of path names, connections that wait to be accepted.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

extension ObservedSocket {
    /// As ss(8) shows a name: a path, or @ and an abstract name.
    var name: String {
        if family != SocketFamily.unix { return "socket" }
        return ["", "stream", "datagram", "", "", "seqpacket"][Int(min(type, 5))] + " socket " + (local.count > 2 ? unixName(local) : remote.count > 2 ? "to " + unixName(remote) : "without a name")
    }
    var isStream: Bool { type == SocketType.stream || type == SocketType.seqpacket }
}

func unixName(_ address: [UInt8]) -> String {
    if address.count <= 2 { return "without a name" }
    let text = String(name: address[2] == 0 ? address[3...] : address[2...].prefix { $0 != 0 })
    return address[2] == 0 ? "@" + text : text
}

extension SystemContent {
    func connectUnixSockets(_ tree: ObservedTree) {
        let sockets = survey.all.filter { $0.family == SocketFamily.unix && !$0.refused }
        if sockets.isEmpty { return }
        do throws(SystemError) {
            for n in networks { survey.unix.merge(try inNetwork(n) { Result { () throws(SystemError) in try UnixDiagnosis.sockets() } }.get()) { mine, _ in mine } }
        } catch {
            return refuse(sockets[0], "Unix sockets: the kernel does not tell who is connected to whom: \(error.text)", "load the module unix_diag")
        }
        for s in sockets { place(s, tree) }
        for s in sockets where s.isListening { addPending(s, tree) }
        for s in sockets where !s.refused { connect(s, tree) }
        for s in sockets where !s.refused { nameSenders(s) }
        if !tree.pidNamespaces.isEmpty { placeCreators(tree) }
        refuseExchangeableNames()
    }

    /// Its names, and whom it shows as its peer.
    private func place(_ s: ObservedSocket, _ tree: ObservedTree) {
        guard let state = survey.unix[UInt32(truncatingIfNeeded: s.inode)] else {
            return refuse(s, "Unix \(s.name): it belongs to another network namespace than ckptctl", "run ckptctl in the namespace of the program (nsenter --net)")
        }
        s.record.flags = UInt32(state.shutdown) & 3
        s.record.backlog = UInt32(state.backlog)
        (s.record.local, s.record.local_size) = address(s.local.count > 2 ? s.local : [])
        (s.record.remote, s.record.remote_size) = address(s.remote.count > 2 ? s.remote : [])
        if s.local.count > 2 && s.local[2] != 0 { findFile(s, state, tree) }
        else if let h = files.all[s.description].holders.first { s.record.mounts = UInt8(tree.place(of: tree.processes[h.process])) }
        setCreator(s, tree)
        // Whose it is decides with whose rights root's restart makes it: its holders' word for that is not taken.
        if tree.isOthers(segment), let c = s.file.peerCredentials { (s.record.creator_uid, s.record.creator_gid) = ownUsers.inside(c.uid, c.gid) }
    }

    /// What SO_PEERCRED shows, in the tree's own numbers where a process of the tree can be asked.
    private func setCreator(_ s: ObservedSocket, _ tree: ObservedTree) {
        if !tree.pidNamespaces.isEmpty { return setCreatorOfSeveral(s, tree) }
        for h in files.all[s.description].holders {
            guard let q = tree.processes[h.process].peers[h.number] else { continue }
            s.record.creator_pid = q.peer_pid; s.record.creator_uid = q.peer_uid; s.record.creator_gid = q.peer_gid
            return
        }
        guard let c = s.file.peerCredentials else { return }
        s.record.creator_pid = tree.processes.first { $0.pid == c.pid }?.ownPid ?? c.pid; (s.record.creator_uid, s.record.creator_gid) = ownUsers.inside(c.uid, c.gid)
    }

    /// Connections in the queue of a listening socket.  What is already in them can't be seen before they are accepted.
    private func addPending(_ s: ObservedSocket, _ tree: ObservedTree) {
        for inode in survey.unix[UInt32(truncatingIfNeeded: s.inode)]?.waiting ?? [] {
            guard let c = socket(inode) else {
                refusals.add(pid: s.pid, fd: s.fd, inode == 0 ? "Unix \(s.name): a connection waits to be accepted, and its client has closed it" : "Unix \(s.name): a connection from outside the session waits to be accepted",
                             "try again when it has been accepted", status: .temporary)
                continue
            }
            if c.file.unsent > 0 {
                refusals.add(pid: s.pid, fd: s.fd, "Unix \(s.name): a connection waits to be accepted, and pid \(c.pid) has sent something on it (its fd \(c.fd))", "try again when it has been accepted", status: .temporary)
            }
            var r = ckpt_socket_record()
            r.object = ckpt_no_index(); r.description = ckpt_no_index(); r.network = s.record.network
            r.family = s.record.family; r.type = s.record.type; r.protocol = s.record.protocol; r.state = CKPT_SOCKET_PENDING.rawValue
            r.peer = UInt32(c.index); r.listener = UInt32(s.index)
            (r.local, r.local_size) = (s.record.local, s.record.local_size); r.mounts = s.record.mounts
            if let maker = oldest(of: files.all[c.description].holders.map(\.process), tree) {
                let p = tree.processes[maker]
                r.creator_pid = p.ownPid
                r.creator_uid = p.effectiveUser ?? 0; r.creator_gid = UInt32(p.status.numbers("Gid").dropFirst().first ?? 0)
            }
            c.record.peer = UInt32(survey.all.count + survey.pending.count)
            c.record.state = CKPT_SOCKET_CONNECTED.rawValue
            survey.pending.append(r)
        }
    }

    /// Nobody is told who has connected before the connection is accepted.  Children inherit what their parent has made.
    private func oldest(of holders: [Int], _ tree: ObservedTree) -> Int? {
        holders.first { p in
            var next = tree.processes[p].parent, left = tree.processes.count
            while let n = next, left > 0 { if holders.contains(n) { return false }; next = tree.processes[n].parent; left -= 1 }
            return true
        }
    }

    private func socket(_ inode: UInt32) -> ObservedSocket? {
        inode == 0 ? nil : survey.all.first { $0.family == SocketFamily.unix && UInt32(truncatingIfNeeded: $0.inode) == inode }
    }

    private func connect(_ s: ObservedSocket, _ tree: ObservedTree) {
        guard let peer = survey.unix[UInt32(truncatingIfNeeded: s.inode)]?.peer, s.record.peer == ckpt_no_index() else { return }
        s.record.state = CKPT_SOCKET_CONNECTED.rawValue
        if let other = socket(peer) {
            s.record.peer = UInt32(other.index)
            s.record.queued_memory = UInt32(other.file.unsent)
            if s.isStream && s.local.count > 2, let l = survey.all.first(where: { $0.isListening && $0.type == s.type && $0.family == s.family && $0.local == s.local && $0.sharesNames(with: s, s.local) }) { s.record.listener = UInt32(l.index) }
        } else if peer != 0 || survey.unix.values.contains(where: { $0.waiting.contains(UInt32(truncatingIfNeeded: s.inode)) }) {
            leadsOutside(s, peer)
        } else {
            s.record.flags |= CKPT_SOCKET_PEER_GONE.rawValue | (s.file.hasPendingError ? CKPT_SOCKET_RESET.rawValue : 0)
        }
    }

    /// A datagram socket that only knows where to send is connected again; a connection is not.
    private func leadsOutside(_ s: ObservedSocket, _ peer: UInt32) {
        let other = survey.unix[peer]
        if s.type == SocketType.datagram && s.remote.count > 2 && other?.peer != UInt32(truncatingIfNeeded: s.inode) { return }
        let standard = files.all[s.description].standard
        if standard >= 0 && s.record.message_count == 0 { s.record.flags |= CKPT_SOCKET_OUTSIDE.rawValue; return }
        let owner = processHolding(peer).map { "pid \($0)" } ?? "a process that is unknown"
        refuse(s, "Unix \(s.name): connected to \(unixName(s.remote)) of \(owner), outside the session", "start the other program under the same ckrun, or close the connection")
    }

    private func processHolding(_ inode: UInt32) -> Int32? {
        for pid in ((try? Path.names(in: "/proc")) ?? []).compactMap({ Int32($0) }) where pid != Kernel.processID {
            for n in (try? Path.names(in: "/proc/\(pid)/fd")) ?? [] where (try? Path.link("/proc/\(pid)/fd/\(n)")) == "socket:[\(inode)]" { return pid }
        }
        return nil
    }

    /// Whose messages they are: a connection's peer's; a datagram's sender is known by its name, or by having it as its peer.
    private func nameSenders(_ s: ObservedSocket) {
        for m in Int(s.record.first_message)..<Int(s.record.first_message + s.record.message_count) {
            if s.isStream { tables.messages[m].sender = s.record.peer; continue }
            let source = tables.messages[m].source_size == 0 ? [] : tables.blob(at: tables.messages[m].source, Int(tables.messages[m].source_size))
            let sender = survey.all.first { $0.family == s.family && $0.type == s.type && (source.isEmpty ? $0.local.count <= 2 && Int($0.record.peer) == s.index : $0.local == source && $0.sharesNames(with: s, source)) }
            if let sender { tables.messages[m].sender = UInt32(sender.index) }
            else if s.local.count <= 2 || s.record.path_state == CKPT_SOCKET_PATH_GONE.rawValue {
                refuse(s, "Unix \(s.name): it holds a datagram whose sender has gone, and has no name any more", "read it empty before the checkpoint")
            }
        }
    }
}
