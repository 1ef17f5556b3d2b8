// Any process of a session's user may write into its shared memory at any moment.  Root's ckptctl takes the checkpoint or refuses it, whatever stands there.
import CkptABI
import Foundation
import Glibc
import Testing

@Suite(.enabled(if: User.available.contains { $0.isOther }), .serialized) struct SegmentTests {
    /// What a process of the user's writes, over and over: `always`, or only where there is something already.
    struct Scribble: Sendable { var offset: Int, size: Int, value: UInt64, always = false, count = 1, stride = 0
        var argument: String { "\(offset):\(size):\(value):\(always ? 1 : 0):\(count):\(stride)" }
    }
    struct Case: CustomTestStringConvertible, Sendable { let name: String, scribbles: [Scribble]
        var testDescription: String { name }
    }
    private static func session(_ field: PartialKeyPath<ckpt_session>) -> Int { MemoryLayout<ckpt_session>.offset(of: field)! }
    private static func process(_ field: PartialKeyPath<ckpt_process>) -> Int { Int(CKPT_OFFSET_PROCESSES) + MemoryLayout<ckpt_process>.offset(of: field)! }
    private static func task(_ field: PartialKeyPath<ckpt_task>) -> Int { Int(CKPT_OFFSET_TASKS) + MemoryLayout<ckpt_task>.offset(of: field)! }

    static let cases: [Case] = {
        let wild: UInt64 = 0x6000_0000, all = UInt64.max, lock = session(\.lock), pages = Int(MemoryLayout<ckpt_process>.size)
        return [
            Case(name: "where options are set back", scribbles: [Scribble(offset: session(\.undo_count), size: 4, value: 0, always: true), Scribble(offset: session(\.undo_offset), size: 8, value: wild)]),
            Case(name: "the lock", scribbles: [Scribble(offset: lock + 24, size: 8, value: 0x4141_4141_4140), Scribble(offset: lock + 32, size: 8, value: 0x4242_4242_4240)]),
            Case(name: "terminals", scribbles: [Scribble(offset: process(\.terminals_offset), size: 8, value: wild)]),
            Case(name: "owners", scribbles: [Scribble(offset: process(\.owners_count), size: 8, value: 1 << 40)]),
            Case(name: "policies", scribbles: [Scribble(offset: process(\.policies_count), size: 8, value: 1 << 62)]),
            Case(name: "timers and children", scribbles: [Scribble(offset: process(\.timers_offset), size: 8, value: wild), Scribble(offset: process(\.children_offset), size: 8, value: wild)]),
            Case(name: "questions", scribbles: [Scribble(offset: process(\.asks_offset), size: 8, value: wild)]),
            Case(name: "message queues", scribbles: [Scribble(offset: process(\.queues_offset), size: 8, value: wild)]),
            Case(name: "pending signals", scribbles: [Scribble(offset: task(\.pending_offset), size: 8, value: all - 7, always: true), Scribble(offset: task(\.pending_count), size: 4, value: 1, always: true)]),
            Case(name: "the arena's end", scribbles: [Scribble(offset: session(\.arena_used), size: 8, value: all - 15)]),
            Case(name: "a chain that comes back", scribbles: [Scribble(offset: process(\.runs), size: 8, value: 16 << 20, always: true)]),
            Case(name: "a chain that begins nowhere", scribbles: [Scribble(offset: process(\.runs), size: 8, value: all - 4095, always: true)]),
            Case(name: "the statefile's end", scribbles: [Scribble(offset: session(\.file_tail), size: 8, value: 1)]),
            Case(name: "what is done", scribbles: [Scribble(offset: process(\.bytes_done), size: 8, value: all, always: true), Scribble(offset: process(\.pages_kept), size: 8, value: all, always: true)]),
            Case(name: "how many there are", scribbles: [Scribble(offset: session(\.task_claims), size: 4, value: 0), Scribble(offset: session(\.checkpoints), size: 4, value: 0xffff_ffff, always: true)]),
            Case(name: "what they hold", scribbles: [Scribble(offset: session(\.process_claims), size: 4, value: UInt64(CKPT_MAX_PROCESSES), always: true),
                                                     Scribble(offset: process(\.pid) + pages, size: 4, value: 0x7fff_fff0, always: true, count: Int(CKPT_MAX_PROCESSES) - 1, stride: pages),
                                                     Scribble(offset: process(\.held) + pages, size: 4, value: 1, always: true, count: Int(CKPT_MAX_PROCESSES) - 1, stride: pages)]),
        ]
    }()

    @Test(arguments: cases) func `what a user writes into his session leads root nowhere`(_ c: Case) { spoilt("segment", c.scribbles.map(\.argument)) }

    @Test func `a session's file that is cut off ends root's checkpoint, not ckptctl`() { spoilt("segment-cut", ["cut", "\(Self.session(\.phase))"]) }

    @Test func `securebits that a user's task could not have set are not set by root's restart`() {
        for user in User.available where user.isOther {
            scenario("segment-securebits", as: user) { s in
                try s.start([try s.installation.program("segment-resume")])
                try s.waitUntilReady()
                try scribbling(s, [Scribble(offset: Self.task(\.securebits), size: 4, value: 12, always: true)]) {
                    let result = try run([s.installation.ckptctl, "checkpoint", s.tag, "-q", "-o", s.statefile], in: s.folder, environment: s.environment)
                    if result.status != .exited(77) || !result.errors.contains("securebits") { throw Failure("\(result)") }
                }
            }
        }
    }

    @Test func `root's restart gives its rights up before any code of a user's runs`() {
        for user in User.available where user.isOther {
            scenario("segment-resume", as: user) { s in
                try s.start([try s.installation.program("segment-resume")])
                try s.waitUntilReady()
                guard let place = UInt64(read(s.path("place"))) else { throw Failure("no place") }
                try scribbling(s, [Scribble(offset: Self.task(\.resume_rip), size: 8, value: place, count: 32, stride: MemoryLayout<ckpt_task>.size)]) {
                    let result = try run([s.installation.ckptctl, "checkpoint", s.tag, "-q", "--kill", "-o", s.statefile], in: s.folder, environment: s.environment)
                    if result.status != .exited(0) { throw Failure("\(result)") }
                }
                _ = try s.wait()
                _ = try run([s.installation.ckptctl, "restart", s.statefile], in: s.folder, environment: s.environment)
                let seen = read(s.path("seen"))
                if !seen.contains("ran") || seen.contains("root") { throw Failure("seen: \(seen)") }
            }
        }
    }

    private func scribbling(_ s: Scenario, _ scribbles: [Scribble], _ body: () throws -> Void) throws {
        let scribbler = try s.spawn([try s.installation.program("segment-scribbler"), try segment(s)] + scribbles.map(\.argument), output: "scribbler.out", errors: "scribbler.err")
        defer { kill(scribbler, SIGKILL); _ = Children.wait(scribbler, limit: 1) }
        guard eventually(5, { read(s.path("scribbler.out")).contains("ready") }) else { throw Failure(read(s.path("scribbler.err"))) }
        try body()
    }

    private func spoilt(_ name: String, _ arguments: [String]) {
        for user in User.available where user.isOther {
            scenario(name, as: user) { s in
                try s.start([try s.installation.program("segment-target")])
                try s.waitUntilReady()
                let scribbler = try s.spawn([try s.installation.program("segment-scribbler"), try segment(s)] + arguments, output: "scribbler.out", errors: "scribbler.err")
                var isOver = false
                func end() { if !isOver { kill(scribbler, SIGKILL); _ = Children.wait(scribbler, limit: 0.1) }; isOver = true }
                defer { end() }
                guard eventually(5, { read(s.path("scribbler.out")).contains("ready") }) else { throw Failure(read(s.path("scribbler.err"))) }
                let file = s.path("spoilt.ckpt")
                let result = try run([s.installation.ckptctl, "checkpoint", s.tag, "-q", "--timeout", "1", "-o", file], in: s.folder, environment: s.environment, limit: 20)
                if s.hasEnded { _ = try? s.wait() }
                end()
                guard case .exited(let status) = result.status else { throw Failure("\(result)") }
                if status == 0 {
                    let seen = try run([s.installation.ckptctl, "verify", file], in: s.folder, environment: s.environment)
                    if seen.status != .exited(0) { throw Failure("\(result), but \(seen)") }
                } else if result.errors.isEmpty || result.errors.split(separator: "\n").count > 3 || result.errors.contains("Fatal") || access(file, F_OK) == 0 { throw Failure("\(result)") }
            }
        }
    }

    private func segment(_ s: Scenario) throws -> String {
        let list = try run([s.installation.ckptctl, "list", "--json"], in: s.folder, environment: s.environment)
        let sessions = try JSONSerialization.jsonObject(with: Data(list.text.utf8)) as? [[String: Any]] ?? []
        guard let path = sessions.first(where: { $0["name"] as? String == s.tag })?["segment"] as? String else { throw Failure("no session: \(list)") }
        return path
    }
}
