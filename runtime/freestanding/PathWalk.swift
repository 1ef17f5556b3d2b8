// Runs in the engine, on the region's main stack; hosted in the initiator, which asks the same before the program is ended.  No allocation, no libc.
// A path along which nobody else may put something in the way.  It is walked by descriptors, link by link: every folder in which a name is looked up, wherever
// links lead, belongs to who may exchange it, and nobody else may write there, unless all may, the sticky bit is set, and what is found is theirs as well.
// Then no other user can exchange anything after the walk either.
import CkptABI

public enum Passage { case to(Int32), exchangeable, failed(Int) }
/// Where the walk ends: in the folder of the last name, or at what that leads to.
public enum PathEnd { case folder, file }

private let pathLimit = 4096

/// Opens what a path leads to (O_PATH), through links only if `links`.  `start`: from where a relative one counts; nil: this process's folder; `root`
/// likewise.  `mayExchange`: is it a user who may?
public func walkPath(_ path: UnsafePointer<CChar>, from start: Descriptor?, root: Descriptor?, links: Bool, to end: PathEnd, _ mayExchange: (UInt32) -> Bool) -> Passage {
    var rest = InlineArray<4096, CChar>(repeating: 0)
    return withUnsafeMutableBytes(of: &rest) { b in
        let text = b.baseAddress!.assumingMemoryBound(to: CChar.self)
        guard PathWalk.copy(path, to: text, capacity: pathLimit) else { return .failed(-36) }
        var w = PathWalk(rest: text, from: start, root: root, linksLeft: links ? 40 : 0)
        return w.run(to: end, mayExchange)
    }
}

private struct PathWalk: ~Copyable {
    let rest: UnsafeMutablePointer<CChar>       // what is still to be walked, of up to 4096 bytes
    let root: Descriptor?
    var linksLeft: Int
    private var folder: Int, at = 0

    init(rest: UnsafeMutablePointer<CChar>, from start: Descriptor?, root: Descriptor?, linksLeft: Int) {
        self.rest = rest; self.root = root; self.linksLeft = linksLeft
        folder = PathWalk.open(start.map { Int($0.value) } ?? -100, StaticString(".").cString)
    }
    deinit { if folder >= 0 { _ = ckpt_close(Int32(truncatingIfNeeded: folder)) } }

    mutating func run(to end: PathEnd, _ mayExchange: (UInt32) -> Bool) -> Passage {
        if rest[0] == 47 { go(to: openRoot()) }
        var steps = pathLimit
        while folder >= 0 && steps > 0 {
            steps -= 1
            while rest[at] == 47 { at += 1 }
            if rest[at] == 0 { return .to(take()) }
            var stop = at
            while rest[stop] != 0 && rest[stop] != 47 { stop += 1 }
            var next = stop
            while rest[next] == 47 { next += 1 }
            let here = PathWalk.status(folder)
            guard isClosedToOthers(here, mayExchange) else { return .exchangeable }
            if rest[next] == 0 && end == .folder { return .to(take()) }
            if let ended = step(stop, here, mayExchange) { return ended }
        }
        return .failed(folder < 0 ? folder : -40)
    }

    /// One name; nil: the walk goes on.
    private mutating func step(_ stop: Int, _ here: (mode: UInt32, user: UInt32), _ mayExchange: (UInt32) -> Bool) -> Passage? {
        let after = rest[stop], isUp = rest[at] == 46 && (stop == at + 1 || stop == at + 2 && rest[at + 1] == 46)
        rest[stop] = 0
        let found = PathWalk.open(folder, UnsafePointer<CChar>(rest + at))
        rest[stop] = after
        if found < 0 { return .failed(found) }
        let st = PathWalk.status(found)
        let isFree = !isUp && here.mode & othersWrite != 0 && !mayExchange(st.user)
        if isFree || st.mode & 0o170000 == 0o120000 {
            let passage = isFree ? .exchangeable : follow(found, stop)
            _ = ckpt_close(Int32(truncatingIfNeeded: found))
            return passage
        }
        go(to: found)
        at = stop
        return nil
    }
    /// What a link says comes before what is left.
    private mutating func follow(_ link: Int, _ stop: Int) -> Passage? {
        if linksLeft == 0 { return .failed(-40) }
        linksLeft -= 1
        var said = InlineArray<4096, CChar>(repeating: 0)
        let r = withUnsafeMutableBytes(of: &said) { b in
            let text = b.baseAddress!.assumingMemoryBound(to: CChar.self)
            let n = call(CKPT_SYS_readlinkat, link, Int(bitPattern: StaticString("").cString), Int(bitPattern: text), pathLimit - 1)
            if n < 0 { return n }
            guard PathWalk.copy(UnsafePointer<CChar>(rest + stop), to: text + n, capacity: pathLimit - n) else { return -36 }
            return PathWalk.copy(UnsafePointer<CChar>(text), to: rest, capacity: pathLimit) ? 0 : -36
        }
        if r < 0 { return .failed(r) }
        at = 0
        if rest[0] == 47 { go(to: openRoot()) }
        return nil
    }

    private static func open(_ folder: Int, _ name: UnsafePointer<CChar>) -> Int {
        let pathOnly = 0o10000000, noFollow = 0o400000, closeOnExec = 0o2000000
        return call(CKPT_SYS_openat, folder, Int(bitPattern: name), pathOnly | noFollow | closeOnExec)
    }
    private mutating func go(to next: Int) {
        if folder >= 0 { _ = ckpt_close(Int32(truncatingIfNeeded: folder)) }
        folder = next
    }
    private mutating func take() -> Int32 {
        defer { folder = -1 }
        return Int32(truncatingIfNeeded: folder)
    }
    /// In whose root links lead: a descriptor, or this process.
    private func openRoot() -> Int { root.map { PathWalk.open(Int($0.value), StaticString(".").cString) } ?? PathWalk.open(-100, StaticString("/").cString) }
    /// struct stat: what it is, and whose.
    private static func status(_ fd: Int) -> (mode: UInt32, user: UInt32) {
        var words = InlineArray<18, UInt64>(repeating: 0)
        _ = withUnsafeMutableBytes(of: &words) { call(CKPT_SYS_fstat, fd, Int(bitPattern: $0.baseAddress!)) }
        return (UInt32(truncatingIfNeeded: words[3]), UInt32(truncatingIfNeeded: words[3] >> 32))
    }
    private var othersWrite: UInt32 { 0o022 }
    private func isClosedToOthers(_ st: (mode: UInt32, user: UInt32), _ mayExchange: (UInt32) -> Bool) -> Bool {
        let sticky: UInt32 = 0o1000
        return mayExchange(st.user) && (st.mode & othersWrite == 0 || st.mode & sticky != 0)
    }
    fileprivate static func copy(_ from: UnsafePointer<CChar>, to: UnsafeMutablePointer<CChar>, capacity: Int) -> Bool {
        var i = 0
        while i < capacity { to[i] = from[i]; if from[i] == 0 { return true }; i &+= 1 }
        return false
    }
}
