// Runs in each process of the tree before it takes memory, on the region's main stack; no allocation, no libc.
// The control group (cgroup v2) that it was in, if there still is one of that name.
import CkptABI
import EngineBoot
import Freestanding

func enterControlGroup(_ i: Int) {
    let group = processes[i].pointee.cgroup
    if group == 0 || isIn(bytes(group)) { return }
    var r = join("/sys/fs/cgroup", bytes(group))
    if r == -2 { r = join("/sys/fs/cgroup/unified", bytes(group)) }
    let noEntry = -2
    if r >= 0 || r == noEntry || !ckpt_cas(&board.pointee.group_warned, 0, 1) { return }
    var l = Line()
    l.put(text: engine_program()); l.put(": restart: warning: "); putProcess(i, &l)
    l.put("control group "); l.put(text: bytes(group)); l.put(": "); putError(r, &l); l.put("; it stays in that of the restart\n")
    l.write(to: Descriptor(state.pointee.standard.2 >= 0 ? state.pointee.standard.2 : 2))
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

/// The line "0::GROUP" of /proc/self/cgroup.
private func isIn(_ group: Text) -> Bool {
    let fd = Int32(truncatingIfNeeded: ckpt_open(StaticString("/proc/self/cgroup").cString, 0o2000000, 0))
    guard fd >= 0 else { return true }
    var text = InlineArray<4096, UInt8>(repeating: 0)
    let n = withUnsafeMutableBytes(of: &text) { ckpt_read(fd, $0.baseAddress!, 4096) }
    _ = ckpt_close(fd)
    var i = 0
    while i + 3 <= n {
        if text[i] == 48 && text[i + 1] == 58 && text[i + 2] == 58 {
            i += 3
            var k = 0
            while i < n && text[i] != 10 { if UInt8(bitPattern: group[k]) != text[i] { return false }; i += 1; k += 1 }
            return group[k] == 0
        }
        while i < n && text[i] != 10 { i += 1 }
        i += 1
    }
    return true
}
