// Runs in the engine's builder, every signal blocked, and in the initiator: no allocation, no libc; 8 kB of stack.
// Where events happen once more: a file system of ours that has no place in any folder, with a stand-in for each watched file, named by the watch's
// number.  A watch on a stand-in is told of one kind of event, for as long as that is made.
import CkptABI

public struct EventStage {
    public let root: Int                // below zero: why there is none
    /// Of the machine, which something has met with: not the events' fault.
    private(set) var failure: ReplayOutcome?
    private let queue: Int
    private static let quiet = EventMask.unmount, readOnly = 0, writeOnly = 1, closeOnExec = 0o2000000

    /// `buffer` is the stack of a child, should one be needed.
    public init(queue: Int, buffer: UnsafeMutableRawPointer, size: Int) {
        root = detachedFileSystem(buffer, size); self.queue = queue
    }
    public func close() { _ = call(CKPT_SYS_close, root) }

    /// Makes the event at `at`, and the one that follows from it; false: that can't be.
    mutating func play(_ list: EventList, _ at: Int, follower: QueuedEvent?) -> Bool {
        let e = list[at]
        guard prepare(e.watch, list, at), follower == nil || follower!.watch == e.watch || prepare(follower!.watch, list, at) else { return false }
        return e.length > 0 ? playInside(e, follower) : playItself(e)
    }

    // MARK: what happens to an entry of a watched folder

    private mutating func playInside(_ e: QueuedEvent, _ follower: QueuedEvent?) -> Bool {
        var entry = path(e)
        if e.kind == EventMask.movedFrom { return move(e, &entry, follower) }
        if e.kind == EventMask.movedTo {
            var outside = Line()
            outside.put("outside")
            return make(&outside, e.isFolder) && watch(e) && rename(&outside, &entry) && hush(e.watch) && drop(&entry, e.isFolder)
        }
        if e.kind == EventMask.create { return watch(e) && make(&entry, e.isFolder) && hush(e.watch) && drop(&entry, e.isFolder) }
        guard make(&entry, e.isFolder) else { return false }
        if e.kind == EventMask.delete { return watch(e) && drop(&entry, e.isFolder) && hush(e.watch) }
        return touch(e, &entry) && hush(e.watch) && drop(&entry, e.isFolder)
    }

    /// Both halves of a move have one cookie.
    private mutating func move(_ e: QueuedEvent, _ entry: inout Line, _ follower: QueuedEvent?) -> Bool {
        var there = Line()
        if let follower { there = path(follower) } else { there.put("outside") }
        guard make(&entry, e.isFolder) else { return false }
        if let follower, follower.watch == e.watch { guard watch(e.watch, e.kind | follower.kind) else { return false } }
        else { guard watch(e), follower == nil || watch(follower!) else { return false } }
        return rename(&entry, &there) && hush(e.watch) && (follower == nil || hush(follower!.watch)) && drop(&there, e.isFolder)
    }

    /// Events that leave the file where it is.
    private mutating func touch(_ e: QueuedEvent, _ path: inout Line) -> Bool {
        switch e.kind {
        case EventMask.attributes: return watch(e) && changeMode(&path)
        case EventMask.access: return watch(e) && setTime(&path, first: true)
        case EventMask.modify: return watch(e) && setTime(&path, first: false)
        case EventMask.open:
            guard watch(e), let fd = open(&path, EventStage.readOnly), hush(e.watch) else { return false }
            return call(CKPT_SYS_close, fd) == 0
        case EventMask.closeUnwritten, EventMask.closeWritten:
            guard let fd = open(&path, e.kind == EventMask.closeWritten ? EventStage.writeOnly : EventStage.readOnly) else { return false }
            let isWatched = watch(e)
            return call(CKPT_SYS_close, fd) == 0 && isWatched
        default: return false
        }
    }

    // MARK: what happens to the watched file itself

    private mutating func playItself(_ e: QueuedEvent) -> Bool {
        var own = path(e.watch)
        switch e.kind {
        case EventMask.ignored: return call(CKPT_SYS_inotify_rm_watch, queue, Int(e.watch)) == 0
        case EventMask.deleteSelf: return watch(e) && clear(&own)
        case EventMask.unmount: return unmount(&own)
        case EventMask.moveSelf:
            var outside = Line()
            outside.put("outside")
            // Away and back: equal events in a row are one.
            return watch(e) && rename(&own, &outside) && rename(&outside, &own) && hush(e.watch)
        default: return touch(e, &own) && hush(e.watch)
        }
    }

