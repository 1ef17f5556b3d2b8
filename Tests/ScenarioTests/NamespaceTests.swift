// Namespaces and control groups that a tree has for itself.
import Foundation
import Glibc
import Testing

@Suite struct NamespaceTests {
    static let privileged: [User] = [.root].filter(User.available.contains)

    @Test func `a tree in namespaces of its own has its names, its IPC and its network`() { feature("namespaces-whole") }
    @Test func `each process is in the namespaces that it was in`() { feature("namespaces-part", users: Self.privileged) }
    @Test func `namespaces of a tree come back in a pid namespace as well`() {
        feature("namespaces-part", treatments: [.twice], users: Self.privileged, pids: ["ns"])
        feature("namespaces-whole", treatments: [.twice], users: Self.privileged, pids: ["ns"])
    }
    @Test func `settings of namespaces are what they were`() {
        feature("namespaces-settings", users: Self.privileged)
        feature("namespaces-settings", ["parts"], users: Self.privileged)
    }
    @Test func `pairs of network devices in a tree have their addresses, routes and sockets again`() {
        feature("namespaces-veth")
        feature("namespaces-veth", ["user"], users: Self.privileged)
    }
    @Test func `a pair of network devices joins the networks of two processes again`() {
        feature("namespaces-veth", ["parts"])
        feature("namespaces-veth", ["parts"], treatments: [.twice], users: Self.privileged, pids: ["ns"])
    }
    @Test func `sockets of two processes in networks of their own, and connections between these, are there again`() {
        feature("namespaces-sockets")
        feature("namespaces-sockets", ["users"], treatments: [.checkpointed, .twice])
        feature("namespaces-sockets", treatments: [.twice], users: Self.privileged, pids: ["ns"])
    }
    @Test func `sockets inside of a pid namespace show whose they are there`() {
        feature("namespaces-peers")
        feature("namespaces-peers", treatments: [.twice], users: Self.privileged, pids: ["ns"])
    }
    @Test func `sockets of a pid namespace show whose they are in a network that only its processes have`() { feature("namespaces-peers", ["network"]) }
    @Test func `System V IPC and message queues of a part are there again, beside others with the same ids and names`() {
        feature("namespaces-ipc", users: Self.privileged)
        feature("namespaces-ipc", treatments: [.twice], users: Self.privileged, pids: ["ns"])
        feature("namespaces-ipc", ["users"])
        feature("namespaces-ipc", ["users"], treatments: [.twice], users: Self.privileged, pids: ["ns"])
    }
    @Test func `System V IPC inside of a pid namespace shows the pids there`() {
        feature("namespaces-ipc", ["pids"], users: Self.privileged)
        feature("namespaces-ipc", ["pids"], treatments: [.twice], users: Self.privileged, pids: ["ns"])
        feature("namespaces-ipc", ["users-pids"])
        feature("namespaces-ipc", ["users-pids"], treatments: [.twice], users: Self.privileged, pids: ["ns"])
    }
    @Test func `binds and empty file systems that only the tree sees are there again`() { feature("namespaces-mounts") }
    @Test func `a pid namespace of which only the end of its first process is left comes to that again`() {
        feature("namespaces-dead", users: Self.privileged)
        feature("namespaces-dead", treatments: [.twice], users: Self.privileged, pids: ["ns"])
    }
    @Test func `whatever else the whole tree has mounted for itself is there again`() {
        feature("namespaces-whole-mounts")
        feature("namespaces-whole-mounts", treatments: [.twice], users: Self.privileged, pids: ["ns"])
    }
    @Test func `what a child has mounted for itself is there again, with its files, its order and its options`() {
        feature("namespaces-part-mounts")
        feature("namespaces-part-mounts", treatments: [.twice], users: Self.privileged, pids: ["ns"])
    }
    @Test(arguments: [["--compress", "zstd"], ["--pre-copy"], ["--self-contained"], ["--face", "exec"]]) func `mounts of a child come back however the statefile is written`(options: [String]) {
        for program in ["namespaces-part-mounts", "namespaces-bwrap"] { feature(program, treatments: [.twice], by: .file(options)) }
    }
    @Test(.enabled(if: User.available.contains(.root)), arguments: ["namespaces-part-mounts", "namespaces-bwrap"]) func `what a restart has mounted for its pid namespace is not there after one without`(program: String) {
        scenario("mount-pids-\(program)", as: .root) { s in
            try s.start([try s.installation.program(program)])
            try s.waitUntilReady()
            for pids in ["ns", "keep", "ns"] { try s.move(["--pids", pids]) }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    @Test func `mounts of a child go through a pipe`() { for program in ["namespaces-part-mounts", "namespaces-bwrap"] { feature(program, treatments: [.twice], by: .pipe()) } }
    @Test func `mounts of a child come back from a delta`() {
        for user in User.available {
            scenario("mount-delta", as: user) { s in
                try s.start([try s.installation.program("namespaces-bwrap")])
                try s.waitUntilReady()
                try s.checkpoint()
                let base = s.statefile
                try s.checkpoint(kill: true, options: ["--since", base])
                try s.restart()
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }
    @Test func `a child with another root has it again`() {
        feature("namespaces-part-root")
        feature("namespaces-part-root", ["alone"])
        feature("namespaces-part-root", treatments: [.twice], users: Self.privileged, pids: ["ns"])
    }
    @Test func `Unix sockets with names in mounts of a child, and a FIFO that it shares, are there again`() { feature("namespaces-part-sockets") }
    @Test func `a child's watches on what its mounts show, and on what they hide, are there again`() {
        feature("namespaces-part-watches")
        feature("namespaces-part-watches", treatments: [.twice], users: Self.privileged, pids: ["ns"])
    }
    @Test func `a copy of a child's mounts has the same file systems again, and its own`() {
        feature("namespaces-part-several")
        feature("namespaces-part-several", treatments: [.twice], users: Self.privileged, pids: ["ns"])
    }
    @Test func `a program that bwrap has put into a sandbox is there again`() {
        feature("namespaces-bwrap")
        feature("namespaces-bwrap", treatments: [.twice], users: Self.privileged, pids: ["ns"])
    }
    @Test func `a sandbox with a root of its own is there again, and a copy of its mounts, with another root than the tree was started in`() {
        for kind in ["bare", "bare-copy", "bare-named"] { feature("namespaces-bwrap", [kind], treatments: [.twice]) }
    }
    @Test(.enabled(if: User.available.contains(.root)), arguments: [[], ["outside"]]) func `mounts of a child are shared with those that they were shared with`(arguments: [String]) {
        scenario("mount-peers-\(arguments.first ?? "slave")", as: .root) { s in
            let shared = ["/usr/bin/unshare", "--mount", "--propagation", "shared"]
            try s.start(shared + [s.installation.ckrun, "--name", s.tag, "--", try s.installation.program("namespaces-part-peers")] + arguments, ckrun: false)
            try s.waitUntilReady()
            s.generation = 1
            let inside = ["/usr/bin/nsenter", "--mount", "--target", "\(s.pid)"]
            let result = try run(inside + [s.installation.ckptctl, "checkpoint", s.tag, "-o", s.statefile, "--kill"], in: s.folder, environment: s.environment)
            if result.status != .exited(0) { throw Failure(result.errors) }
            _ = try s.wait()
            // The shell stays, and with it the mounts of which the restart's are slaves.
            s.pid = try s.spawn(shared + ["/bin/sh", "-c", "\"$@\"; exit $?", "sh", s.statefile, "--pids", "keep"], output: "restart-1.out", errors: "restart-1.err")
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    /// As in a container: its /proc lies on another one; with a user namespace nobody there may come back into the network outside.
    @Test(.enabled(if: User.available.contains(.root)), arguments: [("keep", [], "part-mounts"), ("ns", [], "part-mounts"), ("ns", ["--user", "--map-root-user"], "bwrap"), ("ns", ["--user", "--map-root-user"], "part-mounts")])
    func `mounts of a child are there again where a proc lies on another`(pids: String, users: [String], program: String) {
        scenario("mount-proc-\(program)-\(pids)\(users.isEmpty ? "" : "-users")", as: .root) { s in
            // The process ids that the tree had are free again.
            let new = ["/usr/bin/unshare"] + users + ["--pid", "--fork", "--mount-proc", "/bin/sh"], inside = new + ["-c", "\"$@\"; exit 0", "sh"]
            let later = new + ["-c", "echo 100 > /proc/sys/kernel/ns_last_pid; \"$@\"; exit $?", "sh"]
            // (The shell tells in the file of errors who was killed.)
            try s.start(inside + [s.installation.ckrun, "--name", s.tag, "--", try s.installation.program("namespaces-" + program)], ckrun: false)
            try s.waitUntilReady()
            s.generation = 1
            func child(of p: pid_t) throws -> pid_t { try #require(read("/proc/\(p)/task/\(p)/children").split(separator: " ").first.flatMap { pid_t($0) }) }
            let first = try child(of: s.pid)
            let result = try run(["/usr/bin/nsenter"] + users.prefix(1) + ["--mount", "--pid", "--target", "\(first)", s.installation.ckptctl, "checkpoint", s.tag, "-o", s.statefile], in: s.folder, environment: s.environment)
            if result.status != .exited(0) { throw Failure("\(result)") }
            // With --kill ckptctl, in the same pid namespace, would end with that.
            kill(try child(of: first), SIGKILL)
            _ = try s.wait()
            s.pid = try s.spawn(later + [s.statefile, "--pids", pids, "--files", "keep"], output: "restart-1.out", errors: "restart-1.err")
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    @Test func `mounts of a child that follow each other do so again, and file systems are as they were`() {
        feature("namespaces-part-groups", users: Self.privileged)
        feature("namespaces-part-groups", treatments: [.twice], users: Self.privileged, pids: ["ns"])
    }
    /// As on a host whose mounts are all shared, and on which file systems are mounted upon others: outside, before the tree is started and before the restart.
    @Test(.enabled(if: User.available.contains(.root)), arguments: ["private", "slave", "shared"]) func `mounts that are covered where the tree was started are as the others of a child`(kind: String) {
        scenario("mount-covered-\(kind)", as: .root) { s in
            let place = s.path("covered"), twice = "mount -t tmpfs lower \"$0\" && mount -t tmpfs upper \"$0\" && "
            mkdir(place, 0o755)
            func shared(_ command: String) -> [String] { ["/usr/bin/unshare", "--mount", "--propagation", "shared", "/bin/sh", "-c", twice + command, place] }
            try s.start(shared("exec \"$@\"") + [s.installation.ckrun, "--name", s.tag, "--", try s.installation.program("namespaces-part-groups"), "covered", kind], ckrun: false)
            try s.waitUntilReady()
            s.generation = 1
            let result = try run(["/usr/bin/nsenter", "--mount", "--target", "\(s.pid)", s.installation.ckptctl, "checkpoint", s.tag, "-o", s.statefile, "--kill"], in: s.folder, environment: s.environment)
            if result.status != .exited(0) { throw Failure(result.errors) }
            _ = try s.wait()
            s.pid = try s.spawn(shared("\"$@\"; exit $?") + [s.statefile, "--pids", "keep"], output: "restart-1.out", errors: "restart-1.err")
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    /// Where others are covered, all that is covered becomes alike, also the /proc below that of a restart's pid namespace.
    @Test(.enabled(if: User.available.contains(.root))) func `a child with shared mounts and a proc of its own is there after one restart in a pid namespace and another`() {
        scenario("mount-covered-proc", as: .root) { s in
            let place = s.path("covered"), twice = "mount -t tmpfs lower \"$0\" && mount -t tmpfs upper \"$0\" && "
            mkdir(place, 0o755)
            func covered(_ command: String) -> [String] { ["/usr/bin/unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", twice + command, place] }
            let child = "unshare --user --map-root-user --mount --propagation shared --pid --fork --mount-proc \(try s.installation.program("memory-private")); exit $?"
            try s.start(covered("exec \"$@\"") + [s.installation.ckrun, "--name", s.tag, "--", "/bin/sh", "-c", child], ckrun: false)
            try s.waitUntilReady()
            for generation in 1 ... 2 {
                s.generation = generation
                let result = try run(["/usr/bin/nsenter", "--mount", "--target", "\(s.pid)", s.installation.ckptctl, "checkpoint", s.tag, "-o", s.statefile, "--kill"], in: s.folder, environment: s.environment)
                if result.status != .exited(0) { throw Failure(result.errors) }
                _ = try s.wait()
                s.pid = try s.spawn(covered("\"$@\"; exit $?") + [s.statefile, "--pids", "ns"], output: "restart-\(generation).out", errors: "restart-\(generation).err")
                guard eventually(10, { (try? s.ckptctl(["status", s.tag]).status) == .exited(0) }) else { throw Failure("no session; \(s.restartErrors)") }
            }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    @Test func `a tree that is root in a user namespace of its own is root there again`() { feature("namespaces-user") }
    @Test func `users and groups that a user namespace of the tree shows are the same again`() {
        feature("namespaces-users", users: Self.privileged)
        feature("namespaces-users", ["ranges"], users: Self.privileged)
    }
    @Test func `a child that is root in a user namespace of its own is root there again`() {
        feature("namespaces-inner")
        feature("namespaces-inner", treatments: [.twice], users: Self.privileged, pids: ["ns"])
    }
    @Test func `a user namespace of a child has its network and its name again`() { feature("namespaces-inner", ["network"]) }
    @Test func `a user namespace in that of a child is there again`() { feature("namespaces-inner", ["within"]) }
    @Test func `threads in a user namespace of a child have their tids again`() {
        feature("namespaces-inner", ["threads"])
        feature("namespaces-inner", ["threads"], treatments: [.twice], users: Self.privileged, pids: ["ns"])
    }
    @Test func `users and groups that a user namespace of a child shows are the same again`() { feature("namespaces-ranges", users: Self.privileged) }
    @Test func `a user namespace within one where nobody lives is there again`() {
        feature("namespaces-nested")
        feature("namespaces-nested", ["part"])
    }
    @Test func `a pid namespace that belongs to a user namespace of a child has the same processes, threads and owner again`() {
        feature("namespaces-inner-pids")
        feature("namespaces-inner-pids", ["clone"])
        feature("namespaces-inner-pids", treatments: [.twice], users: Self.privileged, pids: ["ns"])
    }
    @Test func `pid and user namespaces within those of a child are there again`() {
        feature("namespaces-inner-pids", ["within"])
        feature("namespaces-container", ["twice"])
    }
    @Test func `pid namespaces inside of a tree have the same processes, with the same pids, again`() {
        feature("namespaces-pids", users: Self.privileged)
        feature("namespaces-pids", treatments: [.twice], users: Self.privileged, pids: ["ns"])
    }
    @Test func `a program that unshare made process 1 with a proc of its own is that again`() { feature("namespaces-container") }
    @Test func `cgroup namespaces have the roots that they had`() { feature("namespaces-cgroup", users: Self.privileged) }
    @Test func `clocks of time namespaces are ahead of the tree's by as much as before`() {
        feature("namespaces-time", users: Self.privileged)
        feature("namespaces-time", treatments: [.twice], users: Self.privileged, pids: ["ns"])
    }
    @Test func `clocks of time namespaces that belong to user namespaces of children are ahead by as much as before`() {
        feature("namespaces-user-time")
        feature("namespaces-user-time", treatments: [.twice], users: Self.privileged, pids: ["ns"])
    }
    @Test func `a tree in a time namespace of its own has clocks that go on`() { feature("namespaces-time", ["whole"]) }
    @Test func `what is in a tmpfs that only the tree sees is there again`() { feature("namespaces-memory") }
    @Test(arguments: [[], ["5000", "part"]]) func `folders of a tmpfs that are being read are read on, whatever was removed in them`(arguments: [String]) { feature("namespaces-reading", arguments) }
    @Test(.enabled(if: User.available.contains(.root) && User.available.contains(.ckptuser)), arguments: [["namespaces-part-mounts"], ["namespaces-reading", "50", "part"], ["namespaces-bwrap", "bare-named"]])
    func `what a user has in a tmpfs of a user namespace is there again when root restarts it`(program: [String]) {
        scenario("root-for-\(program[0])", as: .ckptuser) { s in
            try s.start([try s.installation.program(program[0])] + program.dropFirst())
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            s.pid = try Children.spawn([s.statefile], environment: s.environment, folder: s.folder, output: s.path("restart-1.out"), errors: s.path("restart-1.err"))
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    @Test(arguments: [("70000", "is a folder that the tree is reading, and more than 65536 names in it are gone"), ("replaced", "is a folder that the tree is reading, and names in it were replaced by others")])
    func `a folder of a tmpfs that is being read and that a restart would list otherwise is refused`(kind: String, words: String) {
        scenario("reading-\(kind)") { s in
            try s.start([try s.installation.program("namespaces-reading"), kind, "part"])
            try s.waitUntilReady()
            try s.expectRefusal(["checkpoint", s.tag, "-o", s.path("never.ckpt")], 77, words)
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    @Test func `a tree that was started in another network than ckptctl has its sockets again`() {
        scenario("network-elsewhere", as: User.available.last!) { s in
            let inside = ["/usr/bin/unshare", "--user", "--map-current-user", "--net"]
            try s.start(inside + [s.installation.ckrun, "--name", s.tag, "--", try s.installation.program("unix-names")], ckrun: false)
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            s.pid = try s.spawn(inside + [s.statefile], output: "restart-1.out", errors: "restart-1.err")
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    @Test func `a process is in its control group again`() { feature("identity-cgroup", users: Self.privileged) }

    @Test(.enabled(if: User.available.contains(.ckptuser))) func `a user namespace without maps needs root again`() {
        scenario("users-unmapped", as: .ckptuser) { s in
            try s.start(["/bin/sh", "-c", "unshare --user \(try s.installation.program("namespaces-nested")) inside both & wait $!"])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            try s.restart()
            let status = try s.wait()
            for part in ["user namespace", "setgroups", "restart it as root"] where status != .exited(69) || !s.restartErrors.contains(part) { throw Failure("no '\(part)': \(status): \(s.restartErrors)") }
        }
    }

    @Test(.enabled(if: User.available.contains(.root))) func `who may not show a tree its users is told so`() {
        scenario("users-refused", as: .root) { s in
            try s.start([try s.installation.program("namespaces-users")])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            let result = try run(["/usr/bin/setpriv", "--bounding-set=-setuid,-setgid", s.statefile], in: s.folder, environment: s.environment)
            for part in ["several users or groups", "CAP_SETUID", "restart it as root"] where result.status != .exited(69) || !result.errors.contains(part) { throw Failure("no '\(part)': \(result.status): \(result.errors)") }
            try s.restart()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(.enabled(if: User.available.contains(.root))) func `a control group that is gone keeps nobody from coming back`() {
        scenario("cgroup-gone", as: .root) { s in
            try s.start([try s.installation.program("identity-cgroup")])
            try s.waitUntilReady()
            let group = read(s.path("group"))
            try s.checkpoint(kill: true)
            if group != "none", !eventually(5, { rmdir(group) == 0 }) { throw Failure("\(group) can't be removed") }
            FileManager.default.createFile(atPath: s.path("gone"), contents: nil)
            try s.restart()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
}
