// Inotify queues with events that nobody has read.
import Foundation
import Glibc
import Synchronization
import Testing

private let roots = [User.root].filter(User.available.contains)

@Suite(.serialized) struct InotifyTests {
    @Test(arguments: ["kinds", "overflow", "unmount"]) func `unread events come back in their order, and the next ones behind them`(kind: String) { feature("events-unread", [kind], users: roots) }
    @Test(arguments: ["keep", "ns", "new"]) func `unread events come back however pids are kept`(pids: String) { feature("events-unread", ["kinds"], treatments: [.twice], users: roots, pids: [pids]) }
    @Test func `unread events come back to all who have the queue, in whatever way`() { feature("events-shared", users: roots) }

    @Test func `watches on what lies far from the tree come back, and the look for it is no event`() { feature("events-far") }
    @Test(.enabled(if: User.available == [.root, .ckptuser])) func `a user's watch on what the user can't reach any more is refused by name`() {
        scenario("events-hidden", as: .ckptuser) { s in
            let outer = "/var/tmp/hidden-\(getpid())", inner = outer + "/inner"
            defer { rmdir(inner); rmdir(outer) }
            if mkdir(outer, 0o755) != 0 || mkdir(inner, 0o755) != 0 { throw Failure("\(inner): \(String(cString: strerror(errno)))") }
            try s.start([try s.installation.program("events-far"), inner])
            try s.waitUntilReady()
            chmod(outer, 0o700)
            let result = try s.ckptctl(["checkpoint", s.tag, "-o", s.path("never.ckpt")])
            if result.status != .exited(77) || !result.errors.contains("watch 1 is on a file whose path can't be found") || !result.errors.contains("run ckptctl as root") { throw Failure("\(result.status): \(result.errors)") }
            chmod(outer, 0o755)
            try s.move()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    @Test(.enabled(if: access("/usr/bin/dbus-daemon", X_OK) == 0), arguments: User.available) func `a message bus that watches its configuration comes back with its client`(user: User) {
        scenario("events-bus", as: user) { s in
            let address = "unix:path=" + s.path("bus")
            try s.start(["/bin/sh", "-c", "dbus-daemon --session --nofork --print-address=4 --address=\(address) 4>\(s.path("ready")) & until [ -s \(s.path("ready")) ]; do sleep 0.01; done; exec dbus-monitor --address \(address) interface=org.ckpt.Test"])
            try s.waitUntilReady()
            func say(_ word: String) throws {
                let client = ["/usr/bin/setpriv", "--reuid", user.isOther ? user.rawValue : "0", "--clear-groups", "--", "/usr/bin/dbus-send", "--bus=" + address, "/test", "org.ckpt.Test.\(word)"]
                var last: Output?
                guard eventually(20, { last = try? run(client, in: s.folder, environment: s.environment); return last?.status == .exited(0) }), eventually(10, { s.output.contains("member=\(word)") }) else {
                    throw Failure("\(word): \(last?.errors ?? "") \(s.output)")
                }
            }
            if !eventually(10, { s.output.contains("NameLost") }) { throw Failure(s.output + s.errors) }
            try say("Before")
            // Whoever speaks while the tree is coming back may have to begin again.
            for word in ["After", "Again"] { try s.move(); try say(word) }
            try s.checkpoint(kill: true)
        }
    }

    @Test(.enabled(if: User.available == [.root, .ckptuser])) func `a user may keep unread events who may look into the kernel, and any user may restart them`() {
        scenario("events-capable", as: .ckptuser) { s in
            try s.start([try s.installation.program("events-unread"), "kinds"])
            try s.waitUntilReady()
            s.generation = 1
            let capable = ["/usr/bin/setpriv", "--reuid", "ckptuser", "--regid", "ckptuser", "--init-groups", "--inh-caps", "+bpf,+perfmon", "--ambient-caps", "+bpf,+perfmon", "--"]
            let result = try run(capable + [s.installation.ckptctl, "checkpoint", s.tag, "-o", s.statefile, "--kill"], in: s.folder, environment: s.environment)
            if result.status != .exited(0) { throw Failure("\(result.status): \(result.errors)") }
            _ = try s.wait()
            try s.restart()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(.enabled(if: User.available.contains(.ckptuser))) func `who may not look into the kernel is refused for the moment, and the queue stays as it is`() {
        scenario("events-incapable", as: .ckptuser) { s in
            try s.start([try s.installation.program("events-unread"), "kinds"])
            try s.waitUntilReady()
            try expectRefusal(s, "only root may look at them")
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    /// What is refused, and what of it must be said.
    @Test(.enabled(if: !roots.isEmpty), arguments: [("merged", "of a kind, or in an order, that no program brings about"), ("full", "full to its last place"), ("long", "more than 4 MiB")])
    func `unread events that can't be kept are refused for the moment, and stay`(kind: String, word: String) {
        scenario("events-refused-\(kind)", as: .root) { s in
            try s.start([try s.installation.program("events-refused"), kind])
            try s.waitUntilReady()
            try expectRefusal(s, word)
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(.enabled(if: !roots.isEmpty)) func `a restart says when the machine's queues are too small`() {
        scenario("events-small", as: .root) { s in
            try s.start([try s.installation.program("events-unread"), "overflow"])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            let setting = "/proc/sys/fs/inotify/max_queued_events", before = read(setting)
            try "1000".write(toFile: setting, atomically: false, encoding: .utf8)
            defer { try? before.write(toFile: setting, atomically: false, encoding: .utf8) }
            try s.restart()
            let status = try s.wait()
            if status != .exited(69) || !s.restartErrors.contains("max_queued_events") { throw Failure("\(status): \(s.restartErrors)") }
        }
    }

    @Test(.enabled(if: !roots.isEmpty)) func `a restart says when there is no place to make events again`() {
        scenario("events-placeless", as: .root) { s in
            try s.start([try s.installation.program("events-unread"), "kinds"])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            // A user namespace in which no other may be made, and whose mounts are another's.
            s.pid = try s.spawn(["/usr/bin/unshare", "--user", "--map-root-user", "--pid", "--fork", "/bin/sh", "-c", "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" --pids keep", s.statefile], output: "restart-1.out", errors: "restart-1.err")
            let status = try s.wait()
            if status == .exited(0) || !s.restartErrors.contains("no place to make its unread events again") { throw Failure("\(status): \(s.restartErrors)") }
        }
    }

    private func expectRefusal(_ s: Scenario, _ word: String) throws {
        let result = try s.ckptctl(["checkpoint", s.tag, "-o", s.path("never.ckpt")])
        for part in ["pid \(s.pid)", "inotify queue", word, "try again when the program has read them"] where result.status != .exited(75) || !result.errors.contains(part) { throw Failure("no '\(part)': \(result.status): \(result.errors)") }
        if access(s.path("never.ckpt"), F_OK) == 0 { throw Failure("a refused checkpoint has left a file") }
    }

    @Test func `what others do to watched files during checkpoints is told once, and in its order`() {
        for user in User.available {
            scenario("events-outside", as: user) { s in
                try s.start([try s.installation.program("events-outside")])
                try s.waitUntilReady()
                let folder = s.path("watched"), others = Others { i in close(open(folder + "/\(i)", O_CREAT | O_WRONLY, 0o644)) }
                for k in 0 ..< 5 {
                    let result = try s.ckptctl(["checkpoint", s.tag, "-o", s.path("\(k).ckpt")])
                    if result.status != .exited(user == .root ? 0 : 75) { throw Failure("\(result.status): \(result.errors)") }
                }
                let made = others.end()
                s.go()
                try s.expect(.exited(0), output: "\(made)\nok\n")
            }
        }
    }

    @Test(.enabled(if: !roots.isEmpty)) func `files that others remove meanwhile are told of once, and end their watches`() {
        scenario("events-removed", as: .root) { s in
            try s.start([try s.installation.program("events-removed")])
            try s.waitUntilReady()
            let folder = s.path("watched"), others = Others(every: 30_000) { i in unlink(folder + "/\(i)") }
            var taken = 0
            while others.count < 60 {
                let result = try s.ckptctl(["checkpoint", s.tag, "-o", s.path("now.ckpt")])
                if result.status == .exited(0) { taken += 1 } else if result.status != .exited(75) { throw Failure("\(result.status): \(result.errors)") }
            }
            _ = others.end()
            try s.move()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
            if taken == 0 { throw Failure("no checkpoint was taken") }
        }
    }

    @Test func `a file removed after its queue was found empty is told of, or refused for the moment`() {
        for user in User.available {
            scenario("events-end", as: user) { s in
                try s.start([try s.installation.program("events-end")])
                try s.waitUntilReady()
                if user == .root { s.generation = 1 }
                s.environment["CKPT_PAUSE"] = "peek"
                let initiator = try s.spawn([s.installation.ckptctl, "checkpoint", s.tag, "-o", s.statefile] + (user == .root ? ["--kill"] : []), output: "initiator.out", errors: "initiator.err")
                s.environment["CKPT_PAUSE"] = nil
                guard eventually(20, { read(s.path("initiator.err")).contains("paused at") }) else { throw Failure("it did not pause") }
                unlink(s.path("gone"))
                // It says so before it waits; and it tries once more where something is refused for the moment.
                var status: Status?
                _ = eventually(30) { kill(initiator, SIGCONT); status = Children.wait(initiator, limit: 0.1); return status != nil }
                let errors = read(s.path("initiator.err"))
                if user != .root && (status != .exited(75) || !errors.contains("only root may look at them")) { throw Failure("\(status as Any): \(errors)") }
                if user == .root {
                    if status != .exited(0) { throw Failure("\(status as Any): \(errors)") }
                    _ = try s.wait()
                    try s.restart()
                }
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    @Test(.enabled(if: !roots.isEmpty)) func `queues that may be long cost a checkpoint nothing; a restart names what it would have to fill`() {
        scenario("events-deep", as: .root) { s in
            let setting = "/proc/sys/fs/inotify/max_queued_events", before = read(setting)
            func allow(_ events: Int) throws { try "\(events)".write(toFile: setting, atomically: false, encoding: .utf8) }
            defer { try? before.write(toFile: setting, atomically: false, encoding: .utf8) }
            try s.start([try s.installation.program("events-unread"), "kinds"])
            try s.waitUntilReady()
            try allow(8 << 20)
            let result = try s.ckptctl(["checkpoint", s.tag, "-o", s.path("never.ckpt")])
            if result.status != .exited(75) || !result.errors.contains("lower sysctl fs.inotify.max_queued_events") { throw Failure("\(result.status): \(result.errors)") }
            try allow(1 << 20)
            let start = now()
            try s.checkpoint(kill: true)
            if now() - start > 5 { throw Failure("\(now() - start) s") }
            try allow(8 << 20)
            try s.restart()
            let status = try s.wait()
            if status != .exited(69) || !s.restartErrors.contains("set sysctl fs.inotify.max_queued_events to at most 4194304") { throw Failure("\(status): \(s.restartErrors)") }
        }
    }

    @Test(.enabled(if: !roots.isEmpty)) func `a restart that may have too few watches says which limit to raise`() {
        scenario("events-limited", as: .root) { s in
            try s.start([try s.installation.program("events-unread"), "kinds"])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            s.pid = try s.spawn(["/usr/bin/unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c", "echo 1 > /proc/sys/user/max_inotify_watches && exec \"$0\"", s.statefile], output: "restart-1.out", errors: "restart-1.err")
            let status = try s.wait()
            if status != .exited(69) || !s.restartErrors.contains("user.max_inotify_watches") { throw Failure("\(status): \(s.restartErrors)") }
        }
    }

    @Test(.enabled(if: !roots.isEmpty)) func `a restart is told what others had done up to one moment of the checkpoint`() {
        scenario("events-moment", as: .root) { s in
            try s.start([try s.installation.program("events-outside")])
            try s.waitUntilReady()
            let folder = s.path("watched"), others = Others { i in close(open(folder + "/\(i)", O_CREAT | O_WRONLY, 0o644)) }
            usleep(100_000)
            let before = others.count
            try s.move()
            let made = others.end()
            s.go()
            try s.expect(.exited(0))
            let lines = s.output.split(separator: "\n"), told = Int(lines.first ?? "") ?? -1
            if lines.count != 2 || lines[1] != "ok" || told < before || told > made { throw Failure("\(before) … \(made): \(s.output)") }
        }
    }

    /// Initiators and members are killed at random moments, while a thread of the tree, and somebody outside, do things that are told.
    @Test(arguments: User.available) func `whatever ends a checkpoint, each event is read once and in its order`(user: User) {
        scenario("events-aborted", as: user) { s in
            try s.start([try s.installation.program("events-aborted")])
            try s.waitUntilReady()
            let folder = s.path("watched"), others = Others { i in close(open(folder + "/o\(i)", O_CREAT | O_WRONLY, 0o644)) }
            let end = now() + 15
            var taken = 0
            while now() < end && !s.hasEnded {
                let initiator = try s.spawn([s.installation.ckptctl, "checkpoint", s.tag, "-o", s.path("now.ckpt")], output: "initiator.out", errors: "initiator.err")
                usleep(UInt32.random(in: 0 ..< 200_000))
                if Bool.random() { kill(initiator, SIGKILL) }
                guard let status = Children.wait(initiator, limit: 60) else { throw Failure("the initiator hangs") }
                if status == .exited(0) { taken += 1 }
            }
            let made = others.end()
            if user == .root { if taken == 0 { throw Failure("no checkpoint was taken: \(read(s.path("initiator.err")))") }; try s.move() }
            s.go()
            try s.expect(.exited(0), output: "\(made)\nok\n")
        }
    }
}

/// A thread that does something every other millisecond, or more rarely, until it is ended.
private final class Others: Sendable {
    private let isEnding = Atomic<Bool>(false), done = Atomic<Int>(0), hasEnded = DispatchSemaphore(value: 0)
    init(every microseconds: UInt32 = 2000, _ body: @escaping @Sendable (Int) -> Void) {
        Thread.detachNewThread { [self] in
            while !isEnding.load(ordering: .relaxed) { body(done.load(ordering: .relaxed)); done.add(1, ordering: .relaxed); usleep(microseconds) }
            hasEnded.signal()
        }
    }
    var count: Int { done.load(ordering: .relaxed) }
    /// How often.
    func end() -> Int {
        isEnding.store(true, ordering: .relaxed)
        hasEnded.wait()
        return count
    }
}
