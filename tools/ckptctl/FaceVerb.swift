import ArgumentParser
import CkptReport
import CkptStatefile

extension Face: ExpressibleByArgument {}

struct FaceVerb: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "face", abstract: "Turns a statefile over: core for debuggers, exec to execute it without the binfmt rule.")
    @Argument(help: "core or exec.") var face: Face
    @Argument(help: "The statefile.") var file: String

    func run() throws {
        let statefile = try Statefile(path: file)
        if statefile.face != face { try statefile.show(face) }
    }
}
