// The programs as a user meets them: ckrun's refusals and supervision, ckptctl's verbs over sessions and statefiles.
import CkptABI
import Foundation
import Glibc
import Testing

@Suite struct ToolTests {
    // Counts to 60 with two stops on the way, until somebody makes the files `first` and `second`.
    private let counting = ["/bin/sh", "-c", """
        i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo $i
        [ $i = 30 ] && while ! [ -e first ]; do sleep 0.05; done; [ $i = 45 ] && while ! [ -e second ]; do sleep 0.05; done; done; exit 5
        """]
    private let numbers = (1...60).map { "\($0)\n" }.joined()

    private func ckrun(_ s: Scenario, _ arguments: [String], environment: [String: String] = [:]) throws -> Output {
        try run([s.installation.ckrun] + arguments, in: s.folder, environment: s.environment.merging(environment) { $1 })
    }

    @Test func `ckrun refuses in one line what can't be checkpointed`() {
        scenario("ckrun-refusals") { s in
            let text = s.path("text")
            FileManager.default.createFile(atPath: text, contents: Data("#!\(s.installation.ckrun)\n".utf8), attributes: [.posixPermissions: 0o755])
            let cases: [([String], Int32, String)] = [
                ([], 64, "no application"), (["--nonsense"], 64, "unknown option"), (["--name", "12", "ls"], 64, "not a number"), (["nosuchprogram"], 127, "not found"),
                (["/etc/passwd"], 126, "permission denied"), ([s.installation.ckrun, "ls"], 126, "static"), ([text], 126, "static"),
                (["--every", "5x", "ls"], 64, "duration"), (["--on-signal", "KILL", "ls"], 64, "signal"), (["-o", "x", "ls"], 64, "--every"),
            ]
            for (arguments, status, word) in cases {
                let result = try ckrun(s, arguments)
                if result.status != .exited(status) || !result.errors.contains(word) || result.errors.split(separator: "\n").count != 1 {
                    throw Failure("ckrun \(arguments): \(result.status) \(result.errors)")
                }
            }
        }
    }

