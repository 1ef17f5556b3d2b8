// Descriptors come back with their offsets, flags and sharing; pipes and deleted files with what is in them.
import Foundation
import Glibc
import HarnessC
import Testing

@Suite struct DescriptorTests {
    @Test func `regular files keep offset, flags, append mode and close-on-exec`() { feature("descriptors-regular") }
    @Test func `a description shared by dup and fork stays one`() { feature("descriptors-shared") }
    @Test func `a half-read directory is read on`() { feature("descriptors-directory") }
    @Test func `a deleted file keeps its contents and stays without a name`() { feature("descriptors-deleted") }
    @Test func `devices that have no state are opened again`() { feature("descriptors-devices") }
    @Test func `pipes keep contents, size, flags and ends`() { feature("descriptors-pipe") }
    @Test func `a FIFO that has lost its name comes back without one`() { feature("fifo-removed") }
    @Test func `FIFOs keep what is in flight`() { feature("descriptors-fifo") }
    @Test func `the owner and the signal of a description are kept`() { feature("descriptors-owner") }
    @Test func `record locks, description locks and flock are held again`() { feature("descriptors-locks") }
    @Test func `a full descriptor table is checkpointed and restored`() { feature("descriptors-full") }

    @Test func `standard streams that were pipes to the outside are those of the restart`() {
        for user in User.available {
            scenario("outside-pipes", as: user) { s in
                var first: [Int32] = [0, 0], second: [Int32] = [0, 0]
                harness_pipe(&first)
                harness_pipe(&second)
                defer { close(first[0]); close(second[0]) }
                try s.start(["/bin/sh", "-c", "echo before; touch ready; while ! test -e go; do sleep 0.02; done; echo after"], descriptors: [1: first[1]])
                close(first[1])
                try s.waitUntilReady()
                try s.checkpoint(kill: true)
                try s.restart(descriptors: [1: second[1]])
                close(second[1])
                s.go()
                try s.expect(.exited(0))
                let texts = [first[0], second[0]].map { end -> String in
                    fcntl(end, F_SETFL, O_NONBLOCK)
                    var bytes = [UInt8](repeating: 0, count: 100)
                    let count = Glibc.read(end, &bytes, 100)
                    return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
                }
                if texts != ["before\n", "after\n"] { throw Failure("the pipes got \(texts)") }
            }
        }
    }

    /// A reader of a growing file, stopped in its midst.
    private func reader(_ s: Scenario) throws {
        FileManager.default.createFile(atPath: s.path("input"), contents: Data("first\nsecond\n".utf8))
        try s.start(["/bin/sh", "-c", "exec 3<input; read a <&3; touch ready; while ! test -e go; do sleep 0.02; done; read b <&3; echo $a $b"])
        try s.waitUntilReady()
        try s.checkpoint(kill: true)
    }

    @Test func `a file that moved is found with --relocate`() {
        scenario("relocate") { s in
            try FileManager.default.createDirectory(atPath: s.path("moved"), withIntermediateDirectories: true)
            try reader(s)
            rename(s.path("input"), s.path("moved/input"))
            try s.restart()
            let status = try s.wait()
            let complaint = read(s.path("restart-1.err"))
            if status == .exited(0) || !complaint.contains(s.path("input")) { throw Failure("without --relocate: \(status) \(complaint)") }
            try s.restart(["--relocate", "\(s.path("input"))=\(s.path("moved/input"))"])
            s.go()
            try s.expect(.exited(0), output: "first second\n")
        }
    }

    @Test func `a file open for writing whose size changed is refused by name, kept or truncated on demand`() {
        for policy in ["fail", "keep", "truncate"] {
            scenario("files-\(policy)") { s in
                try s.start(["/bin/sh", "-c", "exec 3>log; echo one >&3; touch ready; while ! test -e go; do sleep 0.02; done; echo two >&3"])
                try s.waitUntilReady()
                try s.checkpoint(kill: true)
                let log = try #require(fopen(s.path("log"), "a"))
                fputs("added later\n", log)
                fclose(log)
                try s.restart(policy == "fail" ? [] : ["--files", policy])
                s.go()
                let status = try s.wait(), complaint = read(s.path("restart-1.err")), text = read(s.path("log"))
                switch policy {
                case "fail": if status == .exited(0) || !complaint.contains(s.path("log")) || text != "one\nadded later\n" { throw Failure("\(status) \(complaint) \(text)") }
                case "keep": if status != .exited(0) || text != "one\ntwo\nd later\n" { throw Failure("\(status) \(complaint) \(text)") }
                default: if status != .exited(0) || text != "one\ntwo\n" { throw Failure("\(status) \(complaint) \(text)") }
                }
            }
        }
    }

    @Test func `the output of a restarted program goes on in the file where it was`() {
        scenario("same-file") { s in
            try s.start(["/bin/sh", "-c", "echo one; touch ready; while ! test -e go; do sleep 0.02; done; echo two"])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            try s.restart()
            s.go()
            try s.expect(.exited(0), output: "one\ntwo\n")
        }
    }
}