    /// The stand-in for a watched file, watched, but told of nothing; of the kind that its events want.
    private mutating func prepare(_ number: Int32, _ list: EventList, _ from: Int) -> Bool {
        var isFolder = false, isUnmounted = false, at = from, own = path(number)
        if exists(&own) { return hush(number) }
        while at < list.used {
            let e = list[at]
            if e.watch == number {
                if e.length > 0 || e.isFolder { isFolder = true }
                if e.kind == EventMask.unmount { isUnmounted = true }
                if e.kind == EventMask.ignored { break }
            }
            at = list.next(at)
        }
        return (isUnmounted ? makeMounted(&own, isFolder) : make(&own, isFolder)) && hush(number)
    }

    /// A watch that is told of nothing but what is always told.
    private mutating func hush(_ number: Int32) -> Bool { watch(number, EventStage.quiet) }
    private mutating func watch(_ e: QueuedEvent) -> Bool { watch(e.watch, e.kind) }
    private mutating func watch(_ number: Int32, _ mask: UInt32) -> Bool {
        var place = Line()
        place.put("/proc/self/fd/"); place.put(signed: Int64(root)); place.put("/"); place.put(signed: Int64(number))
        let r = place.withCString { addWatch(queue, $0, mask, number: number) }
        if r != Int(number) { failure = .ofWatch(r) }
        return r == Int(number)
    }

    /// Its stand-in goes; the watch has gone before, or is told of it.
    func clear(_ number: Int32) {
        var own = path(number)
        _ = clear(&own)
    }
    private func clear(_ own: inout Line) -> Bool {
        if let mount = mountOf(&own) { _ = call(CKPT_SYS_close, mount) }
        return drop(&own, false) || drop(&own, true)
    }

    // MARK: a file that is unmounted: a link to one in a file system of its own

    private mutating func makeMounted(_ own: inout Line, _ isFolder: Bool) -> Bool {
        let fd = newFileSystem()
        guard fd >= 0 else { failure = .ofFile(fd); return false }
        var target = Line(), file = Line()
        target.put("/proc/self/fd/"); target.put(signed: Int64(fd))
        if !isFolder {
            file.put("f"); target.put("/f")
            guard file.withCString({ call(CKPT_SYS_mknodat, fd, address($0), 0o100600) }) == 0 else { return false }
        }
        return target.withCString { t in own.withCString { call(CKPT_SYS_symlinkat, address(t), root, address($0)) } } == 0
    }
    private func mountOf(_ own: inout Line) -> Int? {
        let prefix = 14         // "/proc/self/fd/"
        var text = InlineArray<64, UInt8>(repeating: 0), number = 0
        let n = own.withCString { p in withUnsafeMutableBytes(of: &text) { call(CKPT_SYS_readlinkat, root, address(p), Int(bitPattern: $0.baseAddress!), 63) } }
        guard n > prefix else { return nil }
        var i = prefix
        while i < n && text[i] != 47 { number = number * 10 + Int(text[i]) - 48; i += 1 }
        return number
    }
    private func unmount(_ own: inout Line) -> Bool {
        guard let mount = mountOf(&own) else { return false }
        return call(CKPT_SYS_close, mount) == 0 && drop(&own, false)
    }

    // MARK: calls below the root

    private func path(_ number: Int32) -> Line {
        var l = Line()
        l.put(signed: Int64(number))
        return l
    }
    private func path(_ e: QueuedEvent) -> Line {
        var l = path(e.watch)
        l.put("/"); l.put(text: e.name)
        return l
    }
    private func exists(_ p: inout Line) -> Bool {
        let dontFollow = 0x100
        var s = InlineArray<18, UInt64>(repeating: 0)
        return p.withCString { p in withUnsafeMutableBytes(of: &s) { call(CKPT_SYS_newfstatat, root, address(p), Int(bitPattern: $0.baseAddress!), dontFollow) } } == 0
    }
    private mutating func make(_ p: inout Line, _ isFolder: Bool) -> Bool {
        let r = p.withCString { isFolder ? call(CKPT_SYS_mkdirat, root, address($0), 0o700) : call(CKPT_SYS_mknodat, root, address($0), 0o100600) }
        if r < 0 { failure = .ofFile(r) }
        return r == 0
    }
    private func drop(_ p: inout Line, _ isFolder: Bool) -> Bool { p.withCString { call(CKPT_SYS_unlinkat, root, address($0), isFolder ? 0x200 : 0) } == 0 }
    private func rename(_ a: inout Line, _ b: inout Line) -> Bool { a.withCString { a in b.withCString { call(CKPT_SYS_renameat, root, address(a), root, address($0)) } } == 0 }
    private mutating func open(_ p: inout Line, _ access: Int) -> Int? {
        let fd = p.withCString { call(CKPT_SYS_openat, root, address($0), access | EventStage.closeOnExec) }
        if fd < 0 { failure = .ofFile(fd) }
        return fd >= 0 ? fd : nil
    }
    private func changeMode(_ p: inout Line) -> Bool { p.withCString { call(CKPT_SYS_fchmodat, root, address($0), 0o700) } == 0 }
    private func setTime(_ p: inout Line, first: Bool) -> Bool { p.withCString { setOneTime(root, $0, first: first) } }
}

