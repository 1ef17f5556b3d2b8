// Hands the statefile's descriptor and its page map to each writer that connects, and notices when one dies.
// (A process that has changed its uids may not open its own page map; we may, or could not have read the rest of it.)
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

final class ChannelServer: @unchecked Sendable {
    private let listener: Listener
    private let file: File
    private let worker: Worker
    private let state = ServerState()

    init(_ segment: Segment, _ file: File, generation: UInt32, views: [Int32: Int32]) throws(CheckpointFailure) {
        self.file = file
        let name = "ckpt-\(segment.id)-\(generation)-\(Kernel.processID)"
        do throws(SystemError) { listener = try Listener(abstract: name) } catch {
            throw CheckpointFailure([Problem(.system, "checkpoint", object: segment.name, cause: "\(error.call): \(error.text)")])
        }
        let field = ckpt_session_socket(segment.pointer)
        for (i, c) in name.utf8.prefix(62).enumerated() { field[i] = CChar(bitPattern: c); field[i + 1] = 0 }
        let listener = self.listener, state = self.state
        worker = Worker { ChannelServer.serve(listener, file, state, views) }
    }

    private static func serve(_ listener: Listener, _ file: File, _ state: ServerState, _ views: [Int32: Int32]) {
        var open: [Connection] = []
        while !state.isStopped {
            open = open.filter { !$0.hasEnded }
            state.setOpen(open.map(\.peer))
            guard let c = listener.accept(milliseconds: 20) else { continue }
            guard c.peerUser == Kernel.userID || Kernel.userID == 0, let pagemap = try? File("/proc/\(views[c.peer] ?? c.peer)/pagemap") else { continue }
            // When memory runs short, the copy should go before the application does.
            if views[c.peer] == nil { try? Path.write("1000", to: "/proc/\(c.peer)/oom_score_adj") }
            c.send(file, pagemap)
            open.append(c)
            state.addSeen(c.peer)
        }
    }
    /// Writers that have connected and are still connected, as we see their pids.
    var openWriters: [Int32] { state.open }
    var seenWriters: Set<Int32> { state.seen }
    func stop() { state.stop(); worker.join() }
}
