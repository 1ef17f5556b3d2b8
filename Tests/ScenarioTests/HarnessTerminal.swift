// A terminal as a user has one: a pseudo-terminal whose master is the test's, with a program that leads a session on the slave.
import Foundation
import Glibc
import HarnessC

final class UserTerminal {
    let master: Int32
    let path: String
    private(set) var screen = ""
    private var seen = 0

    init(rows: Int32, columns: Int32, for user: User) throws {
        master = harness_open_terminal(rows, columns)
        if master < 0 { throw Failure("no pseudo-terminal: \(String(cString: strerror(errno)))") }
        path = String(cString: harness_terminal_name(master))
        if user.isOther, let entry = getpwnam(user.rawValue) { chown(path, entry.pointee.pw_uid, entry.pointee.pw_gid) }
    }
    deinit { Glibc.close(master) }

    func type(_ text: String) {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let n = bytes.withUnsafeBytes { Glibc.write(master, $0.baseAddress, $0.count) }
            if n <= 0 { return }
            bytes = bytes.dropFirst(n)
        }
    }

    /// Reads until the text after what was awaited last holds `words`.
    func await(_ words: String, limit: Double = 20) throws {
        let found = eventually(limit) {
            readMore()
            guard let range = screen.dropFirst(seen).range(of: words) else { return false }
            seen = screen.distance(from: screen.startIndex, to: range.upperBound)
            return true
        }
        if !found { throw Failure("the terminal does not show \"\(words)\" but: \(screen.suffix(1500))") }
    }

    private func readMore() {
        var p = pollfd(fd: master, events: Int16(POLLIN), revents: 0)
        while poll(&p, 1, 0) > 0, p.revents & Int16(POLLIN) != 0 {
            var bytes = [UInt8](repeating: 0, count: 4096)
            let n = Glibc.read(master, &bytes, 4096)
            if n <= 0 { return }
            // A carriage return and a newline are one Character.
            screen += String(decoding: bytes.prefix(n).filter { $0 != 13 }, as: UTF8.self)
        }
    }
}

extension Scenario {
    /// Starts a program as the leader of a session on `terminal`.
    func start(_ argv: [String], on terminal: UserTerminal) throws {
        let end = open(terminal.path, O_RDWR | O_NOCTTY | O_CLOEXEC)
        defer { Glibc.close(end) }
        pid = try spawn(argv, output: "unused", errors: "unused", input: terminal.path, inputFlags: O_RDWR, descriptors: [1: end, 2: end], ownSession: true)
    }
    /// A shell that does not read anybody's settings.
    func startShell(on terminal: UserTerminal) throws {
        try start(["/bin/bash", "--norc", "--noprofile", "-i"], on: terminal)
        terminal.type("PS1='$ '; echo SHELL-$((40 + 2))\n")
        try terminal.await("SHELL-42")
    }
}
