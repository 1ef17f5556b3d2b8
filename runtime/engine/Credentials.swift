// Runs in the engine and in each task, on its own stack; no allocation, no libc.
// Users, groups and capabilities belong to each task: the last that a task restores.  Only what differs is set.
import CkptABI
import EngineBoot
import Freestanding

struct Capabilities: Equatable { var effective: UInt64 = 0, permitted: UInt64 = 0, inheritable: UInt64 = 0 }

// capget(2), capset(2), version 3: effective, permitted, inheritable of the low and then of the high half.
func currentCapabilities() -> Capabilities {
    var header: (UInt32, Int32) = (0x20080522, 0)
    var data = InlineArray<6, UInt32>(repeating: 0)
    _ = withUnsafeMutableBytes(of: &header) { h in withUnsafeMutableBytes(of: &data) { system(125, int(h.baseAddress!), int($0.baseAddress!)) } }
    return Capabilities(effective: UInt64(data[0]) | UInt64(data[3]) << 32, permitted: UInt64(data[1]) | UInt64(data[4]) << 32,
                        inheritable: UInt64(data[2]) | UInt64(data[5]) << 32)
}
private func setCapabilities(_ c: Capabilities) -> Int {
    var header: (UInt32, Int32) = (0x20080522, 0)
    var data = InlineArray<6, UInt32>(repeating: 0)
    data[0] = UInt32(truncatingIfNeeded: c.effective); data[3] = UInt32(truncatingIfNeeded: c.effective >> 32)
    data[1] = UInt32(truncatingIfNeeded: c.permitted); data[4] = UInt32(truncatingIfNeeded: c.permitted >> 32)
    data[2] = UInt32(truncatingIfNeeded: c.inheritable); data[5] = UInt32(truncatingIfNeeded: c.inheritable >> 32)
    return withUnsafeMutableBytes(of: &header) { h in withUnsafeMutableBytes(of: &data) { system(126, int(h.baseAddress!), int($0.baseAddress!)) } }
}

/// Real, effective and saved user or group id.
func currentIds(_ group: Bool) -> InlineArray<3, UInt32> {
    var ids = InlineArray<3, UInt32>(repeating: 0)
    _ = withUnsafeMutableBytes(of: &ids) { system(group ? 120 : 118, int($0.baseAddress!), int($0.baseAddress! + 4), int($0.baseAddress! + 8)) }
    return ids
}

/// Whether the supplementary groups of any task are not ours.
func groupsDiffer() -> Bool {
    for t in 0..<tasks.count where !groupsMatch(Identity(t)) { return true }
    return false
}
private func groupsMatch(_ me: Identity) -> Bool {
    let n = system(115, 0, 0)
    guard n == Int(me.wanted.pointee.group_count) else { return false }
    if n == 0 { return true }
    let list = UnsafeMutablePointer<UInt32>(bitPattern: UInt(state.pointee.copy))!
    guard n <= 16384, system(115, n, int(list)) == n else { return false }
    for k in 0..<n where list[k] != groups[me.wanted.pointee.first_group + UInt32(k)].pointee { return false }
    return true
}

/// A task and the credentials that it had.
struct Identity {
    let task: Int
    let wanted: UnsafeMutablePointer<ckpt_credentials_record>
    init(_ t: Int) { task = t; wanted = credentials[tasks[t].pointee.credentials] }
    func user(_ k: Int32) -> UInt32 { idHere(engine_user(wanted, k).pointee, isGroup: 0) }
    func group(_ k: Int32) -> UInt32 { idHere(engine_group_of(wanted, k).pointee, isGroup: 1) }
}

