// A template in memory: a branch is equal by value to an ordinary restart, branches are independent, and nothing is left of a template that is dropped.
import Foundation
import Glibc
import Testing

extension Scenario {
    /// A program's statefile; it has ended.
    func save(_ program: String) throws {
        try start([try installation.program(program)])
        try waitUntilReady()
        try checkpoint(kill: true)
    }
    /// A template of it, in a sessions folder of its own.
    func keepAlone(_ program: String) throws {
        environment["CKPT_DIR"] = path("sessions")
        try save(program)
        try warm()
    }
    /// Keeps a template of the last statefile.
    func warm(_ options: [String] = []) throws {
        let made = try ckptctl(["warm", statefile] + options)
        if made.status != .exited(0) { throw Failure("warm: \(made.status): \(made.errors)") }
    }
    /// What the list says of the template.
    func listed(_ key: String) throws -> Int32 {
        let text = try ckptctl(["warm", "--list", "--json"]).text
        let digits = text.split(separator: "\"\(key)\":").last?.drop { $0 == " " }.prefix { $0.isNumber } ?? ""
        guard let number = Int32(digits) else { throw Failure("list: \(text)") }
        return number
    }
    var sessionFiles: Set<String> { Set((try? FileManager.default.contentsOfDirectory(atPath: environment["CKPT_DIR"] ?? "")) ?? []) }
    func dropTemplates() { for g in 1 ... max(1, generation) { _ = try? ckptctl(["warm", "--drop", path("generation-\(g).ckpt")]) } }

    /// The restart has come from the template, and not from the file for want of one.
    func branch(_ options: [String] = []) throws { try restart(["--warm"] + options) }
    func expectBranch() throws { if restartErrors.contains("--warm") { throw Failure(restartErrors) } }
}

/// A feature holds in a branch, and in a branch of a branch.
private func warmFeature(_ program: String, _ arguments: [String] = [], generations: Int = 1, users: [User] = User.available, flags: [String] = [], sourceLocation: SourceLocation = #_sourceLocation) {
    for user in users {
        scenario("\(program)-warm", as: user, sourceLocation: sourceLocation) { s in
            try s.start([try s.installation.program(program, flags: flags)] + arguments)
            try s.waitUntilReady()
            defer { s.dropTemplates() }
            for _ in 0 ..< generations {
                try s.checkpoint(kill: true)
                try s.warm()
                try s.branch()
            }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
            try s.expectBranch()
        }
    }
}

@Suite(.serialized) struct TemplateTests {
    static let memory = ["memory-private", "memory-shared", "memory-file", "memory-brk", "memory-stack", "memory-protection", "memory-advice", "memory-deleted",
                         "memory-clock", "memory-maps", "memory-huge", "memory-memfd", "memory-hugetlb", "memory-guards", "memory-sealed", "memory-policy",
                         "memory-growing"]
    static let trees = ["tree-fork", "tree-exec", "tree-groups", "tree-leader-gone", "tree-orphan", "tree-spawn", "tree-subreaper", "tree-zombie"]
    static let others = ["threads-sync", "threads-robust", "threads-tls", "signals-timers", "signals-pending", "descriptors-pipe", "descriptors-shared", "events-epoll",
                         "events-pidfd", "unix-rights", "systemv-memory", "posix-memory", "attributes-process", "children-status"]
    @Test(arguments: memory) func `memory is in a branch what it is in a restart`(program: String) { warmFeature(program) }
    @Test(arguments: trees) func `a tree branches off with its parents, groups and sessions`(program: String) { warmFeature(program) }
    @Test func `a hundred processes branch off`() { warmFeature("tree-wide", ["100"]) }
    @Test(arguments: others) func `whatever else a process has is made for each branch`(program: String) { warmFeature(program) }
    @Test(arguments: ["namespaces-whole", "namespaces-part", "namespaces-mounts", "namespaces-memory", "namespaces-time", "namespaces-part-mounts", "namespaces-part-sockets"])
    func `namespaces of the tree are made for each branch`(program: String) { warmFeature(program, users: NamespaceTests.privileged) }
    @Test(arguments: ["memory-private", "memory-shared", "tree-fork"]) func `a branch is checkpointed, and branches again`(program: String) { warmFeature(program, generations: 2) }

