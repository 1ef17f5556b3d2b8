// `ckptctl inspect FILE`: the tree, and for each process all that the statefile holds of it.  Each part is a view of its own in a file of its own.
import ArgumentParser
import CkptABI
import CkptReport
import CkptStatefile
import CkptSystem

struct Inspect: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Shows everything that a statefile holds of its processes.")
    @Argument(help: "The statefile.") var file: String
    @Option(help: "Only this process, as the tree itself sees its pid.") var pid: Int32?
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        let statefile = try Statefile(path: file)
        let chosen = try pid.map { _ in [try statefile.process(pid, for: "inspect")] } ?? Array(statefile.processes.indices)
        let tree = TreeView(statefile), views = chosen.map { ProcessViews(statefile, $0) }
        if json {
            return try output(.object((pid == nil ? [.init("tree", tree.json), .init("ipc", IPCView(statefile).json)] : []) + [.init("processes", .list(views.map(\.json)))]))
        }
        try output((pid == nil ? tree.text + IPCView(statefile).text : "") + views.map { (pid == nil ? "\n" : "") + $0.text }.joined())
    }
}

/// A part of what is known of a process.
protocol ProcessView {
    static var title: String { get }
    init(_ statefile: Statefile, _ process: Int)
    /// Lines below the title; none: there is nothing to tell.
    var lines: [String] { get }
    var json: JSON { get }
}

struct ProcessViews {
    private static let all: [any ProcessView.Type] = [IdentityView.self, TaskView.self, DescriptorView.self, LockView.self, MappingView.self, SignalView.self, TimerView.self, LimitView.self]
    private let record: ckpt_process_record
    private let comm: String, command: String
    private let views: [any ProcessView]

    init(_ statefile: Statefile, _ i: Int) {
        record = statefile.processes[i]
        comm = statefile.string(record.comm); command = statefile.string(record.cmdline)
        views = record.flags & CKPT_PROCESS_ZOMBIE.rawValue != 0 ? [] : Self.all.map { $0.init(statefile, i) }
    }

    private var state: String {
        if record.flags & CKPT_PROCESS_ZOMBIE.rawValue != 0 { return "zombie, " + waitStatusWords(record.exit_status) }
        return record.flags & CKPT_PROCESS_STOPPED.rawValue != 0 ? "stopped" : "running"
    }
    var text: String {
        var text = "pid \(record.pid) '\(printable(comm))': \(state)" + (command.isEmpty ? "" : ": \(printable(command.trimmedEnd))") + "\n"
        for v in views where !v.lines.isEmpty {
            text += "  \(type(of: v).title)\n" + v.lines.map { "    \($0)\n" }.joined()
        }
        return text
    }
    var json: JSON {
        .object([.init("pid", JSON(record.pid)), .init("name", .text(comm)), .init("command", .text(command.trimmedEnd)), .init("state", .text(state))]
            + views.map { .init(type(of: $0).title, $0.json) })
    }
}

extension String {
    var trimmedEnd: String { String(self[..<(lastIndex { $0 != " " }.map(index(after:)) ?? startIndex)]) }
}
/// Aligned columns without a heading.
func columns(_ rows: [[String]]) -> [String] {
    var widths: [Int] = []
    for row in rows { for (i, c) in row.enumerated() { if i < widths.count { widths[i] = max(widths[i], printable(c).count) } else { widths.append(printable(c).count) } } }
    return rows.map { row in row.enumerated().map { i, c in printable(c) + String(repeating: " ", count: widths[i] - printable(c).count) }.joined(separator: "  ").trimmedEnd }
}
/// The names of the bits that are set; what has no name is shown as a number.
func flagNames(_ value: UInt32, _ names: [(UInt32, String)]) -> [String] {
    var rest = value
    var found: [String] = []
    for (bit, name) in names where bit != 0 && rest & bit == bit { found.append(name); rest &= ~bit }
    return rest == 0 ? found : found + ["0x" + hex(UInt64(rest))]
}
