// Runs in the leader of a process that has the masters of pseudo-terminals, parked in the SIGCKPT handler, every signal blocked.
// What is unread in a terminal has no passive reader: it is taken into the arena and put back.  Between the two every task of the tree is parked,
// so nobody can see the empty terminal; an abort in between puts everything back all the same.
import CkptABI
import PreloadBoot
import Freestanding

func takeTerminals(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>) {
    forEachTerminal(session, process) { q in
        if look(q) { take(q) }
    }
}

/// Does nothing the second time.
func putBackTerminals(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>) {
    forEachTerminal(session, process) { q in
        if q.pointee.step != CKPT_TERMINAL_TAKEN.rawValue { return }
        q.pointee.step = CKPT_TERMINAL_PUT_BACK.rawValue
        let slave = openSlave(q)
        if slave < 0 || !terminal(q, slave).fill() {
            q.pointee.failure = CKPT_TERMINAL_STUCK.rawValue
            ckpt_fail(session, CKPT_ERROR_TERMINAL.rawValue, slave < 0 ? Int32(truncatingIfNeeded: slave) : 0, UInt64(q.pointee.state.index))
        }
        closeSlave(q, slave)
        setFlags(q.pointee.master, Int(q.pointee.master_flags))
    }
}

private func forEachTerminal(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>, _ body: (UnsafeMutablePointer<ckpt_terminal_query>) -> Void) {
    if process.pointee.terminals_count == 0 { return }
    let queries = ckpt_arena(session, process.pointee.terminals_offset).assumingMemoryBound(to: ckpt_terminal_query.self)
    var i = 0
    while i < Int(process.pointee.terminals_count) { body(queries + i); i += 1 }
}

private func terminal(_ q: UnsafeMutablePointer<ckpt_terminal_query>, _ slave: Int) -> Terminal {
    Terminal(master: Int(q.pointee.master), slave: slave, state: withUnsafeMutablePointer(to: &q.pointee.state) { $0 },
             output: ckpt_query_output(q), input: ckpt_query_input(q), late: ckpt_query_late(q))
}

private func isSet(_ fd: Int, _ request: Int) -> Bool {
    var value: Int32 = 0
    return terminalCall(fd, request, with: &value) == 0 && value != 0
}

/// What the master shows without a change.  false: there is nothing to take, or it can't be.
private func look(_ q: UnsafeMutablePointer<ckpt_terminal_query>) -> Bool {
    let master = Int(q.pointee.master), input: Int16 = 1, priority: Int16 = 2, hangup: Int16 = 16
    var locked = ckpt_termios()
    terminalCall(master, TerminalCall.number, with: &q.pointee.state.index)
    terminalCall(master, TerminalCall.getTermios, with: &q.pointee.state.termios)
    terminalCall(master, TerminalCall.getSize, with: &q.pointee.state.size)
    if isSet(master, TerminalCall.getLock) { q.pointee.state.flags |= CKPT_TERMINAL_LOCKED.rawValue }
    if isSet(master, TerminalCall.getPacket) { q.pointee.state.flags |= CKPT_TERMINAL_PACKET.rawValue }
    if isSet(master, TerminalCall.isExclusive) { q.pointee.state.flags |= CKPT_TERMINAL_EXCLUSIVE_MASTER.rawValue }
    terminalCall(master, TerminalCall.getLockedTermios, with: &locked)
    if locked.input | locked.output | locked.control | locked.local != 0 { q.pointee.failure = CKPT_TERMINAL_KEPT_LOCKS.rawValue; return false }
    let events = ready(master, input | priority)
    if events & hangup != 0 { q.pointee.state.flags |= CKPT_TERMINAL_CLOSED.rawValue; return true }
    if q.pointee.state.flags & CKPT_TERMINAL_SLAVE_KNOWN.rawValue != 0 { return true }
    // To open a slave that has never been open, and to close it again, would be seen by the master.
    q.pointee.state.flags |= CKPT_TERMINAL_UNOPENED.rawValue
    if events & (input | priority) != 0 { q.pointee.failure = CKPT_TERMINAL_OUTPUT_UNREACHED.rawValue }
    return false
}

