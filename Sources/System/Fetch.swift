// Copies of other tasks' descriptors (pidfd_getfd(2)): for what /proc does not show of a file.
import CkptABI
import Glibc

extension File {
    /// A copy of `pid`'s descriptor `number`: the same open file description, so nothing that belongs to it may be changed through it.
    /// Needs what ptrace(2) calls PTRACE_MODE_ATTACH; EPERM where that is not given.
    public convenience init(of pid: Int32, number: Int32) throws(SystemError) {
        let pidfdGetfd = 438
        if pid == getpid() {
            self.init(adopting: try retrying("dup") { fcntl(number, F_DUPFD_CLOEXEC, 0) })
            return
        }
        let process = ckpt_syscall(CKPT_SYS_pidfd_open, Int(pid), 0, 0, 0, 0, 0)
        if process < 0 { throw SystemError("pidfd_open", errno: Int32(-process)) }
        defer { close(Int32(process)) }
        let copy = ckpt_syscall(pidfdGetfd, process, Int(number), 0, 0, 0, 0)
        if copy < 0 { throw SystemError("pidfd_getfd", errno: Int32(-copy)) }
        self.init(adopting: Int32(copy))
    }
}
