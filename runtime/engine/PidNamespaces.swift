// Pid namespaces that the tree has for itself.  The plan and the records call every process as the namespace does in which the tree was started; one that
// lives further in is created with a pid for each level, and what it is told in pids is translated.
// Runs in the builder and in the processes of the tree; no allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

private let newPid = 0x2000_0000, setPids = 0x2000_0000
func isPid(_ i: Int) -> Bool { namespaces[i].pointee.kind == CKPT_NAMESPACE_PID.rawValue }

var hasPidNamespaces: Bool {
    for i in 0..<namespaces.count where isPid(i) { return true }
    return false
}

/// 1 + NAMESPACE of the pid namespace in which a node lives; 0: that of the builder, who is node −1.
private func place(of n: Int) -> UInt32 { n < 0 ? 0 : UInt32(nodes[n].pointee.place) }
/// That of this process.
var here: UInt32 { place(of: Int(state.pointee.node)) }
func around(_ place: UInt32) -> UInt32 { namespaces[Int(place) - 1].pointee.around }

/// What a pid of the tree is called in a namespace; 0: it does not show there.
func number(_ pid: Int32, in place: UInt32) -> Int32 {
    if place == 0 { return pid }
    for i in 0..<numbers.count where numbers[i].pointee.namespaces == place - 1 && numbers[i].pointee.pid == pid { return numbers[i].pointee.inside }
    return 0
}
/// What this process calls it.
func numberHere(_ pid: Int32) -> Int32 { number(pid, in: here) }
func pidHere(_ n: Int) -> Int32 { numberHere(nodePids[n].pointee) }

/// The pids of a new task, from its own namespace outwards, as clone3(2) takes them; how many.
func fillPids(_ pid: Int32, of place: UInt32, _ list: inout InlineArray<32, Int32>) -> Int {
    var p = place, count = 0
    while p != 0 && count < 31 { list[count] = number(pid, in: p); count += 1; p = around(p) }
    list[count] = pid
    return count + 1
}
var levelsHere: Int {
    var p = here, count = 1
    while p != 0 { p = around(p); count += 1 }
    return count
}
/// The same for another task of this process.
func fillOwnPids(_ pid: Int32, _ list: inout InlineArray<32, Int32>) -> Int { fillPids(pid, of: here, &list) }

/// By a number of this process's own namespace; further out nobody looks, but who has it here may be to come.
func fillInnerPids(_ inside: Int32, _ list: inout InlineArray<32, Int32>) -> Int {
    for i in 0..<numbers.count where numbers[i].pointee.namespaces == here - 1 && numbers[i].pointee.inside == inside { return fillOwnPids(numbers[i].pointee.pid, &list) }
    list[0] = inside
    return 1
}

/// After the plan: where each node lives, and who can create it there.
func placeNodes() {
    guard hasPidNamespaces else { return }
    guard state.pointee.mode != ENGINE_PIDS_NEW.rawValue else { refuse(.lacks) { $0.put("--pids new: the tree has pid namespaces of its own, whose pids can't be others; use --pids keep or ns") } }
    for n in 0..<Int(state.pointee.node_count) {
        let r = nodes[n].pointee.record
        nodes[n].pointee.place = r >= 0 ? processes[Int(r)].pointee.pids : 0
    }
    for n in 0..<Int(state.pointee.node_count) where nodes[n].pointee.isTemporary { placeTemporary(n) }
    for n in 0..<Int(state.pointee.node_count) where nodes[n].pointee.place != 0 { checkCreator(n) }
    checkInnerSockets()
}

/// A dead leader lived where it can be seen from.
private func placeTemporary(_ n: Int) {
    let pid = nodes[n].pointee.pid
    for m in 0..<Int(state.pointee.node_count) where nodes[m].pointee.record >= 0 && (nodes[m].pointee.sid == pid || nodes[m].pointee.pgid == pid) {
        var p = place(of: m)
        while p != 0 && number(pid, in: p) == 0 { p = around(p) }
        nodes[n].pointee.place = UInt8(p)
        // Who lives further in can't have a child outside.
        while nodes[n].pointee.parent >= 0 && !isWithin(p, place(of: Int(nodes[n].pointee.parent))) {
            nodes[n].pointee.parent = nodes[Int(nodes[n].pointee.parent)].pointee.parent
            nodes[n].pointee.creator = nodes[n].pointee.parent
        }
        return
    }
}
private func isWithin(_ inner: UInt32, _ outer: UInt32) -> Bool {
    var p = inner
    while p != outer { if p == 0 { return false }; p = around(p) }
    return true
}

