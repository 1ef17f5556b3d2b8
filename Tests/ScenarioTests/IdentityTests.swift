// Every task is who it was; a restart that may not make it so says what would.
import Foundation
import Glibc
import Testing

@Suite struct IdentityTests {
    @Test func `each thread has its own ids, groups, capabilities, securebits and no_new_privs`() { feature("identity-tasks") }

    @Test(.enabled(if: getuid() == 0 && User.available.contains(.ckptuser))) func `what a login puts into its session keyring stands in no checkpoint's way, nor after a restart`() {
        scenario("identity-login", as: .ckptuser) { s in
            let ctl = s.installation.ckptctl, script = """
                '\(s.installation.ckrun)' --name \(s.tag) -- sleep 60 </dev/null >/dev/null 2>&1 & until '\(ctl)' status \(s.tag); do sleep 0.1; done
                '\(ctl)' checkpoint \(s.tag) -o a.ckpt --kill -q || exit 1
                ./a.ckpt </dev/null >/dev/null 2>&1 & until '\(ctl)' status \(s.tag); do sleep 0.1; done
                '\(ctl)' checkpoint \(s.tag) -o b.ckpt --kill -q || exit 2
                """
            let result = try run(["/usr/sbin/runuser", "-u", s.user.rawValue, "--", "/bin/sh", "-c", script], in: s.folder, environment: s.environment, limit: 60)
            if result.status != .exited(0) { throw Failure("\(result)") }
        }
    }

    @Test(.enabled(if: User.available.contains(.root))) func `inspect tells which threads have other credentials`() {
        scenario("inspect-identity", as: .root) { s in
            try s.start([try s.installation.program("identity-tasks")])
            try s.waitUntilReady()
            try s.checkpoint()
            let shown = try s.ckptctl(["inspect", s.statefile]).text
            for words in ["uid 1301 1302 0 1302, gid 1201 1202 1203 1202", "groups 9 4001 4002", "no_new_privs 1"] where !shown.contains(words) { throw Failure("no \(words): \(shown)") }
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    @Test(.enabled(if: User.available.contains(.root) && User.available.contains(.ckptuser))) func `a user who may not become those that ran in the tree is told to be root`() {
        scenario("identity-foreign", as: .root) { s in
            try s.start([try s.installation.program("identity-tasks")])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            let given = try Scenario("identity-given", as: .ckptuser)
            defer { given.close(failed: false) }
            try FileManager.default.copyItem(atPath: s.statefile, toPath: given.path("foreign.ckpt"))
            if let entry = getpwnam("ckptuser") { chown(given.path("foreign.ckpt"), entry.pointee.pw_uid, entry.pointee.pw_gid) }
            given.generation = 1
            try given.restart(from: given.path("foreign.ckpt"))
            let status = try given.wait()
            if status == .exited(0) || !given.restartErrors.contains("restart it as") { throw Failure("\(status) \(given.restartErrors)") }
            try s.restart()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
}
