// Runs in the builder and its children, on the region's main stack; no allocation, no libc.
// What root does by a path where other users may be about: nobody else may put something else in its way.  The path is walked by descriptors, link by link:
// every folder in which a name is looked up, wherever links lead, is root's or the tree's own, and nobody else may write there, unless all may, the sticky
// bit is set, and what is found is theirs as well.  Then no other user can exchange anything after the walk either.
import CkptABI
import EngineBoot
import Freestanding

enum Passage { case to(Int32), exchangeable, failed(Int) }
/// Where the walk ends: in the folder of the last name, or at what that leads to.
enum PathEnd { case folder, file }

private let pathLimit = 4096

/// Opens what a path leads to (O_PATH), through links only if `links`; as root, by whom others could let things be done, only where nobody else can exchange it.
/// `owner`: may do that too, since it is his.
func walk(_ path: Text, links: Bool, to end: PathEnd, owner: UInt32 = ckpt_no_index()) -> Passage {
    guard isRootAmongOthers else {
        precondition(end == .file)
        let r = openPlace(-100, path, followsLinks: links)
        return r < 0 ? .failed(r) : .to(Int32(truncatingIfNeeded: r))
    }
    var rest = InlineArray<4096, CChar>(repeating: 0)
    return withUnsafeMutableBytes(of: &rest) { b in
        let text = b.baseAddress!.assumingMemoryBound(to: CChar.self)
        guard copyText(path, to: text, capacity: pathLimit) else { return .failed(-36) }
        var w = PathWalk(rest: text, owner: owner, linksLeft: links ? 40 : 0)
        return w.run(to: end)
    }
}

/// Root, or who root is where this process is: not who is called so in a user namespace of a user's.
var isRootAmongOthers: Bool {
    let root = idHere(0, isGroup: 0)
    return root != unknownUser && currentIds(false)[1] == root && state.pointee.user_namespace == 0 && state.pointee.own_users == 0
}
private let unknownUser: UInt32 = 65534

private func isTrusted(_ user: UInt32) -> Bool {
    func isHe(_ id: UInt32) -> Bool { let here = idHere(id, isGroup: 0); return here == user && here != unknownUser }
    if isHe(0) { return true }
    for i in 0..<processes.count where isHe(engine_uid(processes[i], 1).pointee) { return true }
    return false
}

private struct PathWalk: ~Copyable {
    let rest: UnsafeMutablePointer<CChar>       // what is still to be walked, of up to 4096 bytes
    let owner: UInt32
    var linksLeft: Int
    private var folder: Int, at = 0

    init(rest: UnsafeMutablePointer<CChar>, owner: UInt32, linksLeft: Int) {
        self.rest = rest; self.owner = owner; self.linksLeft = linksLeft
        folder = PathWalk.open(-100, StaticString(".").cString)
    }
    deinit { if folder >= 0 { _ = ckpt_close(Int32(truncatingIfNeeded: folder)) } }

    mutating func run(to end: PathEnd) -> Passage {
        if rest[0] == 47 { go(to: PathWalk.open(-100, StaticString("/").cString)) }
        var steps = pathLimit
        while folder >= 0 && steps > 0 {
            steps -= 1
            while rest[at] == 47 { at += 1 }
            if rest[at] == 0 { return .to(take()) }
            var stop = at
            while rest[stop] != 0 && rest[stop] != 47 { stop += 1 }
            var next = stop
            while rest[next] == 47 { next += 1 }
            let here = status(fd: Int32(truncatingIfNeeded: folder))
            guard isClosedToOthers(here) else { return .exchangeable }
            if rest[next] == 0 && end == .folder { return .to(take()) }
            if let ended = step(stop, here) { return ended }
        }
        return .failed(folder < 0 ? folder : -40)
    }

