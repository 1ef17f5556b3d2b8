// The mounts of a mount namespace, as /proc/PID/mountinfo tells (proc(5)).
import CkptABI
import Glibc

public struct Mount: Sendable {
    public var device: String, root: String, point: String, options: [String], type: String, source: String, superOptions: [String]

    /// "36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw,errors=continue"
    public init?(_ line: Substring) {
        let f = line.split(separator: " ").map { Mount.unescape(String($0)) }
        guard let dash = f.firstIndex(of: "-"), dash >= 6, f.count >= dash + 4 else { return nil }
        device = f[2]; root = f[3]; point = f[4]; options = f[5].split(separator: ",").map(String.init)
        type = f[dash + 1]; source = f[dash + 2]; superOptions = f[dash + 3].split(separator: ",").map(String.init)
    }
    public static func all(of pid: String) throws(SystemError) -> [Mount] {
        try Path.text("/proc/\(pid)/mountinfo").split(separator: "\n").compactMap { Mount($0) }
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

/// While there is one, absolute paths are those of a tree with mounts of its own; /proc stays ours.
public final class MountVisit {
    nonisolated(unsafe) fileprivate static var root = ""
    public init(_ pid: Int32) { MountVisit.root = "/proc/\(pid)/root" }
    public func end() { MountVisit.root = "" }
    deinit { end() }
}

extension Path {
    /// Where a path of the tree lies for us.
    static func seen(_ path: String) -> [CChar] {
        (MountVisit.root.isEmpty || !path.hasPrefix("/") || path.hasPrefix("/proc/") ? path : MountVisit.root + path).systemName
    }
}
