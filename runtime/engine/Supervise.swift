// Runs in the engine, and in the init process of its namespace, when the tree has been released; on the region's main stack.
// The shell sees the restart as the program: signals go to the main process, its stops and its exit are ours.
import CkptABI
import EngineBoot
import Freestanding

let sigchld: Int32 = 17
private let sigkill = 9, sigcont: Int32 = 18, sigstop = 19, sigio: Int32 = 29

/// What this process supervises: in the engine's own pid numbers, 0 when the main process is behind an init process.
private struct Supervised { var main: Int32, group: Int32, sameGroup: Bool }

private func mainNode() -> Int { Int(tree.pointee.root) }

/// Is the engine's process group the terminal's foreground group?
func noteForeground() {
    state.pointee.engine_group = Int32(truncatingIfNeeded: system(CKPT_SYS_getpgid, 0))
    let fd = ckpt_open(StaticString("/dev/tty").cString, 0o2000002, 0)
    guard fd >= 0 else { return }
    state.pointee.has_terminal = 1
    var group: Int32 = 0
    if system(CKPT_SYS_ioctl, fd, 0x540f, int(&group)) == 0 && group == state.pointee.engine_group { state.pointee.foreground = 1 }
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
}

/// SIGTTOU is blocked: a background process may do this.
private func giveTerminal(to group: Int32) {
    let fd = ckpt_open(StaticString("/dev/tty").cString, 0o2000002, 0)
    guard fd >= 0 else { return }
    var group = group
    _ = system(CKPT_SYS_ioctl, fd, 0x5410, int(&group))
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
}

/// The group that has the terminal now, in our numbers.
func terminalGroup() -> Int32 {
    let fd = ckpt_open(StaticString("/dev/tty").cString, 0o2000002, 0)
    guard fd >= 0 else { return 0 }
    var group: Int32 = 0
    _ = system(CKPT_SYS_ioctl, fd, 0x540f, int(&group))
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
    return group
}

/// Holds nothing open that the outside or the tree waits for; only the statefile, locked (ckptctl doesn't turn it over meanwhile), and the reports.
private func dropDescriptors() {
    let null = ckpt_open(StaticString("/dev/null").cString, 0o2000002, 0)
    if null >= 0 { for n in 0..<3 { _ = system(CKPT_SYS_dup2, null, n) } }
    var kept = InlineArray<24, Int32>(repeating: -1)
    kept[0] = keptStatefile; kept[1] = state.pointee.report
    closeAll(but: kept)
}

/// Just before the release: an end of file must come when the last holder in the tree closes, not when we do.
func dropTreeDescriptors() {
    let s = state
    var kept = InlineArray<24, Int32>(repeating: -1)
    kept[0] = keptStatefile; kept[1] = s.pointee.report; kept[2] = s.pointee.report_writer; kept[3] = s.pointee.released_terminal
    for i: UInt32 in 0..<3 { kept[4 + Int(i)] = engine_standard(i).pointee }
    closeAll(but: kept)
}
/// Memory that a stream was read into is given back: the tree has taken what it needs.
private var keptStatefile: Int32 { state.pointee.streamed != 0 && state.pointee.lazy == 0 ? -1 : state.pointee.statefile }
func closeAll(from first: Int32 = 3, but kept: InlineArray<24, Int32>) {
    var from = first
    while true {
        var next = Int32.max
        for k in 0..<24 where kept[k] >= from && kept[k] < next { next = kept[k] }
        if next > from { _ = system(CKPT_SYS_close_range, Int(from), Int(next == Int32.max ? next : next - 1), 0) }
        if next == Int32.max { return }
        from = next + 1
    }
}

/// The engine has no part in the barrier any more.  (Nor has an init process, which removes the segment in the end, and keeps it until then.)
func leaveSession() { _ = ckpt_munmap(state.pointee.segment, segmentMapping) }

private func nextSignal(_ info: inout ckpt_siginfo) -> Int32 {
    var all = UInt64.max
    return Int32(truncatingIfNeeded: system(CKPT_SYS_rt_sigtimedwait, int(&all), int(&info), 0, 8))
}

