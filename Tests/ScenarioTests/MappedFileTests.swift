// Files that a program has mapped: stored with --self-contained, else verified before they are mapped again.
import Foundation
import Glibc
import Testing

@Suite struct MappedFileTests {
    /// A program that maps files of its folder, itself among them; ended by its checkpoint.
    private func withCheckpoint(_ name: String, options: [String] = [], _ body: (Scenario) throws -> Void) {
        for user in User.available {
            scenario(name, as: user) { s in
                try FileManager.default.copyItem(atPath: s.installation.program("mapped-files"), toPath: s.path("program"))
                try FileManager.default.copyItem(atPath: URL(filePath: "/lib/x86_64-linux-gnu/libz.so.1").resolvingSymlinksInPath().path, toPath: s.path("library.so"))
                try Data((0 ..< 16384).map { UInt8($0 * 7 % 251) }).write(to: URL(filePath: s.path("data")))
                for file in ["program", "library.so", "data"] { chmod(s.path(file), 0o755) }
                try s.start([s.path("program")])
                try s.waitUntilReady()
                try s.checkpoint(kill: true, options: options)
                try body(s)
            }
        }
    }

    @Test func `a self-contained statefile runs where its files are gone, or others`() {
        withCheckpoint("self-contained", options: ["--self-contained"]) { s in
            for file in ["program", "library.so"] { unlink(s.path(file)) }
            try Data(count: 16384).write(to: URL(filePath: s.path("data")))
            try s.restart()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(arguments: ["program", "library.so", "data"]) func `a mapped file that is gone or another is named with the remedy, and nothing runs`(file: String) {
        withCheckpoint("mapped-\(file)") { s in
            rename(s.path(file), s.path("old"))
            for (kind, word) in [("gone", "no such file"), ("another", "changed since the checkpoint")] {
                // Of the same size: a library and a program by their build-id, other files by their time.
                if kind == "another" {
                    var bytes = try Data(contentsOf: URL(filePath: s.path("old")))
                    if let note = bytes.range(of: Data([3, 0, 0, 0] + Array("GNU\0".utf8))) { bytes[note.upperBound] ^= 1 } else { bytes[0] ^= 1 }
                    try bytes.write(to: URL(filePath: s.path(file)))
                    chmod(s.path(file), 0o755)
                }
                let result = try s.ckptctl(["restart", s.statefile])
                for part in [s.path(file), word, "--relocate"] where result.status != .exited(71) || !result.errors.contains(part) { throw Failure("\(kind): \(result.status), without \(part): \(result.errors)") }
                if Children.any(tagged: s.tag) { throw Failure("something runs") }
            }
            rename(s.path("old"), s.path(file))
            try s.restart()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
}
