import ArgumentParser
import CkptReport
import CkptStatefile
import CkptSystem

struct Gdb: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Opens a statefile in gdb, every process as an inferior of its own.",
        discussion: "Words after `--` go to gdb.")
    @Argument(help: "The statefile.") var file: String
    @Option(help: "Only this process.") var pid: Int32?
    @Argument(parsing: .postTerminator, help: "Options of gdb.") var options: [String] = []

    func run() throws {
        let statefile = try Statefile(path: file)
        guard let gdb = Program.find("gdb") else { throw Problem(.lacking, "gdb", object: file, cause: "gdb is not installed", remedy: "apt-get install gdb") }
        let error = Program.become(gdb, [gdb] + (try arguments(statefile)) + options)
        throw Problem(.system, "gdb", object: file, cause: error.text)
    }

    private func arguments(_ statefile: Statefile) throws -> [String] {
        var chosen = statefile.processes.indices.filter { statefile.processes[$0].task_count > 0 }
        if let pid { chosen = [try statefile.process(pid, for: "gdb")] }
        let root = Int(statefile.tree.root)
        if chosen.count == 1, chosen[0] == root, statefile.face == .core { return executable(statefile, root) + ["-core", file] }
        // gdb 13 would drop what an inferior's first command prints into a pager, and ask before it changes inferiors.
        var words = ["-iex", "set pagination off", "-iex", "set confirm off"]
        for (n, process) in chosen.enumerated() {
            let view = try viewFile(statefile, process)
            if n == 0 {
                words += executable(statefile, process) + ["-core", view]
                continue
            }
            words += ["-ex", "add-inferior -no-connection", "-ex", "inferior \(n + 1)"]
            if let exe = executable(statefile, process).first { words += ["-ex", "file \(quoted(exe))"] }
            words += ["-ex", "core-file \(view)"]
        }
        return words + (chosen.count > 1 ? ["-ex", "inferior 1"] : [])
    }

    /// In memory, and open in gdb for as long as that runs: nothing is left behind.
    private func viewFile(_ statefile: Statefile, _ process: Int) throws -> String {
        // gdb reads memory where it lies in the statefile; packed memory it gets as a copy.
        let view = try CoreView(statefile, process: process, complete: statefile.isPacked)
        let memory = try File.inMemory("core.\(statefile.processes[process].pid)", inherited: true)
        try memory.write(view.head, at: 0)
        try memory.truncate(to: view.size)
        if statefile.isPacked { try view.writeMemory { (offset, bytes) throws(SystemError) in try memory.write(bytes, at: offset) } }
        return "/proc/self/fd/\(memory.release())"
    }

    private func executable(_ statefile: Statefile, _ process: Int) -> [String] {
        let path = statefile.objectPath(statefile.processes[process].exe)
        return FileStatus(path) != nil ? [path] : []
    }

    private func quoted(_ path: String) -> String { path.contains(where: { $0 == " " || $0 == "\"" || $0 == "\\" }) ? "\"" + path.map { $0 == "\"" || $0 == "\\" ? "\\\($0)" : "\($0)" }.joined() + "\"" : path }
}
