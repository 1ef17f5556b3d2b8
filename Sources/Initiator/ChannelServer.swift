// Hands the statefile's descriptor and its page map to each writer that connects, and notices when one dies.
// (A process that has changed its uids may not open its own page map; we may, or could not have read the rest of it.)
// The name is there for everybody: whoever is no user of the tree's gets nothing.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

final class ChannelServer: @unchecked Sendable {
    private let listeners: [Listener]
    private let worker: Worker
    private let state = ServerState()

    /// With `intake` writers get a socket that leads there.
    init(_ segment: Segment, _ file: File, _ intake: PageIntake?, generation: UInt32, _ members: [ObservedProcess], networks: [String?], bases: [File] = []) throws(CheckpointFailure) {
        let name = "ckpt-\(segment.id)-\(generation)-\(Kernel.processID)"
        do throws(SystemError) {
            // An abstract name belongs to a network namespace.
            listeners = try networks.map { path throws(SystemError) in
                func listen() -> Result<Listener, SystemError> { Result { () throws(SystemError) in try Listener(abstract: name) } }
                return try (path.map { path throws(SystemError) in try Namespace.inside(path, Namespace.net, listen) } ?? listen()).get()
            }
        } catch {
            throw CheckpointFailure([Problem(.system, "checkpoint", object: segment.name, cause: "\(error.call): \(error.text)")])
        }
        let field = ckpt_session_socket(segment.pointer)
        for (i, c) in name.utf8.prefix(62).enumerated() { field[i] = CChar(bitPattern: c); field[i + 1] = 0 }
        let listeners = self.listeners, state = self.state
        let views = Dictionary(uniqueKeysWithValues: members.map { ($0.pid, $0.view) }), users = members.users
        do throws(SystemError) { worker = try Worker { ChannelServer.serve(listeners, file, intake, bases, state, views, users) } } catch {
            throw CheckpointFailure([Problem(.system, "checkpoint", object: segment.name, cause: "\(error.call): \(error.text)")])
        }
    }

    private static func serve(_ listeners: [Listener], _ file: File, _ intake: PageIntake?, _ bases: [File], _ state: ServerState, _ views: [Int32: Int32], _ users: Set<UInt32>) {
        var open: [Connection] = [], next = 0
        while !state.isStopped {
            open = open.filter { !$0.hasEnded }
            state.setOpen(open.map(\.peer))
            next = (next + 1) % listeners.count
            guard let c = listeners[next].accept(milliseconds: listeners.count == 1 ? 20 : 2) else { continue }
            let pid = views[c.peer] ?? c.peer
            guard users.contains(c.peerUser), let pagemap = try? Kernel.withoutAdministration({ () throws(SystemError) in try File("/proc/\(pid)/pagemap") }) else { continue }
            // It may have executed a set-uid program since it called, or have gone and left its number to another: that would be somebody else's page map.
            guard let now = ProcStatus(pid: pid)?.numbers("Uid"), now.allSatisfy({ users.contains(UInt32($0)) }) else { continue }
            // When memory runs short, the copy should go before the application does.
            if views[c.peer] == nil { try? Path.write("1000", to: "/proc/\(c.peer)/oom_score_adj") }
            if let intake {
                guard let end = try? intake.connect() else { continue }
                c.send(end, pagemap, CKPT_CHANNEL_STREAM)
            } else { c.send(file, pagemap, CKPT_CHANNEL_FILE, more: bases) }
            open.append(c)
            state.addSeen(c.peer)
        }
    }

    /// Writers that have connected and are still connected, as we see their pids.
    var openWriters: [Int32] { state.open }
    var seenWriters: Set<Int32> { state.seen }
    func stop() { state.stop(); for l in listeners { l.stop() }; worker.join() }
}
