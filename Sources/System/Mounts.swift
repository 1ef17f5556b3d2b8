// The mounts of a mount namespace, as /proc/PID/mountinfo tells (proc(5)).
import CkptABI
import Glibc

public struct Mount: Sendable {
    public var id: Int32, parent: Int32
    public var device: String, root: String, point: String, options: [String], type: String, source: String, superOptions: [String]
    /// As propagation shows: "shared:1", "master:2", "unbindable" (mount_namespaces(7)).
    public var propagation: [String]
    /// The line as it is: what it shows of its file system, where, and how; then the type, the source, and the file system's own options.
    public var text: (mount: String, system: String, superOptions: String)

    /// "36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw,errors=continue"
    public init?(_ line: Substring) {
        // A source may be the empty word.
        let raw = line.split(separator: " ", omittingEmptySubsequences: false).map(String.init), f = raw.map(Mount.unescape)
        guard let dash = f.firstIndex(of: "-"), dash >= 6, f.count >= dash + 4, let id = Int32(f[0]), let parent = Int32(f[1]) else { return nil }
        self.id = id; self.parent = parent; propagation = Array(f[6..<dash])
        text = (raw[3...5].joined(separator: " "), raw[(dash + 1)...(dash + 2)].joined(separator: " "), raw[dash + 3])
        device = f[2]; root = f[3]; point = f[4]; options = f[5].split(separator: ",").map(String.init)
        type = f[dash + 1]; source = f[dash + 2]; superOptions = f[dash + 3].split(separator: ",").map(String.init)
    }
    public static func all(of pid: String) throws(SystemError) -> [Mount] {
        all(in: try Path.text("/proc/\(pid)/mountinfo"))
    }
    public static func all(in text: String) -> [Mount] { text.split(separator: "\n").compactMap { Mount($0) } }
    /// Of whom it is a peer, and from whom it receives; nil: nobody.
    public var peers: Int32? { number("shared:") }
    public var master: Int32? { number("master:") }
    private func number(_ key: String) -> Int32? { propagation.first { $0.hasPrefix(key) }.flatMap { Int32($0.dropFirst(key.count)) } }
    public var deviceNumber: UInt64 {
        let n = device.split(separator: ":").compactMap { UInt64($0) }
        return n.count == 2 ? n[0] << 20 | n[1] : 0
    }
    /// A blank in a path shows as \040.
    private static func unescape(_ s: String) -> String {
        guard s.contains("\\") else { return s }
        let bytes = s.nameBytes
        var out: [UInt8] = [], i = 0
        while i < bytes.count {
            if bytes[i] == 92, i + 3 < bytes.count, let c = UInt8(String(decoding: bytes[i + 1...i + 3], as: UTF8.self), radix: 8) { out.append(c); i += 4 }
            else { out.append(bytes[i]); i += 1 }
        }
        return String(name: out)
    }
    public func isSame(as other: Mount) -> Bool { device == other.device && root == other.root && point == other.point }
    /// The path at which this mount shows `root` of its device; nil: it does not.
    public func path(showing wanted: String) -> String? {
        let base = point == "/" ? "" : point
        if wanted == root { return point }
        let prefix = root == "/" ? "/" : root + "/"
        return wanted.hasPrefix(prefix) ? base + "/" + wanted.dropFirst(prefix.count) : nil
    }
    /// MS_RDONLY and the others that belong to a mount and not to its file system (mount(2)).
    public var flags: UInt32 {
        let known: [String: UInt32] = ["ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "nosymfollow": 256, "noatime": 1024, "nodiratime": 2048, "relatime": 1 << 21]
        return options.reduce(0) { $0 | (known[$1] ?? 0) }
    }
}

/// While there is one, absolute paths are those of a process with mounts of its own; /proc stays ours.
public final class MountVisit {
    nonisolated(unsafe) fileprivate static var root = ""
    private let before = MountVisit.root
    public init(_ pid: Int32) { MountVisit.root = "/proc/\(pid)/root" }
    public func end() { MountVisit.root = before }

    /// Runs `body` where the paths are those of that process; nil: where they are now.
    public static func within<R>(_ pid: Int32?, _ body: () -> R) -> R {
        guard let pid else { return body() }
        let visit = MountVisit(pid)
        defer { visit.end() }
        return body()
    }
    /// Runs `body` where the paths are ours.
    public static func outside<R>(_ body: () -> R) -> R {
        let before = root
        root = ""
        defer { root = before }
        return body()
    }
}

extension Path {
    /// Where a path of the tree lies for us.
    static func seen(_ path: String) -> [CChar] {
        (MountVisit.root.isEmpty || !path.hasPrefix("/") || path.hasPrefix("/proc/") ? path : MountVisit.root + path).systemName
    }
    /// FS_IMMUTABLE_FL, FS_APPEND_FL and FS_NODUMP_FL of a name, as statx(2) shows them; nil: not known.
    public static func attributes(of path: String) -> UInt64? {
        var words = [UInt64](repeating: 0, count: 32)           // struct statx: stx_attributes at 8
        let noFollow = 0x100, noAutomount = 0x800, basic = 0x7ff, known: UInt64 = 0x70
        let r = words.withUnsafeMutableBytes { b in seen(path).withUnsafeBufferPointer { ckpt_syscall(CKPT_SYS_statx, Int(AT_FDCWD), Int(bitPattern: $0.baseAddress!), noAutomount | noFollow, basic, Int(bitPattern: b.baseAddress!), 0) } }
        return r == 0 ? words[1] & known : nil
    }
    /// The mount in which a file lies, by its number in mountinfo (statx(2)); nil: it can't be reached.
    public static func mount(of path: String, follow: Bool = true) -> Int32? {
        var words = [UInt64](repeating: 0, count: 32)           // struct statx: stx_mnt_id at 144
        let askMount = 0x1000, noFollow = 0x100, noAutomount = 0x800
        let r = words.withUnsafeMutableBytes { b in seen(path).withUnsafeBufferPointer { ckpt_syscall(CKPT_SYS_statx, Int(AT_FDCWD), Int(bitPattern: $0.baseAddress!), noAutomount | (follow ? 0 : noFollow), askMount, Int(bitPattern: b.baseAddress!), 0) } }
        return r == 0 && words[0] & UInt64(askMount) != 0 ? Int32(truncatingIfNeeded: words[18]) : nil
    }
}
