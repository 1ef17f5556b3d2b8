// Deltas: what a statefile refers to in another one is what memory held at that instant, however it changed meanwhile.
import Foundation
import Glibc
import Testing

extension Scenario {
    /// Takes a delta since the statefile before it.
    func delta(kill: Bool = false, options: [String] = []) throws -> Output {
        try checkpoint(kill: kill, options: ["--since", statefile] + options)
    }
    /// Takes the base of a program that then changes its memory in every way.
    fileprivate func changeSinceBase(_ packing: Packing) throws {
        try start([try installation.program("delta-memory")])
        try waitUntilReady()
        try checkpoint(options: packing.base)
        touch("change")
        guard eventually(20, { access(path("changed"), F_OK) == 0 }) else { throw Failure("it does not change: \(output)") }
    }
    func touch(_ name: String) { FileManager.default.createFile(atPath: path(name), contents: nil) }
    func expectRefusal(_ arguments: [String], _ status: Int32, _ words: String...) throws {
        let seen = try ckptctl(arguments)
        guard seen.status == .exited(status), words.allSatisfy({ seen.errors.contains($0) }) else { throw Failure("\(arguments): \(seen.status) \(seen.errors)") }
    }
}

/// How a base and what is taken since it are written.
struct Packing: Sendable, CustomTestStringConvertible {
    let base: [String], delta: [String]
    init(_ base: String?, _ delta: String?, early: Bool = false) { self.base = base.map { ["--compress", $0] } ?? []; self.delta = (delta.map { ["--compress", $0] } ?? []) + (early ? ["--pre-copy"] : []) }
    var testDescription: String { "\(delta.isEmpty ? "plain" : delta.joined(separator: " ")) since \(base.last ?? "plain")" }
    static let mixed = [Packing(nil, "zstd"), Packing("lz4", nil), Packing("zstd", "lz4")], all = [Packing(nil, nil)] + mixed
    static let early = [Packing(nil, nil, early: true), Packing("zstd", "lz4", early: true)]
}

@Suite(.serialized) struct DeltaTests {
    @Test(arguments: ["restart", "merge", "warm"], Packing.all) func `memory that changed in any way since the base is in the delta`(way: String, packing: Packing) { memoryThatChanged(way, packing) }
    @Test(arguments: ["restart", "merge"], Packing.early) func `it is, too, where most was read before the pause`(way: String, packing: Packing) { memoryThatChanged(way, packing) }

    private func memoryThatChanged(_ way: String, _ packing: Packing) {
        for user in User.available {
            scenario("delta-memory", as: user) { s in
                try s.changeSinceBase(packing)
                let report = try s.delta(kill: true, options: packing.delta)
                guard report.text.contains(" since ") else { throw Failure(report.text) }
                if way == "merge" {
                    let merge = try s.ckptctl(["merge", s.statefile, "-o", s.statefile])
                    if merge.status != .exited(0) { throw Failure(merge.errors) }
                    unlink(s.path("generation-1.ckpt"))
                }
                let verified = try s.ckptctl(["verify", s.statefile])
                if verified.status != .exited(0) { throw Failure(verified.errors) }
                defer { if way == "warm" { s.dropTemplates() } }
                if way == "warm" { try s.warm(); try s.branch() } else { try s.restart() }
                s.go()
                try s.expect(.exited(0), output: "ok\n")
                if way == "warm" { try s.expectBranch() }
            }
        }
    }

