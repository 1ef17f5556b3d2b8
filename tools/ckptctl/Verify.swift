import ArgumentParser
import CkptReport
import CkptStatefile

struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Reads a whole statefile and checks every checksum.")
    @Argument(help: "The statefile.") var file: String
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        let result = try Statefile(path: file).verify()
        if json {
            try output(["file": .text(file), "good": .bool(result.problems.isEmpty), "processes": JSON(result.processes), "tasks": JSON(result.tasks),
                        "runs": JSON(result.runs), "pages": JSON(result.pages), "problems": .list(result.problems.map { .text($0.description) })])
        } else if result.problems.isEmpty {
            try output("\(printable(file)): good: \(counted(result.processes, "process", "processes")), \(counted(result.tasks, "task")), \(sizeText(result.pages * 4096)) of memory in \(result.runs) runs\n")
        }
        guard let last = result.problems.last else { return }
        for p in result.problems.dropLast() { note(p.description) }
        throw last
    }
}
