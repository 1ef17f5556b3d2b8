// Files of the tree that have their paths in mount namespaces of parts: the builder goes there once, opens each, and everybody gets it from there, however
// little of that is to be seen where he is.
// Runs in the builder, before the tree's first process, on the region's main stack; no allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

private let newMounts = 0x2_0000

/// By OBJECT: a descriptor that stands for its path (O_PATH), −1.
var anchors: Table<Int32> { Table(at: state.pointee.anchors, count: UInt64(objects.count)) }

/// Runs `body` in the mount namespace of a part; 0: where the tree is built.  Visits may be within visits.
func withMounts<R>(_ place: UInt32, _ body: () -> R) -> R {
    let before = state.pointee.visited_mounts
    if place == before || place == state.pointee.entered_mounts { return body() }
    if state.pointee.entered_users != 0 { stay(place) ; return body() }
    if before == 0 { rememberHome() }
    go(to: place)
    let result = body()
    go(to: before)
    if before == 0 { forgetHome() }
    return result
}
/// Who is in a user namespace can't come back: the first process of a pid namespace, which makes what it and its children have, and lives there.
private func stay(_ place: UInt32) {
    let i = Int(state.pointee.process), own = state.pointee.node < 0 ? 0 : UInt32(processes[i].pointee.mounts)
    guard place == own else {
        refuse(.lacks) { l in putProcess(i, &l); l.put("it makes a socket of a pid namespace whose name lies in other mounts than it lives in; start ckrun inside of the namespace") }
    }
    enterMounts(of: i, outside: 0)
}
private func go(to place: UInt32) {
    var r = 0
    if place != 0 { r = enterPart(Int(place) - 1) } else {
        r = system(CKPT_SYS_setns, Int(state.pointee.home_mounts), newMounts)
        if r == 0 { r = system(CKPT_SYS_fchdir, Int(state.pointee.home_root)) }
        if r == 0 { r = system(CKPT_SYS_chroot, int(StaticString(".").cString)) }
        if r == 0 { r = system(CKPT_SYS_fchdir, Int(state.pointee.home_folder)) }
    }
    guard r == 0 else { refuse(.lacks) { l in l.put("the mounts of a part of the tree cannot be visited: "); putError(r, &l); l.put("; restart it as root") } }
    state.pointee.visited_mounts = place
}
private func rememberHome() {
    state.pointee.home_mounts = open(StaticString("/proc/self/ns/mnt"), 0)
    state.pointee.home_root = open(StaticString("/"), 0o12200000)
    state.pointee.home_folder = open(StaticString("."), 0o12200000)
}
private func forgetHome() { _ = ckpt_close(state.pointee.home_mounts); _ = ckpt_close(state.pointee.home_root); _ = ckpt_close(state.pointee.home_folder) }
private func open(_ path: StaticString, _ flags: Int32) -> Int32 {
    let r = ckpt_open(path.cString, flags | 0o2000000, 0)
    guard r >= 0 else { refuse(r) { l in l.put(path); l.put(": needed to visit the mounts of a part of the tree") } }
    return Int32(truncatingIfNeeded: r)
}

/// Where the steps that look at objects are now: 1 + NAMESPACE, 0: where the tree is built.
func isOfThisPlace(_ o: Int) -> Bool { objects[o].pointee.mounts == state.pointee.objects_place }

/// The path of an object, where this process looks it up.
func path(of o: Int) -> Text {
    if objects[o].pointee.mounts == 0 { return relocated(bytes(objects[o].pointee.path)) }
    var l = Line()
    l.put("/proc/self/fd/"); l.put(signed: Int64(anchors[o].pointee))
    l.copy(to: engine_path(), capacity: 64)
    return Text(engine_path())
}
/// The same in the namespace to which it belongs: --relocate is for what lies outside.
func pathInside(_ o: Int) -> Text {
    let path = bytes(objects[o].pointee.path)
    return objects[o].pointee.mounts == 0 || objects[o].pointee.flags & CKPT_OBJECT_INHERITED.rawValue != 0 ? relocated(path) : path
}

/// In the builder, when the namespaces are there.
func openPartObjects() {
    for i in 0..<namespaces.count where isPartMounts(i) {
        let place = UInt32(i) + 1
        state.pointee.objects_place = place
        forgetObjects()
        anchorDetached()
        withMounts(place) { anchorObjects(); makeNamedObjects() }
        checkObjects()
        makeMemoryObjects()
        makePipes()
        openSharedDescriptions()
        finishMemoryObjects()
    }
    state.pointee.objects_place = 0
}

/// What an attempt in another way has left.
private func forgetObjects() {
    for o in 0..<objects.count where isOfThisPlace(o) {
        if objectFd[o].pointee >= 0 { _ = ckpt_close(objectFd[o].pointee) }
        if anchors[o].pointee >= 0 { _ = ckpt_close(anchors[o].pointee) }
        objectFd[o].pointee = -1
        anchors[o].pointee = -1
    }
    for d in 0..<descriptions.count where isOfThisPlace(Int(descriptions[d].pointee.object)) && descriptionFd[d].pointee >= 0 {
        _ = ckpt_close(descriptionFd[d].pointee)
        descriptionFd[d].pointee = -1
    }
}

