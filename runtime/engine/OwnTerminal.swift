// Runs in the engine, and in the processes that it becomes; on the region's main stack; no allocation, no libc.
// The tree's own terminal, whose master is not in the tree, is the terminal of the restart: its descriptors lead there, the settings that the program
// had made are made there, and a window of another size is announced.
import CkptABI
import EngineBoot
import Freestanding

private let controllingPath = StaticString("/dev/tty")

/// The record of the terminal that the tree was started on.
private func ownTerminal() -> Int? {
    for t in 0..<terminals.count where terminals[t].pointee.state.flags & CKPT_TERMINAL_OUTSIDE.rawValue != 0 { return t }
    return nil
}

private func isTerminal(_ fd: Int32) -> Bool {
    var t = ckpt_termios()
    return fd >= 0 && terminalCall(Int(fd), TerminalCall.getTermios, with: &t) == 0
}

/// A terminal or a pipe to the outside is the restart's own standard stream.  A terminal is opened anew: its O_NONBLOCK is the program's and not the shell's.
func openOutside(_ d: Int) -> Int32 {
    let r = descriptions[d].pointee, wasTerminal = objects[r.object].pointee.mode & 0o170000 == 0o020000
    var from = r.standard >= 0 ? engine_standard(UInt32(r.standard)).pointee : -1
    if r.standard < 0 || (from >= 0 && wasTerminal && isTerminal(from)) {
        if from < 0 { for n: UInt32 in 0..<3 where from < 0 && isTerminal(engine_standard(n).pointee) { from = engine_standard(n).pointee } }
        if let fd = openAnew(from, r.flags) { return fd }
    }
    guard from >= 0 else {
        let r = ckpt_open(StaticString("/dev/null").cString, 0o2000002, 0)
        guard r >= 0 else { refuse(r) { $0.put("/dev/null") } }
        return lift(Int32(truncatingIfNeeded: r), "standard stream")
    }
    let e = system(CKPT_SYS_fcntl, Int(from), 1030, Int(state.pointee.fd_floor))
    guard e >= 0 else { refuse(e) { $0.put("standard stream") } }
    return Int32(truncatingIfNeeded: e)
}

/// By its own name where we may; the controlling terminal may always be opened.
private func openAnew(_ fd: Int32, _ flags: UInt32) -> Int32? {
    let mode = Int32(bitPattern: flags & (3 | 0o2000 | 0o4000)) | 0o2004400
    var r = -2
    if fd >= 0 {
        var l = Line()
        l.put("/proc/self/fd/"); l.put(signed: Int64(fd))
        r = l.withCString { ckpt_open($0, mode, 0) }
    }
    if r < 0 && state.pointee.has_terminal != 0 { r = ckpt_open(controllingPath.cString, mode, 0) }
    if r < 0 { return nil }
    let n = lift(Int32(truncatingIfNeeded: r), "terminal")
    setFlags(n, flags)
    return n
}

// MARK: a session of its own on that terminal

/// When the restart is the first program of its terminal, a session that the tree led on its own takes that terminal over.
func releaseTerminal() {
    let root = processes[tree.pointee.root]
    guard let t = ownTerminal(), root.pointee.terminal == UInt32(t) + 1, root.pointee.sid == root.pointee.pid, state.pointee.has_terminal != 0 else { return }
    let fd = ckpt_open(controllingPath.cString, 0o2000402, 0)
    if fd < 0 { return }
    if Int(ckpt_getpid()) == system(CKPT_SYS_getsid, 0) {
        // /dev/tty would lead nowhere afterwards: the name of the terminal itself is needed.
        for n: UInt32 in 0..<3 where state.pointee.released_terminal < 0 && isTerminal(engine_standard(n).pointee) {
            state.pointee.released_terminal = lift(Int32(truncatingIfNeeded: system(CKPT_SYS_fcntl, Int(engine_standard(n).pointee), 1030, Int(state.pointee.fd_floor))), "terminal")
        }
        if state.pointee.released_terminal >= 0 && terminalCall(fd, TerminalCall.giveUpControl) == 0 { state.pointee.was_foreground = state.pointee.foreground; state.pointee.foreground = 0; dropHangup() }
    } else {
        var l = Line()
        l.put(text: engine_program())
        l.put(": restart: warning: the program led the session of its terminal, and here another does: it has no controlling terminal; restart it as the first program of a terminal (xterm -e, script -c)\n")
        l.write(to: Descriptor(state.pointee.standard.2 >= 0 ? state.pointee.standard.2 : 2))
    }
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
}
/// Who gives up a terminal sends SIGHUP and SIGCONT to its foreground group: to us.
private func dropHangup() {
    var set: UInt64 = 1 << 0 | 1 << 17, zero = ckpt_timespec(sec: 0, nsec: 0)
    while system(CKPT_SYS_rt_sigtimedwait, int(&set), 0, int(&zero), 8) > 0 {}
}

