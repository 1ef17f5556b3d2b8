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

    public init?(_ text: [UInt8]) {
        guard let open = text.firstIndex(of: UInt8(ascii: "(")), let close = text.lastIndex(of: UInt8(ascii: ")")), open < close else { return nil }
        // Numbered as in proc(5); the state, a letter, is field 3.
        var fields = InlineArray<53, UInt64>(repeating: 0), count = 2, at = close + 1
        while at < text.count && count < 52 {
            while at < text.count && text[at] <= 32 { at += 1 }
            if at == text.count { break }
            count += 1
            fields[count] = count == 3 ? UInt64(text[at]) : Digits.signed(text, from: at)
            while at < text.count && text[at] > 32 { at += 1 }
        }
        guard count >= 22 else { return nil }
        pid = Int32(truncatingIfNeeded: Digits.signed(text, from: 0))
        comm = String(name: text[(open + 1)..<close])
        state = Character(UnicodeScalar(UInt8(fields[3])))
        parent = Int32(truncatingIfNeeded: fields[4]); group = Int32(truncatingIfNeeded: fields[5]); terminalSession = Int32(truncatingIfNeeded: fields[6])
        terminal = fields[7] & 0xffff_ffff; foreground = Int32(truncatingIfNeeded: fields[8])
        flags = fields[9]; nice = Int(truncatingIfNeeded: fields[19]); threads = Int(truncatingIfNeeded: fields[20]); startTime = fields[22]
        startCode = fields[26]; endCode = fields[27]; startStack = fields[28]
        startData = fields[45]; endData = fields[46]; startBrk = fields[47]
        argStart = fields[48]; argEnd = fields[49]; envStart = fields[50]; envEnd = fields[51]
        exitSignal = Int32(truncatingIfNeeded: fields[38])
        exitCode = Int32(truncatingIfNeeded: fields[52])
    }
    public init?(pid: Int32, tid: Int32? = nil) {
        let path = tid.map { "/proc/\(pid)/task/\($0)/stat" } ?? "/proc/\(pid)/stat"
        guard let text = try? Path.contents(path) else { return nil }
        self.init(text)
    }
    /// A main thread that is gone shows no memory any more; another of the process does.
    public mutating func takeMemory(from other: ProcStat) {
        startCode = other.startCode; endCode = other.endCode; startStack = other.startStack
        startData = other.startData; endData = other.endData; startBrk = other.startBrk
        argStart = other.argStart; argEnd = other.argEnd; envStart = other.envStart; envEnd = other.envEnd
    }
    /// PF_KTHREAD
    public var isKernels: Bool { flags & 0x200000 != 0 }
    /// PF_EXITING
    public var isExiting: Bool { flags & 0x4 != 0 }
    var hasNoMemory: Bool { isDead || isKernels || isExiting }
    /// This task has ended; the process may live on in its other threads.
    public var isDead: Bool { state == "Z" || state == "X" }
    /// The process has ended and waits to be waited for.
    public var isZombie: Bool { isDead && threads <= 1 }
    public var isStopped: Bool { state == "T" }
}

