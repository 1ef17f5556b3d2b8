// Runs in the engine that `ckptctl warm FILE` starts, and in the server that it leaves behind; on the region's main stack; no allocation, no libc.
// A template is two processes.  The keeper holds the memory of every process of the tree, read and verified once (Keeper.swift).  The server,
// which holds none of it, listens: whoever executes the file with --warm gets a branch, a fork of the server that restarts the tree as always,
// but for the processes' memory: their forebear is the keeper (Midwife.swift).
import CkptABI
import CkptDecompress
import EngineBoot
import Freestanding

private let sigkill = 9, sigterm: UInt32 = 15, sigchld: UInt32 = 17

/// On the initial stack: what is known of the file and of whoever starts it.
func prepareTemplate(_ stack: InitialStack, _ superblock: ckpt_superblock, _ path: Text) {
    nameTemplate(stack, superblock)
    state.pointee.lazy = 0
    let t = engine_template()
    t.pointee.relocations = relocationsChecksum()
    t.pointee.capabilities = effectiveCapabilities()
    noteNamespaces(engine_template_namespaces())
    if hasPrefix(path, StaticString("/proc/self/").cString) { _ = system(CKPT_SYS_readlink, int(path), int(engine_template_file()), 4095) } else { absolute(path) }
    refuseWithoutTemplate()
}
private func absolute(_ path: Text) {
    let out = engine_template_file()
    var n = 0
    if path[0] != 47 {
        n = max(0, system(CKPT_SYS_getcwd, int(out), 4000) - 1)
        if n < 3900 { out[n] = 47; n += 1 }
    }
    _ = copyText(path, to: out + n, capacity: 4095 - n)
}

/// What a process has to be born with can't be given to it later.
private func refuseWithoutTemplate() {
    for i in 0..<namespaces.count where namespaces[i].pointee.kind == CKPT_NAMESPACE_USER.rawValue || namespaces[i].pointee.kind == CKPT_NAMESPACE_PID.rawValue {
        refuse(.lacks) { l in
            l.put("a tree with a "); l.put(namespaces[i].pointee.kind == CKPT_NAMESPACE_PID.rawValue ? "pid" : "user")
            l.put(" namespace of its own cannot branch off a template; restart it without --warm")
        }
    }
    for i in 0..<processes.count where processes[i].pointee.pid == 1 {
        refuse(.lacks) { $0.put("a tree with a process 1 of its own cannot branch off a template; restart it without --warm") }
    }
}

let continueAsTemplate: @convention(c) (UInt64) -> Void = { oldImage in
    ckpt_decompress_begin()
    _ = ckpt_munmap(oldImage, state.pointee.image_size)
    parkVdso()
    if connectToTemplate() >= 0 { tell("is in memory already") }
    planImages()
    clearMemory(but: engine_template().pointee.range, engine_template().pointee.range_size)
    var word = InlineArray<2, Int32>(repeating: -1)
    let r = withUnsafeMutableBytes(of: &word) { system(CKPT_SYS_pipe2, int($0.baseAddress!), 0o2000000) }
    guard r == 0 else { refuse(r) { $0.put("pipe for a template") } }
    engine_template().pointee.ready = word[1]
    let server = fork(pid: 0, argument: 0, serverEntry)
    guard server > 0 else { refuse(server) { $0.put("a template's process") } }
    _ = ckpt_close(word[1])
    var byte: UInt8 = 0, wait: Int32 = 0, n = -4
    while n == -4 { n = ckpt_read(word[0], &byte, 1) }
    if n == 1 { tell("is in memory now") }
    while system(CKPT_SYS_wait4, server, int(&wait), 0, 0) == -4 {}
    exitAs(wait)
}
private func tell(_ what: StaticString) -> Never {
    var l = Line()
    l.put(text: engine_program()); l.put(": a template of it "); l.put(what); l.put("; branch off with --warm\n")
    l.write(to: Descriptor(1))
    ckpt_exit_group(0)
}

