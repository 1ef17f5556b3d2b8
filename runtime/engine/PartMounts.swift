// Mount namespaces of parts of the tree.  The builder has each made by children: one makes the namespace, a copy of that in which the tree is built, and its
// file systems, which the builder fills; another attaches everything where it was, as the program did, with no more power than that had; a third, when the tree
// is complete, what shows processes; the last compares.
// Runs in the builder and its children, on the region's main stack; no allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

private var none: UInt32 { ckpt_no_index() }

func isPartMounts(_ i: Int) -> Bool { namespaces[i].pointee.kind == CKPT_NAMESPACE_MOUNT.rawValue && !isWhole(i) }
var hasPartMounts: Bool {
    for i in 0..<namespaces.count where isPartMounts(i) { return true }
    return false
}

/// On the board, by MOUNT: the descriptor of each that is there, or 0; and of the file system that it makes.
private var places: UInt64 { state.pointee.scratch + boardBytes - pageAlignUp(UInt64(mounts.count) * 24) }
private var mountFds: Table<Int32> { Table(at: places, count: UInt64(mounts.count)) }
private var systemFds: Table<Int32> { Table(at: places + UInt64(mounts.count) * 4, count: UInt64(mounts.count)) }
func attached(_ k: Int) -> Int32 { mountFds[k].pointee }
/// The device and inode number of what it binds.
private var sourceIds: Table<(UInt64, UInt64)> { Table(at: places + UInt64(mounts.count) * 8, count: UInt64(mounts.count)) }
private func keep(_ k: Int, _ r: Int) { mountFds[k].pointee = lift(Int32(truncatingIfNeeded: r), "mount") }

func putMount(_ k: Int, _ l: inout Line) { l.put("mount "); l.put(text: bytes(mounts[k].pointee.target)); l.put(" in a mnt namespace of a part of the tree: ") }
func refuseMount(_ k: Int, _ r: Int, _ what: StaticString) -> Never { refuse(.systemCall) { l in putMount(k, &l); l.put(what); l.put(": "); putError(r, &l); l.put("; restart it where its folders and file systems are, or as root") } }

func isOf(_ k: Int, _ i: Int) -> Bool { Int(mounts[k].pointee.namespaces) == i }
/// What shows processes is made when they are there, and so is what is on it or shows a part of it.
func isLate(_ k: Int) -> Bool {
    var at = k, left = mounts.count
    while left > 0 {
        let m = mounts[at].pointee
        if m.kind == CKPT_MOUNT_PROC.rawValue || (m.kind == CKPT_MOUNT_NEW.rawValue && mounts[m.system].pointee.kind == CKPT_MOUNT_PROC.rawValue) { return true }
        if m.parent == none { return false }
        at = Int(m.parent)
        left -= 1
    }
    return false
}

// MARK: the namespace and its file systems

/// In a child, in the user namespace to which it belongs.
func makePartMounts(_ i: Int) {
    refuseMovedPoints(i)
    separate(i)
    for k in 0..<mounts.count where isOf(k, i) && mounts[k].pointee.kind == CKPT_MOUNT_NEW.rawValue && mounts[k].pointee.system == UInt32(k) {
        let m = mounts[k].pointee
        if m.shows != 0 { _ = enterPart(Int(m.shows) - 1) }
        let r = makeFileSystem(bytes(m.type), source: bytes(m.source), options: bytes(m.options), flags: m.flags & ~1, owner: namespaces[i].pointee.owner)
        guard r >= 0 else { refuseMount(k, r, "its file system cannot be made") }
        systemFds[k].pointee = lift(Int32(truncatingIfNeeded: r), "file system")
    }
}

/// --relocate moves what is bound and what is open, not where mounts are.
private func refuseMovedPoints(_ i: Int) {
    for k in 0..<mounts.count where isOf(k, i) && mounts[k].pointee.kind != CKPT_MOUNT_INHERITED.rawValue && mounts[k].pointee.parent != none {
        let point = bytes(mounts[k].pointee.target)
        if mounts[Int(mounts[k].pointee.parent)].pointee.kind != CKPT_MOUNT_INHERITED.rawValue || relocated(point) == point { continue }
        refuse(.usage) { l in putMount(k, &l); l.put("its mount point lies below the OLD of a --relocate, and mount points stay where they were; put its folder back, and use --relocate only for what else lies there") }
    }
}

