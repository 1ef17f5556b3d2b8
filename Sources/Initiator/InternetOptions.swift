// Options of IP, IPv6, TCP, UDP and netlink that differ from a fresh socket's; memberships of multicast groups, which no option lists.
import CkptABI
import CkptReport
import CkptSystem

extension SocketOption {
    private static func isTCP(_ s: ObservedSocket) -> Bool { s.isTCP }
    private static func isUDP(_ s: ObservedSocket) -> Bool { s.isInternet && s.protocolNumber == SocketLevel.udp }
    private static func isIP(_ s: ObservedSocket) -> Bool { s.isInternet }
    private static func isIPv6(_ s: ObservedSocket) -> Bool { s.family == SocketFamily.inet6 }
    /// A connected socket shows what was agreed on, not what was asked for.
    private static func isTCPWithoutPeer(_ s: ObservedSocket) -> Bool { s.isTCP && s.remote.isEmpty && s.record.state != CKPT_SOCKET_ENDED.rawValue }

    private static func all(_ level: Int32, _ applies: @escaping (ObservedSocket) -> Bool, _ stage: ckpt_option_stage, _ names: [(Int32, String)]) -> [SocketOption] {
        names.map { SocketOption(level, $0.0, $0.1, stage, applies) }
    }

    nonisolated(unsafe) private static let ip = all(SocketLevel.ip, isIP, CKPT_OPTION_CREATED, [
        (1, "IP_TOS"), (2, "IP_TTL"), (4, "IP_OPTIONS"), (10, "IP_MTU_DISCOVER"), (15, "IP_FREEBIND"), (19, "IP_TRANSPARENT"), (21, "IP_MINTTL"),
        (22, "IP_NODEFRAG"), (24, "IP_BIND_ADDRESS_NO_PORT"), (50, "IP_UNICAST_IF"), (51, "IP_LOCAL_PORT_RANGE"), (6, "IP_RECVOPTS"), (7, "IP_RETOPTS"), (8, "IP_PKTINFO"),
        (11, "IP_RECVERR"), (12, "IP_RECVTTL"), (13, "IP_RECVTOS"), (20, "IP_RECVORIGDSTADDR"), (23, "IP_CHECKSUM"), (25, "IP_RECVFRAGSIZE"),
        (26, "IP_RECVERR_RFC4884")])
    nonisolated(unsafe) private static let ipv6 = all(SocketLevel.ipv6, isIPv6, CKPT_OPTION_CREATED, [
        (26, "IPV6_V6ONLY"), (16, "IPV6_UNICAST_HOPS"), (23, "IPV6_MTU_DISCOVER"), (25, "IPV6_RECVERR"), (49, "IPV6_RECVPKTINFO"), (51, "IPV6_RECVHOPLIMIT"),
        (53, "IPV6_RECVHOPOPTS"), (56, "IPV6_RECVRTHDR"), (58, "IPV6_RECVDSTOPTS"), (60, "IPV6_RECVPATHMTU"), (62, "IPV6_DONTFRAG"), (66, "IPV6_RECVTCLASS"),
        (67, "IPV6_TCLASS"), (70, "IPV6_AUTOFLOWLABEL"), (72, "IPV6_ADDR_PREFERENCES"), (73, "IPV6_MINHOPCOUNT"), (74, "IPV6_RECVORIGDSTADDR"),
        (75, "IPV6_TRANSPARENT"), (76, "IPV6_UNICAST_IF"), (77, "IPV6_RECVFRAGSIZE"), (78, "IPV6_FREEBIND")])
    /// A stream has no groups.
    nonisolated(unsafe) private static let groups = all(SocketLevel.ip, isUDP, CKPT_OPTION_CREATED, [
        (32, "IP_MULTICAST_IF"), (33, "IP_MULTICAST_TTL"), (34, "IP_MULTICAST_LOOP"), (49, "IP_MULTICAST_ALL")])
    nonisolated(unsafe) private static let groups6 = all(SocketLevel.ipv6, { isUDP($0) && isIPv6($0) }, CKPT_OPTION_CREATED, [
        (17, "IPV6_MULTICAST_IF"), (18, "IPV6_MULTICAST_HOPS"), (19, "IPV6_MULTICAST_LOOP"), (29, "IPV6_MULTICAST_ALL")])
    nonisolated(unsafe) private static let tcp = all(SocketLevel.tcp, isTCP, CKPT_OPTION_CREATED, [
        (1, "TCP_NODELAY"), (4, "TCP_KEEPIDLE"), (5, "TCP_KEEPINTVL"), (6, "TCP_KEEPCNT"), (7, "TCP_SYNCNT"), (8, "TCP_LINGER2"), (9, "TCP_DEFER_ACCEPT"),
        (13, "TCP_CONGESTION"), (16, "TCP_THIN_LINEAR_TIMEOUTS"), (18, "TCP_USER_TIMEOUT"), (25, "TCP_NOTSENT_LOWAT"), (27, "TCP_SAVE_SYN"),
        (30, "TCP_FASTOPEN_CONNECT"), (34, "TCP_FASTOPEN_NO_COOKIE"), (36, "TCP_INQ"), (37, "TCP_TX_DELAY"), (44, "TCP_RTO_MAX_MS")])
    nonisolated(unsafe) private static let corked = all(SocketLevel.tcp, isTCP, CKPT_OPTION_FILLED, [
        (3, "TCP_CORK")])
    nonisolated(unsafe) private static let tcpWithoutPeer = all(SocketLevel.tcp, isTCPWithoutPeer, CKPT_OPTION_CREATED, [
        (2, "TCP_MAXSEG"), (23, "TCP_FASTOPEN")])
    nonisolated(unsafe) private static let udp = all(SocketLevel.udp, isUDP, CKPT_OPTION_CREATED, [
        (101, "UDP_NO_CHECK6_TX"), (102, "UDP_NO_CHECK6_RX"), (103, "UDP_SEGMENT"), (104, "UDP_GRO")])
    nonisolated(unsafe) private static let udpCorked = all(SocketLevel.udp, isUDP, CKPT_OPTION_FILLED, [
        (1, "UDP_CORK")])
    nonisolated(unsafe) private static let netlink = all(270, { $0.family == SocketFamily.netlink }, CKPT_OPTION_CREATED, [
        (3, "NETLINK_PKTINFO"), (4, "NETLINK_BROADCAST_ERROR"), (5, "NETLINK_NO_ENOBUFS"), (8, "NETLINK_LISTEN_ALL_NSID"), (10, "NETLINK_CAP_ACK"),
        (11, "NETLINK_EXT_ACK"), (12, "NETLINK_GET_STRICT_CHK")])
    /// The options of IP, IPv6, TCP, UDP and netlink.
    nonisolated(unsafe) static let internet: [SocketOption] = [ip, ipv6, groups, groups6, tcp, corked, tcpWithoutPeer, udp, udpCorked, netlink].flatMap { $0 }
}

