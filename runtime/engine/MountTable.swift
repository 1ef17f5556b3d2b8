// Runs in children of the builder, on the region's main stack; no allocation but a mapping that ends with the child, no libc.
// The mounts of the namespace that this process is in, as /proc/self/mountinfo tells: "36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/vda rw,errors=continue".
import CkptABI
import EngineBoot
import Freestanding

/// A line; texts by where they begin and end.
struct SeenMount {
    var id: Int32 = 0, parent: Int32 = 0
    var root = (0, 0), point = (0, 0), shown = (0, 0)       // root to options
    var optional = (0, 0), system = (0, 0), options = (0, 0)        // type and source; the file system's own
    var peers: Int32 = 0, master: Int32 = 0, isUnbindable = false
    var used = false, mount: Int32 = -1     // MOUNT that it was found to be
}

struct MountTable {
    static let atMost = 4096
    let text: UnsafeMutablePointer<UInt8>, all: UnsafeMutablePointer<SeenMount>
    private(set) var count = 0
    private let proc: Int32
    init() {
        text = anonymous(UInt64(Self.room)).assumingMemoryBound(to: UInt8.self)
        all = anonymous(UInt64(Self.atMost * MemoryLayout<SeenMount>.stride)).assumingMemoryBound(to: SeenMount.self)
        proc = state.pointee.proc_folder
    }
    private static let room = 16 << 20

    mutating func read() {
        let r = system(CKPT_SYS_openat, Int(proc), int(StaticString("self/mountinfo").cString), 0o2000000)
        guard r >= 0 else { refuse(r) { $0.put("/proc/self/mountinfo: cannot be read") } }
        let fd = Int32(truncatingIfNeeded: r)
        var size = 0, n = 1
        while n > 0 && size < Self.room - 1 { n = ckpt_read(fd, text + size, Self.room - 1 - size); if n > 0 { size += n } }
        _ = ckpt_close(fd)
        count = 0
        var at = 0
        guard n == 0 else { refuseMany() }
        while at < size {
            guard count < Self.atMost else { refuseMany() }
            var end = at
            while end < size && text[end] != 10 { end += 1 }
            all[count] = line(at, end)
            count += 1
            at = end + 1
        }
    }

    private func refuseMany() -> Never {
        refuse(.lacks) { l in l.put("/proc/self/mountinfo: more than "); l.put(decimal: UInt64(Self.atMost)); l.put(" mounts in a mnt namespace of a part of the tree; restart it where fewer are mounted") }
    }

    private func line(_ start: Int, _ end: Int) -> SeenMount {
        var m = SeenMount(), at = start
        m.id = number(word(&at, end)); m.parent = number(word(&at, end)); _ = word(&at, end)
        m.root = word(&at, end); m.point = word(&at, end)
        let options = word(&at, end)
        m.shown = (m.root.0, options.1)
        m.optional = (at, at)
        while at < end {
            let w = word(&at, end)
            if w.1 - w.0 == 1 && text[w.0] == 45 { break }
            m.optional.1 = w.1
        }
        let type = word(&at, end), source = word(&at, end)
        m.system = (type.0, source.1)
        m.options = word(&at, end)
        m.peers = group(m, "shared:"); m.master = group(m, "master:"); m.isUnbindable = group(m, "unbindable") != 0
        return m
    }
    private func word(_ at: inout Int, _ end: Int) -> (Int, Int) {
        let from = at
        while at < end && text[at] != 32 { at += 1 }
        defer { at += 1 }
        return (from, at)
    }
    private func number(_ range: (Int, Int)) -> Int32 {
        var v: Int32 = 0
        for i in range.0..<range.1 where text[i] >= 48 && text[i] <= 57 { v = v &* 10 &+ Int32(text[i] - 48) }
        return v
    }