private func checkCreator(_ n: Int) {
    let me = nodes[n].pointee, creator = Int(me.creator)
    let possible = me.way == Birth.direct ? isWithin(place(of: n), place(of: creator)) && (!isFirst(n) || around(place(of: n)) == place(of: creator))
        : place(of: n) == place(of: creator) && !isFirst(n)
    guard possible, state.pointee.init_node < 0 else { refusePlace(n) }
    // A group that does not show inside can only be inherited.
    if me.pgid != 0 && number(me.pgid, in: place(of: n)) == 0 && place(of: creator) != place(of: n) {
        guard creator >= 0, nodes[creator].pointee.pgid == me.pgid else { refusePlace(n) }
        nodes[n].pointee.stage = 2
    }
}
private func refusePlace(_ n: Int) -> Never {
    refuse(.lacks) { l in
        if nodes[n].pointee.record >= 0 { putProcess(Int(nodes[n].pointee.record), &l) }
        l.put("it can't be created in its pid namespace with its session and group; start ckrun inside of the namespace")
    }
}
func isFirst(_ n: Int) -> Bool { nodes[n].pointee.place != 0 && number(nodes[n].pointee.pid, in: place(of: n)) == 1 }

/// Creates a node as a child of this process, in its namespace.
func forkNode(_ n: Int, pid: Int32, flags: UInt64, exitSignal: Int32, _ entry: @convention(c) (UInt64) -> Void) -> Int {
    let target = place(of: n)
    if target == here { return fork(pid: pid, inside: target, flags: flags, exitSignal: exitSignal, argument: UInt64(n), entry) }
    if isFirst(n) && namespaces[Int(target) - 1].pointee.owner != state.pointee.entered_users { return forkFirst(n, exitSignal) }
    if isFirst(n) { return fork(pid: pid, inside: target, flags: flags | UInt64(newPid), exitSignal: exitSignal, argument: UInt64(n), entry) }
    return among(target) { fork(pid: pid, inside: target, flags: flags, exitSignal: exitSignal, argument: UInt64(n), entry) }
}

/// The node that is the first process of a namespace; -1.
func firstNode(of place: UInt32) -> Int {
    for n in 0..<Int(state.pointee.node_count) where nodes[n].pointee.place == UInt8(place) && isFirst(n) { return n }
    return -1
}

/// From here on this process's children are born there.  Its first process may be about to be created by another.
private func directChildren(to place: UInt32) -> Int {
    let fd = openPids(of: place)
    if fd < 0 { return fd }
    let r = system(CKPT_SYS_setns, fd, setPids)
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
    return r
}
private func openPids(of place: UInt32) -> Int {
    let first = firstNode(of: place)
    guard first >= 0 else { return -3 }
    var line = Line()
    line.put("/proc/"); line.put(signed: Int64(nodes[first].pointee.pid)); line.put("/ns/pid")
    var fd = -2, patience = 0
    while true {
        fd = line.withCString { ckpt_open($0, 0o2000000, 0) }
        // It uses numbers of processes that are to come until its own is on the board (InnerSockets.swift).
        if (fd != -2 && nodePids[first].pointee > 0) || patience > 60_000 { break }
        if fd >= 0 { _ = ckpt_close(Int32(truncatingIfNeeded: fd)); fd = -2 }
        checkAborted()
        patience += 1
        var t = ckpt_timespec(sec: 0, nsec: 1_000_000)
        _ = system(CKPT_SYS_nanosleep, int(&t), 0)
    }
    return fd
}
/// Before this process goes where there may be no /proc.
func findPidsOfChildren(_ i: Int) {
    let wanted = processes[i].pointee.children_pids
    if wanted == 0 || wanted >= UInt8(CKPT_CHILDREN_DEAD) { return }
    let r = openPids(of: UInt32(wanted))
    guard r >= 0 else { refuseChildrenPids(i, r) }
    state.pointee.children_fd = lift(Int32(truncatingIfNeeded: r), "pid namespace")
}
private func refuseChildrenPids(_ i: Int, _ r: Int) -> Never { refuse(.lacks) { l in putProcess(i, &l); l.put("the pid namespace of its children cannot be entered: "); putError(r, &l); l.put("; restart it as root") } }

/// The first process of a namespace: pids that the kernel chooses from now on are none that others of the tree will get.
func startNumbering(_ n: Int) {
    guard isFirst(n) else { return }
    _ = writeText("/proc/sys/kernel/ns_last_pid") { $0.put(decimal: UInt64(highestNumber(in: place(of: n)))) }
}
func highestNumber(in place: UInt32) -> Int32 {
    var last: Int32 = 1
    if place == 0 {
        for n in 0..<Int(state.pointee.node_count) { last = max(last, nodes[n].pointee.pid) }
        for t in 0..<tasks.count { last = max(last, tasks[t].pointee.tid) }
    }
    for i in 0..<numbers.count where numbers[i].pointee.namespaces + 1 == place { last = max(last, numbers[i].pointee.inside) }
    return last
}

/// Every pid namespace has room for 300.
func unusedNumber(in place: UInt32) -> Int32 {
    func isUsed(_ n: Int32) -> Bool {
        for i in 0..<numbers.count where numbers[i].pointee.namespaces + 1 == place && numbers[i].pointee.inside == n { return true }
        return false
    }
    var n: Int32 = 300
    while isUsed(n) { n -= 1 }
    return max(n, 2)
}

