// Runs in the builder before its first process, later in the processes themselves; on the region's main stack; no allocation, no libc.
// Pseudo-terminals whose masters are in the tree: new ones, of the same numbers where these are free, with everything that was in them.
import CkptABI
import EngineBoot
import Freestanding

private let readWrite = 2, noControl = 0o400, nonBlocking = 0o4000, closeOnExec = 0o2000000
private let masterKind = CKPT_OBJECT_PTY_MASTER.rawValue, slaveKind = CKPT_OBJECT_PTY_SLAVE.rawValue, controllingKind = CKPT_OBJECT_PTY_CONTROLLING.rawValue

/// Descriptions that are made here, and by nobody else.
func isTerminalKind(_ kind: UInt32) -> Bool { kind == masterKind || kind == slaveKind || kind == controllingKind }

private func isOutside(_ t: Int) -> Bool { terminals[t].pointee.state.flags & CKPT_TERMINAL_OUTSIDE.rawValue != 0 }
private func has(_ t: Int, _ flag: ckpt_terminal_flags) -> Bool { terminals[t].pointee.state.flags & flag.rawValue != 0 }

/// The description of a terminal's master; there is exactly one.
private func masterDescription(_ t: Int) -> Int? {
    for d in 0..<descriptions.count {
        let o = objects[descriptions[d].pointee.object].pointee
        if o.kind == masterKind && Int(o.detail) == t { return d }
    }
    return nil
}
private func master(_ t: Int) -> Int { masterDescription(t).map { Int(descriptionFd[$0].pointee) } ?? -1 }

private func putTerminal(_ t: Int, _ l: inout Line) { l.put("pseudo-terminal "); l.put(text: bytes(terminals[t].pointee.path)); l.put(": ") }

func makeTerminals() {
    var count = 0, own = false
    for t in 0..<terminals.count {
        if isOutside(t) { own = true; continue }
        guard masterDescription(t) != nil else { refuse(.badStatefile) { l in putTerminal(t, &l); l.put("no master; the file is damaged, take another") } }
        count += 1
    }
    if count == 0 { return }
    // An instance of devpts of the tree's own has every number free, but hides the terminals of the instance before.
    if !acquireMasters() && state.pointee.mode == ENGINE_PIDS_NS.rawValue && !own {
        dropTerminals()
        mountTerminals()
        _ = acquireMasters()
    }
    for t in 0..<terminals.count where !isOutside(t) { warnOfNumber(t); restoreTerminal(t) }
}

/// Takes back what an attempt before this one has made.
func dropTerminals() {
    for d in 0..<descriptions.count where isTerminalKind(objects[descriptions[d].pointee.object].pointee.kind) && descriptionFd[d].pointee >= 0 {
        _ = ckpt_close(descriptionFd[d].pointee)
        descriptionFd[d].pointee = -1
    }
}

/// Only in a mount namespace of ours.
private func mountTerminals() {
    let type = StaticString("devpts").cString, at = StaticString("/dev/pts").cString, options = StaticString("newinstance,ptmxmode=0666,mode=0600").cString
    let noSetuid = 2, noExec = 8
    _ = system(CKPT_SYS_mount, int(type), int(at), int(type), noSetuid | noExec, int(options))
}

/// Opens masters until each terminal has the number that it had: the kernel gives the lowest that is free.  false: some number is taken.
private func acquireMasters() -> Bool {
    let spare: Table<Int32> = Table(at: state.pointee.copy, count: 4096)
    var spares = 0, left = 0, highest: Int32 = 0
    for t in 0..<terminals.count where !isOutside(t) { left += 1; highest = max(highest, terminals[t].pointee.state.index) }
    while left > 0 && spares < spare.count {
        guard let fd = openMaster() else { break }
        let n = number(of: fd)
        if let t = wanting(n) { keepMaster(t, fd); left -= 1; continue }
        spare[spares].pointee = fd
        spares += 1
        if n > highest { break }
    }
    let complete = left == 0
    for t in 0..<terminals.count where !isOutside(t) && master(t) < 0 {
        if spares > 0 { spares -= 1; keepMaster(t, spare[spares].pointee); continue }
        guard let fd = openMaster() else { refuse(.temporary) { l in putTerminal(t, &l); l.put("no pseudo-terminal is free; close some, or raise sysctl kernel.pty.max") } }
        keepMaster(t, fd)
    }
    while spares > 0 { spares -= 1; _ = ckpt_close(spare[spares].pointee) }
    return complete
}
private func openMaster() -> Int32? {
    let r = ckpt_open(StaticString("/dev/ptmx").cString, Int32(readWrite | noControl | nonBlocking | closeOnExec), 0)
    return r < 0 ? nil : Int32(truncatingIfNeeded: r)
}
private func number(of fd: Int32) -> Int32 {
    var n: Int32 = -1
    terminalCall(Int(fd), TerminalCall.number, with: &n)
    return n
}
private func wanting(_ n: Int32) -> Int? {
    for t in 0..<terminals.count where !isOutside(t) && terminals[t].pointee.state.index == n && master(t) < 0 { return t }
    return nil
}
private func keepMaster(_ t: Int, _ fd: Int32) {
    guard let d = masterDescription(t) else { return }
    descriptionFd[d].pointee = lift(fd, "pseudo-terminal")
}

