// Event descriptors: eventfd, timerfd, signalfd, epoll, inotify, pidfd.
import Foundation
import Glibc
import Synchronization
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
    @Test(arguments: ["kinds", "overflow"]) func `unread events come back in their order, and the next ones behind them`(kind: String) { feature("events-unread", [kind]) }
    @Test(.enabled(if: User.available.contains(.root))) func `unread events of a file system that is mounted no more come back`() { feature("events-unread", ["unmount"], users: [.root]) }
    @Test(arguments: ["keep", "ns", "new"]) func `unread events come back however pids are kept`(pids: String) { feature("events-unread", ["kinds"], treatments: [.twice], users: [.root].filter(User.available.contains), pids: [pids]) }
    @Test(arguments: ["unread", "memory"]) func `a checkpoint that ends when unread events are put back, or after that, leaves them as they were`(phase: String) {
        scenario("events-unread-\(phase)") { s in
            try s.start([try s.installation.program("events-unread"), "kinds"])
            try s.waitUntilReady()
            try s.endInitiator(at: phase, by: SIGKILL)
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    @Test func `what others do to watched files during checkpoints is told once, and in its order`() {
        for user in User.available {
            scenario("events-outside", as: user) { s in
                try s.start([try s.installation.program("events-outside")])
                try s.waitUntilReady()
                let folder = s.path("watched"), others = Others { i in close(open(folder + "/\(i)", O_CREAT | O_WRONLY, 0o600)) }
                for _ in 0 ..< 5 { try s.checkpoint() }
                let made = others.end()
                s.go()
                try s.expect(.exited(0), output: "\(made)\nok\n")
            }
        }
    }
    @Test func `a program that has probed for io_uring and its like is not refused for that`() { feature("probes") }
    @Test func `pidfds lead to the same processes, ended ones too`() { feature("events-pidfd") }
    @Test(arguments: ["keep", "ns"]) func `event descriptors come back however pids are kept`(pids: String) {
        for program in ["events-epoll", "events-pidfd", "events-inotify"] { feature(program, treatments: [.twice], users: [.root].filter(User.available.contains), pids: [pids]) }
    }
}

/// A thread that does something every other millisecond until it is ended.
private final class Others: Sendable {
    private let isEnding = Atomic<Bool>(false), done = Atomic<Int>(0), hasEnded = DispatchSemaphore(value: 0)
    init(_ body: @escaping @Sendable (Int) -> Void) {
        Thread.detachNewThread { [self] in
            while !isEnding.load(ordering: .relaxed) { body(done.load(ordering: .relaxed)); done.add(1, ordering: .relaxed); usleep(2000) }
            hasEnded.signal()
        }
    }
    /// How often.
    func end() -> Int {
        isEnding.store(true, ordering: .relaxed)
        hasEnded.wait()
        return done.load(ordering: .relaxed)
    }
}
