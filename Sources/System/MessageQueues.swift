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

enum MessageQueues {
    /// Of the file system that has those of this IPC namespace.
    static var device: UInt64? {
        let closeOnExec = 1, create = 6
        func file(_ r: Int) -> File? { r < 0 ? nil : File(adopting: Int32(r)) }
        guard let context = file("mqueue".withCString { ckpt_syscall(CKPT_SYS_fsopen, Int(bitPattern: $0), closeOnExec, 0, 0, 0, 0) }),
              ckpt_syscall(CKPT_SYS_fsconfig, Int(context.number), create, 0, 0, 0, 0) == 0,
              let mount = file(ckpt_syscall(CKPT_SYS_fsmount, Int(context.number), closeOnExec, 0, 0, 0, 0)) else { return nil }
        return (try? mount.status())?.deviceNumber
    }
}
