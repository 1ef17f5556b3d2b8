// The sockets of the tree: which are connected to which, what is in their queues, their options.  They are looked at through copies of
// descriptors, which share everything with the task's: nothing is consumed, and an option that has to change is in the undo list first.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

/// One socket, and the record that it becomes.  Its index is the record's.
final class ObservedSocket {
    let index: Int
    let description: Int                // in OpenFiles
    let file: File                      // a copy
    let inode: UInt64
    let family: Int32, type: Int32, protocolNumber: Int32
    let local: [UInt8], remote: [UInt8] // sockaddr; empty: none
    let isListening: Bool
    let holders: [UndoHolder]           // who has a descriptor of it
    let pid: Int32, fd: Int32           // for messages
    var record = ckpt_socket_record()
    var refused = false
    var isFenced = false
    var network: PartNetwork = nil
    var creatorPids: UInt32 = 0         // the pid namespace of the tree's own in which its creator was; 0: none

    init(_ index: Int, _ description: Int, _ file: File, _ f: OpenFile, _ tree: ObservedTree) throws(SystemError) {
        self.index = index; self.description = description; self.file = file
        inode = f.sample.inode; pid = f.samplePid; fd = f.sample.number
        func int(_ name: Int32) -> Int32 { file.intOption(SocketLevel.socket, name) ?? 0 }
        let acceptsConnections: Int32 = 30, protocolName: Int32 = 38, domain: Int32 = 39, typeName: Int32 = 3
        family = int(domain); type = int(typeName); protocolNumber = int(protocolName); isListening = int(acceptsConnections) != 0
        local = try file.localAddress()
        remote = isListening ? [] : try file.peerAddress() ?? []
        holders = f.holders.map { UndoHolder(slot: tree.processes[$0.process].slot, number: $0.number) }
        record.object = ckpt_no_index(); record.peer = ckpt_no_index(); record.listener = ckpt_no_index(); record.description = UInt32(description)
        record.family = UInt32(family); record.type = UInt32(type); record.protocol = UInt32(protocolNumber)
        record.state = (isListening ? CKPT_SOCKET_LISTENING : CKPT_SOCKET_OPEN).rawValue
    }
}

/// All sockets, and what is known of them together.
final class SocketSurvey {
    var all: [ObservedSocket] = []
    var byInode: [UInt64: Int] = [:]
    var byDescription: [Int: Int] = [:]
    /// The server's ends of connections that nobody has accepted: records without a descriptor.
    var pending: [ckpt_socket_record] = []
    var unix: [UInt32: UnixSocketState] = [:]
    /// Copies of descriptors that are in flight; open as long as they are described by /proc/self/fd.
    var inFlight: [File] = []
    /// Sockets of ours.
    struct FreshKind: Hashable { var network: PartNetwork, family: Int32, type: Int32, protocolNumber: Int32 }
    var fresh: [FreshKind: File] = [:]
    let undo: OptionUndo
    init(_ undo: OptionUndo) { self.undo = undo }
}

extension ObservedProcess {
    /// nil: its network is ours.
    var networkElsewhere: String? { namespace("net") == Namespace.number(Kernel.processID, "net") ? nil : "/proc/\(view)/ns/net" }
}

extension SystemContent {
    /// Looks at all sockets before any file is described: a queue may hold descriptors that nobody else has.
    func surveySockets(_ tree: ObservedTree, _ segment: Segment) {
        survey = SocketSurvey(OptionUndo(segment))
        guard files.all.contains(where: { $0.sample.isSocket }) else { return }
        // A queue may bring further descriptions, which may be sockets.
        var next = 0
        while next < files.all.count {
            defer { next += 1 }
            let f = files.all[next]
            guard f.sample.isSocket, let s = look(next, f, tree) else { continue }
            if s.family == SocketFamily.unix && !s.refused { readUnixQueue(s, tree) }
        }
        connectUnixSockets(tree)
        surveyInternetSockets(tree)
        for s in survey.all where !s.refused { captureOptions(s) }
        tables.sockets = survey.all.map(\.record) + survey.pending
    }

    private func look(_ i: Int, _ f: OpenFile, _ tree: ObservedTree) -> ObservedSocket? {
        do throws(SystemError) {
            let s = try ObservedSocket(survey.all.count, i, try fetch.copy(of: f.samplePid, f.sample.number), f, tree)
            survey.all.append(s)
            survey.byInode[s.inode] = s.index
            survey.byDescription[i] = s.index
            locate(s)
            return s
        } catch {
            refusals.add(pid: f.samplePid, fd: f.sample.number, "\(f.sample.link): it can't be looked at: \(error.call): \(error.text)", "run ckptctl as root, or close it before the checkpoint")
            return nil
        }
    }

    func refuse(_ s: ObservedSocket, _ what: String, _ remedy: String) {
        s.refused = true
        refusals.add(pid: s.pid, fd: s.fd, what, remedy)
    }

    /// The object of one socket.
    func socketObject(_ description: Int, _ f: OpenFile) -> UInt32? {
        guard let i = survey.byDescription[description] else { return nil }
        let s = survey.all[i], d = f.sample
        if s.refused { return nil }
        if s.record.flags & CKPT_SOCKET_OUTSIDE.rawValue != 0 { return outside(d) }
        var o = ckpt_object_record()
        o.kind = CKPT_OBJECT_SOCKET.rawValue; o.mode = d.mode; o.device = d.device; o.inode = d.inode; (o.uid, o.gid) = ownUsers.inside(d.uid, d.gid)
        o.path = tables.text(d.link); o.detail = UInt32(i)
        let object = append(o, ObjectKey(kind: o.kind, device: d.device, inode: d.inode, path: ""))
        tables.sockets[i].object = object
        files.openInEngine(description)
        return object
    }

    /// Copies of descriptors keep sockets alive: they go before anybody runs on.
    func dropCopies() {
        survey = SocketSurvey(survey.undo)
        fetch.drop()
    }

    func address(_ bytes: [UInt8]) -> (at: UInt32, size: UInt32) { bytes.isEmpty ? (0, 0) : (tables.blob(bytes), UInt32(bytes.count)) }
}
