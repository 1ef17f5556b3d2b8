// How the mounts of a part are shared (mount_namespaces(7)): with those outside, among each other, as slaves; and whether they are so again.
// Runs in children of the builder, on the region's main stack; no allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

private let set: UInt32 = 1 << 29
private func has(_ k: Int, _ f: ckpt_mount_propagation) -> Bool { mounts[k].pointee.propagation & f.rawValue != 0 }
private func isSharedInside(_ k: Int) -> Bool { has(k, CKPT_PROPAGATION_SHARED) && !has(k, CKPT_PROPAGATION_OUTSIDE) }
private func isSet(_ k: Int) -> Bool { mounts[k].pointee.mode & set != 0 }

/// Of the same namespace, it can be reached, and it shows all that `k` shows (move_mount(2), MOVE_MOUNT_SET_GROUP).
private func canLead(_ o: Int, _ k: Int) -> Bool {
    o != k && isOfOne(o, k) && has(o, CKPT_PROPAGATION_SHARED) && !has(o, CKPT_PROPAGATION_COVERED) && !isLate(o) && isBelow(bytes(mounts[k].pointee.root), bytes(mounts[o].pointee.root))
}
private func isOfOne(_ o: Int, _ k: Int) -> Bool { mounts[o].pointee.namespaces == mounts[k].pointee.namespaces }
private func isBelow(_ path: Text, _ folder: Text) -> Bool {
    var n = length(folder), at = 0
    if n == 1 { n = 0 }
    while at < n { if path[at] != folder[at] { return false }; at += 1 }
    return path[n] == 0 || path[n] == 47
}
private func receivesInside(_ k: Int) -> Bool {
    if mounts[k].pointee.master == 0 { return false }
    for o in 0..<mounts.count where canLead(o, k) && mounts[o].pointee.peers == mounts[k].pointee.master { return true }
    return false
}

// MARK: at first

/// What is inherited, and others cover it, nobody reaches later: it becomes now what it was, with all others.  What is mounted outside from now on comes in; nothing goes out.
func separate(_ i: Int) {
    var receives = false, isShared = false, coveredOutside = false, coveredShared = false
    for k in 0..<mounts.count where isOf(k, i) {
        let outside = has(k, CKPT_PROPAGATION_OUTSIDE), covered = has(k, CKPT_PROPAGATION_COVERED)
        if has(k, CKPT_PROPAGATION_SLAVE) && !outside && !receivesInside(k) { receives = true }
        if outside { isShared = true }
        if covered && outside { coveredOutside = true }
        if covered && isSharedInside(k) { coveredShared = true }
    }
    if isShared && hasOurProc { refuse(.lacks) { $0.put("a mnt namespace of a part of the tree shares its mounts with those outside, which those of a restart in a pid namespace are not; use --pids keep, as root") } }
    if !coveredOutside { setAll(i, receives || isShared ? Propagation.slave : Propagation.single) }
    if coveredShared { setAll(i, Propagation.shared) }
    if coveredOutside || coveredShared { setReachable(receives || isShared ? Propagation.slave : Propagation.single) }
}
private func setAll(_ i: Int, _ kind: Int) {
    let recursive = 0x4000, r = system(CKPT_SYS_mount, int(StaticString("none").cString), int(StaticString("/").cString), 0, recursive | kind, 0)
    guard r == 0 else { refuseNamespace(i, r) }
}
private func setReachable(_ kind: Int) {
    var seen = MountTable()
    seen.read()
    for s in 0..<seen.count where seen.copyPoint(seen.all[s], to: engine_path(), capacity: 4096) { _ = system(CKPT_SYS_mount, int(StaticString("none").cString), int(engine_path()), 0, kind, 0) }
}

// MARK: when all are attached

