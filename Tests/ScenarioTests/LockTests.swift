// File locks and leases.
import Foundation
import Glibc
import Testing

@Suite struct LockTests {
    @Test func `locks shared by fork, read locks of several and blocked waiters are as they were`() { feature("locks-shared") }
    @Test func `leases are held and break as they would have`() { feature("locks-lease") }

    @Test(arguments: ["posix", "ofd", "flock", "lease"]) func `a lock that somebody outside holds at the restart is refused by name`(kind: String) {
        scenario("outside-\(kind)") { s in
            try s.start([try s.installation.program("locks-hold"), kind])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            let holder = try s.spawn([try s.installation.program("locks-hold"), kind == "lease" ? "open" : kind, "outside"], output: "holder.out", errors: "holder.err")
            guard eventually(10, { access(s.path("outside"), F_OK) == 0 }) else { throw Failure("no lock outside: \(read(s.path("holder.out")))") }
            try s.restart()
            let status = try s.wait(), complaint = read(s.path("restart-1.err"))
            if status == .exited(0) || !complaint.contains(s.path("locked")) || !complaint.contains(kind == "posix" ? "pid \(holder) outside" : "outside the tree") { throw Failure("\(status) \(complaint)") }
            kill(holder, SIGKILL)
            _ = Children.wait(holder, limit: 10)
            try s.restart()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
}
