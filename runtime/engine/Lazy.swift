// Runs in the engine (start), in each process of the tree (hand over) and, for the rest, in a process of its own, the server; no allocation, no libc.
// --lazy: large private memory comes when it is touched, or a little later.  Each process gives the server a userfaultfd for it and keeps nothing.
// The server answers faults from the statefile, follows what the tree does to the mappings meanwhile, and reads the rest ahead on all cores.
import CkptABI
import EngineBoot
import Freestanding

private let lazyEvents = UInt64(CKPT_UFFD_EVENT_FORK | CKPT_UFFD_EVENT_REMAP | CKPT_UFFD_EVENT_REMOVE | CKPT_UFFD_EVENT_UNMAP)

/// Is this mapping loaded lazily?  What the kernel pins, wipes or grows by itself, and what is small, is there from the beginning; so is what can't be
/// written: the kernel takes it off its account (VM_ACCOUNT) when it is made read-only with nothing in it.
func isLazy(_ v: Int) -> Bool {
    let r = vmas[v].pointee
    return state.pointee.lazy != 0 && r.kind == CKPT_VMA_ANONYMOUS.rawValue && r.page_shift == 0 && r.data_offset != 0 && r.protection & 2 != 0 && r.end - r.start >= 1 << 20
        && !has(v, CKPT_VMA_GROWSDOWN) && !has(v, CKPT_VMA_DROPPABLE) && !has(v, CKPT_VMA_LOCKED) && !has(v, CKPT_VMA_WIPEONFORK) && !has(v, CKPT_VMA_SEALED)
}
/// The lazy mappings of a process.
func forEachLazy(_ i: Int, _ body: (Int) -> Void) {
    let p = processes[i]
    for k in 0..<p.pointee.vma_count where isLazy(Int(p.pointee.first_vma + k)) { body(Int(p.pointee.first_vma + k)) }
}

private func refuseLazy(_ r: Int) -> Never {
    if r == -38 { refuse(.lacks) { $0.put("--lazy: this kernel has no userfaultfd(2) (CONFIG_USERFAULTFD); restart it without --lazy") } }
    refuse(.lacks) { l in
        l.put("--lazy: userfaultfd(2) for faults of the kernel and for forks needs CAP_SYS_PTRACE outside of user namespaces: "); putError(r, &l)
        l.put("; restart it as root, or without --lazy")
    }
}

/// Early: whether the kernel lets us, before anything is made.
func checkLazy() {
    guard state.pointee.lazy != 0 else { return }
    let fd = openUserfault(user: false, features: lazyEvents)
    guard fd >= 0 else { refuseLazy(fd) }
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
}

/// In a process of the tree: what is missing of its lazy mappings is the server's from now on.
func handOverMemory(_ i: Int) {
    guard state.pointee.lazy != 0 else { return }
    var any = false
    forEachLazy(i) { _ in any = true }
    guard any else { return }
    let fd = openUserfault(user: false, features: lazyEvents)
    guard fd >= 0 else { refuseLazy(fd) }
    forEachLazy(i) { v in
        let e = registerMemory(Int32(fd), vmas[v].pointee.start, vmas[v].pointee.end)
        guard e == 0 else { refuseVma(v, e, "cannot be loaded lazily; restart it without --lazy") }
    }
    var record = UInt32(i), control = ckpt_cmsg_fd(length: 20, level: 1, type: 1, fd: Int32(fd), pad: 0)
    var part = ckpt_iovec(base: UInt64(UInt(bitPattern: int(&record))), length: 4)
    var m = ckpt_msghdr()
    m.iov = UInt64(UInt(bitPattern: int(&part))); m.iovlen = 1
    m.control = UInt64(UInt(bitPattern: int(&control))); m.controllen = 24
    let r = system(CKPT_SYS_sendmsg, Int(state.pointee.lazy_socket), int(&m), 0x4000)
    guard r == 4 else { refuse(r) { l in putProcess(i, &l); l.put("its memory cannot be given to the server of --lazy") } }
    _ = ckpt_close(Int32(fd))
}