    /// As the kernel writes it, blanks as \040.
    func isPath(_ range: (Int, Int), _ path: Text) -> Bool {
        var i = range.0, k = 0
        while i < range.1 {
            var c = text[i]
            if c == 92 && i + 3 < range.1 { c = (text[i + 1] &- 48) &* 64 &+ (text[i + 2] &- 48) &* 8 &+ (text[i + 3] &- 48); i += 3 }
            if UInt8(bitPattern: path[k]) != c { return false }
            i += 1; k += 1
        }
        return path[k] == 0
    }
    func isProc(_ m: SeenMount) -> Bool {
        let type: StaticString = "proc "
        for k in 0..<5 where m.system.0 + k >= m.system.1 || text[m.system.0 + k] != type.utf8Start[k] { return false }
        return true
    }
    /// Its path, for calls that take one.
    func copyPoint(_ m: SeenMount, to out: UnsafeMutablePointer<CChar>, capacity: Int) -> Bool {
        var i = m.point.0, k = 0
        while i < m.point.1 && k < capacity - 1 {
            var c = text[i]
            if c == 92 && i + 3 < m.point.1 { c = (text[i + 1] &- 48) &* 64 &+ (text[i + 2] &- 48) &* 8 &+ (text[i + 3] &- 48); i += 3 }
            out[k] = CChar(bitPattern: c)
            i += 1; k += 1
        }
        out[k] = 0
        return i == m.point.1
    }

    /// Does a line show what was recorded: all of it, or of what comes from outside what it is.  `elsewhere`: it shows something of a new place.
    func shows(_ m: SeenMount, _ line: Text, attributes: Bool, elsewhere: Bool = false) -> Bool {
        var at = 0
        // "*": how it shows depends on who looks (control groups).
        if line[0] == 42 { at = 1 } else if elsewhere { while line[at] != 0 && line[at] != 32 { at += 1 } } else if !eat(m.root, line, &at) { return false }
        if !eat((m.root.1, m.point.1), line, &at) { return false }
        if attributes { if !eat((m.point.1, m.shown.1), line, &at) { return false } } else {
            if line[at] == 32 { at += 1 }
            while line[at] != 0 && line[at] != 32 { at += 1 }
        }
        let dash: StaticString = " - "
        for k in 0..<3 { if UInt8(bitPattern: line[at]) != dash.utf8Start[k] { return false }; at += 1 }
        if elsewhere { return true }
        if !eatSystem(m, line, &at) { return false }
        if !attributes || line[at] == 0 { return true }
        if line[at] != 32 { return false }
        at += 1
        return eat(m.options, line, &at) && line[at] == 0
    }
    /// The type, and where it is mounted from; "*": from anything, for file systems of the kernel.
    private func eatSystem(_ m: SeenMount, _ line: Text, _ at: inout Int) -> Bool {
        var end = m.system.0
        while end < m.system.1 && text[end] != 32 { end += 1 }
        if !eat((m.system.0, min(end + 1, m.system.1)), line, &at) { return false }
        if line[at] == 42 && (line[at + 1] == 0 || line[at + 1] == 32) { at += 1; return true }
        return eat((min(end + 1, m.system.1), m.system.1), line, &at)
    }
    private func eat(_ range: (Int, Int), _ line: Text, _ at: inout Int) -> Bool {
        for i in range.0..<range.1 { if UInt8(bitPattern: line[at]) != text[i] { return false }; at += 1 }
        return true
    }

    /// "shared:1" or "master:2" among what a line says of propagation; 0: not.
    private func group(_ m: SeenMount, _ key: StaticString) -> Int32 {
        let n = key.utf8CodeUnitCount
        var at = m.optional.0
        while at < m.optional.1 {
            var end = at
            while end < m.optional.1 && text[end] != 32 { end += 1 }
            var same = end - at >= n
            for k in 0..<n where same && text[at + k] != key.utf8Start[k] { same = false }
            if same { return end - at == n ? 1 : number((at + n, end)) }
            at = end + 1
        }
        return 0
    }
    func indexOf(id: Int32) -> Int {
        for i in 0..<count where all[i].id == id { return i }
        return -1
    }
}