    @Test(.enabled(if: User.available.contains { $0.isOther })) func `a checkpoint for which no thread may be made fails in one line, and the tree runs on`() {
        for user in User.available where user.isOther {
            scenario("no-threads", as: user) { s in
                try s.start([try s.installation.program("tree-wide"), "20"])
                try s.waitUntilReady()
                let result = try s.ckptctl(["checkpoint", s.tag, "-o", s.path("never.ckpt")], ulimit: "-u 1")
                if result.status != .exited(71) || !result.errors.contains("pthread_create") || result.errors.split(separator: "\n").count != 1 { throw Failure("\(result.status) \(result.errors)") }
                try s.checkpoint()
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }
    /// As many sockets as its own limit lets it look at, and then more than a restart may make.
    @Test(.enabled(if: User.available.contains { $0.isOther })) func `more open files than ckptctl may have at first are no matter, and more than a restart may have are refused`() {
        for user in User.available where user.isOther {
            for (limits, status) in [("-Sn 200", 0), ("-n 2000", 77)] as [(String, Int32)] {
                scenario("many-sockets", as: user) { s in
                    try s.start(["/usr/bin/python3", "-c", "import socket,time; s=[socket.socketpair() for _ in range(600)]; open('ready','w'); time.sleep(1000)"])
                    try s.waitUntilReady()
                    let result = try s.ckptctl(["checkpoint", s.tag, "-o", s.path("file.ckpt")], ulimit: limits)
                    if result.status != .exited(status) || status == 77 && !result.errors.contains("ulimit -Hn") { throw Failure("\(result.status) \(result.errors)") }
                    kill(s.pid, SIGKILL)
                    _ = try s.wait()
                }
            }
        }
    }

    @Test func `ckrun keeps the environment, the status and the user's preloads`() {
        scenario("ckrun-environment") { s in
            let result = try ckrun(s, ["/bin/sh", "-c", "echo $KEPT:$LD_PRELOAD; exit 7"], environment: ["KEPT": "yes", "LD_PRELOAD": "libm.so.6"])
            guard result.status == .exited(7), result.text == "yes:libm.so.6:\(s.installation.folder)/libckpt.so\n" else { throw Failure("\(result.status) \(result.text) \(result.errors)") }
            let open = s.path("open")
            try FileManager.default.createDirectory(atPath: open, withIntermediateDirectories: true)
            chmod(open, 0o755)
            let shared = try ckrun(s, ["/bin/true"], environment: ["CKPT_DIR": open])
            if shared.status != .exited(71) || !shared.errors.contains("others may enter") { throw Failure("\(shared.status) \(shared.errors)") }
        }
    }

    @Test func `there may be more sessions than ckptctl may open files; where there are none to be had, the limit is named`() throws {
        scenario("few-descriptors") { s in
            let sessions = s.path("sessions")
            s.environment["CKPT_DIR"] = sessions
            try s.start(["/bin/sleep", "300"])
            guard eventually(5, { (try? s.ckptctl(["status", s.tag]).status) == .exited(0) }) else { throw Failure("no session") }
            let segment = try FileManager.default.contentsOfDirectory(atPath: sessions)[0]
            for i in 10 ..< 50 { _ = try run(["/bin/cp", "--sparse=always", sessions + "/" + segment, sessions + "/00000000000000\(i)"], in: s.folder) }
            for verb in [["list"], ["status", s.tag], ["checkpoint", s.tag, "-o", s.statefile]] {
                let few = try run(["/usr/bin/prlimit", "--nofile=30:30", s.installation.ckptctl] + verb, in: s.folder, environment: s.environment)
                if few.status != .exited(0) { throw Failure("\(verb): \(few.status) \(few.text) \(few.errors)") }
                let none = try run(["/usr/bin/prlimit", "--nofile=12:12", s.installation.ckptctl] + verb, in: s.folder, environment: s.environment)
                if none.status != .exited(71) || !none.errors.contains("ulimit -n") { throw Failure("\(verb): \(none.status) \(none.text) \(none.errors)") }
            }
            try s.checkpoint(kill: true)
        }
    }

    /// As old as one must be before it may count as abandoned.
    private func age(_ segment: String) throws {
        let file = try FileHandle(forWritingTo: URL(filePath: segment))
        try file.seek(toOffset: UInt64(MemoryLayout<ckpt_session>.offset(of: \.created)!))
        try file.write(contentsOf: Data(count: 8))
        try file.close()
    }

    @Test func `what an ended session leaves goes with the next look for any other, by name or of all`() {
        for look in [["status", "no-such-session"], ["list"]] {
            scenario("abandoned") { s in
                let sessions = s.path("sessions"), files = FileManager.default
                s.environment["CKPT_DIR"] = sessions
                try s.start(["/bin/sleep", "300"])
                guard eventually(5, { (try? s.ckptctl(["status", s.tag]).status) == .exited(0) }) else { throw Failure("no session") }
                kill(s.pid, SIGKILL)
                _ = try s.wait()
                let segment = sessions + "/" + (try files.contentsOfDirectory(atPath: sessions))[0]
                _ = try s.ckptctl(look)
                if !files.fileExists(atPath: segment) { throw Failure("a young one is gone") }
                try age(segment)
                _ = try s.ckptctl(look)
                if files.fileExists(atPath: segment) { throw Failure("it is still there") }
            }
        }
    }

    @Test func `a look from a container that shares the folder of sessions leaves those that it can't see`() {
        for user in User.available {
            scenario("container-look", as: user) { s in
                let sessions = s.path("sessions")
                s.environment["CKPT_DIR"] = sessions
                try s.start(["/bin/sleep", "300"])
                guard eventually(5, { (try? s.ckptctl(["status", s.tag]).status) == .exited(0) }) else { throw Failure("no session") }
                try age(sessions + "/" + (try FileManager.default.contentsOfDirectory(atPath: sessions))[0])
                let look = try s.spawn(["/usr/bin/unshare", "--user", "--map-current-user", "--pid", "--fork", "--mount-proc", s.installation.ckptctl, "list"], output: "look.out", errors: "look.err")
                let status = Children.wait(look, limit: 20)
                if status != .exited(0) || read(s.path("look.out")).contains(s.tag) { throw Failure("\(String(describing: status)) \(read(s.path("look.out"))) \(read(s.path("look.err")))") }
                try s.checkpoint(kill: true)
            }
        }
    }

    @Test func `what a restarted tree executes belongs to its own session, though the first one lives on`() {
        for user in User.available {
            scenario("beside", as: user) { s in
                func sessions(below pid: pid_t) -> [String] {
                    var found: [String] = [], family = [Int(pid)], at = 0
                    while at < family.count {
                        family += read("/proc/\(family[at])/task/\(family[at])/children").split(separator: " ").compactMap { Int($0) }
                        if let line = read("/proc/\(family[at])/maps").split(separator: "\n").first(where: { $0.contains(" rw-s ") && $0.contains("/ckpt") }) { found.append(String(line.split(separator: "/").last!)) }
                        at += 1
                    }
                    return found
                }
                try s.start(["/bin/sh", "-c", "while ! [ -e go ]; do sleep 0.1; done"])
                guard eventually(10, { sessions(below: s.pid).count == 2 }) else { throw Failure("no session: \(sessions(below: s.pid))") }
                guard let first = sessions(below: s.pid).first else { throw Failure("it has ended") }
                try s.checkpoint()
                let second = try s.spawn([s.statefile, "--pids", "new"], output: "second.out", errors: "second.err")
                defer { kill(second, SIGKILL) }
                var seen: Set<String> = []
                let isSeen = eventually(20) { let now = sessions(below: second); if now.count > 1 { seen.formUnion(now) }; return seen.count > 1 || now.count > 1 && now.allSatisfy { $0 != first } && seen.count == 1 }
                usleep(300_000)
                seen.formUnion(sessions(below: second))
                if !isSeen || seen.count != 1 || seen.contains(first) { throw Failure("sessions: \(first), then \(seen) \(read(s.path("second.err")))") }
                s.go()
                try s.expect(.exited(0))
                if Children.wait(second, limit: 20) != .exited(0) { throw Failure(read(s.path("second.err"))) }
            }
        }
    }

    @Test func `a session is named by name, id and pid, and status shows it`() throws {
        scenario("naming") { s in
            try s.start(["/bin/sleep", "300"])
            let known = eventually(5) { (try? s.ckptctl(["status", s.tag]).status) == .exited(0) }
            if !known { throw Failure("no session") }
            let json = try s.ckptctl(["status", s.tag, "--json"]).text
            guard let state = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any], let id = state["id"] as? String,
                  state["pid"] as? Int == Int(s.pid), state["command"] as? String == "/bin/sleep 300" else { throw Failure(json) }
            for name in [id, String(s.pid)] where try s.ckptctl(["status", name, "--json"]).status != .exited(0) { throw Failure("not found by \(name)") }
            let none = try s.ckptctl(["status", "no-such-session"])
            if none.status != .exited(66) { throw Failure("\(none.status) \(none.errors)") }
        }
    }

    @Test func `verify names damage, status and core tell what is inside`() {
        scenario("statefile-verbs") { s in
            try s.start(["/bin/sleep", "300"])
            try s.checkpoint(kill: true)
            let good = try s.ckptctl(["verify", s.statefile])
            if good.status != .exited(0) || !good.text.contains("good: 1 process,") { throw Failure("\(good.status) \(good.text) \(good.errors)") }
            let stacks = try s.ckptctl(["status", s.statefile, "--stacks"])
            if !stacks.text.contains("sleep") || !stacks.text.contains("libc_start") { throw Failure(stacks.text + stacks.errors) }
            for flags in [[], ["--full"]] {
                let core = try s.ckptctl(["core", s.statefile, "-o", "core"] + flags)
                if core.status != .exited(0) { throw Failure(core.errors) }
                let seen = try run(["gdb", "-nx", "-batch", "-ex", "bt", "/bin/sleep", "core"], in: s.folder, environment: ["DEBUGINFOD_URLS": ""], limit: 60)
                if !seen.text.contains("libc_start") || seen.errors.contains("warning") { throw Failure(seen.text + seen.errors) }
            }
            guard let file = FileHandle(forUpdatingAtPath: s.statefile) else { throw Failure("cannot open") }
            let engineText: UInt64 = 0x1000 + 0x800
            try file.seek(toOffset: engineText)
            try file.write(contentsOf: Data([0x5a, 0xa5, 0x5a]))
            try file.close()
            let bad = try s.ckptctl(["verify", s.statefile])
            if bad.status != .exited(65) || !bad.errors.contains("checksum") { throw Failure("\(bad.status) \(bad.text) \(bad.errors)") }
        }
    }

    @Test func `a supervised job that is killed resumes from its last checkpoint`() {
        scenario("supervision") { s in
            let options = ["--every", "300ms", "--keep", "2", "--resume", s.path("job.ckpt"), "--files", "truncate"]
            try s.start(counting, options: options)
            let taken = eventually(40) { access(s.path("job.ckpt.1"), F_OK) == 0 }
            if !taken { throw Failure("no two checkpoints; \(s.errors)") }
            FileManager.default.createFile(atPath: s.path("first"), contents: nil)
            if !eventually(20, { s.output.hasSuffix("45\n") }) { throw Failure("stuck: \(s.output)") }
            kill(s.pid, SIGKILL)
            Children.kill(tagged: s.tag)
            _ = try s.wait()
            Children.reapStrays()
            FileManager.default.createFile(atPath: s.path("second"), contents: nil)
            s.pid = try s.spawn([s.installation.ckrun, "--name", s.tag] + options + counting, output: "second", errors: "second.err")
            let status = try s.wait()
            // The output is the file that the first run wrote to.
            if status != .exited(5) || s.output != numbers { throw Failure("\(status): \(s.output.suffix(200)) \(read(s.path("second.err")))") }
        }
    }

    @Test func `a supervisor passes on signals and the way its job ends`() {
        scenario("supervisor-signals") { s in
            try s.start(["/bin/sh", "-c", "trap 'echo got it; exit 3' TERM; echo up; while :; do sleep 0.05; done"], options: ["--on-signal", "USR1", "-o", s.path("job.ckpt")])
            if !eventually(5, { s.output == "up\n" }) { throw Failure("not started: \(s.errors)") }
            kill(s.pid, SIGUSR1)
            if !eventually(20, { access(s.path("job.ckpt"), F_OK) == 0 }) { throw Failure("no checkpoint: \(s.errors)") }
            kill(s.pid, SIGTERM)
            try s.expect(.exited(3), output: "up\ngot it\n")
            try s.start(["/bin/sh", "-c", "kill -9 $$"], options: ["--every", "1h"])
            try s.expect(.killed(SIGKILL))
        }
    }

    @Test func `a terminal shows how far a checkpoint is, and nothing else does`() {
        scenario("progress") { s in
            try s.start([try s.installation.program("behaviour-heartbeat"), "512"])
            try s.waitUntilReady(limit: 60)
            for options in [[], ["--quiet"]] {
                let terminal = try UserTerminal(rows: 24, columns: 100, for: .current), end = open(terminal.path, O_RDWR | O_NOCTTY | O_CLOEXEC)
                let ckptctl = try s.spawn([s.installation.ckptctl, "checkpoint", s.tag, "-o", s.path("generation-1.ckpt"), "--timing"] + options, output: "ckptctl.out", errors: "unused", descriptors: [2: end])
                Glibc.close(end)
                let status = Children.wait(ckptctl, limit: 60)
                try terminal.await("phase commit: ")
                let shown = terminal.screen
                if status != .exited(0) { throw Failure("\(String(describing: status)) \(shown)") }
                if options.isEmpty {
                    for words in ["\(s.tag): write [", "iB of 1.0 GiB", "iB/s, ", " left"] where !shown.contains(words) { throw Failure("no \(words): \(shown)") }
                } else if shown.contains("\u{1b}") || shown.contains("[#") { throw Failure(shown) }
            }
            let plain = try s.ckptctl(["checkpoint", s.tag, "-o", s.path("generation-1.ckpt")])
            if plain.status != .exited(0) || plain.errors.contains("\u{1b}") || plain.errors.contains("[#") { throw Failure(plain.errors) }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `who starts a restart or ckrun --every may ignore SIGCHLD: both end with the program, which inherits what they did`() {
        for pids in ["ns", "keep"] where pids == "ns" || User.current == .root {
            scenario("ignored-restart-\(pids)") { s in
                try s.start([try s.installation.program("memory-shared")])
                try s.waitUntilReady()
                try s.checkpoint(kill: true)
                s.pid = try s.spawn(["/usr/bin/env", "--ignore-signal=CHLD", s.statefile, "--pids", pids], output: "restart-1.out", errors: "restart-1.err")
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
        scenario("ignored-every") { s in
            let sees = "^SigIgn:.*1....$"       // SIGCHLD is 17
            s.pid = try s.spawn(["/usr/bin/env", "--ignore-signal=CHLD", s.installation.ckrun, "--every", "10m", "/bin/grep", "-q", sees, "/proc/self/status"], output: "out", errors: "err")
            try s.expect(.exited(0))
        }
    }
}