/// Before the process enters a user namespace, where not all of them may show; it enters that with its capabilities outside.
func restoreOuterIds(_ t: Int) {
    let me = Identity(t)
    restoreGroups(me)
    if idsDiffer(me) { restoreIds(me) }
    raiseCapabilities()
}
/// Another user, with the same capabilities.
func become(_ user: UInt32, _ group: UInt32) -> Int {
    let keepCapabilities: Int32 = 8
    _ = ckpt_prctl(keepCapabilities, 1, 0, 0, 0)
    var r = system(CKPT_SYS_setresgid, Int(group), Int(group), Int(group))
    if r == 0 { r = system(CKPT_SYS_setresuid, Int(user), Int(user), Int(user)) }
    raiseCapabilities()
    showOwnFiles()
    return r
}
/// Makes a file.  A file system of a user namespace takes none from who has no name there, root neither (EOVERFLOW): then as its owner.
func asOwner(_ user: UInt32, _ group: UInt32, _ make: () -> Int) -> Int {
    let r = make(), overflow = -75, setFsuid = 122, setFsgid = 123
    guard r == overflow else { return r }
    let ours = (user: currentIds(false)[1], group: currentIds(true)[1])
    takeFileIds(user, group)
    let again = make()
    _ = system(setFsuid, Int(ours.user)); _ = system(setFsgid, Int(ours.group))
    raiseCapabilities()
    showOwnFiles()
    return again
}
/// What this task makes belongs to them; its capabilities stay.
func takeFileIds(_ user: UInt32, _ group: UInt32) {
    let setFsuid = 122, setFsgid = 123
    if currentIds(false)[1] == user && currentIds(true)[1] == group { return }
    _ = system(setFsgid, Int(group)); _ = system(setFsuid, Int(user))
    raiseCapabilities()
}
/// What that user may do himself, and nothing else; for good.
func leaveRights(_ user: UInt32, _ group: UInt32) -> Int {
    let setFsuid = 122, setFsgid = 123, none = system(CKPT_SYS_setgroups, 0, 0)
    // In a user namespace of a part the kernel may forbid it.
    guard none == 0 || state.pointee.entered_users != 0 else { return none }
    _ = system(setFsgid, Int(group)); _ = system(setFsuid, Int(user))
    var now = currentCapabilities()
    now.effective = 0
    let r = setCapabilities(now), invalid = -1
    return r != 0 ? r : system(setFsuid, invalid) == Int(user) ? 0 : -1
}
/// With that user, group and supplementary groups as far as files are concerned, and without capabilities.
func asUser(_ user: UInt32, _ group: UInt32, _ list: UnsafeMutablePointer<UInt32>?, _ count: Int, _ body: () -> Int) -> Int {
    let setFsuid = 122, setFsgid = 123, getGroups = 115, unchanged = -1, before = currentCapabilities(), ours = (user: currentIds(false)[1], group: currentIds(true)[1])
    let most = 65536, own = anonymous(UInt64(most) * 4), number = system(getGroups, most, int(own))
    defer { _ = ckpt_munmap(UInt64(UInt(bitPattern: own)), UInt64(most) * 4) }
    var r = number < 0 ? number : system(CKPT_SYS_setgroups, count, Int(bitPattern: list)), less = before
    if r < 0 { return r }
    _ = system(setFsgid, Int(group)); _ = system(setFsuid, Int(user))
    less.effective = 0
    r = setCapabilities(less)
    if r == 0 { r = system(setFsuid, unchanged) == Int(user) && system(setFsgid, unchanged) == Int(group) ? body() : -1 }
    _ = setCapabilities(before)
    _ = system(setFsgid, Int(ours.group)); _ = system(setFsuid, Int(ours.user))
    _ = setCapabilities(before)
    let back = system(CKPT_SYS_setgroups, number, int(own))
    showOwnFiles()
    return back < 0 ? back : r
}
private func raiseCapabilities() {
    var now = currentCapabilities()
    now.effective = now.permitted
    _ = setCapabilities(now)
}

func restoreCredentials(_ t: Int) {
    let me = Identity(t)
    restoreGroups(me)
    dropBounding(me)
    if idsDiffer(me) { restoreIds(me) }
    restoreSecurebits(me)
    restoreCapabilities(me)
    if me.wanted.pointee.no_new_privs != 0 {
        let r = ckpt_prctl(38, 1, 0, 0, 0)
        guard r == 0 else { refuseCredentials(me, r, "no_new_privs") }
    }
}

// MARK: rights of root's

/// Whether root, and whether somebody else, is among the users of the tree's tasks.
var treeUsers: (isRoot: Bool, areOthers: Bool) {
    let s = state, known: UInt32 = 1, withRoot: UInt32 = 2, withOthers: UInt32 = 4
    if s.pointee.tree_users == 0 {
        s.pointee.tree_users = known
        let root = idHere(0, isGroup: 0)
        for t in 0..<tasks.count { for k: Int32 in 0..<4 { s.pointee.tree_users |= Identity(t).user(k) == root ? withRoot : withOthers } }
    }
    return (s.pointee.tree_users & withRoot != 0, s.pointee.tree_users & withOthers != 0)
}

