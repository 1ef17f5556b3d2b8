// Root looks into the folders of other users' sessions: what these put there, or put in the place of the folder, leads it nowhere else.
import CkptABI
import Foundation
import Glibc
import Testing

@Suite(.enabled(if: User.available.contains { $0.isOther })) struct SessionFolderTests {
    private let name = "0123456789abcdef"
    private let files = FileManager.default

    /// Root's own folder, with what looks like an ended session: as old as one must be before it is removed.
    private func rootsFolder(_ s: Scenario) throws -> String {
        let folder = s.path("roots"), made = s.path("made")
        for f in [folder, made] where mkdir(f, 0o700) != 0 { throw Failure("mkdir") }
        let result = try run([s.installation.ckrun, "/bin/true"], in: s.folder, environment: s.environment.merging(["CKPT_DIR": made]) { $1 })
        guard result.status == .exited(0), let segment = try files.contentsOfDirectory(atPath: made).first else { throw Failure("\(result)") }
        _ = try run(["/bin/cp", "--sparse=always", made + "/" + segment, folder + "/" + name], in: s.folder)
        let file = try FileHandle(forWritingTo: URL(filePath: folder + "/" + name))
        try file.seek(toOffset: UInt64(MemoryLayout<ckpt_session>.offset(of: \.created)!))
        try file.write(contentsOf: Data(count: 8))
        try file.close()
        return folder
    }
    private func usersFolder(_ s: Scenario) throws -> String {
        let folder = s.path("users")
        guard mkdir(folder, 0o700) == 0, let entry = getpwnam(s.user.rawValue), chown(folder, entry.pointee.pw_uid, entry.pointee.pw_gid) == 0 else { throw Failure("mkdir") }
        return folder
    }
    private func asRoot(_ s: Scenario, _ arguments: [String], in folder: String) throws -> Output {
        try run([s.installation.ckptctl] + arguments, in: s.folder, environment: s.environment.merging(["CKPT_DIR": folder]) { $1 }, limit: 20)
    }
    private func forEachUser(_ title: String, _ body: (Scenario) throws -> Void) { for user in User.available where user.isOther { scenario(title, as: user, body) } }

    @Test func `root follows no link that a user has put in the place of his folder`() {
        forEachUser("folder-link") { s in
            let roots = try rootsFolder(s), link = s.path("link")
            symlink(roots, link)
            for verb in [["list"], ["checkpoint", s.tag, "-o", s.path("never.ckpt")]] {
                let result = try asRoot(s, verb, in: link)
                if result.status != .exited(verb.count == 1 ? 0 : 66) || !files.fileExists(atPath: roots + "/" + name) { throw Failure("\(verb): \(result)") }
            }
        }
    }

    @Test func `root opens and removes nothing in a user's folder that is no session of his`() {
        forEachUser("folder-content") { s in
            let roots = try rootsFolder(s), users = try usersFolder(s), fifo = s.path("fifo")
            mkfifo(fifo, 0o600)
            mkfifo(users + "/" + "000000000000fifo", 0o600)
            symlink(roots + "/" + name, users + "/" + "000000000000link")
            symlink(fifo, users + "/" + "0000link-to-fifo")
            link(roots + "/" + name, users + "/" + "0000000hard-link")
            _ = try run(["/bin/cp", "--sparse=always", roots + "/" + name, users + "/" + "00000000of-root0"], in: s.folder)
            let before = try files.contentsOfDirectory(atPath: users).sorted()
            // Whoever writes there waits until somebody opens it for reading.
            let writers = try [fifo, users + "/" + "000000000000fifo"].map { try Children.spawn(["/bin/sh", "-c", "exec 3>\($0)"], environment: s.environment, folder: s.folder, output: "/dev/null", errors: "/dev/null") }
            defer { for pid in writers { kill(pid, SIGKILL); _ = Children.wait(pid, limit: 5) } }
            s.environment["CKPT_DIR"] = users
            try s.start(["/bin/sleep", "300"])
            guard eventually(5, { (try? s.ckptctl(["status", s.tag]).status) == .exited(0) }) else { throw Failure("no session: \(s.errors)") }
            let seen = try asRoot(s, ["list"], in: users), taken = try asRoot(s, ["checkpoint", s.tag, "-o", s.path("x.ckpt"), "--kill"], in: users)
            _ = try s.wait()
            if !seen.text.contains(s.tag) || taken.status != .exited(0) { throw Failure("\(seen) \(taken)") }
            usleep(200_000)
            for pid in writers where Children.wait(pid, limit: 0) != nil { throw Failure("a FIFO was opened") }
            let after = try files.contentsOfDirectory(atPath: users).sorted()
            if after != before || !files.fileExists(atPath: roots + "/" + name) { throw Failure("\(before), then \(after)") }
        }
    }

    @Test func `what root removes is in the folder in which it was found, whatever has its path by then`() {
        forEachUser("folder-exchanged") { s in
            let roots = s.path("roots"), users = try usersFolder(s)
            s.environment["CKPT_DIR"] = users
            try s.start(["/bin/sleep", "300"])
            guard eventually(5, { (try? s.ckptctl(["status", s.tag]).status) == .exited(0) }), let id = try files.contentsOfDirectory(atPath: users).first else { throw Failure("no session: \(s.errors)") }
            mkdir(roots, 0o700)
            guard files.createFile(atPath: roots + "/" + id, contents: nil) else { throw Failure("no file") }
            let status = try checkpoint(s, to: s.path("x.ckpt")) {
                rename(users, s.path("moved"))
                symlink(roots, users)
            }
            if status != .exited(0) || !files.fileExists(atPath: roots + "/" + id) { throw Failure("\(String(describing: status)) \(read(s.path("initiator.err"))) \(try files.contentsOfDirectory(atPath: roots))") }
        }
    }

    /// A session of the user's, with the folder that has it.
    private func started(_ s: Scenario, _ command: [String]) throws -> (folder: String, id: String) {
        let users = try usersFolder(s)
        s.environment["CKPT_DIR"] = users
        try s.start(command)
        guard eventually(5, { (try? s.ckptctl(["status", s.tag]).status) == .exited(0) }), let id = try files.contentsOfDirectory(atPath: users).first else { throw Failure("no session: \(s.errors)") }
        return (users, id)
    }

    /// As root, with --kill; something happens in its midst.
    private func checkpoint(_ s: Scenario, to output: String, meanwhile: () -> Void) throws -> Status? {
        let initiator = try Children.spawn([s.installation.ckptctl, "checkpoint", s.tag, "-o", output, "--kill"], environment: s.environment.merging(["CKPT_PAUSE": "memory"]) { $1 },
                                           folder: s.folder, output: s.path("initiator.out"), errors: s.path("initiator.err"))
        guard eventually(10, { read(s.path("initiator.err")).contains("paused") }) else { throw Failure("ckptctl did not pause: \(read(s.path("initiator.err")))") }
        meanwhile()
        var status: Status?
        for _ in 0 ..< 100 where status == nil { kill(initiator, SIGCONT); status = Children.wait(initiator, limit: 0.1) }
        _ = try s.wait()
        return status
    }

    @Test func `root takes the pages of a user's tree in, in whatever way`() {
        forEachUser("folder-taken") { s in
            let session = try started(s, [try s.installation.program("memory-private")])
            try s.waitUntilReady()
            for options in [["--face", "core"], ["--pre-copy"], ["--compress", "lz4"], ["--since", s.path("0.ckpt")], ["--since", s.path("0.ckpt"), "--pre-copy"]].enumerated() {
                let file = s.path("\(options.offset).ckpt"), taken = try asRoot(s, ["checkpoint", s.tag, "-o", file] + options.element, in: session.folder), seen = try asRoot(s, ["verify", file], in: session.folder)
                if taken.status != .exited(0) || seen.status != .exited(0) { throw Failure("\(options.element): \(taken) \(seen)") }
            }
            let direct = try asRoot(s, ["checkpoint", s.tag, "-o", s.path("direct.ckpt"), "--direct"], in: session.folder)
            if direct.status != .exited(64) { throw Failure("\(direct)") }
            let taken = try asRoot(s, ["checkpoint", s.tag, "-o", s.statefile, "--kill"], in: session.folder)
            _ = try s.wait()
            guard taken.status == .exited(0), let entry = getpwnam(s.user.rawValue), chown(s.statefile, entry.pointee.pw_uid, entry.pointee.pw_gid) == 0 else { throw Failure("\(taken)") }
            try s.restart()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `whoever calls at root's door while root takes a user's tree gets nothing of it`() {
        forEachUser("folder-door") { s in
            let session = try started(s, [try s.installation.program("memory-private")])
            try s.waitUntilReady()
            // As nobody, who is no user of the tree, and as the user, who is let in, and gets no file.
            let door = try ["nobody", s.user.rawValue].map { user in
                try Children.spawn(["/usr/bin/setpriv", "--reuid", user, "/usr/bin/python3", "-c", """
                    import array, os, socket, stat
                    while True:
                        for name in {l.split()[-1] for l in open("/proc/net/unix") if "@ckpt-\(session.id)-" in l}:
                            c = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); c.settimeout(1)
                            try:
                                c.connect("\\0" + name[1:]); got = c.recvmsg(64, 256)[1]
                            except OSError: continue
                            for l, t, d in got:
                                for fd in array.array("i", d): print(stat.S_IFMT(os.fstat(fd).st_mode), os.readlink(f"/proc/self/fd/{fd}"), flush=True)
                    """], environment: s.environment, folder: s.folder, output: s.path("got-" + user), errors: s.path("door.err"))
            }
            defer { for pid in door { kill(pid, SIGKILL); _ = Children.wait(pid, limit: 5) } }
            usleep(300_000)
            let taken = try asRoot(s, ["checkpoint", s.tag, "-o", s.path("x.ckpt")], in: session.folder), seen = try asRoot(s, ["verify", s.path("x.ckpt")], in: session.folder)
            s.go()
            try s.expect(.exited(0), output: "ok\n")
            let got = read(s.path("got-nobody")) + read(s.path("got-" + s.user.rawValue)), isFile = got.split(separator: "\n").contains { $0.hasPrefix("\(S_IFREG)") && !$0.hasSuffix("pagemap") }
            if taken.status != .exited(0) || seen.status != .exited(0) || isFile || !read(s.path("got-nobody")).isEmpty { throw Failure("\(taken) \(seen) \(got) \(read(s.path("door.err")))") }
        }
    }

    @Test func `a statefile goes into the folder that was named, whatever has its name by then`() {
        forEachUser("folder-output") { s in
            _ = try started(s, ["/bin/sleep", "300"])
            let out = s.path("goes"), roots = s.path("roots")
            for f in [out, roots] where mkdir(f, 0o700) != 0 { throw Failure("mkdir") }
            let status = try checkpoint(s, to: out + "/x.ckpt") {
                rename(out, s.path("moved"))
                symlink(roots, out)
            }
            if status != .exited(0) || files.fileExists(atPath: roots + "/x.ckpt") || !files.fileExists(atPath: s.path("moved/x.ckpt")) { throw Failure("\(String(describing: status)) \(read(s.path("initiator.err")))") }
        }
    }

    @Test func `a name that a user has given his session is no path for root`() {
        forEachUser("folder-name") { s in
            let session = try started(s, ["/bin/sleep", "300"]), place = s.path("named")
            mkdir(place, 0o700)
            let file = try FileHandle(forWritingTo: URL(filePath: session.folder + "/" + session.id))
            try file.seek(toOffset: UInt64(MemoryLayout<ckpt_session>.offset(of: \.name)!))
            try file.write(contentsOf: Data("../precious\0".utf8))
            try file.close()
            let result = try run([s.installation.ckptctl, "checkpoint", String(s.pid), "--kill"], in: place, environment: s.environment.merging(["CKPT_DIR": session.folder]) { $1 }, limit: 20)
            _ = try s.wait()
            if result.status != .exited(0) || files.fileExists(atPath: s.path("precious.ckpt")) || !files.fileExists(atPath: place + "/" + session.id + ".ckpt") { throw Failure("\(result) \(try files.contentsOfDirectory(atPath: place))") }
        }
    }

    @Test func `root asks no template that another user keeps where root's would be`() {
        forEachUser("folder-template") { s in
            let users = try usersFolder(s)
            try s.start(["/bin/sh", "-c", "touch ready; while ! [ -e go ]; do sleep 0.05; done"])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            let file = try FileHandle(forReadingFrom: URL(filePath: s.statefile)), superblock: UInt64 = 0xc00
            try file.seek(toOffset: superblock + UInt64(MemoryLayout<ckpt_superblock>.offset(of: \.id)!))
            let id = (try file.read(upToCount: 16) ?? Data()).map { String(format: "%02x", $0) }.joined()
            let listener = try s.spawn(["/usr/bin/python3", "-c", """
                import socket
                l = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); l.bind("users/warm-\(id)"); l.listen(5); open("listens", "w")
                while True:
                    if l.accept()[0].recv(4096): open("asked", "w")
                """], output: "listener", errors: "listener.err")
            defer { kill(listener, SIGKILL); _ = Children.wait(listener, limit: 5) }
            guard eventually(10, { files.fileExists(atPath: s.path("listens")) }) else { throw Failure(read(s.path("listener.err"))) }
            _ = try asRoot(s, ["warm", "--list"], in: users)
            if files.fileExists(atPath: s.path("asked")) { throw Failure("ckptctl has asked") }
            let result = try run([s.statefile, "--warm"], in: s.folder, environment: s.environment.merging(["CKPT_DIR": users]) { $1 }, limit: 20)
            if result.status != .exited(71) || !result.errors.contains("another user's") || files.fileExists(atPath: s.path("asked")) { throw Failure("\(result)") }
        }
    }
}
