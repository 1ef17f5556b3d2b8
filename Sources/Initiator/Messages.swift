// What is in a Unix socket's receive queue, message by message, oldest first: bytes, sender's address, descriptors in flight, credentials.
// MSG_PEEK takes nothing out; SO_PEEK_OFF steps through the queue, and is in the undo list while it does.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

private let peekOffset: Int32 = 42, passCredentials: Int32 = 16

extension SystemContent {
    /// Reads the queue of a Unix socket into MESSAGE records.
    func readUnixQueue(_ s: ObservedSocket, _ tree: ObservedTree) {
        s.record.first_message = UInt32(tables.messages.count)
        defer { s.record.message_count = UInt32(tables.messages.count) - s.record.first_message }
        // Without a connection there is nothing, and to ask is an error.
        if s.isListening || (s.isStream && s.remote.isEmpty) { return }
        // A receive that finds nothing takes a pending error along; one of packets takes it before them.
        if s.file.hasPendingError {
            if s.file.readable == 0 { return }
            if s.type != SocketType.stream { return refuse(s, "Unix \(s.name): its peer has left without reading, and packets are unread", "read it empty before the checkpoint") }
        }
        do throws(SystemError) {
            let readable = s.file.readable, showsCredentials = s.file.intOption(SocketLevel.socket, passCredentials) != 0
            let isInFlight = s.holders.isEmpty, hasMessages = s.type == SocketType.datagram || (s.type == SocketType.seqpacket && !(isInFlight && readable > 0))
            if hasMessages {
                if !isShownTwice(s) { try stepThroughMessages(s, tree, showsCredentials) }
                return
            }
            // A look moves the place where the program's own next one begins, if it steps through the queue itself.
            if readable > 0, (s.file.intOption(SocketLevel.socket, peekOffset) ?? -1) >= 0 { return try stepThrough(s, tree) }
            guard let first = try s.file.peek(capacity: max(readable, 4096)) else { return }
            // Most queues are seen at one look, without changing an option.
            if first.bytes.count == readable && readable > 0 && !showsCredentials { try addWhole(s, first, tree) } else { try stepThrough(s, tree) }
        } catch {
            let cause = error.errno == 92 ? "its queue can't be looked at" : "its queue can't be read: \(error.call): \(error.text)"
            refuse(s, "Unix \(s.name): \(cause)", "read it empty before the checkpoint")
        }
    }

    /// A read of a stream ends with the descriptors that it meets: what lies before them is a message of its own.
    private func addWhole(_ s: ObservedSocket, _ m: QueuedMessage, _ tree: ObservedTree) throws(SystemError) {
        var plain = 0
        if s.type == SocketType.stream && !m.descriptors.isEmpty { plain = try s.file.startOfLastWrite(in: m.bytes.count) }
        if plain > 0 { try add(s, QueuedMessage(bytes: Array(m.bytes.prefix(plain)), source: m.source), tree) }
        var rest = m
        rest.bytes = Array(m.bytes.dropFirst(plain))
        try add(s, rest, tree)
    }

    private func stepThrough(_ s: ObservedSocket, _ tree: ObservedTree) throws(SystemError) {
        if s.holders.isEmpty { return refuse(s, "Unix \(s.name): it is in a message, and holds several messages itself", "receive it before the checkpoint") }
        try survey.undo.with(s.file, s.holders, SocketLevel.socket, peekOffset, 0) { () throws(SystemError) in
            options.onPhase("peek")
            var offset = 0
            while var m = try peek(s, at: offset) {
                if !m.descriptors.isEmpty {
                    try s.file.setOption(SocketLevel.socket, peekOffset, Int32(offset))
                    let before = try s.file.startOfLastWrite(in: m.bytes.count)
                    if before > 0 { m.bytes = Array(m.bytes.prefix(before)); m.descriptors = [] }
                }
                try add(s, m, tree)
                offset += m.bytes.count
                try s.file.setOption(SocketLevel.socket, peekOffset, Int32(offset))
                if m.bytes.isEmpty { break }
            }
        }
    }

    private func peek(_ s: ObservedSocket, at offset: Int) throws(SystemError) -> QueuedMessage? {
        let left = s.file.readable - offset
        return left <= 0 ? nil : try s.file.peek(capacity: left)
    }

