// The oracle: a real program, ended and restarted at random instants, prints and writes byte for byte what it does undisturbed.
import Foundation
import Glibc
import Synchronization
import Testing

/// SplitMix64; CKPT_SEED repeats a run.
struct Instants: RandomNumberGenerator {
    static let seed: UInt64 = ProcessInfo.processInfo.environment["CKPT_SEED"].flatMap { UInt64($0) } ?? .random(in: 1 ... 999_999_999)
    private var state: UInt64
    init(_ name: String) {
        state = Self.seed
        for byte in name.utf8 { state = (state ^ UInt64(byte)) &* 0x100000001b3 }
    }
    mutating func next() -> UInt64 {
        state &+= 0x9e3779b97f4a7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58476d1ce4e5b9
        z = (z ^ z >> 27) &* 0x94d049bb133111eb
        return z ^ z >> 31
    }
}

struct Subject: Sendable, CustomTestStringConvertible {
    let name: String
    let argv: @Sendable () throws -> [String]
    var status = Status.exited(0)
    var testDescription: String { name }

    static func script(_ name: String, _ file: String, by interpreter: String, _ arguments: String...) -> Subject {
        Subject(name: name) { [interpreter, try copied(file)] + arguments }
    }
    /// A file of Tests/Oracle where every user can read it.
    static func copied(_ file: String) throws -> String {
        let installation = try Installation.get(), target = installation.folder + "/" + file
        try? FileManager.default.copyItem(atPath: installation.package + "/Tests/Oracle/" + file, toPath: target)
        return target
    }
    static func compiled(_ name: String, _ file: String, _ flags: [String], _ arguments: String..., by compiler: String = "gcc") -> Subject {
        Subject(name: name) {
            let installation = try Installation.get(), target = installation.folder + "/oracle-" + name
            if access(target, X_OK) != 0 {
                let result = try run([compiler, "-g", "-O2", "-o", target, installation.package + "/Tests/Oracle/" + file] + flags, in: installation.folder)
                if result.status != .exited(0) { throw Failure(result.errors) }
            }
            return [target] + arguments
        }
    }
    static let programs: [Subject] = [
        script("numpy", "numpy-threads.py", by: "/usr/bin/python3", "100"),
        compiled("churner", "churner.c", [], "7000"),
        compiled("io_uring", "uring.c", ["-luring"], "60000"),
        script("multiprocessing", "pool.py", by: "/usr/bin/python3", "1000"),
        Subject(name: "bash", argv: { ["/bin/bash", try copied("pipeline.sh"), "70"] }, status: .exited(3)),
        Subject(name: "make") {
            guard let archive = ProcessInfo.processInfo.environment["CKPT_LUA"] else { throw Failure("CKPT_LUA names no source archive; tools/test fetches one") }
            let target = try Installation.get().folder + "/lua.tar.gz"
            try? FileManager.default.copyItem(atPath: archive, toPath: target)
            return ["/bin/sh", try copied("compile.sh"), target]
        },
        script("sqlite3", "transactions.sh", by: "/bin/bash", "600"),
        compiled("openmp", "openmp.c", ["-fopenmp"], "1000"),
        script("perl", "forks.pl", by: "/usr/bin/perl", "400"),
        script("archivers", "archive.sh", by: "/bin/sh", "100000"),
    ]
    /// Its server does not run as root, and what root's tree gives away leaves it.
    static let postgresql = script("postgresql", "postgresql.sh", by: "/bin/bash", "1000")
    private static func storm(_ name: String, _ count: String) -> Subject {
        Subject(name: name) { [try Installation.get().program(name), count] }
    }
    static let storms: [Subject] = [
        storm("storm-fork", "8000"), storm("storm-spawn", "4000"), storm("storm-threads", "20000"), storm("storm-exec", "5000"),
        script("storm-bash", "storm.sh", by: "/bin/bash", "800"), script("storm-subprocess", "storm.py", by: "/usr/bin/python3", "2500"),
    ]
}

/// What a run leaves: what it printed and every file that it wrote, by relative path.
func products(_ folder: String) -> [String: Data] {
    var files: [String: Data] = [:]
    guard let list = FileManager.default.enumerator(atPath: folder) else { return files }
    for case let path as String in list {
        if path.hasSuffix(".ckpt") || path.hasPrefix("restart-") || path.hasPrefix(".") || path == "err" { continue }
        var directory: ObjCBool = false
        if FileManager.default.fileExists(atPath: folder + "/" + path, isDirectory: &directory), !directory.boolValue {
            files[path] = FileManager.default.contents(atPath: folder + "/" + path) ?? Data()
        }
    }
    return files
}

func difference(_ reference: [String: Data], _ seen: [String: Data]) -> String? {
    for path in Set(reference.keys).union(seen.keys).sorted() where reference[path] != seen[path] {
        guard let a = reference[path] else { return "\(path) was not written undisturbed" }
        guard let b = seen[path] else { return "\(path) is missing" }
        let at = zip(a, b).enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? min(a.count, b.count)
        func around(_ data: Data) -> String { String(decoding: data[max(0, at - 60) ..< min(data.count, at + 100)], as: UTF8.self) }
        return "\(path) differs at byte \(at) (\(a.count) and \(b.count) bytes)\nundisturbed: \(around(a))\nseen: \(around(b))"
    }
    return nil
}