private func take(_ q: UnsafeMutablePointer<ckpt_terminal_query>) {
    let slave = openSlave(q)
    guard slave >= 0 else { q.pointee.failure = CKPT_TERMINAL_NO_PEER.rawValue; q.pointee.error = Int32(truncatingIfNeeded: -slave); return }
    lookAtSlave(q, slave)
    if q.pointee.failure == CKPT_TERMINAL_FINE.rawValue {
        q.pointee.master_flags = flags(of: q.pointee.master)
        q.pointee.step = CKPT_TERMINAL_TAKEN.rawValue
        setFlags(q.pointee.master, Int(q.pointee.master_flags) & ~asynchronous | nonBlocking)
        if !terminal(q, slave).take(ckpt_query_scratch(q)) { q.pointee.failure = CKPT_TERMINAL_FULL.rawValue }
    }
    closeSlave(q, slave)
}

private func lookAtSlave(_ q: UnsafeMutablePointer<ckpt_terminal_query>, _ slave: Int) {
    let output: Int16 = 4
    var status = ckpt_stat(), value: Int32 = 0
    if withUnsafeMutablePointer(to: &status, { ckpt_syscall(Int(CKPT_SYS_fstat), slave, Int(bitPattern: $0), 0, 0, 0, 0) }) == 0 {
        q.pointee.state.mode = status.mode; q.pointee.state.uid = status.uid; q.pointee.state.gid = status.gid; q.pointee.state.device = status.device
    }
    if isSet(slave, TerminalCall.isExclusive) { q.pointee.state.flags |= CKPT_TERMINAL_EXCLUSIVE.rawValue }
    if terminalCall(slave, TerminalCall.discipline, with: &value) != 0 || value != 0 { q.pointee.failure = CKPT_TERMINAL_DISCIPLINE.rawValue }
    else if q.pointee.state.termios.echoesAtLength && ready(slave, output) & output == 0 { q.pointee.failure = CKPT_TERMINAL_ECHOES.rawValue }
}

private let nonBlocking = 0o4000, asynchronous = 0o20000

private func flags(of fd: Int32) -> UInt32 { UInt32(max(0, ckpt_syscall(Int(CKPT_SYS_fcntl), Int(fd), 3, 0, 0, 0, 0))) }
private func setFlags(_ fd: Int32, _ flags: Int) { _ = ckpt_syscall(Int(CKPT_SYS_fcntl), Int(fd), 4, flags, 0, 0, 0) }

/// The slave, opened from its master also where its name leads nowhere; where it may not be opened (TIOCEXCL), the process's own.
private func openSlave(_ q: UnsafeMutablePointer<ckpt_terminal_query>) -> Int {
    let readWrite = 2, noControl = 0o400, closeOnExec = 0o2000000, isLocked = q.pointee.state.flags & CKPT_TERMINAL_LOCKED.rawValue != 0
    func lock(_ on: Int32) { var on = on; terminalCall(Int(q.pointee.master), TerminalCall.setLock, with: &on) }
    if isLocked { lock(0) }
    var slave = terminalCall(Int(q.pointee.master), TerminalCall.openPeer, readWrite | noControl | nonBlocking | closeOnExec)
    if isLocked { lock(1) }
    if slave < 0 && q.pointee.slave >= 0 {
        q.pointee.slave_flags = flags(of: q.pointee.slave)
        slave = Int(q.pointee.slave)
        setFlags(q.pointee.slave, Int(q.pointee.slave_flags) & ~asynchronous | nonBlocking)
    }
    if slave >= 0 { comeToForeground(q, slave) }
    return slave
}
private func closeSlave(_ q: UnsafeMutablePointer<ckpt_terminal_query>, _ slave: Int) {
    if slave < 0 { return }
    leaveForeground(q, slave)
    if slave == Int(q.pointee.slave) { setFlags(q.pointee.slave, Int(q.pointee.slave_flags)) } else { _ = ckpt_close(Int32(truncatingIfNeeded: slave)) }
}

/// Reading one's own controlling terminal from the background fails (SIGTTIN is blocked): our group takes the foreground for that moment.
private func comeToForeground(_ q: UnsafeMutablePointer<ckpt_terminal_query>, _ slave: Int) {
    var group: Int32 = 0, own = Int32(truncatingIfNeeded: ckpt_syscall(Int(CKPT_SYS_getpgid), 0, 0, 0, 0, 0, 0))
    q.pointee.group = 0
    if terminalCall(slave, TerminalCall.getGroup, with: &group) != 0 || group == own || group <= 0 { return }
    if terminalCall(slave, TerminalCall.setGroup, with: &own) == 0 { q.pointee.group = group }
}
private func leaveForeground(_ q: UnsafeMutablePointer<ckpt_terminal_query>, _ slave: Int) {
    if q.pointee.group > 0 { terminalCall(slave, TerminalCall.setGroup, with: &q.pointee.group) }
}
