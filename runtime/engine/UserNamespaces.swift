// The user namespaces that the whole tree lives in, which can only be entered; those of a part are in PartUsers.swift.
// A map of one user and one group everybody may write for himself; what else one shows is written from outside, by somebody with privileges.
// No allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

/// In the engine.  A single user and group are those of the tree where we may become them, else ours.
func enterUsers(_ i: Int) {
    let n = namespaces[i].pointee, scribe = isSingle(i) ? nil : leaveScribe(i)
    let firstIsSet = becomeOwner(n)
    if state.pointee.own_users == 0 { state.pointee.groups_differ = !groupsDiffer() ? 0 : firstIsSet ? ENGINE_GROUPS_OF_OTHERS.rawValue : ENGINE_GROUPS_OF_ALL.rawValue }
    else if state.pointee.groups_differ != 0 { refuse(.lacks) { $0.put("a user namespace of the tree within another, with supplementary groups of its own; restart it as the user who started it") } }
    let uid = currentIds(false)[1], gid = currentIds(true)[1]
    let r = system(CKPT_SYS_unshare, 0x1000_0000)
    guard r == 0 else { refuseNamespace(i, r) }
    if n.flags & CKPT_NAMESPACE_NO_SETGROUPS.rawValue != 0 { _ = writeText("/proc/self/setgroups") { $0.put("deny") } }
    if let scribe { finish(scribe, i) } else { mapSingle(i, uid, gid) }
    if state.pointee.own_users == 0 { state.pointee.outer_uid = uid }
    state.pointee.own_users = UInt32(i) + 1
}

/// The innermost user namespace of the whole tree; `outermost`: the one around all others.
func ownUsers(outermost: Bool = false) -> Int? {
    var found: Int?
    for i in 0..<namespaces.count where isUser(i) && namespaces[i].pointee.flags & CKPT_NAMESPACE_WHOLE.rawValue != 0 {
        found = i
        if outermost { break }
    }
    return found
}

/// At most one user and one group, and no groups to choose from.
func isSingle(_ i: Int) -> Bool {
    var users = 0, groups = 0
    for k in 0..<idRanges.count where Int(idRanges[k].pointee.namespaces) == i {
        let r = idRanges[k].pointee
        if r.count != 1 { return false }
        if r.is_group != 0 { groups += 1 } else { users += 1 }
    }
    return users <= 1 && groups <= 1 && (groups == 0 || namespaces[i].pointee.flags & CKPT_NAMESPACE_NO_SETGROUPS.rawValue != 0)
}

private func mapSingle(_ i: Int, _ uid: UInt32, _ gid: UInt32) {
    for k in 0..<idRanges.count where Int(idRanges[k].pointee.namespaces) == i {
        let r = idRanges[k].pointee
        func line(_ l: inout Line) { l.put(decimal: UInt64(r.inside)); l.put(" "); l.put(decimal: UInt64(r.is_group != 0 ? gid : uid)); l.put(" 1\n") }
        let w = r.is_group != 0 ? writeText("/proc/self/gid_map", line) : writeText("/proc/self/uid_map", line)
        guard w >= 0 else { refuseNamespace(i, w) }
    }
}

/// Is the first task's list of groups ours now?
private func becomeOwner(_ n: ckpt_namespace_record) -> Bool {
    let setUid: UInt64 = 1 << 7
    if effectiveCapabilities() & setUid == 0 || (currentIds(false)[1] == n.outer_user && currentIds(true)[1] == n.outer_group) { return false }
    let first = Identity(Int(processes[tree.pointee.root].pointee.first_task)).wanted.pointee
    let r = system(CKPT_SYS_setgroups, Int(first.group_count), first.group_count > 0 ? int(groups[first.first_group]) : 0)
    _ = system(CKPT_SYS_setresgid, Int(n.outer_group), Int(n.outer_group), Int(n.outer_group))
    _ = system(CKPT_SYS_setresuid, Int(n.outer_user), Int(n.outer_user), Int(n.outer_user))
    showOwnFiles()
    return r == 0
}
/// What changes its user does not show itself any more: its own files in /proc would be root's.
func showOwnFiles() { _ = ckpt_prctl(4, 1, 0, 0, 0) }

/// Makes a file that belongs to that user from the beginning: where the namespace doesn't show who made it, what is his can't be given away.
func owned(by o: ckpt_object_record, _ make: () -> Int) -> Int {
    let setFsuid = 122, setFsgid = 123, setReuid = 113, setRegid = 114
    guard state.pointee.own_users != 0, !showsCreator else { return asOwner(o.uid, o.gid, make) }
    _ = system(setFsgid, Int(o.gid)); _ = system(setFsuid, Int(o.uid))
    let r = make()
    // Back to him by no name, since he has none here.
    _ = system(setRegid, -1, -1); _ = system(setReuid, -1, -1)
    showOwnFiles()
    return r >= 0 ? r : make()
}
private var showsCreator: Bool {
    guard let i = ownUsers() else { return true }
    return inside(namespaces[i].pointee.outer_user, isGroup: 0, of: i) != nil
}

/// A list of groups outside, as it is called in the tree's namespace; how many, -1 if one does not show there.
func innerGroups(_ c: ckpt_credentials_record, _ list: inout InlineArray<256, UInt32>) -> Int {
    guard c.group_count <= 256, let own = ownUsers() else { return -1 }
    for k in 0..<c.group_count {
        guard let id = inside(groups[c.first_group + k].pointee, isGroup: 1, of: own) else { return -1 }
        list[Int(k)] = id
    }
    return Int(c.group_count)
}
