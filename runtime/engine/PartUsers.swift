// User namespaces of a part of the tree: the builder has them made, the outer ones first, and each process enters its own as late as it can, since it is
// nobody outside from then on.  In the records all ids are those of the whole tree.
// No allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

private let newUser = 0x1000_0000

/// Is a user namespace the other one, or somewhere within?  By 1 + NAMESPACE; 0: that of the whole tree.
func isInside(_ users: UInt32, _ outer: UInt32) -> Bool {
    var u = users
    while u != outer && u != 0 { u = namespaces[Int(u) - 1].pointee.owner }
    return u == outer
}

/// In a child of the builder: goes where the namespace that is to be made is made.
func enterOwner(_ i: Int) {
    let owner = Int(namespaces[i].pointee.owner) - 1
    if owner < 0 || namespaces[owner].pointee.flags & CKPT_NAMESPACE_WHOLE.rawValue != 0 { return }
    let r = enterPart(owner)
    guard r == 0 else { refuseNamespace(owner, r) }
    // Some settings obey only its root, if it has one.
    if namespaces[i].pointee.kind == CKPT_NAMESPACE_IPC.rawValue { _ = system(CKPT_SYS_setresgid, 0, 0, 0); _ = system(CKPT_SYS_setresuid, 0, 0, 0) }
}

/// In a child of the builder: becomes who made it, and makes it.
func makeUsers(_ i: Int) {
    let n = namespaces[i].pointee
    if currentIds(false)[1] != n.outer_user || currentIds(true)[1] != n.outer_group {
        let r = become(n.outer_user, n.outer_group)
        guard r == 0 else { refuseNamespace(i, r) }
    }
    enterOwner(i)
    let scribe = leaveScribe(i), r = system(CKPT_SYS_unshare, newUser)
    guard r == 0 else { refuseNamespace(i, r) }
    showOwnFiles()
    if n.flags & CKPT_NAMESPACE_NO_SETGROUPS.rawValue != 0 { _ = writeText("/proc/self/setgroups") { $0.put("deny") } }
    else if deniesGroups { refuse(.lacks) { $0.put("a user namespace of the tree without a map, which permits setgroups(2): that of a restart without privileges does not; restart it as root") } }
    finish(scribe, i)
}
/// As a user without privileges has it around him.
private var deniesGroups: Bool {
    var word = InlineArray<4, UInt8>(repeating: 0)
    let fd = Int32(truncatingIfNeeded: ckpt_open(StaticString("/proc/self/setgroups").cString, 0o2000000, 0))
    if fd < 0 { return false }
    _ = withUnsafeMutableBytes(of: &word) { ckpt_read(fd, $0.baseAddress!, 4) }
    _ = ckpt_close(fd)
    return word[0] == UInt8(ascii: "d")
}

/// That of a process's own; -1.
func usersDescriptor(_ i: Int) -> Int32 {
    let users = UInt32(processes[i].pointee.users)
    return users == 0 ? -1 : engine_namespace_fd(users - 1).pointee
}

/// In a process that has one task: what takes capabilities outside is done first.
func enterUsers(of i: Int) {
    let wanted = UInt32(processes[i].pointee.users), first = Int(processes[i].pointee.first_task)
    if wanted == 0 { return }
    if wanted != state.pointee.entered_users {
        raiseLimits(i)
        restoreScheduling(first)
        enter(wanted, as: first)
    }
    _ = ckpt_close(usersDescriptor(i))
}
private func enter(_ users: UInt32, as task: Int) {
    restoreOuterIds(task)
    var r = -22, patience = 0
    // A task that has filled memory may not be quite gone yet.
    while r == -22 && patience < 10_000 {
        r = enterPart(Int(users) - 1)
        patience += 1
        if r == -22 { var t = ckpt_timespec(sec: 0, nsec: 100_000); _ = system(CKPT_SYS_nanosleep, int(&t), 0) }
    }
    guard r == 0 else { refuseNamespace(Int(users) - 1, r) }
    showOwnFiles()
    state.pointee.entered_users = users
    state.pointee.entered_task = UInt32(task)
}

// MARK: a pid namespace that belongs to a user namespace of a part

/// Creates its first process as a child of this one: somebody goes into the user namespace for that, and so the process is born there, as are its children.
func forkFirst(_ n: Int, _ exitSignal: Int32) -> Int {
    var r = -17, tries = 0
    let locked = lockNumbers()
    while r == -17 && tries < 1000 {
        tries += 1
        r = fork(pid: here == 0 ? sparePid() : 0, exitSignal: exitSignal, argument: UInt64(n), goAndFork)
        if r <= 0 { continue }
        var status: Int32 = 0, e = -4
        while e == -4 { e = system(CKPT_SYS_wait4, r, int(&status), 0x4000_0000, 0) }
        let wrong = -Int(nodePids[n].pointee)
        r = status == 0 ? Int(numberHere(nodes[n].pointee.pid)) : status == Int32(again) << 8 ? -17 : -5
        if r == -17 && wrong > 0 { _ = system(CKPT_SYS_wait4, wrong, 0, 0x4000_0000, 0); nodePids[n].pointee = 0 }
    }
    unlockNumbers(locked)
    return r
}
private let again = 17
private let goAndFork: @convention(c) (UInt64) -> Void = { argument in
    let n = Int(argument), i = Int(nodes[n].pointee.record), newPid = 0x2000_0000
    beChild()
    _ = ckpt_prctl(1, 9, 0, 0, 0)
    raiseLimits(i)
    let users = namespaces[Int(nodes[n].pointee.place) - 1].pointee.owner
    enterOwn(i, outside: users)
    enterMounts(of: i, outside: users)
    enter(users, as: Int(processes[i].pointee.first_task))
    var r = system(CKPT_SYS_unshare, newPid), wrong = 0, a = childArguments(flags: cloneParent, exitSignal: 0)
    if r == 0 { r = tryNumbered(&a, nodes[n].pointee.pid, inside: UInt32(nodes[n].pointee.place), group: 0, wrong: &wrong, nodeEntry, argument) }
    // The namespace ends with its first process: another one is made then.
    if r == -17 { nodePids[n].pointee = -Int32(truncatingIfNeeded: wrong); ckpt_exit_group(Int32(again)) }
    guard r > 0 else { refuseBirth(n, r) }
    ckpt_exit_group(0)
}
