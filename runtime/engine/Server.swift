// Runs in the server of a lazy restart, on its own stacks; no allocation, no libc.
// Its first task answers faults and follows events; loaders, one per core, read ahead what nobody has touched.  A keeper shares its memory and
// descriptors: should the server end too early, missing memory must raise SIGBUS and never be zeros.  Whoever shares memory may be ended together
// (the kernel does that when memory runs out): a guard, which shares only the descriptors, is then still there.
import CkptABI
import EngineBoot
import Freestanding

private let pollIn: UInt64 = 1
private let messageCount = 64

/// In the server, to the end.
func serve() -> Never {
    let s = state
    makeSpaces()
    s.pointee.lazy_rooms = (reserve(UInt64(s.pointee.fillers + 1) * roomSize + (2 << 20)) + (2 << 20) - 1) & ~((2 << 20) - 1)
    s.pointee.lazy_polls = reserve(8 * 65540)
    startKeeper()
    startGuard()
    // From here on nobody sees zeros should we end: the engine waits for this before it makes the tree.
    var ready: UInt8 = 1
    _ = ckpt_write(s.pointee.lazy_server_socket, &ready, 1)
    readWorkingSet()
    var growing = true, polled = 0, loaders: UInt32 = 0
    while true {
        polled = waitForSomething(growing)
        if growing && !acceptSpaces() {
            growing = false
            while loaders < s.pointee.fillers && startLoader(loaders) { loaders += 1 }
        }
        if hasSomething(1) { startKeeper() }
        var quiet = true
        for k in 0..<polled where hasSomething(2 + k) { if readEvents(k, serveFaults: true) { quiet = false } }
        forgetDead()
        if quiet && !growing {
            if loaders == 0 { loadAhead(s.pointee.fillers) }
            if isComplete() { finishLoading() }
        }
    }
}

private var polls: UnsafeMutablePointer<UInt64> { UnsafeMutableRawPointer(bitPattern: UInt(state.pointee.lazy_polls))!.assumingMemoryBound(to: UInt64.self) }
private func pollFor(_ fd: Int32) -> UInt64 { UInt64(UInt32(bitPattern: fd)) | pollIn << 32 }
private func hasSomething(_ k: Int) -> Bool { polls[k] >> 48 != 0 }

/// Until something comes, or a few milliseconds have passed; how many spaces were looked at.
private func waitForSomething(_ growing: Bool) -> Int {
    let n = spaces.count
    polls[0] = pollFor(growing ? state.pointee.lazy_server_socket : -1)
    polls[1] = pollFor(board.pointee.lazy_keeper)
    for k in 0..<n { polls[2 + k] = pollFor(ckpt_load(&spaces[k].pointee.live) != 0 ? spaces[k].pointee.fd : -1) }
    _ = system(CKPT_SYS_poll, int(polls), 2 + n, growing ? 100 : 5)
    return n
}
private func forgetDead() {
    for k in 0..<spaces.count where ckpt_load(&spaces[k].pointee.live) == 0 && spaces[k].pointee.fd >= 0 {
        lockForEvents()
        forget(spaces[k])
        unlockAfterEvents()
    }
}

/// Takes what processes have sent; false when none will send any more: the tree is complete, or has failed.
private func acceptSpaces() -> Bool {
    while true {
        var record: UInt32 = 0, control = ckpt_cmsg_fd()
        var part = ckpt_iovec(base: UInt64(UInt(bitPattern: int(&record))), length: 4)
        var m = ckpt_msghdr()
        m.iov = UInt64(UInt(bitPattern: int(&part))); m.iovlen = 1
        m.control = UInt64(UInt(bitPattern: int(&control))); m.controllen = 24
        let r = system(CKPT_SYS_recvmsg, Int(state.pointee.lazy_server_socket), int(&m), 0x40000040)     // CMSG_CLOEXEC, DONTWAIT
        if r == 0 { return false }
        guard r == 4, m.controllen >= 20, record < processes.count else { return true }
        addSpace(Int(record), lift(control.fd, "userfaultfd"))
    }
}