private func warnOfNumber(_ t: Int) {
    let was = terminals[t].pointee.state.index, now = number(of: Int32(truncatingIfNeeded: master(t)))
    if was == now { return }
    var l = Line()
    l.put(text: engine_program())
    l.put(": restart: warning: "); l.put(text: bytes(terminals[t].pointee.path)); l.put(": in use here; the program's pseudo-terminal is /dev/pts/")
    l.put(signed: Int64(now)); l.put(" now, and what it remembers of the name is wrong; --pids ns has names of its own\n")
    l.write(to: Descriptor(state.pointee.standard.2 >= 0 ? state.pointee.standard.2 : 2))
}

private func restoreTerminal(_ t: Int) {
    let r = terminals[t], m = master(t)
    lock(m, false)
    terminalCall(m, TerminalCall.setSize, with: &r.pointee.state.size)
    if has(t, CKPT_TERMINAL_UNOPENED) {
        terminalCall(m, TerminalCall.setTermios, with: &r.pointee.state.termios)
        if has(t, CKPT_TERMINAL_PACKET) { var on: Int32 = 1; terminalCall(m, TerminalCall.setPacket, with: &on) }
        restoreNode(t, nil)
    } else {
        let slave = openPeer(t, UInt32(readWrite | nonBlocking))
        restoreNode(t, slave)
        fill(t, Int(slave))
        openSlaves(t)
        if has(t, CKPT_TERMINAL_EXCLUSIVE) { terminalCall(Int(slave), TerminalCall.exclusive) }
        _ = ckpt_close(slave)
    }
    if has(t, CKPT_TERMINAL_EXCLUSIVE_MASTER) { terminalCall(m, TerminalCall.exclusive) }
    if has(t, CKPT_TERMINAL_LOCKED) { lock(m, true) }
    if let d = masterDescription(t) { setFlags(Int32(truncatingIfNeeded: m), descriptions[d].pointee.flags) }
}
private func lock(_ master: Int, _ locked: Bool) {
    var on: Int32 = locked ? 1 : 0
    terminalCall(master, TerminalCall.setLock, with: &on)
}
private func openPeer(_ t: Int, _ flags: UInt32) -> Int32 {
    // Without O_CLOEXEC: this call would leave it among the flags that F_GETFL shows.
    let r = terminalCall(master(t), TerminalCall.openPeer, Int(flags) | noControl)
    guard r >= 0 else { refuse(r) { l in putTerminal(t, &l); l.put("its slave cannot be opened") } }
    return lift(Int32(truncatingIfNeeded: r), "pseudo-terminal")
}

/// Mode and owner of the slave's node.  In a user namespace there is one user.
private func restoreNode(_ t: Int, _ slave: Int32?) {
    let s = terminals[t].pointee.state
    var l = Line()
    if let slave { l.put("/proc/self/fd/"); l.put(signed: Int64(slave)) } else { l.put("/dev/pts/"); l.put(signed: Int64(number(of: Int32(truncatingIfNeeded: master(t))))) }
    l.withCString { path in
        let now = status(path: path)
        if now.result != 0 || s.mode == 0 { return }
        if now.status.uid != s.uid || now.status.gid != s.gid {
            var r = system(92, int(path), Int(s.uid), Int(s.gid))               // chown(2)
            if r != 0 && now.status.uid == s.uid { r = 0 }
            guard r == 0 || state.pointee.user_namespace != 0 else { refuse(r) { l in putTerminal(t, &l); l.put("its owner "); l.put(decimal: UInt64(s.uid)); l.put(" cannot be set; restart it as root") } }
        }
        _ = system(90, int(path), Int(s.mode & 0o7777))                         // chmod(2)
    }
}

/// What was unread in it, its settings, packet mode, a stop.
private func fill(_ t: Int, _ slave: Int) {
    let r = terminals[t], output = UInt64(CKPT_TERMINAL_OUTPUT_ROOM), input = UInt64(CKPT_TERMINAL_INPUT_ROOM)
    // Both buffers of the state, which lie side by side.
    func contents(_ place: UInt64, _ at: UInt64, _ size: UInt32) -> UnsafeMutablePointer<UInt8> {
        let p = UnsafeMutablePointer<UInt8>(bitPattern: UInt(state.pointee.chunk + place))!
        if size > 0 { readStatefile(UnsafeMutableRawPointer(p), UInt64(size), at: at) }
        return p
    }
    let s = UnsafeMutableRawPointer(r).assumingMemoryBound(to: ckpt_terminal_state.self)
    let terminal = Terminal(master: master(t), slave: slave, state: s, output: contents(0, r.pointee.output, s.pointee.output_size),
                            input: contents(output, r.pointee.input, s.pointee.input_size), late: contents(output + input, r.pointee.late, s.pointee.late_size))
    guard terminal.fill() else { refuse(.internalError) { l in putTerminal(t, &l); l.put("it does not take what was unread in it; report it with the kernel's version") } }
}

