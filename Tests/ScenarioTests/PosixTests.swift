// POSIX shared memory, semaphores and message queues.
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
}
