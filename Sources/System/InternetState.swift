// What the kernel tells of TCP and UDP sockets: TCP_INFO, /proc/PID/net/{tcp,tcp6}, queues without taking anything out.
import CkptABI
import Glibc

/// An address and a port; IPv4 as IPv6 shows it (::ffff:1.2.3.4), so that both ends of a connection compare.
public struct Endpoint: Hashable, Sendable {
    public var address: [UInt8]         // 16 bytes
    public var port: UInt16
    public init(address: [UInt8], port: UInt16) { self.address = address; self.port = port }
    /// nil: no sockaddr of the Internet families.
    public init?(_ sockaddr: [UInt8]) {
        guard sockaddr.count >= 16 else { return nil }
        port = UInt16(sockaddr[2]) << 8 | UInt16(sockaddr[3])
        switch Int32(sockaddr[0]) {
        case SocketFamily.inet: address = Endpoint.mapped + sockaddr[4..<8]
        case SocketFamily.inet6 where sockaddr.count >= 24: address = Array(sockaddr[8..<24])
        default: return nil
        }
    }
    private static let mapped: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255]
    public var isIPv4: Bool { Array(address[0..<12]) == Endpoint.mapped }
    public var isAny: Bool { isIPv4 ? address[12...].allSatisfy { $0 == 0 } : address.allSatisfy { $0 == 0 } }
    public var isLoopback: Bool { isIPv4 ? address[12] == 127 : address == [UInt8](repeating: 0, count: 15) + [1] }
    public var text: String {
        if isIPv4 { return address[12...].map { String($0) }.joined(separator: ".") + ":\(port)" }
        var s = [CChar](repeating: 0, count: 64)
        inet_ntop(AF_INET6, address, &s, 64)
        return "[" + String(decoding: s.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self) + "]:\(port)"
    }
    /// As bind(2) takes it in a socket of `family`.
    public func sockaddr(family: Int32) -> [UInt8] {
        let head: [UInt8] = [UInt8(family), 0, UInt8(port >> 8), UInt8(port & 255)]
        return family == SocketFamily.inet ? head + address[12...] + [UInt8](repeating: 0, count: 8) : head + [0, 0, 0, 0] + address + [0, 0, 0, 0]
    }
}

public enum TCPState: UInt8, Sendable {
    case established = 1, synSent, synReceived, finWait1, finWait2, timeWait, closed, closeWait, lastAck, listening, closing
    /// It has sent all that it will: its FIN, or the wish to send one.
    public var hasFinished: Bool { [.finWait1, .finWait2, .closing, .lastAck, .timeWait].contains(self) }
    /// The peer's FIN has arrived.
    public var peerHasFinished: Bool { [.closeWait, .lastAck, .closing, .timeWait, .closed].contains(self) }
}

/// struct tcp_info (linux/tcp.h), read where its fields lie.
public struct TCPInfo: Sendable {
    private let bytes: [UInt8]
    init(_ bytes: [UInt8]) { self.bytes = bytes + [UInt8](repeating: 0, count: max(0, 256 - bytes.count)) }
    private func word(_ at: Int) -> UInt32 { bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: at, as: UInt32.self) } }
    private func long(_ at: Int) -> UInt64 { bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: at, as: UInt64.self) } }
    public var state: TCPState { TCPState(rawValue: bytes[0]) ?? .closed }
    public var options: UInt32 { UInt32(bytes[5]) }
    public var sendScale: UInt32 { UInt32(bytes[6] & 15) }
    public var receiveScale: UInt32 { UInt32(bytes[6] >> 4) }
    /// Listening: how many connections wait, and how many may.
    public var waiting: UInt32 { word(24) }
    public var backlog: UInt32 { word(28) }
    public var unacknowledged: UInt32 { word(24) }
    /// Milliseconds: how long an acknowledgement may be delayed, and since when no data has arrived.
    public var acknowledgementDelay: UInt32 { word(12) / 1000 }
    public var receivedAgo: UInt32 { word(52) }
    /// Milliseconds since the last acknowledgement: of a connection without data, since it was made.
    public var acknowledgedAgo: UInt32 { word(56) }
    /// It has been connected once.
    public var wasEstablished: Bool { options != 0 || word(228) != 0 || long(128) != 0 }
    public var received: UInt64 { long(128) }
    /// All that the program has written, whether it has left or not.
    public var written: UInt64 { long(200) &- long(208) &+ UInt64(word(144)) }
    public var unsent: UInt32 { word(144) }
}

