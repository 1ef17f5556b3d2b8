// The initiator is interrupted or killed in every phase: tasks run on within a second, no file is left, the next checkpoint works.
import Foundation
import Glibc
import Testing

@Suite struct InitiatorTests {
    /// The names that CKPT_PAUSE knows; the initiator stops itself there with a line on stderr.
    static let phases = ["find", "call", "stopped", "record", "system", "memory", "release", "write", "commit"]

    @Test func `who looks when a checkpoint has ended finds no snapshot`() {
        scenario("initiator-taken-away") { s in
            try s.start([try s.installation.program("behaviour-heartbeat"), "32"])
            try s.waitUntilReady()
            func children() -> String { ((try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(s.pid)/task")) ?? []).map { read("/proc/\(s.pid)/task/\($0)/children") }.joined() }
            let before = children()
            for i in 0 ..< 20 {
                try s.checkpoint()
                let after = children()
                if after != before { throw Failure("after \(i + 1) checkpoints: children \(after), were \(before)") }
            }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(arguments: phases) func `a dead initiator cancels its checkpoint`(phase: String) {
        for signal in [SIGINT, SIGKILL] {
            scenario("initiator-\(phase)-\(signal)") { s in
                try s.start([try s.installation.program("behaviour-heartbeat"), "16"])
                try s.waitUntilReady()
                s.environment["CKPT_PAUSE"] = phase
                let initiator = try s.spawn([s.installation.ckptctl, "checkpoint", s.tag, "-o", s.path("never.ckpt")], output: "initiator.out", errors: "initiator.err")
                s.environment["CKPT_PAUSE"] = nil
                guard eventually(10, { read(s.path("initiator.err")).contains("paused") }) else {
                    kill(initiator, SIGKILL)
                    _ = Children.wait(initiator, limit: 5)
                    throw Failure("ckptctl did not pause at \(phase): \(read(s.path("initiator.err")))")
                }
                kill(initiator, signal)
                kill(initiator, SIGCONT)           // it paused by stopping itself
                let died = now()
                let before = beats(s)
                guard let status = Children.wait(initiator, limit: 10) else { throw Failure("the initiator hangs") }
                if status == .exited(0) { throw Failure("the interrupted initiator says that all is well") }
                guard eventually(3, { zip(beats(s), before).allSatisfy { $0 > $1 + 3 } }) else { throw Failure("tasks stand still: \(before) \(beats(s))") }
                if now() - died > 1 { throw Failure("tasks ran on only after \(now() - died) s") }
                usleep(300_000)
                let left = try FileManager.default.contentsOfDirectory(atPath: s.folder).filter { $0.contains("never") || $0.hasSuffix(".tmp") || $0.contains(".ckpt") }
                if !left.isEmpty { throw Failure("files were left: \(left)") }
                try s.checkpoint(kill: true)
                try s.restart()
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    private func beats(_ s: Scenario) -> [UInt64] {
        let data = FileManager.default.contents(atPath: s.path("heart")) ?? Data()
        return (0 ..< 3).map { slot in data.count < slot * 8 + 8 ? 0 : data.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: slot * 8, as: UInt64.self) } }
    }

    @Test func `a statefile that exists stays untouched until the next is complete`() {
        scenario("overwrite") { s in
            try s.start([try s.installation.program("behaviour-heartbeat"), "4"])
            try s.waitUntilReady()
            try s.checkpoint()
            let first = FileManager.default.contents(atPath: s.statefile)
            s.environment["CKPT_PAUSE"] = "commit"
            let initiator = try s.spawn([s.installation.ckptctl, "checkpoint", s.tag, "-o", s.statefile], output: "initiator.out", errors: "initiator.err")
            s.environment["CKPT_PAUSE"] = nil
            _ = eventually(10) { read(s.path("initiator.err")).contains("paused") }
            kill(initiator, SIGKILL)
            _ = Children.wait(initiator, limit: 10)
            if FileManager.default.contents(atPath: s.statefile) != first { throw Failure("the first statefile changed") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `two initiators at once: one waits or is told to try again`() {
        scenario("two-initiators") { s in
            try s.start([try s.installation.program("behaviour-heartbeat"), "64"])
            try s.waitUntilReady()
            var pids: [pid_t] = []
            for n in 0 ..< 3 { pids.append(try s.spawn([s.installation.ckptctl, "checkpoint", s.tag, "-o", s.path("at-once-\(n).ckpt")], output: "i\(n).out", errors: "i\(n).err")) }
            let statuses = pids.map { Children.wait($0, limit: 30) }
            if !statuses.contains(.exited(0)) || !statuses.allSatisfy({ $0 == .exited(0) || $0 == .exited(75) }) { throw Failure("\(statuses)") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `a folder that cannot be written, or is full, leaves everybody running and no file`() {
        scenario("unwritable") { s in
            try s.start([try s.installation.program("behaviour-heartbeat"), "16"])
            try s.waitUntilReady()
            for target in ["/proc/never.ckpt", s.path("missing/never.ckpt")] {
                let result = try s.ckptctl(["checkpoint", s.tag, "-o", target, "--kill"])
                if result.status == .exited(0) || !result.errors.contains("never.ckpt") { throw Failure("\(target): \(result.status) \(result.errors)") }
            }
            // What has the name and is no file stays what it is.
            mkfifo(s.path("fifo"), 0o600); symlink("/proc/self/fd/1", s.path("link"))
            for (target, kind) in [("fifo", S_IFIFO), ("link", S_IFLNK)] {
                try s.expectRefusal(["checkpoint", s.tag, "-o", s.path(target)], 64, "is no regular file", "-o -")
                var st = stat()
                if lstat(s.path(target), &st) != 0 || st.st_mode & S_IFMT != kind { throw Failure("\(target) is another file") }
            }
            if geteuid() == 0 {
                try FileManager.default.createDirectory(atPath: s.path("small"), withIntermediateDirectories: true)
                if try run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", s.path("small")], in: s.folder).status == .exited(0) {
                    defer { _ = try? run(["umount", s.path("small")], in: s.folder) }
                    for options in [["--kill"], [], ["--compress", "zstd"]] {
                        let result = try s.ckptctl(["checkpoint", s.tag, "-o", s.path("small/never.ckpt")] + options)
                        if result.status != .exited(71) || !result.errors.contains("No space left on device; free space, or choose another place") { throw Failure("\(options): \(result)") }
                    }
                    try s.checkpoint()
                    let core = try s.ckptctl(["core", s.statefile, "--full", "-o", s.path("small/never.core")])
                    if core.status != .exited(71) { throw Failure("\(core)") }
                    let left = try FileManager.default.contentsOfDirectory(atPath: s.path("small"))
                    if !left.isEmpty { throw Failure("files were left: \(left)") }
                }
            }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
}