/// Reads what a space has to say; false: nothing.  Events first: what a fault gets depends on them.
func readEvents(_ k: Int, serveFaults: Bool) -> Bool {
    var list = InlineArray<64, ckpt_uffd_msg>(repeating: ckpt_uffd_msg())
    let fd = spaces[k].pointee.fd
    lockForEvents()
    let n = withUnsafeMutableBytes(of: &list) { ckpt_read(fd, $0.baseAddress!, messageCount * 32) }
    var i = 0
    while n > 0 && i < n / 32 { apply(list[i], to: k); i += 1 }
    unlockAfterEvents()
    i = 0
    while serveFaults && n > 0 && i < n / 32 { if UInt32(list[i].event) == CKPT_UFFD_FAULT.rawValue { serveFault(spaces[k], list[i].b & ~4095) }; i += 1 }
    return n > 0
}

/// A stack, a chunk of runs, where frames are taken apart; from 4 MiB on a run's pages.
private let roomSize: UInt64 = 6 << 20
private func room(_ k: UInt32) -> UInt64 { state.pointee.lazy_rooms + UInt64(k) * roomSize }

private func serveFault(_ s: Space, _ address: UInt64) {
    let from = origin(s, address)
    var end = from.end
    if let source = from.source {
        let k = runAtOrAfter(s, source)
        if k < runs(s).count {
            let run = runs(s)[k].pointee
            if run.address > source { end = min(end, address + (run.address - source)) } else {
                let given = pagesThatWereThere(s, k, source)
                if given == 0 {
                    noteFault(s, run.address)
                    load(s, k, room(state.pointee.fillers), once: true)
                    return wake(s, address)
                }
                end = min(end, address + given * 4096)
            }
        }
    }
    putZeros(s, address, end)
    wake(s, address)
}

/// Whoever waits there looks again: perhaps it has come by another way, or an event came in between.
private func wake(_ s: Space, _ address: UInt64) {
    var r = ckpt_uffdio_range(start: address, size: 4096)
    _ = system(CKPT_SYS_ioctl, Int(s.pointee.fd), Int(CKPT_UFFDIO_WAKE), int(&r))
}

/// Some pages at once: who touches one mostly touches the next.
private func putZeros(_ s: Space, _ address: UInt64, _ end: UInt64) {
    var z = ckpt_uffdio_zeropage(start: address, size: min(end - address, 16 * 4096), mode: 0, done: 0)
    lockShared()
    var r = system(CKPT_SYS_ioctl, Int(s.pointee.fd), Int(CKPT_UFFDIO_ZEROPAGE), int(&z))
    if r < 0 && z.done <= 0 && z.size > 4096 {
        z.size = 4096; z.done = 0
        r = system(CKPT_SYS_ioctl, Int(s.pointee.fd), Int(CKPT_UFFDIO_ZEROPAGE), int(&z))
    }
    unlockShared()
    if r == -3 { ckpt_store(&s.pointee.live, 0) }
}

/// Reads a run and puts it where it belongs.  `once`: not again when an event has to be read first.
private func load(_ s: Space, _ k: Int, _ room: UInt64, once: Bool) {
    let run = runs(s)[k].pointee, pages = room + (4 << 20)
    readRun(run, to: pages, frames: room + 2 * 65536)
    while ckpt_load(&s.pointee.live) != 0 {
        lockShared()
        let r = install(s, k, pages)
        unlockShared()
        switch r {
        case 0: return
        case -3: ckpt_store(&s.pointee.live, 0)
        case -11:
            if once { return }
            var t = ckpt_timespec(sec: 0, nsec: 50_000)
            _ = system(CKPT_SYS_nanosleep, int(&t), 0)
        default: refuse(r) { $0.put("--lazy: memory cannot be loaded") }
        }
    }
}

