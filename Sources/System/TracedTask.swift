// One task held in a ptrace stop, to be looked at.
import CkptABI
import Glibc

/// Seized and stopped.  All calls must come from the thread that made it.
public final class TracedTask {
    public let tid: Int32
    private static let seize = 0x4206, interrupt = 0x4207, detach = 17, wall: Int32 = 0x4000_0000

    /// nil: not permitted, traced by somebody else, or it does not stop within a quarter of a second.
    public init?(_ tid: Int32) {
        self.tid = tid
        guard Self.request(Self.seize, tid) >= 0 else { return nil }
        guard Self.request(Self.interrupt, tid) >= 0 else { return nil }
        for _ in 0..<250 {
            var status: Int32 = 0
            let r = waitpid(tid, &status, WNOHANG | Self.wall)
            if r == tid { return }
            if r < 0 && errno != EINTR { break }
            usleep(1000)
        }
        release()
        return nil
    }

    public func release() { _ = Self.request(Self.detach, tid) }

    private static func request(_ what: Int, _ tid: Int32) -> Int { ckpt_syscall(Int(CKPT_SYS_ptrace), what, Int(tid), 0, 0, 0, 0) }
}
