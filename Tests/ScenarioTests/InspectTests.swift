// `ckptctl inspect`, and the report of a refusal: what they say is compared with what the program has.
import Foundation
import Glibc
import Testing

@Suite struct InspectTests {
    @Test func `inspect shows descriptors, locks, mappings, signals, timers and limits as they were`() {
        scenario("inspect") { s in
            try s.start([try s.installation.program("inspect-me")])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            let facts = Dictionary(uniqueKeysWithValues: read(s.path("facts")).split(separator: "\n").compactMap { line -> (String, String)? in
                let parts = line.split(separator: " ", maxSplits: 1)
                return parts.count == 2 ? (String(parts[0]), String(parts[1])) : nil
            })
            func fact(_ name: String) throws -> String { try #require(facts[name], "\(facts)") }
            let text = try s.ckptctl(["inspect", s.statefile])
            guard text.status == .exited(0) else { throw Failure("\(text.status) \(text.errors)") }
            for line in ["pid \(try fact("pid")) 'inspect-me'", "pid \(try fact("child")) ", "SIGUSR1: handler 0x\(try fact("handler"))", "SIGHUP: ignored", "pending for the process: SIGUSR2",
                         "blocks SIGUSR2", "every 7.5 s", "uid ", s.path("read-me"), "descriptors\n", "mappings\n", "limits\n"] where !text.text.contains(line) {
                throw Failure("no '\(line)' in \(text.text)")
            }
            let json = try s.ckptctl(["inspect", s.statefile, "--json", "--pid", try fact("pid")])
            let root = try #require(try JSONSerialization.jsonObject(with: Data(json.text.utf8)) as? [String: Any])
            let processes = try #require(root["processes"] as? [[String: Any]])
            guard processes.count == 1, processes[0]["pid"] as? Int == Int(try fact("pid")) else { throw Failure(json.text) }
            let descriptors = try #require(processes[0]["descriptors"] as? [[String: Any]])
            let file = try #require(descriptors.first { $0["fd"] as? Int == Int(facts["fd"] ?? "") })
            guard file["kind"] as? String == "file", file["offset"] as? Int == 5, file["flags"] as? [String] == ["RDWR", "APPEND", "CLOEXEC"],
                  (file["detail"] as? String)?.hasPrefix(s.path("read-me")) == true else { throw Failure("\(file)") }
            let pipe = try #require(descriptors.first { $0["fd"] as? Int == Int(facts["pipe"] ?? "") })
            guard pipe["kind"] as? String == "pipe", (pipe["detail"] as? String)?.contains("3 B unread") == true, pipe["users"] as? Int == 2 else { throw Failure("\(pipe)") }
            let locks = try #require(processes[0]["locks"] as? [[String: Any]])
            guard locks.count == 1, locks[0]["kind"] as? String == "fcntl", locks[0]["type"] as? String == "write", locks[0]["range"] as? String == "10 to 14" else { throw Failure("\(locks)") }
            let mappings = try #require(processes[0]["mappings"] as? [[String: Any]])
            let memory = try #require(mappings.first { $0["start"] as? UInt64 == UInt64(facts["memory"] ?? "", radix: 16) })
            guard memory["protection"] as? String == "rw-", memory["stored"] as? Int == 8192, memory["kind"] as? String == "private" else { throw Failure("\(memory)") }
            let limits = try #require(processes[0]["limits"] as? [String: [String: String]])
            guard limits["CORE"]?["soft"] == "4096" else { throw Failure("\(limits)") }
        }
    }

    @Test(arguments: [("events-epoll", ["epoll", "watches ", "signalfd", "SIGUSR1", "timerfd", " s left", "eventfd", "count "]), ("events-inotify", ["inotify", "watches ", "/watched"]), ("events-pidfd", ["pidfd", "of process ", "that has ended"]),
                      ("unix-names", ["stream unix", "listening"]), ("tcp-connected", ["stream inet", "connected", "peer "])])
    func `inspect names kinds and peers of event descriptors and sockets`(program: String, words: [String]) {
        scenario("inspect-\(program)") { s in
            try s.start([try s.installation.program(program)])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            let text = try s.ckptctl(["inspect", s.statefile])
            for word in words where !text.text.contains(word) { throw Failure("no '\(word)' in \(text.text) \(text.errors)") }
            try s.restart()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `a refusal lists all that stands in the way, for people and for programs`() {
        scenario("refuse-all") { s in
            try s.start([try s.installation.program("refuse-all")])
            try s.waitUntilReady()
            let held = read(s.path("held")).split(separator: " ").compactMap { Int($0) }
            s.generation = 1
            let result = try s.ckptctl(["checkpoint", s.tag, "-o", s.statefile, "--json"])
            let lines = result.errors.split(separator: "\n")
            guard result.status == .exited(77), held.count == 4 else { throw Failure("\(result.status) \(result.errors) \(held)") }
            for (pid, fd, word) in [(held[0], held[1], "outside the tree"), (held[0], held[2], "close it"), (held[3], held[1], "outside the tree"), (held[3], -1, "thread keyring")] {
                guard lines.contains(where: { $0.contains("pid \(pid):") && (fd < 0 || $0.contains("fd \(fd):")) && $0.lowercased().contains(word) }) else {
                    throw Failure("nothing of pid \(pid) fd \(fd) \(word): \(result.errors)")
                }
            }
            let root = try #require(try JSONSerialization.jsonObject(with: Data(result.text.utf8)) as? [String: Any])
            let problems = try #require(root["problems"] as? [[String: Any]])
            guard problems.count == lines.count, root["status"] as? Int == 77, problems.contains(where: { $0["pid"] as? Int == held[0] && $0["fd"] as? Int == held[1] && $0["remedy"] is String }) else {
                throw Failure(result.text)
            }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `a thousand descriptors that look alike are told apart`() { feature("descriptors-alike") }
}
