// TCP, UDP and netlink sockets: names, queues, options; connections in the tree, and out of it.
import Foundation
import Glibc
import HarnessC
import Testing

@Suite struct InternetSocketTests {
    @Test(arguments: ["4", "6"]) func `listening sockets keep address, port, backlog and options`(version: String) { feature("tcp-listen", [version]) }
    @Test(arguments: ["4", "6"]) func `connections in the tree keep names, data in flight, half-closed ends and options`(version: String) { feature("tcp-connected", [version]) }
    @Test func `connections between IPv4 and IPv6 sockets keep both names and what is in flight`() { feature("tcp-mixed") }
    /// Once in each tree: Linux shows a message of no bytes to one look.
    @Test(arguments: ["4", "6"]) func `datagrams of no bytes are kept`(version: String) { feature("udp-empty", [version]) }
    @Test(arguments: ["4", "6"]) func `full queues lose and double nothing`(version: String) { feature("tcp-full", [version]) }
    @Test(arguments: ["4", "6"]) func `connections that are over tell their last data and their error once`(version: String) { feature("tcp-ended", [version]) }
    @Test(arguments: ["4", "6"]) func `a connection comes back at once though one that has ended holds its server's port`(version: String) { feature("tcp-held", [version], users: User.available.filter { $0 == .root }) }
    @Test(arguments: ["4", "6"]) func `connections not yet accepted come in their order, and connecting goes on`(version: String) { feature("tcp-pending", [version]) }
    @Test(arguments: ["4", "6"]) func `UDP sockets keep names, peers, groups and unread datagrams with their senders`(version: String) { feature("udp-sockets", [version]) }
    @Test func `an idle netlink socket keeps number and groups`() { feature("netlink-idle") }

    /// What the kernel keeps of a server's connections (TIME_WAIT) does not keep it from coming back at once.
    @Test(arguments: ["4", "6"]) func `a server that was killed gets its port again`(version: String) { killed([version, "reuse"], limit: 20) }
    /// Where it had not set SO_REUSEADDR the kernel keeps it for a minute.
    @Test(.enabled(if: soak)) func `a server without SO_REUSEADDR gets its port again, and waits for that`() { killed(["4"], limit: 100) }

    private func killed(_ arguments: [String], limit: Double) {
        for user in User.available {
            scenario("tcp-timewait", as: user) { s in
                try s.start([try s.installation.program("tcp-timewait")] + arguments)
                try s.waitUntilReady()
                try s.checkpoint()
                kill(s.pid, SIGKILL)
                if try s.wait() != .killed(SIGKILL) { throw Failure("it was not killed") }
                try s.restart()
                s.go()
                try s.expect(.exited(0), output: "ok\n", limit: limit)
            }
        }
    }

    // MARK: connections to the outside

    /// A server outside of the tree: answers each byte with twelve.
    private func withServer(_ body: (UInt16) throws -> Void) throws {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        defer { close(listener) }
        var address = sockaddr_in(sin_family: sa_family_t(AF_INET), sin_port: 0, sin_addr: in_addr(s_addr: UInt32(0x7f000001).bigEndian), sin_zero: (0, 0, 0, 0, 0, 0, 0, 0))
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(listener, $0, size) == 0 && listen(listener, 8) == 0 && getsockname(listener, $0, &size) == 0 } }
        if !bound { throw Failure("no listener") }
        let thread = Thread {
            while true {
                let fd = accept(listener, nil, nil)
                if fd < 0 { break }
                _ = fcntl(fd, F_SETFD, FD_CLOEXEC)
                Thread {
                    var byte: UInt8 = 0
                    while Glibc.read(fd, &byte, 1) == 1 { _ = send(fd, "hello client", 12, Int32(MSG_NOSIGNAL)) }
                    close(fd)
                }.start()
            }
        }
        thread.start()
        defer { shutdown(listener, Int32(SHUT_RDWR)) }
        try body(UInt16(bigEndian: address.sin_port))
    }

    private func outside(_ user: User, _ kind: String, checkpoint: [String] = [], restart: [String]) {
        scenario("tcp-\(kind)", as: user) { s in
            try withServer { port in
                try s.start([try s.installation.program("tcp-outside"), "\(port)", kind])
                try s.waitUntilReady()
                try s.checkpoint(kill: true, options: checkpoint)
                try s.restart(restart)
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    @Test func `a connection to the outside is reset where it is not repaired`() {
        for user in User.available { outside(user, "reset", restart: user.isOther ? [] : ["--tcp", "reset"]) }
        outside(.current, "reset", checkpoint: ["--tcp", "reset"], restart: [])
    }
    @Test func `a connection to the outside goes on with TCP_REPAIR`() {
        guard getuid() == 0 else { return }
        outside(.current, "repair", restart: [])
        outside(.current, "repair", checkpoint: ["--tcp", "repair"], restart: ["--tcp", "repair", "--pids", "ns"])
    }
    /// --kill keeps its packets out from when its queues are read.
    @Test func `a connection to the outside goes on when --kill comes to nothing`() {
        guard getuid() == 0 else { return }
        for signal in [SIGTERM, SIGKILL] {
            scenario("tcp-fence") { s in
                try withServer { port in
                    try s.start([try s.installation.program("tcp-outside"), "\(port)", "repair"])
                    try s.waitUntilReady()
                    try s.endInitiator(at: "memory", by: signal, options: ["--kill"])
                    s.go()
                    try s.expect(.exited(0), output: "ok\n")
                }
            }
        }
    }
    @Test func `a connection to the outside is refused on demand, at the checkpoint and at the restart`() {
        scenario("tcp-refuse") { s in
            try withServer { port in
                try s.start([try s.installation.program("tcp-outside"), "\(port)", "reset"])
                try s.waitUntilReady()
                s.generation = 1
                let refused = try s.ckptctl(["checkpoint", s.tag, "-o", s.statefile, "--tcp", "refuse"])
                if refused.status != .exited(77) || !refused.errors.contains("127.0.0.1:\(port)") { throw Failure("\(refused.status) \(refused.errors)") }
                s.generation = 0
                try s.checkpoint(kill: true, options: ["--tcp", "reset"])
                for mode in ["refuse", "repair"] {
                    try s.restart(["--tcp", mode])
                    let status = try s.wait(), complaint = read(s.path("restart-1.err"))
                    if status == .exited(0) || !complaint.contains("127.0.0.1:\(port)") || !complaint.contains("--tcp reset") { throw Failure("\(mode): \(status) \(complaint)") }
                }
                try s.restart([])
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }
}