/// /proc/PID/status, with typed access; a line is looked for when it is asked for.
public struct ProcStatus: Sendable {
    private let text: [UInt8]
    public init(_ text: [UInt8]) { self.text = text }
    public init?(pid: Int32, tid: Int32? = nil) {
        let path = tid.map { "/proc/\(pid)/task/\($0)/status" } ?? "/proc/\(pid)/status"
        guard let text = try? Path.contents(path) else { return nil }
        self.init(text)
    }
    /// What stands behind "key:" and white space.
    private func value(_ key: String) -> ArraySlice<UInt8>? {
        var key = key
        return key.withUTF8 { k in
            text.withUnsafeBufferPointer { t in
                var line = 0
                while line + k.count < t.count {
                    var end = line
                    while end < t.count && t[end] != 10 { end += 1 }
                    if end - line > k.count && t[line + k.count] == UInt8(ascii: ":") && k.indices.allSatisfy({ k[$0] == t[line + $0] }) {
                        var start = line + k.count + 1
                        while start < end && t[start] <= 32 { start += 1 }
                        return text[start..<end]
                    }
                    line = end + 1
                }
                return nil
            }
        }
    }
    /// The task's name as /proc/PID/comm has it: the first line, "Name:\tNAME", shows a newline as \n and a backslash as two.
    public var name: String {
        let heading = "Name:\t".utf8.count, backslash = UInt8(ascii: "\\"), newline: UInt8 = 10
        var bytes: [UInt8] = [], isEscaped = false
        for c in text.dropFirst(heading).prefix(while: { $0 != newline }) {
            if !isEscaped && c == backslash { isEscaped = true; continue }
            bytes.append(isEscaped && c == UInt8(ascii: "n") ? newline : c)
            isEscaped = false
        }
        return String(name: bytes)
    }
    public subscript(_ key: String) -> String? { value(key).map { String(decoding: $0, as: UTF8.self) } }
    public func hex(_ key: String) -> UInt64 { value(key).map { Digits.hex($0) } ?? 0 }
    public func numbers(_ key: String) -> [Int] { (value(key) ?? []).split(whereSeparator: { $0 <= 32 }).compactMap { Int(String(decoding: $0, as: UTF8.self)) } }
    /// Pids of one task from the outermost namespace that we see to its own.
    public var namespacePids: [Int32] { numbers("NSpid").map { Int32($0) } }
    /// The same for its process: a thread shows its own id in NSpid.
    public var namespaceProcessPids: [Int32] { numbers("NStgid").map { Int32($0) } }
    public var octalUmask: UInt32 { self["Umask"].flatMap { UInt32($0, radix: 8) } ?? 0o022 }
    public func kilobytes(_ key: String) -> UInt64 { value(key).map { Digits.decimal($0) } ?? 0 }
}

/// One line of /proc/PID/maps, or one block of smaps.
public struct ProcMapping: Sendable {
    public var start: UInt64, end: UInt64, protection: UInt32, isShared: Bool, offset: UInt64
    public var device: UInt64, inode: UInt64, name: String
    public var flags = VmFlags()            // of smaps
    public var anonymousBytes: UInt64 = 0   // smaps: Anonymous + Swap, the pages that are this process's own
    public var residentBytes: UInt64 = 0    // smaps: Rss + Swap
    public var hugeBytes: UInt64 = 0        // smaps: Private_Hugetlb + Shared_Hugetlb
    public var kernelPageSize: UInt64 = 4096
    public var isTracked = false            // its writes are noted for us (--track, --pre-copy)
    public var protectionKey: UInt8 = 0     // 0 as well where the CPU has none
    public var size: UInt64 { end - start }

