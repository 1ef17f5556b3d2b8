// Root's restart does for the names of sockets what their owners could do, and nothing to what others have; a restart that is given up leaves no folders.
import Foundation
import Glibc
import Testing

extension UnixSocketTests {
    /// Binds `s` there, and `t`, which it moves to `m`.
    private func program(_ name: String, in folder: String) -> [String] {
        let bind = ["s": "s.bind(d + '/s'); s.listen(1)", "m": "s.bind(d + '/t'); s.listen(1); os.rename(d + '/t', d + '/m')", "relative": "os.chdir(d); s.bind('s'); s.listen(1)"][name]!
        return ["/usr/bin/python3", "-c", "import socket, os, time; here = os.getcwd(); d = '\(folder)'; s = socket.socket(socket.AF_UNIX); \(bind); open(here + '/ready', 'w')\nwhile not os.path.exists(here + '/go'): time.sleep(0.01)\nprint('ok')"]
    }
    private func bindAndEnd(_ path: String, as user: String) throws {
        let result = try run(["/usr/bin/setpriv", "--reuid", user, "--regid", user, "--init-groups", "/usr/bin/python3", "-c", "import socket; socket.socket(socket.AF_UNIX).bind('\(path)')"], in: "/", environment: [:])
        if result.status != .exited(0) { throw Failure("\(result)") }
    }
    private func inode(_ path: String) -> UInt64 { var st = stat(); return lstat(path, &st) == 0 ? UInt64(st.st_ino) : 0 }