/// In the builder, which owns whatever is in them.
func fillPartMounts(_ i: Int) {
    for k in 0..<mounts.count where isOf(k, i) && systemFds[k].pointee > 0 { fill(mount: k, root: Int(systemFds[k].pointee)) }
    letChild(i, assembleEntry)
}

// MARK: where everything is

private let assembleEntry: @convention(c) (UInt64) -> Void = { i in
    beChild()
    assemble(Int(i))
    ckpt_exit_group(0)
}

private func assemble(_ i: Int) {
    enterSource(i)
    openPeersOutside(i)
    for k in 0..<mounts.count where isOf(k, i) && isBind(k) && !isLate(k) { checkSource(k) }
    enterOwner(i)
    go(to: i)
    var seen = MountTable()
    seen.read()
    openSources(i)
    findInherited(i, &seen)
    removeOthers(i, &seen)
    var left = 1
    // What something is mounted on comes before that.
    while left > 0 {
        var done = 0
        left = 0
        for k in 0..<mounts.count where isOf(k, i) && !isLate(k) && fdOfMade(k) == 0 {
            if mounts[k].pointee.parent != none && fdOfMade(Int(mounts[k].pointee.parent)) == 0 { left += 1; continue }
            make(k, &seen)
            done += 1
        }
        if done == 0 && left > 0 { refuse(.badStatefile) { $0.put("statefile: MOUNT records: they stand on each other in a circle; the file is damaged, take another") } }
    }
    detachSystems(i)
    // What was mounted only where something is bound from can go now.
    removeOthers(i, &seen)
    setOptions(i)
    propagateAll(i)
    let here = int(StaticString(".").cString), detach = 2
    if isRootGone {
        let r = system(CKPT_SYS_umount2, here, detach)
        guard r == 0 else { refuseNamespace(i, r) }
    }
}
private func go(to i: Int) {
    let r = enterPart(i)
    guard r == 0 else { refuseNamespace(i, r) }
}
/// The mount namespace that one was copied from: where we are, or another of a part's.
func enterSource(_ i: Int) { if namespaces[i].pointee.around != 0 { go(to: Int(namespaces[i].pointee.around) - 1) } }
/// The file systems have descriptors before they are attached.
func fdOfMade(_ k: Int) -> Int32 { mounts[k].pointee.mode & made != 0 ? attached(k) : 0 }
private let made: UInt32 = 1 << 31
private func note(_ k: Int) { mounts[k].pointee.mode |= made }

/// Those that this namespace has from the beginning.
private func findInherited(_ i: Int, _ seen: inout MountTable) {
    var left = true
    while left {
        left = false
        for k in 0..<mounts.count where isOf(k, i) && mounts[k].pointee.kind == CKPT_MOUNT_INHERITED.rawValue && fdOfMade(k) == 0 {
            let parent = mounts[k].pointee.parent
            if parent != none && fdOfMade(Int(parent)) == 0 { continue }
            guard adopt(k, &seen) || standIn(k) else {
                refuse(.systemCall) { l in putMount(k, &l); l.put("nothing like it is mounted here; mount it again where the restart is started") }
            }
            left = true
        }
    }
}

/// A second /proc at its place was that of an earlier restart's pid namespace.
func isOfEarlierRestart(_ k: Int) -> Bool {
    func isProc(_ k: Int) -> Bool { mounts[k].pointee.kind == CKPT_MOUNT_INHERITED.rawValue && equal(bytes(mounts[k].pointee.type), to: "proc") && equal(bytes(mounts[k].pointee.target), to: "/proc") }
    return mounts[k].pointee.parent != none && isProc(k) && isProc(Int(mounts[k].pointee.parent))
}
/// What stands for it is what stands for the one below.
private func isStandIn(_ k: Int) -> Bool {
    guard isOfEarlierRestart(k) else { return false }
    let below = attached(Int(mounts[k].pointee.parent))
    return attached(k) > 0 && below > 0 && mountNumber(attached(k)) == mountNumber(below)
}
/// Then the mount has the options and the propagation of the one above.
func hasStandIn(_ k: Int) -> Bool {
    for above in 0..<mounts.count where mounts[above].pointee.parent == UInt32(k) && isStandIn(above) { return true }
    return false
}
private func standIn(_ k: Int) -> Bool {
    guard isOfEarlierRestart(k) else { return false }
    let parent = Int(mounts[k].pointee.parent), r = attached(parent) > 0 ? system(CKPT_SYS_fcntl, Int(attached(parent)), 1030, 0) : -9
    if r < 0 { return false }
    mounts[k].pointee.rdev = UInt64(number(parent))
    keep(k, r)
    note(k)
    return true
}