/// A task that shares everything with the server.  The tree has its numbers by now.
private func startLoader(_ k: UInt32) -> Bool {
    var a = ckpt_clone_args()
    a.flags = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000
    a.stack = room(k); a.stack_size = 65536
    return ckpt_clone3(&a, loaderEntry, UInt64(k)) > 0
}
private let loaderEntry: @convention(c) (UInt64) -> Void = { k in
    while ckpt_load(&board.pointee.lazy_done) == 0 {
        if !loadAhead(UInt32(k)) {
            var t = ckpt_timespec(sec: 0, nsec: 1_000_000)
            _ = system(CKPT_SYS_nanosleep, int(&t), 0)
        }
    }
    ckpt_exit_thread(0)
}

/// Loads what nobody else has taken; false: there is nothing more for the moment.
@discardableResult private func loadAhead(_ k: UInt32) -> Bool {
    if loadWorkingSet(room(k)) { return true }
    for n in 0..<spaces.count where ckpt_load(&spaces[n].pointee.live) != 0 {
        let s = spaces[n]
        while ckpt_load64(&s.pointee.next) < s.pointee.run_count, ckpt_load(&s.pointee.live) != 0 {
            let r = ckpt_add64(&s.pointee.next, 1)
            guard r < s.pointee.run_count else { break }
            if !wasDone(s, Int(r)) { load(s, Int(r), room(k), once: false) }
            _ = ckpt_add64(&s.pointee.finished, 1)
            return true
        }
    }
    return false
}
func loadRun(_ s: Space, at address: UInt64, _ room: UInt64) {
    let k = runAtOrAfter(s, address)
    if k < runs(s).count && runs(s)[k].pointee.address == address && !wasDone(s, k) { load(s, k, room, once: false) }
}

private func isComplete() -> Bool {
    for k in 0..<spaces.count where ckpt_load(&spaces[k].pointee.live) != 0 && ckpt_load64(&spaces[k].pointee.finished) < spaces[k].pointee.run_count { return false }
    return true
}

/// All is there: what the tree maps is ordinary memory again, and may be checkpointed.
private func finishLoading() -> Never {
    ckpt_store(&board.pointee.lazy_done, 1)
    lockForEvents()
    for k in 0..<spaces.count where spaces[k].pointee.fd >= 0 { _ = ckpt_close(spaces[k].pointee.fd) }
    ckpt_store(&session.pointee.loading, 0)
    writeWorkingSet()
    ckpt_exit_group(0)
}

private func startKeeper() {
    let s = state
    if board.pointee.lazy_keeper > 0 { _ = ckpt_close(board.pointee.lazy_keeper) } else { s.pointee.lazy_self = lift(Int32(truncatingIfNeeded: system(CKPT_SYS_pidfd_open, Int(ckpt_getpid()), 0)), "pidfd") }
    let stack = reserve(65536)
    // CLONE_VM | FS | FILES | PARENT: the engine takes it away.
    let r = forkWithSpareNumber(flags: 0x100 | 0x200 | 0x400 | 0x8000, stack: stack, size: 65536, serverKeeperEntry)
    guard r > 0 else { refuse(r) { $0.put("--lazy: the server's keeper cannot be started") } }
    board.pointee.lazy_keeper = lift(Int32(truncatingIfNeeded: system(CKPT_SYS_pidfd_open, r, 0)), "pidfd")
}

private let serverKeeperEntry: @convention(c) (UInt64) -> Void = { _ in
    _ = ckpt_prctl(15, int(StaticString("ckpt-keeper").cString), 0, 0, 0)
    if serverEndsEarly() { endTree(); ckpt_store(&board.pointee.lazy_done, 1) }
    ckpt_exit_group(0)
}

private func startGuard() {
    // FILES | PARENT: a copy of the memory.
    let r = forkWithSpareNumber(flags: 0x400 | 0x8000, stack: reserve(65536), size: 65536, serverGuardEntry)
    guard r > 0 else { refuse(r) { $0.put("--lazy: the server's guard cannot be started") } }
}
private let serverGuardEntry: @convention(c) (UInt64) -> Void = { _ in
    _ = ckpt_prctl(15, int(StaticString("ckpt-guard").cString), 0, 0, 0)
    if serverEndsEarly() {
        while !hasEnded(board.pointee.lazy_keeper) {}
        if ckpt_load(&board.pointee.lazy_done) == 0 { endTree() }
    }
    ckpt_exit_group(0)
}

