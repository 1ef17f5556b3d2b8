// Namespaces that the tree had for itself: host names (uts), System V IPC and message queues (ipc), a network with nothing but a loopback (net).
// Those that all of it lived in the engine enters before it makes anything; those of a part the builder makes, and each process enters its own.
// No allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

private enum Namespace {
    static func flag(_ kind: UInt32) -> Int {
        switch kind {
        case CKPT_NAMESPACE_UTS.rawValue: 0x0400_0000
        case CKPT_NAMESPACE_IPC.rawValue: 0x0800_0000
        default: 0x4000_0000
        }
    }
    static func path(_ kind: UInt32) -> StaticString {
        switch kind {
        case CKPT_NAMESPACE_UTS.rawValue: "/proc/self/ns/uts"
        case CKPT_NAMESPACE_IPC.rawValue: "/proc/self/ns/ipc"
        default: "/proc/self/ns/net"
        }
    }
    static func name(_ kind: UInt32) -> StaticString {
        switch kind {
        case CKPT_NAMESPACE_UTS.rawValue: "uts"
        case CKPT_NAMESPACE_IPC.rawValue: "ipc"
        default: "net"
        }
    }
}

private func isWhole(_ i: Int) -> Bool { namespaces[i].pointee.flags & CKPT_NAMESPACE_WHOLE.rawValue != 0 }

private func refuseNamespace(_ i: Int, _ r: Int) -> Never {
    refuse(r) { l in
        l.put("a "); l.put(Namespace.name(namespaces[i].pointee.kind)); l.put(" namespace of the tree cannot be made: "); putError(r, &l)
        l.put("; restart it as root")
    }
}

/// First of all, in the engine; what it was started in is what the tree is started in.
func enterWholeNamespaces() {
    noteNamespaces(engine_outer_namespaces())
    for i in 0..<namespaces.count where isWhole(i) { make(i) }
}

/// In the builder, where the tree's pids are given.
func makePartNamespaces() {
    noteNamespaces(engine_outer_namespaces(), from: CKPT_NAMESPACE_USER.rawValue)
    for k in 0..<Int(CKPT_NAMESPACE_KINDS) { ckpt_session_namespaces(session)[k] = engine_outer_namespaces()[k] }
    for i in 0..<namespaces.count where !isWhole(i) {
        if engine_namespace_fd(UInt32(i)).pointee > 0 { _ = ckpt_close(engine_namespace_fd(UInt32(i)).pointee) }
        let flag = Namespace.flag(namespaces[i].pointee.kind), home = open(i)
        make(i)
        engine_namespace_fd(UInt32(i)).pointee = lift(open(i), "namespace")
        let r = system(CKPT_SYS_setns, Int(home), flag)
        guard r == 0 else { refuseNamespace(i, r) }
        _ = ckpt_close(home)
    }
}

/// In each process, before it becomes what it was.
func enterNamespaces(of i: Int) {
    let p = processes[i].pointee
    enter(p.uts); enter(p.ipc); enter(p.net)
}
private func enter(_ n: UInt8) {
    if n == 0 || isWhole(Int(n) - 1) { return }
    let r = system(CKPT_SYS_setns, Int(engine_namespace_fd(UInt32(n) - 1).pointee), Namespace.flag(namespaces[Int(n) - 1].pointee.kind))
    guard r == 0 else { refuseNamespace(Int(n) - 1, r) }
}

private func open(_ i: Int) -> Int32 {
    let r = ckpt_open(Namespace.path(namespaces[i].pointee.kind).cString, 0o2000000, 0)
    guard r >= 0 else { refuseNamespace(i, r) }
    return Int32(truncatingIfNeeded: r)
}

/// This process goes into a new one, which becomes as that of the tree was.
private func make(_ i: Int) {
    let n = namespaces[i].pointee
    var r = system(CKPT_SYS_unshare, Namespace.flag(n.kind))
    guard r == 0 else { refuseNamespace(i, r) }
    if n.kind == CKPT_NAMESPACE_UTS.rawValue {
        let setHost = 170, setDomain = 171
        r = system(setHost, int(bytes(n.host)), length(bytes(n.host)))
        if r == 0 { r = system(setDomain, int(bytes(n.domain)), length(bytes(n.domain))) }
    } else if n.flags & CKPT_NAMESPACE_LOOPBACK.rawValue != 0 { r = raiseLoopback() }
    guard r == 0 else { refuseNamespace(i, r) }
}

/// netdevice(7), SIOCSIFFLAGS: IFF_UP.  The addresses come by themselves.
private func raiseLoopback() -> Int {
    let socket = system(CKPT_SYS_socket, 2, 2 | 0o2000000, 0), setFlags = 0x8914, up: UInt64 = 1
    if socket < 0 { return socket }
    var request = InlineArray<5, UInt64>(repeating: 0)      // struct ifreq: the name, 16 bytes, then the flags
    request[0] = 0x6f6c                                     // "lo"
    request[2] = up
    let r = withUnsafeMutableBytes(of: &request) { system(CKPT_SYS_ioctl, socket, setFlags, int($0.baseAddress!)) }
    _ = ckpt_close(Int32(truncatingIfNeeded: socket))
    return r
}
