// The program: one verb per file.  Results go to stdout, diagnostics to stderr, one line each.
import ArgumentParser
import CkptABI
import CkptReport
import CkptSystem

@main struct Ckptctl: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ckptctl",
        abstract: "Checkpoints process trees started by ckrun and works with their statefiles.",
        discussion: """
            A SESSION is named by its name, its id, or any pid in it.

            Exit status: 0 done; 64 the command line is wrong; 65 the statefile is bad; 66 no such session, process or file; \
            69 the system lacks something (ckptctl check); 70 a fault of ckpt; 71 a system call failed; 75 trying again may help; \
            77 a task holds something that can't be restored.
            """,
        version: String(cString: ckpt_release()),
        subcommands: [List.self, Status.self, Inspect.self, Checkpoint.self, Restart.self, Warm.self, Gdb.self, Core.self, FaceVerb.self, Verify.self, Binfmt.self, Check.self]
            + [Merge.self])

    static func main() {
        do {
            var command = try parseAsRoot(FileSize.completed(Array(CommandLine.arguments.dropFirst()), option: "--save-files", missing: "1G"))
            try command.run()
        } catch let problem as Problem {
            fail(problem)
        } catch let error as SystemError {
            fail(Problem(.system, error.call, cause: error.text, remedy: error.isOutOfDescriptors ? "raise the limit of open files (ulimit -n)" : nil))
        } catch {
            exit(withError: error)
        }
    }

    private static func fail(_ problem: Problem) -> Never {
        Program.writeError("ckptctl: \(problem)\n")
        Program.exit(problem.status.rawValue)
    }
}

func absolutePath(_ path: String) -> String { path.hasPrefix("/") ? path : ((try? Path.link("/proc/self/cwd")) ?? ".") + "/" + path }

/// Results: to stdout, all of them or an error.
func output(_ text: String) throws { try Program.write(text, to: 1) }
func output(_ json: JSON) throws { try output(json.rendered() + "\n") }
/// Diagnostics: to stderr.
func note(_ text: String) { Program.writeError("ckptctl: \(printable(text))\n") }
