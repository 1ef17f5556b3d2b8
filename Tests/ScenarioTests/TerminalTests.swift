// Pseudo-terminals of the tree, and the terminal that the tree was started on.
import Foundation
import Glibc
import HarnessC
import Testing

@Suite struct TerminalTests {
    @Test func `what is unread in a pseudo-terminal stays unread, and is read as it was typed`() { feature("terminals-unread") }
    @Test func `much that is unread in a pseudo-terminal, up to a full one, stays unread in both directions`() { feature("terminals-large") }
    @Test func `a pseudo-terminal keeps its settings, stops, modes, ends and names`() { feature("terminals-state") }
    @Test func `terminal sessions on pseudo-terminals keep their leaders, foreground groups and those who gave them up`() { feature("terminals-session") }
    @Test(arguments: ["terminals-unread", "terminals-state", "terminals-session"]) func `pseudo-terminals come back in a pid namespace of their own`(program: String) {
        feature(program, treatments: [.twice], users: [.current], pids: ["ns"])
    }

    @Test(arguments: ["terminals-unread", "terminals-large"]) func `an initiator that dies while a terminal is empty leaves it as it was`(program: String) {
        for user in User.available {
            scenario("terminals-dead-initiator", as: user) { s in
                try s.start([try s.installation.program(program)])
                try s.waitUntilReady()
                for signal in [SIGINT, SIGKILL] {
                    try s.endInitiator(at: "terminals", by: signal)
                }
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    /// Ends the program that runs as a shell's job, and its session.
    private func endJob(_ s: Scenario) throws {
        try s.waitUntilReady()
        s.generation += 1
        let result = try s.ckptctl(["checkpoint", s.tag, "-o", s.statefile, "--kill"])
        if result.status != .exited(0) { throw Failure("checkpoint: \(result.status) \(result.errors)") }
    }

    /// root keeps the pids, with --pids ns it does not; a user gets a namespace anyway.
    private static let ways: [(user: User, options: String)] = User.available.flatMap { u in u == .root ? [(u, ""), (u, " --pids ns")] : [(u, "")] }

    @Test func `a job comes back on another terminal, with its settings and the job control of the new shell`() {
        for (user, options) in Self.ways {
            scenario("own-terminal", as: user) { s in
                let program = try s.installation.program("own-terminal")
                let first = try UserTerminal(rows: 24, columns: 80, for: user)
                try s.startShell(on: first)
                first.type("\(s.installation.ckrun) --name \(s.tag) -- \(program)\n")
                try endJob(s)
                first.type("\necho ENDED-$((4 + 4))\n")
                try first.await("ENDED-8")
                first.type("exit\n")
                _ = Children.wait(s.pid, limit: 10)
                let second = try UserTerminal(rows: 31, columns: 99, for: user)
                try s.startShell(on: second)
                second.type("\(s.statefile)\(options)\n")
                s.go()
                try second.await("RESULT-good 31x99")
                second.type("x")
                try second.await("READ-x")
                second.type("\u{1a}")
                try second.await("Stopped")
                second.type("echo SHELL-$((6 * 7))\n")
                try second.await("SHELL-42")
                second.type("bg\n")
                guard eventually(10, { access(s.path("continued-background"), F_OK) == 0 }) else { throw Failure("not continued by bg: \(second.screen)") }
                // A running job is not told that it has the foreground: it finds out when it reads.
                try bringToForeground(second, typing: "y")
                second.type("\u{1a}")
                try second.await("Stopped")
                second.type("fg\n")
                try second.await("CONTINUED-foreground")
                second.type("\u{03}")
                try second.await("INTERRUPT-seen")
                second.type("q")
                try second.await("READ-q")
                second.type("echo STATUS-$?\n")
                try second.await("STATUS-3")
                second.type("exit\n")
                try s.expect(.exited(0))
            }
        }
    }

    /// The program looks for input all the time.  When it reads "fg" itself before the shell does, it is stopped for that, as any program is: once more.
    private func bringToForeground(_ terminal: UserTerminal, typing key: String) throws {
        for attempt in 1 ... 5 {
            terminal.type("fg\n")
            usleep(300_000)
            terminal.type("\(key)\n")
            do { try terminal.await("READ-\(key)", limit: 4); return } catch where attempt < 5 { continue }
        }
    }

    @Test func `a restart in the background comes to the foreground on demand`() {
        for (user, options) in Self.ways {
            scenario("own-terminal-background", as: user) { s in
                let program = try s.installation.program("own-terminal"), terminal = try UserTerminal(rows: 24, columns: 80, for: user)
                try s.startShell(on: terminal)
                terminal.type("\(s.installation.ckrun) --name \(s.tag) -- \(program) &\n")
                try endJob(s)
                terminal.type("\necho ENDED-$((4 + 4))\n")
                try terminal.await("ENDED-8")
                terminal.type("\(s.statefile)\(options) &\n")
                s.go()
                try terminal.await("RESULT-good 24x80")
                try bringToForeground(terminal, typing: "q")
                terminal.type("echo STATUS-$?\n")
                try terminal.await("STATUS-3")
                terminal.type("exit\n")
                try s.expect(.exited(0))
            }
        }
    }

    @Test func `a program that leads the session of its terminal leads that of a new one`() {
        for (user, options) in Self.ways {
            scenario("own-terminal-leader", as: user) { s in
                let program = try s.installation.program("own-terminal")
                let first = try UserTerminal(rows: 24, columns: 80, for: user), second = try UserTerminal(rows: 25, columns: 81, for: user)
                try s.start([s.installation.ckrun, "--name", s.tag, "--", program, "leads"], on: first)
                try endJob(s)
                _ = Children.wait(s.pid, limit: 10)
                try s.start([s.statefile] + options.split(separator: " ").map(String.init), on: second)
                s.go()
                try second.await("RESULT-good 25x81")
                second.type("\u{03}")
                try second.await("INTERRUPT-seen")
                second.type("q")
                try s.expect(.exited(3))
            }
        }
    }
}