    /// A script that counts on from the checkpoint, and says in which branch: its standard streams are the branch's own.
    private func counter(_ s: Scenario) throws {
        let script = "import os,sys,time\nx=list(range(200000))\nopen(os.environ['SCENARIO']+'/ready','w').close()\n"
            + "while not os.path.exists(os.environ['SCENARIO']+'/go'): time.sleep(0.01)\n"
            + "who=sys.stdin.readline().strip()\nfor i in range(len(x)): x[i]+=len(who)\ntime.sleep(0.3)\nprint(who,sum(x),os.getpid(),flush=True)\nsys.exit(len(who))\n"
        try script.write(toFile: s.path("count.py"), atomically: true, encoding: .utf8)
        let (input, output) = (try Ends(), try Ends())
        try s.start(["/usr/bin/python3", s.path("count.py")], descriptors: [0: input.read, 1: output.write])
        try s.waitUntilReady()
        try s.checkpoint(kill: true)
        s.go()
    }
    private struct Ends {
        let read: Int32, write: Int32
        init() throws {
            var ends: [Int32] = [0, 0]
            if pipe(&ends) != 0 { throw Failure("pipe") }
            (read, write) = (ends[0], ends[1])
        }
    }

    @Test func `branches of one instant run at the same time, each on its own`() {
        for user in User.available {
            scenario("warm-branches", as: user) { s in
                s.environment["CKPT_DIR"] = s.path("sessions")
                try counter(s)
                defer { s.dropTemplates() }
                try s.warm()
                let before = s.sessionFiles
                let names = (1 ... 8).map { String(repeating: "b", count: $0) }
                var branches: [(pid: pid_t, name: String)] = []
                for name in names {
                    try (name + "\n").write(toFile: s.path("in-" + name), atomically: true, encoding: .utf8)
                    branches.append((try s.spawn([s.statefile, "--warm"], output: "out-" + name, errors: "err-" + name, input: s.path("in-" + name)), name))
                }
                var pids: Set<Substring> = []
                for (pid, name) in branches {
                    let status = Children.wait(pid, limit: 30)
                    let words = read(s.path("out-" + name)).split(separator: " ").map { $0.filter { $0 != "\n" } }
                    let sum = 200_000 * 199_999 / 2 + 200_000 * name.count
                    guard status == .exited(Int32(name.count)), words.count == 3, words[0] == name, words[1] == String(sum) else {
                        throw Failure("branch \(name): \(String(describing: status)): \(words) \(read(s.path("err-" + name)))")
                    }
                    pids.insert(words[2][...])
                    if read(s.path("err-" + name)) != "" { throw Failure(read(s.path("err-" + name))) }
                }
                if pids.count != 1 { throw Failure("the pid is not that of the checkpoint in every branch: \(pids)") }
                if try s.listed("branches") != 8 { throw Failure("list: \(try s.listed("branches")) branches") }
                if !eventually(5, { s.sessionFiles == before }) { throw Failure("left by branches: \(s.sessionFiles)") }
            }
        }
    }

    @Test func `templates of one statefile that are made at the same time become one`() {
        scenario("warm-race") { s in
            try s.save("memory-private")
            defer { s.dropTemplates() }
            let makers = try (0 ..< 6).map { try s.spawn([s.installation.ckptctl, "warm", s.statefile], output: "warm-\($0)", errors: "warm-\($0).err") }
            for maker in makers { if let status = Children.wait(maker, limit: 30), status == .exited(0) { continue }; throw Failure("a maker failed") }
            let said = makers.indices.map { read(s.path("warm-\($0)")) }
            if said.filter({ $0.contains("in memory now") }).count != 1 || said.filter({ $0.contains("already") }).count != 5 { throw Failure("\(said)") }
        }
    }