    /// "start-end rwxp offset major:minor inode   name"
    public init?(_ line: ArraySlice<UInt8>) {
        var at = line.startIndex, ok = true
        func digits(_ radix: UInt64, until stop: UInt8) -> UInt64 {
            var n: UInt64 = 0
            while at < line.endIndex, line[at] != stop, let d = Digits.value(line[at]), d < radix { n = n &* radix &+ d; at += 1 }
            if at < line.endIndex && line[at] == stop { at += 1 } else { ok = at == line.endIndex && ok }
            return n
        }
        let space = UInt8(ascii: " ")
        start = digits(16, until: UInt8(ascii: "-")); end = digits(16, until: space)
        guard ok, at + 5 <= line.endIndex else { return nil }
        protection = (line[at] == UInt8(ascii: "r") ? 1 : 0) | (line[at + 1] == UInt8(ascii: "w") ? 2 : 0) | (line[at + 2] == UInt8(ascii: "x") ? 4 : 0)
        isShared = line[at + 3] == UInt8(ascii: "s")
        at += 5
        offset = digits(16, until: space)
        let major = digits(16, until: UInt8(ascii: ":")), minor = digits(16, until: space)
        guard at < line.endIndex else { return nil }
        inode = digits(10, until: space)
        guard ok else { return nil }
        device = (major & 0xfff) << 8 | (minor & 0xff) | (minor & 0xfff00) << 12 | (major & ~0xfff) << 32
        while at < line.endIndex && line[at] == space { at += 1 }
        name = at == line.endIndex ? "" : ProcMapping.unescape(line[at...])
    }
    /// A newline in a file's name shows as \012.
    private static func unescape(_ bytes: ArraySlice<UInt8>) -> String {
        guard bytes.contains(UInt8(ascii: "\\")) else { return String(name: bytes) }
        let escape = Array("\\012".utf8)
        var out: [UInt8] = []
        var i = bytes.startIndex
        while i < bytes.endIndex {
            if bytes[i...].starts(with: escape) { out.append(10); i += 4 } else { out.append(bytes[i]); i += 1 }
        }
        return String(name: out)
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
                if let m = ProcMapping(line) { result.append(m) }
            case UInt8(ascii: "A"), UInt8(ascii: "K"), UInt8(ascii: "P"), UInt8(ascii: "R"), UInt8(ascii: "S"):
                if !result.isEmpty { result[result.count - 1].take(line) }
            case UInt8(ascii: "V"):
                if !result.isEmpty, line.starts(with: flagsLabel) {
                    result[result.count - 1].flags = VmFlags(line.dropFirst(8))
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

/// The two-letter codes of a VmFlags line.
public struct VmFlags: Sendable, Equatable {
    private var bits = InlineArray<11, UInt64>(repeating: 0)        // one for each pair of letters
    public init() {}
    public init(_ codes: ArraySlice<UInt8>) {
        var at = codes.startIndex
        while at + 1 < codes.endIndex {
            if let i = VmFlags.index(codes[at], codes[at + 1]) { bits[i >> 6] |= 1 << UInt64(i & 63); at += 2 } else { at += 1 }
        }
    }
    private static func index(_ a: UInt8, _ b: UInt8) -> Int? {
        guard (97...122).contains(a), (97...122).contains(b) else { return nil }
        return Int(a - 97) * 26 + Int(b - 97)
    }
    public func contains(_ code: StaticString) -> Bool {
        guard let i = VmFlags.index(code.utf8Start[0], code.utf8Start[1]) else { return false }
        return bits[i >> 6] >> UInt64(i & 63) & 1 == 1
    }
    public static func == (a: VmFlags, b: VmFlags) -> Bool { (0..<11).allSatisfy { a.bits[$0] == b.bits[$0] } }
}

/// Numbers in the kernel's text.
enum Digits {
    static func value(_ c: UInt8) -> UInt64? {
        switch c {
        case 48...57: UInt64(c - 48)
        case 97...102: UInt64(c - 87)
        case 65...70: UInt64(c - 55)
        default: nil
        }
    }
    static func hex(_ s: ArraySlice<UInt8>) -> UInt64 {
        var n: UInt64 = 0
        for c in s { guard let d = value(c) else { break }; n = n &* 16 &+ d }
        return n
    }
    static func decimal(_ s: ArraySlice<UInt8>) -> UInt64 {
        var n: UInt64 = 0
        for c in s { guard let d = value(c), d < 10 else { break }; n = n &* 10 &+ d }
        return n
    }
    /// A number that may be negative, as its 64 bits.
    static func signed(_ s: [UInt8], from: Int) -> UInt64 {
        s[from] == UInt8(ascii: "-") ? 0 &- decimal(s[(from + 1)...]) : decimal(s[from...])
    }
}

public enum Proc {
    public static func processes() -> [Int32] { (try? Path.numbers(in: "/proc")) ?? [] }
    public static func threads(of pid: Int32) -> [Int32] { ((try? Path.numbers(in: "/proc/\(pid)/task")) ?? []).sorted() }
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
        for line in bytes.split(separator: 10) {
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
        for line in bytes.split(separator: 10) {
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