    /// Packets and datagrams.  A message of no bytes is told from the end of a connection of packets by its credentials, which each message has and the end has not.
    private func stepThroughMessages(_ s: ObservedSocket, _ tree: ObservedTree, _ showsCredentials: Bool) throws(SystemError) {
        if s.file.readiness & 1 == 0 { return }
        if s.holders.isEmpty { return refuse(s, "Unix \(s.name): it is in a message, and holds several messages itself", "receive it before the checkpoint") }
        try survey.undo.with(s.file, s.holders, SocketLevel.socket, passCredentials, 1) { () throws(SystemError) in
            try survey.undo.with(s.file, s.holders, SocketLevel.socket, peekOffset, 0) { () throws(SystemError) in
                options.onPhase("peek")
                // A message that does not fit would be left half behind: room for the largest that a sender's buffer holds.
                while var m = try s.file.peek(capacity: max(s.file.readable, 1 << 18)), m.credentials != nil {
                    if m.bytes.isEmpty { noteEmptyMessage(s) }
                    if !showsCredentials { m.credentials = nil }
                    try add(s, m, tree)
                }
            }
        }
    }

    /// The kernel shows a message of no bytes to one look that steps through a queue, and to no other.
    func noteEmptyMessage(_ s: ObservedSocket) { ckpt_add_noted(ckpt_emptied(segment.pointer), s.inode) }

    /// An earlier checkpoint has looked at messages of no bytes, and the queue has not been read empty since: refused.
    func isShownTwice(_ s: ObservedSocket) -> Bool {
        let noted = ckpt_emptied(segment.pointer), knowsAll = noted.pointee.more == 0
        if s.file.readiness & 1 == 0 { ckpt_forget_noted(noted, s.inode); return false }
        if knowsAll && !ckpt_is_noted(noted, s.inode) { return false }
        s.refused = true
        refusals.add(pid: s.pid, fd: s.fd, "\(s.family == SocketFamily.unix ? "Unix \(s.name)" : "UDP \(s.local.text)"): its queue may hold messages of no bytes that an earlier checkpoint has looked at, and that Linux shows once", "try again when it has been read empty", status: .temporary)
        return true
    }

    private func add(_ s: ObservedSocket, _ m: QueuedMessage, _ tree: ObservedTree) throws(SystemError) {
        var r = ckpt_message_record()
        r.sender = ckpt_no_index()
        if !m.bytes.isEmpty { r.content = try store(m.bytes); r.content_size = UInt64(m.bytes.count) }
        (r.source, r.source_size) = address(m.source.count > 2 ? m.source : [])
        if let c = m.credentials, !c.isNobody {
            let sender = tree.processes.first { $0.pid == c.pid }
            // In another pid namespace than the tree's, the number of a process that has ended is not the one that the tree would see.
            if sender == nil && tree.live.contains(where: { $0.pid != $0.ownPid }) {
                refuse(s, "Unix \(s.name): an unread message shows the credentials of a process that has ended, in another pid namespace", "read it empty before the checkpoint")
            }
            if let sender, sender.pids != 0, files.all[s.description].holders.contains(where: { tree.processes[$0.process].pids != 0 }) {
                refuse(s, "Unix \(s.name): an unread message shows the credentials of a process in a pid namespace of the tree's own", "read it empty before the checkpoint")
            }
            let own = sender?.ownPid ?? c.pid
            r.flags = CKPT_MESSAGE_CREDENTIALS.rawValue; r.pid = own; (r.uid, r.gid) = ownUsers.inside(c.uid, c.gid)
        }
        r.first_carried = UInt32(tables.carried.count); r.carried_count = UInt32(m.descriptors.count)
        for d in m.descriptors {
            let seen = try observeDescriptor(Kernel.processID, d.number)
            if seen.mode & FileType.mask == FileType.directory, seen.position != 0, tree.foldersInReading.remade.contains(Path.deviceWord(seen.device)) {
                refuse(s, "Unix \(s.name): an unread message carries a folder (\(seen.link)) of a tmpfs of the tree's own, which is read in part", "try again when the message has been read")
            }
            tables.carried.append(UInt32(files.hold(seen, pid: Kernel.processID)))
            survey.inFlight.append(d)
        }
        tables.messages.append(r)
    }
}

extension PeerCredentials {
    /// What the kernel shows of a message that came without credentials.
    var isNobody: Bool { pid == 0 && uid == 65534 }
}
