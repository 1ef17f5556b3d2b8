// Who is connected to whom, as the kernel tells everybody (sock_diag(7), UNIX_DIAG).
import CkptABI
import Glibc

/// One Unix socket of the network namespace.  Sockets are named by their inodes.
public struct UnixSocketState: Sendable {
    public var inode: UInt32
    public var type: Int32, isListening: Bool, isConnected: Bool
    public var peer: UInt32?                    // 0: it is closed
    public var name: [UInt8] = []               // without the family; the first byte of an abstract one is 0
    public var fileInode: UInt32?               // of the file of a path name
    public var fileDevice: UInt64 = 0           // its file system's, as in mountinfo
    public var waiting: [UInt32] = []           // listening: the clients whose connections are not accepted yet, oldest first; 0: gone
    public var shutdown: UInt8 = 0              // 1: reading, 2: writing
    public var backlog = 0                      // listening
}

public enum UnixDiagnosis {
    /// All Unix sockets of our network namespace, by inode.
    public static func sockets() throws(SystemError) -> [UInt32: UnixSocketState] {
        let rawType: Int32 = 3, diagnosis: Int32 = 4
        let netlink = try File.socket(family: SocketFamily.netlink, type: rawType, protocol: diagnosis)
        // nlmsghdr: length, type SOCK_DIAG_BY_FAMILY, flags REQUEST | DUMP, sequence, port; unix_diag_req: family, states, inode, show, cookie.
        let show: UInt32 = 1 | 2 | 4 | 8 | 0x10
        let request: [UInt32] = [40, 20 | 0x301 << 16, 1, 0, 1, UInt32.max, 0, show, UInt32.max, UInt32.max]
        try retrying("sock_diag") { request.withUnsafeBytes { send(netlink.number, $0.baseAddress, $0.count, 0) } }
        var all: [UInt32: UnixSocketState] = [:]
        var buffer = [UInt64](repeating: 0, count: 16384)
        while true {     // a dump ends with a message that says so
            let n = try retrying("sock_diag") { buffer.withUnsafeMutableBytes { recv(netlink.number, $0.baseAddress, $0.count, 0) } }
            let part = buffer.withUnsafeBytes { [UInt8]($0.prefix(n)) }
            var failure: Int32 = 0
            let more = part.withUnsafeBytes { parse($0, into: &all, &failure) }
            if failure != 0 { throw SystemError("sock_diag", errno: failure) }
            if !more || n == 0 { return all }
        }
    }

    private static func parse(_ b: UnsafeRawBufferPointer, into all: inout [UInt32: UnixSocketState], _ failure: inout Int32) -> Bool {
        var at = 0
        while at + 16 <= b.count {
            let length = Int(b.loadUnaligned(fromByteOffset: at, as: UInt32.self)), type = b.loadUnaligned(fromByteOffset: at + 4, as: UInt16.self)
            guard length >= 16, at + length <= b.count else { return true }
            let error: UInt16 = 2, done: UInt16 = 3
            if type == done { return false }
            if type == error { failure = -b.loadUnaligned(fromByteOffset: at + 16, as: Int32.self); return false }
            if length >= 32, let s = state(UnsafeRawBufferPointer(rebasing: b[(at + 16)..<(at + length)])) { all[s.inode] = s }
            at += (length + 3) & ~3
        }
        return true
    }

    /// unix_diag_msg: family, type, state, pad, inode, cookie; then attributes.
    private static func state(_ b: UnsafeRawBufferPointer) -> UnixSocketState? {
        let established: UInt8 = 1, listening: UInt8 = 10
        guard b[0] == 1 else { return nil }
        var s = UnixSocketState(inode: b.loadUnaligned(fromByteOffset: 4, as: UInt32.self), type: Int32(b[1]), isListening: b[2] == listening, isConnected: b[2] == established)
        var at = 16
        while at + 4 <= b.count {
            let length = Int(b.loadUnaligned(fromByteOffset: at, as: UInt16.self)), kind = b.loadUnaligned(fromByteOffset: at + 2, as: UInt16.self)
            guard length >= 4, at + length <= b.count else { break }
            let value = UnsafeRawBufferPointer(rebasing: b[(at + 4)..<(at + length)])
            func word(_ i: Int) -> UInt32 { value.loadUnaligned(fromByteOffset: i * 4, as: UInt32.self) }
            switch kind {
            case 0: s.name = Array(value)
            case 1 where value.count >= 8: s.fileInode = word(0); s.fileDevice = UInt64(word(1))
            case 2 where value.count >= 4: s.peer = word(0)
            case 3: s.waiting = (0..<value.count / 4).map { word($0) }
            case 4 where value.count >= 8: if s.isListening { s.backlog = Int(word(1)) }
            case 6 where value.count >= 1: s.shutdown = value[0]
            default: break
            }
            at += (length + 3) & ~3
        }
        return s
    }
}
