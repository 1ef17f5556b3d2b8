// What a socket tells about itself: names, options, and what is in its queue, without taking anything out (MSG_PEEK).
import CkptABI
import Glibc

/// A message as it lies in a queue.  Descriptors that it carries arrive as copies.
public struct QueuedMessage {
    public var bytes: [UInt8]
    public var source: [UInt8]                  // sockaddr; empty: the sender has no name
    public var descriptors: [File] = []         // SCM_RIGHTS
    public var credentials: PeerCredentials?    // SCM_CREDENTIALS, as we see the numbers
    public init(bytes: [UInt8], source: [UInt8]) { self.bytes = bytes; self.source = source }
}
public struct PeerCredentials: Equatable, Sendable {
    public var pid: Int32, uid: UInt32, gid: UInt32
    public init(pid: Int32, uid: UInt32, gid: UInt32) { self.pid = pid; self.uid = uid; self.gid = gid }
}

public enum SocketLevel {
    public static let socket: Int32 = 1, ip: Int32 = 0, tcp: Int32 = 6, udp: Int32 = 17, ipv6: Int32 = 41
}
public enum SocketFamily { public static let unix: Int32 = 1, inet: Int32 = 2, inet6: Int32 = 10, netlink: Int32 = 16 }
public enum SocketType { public static let stream: Int32 = 1, datagram: Int32 = 2, raw: Int32 = 3, seqpacket: Int32 = 5 }