/// In the engine, for each attempt: the server, before there are namespaces of the tree.
func startServer() {
    let s = state
    guard s.pointee.lazy != 0 else { return }
    var ends = InlineArray<2, Int32>(repeating: -1)
    let r = withUnsafeMutableBytes(of: &ends) { system(CKPT_SYS_socketpair, 1, 5 | 0o2000000, 0, int($0.baseAddress!)) }
    guard r == 0 else { refuse(r) { $0.put("--lazy: socket to the server") } }
    s.pointee.lazy_socket = lift(ends[0], "socket")
    s.pointee.lazy_server_socket = lift(ends[1], "socket")
    let child = forkWithSpareNumber(flags: 0, stack: s.pointee.stacks, size: UInt64(ENGINE_MAIN_STACK), serverEntry)
    guard child > 0 else { refuse(child) { $0.put("--lazy: the server cannot be started") } }
    s.pointee.lazy_server = Int32(truncatingIfNeeded: child)
    _ = ckpt_close(s.pointee.lazy_server_socket)
    var poll = UInt64(UInt32(bitPattern: s.pointee.lazy_socket)) | 1 << 32, ready: UInt8 = 0
    guard system(CKPT_SYS_poll, int(&poll), 1, 20_000) == 1, ckpt_read(s.pointee.lazy_socket, &ready, 1) == 1 else {
        refuse(.lacks) { $0.put("--lazy: the server ended, or did not start within 20 s; try again, or restart it without --lazy") }
    }
}

/// In the engine, when a restart has failed.
func endServer() {
    let s = state
    if s.pointee.lazy_server > 0 { _ = system(CKPT_SYS_kill, Int(s.pointee.lazy_server), 9) }
    if s.pointee.lazy_socket > 0 { _ = ckpt_close(s.pointee.lazy_socket) }
    s.pointee.lazy_server = 0
    s.pointee.lazy_socket = 0
}

/// A child whose pid is none of the tree's: those may still be needed.
func forkWithSpareNumber(flags: UInt64, stack: UInt64, size: UInt64, _ entry: @convention(c) (UInt64) -> Void) -> Int {
    var wanted: Int32 = 32767
    for _ in 0..<64 where wanted > 1 {
        while isOfTree(wanted) { wanted -= 1 }
        var a = ckpt_clone_args(), pid = wanted
        a.flags = flags
        a.exit_signal = flags & 0x8000 != 0 ? 0 : 17
        a.stack = stack; a.stack_size = size
        let r = withUnsafeMutableBytes(of: &pid) { w in
            a.set_tid = UInt64(UInt(bitPattern: w.baseAddress!)); a.set_tid_size = 1
            return ckpt_clone3(&a, entry, 0)
        }
        if r > 0 { return r }
        if r == -22 { wanted = wanted / 2 } else if r == -17 { wanted -= 1 } else if r != -1 { return r } else {
            a.set_tid = 0; a.set_tid_size = 0
            return ckpt_clone3(&a, entry, 0)
        }
    }
    return -11
}

private let serverEntry: @convention(c) (UInt64) -> Void = { _ in
    let s = state
    s.pointee.is_engine = 0
    s.pointee.is_builder = 0
    s.pointee.is_server = 1
    s.pointee.node = -1
    _ = ckpt_prctl(15, int(StaticString("ckpt-loader").cString), 0, 0, 0)
    // Whoever ends the engine's group, or its session, does not end us: the memory that is missing is here only.
    _ = system(CKPT_SYS_setsid)
    _ = system(CKPT_SYS_chdir, int(StaticString("/").cString))
    dropServerDescriptors()
    serve()
}

private func dropServerDescriptors() {
    let s = state
    let null = ckpt_open(StaticString("/dev/null").cString, 0o2000002, 0)
    if null >= 0 { for n in 0..<3 { _ = system(CKPT_SYS_dup2, null, n) } }
    var kept = InlineArray<24, Int32>(repeating: -1)
    kept[0] = s.pointee.statefile; kept[1] = s.pointee.lazy_server_socket; kept[2] = engine_standard(2).pointee; kept[3] = s.pointee.working_set
    for i in 0..<bases.count { kept[4 + i] = engine_base_fd(UInt32(i)).pointee }
    closeAll(but: kept)
}

/// Says something on the restart's standard error.
func serverSays(_ body: (inout Line) -> Void) {
    var l = Line()
    l.put(text: engine_program()); l.put(": restart: ")
    body(&l)
    l.put("\n")
    l.write(to: Descriptor(state.pointee.standard.2))
}