private let serverEntry: @convention(c) (UInt64) -> Void = { _ in
    let s = state, t = engine_template()
    s.pointee.engine_pid = ckpt_getpid()
    callThisProcess("ckpt-template")
    _ = system(CKPT_SYS_setsid)
    reserveDescriptors()
    listenForBranches()
    let (ours, keepers) = socketPair()
    t.pointee.requests = keepers
    let keeper = fork(pid: 0, argument: 0, keeperEntry)
    guard keeper > 0 else { refuse(keeper) { $0.put("a template's process") } }
    t.pointee.keeper_pid = Int32(truncatingIfNeeded: keeper)
    s.pointee.init_pid = t.pointee.keeper_pid       // ends with us, should we fail
    s.pointee.keeper = lift(ours, "socket")
    _ = ckpt_close(keepers)
    var held: UInt64 = 0, none: Int32 = -1
    guard receive(s.pointee.keeper, &held, 8, &none, 0).size == 8 else { forgetSocket(); endFailed() }
    t.pointee.held = held
    t.pointee.since = nanoseconds(0)
    s.pointee.init_pid = 0
    leaveTerminal()
    var byte: UInt8 = 1
    _ = ckpt_write(t.pointee.ready, &byte, 1)
    _ = ckpt_close(t.pointee.ready)
    serveBranches()
}

/// Its arguments lie where images will.
func callThisProcess(_ name: StaticString) { _ = ckpt_prctl(15, int(name.cString), 0, 0, 0) }

/// From here on nothing of whoever started it is held: no terminal, no pipe, no folder.
private func leaveTerminal() {
    let null = ckpt_open(StaticString("/dev/null").cString, 0o2000002, 0)
    if null >= 0 { for n in 0..<3 { _ = system(CKPT_SYS_dup2, null, n) }; if null > 2 { _ = ckpt_close(Int32(truncatingIfNeeded: null)) } }
    for k: UInt32 in 0..<3 where engine_standard(k).pointee >= 0 { _ = ckpt_close(engine_standard(k).pointee); engine_standard(k).pointee = -1 }
    _ = system(CKPT_SYS_chdir, int(StaticString("/").cString))
}

private func forgetSocket() { _ = system(CKPT_SYS_unlink, int(engine_template_socket())) }

private func listenForBranches() {
    let t = engine_template(), folder = Text(engine_template_socket())
    var slash = length(folder)
    while slash > 0 && folder[slash] != 47 { slash -= 1 }
    engine_template_socket()[slash] = 0
    _ = system(CKPT_SYS_mkdir, int(folder), 0o700)
    let st = status(path: folder, follow: false)
    guard st.result == 0, st.status.kind == 0o040000, st.status.uid == UInt32(system(CKPT_SYS_geteuid)), st.status.mode & 0o077 == 0 else {
        refuse(.systemCall) { l in l.put("sessions directory "); l.put(text: folder); l.put(": not a folder of this user with mode 0700; set CKPT_DIR to one") }
    }
    engine_template_socket()[slash] = 47
    forgetSocket()      // nobody answers there (continueAsTemplate)
    let socket = system(CKPT_SYS_socket, 1, 5 | 0o2004000, 0)
    var r = withTemplateAddress { system(CKPT_SYS_bind, socket, $0, $1) }
    if r == 0 { r = system(CKPT_SYS_listen, socket, 4096) }
    guard r == 0 else { refuse(r) { l in l.put("socket "); l.put(text: Text(engine_template_socket())) } }
    var wanted: UInt64 = 1 << 16 | 1 << 14          // CHLD, TERM
    t.pointee.listener = lift(Int32(truncatingIfNeeded: socket), "socket")
    let signals = system(CKPT_SYS_signalfd4, -1, int(&wanted), 8, 0o2004000)
    guard signals >= 0 else { refuse(signals) { $0.put("signalfd for a template") } }
    t.pointee.signals = lift(Int32(truncatingIfNeeded: signals), "signalfd")
}

private func serveBranches() -> Never {
    let t = engine_template()
    while true {
        // struct pollfd: fd, events (POLLIN), revents
        var polled = InlineArray<2, UInt64>(repeating: 0)
        polled[0] = UInt64(UInt32(bitPattern: t.pointee.listener)) | 1 << 32
        polled[1] = UInt64(UInt32(bitPattern: t.pointee.signals)) | 1 << 32
        _ = withUnsafeMutableBytes(of: &polled) { system(CKPT_SYS_ppoll, int($0.baseAddress!), 2, 0, 0, 0) }
        if polled[1] >> 48 != 0 { readSignals() }
        if polled[0] >> 48 != 0 && t.pointee.draining == 0 { acceptOne() }
        if t.pointee.draining != 0 && t.pointee.living == 0 { ckpt_exit_group(0) }
    }
}
private func readSignals() {
    var info = InlineArray<16, UInt64>(repeating: 0)        // struct signalfd_siginfo
    while withUnsafeMutableBytes(of: &info, { ckpt_read(engine_template().pointee.signals, $0.baseAddress!, 128) }) == 128 {
        if UInt32(truncatingIfNeeded: info[0]) == sigterm { dropTemplate() }
    }
    while true {
        var wait: Int32 = 0
        let pid = system(CKPT_SYS_wait4, -1, int(&wait), 1, 0)
        if pid <= 0 { return }
        if Int32(pid) == engine_template().pointee.keeper_pid { dropTemplate() } else { reportEnd(of: Int32(pid), wait) }
    }
}

