// /proc as proc(5) describes it: text in, values out.  Reading is in CkptSystem's Path; nothing here changes anything.
import CkptABI
import CkptSystem

/// /proc/PID/stat
public struct ProcStat: Sendable {
    public var pid: Int32, comm: String, state: Character, parent: Int32, group: Int32, terminalSession: Int32
    /// Device of the controlling terminal (0: none), and its foreground process group as the reader sees it (−1: none).
    public var terminal: UInt64, foreground: Int32
    public var flags: UInt64, nice: Int, threads: Int, startTime: UInt64
    public var startCode: UInt64, endCode: UInt64, startStack: UInt64
    public var startData: UInt64, endData: UInt64, startBrk: UInt64, argStart: UInt64, argEnd: UInt64, envStart: UInt64, envEnd: UInt64
    public var exitCode: Int32
    /// What the parent gets when it ends (clone(2)).
    public var exitSignal: Int32

    /// A thread of the kernel that does the work of an io_uring (PF_IO_WORKER): it takes no signals, and comes and goes.
    public var isRingWorker: Bool { flags & 0x10 != 0 }

    public init?(_ text: String) {
        guard let open = text.firstIndex(of: "("), let close = text.lastIndex(of: ")"), let pid = Int32(text[..<open].dropLast()) else { return nil }
        let f = text[text.index(after: close)...].split(whereSeparator: { $0 == " " || $0 == "\n" })
        guard f.count >= 20 else { return nil }
        func field(_ n: Int) -> UInt64 { n - 3 < f.count ? UInt64(f[n - 3]) ?? UInt64(bitPattern: Int64(f[n - 3]) ?? 0) : 0 }     // numbered as in proc(5)
        self.pid = pid
        comm = String(text[text.index(after: open)..<close])
        state = f[0].first ?? "?"
        parent = Int32(truncatingIfNeeded: field(4)); group = Int32(truncatingIfNeeded: field(5)); terminalSession = Int32(truncatingIfNeeded: field(6))
        terminal = field(7) & 0xffff_ffff; foreground = Int32(truncatingIfNeeded: field(8))
        flags = field(9); nice = Int(truncatingIfNeeded: field(19)); threads = Int(field(20)); startTime = field(22)
        startCode = field(26); endCode = field(27); startStack = field(28)
        startData = field(45); endData = field(46); startBrk = field(47)
        argStart = field(48); argEnd = field(49); envStart = field(50); envEnd = field(51)
        exitSignal = Int32(truncatingIfNeeded: field(38))
        exitCode = Int32(truncatingIfNeeded: field(52))
    }
    public init?(pid: Int32, tid: Int32? = nil) {
        let path = tid.map { "/proc/\(pid)/task/\($0)/stat" } ?? "/proc/\(pid)/stat"
        guard let text = try? Path.text(path) else { return nil }
        self.init(text)
    }
    /// A main thread that is gone shows no memory any more; another of the process does.
    public mutating func takeMemory(from other: ProcStat) {
        startCode = other.startCode; endCode = other.endCode; startStack = other.startStack
        startData = other.startData; endData = other.endData; startBrk = other.startBrk
        argStart = other.argStart; argEnd = other.argEnd; envStart = other.envStart; envEnd = other.envEnd
    }
    /// This task has ended; the process may live on in its other threads.
    public var isDead: Bool { state == "Z" || state == "X" }
    /// The process has ended and waits to be waited for.
    public var isZombie: Bool { isDead && threads <= 1 }
    public var isStopped: Bool { state == "T" }
}

/// /proc/PID/status, as a dictionary with typed access.
public struct ProcStatus: Sendable {
    private var fields: [String: String] = [:]
    public init(_ text: String) {
        for line in text.split(separator: "\n") {
            guard let colon = line.firstIndex(of: ":") else { continue }
            fields[String(line[..<colon])] = String(line[line.index(after: colon)...].drop { $0 == "\t" || $0 == " " })
        }
    }
    public init?(pid: Int32, tid: Int32? = nil) {
        let path = tid.map { "/proc/\(pid)/task/\($0)/status" } ?? "/proc/\(pid)/status"
        guard let text = try? Path.text(path) else { return nil }
        self.init(text)
    }
    public subscript(_ key: String) -> String? { fields[key] }
    public func hex(_ key: String) -> UInt64 { fields[key].flatMap { UInt64($0, radix: 16) } ?? 0 }
    public func numbers(_ key: String) -> [Int] { (fields[key] ?? "").split(whereSeparator: { $0 == "\t" || $0 == " " }).compactMap { Int($0) } }
    /// Pids of one task from the outermost namespace that we see to its own.
    public var namespacePids: [Int32] { numbers("NSpid").map { Int32($0) } }
    /// The same for its process: a thread shows its own id in NSpid.
    public var namespaceProcessPids: [Int32] { numbers("NStgid").map { Int32($0) } }
    public var octalUmask: UInt32 { fields["Umask"].flatMap { UInt32($0, radix: 8) } ?? 0o022 }
    public func kilobytes(_ key: String) -> UInt64 { UInt64((fields[key] ?? "0").split(separator: " ").first ?? "0") ?? 0 }
}