    @Test func `a branch lives on when the keeper of its memory is killed, and another template can be made`() {
        scenario("warm-keeper") { s in
            try s.keepAlone("memory-private")
            defer { s.dropTemplates() }
            try s.branch()
            try s.checkpoint()      // which shows that it runs
            kill(try s.listed("keeper"), SIGKILL)
            if !eventually(5, { !s.sessionFiles.contains { $0.hasPrefix("warm-") } }) { throw Failure("its socket is still there") }
            if try s.ckptctl(["warm", "--list", "--json"]).text.contains("keeper") { throw Failure("it is still listed") }
            try s.warm()
            s.go()
            s.generation = 1        // where the branch writes its errors
            try s.expect(.exited(0), output: "ok\n")
            try s.expectBranch()
            s.generation = 2
        }
    }

    @Test func `a template holds nothing open of whoever made it`() {
        scenario("warm-descriptors") { s in
            try s.save("memory-private")
            defer { s.dropTemplates() }
            let ends = try Ends()
            let maker = try s.spawn([s.installation.ckptctl, "warm", s.statefile], output: "warm", errors: "warm.err", descriptors: [7: ends.write, 2: ends.write])
            close(ends.write)
            guard Children.wait(maker, limit: 30) == .exited(0) else { throw Failure(read(s.path("warm.err"))) }
            var end = pollfd(fd: ends.read, events: Int16(POLLIN), revents: 0)
            if poll(&end, 1, 5000) != 1 || end.revents & Int16(POLLHUP) == 0 { throw Failure("the pipe of whoever made it is still open") }
            close(ends.read)
        }
    }

    @Test func `whoever waits for a template that does not answer may give up, and nothing starts later`() {
        scenario("warm-waits") { s in
            try s.keepAlone("memory-private")
            defer { s.dropTemplates() }
            let server = try s.listed("pid"), before = s.sessionFiles
            kill(server, SIGSTOP)
            defer { kill(server, SIGCONT) }
            try s.branch()
            usleep(200_000)
            kill(s.pid, SIGINT)
            try s.expect(.exited(75))
            if !s.restartErrors.contains("interrupted") { throw Failure(s.restartErrors) }
            kill(server, SIGCONT)
            if try !eventually(5, { try s.listed("living") == 0 }) || s.sessionFiles != before { throw Failure("a branch for nobody: \(s.sessionFiles)") }
        }
    }

    @Test(arguments: [("namespaces-pids", "pid"), ("namespaces-user", "user")]) func `a tree that has to be born otherwise gets no template, by name`(program: String, kind: String) {
        for user in NamespaceTests.privileged {
            scenario("warm-impossible", as: user) { s in
                try s.start([try s.installation.program(program)])
                try s.waitUntilReady()
                try s.checkpoint(kill: true)
                let made = try s.ckptctl(["warm", s.statefile])
                if made.status != .exited(69) || !made.errors.contains("\(kind) namespace") { throw Failure("\(made.status) \(made.errors)") }
                if s.sessionFiles.contains(where: { $0.hasPrefix("warm-") }) { throw Failure("left: \(s.sessionFiles)") }
            }
        }
    }

    @Test func `a new checkpoint under the name of the template's is told from it`() {
        scenario("warm-replaced") { s in
            try s.start([try s.installation.program("memory-private")])
            try s.waitUntilReady()
            try s.checkpoint()
            try s.warm()
            s.generation = 0
            try s.checkpoint(kill: true)
            try s.branch()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
            if !s.restartErrors.contains("no template of it") { throw Failure("no word of the missing template: \(s.restartErrors)") }
            try s.warm()
            if try s.ckptctl(["warm", "--drop", s.statefile]).status != .exited(0) { throw Failure("not dropped") }
            if try s.ckptctl(["warm", "--drop", s.statefile]).status != .exited(66) { throw Failure("the old one is still there") }
        }
    }

    @Test func `a signal to the one that asked reaches the branch, and its end comes back`() {
        scenario("warm-signal") { s in
            try s.start(["/bin/sh", "-c", "trap 'exit 7' TERM; : > $SCENARIO/ready; while :; do sleep 0.05; done"])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            defer { s.dropTemplates() }
            try s.warm()
            try s.branch()
            usleep(300_000)
            kill(s.pid, SIGTERM)
            try s.expect(.exited(7))
            try s.expectBranch()
        }
    }