struct Reference: Sendable { let files: [String: Data]; let seconds: Double }
/// Undisturbed runs, once each.
func reference(of subject: Subject) throws -> Reference {
    if let known = references.withLock({ $0[subject.name] }) { return known }
    let s = try Scenario("undisturbed-\(subject.name)", as: .current)
    let start = now()
    try s.start(try subject.argv(), ckrun: false)
    let status = try s.wait(limit: 120)
    let result = Reference(files: products(s.folder), seconds: now() - start)
    if status != subject.status { throw Failure("undisturbed: \(status) \(s.errors.suffix(500))") }
    s.close(failed: false)
    references.withLock { $0[subject.name] = result }
    return result
}
private let references = Mutex<[String: Reference]>([:])

/// Ends and restarts `subject` at `count` random instants, in as many runs as that takes (at most six); every run is compared.
@discardableResult func oracle(_ subject: Subject, as user: User, count: Int, by way: Way = .file(), restart options: [String] = [], sourceLocation: SourceLocation = #_sourceLocation) -> Int {
    var done = 0, runs = 0
    var seconds: Double?
    var instants = Instants(subject.name + user.rawValue)
    while done < count, runs < 6 {
        runs += 1
        guard let more = oneRun(of: subject, as: user, count: count - done, way, options, &instants, &seconds, sourceLocation) else { return done }
        done += more
    }
    print("oracle: \(subject.name) as \(user): \(done) restarts in \(runs) runs, byte for byte (seed \(Instants.seed))")
    return done
}

/// nil when it failed.  `seconds`: how long the last run took, which tells more than the undisturbed one where the machine's speed changes.
private func oneRun(of subject: Subject, as user: User, count: Int, _ way: Way, _ options: [String], _ instants: inout Instants, _ seconds: inout Double?, _ sourceLocation: SourceLocation) -> Int? {
    var done: Int?
    scenario("oracle-\(subject.name)", as: user, sourceLocation: sourceLocation) { s in
        s.way = way
        let reference = try reference(of: subject)
        let step = 2 * (seconds ?? reference.seconds) / Double(count + 1)
        try s.start(try subject.argv())
        var restarts = 0, ran = 0.0
        do {
            s.mayEndByItself = true
            while restarts < count, s.ownEnd == nil, try endAndRestart(s, options, after: .random(in: 0 ... step, using: &instants), &ran) { restarts += 1 }
            if restarts < count { seconds = ran }
            let rest = try s.wait(limit: 60 + reference.seconds * 4), end = s.ownEnd ?? rest
            if end != subject.status { throw Failure("\(end), not \(subject.status)") }
            if let difference = difference(reference.files, products(s.folder)) { throw Failure(difference) }
        } catch {
            throw Failure("after \(restarts) restarts (CKPT_SEED=\(Instants.seed)): \(error); err: \(s.errors.suffix(800)) \(s.restartErrors)")
        }
        done = restarts
    }
    return done
}

/// false: the program has ended by itself.
private func endAndRestart(_ s: Scenario, _ options: [String], after seconds: Double, _ ran: inout Double) throws -> Bool {
    let start = now()
    _ = eventually(seconds) { s.hasEnded }
    ran += now() - start
    if s.hasEnded { return false }
    do { try s.move(options) } catch {
        if s.pid == 0 || !s.hasEnded { throw error }
        s.generation -= 1
        return false
    }
    unlink(s.path("generation-\(s.generation - 1).ckpt"))
    return true
}

/// One at a time, beside the storms: on a more loaded machine the programs end before they can be checkpointed often.
@Suite(.serialized) struct OracleTests {
    @Test(arguments: Subject.programs) func `a program restarted at random instants writes what it writes undisturbed`(subject: Subject) {
        for user in User.available { #expect(oracle(subject, as: user, count: soak ? 60 : 20) >= 10) }
    }
    @Test(.enabled(if: User.available.contains { $0.isOther })) func `a PostgreSQL server and its clients, restarted at random instants, lose no transaction`() {
        for user in User.available where user.isOther { #expect(oracle(Subject.postgresql, as: user, count: soak ? 60 : 20) >= 10) }
    }
}

/// A suite of their own, since one after the other the oracle's programs and these would take longer than all other tests together.
@Suite(.serialized) struct StormTests {
    @Test(arguments: Subject.storms) func `a storm of forks, execs, spawns or threads loses nothing`(subject: Subject) {
        #expect(oracle(subject, as: .current, count: soak ? 200 : 50) >= 10)
    }
    @Test(arguments: Subject.storms) func `a storm is checkpointed fifty times without being ended`(subject: Subject) {
        scenario("running-\(subject.name)") { s in
            let reference = try reference(of: subject)
            try s.start(try subject.argv())
            var taken = 0
            while taken < 50, Children.alive(s.pid) {
                do { try s.checkpoint() } catch where s.hasEnded { break }
                s.generation = 0
                taken += 1
            }
            try s.expect(subject.status, limit: 120)
            if let difference = difference(reference.files, products(s.folder)) { throw Failure("after \(taken) checkpoints: \(difference)") }
        }
    }
}
