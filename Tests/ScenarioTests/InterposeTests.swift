// The wrappers around libc inside an application, without a checkpoint: SIGCKPT then only enters the handler and leaves it.
import Foundation
import Glibc
import Testing

@Suite struct InterposeTests {
    /// Runs the program as a member of a session; it judges by itself and ends with "0 failures".
    func holds(_ program: String, _ arguments: [String] = [], flags: [String] = [], limit: Double = 90, sourceLocation: SourceLocation = #_sourceLocation) {
        scenario(program, sourceLocation: sourceLocation) { s in
            try s.start([try s.installation.program(program, flags: flags)] + arguments)
            let status = try s.wait(limit: limit)
            if status != .exited(0) || !s.output.hasSuffix("0 failures\n") { throw Failure("\(status): \(s.output.suffix(3000)) \(s.errors.suffix(1000))") }
        }
    }

    @Test func `SIGCKPT is never blocked, and the application sees the masks and actions that it set`() { holds("interpose-masks") }
    @Test func `every way to start an image keeps it in the session, whatever environment it gets`() { holds("interpose-images") }
    @Test func `no new image dies of a SIGCKPT that comes between fork and its constructor`() { holds("interpose-images", ["storm", "10"]) }
    @Test func `every call of signal(7) goes on with the time left under a storm of SIGCKPT`() { holds("interpose-interrupted", ["64"]) }
    @Test func `no EINTR of the application's own is lost, at whatever instant SIGCKPT comes`() { holds("interpose-races", ["64", soak ? "5000" : "400"]) }
    @Test func `threads are cancelled in wrapped calls as in libc's`() { holds("interpose-cancelled", flags: ["-fexceptions"]) }
    @Test func `threads are cancelled in calls that were repeated`() { holds("interpose-cancelled", ["64"], flags: ["-fexceptions"]) }
    @Test func `the wait family shows no snapshot`() { holds("interpose-waits") }

    /// What signal(7) says of calls that are never restarted, measured: where this changes, a wrapper is missing or needless.
    @Test func `Linux restarts the calls that have no wrapper`() throws {
        let installation = try Installation.get()
        let program = try installation.program("interpose-interrupted")
        for call in ["read pipe", "sem_wait", "pthread_cond_timedwait", "pthread_mutex_timedlock", "mq_timedreceive", "mq_timedsend", "recv forever",
                     "read inotify", "waitpid"] {
            let result = try run([program, "10", call], in: installation.scratch, limit: 20)
            #expect(result.status == .exited(0), "\(call): \(result.text)")
        }
    }
}