/// Is it there already?
private func adopt(_ k: Int, _ seen: inout MountTable) -> Bool {
    let parent = mounts[k].pointee.parent, on = parent == none ? 0 : number(Int(parent))
    for s in 0..<seen.count where !seen.all[s].used && seen.shows(seen.all[s], bytes(mounts[k].pointee.line), attributes: false) {
        if parent == none ? seen.indexOf(id: seen.all[s].parent) >= 0 && seen.all[s].parent != seen.all[s].id : seen.all[s].parent != on { continue }
        seen.all[s].used = true
        let r = openPlace(-100, bytes(mounts[k].pointee.target))
        // Another mount may cover it: nothing is ever done to it then.  The /proc of a restart's own pid namespace stands for the one below.
        if r >= 0 && (mountNumber(Int32(truncatingIfNeeded: r)) == seen.all[s].id || isOfOurProc(k)) { keep(k, r); mounts[k].pointee.rdev = UInt64(seen.all[s].id) } else {
            if r >= 0 { _ = ckpt_close(Int32(truncatingIfNeeded: r)) }
            mountFds[k].pointee = covered(seen.all[s].id)
        }
        note(k)
        return true
    }
    return false
}
/// One that is covered has only its number.
private func covered(_ id: Int32) -> Int32 { -1 - id }
private func number(_ k: Int) -> Int32 {
    if attached(k) < 0 { return -1 - attached(k) }
    return mounts[k].pointee.kind == CKPT_MOUNT_INHERITED.rawValue && mounts[k].pointee.rdev != 0 ? Int32(truncatingIfNeeded: mounts[k].pointee.rdev) : mountNumber(attached(k))
}
var hasOurProc: Bool { state.pointee.mode == ENGINE_PIDS_NS.rawValue }
private func isOfOurProc(_ k: Int) -> Bool { hasOurProc && mounts[k].pointee.kind == CKPT_MOUNT_INHERITED.rawValue && equal(bytes(mounts[k].pointee.type), to: "proc") && equal(bytes(mounts[k].pointee.target), to: "/proc") }

/// What the part has unmounted; what may not be unmounted by itself (it is locked) is found when all are compared.
private func removeOthers(_ i: Int, _ seen: inout MountTable) {
    // Another root takes all others with it.
    if isRootGone { return }
    let path = engine_path()
    seen.read()
    markMade(i, &seen)
    markSources(i, &seen)
    var s = seen.count - 1
    while s >= 0 {
        defer { s -= 1 }
        if seen.all[s].used || (hasOurProc && seen.isProc(seen.all[s])) || !seen.copyPoint(seen.all[s], to: path, capacity: 4096) { continue }
        let r = openPlace(-100, Text(path))
        if r < 0 { continue }
        let noFollow = 8, detach = 2
        // By its descriptor: a name could lead elsewhere by now.
        if mountNumber(Int32(truncatingIfNeeded: r)) == seen.all[s].id && !isParent(seen.all[s].id, seen) && system(CKPT_SYS_fchdir, r) == 0 {
            _ = system(CKPT_SYS_umount2, int(StaticString(".").cString), detach | noFollow)
            _ = system(CKPT_SYS_chdir, int(StaticString("/").cString))
        }
        _ = ckpt_close(Int32(truncatingIfNeeded: r))
    }
}
private func isParent(_ id: Int32, _ seen: MountTable) -> Bool {
    for s in 0..<seen.count where seen.all[s].used && seen.all[s].parent == id { return true }
    return false
}
/// Another root takes the place of all that was inherited.
private var isRootGone: Bool { state.pointee.root_is_new != 0 }

