// Namespaces as a process outside sees them (namespaces(7)), and what somebody inside finds there (NamespaceVisit.swift).
import CkptABI
import Glibc

public enum Namespace {
    public struct Kind: Sendable { public let name: String; let flag: Int }
    public static let cgroup = Kind(name: "cgroup", flag: 0x0200_0000), ipc = Kind(name: "ipc", flag: 0x0800_0000), net = Kind(name: "net", flag: 0x4000_0000)
    public static let ipcSettings = ["shmmax", "shmall", "shmmni", "shm_rmid_forced", "sem", "msgmax", "msgmnb", "msgmni"].map { "/proc/sys/kernel/" + $0 } + ["/proc/sys/fs/mqueue"]

    /// "uts:[4026531838]"
    public static func number(_ pid: Int32, task: Int32? = nil, _ name: String) -> UInt32? { number(at: "/proc/\(pid)/" + (task.map { "task/\($0)/" } ?? "") + "ns/\(name)") }
    public static func number(at path: String) -> UInt32? {
        guard let link = try? Path.link(path), let open = link.lastIndex(of: "[") else { return nil }
        return UInt32(link[link.index(after: open)...].dropLast())
    }

    /// An open namespace.
    public struct Member: Sendable {
        public let number: UInt32, file: File
        init(_ file: File) throws(SystemError) { self.file = file; number = UInt32(truncatingIfNeeded: try file.status().st_ino) }
    }
    private static let ownerOf: UInt = 0xb701, parentOf: UInt = 0xb702

    /// The user namespace that a namespace belongs to (ioctl_ns(2)).
    public static func ownerFile(_ path: String) throws(SystemError) -> Member { try Member(ownerFile(File(path))) }
    public static func owner(_ path: String) throws(SystemError) -> UInt32 { try ownerFile(path).number }
    static func ownerFile(_ file: File) throws(SystemError) -> File { File(adopting: try retrying("ioctl") { ioctl(file.number, ownerOf) }) }

    /// A namespace and those around it up to `outer`, which is not among them, from outside to inside; nil: it is not inside of that.
    public static func chain(_ path: String, below outer: UInt32) -> [Member]? { (try? Member(File(path))).flatMap { chain($0, below: outer) } }
    public static func chain(_ first: Member, below outer: UInt32) -> [Member]? {
        var found: [Member] = [], next = first
        while next.number != outer {
            found.append(next)
            guard let fd = try? retrying("ioctl", { ioctl(next.file.number, parentOf) }), let around = try? Member(File(adopting: fd)) else { return nil }
            next = around
        }
        return found.reversed()
    }

    /// The user, as we see him, who made a user namespace.
    public static func creator(_ users: Member) throws(SystemError) -> UInt32 {
        let creatorOf: UInt = 0xb704
        var user: UInt32 = 0
        _ = try retrying("ioctl") { ioctl(users.file.number, creatorOf, &user) }
        return user
    }

    /// What user_namespaces(7) says of the one that a process lives in.
    public static func idMaps(_ process: String) throws(SystemError) -> (users: String, groups: String, setgroups: String) {
        (try Path.text(process + "/uid_map"), try Path.text(process + "/gid_map"), try Path.text(process + "/setgroups"))
    }

    /// The namespaces around one, from inside to outside, as far as we see.
    public static func around(_ path: String) -> [UInt32] {
        var found: [UInt32] = [], file = try? File(path)
        while let f = file, let fd = try? retrying("ioctl", { ioctl(f.number, parentOf) }) {
            file = File(adopting: fd)
            found.append(UInt32(truncatingIfNeeded: (try? file?.status().st_ino) ?? 0))
        }
        return found
    }

    /// Every setting below these, by path, as it reads where we are.
    public static func settings(_ places: [String]) -> [String: String] {
        var all: [String: String] = [:]
        func add(_ place: String) {
            if let names = try? Path.names(in: place) { for n in names where n != "." && n != ".." { add(place + "/" + n) }; return }
            // What nobody may read nobody set; statistics and secrets are no settings.
            if place.hasSuffix("stable_secret") || place.hasSuffix("nf_conntrack_count") || place.hasSuffix("/route/flush") { return }
            if let text = try? Path.text(place) { all[place] = text.split(whereSeparator: { $0 == "\n" }).joined(separator: " ") }
        }
        for p in places { add(p) }
        return all
    }

    /// The same setting of a device that is still to come.
    public static func ofAnyDevice(_ path: String) -> String {
        var parts = path.split(separator: "/", omittingEmptySubsequences: false)
        if parts.count > 2 { parts[parts.count - 2] = "default" }
        return parts.joined(separator: "/")
    }

    /// Rules of nftables or iptables, where we are.
    public static func hasPacketFilter() -> Bool {
        for name in ["ip_tables_names", "ip6_tables_names", "arp_tables_names"] {
            if let text = try? Path.text("/proc/self/net/\(name)"), !text.isEmpty { return true }
        }
        let netfilter: Int32 = 12, rawType: Int32 = 3
        guard let s = try? File.socket(family: 16, type: rawType, protocol: netfilter) else { return false }
        // nlmsghdr: length, NFNL_SUBSYS_NFTABLES and NFT_MSG_GETTABLE, REQUEST | DUMP, sequence, port; nfgenmsg.
        let request: [UInt32] = [20, 0x0a01 | 0x301 << 16, 1, 0, 0]
        guard request.withUnsafeBytes({ send(s.number, $0.baseAddress, $0.count, 0) }) > 0 else { return false }
        var answer = [UInt32](repeating: 0, count: 1024)
        let n = answer.withUnsafeMutableBytes { recv(s.number, $0.baseAddress, $0.count, 0) }
        let error: UInt32 = 2, done: UInt32 = 3
        return n >= 16 && answer[1] & 0xffff != error && answer[1] & 0xffff != done
    }
}

extension Path {
    public static func mayBeWritten(_ path: String) -> Bool { (try? status(path)).map { $0.st_mode & 0o222 != 0 } ?? false }
}
