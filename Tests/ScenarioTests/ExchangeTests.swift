// Another user may put something else where a restart, above all root's, finds what belongs to mounts of a part by its path.
import Foundation
import Glibc
import Testing

@Suite(.enabled(if: getuid() == 0)) struct ExchangeTests {
    private let other: uid_t = 65533

    /// A place that all may reach; it is root's.
    private func withPlace(_ body: (String) -> Void) {
        let place = "/var/tmp/ckpt-exchange-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        mkdir(place, 0o755)
        defer { try? FileManager.default.removeItem(atPath: place) }
        body(place)
    }
    /// Ended, exchanged, refused with all of `words`; put back, it goes on.
    private func expectRefusal(_ s: Scenario, _ words: [String], exchange: () throws -> Void, putBack: () throws -> Void) throws {
        try s.checkpoint(kill: true)
        try exchange()
        try s.restart()
        let status = try s.wait()
        for part in words where status != .exited(71) || !s.restartErrors.contains(part) { throw Failure("no '\(part)': \(status): \(s.restartErrors)") }
        try putBack()
        try s.restart()
        s.go()
        try s.expect(.exited(0), output: "ok\n")
    }
    private func start(_ s: Scenario, _ kind: String, _ environment: [String: String]) throws {
        s.environment.merge(environment) { $1 }
        try s.start([try s.installation.program("refuse-mounts"), kind])
        try s.waitUntilReady()
    }

    @Test(arguments: ["absolute", "relative", "above", "link"]) func `root gives a socket of a part no name in a folder that another user may exchange`(kind: String) {
        withPlace { place in
            scenario("exchange-socket-\(kind)") { s in
                for name in ["folder", "folder/inner", "links", "deep"] { mkdir("\(place)/\(name)", 0o755) }
                // Only the last folder of a way along two links is as it should be.
                symlink("\(place)/links/two", "\(place)/one")
                symlink("\(place)/deep", "\(place)/links/two")
                let folder = kind == "above" ? "\(place)/folder/inner" : "\(place)/folder"
                let name = ["absolute": "\(folder)/s", "link": "\(place)/one/s"][kind] ?? "s"
                try start(s, "socket", ["PLACE": folder, "NAME": name])
                let exchanged = kind == "link" ? "\(place)/links" : "\(place)/folder"
                try expectRefusal(s, [kind == "absolute" || kind == "link" ? name : folder, "another user may exchange a folder"]) { chown(exchanged, other, other) } putBack: { chown(exchanged, 0, 0) }
            }
        }
    }

    @Test(.enabled(if: User.available.contains { $0.isOther })) func `root's restart of a user's tree watches nothing that the user may not`() throws {
        let user = try #require(User.available.first { $0.isOther })
        withPlace { place in
            scenario("exchange-watch", as: user) { s in
                let owner = getpwnam(user.rawValue).pointee.pw_uid, his = place + "/his", secret = place + "/secret"
                for folder in [his, his + "/p", his + "/p/inner"] { mkdir(folder, 0o755); chown(folder, owner, owner) }
                for folder in [secret, secret + "/inner"] { mkdir(folder, 0o700) }
                try s.start([try s.installation.program("events-far"), his + "/p/inner"])
                try s.waitUntilReady()
                try s.checkpoint(kill: true)
                rename(his + "/p", his + "/q")
                symlink(secret, his + "/p")
                s.go()
                let result = try run([s.statefile], in: s.folder, environment: s.environment)
                if result.status == .exited(0) || !result.errors.contains("inotify queue: watch on \(his)/p/inner") || !result.errors.contains("permission denied") { throw Failure("\(result)") }
                unlink(his + "/p")
                rename(his + "/q", his + "/p")
                try s.restart()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    /// What could not be given its name again by root is told while the program still runs.
    @Test(arguments: [("socket", "another user may exchange a folder of its path"), ("bind", "which it shows, or a folder of that path")])
    func `what another user may exchange already is refused at the checkpoint`(kind: String, words: String) {
        withPlace { place in
            scenario("exchanged-\(kind)") { s in
                mkdir("\(place)/folder", 0o755); mkdir("\(place)/folder/inner", 0o755)
                chown("\(place)/folder", other, other)
                try start(s, kind, ["PLACE": "\(place)/folder/inner", "NAME": "s"])
                try s.expectRefusal(["checkpoint", s.tag, "-o", s.path("x.ckpt")], 77, words)
                chown("\(place)/folder", 0, 0)
                try s.checkpoint(kill: true)
                try s.restart()
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    @Test(arguments: User.available, ["folder", "file"]) func `what is bound in a part is his whose it was`(user: User, kind: String) {
        withPlace { place in
            scenario("exchange-bind-\(kind)-\(user)", as: user) { s in
                let source = "\(place)/source"
                func make(_ owner: uid_t) {
                    try? FileManager.default.removeItem(atPath: source)
                    if kind == "file" { FileManager.default.createFile(atPath: source, contents: nil) } else { mkdir(source, 0o755) }
                    chown(source, owner, owner)
                }
                let owner = user.isOther ? getpwnam(user.rawValue).pointee.pw_uid : 0
                chmod(place, 0o1777)
                make(owner)
                try start(s, "bind", ["PLACE": source])
                // As root, whoever owns it may also remove it.
                try expectRefusal(s, [source] + (user == .root ? ["another user may exchange it"] : ["belongs to user"])) { make(other) } putBack: { make(owner) }
                chmod(place, 0o755)
            }
        }
    }
    @Test func `root binds nothing that has been given to another user`() {
        withPlace { place in
            scenario("exchange-bind-owner") { s in
                let source = place + "/source"
                mkdir(source, 0o755)
                try start(s, "bind", ["PLACE": source])
                try expectRefusal(s, [source, "belongs to user 65533, at the checkpoint to user 0"]) { chown(source, other, other) } putBack: { chown(source, 0, 0) }
            }
        }
    }
    @Test func `root binds nothing from a folder that another user may exchange, but what is his anyway`() {
        withPlace { place in
            scenario("exchange-bind-path") { s in
                let source = place + "/inner/source"
                mkdir(place + "/inner", 0o755); mkdir(source, 0o755)
                try start(s, "bind", ["PLACE": source])
                try expectRefusal(s, [source, "another user may exchange it, or a folder of its path"]) { chown(place + "/inner", other, other) } putBack: { chown(place + "/inner", 0, 0) }
            }
            scenario("exchange-bind-his") { s in
                let his = place + "/his", source = his + "/source"
                mkdir(his, 0o755); mkdir(source, 0o755); chown(his, other, other); chown(source, other, other)
                try start(s, "bind", ["PLACE": source])
                try s.checkpoint(kill: true)
                try s.restart()
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    @Test(arguments: [("detached", "mount it again"), ("detached-path", "another user may exchange")])
    func `what was mounted outside is not merely a folder of that name`(kind: String, words: String) {
        withPlace { place in
            scenario("exchange-mounted-\(kind)") { s in
                let point = place + "/folder/mounted"
                mkdir(place + "/folder", 0o755); mkdir(point, 0o755)
                s.environment["PLACE"] = point
                // The mount outside is in a namespace of the shell's.
                func outside(_ mounts: Bool, _ argv: [String]) -> [String] {
                    ["/usr/bin/unshare", "--mount", "--propagation", "shared", "/bin/sh", "-c", (mounts ? "mount -t tmpfs outside $PLACE && " : "") + "\"$@\"; exit $?", "sh"] + argv
                }
                let program = [try s.installation.program("refuse-mounts"), "detached"]
                try s.start(outside(true, [s.installation.ckrun, "--name", s.tag, "--"] + program), ckrun: false)
                try s.waitUntilReady()
                s.generation = 1
                let result = try run(["/usr/bin/nsenter", "--mount", "--target", "\(s.pid)", s.installation.ckptctl, "checkpoint", s.tag, "-o", s.statefile, "--kill"], in: s.folder, environment: s.environment)
                if result.status != .exited(0) { throw Failure(result.errors) }
                _ = try s.wait()
                func restart(_ mounts: Bool) throws { s.pid = try s.spawn(outside(mounts, [s.statefile, "--pids", "keep", "--files", "keep"]), output: "restart-1.out", errors: "restart-1.err") }
                let isPath = kind == "detached-path"
                if isPath { chown(place + "/folder", other, other) }
                try restart(isPath)
                let status = try s.wait()
                for part in [point, words] where status != .exited(71) || !s.restartErrors.contains(part) { throw Failure("no '\(part)': \(status): \(s.restartErrors)") }
                chown(place + "/folder", 0, 0)
                try restart(true)
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }
}
