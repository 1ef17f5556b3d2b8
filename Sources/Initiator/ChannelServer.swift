// Hands the statefile's descriptor and /proc/PID to each writer that connects, and notices when one dies.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

final class ChannelServer: @unchecked Sendable {
    private let listener: Listener
    private let file: File
    private let worker: Worker
    private let state = ServerState()

    init(_ segment: Segment, _ file: File, generation: UInt32) throws(CheckpointFailure) {
        self.file = file
        let name = "ckpt-\(segment.id)-\(generation)-\(Kernel.processID)"
        do throws(SystemError) { listener = try Listener(abstract: name) } catch {
            throw CheckpointFailure([Problem(.system, "checkpoint", object: segment.name, cause: "\(error.call): \(error.text)")])
        }
        let field = ckpt_session_socket(segment.pointer)
        for (i, c) in name.utf8.prefix(62).enumerated() { field[i] = CChar(bitPattern: c); field[i + 1] = 0 }
        let listener = self.listener, state = self.state
        worker = Worker { ChannelServer.serve(listener, file, state) }
    }

    private static func serve(_ listener: Listener, _ file: File, _ state: ServerState) {
        var open: [Connection] = []
        while !state.isStopped {
            open = open.filter { !$0.hasEnded }
            state.setOpen(open.map(\.peer))
            guard let c = listener.accept(milliseconds: 20) else { continue }
            guard c.peerUser == Kernel.userID || Kernel.userID == 0, let process = try? File("/proc/\(c.peer)", flags: 0o10000000 | 0o200000) else { continue }
            c.send(file, process)
            open.append(c)
            state.addSeen(c.peer)
        }
    }
    /// Writers that have connected and are still connected, as we see their pids.
    var openWriters: [Int32] { state.open }
    var seenWriters: Set<Int32> { state.seen }
    func stop() { state.stop(); worker.join() }
}
