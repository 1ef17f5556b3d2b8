// Runs in the engine that `FILE --warm` starts, on the initial stack; no allocation, no libc.
// Finds the template of this very statefile, hands over the standard streams and what was asked for, and stands for the branch from then on:
// signals in, exit status out.  The branch's own engine is a child of the template (Template.swift).
import CkptABI
import EngineBoot
import Freestanding

private let sigio: Int32 = 29

/// Where a template of this user lies: its socket, in the state.
func nameTemplate(_ stack: InitialStack, _ superblock: ckpt_superblock) {
    var l = Line(), superblock = superblock
    if let d = stack.variable("CKPT_DIR"), d.pointee != 0 { l.put(text: d) } else {
        let memory = status(path: StaticString("/dev/shm").cString)
        l.put(memory.result == 0 && memory.status.kind == 0o040000 ? "/dev/shm/ckpt-" : "/tmp/ckpt-")
        l.put(decimal: UInt64(system(CKPT_SYS_geteuid)))
    }
    l.put("/warm-")       // CKPT_WARM_PREFIX
    for k in 0..<16 {
        let b = engine_superblock_id(&superblock)[k]
        engine_template_id()[k] = b
        l.put(byte: hexadecimal(b >> 4)); l.put(byte: hexadecimal(b & 15))
    }
    l.copy(to: engine_template_socket(), capacity: 256)
}
private func hexadecimal(_ d: UInt8) -> UInt8 { d < 10 ? 48 + d : 87 + d }

/// The socket's address; a long path goes through a descriptor of its folder.
func withTemplateAddress(_ body: (Int, Int) -> Int) -> Int {
    let path = Text(engine_template_socket())
    var slash = length(path), folder: Int32 = -1, l = Line()
    if length(path) < 108 { l.put(text: path) } else {
        while slash > 0 && path[slash] != 47 { slash -= 1 }
        engine_template_socket()[slash] = 0
        let r = ckpt_open(path, 0o12200000, 0)      // O_PATH, O_DIRECTORY, O_CLOEXEC
        engine_template_socket()[slash] = 47
        if r < 0 { return r }
        folder = Int32(truncatingIfNeeded: r)
        l.put("/proc/self/fd/"); l.put(signed: Int64(folder)); l.put(text: path + slash)
    }
    var address = InlineArray<14, UInt64>(repeating: 0)
    let r = withUnsafeMutableBytes(of: &address) { a in
        a.storeBytes(of: 1, as: UInt16.self)
        l.copy(to: (a.baseAddress! + 2).assumingMemoryBound(to: CChar.self), capacity: 108)
        return body(int(a.baseAddress!), 110)
    }
    if folder >= 0 { _ = ckpt_close(folder) }
    return r
}

/// SO_PEERCRED: struct ucred.
func isOwnUser(_ connection: Int32) -> Bool {
    var peer = InlineArray<3, UInt32>(repeating: UInt32.max), size: UInt32 = 12
    let r = withUnsafeMutableBytes(of: &peer) { system(CKPT_SYS_getsockopt, Int(connection), 1, 17, int($0.baseAddress!), int(&size)) }
    return r == 0 && peer[1] == UInt32(system(CKPT_SYS_geteuid))
}

/// A connection to the template, if there is one.  Where another user has made the folder first, he listens there: he gets none of our streams.
func connectToTemplate() -> Int {
    let socket = system(CKPT_SYS_socket, 1, 5 | 0o2000000, 0)
    guard socket >= 0 else { return socket }
    let r = withTemplateAddress { system(CKPT_SYS_connect, socket, $0, $1) }
    if r < 0 { _ = ckpt_close(Int32(truncatingIfNeeded: socket)); return r }
    guard isOwnUser(Int32(truncatingIfNeeded: socket)) else { refuse(.systemCall) { $0.put("the template is another user's; make one of your own with ckptctl warm") } }
    return socket
}

/// Comes back only where there is no template: then the restart reads the file.
func branchOff(_ stack: InitialStack, _ superblock: ckpt_superblock) {
    let s = state
    if s.pointee.pids == ENGINE_PIDS_AUTO.rawValue { s.pointee.pids = ENGINE_PIDS_NS.rawValue }
    guard s.pointee.pids == ENGINE_PIDS_NS.rawValue else { refuse(.usage) { $0.put("--warm: a branch has its pids in a namespace of its own; leave --pids out") } }
    nameTemplate(stack, superblock)
    let r = connectToTemplate()
    guard r >= 0 else {
        var l = Line()
        l.put(text: engine_program()); l.put(": restart: --warm: no template of it is in memory, so the file is read; make one with: ckptctl warm "); l.put(text: engine_program()); l.put("\n")
        l.write(to: Descriptor(2))
        return
    }
    let connection = Int32(truncatingIfNeeded: r)
    ask(connection)
    standFor(connection)
}