/// Should a signal that the engine got go on to the main process?  The terminal has sent its own to the whole group already.
private func isForwarded(_ info: ckpt_siginfo, _ s: Supervised) -> Bool {
    if info.si_signo == sigchld || info.si_signo == CKPT_SIGCKPT { return false }
    return info.si_code <= 0 || !s.sameGroup
}

/// In the engine, to the end.
func supervise() -> Never {
    let s = state, isOutside = s.pointee.init_pid > 0
    let n = nodes[mainNode()].pointee
    var it = Supervised(main: 0, group: 0, sameGroup: n.pgid == 0)
    if !isOutside { it.main = nodePids[mainNode()].pointee; it.group = n.pgid == 0 ? 0 : pidNow(n.pgid) }
    else if s.pointee.init_node == Int32(mainNode()) { it.main = s.pointee.init_pid }
    dropDescriptors()
    while true {
        var info = ckpt_siginfo()
        let signal = nextSignal(&info)
        if signal < 0 { continue }
        if isOutside && signal == sigio { readReports(it); continue }
        if signal == sigchld { reap(it); continue }
        if signal == sigcont { resume(it); continue }
        if isForwarded(info, it) { _ = system(CKPT_SYS_kill, Int(isOutside ? s.pointee.init_pid : it.main), Int(signal)) }
    }
}

private func reap(_ it: Supervised) {
    while true {
        var wait: Int32 = 0
        // WNOHANG, WUNTRACED
        let pid = system(CKPT_SYS_wait4, -1, int(&wait), 1 | 2, 0)
        if pid <= 0 { return }
        if it.main != 0 && Int32(pid) == it.main { follow(wait, it) }
        else if Int32(pid) == state.pointee.init_pid && wait & 0xff != 0x7f {
            readReports(it)
            end(with: wait)
        }
    }
}

/// ns: the init process writes a wait status for each change of the main process.
private func readReports(_ it: Supervised) {
    var wait: Int32 = 0
    while ckpt_read(state.pointee.report, &wait, 4) == 4 { follow(wait, it) }
}

private func follow(_ wait: Int32, _ it: Supervised) {
    if wait & 0xff != 0x7f { end(with: wait) }
    let signal = (wait >> 8) & 0xff
    // TSTP, TTIN, TTOU: the shell stops its job.  A SIGSTOP was meant for that process alone.
    guard signal >= 20 && signal <= 22 else { return }
    // A shell that brings a running job to the foreground tells nobody: the program has just asked for the terminal that is ours now.
    if signal > 20 && !it.sameGroup && state.pointee.has_terminal != 0 && terminalGroup() == state.pointee.engine_group { resume(it); return }
    if state.pointee.foreground != 0 { state.pointee.main_group = terminalGroup(); state.pointee.foreground = 0 }
    _ = system(CKPT_SYS_kill, Int(ckpt_getpid()), sigstop)
}

/// The shell has continued its job: the main process's group goes on, in the foreground if we are.
private func resume(_ it: Supervised) {
    let s = state
    if !it.sameGroup && s.pointee.has_terminal != 0 && terminalGroup() == s.pointee.engine_group { comeToForeground(it) }
    if s.pointee.init_pid > 0 { _ = system(CKPT_SYS_kill, Int(s.pointee.init_pid), Int(sigcont)) }
    else { _ = system(CKPT_SYS_kill, Int(it.group > 0 ? -it.group : it.main), Int(sigcont)) }
}
/// The group that had the terminal when the job was stopped; of a job that has not had it yet, the main process's.
private func comeToForeground(_ it: Supervised) {
    let s = state
    adoptTerminalLate()
    s.pointee.foreground = 1
    if s.pointee.main_group > 0 { giveTerminal(to: s.pointee.main_group) }
    else if it.group > 0 { giveTerminal(to: it.group) }
    else { ckpt_store(&board.pointee.terminal_wanted, 1) }      // only the init process knows its number
}

