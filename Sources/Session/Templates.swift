// The templates of this user: each listens on a socket beside the session segments, named by its statefile's id.
import CkptABI
import CkptSystem

public struct Template: Sendable {
    public let path: String             // of the socket
    public let id: String               // the statefile's, 32 hexadecimal digits
    public let file: String
    public let pid: Int32, keeper: Int32
    public let memory: UInt64
    public let served: Int, living: Int
    public let since: UInt64            // CLOCK_REALTIME, ns

    public var age: UInt64 { let now = Kernel.clock(0); return now > since ? now - since : 0 }
}

public enum Templates {
    public static func all() -> [Template] {
        guard let folder = try? SessionFolder(SessionFolder.path), folder.isOurs, let place = try? folder.open() else { return [] }
        let names = ((try? SessionFolder.names(in: place)) ?? []).filter { $0.hasPrefix(CKPT_WARM_PREFIX) }
        return names.compactMap { ask(CKPT_WARM_LIST, folder.path + "/" + $0) }.sorted { $0.since < $1.since }
    }
    /// Its memory is free when this comes back, but for what its living branches use.
    public static func drop(_ t: Template) -> Bool { ask(CKPT_WARM_DROP, t.path) != nil }

    /// nil: nobody answers there, or not to this user, or not now: a template that is still being read answers when it is complete.
    private static func ask(_ kind: Int, _ path: String) -> Template? {
        let seconds = kind == CKPT_WARM_LIST ? 5 : 60       // much memory takes a while to go
        var request = ckpt_warm_request(), reply = ckpt_warm_reply()
        request.magic = UInt32(CKPT_WARM_MAGIC); request.kind = UInt32(kind)
        guard let socket = try? PacketSocket(path: path, seconds: seconds), (try? socket.send(request)) != nil, (try? socket.receive(into: &reply)) == true,
              reply.magic == UInt32(CKPT_WARM_MAGIC), reply.kind == UInt32(CKPT_WARM_STATUS) else { return nil }
        let name = path.split(separator: "/").last.map { String($0) } ?? ""
        let file = withUnsafeBytes(of: &reply.file) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        return Template(path: path, id: String(name.dropFirst(CKPT_WARM_PREFIX.count)), file: file, pid: reply.pid, keeper: reply.keeper,
                        memory: reply.memory, served: Int(reply.served), living: Int(reply.living), since: reply.since)
    }
}