    static let subjects = [Subject.compiled("churner", "churner.c", [], "7000"), Subject.compiled("sharing", "sharing.c", [], "900"),
                           Subject.script("multiprocessing", "pool.py", by: "/usr/bin/python3", "1000")]
    @Test(arguments: subjects) func `a program restarted from chains of deltas writes what it writes undisturbed`(subject: Subject) {
        for user in User.available { #expect(deltaOracle(subject, as: user) >= 2) }
    }
    @Test(arguments: subjects) func `a program restarted from chains of deltas, compressed or not, writes what it writes undisturbed`(subject: Subject) {
        for user in User.available { #expect(deltaOracle(subject, as: user, [[], ["--compress", "zstd:1"], ["--compress", "lz4"]]) >= 2) }
    }

    @Test func `a program restarted from chains of deltas that were read early writes what it writes undisturbed`() {
        for user in User.available { #expect(deltaOracle(Self.subjects[0], as: user, [["--pre-copy"], [], ["--pre-copy", "--compress", "lz4"]]) >= 2) }
    }

    /// Deltas since deltas, over restarts, written in one of these ways; every third one is merged.
    private func deltaOracle(_ subject: Subject, as user: User, _ ways: [[String]] = [[]]) -> Int {
        var restarts = 0, runs = 0
        var instants = Instants("delta-\(ways.count)" + subject.name + user.rawValue)
        while restarts < 3, runs < 9 {
            runs += 1
            scenario("delta-\(subject.name)", as: user) { s in
                let reference = try reference(of: subject), step = reference.seconds / 6
                try s.start(try subject.argv())
                var chain = 0
                do {
                    while true {
                        _ = eventually(.random(in: 0 ... step, using: &instants)) { s.hasEnded }
                        if s.hasEnded { break }
                        let ends = UInt8.random(in: 0 ... 2, using: &instants) == 0
                        let way = ways.randomElement(using: &instants)!
                        do { if chain == 0 { try s.checkpoint(kill: ends, options: way) } else { _ = try s.delta(kill: ends, options: way) } } catch {
                            if s.pid == 0 || !s.hasEnded { throw error }
                            break
                        }
                        chain += 1
                        if chain == 10 || UInt8.random(in: 0 ... 2, using: &instants) == 0 && chain > 1 {
                            let merge = try s.ckptctl(["merge", s.statefile, "-o", s.statefile])
                            if merge.status != .exited(0) { throw Failure("merge: \(merge.errors)") }
                            for g in 1 ..< s.generation { unlink(s.path("generation-\(g).ckpt")) }
                            chain = 1
                        }
                        if ends { try s.restart(); restarts += 1 }
                    }
                    let end = try s.wait(limit: 60 + reference.seconds * 4)
                    if end != subject.status { throw Failure("\(end), not \(subject.status)") }
                    if let difference = difference(reference.files, products(s.folder)) { throw Failure(difference) }
                } catch { throw Failure("after \(restarts) restarts (CKPT_SEED=\(Instants.seed)): \(error); err: \(s.errors.suffix(800)) \(s.restartErrors)") }
            }
        }
        return restarts
    }

    @Test(arguments: Packing.all + Packing.early) func `a delta holds only what changed`(packing: Packing) {
        scenario("delta-size") { s in
            try s.start([try s.installation.program("behaviour-heartbeat"), "64"])
            try s.waitUntilReady()
            try s.checkpoint(options: packing.base)
            _ = try s.delta(options: packing.delta)
            let full = try allocated(s.path("generation-1.ckpt")), small = try allocated(s.statefile)
            if packing.base.isEmpty && full < 64 << 20 || small > 2 << 20 { throw Failure("\(small) of \(full) bytes") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    private func allocated(_ path: String) throws -> Int {
        var status = stat()
        if stat(path, &status) != 0 { throw Failure("\(path) is missing") }
        return Int(status.st_blocks) * 512
    }

    @Test func `a base is found by its id, and a wrong, missing or damaged one is refused`() {
        scenario("delta-base") { s in
            try s.start([try s.installation.program("behaviour-heartbeat"), "8"])
            try s.waitUntilReady()
            try s.checkpoint()
            _ = try s.delta()
            let base = s.path("generation-1.ckpt"), delta = s.statefile, away = s.folder + "-away", renamed = s.path("renamed")
            try s.checkpoint(kill: true)
            mkdir(away, 0o700)
            defer { try? FileManager.default.removeItem(atPath: away) }
            func refused(_ words: String...) throws {
                try s.restart(["--files", "truncate"], from: delta)
                let status = try s.wait()
                guard status == .exited(65), words.allSatisfy({ s.restartErrors.contains($0) }) else { throw Failure("\(status): \(s.restartErrors)") }
            }
            rename(base, away + "/base")
            try refused(base, "missing", "put the right one there")
            try s.expectRefusal(["verify", delta], 65, base, "missing")
            try FileManager.default.copyItem(atPath: s.statefile, toPath: base)
            try refused(base, "another statefile")
            try s.expectRefusal(["verify", delta], 65, base, "another statefile")
            // Beside the delta under another name.
            rename(away + "/base", renamed)
            try s.restart(["--files", "truncate"], from: delta)
            s.go()
            try s.expect(.exited(0), output: "ok\n")
            // A damaged page.
            let bytes = open(renamed, O_RDWR)
            defer { close(bytes) }
            for at in stride(from: 300_000, to: 9_000_000, by: 4096) { pwrite(bytes, "damage", 6, off_t(at)) }
            unlink(s.path("go"))
            try refused("base", "wrong checksum")
        }
    }

    @Test(arguments: ["zstd", "lz4"]) func `a damaged frame of a base is named, by verify and by the restart`(method: String) {
        scenario("delta-damage") { s in
            try s.start([try s.installation.program("behaviour-heartbeat"), "8"])
            try s.waitUntilReady()
            try s.checkpoint(options: ["--compress", method])
            let base = s.statefile
            _ = try s.delta(kill: true, options: ["--compress", method])
            let bytes = open(base, O_RDWR)
            defer { close(bytes) }
            // Frames begin behind the engine and a few contents, at a multiple of 64 KiB; its size is in the superblock.
            let size = FileManager.default.contents(atPath: base)!.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 0xc00 + 32, as: UInt64.self) }
            for at in stride(from: (0x1000 + off_t(size) + 65535) & ~65535, to: lseek(bytes, 0, SEEK_END) - 100_000, by: 50) { pwrite(bytes, "damage", 6, at) }
            try s.expectRefusal(["verify", s.statefile], 65, base, "pages of 0x")
            try s.restart()
            let status = try s.wait()
            guard status == .exited(65), s.restartErrors.contains(base), s.restartErrors.contains("pages at offset 0x") else { throw Failure("\(status): \(s.restartErrors)") }
        }
    }

    @Test(.enabled(if: getuid() == 0), arguments: Packing.all) func `a chain of deltas is loaded lazily`(packing: Packing) {
        scenario("delta-lazy") { s in
            try s.start([try s.installation.program("lazy-idle"), "64"])
            try s.waitUntilReady(limit: 60)
            try s.checkpoint(options: packing.base)
            _ = try s.delta()
            _ = try s.delta(kill: true, options: packing.delta)
            try s.restart(["--lazy"])
            s.go()
            try s.expect(.exited(0), output: "ok\n", limit: 60)
        }
    }

    @Test(arguments: Packing.all) func `a delta that was written to a pipe, and comes out of one, finds its base by name and id`(packing: Packing) {
        scenario("delta-pipe") { s in
            try s.start([try s.installation.program("behaviour-heartbeat"), "8"])
            try s.waitUntilReady()
            try s.checkpoint(options: packing.base)
            let base = s.statefile, pipe = ["/bin/sh", "-c", "cat sent | \(s.installation.ckptctl) restart - --files truncate"]
            let sent = try run(["/bin/bash", "-c", "set -o pipefail; \"$@\" | cat > sent", "bash", s.installation.ckptctl, "checkpoint", s.tag, "-o", "-", "--since", base, "--kill"] + packing.delta, in: s.folder, environment: s.environment)
            guard sent.status == .exited(0), sent.errors.contains(" since ") else { throw Failure("\(sent.status) \(sent.errors)") }
            _ = try s.wait()
            for words in [["merge", "sent", "-o", s.path("whole.ckpt")], ["verify", s.path("whole.ckpt")]] {
                let merged = try s.ckptctl(words)
                if merged.status != .exited(0) { throw Failure("\(words): \(merged.errors)") }
            }
            rename(base, base + ".away")
            s.pid = try s.spawn(pipe, output: "restart-1.out", errors: "restart-1.err")
            let status = try s.wait()
            guard status == .exited(65), s.restartErrors.contains(base + ": missing there; put the right one there") else { throw Failure("\(status): \(s.restartErrors)") }
            rename(base + ".away", base)
            s.pid = try s.spawn(pipe, output: "restart-1.out", errors: "restart-1.err")
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    @Test(arguments: Packing.mixed) func `memory that changed in any way goes through a pipe as a delta`(packing: Packing) {
        for user in User.available {
            scenario("delta-piped", as: user) { s in
                try s.changeSinceBase(packing)
                s.way = .pipe(["--since", s.statefile] + packing.delta)
                try s.move()
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    @Test func `gdb sees a delta's memory, and a merged one's as a core file`() {
        scenario("delta-gdb") { s in
            try s.start([try s.installation.program("gdb-target")])
            try s.waitUntilReady()
            try s.checkpoint()
            _ = try s.delta(kill: true)
            let words = ["-batch", "-ex", "info registers rip", "-ex", "x/64xb $sp", "-ex", "thread apply all bt"]
            let seen = try s.ckptctl(["gdb", s.statefile, "--"] + words)
            try s.expectRefusal(["face", "core", s.statefile], 77, "delta", "ckptctl merge")
            let merge = try s.ckptctl(["merge", s.statefile, "-o", s.path("full.ckpt"), "--face", "core"])
            if merge.status != .exited(0) { throw Failure(merge.errors) }
            let core = try run(["/usr/bin/gdb", "-q"] + words + [try s.installation.program("gdb-target"), s.path("full.ckpt")], in: s.folder, environment: s.environment, limit: 60)
            func facts(_ text: String) -> [String] { text.split(separator: "\n").map { String($0) }.filter { $0.hasPrefix("#") || $0.hasPrefix("rip") || $0.hasPrefix("0x") } }
            if facts(seen.text).count < 10 || facts(seen.text) != facts(core.text) { throw Failure("\(seen.text)\(seen.errors)\n\(core.text)\(core.errors)") }
        }
    }

    @Test(arguments: Packing.mixed) func `gdb sees the memory of a packed delta, and of a merged one, which has no core face`(packing: Packing) {
        scenario("delta-packed-gdb") { s in
            try s.start([try s.installation.program("gdb-target")])
            try s.waitUntilReady()
            try s.checkpoint(options: packing.base)
            _ = try s.delta(kill: true, options: packing.delta)
            func facts() throws -> [String] {
                let seen = try s.ckptctl(["gdb", s.statefile, "--", "-batch", "-ex", "info registers rip", "-ex", "x/64xb $sp", "-ex", "thread apply all bt"])
                return seen.text.split(separator: "\n").map { String($0) }.filter { $0.hasPrefix("#") || $0.hasPrefix("rip") || $0.hasPrefix("0x") }
            }
            let before = try facts()
            try s.expectRefusal(["merge", s.statefile, "-o", s.path("x.ckpt"), "--face", "core"], 77, "ckptctl gdb")
            let merge = try s.ckptctl(["merge", s.statefile, "-o", s.statefile])
            if merge.status != .exited(0) || merge.text.contains("compressed") == packing.delta.isEmpty { throw Failure("\(merge.text) \(merge.errors)") }
            unlink(s.path("generation-1.ckpt"))
            try s.expectRefusal(["face", "core", s.statefile], 77, "ckptctl gdb")
            let after = try facts()
            if before.count < 10 || before != after { throw Failure("\(before)\n\(after)") }
        }
    }

    @Test func `what would make a delta useless is refused`() {
        scenario("delta-refused") { s in
            try s.start([try s.installation.program("behaviour-heartbeat"), "1"])
            try s.waitUntilReady()
            try s.checkpoint()
            try s.expectRefusal(["checkpoint", s.tag, "-o", s.statefile, "--since", s.statefile], 77, "-o")
            try s.expectRefusal(["checkpoint", s.tag, "-o", s.path("x.ckpt"), "--since", s.path("none")], 66, "none")
            try s.expectRefusal(["checkpoint", s.tag, "-o", s.path("x.ckpt"), "--since", s.path("out")], 65, "out")
            try s.expectRefusal(["checkpoint", s.tag, "-o", s.path("x.ckpt"), "--since", s.statefile, "--face", "core"], 64, "ckptctl gdb")
            try s.expectRefusal(["merge", s.statefile, "-o", s.path("x.ckpt")], 77, "no delta")
            try s.expectRefusal(["checkpoint", s.tag, "-o", s.path("x.ckpt"), "--since", s.statefile, "--compress", "lz4", "--direct"], 64, "--direct")
            for _ in 0 ..< 16 { _ = try s.delta() }
            try s.expectRefusal(["checkpoint", s.tag, "-o", s.path("x.ckpt"), "--since", s.statefile], 77, "chain of 17", "ckptctl merge")
            try s.expectRefusal(["merge", s.statefile, "-o", s.path("generation-1.ckpt")], 77, "refers to it")
            if access(s.path("x.ckpt"), F_OK) == 0 { throw Failure("a refused delta left a file") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(arguments: [[], ["--compress", "zstd:1", "--pre-copy"]]) func `a supervisor keeps deltas, merges them, and each that it keeps goes on from its instant`(options: [String]) {
        scenario("delta-supervision") { s in
            let subject = Subject.compiled("churner-long", "churner.c", [], "20000"), reference = try reference(of: subject)
            try s.start(try subject.argv(), options: ["--every", "100ms", "--keep", "3", "-o", s.path("job.ckpt")] + options)
            func files() -> [String] { ((try? FileManager.default.contentsOfDirectory(atPath: s.folder)) ?? []).filter { $0.hasPrefix("job.ckpt") } }
            // A merged one is whole while there are older ones, and what it made superfluous goes.
            var most = 0, merged = false
            _ = eventually(60) {
                // A file that is being renamed may be missed once.
                let now = (0 ..< 3).map { _ in files().filter { !$0.hasSuffix(".next") && !$0.contains(".merg") }.count }.max()!
                most = max(most, now)
                merged = merged || now < most && most >= 4      // only a merge lets go of what deltas need
                return merged && most >= 4 && access(s.path("job.ckpt.2"), F_OK) == 0 || s.hasEnded
            }
            kill(s.pid, SIGKILL)
            Children.kill(tagged: s.tag)
            _ = try s.wait()
            Children.reapStrays()
            if !merged || most < 4 { throw Failure("no merge (\(merged)) with older ones (\(most)); \(s.errors) \(files())") }
            s.generation = 1
            for name in ["job.ckpt", "job.ckpt.1", "job.ckpt.2"] {
                let verified = try s.ckptctl(["verify", s.path(name)])
                if verified.status != .exited(0) { throw Failure("\(name): \(verified.errors)") }
                if try s.ckptctl(["status", s.path(name)]).text.contains("(zstd:1)") == options.isEmpty { throw Failure("\(name): not compressed as it should be") }
                try s.restart(["--files", "truncate"], from: s.path(name))
                try s.expect(.exited(0), limit: 60)
                if reference.files["out"] != FileManager.default.contents(atPath: s.path("out")) { throw Failure("\(name): printed something else") }
            }
        }
    }

    @Test func `whoever kills a supervisor while it merges loses nothing, and the next one goes on`() {
        scenario("delta-killed") { s in
            let job = s.path("job.ckpt"), program = [try s.installation.program("behaviour-heartbeat"), "192"], options = ["--on-signal", "USR1", "--keep", "2"]
            try s.start(program, options: options + ["-o", job])
            try s.waitUntilReady()
            func take() throws {
                let before = inode(job)
                kill(s.pid, SIGUSR1)
                guard eventually(20, { inode(job) != before }) else { throw Failure("no statefile: \(s.errors) \(s.restartErrors)") }
            }
            func verify() throws {
                for name in [job, job + ".1"] {
                    let verified = try s.ckptctl(["verify", name])
                    if verified.status != .exited(0) { throw Failure("\(name): \(verified.errors)") }
                }
            }
            try take(); try take()
            guard eventually(20, { access(job + ".merging", F_OK) == 0 }) else { throw Failure("no merge") }
            kill(s.pid, SIGKILL)
            _ = try s.wait()
            Children.kill(tagged: s.tag)
            usleep(600_000)
            if access(job + ".merged", F_OK) == 0 { throw Failure("the merge outlived its supervisor") }
            try verify()
            s.generation = 1
            s.pid = try s.spawn([s.installation.ckrun, "--name", s.tag] + options + ["--resume", job, "--files", "truncate", "--"] + program, output: "restart-1.out", errors: "restart-1.err")
            guard eventually(20, { (try? s.ckptctl(["list"]).text.contains(s.tag)) == true }) else { throw Failure("it does not come back: \(s.restartErrors)") }
            for _ in 0 ..< 3 { try take(); try verify() }
            s.go()
            try s.expect(.exited(0), output: "ok\n", limit: 60)
        }
    }
    private func inode(_ path: String) -> UInt64 {
        var status = stat()
        return stat(path, &status) == 0 ? UInt64(status.st_ino) : 0
    }

    @Test func `a supervisor takes a whole statefile when the one before is gone, and goes on`() {
        scenario("delta-lost") { s in
            try s.start([try s.installation.program("behaviour-heartbeat"), "4"], options: ["--on-signal", "USR1", "--keep", "2", "-o", s.path("job.ckpt")])
            try s.waitUntilReady()
            kill(s.pid, SIGUSR1)
            guard eventually(20, { access(s.path("job.ckpt"), F_OK) == 0 }) else { throw Failure(s.errors) }
            unlink(s.path("job.ckpt"))
            kill(s.pid, SIGUSR1)
            guard eventually(20, { access(s.path("job.ckpt"), F_OK) == 0 }), s.errors.contains("job.ckpt") else { throw Failure(s.errors) }
            let verified = try s.ckptctl(["verify", s.path("job.ckpt")])
            if verified.status != .exited(0) { throw Failure(verified.errors) }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
}