/// In the session leader of the tree.
func takeReleasedTerminal() {
    if state.pointee.released_terminal >= 0 { terminalCall(Int(state.pointee.released_terminal), TerminalCall.control, 0) }
}

// MARK: foreground, settings, size

/// The group of the tree that had the terminal has it again; else the main process's own, as it was its shell's job.
func takeTerminal(_ i: Int, _ n: Int) {
    let s = state
    guard UInt32(i) == tree.pointee.root else { return }
    var group: Int32 = 0
    if let t = ownTerminal() { group = terminals[t].pointee.foreground }
    if s.pointee.released_terminal >= 0 && nodes[n].pointee.leadsSession {
        if group > 0 { setForeground(Int(s.pointee.released_terminal), group) }
        return
    }
    guard s.pointee.foreground != 0, nodes[n].pointee.sid == 0, group != tree.pointee.outer_pgid || group == 0 else { return }
    if group == 0 { if nodes[n].pointee.pgid != nodes[n].pointee.pid { return }; group = nodes[n].pointee.pid }
    let fd = ckpt_open(controllingPath.cString, 0o2000402, 0)
    guard fd >= 0 else { return }
    setForeground(fd, group)
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
}

/// In the engine, before the tree runs.
func adoptTerminal() {
    guard let t = ownTerminal() else { return }
    let fd = openRestartsTerminal()
    guard fd >= 0 else { return }
    if state.pointee.foreground != 0 || state.pointee.was_foreground != 0 { setTermios(t, fd) }
    var size = ckpt_winsize()
    let was = terminals[t].pointee.state.size
    if was.rows != 0, terminalCall(fd, TerminalCall.getSize, with: &size) == 0,
       size.rows != was.rows || size.columns != was.columns || size.width != was.width || size.height != was.height { announceSize() }
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
}
private func openRestartsTerminal() -> Int {
    if state.pointee.released_terminal >= 0 { return system(CKPT_SYS_fcntl, Int(state.pointee.released_terminal), 1030, Int(state.pointee.fd_floor)) }
    return ckpt_open(controllingPath.cString, 0o2000402, 0)
}

/// Settings that the tree had made as the foreground job; those of a shell that was waiting for input are not ours to bring along.
private func setTermios(_ t: Int, _ fd: Int) {
    state.pointee.terminal_adopted = 1
    if terminals[t].pointee.state.flags & CKPT_TERMINAL_FOREGROUND.rawValue != 0 && terminals[t].pointee.path != 0 {
        terminalCall(fd, TerminalCall.setTermios, with: &terminals[t].pointee.state.termios)
    }
}
/// A restart that began in the background has come to the foreground.
func adoptTerminalLate() {
    guard state.pointee.terminal_adopted == 0, let t = ownTerminal() else { return }
    let fd = openRestartsTerminal()
    if fd < 0 { return }
    setTermios(t, fd)
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
}

/// SIGWINCH to the foreground group, or to the main process alone while that is ours or another's.
private func announceSize() {
    let s = state, group = s.pointee.foreground != 0 ? terminalGroup() : 0, windowChange = 28
    if group > 0 && group != s.pointee.engine_group { _ = system(CKPT_SYS_kill, Int(-group), windowChange); return }
    let main = s.pointee.init_pid > 0 ? s.pointee.init_pid : nodePids[Int(tree.pointee.root)].pointee
    if main > 0 { _ = system(CKPT_SYS_kill, Int(main), windowChange) }
}
