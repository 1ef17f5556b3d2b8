// Statefiles through pipes: the tree moves without a file, and what a pipe wrote into a file is a statefile.
import Foundation
import Glibc
import Testing

@Suite struct StreamTests {
    static let programs = ["memory-private", "memory-shared", "memory-deleted", "memory-memfd", "memory-huge", "descriptors-pipe", "systemv-memory", "tree-fork", "tree-spawn", "terminals-state", "unix-pairs"]

    @Test(arguments: programs) func `a tree that went through a pipe is as it was`(program: String) {
        feature(program, treatments: [.restarted, .twice], by: .pipe())
    }
    @Test(arguments: ["zstd", "lz4"]) func `a tree that went through a pipe compressed is as it was`(method: String) {
        for program in ["memory-private", "memory-shared"] { feature(program, treatments: [.twice], by: .pipe(["--compress", method])) }
    }
    @Test(arguments: [[], ["--compress", "lz4"]]) func `a program that goes through pipes at random instants writes what it writes undisturbed`(options: [String]) {
        for user in User.available { #expect(oracle(Subject.programs[options.isEmpty ? 3 : 1], as: user, count: 12, by: .pipe(options)) >= 6) }
    }

    @Test func `saved files go through the pipe as well`() { feature("files-saved", treatments: [.twice], by: .pipe(["--save-files"])) }

    private func shell(_ s: Scenario, _ script: String, limit: Double = 60) throws -> Output {
        try run(["/bin/bash", "-c", "set -o pipefail; " + script], in: s.folder, environment: s.environment.merging(["CKPTCTL": s.installation.ckptctl, "JOB": s.tag]) { $1 }, limit: limit)
    }

    @Test(arguments: ["", "--compress zstd"]) func `a stream in a file is a statefile: it runs, is verified, and opens in gdb`(options: String) {
        scenario("stream-file") { s in
            let program = try s.installation.program("gdb-target", flags: ["-O0"])
            try s.start([program])
            try s.waitUntilReady()
            s.generation = 1
            let result = try shell(s, "$CKPTCTL checkpoint $JOB -o - --kill \(options) > generation-1.ckpt && chmod +x generation-1.ckpt && $CKPTCTL verify generation-1.ckpt")
            if result.status != .exited(0) || !result.text.contains("good: 1 process") || !result.errors.contains("stdout: 1 process, 4 tasks") { throw Failure("\(result.status) \(result.text) \(result.errors)") }
            let end = Children.wait(s.pid, limit: 20)
            if end != .killed(SIGKILL) && end != .exited(128 + SIGKILL) { throw Failure("not killed: \(String(describing: end))") }
            try s.expectValues(program)
            if options.isEmpty {
                if try s.ckptctl(["face", "core", s.statefile]).status != .exited(0) { throw Failure("face core") }
                let core = try run(["gdb", "-nx", "-batch", "-ex", "print global_counter", "-ex", "print first.text", "-ex", "thread apply all bt", program, s.statefile], in: s.folder, environment: ["DEBUGINFOD_URLS": ""], limit: 60)
                for word in ["= 4711", "\"first\"", "waiting_function"] where !core.text.contains(word) { throw Failure("no \(word): \(core.text) \(core.errors)") }
                if try s.ckptctl(["face", "exec", s.statefile]).status != .exited(0) { throw Failure("face exec") }
            }
            try s.restart()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `zero pages and memory that was never touched do not go through the pipe`() {
        scenario("stream-size") { s in
            try s.start([try s.installation.program("memory-private")])     // 64 GiB, of which it has touched 7 MiB
            try s.waitUntilReady()
            let result = try shell(s, "$CKPTCTL checkpoint $JOB -o - | wc -c")
            guard result.status == .exited(0), let bytes = Int(result.text.split(separator: "\n").last ?? ""), bytes < 24 << 20 else { throw Failure("\(result.status) \(result.text) \(result.errors)") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(arguments: ["", "--compress lz4"]) func `a reader that ends too early fails the checkpoint, and the tree runs on`(options: String) {
        scenario("stream-broken") { s in
            try s.start([try s.installation.program("behaviour-heartbeat"), "64"])
            try s.waitUntilReady()
            let alone = Children.pids(tagged: s.tag).count
            for (reader, kill) in [("head -c 20000000 > /dev/null", "--kill"), ("true", "--kill"), ("head -c 20000000 > /dev/null", "")] {
                let result = try shell(s, "$CKPTCTL checkpoint $JOB -o - \(kill) \(options) | \(reader)")
                if result.status != .exited(71) || !result.errors.contains("stdout: whoever read the statefile has gone before its end") { throw Failure("\(reader): \(result.status) \(result.errors)") }
                if s.hasEnded { throw Failure("it has ended") }
                if Children.pids(tagged: s.tag).count != alone { throw Failure("a snapshot is still there") }
            }
            try s.checkpoint(kill: true)
            try s.restart()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `the snapshot of a checkpoint whose initiator was killed is gone after the next one, and does not touch it`() {
        scenario("stream-abandoned") { s in
            try s.start([try s.installation.program("behaviour-heartbeat"), "64"])
            try s.waitUntilReady()
            let alone = Set(Children.pids(tagged: s.tag))
            // Nobody reads: the snapshot waits in the middle.
            mkfifo(s.path("sent"), 0o600)
            let reader = try s.spawn(["/bin/sh", "-c", "exec sleep 100 < sent"], output: "reader.out", errors: "reader.err")
            defer { kill(reader, SIGKILL); _ = Children.wait(reader, limit: 5) }
            let initiator = try s.spawn(["/bin/sh", "-c", "exec \(s.installation.ckptctl) checkpoint \(s.tag) -o - > sent"], output: "initiator.out", errors: "initiator.err")
            var snapshot: pid_t = 0
            _ = eventually(20) { snapshot = Children.pids(tagged: s.tag).first { !alone.contains($0) && ![reader, initiator].contains($0) } ?? 0; return snapshot != 0 }
            usleep(500_000)         // until the release the process would end it
            kill(snapshot, SIGSTOP)
            kill(initiator, SIGKILL)
            _ = Children.wait(initiator, limit: 5)
            if snapshot == 0 || kill(snapshot, 0) != 0 { throw Failure("no snapshot: \(read(s.path("initiator.err")))") }
            try s.checkpoint()
            if kill(snapshot, 0) == 0 { throw Failure("the snapshot is still there") }
            let verified = try s.ckptctl(["verify", s.statefile])
            if verified.status != .exited(0) { throw Failure(verified.errors) }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `an initiator that is killed while a snapshot writes leaves no child behind`() {
        scenario("stream-left") { s in
            try s.start([try s.installation.program("behaviour-heartbeat"), "64"])
            try s.waitUntilReady()
            // Each thread has its own.
            func children() -> String { ((try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(s.pid)/task")) ?? []).map { read("/proc/\(s.pid)/task/\($0)/children") }.joined() }
            let alone = children()
            mkfifo(s.path("sent"), 0o600)
            let reader = try s.spawn(["/bin/sh", "-c", "exec sleep 100 < sent"], output: "reader.out", errors: "reader.err")
            defer { kill(reader, SIGKILL); _ = Children.wait(reader, limit: 5) }
            let initiator = try s.spawn(["/bin/sh", "-c", "exec \(s.installation.ckptctl) checkpoint \(s.tag) -o - > sent"], output: "initiator.out", errors: "initiator.err")
            guard eventually(20, { children() != alone }) else { throw Failure("no snapshot: \(read(s.path("initiator.err")))") }
            kill(initiator, SIGKILL)
            _ = Children.wait(initiator, limit: 5)
            guard eventually(5, { children() == alone }) else { throw Failure("children: \(children())") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `a reader that takes almost everything has not taken it`() {
        scenario("stream-last") { s in
            try s.start([try s.installation.program("behaviour-heartbeat"), "2"])
            try s.waitUntilReady()
            guard let whole = Int(try shell(s, "$CKPTCTL checkpoint $JOB -o - | wc -c").text.split(separator: "\n").last ?? "") else { throw Failure("no size") }
            // The rest fits into the pipe: only what the reader has taken counts.
            let result = try shell(s, "$CKPTCTL checkpoint $JOB -o - --kill | { head -c \(whole - 20000) > /dev/null; sleep 0.5; }")
            if result.status != .exited(71) || s.hasEnded { throw Failure("\(result.status) \(result.errors)") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `a stream that was cut off is refused, from a pipe and from a file`() {
        scenario("stream-cut") { s in
            try s.start(["/bin/sleep", "300"])
            let cut = try shell(s, "for i in 1 2 3 4 5 6 7 8 9; do $CKPTCTL checkpoint $JOB -o - > whole.ckpt && break; sleep 0.1; done; head -c -5000 whole.ckpt > cut.ckpt; chmod +x cut.ckpt")
            if cut.status != .exited(0) { throw Failure(cut.errors) }
            for script in ["$CKPTCTL restart - < cut.ckpt", "cat cut.ckpt | $CKPTCTL restart -", "./cut.ckpt", "$CKPTCTL verify cut.ckpt", ": | $CKPTCTL restart -"] {
                let result = try shell(s, script)
                if result.status != .exited(65) || result.errors.split(separator: "\n").count != 1 { throw Failure("\(script): \(result.status) \(result.errors)") }
            }
        }
    }

    @Test func `terminals are no ends of a stream, and a statefile begins its file`() {
        scenario("stream-terminal") { s in
            try s.start(["/bin/sleep", "300"])
            if !eventually(5, { (try? s.ckptctl(["status", s.tag]).status) == .exited(0) }) { throw Failure("no session") }
            let terminal = try UserTerminal(rows: 24, columns: 80, for: .current), end = open(terminal.path, O_RDWR | O_NOCTTY | O_CLOEXEC)
            defer { Glibc.close(end) }
            for (words, descriptors) in [(["checkpoint", s.tag, "-o", "-"], [Int32(1): end]), (["restart", "-"], [Int32(0): end])] {
                let pid = try s.spawn([s.installation.ckptctl] + words, output: "t.out", errors: "t.err", descriptors: descriptors)
                let status = Children.wait(pid, limit: 20)
                if status != .exited(64) || !read(s.path("t.err")).contains("is a terminal") { throw Failure("\(words): \(String(describing: status)) \(read(s.path("t.err")))") }
            }
            let appended = try shell(s, "echo before > there; $CKPTCTL checkpoint $JOB -o - >> there")
            if appended.status != .exited(64) || read(s.path("there")) != "before\n" { throw Failure("\(appended.status) \(appended.errors)") }
        }
    }

    @Test func `the memory that a stream was read into is given back when the tree runs`() {
        scenario("stream-memory") { s in
            s.way = .pipe()
            try s.start([try s.installation.program("behaviour-heartbeat"), "16"])
            try s.waitUntilReady()
            try s.move()
            let before = read(s.path("heart"))
            if !eventually(10, { read(s.path("heart")) != before }) { throw Failure("it does not run: \(s.restartErrors)") }
            for pid in Children.pids(tagged: s.tag) + [s.pid] {
                for fd in (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd")) ?? [] {
                    let target = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/fd/\(fd)")) ?? ""
                    if target.contains("memfd:statefile") { throw Failure("pid \(pid) holds \(target)") }
                }
            }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
}