/// Once the tree is planned.  Who has stopped children waits for them while they are in the tree's memory already: for those nobody waits.
func countRights() {
    state.pointee.roots_restart = isRootAmongOthers ? 1 : 0
    state.pointee.rights_awaited = 0
    var anyStopped = false
    for n in 0..<Int(state.pointee.node_count) where isStopped(n) { anyStopped = true }
    for n in 0..<Int(state.pointee.node_count) where nodes[n].pointee.record >= 0 && nodes[n].pointee.zombie == 0 && !(anyStopped && hasStoppedChildren(Int32(n))) {
        state.pointee.rights_awaited += processes[Int(nodes[n].pointee.record)].pointee.task_count
    }
}
private func hasStoppedChildren(_ parent: Int32) -> Bool {
    for n in 0..<Int(state.pointee.node_count) where nodes[n].pointee.parent == parent && isStopped(n) { return true }
    return false
}

/// Of root's restart: a task that goes into the tree's memory, whose code is its user's, could change what others run here while these have root's rights.
/// Whoever may attach to it, once it is dumpable again, could as well.
private func awaitOthersRights(_ t: Int) {
    if state.pointee.roots_restart == 0 { return }
    let i = Int(tasks[t].pointee.process), opened: UInt32 = 1
    let own = processOpen[i], all = engine_board_left_rights(board)
    let ofProcess = opened + processes[i].pointee.task_count, ofTree = state.pointee.rights_awaited
    count(own, to: ofProcess)
    if !hasStoppedChildren(state.pointee.node) { count(all, to: ofTree) }
    wait(own, for: ofProcess)
    wait(all, for: ofTree)
}
/// Only the last one wakes: all waking all is quadratic.
private func count(_ word: UnsafeMutablePointer<UInt32>, to whole: UInt32) { if ckpt_add(word, 1) + 1 == whole { _ = ckpt_futex_wake(word, Int32.max) } }
private func wait(_ word: UnsafeMutablePointer<UInt32>, for count: UInt32) {
    while true {
        let now = ckpt_load(word)
        if now >= count { return }
        waitWhile(word, is: now)
    }
}

/// Nothing of ours is left to this task; only then may others of its user look into the process.
func giveUpRights(_ t: Int) {
    awaitOthersRights(t)
    // Changed ids made it undumpable.
    let p = processes[tasks[t].pointee.process]
    if p.pointee.dumpable == 0 || p.pointee.dumpable == 1 { _ = ckpt_prctl(4, Int(p.pointee.dumpable), 0, 0, 0) }
}

private func refuseCredentials(_ me: Identity, _ r: Int, _ what: StaticString) -> Never {
    refuse(r) { l in
        putProcess(Int(tasks[me.task].pointee.process), &l); l.put("tid "); l.put(signed: Int64(tasks[me.task].pointee.tid)); l.put(": ")
        l.put(what); l.put(" cannot be set; restart it as the user who started it, or as root")
    }
}

private func idsDiffer(_ me: Identity) -> Bool {
    let uid = currentIds(false), gid = currentIds(true)
    for k in 0..<3 where uid[k] != me.user(Int32(k)) || gid[k] != me.group(Int32(k)) { return true }
    return me.user(3) != me.user(1) || me.group(3) != me.group(1)
}

private func restoreGroups(_ me: Identity) {
    if state.pointee.entered_users != 0 { return requireEntered(me) }
    if restoreInnerGroups(me) { return }
    if state.pointee.user_namespace != 0 || state.pointee.own_users != 0 {
        // The kernel forbids setgroups(2) here, or shows none of them: the outer groups stay.
        if state.pointee.foreign_groups != 0 || state.pointee.groups_differ != 0 {
            refuse(.lacks) { l in
                putProcess(Int(tasks[me.task].pointee.process), &l)
                l.put("other supplementary groups than those of this user; restart it as the user who started it, or as root")
            }
        }
        return
    }
    if groupsEqual(me) { return }
    let count = me.wanted.pointee.group_count, list: UnsafeMutablePointer<UInt32>? = count > 0 ? groups[me.wanted.pointee.first_group] : nil
    let r = system(CKPT_SYS_setgroups, Int(count), Int(bitPattern: list))
    guard r == 0 else { refuseCredentials(me, r, "its supplementary groups") }
}

/// In a user namespace of a part, which the process has entered with a task's.
private func requireEntered(_ me: Identity) {
    let entered = Identity(Int(state.pointee.entered_task)).wanted.pointee, wanted = me.wanted.pointee
    if wanted.first_group == entered.first_group && wanted.group_count == entered.group_count { return }
    refuseCredentials(me, -1, "supplementary groups other than those with which its user namespace was entered")
}

