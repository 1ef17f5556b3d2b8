// TCP connections whose other end is outside of the tree: recorded with TCP_REPAIR where that is permitted, so that a restart can go on with them;
// else only what is unread, and the restart gives the program a connection that has been reset.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

private let repair: Int32 = 19, repairQueue: Int32 = 20, queueSequence: Int32 = 21, timestamp: Int32 = 24, repairWindow: Int32 = 29, segmentOption: Int32 = 2
private let receiveQueue: Int32 = 1, sendQueue: Int32 = 2
private let offWithoutProbe: Int32 = -1

extension SystemContent {
    func leadsOutside(_ s: ObservedSocket, _ remote: Endpoint) {
        let what = "TCP connection \(s.local.text) to \(remote.text), outside of the tree"
        if options.outside == .refuse { return refuse(s, what, "close it before the checkpoint, or leave out --tcp refuse") }
        if options.outside == .reset { return }
        let established = s.record.flags & (CKPT_SOCKET_SHUT_WRITE.rawValue | CKPT_SOCKET_PEER_FINISHED.rawValue) == 0
        guard established else {
            if options.outside == .repair { refuse(s, what + ": half of it is closed, which can't be repaired", "close it before the checkpoint, or use --tcp reset") }
            return
        }
        if !s.file.mayBeRepaired {
            if options.outside == .repair { refuse(s, what + ": TCP_REPAIR: \(SystemError("", errno: 1).text)", "run ckptctl with CAP_NET_ADMIN, as root, or use --tcp reset") }
            return
        }
        outside.append((s, what))
    }

    /// With --kill nothing is let in any more before the queues are read: it would be acknowledged, lack in the statefile, and not be sent again.
    func recordOutside() {
        defer { outside = [] }
        if options.afterwards == .kill { awaitSilence(outside.map(\.socket)) }
        for (s, what) in outside {
            let was = tables.messages.count
            do throws(SystemError) {
                let mayRecord = options.afterwards == .kill ? try fence(s) : true
                guard mayRecord else {
                    if options.outside == .repair { refuse(s, what + ": a filter of its own (SO_ATTACH_FILTER) is where ours must be", "use --tcp reset") }
                    continue
                }
                try recordRepair(s)
            } catch {
                tables.messages.removeLast(tables.messages.count - was)
                s.record.message_count = 0; s.record.repair_size = 0
                if options.outside == .repair { refuse(s, what + ": \(error.call): \(error.text)", "try again, or use --tcp reset") }
            }
        }
    }

    /// false: it has a filter of its own.
    private func fence(_ s: ObservedSocket) throws(SystemError) -> Bool {
        guard let own = s.file.classicFilter, own.isEmpty else { return false }
        try survey.undo.fence(s.file, s.holders)
        s.isFenced = true
        return true
    }

    /// Nobody has these connections between --kill and the restart, and the kernel answers with a reset whatever arrives then.  So what is under way is let
    /// arrive, and acknowledged: nothing makes the kernel acknowledge at once what is unread, but its own timer does.  Who goes on talking is not waited for.
    private func awaitSilence(_ sockets: [ObservedSocket]) {
        let longestDelay: UInt32 = 200, jiffies: UInt32 = 20, deadline = Kernel.clock(1) + 500_000_000
        func isSilent(_ s: ObservedSocket) -> Bool {
            guard let info = s.file.tcpInfo, info.state == .established else { return true }
            return info.unacknowledged == 0 && info.receivedAgo >= min(info.acknowledgementDelay, longestDelay) + jiffies
        }
        while !sockets.allSatisfy(isSilent), Kernel.clock(1) < deadline { Kernel.sleep(milliseconds: 2) }
    }

    private func recordRepair(_ s: ObservedSocket) throws(SystemError) {
        let reuse = s.file.intOption(SocketLevel.socket, 2) ?? 0
        s.record.first_message = UInt32(tables.messages.count)
        // TCP_REPAIR forgets SO_REUSEADDR.
        try survey.undo.with(s.file, s.holders, SocketLevel.socket, 2, reuse) { () throws(SystemError) in
            let off = withUnsafeBytes(of: offWithoutProbe) { [UInt8]($0) }
            try survey.undo.with(s.file, s.holders, SocketLevel.tcp, repair, 1, before: off) { () throws(SystemError) in
                var r = ckpt_tcp_repair()
                guard let info = s.file.tcpInfo, info.state == .established else { throw SystemError("TCP_REPAIR", errno: 11) }
                r.options = info.options; r.send_scale = info.sendScale; r.receive_scale = info.receiveScale; r.unsent = info.unsent
                r.segment = UInt32(s.file.intOption(SocketLevel.tcp, segmentOption) ?? 536)
                r.timestamp = UInt32(bitPattern: s.file.intOption(SocketLevel.tcp, timestamp) ?? 0)
                try withUnsafeMutableBytes(of: &r.window) { (w) throws(SystemError) in
                    guard let v = s.file.question(SocketLevel.tcp, repairWindow, [UInt8](repeating: 0, count: w.count)), v.count == w.count else { throw SystemError("TCP_REPAIR_WINDOW", errno: 22) }
                    w.copyBytes(from: v)
                }
                r.receive_sequence = try sequence(s, receiveQueue)
                try addStream(s, try peekAll(s))
                r.send_sequence = try sequence(s, sendQueue)
                try addStream(s, try s.file.peekRepairQueue(s.file.unsent))
                s.record.repair = withUnsafeBytes(of: r) { tables.blob([UInt8]($0)) }
                s.record.repair_size = UInt32(MemoryLayout<ckpt_tcp_repair>.size)
            }
        }
        if options.afterwards == .kill { silenced.append(s.file) }
    }

    /// Chooses a queue; the sequence number at its end.
    private func sequence(_ s: ObservedSocket, _ queue: Int32) throws(SystemError) -> UInt32 {
        try s.file.setOption(SocketLevel.tcp, repairQueue, queue)
        guard let v = s.file.intOption(SocketLevel.tcp, queueSequence) else { throw SystemError("TCP_QUEUE_SEQ", errno: 22) }
        return UInt32(bitPattern: v)
    }
}

extension SystemContent {
    /// After the commit of --kill: the connections end without a word.  Those to the outside are to go on, and those in the tree leave no TIME_WAIT
    /// in the way of the restart.
    func endConnections() {
        survey.undo.leaveFences()
        for f in silenced { try? f.setOption(SocketLevel.tcp, repair, 1) }
        for f in abrupt { f.closeAbruptly() }
        silenced = []; abrupt = []
    }
}
