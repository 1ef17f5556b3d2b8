// The rules that make a checkpoint transparent, each under many checkpoints of a running program.
import Foundation
import Glibc
import Testing

@Suite struct BehaviourTests {
    /// Checkpoints a running program `count` times without ending it, then lets it finish; it judges by itself.
    func undisturbed(_ program: String, _ arguments: [String] = [], checkpoints count: Int, limit: Double = 60, sourceLocation: SourceLocation = #_sourceLocation,
                     check: (Scenario) throws -> Void = { if $0.output != "ok\n" { throw Failure("printed \($0.output.suffix(2000)) \($0.errors.suffix(500))") } }) {
        for user in User.available {
            scenario(program, as: user, sourceLocation: sourceLocation) { s in
                try s.start([try s.installation.program(program)] + arguments)
                try s.waitUntilReady()
                for _ in 0 ..< count {
                    s.generation = 0
                    try s.checkpoint()
                    usleep(UInt32.random(in: 0 ... 8000))
                }
                s.go()
                try s.expect(.exited(0), limit: limit)
                try check(s)
            }
        }
    }

    @Test func `no interruptible call returns EINTR under two hundred checkpoints`() { undisturbed("behaviour-eintr", checkpoints: 200) }
    @Test func `no blocked transfer is cut short by checkpoints, but by signals that the program handles`() {
        undisturbed("behaviour-short", checkpoints: 60)
        feature("behaviour-short", treatments: [.twice])
    }
    @Test func `a connection that breaks during a blocked transfer says so under checkpoints`() { undisturbed("behaviour-broken", checkpoints: 30) }
    @Test func `a program that may write small files only gets no signal for the statefile`() { undisturbed("behaviour-filesize", checkpoints: 3) }
    @Test func `children that execute by the number of the call are ended by no checkpoint`() { undisturbed("behaviour-exec-number", checkpoints: 60) }
    @Test func `programs that block and override every signal are checkpointed and keep their view`() { undisturbed("behaviour-signals", checkpoints: 30) }
    @Test func `a checkpoint may arrive at a handler's entry and at its sigreturn`() { undisturbed("behaviour-handlers", checkpoints: 60) }
    @Test func `system and popen in flight are not disturbed`() { undisturbed("behaviour-system", checkpoints: 20) }
    @Test func `a sub-reaper that waits for any child all the time sees no snapshot`() { undisturbed("behaviour-reaper", ["256"], checkpoints: 6) }
    @Test func `a smallest alternate stack is not overrun`() { feature("behaviour-altstack") }
    @Test func `stopped tasks are checkpointed as stopped and come back stopped`() { feature("behaviour-stopped") }

