// Runs in the builder, before the tree's first process, on the region's main stack; no allocation, no libc.
// The kernel notes who made a connection (SO_PEERCRED): the pid of whoever called socketpair(2), listen(2) or connect(2).  So a child with that pid
// makes the call and exits; the number stays in the socket, and is free again for the process of the tree.
import CkptABI
import EngineBoot
import Freestanding

enum CreatorCall { static let pair: UInt32 = 1, listen: UInt32 = 2, connect: UInt32 = 3, send: UInt32 = 4, any: UInt32 = 5 }

/// `uid`: 4294967295: as it is.
struct Creator { var pid: Int32, uid: UInt32, gid: UInt32 }
func creator(of s: UnsafeMutablePointer<ckpt_socket_record>) -> Creator { Creator(pid: s.pointee.creator_pid, uid: s.pointee.creator_uid, gid: s.pointee.creator_gid) }

/// Makes one call as `who`; what it returned.  `address`: of the call's structure.
func call(as who: Creator, _ call: UInt32, _ a: Int32, _ address: UInt64 = 0, _ length: UInt64 = 0, in network: UInt8 = 0) -> Int {
    let s = state
    s.pointee.creator_network = UInt32(network)
    s.pointee.creator_call = call; s.pointee.creator_fd.0 = a; s.pointee.creator_address = address; s.pointee.creator_length = length
    s.pointee.creator_uid = who.uid; s.pointee.creator_gid = who.gid; s.pointee.creator_result = -5
    // Inside of a pid namespace its first process calls, and may be who that was.
    if here != 0 && who.pid == 1 { return callHere() }
    let mayChoose = s.pointee.mode != ENGINE_PIDS_NEW.rawValue && who.pid > 0
    var r = bear(mayChoose ? who.pid : 0)
    // The number is somebody else's here: the dead child's own number is shown, which is nobody's.
    if r == -17 || r == -22 || r == -1 { r = bear(0) }
    guard r > 0 else { return r }
    awaitChild(r)
    return Int(s.pointee.creator_result)
}
/// One that sends no signal when it ends (__WALL).
func awaitChild(_ child: Int) {
    let all = 0x4000_0000, interrupted = -4
    while system(CKPT_SYS_wait4, child, 0, all, 0) == interrupted { }
}

/// socket(2) in a network of the tree's: 1 + NAMESPACE of a part's, 0: where we are.  Only a child can go there, and be of no use afterwards.
func socket(_ family: Int, _ type: Int, _ number: Int, in network: UInt8) -> Int {
    if network == 0 { return system(CKPT_SYS_socket, family, type, number) }
    let list = engine_creator_arguments()
    state.pointee.creator_number = Int64(CKPT_SYS_socket)
    list[0] = Int64(family); list[1] = Int64(type); list[2] = Int64(number); list[3] = 0; list[4] = 0
    return call(as: Creator(pid: 0, uid: currentIds(false)[1], gid: currentIds(true)[1]), CreatorCall.any, 0, in: network)
}

/// Any system call with up to five arguments, in the IPC namespace that is being made.
func call(as who: Creator, _ number: Int, _ a: Int, _ b: Int = 0, _ c: Int = 0, _ d: Int = 0, _ e: Int = 0) -> Int {
    let list = engine_creator_arguments()
    state.pointee.creator_number = Int64(number)
    list[0] = Int64(a); list[1] = Int64(b); list[2] = Int64(c); list[3] = Int64(d); list[4] = Int64(e)
    return call(as: who, CreatorCall.any, 0, in: UInt8(state.pointee.ipc_place))
}
/// The same by nobody in particular: by this process, if it can be.
func there(_ number: Int, _ a: Int, _ b: Int = 0, _ c: Int = 0, _ d: Int = 0, _ e: Int = 0) -> Int {
    state.pointee.ipc_place == 0 ? system(number, a, b, c, d, e) : call(as: Creator(pid: 0, uid: UInt32.max, gid: UInt32.max), number, a, b, c, d, e)
}

/// The child shares memory and descriptors, on a stack of its own; the builder waits until it has exited.
private func bear(_ pid: Int32) -> Int {
    let sharesMemory: UInt64 = 0x100, sharesFiles: UInt64 = 0x400, sharesFolder: UInt64 = 0x200, waits: UInt64 = 0x4000
    var wanted = InlineArray<32, Int32>(repeating: 0)
    let levels = pid == 0 ? 0 : here == 0 ? fillOwnPids(pid, &wanted) : fillInnerPids(pid, &wanted)
    return withUnsafeMutableBytes(of: &wanted) { w in
        var a = ckpt_clone_args()
        a.flags = sharesMemory | sharesFiles | sharesFolder | waits
        a.stack = state.pointee.chunk; a.stack_size = 65536
        if pid != 0 { a.set_tid = UInt64(UInt(bitPattern: w.baseAddress!)); a.set_tid_size = UInt64(min(levels, chosenLevels(here))) }
        return ckpt_clone3(&a, childEntry, 0)
    }
}

