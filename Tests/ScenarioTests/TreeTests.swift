// Process trees of any shape come back with their pids, parents, groups, sessions and statuses.
import Foundation
import Glibc
import Testing

@Suite struct TreeTests {
    @Test func `three levels of forked processes keep pids, parents and exit statuses`() { feature("tree-fork") }
    @Test func `a forked child that execs comes back with its arguments and environment`() { feature("tree-exec") }
    @Test func `children of vfork, posix_spawn, clone and clone3 come back`() { feature("tree-spawn") }
    @Test func `a zombie is still waitable with its exit status or signal`() { feature("tree-zombie") }
    @Test func `a child whose parent has gone goes on`() { feature("tree-orphan") }
    @Test func `children whose parents have gone get their numbers again, which follow one another`() { feature("tree-orphans", treatments: [.twice]) }

    /// Each look at /proc may miss one of a chain; a checkpoint that has not seen it says so.
    @Test func `no process is left out and runs on when each starts the next one and ends`() {
        for user in User.available {
            scenario("tree-chain", as: user) { s in
                for round in 0 ..< 4 {
                    for f in ["ready", "go", "links"] { unlink(s.path(f)) }
                    try s.start([try s.installation.program("tree-chain")])
                    try s.waitUntilReady()
                    usleep(50_000)
                    let taken = try s.ckptctl(["checkpoint", s.tag, "-o", s.path("chain.ckpt"), "--kill"])
                    func links() -> Int { ((try? Data(contentsOf: URL(filePath: s.path("links")))) ?? Data()).withUnsafeBytes { $0.count < 8 ? 0 : $0.loadUnaligned(as: Int.self) } }
                    let before = links()
                    usleep(100_000)
                    let after = links()
                    s.go()
                    _ = try s.wait()
                    if taken.status == .exited(0) ? before != after : taken.status != .exited(75) { throw Failure("round \(round): \(taken), \(before) links, then \(after)") }
                }
            }
        }
    }
    @Test func `a sub-reaper that waits for any child sees only its own`() { feature("tree-subreaper") }
    @Test func `process groups and terminal sessions are as they were, also without their leaders`() { feature("tree-groups") }
    @Test func `a process lives on whose main thread has left by pthread_exit`() { feature("tree-leader-gone") }
    @Test func `a hundred processes come back`() { feature("tree-wide", ["100"], treatments: [.restarted, .twice]) }

    @Test func `a thousand processes come back`() { feature("tree-wide", ["999"], treatments: [.restarted], limit: 120) }

    @Test(arguments: ["keep", "ns", "auto"]) func `pids are the same whichever way they are kept`(pids: String) {
        feature("tree-fork", treatments: [.twice], users: [.root].filter(User.available.contains), pids: [pids])
        feature("threads-sync", treatments: [.twice], users: [.root].filter(User.available.contains), pids: [pids])
    }

    @Test func `a program that leads its own terminal session comes back`() {
        for user in User.available {
            scenario("own-session", as: user) { s in
                try s.start([try s.installation.program("tree-groups")], ownSession: true)
                try s.waitUntilReady()
                try s.checkpoint(kill: true)
                try s.restart(ownSession: true)
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }
}
