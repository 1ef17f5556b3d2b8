// Files of the tree that have their paths in mount namespaces of parts: the builder goes there once, opens each, and everybody gets it from there, however
// little of that is to be seen where he is.
// Runs in the builder, before the tree's first process, on the region's main stack; no allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

private let newMounts = 0x2_0000

/// By OBJECT: a descriptor that stands for its path (O_PATH), −1.
var anchors: Table<Int32> { Table(at: state.pointee.anchors, count: UInt64(objects.count)) }

/// Runs `body` in the mount namespace of a part; 0: here.
func withMounts<R>(_ place: UInt32, _ body: () -> R) -> R {
    if place == 0 { return body() }
    let here = open(StaticString("/proc/self/ns/mnt"), 0), root = open(StaticString("/"), 0o12200000), folder = open(StaticString("."), 0o12200000)
    let r = enterPart(Int(place) - 1)
    guard r == 0 else { refuseNamespace(Int(place) - 1, r) }
    defer {
        var back = system(CKPT_SYS_setns, Int(here), newMounts)
        if back == 0 { back = system(CKPT_SYS_fchdir, Int(root)) }
        if back == 0 { back = system(CKPT_SYS_chroot, int(StaticString(".").cString)) }
        if back == 0 { back = system(CKPT_SYS_fchdir, Int(folder)) }
        if back != 0 { refuseNamespace(Int(place) - 1, back) }
        _ = ckpt_close(here); _ = ckpt_close(root); _ = ckpt_close(folder)
    }
    return body()
}
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

private func anchorObjects() {
    for o in 0..<objects.count where isOfThisPlace(o) {
        switch objects[o].pointee.kind {
        case CKPT_OBJECT_REGULAR.rawValue, CKPT_OBJECT_DIRECTORY.rawValue, CKPT_OBJECT_DEVICE.rawValue, CKPT_OBJECT_PATH.rawValue: break
        case CKPT_OBJECT_FIFO.rawValue where !hasLostName(o): break
        default: continue
        }
        let path = pathInside(o), r = openPlace(-100, path, followsLinks: path != bytes(objects[o].pointee.path))
        if r >= 0 { anchors[o].pointee = lift(Int32(truncatingIfNeeded: r), "file of a part of the tree") }
    }
}