private func make(_ k: Int, _ seen: inout MountTable) {
    let m = mounts[k].pointee
    if state.pointee.has_copied_all != 0 {
        seen.read()
        markMade(Int(m.namespaces), &seen)
        if adopt(k, &seen) { return }
    }
    var withAll = false
    if m.kind == CKPT_MOUNT_BIND.rawValue { keep(k, copyOutside(k, &withAll)) }
    else { keep(k, copySystem(k, &withAll)) }
    put(k)
    if withAll { state.pointee.has_copied_all = 1 }
}
private func markMade(_ i: Int, _ seen: inout MountTable) {
    for k in 0..<mounts.count where isOf(k, i) && fdOfMade(k) != 0 {
        let s = seen.indexOf(id: number(k))
        if s >= 0 { seen.all[s].used = true }
    }
}

/// What is still to be bound can't be copied from a mount that is gone.
private func markSources(_ i: Int, _ seen: inout MountTable) {
    for k in 0..<mounts.count where isOf(k, i) && mounts[k].pointee.kind == CKPT_MOUNT_BIND.rawValue && systemFds[k].pointee > 0 {
        var s = seen.indexOf(id: mountNumber(systemFds[k].pointee))
        while s >= 0 && !seen.all[s].used { seen.all[s].used = true; s = seen.indexOf(id: seen.all[s].parent) }
    }
}

private func isBind(_ k: Int) -> Bool { mounts[k].pointee.kind == CKPT_MOUNT_BIND.rawValue }
private func source(_ k: Int) -> (path: Text, isRelocated: Bool) {
    let recorded = bytes(mounts[k].pointee.source), path = relocated(recorded)
    return (path, path != recorded)
}

/// What is bound is of the kind and his whose it was, and nobody else can exchange it.  In the namespace that this one is a copy of, while ids and
/// permissions are those outside; its file system and inode number are noted for the moment when it is opened.
private func checkSource(_ k: Int) {
    let m = mounts[k].pointee, source = source(k)
    switch walk(source.path, links: source.isRelocated, to: .file, owner: m.owner) {
    case .failed(let r): refuseSource(k, r)
    case .exchangeable:
        refuse(.systemCall) { l in putMount(k, &l); l.put("its source "); l.put(text: source.path); l.put(": another user may exchange it, or a folder of its path; restart it as the user whose it is, or use --relocate OLD=NEW") }
    case .to(let fd):
        let st = status(fd: fd)
        guard st.kind == m.mode & 0o170000, st.rdev == m.rdev else {
            refuse(.systemCall) { l in putMount(k, &l); l.put(text: bytes(m.source)); l.put(" is another kind of file than at the checkpoint; put it back, or use --relocate OLD=NEW") }
        }
        guard source.isRelocated || isStill(st.uid, m.owner) else {
            refuse(.systemCall) { l in
                putMount(k, &l); l.put("its source "); l.put(text: source.path); l.put(" belongs to user "); l.put(decimal: UInt64(st.uid)); l.put(", at the checkpoint to user "); l.put(decimal: UInt64(m.owner))
                l.put("; put it back, or use --relocate OLD=NEW")
            }
        }
        sourceIds[k].pointee = (st.device, st.inode)
        _ = ckpt_close(fd)
    }
}
/// Others are all called the same in a user namespace that does not map them.
private func isStill(_ owner: UInt32, _ before: UInt32) -> Bool {
    let unknown: UInt32 = 65534, isMapped = state.pointee.user_namespace != 0 || state.pointee.own_users != 0
    return owner == before || isMapped && owner == unknown && before != currentIds(false)[1]
}