/// Waits for the server's end.
private func serverEndsEarly() -> Bool {
    while !hasEnded(state.pointee.lazy_self) {}
    return ckpt_load(&board.pointee.lazy_done) == 0 && ckpt_load(&board.pointee.stage) != ENGINE_STAGE_ABORT.rawValue
}
private func hasEnded(_ pidfd: Int32) -> Bool {
    var poll = pollFor(pidfd)
    return system(CKPT_SYS_poll, int(&poll), 1, -1) == 1
}

/// The server has ended before all was there.  Descriptors are still open, so nobody has seen zeros; from now on nobody will.
private func endTree() {
    let s = state, receive = 0
    unlockAfterEvents()
    // Nobody can hand over memory any more; what has been is taken.
    _ = system(CKPT_SYS_shutdown, Int(s.pointee.lazy_server_socket), receive)
    _ = acceptSpaces()
    if s.pointee.mode == ENGINE_PIDS_NS.rawValue { if board.pointee.init_pid > 0 { _ = system(CKPT_SYS_kill, Int(board.pointee.init_pid), 9) } }
    else { for n in 0..<Int(s.pointee.node_count) where nodePids[n].pointee > 0 { _ = system(CKPT_SYS_kill, Int(nodePids[n].pointee), 9) } }
    serverSays { $0.put("--lazy: the server ended before all memory was loaded; the tree is ended, restart it again") }
    var k = 0
    // A userfaultfd that is closed shows zeros to whoever still lives: it stays open as long as that, also one that nobody has seen yet.
    repeat {
        for n in 0..<k where ckpt_load(&spaces[n].pointee.live) != 0 { _ = readEvents(n, serveFaults: false) }
        while k < spaces.count { if ckpt_load(&spaces[k].pointee.live) != 0 { poison(k) }; k += 1 }
        var t = ckpt_timespec(sec: 0, nsec: 20_000_000)
        _ = system(CKPT_SYS_nanosleep, int(&t), 0)
    } while someMemoryLives()
}

/// Is there a userfaultfd of a process that has not ended?  It says so whatever address it is asked about.
private func someMemoryLives() -> Bool {
    let notRegistered = -2, changing = -11, there = -17
    var limits = (UInt64(0), UInt64(0))
    _ = system(CKPT_SYS_prlimit64, 0, 7, 0, int(&limits))
    for fd in 3..<Int(min(max(limits.0, 1024), 1 << 20)) {
        var p = ckpt_uffdio_poison(start: 1 << 20, size: 4096, mode: 0, done: 0)
        let r = system(CKPT_SYS_ioctl, fd, Int(CKPT_UFFDIO_POISON), int(&p))
        if r == 0 || r == notRegistered || r == changing || r == there { return true }
    }
    return false
}

/// Every page that has not come raises SIGBUS, in whoever of the tree's children is left.
private func poison(_ k: Int) {
    var n = 0
    while n < extentCount(spaces[k]) {
        let e = extent(spaces[k], n)
        var at = e.start, size = e.end - e.start
        while at < e.end {
            var p = ckpt_uffdio_poison(start: at, size: min(size, e.end - at), mode: 0, done: 0)
            let r = system(CKPT_SYS_ioctl, Int(spaces[k].pointee.fd), Int(CKPT_UFFDIO_POISON), int(&p))
            if p.done > 0 { at += UInt64(p.done); size = e.end - e.start }
            else if r == -3 { return }
            else if r == -11 { _ = readEvents(k, serveFaults: false) }
            else if r == -17 || size <= 4096 { at += 4096; if r == -17 { size = e.end - e.start } }
            else { size = 4096 }
        }
        n += 1
    }
}
