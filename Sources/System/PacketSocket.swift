// A connection to a SOCK_SEQPACKET socket that lies in a folder (unix(7)): one record per message.
import CkptABI
import Glibc

public final class PacketSocket {
    private let socket: File

    /// A path that is too long for an address goes through a descriptor of its folder.  Who does not answer in `seconds` does not answer.
    public init(path: String, seconds: Int) throws(SystemError) {
        socket = File(adopting: try retrying("socket") { Glibc.socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0) })
        var patience = timeval(tv_sec: seconds, tv_usec: 0)
        for side in [SO_RCVTIMEO, SO_SNDTIMEO] { try retrying("setsockopt") { setsockopt(socket.number, SOL_SOCKET, side, &patience, socklen_t(MemoryLayout<timeval>.size)) } }
        let slash = path.lastIndex(of: "/") ?? path.startIndex
        let folder = path.utf8.count < 108 ? nil : try File(String(path[..<slash]), flags: 0o10200000)     // O_PATH, O_DIRECTORY
        let name = folder.map { "/proc/self/fd/\($0.number)" + path[slash...] } ?? path
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { place in for (i, b) in name.utf8.prefix(107).enumerated() { place[i] = b } }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        try retrying("connect") { withUnsafePointer(to: &address) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(socket.number, $0, size) } } }
    }

    public func send<Record>(_ record: Record) throws(SystemError) {
        var record = record
        try retrying("send") { withUnsafeBytes(of: &record) { Glibc.send(socket.number, $0.baseAddress!, $0.count, Int32(MSG_NOSIGNAL)) } }
    }
    /// The next message if it is one whole record; nil at the end.
    public func receive<Record>(into record: inout Record) throws(SystemError) -> Bool {
        let size = MemoryLayout<Record>.size
        return try retrying("receive") { withUnsafeMutableBytes(of: &record) { recv(socket.number, $0.baseAddress!, $0.count, 0) } } == size
    }
}