/// Before something else is mounted over it.
private func openSources(_ i: Int) { for k in 0..<mounts.count where isOf(k, i) && isBind(k) && !isLate(k) { openSource(k) } }
private func openSource(_ k: Int) {
    let source = source(k), place = openPlace(-100, source.path, followsLinks: source.isRelocated)
    guard place >= 0 else { refuseSource(k, place) }
    let st = status(fd: Int32(truncatingIfNeeded: place)), checked = sourceIds[k].pointee
    guard st.device == checked.0, st.inode == checked.1 else {
        refuse(.systemCall) { l in putMount(k, &l); l.put("its source "); l.put(text: source.path); l.put(" is not what was to be seen there just before; restart it again, or use --relocate OLD=NEW") }
    }
    systemFds[k].pointee = lift(Int32(truncatingIfNeeded: place), "source of a mount")
}
private func copyOutside(_ k: Int, _ withAll: inout Bool) -> Int {
    let place = Int(systemFds[k].pointee)
    let r = copyTree(place, StaticString("").cString, withAll: &withAll)
    guard r >= 0 else { refuseSource(k, r) }
    _ = ckpt_close(Int32(truncatingIfNeeded: place))
    systemFds[k].pointee = 0
    return r
}
private func refuseSource(_ k: Int, _ r: Int) -> Never {
    refuse(.systemCall) { l in putMount(k, &l); l.put("its source "); l.put(text: bytes(mounts[k].pointee.source)); l.put(": "); putError(r, &l); l.put("; put it back, or use --relocate OLD=NEW") }
}

/// A mount of a file system, or of a part of it; its number is the next one.  Before Linux 6.15 nothing can be copied that is not attached: for a moment it is.
private func copySystem(_ k: Int, _ withAll: inout Bool) -> Int {
    let s = Int(mounts[k].pointee.system), root = systemFds[s].pointee, first = copyTree(Int(root), bytes(mounts[k].pointee.root) + 1, withAll: &withAll)
    if first >= 0 { return first }
    if mounts[s].pointee.mode & attachedForAMoment == 0 {
        let place = openPlace(-100, StaticString("/proc").cString), r = place < 0 ? place : attach(root, to: Int32(truncatingIfNeeded: place))
        guard r == 0 else { refuseMount(k, r, "its file system cannot be attached for a moment") }
        _ = ckpt_close(Int32(truncatingIfNeeded: place))
        mounts[s].pointee.mode |= attachedForAMoment
    }
    let r = copyTree(Int(root), bytes(mounts[k].pointee.root) + 1, withAll: &withAll)
    guard r >= 0 else { refuseMount(k, r, "what it shows cannot be mounted") }
    return r
}
private let attachedForAMoment: UInt32 = 1 << 30
private func detachSystems(_ i: Int) {
    let detach = 2
    for k in 0..<mounts.count where isOf(k, i) && mounts[k].pointee.mode & attachedForAMoment != 0 && !isRootGone { _ = system(CKPT_SYS_umount2, int(StaticString("/proc").cString), detach) }
}

/// On its parent, by descriptors.
private func put(_ k: Int) {
    let m = mounts[k].pointee
    var r = setAttributes(attached(k), flagsAtFirst(k))
    guard r == 0 else { refuseMount(k, r, "its options cannot be set") }
    let place: Int
    if m.parent == none { place = openPlace(-100, StaticString("/").cString) } else {
        guard attached(Int(m.parent)) > 0 else { refuse(.lacks) { l in putMount(k, &l); l.put("another mount covers the one that it is on; restart it as root") } }
        place = openPlace(Int(attached(Int(m.parent))), bytes(m.place), belowOnly: true)
    }
    guard place >= 0 else { refuseMount(k, place, "its mount point") }
    r = attach(attached(k), to: Int32(truncatingIfNeeded: place))
    guard r == 0 else { refuseMount(k, r, "cannot be mounted") }
    _ = ckpt_close(Int32(truncatingIfNeeded: place))
    note(k)
    if m.parent == none { changeRoot(k) }
}

/// Another root: the old one lies on top of it until all is there, and nothing that is made is a part of it.
private func changeRoot(_ k: Int) {
    let here = int(StaticString(".").cString)
    var r = system(CKPT_SYS_fchdir, Int(attached(k)))
    if r == 0 { r = system(CKPT_SYS_pivot_root, here, here) }
    guard r == 0 else { refuseMount(k, r, "cannot become the root") }
}

// MARK: options, and what is shared outside