    @Test func `a program's own looks into a queue go on where they were`() {
        for user in User.available {
            scenario("behaviour-peek", as: user) { s in
                try s.start([try s.installation.program("behaviour-peek")])
                try s.waitUntilReady()
                try s.checkpoint()
                s.touch("on")
                guard eventually(10, { access(s.path("second"), F_OK) == 0 }) else { throw Failure("\(s.output)") }
                try s.checkpoint()
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    @Test(arguments: [[], ["--compress", "lz4"], ["--face", "core"]]) func `files that are mapped are not opened, so that no time moves and no lease breaks`(options: [String]) {
        scenario("behaviour-unread") { s in
            let program = s.path("program")
            try FileManager.default.copyItem(atPath: try s.installation.program("behaviour-heartbeat"), toPath: program)
            try s.start([program])
            try s.waitUntilReady()
            // A time of access that is older than the last change moves at the next one.
            _ = try run(["/usr/bin/touch", "-a", "-d", "2001-01-01", program], in: s.folder)
            func accessed() -> Int { var st = stat(); stat(program, &st); return st.st_atim.tv_sec }
            let before = accessed()
            try s.checkpoint(options: options)
            if accessed() != before || before > 1_000_000_000 { throw Failure("\(before), then \(accessed())") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(.enabled(if: getuid() == 0)) func `programs that gave their user away and left the session so are not ended by a checkpoint`() {
        scenario("behaviour-dropped") { s in
            try s.start([try s.installation.program("behaviour-dropped")])
            try s.waitUntilReady()
            // Refused or not: such a child may be there at that moment.
            for _ in 0 ..< 60 { _ = try s.ckptctl(["checkpoint", s.tag, "-o", s.path("dropped.ckpt")]) }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `what the kernel writes into memory while it is saved fits its checksum`() {
        scenario("behaviour-migrated") { s in
            try s.start([try s.installation.program("behaviour-migrated")])
            try s.waitUntilReady()
            // Moves the program's only child, which is the snapshot.
            let mover = try s.spawn([try s.installation.program("behaviour-migrated"), "\(s.pid)"], output: "mover.out", errors: "mover.err")
            defer { s.touch("moved"); _ = Children.wait(mover, limit: 10) }
            for _ in 0 ..< 60 {
                s.generation = 0
                try s.checkpoint()
                let verified = try s.ckptctl(["verify", s.statefile])
                if verified.status != .exited(0) { throw Failure(verified.errors) }
            }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(.enabled(if: User.available.contains(.root))) func `a folder that a program has left is not kept busy by its snapshot`() {
        scenario("behaviour-folder", as: .root) { s in
            try s.start([try s.installation.program("behaviour-folder")])
            try s.waitUntilReady()
            // Nobody reads: the snapshot can't end.
            var ends: [Int32] = [0, 0]
            if pipe(&ends) != 0 { throw Failure("no pipe") }
            defer { close(ends[0]) }
            let initiator = try s.spawn([s.installation.ckptctl, "checkpoint", s.tag, "-q", "-o", "-"], output: "initiator.out", errors: "initiator.err", descriptors: [1: ends[1]])
            close(ends[1])
            defer { kill(initiator, SIGKILL); _ = Children.wait(initiator, limit: 5) }
            guard eventually(20, { !read("/proc/\(s.pid)/task/\(s.pid)/children").isEmpty }) else { throw Failure("no snapshot: \(read(s.path("initiator.err")))") }
            s.touch("leave")
            guard eventually(20, { access(s.path("left"), F_OK) == 0 }) else { throw Failure("it does not go on: \(s.output)") }
            if read("/proc/\(s.pid)/task/\(s.pid)/children").isEmpty { throw Failure("the snapshot has ended") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(arguments: ["fsize", "nproc", "as"]) func `limits that a snapshot would meet do not stop a checkpoint`(limit: String) {
        feature("behaviour-limits", [limit])
    }

    /// Of a control group: as /sys/fs/cgroup has the controller in either version, where it can be had.
    private static let pidsGroup = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].first { read($0 + "/cgroup.subtree_control").contains("pids") || $0.hasSuffix("/pids") && access($0, W_OK) == 0 }
    @Test(.enabled(if: User.available.contains(.root) && pidsGroup != nil)) func `where no process may be made any more, memory is written inside the pause`() {
        scenario("pids-max", as: .root) { s in
            try s.start([try s.installation.program("memory-private")])
            try s.waitUntilReady()
            let group = "\(Self.pidsGroup!)/\(s.tag)"
            func write(_ text: String, to file: String) throws { try Data(text.utf8).write(to: URL(filePath: group + "/" + file)) }
            if mkdir(group, 0o755) != 0 { throw Failure("\(group): \(String(cString: strerror(errno)))") }
            defer { _ = eventually(5) { rmdir(group) == 0 } }
            try write("\(s.pid)", to: "cgroup.procs")
            try write("1", to: "pids.max")
            let result = try s.checkpoint()
            if !result.errors.contains("no snapshot could be cloned") { throw Failure("it is not said: \(result.errors)") }
            try write("max", to: "pids.max")
            try s.checkpoint(kill: true)
            // The one from inside the pause.
            try s.restart(from: s.path("generation-1.ckpt"))
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `end of file comes when the writer closes although a snapshot is being written`() {
        undisturbed("behaviour-eof", ["512"], checkpoints: 3) { s in
            let words = s.output.split(whereSeparator: \.isWhitespace)
            guard words.count == 3, words[2] == "ok", let worst = Double(words[1]) else { throw Failure("printed \(s.output)") }
            if worst > 0.5 { throw Failure("a reader waited \(worst) s for its end of file") }
        }
    }

    @Test func `env -i, a changed LD_PRELOAD and closed descriptors do not lose a child`() {
        let wait = "while ! test -e \"$0/go\"; do sleep 0.02; done"
        let ways = ["/usr/bin/env -i /bin/sh -c '\(wait); exit 5' \"$SCENARIO\"", "LD_PRELOAD= CKPT_SESSION= /bin/sh -c '\(wait); exit 5' \"$SCENARIO\"",
                    "/usr/bin/perl -e 'use POSIX; POSIX::close($_) for 3 .. 1000; %ENV = (); exec \"/bin/sh\", \"-c\", q{\(wait); exit 5}, $ARGV[0]' \"$SCENARIO\""]
        for (number, way) in ways.enumerated() {
            scenario("environment-\(number)") { s in
                try s.start(["/bin/sh", "-c", way + " & child=$!; sleep 0.3; touch ready; wait $child; echo $?"])
                try s.waitUntilReady()
                try s.checkpoint(kill: true)
                // Both are gone, so both were members.
                if eventually(2, { Children.reapStrays(); return !Children.any(tagged: s.tag) && !ProcessTable.any(argument: s.folder) }) == false { throw Failure("a child was not a member") }
                try s.restart()
                s.go()
                try s.expect(.exited(0), output: "5\n")
            }
        }
    }

    @Test func `any subset of a tree can be checkpointed while its parent is not`() {
        scenario("subset") { s in
            let program = try s.installation.program("tree-fork")
            // The shell may write of its job's death on its own stderr: that must not be a file of the job.
            try s.start(["/bin/sh", "-c", "\(s.installation.ckrun) --name \(s.tag) -- \(program) 2> job.err & wait $!; echo shell $? > shell"], ckrun: false)
            try s.waitUntilReady()
            s.generation = 1
            let result = try s.ckptctl(["checkpoint", s.tag, "-o", s.statefile, "--kill"])
            if result.status != .exited(0) { throw Failure("\(result.status) \(result.errors)") }
            try s.expect(.exited(0))
            if read(s.path("shell")) != "shell 137\n" { throw Failure("the shell saw \(read(s.path("shell")))") }
            try s.restart()
            s.go()
            try s.expect(.exited(0))
            if s.output != "ok\n" { throw Failure("printed \(s.output)") }
        }
    }

    @Test func `a tree checkpointed with --stop stays stopped until it is told to go on`() {
        scenario("stop") { s in
            try s.start([try s.installation.program("tree-fork")])
            try s.waitUntilReady()
            try s.checkpoint(options: ["--stop"])
            s.go()
            if let status = Children.wait(s.pid, limit: 0.5) { throw Failure("it ran on: \(status)") }
            let state = read("/proc/\(s.pid)/stat").split(separator: ")").last?.prefix(2) ?? ""
            if state != " T" { throw Failure("the main process is in state\(state), not T") }
            Children.signal(tagged: s.tag, SIGCONT)
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `a hook that takes its time does not meet the next checkpoint`() {
        scenario("slow-hook") { s in
            try s.start([try s.installation.program("behaviour-slow-hook")])
            try s.waitUntilReady()
            try s.checkpoint()
            if access(s.path("in-continued"), F_OK) != 0 { throw Failure("its hook was not called") }
            try s.checkpoint(kill: true)        // it has run one hook to the end before it joins
            try s.restart()
            guard eventually(20, { access(s.path("in-restarted"), F_OK) == 0 || s.hasEnded }) else { throw Failure("its hook is not called after the restart") }
            try s.checkpoint()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    @Test func `a task may abort a checkpoint, and a program may take part in its own`() {
        scenario("hook") { s in
            try s.start([try s.installation.program("behaviour-hook")])
            try s.waitUntilReady()
            let refused = try s.ckptctl(["checkpoint", s.tag, "-o", s.path("refused.ckpt")])
            guard refused.status == .exited(77), refused.errors.contains("the application refused (0x2a)"), refused.errors.contains("pid "),
                  access(s.path("refused.ckpt"), F_OK) != 0 else { throw Failure("\(refused.status) \(refused.errors)") }
            try s.checkpoint()
            try s.checkpoint(kill: true)
            try s.restart()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `one statefile restarts any number of times, also at once`() {
        scenario("many-restarts") { s in
            try s.start([try s.installation.program("tree-fork")])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            var pids: [pid_t] = []
            for n in 0 ..< 3 { pids.append(try s.spawn([s.statefile, "--pids", "ns"], output: "many-\(n).out", errors: "many-\(n).err")) }
            usleep(300_000)
            s.go()
            for (n, pid) in pids.enumerated() {
                let status = Children.wait(pid, limit: 30)
                if status != .exited(0) { throw Failure("restart \(n): \(status.map(\.description) ?? "hangs") \(read(s.path("many-\(n).err"))) \(s.output)") }
            }
        }
    }

    @Test func `a restart passes on exit status and signals as the program would`() {
        scenario("exit-status") { s in
            try s.start(["/bin/sh", "-c", "touch ready; while ! test -e go; do sleep 0.02; done; exit 37"])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            try s.restart()
            s.go()
            try s.expect(.exited(37))
        }
        scenario("end-by-signal") { s in
            try s.start(["/bin/sh", "-c", "trap 'echo caught; exit 9' TERM; touch ready; while :; do sleep 0.02; done"])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            try s.restart()
            if !eventually(10, { (try? s.ckptctl(["status", s.tag]).status) == .exited(0) }) { throw Failure("the restarted session does not show; \(s.restartErrors)") }
            kill(s.pid, SIGTERM)
            try s.expect(.exited(9), output: "caught\n")
        }
    }

    @Test(.enabled(if: User.available.contains(.root))) func `the writers of a real-time program are ordinary processes`() {
        scenario("realtime", as: .root) { s in
            try s.start([try s.installation.program("behaviour-realtime")])
            try s.waitUntilReady()
            let initiator = try s.spawn([s.installation.ckptctl, "checkpoint", s.tag, "-o", s.path("x.ckpt")], output: "initiator.out", errors: "initiator.err")
            var policies: Set<String> = []
            var end: Status?
            for _ in 0 ..< 10_000 where end == nil {
                end = Children.wait(initiator, limit: 0)
                for child in read("/proc/\(s.pid)/task/\(s.pid)/children").split(separator: " ") {
                    let fields = read("/proc/\(child)/stat").split(separator: ")").last?.split(separator: " ") ?? []
                    if fields.count > 38 { policies.insert(String(fields[38])) }
                }
                usleep(2000)
            }
            let batch = "3"
            if end != .exited(0) || !policies.contains(batch) { throw Failure("policies of its children: \(policies.sorted()) \(read(s.path("initiator.err")))") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
}

/// What /proc says about processes of others.
enum ProcessTable {
    static func any(argument: String) -> Bool {
        for entry in (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? [] {
            guard let pid = pid_t(entry), pid != getpid(), let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") else { continue }
            if line.range(of: Data(argument.utf8)) != nil { return true }
        }
        return false
    }
}