private let childEntry: @convention(c) (UInt64) -> Void = { _ in
    perform()
    ckpt_exit_group(0)
}
/// As this process: a task of its own calls, in whose network and as whose user only that task is.  Who lives in a user namespace could not come back.
private func callHere() -> Int {
    let sharesFolder: UInt64 = 0x200
    let tid = runTask(sharesFolder, state.pointee.chunk, 65536, taskEntry)
    return tid > 0 ? Int(state.pointee.creator_result) : tid
}
/// A task of this process, which ends by itself; returns its number, or a negative errno.  `number`: 0: the kernel's choice.
func runTask(_ more: UInt64, _ stack: UInt64, _ size: UInt64, number: Int32 = 0, _ entry: @convention(c) (UInt64) -> Void) -> Int {
    let sharesMemory: UInt64 = 0x100, sharesFiles: UInt64 = 0x400, sharesHandlers: UInt64 = 0x800, isTask: UInt64 = 0x10000, waits: UInt64 = 0x4000
    var a = ckpt_clone_args()
    a.flags = sharesMemory | sharesFiles | sharesHandlers | isTask | waits | more
    a.stack = stack; a.stack_size = size
    var wanted = number
    let tid = withUnsafeMutableBytes(of: &wanted) { w in
        if number != 0 { a.set_tid = UInt64(UInt(bitPattern: w.baseAddress!)); a.set_tid_size = 1 }
        return ckpt_clone3(&a, entry, 0)
    }
    guard tid > 0 else { return tid }
    // Its number is free again, and this process has one task, when the kernel does not know it any more.
    let noSuchTask = -3
    while system(CKPT_SYS_tgkill, Int(ckpt_getpid()), tid, 0) != noSuchTask { pause(milliseconds: 1) }
    return tid
}
private let taskEntry: @convention(c) (UInt64) -> Void = { _ in
    perform()
    ckpt_exit_thread(0)
}
private func perform() {
    let s = state, users = s.pointee.entered_users
    defer { s.pointee.entered_users = users }
    if s.pointee.creator_network != 0 {
        let r = goThere(Int(s.pointee.creator_network) - 1)
        if r != 0 { s.pointee.creator_result = Int64(r); return }
    }
    if s.pointee.creator_uid != UInt32.max { takeIds(idHere(s.pointee.creator_uid, isGroup: 0), idHere(s.pointee.creator_gid, isGroup: 1)) }
    let fd = Int(s.pointee.creator_fd.0), address = int(s.pointee.creator_address), length = int(s.pointee.creator_length)
    let r: Int
    switch s.pointee.creator_call {
    case CreatorCall.pair: r = system(CKPT_SYS_socketpair, 1, fd | 0o2000000, 0, int(engine_creator_fd()))
    case CreatorCall.listen: r = system(CKPT_SYS_listen, fd, length)
    case CreatorCall.connect: r = system(CKPT_SYS_connect, fd, address, length)
    case CreatorCall.any:
        let a = engine_creator_arguments()
        r = system(Int(s.pointee.creator_number), Int(a[0]), Int(a[1]), Int(a[2]), Int(a[3]), Int(a[4]))
    default: r = system(CKPT_SYS_sendmsg, fd, address, 0x4040)
    }
    s.pointee.creator_result = Int64(r)
}
/// Into a namespace of a part; for IPC, of which what belongs to a user namespace obeys who is in that.
private func goThere(_ i: Int) -> Int {
    let n = namespaces[i].pointee, shared = 0x200
    if n.kind == CKPT_NAMESPACE_IPC.rawValue && n.owner != state.pointee.entered_users && n.owner != 0 && !isWhole(Int(n.owner) - 1) {
        var r = system(CKPT_SYS_unshare, shared)
        if r == 0 { r = enterPart(Int(n.owner) - 1) }
        if r != 0 { return r }
        showOwnFiles()
        state.pointee.entered_users = n.owner
    }
    return enterPart(i)
}

/// The effective ids are what is noted; those of the file system stay, so that paths are reached as before.
private func takeIds(_ uid: UInt32, _ gid: UInt32) {
    let same = Int(UInt32.max)
    if currentIds(true)[1] != gid { _ = system(CKPT_SYS_setresgid, same, Int(gid), same) }
    if currentIds(false)[1] != uid && system(CKPT_SYS_setresuid, same, Int(uid), same) == 0 { _ = system(122, 0) }
}