/// Those where others are shared with: before this process goes where they can't be seen.
private func openPeersOutside(_ i: Int) {
    state.pointee.root_is_new = 1; state.pointee.has_copied_all = 0
    for k in 0..<mounts.count where isOf(k, i) && mounts[k].pointee.parent == none && mounts[k].pointee.kind == CKPT_MOUNT_INHERITED.rawValue { state.pointee.root_is_new = 0 }
    // (What others cover has its propagation from the beginning.)
    for k in 0..<mounts.count where isOf(k, i) && mounts[k].pointee.propagation & (CKPT_PROPAGATION_OUTSIDE.rawValue | CKPT_PROPAGATION_COVERED.rawValue) == CKPT_PROPAGATION_OUTSIDE.rawValue {
        let path = relocated(bytes(mounts[k].pointee.options)), r = openPlace(-100, path)
        guard r >= 0 else { refuseMount(k, r, "what it shares mounts with") }
        guard isMountRoot(Int32(truncatingIfNeeded: r)) || equal(path, to: "/") else {
            refuse(.systemCall) { l in putMount(k, &l); l.put("what it shares mounts with: nothing is mounted at "); l.put(text: path); l.put("; mount it again where the restart is started, or use --relocate OLD=NEW") }
        }
        mounts[k].pointee.shows = UInt32(truncatingIfNeeded: Int(lift(Int32(truncatingIfNeeded: r), "mount")))
    }
}

/// In a file system of the tree's own sockets get their names yet.
private func flagsAtFirst(_ k: Int) -> UInt32 { isReadOnlyLater(k) ? mounts[k].pointee.flags & ~1 : mounts[k].pointee.flags }
private func isReadOnlyLater(_ k: Int) -> Bool { mounts[k].pointee.kind == CKPT_MOUNT_NEW.rawValue && !isLate(k) && mounts[k].pointee.flags & 1 != 0 }
private func setOptions(_ i: Int) {
    for k in 0..<mounts.count where isOf(k, i) && !isLate(k) && fdOfMade(k) > 0 {
        // (Of what one mount stands for the uppermost comes last.)
        let r = setAttributes(attached(k), flagsAtFirst(k))
        guard r == 0 || isOfOurProc(k) else { refuseMount(k, r, "its options cannot be set") }
    }
}

// MARK: at the end

/// In the builder, when all processes are there.
func mountLate(_ i: Int) {
    for k in 0..<mounts.count where isOf(k, i) && isLate(k) {
        if mounts[k].pointee.kind != CKPT_MOUNT_PROC.rawValue || mounts[k].pointee.system != UInt32(k) { letChild(k, lateEntry); continue }
        var r = among(mounts[k].pointee.shows) { fork(pid: 0, flags: 0x400, argument: UInt64(k), lateEntry) }
        var status: Int32 = 0, e = -4
        while r > 0 && e == -4 { e = system(CKPT_SYS_wait4, r, int(&status), 0x4000_0000, 0) }
        if r > 0 { r = status == 0 ? 0 : -5 }
        guard r == 0 else { refuseMount(k, r, "cannot be mounted") }
    }
    letChild(i, compareEntry)
}
private let lateEntry: @convention(c) (UInt64) -> Void = { k in
    beChild()
    let k = Int(k), i = Int(mounts[k].pointee.namespaces), m = mounts[k].pointee
    var withAll = false
    if m.kind == CKPT_MOUNT_PROC.rawValue && m.system == UInt32(k) {
        // Here, where another one is to be seen as a whole: else a user may not (mount_too_revealing in the kernel).
        let made = makeFileSystem(bytes(m.type), source: bytes(m.source), options: bytes(m.options), flags: m.flags & ~1, owner: 0)
        guard made >= 0 else { refuseMount(k, made, "its file system cannot be made") }
        systemFds[k].pointee = lift(Int32(truncatingIfNeeded: made), "file system")
        keep(k, Int(systemFds[k].pointee))
        go(to: i)
    } else if m.kind == CKPT_MOUNT_BIND.rawValue {
        enterSource(i)
        checkSource(k)
        go(to: i)
        openSource(k)
        keep(k, copyOutside(k, &withAll))
    } else {
        go(to: Int(mounts[m.system].pointee.namespaces))
        let r = copyTree(Int(systemFds[m.system].pointee), bytes(m.root) + 1, withAll: &withAll)
        guard r >= 0 else { refuseMount(k, r, "what it shows cannot be mounted") }
        keep(k, r)
        go(to: i)
    }
    put(k)
    let e = propagate(k)
    guard e == 0 else { refuseMount(k, e, "its propagation cannot be set") }
    ckpt_exit_group(0)
}