/// Some children inherit this process's group: it is joined before they are born.
func bearHeirs(_ n: Int) {
    var any = false
    for c in 0..<Int(state.pointee.node_count) where nodes[c].pointee.creator == Int32(n) && nodes[c].pointee.stage == 2 { any = true }
    guard any else { return }
    let group = nodes[n].pointee.pgid
    while group != nodes[n].pointee.pid && numberHere(group) != 0 && system(CKPT_SYS_setpgid, 0, Int(numberHere(group))) != 0 {
        checkAborted()
        var t = ckpt_timespec(sec: 0, nsec: 1_000_000)
        _ = system(CKPT_SYS_nanosleep, int(&t), 0)
    }
    giveBirth(creator: Int32(n), stage: 2)
}

/// In the builder: those that can't look themselves are in their sessions and groups.
func checkPlaces() {
    for n in 0..<Int(state.pointee.node_count) where nodes[n].pointee.place != 0 && !nodes[n].pointee.isTemporary {
        let me = nodes[n].pointee
        let group = Int32(truncatingIfNeeded: system(CKPT_SYS_getpgid, Int(me.pid))), session = Int32(truncatingIfNeeded: system(CKPT_SYS_getsid, Int(me.pid)))
        if (me.pgid != 0 && group != me.pgid) || (me.sid != 0 && session != me.sid) { refusePlace(n) }
    }
}

/// In a process, when it has all of its tasks: later children are born elsewhere.
func redirectChildren(_ i: Int) {
    let wanted = processes[i].pointee.children_pids
    if wanted == 0 { return }
    var r: Int
    if wanted < UInt8(CKPT_CHILDREN_DEAD) { r = state.pointee.children_fd > 0 ? system(CKPT_SYS_setns, Int(state.pointee.children_fd), setPids) : directChildren(to: UInt32(wanted)) } else {
        r = system(CKPT_SYS_unshare, newPid)
        if r == 0 && wanted == UInt8(CKPT_CHILDREN_DEAD) { r = endFirstChild() }
    }
    guard r == 0 else { refuseChildrenPids(i, r) }
    if state.pointee.children_fd > 0 { _ = ckpt_close(state.pointee.children_fd); state.pointee.children_fd = 0 }
}
private func endFirstChild() -> Int {
    let r = fork(pid: 0, exitSignal: 0, argument: 0, leave)
    if r < 0 { return r }
    var e = -4
    while e == -4 { e = system(CKPT_SYS_wait4, r, 0, 0x4000_0000, 0) }
    return 0
}
private let leave: @convention(c) (UInt64) -> Void = { _ in ckpt_exit_group(0) }

/// What `body` creates lives in one of the tree's pid namespaces; its answer, or why that cannot be.
func among(_ place: UInt32, _ body: () -> Int) -> Int {
    if place == here { return body() }
    // Now: what is created may mount another /proc over this one.
    let own = ckpt_open(StaticString("/proc/self/ns/pid").cString, 0o2000000, 0)
    if own < 0 { return own }
    var r = directChildren(to: place)
    if r == 0 { r = body() }
    let back = system(CKPT_SYS_setns, own, setPids)
    _ = ckpt_close(Int32(truncatingIfNeeded: own))
    return back < 0 ? back : r
}

/// In the builder, when nobody needs the outer /proc any more: those of the tree's own namespaces, each mounted by somebody who lives there.
func mountInnerProc() {
    for i in 0..<namespaces.count where isPartMounts(i) { mountLate(i) }
    for k in 0..<mounts.count where mounts[k].pointee.kind == CKPT_MOUNT_PROC.rawValue && !isPartMounts(Int(mounts[k].pointee.namespaces)) {
        var r = among(mounts[k].pointee.shows) { fork(pid: 0, argument: UInt64(k), mountAsInhabitant) }
        var status: Int32 = 0, e = -4
        while r > 0 && e == -4 { e = system(CKPT_SYS_wait4, r, int(&status), 0x4000_0000, 0) }
        if r > 0 { r = Int(-(status >> 8 & 0xff)) }
        guard r == 0, status & 0x7f == 0 else { refuse(r) { l in l.put("mount "); l.put(text: bytes(mounts[k].pointee.target)); l.put(" of a pid namespace of the tree: "); putError(r, &l); l.put("; restart it as root") } }
    }
}
private let mountAsInhabitant: @convention(c) (UInt64) -> Void = { k in
    let m = mounts[Int(k)].pointee, proc = StaticString("proc").cString
    var r = enterPart(Int(m.namespaces))
    if r == 0 { r = system(CKPT_SYS_mount, int(proc), int(bytes(m.target)), int(proc), Int(m.flags), 0) }
    ckpt_exit_group(Int32(truncatingIfNeeded: -r))
}
