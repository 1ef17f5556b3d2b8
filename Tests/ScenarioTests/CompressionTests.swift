// Compressed statefiles: what comes back is the same, debuggers see the same, damage is named.
import Foundation
import Glibc
import Testing

@Suite struct CompressionTests {
    static let programs = ["memory-private", "memory-shared", "memory-file", "memory-huge", "memory-hugetlb", "memory-deleted", "memory-memfd", "memory-advice", "memory-stack", "systemv-memory"]
    static let methods = ["zstd", "zstd:1", "lz4"]

    @Test(arguments: programs, ["zstd", "lz4"]) func `compressed memory comes back as it was`(program: String, method: String) {
        feature(program, treatments: [.checkpointed, .twice], by: .file(["--compress", method]))
    }
    @Test(arguments: ["zstd", "lz4"]) func `saved files and compressed memory are of one instant`(method: String) {
        feature("files-saved", treatments: [.twice], by: .file(["--compress", method, "--save-files"]))
    }
    @Test(arguments: methods) func `a program restarted from compressed statefiles writes what it writes undisturbed`(method: String) {
        let subject = Subject.programs[method == "lz4" ? 1 : 0]
        for user in User.available { #expect(oracle(subject, as: user, count: 12, by: .file(["--compress", method])) >= 6) }
    }

    @Test(arguments: methods) func `what can be compressed is, and the rest is stored as it is`(method: String) throws {
        scenario("compressed-size") { s in
            try s.start(["/usr/bin/python3", "-c", """
                import os, sys, time
                text, noise = b'all work and no play makes Jack a dull boy\\n' * (64 << 14), os.urandom(48 << 20)
                open('ready', 'w').close()
                while not os.path.exists('go'): time.sleep(0.01)
                print('ok' if text == text[:43] * (64 << 14) and len(noise) == 48 << 20 else 'differs')
                """])
            try s.waitUntilReady()
            let result = try s.checkpoint(kill: true, options: ["--compress", method, "--json"])
            guard let facts = try JSONSerialization.jsonObject(with: Data(result.text.utf8)) as? [String: Any], let memory = facts["memory"] as? Int, let stored = facts["stored"] as? Int,
                  memory > 92 << 20, stored > 48 << 20, stored < 56 << 20 else { throw Failure(result.text) }
            let verified = try s.ckptctl(["verify", s.statefile])
            if verified.status != .exited(0) { throw Failure(verified.errors) }
            try s.restart()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(arguments: methods) func `gdb, core files and stacks show compressed memory; the core face is refused`(method: String) {
        scenario("compressed-gdb") { s in
            let program = try s.installation.program("gdb-target", flags: ["-O0"])
            try s.start([program])
            try s.waitUntilReady()
            try s.checkpoint(options: ["--compress", method])
            try s.expectValues(program)
            let face = try s.ckptctl(["face", "core", s.statefile])
            if face.status != .exited(77) || !face.errors.contains("ckptctl gdb") { throw Failure("\(face.status) \(face.errors)") }
            let both = try s.ckptctl(["checkpoint", s.tag, "-o", s.statefile, "--compress", method, "--face", "core"])
            if both.status != .exited(64) { throw Failure("\(both.status) \(both.errors)") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(arguments: methods) func `a damaged frame is named by verify and ends the restart`(method: String) {
        scenario("compressed-damage") { s in
            try s.start(["/bin/sleep", "300"])
            try s.checkpoint(kill: true, options: ["--compress", method])
            let good = FileManager.default.contents(atPath: s.statefile)!
            // Frames begin behind the engine and a few contents, at a multiple of 64 KiB; its size is in the superblock.
            let size = good.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 0xc00 + 32, as: UInt64.self) }, first = (0x1000 + Int(size) + 65535) & ~65535
            for (at, length) in [(first, 4), (first + 30, 1), (first + 200, 300)] {
                var bad = good
                for i in at ..< at + length { bad[i] ^= 0xa5 }
                try bad.write(to: URL(fileURLWithPath: s.statefile))
                chmod(s.statefile, 0o700)
                let verified = try s.ckptctl(["verify", s.statefile])
                if verified.status != .exited(65) || !verified.errors.contains("pages of 0x") { throw Failure("\(verified.status) \(verified.text) \(verified.errors)") }
                let restarted = try run([s.statefile], in: s.folder, limit: 20)
                if restarted.status != .exited(65) || !restarted.errors.contains("pages at offset 0x") { throw Failure("\(restarted.status) \(restarted.errors)") }
            }
        }
    }

    /// As an attacker would write it: the checksum of the runs fits.
    @Test(arguments: [(UInt32(1), UInt32(0)), (1, 0xffffff), (2, 4096), (3, 64), (2, 1)]) func `a hostile size of a frame is refused with its place`(kind: UInt32, stored: UInt32) {
        scenario("compressed-hostile") { s in
            try s.start(["/bin/sleep", "300"])
            try s.checkpoint(kill: true, options: ["--compress", "lz4"])
            var file = FileManager.default.contents(atPath: s.statefile)!
            guard let chunk = file.range(of: Data("CRUN".utf8), options: .backwards)?.lowerBound else { throw Failure("no chunk") }
            let count = Int(file.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: chunk + 4, as: UInt32.self) }), runs = chunk + 32, flags = runs + 24
            withUnsafeBytes(of: kind << 1 | stored << 8) { file.replaceSubrange(flags ..< flags + 4, with: $0) }
            withUnsafeBytes(of: crc32c(file[runs ..< runs + 32 * count])) { file.replaceSubrange(chunk + 16 ..< chunk + 20, with: $0) }
            try file.write(to: URL(fileURLWithPath: s.statefile))
            chmod(s.statefile, 0o700)
            let what = stored == 1 ? "pages at offset 0x" : "run at offset 0x\(String(runs, radix: 16))"
            let restarted = try run([s.statefile], in: s.folder, limit: 20)
            if restarted.status != .exited(65) || !restarted.errors.contains(what) { throw Failure("\(restarted.status) \(restarted.errors)") }
            let verified = try s.ckptctl(["verify", s.statefile])
            if verified.status != .exited(65) || !verified.errors.contains(stored == 1 ? "pages of 0x" : "run at 0x\(String(runs, radix: 16))") { throw Failure("\(verified.status) \(verified.errors)") }
        }
    }
}

extension CompressionTests {
    @Test(arguments: [[UInt8(57), 200, 255], [1, 2, 1], [2, 1, 0]]) func `a part that its frame does not have is refused with its place`(part: [UInt8]) {
        scenario("compressed-part") { s in
            try s.start(["/bin/sleep", "300"])
            try s.checkpoint(kill: true, options: ["--compress", "lz4"])
            var file = FileManager.default.contents(atPath: s.statefile)!
            guard let chunk = file.range(of: Data("CRUN".utf8), options: .backwards)?.lowerBound else { throw Failure("no chunk") }
            let count = Int(file.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: chunk + 4, as: UInt32.self) }), runs = chunk + 32
            // Its pages, those that it skips, and how many the frame has, less one.
            file.replaceSubrange(runs + 16 ..< runs + 20, with: [part[0], 0, part[1], part[2]])
            withUnsafeBytes(of: crc32c(file[runs ..< runs + 32 * count])) { file.replaceSubrange(chunk + 16 ..< chunk + 20, with: $0) }
            try file.write(to: URL(fileURLWithPath: s.statefile))
            chmod(s.statefile, 0o700)
            let restarted = try run([s.statefile], in: s.folder, limit: 20)
            if restarted.status != .exited(65) || !restarted.errors.contains("run at offset 0x\(String(runs, radix: 16))") { throw Failure("\(restarted.status) \(restarted.errors)") }
            try s.expectRefusal(["verify", s.statefile], 65, "run at 0x\(String(runs, radix: 16))")
        }
    }
}