    @Test(.enabled(if: User.available == [.root, .ckptuser]), arguments: ["s", "m"]) func `root's restart leaves another user's socket where it is`(name: String) {
        scenario("unix-foreign-\(name)", as: .root) { s in
            let folder = s.path("shared"), path = folder + "/" + name
            mkdir(folder, 0o777); chmod(folder, 0o1777)
            try s.start(program(name, in: folder))
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            unlink(path)
            try bindAndEnd(path, as: "ckptuser")
            let before = inode(path)
            try s.restart()
            try s.expect(.exited(71))
            if !s.restartErrors.contains("another user's file has its place, \(path)") { throw Failure(s.restartErrors) }
            if before == 0 || inode(path) != before { throw Failure("it is another file") }
            unlink(path)
            s.go()
            try s.restart()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(.enabled(if: User.available == [.root, .ckptuser]), arguments: ["s", "m", "relative"]) func `a link in place of a user's folder leads root nowhere`(name: String) {
        scenario("unix-exchanged-\(name)", as: .ckptuser) { s in
            let folder = s.path("d"), victim = s.path("victim"), file = victim + "/" + (name == "m" ? "m" : "s"), user = getpwnam("ckptuser")!.pointee
            mkdir(folder, 0o755); chown(folder, user.pw_uid, user.pw_gid)
            mkdir(victim, 0o755)
            try s.start(program(name, in: folder))
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            try bindAndEnd(file, as: "root")
            let before = inode(file)
            rename(folder, folder + "0"); symlink(victim, folder)
            func restart() throws { s.pid = try Children.spawn([s.statefile], environment: s.environment, folder: s.folder, output: s.path("restart-1.out"), errors: s.path("restart-1.err")) }
            try restart()
            try s.expect(.exited(71))
            let errors = read(s.path("restart-1.err"))
            if !errors.contains("restart it as that user") { throw Failure(errors) }
            let files = try FileManager.default.contentsOfDirectory(atPath: victim)
            if files.count != 1 || before == 0 || inode(file) != before { throw Failure("\(files) \(inode(file)), was \(before)") }
            // An honest folder is one, whoever runs the restart.
            unlink(folder); rename(folder + "0", folder)
            s.go()
            try restart()
            try s.expect(.exited(0))
            var st = stat()
            if lstat(folder + (name == "m" ? "/m" : "/s"), &st) != 0 || st.st_uid != user.pw_uid || st.st_gid != user.pw_gid { throw Failure("\(st.st_uid) \(st.st_gid)") }
        }
    }

    @Test(.enabled(if: User.available == [.root, .ckptuser])) func `a user's socket is not connected to what only root may write to`() {
        scenario("unix-led", as: .ckptuser) { s in
            let folder = s.path("d"), victim = s.path("victim"), user = getpwnam("ckptuser")!.pointee
            mkdir(folder, 0o755); chown(folder, user.pw_uid, user.pw_gid)
            mkdir(victim, 0o755)
            func serve(_ path: String, _ mode: String) throws -> pid_t {
                let pid = try Children.spawn(["/usr/bin/python3", "-c", "import socket, os, time; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind('\(path)'); os.chmod('\(path)', \(mode)); time.sleep(100)"], environment: [:], folder: "/", output: s.path("server"), errors: s.path("server"))
                var st = stat()
                if !eventually(10, { lstat(path, &st) == 0 && "0o" + String(st.st_mode & 0o7777, radix: 8) == mode }) { throw Failure("no server at \(path)") }
                return pid
            }
            func end(_ server: pid_t) { kill(server, SIGKILL); _ = Children.wait(server, limit: 10) }
            func restart() throws { s.pid = try Children.spawn([s.statefile, "--files", "truncate"], environment: s.environment, folder: s.folder, output: s.path("restart-1.out"), errors: s.path("restart-1.err")) }
            var server = try serve(folder + "/out", "0o666")
            defer { end(server) }
            try s.start(["/usr/bin/python3", "-c", "import socket, os, time; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect('\(folder)/out'); open('ready', 'w')\nwhile not os.path.exists('go'): time.sleep(0.01)\ns.send(b'x'); print('ok')"])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            s.go()
            try restart()
            try s.expect(.exited(0))
            end(server)
            server = try serve(victim + "/out", "0o600")
            rename(folder, folder + "0"); symlink(victim, folder)
            try restart()
            try s.expect(.exited(71))
            if !read(s.path("restart-1.err")).contains("restart it as that user") { throw Failure(read(s.path("restart-1.err"))) }
        }
    }

    @Test func `files of sockets keep their mode and group in folders that give others`() {
        feature("unix-attributes")
        guard User.available == [.root, .ckptuser] else { return }
        scenario("root-unix-attributes", as: .ckptuser) { s in
            try s.start([try s.installation.program("unix-attributes")])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            s.pid = try Children.spawn([s.statefile], environment: s.environment, folder: s.folder, output: s.path("restart-1.out"), errors: s.path("restart-1.err"))
            s.go()
            try s.expect(.exited(0))
        }
    }

    @Test func `a restart that is ended while files wait to be moved leaves no folders`() {
        for user in User.available {
            scenario("unix-given-up", as: user) { s in
                let count = 300
                try s.start(["/usr/bin/python3", "-c", "import socket, os, time; d = os.getcwd(); os.mkdir('d'); all = [socket.socket(socket.AF_UNIX) for _ in range(\(count))]\nfor i, s in enumerate(all): s.bind(d + '/d/t'); s.listen(1); os.rename('d/t', 'd/%d' % i)\nopen('ready', 'w'); time.sleep(100)"])
                try s.waitUntilReady()
                try s.checkpoint(kill: true)
                func hidden() -> [String] { ((try? FileManager.default.contentsOfDirectory(atPath: s.path("d"))) ?? []).filter { $0.hasPrefix(".ckpt-") } }
                for _ in 0 ..< 3 {
                    try s.restart(["--pids", "ns"])
                    let seen = eventually(10) { !hidden().isEmpty }
                    kill(s.pid, SIGTERM)
                    _ = try s.wait(limit: 20)
                    if !seen { throw Failure("there were none") }
                    if !hidden().isEmpty { throw Failure("\(hidden().count) are left") }
                }
            }
        }
    }
}