/// One line of /proc/PID/maps, or one block of smaps.
public struct ProcMapping: Sendable {
    public var start: UInt64, end: UInt64, protection: UInt32, isShared: Bool, offset: UInt64
    public var device: UInt64, inode: UInt64, name: String
    public var flags: Set<String> = []      // VmFlags of smaps
    public var anonymousBytes: UInt64 = 0   // smaps: Anonymous + Swap, the pages that are this process's own
    public var residentBytes: UInt64 = 0    // smaps: Rss + Swap
    public var hugeBytes: UInt64 = 0        // smaps: Private_Hugetlb + Shared_Hugetlb
    public var kernelPageSize: UInt64 = 4096
    public var protectionKey: UInt8 = 0     // 0 as well where the CPU has none
    public var size: UInt64 { end - start }

    public init?(_ line: Substring) {
        let parts = line.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: true)
        guard parts.count >= 5, let dash = parts[0].firstIndex(of: "-"), let start = UInt64(parts[0][..<dash], radix: 16),
              let end = UInt64(parts[0][parts[0].index(after: dash)...], radix: 16), let offset = UInt64(parts[2], radix: 16),
              let inode = UInt64(parts[4]) else { return nil }
        let p = Array(parts[1].utf8)
        guard p.count >= 4 else { return nil }
        self.start = start; self.end = end; self.offset = offset; self.inode = inode
        protection = (p[0] == UInt8(ascii: "r") ? 1 : 0) | (p[1] == UInt8(ascii: "w") ? 2 : 0) | (p[2] == UInt8(ascii: "x") ? 4 : 0)
        isShared = p[3] == UInt8(ascii: "s")
        let d = parts[3].split(separator: ":")
        guard d.count == 2, let major = UInt64(d[0], radix: 16), let minor = UInt64(d[1], radix: 16) else { return nil }
        device = (major & 0xfff) << 8 | (minor & 0xff) | (minor & 0xfff00) << 12 | (major & ~0xfff) << 32
        name = parts.count == 6 ? ProcMapping.unescape(parts[5].drop { $0 == " " }) : ""
    }
    /// A newline in a file's name shows as \012.
    private static func unescape(_ s: Substring) -> String {
        let bytes = Array(s.utf8), escape = Array("\\012".utf8)
        var out: [UInt8] = []
        var i = 0
        while i < bytes.count {
            if bytes[i...].starts(with: escape) { out.append(10); i += 4 } else { out.append(bytes[i]); i += 1 }
        }
        return String(decoding: out, as: UTF8.self)
    }

    /// The mappings of a process, with VmFlags (smaps) or without (maps).
    public static func all(of pid: Int32, withFlags: Bool) throws(SystemError) -> [ProcMapping] {
        parse(try Path.contents("/proc/\(pid)/\(withFlags ? "smaps" : "maps")"))
    }
    /// The text of /proc/PID/maps or smaps.
    public static func parse(_ bytes: [UInt8]) -> [ProcMapping] {
        var result: [ProcMapping] = []
        // This runs while everybody is stopped, and a mapping has two dozen lines: only those that count become text.
        var from = 0
        while from < bytes.count {
            let end = bytes[from...].firstIndex(of: 10) ?? bytes.count
            let line = bytes[from..<end]
            from = end + 1
            switch line.first ?? 0 {
            case 0x30...0x39, 0x61...0x66:
                if let m = ProcMapping(Substring(decoding: line, as: UTF8.self)) { result.append(m) }
            case UInt8(ascii: "A"), UInt8(ascii: "K"), UInt8(ascii: "P"), UInt8(ascii: "R"), UInt8(ascii: "S"):
                if !result.isEmpty { result[result.count - 1].take(line) }
            case UInt8(ascii: "V"):
                if !result.isEmpty, line.starts(with: flagsLabel) {
                    result[result.count - 1].flags = Set(line.dropFirst(8).split(separator: 32).map { String(decoding: $0, as: UTF8.self) })
                }
            default: break
            }
        }
        return result
    }
    /// A line of smaps with a number.
    private mutating func take(_ line: ArraySlice<UInt8>) {
        for (i, label) in Self.labels.enumerated() where line.starts(with: label) {
            let n = Self.number(line)
            switch i {
            case 0: anonymousBytes += n * 1024
            case 1: anonymousBytes += n * 1024; residentBytes += n * 1024
            case 2: residentBytes += n * 1024
            case 3, 4: hugeBytes += n * 1024
            case 5: kernelPageSize = n * 1024
            default: protectionKey = UInt8(truncatingIfNeeded: n)
            }
            return
        }
    }
    private static let labels = ["Anonymous:", "Swap:", "Rss:", "Private_Hugetlb:", "Shared_Hugetlb:", "KernelPageSize:", "ProtectionKey:"].map { Array($0.utf8) }
    private static let flagsLabel = Array("VmFlags:".utf8)
    private static func number(_ line: ArraySlice<UInt8>) -> UInt64 {
        line.reduce(0) { $1 >= 48 && $1 <= 57 ? $0 &* 10 &+ UInt64($1 - 48) : $0 }
    }
}
public enum Proc {
    public static func processes() -> [Int32] { ((try? Path.names(in: "/proc")) ?? []).compactMap { Int32($0) } }
    public static func threads(of pid: Int32) -> [Int32] { ((try? Path.names(in: "/proc/\(pid)/task")) ?? []).compactMap { Int32($0) }.sorted() }
    /// The id under which /proc shows a process's memory and descriptors: a main thread that has left by pthread_exit shows none, another does.
    public static func view(of stat: ProcStat) -> Int32 {
        guard stat.isDead, stat.threads > 1 else { return stat.pid }
        return threads(of: stat.pid).first { ProcStat(pid: stat.pid, tid: $0).map { !$0.isDead } ?? false } ?? stat.pid
    }
    /// Which of these segments `pid` maps, and where: its mappings are read once for all.
    static func mappings(of identities: [FileIdentity], in pid: Int32) -> [Int: UInt64] {
        guard let bytes = try? Path.contents("/proc/\(pid)/maps"), contains(bytes, Array(" rw-s ".utf8)) else { return [:] }
        let wanted = Dictionary(identities.enumerated().map { ($1, $0) }, uniquingKeysWith: { a, _ in a })
        var found: [Int: (start: UInt64, size: UInt64)] = [:]
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            guard let m = ProcMapping(line), m.isShared, let i = wanted[FileIdentity(device: m.device, inode: m.inode)] else { continue }
            found[i] = (found[i]?.start ?? m.start, (found[i]?.size ?? 0) + m.size)
        }
        return found.filter { $0.value.size == ckpt_session_size() }.mapValues(\.start)
    }
    /// Where `pid` maps the segment; nil: it doesn't, or can't be read, or it is a tool (Segment.mappedSize).
    public static func mapping(of identity: FileIdentity, in pid: Int32) -> UInt64? {
        guard let bytes = try? Path.contents("/proc/\(pid)/maps") else { return nil }
        // Most processes are no members: look for the inode's digits before splitting anything.
        let needle = Array(" \(identity.inode) ".utf8)
        guard contains(bytes, needle) else { return nil }
        var start: UInt64?, size: UInt64 = 0
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            if let m = ProcMapping(line), m.inode == identity.inode, m.device == identity.device { start = start ?? m.start; size += m.size }
        }
        return size == ckpt_session_size() ? start : nil
    }
    private static func contains(_ bytes: [UInt8], _ needle: [UInt8]) -> Bool {
        bytes.withUnsafeBufferPointer { b in
            guard b.count >= needle.count else { return false }
            var i = 0
            let last = b.count - needle.count
            while i <= last {
                if b[i] == needle[0] {
                    var j = 1
                    while j < needle.count && b[i + j] == needle[j] { j += 1 }
                    if j == needle.count { return true }
                }
                i += 1
            }
            return false
        }
    }
}
