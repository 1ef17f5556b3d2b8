// Unix sockets come back with names, peers, queues, descriptors in flight, options and the credentials of those who made them.
import Foundation
import Glibc
import Testing

@Suite struct UnixSocketTests {
    /// As under Yama, where only an ancestor may attach to a process.
    @Test(arguments: ["unix-pairs", "unix-rights", "tcp-connected", "events-counters", "events-inotify", "descriptors-alike"])
    func `where descriptors can't be fetched they are sent`(program: String) {
        for user in User.available {
            scenario("sent-\(program)", as: user) { s in
                try s.start([try s.installation.program(program)])
                try s.waitUntilReady(limit: 60)
                s.generation = 1
                let strace = ["/usr/bin/strace", "-f", "-o", s.path("trace"), "-e", "trace=pidfd_getfd", "-e", "inject=pidfd_getfd:error=EPERM", s.installation.ckptctl]
                let initiator = try s.spawn(strace + ["checkpoint", s.tag, "-o", s.statefile, "--kill"], output: "initiator.out", errors: "initiator.err")
                let status = Children.wait(initiator, limit: 60)
                if status != .exited(0) { throw Failure("\(status.map(String.init(describing:)) ?? "hangs") \(read(s.path("initiator.err")))") }
                if !read(s.path("trace")).contains("INJECTED") { throw Failure("nothing was tried: \(read(s.path("trace")))") }
                _ = Children.wait(s.pid, limit: 20)
                s.pid = 0
                Children.reapStrays()
                try s.restart()
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    @Test func `pairs keep what is unread in both directions, half-closed ends, peers that are gone, and options`() { feature("unix-pairs") }
    @Test func `listening sockets keep path, relative and abstract names, and connections that wait in their order`() { feature("unix-names") }
    @Test func `sockets are reached where their files were moved to, or were bound from another folder`() {
        feature("unix-moved")
        feature("unix-moved", ["far"], treatments: [.twice], users: User.available.filter { $0 == .root })
    }
    @Test(arguments: ["free", "socket", "file", "folder"]) func `sockets whose files were removed keep their connections, and what has their names`(then: String) {
        feature("unix-removed", [then])
    }

    @Test(arguments: [("os.link('s', 't')", "its file has other names (hard links)"), ("os.mkdir('d' * 100); os.rename('s', 'd' * 100 + '/s')", "a path of more than 107 bytes")])
    func `a socket whose file a restart could not put back is refused`(then: String, words: String) {
        for user in User.available {
            scenario("unix-elsewhere", as: user) { s in
                try s.start(["/usr/bin/python3", "-c", "import socket, os, time; s = socket.socket(socket.AF_UNIX); s.bind(os.getcwd() + '/s'); s.listen(1); \(then); open('ready', 'w'); time.sleep(100)"])
                try s.waitUntilReady()
                try s.expectRefusal(["checkpoint", s.tag, "-o", s.path("x.ckpt")], 77, words)
                kill(s.pid, SIGKILL)
                _ = try s.wait()
            }
        }
    }
    @Test(.enabled(if: User.available == [.root, .ckptuser])) func `a moved socket is refused by a restart that may not change its root folder`() {
        scenario("unix-moved-new", as: .ckptuser) { s in
            try s.start([try s.installation.program("unix-moved")])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            let result = try run(["/usr/bin/setpriv", "--reuid", "ckptuser", "--regid", "ckptuser", "--init-groups", "--", s.statefile, "--pids", "new"], in: s.folder, environment: s.environment)
            if result.status != .exited(69) || !result.errors.contains("CAP_SYS_CHROOT") { throw Failure("\(result)") }
            if let left = try FileManager.default.contentsOfDirectory(atPath: s.folder).first(where: { $0.hasPrefix(".ckpt-") }) { throw Failure("it has left \(left)") }
        }
    }
    @Test(.enabled(if: User.available == [.root, .ckptuser]), arguments: ["unix-names", "unix-moved"]) func `files of a user's sockets are the user's when root restarts them`(program: String) {
        scenario("root-\(program)", as: .ckptuser) { s in
            try s.start([try s.installation.program(program)])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            s.pid = try Children.spawn([s.statefile], environment: s.environment, folder: s.folder, output: s.path("restart-1.out"), errors: s.path("restart-1.err"))
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    @Test(.enabled(if: User.available.contains(.ckptuser))) func `a socket with a relative name whose folder a user's ckptctl does not find is refused`() {
        scenario("unix-moved-far", as: .ckptuser) { s in
            try s.start([try s.installation.program("unix-moved"), "far"])
            try s.waitUntilReady()
            try s.expectRefusal(["checkpoint", s.tag, "-o", s.path("x.ckpt")], 77, "no process of the tree is in the folder from which its name counts")
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    @Test func `datagrams keep their sources, also of senders that are gone; a blocked writer goes on`() { feature("unix-datagrams") }
    @Test func `messages of no bytes and the end of packets are kept`() {
        for user in User.available {
            scenario("unix-empty", as: user) { s in
                try s.start([try s.installation.program("unix-empty")])
                try s.waitUntilReady()
                for _ in 0 ..< 2 { try s.checkpoint(kill: true); try s.restart() }
                try s.checkpoint()
                // Linux has shown them to that one.
                let again = try s.ckptctl(["checkpoint", s.tag, "-o", s.path("again.ckpt")])
                if again.status != .exited(75) || !again.errors.contains("messages of no bytes") || !again.errors.contains("read empty") { throw Failure("\(again)") }
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }
    @Test func `descriptors in flight arrive, also ones that nobody else has`() { feature("unix-rights") }

    @Test func `unread messages show the credentials of their senders, also of those that have ended`() {
        for user in User.available {
            scenario("unix-credentials", as: user) { s in
                try s.start([try s.installation.program("unix-credentials")])
                try s.waitUntilReady()
                try s.checkpoint()
                try s.checkpoint(kill: true)
                try s.restart()
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    @Test func `more sockets than ckptctl may open files are refused in one line, with what to raise`() {
        for user in User.available {
            scenario("unix-many", as: user) { s in
                try s.start([try s.installation.program("unix-many")])
                try s.waitUntilReady()
                // Who has CAP_SYS_RESOURCE would raise it.
                let way = ["/bin/sh", "-c", "ulimit -n 150; exec \(user == .root ? "setpriv --bounding-set -sys_resource --inh-caps -sys_resource" : "env") \(s.installation.ckptctl) checkpoint \(s.tag) -o \(s.path("x.ckpt"))"]
                let pid = try s.spawn(way, output: "few.out", errors: "few.err"), status = Children.wait(pid, limit: 20), lines = read(s.path("few.err")).split(separator: "\n")
                if status != .exited(77) || lines.count != 1 || !lines[0].contains("200 sockets, of which this is the first: ckptctl has to open them all, and may open 150 files; raise the limit") { throw Failure("\(status as Any) \(lines)") }
                try s.checkpoint(kill: true)
                try s.restart()
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    @Test func `an initiator killed while it looks into a queue leaves the queue's options as they were`() {
        scenario("unix-undo") { s in
            try s.start([try s.installation.program("unix-pairs")])
            try s.waitUntilReady()
            s.environment["CKPT_PAUSE"] = "peek"
            let initiator = try s.spawn([s.installation.ckptctl, "checkpoint", s.tag, "-o", s.path("never.ckpt")], output: "initiator.out", errors: "initiator.err")
            s.environment["CKPT_PAUSE"] = nil
            let paused = eventually(10) { read(s.path("initiator.err")).contains("paused") }
            kill(initiator, SIGKILL)
            _ = Children.wait(initiator, limit: 10)
            if !paused { throw Failure("it did not pause: \(read(s.path("initiator.err")))") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(arguments: User.available, ["stream", "seqpacket", "abstract", "tcp"]) func `a restart connects its own, whoever else uses the name meanwhile`(user: User, kind: String) {
        scenario("crowd-\(kind)", as: user) { s in
            let program = try s.installation.program("sockets-crowd"), name = kind == "tcp" ? "\(20000 + Int.random(in: 0 ..< 10000))" : s.path("name")
            try s.start([program, kind, name])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            s.go()
            let others = try s.spawn([program, "crowd", kind, name], output: "crowd.out", errors: "crowd.err")
            defer { FileManager.default.createFile(atPath: s.path("stop"), contents: nil); _ = Children.wait(others, limit: 10) }
            for _ in 0 ..< 5 {
                try s.restart(["--files", "truncate"])
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }
}
