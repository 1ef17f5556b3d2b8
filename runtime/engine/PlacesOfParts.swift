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
/// Who is in a user namespace can't come back: a task that makes what the first process of a pid namespace and its children have, and ends (InnerSockets).
private func stay(_ place: UInt32) {
    // Its record, which it has not become yet.
    let n = Int(state.pointee.node), i = n < 0 || nodes[n].pointee.record < 0 ? Int(state.pointee.process) : Int(nodes[n].pointee.record), own = n < 0 ? 0 : UInt32(processes[i].pointee.mounts)
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
    // Kept, since there may be no /proc later.
    if state.pointee.home_mounts <= 0 { state.pointee.home_mounts = lift(open(StaticString("/proc/self/ns/mnt"), 0), "mount namespace") }
    state.pointee.home_root = open(StaticString("/"), 0o12200000)
    state.pointee.home_folder = open(StaticString("."), 0o12200000)
}
private func forgetHome() { _ = ckpt_close(state.pointee.home_root); _ = ckpt_close(state.pointee.home_folder) }
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
        let point = bytes(objects[o].pointee.detail), place = openDetached(o, point)
        var withAll = false, rest = bytes(objects[o].pointee.path)
        let copy = copyTree(Int(place), StaticString("").cString, withAll: &withAll)
        if !equal(point, to: "/") { rest += length(point) }
        while rest.pointee == 47 { rest += 1 }
        let r = copy < 0 ? copy : openPlace(copy, rest)
        guard r >= 0 else { refuseDetached(o, r) }
        anchors[o].pointee = lift(Int32(truncatingIfNeeded: r), "file of a part of the tree")
        _ = ckpt_close(Int32(truncatingIfNeeded: copy)); _ = ckpt_close(place)
    }
}
private func openDetached(_ o: Int, _ point: Text) -> Int32 {
    switch walk(point, links: false, to: .file) {
    case .failed(let r): refuseDetached(o, r)
    case .exchangeable: refuse(.systemCall) { l in putDetached(o, &l); l.put("another user may exchange "); l.put(text: point); l.put(", or a folder of that path; restart it as the user whose it is") }
    case .to(let fd):
        guard isMountRoot(fd) || equal(point, to: "/") else { refuse(.systemCall) { l in putDetached(o, &l); l.put("nothing is mounted at "); l.put(text: point); l.put("; mount it again where the restart is started") } }
        return fd
    }
}
private func putDetached(_ o: Int, _ l: inout Line) { putObject(o, &l); l.put("in a mount that was unmounted while it was in use: ") }
private func refuseDetached(_ o: Int, _ r: Int) -> Never { refuse(.systemCall) { l in putDetached(o, &l); putError(r, &l); l.put("; put it back") } }
private func isDetached(_ o: Int) -> Bool { objects[o].pointee.flags & CKPT_OBJECT_DETACHED.rawValue != 0 }

private func anchorObjects() {
    for o in 0..<objects.count where isOfThisPlace(o) && !isDetached(o) {
        // What the tree has mounted itself others can't reach.
        noteLead(o, objects[o].pointee.flags & CKPT_OBJECT_INHERITED.rawValue != 0 && isRootAmongOthers && mayBeLed(pathToFind(o), to: .file))
        switch objects[o].pointee.kind {
        case CKPT_OBJECT_REGULAR.rawValue, CKPT_OBJECT_DIRECTORY.rawValue, CKPT_OBJECT_DEVICE.rawValue, CKPT_OBJECT_PATH.rawValue: break
        case CKPT_OBJECT_FIFO.rawValue where !hasLostName(o): break
        default: continue
        }
        let path = pathInside(o), r = find(o) { openPlace(-100, path, followsLinks: path != bytes(objects[o].pointee.path)) }.fd
        if r >= 0 { anchors[o].pointee = lift(Int32(truncatingIfNeeded: r), "file of a part of the tree") }
    }
}
