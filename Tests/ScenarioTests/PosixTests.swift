// POSIX shared memory, semaphores and message queues.
import CkptABI
import Foundation
import Glibc
import Testing

@Suite struct PosixTests {
    @Test func `shared memory and semaphores keep their contents, named, without a name and unnamed`() { feature("posix-memory") }

    @Test func `message queues keep their messages, attributes and notifications`() { feature("posix-queues", flags: ["-lrt"]) }

    @Test func `shared memory that changed or vanished since is as it was`() {
        for vanished in [false, true] {
            scenario("posix-changed") { s in
                try s.start([try s.installation.program("posix-memory")])
                try s.waitUntilReady()
                let names = (0 ... 2).map { n in "/dev/shm/" + (n == 2 ? "sem." : "") + "ckpt-scenario-\(s.pid)-\(n)" }
                try s.checkpoint(kill: true)
                for name in names {
                    if vanished { unlink(name); continue }
                    let fd = open(name, O_RDWR)
                    _ = pwrite(fd, "changed", 7, 0)
                    close(fd)
                }
                try s.restart()
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    @Test func `shared memory that another process maps is left to it, and attached to with --ipc attach`() {
        scenario("posix-outside") { s in
            try s.start([try s.installation.program("posix-memory")])
            try s.waitUntilReady()
            let fd = open("/dev/shm/ckpt-scenario-\(s.pid)-0", O_RDWR)
            let mapping = mmap(nil, 4096, PROT_READ, MAP_SHARED, fd, 0)
            close(fd)
            defer { munmap(mapping, 4096) }
            try s.checkpoint(kill: true)
            try s.restart()
            let status = try s.wait()
            if status != .exited(69) || !s.restartErrors.contains("--ipc attach") { throw Failure("\(status): \(s.restartErrors)") }
            try s.restart(["--ipc", "attach"])
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `shared memory in which another works now is not overwritten`() {
        scenario("posix-used") { s in
            try s.start([try s.installation.program("posix-memory")])
            try s.waitUntilReady()
            let original = s.pid
            try s.checkpoint()
            try s.restart()
            let status = try s.wait()
            if status != .exited(75) || !s.restartErrors.contains("uses now") { throw Failure("\(status): \(s.restartErrors)") }
            s.pid = original
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    /// A leader stands still between taking messages and putting them back, and its initiator dies: the others stay where they are for so long.
    @Test(.enabled(if: User.available.contains(.root))) func `nobody sees a queue whose messages a leader still has to put back`() {
        scenario("posix-held", as: .root) { s in
            try stopHolder(s)
            usleep(700_000)
            let refused = try s.ckptctl(["checkpoint", s.tag, "-o", s.path("never.ckpt")])
            if refused.status != .exited(75) || !refused.errors.contains("pid \(s.pid): it still has to put back") { throw Failure("\(refused.status): \(refused.errors)") }
            kill(s.pid, SIGCONT)
            try s.checkpoint()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(.enabled(if: User.available.contains(.root))) func `a leader that is killed before it has put messages back holds up nobody`() {
        scenario("posix-killed", as: .root) { s in
            try stopHolder(s)
            kill(s.pid, SIGKILL)            // we don't wait for it: a zombie is dead enough
            let before = read(s.path("beats"))
            guard eventually(3, { read(s.path("beats")) != before }) else { throw Failure("the other process stands still") }
            s.go()
        }
    }

    private func stopHolder(_ s: Scenario) throws {
        try s.start([try s.installation.program("posix-held", flags: ["-lrt"])])
        try s.waitUntilReady()
        let segment = try SegmentView(of: s)
        for _ in 0 ..< 20 {
            let initiator = try s.spawn([s.installation.ckptctl, "checkpoint", s.tag, "-o", s.path("never.ckpt")], output: "initiator.out", errors: "initiator.err")
            while Children.wait(initiator, limit: 0) == nil {
                if segment.held == 0 { usleep(50); continue }
                kill(s.pid, SIGSTOP)
                usleep(20_000)
                kill(initiator, SIGKILL)
                _ = Children.wait(initiator, limit: 5)
                if segment.held != 0 { return }
                kill(s.pid, SIGCONT)
            }
        }
        throw Failure("no leader could be stopped in time")
    }
}

/// The session's memory, as its members see it.
private struct SegmentView {
    private let session: UnsafeMutablePointer<ckpt_session>
    init(of s: Scenario) throws {
        let folder = s.environment["CKPT_DIR"]!, maps = read("/proc/\(s.pid)/maps").split(separator: "\n")
        guard let line = maps.first(where: { $0.contains(folder) }), let path = line.split(separator: " ").last else { throw Failure("no session") }
        let file = open(String(path), O_RDWR)
        defer { close(file) }
        // A page more than there is, as tools map it: this is no member.
        guard let p = mmap(nil, Int(ckpt_session_size()) + 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), p != MAP_FAILED else { throw Failure("mmap") }
        session = p.assumingMemoryBound(to: ckpt_session.self)
    }
    var held: UInt32 { ckpt_load(&ckpt_process_slot(session, 0).pointee.held) | ckpt_load(&ckpt_process_slot(session, 1).pointee.held) }
}
