// Runs in the engine that `ckptctl warm FILE` starts, and in the server that it leaves behind; on the region's main stack; no allocation, no libc.
// A template is two processes.  The keeper holds the memory of every process of the tree, read and verified once (Keeper.swift).  The server,
// which holds none of it, listens: whoever executes the file with --warm gets a branch, a fork of the server that restarts the tree as always,
// but for the processes' memory: their forebear is the keeper (Midwife.swift).  What the server answers is in TemplateServer.swift.
import CkptABI
import CkptDecompress
import EngineBoot
import Freestanding

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
    reserveDescriptors()
    closeInherited()
    planImages()
    clearMemory(but: engine_template().pointee.range, engine_template().pointee.range_size)
    while !listenForBranches() { if isComplete(connectToTemplate()) { tell("is in memory already") } }
    var word = InlineArray<2, Int32>(repeating: -1)
    let r = withUnsafeMutableBytes(of: &word) { system(CKPT_SYS_pipe2, int($0.baseAddress!), 0o2000000) }
    guard r == 0 else { forgetSocket(); refuse(r) { $0.put("pipe for a template") } }
    engine_template().pointee.ready = word[1]
    let server = fork(pid: 0, argument: UInt64(UInt32(bitPattern: word[0])), serverEntry)
    guard server > 0 else { forgetSocket(); refuse(server) { $0.put("a template's process") } }
    _ = ckpt_close(word[1])
    _ = ckpt_close(engine_template().pointee.listener)
    var byte: UInt8 = 0, wait: Int32 = 0, n = -4
    while n == -4 { n = ckpt_read(word[0], &byte, 1) }
    if n == 1 { tell("is in memory now") }
    while system(CKPT_SYS_wait4, server, int(&wait), 0, 0) == -4 {}
    exitAs(wait)
}
/// A template outlives whoever made it: of what that had open it keeps the statefile with its bases and, for its messages, the standard streams.
private func closeInherited() {
    var kept = InlineArray<24, Int32>(repeating: -1)
    kept[0] = state.pointee.statefile
    for k in 0..<3 { kept[k + 1] = engine_standard(UInt32(k)).pointee }
    for i in 0..<bases.count { kept[4 + i] = engine_base_fd(UInt32(i)).pointee }
    closeAll(but: kept)
}
/// Another template of this statefile answers when it is complete; false: it has ended.
private func isComplete(_ connection: Int) -> Bool {
    guard connection >= 0 else { return false }
    let q = engine_request(), socket = Int32(truncatingIfNeeded: connection), size = MemoryLayout<ckpt_warm_reply>.size
    var none: Int32 = -1
    q.pointee = ckpt_warm_request()
    q.pointee.magic = UInt32(CKPT_WARM_MAGIC); q.pointee.kind = UInt32(CKPT_WARM_LIST)
    let answers = send(socket, q, MemoryLayout<ckpt_warm_request>.size) > 0 && receive(socket, engine_reply(), size, &none, 1).size == size
    _ = ckpt_close(socket)
    return answers
}
private func tell(_ what: StaticString) -> Never {
    var l = Line()
    l.put(text: engine_program()); l.put(": a template of it "); l.put(what); l.put("; branch off with --warm\n")
    l.write(to: Descriptor(1))
    ckpt_exit_group(0)
}

private let serverEntry: @convention(c) (UInt64) -> Void = { readingEnd in
    let s = state, t = engine_template()
    _ = ckpt_close(Int32(truncatingIfNeeded: Int64(readingEnd)))
    s.pointee.engine_pid = ckpt_getpid()
    callThisProcess("ckpt-template")
    _ = system(CKPT_SYS_setsid)
    listenForSignals()
    let (ours, keepers) = socketPair()
    t.pointee.requests = keepers
    let keeper = fork(pid: 0, argument: 0, keeperEntry)
    guard keeper > 0 else { forgetSocket(); refuse(keeper) { $0.put("a template's process") } }
    t.pointee.keeper_pid = Int32(truncatingIfNeeded: keeper)
    s.pointee.init_pid = t.pointee.keeper_pid       // ends with us, should we fail
    s.pointee.keeper = lift(ours, "socket")
    _ = ckpt_close(keepers)
    var held: UInt64 = 0, none: Int32 = -1
    guard receive(s.pointee.keeper, &held, 8, &none, 0).size == 8 else {
        forgetSocket()
        if ckpt_load(&board.pointee.failure) == 0 { refuse(.temporary) { $0.put("the template's keeper was killed while it read the file; try again") } }
        endFailed()
    }
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

func forgetSocket() { _ = system(CKPT_SYS_unlink, int(engine_template_socket())) }

/// False: another template of this statefile listens there.  Whoever holds the folder's lock may look and take the name.
private func listenForBranches() -> Bool {
    let folder = Text(engine_template_socket())
    var slash = length(folder)
    while slash > 0 && folder[slash] != 47 { slash -= 1 }
    engine_template_socket()[slash] = 0
    _ = system(CKPT_SYS_mkdir, int(folder), 0o700)
    let st = status(path: folder, follow: false)
    guard st.result == 0, st.status.kind == 0o040000, st.status.uid == UInt32(system(CKPT_SYS_geteuid)), st.status.mode & 0o077 == 0 else {
        refuse(.systemCall) { l in l.put("sessions directory "); l.put(text: folder); l.put(": not a folder of this user with mode 0700; set CKPT_DIR to one") }
    }
    let lock = lockFolder(folder)
    engine_template_socket()[slash] = 47
    let other = connectToTemplate()
    if other >= 0 { _ = ckpt_close(Int32(truncatingIfNeeded: other)) } else { bindSocket() }
    _ = ckpt_close(lock)
    return other < 0
}
/// For the moment that it takes to look and to bind; a minute at most.
private func lockFolder(_ folder: Text) -> Int32 {
    let fd = ckpt_open(folder, 0o2200000, 0), exclusiveAtOnce = 2 | 4
    var r = fd, patience = 0
    while r >= 0 {
        r = system(73, fd, exclusiveAtOnce)         // flock(2)
        if r != -11 || patience == 6000 { break }
        patience += 1
        pauseBriefly()
        r = 0
    }
    guard r == 0 else { refuse(r) { l in l.put("sessions directory "); l.put(text: folder); l.put(": cannot be locked") } }
    return Int32(truncatingIfNeeded: fd)
}
private func bindSocket() {
    forgetSocket()      // nobody answers there
    let socket = system(CKPT_SYS_socket, 1, 5 | 0o2004000, 0)
    var r = withTemplateAddress { system(CKPT_SYS_bind, socket, $0, $1) }
    if r == 0 { r = system(CKPT_SYS_listen, socket, 4096) }
    guard r == 0 else { refuse(r) { l in l.put("socket "); l.put(text: Text(engine_template_socket())) } }
    engine_template().pointee.listener = lift(Int32(truncatingIfNeeded: socket), "socket")
}
private func listenForSignals() {
    let t = engine_template()
    var wanted: UInt64 = 1 << 16 | 1 << 14          // CHLD, TERM
    let signals = system(CKPT_SYS_signalfd4, -1, int(&wanted), 8, 0o2004000)
    guard signals >= 0 else { refuse(signals) { $0.put("signalfd for a template") } }
    t.pointee.signals = lift(Int32(truncatingIfNeeded: signals), "signalfd")
}