    /// One name; nil: the walk goes on.
    private mutating func step(_ stop: Int, _ here: FileStatus) -> Passage? {
        let after = rest[stop], isUp = rest[at] == 46 && (stop == at + 1 || stop == at + 2 && rest[at + 1] == 46)
        rest[stop] = 0
        let found = PathWalk.open(folder, Text(rest + at))
        rest[stop] = after
        if found < 0 { return .failed(found) }
        let st = status(fd: Int32(truncatingIfNeeded: found))
        let isFree = !isUp && here.mode & othersWrite != 0 && !mayExchange(st.uid)
        if isFree || st.kind == 0o120000 {
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
            let n = system(CKPT_SYS_readlinkat, link, int(StaticString("").cString), int(text), pathLimit - 1)
            if n < 0 { return n }
            guard copyText(Text(rest + stop), to: text + n, capacity: pathLimit - n) else { return -36 }
            return copyText(Text(text), to: rest, capacity: pathLimit) ? 0 : -36
        }
        if r < 0 { return .failed(r) }
        at = 0
        if rest[0] == 47 { go(to: PathWalk.open(-100, StaticString("/").cString)) }
        return nil
    }

    private static func open(_ folder: Int, _ name: Text) -> Int {
        let pathOnly = 0o10000000, noFollow = 0o400000, closeOnExec = 0o2000000
        return system(CKPT_SYS_openat, folder, int(name), pathOnly | noFollow | closeOnExec)
    }
    private mutating func go(to next: Int) {
        if folder >= 0 { _ = ckpt_close(Int32(truncatingIfNeeded: folder)) }
        folder = next
    }
    private mutating func take() -> Int32 {
        defer { folder = -1 }
        return Int32(truncatingIfNeeded: folder)
    }
    private func mayExchange(_ user: UInt32) -> Bool { isTrusted(user) || user == owner }
    private var othersWrite: UInt32 { 0o022 }
    private func isClosedToOthers(_ st: FileStatus) -> Bool {
        let sticky: UInt32 = 0o1000
        return mayExchange(st.uid) && (st.mode & othersWrite == 0 || st.mode & sticky != 0)
    }
}

// MARK: names of sockets

/// Before a name is taken, or a connection made by it; where the whole tree lives names are taken as in an ordinary restart.
func refuseExchangeable(_ i: Int, _ path: Text, to end: PathEnd = .folder) {
    if !isRootAmongOthers || !isInParts { return }
    switch walk(path, links: true, to: end) {
    case .to(let fd): _ = ckpt_close(fd)
    case .exchangeable:
        let isRelative = path.pointee != 47 && system(CKPT_SYS_getcwd, int(engine_path()), pathLimit) > 0
        refuseExchange(i, isRelative ? Text(engine_path()) : nil)
    case .failed(let r): refuse(r) { l in putSocket(i, &l); l.put(end == .file ? "nobody is there where it sends to; start that program first" : "a folder of its path; put it back") }
    }
}
private func refuseExchange(_ i: Int, _ folder: Text? = nil) -> Never {
    refuse(.systemCall) { l in
        putSocket(i, &l)
        if let folder { l.put("in "); l.put(text: folder); l.put(": ") }
        l.put("another user may exchange a folder of its path; restart it as the user whose it is, or give it a name in a folder of its own")
    }
}
private var isInParts: Bool { state.pointee.visited_mounts != 0 || state.pointee.entered_mounts != 0 }

/// The folder from which a relative name counts, by its path without links.
func enterFolder(of i: Int, _ folder: Text) {
    if !isInParts { _ = system(CKPT_SYS_chdir, int(relocated(folder))); return }
    var r = 0
    switch walk(folder, links: false, to: .file) {
    case .to(let fd): r = system(CKPT_SYS_fchdir, Int(fd)); _ = ckpt_close(fd)
    case .exchangeable: refuseExchange(i, folder)
    case .failed(let e): r = e
    }
    if r == 0 { return }
    // The folder had gone before the checkpoint: the name is there for a moment only.
    guard endsDeleted(folder) else { refuse(r) { l in putSocket(i, &l); l.put("its folder "); l.put(text: folder); l.put("; put it back") } }
    _ = system(CKPT_SYS_chdir, int(StaticString("/").cString))
}
private func endsDeleted(_ path: Text) -> Bool {
    let end: StaticString = " (deleted)", n = length(path), k = end.utf8CodeUnitCount
    return n > k && equal(path + (n - k), to: end)
}
