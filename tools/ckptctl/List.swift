import ArgumentParser
import CkptReport
import CkptSession
import CkptSystem

struct List: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Lists the sessions that can be checkpointed.")
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        let sessions = try Sessions.all().map { session in (session.segment, session.members.compactMap(MemberView.init)) }
        if json { return try output(.list(sessions.map(Self.json))) }
        if sessions.isEmpty { return note("no sessions; start a program with ckrun") }
        var table = TextTable([("NAME", .left), ("PID", .right), ("PROCESSES", .right), ("TASKS", .right), ("MEMORY", .right), ("AGE", .right), ("COMMAND", .left)])
        for (segment, members) in sessions {
            table.add([segment.name, String(Self.mainPid(segment, members)), String(members.count), String(members.reduce(0) { $0 + $1.threads }),
                       sizeText(members.reduce(0) { $0 + $1.memory }), ageText(seconds: segment.age / 1_000_000_000), segment.command])
        }
        try output(table.rendered())
    }

    /// The launched process if it still lives, else the oldest of those whose parent is no member.
    static func mainPid(_ segment: Segment, _ members: [MemberView]) -> Int32 {
        let pids = Set(members.map(\.pid))
        if pids.contains(segment.pointer.pointee.launch_pid) { return segment.pointer.pointee.launch_pid }
        return members.first { !pids.contains($0.parent) }?.pid ?? members.first?.pid ?? 0
    }

    static func json(_ segment: Segment, _ members: [MemberView]) -> JSON {
        ["id": .text(segment.id), "name": .text(segment.name), "command": .text(segment.command), "pid": JSON(mainPid(segment, members)),
         "user": JSON(segment.pointer.pointee.uid), "checkpoints": JSON(segment.checkpoints),
         "created": JSON(segment.created), "restored": JSON(segment.pointer.pointee.restored), "segment": .text(segment.path),
         "tasks": JSON(members.reduce(0) { $0 + $1.threads }), "memory": JSON(members.reduce(0) { $0 + $1.memory }),
         "processes": .list(members.map(\.json))]
    }
}