/// Every description of the slave; those of /dev/tty are opened by a process that the terminal controls.
private func openSlaves(_ t: Int) {
    for d in 0..<descriptions.count {
        let o = objects[descriptions[d].pointee.object].pointee, flags = descriptions[d].pointee.flags
        guard Int(o.detail) == t, o.kind == slaveKind || o.kind == controllingKind else { continue }
        descriptionFd[d].pointee = openPeer(t, flags & 3 | flags & (0o4000 | 0o2000 | 0o100000))
        if o.kind == controllingKind { openControlling(t, d) }
        setFlags(descriptionFd[d].pointee, flags)
    }
}
private func openControlling(_ t: Int, _ d: Int) {
    let shareFiles: UInt64 = 0x400
    state.pointee.terminal_opened = UInt32(d)
    let r = fork(pid: 0, flags: shareFiles, argument: UInt64(t), opener)
    guard r > 0 else { refuse(r) { l in putTerminal(t, &l); l.put("/dev/tty") } }
    var wait: Int32 = 0, e = -4
    while e == -4 { e = system(CKPT_SYS_wait4, r, int(&wait), 0x40000000, 0) }
    guard wait == 0 else { refuse(-((Int(wait) >> 8) & 0xff)) { l in putTerminal(t, &l); l.put("/dev/tty cannot be opened") } }
}

/// Shares the builder's descriptors: puts /dev/tty in the place of the slave that was opened for it.
private let opener: @convention(c) (UInt64) -> Void = { t in
    state.pointee.is_engine = 0
    state.pointee.is_builder = 0
    let d = Int(state.pointee.terminal_opened)
    _ = system(CKPT_SYS_setsid)
    var r = terminalCall(master(Int(t)), TerminalCall.control, 0)
    if r == 0 { r = ckpt_open(StaticString("/dev/tty").cString, Int32(bitPattern: descriptions[d].pointee.flags & 3) | Int32(noControl | nonBlocking | closeOnExec), 0) }
    if r >= 0 {
        let e = system(CKPT_SYS_dup3, r, Int(descriptionFd[d].pointee), closeOnExec)
        _ = ckpt_close(Int32(truncatingIfNeeded: r))
        r = e
    }
    ckpt_exit_group(r < 0 ? Int32(truncatingIfNeeded: -r) : 0)
}

// MARK: in the processes

/// A session leader takes its terminal before it has children in that session: they inherit it.
func takeControl(_ n: Int) {
    let i = nodes[n].pointee.record
    guard i >= 0, processes[Int(i)].pointee.terminal > 0 else { return }
    let t = Int(processes[Int(i)].pointee.terminal) - 1
    if isOutside(t) { takeReleasedTerminal(); return }
    let r = terminalCall(master(t), TerminalCall.control, 0)
    guard r == 0 else { refuse(r) { l in putTerminal(t, &l); l.put("cannot control the session of pid "); l.put(signed: Int64(nodes[n].pointee.pid)) } }
}

/// Who had given up the terminal of its session gives it up; a session leader sets the foreground group.
func restoreControl(_ i: Int, _ n: Int) {
    let wanted = processes[i].pointee.terminal
    if wanted == 0 {
        if terminals.count > 0 && !nodes[n].pointee.leadsSession { giveUpControl() }
        return
    }
    let t = Int(wanted) - 1, group = terminals[t].pointee.foreground
    guard !isOutside(t), nodes[n].pointee.leadsSession, group > 0 else { return }
    setForeground(master(t), group)
}
private func giveUpControl() {
    let fd = ckpt_open(StaticString("/dev/tty").cString, Int32(readWrite | noControl | nonBlocking | closeOnExec), 0)
    if fd < 0 { return }
    terminalCall(fd, TerminalCall.giveUpControl)
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
}

/// A group that has ended is still the foreground group until somebody takes its place: it comes back for that moment.
func setForeground(_ terminal: Int, _ group: Int32) {
    var now = numberHere(pidNow(group))
    if now == 0 { return }
    if terminalCall(terminal, TerminalCall.setGroup, with: &now) == 0 || state.pointee.mode == ENGINE_PIDS_NEW.rawValue { return }
    let r = fork(pid: group, inside: UInt32(nodes[Int(state.pointee.node)].pointee.place), argument: 0, endedGroup)
    if r <= 0 { return }
    _ = system(CKPT_SYS_setpgid, r, r)
    terminalCall(terminal, TerminalCall.setGroup, with: &now)
    _ = system(CKPT_SYS_kill, r, 9)
    var e = -4
    while e == -4 { e = system(CKPT_SYS_wait4, r, 0, 0x40000000, 0) }
    drainChildSignals()
}
private let endedGroup: @convention(c) (UInt64) -> Void = { _ in
    _ = ckpt_prctl(1, 9, 0, 0, 0)
    var second = ckpt_timespec(sec: 1, nsec: 0)
    while true { _ = system(CKPT_SYS_nanosleep, int(&second), 0) }
}
