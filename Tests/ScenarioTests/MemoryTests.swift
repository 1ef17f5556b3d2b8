// Memory comes back with its contents and as what it was: anonymous, shared, of a file, locked, advised, growing.
import Foundation
import Glibc
import Testing

@Suite struct MemoryTests {
    @Test func `memfds keep their seals, and what is mapped of them`() { feature("memfd-seals") }
    @Test func `private memory keeps its contents and stays anonymous memory`() { feature("memory-private") }
    @Test func `memory shared between processes stays shared`() { feature("memory-shared") }
    @Test func `modified pages of a private file mapping are kept, the others stay the file's`() { feature("memory-file") }
    @Test func `the heap keeps growing`() { feature("memory-brk") }
    @Test func `stacks keep growing`() { feature("memory-stack") }
    @Test func `protections and guards fault as before`() { feature("memory-protection") }
    @Test func `madvise settings and locks are unchanged`() { feature("memory-advice") }
    @Test func `mappings of deleted files are restored`() { feature("memory-deleted") }
    @Test func `clocks neither go back nor jump`() { feature("memory-clock") }
    @Test func `the memory map is the same, line by line`() { feature("memory-maps") }
    @Test func `memory on huge pages is unchanged`() { feature("memory-huge") }
    @Test func `forty thousand shared mappings, each of its own memory, come back`() { feature("memory-objects", treatments: [.twice], limit: 60) }
    @Test func `large memory is the same whatever pages it comes back on`() { feature("memory-filled", limit: 60) }
    @Test func `a memfd is restored`() { feature("memory-memfd") }

    /// What is known before the call must be found out again when it has changed meanwhile.
    @Test(arguments: ["nothing", "dontfork", "wipeonfork", "dontdump", "hugepage", "random", "lock", "protect", "drop", "touch", "unmap", "shared", "new"])
    func `memory that changes just before a checkpoint is saved as it is then`(kind: String) {
        scenario("memory-early-\(kind)") { s in
            try s.start([try s.installation.program("memory-early"), kind] + (kind == "dontfork" ? ["64"] : []))       // enough for two writers
            try s.waitUntilReady()
            try s.checkpoint(at: "call") {
                FileManager.default.createFile(atPath: s.path("advise"), contents: nil)
                guard eventually(10, { access(s.path("advised"), F_OK) == 0 }) else { throw Failure("the program hangs") }
            }
            kill(s.pid, SIGKILL)
            _ = Children.wait(s.pid, limit: 5)
            try s.restart()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(arguments: ["nothing", "wipeonfork", "random", "drop"], [[], ["--pre-copy"]])
    func `memory that changes just before it goes into a pipe comes out as it was then`(kind: String, options: [String]) {
        scenario("memory-early-pipe-\(kind)") { s in
            try s.start([try s.installation.program("memory-early"), kind, "64"])
            try s.waitUntilReady()
            s.environment["CKPT_PAUSE"] = "call"
            let initiator = try s.spawn([s.installation.ckptctl, "checkpoint", s.tag, "-o", "-"] + options, output: "sent", errors: "initiator.err")
            s.environment["CKPT_PAUSE"] = nil
            guard eventually(20, { read(s.path("initiator.err")).contains("paused") }) else { throw Failure(read(s.path("initiator.err"))) }
            FileManager.default.createFile(atPath: s.path("advise"), contents: nil)
            guard eventually(10, { access(s.path("advised"), F_OK) == 0 }) else { throw Failure("the program hangs") }
            var status: Status?
            for _ in 0 ..< 200 where status == nil { kill(initiator, SIGCONT); status = Children.wait(initiator, limit: 0.1) }
            let said = read(s.path("initiator.err")), attempts = said.components(separatedBy: "paused at").count - 1
            guard status == .exited(0), kind == "nothing" || kind == "drop" ? attempts == 1 : attempts == 2 else { throw Failure("\(attempts) attempts: \(said)") }
            kill(s.pid, SIGKILL)
            _ = Children.wait(s.pid, limit: 5)
            let verified = try s.ckptctl(["verify", s.path("sent")])
            if verified.status != .exited(0) { throw Failure(verified.errors) }
            s.pid = try s.spawn(["/bin/sh", "-c", "cat sent | \(s.installation.ckptctl) restart -"], output: "restart-0.out", errors: "restart-0.err")
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `memory of many sizes, written by all cores at once, is unchanged`() { feature("memory-pieces") }

    @Test func `memory written past the page cache is unchanged`() {
        for user in User.available {
            scenario("memory-direct", as: user) { s in
                try s.start([try s.installation.program("memory-pieces")])
                try s.waitUntilReady(limit: 60)
                // O_DIRECT
                let probe = open(s.path("probe"), O_RDWR | O_CREAT | 0o40000, 0o600)
                if probe < 0 {
                    let refused = try s.ckptctl(["checkpoint", s.tag, "-o", s.statefile, "--direct"])
                    if refused.status != .exited(69) || !refused.errors.contains("no direct writes") { throw Failure("\(refused.status) \(refused.errors)") }
                }
                close(probe)
                try s.checkpoint(kill: true, options: probe < 0 ? [] : ["--direct"])
                try s.restart()
                s.go()
                try s.expect(.exited(0), output: "ok\n", limit: 60)
            }
        }
    }
}
