// What user namespaces show of the users and groups outside: the recorded maps, and the scribe, who stays outside and may write them.
// No allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

/// How an id outside is called in one of the tree's user namespaces; nil: it does not show there.
func inside(_ id: UInt32, isGroup: UInt32, of i: Int) -> UInt32? {
    for k in 0..<idRanges.count where Int(idRanges[k].pointee.namespaces) == i && idRanges[k].pointee.is_group == isGroup {
        let m = idRanges[k].pointee
        if id >= m.outside && id - m.outside < m.count { return m.inside + (id - m.outside) }
    }
    return nil
}

/// As this process calls an id of the records; 65534: it does not show here.
func idHere(_ id: UInt32, isGroup: UInt32) -> UInt32 {
    let users = Int(state.pointee.entered_users), unknown: UInt32 = 65534
    return users == 0 ? id : inside(id, isGroup: isGroup, of: users - 1) ?? unknown
}

struct Scribe { var pid: Int, pipe: Int32 }

/// Whoever calls this goes into a new user namespace next.
func leaveScribe(_ i: Int) -> Scribe {
    let setGid: UInt64 = 1 << 6, setUid: UInt64 = 1 << 7
    guard isSingle(i) || effectiveCapabilities() & (setGid | setUid) == setGid | setUid else {
        refuse(.lacks) { $0.put("a user namespace of the tree that shows several users or groups: needs the capabilities CAP_SETUID and CAP_SETGID, since newuidmap(1) is not called; restart it as root") }
    }
    var ends: (Int32, Int32) = (-1, -1)
    var r = withUnsafeMutableBytes(of: &ends) { system(CKPT_SYS_pipe2, int($0.baseAddress!), 0o2000000) }
    guard r == 0 else { refuseNamespace(i, r) }
    // By its pid it might not be found: /proc may show another pid namespace.
    let me = ckpt_open(StaticString("/proc/self").cString, 0o2200000, 0)
    guard me >= 0 else { refuseNamespace(i, me) }
    r = fork(pid: 0, exitSignal: 0, argument: UInt64(UInt16(i)) << 48 | UInt64(UInt16(me)) << 32 | UInt64(UInt16(ends.0)) << 16 | UInt64(UInt16(ends.1)), writeMaps)
    guard r > 0 else { refuseNamespace(i, r) }
    _ = ckpt_close(ends.0)
    _ = ckpt_close(Int32(truncatingIfNeeded: me))
    return Scribe(pid: r, pipe: ends.1)
}
/// From inside.
func finish(_ scribe: Scribe, _ i: Int) {
    var word: UInt8 = 1, status: Int32 = 0, e = -4
    _ = ckpt_write(scribe.pipe, &word, 1)
    _ = ckpt_close(scribe.pipe)
    while e == -4 { e = system(CKPT_SYS_wait4, scribe.pid, int(&status), 0x4000_0000, 0) }
    guard e > 0, status == 0 else { refuseNamespace(i, e < 0 ? e : Int(-(status >> 8 & 0xff))) }
}

/// When who left it has moved, or died.
private let writeMaps: @convention(c) (UInt64) -> Void = { argument in
    let i = Int(argument >> 48), process = Int(argument >> 32 & 0xffff), read = Int32(argument >> 16 & 0xffff)
    _ = ckpt_prctl(1, 9, 0, 0, 0)
    _ = ckpt_close(Int32(argument & 0xffff))
    var word: UInt8 = 0
    guard ckpt_read(read, &word, 1) == 1 else { ckpt_exit_group(0) }
    var r = writeMap(i, 0, process)
    if r == 0 { r = writeMap(i, 1, process) }
    ckpt_exit_group(Int32(truncatingIfNeeded: -r))
}

/// All lines in one write, of at most a page.
private func writeMap(_ i: Int, _ isGroup: UInt32, _ process: Int) -> Int {
    var room = InlineArray<4096, UInt8>(repeating: 0), used = 0
    for k in 0..<idRanges.count where Int(idRanges[k].pointee.namespaces) == i && idRanges[k].pointee.is_group == isGroup {
        let m = idRanges[k].pointee
        guard let outside = outside(m, i) else { return -22 }
        var l = Line()
        l.put(decimal: UInt64(m.inside)); l.put(" "); l.put(decimal: UInt64(outside)); l.put(" "); l.put(decimal: UInt64(m.count)); l.put("\n")
        if used + l.count > 4095 { return -7 }
        let n = l.count
        l.withCString { for c in 0..<n { room[used + c] = UInt8(bitPattern: $0[c]) } }
        used += n
    }
    if used == 0 { return 0 }
    let name: StaticString = isGroup != 0 ? "gid_map" : "uid_map"
    let fd = system(CKPT_SYS_openat, process, int(name.cString), 0o2000001, 0)
    if fd < 0 { return fd }
    let r = withUnsafeMutableBytes(of: &room) { ckpt_write(Int32(truncatingIfNeeded: fd), $0.baseAddress!, used) }
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
    return r == used ? 0 : r < 0 ? r : -5
}

/// As the namespace around it calls it, which the kernel wants to know.
private func outside(_ m: ckpt_id_range_record, _ i: Int) -> UInt32? {
    let n = namespaces[i].pointee
    return n.owner == 0 || n.flags & CKPT_NAMESPACE_WHOLE.rawValue != 0 ? m.outside : inside(m.outside, isGroup: m.is_group, of: Int(n.owner) - 1)
}
