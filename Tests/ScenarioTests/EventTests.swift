// Event descriptors: eventfd, timerfd, signalfd, epoll, inotify, pidfd.
import Foundation
import Glibc
import Testing

@Suite struct EventTests {
    @Test func `counts, expirations, signal sets and the time that is left come back`() { feature("events-counters") }
    @Test func `epoll instances watch what they watched, whatever number it has now`() { feature("events-epoll") }
    @Test func `inotify's watches keep their numbers, masks and files`() { feature("events-inotify") }
    @Test(arguments: ["", "unshare $users --pid --fork --mount-proc"]) func `unread events stay in the running program, and a restart finds that there were too many`(inside: String) {
        scenario("events-overflow\(inside.isEmpty ? "" : "-container")") { s in
            try s.start(["/bin/sh", "-c", "[ $(id -u) = 0 ] || users='--user --map-root-user'; exec \(inside) \(try s.installation.program("events-overflow"))"])
            try s.waitUntilReady()
            let refused = try s.ckptctl(["checkpoint", s.tag, "-o", s.path("never.ckpt"), "--inotify", "refuse"])
            if refused.status != .exited(75) || !refused.errors.contains("inotify queue: it holds events that the program has not read") { throw Failure("\(refused.status): \(refused.errors)") }
            try s.checkpoint(options: ["--inotify", "overflow"])
            s.go()
            try s.expect(.exited(0), output: "1: 0x8000 \n2: 0x100 a\n2: 0x100 b\nok\n")
            try s.restart(["--files", "truncate"])
            try s.expect(.exited(0), output: "overflow of -1\nok\n")
        }
    }
    @Test func `a program that has probed for io_uring and its like is not refused for that`() { feature("probes") }
    @Test func `pidfds lead to the same processes, ended ones too`() { feature("events-pidfd") }
    @Test(arguments: ["keep", "ns"]) func `event descriptors come back however pids are kept`(pids: String) {
        for program in ["events-epoll", "events-pidfd", "events-inotify"] { feature(program, treatments: [.twice], users: [.root].filter(User.available.contains), pids: [pids]) }
    }
}
