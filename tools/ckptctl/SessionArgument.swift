// How verbs find the session that the user means.
import CkptReport
import CkptSession
import CkptSystem

typealias LiveSession = (segment: Segment, members: [Member])

/// The one session with this name, id or pid.
func session(_ what: String, for operation: String) throws -> LiveSession {
    var found = try Sessions.find(what)
    if found.isEmpty, let pid = Int32(what) { found = try sessionsBelow(pid) }
    if found.count == 1 { return found[0] }
    if found.isEmpty {
        throw Problem(.noSession, operation, object: what, cause: "no such session", remedy: "ckptctl list shows them; programs started by ckrun have one")
    }
    throw Problem(.usage, operation, object: what, cause: "\(found.count) sessions have this name (\(found.map(\.segment.id).joined(separator: ", ")))", remedy: "name one by its id or a pid")
}

/// The pid of a restart, or of a supervising ckrun, stands for the session of the tree below it.
private func sessionsBelow(_ pid: Int32) throws -> [LiveSession] {
    try Sessions.all().filter { session in
        session.members.contains { member in
            var at = member.pid
            // Pids are reused while this looks: no chain is longer than this.
            for _ in 0..<4096 where at > 1 && at != pid { at = ProcStat(pid: at)?.parent ?? 0 }
            return at == pid
        }
    }
}

/// What a listing tells of a member.
struct MemberView {
    let pid: Int32, parent: Int32, comm: String, state: String, threads: Int, memory: UInt64
    init?(_ member: Member) {
        guard let stat = ProcStat(pid: member.pid), let status = ProcStatus(pid: member.pid) else { return nil }
        pid = member.pid
        parent = stat.parent
        comm = stat.comm
        threads = stat.threads
        state = ["R": "running", "S": "sleeping", "D": "in uninterruptible sleep", "T": "stopped", "t": "traced", "Z": "zombie"][stat.state] ?? String(stat.state)
        memory = status.kilobytes("VmRSS") * 1024
    }
    var json: JSON {
        ["pid": JSON(pid), "parent": JSON(parent), "command": .text(comm), "state": .text(state), "threads": JSON(threads), "memory": JSON(memory)]
    }
}

extension Segment {
    /// Nanoseconds since it was launched or restarted.
    var age: UInt64 {
        let since = pointer.pointee.restored != 0 ? pointer.pointee.restored : created
        let now = Kernel.clock(0)
        return now > since ? now - since : 0
    }
}