/// Whoever others follow comes first.
func propagateAll(_ i: Int) {
    var left = true, done = true
    while left && done {
        left = false; done = false
        for k in 0..<mounts.count where isOf(k, i) && !isLate(k) && !isSet(k) && fdOfMade(k) > 0 && !hasStandIn(k) {
            left = true
            guard isReady(k) else { continue }
            let r = propagate(k)
            guard r == 0 else { refuseMount(k, r, "its propagation cannot be set") }
            mounts[k].pointee.mode |= set
            done = true
        }
    }
    if left { refuse(.badStatefile) { $0.put("statefile: MOUNT records: they share with each other in a circle; the file is damaged, take another") } }
}
private func isReady(_ k: Int) -> Bool {
    if receivesInside(k) && leader(of: k, mounts[k].pointee.master) < 0 { return false }
    if !isSharedInside(k) || leader(of: k, mounts[k].pointee.peers) >= 0 { return true }
    // The first is one that shows all that the others show.
    for o in 0..<mounts.count where o != k && isOfOne(o, k) && isSharedInside(o) && mounts[o].pointee.peers == mounts[k].pointee.peers && !isBelow(bytes(mounts[o].pointee.root), bytes(mounts[k].pointee.root)) { return false }
    return true
}
/// The descriptor of one that has its propagation already.
private func leader(of k: Int, _ group: UInt32) -> Int32 {
    if group == 0 { return -1 }
    for o in 0..<mounts.count where mounts[o].pointee.peers == group && isSet(o) && canLead(o, k) { return attached(o) }
    return -1
}

func propagate(_ k: Int) -> Int {
    let outside = has(k, CKPT_PROPAGATION_OUTSIDE), inside = receivesInside(k)
    let peer = outside ? Int32(bitPattern: mounts[k].pointee.shows) : isSharedInside(k) ? leader(of: k, mounts[k].pointee.peers) : -1
    var r = 0
    if !has(k, CKPT_PROPAGATION_SLAVE) || peer > 0 || inside { r = setPropagation(attached(k), Propagation.single) }
    if r == 0 && peer > 0 { return joinPeers(attached(k), of: peer) }
    if r == 0 && inside { r = joinPeers(attached(k), of: leader(of: k, mounts[k].pointee.master)) }
    if r == 0 && inside { r = setPropagation(attached(k), Propagation.slave) }
    if r == 0 && isSharedInside(k) { r = setPropagation(attached(k), Propagation.shared) }
    if r == 0 && has(k, CKPT_PROPAGATION_UNBINDABLE) { r = setPropagation(attached(k), Propagation.unbindable) }
    return r
}

// MARK: at the end

func isPropagated(_ k: Int, _ s: SeenMount) -> Bool {
    (s.peers != 0) == has(k, CKPT_PROPAGATION_SHARED) && (s.master != 0) == has(k, CKPT_PROPAGATION_SLAVE) && s.isUnbindable == has(k, CKPT_PROPAGATION_UNBINDABLE)
}
/// Those that were of one group are of one, and no others.
func compareGroups(_ seen: MountTable) {
    for a in 0..<seen.count where seen.all[a].mount >= 0 && (seen.all[a].peers != 0 || seen.all[a].master != 0) {
        let x = seen.all[a], m = mounts[Int(x.mount)].pointee
        for b in 0...a where seen.all[b].mount >= 0 {
            let y = seen.all[b], n = mounts[Int(y.mount)].pointee
            guard isAlike(x.peers, y.peers, m.peers, n.peers), isAlike(x.peers, y.master, m.peers, n.master), isAlike(x.master, y.peers, m.master, n.peers), isAlike(x.master, y.master, m.master, n.master) else {
                refuse(.lacks) { l in putMount(Int(x.mount), &l); l.put("it shares what is mounted with others than before, or with "); l.put(text: bytes(n.target)); l.put(" in another way; restart it where mounts are shared as at the checkpoint") }
            }
        }
    }
}
private func isAlike(_ x: Int32, _ y: Int32, _ m: UInt32, _ n: UInt32) -> Bool { x == 0 || y == 0 || (x == y) == (m == n) }
