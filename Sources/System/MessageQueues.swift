// POSIX message queues, for the tools.
import CkptABI

extension File {
    /// mq_getattr(3)
    public func queueAttributes() throws(SystemError) -> ckpt_posix_attributes {
        var a = ckpt_posix_attributes()
        let r = withUnsafeMutablePointer(to: &a) { ckpt_syscall(CKPT_SYS_mq_getsetattr, Int(number), 0, Int(bitPattern: $0), 0, 0, 0) }
        if r < 0 { throw SystemError("mq_getattr", errno: Int32(truncatingIfNeeded: -r)) }
        return a
    }
}
