import ArgumentParser
import CkptInitiator
import CkptReport
import CkptSystem

struct Merge: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Makes one statefile of a delta and of those that it was taken since.",
        discussion: "FULL may be the delta itself: it is replaced once the new file is complete, and deltas that were taken since it stay good.")
    @Argument(help: "The delta.") var file: String
    @Option(name: .shortAndLong, help: ArgumentHelp("The new statefile.", valueName: "FULL")) var output: String
    @Option(help: "auto, core (gdb opens it) or exec (it runs without a binfmt rule).") var face = FacePreference.auto
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        let r = try CkptInitiator.merge(file, to: absolutePath(output), face: face)
        if json {
            return try ckptctl.output(["file": .text(output), "face": .text(r.face), "files": JSON(r.files), "own": JSON(r.own), "gathered": JSON(r.gathered), "compression": .text(r.compression), "size": JSON(r.fileSize)])
        }
        try ckptctl.output("\(printable(output)): \(sizeText(r.own + r.gathered)) of memory, \(sizeText(r.gathered)) of it from \(counted(r.files - 1, "other statefile"))\(r.compression == "none" ? "" : ", compressed (\(r.compression))")\n")
    }
}