private let compareEntry: @convention(c) (UInt64) -> Void = { i in
    beChild()
    var seen = MountTable()
    go(to: Int(i))
    makeReadOnly(in: Int(i))
    seen.read()
    compare(Int(i), &seen)
    ckpt_exit_group(0)
}

/// When all that is open there is open.
private func makeReadOnly(in i: Int) {
    for k in 0..<mounts.count where isOf(k, i) && mounts[k].pointee.propagation & CKPT_PROPAGATION_READ_ONLY.rawValue != 0 {
        let r = makeReadOnly(systemFds[k].pointee)
        guard r == 0 else { refuseMount(k, r, "its file system cannot be made read-only") }
    }
    for k in 0..<mounts.count where isOf(k, i) && isReadOnlyLater(k) {
        let r = setAttributes(attached(k), mounts[k].pointee.flags)
        guard r == 0 else { refuseMount(k, r, "cannot be made read-only") }
    }
}
/// Nothing is missing, nothing is more, and each is on what it was on.
private func compare(_ i: Int, _ seen: inout MountTable) {
    for k in 0..<mounts.count where isOf(k, i) {
        var found = -1
        for s in 0..<seen.count where found < 0 && !seen.all[s].used && isShown(k, seen.all[s], seen) && isPropagated(k, seen.all[s]) && isOnItsParent(k, seen.all[s], seen) { found = s }
        if found < 0 && (isOfEarlierRestart(k) || hasStandIn(k)) { continue }
        guard found >= 0 else {
            refuse(.lacks) { l in
                putMount(k, &l); l.put("it is not as it was, or not on what it was ("); l.put(text: bytes(mounts[k].pointee.line)); l.put("); "); l.put(isFromOutside(k) ? "restart it where the same is mounted as at the checkpoint" : "restart it on the kernel that it was checkpointed on")
            }
        }
        seen.all[found].used = true
        if !isOfOurProc(k) { seen.all[found].mount = Int32(k) }
    }
    compareGroups(seen)
    for s in 0..<seen.count where !seen.all[s].used && !(hasOurProc && seen.isProc(seen.all[s])) {
        refuse(.lacks) { l in
            l.put("mount ")
            for c in seen.all[s].point.0..<seen.all[s].point.1 { l.put(byte: seen.text[c]) }
            l.put(" is in a mnt namespace of a part of the tree, and was not at the checkpoint; unmount it, or restart it as root")
        }
    }
}
/// The order of others is that in which they were mounted, and means nothing.  Of what shows processes a restart in a pid namespace has one more.
private func isOnItsParent(_ k: Int, _ s: SeenMount, _ seen: MountTable) -> Bool {
    let parent = mounts[k].pointee.parent
    if parent == none || showsProcesses(k) || showsProcesses(Int(parent)) { return true }
    for p in 0..<seen.count where seen.all[p].mount == Int32(parent) { return seen.all[p].id == s.parent }
    return true
}
private func showsProcesses(_ k: Int) -> Bool { equal(bytes(mounts[k].pointee.type), to: "proc") }
private func isRelocated(_ k: Int) -> Bool { isBind(k) && source(k).isRelocated }
private func isFromOutside(_ k: Int) -> Bool { mounts[k].pointee.kind == CKPT_MOUNT_INHERITED.rawValue || mounts[k].pointee.kind == CKPT_MOUNT_BIND.rawValue }
/// What was bound from another place than at the checkpoint is the very mount that was made of that.
private func isShown(_ k: Int, _ s: SeenMount, _ seen: MountTable) -> Bool {
    let elsewhere = isRelocated(k)
    return seen.shows(s, bytes(mounts[k].pointee.line), attributes: !isOfOurProc(k), elsewhere: elsewhere) && (!elsewhere || s.id == mountNumber(attached(k)))
}
