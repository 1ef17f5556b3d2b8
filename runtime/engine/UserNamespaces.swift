// The tree's own user namespace, which can only be entered: it is the whole tree's.
// A map of one user and one group everybody may write for himself; what else it shows is written from outside, by somebody with privileges.
// No allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

/// In the engine.  A single user and group are those of the tree where we may become them, else ours.
func enterUsers(_ i: Int) {
    let n = namespaces[i].pointee, scribe = isSingle(i) ? nil : leaveScribe(i)
    let firstIsSet = becomeOwner(n)
    state.pointee.groups_differ = !groupsDiffer() ? 0 : firstIsSet ? ENGINE_GROUPS_OF_OTHERS.rawValue : ENGINE_GROUPS_OF_ALL.rawValue
    let uid = currentIds(false)[1], gid = currentIds(true)[1]
    let r = system(CKPT_SYS_unshare, 0x1000_0000)
    guard r == 0 else { refuseNamespace(i, r) }
    if n.flags & CKPT_NAMESPACE_NO_SETGROUPS.rawValue != 0 { _ = writeText("/proc/self/setgroups") { $0.put("deny") } }
    if let scribe { finish(scribe, i) } else { mapSingle(i, uid, gid) }
    state.pointee.own_users = 1
    state.pointee.outer_uid = uid
}

/// The tree's own user namespace.
func ownUsers() -> ckpt_namespace_record? {
    for i in 0..<namespaces.count where isUser(i) { return namespaces[i].pointee }
    return nil
}

/// At most one user and one group, and no groups to choose from.
private func isSingle(_ i: Int) -> Bool {
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
    // What changes its user does not show itself any more: its own files in /proc would be root's.
    _ = ckpt_prctl(4, 1, 0, 0, 0)
    return r == 0
}

/// Makes a file that belongs to that user from the beginning: where the namespace doesn't show who made it, what is his can't be given away.
func owned(by o: ckpt_object_record, _ make: () -> Int) -> Int {
    let setFsuid = 122, setFsgid = 123, setReuid = 113, setRegid = 114
    guard state.pointee.own_users != 0, !showsCreator else { return make() }
    _ = system(setFsgid, Int(o.gid)); _ = system(setFsuid, Int(o.uid))
    let r = make()
    // Back to him by no name, since he has none here.
    _ = system(setRegid, -1, -1); _ = system(setReuid, -1, -1)
    _ = ckpt_prctl(4, 1, 0, 0, 0)
    return r >= 0 ? r : make()
}
private var showsCreator: Bool {
    guard let own = ownUsers() else { return true }
    for k in 0..<idRanges.count where idRanges[k].pointee.is_group == 0 && own.outer_user >= idRanges[k].pointee.outside && own.outer_user - idRanges[k].pointee.outside < idRanges[k].pointee.count { return true }
    return false
}

/// A list of groups outside, as it is called in the tree's namespace; how many, -1 if one does not show there.
func innerGroups(_ c: ckpt_credentials_record, _ list: inout InlineArray<256, UInt32>) -> Int {
    if c.group_count > 256 { return -1 }
    for k in 0..<c.group_count {
        let id = groups[c.first_group + k].pointee
        var found = false
        for m in 0..<idRanges.count where idRanges[m].pointee.is_group != 0 && id >= idRanges[m].pointee.outside && id - idRanges[m].pointee.outside < idRanges[m].pointee.count {
            list[Int(k)] = idRanges[m].pointee.inside + (id - idRanges[m].pointee.outside)
            found = true
        }
        if !found { return -1 }
    }
    return Int(c.group_count)
}

// MARK: somebody stays outside, who may write the maps

private struct Scribe { var pid: Int, pipe: Int32 }

private func leaveScribe(_ i: Int) -> Scribe {
    let setGid: UInt64 = 1 << 6, setUid: UInt64 = 1 << 7
    guard effectiveCapabilities() & (setGid | setUid) == setGid | setUid else {
        refuse(.lacks) { $0.put("a user namespace of the tree that shows several users or groups: needs the capabilities CAP_SETUID and CAP_SETGID, since newuidmap(1) is not called; restart it as root") }
    }
    var ends: (Int32, Int32) = (-1, -1)
    var r = withUnsafeMutableBytes(of: &ends) { system(CKPT_SYS_pipe2, int($0.baseAddress!), 0o2000000) }
    guard r == 0 else { refuseNamespace(i, r) }
    r = fork(pid: 0, exitSignal: 0, argument: UInt64(UInt32(i)) << 32 | UInt64(UInt16(ends.0)) << 16 | UInt64(UInt16(ends.1)), writeMaps)
    guard r > 0 else { refuseNamespace(i, r) }
    _ = ckpt_close(ends.0)
    return Scribe(pid: r, pipe: ends.1)
}
private func finish(_ scribe: Scribe, _ i: Int) {
    var word: UInt8 = 1, status: Int32 = 0, e = -4
    _ = ckpt_write(scribe.pipe, &word, 1)
    _ = ckpt_close(scribe.pipe)
    while e == -4 { e = system(CKPT_SYS_wait4, scribe.pid, int(&status), 0x4000_0000, 0) }
    guard e > 0, status == 0 else { refuseNamespace(i, e < 0 ? e : Int(-(status >> 8 & 0xff))) }
}

/// When the engine has moved, or died.
private let writeMaps: @convention(c) (UInt64) -> Void = { argument in
    let getppid = 110, i = Int(argument >> 32), read = Int32(argument >> 16 & 0xffff)
    _ = ckpt_prctl(1, 9, 0, 0, 0)
    _ = ckpt_close(Int32(argument & 0xffff))
    var word: UInt8 = 0
    guard ckpt_read(read, &word, 1) == 1 else { ckpt_exit_group(0) }
    let engine = system(getppid)
    var r = writeMap(i, 0, engine)
    if r == 0 { r = writeMap(i, 1, engine) }
    ckpt_exit_group(Int32(truncatingIfNeeded: -r))
}

/// All lines in one write, of at most a page.
private func writeMap(_ i: Int, _ isGroup: UInt32, _ pid: Int) -> Int {
    var path = Line(), room = InlineArray<4096, UInt8>(repeating: 0), used = 0
    path.put("/proc/"); path.put(signed: Int64(pid)); path.put(isGroup != 0 ? "/gid_map" : "/uid_map")
    for k in 0..<idRanges.count where Int(idRanges[k].pointee.namespaces) == i && idRanges[k].pointee.is_group == isGroup {
        let m = idRanges[k].pointee
        var l = Line()
        l.put(decimal: UInt64(m.inside)); l.put(" "); l.put(decimal: UInt64(m.outside)); l.put(" "); l.put(decimal: UInt64(m.count)); l.put("\n")
        if used + l.count > 4095 { return -7 }
        let n = l.count
        l.withCString { for c in 0..<n { room[used + c] = UInt8(bitPattern: $0[c]) } }
        used += n
    }
    if used == 0 { return 0 }
    let fd = path.withCString { ckpt_open($0, 0o2000001, 0) }
    if fd < 0 { return fd }
    let r = withUnsafeMutableBytes(of: &room) { ckpt_write(Int32(truncatingIfNeeded: fd), $0.baseAddress!, used) }
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
    return r == used ? 0 : r < 0 ? r : -5
}
