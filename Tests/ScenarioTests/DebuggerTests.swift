// Stock gdb, readelf, eu-readelf and eu-stack read the core face: every thread's own backtrace, values of that instant, no complaint.
import Foundation
import Glibc
import Testing

@Suite struct DebuggerTests {
    private func withCore(_ name: String, program: String = "gdb-target", _ body: (Scenario, String) throws -> Void) {
        scenario(name) { s in
            let path = try s.installation.program(program, flags: ["-O0"])
            try s.start([path])
            try s.waitUntilReady()
            try s.checkpoint(options: ["--face", "core"])
            try body(s, path)
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
    private func gdb(_ s: Scenario, _ program: String, _ commands: [String]) throws -> Output {
        try run(["gdb", "-nx", "-batch"] + commands.flatMap { ["-ex", $0] } + [program, s.statefile], in: s.folder, environment: ["DEBUGINFOD_URLS": ""], limit: 60)
    }
    private func expect(_ text: String, contains words: [String], _ what: String) throws {
        for word in words where !text.contains(word) { throw Failure("\(what) lacks \(word):\n\(text)") }
    }

    @Test func `gdb shows every thread down to main or its thread function, without warnings`() {
        withCore("gdb-threads") { s, program in
            let result = try gdb(s, program, ["thread apply all bt"])
            let complaints = (result.errors + result.text).split(separator: "\n").filter { $0.lowercased().contains("warning") || $0.contains("error") || $0.contains("corrupt") }
            if result.status != .exited(0) || !complaints.isEmpty { throw Failure("\(result.status) \(complaints)\n\(result.text)") }
            try expect(result.text, contains: ["spinning_function (depth_left=0, marker=103)", "spinning_function (depth_left=3, marker=100)", "spinning_thread",
                       "sleeping_function (label=", "sleeping_thread", "blocked_thread", "read", "waiting_function (argument=20)", "main ()"], "the backtraces")
            // A wrapper that the program called may be there (interpose_…); the handler may not.
            for foreign in ["??", "__restore_rt", "signal handler called", "ckpt_", "followPhases"] where result.text.contains(foreign) {
                throw Failure("\(foreign) in a backtrace:\n\(result.text)")
            }
            let threads = result.text.components(separatedBy: "\n").filter { $0.hasPrefix("Thread ") }.count
            if threads != 4 { throw Failure("\(threads) threads\n\(result.text)") }
        }
    }

    @Test func `gdb shows globals, statics, heap and locals of that instant`() {
        withCore("gdb-values") { s, program in
            let result = try gdb(s, program, ["print global_counter", "print static_ratio", "print *first.next->next", "print first.text", "print stop",
                                              "thread apply all -q -s frame function waiting_function", "thread apply all -q -s print heap_text"])
            try expect(result.text, contains: ["= 4711", "= 2.5", "number = 3, text = ", "\"third\"", "\"first\"", "= 0"], "the values")
            let locals = try gdb(s, program, ["thread 1", "frame function waiting_function", "info locals"])
            try expect(locals.text, contains: ["heap_text = ", "\"text on the heap\"", "local_sum = 42"], "the locals")
        }
    }

    @Test func `gdb answers about shared libraries, auxiliary vector and mappings`() {
        withCore("gdb-info") { s, program in
            let result = try gdb(s, program, ["info sharedlibrary", "info auxv", "info proc mappings", "info threads", "info proc"])
            try expect(result.text, contains: ["libc.so.6", "AT_PHDR", "AT_SYSINFO_EHDR", "AT_ENTRY", program, "Thread 0x", "exe = "], "gdb's answer")
            if result.errors.lowercased().contains("warning") { throw Failure(result.errors) }
        }
    }

    @Test func `readelf, eu-readelf and eu-stack read the core face without complaint`() {
        withCore("elf-tools") { s, program in
            for command in [["readelf", "-a"], ["eu-readelf", "-a"], ["eu-readelf", "-n"]] {
                let result = try run(command + [s.statefile], in: s.folder, limit: 60)
                let complaints = result.errors + result.text.split(separator: "\n").filter { $0.contains("arning") || $0.contains("rror:") }.joined(separator: "\n")
                if result.status != .exited(0) || !complaints.isEmpty { throw Failure("\(command): \(result.status) \(complaints.prefix(2000))") }
            }
            let stacks = try run(["eu-stack", "--core", s.statefile, "-e", program], in: s.folder, environment: ["DEBUGINFOD_URLS": ""], limit: 60)
            if stacks.status != .exited(0) || !stacks.errors.isEmpty { throw Failure("eu-stack: \(stacks.status) \(stacks.errors)\n\(stacks.text)") }
            try expect(stacks.text, contains: ["spinning_function", "sleeping_thread", "blocked_thread", "waiting_function", "main"], "eu-stack")
        }
    }

    @Test func `ckptctl gdb shows each process of a tree as an inferior with its own symbols`() {
        withCore("gdb-tree", program: "tree-exec") { s, program in
            let result = try s.ckptctl(["gdb", s.statefile, "--", "-nx", "-batch", "-ex", "info inferiors", "-ex", "thread apply all bt"])
            if result.status != .exited(0) { throw Failure("\(result.status) \(result.errors)") }
            if result.text.components(separatedBy: "main (").count < 3 || !result.text.contains("scenario_await") { throw Failure(result.text + result.errors) }
        }
    }

    @Test func `the exec face restarts, the core face opens, and a file is turned over and back`() {
        scenario("faces") { s in
            let program = try s.installation.program("gdb-target", flags: ["-O0"])
            try s.start([program])
            try s.waitUntilReady()
            try s.checkpoint(kill: true, options: ["--face", "exec"])
            for face in ["core", "exec"] {
                let result = try s.ckptctl(["face", face, s.statefile])
                if result.status != .exited(0) { throw Failure("face \(face): \(result.errors)") }
                let header = try run(["readelf", "-h", s.statefile], in: s.folder).text
                if header.contains("CORE") != (face == "core") { throw Failure(header) }
                if face == "core", !(try gdb(s, program, ["bt"])).text.contains("waiting_function") { throw Failure("gdb does not read the turned file") }
            }
            try s.restart()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test func `gdb shows the functions of a running engine with the script for that`() {
        scenario("engine-symbols") { s in
            try s.start([try s.installation.program("gdb-target", flags: ["-O0"])])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            try s.restart()
            let script = s.installation.package + "/tools/symbols.py"
            let result = try run(["gdb", "-nx", "-batch", "-p", "\(s.pid)", "-ex", "source \(script)", "-ex", "ckpt-symbols \(s.installation.folder)", "-ex", "bt"],
                                 in: s.folder, environment: ["DEBUGINFOD_URLS": ""], limit: 60)
            try expect(result.text, contains: ["supervise", "Supervise.swift:"], "the engine's backtrace (\(result.errors))")
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
}
