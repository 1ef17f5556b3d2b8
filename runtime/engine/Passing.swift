// Runs in the processes of a template and in those that ask it; any of the engine's stacks; no allocation, no libc.
// One message of a SOCK_SEQPACKET socket, with descriptors (SCM_RIGHTS).
import CkptABI
import EngineBoot
import Freestanding

private let rights: Int32 = 1, noSignal = 0x4000, closeOnExec = 0x4000_0000
/// A control message's header and room for ENGINE_PASSED numbers.
private typealias Control = InlineArray<104, UInt64>

/// Sends `size` bytes and `count` descriptors; the kernel's answer.
func send(_ socket: Int32, _ p: UnsafeRawPointer, _ size: Int, _ numbers: UnsafePointer<Int32>? = nil, _ count: Int = 0) -> Int {
    var control = Control(repeating: 0)
    return withUnsafeMutableBytes(of: &control) { c in
        var vector = ckpt_iovec(base: UInt64(UInt(bitPattern: p)), length: UInt64(size)), header = ckpt_msghdr()
        header.iovlen = 1
        if let numbers, count > 0 {
            c.storeBytes(of: UInt64(16 + count * 4), as: UInt64.self)
            c.storeBytes(of: UInt64(1) | UInt64(UInt32(bitPattern: rights)) << 32, toByteOffset: 8, as: UInt64.self)     // SOL_SOCKET
            for k in 0..<count { c.storeBytes(of: numbers[k], toByteOffset: 16 + k * 4, as: Int32.self) }
            header.control = UInt64(UInt(bitPattern: c.baseAddress!)); header.controllen = UInt64((16 + count * 4 + 7) & ~7)
        }
        return withUnsafeMutablePointer(to: &vector) { v in
            header.iov = UInt64(UInt(bitPattern: v))
            var r = -4
            while r == -4 { r = system(CKPT_SYS_sendmsg, Int(socket), int(&header), noSignal) }
            return r
        }
    }
}

/// Receives at most `size` bytes and `capacity` descriptors; how many of both, or a negative errno.
func receive(_ socket: Int32, _ p: UnsafeMutableRawPointer, _ size: Int, _ numbers: UnsafeMutablePointer<Int32>, _ capacity: Int) -> (size: Int, count: Int) {
    var control = Control(repeating: 0)
    return withUnsafeMutableBytes(of: &control) { c in
        var vector = ckpt_iovec(base: UInt64(UInt(bitPattern: p)), length: UInt64(size)), header = ckpt_msghdr()
        header.iovlen = 1
        header.control = UInt64(UInt(bitPattern: c.baseAddress!)); header.controllen = UInt64(16 + capacity * 4)
        let r = withUnsafeMutablePointer(to: &vector) { v in
            header.iov = UInt64(UInt(bitPattern: v))
            var r = -4
            while r == -4 { r = system(CKPT_SYS_recvmsg, Int(socket), int(&header), closeOnExec) }
            return r
        }
        guard r > 0, header.controllen >= 16 else { return (r, 0) }
        let count = min(capacity, (Int(c.load(as: UInt64.self)) - 16) / 4)
        for k in 0..<count { numbers[k] = c.load(fromByteOffset: 16 + k * 4, as: Int32.self) }
        return (r, count)
    }
}

/// Nobody waits longer for the other end (SO_RCVTIMEO).
func setPatience(_ socket: Int32, seconds: Int64) {
    var patience = ckpt_timespec(sec: seconds, nsec: 0)
    _ = system(CKPT_SYS_setsockopt, Int(socket), 1, 20, int(&patience), 16)
}

func socketPair() -> (Int32, Int32) {
    var ends = InlineArray<2, Int32>(repeating: -1)
    let r = withUnsafeMutableBytes(of: &ends) { system(CKPT_SYS_socketpair, 1, 5 | 0o2000000, 0, int($0.baseAddress!)) }
    guard r == 0 else { refuse(r) { $0.put("socket for a template") } }
    return (ends[0], ends[1])
}

/// The same descriptor at `least` or above.
func raise(_ fd: Int32, to least: Int32) -> Int32 {
    let r = system(CKPT_SYS_fcntl, Int(fd), 1030, Int(least))
    guard r >= 0 else { refuse(r) { $0.put("descriptors for a template; raise the limit on open files (ulimit -Hn)") } }
    _ = ckpt_close(fd)
    return Int32(truncatingIfNeeded: r)
}
