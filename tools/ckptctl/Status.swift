import ArgumentParser
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Shows one session, or what is in a statefile.")
    @Argument(help: "A session (name, id or pid), or a statefile.") var what: String
    @Flag(help: "Print JSON.") var json = false
    @Flag(help: "Of a statefile: also every task's stack.") var stacks = false

    func run() throws {
        if try what.contains("/") || Sessions.find(what).isEmpty, FileStatus(what) != nil { return try showStatefile() }
        let (segment, members) = try session(what, for: "status")
        let views = members.compactMap(MemberView.init)
        if json { return try output(List.json(segment, views)) }
        var text = "session \(segment.id) '\(printable(segment.name))': \(printable(segment.command))\n"
        text += "\(segment.pointer.pointee.restored != 0 ? "restarted" : "started") \(ageText(seconds: segment.age / 1_000_000_000)) ago, \(counted(segment.checkpoints, "checkpoint"))"
        text += ", \(counted(views.count, "process", "processes")), \(counted(views.reduce(0) { $0 + $1.threads }, "task")), \(sizeText(views.reduce(0) { $0 + $1.memory }))\n"
        if segment.pointer.pointee.failure.code != 0 { text += "last failure: \(words(for: segment.pointer.pointee.failure))\n" }
        var table = TextTable([("PID", .right), ("PARENT", .right), ("THREADS", .right), ("MEMORY", .right), ("STATE", .left), ("COMMAND", .left)])
        for v in views { table.add([String(v.pid), String(v.parent), String(v.threads), sizeText(v.memory), v.state, v.comm]) }
        try output(text + table.rendered())
    }

    private func showStatefile() throws {
        let statefile = try Statefile(path: what)
        let summary = try StatefileSummary(statefile, stacks: stacks)
        if json { try output(summary.json) } else { try output(summary.text) }
    }
}
