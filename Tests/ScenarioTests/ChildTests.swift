// What parents know of their children: who adopts whom, what has been collected, who waits.
import Glibc
import Testing

@Suite struct ChildTests {
    @Test func `stops and continuations are seen once when they were not collected, and not again when they were`() { feature("children-status") }
    @Test func `a sub-reaper in the tree has the orphans that it adopted, and gets those to come`() { feature("children-reaper") }
    @Test func `tasks that wait for children get what they waited for, once`() { feature("children-waiting") }
    @Test func `every thread has the signal that it gets when its parent ends`() { feature("children-deathsignal") }
    @Test func `inspect tells what parents have not collected`() {
        scenario("inspect-children") { s in
            try s.start([try s.installation.program("children-status")])
            try s.waitUntilReady()
            try s.checkpoint()
            let shown = try s.ckptctl(["inspect", s.statefile]).text
            for words in ["SIGSTOP stopped it", "SIGTSTP stopped it", "it was continued"] where !shown.contains("has not collected that \(words)") { throw Failure("no \(words): \(shown)") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    @Test func `stopped children that are continued while the tree is being called go on`() {
        for user in User.available {
            scenario("children-continued", as: user) { s in
                try s.start([try s.installation.program("children-continued")])
                try s.waitUntilReady()
                let pids = read(s.path("pids")).split(separator: " ").compactMap { pid_t($0) }
                if pids.count != 2 { throw Failure("its children: \(pids)") }
                try s.checkpoint(at: "stopped") {
                    for pid in pids { kill(pid, SIGCONT) }
                    kill(pids[1], SIGTSTP)
                }
                try s.checkpoint(kill: true)
                s.generation -= 1
                try s.restart()
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }
    @Test func `children are stopped in any pid namespace`() {
        feature("children-status", treatments: [.twice], users: [.root].filter(User.available.contains), pids: ["ns"])
    }
}
