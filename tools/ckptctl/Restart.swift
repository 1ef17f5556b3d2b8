import ArgumentParser
import CkptReport
import CkptStatefile
import CkptSystem

struct Restart: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Restarts the tree in a statefile, whichever face it shows.",
        discussion: "The options after FILE are those of the engine inside it; `ckptctl restart FILE --help` lists them.")
    @Argument(help: "The statefile.") var file: String
    @Argument(parsing: .captureForPassthrough, help: "Options of the restart.") var options: [String] = []

    func run() throws {
        // From a copy in memory: the statefile is then not the text of a running program, and a core face can't be executed.
        let statefile = try Statefile(path: file)
        let engine = try File.inMemory("ckptengine", executable: true)
        try engine.write(statefile.engine, at: 0)
        let error = Program.become(engine, [file, "--statefile", file] + options)
        throw Problem(.system, "restart", object: file, cause: "its engine cannot be executed", error.text,
                      remedy: error.errno == 13 ? "sysctl vm.memfd_noexec=0, or turn it over with `ckptctl face exec` and execute it" : nil)
    }
}