/// In the tree's own user namespace, where some have others than the engine could give to all.
private func restoreInnerGroups(_ me: Identity) -> Bool {
    guard let own = ownUsers(), state.pointee.groups_differ != ENGINE_GROUPS_EQUAL.rawValue, namespaces[own].pointee.flags & CKPT_NAMESPACE_NO_SETGROUPS.rawValue == 0 else { return false }
    let first = Identity(Int(processes[tree.pointee.root].pointee.first_task)).wanted.pointee, wanted = me.wanted.pointee
    if state.pointee.groups_differ == ENGINE_GROUPS_OF_OTHERS.rawValue && first.first_group == wanted.first_group && first.group_count == wanted.group_count { return true }
    var list = InlineArray<256, UInt32>(repeating: 0)
    let n = innerGroups(wanted, &list)
    return n >= 0 && withUnsafeMutableBytes(of: &list) { system(CKPT_SYS_setgroups, n, int($0.baseAddress!)) } == 0
}

/// On a task's small stack: up to 256 groups are compared, more are simply set.
private func groupsEqual(_ me: Identity) -> Bool {
    let n = system(115, 0, 0)
    guard n == Int(me.wanted.pointee.group_count), n <= 256 else { return false }
    var list = InlineArray<256, UInt32>(repeating: 0)
    _ = withUnsafeMutableBytes(of: &list) { system(115, n, int($0.baseAddress!)) }
    for k in 0..<n where list[k] != groups[me.wanted.pointee.first_group + UInt32(k)].pointee { return false }
    return true
}

/// The capabilities survive the change of user until they are set themselves.
private func restoreIds(_ me: Identity) {
    let kept = ckpt_prctl(7, 0, 0, 0, 0)
    _ = ckpt_prctl(8, 1, 0, 0, 0)
    var r = system(CKPT_SYS_setresgid, Int(me.group(0)), Int(me.group(1)), Int(me.group(2)))
    guard r == 0 else { refuseCredentials(me, r, "its group") }
    r = system(CKPT_SYS_setresuid, Int(me.user(0)), Int(me.user(1)), Int(me.user(2)))
    guard r == 0 else { refuseCredentials(me, r, "its user") }
    // setfsuid(2), setfsgid(2): what was there before is the answer; asked again it is what is there now.
    if me.user(3) != me.user(1) {
        _ = system(122, Int(me.user(3)))
        guard system(122, -1) == Int(me.user(3)) else { refuseCredentials(me, -1, "its user for files") }
    }
    if me.group(3) != me.group(1) {
        _ = system(123, Int(me.group(3)))
        guard system(123, -1) == Int(me.group(3)) else { refuseCredentials(me, -1, "its group for files") }
    }
    if kept == 0 { _ = ckpt_prctl(8, 0, 0, 0, 0) }
}

/// The bounding set can only shrink; a smaller one belongs to the place of the restart.
private func dropBounding(_ me: Identity) {
    for c in 0..<64 where me.wanted.pointee.cap_bounding & (1 << UInt64(c)) == 0 && ckpt_prctl(23, c, 0, 0, 0) == 1 {
        let r = ckpt_prctl(24, c, 0, 0, 0)
        guard r == 0 || effectiveCapabilities() == 0 else { refuseCredentials(me, r, "its bounding set of capabilities") }
    }
}

/// After the ids, which some of the bits would hinder; a change of user has taken the capability for it out of the effective set.
private func restoreSecurebits(_ me: Identity) {
    let wanted = me.wanted.pointee.securebits, keepCaps = 16, differing = ckpt_prctl(27, 0, 0, 0, 0) ^ Int(wanted)
    if differing == 0 { return }
    // The one bit that nobody needs a capability for.
    if differing == keepCaps && ckpt_prctl(8, Int(wanted) & keepCaps == 0 ? 0 : 1, 0, 0, 0) == 0 { return }
    raiseCapabilities()
    let r = ckpt_prctl(28, Int(wanted), 0, 0, 0)
    guard r == 0 else { refuseCredentials(me, r, "securebits") }
}

private func restoreCapabilities(_ me: Identity) {
    let c = me.wanted.pointee, now = currentCapabilities()
    let wanted = Capabilities(effective: c.cap_effective, permitted: c.cap_permitted, inheritable: c.cap_inheritable)
    if now != wanted {
        let r = setCapabilities(wanted)
        guard r == 0 else { refuseCredentials(me, r, "its capabilities") }
    }
    for k in 0..<64 {
        let set = c.cap_ambient & (1 << UInt64(k)) != 0, now = ckpt_prctl(47, 1, k, 0, 0)
        if now < 0 || set == (now == 1) { continue }
        let r = ckpt_prctl(47, set ? 2 : 3, k, 0, 0)
        guard r == 0 else { refuseCredentials(me, r, "its ambient capabilities") }
    }
}
