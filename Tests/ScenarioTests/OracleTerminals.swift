// Interactive programs through the oracle: who uses them is in the tree too, at the other end of a pseudo-terminal.
import Foundation
import Testing

extension Subject {
    /// A user of Tests/Oracle, who has a Terminal.
    private static func user(_ name: String, _ file: String, _ arguments: String...) -> Subject {
        Subject(name: name) {
            _ = try copied("terminal.py")
            return ["/usr/bin/python3", "-B", try copied(file)] + arguments
        }
    }
    static let interactive: [Subject] = [
        user("jobs", "jobs.py", "160"),
        user("vim", "edit.py", "700"),
        user("tmux", "panes.py", "500"),
    ]
    static let signalled: [Subject] = [user("interrupts", "interrupts.py", "400"), compiled("oneshots", "oneshots.c", ["-lrt"], "500")]
}

extension OracleTests {
    @Test(arguments: Subject.interactive) func `an interactive program shows and writes what it does undisturbed`(subject: Subject) {
        for user in User.available { #expect(oracle(subject, as: user, count: soak ? 60 : 20) >= 10) }
    }
    @Test(arguments: Subject.signalled) func `signals of timers and terminals are neither lost nor doubled`(subject: Subject) {
        for user in User.available { #expect(oracle(subject, as: user, count: soak ? 60 : 20) >= 10) }
    }
}
