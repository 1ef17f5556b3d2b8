// Time namespaces of a part of the tree: their clocks are ahead of the tree's by as much as they were.
// One from which a process's children come is made by that process, which does not enter it; any other by a child of the builder.
// No allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

private let newTime = 0x80
private func isTime(_ i: Int) -> Bool { namespaces[i].pointee.kind == CKPT_NAMESPACE_TIME.rawValue }
private var hasTimes: Bool {
    for i in 0..<namespaces.count where isTime(i) { return true }
    return false
}
/// The process whose children are to be born there.
private func maker(of i: Int) -> Int {
    for p in 0..<processes.count where Int(processes[p].pointee.children_times) == i + 1 { return p }
    return -1
}

/// In the builder; what its children get is where the tree was started.
func makeTimeNamespaces() {
    guard hasTimes else { return }
    state.pointee.tree_times = open(StaticString("/proc/self/ns/time_for_children").cString)
    for i in 0..<namespaces.count where isTime(i) && maker(of: i) < 0 {
        let r = fork(pid: 0, argument: UInt64(i), makeAsChild)
        guard r > 0 else { refuseNamespace(i, r) }
        var status: Int32 = 0, e = -4
        while e == -4 { e = system(CKPT_SYS_wait4, r, int(&status), 0x4000_0002, 0) }          // WUNTRACED: it has stopped itself
        guard status & 0xff == 0x7f else { refuseNamespace(i, Int(-(status >> 8 & 0xff))) }
        if engine_namespace_fd(UInt32(i)).pointee > 0 { _ = ckpt_close(engine_namespace_fd(UInt32(i)).pointee) }
        engine_namespace_fd(UInt32(i)).pointee = openOfChildren(Int32(truncatingIfNeeded: r))
        _ = system(CKPT_SYS_kill, r, 9)
        e = -4
        while e == -4 { e = system(CKPT_SYS_wait4, r, 0, 0x4000_0000, 0) }
        drainChildSignals()
    }
}
private let makeAsChild: @convention(c) (UInt64) -> Void = { i in
    beChild()
    enterOwner(Int(i))
    showOwnFiles()
    _ = ckpt_prctl(1, 9, 0, 0, 0)
    let r = make(Int(i)), sigstop = 19
    if r == 0 { _ = system(CKPT_SYS_kill, Int(ckpt_getpid()), sigstop) }
    ckpt_exit_group(Int32(truncatingIfNeeded: -r))
}

private func open(_ path: Text) -> Int32 {
    let r = ckpt_open(path, 0o2000000, 0)
    guard r >= 0 else { refuse(r) { l in l.put(text: path); l.put(": "); putError(r, &l); l.put("; restart it where /proc is mounted") } }
    return lift(Int32(truncatingIfNeeded: r), "time namespace")
}
private func openOfChildren(_ pid: Int32) -> Int32 {
    var l = Line()
    l.put("/proc/"); l.put(signed: Int64(pid)); l.put("/ns/time_for_children")
    return l.withCString { open($0) }
}

/// This process's children will be born in it.
private func make(_ i: Int) -> Int {
    readClockOffsets()
    let monotonic = state.pointee.own_monotonic &+ namespaces[i].pointee.monotonic, boottime = state.pointee.own_boottime &+ namespaces[i].pointee.boottime
    let r = system(CKPT_SYS_unshare, newTime)
    if r != 0 { return r }
    let w = writeText("/proc/self/timens_offsets") { l in
        l.put("monotonic "); putTime(monotonic, &l); l.put("\nboottime "); putTime(boottime, &l); l.put("\n")
    }
    return w < 0 ? w : 0
}

/// In a process, before it has children.
func makeTimesOfChildren(_ i: Int) {
    let wanted = Int(processes[i].pointee.children_times)
    if wanted == 0 { return }
    let r = make(wanted - 1)
    guard r == 0 else { refuseNamespace(wanted - 1, r) }
}

/// In a process, when all are there and it has one task.
func enterTimes(_ i: Int) {
    guard hasTimes, processes[i].pointee.children_times == 0 else { return }
    let wanted = Int(processes[i].pointee.times), by = wanted == 0 ? -1 : maker(of: wanted - 1)
    let fd = wanted == 0 ? state.pointee.tree_times : by < 0 ? engine_namespace_fd(UInt32(wanted - 1)).pointee : openOfChildren(pidNow(processes[by].pointee.pid))
    let r = system(CKPT_SYS_setns, Int(fd), newTime)
    guard r == 0 else { if wanted > 0 { refuseNamespace(wanted - 1, r) } else { refuse(r) { l in putProcess(i, &l); l.put("its time namespace; restart it as root") } } }
}
