// Attributes and identity of a process are what they were.
import CkptABI
import Foundation
import Glibc
import Testing

@Suite struct AttributeTests {
    @Test func `working directory, umask, limits, priorities and prctl settings are unchanged`() { feature("attributes-process") }
    @Test(.enabled(if: access("/proc/self/autogroup", F_OK) == 0)) func `the nice value of a terminal session as a whole is unchanged`() { feature("attributes-autogroup") }
    @Test func `exe, comm, cmdline, environ and auxv in proc are unchanged`() { feature("attributes-identity") }
    @Test func `credentials of all kinds are unchanged`() { feature("attributes-credentials", users: [.root].filter(User.available.contains)) }
    @Test(.enabled(if: User.available.contains(.root))) func `a process inside chroot stays there`() {
        for treatment in [Treatment.checkpointed, .restarted, .twice] {
            scenario("chroot-\(treatment)") { s in
                try s.start([try s.installation.program("attributes-chroot")])
                s.control = "jail/tmp/"
                try s.waitUntilReady()
                switch treatment {
                case .undisturbed, .launched: break
                case .checkpointed: try s.checkpoint()
                case .restarted: try s.checkpoint(kill: true); try s.restart()
                case .twice: for _ in 0 ..< 2 { try s.checkpoint(kill: true); try s.restart() }
                }
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    /// This machine may offer none: what a task would have recorded that has chosen one is put into its slot while the initiator waits.
    @Test(arguments: User.available) func `a task's control of speculation is set again, or refused by name`(user: User) {
        let storeBypass = 0, get: Int32 = 52, now = ckpt_prctl(get, storeBypass, 0, 0, 0), perTask = 1
        scenario("speculation", as: user) { s in
            try s.start([try s.installation.program("attributes-identity")])
            try s.waitUntilReady()
            let folder = s.environment["CKPT_DIR"]! + "/"
            guard let name = read("/proc/\(s.pid)/maps").split(separator: "\n").compactMap({ line in line.range(of: folder).map { String(line[$0.lowerBound...]) } }).first else { throw Failure("no session") }
            try s.checkpoint(at: "memory") {
                let segment = open(name, O_RDWR), size = Int(CKPT_OFFSET_ARENA)
                defer { close(segment) }
                guard let memory = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, segment, 0), memory != MAP_FAILED else { throw Failure("mmap") }
                defer { munmap(memory, size) }
                let task = ckpt_task_slot(memory.assumingMemoryBound(to: ckpt_session.self), 0), recorded = task.pointee.speculation
                if recorded & 0xff != (now < 0 ? 0 : UInt32(0x80 | now)) { throw Failure("recorded: \(recorded), and here it is \(now)") }
                task.pointee.speculation = 0x89         // per task, disabled for ever
            }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
            try s.restart(["--files", "truncate"])
            // Where the machine offers it, it is set.
            if now > 0 && now & perTask == 0 {
                let status = try s.wait(), part = "control of speculation (store bypass) cannot be set here"
                if status != .exited(69) || !s.restartErrors.contains(part) || !s.restartErrors.contains("; restart it from a shell") { throw Failure("\(status): \(s.restartErrors)") }
            } else { try s.expect(.exited(0)) }
            if user != .root { return }
            let set = s.path("set")
            s.pid = try s.spawn([try s.installation.program("speculation-machine"), set, s.statefile, "--files", "truncate"], output: "machine.out", errors: "machine.err")
            try s.expect(.exited(0), output: "ok\n")
            if read(set) != "8 " { throw Failure("set: \(read(set)), not 8; \(read(s.path("machine.err")))") }
        }
    }

    /// As a security module would show it, a file is mounted over the label of the program, and then over the engine's.
    @Test(.enabled(if: User.available.contains(.root)), arguments: ["", "tight (enforce)", "other (enforce)"]) func `a security label comes back or the restart is refused`(here: String) throws {
        scenario("label-\(here.prefix { $0 != " " })") { s in
            for (name, text) in [("label", "tight (enforce)"), ("here", here)] { try Data((text + "\n").utf8).write(to: URL(filePath: s.path(name))) }
            try s.start([try s.installation.program("attributes-identity")])
            try s.waitUntilReady()
            func labelled(_ label: String, _ pid: String, _ command: String) -> [String] {
                ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", "mount --bind \(s.path(label)) /proc/\(pid)/attr/current && exec \(command)"]
            }
            s.generation += 1
            let pid = s.pid, way = labelled("label", "\(pid)", "\(s.installation.ckptctl) checkpoint \(s.tag) -o \(s.statefile) --kill")
            let taken = try run(way, in: s.folder, environment: s.environment)
            if taken.status != .exited(0) { throw Failure("\(taken.status) \(taken.errors)") }
            s.go()
            s.pid = 0
            _ = Children.wait(pid, limit: 20)
            func restart(_ options: String = "") throws -> Output {
                try run(here.isEmpty ? ["/bin/sh", "-c", s.statefile + options] : labelled("here", "$$", s.statefile + options), in: s.folder, environment: s.environment)
            }
            let result = try restart()
            if here.hasPrefix("tight") { if result.status != .exited(0) { throw Failure("\(result)") }; return }
            let words = "security label tight (enforce): this restart has \(here.isEmpty ? "none" : here); start it under that one"
            if result.status != .exited(69) || !result.errors.contains(words) { throw Failure("\(result)") }
            let ignored = try restart(" --ignore-label")
            if ignored.status != .exited(0) { throw Failure("\(ignored)") }
        }
    }
}