/// No more branches; those that live stay, with us for their exit statuses.  The memory goes now, but for what they share.
private func dropTemplate() {
    let t = engine_template()
    if t.pointee.draining != 0 { return }
    t.pointee.draining = 1
    forgetSocket()
    _ = ckpt_close(t.pointee.listener)
    t.pointee.listener = -1
    if t.pointee.keeper_pid > 0 {
        _ = system(CKPT_SYS_kill, Int(t.pointee.keeper_pid), sigkill)
        _ = system(CKPT_SYS_wait4, Int(t.pointee.keeper_pid), 0, 0, 0)
    }
    t.pointee.keeper_pid = 0
}

private func reply(_ kind: Int, to connection: Int32, _ numbers: UnsafePointer<Int32>? = nil, _ count: Int = 0) {
    let a = engine_reply(), t = engine_template()
    a.pointee.magic = UInt32(CKPT_WARM_MAGIC); a.pointee.kind = UInt32(kind)
    a.pointee.pid = ckpt_getpid(); a.pointee.keeper = t.pointee.keeper_pid
    a.pointee.served = t.pointee.served; a.pointee.living = t.pointee.living
    a.pointee.memory = t.pointee.held; a.pointee.since = t.pointee.since
    _ = copyText(Text(engine_template_file()), to: engine_reply_file(), capacity: 4096)
    _ = send(connection, a, MemoryLayout<ckpt_warm_reply>.size, numbers, count)
}

private func reportEnd(of pid: Int32, _ wait: Int32) {
    for k: UInt32 in 0..<UInt32(ENGINE_BRANCHES) where engine_template_branch(k).pointee.pid == pid {
        let b = engine_template_branch(k)
        engine_reply().pointee.wait = wait
        reply(CKPT_WARM_ENDED, to: b.pointee.connection)
        _ = ckpt_close(b.pointee.connection)
        b.pointee = engine_branch()
        engine_template().pointee.living -= 1
    }
}

/// Why this one gets no branch.
private func refuseAsker(_ connection: Int32, _ code: Exit, _ why: StaticString) {
    var l = Line()
    l.put(why)
    l.copy(to: engine_reply_text(), capacity: 1024)
    engine_reply().pointee.code = code.rawValue
    reply(CKPT_WARM_REFUSED, to: connection)
}

private func acceptOne() {
    let r = system(CKPT_SYS_accept4, Int(engine_template().pointee.listener), 0, 0, 0o2000000)
    guard r >= 0 else { return }
    let connection = lift(Int32(truncatingIfNeeded: r), "connection"), q = engine_request()
    var patience = ckpt_timespec(sec: 1, nsec: 0), streams = InlineArray<3, Int32>(repeating: -1)
    _ = system(CKPT_SYS_setsockopt, Int(connection), 1, 20, int(&patience), 16)         // SO_RCVTIMEO: who connects asks at once
    let got = withUnsafeMutableBytes(of: &streams) { receive(connection, q, MemoryLayout<ckpt_warm_request>.size, $0.baseAddress!.assumingMemoryBound(to: Int32.self), 3) }
    var isKept = false
    if got.size == MemoryLayout<ckpt_warm_request>.size && q.pointee.magic == UInt32(CKPT_WARM_MAGIC) {
        if !isOwnUser(connection) { refuseAsker(connection, .systemCall, "the template is another user's; make one of your own with ckptctl warm") }
        else {
            switch Int(q.pointee.kind) {
            case CKPT_WARM_BRANCH: for k in 0..<3 { engine_template_streams()[k] = streams[k] }; isKept = branch(connection)
            case CKPT_WARM_DROP: dropTemplate(); reply(CKPT_WARM_STATUS, to: connection)
            default: reply(CKPT_WARM_STATUS, to: connection)
            }
        }
    }
    for k in 0..<3 where streams[k] >= 0 { _ = ckpt_close(streams[k]) }
    if !isKept { _ = ckpt_close(connection) }
}

/// SO_PEERCRED: struct ucred.
private func isOwnUser(_ connection: Int32) -> Bool {
    var peer = InlineArray<3, UInt32>(repeating: UInt32.max), size: UInt32 = 12
    let r = withUnsafeMutableBytes(of: &peer) { system(CKPT_SYS_getsockopt, Int(connection), 1, 17, int($0.baseAddress!), int(&size)) }
    return r == 0 && peer[1] == UInt32(system(CKPT_SYS_geteuid))
}

