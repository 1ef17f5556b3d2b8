// The oracle on programs that live in an event loop.
import Foundation
import Testing

extension Subject {
    static let eventLoops: [Subject] = [
        script("node", "events.js", by: "/usr/bin/node", "1500"),
        script("nginx", "nginx.py", by: "/usr/bin/python3", "5000"),
    ]
}

extension ServerOracleTests {
    @Test(arguments: Subject.eventLoops) func `an event loop goes on byte for byte`(subject: Subject) {
        for user in User.available { #expect(oracle(subject, as: user, count: soak ? 60 : 20) >= 10) }
    }
}
