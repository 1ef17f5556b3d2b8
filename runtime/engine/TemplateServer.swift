// Runs in a template's server, on the region's main stack, and in the branches that it forks; no allocation, no libc.
// Listens: lists, drops, and forks a branch's engine for whoever executes the file with --warm and may have one; tells it how the branch ended.
import CkptABI
import EngineBoot
import Freestanding

private let sigkill = 9, sigterm: UInt32 = 15

func serveBranches() -> Never {
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

@discardableResult
private func reply(_ kind: Int, to connection: Int32, _ numbers: UnsafePointer<Int32>? = nil, _ count: Int = 0) -> Int {
    let a = engine_reply(), t = engine_template()
    a.pointee.magic = UInt32(CKPT_WARM_MAGIC); a.pointee.kind = UInt32(kind)
    a.pointee.pid = ckpt_getpid(); a.pointee.keeper = t.pointee.keeper_pid
    a.pointee.served = t.pointee.served; a.pointee.living = t.pointee.living
    a.pointee.memory = t.pointee.held; a.pointee.since = t.pointee.since
    _ = copyText(Text(engine_template_file()), to: engine_reply_file(), capacity: 4096)
    return send(connection, a, MemoryLayout<ckpt_warm_reply>.size, numbers, count)
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
    guard r >= 0 else { pauseBriefly(); return }        // no descriptor is free: they wait until a branch has ended
    let connection = Int32(truncatingIfNeeded: r), q = engine_request()
    var streams = InlineArray<3, Int32>(repeating: -1)
    setPatience(connection, seconds: 1)         // who connects asks at once
    let got = withUnsafeMutableBytes(of: &streams) { receive(connection, q, MemoryLayout<ckpt_warm_request>.size, $0.baseAddress!.assumingMemoryBound(to: Int32.self), 3) }
    var isKept = false
    if got.size == MemoryLayout<ckpt_warm_request>.size && q.pointee.magic == UInt32(CKPT_WARM_MAGIC) {
        if !isOwnUser(connection) { refuseAsker(connection, .systemCall, "the template is another user's; make one of your own with ckptctl warm") }
        else {
            switch Int(q.pointee.kind) {
            case CKPT_WARM_BRANCH where got.count != q.pointee.streams.nonzeroBitCount:
                refuseAsker(connection, .temporary, "the template has no descriptors for another branch; try again when one has ended, or make it with a higher limit on open files (ulimit -Hn)")
            case CKPT_WARM_BRANCH: for k in 0..<3 { engine_template_streams()[k] = streams[k] }; isKept = branch(connection)
            case CKPT_WARM_DROP: dropTemplate(); reply(CKPT_WARM_STATUS, to: connection)
            default: reply(CKPT_WARM_STATUS, to: connection)
            }
        }
    }
    for k in 0..<3 where streams[k] >= 0 { _ = ckpt_close(streams[k]) }
    if !isKept { _ = ckpt_close(connection) }
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
    guard reply(CKPT_WARM_STARTED, to: connection, &engine, 1) > 0 else { ckpt_exit_group(Exit.temporary.rawValue) }       // who asked has gone
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
