// What a user does with a machine: see what it offers, install the programs, have core-face files executed, and watch the demo.
import Foundation
import Glibc
import Testing

@Suite struct MachineTests {
    @Test func `check tells of everything whether it is there, and the command for what is not`() {
        for user in User.available {
            scenario("check", as: user) { s in
                let result = try s.ckptctl(["check", "--json"])
                guard let items = try JSONSerialization.jsonObject(with: Data(result.text.utf8)) as? [[String: Any]] else { throw Failure(result.text + result.errors) }
                func state(_ name: String) -> String? { items.first { $0["name"] as? String == name }?["state"] as? String }
                for name in ["kernel", "installation", "pids kept", "pid namespace", "time namespace", "binfmt rule", "gdb"] where state(name) == nil { throw Failure("\(name) is missing:\n\(result.text)") }
                for i in items where (i["state"] as? String == "ok") != (i["remedy"] is NSNull) { throw Failure("state and remedy: \(i)") }
                if result.status != .exited(0) || state("installation") != "ok" || state("gdb") != "ok" || (state("pids kept") == "ok") != (user == .root) { throw Failure("\(result.status) \(result.text)\(result.errors)") }
                // Alone, it lacks its parts.
                try FileManager.default.copyItem(atPath: s.installation.ckptctl, toPath: s.path("ckptctl"))
                let alone = try run([s.path("ckptctl"), "check"], in: s.folder, environment: s.environment)
                if alone.status != .exited(69) || !alone.text.contains("tools/install") || !alone.errors.contains("missing: installation") { throw Failure("\(alone.status) \(alone.text)\(alone.errors)") }
            }
        }
    }

    /// In a user namespace, which has rules of its own (Linux 6.7).
    @Test func `with the binfmt rule a core-face file is executed, and without it is not`() {
        for user in User.available {
            scenario("binfmt", as: user) { s in
                let program = try s.installation.program("gdb-target", flags: ["-O0"]), tool = s.installation.ckptctl
                let script = """
                    set -e; mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
                    \(tool) binfmt status > status 2>&1 && exit 21; grep -q 'ckptctl binfmt install' status
                    \(tool) binfmt install; \(tool) binfmt status | grep -q /ckptexec
                    \(s.installation.ckrun) --name \(s.tag) -- \(program) 2> program.err & first=$!
                    while ! test -e ready; do sleep 0.05; done
                    \(tool) checkpoint \(s.tag) -o x.ckpt --face core --kill > /dev/null 2>&1; wait $first || true
                    readelf -h x.ckpt | grep -q CORE; touch go; ./x.ckpt
                    \(tool) binfmt remove; ! \(tool) binfmt status 2> /dev/null; ! ./x.ckpt 2> /dev/null
                    """
                try s.start(["/usr/bin/unshare", "--user", "--map-root-user", "--mount", "/bin/bash", "-c", script], ckrun: false)
                try s.expect(.exited(0), output: "ok\n", limit: 60)
            }
        }
    }

    @Test func `what tools/install has put in place works, is named, and goes again`() {
        for user in User.available {
            scenario("install", as: user) { s in
                // A tree that is built, and without a compiler.
                let tree = s.path("tree"), prefix = s.path("prefix"), files = FileManager.default
                try files.createDirectory(atPath: tree + "/.build", withIntermediateDirectories: true)
                try files.createDirectory(atPath: tree + "/runtime/preload-boot/include", withIntermediateDirectories: true)
                try files.createDirectory(atPath: tree + "/tools", withIntermediateDirectories: true)
                try files.createSymbolicLink(atPath: tree + "/.build/release", withDestinationPath: s.installation.folder)
                try files.copyItem(atPath: s.installation.package + "/tools/install", toPath: tree + "/tools/install")
                try files.copyItem(atPath: s.installation.package + "/runtime/preload-boot/include/ckpt.h", toPath: tree + "/runtime/preload-boot/include/ckpt.h")
                func install(_ more: [String] = []) throws {
                    s.pid = try s.spawn([tree + "/tools/install", "--prefix", prefix] + more, output: "install.out", errors: "install.err")
                    if try s.wait() != .exited(0) { throw Failure(read(s.path("install.out")) + read(s.path("install.err"))) }
                }
                try install()
                if !read(s.path("install.out")).contains("installed in \(prefix)\nadd \(prefix)/bin to PATH") { throw Failure(read(s.path("install.out"))) }
                s.pid = try s.spawn([prefix + "/bin/ckrun", "--name", s.tag, "--", try s.installation.program("gdb-target", flags: ["-O0"])], output: "out", errors: "err")
                try s.waitUntilReady()
                s.generation = 1
                let pid = s.pid, ckptctl = try s.spawn([prefix + "/bin/ckptctl", "checkpoint", s.tag, "-o", s.statefile, "--kill"], output: "checkpoint.out", errors: "checkpoint.err")
                if Children.wait(ckptctl, limit: 20) != .exited(0) || Children.wait(pid, limit: 20) != .killed(SIGKILL) { throw Failure(read(s.path("checkpoint.err"))) }
                try s.restart()
                s.go()
                try s.expect(.exited(0), output: "ok\n")
                try install(["--uninstall"])
                let left = (files.enumerator(atPath: prefix)?.allObjects as? [String] ?? []).filter { !["bin", "lib", "include"].contains($0) }
                if !left.isEmpty { throw Failure("left: \(left)") }
            }
        }
    }

    @Test func `the demo shows the main job`() {
        scenario("demo") { s in
            let environment = s.environment.merging(["CKPT_BUILD": s.installation.folder]) { $1 }
            let result = try run([s.installation.package + "/tools/demo"], in: s.folder, environment: environment, limit: 120)
            for part in ["simulate", "count_primes (which=", "start_thread", "done: 1031129 odd primes below 16000000"] where !result.text.contains(part) { throw Failure("lacks \(part): \(result.text)\(result.errors)") }
            if result.status != .exited(0) { throw Failure("\(result.status) \(result.errors)") }
        }
    }
}
