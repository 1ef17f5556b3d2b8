// Runs in each process of the tree before it takes memory, on the region's main stack; no allocation, no libc.
// The control group (cgroup v2) that it was in, if there still is one of that name.
import CkptABI
import EngineBoot
import Freestanding

func enterControlGroup(_ i: Int) {
    let group = processes[i].pointee.cgroup
    // In a cgroup namespace of the tree's own, paths show otherwise.
    if group == 0 || (!isWhole(CKPT_NAMESPACE_CGROUP) && isIn(bytes(group))) { return }
    let r = join(bytes(group))
    let noEntry = -2
    if r >= 0 || r == noEntry || !ckpt_cas(&board.pointee.group_warned, 0, 1) { return }
    var l = Line()
    l.put(text: engine_program()); l.put(": restart: warning: "); putProcess(i, &l)
    l.put("control group "); l.put(text: bytes(group)); l.put(": "); putError(r, &l); l.put("; it stays in that of the restart\n")
    l.write(to: Descriptor(state.pointee.standard.2 >= 0 ? state.pointee.standard.2 : 2))
}

private func join(_ group: Text) -> Int {
    let r = join("/sys/fs/cgroup", group)
    return r == -2 ? join("/sys/fs/cgroup/unified", group) : r
}

/// Where a process is when it makes a cgroup namespace is the root of that: this one goes there for the moment.
func unshareControlGroups(root: Text) -> Int {
    let newCgroup = 0x0200_0000
    if isIn(root) { return system(CKPT_SYS_unshare, newCgroup) }
    var home = InlineArray<4096, CChar>(repeating: 0)
    let n = ownGroup(&home)
    let home_ = withUnsafeMutableBytes(of: &home) { Text($0.baseAddress!.assumingMemoryBound(to: CChar.self)) }
    guard n > 0 else { return -2 }
    var r = join(root)
    if r < 0 { return r }
    r = system(CKPT_SYS_unshare, newCgroup)
    let back = join(home_)
    return r != 0 ? r : back < 0 ? back : 0
}

private func join(_ mount: StaticString, _ group: Text) -> Int {
    var l = Line()
    l.put(mount); l.put(text: group); l.put("/cgroup.procs")
    let fd = l.withCString { ckpt_open($0, 0o2000001, 0) }
    if fd < 0 { return fd }
    var zero: UInt8 = 48
    let r = ckpt_write(Int32(truncatingIfNeeded: fd), &zero, 1)
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
    return r
}

private func isIn(_ group: Text) -> Bool {
    var own = InlineArray<4096, CChar>(repeating: 0)
    let n = ownGroup(&own)
    if n < 0 { return true }
    return withUnsafeMutableBytes(of: &own) { equal(Text($0.baseAddress!.assumingMemoryBound(to: CChar.self)), group) }
}

/// The line "0::GROUP" of /proc/self/cgroup; its length, 0: there is none.
private func ownGroup(_ out: inout InlineArray<4096, CChar>) -> Int {
    let fd = Int32(truncatingIfNeeded: ckpt_open(StaticString("/proc/self/cgroup").cString, 0o2000000, 0))
    guard fd >= 0 else { return -1 }
    var text = InlineArray<4096, UInt8>(repeating: 0)
    let n = withUnsafeMutableBytes(of: &text) { ckpt_read(fd, $0.baseAddress!, 4096) }
    _ = ckpt_close(fd)
    var i = 0
    while i + 3 <= n {
        if text[i] == 48 && text[i + 1] == 58 && text[i + 2] == 58 {
            i += 3
            var k = 0
            while i < n && text[i] != 10 && k < 4095 { out[k] = CChar(bitPattern: text[i]); i += 1; k += 1 }
            out[k] = 0
            return k
        }
        while i < n && text[i] != 10 { i += 1 }
        i += 1
    }
    return 0
}
