// Dispositions, masks, pending signals and timers are what they were.
import Foundation
import Glibc
import Testing

@Suite struct SignalTests {
    @Test func `every disposition is unchanged`() { feature("signals-dispositions") }
    @Test func `pending signals keep siginfo and order`() { feature("signals-pending") }
    @Test func `queued signals that come from outside during a checkpoint stay behind those from before`() {
        for user in User.available {
            scenario("signals-outside", as: user) { s in
                let program = try s.installation.program("signals-outside")
                try s.start([program])
                try s.waitUntilReady()
                let sender = try s.spawn([program, "send", "\(s.pid)", "0", "6000"], output: "sender.out", errors: "sender.err")
                defer { s.touch("enough"); _ = Children.wait(sender, limit: 10) }
                for _ in 0 ..< 8 {
                    s.generation = 0
                    try s.checkpoint()
                }
                s.touch("enough")
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }
    /// There the tasks take what is queued, and queue it again.
    @Test func `so they do where nobody may attach to the program`() {
        scenario("signals-outside") { s in
            let program = try s.installation.program("signals-outside")
            func send(_ from: Int, _ to: Int) throws { _ = try run([program, "send", "\(s.pid)", "\(from)", "\(to)"], in: s.folder, environment: s.environment) }
            try s.start([program])
            try s.waitUntilReady()
            try send(0, 100)
            try s.checkpoint(at: "requeue", through: [program, "without-ptrace"]) { try send(100, 150) }
            try s.checkpoint(at: "requeue", through: [program, "without-ptrace"]) { try send(150, 200) }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    @Test(.enabled(if: User.available.contains(.root))) func `a checkpoint of many queued signals fails where there is no room for them, and the program runs on`() {
        scenario("signals-full", as: .root) { s in
            let program = try s.installation.program("signals-outside"), folder = s.path("sessions")
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
            _ = try run(["/bin/mount", "-t", "tmpfs", "-o", "mode=700,size=4m", "none", folder], in: s.folder)
            defer { umount2(folder, Int32(MNT_DETACH)) }
            s.environment["CKPT_DIR"] = folder
            try s.start([program])
            try s.waitUntilReady()
            try s.checkpoint()
            _ = try run([program, "send", "\(s.pid)", "0", "9000"], in: s.folder, environment: s.environment)
            _ = try run(["/bin/dd", "if=/dev/zero", "of=\(folder)/fill", "bs=4k"], in: s.folder)
            let result = try run([program, "without-ptrace", s.installation.ckptctl, "checkpoint", s.tag, "-o", s.statefile], in: s.folder, environment: s.environment)
            if result.status != .exited(71) || !result.errors.contains("No space left on device") { throw Failure("\(result.status): \(result.errors)") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    @Test func `interval timers and POSIX timers keep their ids and what is left of them`() { feature("signals-timers") }
    @Test func `alarm, sigsuspend and sigwaitinfo go on`() { feature("signals-alarm") }
}
