// Servers through the oracle: with their clients in the tree, and with one outside, who has been promised something.
import Foundation
import Glibc
import Testing

extension Subject {
    private static func python(_ name: String, _ file: String, _ arguments: String...) -> Subject {
        Subject(name: name) { ["/usr/bin/python3", "-B", try copied(file)] + arguments }
    }
    static let servers: [Subject] = [
        python("manager", "manager.py", "12000"),
        python("asyncio", "asynchronous.py", "1500"),
        python("redis", "redis.py", "15000", "no"),
        python("redis-append", "redis.py", "700", "always"),
        python("nginx-reload", "reloads.py", "1000"),
        // Process 1 of a pid namespace with a /proc of its own.
        Subject(name: "container") {
            ["/bin/sh", "-c", "[ $(id -u) = 0 ] || users='--user --map-root-user'; exec unshare $users --pid --fork --mount-proc /usr/bin/python3 -B \(try copied("manager.py")) 6000"]
        },
    ]
}

/// Beside the other programs: one after the other they would take longer than all other tests together.
@Suite(.serialized) struct ServerOracleTests {
    @Test(arguments: Subject.servers) func `servers and their clients print and write what they do undisturbed`(subject: Subject) {
        for user in User.available { #expect(oracle(subject, as: user, count: soak ? 60 : 20) >= 10) }
    }

    /// Its connection is reset, or goes on where that is permitted.
    @Test func `a client outside of the tree loses no write that a redis-server has acknowledged`() {
        for (user, checkpoint, isKept) in [(User.current, [], geteuid() == 0)] + User.available.map { ($0, ["--tcp", "reset"], false) } {
            scenario("redis-outside", as: user) { s in
                let port = try freePort(), client = try Subject.copied("counting-client.py")
                try s.start(["/bin/bash", "-c", "exec -a redis-server /usr/bin/redis-check-rdb --port \(port) --bind 127.0.0.1 --save '' --logfile /dev/null"])
                let counting = try Children.spawn(["/usr/bin/python3", client, "\(port)"], environment: s.environment, folder: s.folder, output: s.path("client.out"), errors: s.path("client.err"))
                defer { kill(counting, SIGKILL); _ = Children.wait(counting, limit: 5) }
                var instants = Instants("redis-outside" + user.rawValue)
                for k in 1 ... 7 {
                    usleep(.random(in: 0 ..< 300_000, using: &instants))
                    try s.checkpoint(kill: true, options: checkpoint)
                    // Who has been told that its request has arrived does not ask again.
                    if isKept { usleep(.random(in: 0 ..< 900_000, using: &instants)) }
                    try s.restart()
                    // On a busy machine it may not have noticed before the next one.
                    if !isKept && !eventually(30, { read(s.path("breaks")) == "\(k)" }) { throw Failure("the client noticed no break \(k): \(read(s.path("client.err")))") }
                }
                usleep(200_000)
                FileManager.default.createFile(atPath: s.path("enough"), contents: nil)
                let status = Children.wait(counting, limit: 60), said = read(s.path("client.out"))
                if status != .exited(0) || said != "counted enough in spite of \(isKept ? 0 : 7) breaks\n" {
                    throw Failure("the client: \(status.map(String.init(describing:)) ?? "hangs") \(said) \(read(s.path("client.err"))) (CKPT_SEED=\(Instants.seed))")
                }
                try s.expect(.exited(0))
            }
        }
    }

    private func freePort() throws -> UInt16 {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(fd) }
        var address = sockaddr_in(sin_family: sa_family_t(AF_INET), sin_port: 0, sin_addr: in_addr(s_addr: UInt32(0x7f000001).bigEndian), sin_zero: (0, 0, 0, 0, 0, 0, 0, 0))
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(fd, $0, size) == 0 && getsockname(fd, $0, &size) == 0 } }
        if !bound { throw Failure("no port") }
        return UInt16(bigEndian: address.sin_port)
    }
}
