// Deltas of memory whose writes are noted (--track): what was not written is left in the base unread, and nothing that was written is missed.
import Foundation
import Glibc
import Testing

/// What ckrun --track keeps: both ends of the socket in which userfaultfds wait for the next checkpoint.
private struct TrackingSocket {
    let ends: [Int32]
    init() throws {
        var ends: [Int32] = [-1, -1]
        if socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) != 0 { throw Failure("socketpair: \(errno)") }
        // Out of the way of the numbers that ckptctl gets them by.
        self.ends = ends.map { fcntl($0, F_DUPFD_CLOEXEC, 200) }
        for e in ends { Glibc.close(e) }
    }
    func close() { for e in ends { Glibc.close(e) } }
}

extension Scenario {
    /// A checkpoint as ckrun --track takes it; how many bytes it left in its base without reading them there.
    fileprivate func tracked(_ socket: TrackingSocket, since base: String? = nil, options: [String] = []) throws -> Int {
        generation += 1
        let name = "report-\(generation)"
        let child = try spawn([installation.ckptctl, "checkpoint", tag, "-o", statefile, "--json", "--track", "3,4"] + (base.map { ["--since", $0] } ?? []) + options,
                              output: name, errors: name + ".err", descriptors: [3: socket.ends[0], 4: socket.ends[1]])
        guard let status = Children.wait(child, limit: 60), status == .exited(0) else { throw Failure("checkpoint \(generation): \(read(path(name + ".err")))") }
        guard let object = try JSONSerialization.jsonObject(with: Data(read(path(name)).utf8)) as? [String: Any], let unread = object["unread"] as? Int else { throw Failure(read(path(name))) }
        return unread
    }
}

@Suite(.serialized) struct TrackTests {
    @Test(arguments: Packing.all) func `tracked memory that changed in any way is in the delta, and what did not change is not read`(packing: Packing) {
        for user in User.available {
            scenario("delta-memory-tracked", as: user) { s in
                let socket = try TrackingSocket()
                defer { socket.close() }
                try s.start([try s.installation.program("delta-memory")])
                try s.waitUntilReady()
                if try s.tracked(socket, options: packing.base) != 0 { throw Failure("a whole statefile has left something unread") }
                let second = try s.tracked(socket, since: s.statefile, options: packing.delta)
                s.touch("change")
                guard eventually(20, { access(s.path("changed"), F_OK) == 0 }) else { throw Failure("it does not change: \(s.output)") }
                let third = try s.tracked(socket, since: s.statefile, options: ["--kill"] + packing.delta)
                // The program and its first child hold 8 MiB each that nobody writes to.
                if second < 16 << 20 || third < 16 << 20 || third >= second { throw Failure("unread: \(second), then \(third) bytes; \(read(s.path("report-2.err")))") }
                _ = try s.wait()
                try s.restart()
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    @Test func `whoever has not the last statefile as its base, or lost the descriptors, reads all`() {
        scenario("tracked-other-base") { s in
            let socket = try TrackingSocket()
            defer { socket.close() }
            try s.start([try s.installation.program("behaviour-heartbeat"), "16"])
            try s.waitUntilReady()
            _ = try s.tracked(socket)
            let first = s.statefile
            if try s.tracked(socket, since: first) < 16 << 20 { throw Failure("nothing was left unread") }
            if try s.tracked(socket, since: first) != 0 { throw Failure("relied on what was noted since another statefile") }
            try s.expectRefusal(["checkpoint", s.tag, "-o", s.path("x.ckpt")], 77, "userfaultfd", "--track")
            socket.close()
            // With the last descriptor all tracking is gone, and its traces in smaps.
            let again = try TrackingSocket()
            defer { again.close() }
            if try s.tracked(again, since: s.statefile) != 0 { throw Failure("relied on descriptors that were closed") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `what was noted counts as well when the delta goes into a pipe`() {
        scenario("tracked-pipe") { s in
            let socket = try TrackingSocket()
            defer { socket.close() }
            try s.start([try s.installation.program("delta-memory")])
            try s.waitUntilReady()
            _ = try s.tracked(socket)
            s.touch("change")
            guard eventually(20, { access(s.path("changed"), F_OK) == 0 }) else { throw Failure("it does not change: \(s.output)") }
            let writer = try s.spawn([s.installation.ckptctl, "checkpoint", s.tag, "-o", "-", "--kill", "--track", "3,4", "--since", s.statefile], output: "sent", errors: "sent.err", descriptors: [3: socket.ends[0], 4: socket.ends[1]])
            guard Children.wait(writer, limit: 60) == .exited(0) else { throw Failure(read(s.path("sent.err"))) }
            _ = try s.wait()
            let size = (FileManager.default.contents(atPath: s.path("sent"))?.count ?? 0)
            if size < 100_000 || size > 8 << 20 { throw Failure("\(size) bytes") }
            s.pid = try s.spawn(["/bin/sh", "-c", "cat sent | \(s.installation.ckptctl) restart -"], output: "restart-1.out", errors: "restart-1.err")
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    static let subjects = [Subject.compiled("dirtier", "dirtier.c", [], "3000"), Subject.compiled("sharing", "sharing.c", [], "900"),
                           Subject.script("multiprocessing", "pool.py", by: "/usr/bin/python3", "1000")]
    @Test(arguments: subjects, [[], ["--compress", "lz4"]]) func `a program whose writes are noted writes what it writes undisturbed, from each statefile that its supervisor keeps`(subject: Subject, options: [String]) {
        for user in User.available {
            scenario("tracked-\(subject.name)", as: user) { s in
                let reference = try reference(of: subject)
                try s.start(try subject.argv(), options: ["--every", "60ms", "--keep", "3", "--track", "-o", s.path("job.ckpt")] + options)
                _ = eventually(60) { s.hasEnded || access(s.path("job.ckpt.2"), F_OK) == 0 }
                usleep(300_000)
                // A checkpoint that is made again begins anew.
                let isTracked = eventually(5) { Children.pids(tagged: s.tag).contains { (try? run(["/bin/grep", "-q", " uw ", "/proc/\($0)/smaps"], in: s.folder))?.status == .exited(0) } }
                if !isTracked && !s.hasEnded { throw Failure("nothing is tracked: \(s.errors)") }
                // Those who see the others end may say so.
                let said = s.errors
                kill(s.pid, SIGKILL)
                Children.kill(tagged: s.tag)
                _ = try s.wait()
                Children.reapStrays()
                if said != "" { throw Failure(said) }
                s.generation = 1
                let names = ["job.ckpt", "job.ckpt.1", "job.ckpt.2"].filter { access(s.path($0), F_OK) == 0 }
                if names.count < 2 { throw Failure("no two statefiles: \(s.errors)") }
                for name in names {
                    let verified = try s.ckptctl(["verify", s.path(name)])
                    if verified.status != .exited(0) { throw Failure("\(name): \(verified.errors)") }
                    try s.restart(["--files", "truncate"], from: s.path(name))
                    let end = try s.wait(limit: 60 + reference.seconds * 4)
                    if end != subject.status { throw Failure("\(name): \(end), not \(subject.status): \(s.errors) \(s.restartErrors)") }
                    if let difference = difference(reference.files, products(s.folder).filter { !$0.key.hasPrefix("job.ckpt") }) { throw Failure("\(name): \(difference)") }
                }
            }
        }
    }
}
