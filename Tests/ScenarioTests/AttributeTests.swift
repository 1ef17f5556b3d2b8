// Attributes and identity of a process are what they were.
import Glibc
import Testing

@Suite struct AttributeTests {
    @Test func `working directory, umask, limits, priorities and prctl settings are unchanged`() { feature("attributes-process") }
    @Test(.enabled(if: access("/proc/self/autogroup", F_OK) == 0)) func `the nice value of a terminal session as a whole is unchanged`() { feature("attributes-autogroup") }
    @Test func `exe, comm, cmdline, environ and auxv in proc are unchanged`() { feature("attributes-identity") }
    @Test func `credentials of all kinds are unchanged`() { feature("attributes-credentials", users: [.root].filter(User.available.contains)) }
    @Test(.enabled(if: User.available.contains(.root))) func `a process inside chroot stays there`() {
        for treatment in [Treatment.checkpointed, .restarted, .twice] {
            scenario("chroot-\(treatment)") { s in
                try s.start([try s.installation.program("attributes-chroot")])
                s.control = "jail/tmp/"
                try s.waitUntilReady()
                switch treatment {
                case .undisturbed, .launched: break
                case .checkpointed: try s.checkpoint()
                case .restarted: try s.checkpoint(kill: true); try s.restart()
                case .twice: for _ in 0 ..< 2 { try s.checkpoint(kill: true); try s.restart() }
                }
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }
}