extension File {
    /// A socket of our own, to compare with.
    public static func socket(family: Int32, type: Int32, protocol number: Int32) throws(SystemError) -> File {
        File(adopting: try retrying("socket") { Glibc.socket(family, type | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), number) })
    }

    /// getsockopt(2); nil where the socket does not know the option.
    public func option(_ level: Int32, _ name: Int32, capacity: Int = 64) -> [UInt8]? {
        var length = socklen_t(capacity), known = false
        let value = [UInt8](unsafeUninitializedCapacity: capacity) { buffer, initialized in
            known = getsockopt(number, level, name, buffer.baseAddress, &length) == 0
            initialized = known ? min(capacity, Int(length)) : 0
        }
        return known ? value : nil
    }
    public func intOption(_ level: Int32, _ name: Int32) -> Int32? {
        guard let v = option(level, name), v.count == 4 else { return nil }
        return v.withUnsafeBytes { $0.loadUnaligned(as: Int32.self) }
    }
    public func setOption(_ level: Int32, _ name: Int32, _ value: [UInt8]) throws(SystemError) {
        try retrying("setsockopt") { setsockopt(number, level, name, value, socklen_t(value.count)) }
    }
    public func setOption(_ level: Int32, _ name: Int32, _ value: Int32) throws(SystemError) {
        try setOption(level, name, withUnsafeBytes(of: value) { [UInt8]($0) })
    }
    /// SO_ATTACH_FILTER's instructions; nil where they can't be read (an eBPF program).
    public var classicFilter: [UInt8]? {
        let getFilter: Int32 = 26
        var count = socklen_t(0)
        guard getsockopt(number, SocketLevel.socket, getFilter, nil, &count) == 0 else { return nil }
        if count == 0 { return [] }
        var instructions = [UInt64](repeating: 0, count: Int(count))
        guard getsockopt(number, SocketLevel.socket, getFilter, &instructions, &count) == 0 else { return nil }
        return instructions.withUnsafeBytes { [UInt8]($0) }
    }

    /// SO_ATTACH_FILTER with one instruction, BPF_RET: 0 bytes of each packet are kept.
    public func dropWhatArrives() throws(SystemError) {
        let attachFilter: Int32 = 26, instruction: UInt64 = 0x06
        try retrying("SO_ATTACH_FILTER") {
            withUnsafePointer(to: instruction) { i in
                let program = [1, UInt(bitPattern: i)]      // struct sock_fprog
                return setsockopt(number, SocketLevel.socket, attachFilter, program, 16)
            }
        }
    }

    /// The file of a Unix socket's path name (SIOCUNIXFILE, O_PATH), wherever it is now; EPERM without CAP_NET_ADMIN, ENOENT: it has none.
    public func boundFile() throws(SystemError) -> File {
        let unixFile: UInt = 0x89e0
        return File(adopting: try retrying("SIOCUNIXFILE") { ioctl(self.number, unixFile, 0) })
    }
    public func localAddress() throws(SystemError) -> [UInt8] { try address("getsockname") { getsockname(self.number, $0, $1) } }
    /// Empty when it is not connected.
    public func peerAddress() throws(SystemError) -> [UInt8]? {
        do throws(SystemError) { return try address("getpeername") { getpeername(self.number, $0, $1) } } catch {
            if error.errno == ENOTCONN || error.errno == EINVAL || error.errno == EOPNOTSUPP { return nil }
            throw error
        }
    }
    private func address(_ call: String, _ body: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32) throws(SystemError) -> [UInt8] {
        var storage = [UInt8](repeating: 0, count: 128), length = socklen_t(128)
        let r = storage.withUnsafeMutableBytes { b in body(b.baseAddress!.assumingMemoryBound(to: sockaddr.self), &length) }
        if r != 0 { throw SystemError(call, errno: errno) }
        return Array(storage.prefix(min(128, Int(length))))
    }

    public var peerCredentials: PeerCredentials? {
        guard let v = option(SocketLevel.socket, 17), v.count == 12 else { return nil }
        return v.withUnsafeBytes { PeerCredentials(pid: $0.loadUnaligned(as: Int32.self), uid: $0.loadUnaligned(fromByteOffset: 4, as: UInt32.self), gid: $0.loadUnaligned(fromByteOffset: 8, as: UInt32.self)) }
    }
    /// An error waits to be told (SO_ERROR would tell, and forget, it).
    public var hasPendingError: Bool {
        var p = pollfd(fd: number, events: 0, revents: 0)
        return poll(&p, 1, 0) > 0 && Int32(p.revents) & POLLERR != 0
    }
    /// The network namespace that it was made in (SIOCGSKNS); nil: that takes power over the network.
    public var networkNamespace: UInt32? {
        let request: UInt = 0x894c
        guard let fd = try? retrying("ioctl", { ioctl(number, request) }) else { return nil }
        return (try? File(adopting: fd).status()).map { UInt32(truncatingIfNeeded: $0.st_ino) }
    }
    /// Bytes that can be read (SIOCINQ): of a stream all of them, else of the first message.
    public var readable: Int { count(0x541b) }
    /// Memory of what was sent and not yet read (SIOCOUTQ).
    public var unsent: Int { count(0x5411) }
    private func count(_ request: UInt) -> Int {
        var n: Int32 = 0
        return ioctl(number, request, &n) == 0 ? Int(n) : 0
    }

    /// The next message at the peek offset; nil when there is none.  `capacity`: a stream may have more.
    public func peek(capacity: Int) throws(SystemError) -> QueuedMessage? {
        var capacity = max(capacity, 1)
        while true {
            let (message, whole) = try receiveOnce(capacity, Int32(MSG_PEEK))
            guard let message else { return nil }
            if whole <= capacity { return message }
            capacity = whole
        }
    }

    /// The first message, taken out; of one that is longer than `capacity`, the beginning.
    public func take(capacity: Int) throws(SystemError) -> QueuedMessage? { try receiveOnce(capacity, 0).0 }

    /// Where the last of the writes begins that make up the first `count` bytes of a stream: memory that can't be written follows the first count − 1 bytes,
    /// and the kernel copies a write wholly or not at all.  (Reading less would not tell: a peek also hands out the descriptors of the write behind it.)
    public func startOfLastWrite(in count: Int) throws(SystemError) -> Int {
        var bytes = [UInt8](repeating: 0, count: max(1, count - 1)), control = [UInt64](repeating: 0, count: 320)
        var message = msghdr()
        let n = bytes.withUnsafeMutableBytes { b in control.withUnsafeMutableBytes { c in
            var vectors = [iovec(iov_base: b.baseAddress, iov_len: count - 1), iovec(iov_base: UnsafeMutableRawPointer(bitPattern: 16), iov_len: 1 << 20)]
            return vectors.withUnsafeMutableBufferPointer { v in
                message.msg_iov = v.baseAddress; message.msg_iovlen = 2
                message.msg_control = c.baseAddress; message.msg_controllen = c.count
                return recvmsg(number, &message, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT) | 0x40000000)
            }
        } }
        if n < 0 && errno == EFAULT { return 0 }
        if n < 0 { throw SystemError("recvmsg", errno: errno) }
        var m = QueuedMessage(bytes: [], source: [])
        m.take(control, Int(message.msg_controllen))
        return n
    }

    /// What fits, and the whole size of the message.
    private func receiveOnce(_ capacity: Int, _ peek: Int32) throws(SystemError) -> (QueuedMessage?, Int) {
        var bytes = [UInt8](repeating: 0, count: capacity), control = [UInt64](repeating: 0, count: 320), source = [UInt8](repeating: 0, count: 128)
        var message = msghdr()
        let flags = peek | Int32(MSG_DONTWAIT) | Int32(MSG_TRUNC) | 0x40000000     // MSG_CMSG_CLOEXEC
        let n = bytes.withUnsafeMutableBytes { b in control.withUnsafeMutableBytes { c in source.withUnsafeMutableBytes { s in
            var vector = iovec(iov_base: b.baseAddress, iov_len: capacity)
            return withUnsafeMutablePointer(to: &vector) { v in
                message.msg_iov = v; message.msg_iovlen = 1
                message.msg_control = c.baseAddress; message.msg_controllen = c.count
                message.msg_name = s.baseAddress; message.msg_namelen = 128
                return recvmsg(number, &message, flags)
            }
        } } }
        if n < 0 {
            if errno == EAGAIN || errno == EINTR { return (nil, 0) }
            throw SystemError("recvmsg", errno: errno)
        }
        var m = QueuedMessage(bytes: Array(bytes.prefix(n)), source: Array(source.prefix(min(128, Int(message.msg_namelen)))))
        m.take(control, Int(message.msg_controllen))
        if Int32(message.msg_flags) & Int32(MSG_CTRUNC) != 0 { throw SystemError("recvmsg: control data cut off", errno: EMFILE) }
        return (m, n)
    }
}

