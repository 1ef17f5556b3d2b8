// Rings: io_uring and contexts of asynchronous I/O.
import Foundation
import Glibc
import Testing

@Suite struct RingTests {
    @Test func `idle io_urings of every make come back with their counts, completions and mappings`() { feature("ring-idle") }
    @Test func `an io_uring that was used a million times goes on`() { feature("ring-used") }
    @Test func `an io_uring is watched by epoll, tells its eventfd and keeps its empty table of files`() { feature("ring-events") }
    @Test func `an io_uring of one thread stays that thread's`() { feature("ring-threads") }
    @Test func `liburing's rings come back`() { feature("ring-liburing", flags: ["-luring"]) }
    @Test(arguments: ["keep", "ns", "new"]) func `io_urings come back however pids are kept`(pids: String) {
        for program in ["ring-idle", "ring-threads"] { feature(program, treatments: [.twice], users: [.root].filter(User.available.contains), pids: [pids]) }
    }
    @Test func `whoever waits for completions does not see a checkpoint that is refused for that`() {
        scenario("ring-waiting") { s in
            try s.start([try s.installation.program("ring-waiting", flags: ["-luring"])])
            try s.waitUntilReady()
            s.generation = 1
            for _ in 0 ..< 3 {
                let result = try s.ckptctl(["checkpoint", s.tag, "-o", s.statefile])
                if result.status != .exited(75) || !result.errors.contains("io_uring: operations are in flight") { throw Failure("\(result.status); \(result.errors)") }
            }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    @Test func `contexts of asynchronous I/O that were never used keep their names`() { feature("aio-idle") }
    @Test func `contexts of asynchronous I/O that have been used go on where they were`() { feature("aio-used") }
}