private func crc32c(_ bytes: Data) -> UInt32 {
    var crc = ~UInt32(0)
    for byte in bytes {
        crc ^= UInt32(byte)
        for _ in 0 ..< 8 { crc = crc >> 1 ^ (crc & 1 == 1 ? 0x82f63b78 : 0) }
    }
    return ~crc
}

extension Scenario {
    /// gdb over the statefile, and over a core file of it, shows globals, the heap and every thread of gdb-target.
    func expectValues(_ program: String) throws {
        let commands = ["print global_counter", "print first.text", "thread apply all bt", "thread 1", "frame function waiting_function", "info locals"]
        let words = ["= 4711", "\"first\"", "spinning_function (depth_left=0, marker=103)", "blocked_thread", "\"text on the heap\""]
        let views = [try ckptctl(["gdb", statefile, "--", "-nx", "-batch"] + commands.flatMap { ["-ex", $0] }),
                     try ckptctl(["core", statefile, "-o", path("small.core")]),
                     try run(["gdb", "-nx", "-batch"] + commands.flatMap { ["-ex", $0] } + [program, path("small.core")], in: folder, environment: ["DEBUGINFOD_URLS": ""], limit: 60)]
        for (i, view) in views.enumerated() {
            if view.status != .exited(0) { throw Failure("\(i): \(view.status) \(view.errors)") }
            for word in words where i != 1 && !view.text.contains(word) { throw Failure("\(i): no \(word): \(view.text) \(view.errors)") }
        }
        let stacks = try ckptctl(["status", statefile, "--stacks"])
        if !stacks.text.contains("waiting_function") { throw Failure(stacks.text + stacks.errors) }
    }
}