private func ask(_ connection: Int32) {
    let q = engine_request(), s = state
    q.pointee = ckpt_warm_request()
    q.pointee.magic = UInt32(CKPT_WARM_MAGIC); q.pointee.kind = UInt32(CKPT_WARM_BRANCH)
    for k in 0..<16 { engine_request_id()[k] = engine_template_id()[k] }
    q.pointee.files = s.pointee.files; q.pointee.ignore_cpu = s.pointee.ignore_cpu; q.pointee.ignore_clock = s.pointee.ignore_clock
    q.pointee.timing = s.pointee.timing; q.pointee.tcp = s.pointee.tcp; q.pointee.ipc = s.pointee.ipc
    q.pointee.relocations = relocationsChecksum()
    q.pointee.capabilities = effectiveCapabilities()
    noteNamespaces(engine_request_namespaces())
    _ = copyText(Text(engine_program()), to: engine_request_program(), capacity: 64)
    var streams = InlineArray<3, Int32>(repeating: -1), count = 0
    for k: Int32 in 0..<3 where system(CKPT_SYS_fcntl, Int(k), 1) >= 0 { streams[count] = k; count += 1; q.pointee.streams |= 1 << UInt32(k) }
    let r = streams.span.withUnsafeBufferPointer { send(connection, q, MemoryLayout<ckpt_warm_request>.size, $0.baseAddress!, count) }
    guard r > 0 else { refuse(r) { $0.put("--warm: the template cannot be asked") } }
}

/// All --relocate of this restart: what a template maps was looked for under its own.
func relocationsChecksum() -> UInt32 { ckpt_crc32c_hw(0, engine_relocation_text(0), Int(state.pointee.relocation_used)) }

/// The template answers with a branch's engine, later with how that ended.
private func standFor(_ connection: Int32) -> Never {
    var engine: Int32 = -1
    _ = system(CKPT_SYS_fcntl, Int(connection), 8, Int(ckpt_getpid()))      // F_SETOWN: SIGIO when something comes
    _ = system(CKPT_SYS_fcntl, Int(connection), 4, 0o24000 | 2)             // O_ASYNC, O_NONBLOCK
    while true {
        readReplies(connection, &engine)
        var all = UInt64.max, info = ckpt_siginfo()
        let signal = Int32(truncatingIfNeeded: system(CKPT_SYS_rt_sigtimedwait, int(&all), int(&info), 0, 8))
        if signal <= 0 || signal == sigio || signal == sigchld || signal == CKPT_SIGCKPT { continue }
        if engine >= 0 { _ = system(CKPT_SYS_pidfd_send_signal, Int(engine), Int(signal), 0, 0) }
        else if ends(signal) { refuse(.temporary) { $0.put("interrupted by a signal; nothing was restarted") } }
    }
}
/// HUP, INT, QUIT, TERM: nobody waits for a template that does not answer.
private func ends(_ signal: Int32) -> Bool { signal == 1 || signal == 2 || signal == 3 || signal == 15 }
private func readReplies(_ connection: Int32, _ engine: inout Int32) {
    let a = engine_reply()
    while true {
        var fd: Int32 = -1
        let r = receive(connection, a, MemoryLayout<ckpt_warm_reply>.size, &fd, 1)
        if r.size == -11 { return }
        guard r.size == MemoryLayout<ckpt_warm_reply>.size, a.pointee.magic == UInt32(CKPT_WARM_MAGIC) else {
            if engine < 0 { refuse(.temporary) { $0.put("--warm: the template has ended; make another with ckptctl warm, or restart it without --warm") } }
            ckpt_exit_group(Exit.internalError.rawValue)        // the branch goes on, and nobody learns how it ends
        }
        switch Int(a.pointee.kind) {
        case CKPT_WARM_STARTED: engine = fd; dropStreams()
        case CKPT_WARM_REFUSED: refuse(Exit(rawValue: a.pointee.code) ?? .internalError) { l in l.put("--warm: "); l.put(text: Text(engine_reply_text())) }
        default: exitAs(a.pointee.wait)
        }
    }
}

/// The branch has them: nobody may wait for us to close them.
private func dropStreams() {
    let null = ckpt_open(StaticString("/dev/null").cString, 0o2000002, 0)
    if null >= 0 { for n in 0..<3 { _ = system(CKPT_SYS_dup2, null, n) } }
}