extension File {
    public var tcpInfo: TCPInfo? { option(SocketLevel.tcp, 11, capacity: 256).map(TCPInfo.init) }
    /// poll(2) of everything.
    public var readiness: Int32 {
        var p = pollfd(fd: number, events: Int16(POLLIN | POLLOUT | POLLPRI | 0x2000), revents: 0)
        return poll(&p, 1, 0) > 0 ? Int32(p.revents) : 0
    }
    /// What can be read of a TCP stream; MSG_TRUNC would discard it.
    public func peekStream() throws(SystemError) -> [UInt8] {
        let count = readable
        if count == 0 { return [] }
        var n = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { b, initialized in
            n = recv(number, b.baseAddress, count, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
            initialized = max(0, n)
        }
        if n < 0 && errno != EAGAIN { throw SystemError("recv", errno: errno) }
        return bytes
    }
    /// Looking at a byte lets TCP announce the window that a larger buffer has opened.
    public func announceWindow() {
        var byte: UInt8 = 0
        _ = recv(number, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
    }
    /// A value that TCP_REPAIR doesn't know is refused otherwise where it may not be used at all.
    public var mayBeRepaired: Bool {
        let repair: Int32 = 19
        do throws(SystemError) { try setOption(SocketLevel.tcp, repair, -2) } catch { return error.errno != EPERM }
        return true
    }
    /// What lies in the queue that TCP_REPAIR_QUEUE has chosen.
    public func peekRepairQueue(_ count: Int) throws(SystemError) -> [UInt8] {
        var n = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: max(count, 1)) { b, initialized in
            n = count == 0 ? 0 : recv(number, b.baseAddress, count, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
            initialized = max(0, n)
        }
        if n != count { throw SystemError("recv", errno: n < 0 ? errno : EAGAIN) }
        return bytes
    }
    /// A close that leaves nothing behind: no FIN, no TIME_WAIT (SO_LINGER).
    public func closeAbruptly() { try? setOption(SocketLevel.socket, 13, [1, 0, 0, 0, 0, 0, 0, 0]) }
}

/// A line of /proc/PID/net/{tcp,tcp6}.
public struct TCPLine: Sendable {
    public var local: Endpoint, remote: Endpoint, state: TCPState, readable: UInt32, inode: UInt64
}

public enum InternetTables {
    /// All TCP sockets of the network namespace of `pid`.
    public static func tcp(_ pid: Int32) -> [TCPLine] {
        ["tcp", "tcp6"].flatMap { name in ((try? Path.text("/proc/\(pid)/net/\(name)")) ?? "").split(separator: "\n").dropFirst().compactMap(line) }
    }
    private static func line(_ text: Substring) -> TCPLine? {
        let f = text.split(separator: " ")
        guard f.count >= 10, let local = endpoint(f[1]), let remote = endpoint(f[2]), let raw = UInt8(f[3], radix: 16), let state = TCPState(rawValue: raw) else { return nil }
        let queues = f[4].split(separator: ":")
        return TCPLine(local: local, remote: remote, state: state, readable: queues.count == 2 ? UInt32(queues[1], radix: 16) ?? 0 : 0, inode: UInt64(f[9]) ?? 0)
    }
    /// Words in the machine's order, in hexadecimal.
    private static func endpoint(_ text: Substring) -> Endpoint? {
        let parts = text.split(separator: ":")
        guard parts.count == 2, let port = UInt16(parts[1], radix: 16), parts[0].count == 8 || parts[0].count == 32 else { return nil }
        var bytes: [UInt8] = []
        let digits = Array(parts[0])
        for w in stride(from: 0, to: digits.count, by: 8) {
            guard let word = UInt32(String(digits[w..<w + 8]), radix: 16) else { return nil }
            withUnsafeBytes(of: word) { bytes += $0 }
        }
        if bytes.count == 4 { bytes = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255] + bytes }
        return Endpoint(address: bytes, port: port)
    }
    /// Groups that interfaces have joined: interface and address.
    public static func groups(_ pid: Int32) -> [(interface: UInt32, address: Endpoint)] {
        var found: [(UInt32, Endpoint)] = [], interface: UInt32 = 0
        for line in ((try? Path.text("/proc/\(pid)/net/igmp")) ?? "").split(separator: "\n").dropFirst() {
            let f = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            guard let first = f.first else { continue }
            if line.first != "\t" { interface = UInt32(first) ?? 0 }
            else if let e = endpoint(first + ":0") { found.append((interface, e)) }
        }
        for line in ((try? Path.text("/proc/\(pid)/net/igmp6")) ?? "").split(separator: "\n") {
            let f = line.split(separator: " ")
            guard f.count > 2, f[2].count == 32 else { continue }
            let digits = Array(f[2])
            found.append((UInt32(f[0]) ?? 0, Endpoint(address: stride(from: 0, to: 32, by: 2).map { UInt8(String(digits[$0..<$0 + 2]), radix: 16) ?? 0 }, port: 0)))
        }
        return found
    }
    /// Whether the address is one of the network where we are: only then can it be bound.
    public static func isLocal(_ e: Endpoint) -> Bool {
        let family = e.isIPv4 ? SocketFamily.inet : SocketFamily.inet6
        guard let probe = try? File.socket(family: family, type: SocketType.datagram, protocol: 0) else { return false }
        let address = Endpoint(address: e.address, port: 0).sockaddr(family: family)
        return address.withUnsafeBytes { bind(probe.number, $0.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count)) } == 0
    }
    public static let maximumReceiveBuffer: Int = Int((try? Path.text("/proc/sys/net/core/rmem_max"))?.split(separator: "\n").first ?? "") ?? 212992
}

extension File {
    /// getsockopt(2) of an option whose value is a question, too.
    public func question(_ level: Int32, _ name: Int32, _ value: [UInt8]) -> [UInt8]? {
        var answer = value, length = socklen_t(value.count)
        return getsockopt(number, level, name, &answer, &length) == 0 ? Array(answer.prefix(Int(length))) : nil
    }
}
