// When a session's segment is removed: when nobody is left in it, and never another's that has got its name.
import CkptABI
import Foundation
import Glibc
import Testing

@Suite struct SessionRemovalTests {
    private func folder(_ s: Scenario) throws -> String {
        let folder = s.path("sessions")
        guard mkdir(folder, 0o700) == 0 else { throw Failure("mkdir") }
        if s.user.isOther, let entry = getpwnam(s.user.rawValue) { chown(folder, entry.pointee.pw_uid, entry.pointee.pw_gid) }
        s.environment["CKPT_DIR"] = folder
        return folder
    }
    private func sessions(_ folder: String) throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.count == 16 } }
    private func write<T>(_ value: T, at offset: PartialKeyPath<ckpt_session>, _ folder: String) throws {
        for name in try sessions(folder) {
            let file = try FileHandle(forWritingTo: URL(filePath: folder + "/" + name))
            try file.seek(toOffset: UInt64(MemoryLayout<ckpt_session>.offset(of: offset)!))
            try file.write(contentsOf: withUnsafeBytes(of: value) { Data($0) })
            try file.close()
        }
    }
    /// Younger ones stay whatever becomes of them.
    private func makeOld(_ folder: String) throws { try write(UInt64(1), at: \.created, folder) }
    private func list(_ s: Scenario) throws { if case let result = try s.ckptctl(["list"]), result.status != .exited(0) { throw Failure("\(result)") } }
    private func ended(_ s: Scenario) throws -> String {
        let folder = try folder(s)
        try s.start(["/bin/true"])
        if try s.wait() != .exited(0) { throw Failure(s.errors) }
        try makeOld(folder)
        return folder
    }
    private func expect(_ count: Int, _ folder: String, _ when: String) throws { if case let seen = try sessions(folder).count, seen != count { throw Failure("\(when): \(seen) sessions") } }

    /// One that may be executing just now, anywhere on the machine, makes a look leave it to the next one.
    private func expectRemoval(_ s: Scenario, _ folder: String, _ when: String) throws {
        if try !eventually(10, { try list(s); return try sessions(folder).isEmpty }) { throw Failure("\(when): it is still there") }
    }

    @Test func `an ended session is left to the next look while somebody else removes one in its folder`() {
        scenario("removal-locked") { s in
            let folder = try ended(s), other = open(folder, O_RDONLY | O_CLOEXEC)
            flock(other, LOCK_EX)
            try list(s)
            try expect(1, folder, "locked")
            close(other)
            try expectRemoval(s, folder, "unlocked")
        }
    }
    @Test func `a session that an engine is restoring stays`() {
        scenario("removal-restoring") { s in
            let folder = try ended(s)
            try write(UInt32(1) << 8 | CKPT_PHASE_RESTORE.rawValue, at: \.phase, folder)
            try write(UInt32(getpid()), at: \.lock, folder)
            try list(s)
            try expect(1, folder, "while it is restored")
            try write(UInt32(getpid()) | UInt32(CKPT_LOCK_OWNER_DIED), at: \.lock, folder)
            try expectRemoval(s, folder, "when its engine has died")
        }
    }
    @Test func `a session stays whose processes its user may not look at`() {
        for user in User.available where user.isOther {
            scenario("removal-hidden", as: user) { s in
                let folder = try folder(s)
                try s.start([try s.installation.program("session-undumpable")])
                try s.waitUntilReady()
                try makeOld(folder)
                try list(s)
                try expect(1, folder, "while it lives")
                s.go()
                try s.expect(.exited(0), output: "ok\n")
                try expectRemoval(s, folder, "when it has ended")
            }
        }
    }
    @Test func `a session stays whose program executes itself all the time`() {
        scenario("removal-storm") { s in
            let folder = try folder(s)
            try s.start([try s.installation.program("storm-exec"), "1000000"])
            guard eventually(10, { (try? sessions(folder).count) == 1 }) else { throw Failure("no session: \(s.errors)") }
            usleep(100_000)
            try makeOld(folder)
            for n in 1...20 {
                try list(s)
                try expect(1, folder, "after \(n) looks")
            }
        }
    }
    @Test func `the init process of an ended restart leaves the next one's session alone`() {
        for user in User.available {
            scenario("removal-init", as: user) { s in
                let folder = try folder(s)
                try s.start([try s.installation.program("memory-shared")])
                try s.waitUntilReady()
                try s.checkpoint(kill: true)
                try s.restart(["--pids", "ns"])
                let engine = s.pid
                guard eventually(15, { (try? s.ckptctl(["status", s.tag]).status) == .exited(0) }), let name = read("/proc/\(engine)/task/\(engine)/children").split(separator: " ").first,
                      let first = pid_t(name) else { throw Failure("no session: \(s.restartErrors)") }
                kill(first, SIGSTOP)
                s.generation += 1
                let taken = try s.ckptctl(["checkpoint", s.tag, "-o", s.statefile, "--kill"])
                if taken.status != .exited(0) { throw Failure("\(taken)") }
                try s.restart(["--pids", "ns"])
                guard eventually(15, { (try? s.ckptctl(["status", s.tag]).status) == .exited(0) }) else { throw Failure("no session: \(s.restartErrors)") }
                kill(first, SIGCONT)
                if Children.wait(engine, limit: 20) == nil { throw Failure("the first restart does not end") }
                try expect(1, folder, "after the first restart's end")
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }
}