/// utimensat(2) of one of the two times: that counts as a read, or as a write.
func setOneTime(_ folder: Int, _ path: UnsafePointer<CChar>?, first: Bool) -> Bool {
    let omit: Int64 = 0x3ffffffe, now: Int64 = 0x3fffffff
    var times = (ckpt_timespec(sec: 0, nsec: first ? now : omit), ckpt_timespec(sec: 0, nsec: first ? omit : now))
    return withUnsafeMutablePointer(to: &times) { call(CKPT_SYS_utimensat, folder, Int(bitPattern: path), Int(bitPattern: $0)) } == 0
}

/// INOTIFY_IOC_SETNEXTWD: CONFIG_CHECKPOINT_RESTORE.
@discardableResult
public func setNextWatch(_ queue: Int, _ number: Int32) -> Int { call(CKPT_SYS_ioctl, queue, 0x4004_4900, Int(number)) }

/// inotify_add_watch(2) with a number of our choice.
public func addWatch(_ queue: Int, _ path: UnsafePointer<CChar>, _ mask: UInt32, number: Int32) -> Int {
    setNextWatch(queue, number)
    return call(CKPT_SYS_inotify_add_watch, queue, address(path), Int(mask))
}

// MARK: a file system in no folder

/// Whoever may not mount lets a child do it, in a user namespace of its own, that shares our descriptors.
private func detachedFileSystem(_ stack: UnsafeMutableRawPointer, _ size: Int) -> Int {
    let r = newFileSystem(), notPermitted = -1
    return r == notPermitted ? fileSystemOfAChild(stack, size) : r
}

private func newFileSystem() -> Int {
    let closeOnExec = 1, create = 6, type: StaticString = "tmpfs"
    let context = call(CKPT_SYS_fsopen, address(type.cString), closeOnExec)
    if context < 0 { return context }
    var r = call(CKPT_SYS_fsconfig, context, create)
    if r == 0 { r = call(CKPT_SYS_fsmount, context, closeOnExec) }
    _ = call(CKPT_SYS_close, context)
    return r
}

private struct Mounter { var user: UInt32, group: UInt32, result: Int }

private func fileSystemOfAChild(_ stack: UnsafeMutableRawPointer, _ size: Int) -> Int {
    let anyChild = 0x4000_0000, shared: UInt64 = 0x100 | 0x400 | 0x4000, own: UInt64 = 0x1000_0000 | 0x20000      // CLONE_VM, FILES, VFORK; NEWUSER, NEWNS
    var mounter = Mounter(user: UInt32(truncatingIfNeeded: call(CKPT_SYS_geteuid)), group: UInt32(truncatingIfNeeded: call(CKPT_SYS_getegid)), result: -1)
    return withUnsafeMutablePointer(to: &mounter) { m in
        var a = ckpt_clone_args()
        a.flags = shared | own; a.stack = UInt64(UInt(bitPattern: stack)); a.stack_size = UInt64(size)
        let child = ckpt_clone3(&a, mount, UInt64(UInt(bitPattern: m)))
        if child < 0 { return child }
        _ = call(CKPT_SYS_wait4, child, 0, anyChild)
        return m.pointee.result
    }
}
private let mount: @convention(c) (UInt64) -> Void = { argument in
    let m = UnsafeMutablePointer<Mounter>(bitPattern: UInt(argument))!
    _ = putInto("/proc/self/setgroups", "deny", nil)
    if putInto("/proc/self/uid_map", "", m.pointee.user), putInto("/proc/self/gid_map", "", m.pointee.group) { m.pointee.result = newFileSystem() }
    ckpt_exit_group(0)
}
/// A word, or the map of one id to itself.
private func putInto(_ path: StaticString, _ word: StaticString, _ id: UInt32?) -> Bool {
    let writeOnly: Int32 = 1, closeOnExec: Int32 = 0o2000000
    var l = Line()
    l.put(word)
    if let id { l.put(decimal: UInt64(id)); l.put(" "); l.put(decimal: UInt64(id)); l.put(" 1") }
    let fd = ckpt_open(path.cString, writeOnly | closeOnExec, 0), n = l.count
    guard fd >= 0 else { return false }
    defer { _ = call(CKPT_SYS_close, fd) }
    return l.withCString { ckpt_write(Int32(truncatingIfNeeded: fd), $0, n) } == n
}

@inline(__always) func call(_ n: Int, _ a: Int = 0, _ b: Int = 0, _ c: Int = 0, _ d: Int = 0) -> Int { ckpt_syscall(n, a, b, c, d, 0, 0) }
@inline(__always) func address(_ p: UnsafePointer<CChar>) -> Int { Int(bitPattern: p) }
