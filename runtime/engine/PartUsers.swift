// User namespaces of a part of the tree: the builder has them made, the outer ones first, and each process enters its own as late as it can, since it is
// nobody outside from then on.  In the records all ids are those of the whole tree.
// No allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

private let newUser = 0x1000_0000

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
    let wanted = processes[i].pointee.users
    if wanted == 0 { return }
    let first = Int(processes[i].pointee.first_task)
    raiseLimits(i)
    restoreScheduling(first)
    restoreOuterIds(first)
    var r = -22, patience = 0
    // A task that has filled memory may not be quite gone yet.
    while r == -22 && patience < 10_000 {
        r = enterPart(Int(wanted) - 1)
        patience += 1
        if r == -22 { var t = ckpt_timespec(sec: 0, nsec: 100_000); _ = system(CKPT_SYS_nanosleep, int(&t), 0) }
    }
    guard r == 0 else { refuseNamespace(Int(wanted) - 1, r) }
    _ = ckpt_close(usersDescriptor(i))
    showOwnFiles()
    state.pointee.entered_users = UInt32(wanted)
}