extension QueuedMessage {
    /// The control messages: struct cmsghdr is a length, a level and a type, and the data; each begins 8-aligned.
    fileprivate mutating func take(_ control: [UInt64], _ length: Int) {
        control.withUnsafeBytes { c in
            var at = 0
            while at + 16 <= length {
                let size = c.loadUnaligned(fromByteOffset: at, as: Int.self)
                let level = c.loadUnaligned(fromByteOffset: at + 8, as: Int32.self), type = c.loadUnaligned(fromByteOffset: at + 12, as: Int32.self)
                guard size >= 16, at + size <= length else { return }
                let rights: Int32 = 1, credentials: Int32 = 2
                if level == SocketLevel.socket && type == rights {
                    for i in 0..<(size - 16) / 4 { descriptors.append(File(adopting: c.loadUnaligned(fromByteOffset: at + 16 + i * 4, as: Int32.self))) }
                } else if level == SocketLevel.socket && type == credentials && size >= 28 {
                    self.credentials = PeerCredentials(pid: c.loadUnaligned(fromByteOffset: at + 16, as: Int32.self), uid: c.loadUnaligned(fromByteOffset: at + 20, as: UInt32.self),
                                                       gid: c.loadUnaligned(fromByteOffset: at + 24, as: UInt32.self))
                }
                at += (size + 7) & ~7
            }
        }
    }
}
