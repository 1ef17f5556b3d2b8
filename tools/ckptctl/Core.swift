import ArgumentParser
import CkptReport
import CkptStatefile
import CkptSystem

struct Core: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Writes a core file of one process in a statefile.",
        discussion: "Without --full it is small and refers to the statefile, which must stay where it is.  Of a compressed or streamed statefile it is always full.")
    @Argument(help: "The statefile.") var file: String
    @Option(help: "The process, as the tree itself sees its pid (default: the main process).") var pid: Int32?
    @Option(name: .shortAndLong, help: "The core file (default: core.PID).") var output: String?
    @Flag(help: "Copy all memory into it.") var full = false

    func run() throws {
        let statefile = try Statefile(path: file)
        let process = try statefile.process(pid, for: "core")
        let full = full || statefile.isPacked
        let view = try CoreView(statefile, process: process, complete: full)
        let path = output ?? "core.\(statefile.processes[process].pid)"
        do throws(SystemError) {
            let core = try File(path, flags: File.createNew, mode: 0o600)
            do throws(SystemError) {
                try core.write(view.head, at: 0)
                try core.truncate(to: view.size)
                if full { try view.writeMemory { (offset, bytes) throws(SystemError) in try core.write(bytes, at: offset) } }
            } catch {
                Path.remove(path)       // a part of one would look like a whole one
                throw error
            }
        } catch {
            throw Problem(.system, "core", object: path, cause: error.text)
        }
    }
}

extension Statefile {
    /// The index of the process with this pid, or of the main process.
    func process(_ pid: Int32?, for operation: String) throws -> Int {
        guard let pid else { return Int(tree.root) }
        if let i = process(pid: pid) { return i }
        throw Problem(.noSession, operation, object: path, cause: "no process \(pid) in it", remedy: "ckptctl status \(path) lists them")
    }
}
