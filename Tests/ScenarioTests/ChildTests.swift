// What parents know of their children: who adopts whom, what has been collected, who waits.
import Foundation
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
    @Test func `stopped children of a restarted tree outlive a failed checkpoint, and have their timers after one that worked`() {
        for (user, second) in User.available.flatMap({ [($0, false), ($0, true)] }) {
            scenario("children-timers", as: user) { s in
                try s.start([try s.installation.program("children-timers")])
                try s.waitUntilReady()
                try s.checkpoint(kill: true)
                try s.restart()
                guard eventually(15, { (try? s.ckptctl(["status", s.tag]).status) == .exited(0) }) else { throw Failure("no session: \(s.restartErrors)") }
                let running = Children.pids(tagged: s.tag).filter { read("/proc/\($0)/comm") == "children-timers\n" && !read("/proc/\($0)/stat").contains(") T") }
                guard let parent = running.min() else { throw Failure("no process of the tree runs") }
                let tracer = try s.spawn([try s.installation.program("tracer"), "\(parent)"], output: "tracer.out", errors: "tracer.err")
                guard eventually(10, { access(s.path("attached"), F_OK) == 0 }) else { throw Failure("the tracer did not attach: \(read(s.path("tracer.out")))") }
                let refused = try s.ckptctl(["checkpoint", s.tag, "-o", s.path("never.ckpt")])
                FileManager.default.createFile(atPath: s.path("detach"), contents: nil)
                _ = Children.wait(tracer, limit: 10)
                if refused.status != .exited(77) { throw Failure("\(refused)") }
                if second { try s.checkpoint(); s.generation -= 1 }
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }
    @Test func `children are stopped in any pid namespace`() {
        feature("children-status", treatments: [.twice], users: [.root].filter(User.available.contains), pids: ["ns"])
    }
}
