// System V IPC: what is the tree's comes back with its ids; what others use too is attached to on demand, or refused.
import Foundation
import Glibc
import Synchronization
import Testing

@Suite struct SystemVTests {
    @Test func `shared memory keeps its ids, contents and attachments, also where nobody has it attached`() { feature("systemv-memory") }
    @Test func `semaphores keep their values, and what the end of each process will undo`() { feature("systemv-semaphores") }
    @Test func `message queues keep their messages, limits and whoever waits for one`() { feature("systemv-queues") }

    /// Most instants are in the midst of a call that makes one.  In a namespace of its own: other trees that are restarted meanwhile choose ids, and it would take them.
    @Test func `an object is there as soon as its maker has been told its id`() {
        for user in User.available {
            scenario("systemv-asks", as: user) { s in
                let own = ["/usr/bin/unshare", "--ipc"] + (user.isOther ? ["--user", "--map-root-user"] : [])
                try s.start(own + [try s.installation.program("systemv-asks"), "\(0x47000000)"])
                try s.waitUntilReady()
                for _ in 0 ..< 12 {
                    usleep(.random(in: 0 ..< 20_000))
                    try s.checkpoint(kill: true)
                    try s.restart()
                }
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    @Test func `a locked segment stays locked`() { feature("systemv-new") }
    @Test func `System V IPC comes back in a pid namespace, and to root under other pids`() {
        feature("systemv-new", treatments: [.twice], pids: ["ns"])
        feature("systemv-new", treatments: [.twice], users: User.available.filter { $0 == .root }, pids: ["new"])
    }
    @Test func `a user who may not choose ids is told of --pids ns`() {
        for user in User.available where user.isOther {
            scenario("systemv-new", as: user) { s in
                try s.start([try s.installation.program("systemv-new")])
                try s.waitUntilReady()
                try s.checkpoint(kill: true)
                try s.restart(["--pids", "new"])
                let status = try s.wait()
                if status != .exited(71) || !s.restartErrors.contains("--pids ns") { throw Failure("\(status): \(s.restartErrors)") }
                try s.restart(["--pids", "ns"])
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    @Test(.enabled(if: User.available.contains(.root))) func `what another user made in root's tree is that user's again`() {
        feature("systemv-owners", users: [.root], flags: ["-lrt"])
        feature("systemv-owners", treatments: [.twice], users: [.root], pids: ["ns"], flags: ["-lrt"])
    }

    @Test func `more than a session has room for is refused with what fills it, and stays as it was`() {
        scenario("systemv-full") { s in
            try s.start([try s.installation.program("systemv-full")])
            try s.waitUntilReady()
            try s.expectRefusal(["checkpoint", s.tag, "-o", s.path("x.ckpt")], 77, "queued messages", "MiB", "let it read")
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `what somebody else made while the tree ran, and left behind, is none of its business`() {
        scenario("systemv-stranger") { s in
            try s.start([try s.installation.program("behaviour-heartbeat")])
            try s.waitUntilReady()
            // Its maker has ended: by the pids alone it might be the tree's.
            var ids: [Int] = []
            defer { for id in ids { _ = try? run(["/usr/bin/ipcrm", "-s", "\(id)"], in: s.folder) } }
            for _ in 0 ..< 3 { ids += try run(["/usr/bin/ipcmk", "-S", "2"], in: s.folder).text.split(whereSeparator: \.isWhitespace).compactMap { Int($0) } }
            if ids.count != 3 { throw Failure("ipcmk: \(ids)") }
            try s.checkpoint()
            let text = try s.ckptctl(["inspect", s.statefile]).text
            if text.contains("IPC\n") { throw Failure(text) }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    /// A restart of another tree chooses ids.  By the tree: removed by itself, or else by a stranger; alike: nothing but its date tells the new one from the old.
    @Test(.enabled(if: User.available.contains(.root)), arguments: [(byTree: true, alike: true, isTaken: false), (false, false, false), (false, true, true)])
    func `an object that has the id of a removed one is another, unless it looks like that one changed`(_ variant: (byTree: Bool, alike: Bool, isTaken: Bool)) {
        scenario("systemv-again", as: .root) { s in
            try s.start([try s.installation.program("systemv-forgets")] + (variant.byTree ? ["remove"] : []))
            try s.waitUntilReady()
            let ids = read(s.path("ids")).split(separator: " ").map(String.init)
            let remove = ["/usr/bin/ipcrm", "-m", ids[0], "-s", ids[1], "-q", ids[2]]
            if !variant.byTree { _ = try run(remove, in: s.folder) }
            usleep(1_100_000)       // the kernel dates by seconds
            let made = try run([try s.installation.program("systemv-again")] + ids + (variant.alike ? ["2", "0"] : ["3", "\(0x4800_0000 | getpid())"]), in: s.folder)
            defer { _ = try? run(remove, in: s.folder) }
            if made.status != .exited(0) { throw Failure("\(made.status): \(made.errors)") }
            try s.checkpoint()
            let text = try s.ckptctl(["inspect", s.statefile]).text
            if text.contains("IPC\n") != variant.isTaken || text.contains("used outside") != variant.isTaken { throw Failure(text) }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `a copy beside the original has the same ids, in namespaces of its own`() {
        for user in User.available {
            scenario("systemv-copy", as: user) { s in
                try s.start([try s.installation.program("systemv-queues")])
                try s.waitUntilReady()
                try s.checkpoint()
                let original = s.pid
                try s.restart(["--files", "keep"])      // the original may have printed by then
                s.go()
                try s.expect(.exited(0), output: "ok\n")
                s.pid = original
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    @Test(arguments: ["systemv-memory", "systemv-semaphores", "systemv-queues", "posix-memory", "posix-queues"])
    func `an initiator that dies after it has looked leaves everything as it was`(program: String) {
        for (phase, signal) in [("system", SIGKILL), ("memory", SIGKILL), ("commit", SIGINT)] {
            scenario("ipc-dead-initiator") { s in
                try s.start([try s.installation.program(program, flags: ["-lrt"])])
                try s.waitUntilReady()
                try s.endInitiator(at: phase, by: signal)
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    @Test func `a restart that fails leaves no System V object behind`() {
        scenario("systemv-failed") { s in
            try s.start([try s.installation.program("systemv-memory")])
            try s.waitUntilReady()
            let key = key_t(0x4300_0000 | (s.pid & 0xffff) << 4 | 1)
            if shmget(key, 0, 0) < 0 { throw Failure("the program has no segment") }
            try s.checkpoint(kill: true)
            // Limits are among the last that a process restores, long after the segments were made.
            s.pid = try s.spawn(["/usr/bin/prlimit", "--nofile=64:64", "--core=0:0", s.statefile], output: "restart-1.out", errors: "restart-1.err")
            let status = try s.wait()
            if status == .exited(0) { throw Failure("it was restarted with lower limits") }
            if shmget(key, 0, 0) >= 0 { throw Failure("\(status): a segment was left: \(s.restartErrors)") }
            if !s.restartErrors.contains("limit") { throw Failure("another failure: \(s.restartErrors)") }
        }
    }

    @Test func `inspect shows semaphores with their undo values, and the messages of queues`() {
        for (program, words) in [("systemv-semaphores", ["semaphores", "3 9 0 32767 0 33", "/1: -9", "/2: +32767", "/3: -32767"]), ("systemv-queues", ["message queue", "4 messages"]),
                                 ("systemv-memory", ["shared memory", "68 KiB", "removed"]), ("posix-queues", ["POSIX queue", "/ckpt-queue-", "4 messages"])] {
            scenario("ipc-inspect") { s in
                try s.start([try s.installation.program(program, flags: ["-lrt"])])
                try s.waitUntilReady()
                try s.checkpoint()
                let result = try s.ckptctl(["inspect", s.statefile])
                for word in words where !result.text.contains(word) { throw Failure("no '\(word)' in: \(result.text.prefix(3000)) \(result.errors)") }
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    private static let partners = Atomic<Int>(0)
    /// The tree's program with a partner outside; `body` is called when both have used all three kinds.
    private func withPartner(_ name: String, as user: User = .current, _ body: (Scenario) throws -> Void) {
        scenario("systemv-\(name)", as: user) { s in
            let key = "0x46\(String(getpid() & 0xffff, radix: 16))\(Self.partners.add(1, ordering: .relaxed).newValue + 9)", program = try s.installation.program("systemv-outside")
            s.environment["KEY"] = key
            let partner = try s.spawn([program, key], output: "partner.out", errors: "partner.err")
            defer {
                FileManager.default.createFile(atPath: s.path("partner-end"), contents: nil)
                if Children.wait(partner, limit: 5) == nil { kill(partner, SIGKILL); _ = Children.wait(partner, limit: 5) }
            }
            guard eventually(10, { access(s.path("partner-ready"), F_OK) == 0 }) else { throw Failure("no partner: \(read(s.path("partner.out")))") }
            usleep(1_500_000)       // the kernel dates by seconds
            try s.start([program])
            try s.waitUntilReady()
            try body(s)
        }
    }

    @Test func `what a program outside uses too is left to it, and attached to with --ipc attach`() {
        withPartner("attach") { s in
            try s.checkpoint(kill: true)
            try s.restart(["--ipc", "attach"])
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
        for user in User.available where user != .current {
            withPartner("attach", as: user) { s in
                try s.checkpoint(kill: true)
                try s.restart(["--ipc=attach"])
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    @Test func `without --ipc attach such a tree is not restarted, and the remedy named`() {
        withPartner("refused") { s in
            try s.checkpoint(kill: true)
            try s.restart()
            let status = try s.wait()
            for word in ["System V", "key 0x46", "--ipc attach"] where status != .exited(69) || !s.restartErrors.contains(word) { throw Failure("\(status): \(s.restartErrors)") }
        }
    }

    @Test func `when the others have gone with it, --ipc attach says so`() {
        withPartner("gone") { s in
            try s.checkpoint(kill: true)
            FileManager.default.createFile(atPath: s.path("partner-end"), contents: nil)
            let key = key_t(strtol(s.environment["KEY"]!, nil, 0))
            guard eventually(5, { shmget(key, 0, 0) < 0 && msgget(key, 0) < 0 }) else { throw Failure("the partner does not end") }
            try s.restart(["--ipc", "attach"])
            let status = try s.wait()
            if status != .exited(69) || !s.restartErrors.contains("not there any more") { throw Failure("\(status): \(s.restartErrors)") }
        }
    }
}
