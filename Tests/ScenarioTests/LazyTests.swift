// Lazy restarts: memory comes when it is touched, and nobody can tell.
import Foundation
import Glibc
import Testing

@Suite(.serialized, .enabled(if: getuid() == 0)) struct LazyTests {
    /// Restarted with "go" said already: the program goes on in the very moment of the release.
    private func lazily(_ program: String, _ arguments: [String] = [], options: [String] = [], again: Bool = false, settled: Bool = false, limit: Double = 120) {
        scenario("\(program)-lazy") { s in
            try s.start([try s.installation.program(program)] + arguments)
            try s.waitUntilReady(limit: 60)
            try s.checkpoint(kill: true)
            if again {
                try s.restart(["--lazy"] + options)
                try s.checkpoint(kill: true)
            }
            if !settled { s.go() }
            try s.restart(again ? [] : ["--lazy"] + options)
            // It shows in smaps that a mapping is still being loaded.
            if settled {
                _ = eventually(10) { loader(s) != nil }
                _ = eventually(60) { loader(s) == nil }
                s.go()
            }
            try s.expect(.exited(0), output: "ok\n", limit: limit)
        }
    }

    @Test func `whatever is done to memory while it is loaded, it looks as if it were there`() { lazily("lazy-memory") }
    @Test func `what was there and was guarded is zeros while the rest is loaded, though no event tells of guards`() { lazily("lazy-guards") }
    @Test(arguments: [["--pids", "keep"], ["--pids", "ns"], ["--pids", "new"]]) func `lazily loaded memory is complete, and ordinary memory in the end`(pids: [String]) {
        lazily("lazy-idle", options: pids)
    }
    @Test func `a checkpoint waits until all memory is there, and holds it`() { lazily("lazy-idle", again: true) }
    @Test(arguments: ["memory-filled", "memory-advice", "memory-protection", "memory-stack", "memory-brk", "threads-tls", "memory-private", "tree-fork", "namespaces-part-mounts", "namespaces-bwrap"])
    func `a feature survives a lazy restart`(program: String) { lazily(program, settled: true) }

    @Test(arguments: Subject.programs.filter { ["numpy", "churner", "multiprocessing", "openmp", "bash"].contains($0.name) })
    func `a program restarted lazily at random instants writes what it writes undisturbed`(subject: Subject) {
        #expect(oracle(subject, as: .current, count: 10, restart: ["--lazy"]) >= 5)
    }

    @Test func `what was touched first is noted, and read ahead the next time`() {
        scenario("lazy-working-set") { s in
            try s.start([try s.installation.program("lazy-idle"), "256"])
            try s.waitUntilReady(limit: 60)
            try s.checkpoint(kill: true)
            s.go()
            for _ in 0 ..< 2 {
                try s.restart(["--lazy", "--working-set", s.path("touched"), "--files", "truncate"])
                try s.expect(.exited(0), output: "ok\n", limit: 60)
            }
            if !eventually(10, { (FileManager.default.contents(atPath: s.path("touched"))?.count ?? 0) >= 24 }) { throw Failure("nothing was noted") }
        }
    }

    @Test func `the tree goes on when the engine is killed while memory is loaded`() {
        scenario("lazy-engine-killed") { s in
            try s.start([try s.installation.program("lazy-idle"), "512"])
            try s.waitUntilReady(limit: 60)
            try s.checkpoint(kill: true)
            s.go()
            try s.restart(["--lazy", "--pids", "keep"])
            guard eventually(10, { read(s.path("restart-1.err")) != "" || loader(s) != nil }), loader(s) != nil else { throw Failure("no server is seen") }
            usleep(50_000)
            kill(s.pid, SIGKILL)
            _ = try s.wait()
            // Before the release all end; after it, all memory comes.
            _ = eventually(10) { s.output != "" }
            if s.output != "ok\n" && s.output != "" { throw Failure(s.output) }
        }
    }
    @Test(arguments: [["ckpt-loader"], ["ckpt-loader", "ckpt-keeper"]])
    func `the tree ends, and never sees zeros, when the server is killed`(killed: [String]) {
        scenario("lazy-server-killed") { s in
            try s.start([try s.installation.program("lazy-idle"), "512", "slowly"])
            try s.waitUntilReady(limit: 60)
            try s.checkpoint(kill: true)
            s.go()
            // It may have loaded everything before it is killed: then all must be there.
            for _ in 0 ..< 8 {
                try s.restart(["--lazy", "--files", "truncate"])
                guard eventually(10, { loader(s) != nil || s.hasEnded }) else { throw Failure("no server is seen") }
                for name in killed { if let pid = child(of: s, named: name) { kill(pid, SIGKILL) } }
                let status = try s.wait(limit: 60)
                if status != .exited(0) && s.output == "" { return }
                if status != .exited(0) || s.output != "ok\n" { throw Failure("\(status): \(s.output) \(s.restartErrors)") }
            }
            throw Failure("the server was never killed early enough")
        }
    }
    private func loader(_ s: Scenario) -> pid_t? { child(of: s, named: "ckpt-loader") }
    /// Those who load are children of the restart's engine.
    private func child(of s: Scenario, named name: String) -> pid_t? {
        read("/proc/\(s.pid)/task/\(s.pid)/children").split(separator: " ").compactMap { pid_t($0) }.first { read("/proc/\($0)/comm") == name + "\n" }
    }

    @Test(.enabled(if: User.available.contains { $0.isOther })) func `a user without the privilege is refused by name, with the remedy`() {
        for user in User.available where user.isOther {
            scenario("lazy-refused", as: user) { s in
                try s.start([try s.installation.program("lazy-idle"), "8"])
                try s.waitUntilReady()
                try s.checkpoint(kill: true)
                try s.restart(["--lazy"])
                let status = try s.wait()
                let said = read(s.path("restart-1.err"))
                if status != .exited(69) || !said.contains("CAP_SYS_PTRACE") || !said.contains("without --lazy") { throw Failure("\(status): \(said)") }
                s.go()
                try s.restart()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }
}