/// Ends as the main process did.
private func end(with wait: Int32) -> Never {
    if state.pointee.foreground != 0 && nodes[mainNode()].pointee.pgid != 0 { giveTerminal(to: state.pointee.engine_group) }
    let signal = wait & 0x7f
    if signal != 0 {
        var least = ckpt_rlimit(soft: 1, hard: 1), action = ckpt_sigaction(), unblocked: UInt64 = 0
        _ = system(CKPT_SYS_prlimit64, 0, 4, int(&least), 0)
        _ = ckpt_rt_sigaction(signal, &action, nil)
        _ = system(CKPT_SYS_kill, Int(ckpt_getpid()), Int(signal))
        _ = ckpt_rt_sigprocmask(2, &unblocked, nil)
        ckpt_exit_group(128 + signal)
    }
    ckpt_exit_group((wait >> 8) & 0xff)
}

/// In the init process of a namespace: reaps, forwards, reports; leaves when it has no child any more, and the session no member.
func superviseAsInit() -> Never {
    waitFor(ENGINE_STAGE_RELEASED)
    _ = ckpt_prctl(1, 0, 0, 0, 0)
    dropDescriptors()
    let main = nodePids[mainNode()].pointee, group = nodes[mainNode()].pointee.pgid
    while true {
        reapAsInit(main)
        var info = ckpt_siginfo()
        let signal = nextSignal(&info)
        if signal <= 0 || signal == sigchld { continue }
        if signal == sigcont && group > 0 && ckpt_load(&board.pointee.terminal_wanted) != 0 { ckpt_store(&board.pointee.terminal_wanted, 0); giveTerminal(to: pidNow(group)) }
        _ = system(CKPT_SYS_kill, Int(signal == sigcont && group > 0 ? -pidNow(group) : main), Int(signal))
    }
}
private func reapAsInit(_ main: Int32) {
    while true {
        var wait: Int32 = 0
        let pid = system(CKPT_SYS_wait4, -1, int(&wait), 1 | 2, 0)
        if pid == -10 { removeSegment(); ckpt_exit_group(0) }
        if pid <= 0 { return }
        if Int32(pid) == main { _ = ckpt_write(state.pointee.report, &wait, 4) }
    }
}

/// In the engine: the restart has failed.  Everything made so far ends; then the reason is told, or the next way tried.
func endFailed() -> Never {
    let s = state
    killTree()
    removeSystemV()
    if s.pointee.segment != 0 && s.pointee.segment_made != 0 { ckpt_store(ckpt_phase_word(session), phaseWord(CKPT_PHASE_END)); _ = ckpt_futex_wake(ckpt_phase_word(session), Int32.max) }
    var patience = 0
    while ckpt_load(&board.pointee.failure) == 1 && patience < 100 { patience += 1; pauseBriefly() }
    if board.pointee.pid_taken != 0 && s.pointee.pids == ENGINE_PIDS_AUTO.rawValue && s.pointee.mode == ENGINE_PIDS_KEEP.rawValue { attempt(ENGINE_PIDS_NS) }
    if s.pointee.foreground != 0 { giveTerminal(to: s.pointee.engine_group) }
    removeSegment()
    let fd = s.pointee.standard.2 >= 0 ? s.pointee.standard.2 : 2
    if ckpt_load(&board.pointee.failure) == 2 {
        _ = ckpt_write(fd, engine_board_text(board), min(Int(board.pointee.text_length), 1024))
        ckpt_exit_group(board.pointee.exit_code)
    }
    let message: StaticString = "restart: the tree ended before it was complete; try again\n"
    _ = ckpt_write(fd, message.utf8Start, message.utf8CodeUnitCount)
    ckpt_exit_group(Exit.internalError.rawValue)
}
func pauseBriefly() {
    var t = ckpt_timespec(sec: 0, nsec: 10_000_000)
    _ = system(CKPT_SYS_nanosleep, int(&t), 0)
}