/// A new branch for a request that fits.
private func branch(_ connection: Int32) -> Bool {
    let q = engine_request(), t = engine_template()
    for k in 0..<16 where engine_request_id()[k] != engine_template_id()[k] {
        refuseAsker(connection, .lacks, "the template is of another statefile; make one with ckptctl warm"); return false
    }
    // The time namespace does not matter: a branch gets its own.
    for k in 0..<7 where engine_request_namespaces()[k] != engine_template_namespaces()[k] {
        refuseAsker(connection, .lacks, "the template lives in other namespaces; make one here with ckptctl warm"); return false
    }
    if q.pointee.capabilities != t.pointee.capabilities { refuseAsker(connection, .lacks, "the template has other capabilities; make one with these with ckptctl warm"); return false }
    if q.pointee.relocations != t.pointee.relocations { refuseAsker(connection, .lacks, "the template was made with another --relocate; drop it (ckptctl warm --drop) and make one with this"); return false }
    for k: UInt32 in 0..<UInt32(ENGINE_BRANCHES) where engine_template_branch(k).pointee.pid == 0 {
        let pid = fork(pid: 0, argument: UInt64(UInt32(bitPattern: connection)), branchEntry)
        if pid <= 0 { refuseAsker(connection, .temporary, "no process can be made now; try again"); return false }
        engine_template_branch(k).pointee = engine_branch(connection: connection, pid: Int32(truncatingIfNeeded: pid))
        t.pointee.served += 1
        t.pointee.living += 1
        return true
    }
    refuseAsker(connection, .temporary, "its template has 1024 branches at the moment; try again when one has ended")
    return false
}

/// The engine of one branch: as though it had been executed by the one that asked.
private let branchEntry: @convention(c) (UInt64) -> Void = { number in
    let s = state, t = engine_template(), connection = Int32(truncatingIfNeeded: Int64(number)), q = engine_request()
    _ = ckpt_close(t.pointee.listener)
    _ = ckpt_close(t.pointee.signals)
    for k: UInt32 in 0..<UInt32(ENGINE_BRANCHES) where engine_template_branch(k).pointee.pid != 0 { _ = ckpt_close(engine_template_branch(k).pointee.connection) }
    takeStreams()
    initialise()
    s.pointee.warm = 1; s.pointee.wants_template = 0
    s.pointee.pids = ENGINE_PIDS_NS.rawValue
    s.pointee.files = q.pointee.files; s.pointee.ignore_cpu = q.pointee.ignore_cpu; s.pointee.ignore_clock = q.pointee.ignore_clock
    s.pointee.timing = q.pointee.timing; s.pointee.tcp = q.pointee.tcp; s.pointee.ipc = q.pointee.ipc
    _ = copyText(Text(engine_request_program()), to: engine_program(), capacity: 64)
    makeBranchBoard()
    reserveDescriptors()
    let me = system(CKPT_SYS_pidfd_open, Int(ckpt_getpid()), 0)
    var engine = Int32(truncatingIfNeeded: me)
    reply(CKPT_WARM_STARTED, to: connection, &engine, 1)
    _ = ckpt_close(engine)
    _ = ckpt_close(connection)
    timed("branch")
    restart()
}

/// They came in their order; what was closed stays closed.
private func takeStreams() {
    var next = 0
    for k: Int32 in 0..<3 {
        if engine_request().pointee.streams & 1 << UInt32(k) != 0 && next < 3 {
            let fd = engine_template_streams()[next]
            next += 1
            if fd >= 0 { _ = system(CKPT_SYS_dup2, Int(fd), Int(k)); _ = ckpt_close(fd); continue }
        }
        _ = ckpt_close(k)
    }
}

/// Those that are born of the keeper's memory cannot inherit the board: it has a file.
private func makeBranchBoard() {
    let fd = system(CKPT_SYS_memfd_create, int(StaticString("board").cString), 1)
    guard fd >= 0, system(CKPT_SYS_ftruncate, fd, int(boardBytes)) == 0 else { refuse(fd) { $0.put("memory for the restart") } }
    let m = ckpt_mmap(state.pointee.scratch, boardBytes, 3, 0x11, Int32(truncatingIfNeeded: fd), 0)
    guard !failed(m) else { refuse(m) { $0.put("memory for the restart") } }
    state.pointee.board_fd = lift(Int32(truncatingIfNeeded: fd), "memory")
}
