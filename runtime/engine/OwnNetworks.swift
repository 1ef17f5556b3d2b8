// Devices, addresses and routes of networks of the tree's own: the statefile has the messages that make them (rtnetlink(7)).
// No allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

/// In that namespace.  The other ends of pairs may be in other namespaces of the tree, which exist by now.
func makeNetwork(_ i: Int, _ stages: ClosedRange<UInt32>) {
    var socket = -1
    for k in 0..<networkSteps.count where Int(networkSteps[k].pointee.namespaces) == i && stages.contains(networkSteps[k].pointee.stage) {
        let family = 16, rawAtOnce = 3 | 0o2004000
        if socket < 0 { socket = system(CKPT_SYS_socket, family, rawAtOnce, 0) }
        let r = socket < 0 ? socket : send(networkSteps[k].pointee, Int32(truncatingIfNeeded: socket))
        guard r == 0 else {
            refuse(r) { l in
                l.put(text: bytes(networkSteps[k].pointee.what)); l.put(" in a network namespace of the tree cannot be made: "); putError(r, &l)
                l.put("; restart it as root, where the kernel has veth (modprobe veth)")
            }
        }
    }
    if socket >= 0 { _ = ckpt_close(Int32(truncatingIfNeeded: socket)) }
}

/// The kernel has answered when write(2) returns: an nlmsghdr, then the error.
private func send(_ step: ckpt_network_record, _ socket: Int32) -> Int {
    let message = UnsafeMutableRawPointer(mutating: bytes(step.message))
    if step.other < namespaces.count { message.storeBytes(of: engine_namespace_fd(step.other).pointee, toByteOffset: Int(step.place), as: Int32.self) }
    let w = ckpt_write(socket, message, Int(step.size))
    if w < 0 { return w }
    var answer = InlineArray<1024, UInt64>(repeating: 0)
    let n = withUnsafeMutableBytes(of: &answer) { ckpt_read(socket, $0.baseAddress!, 8192) }
    if n < 20 { return n < 0 ? n : -5 }
    return withUnsafeBytes(of: &answer) { Int($0.load(fromByteOffset: 16, as: Int32.self)) }
}

func isPartNetwork(_ i: Int) -> Bool { namespaces[i].pointee.kind == CKPT_NAMESPACE_NET.rawValue && namespaces[i].pointee.flags & CKPT_NAMESPACE_WHOLE.rawValue == 0 }