extension ObservedSocket {
    var isInternet: Bool { family == SocketFamily.inet || family == SocketFamily.inet6 }
    var isTCP: Bool { isInternet && type == SocketType.stream && protocolNumber == SocketLevel.tcp }
    var isUDP: Bool { isInternet && type == SocketType.datagram && protocolNumber == SocketLevel.udp }
}

extension SystemContent {
    /// No call lists a socket's groups: every group of the machine is asked for (MCAST_MSFILTER).
    func captureMemberships(_ s: ObservedSocket) {
        let join: Int32 = 42, filter: Int32 = 48
        for (interface, address) in InternetTables.groups(view(of: s.network)) {
            guard address.isIPv4 || s.family == SocketFamily.inet6 else { continue }
            let level = address.isIPv4 ? SocketLevel.ip : SocketLevel.ipv6
            let name = address.sockaddr(family: address.isIPv4 ? SocketFamily.inet : SocketFamily.inet6)
            // struct group_req, and struct group_filter: the interface, a sockaddr_storage, the mode, how many sources.
            let request = withUnsafeBytes(of: UInt64(interface)) { [UInt8]($0) } + name + [UInt8](repeating: 0, count: 128 - name.count)
            guard let state = s.file.question(level, filter, request + [UInt8](repeating: 0, count: 8)), state.count >= 144 else { continue }
            let mode = state.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 136, as: UInt32.self) }, sources = state.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 140, as: UInt32.self) }
            let exclude: UInt32 = 0
            if mode != exclude || sources != 0 {
                refuse(s, "UDP \(s.local.text): a member of \(address.text) with a list of sources", "join the group without one")
                continue
            }
            add(level, join, request, CKPT_OPTION_CONNECTED, "MCAST_JOIN_GROUP")
        }
    }
}

extension [UInt8] {
    /// A sockaddr of the Internet families, as messages show it.
    var text: String { Endpoint(self)?.text ?? "" }
}
