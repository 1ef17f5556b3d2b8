// One task held in a ptrace stop, to be looked at.
import CkptABI
import Glibc

/// Seized and stopped.  All calls must come from the thread that made it.
public final class TracedTask {
    public let tid: Int32
    private static let seize = 0x4206, interrupt = 0x4207, detach = 17, wall: Int32 = 0x4000_0000

    /// nil: not permitted, traced by somebody else, or it does not stop in time.  Such a one is let go of when it has stopped and this process ends.
    public init?(_ tid: Int32, milliseconds patience: UInt64 = 250) {
        self.tid = tid
        guard Self.request(Self.seize, tid) >= 0 else { return nil }
        guard Self.request(Self.interrupt, tid) >= 0 else { return nil }
        let end = Kernel.clock(1) + patience * 1_000_000
        var rounds = 0
        while Kernel.clock(1) < end {
            var status: Int32 = 0
            let r = waitpid(tid, &status, WNOHANG | Self.wall)
            if r == tid { return }
            if r < 0 && errno != EINTR { break }
            usleep(rounds < 100 ? 20 : 1000)        // it may be a pause that waits for us
            rounds += 1
        }
        release()
        return nil
    }

    /// Its queued signals, oldest first, and they stay queued (PTRACE_PEEKSIGINFO); `shared`: the process's.
    public func queuedSignals(shared: Bool) throws(SystemError) -> [ckpt_siginfo] {
        struct Arguments { var offset: UInt64; var flags: UInt32; var count: Int32 }
        let peek = 0x4209, step = 32
        var all: [ckpt_siginfo] = [], part = [ckpt_siginfo](repeating: ckpt_siginfo(), count: step)
        while true {
            var arguments = Arguments(offset: UInt64(all.count), flags: shared ? 1 : 0, count: Int32(step))
            let got = withUnsafeMutablePointer(to: &arguments) { a in
                part.withUnsafeMutableBytes { ckpt_syscall(Int(CKPT_SYS_ptrace), peek, Int(tid), Int(bitPattern: a), Int(bitPattern: $0.baseAddress!), 0, 0) }
            }
            if got < 0 { throw SystemError("ptrace", errno: Int32(-got)) }
            all += part[..<got]
            if got < step { return all }
        }
    }

    public func release() { _ = Self.request(Self.detach, tid) }

    private static func request(_ what: Int, _ tid: Int32) -> Int { ckpt_syscall(Int(CKPT_SYS_ptrace), what, Int(tid), 0, 0, 0, 0) }
}
