// What cannot be restored is refused with pid, descriptor and kind, and the program runs on.
import Foundation
import Glibc
import Testing

@Suite struct RefusalTests {
    /// Each with a word that the refusal must contain.
    static let kinds: [(kind: String, word: String)] = [
        ("raw", "raw IP"), ("packet", "packet socket"), ("vsock", "vsock"), ("mptcp", "MPTCP"), ("netlink", "netlink"), ("pending-unix", "waits to be accepted"), ("pending-tcp", "accepted"), ("urgent", "urgent data"), ("inotify-lost", "can't be found"), ("fired", "one-shot"), ("epoll-signalfd", "signalfd"), ("epoll-shared", "several processes"), ("pidfd-sent", "in a message"), ("fanotify", "fanotify"),
        ("ulp", "TCP_ULP"), ("segments", "modify_ldt"), ("landlock", "Landlock"), ("landlock-child", "Landlock"), ("secret", "memfd_secret"), ("secret-mapped", "memfd_secret"), ("dispatch", "PR_SET_SYSCALL_USER_DISPATCH"), ("dispatch-thread", "PR_SET_SYSCALL_USER_DISPATCH"), ("dispatch-outside", "PR_SET_SYSCALL_USER_DISPATCH"), ("bpf-filter", "eBPF"), ("shm-huge", "SHM_HUGETLB"), ("epoll-mounts", "epoll"), ("fired-inotify", "one-shot"), ("fired-listener", "one-shot"), ("left-child", "user 65534"), ("left-orphan", "user 65534"),
        ("udp-error", "an error that is not read"), ("udp-source", "list of sources"), ("unix-left", "left without reading"), ("unix-sender", "sender has gone"), ("netlink-answer", "an answer that is not read"),
        ("pty-async", "O_ASYNC"), ("pty-unreached", "unread output"), ("pty-echoes", "echoes may wait"), ("serial", "terminal"), ("pidfd-outside", "outside the tree"), ("namespace", "namespace"), ("proc-outside", "outside the tree"), ("proc-shared", "shared"), ("far-link", "another hard link"), ("block-device", "block device"), ("userfaultfd", "userfaultfd"),
        ("perf", "perf"), ("mqueue-thread", "SIGEV_THREAD"), ("lease-breaking", "lease that is being broken"), ("aio-flight", "in flight"), ("aio-unseen", "did not make"), ("packets", "packet"), ("seccomp", "seccomp"),
        ("clone-memory", "CLONE_VM"), ("clone-files", "table of descriptors"), ("clone-folder", "working folder"), ("unshare-files", "table of descriptors of its own"), ("unshare-folder", "working folder of its own"), ("signals-full", "ulimit -i"), ("death-of-thread", "PR_SET_PDEATHSIG"), ("ns-mount", "64 MiB"), ("times-thread", "another time namespace"), ("ipc-thread", "another ipc namespace than the main thread"), ("users-time", "its children are to be born in a time namespace that belongs to a user namespace"), ("ns-address", "address 10.1.2.3"), ("ns-veth", "network device inside, whose other end is outside of the tree"), ("ns-device", "network device bridged"), ("ns-rule", "rules for routes"), ("ns-neighbour", "permanent neighbours"), ("ns-alias", "alias"), ("ns-queue", "a queue (pfifo)"), ("ns-route", "a route that is there for a while only"), ("ns-nexthop", "nexthop object"), ("ns-expires", "fd07:0:0:0:0:0:0:1 of one, which is there for a while only"), ("pids-socket", "SO_PEERCRED"), ("pids-carried", "carries a socket"), ("ns-elsewhere", "nobody of the tree lives"), ("ns-mqueue", "an ipc namespace in which nobody of the tree lives"), ("ns-segment", "another ipc namespace"), ("ns-creator", "further out than the pid namespace"), ("pids-thread", "not the main one"), ("keyring-thread", "thread keyring"), ("keyring-process", "process keyring"), ("keyring-keys", "session keyring"), ("keyring-joined", "session keyring"),
        ("ring-unseen", "io_uring that this program did not make"), ("ring-sqpoll", "SQPOLL"), ("ring-flight", "io_uring: operations are in flight"), ("ring-poll", "io_uring: operations are in flight"), ("ring-multishot", "io_uring: operations are in flight"),
        ("ring-buffers", "io_uring with registered buffers"), ("ring-provided", "io_uring with provided buffers"), ("ring-files", "io_uring with registered files"), ("ring-personality", "a personality"), ("ring-workers", "a number of workers"),
        ("ring-index", "IORING_REGISTER_RING_FDS"), ("ring-event", "an eventfd that this process has closed"), ("ring-shared", "io_uring that several processes have"), ("ring-closed", "io_uring that this process has no descriptor of"),
    ]
    @Test(arguments: kinds.map(\.kind)) func `what cannot be restored is refused by name and runs on`(kind: String) {
        let word = Self.kinds.first { $0.kind == kind }!.word
        scenario("refuse-\(kind)") { s in
            try s.start([try s.installation.program("refuse", flags: ["-lutil"]), kind])
            _ = eventually(20) { access(s.path("ready"), F_OK) == 0 || s.hasEnded }
            if s.output.hasPrefix("unsupported") { return }       // not in this kernel, or not permitted here
            let held = read(s.path("held")).split(separator: " ").map(String.init)
            s.generation = 1
            let result = try s.ckptctl(["checkpoint", s.tag, "-o", s.statefile])
            // What passes by itself is refused for the moment only.
            if result.status != .exited(["pending-unix", "pending-tcp", "udp-error", "netlink-answer", "urgent", "fired", "ring-flight", "ring-poll", "ring-multishot", "aio-flight", "signals-full"].contains(kind) ? 75 : 77) { throw Failure("\(result.status); \(result.errors)") }
            for part in ["pid \(held[0])", word] + (held[1] == "-1" ? [] : ["fd \(held[1])"]) where !result.errors.lowercased().contains(part.lowercased()) {
                throw Failure("the refusal does not name \(part): \(result.errors)")
            }
            if access(s.statefile, F_OK) == 0 { throw Failure("a statefile was left") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    static let parts = [("siblings", "none contains the other"), ("owners", "belong to different user namespaces"), ("unborn", "a time namespace that belongs to a user namespace of a part"), ("outside", "that a program outside the tree has open")]
    @Test(.enabled(if: getuid() == 0), arguments: parts) func `what the namespaces of a part of the tree can't come back with is refused by name`(kind: String, words: String) {
        scenario("refuse-part-\(kind)") { s in
            let program = try s.installation.program("refuse-part", flags: ["-lrt"])
            try s.start([program, kind])
            _ = eventually(20) { access(s.path("ready"), F_OK) == 0 || s.hasEnded }
            if s.output.hasPrefix("unsupported") { return }
            guard eventually(5, { !read(s.path("part")).isEmpty }) else { throw Failure("no part: \(s.errors)") }
            if kind == "outside" {
                _ = try s.spawn([program, "outsider", read(s.path("part"))], output: "outsider.out", errors: "outsider.err")
                guard eventually(10, { access(s.path("joined"), F_OK) == 0 }) else { throw Failure(read(s.path("outsider.err"))) }
            }
            try s.expectRefusal(["checkpoint", s.tag, "-o", s.path("x.ckpt")], 77, words)
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    static let mounts = [("overlay", "a file system that only a part of the tree sees"), ("removed", "what it shows has been removed"), ("terminal", "a terminal that is bound over a file"), ("twice", "of which this one is no copy"), ("inner", "its name lies in other mounts than those of the first process there"),
                         ("attribute", "file is immutable, append-only or not to be dumped"), ("loud", "the tree watches whether its root is opened")]
    /// Mounts that follow others.
    static let groups = [("slave", "receives what is mounted (as a slave)"), ("peers", "of which none shows all"), ("covered", "its options were changed in the namespace"), ("source", "it is mounted from /a/name"), ("many", "4096 at most"), ("stacked", "in a mnt namespace of a part of the tree")]
    @Test(.enabled(if: getuid() == 0), arguments: mounts.map { ("refuse-mounts", $0.0, $0.1) } + groups.map { ("refuse-groups", $0.0, $0.1) })
    func `a mount of a part of the tree that can't come back is refused by name`(program: String, kind: String, words: String) {
        scenario("\(program)-\(kind)") { s in
            try s.start([try s.installation.program(program), kind])
            try s.waitUntilReady()
            try s.expectRefusal(["checkpoint", s.tag, "-o", s.path("x.ckpt")], 77, words)
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(.enabled(if: getuid() == 0)) func `a restart where what is outside is shared in another way is refused by the mount`() {
        scenario("refuse-groups-outside") { s in
            let one = s.path("one"), two = s.path("two")
            mkdir(one, 0o755); mkdir(two, 0o755)
            func shared(_ command: String) -> [String] { ["/usr/bin/unshare", "--mount", "--propagation", "shared", "/bin/sh", "-c", "mount -t tmpfs both \"$0\" && mount --bind \"$0\" \"$1\" && p=$1 && shift && \(command)", one, two] }
            try s.start(shared("exec \"$@\"") + [s.installation.ckrun, "--name", s.tag, "--", try s.installation.program("namespaces-part-groups"), "covered", "slave"], ckrun: false)
            try s.waitUntilReady()
            s.generation = 1
            let result = try run(["/usr/bin/nsenter", "--mount", "--target", "\(s.pid)", s.installation.ckptctl, "checkpoint", s.tag, "-o", s.statefile, "--kill"], in: s.folder, environment: s.environment)
            if result.status != .exited(0) { throw Failure(result.errors) }
            _ = try s.wait()
            for (command, words) in [("mount --make-private $p; mount --make-shared $p; \"$@\"; exit $?", "it shares what is mounted with others than before"), ("\"$@\"; exit $?", "")] {
                s.pid = try s.spawn(shared(command) + [s.statefile, "--pids", "keep"], output: "restart-1.out", errors: "restart-1.err")
                if words.isEmpty { s.go(); try s.expect(.exited(0), output: "ok\n"); continue }
                let status = try s.wait(), errors = (try? String(contentsOfFile: s.path("restart-1.err"), encoding: .utf8)) ?? ""
                for part in [two, words] where status != .exited(69) || !errors.contains(part) { throw Failure("no '\(part)': \(status): \(errors)") }
            }
        }
    }

    @Test(.enabled(if: getuid() == 0)) func `a --relocate of the folder on which something is mounted is refused, one of what is bound is followed`() {
        scenario("refuse-groups-point") { s in
            try s.start([try s.installation.program("refuse-groups"), "point"])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            try s.restart(["--relocate", "\(s.path("b"))=/elsewhere"])
            let status = try s.wait()
            for part in [s.path("b"), "mount points stay where they were"] where status == .exited(0) || !s.restartErrors.contains(part) { throw Failure("no '\(part)': \(status): \(s.restartErrors)") }
            // Another file system, too.
            let elsewhere = "/dev/shm/ckpt-test-\(getpid())"
            mkdir(elsewhere, 0o755)
            defer { rmdir(elsewhere) }
            try s.restart(["--relocate", "\(s.path("a/x"))=\(elsewhere)"])
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(.enabled(if: getuid() == 0)) func `a mount whose source is gone is refused at the restart by its path`() {
        scenario("refuse-mounts-source") { s in
            try s.start([try s.installation.program("refuse-mounts"), "source"])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            let source = s.path("a/x"), moved = s.path("a/y")
            rename(source, moved)
            try s.restart()
            let status = try s.wait()
            for part in [s.path("b"), source, "no such file", "--relocate"] where status != .exited(71) || !s.restartErrors.lowercased().contains(part.lowercased()) { throw Failure("no '\(part)': \(status): \(s.restartErrors)") }
            try s.restart(["--relocate", "\(source)=\(moved)"])
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `a Unix socket whose other end is outside the session is refused by name`() {
        scenario("refuse-given-socket") { s in
            var pair: [Int32] = [-1, -1]
            if socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &pair) != 0 { throw Failure("no pair") }
            defer { close(pair[0]) }
            try s.start([try s.installation.program("refuse", flags: ["-lutil"]), "given-socket"], descriptors: [0: pair[1]])
            close(pair[1])
            try s.waitUntilReady()
            s.generation = 1
            let result = try s.ckptctl(["checkpoint", s.tag, "-o", s.statefile])
            for part in ["pid \(s.pid)", "fd \(read(s.path("held")).split(separator: " ")[1])", "of pid \(getpid())", "outside the session"] where result.status != .exited(77) || !result.errors.contains(part) { throw Failure("no '\(part)': \(result.status): \(result.errors)") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(.enabled(if: User.available.contains(.root))) func `a session whose only program has given its user away is refused, not unknown`() {
        scenario("refuse-left-main", as: .root) { s in
            try s.start(["/usr/bin/setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "/bin/sleep", "100"])
            guard eventually(10, { read("/proc/\(s.pid)/comm") == "sleep\n" }) else { throw Failure("not executed: \(s.errors)") }
            s.generation = 1
            let result = try s.ckptctl(["checkpoint", s.tag, "-o", s.statefile])
            for part in ["pid \(s.pid)", "user 65534", "ckrun"] where result.status != .exited(77) || !result.errors.contains(part) { throw Failure("no '\(part)': \(result.status): \(result.errors)") }
        }
    }

    @Test func `a static program in the tree is refused by name`() {
        scenario("static") { s in
            let program = try s.installation.program("static-sleeper", flags: ["-static"])
            try s.start([try s.installation.program("behaviour-exec-child"), program])
            try s.waitUntilReady()
            s.generation = 1
            let result = try s.ckptctl(["checkpoint", s.tag, "-o", s.statefile])
            if ![.exited(77), .exited(75)].contains(result.status) || !result.errors.contains("static") { throw Failure("\(result.status): \(result.errors)") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `a program in a sandbox that does not show the runtime is refused by name, at once, and lives`() {
        for user in User.available {
            scenario("hidden", as: user) { s in
                try s.start([try s.installation.program("refuse-hidden")])
                try s.waitUntilReady()
                s.generation = 1
                for _ in 0 ..< 3 {
                    let result = try s.ckptctl(["checkpoint", s.tag, "-o", s.statefile, "--kill"])
                    if result.status != .exited(77) || !result.errors.contains("bash runs in a sandbox that does not show") { throw Failure("\(result)") }
                }
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    /// By a user that no other test has: it might be a member of any session of its user's.
    @Test(.enabled(if: User.available.contains(.root))) func `a process that its own user may not look at is refused by name`() {
        scenario("undumpable", as: .root) { s in
            let user: uid_t = 65532, asUser = ["/usr/bin/setpriv", "--reuid", "\(user)", "--regid", "\(user)", "--clear-groups", "--"]
            s.environment["CKPT_DIR"] = s.path("sessions")
            mkdir(s.path("sessions"), 0o700)
            for path in [s.folder, s.path("sessions")] { chown(path, user, user) }
            try s.start(asUser + [s.installation.ckrun, "--name", s.tag, "--", try s.installation.program("refuse-undumpable")], ckrun: false)
            try s.waitUntilReady()
            let result = try run(asUser + [s.installation.ckptctl, "checkpoint", s.tag, "-o", s.path("x.ckpt"), "--kill"], in: s.folder, environment: s.environment)
            if result.status != .exited(77) || !result.errors.contains("may belong to the session, and does not let others of its user look at it") { throw Failure("\(result)") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(.enabled(if: User.available.contains(.root))) func `a set-gid program is refused by name, at once`() {
        scenario("set-gid", as: .root) { s in
            let program = s.path("sleeper"), nobody: gid_t = 65534
            try FileManager.default.copyItem(atPath: "/bin/sleep", toPath: program)
            if chown(program, 0, nobody) != 0 || chmod(program, 0o2755) != 0 { throw Failure("chmod") }
            try s.start(["/bin/sh", "-c", "\(program) 300 & while ! [ -e go ]; do sleep 0.05; done; kill $!"])
            guard eventually(10, { read("/proc/\(s.pid)/task/\(s.pid)/children").split(separator: " ").contains { read("/proc/\($0)/comm") == "sleeper\n" } }) else { throw Failure("it does not start") }
            s.generation = 1
            let result = try s.ckptctl(["checkpoint", s.tag, "-o", s.statefile])
            if result.status != .exited(77) || !result.errors.contains("is set-uid, set-gid or has file capabilities") { throw Failure("\(result)") }
            s.go()
            try s.expect(.exited(0))
        }
    }

    @Test func `ckrun refuses a static program`() {
        scenario("ckrun-static") { s in
            try s.start([try s.installation.program("static-sleeper", flags: ["-static"])])
            let status = try s.wait()
            if status == .exited(0) || !s.errors.contains("static") { throw Failure("\(status) \(s.errors)") }
        }
    }

    @Test func `a task under strict seccomp is refused and not signalled`() {
        scenario("seccomp-strict") { s in
            try s.start([try s.installation.program("behaviour-seccomp")])
            try s.waitUntilReady()
            s.generation = 1
            let result = try s.ckptctl(["checkpoint", s.tag, "-o", s.statefile])
            if result.status != .exited(77) || !result.errors.contains("seccomp") { throw Failure("\(result.status): \(result.errors)") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `a task under a debugger is named, the checkpoint aborted, and all run on`() {
        scenario("traced") { s in
            try s.start([try s.installation.program("behaviour-heartbeat")])
            try s.waitUntilReady()
            let tracer = try s.spawn([try s.installation.program("tracer"), "\(s.pid)"], output: "tracer.out", errors: "tracer.err")
            guard eventually(10, { access(s.path("attached"), F_OK) == 0 }) else { throw Failure("the tracer did not attach: \(read(s.path("tracer.out")))") }
            s.generation = 1
            let result = try s.ckptctl(["checkpoint", s.tag, "-o", s.statefile])
            if ![.exited(77), .exited(75)].contains(result.status) || !result.errors.contains("\(s.pid)") || !result.errors.contains("trac") {
                throw Failure("\(result.status): \(result.errors)")
            }
            FileManager.default.createFile(atPath: s.path("detach"), contents: nil)
            _ = Children.wait(tracer, limit: 10)
            s.generation = 0
            try s.checkpoint()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
}