/// A mount that was unmounted while something in it was in use: a copy that is attached nowhere goes when nobody uses it any more.
private func anchorDetached() {
    for o in 0..<objects.count where isOfThisPlace(o) && isDetached(o) {
        let point = bytes(objects[o].pointee.detail), place = openPlace(-100, point)
        var withAll = false, rest = bytes(objects[o].pointee.path)
        let copy = place < 0 ? place : copyTree(place, StaticString("").cString, withAll: &withAll)
        if !equal(point, to: "/") { rest += length(point) }
        while rest.pointee == 47 { rest += 1 }
        let r = copy < 0 ? copy : openPlace(copy, rest)
        guard r >= 0 else { refuse(.systemCall) { l in putObject(o, &l); l.put("in a mount that was unmounted while it was in use: "); putError(r, &l); l.put("; put it back") } }
        anchors[o].pointee = lift(Int32(truncatingIfNeeded: r), "file of a part of the tree")
        _ = ckpt_close(Int32(truncatingIfNeeded: copy)); _ = ckpt_close(Int32(truncatingIfNeeded: place))
    }
}
private func isDetached(_ o: Int) -> Bool { objects[o].pointee.flags & CKPT_OBJECT_DETACHED.rawValue != 0 }

private func anchorObjects() {
    for o in 0..<objects.count where isOfThisPlace(o) && !isDetached(o) {
        switch objects[o].pointee.kind {
        case CKPT_OBJECT_REGULAR.rawValue, CKPT_OBJECT_DIRECTORY.rawValue, CKPT_OBJECT_DEVICE.rawValue, CKPT_OBJECT_PATH.rawValue: break
        case CKPT_OBJECT_FIFO.rawValue where !hasLostName(o): break
        default: continue
        }
        let path = pathInside(o), r = openPlace(-100, path, followsLinks: path != bytes(objects[o].pointee.path))
        if r >= 0 { anchors[o].pointee = lift(Int32(truncatingIfNeeded: r), "file of a part of the tree") }
    }
}

/// Root gives a socket its name, or connects it by that, only where nobody else can put something else in the name's way: every folder of the path, wherever
/// links lead, is root's or the tree's own, and nobody else may write there, or take away what others have (the sticky bit).
func refuseExchangeable(_ i: Int, _ path: Text) {
    let isRoot = currentIds(false)[1] == 0 && state.pointee.user_namespace == 0 && state.pointee.own_users == 0
    if !isRoot || state.pointee.visited_mounts == 0 && state.pointee.entered_mounts == 0 { return }
    var copy = InlineArray<128, CChar>(repeating: 0), end = 0, isOpen = false
    withUnsafeMutableBytes(of: &copy) { b in
        let name = b.baseAddress!.assumingMemoryBound(to: CChar.self)
        if !copyText(path, to: name, capacity: 128) { isOpen = true; return }
        while name[end] != 0 && !isOpen {
            if name[end] == 47 {
                // The link or folder so far, and where it really is.
                let next = name[end + 1]
                name[end + 1] = 0
                isOpen = !isTrusted(status(path: end == 0 ? StaticString("/").cString : Text(name), follow: true).status) || !isTrustedUpwards(Text(name))
                name[end + 1] = next
                name[end] = 0
                if end > 0 && !isOpen { let link = status(path: Text(name), follow: false).status; isOpen = link.kind == 0o120000 && !isTrusted(owner: link.uid) }
                name[end] = 47
            }
            end += 1
        }
    }
    if !isOpen { return }
    refuse(.systemCall) { l in putSocket(i, &l); l.put("another user may exchange a folder of its path; restart it as the user whose it is, or give it a name in a folder of its own") }
}
private func isTrusted(owner: UInt32) -> Bool {
    if owner == 0 { return true }
    for i in 0..<processes.count where engine_uid(processes[i], 1).pointee == owner { return true }
    return false
}
private func isTrusted(_ st: FileStatus) -> Bool {
    let othersWrite: UInt32 = 0o022, sticky: UInt32 = 0o1000
    return st.kind == 0o040000 && isTrusted(owner: st.uid) && (st.mode & othersWrite == 0 || st.mode & sticky != 0)
}
private func isTrustedUpwards(_ folder: Text) -> Bool {
    var fd = ckpt_open(folder, 0o12200000, 0), before = FileStatus(), depth = 0
    while fd >= 0 && depth < 128 {
        let st = status(fd: Int32(truncatingIfNeeded: fd)), up = ckpt_openat(Int32(truncatingIfNeeded: fd), StaticString("..").cString, 0o12200000, 0)
        _ = ckpt_close(Int32(truncatingIfNeeded: fd))
        if !isTrusted(st) { if up >= 0 { _ = ckpt_close(Int32(truncatingIfNeeded: up)) }; return false }
        if st.inode == before.inode && st.device == before.device { if up >= 0 { _ = ckpt_close(Int32(truncatingIfNeeded: up)) }; return true }
        before = st
        fd = up
        depth += 1
    }
    return false
}
