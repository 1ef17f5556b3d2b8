// --pre-copy: what was read while the tree ran is what memory held at the instant, whatever was written to it, given back or moved meanwhile.
import Foundation
import Glibc
import Testing

@Suite(.serialized) struct PreCopyTests {
    static let dirtier = Subject.compiled("early-dirtier", "dirtier.c", [], "500"), stacks = Subject.compiled("stacks", "stacks.c", ["-pthread"], "1000")

    @Test func `a program that writes all the time, ended and restarted from memory that was read early, writes what it writes undisturbed`() {
        for user in User.available { #expect(oracle(Self.dirtier, as: user, count: 2, by: .file(["--pre-copy"])) >= 1) }
    }
    static let packed: [Way] = [.file(["--pre-copy", "--compress", "zstd:1"]), .pipe(["--pre-copy"]), .pipe(["--pre-copy", "--compress", "lz4"])]
    @Test(arguments: packed) func `it does so, compressed or through a pipe, where what was read twice lies twice`(way: Way) {
        for user in User.available { #expect(oracle(Self.dirtier, as: user, count: 2, by: way) >= 1) }
    }
    @Test(arguments: packed) func `all kinds of memory are as they were, read early into a packed statefile`(way: Way) {
        for program in ["memory-private", "memory-shared", "memory-filled", "memory-advice"] { feature(program, treatments: [.twice], by: way) }
    }

    @Test(arguments: [[], ["--compress", "zstd:1"], ["--compress", "lz4"]]) func `threads run on while they are saved, and the statefile holds the instant of the pause`(options: [String]) {
        for user in User.available {
            scenario("early-threads", as: user) { s in
                let reference = try reference(of: Self.stacks)
                try s.start(try Self.stacks.argv())
                usleep(UInt32(reference.seconds * 50_000))
                let report = try s.checkpoint(options: ["--pre-copy", "--json"] + options)
                guard let object = try JSONSerialization.jsonObject(with: Data(report.text.utf8)) as? [String: Any], let early = object["early"] as? Int, early > 8 << 20 else { throw Failure("nothing was read early: \(report)") }
                kill(s.pid, SIGKILL)
                Children.kill(tagged: s.tag)
                _ = try s.wait()
                Children.reapStrays()
                let verified = try s.ckptctl(["verify", s.statefile])
                if verified.status != .exited(0) { throw Failure(verified.errors) }
                try s.restart(["--files", "truncate"])
                try s.expect(.exited(0), limit: 60 + reference.seconds * 4)
                if let difference = difference(reference.files, products(s.folder)) { throw Failure(difference) }
            }
        }
    }

    @Test func `a program that remaps its memory while it is read finds no mapping split`() {
        scenario("early-remapped") { s in
            try s.start([try s.installation.program("behaviour-remapped")])
            try s.waitUntilReady()
            for _ in 0 ..< 20 {
                try s.checkpoint(options: ["--pre-copy"])
                unlink(s.statefile)
            }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(arguments: ["opened", "copied", "memory"]) func `an initiator that dies while it reads early leaves no trace`(phase: String) {
        scenario("early-dead-\(phase)") { s in
            try s.start([try s.installation.program("behaviour-heartbeat"), "32"])
            try s.waitUntilReady()
            let before = traces(s)
            s.environment["CKPT_PAUSE"] = phase
            let initiator = try s.spawn([s.installation.ckptctl, "checkpoint", s.tag, "--pre-copy", "-o", s.path("never.ckpt")], output: "initiator.out", errors: "initiator.err")
            s.environment["CKPT_PAUSE"] = nil
            guard eventually(20, { read(s.path("initiator.err")).contains("paused") }) else { throw Failure(read(s.path("initiator.err"))) }
            if phase == "copied", traces(s) == before { throw Failure("nothing was registered: \(before)") }
            kill(initiator, SIGKILL)
            kill(initiator, SIGCONT)
            _ = Children.wait(initiator, limit: 10)
            guard eventually(1, { traces(s) == before }) else { throw Failure("\(before)\nthen: \(traces(s))") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    /// What is advised of the mappings of its processes and registered, and their descriptors.
    private func traces(_ s: Scenario) -> [String] {
        let members = Children.pids(tagged: s.tag).filter { (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\($0)/exe"))?.hasSuffix("behaviour-heartbeat") ?? false }
        return members.sorted().flatMap { pid in
            // By cat: Foundation reads only the first part of such a file.
            ((try? run(["/bin/cat", "/proc/\(pid)/smaps"], in: s.folder))?.text ?? "").split(separator: "\n").filter { $0.hasPrefix("VmFlags") }.map { String($0) } + ((try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd")) ?? []).sorted()
        }
    }

    @Test(arguments: [[], ["--compress", "lz4"]]) func `a stream that must begin again goes on behind what has been sent`(options: [String]) {
        scenario("early-again") { s in
            try s.start([try s.installation.program("vfork-told")])
            try s.waitUntilReady()
            s.environment["CKPT_PAUSE"] = "copied"
            let initiator = try s.spawn([s.installation.ckptctl, "checkpoint", s.tag, "-o", "-", "--pre-copy", "--kill"] + options, output: "sent", errors: "initiator.err")
            s.environment["CKPT_PAUSE"] = nil
            func pauses() -> Int { read(s.path("initiator.err")).components(separatedBy: "paused at").count - 1 }
            guard eventually(20, { pauses() == 1 }) else { throw Failure(read(s.path("initiator.err"))) }
            let sent = FileManager.default.contents(atPath: s.path("sent"))?.count ?? 0
            s.touch("vfork")
            guard eventually(10, { access(s.path("waits"), F_OK) == 0 }) else { throw Failure("no child") }
            kill(initiator, SIGCONT)
            usleep(600_000)
            s.touch("on")
            guard eventually(20, { pauses() == 2 }) else { throw Failure("it did not begin again: \(read(s.path("initiator.err")))") }
            kill(initiator, SIGCONT)
            guard Children.wait(initiator, limit: 60) == .exited(0) else { throw Failure(read(s.path("initiator.err"))) }
            _ = try s.wait()
            if options.isEmpty && sent < 32 << 20 { throw Failure("nothing had been sent: \(sent)") }
            let verified = try s.ckptctl(["verify", s.path("sent")])
            if verified.status != .exited(0) { throw Failure(verified.errors) }
            s.pid = try s.spawn(["/bin/sh", "-c", "cat sent | \(s.installation.ckptctl) restart -"], output: "restart-0.out", errors: "restart-0.err")
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(.enabled(if: getuid() == 0), arguments: ["--lazy", "--warm"]) func `what was read early and compressed is loaded lazily, and kept as a template`(way: String) {
        scenario("early-loaded") { s in
            try s.start([try s.installation.program("lazy-idle"), "64"])
            try s.waitUntilReady(limit: 60)
            try s.checkpoint(kill: true, options: ["--pre-copy", "--compress", "zstd:1"])
            defer { s.dropTemplates() }
            if way == "--warm" { try s.warm() }
            try s.restart([way])
            s.go()
            try s.expect(.exited(0), output: "ok\n", limit: 60)
            try s.expectBranch()
        }
    }

    @Test func `what it does not go with is refused by name`() {
        scenario("early-refused") { s in
            try s.start([try s.installation.program("behaviour-heartbeat")])
            try s.waitUntilReady()
            try s.checkpoint()
            try s.expectRefusal(["checkpoint", s.tag, "-o", s.path("x.ckpt"), "--pre-copy", "--since", s.statefile, "--direct"], 64, "--direct", "--pre-copy")
            try s.expectRefusal(["checkpoint", s.tag, "-o", s.path("x.ckpt"), "--pre-copy", "--track", "3,4"], 64, "--track", "--pre-copy")
            for (options, word) in [(["--pre-copy"], "--every"), (["--every", "1m", "--keep", "2", "--pre-copy", "--track"], "--track")] {
                let seen = try run([s.installation.ckrun] + options + ["/bin/true"], in: s.folder, environment: s.environment)
                guard seen.status == .exited(64), seen.errors.contains("--pre-copy"), seen.errors.contains(word) else { throw Failure("\(options): \(seen.status) \(seen.errors)") }
            }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
}
