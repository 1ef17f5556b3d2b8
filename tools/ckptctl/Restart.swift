import ArgumentParser
import CkptReport
import CkptStatefile
import CkptSystem

struct Restart: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Restarts the tree in a statefile, whichever face it shows.",
        discussion: "The options after FILE are those of the engine inside it; `ckptctl restart FILE --help` lists them.")
    @Argument(help: "The statefile; -: from stdin, as `ckptctl checkpoint -o -` writes it.") var file: String
    @Argument(parsing: .captureForPassthrough, help: "Options of the restart.") var options: [String] = []

    func run() throws {
        if file == "-" { return try runStream() }
        // From a copy in memory: the statefile is then not the text of a running program, and a core face can't be executed.
        let statefile = try Statefile(path: file)
        try become(statefile, [file, "--statefile", file])
    }

    /// Into memory, which the engine gives back when the tree runs.
    private func runStream() throws {
        let stream = File.standardInput
        if stream.isTerminal { throw Problem(.usage, "restart", object: "-", cause: "stdin is a terminal", remedy: "pipe a statefile into it, or name one") }
        let memory: File
        do throws(SystemError) {
            memory = try File.inMemory("statefile", inherited: true)
            try memory.fill(from: stream)
        } catch { throw Problem(.system, "restart", object: "-", cause: "\(error.call): \(error.text)", remedy: "free memory, or restart it from a file") }
        var statefile: Statefile
        do throws(Problem) { statefile = try Statefile(path: "/proc/self/fd/\(memory.number)") } catch {
            var problem = error
            problem.object = "-"
            throw problem
        }
        try become(statefile, ["stdin", "--statefile-fd", String(memory.number)])
    }

    private func become(_ statefile: Statefile, _ arguments: [String]) throws {
        try statefile.executeEngine(for: "restart", of: file, arguments + options)
    }
}
