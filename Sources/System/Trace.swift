// ptrace(2) for one purpose: a task stopped by job control runs its SIGCKPT handler and stops again, unseen by its parent.
import CkptABI
import Glibc

/// Threads seized by this process; let go when the owner goes.  All calls must come from the thread that seized.
public final class SeizedTasks {
    private var tids: [Int32] = []
    private static let seize = 0x4206, cont = 7, detach = 17, wall = 0x4000_0000
    public init() {}

    /// Seizes a task in group stop and lets it run; a handler's signal must be pending for it.
    public func run(_ tid: Int32) throws(SystemError) {
        try request(SeizedTasks.seize, tid)
        tids.append(tid)
        var status: Int32 = 0
        // It reports the group stop it is in at once; a task that dies reports that.
        try retrying("wait for \(tid)") { waitpid(tid, &status, Int32(SeizedTasks.wall)) }
        try request(SeizedTasks.cont, tid)
    }
    private func request(_ what: Int, _ tid: Int32) throws(SystemError) {
        let r = ckpt_syscall(CKPT_SYS_ptrace, what, Int(tid), 0, 0, 0, 0)
        if r < 0 { throw SystemError("ptrace", errno: Int32(-r)) }
    }
    /// Detaching wants a ptrace stop: PTRACE_INTERRUPT makes one.  The task goes back into its group stop.
    public func release() {
        let interrupt = 0x4207
        for tid in tids {
            _ = ckpt_syscall(CKPT_SYS_ptrace, interrupt, Int(tid), 0, 0, 0, 0)
            var status: Int32 = 0
            waitpid(tid, &status, Int32(SeizedTasks.wall))
            _ = ckpt_syscall(CKPT_SYS_ptrace, SeizedTasks.detach, Int(tid), 0, 0, 0, 0)
        }
        tids = []
    }
    deinit { release() }
}