    @Test func `a template that is dropped leaves nothing, and a restart without one says so and reads the file`() {
        scenario("warm-drop") { s in
            try s.save("memory-private")
            try s.warm()
            let (pid, keeper) = (try s.listed("pid"), try s.listed("keeper"))
            let again = try s.ckptctl(["warm", s.statefile])
            if again.status != .exited(0) || !again.text.contains("already") { throw Failure("twice: \(again.status) \(again.text)\(again.errors)") }
            let dropped = try s.ckptctl(["warm", "--drop", s.statefile])
            if dropped.status != .exited(0) { throw Failure("drop: \(dropped.status) \(dropped.errors)") }
            for process in [pid, keeper] where !eventually(5, { Children.reapStrays(); return kill(process, 0) != 0 }) { throw Failure("process \(process) of the template lives on") }
            if s.sessionFiles.contains(where: { $0.hasPrefix("warm-") }) { throw Failure("left: \(s.sessionFiles)") }
            if try s.ckptctl(["warm", "--drop", s.statefile]).status != .exited(66) { throw Failure("dropped twice") }
            try s.branch()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
            if !s.restartErrors.contains("ckptctl warm") { throw Failure("no word of the missing template: \(s.restartErrors)") }
        }
    }

    @Test func `a template serves its own statefile, user and options only`() {
        scenario("warm-refuses") { s in
            try s.start([try s.installation.program("memory-private")])
            try s.waitUntilReady()
            try s.checkpoint()
            let first = s.statefile
            try s.checkpoint(kill: true)
            defer { s.dropTemplates() }
            try s.warm()
            func refused(_ options: [String], from file: String? = nil, _ status: Status, _ word: String) throws {
                try s.restart(options, from: file)
                let seen = try s.wait()
                if seen != status || !s.restartErrors.contains(word) { throw Failure("\(options): \(seen) \(s.restartErrors)") }
            }
            try refused(["--warm", "--pids", "keep"], .exited(64), "--pids")
            try refused(["--warm", "--relocate", "/old=/new"], .exited(69), "--relocate")
            // Another statefile's template under this one's name: told by the id.
            let folder = s.environment["CKPT_DIR"] ?? ""
            guard let socket = try FileManager.default.contentsOfDirectory(atPath: folder).first(where: { $0.hasPrefix("warm-") }) else { throw Failure("no socket") }
            let other = try s.ckptctl(["warm", first])
            if other.status != .exited(0) { throw Failure(other.errors) }
            defer { _ = try? s.ckptctl(["warm", "--drop", "all"]) }
            guard let mine = try FileManager.default.contentsOfDirectory(atPath: folder).first(where: { $0.hasPrefix("warm-") && $0 != socket }) else { throw Failure("no second socket") }
            try FileManager.default.moveItem(atPath: folder + "/" + mine, toPath: folder + "/aside")
            defer {     // else nobody could drop it
                try? FileManager.default.removeItem(atPath: folder + "/" + mine)
                try? FileManager.default.moveItem(atPath: folder + "/aside", toPath: folder + "/" + mine)
            }
            try FileManager.default.createSymbolicLink(atPath: folder + "/" + mine, withDestinationPath: socket)
            try refused(["--warm"], from: first, .exited(69), "another statefile")
            guard User.current == .root, User.available.contains(.ckptuser) else { return }
            // Somebody else who may reach the socket gets nothing.
            chmod(folder, 0o755); chmod(folder + "/" + socket, 0o777); chmod(s.statefile, 0o755)
            defer { chmod(folder, 0o700) }
            let stranger = try run(["/usr/bin/setpriv", "--reuid", "ckptuser", "--regid", "ckptuser", "--init-groups", "--", s.statefile, "--warm"], in: "/", environment: s.environment)
            if stranger.status != .exited(71) || !stranger.errors.contains("another user") { throw Failure("stranger: \(stranger.status) \(stranger.errors)") }
        }
    }
}
