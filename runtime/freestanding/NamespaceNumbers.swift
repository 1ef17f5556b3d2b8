// Runs in ckrun and in the engine: raw system calls only.
// Which namespaces a session was started in, by their numbers: what a task has otherwise is its own.
import CkptABI

/// Fills `numbers` (enum ckpt_namespace_kind − 1) from /proc/self/ns; 0: unknown.  `ofChildren`: those that a child will have.
public func noteNamespaces(_ numbers: UnsafeMutablePointer<UInt32>, from first: UInt32 = 1) {
    var kind = first
    while kind <= UInt32(CKPT_NAMESPACE_KINDS) {
        numbers[Int(kind - 1)] = namespaceNumber(kind)
        kind += 1
    }
}

private func namespaceNumber(_ kind: UInt32) -> UInt32 {
    let path: StaticString = switch kind {
    case CKPT_NAMESPACE_UTS.rawValue: "/proc/self/ns/uts"
    case CKPT_NAMESPACE_IPC.rawValue: "/proc/self/ns/ipc"
    case CKPT_NAMESPACE_NET.rawValue: "/proc/self/ns/net"
    case CKPT_NAMESPACE_CGROUP.rawValue: "/proc/self/ns/cgroup"
    case CKPT_NAMESPACE_USER.rawValue: "/proc/self/ns/user"
    case CKPT_NAMESPACE_MOUNT.rawValue: "/proc/self/ns/mnt"
    case CKPT_NAMESPACE_PID.rawValue: "/proc/self/ns/pid_for_children"
    default: "/proc/self/ns/time_for_children"
    }
    return namespaceNumber(path)
}

/// 0: there is no such file.
public func namespaceNumber(_ path: StaticString) -> UInt32 { ckpt_namespace_number(path.cString) }
