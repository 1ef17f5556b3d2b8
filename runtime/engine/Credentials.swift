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

/// Whether the supplementary groups of any process are not ours.
func groupsDiffer() -> Bool {
    for i in 0..<processes.count where processes[i].pointee.flags & CKPT_PROCESS_ZOMBIE.rawValue == 0 && !groupsMatch(i) { return true }
    return false
}
private func groupsMatch(_ i: Int) -> Bool {
    let p = processes[i], n = system(115, 0, 0)
    guard n == Int(p.pointee.group_count) else { return false }
    if n == 0 { return true }
    let list = UnsafeMutablePointer<UInt32>(bitPattern: UInt(state.pointee.copy))!
    guard n <= 16384, system(115, n, int(list)) == n else { return false }
    for k in 0..<n where list[k] != groups[p.pointee.first_group + UInt32(k)].pointee { return false }
    return true
}

func restoreCredentials(_ t: Int) {
    let i = Int(tasks[t].pointee.process), p = processes[i]
    let idsDiffer = differ(i)
    restoreGroups(i)
    if p.pointee.securebits != 0 && ckpt_prctl(27, 0, 0, 0, 0) != Int(p.pointee.securebits) {
        let r = ckpt_prctl(28, Int(p.pointee.securebits), 0, 0, 0)
        guard r == 0 else { refuseCredentials(i, r, "securebits") }
    }
    dropBounding(i)
    if idsDiffer { restoreIds(i) }
    restoreCapabilities(i)
    if p.pointee.keep_caps != 0 { _ = ckpt_prctl(8, 1, 0, 0, 0) }
    if p.pointee.no_new_privs != 0 {
        let r = ckpt_prctl(38, 1, 0, 0, 0)
        guard r == 0 else { refuseCredentials(i, r, "no_new_privs") }
    }
    // Changed ids make a process undumpable.
    if p.pointee.dumpable == 0 || p.pointee.dumpable == 1 { _ = ckpt_prctl(4, Int(p.pointee.dumpable), 0, 0, 0) }
}

private func refuseCredentials(_ i: Int, _ r: Int, _ what: StaticString) -> Never {
    refuse(r) { l in putProcess(i, &l); l.put(what); l.put(" cannot be set; restart it as the user who started it, or as root") }
}

private func differ(_ i: Int) -> Bool {
    let uid = currentIds(false), gid = currentIds(true), p = processes[i]
    for k in 0..<3 where uid[k] != engine_uid(p, Int32(k)).pointee || gid[k] != engine_gid(p, Int32(k)).pointee { return true }
    return false
}

private func restoreGroups(_ i: Int) {
    let p = processes[i]
    if state.pointee.user_namespace != 0 {
        // The kernel forbids setgroups(2) here: the outer groups stay.
        if state.pointee.foreign_groups != 0 {
            refuse(.lacks) { l in putProcess(i, &l); l.put("other supplementary groups than those of this user; restart it as the user who started it, or as root") }
        }
        return
    }
    if groupsEqual(i) { return }
    let list: UnsafeMutablePointer<UInt32>? = p.pointee.group_count > 0 ? groups[p.pointee.first_group] : nil
    let r = system(CKPT_SYS_setgroups, Int(p.pointee.group_count), Int(bitPattern: list))
    guard r == 0 else { refuseCredentials(i, r, "its supplementary groups") }
}

/// On a task's small stack: up to 256 groups are compared, more are simply set.
private func groupsEqual(_ i: Int) -> Bool {
    let p = processes[i], n = system(115, 0, 0)
    guard n == Int(p.pointee.group_count), n <= 256 else { return false }
    var list = InlineArray<256, UInt32>(repeating: 0)
    _ = withUnsafeMutableBytes(of: &list) { system(115, n, int($0.baseAddress!)) }
    for k in 0..<n where list[k] != groups[p.pointee.first_group + UInt32(k)].pointee { return false }
    return true
}

/// The capabilities survive the change of user until they are set themselves.
private func restoreIds(_ i: Int) {
    let p = processes[i], kept = ckpt_prctl(7, 0, 0, 0, 0)
    _ = ckpt_prctl(8, 1, 0, 0, 0)
    var r = system(CKPT_SYS_setresgid, Int(engine_gid(p, 0).pointee), Int(engine_gid(p, 1).pointee), Int(engine_gid(p, 2).pointee))
    guard r == 0 else { refuseCredentials(i, r, "its group") }
    r = system(CKPT_SYS_setresuid, Int(engine_uid(p, 0).pointee), Int(engine_uid(p, 1).pointee), Int(engine_uid(p, 2).pointee))
    guard r == 0 else { refuseCredentials(i, r, "its user") }
    // setfsuid(2), setfsgid(2)
    if engine_uid(p, 3).pointee != engine_uid(p, 1).pointee { _ = system(122, Int(engine_uid(p, 3).pointee)) }
    if engine_gid(p, 3).pointee != engine_gid(p, 1).pointee { _ = system(123, Int(engine_gid(p, 3).pointee)) }
    if kept == 0 { _ = ckpt_prctl(8, 0, 0, 0, 0) }
}

/// The bounding set can only shrink; a smaller one belongs to the place of the restart.
private func dropBounding(_ i: Int) {
    for c in 0..<41 where processes[i].pointee.cap_bounding & (1 << UInt64(c)) == 0 && ckpt_prctl(23, c, 0, 0, 0) == 1 {
        let r = ckpt_prctl(24, c, 0, 0, 0)
        guard r == 0 || effectiveCapabilities() == 0 else { refuseCredentials(i, r, "its bounding set of capabilities") }
    }
}

private func restoreCapabilities(_ i: Int) {
    let p = processes[i], now = currentCapabilities()
    let wanted = Capabilities(effective: p.pointee.cap_effective, permitted: p.pointee.cap_permitted, inheritable: p.pointee.cap_inheritable)
    if now != wanted {
        let r = setCapabilities(wanted)
        guard r == 0 else { refuseCredentials(i, r, "its capabilities") }
    }
    for c in 0..<41 {
        let set = p.pointee.cap_ambient & (1 << UInt64(c)) != 0, isSet = ckpt_prctl(47, 1, c, 0, 0) == 1
        if set == isSet { continue }
        let r = ckpt_prctl(47, set ? 2 : 3, c, 0, 0)
        guard r == 0 else { refuseCredentials(i, r, "its ambient capabilities") }
    }
}
