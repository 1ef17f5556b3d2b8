// Runs in each process of the tree, on the region's main stack, every signal blocked; no allocation, no libc.
// What a parent knows of its children beyond their pids: stops and continuations, collected or not, without a SIGCHLD more than there was.
import CkptABI
import EngineBoot
import Freestanding

private let stoppedCode: UInt16 = 5, continuedCode: UInt16 = 6                 // CLD_STOPPED, CLD_CONTINUED
private let sigcont = 18, sigstop = 19
private let noHang = 1, untraced = 2, exited = 4, continued = 8, noWait = 0x0100_0000, anyChild = 0x4000_0000

/// What the parent gets when node `n` ends.  The engine, which stands for a parent outside, must see it end.
func exitSignal(_ n: Int) -> Int32 {
    let me = nodes[n].pointee
    return me.record < 0 || me.parent < 0 ? 17 : processes[Int(me.record)].pointee.exit_signal
}

private func isContinued(_ n: Int) -> Bool {
    let me = nodes[n].pointee
    return me.record >= 0 && me.zombie == 0 && me.parent >= 0 && processes[Int(me.record)].pointee.wait_code == continuedCode
}

/// A continuation that nobody has collected: the process stops itself here, its parent continues it.
func beContinued(_ n: Int) {
    guard isContinued(n) else { return }
    _ = system(CKPT_SYS_kill, Int(ckpt_getpid()), sigstop)
    var set: UInt64 = 1 << UInt64(sigcont - 1), zero = ckpt_timespec(sec: 0, nsec: 0)
    while system(CKPT_SYS_rt_sigtimedwait, int(&set), 0, int(&zero), 8) > 0 {}
}
func continueChildren(of parent: Int32) {
    for n in 0..<Int(state.pointee.node_count) where nodes[n].pointee.parent == parent && isContinued(n) {
        awaitStop(n, untraced)
        _ = system(CKPT_SYS_kill, Int(pidHere(n)), sigcont)
    }
}

/// Stops the children that were stopped, once all of their tasks are back in the runtime; what had been collected of it is collected.
func stopChildren(of parent: Int32) {
    for n in 0..<Int(state.pointee.node_count) where nodes[n].pointee.parent == parent && isStopped(n) {
        let i = Int(nodes[n].pointee.record), p = ckpt_process_slot(session, processes[i].pointee.process_slot)
        while true {
            let home = ckpt_load(&p.pointee.home)
            if home >= processes[i].pointee.task_count { break }
            checkAborted()
            var limit = ckpt_timespec(sec: 0, nsec: 100_000_000)
            _ = ckpt_futex_wait(&p.pointee.home, home, &limit)
        }
        stop(n, Int(stopSignal(i)))
        takeNotice()
        if processes[i].pointee.wait_code != stoppedCode { awaitStop(n, untraced) }
    }
}

/// A stop can be waited for a moment before its SIGCHLD comes, which the child sends: on a machine that stands still, long before.  Those that were pending are queued again from the records.
private func takeNotice() {
    var action = ckpt_sigaction()
    let noStops: UInt64 = 1, ignored: UInt64 = 1
    _ = ckpt_rt_sigaction(17, nil, &action)
    if action.handler == ignored || action.flags & noStops != 0 { return }
    var set: UInt64 = 1 << 16, limit = ckpt_timespec(sec: 1, nsec: 0), seconds = 0
    while seconds < 60 && system(CKPT_SYS_rt_sigtimedwait, int(&set), 0, int(&limit), 8) < 0 { checkAborted(); seconds += 1 }
}

func isStopped(_ n: Int) -> Bool {
    let i = nodes[n].pointee.record
    return i >= 0 && nodes[n].pointee.zombie == 0 && processes[Int(i)].pointee.flags & CKPT_PROCESS_STOPPED.rawValue != 0
}

/// SIGSTOP unless it is known to have been another, which still stops it.
func stopSignal(_ i: Int) -> Int32 {
    let p = processes[i], signal = Int32(p.pointee.wait_signal)
    guard p.pointee.wait_code == stoppedCode, signal >= 20, signal <= 22, ckpt_record_action(p, signal).pointee.handler == 0 else { return Int32(sigstop) }
    for k in 0..<pendings.count where pendings[k].pointee.process == UInt32(i) && pendings[k].pointee.info.si_signo == signal { return Int32(sigstop) }
    return signal
}

/// The terminal's stop signals do nothing in an orphaned process group: then it is SIGSTOP.  Elsewhere the child takes its time on a busy machine.
private func stop(_ n: Int, _ signal: Int) {
    _ = system(CKPT_SYS_kill, Int(pidHere(n)), signal)
    if signal != sigstop {
        let milliseconds = isOrphaned(n) ? 500 : 60_000
        for _ in 0..<milliseconds {
            checkAborted()
            if seen(n, untraced | noWait | noHang) { return }
            var t = ckpt_timespec(sec: 0, nsec: 1_000_000)
            _ = system(CKPT_SYS_nanosleep, int(&t), 0)
        }
        _ = system(CKPT_SYS_kill, Int(pidHere(n)), sigstop)
    }
    awaitStop(n, untraced | noWait)
}

/// credentials(7): no process of its group has a parent in another group of the same session, as far as the tree knows.
private func isOrphaned(_ n: Int) -> Bool {
    let group = nodes[n].pointee.pgid, session = nodes[n].pointee.sid
    for m in 0..<Int(state.pointee.node_count) where nodes[m].pointee.pgid == group && nodes[m].pointee.sid == session && nodes[m].pointee.parent >= 0 {
        let parent = nodes[Int(nodes[m].pointee.parent)].pointee
        if parent.pgid != group && parent.sid == session { return false }
    }
    return true
}

private func awaitStop(_ n: Int, _ options: Int) {
    guard seen(n, options) else {
        checkAborted()
        refuse(.internalError) { l in putProcess(Int(nodes[n].pointee.record), &l); l.put("it did not stop") }
    }
}

/// Whether a wait for this child finds the stop; its end counts as none.
private func seen(_ n: Int, _ options: Int) -> Bool {
    var info = ckpt_siginfo(), r = -4
    while r == -4 { r = system(CKPT_SYS_waitid, 1, Int(pidHere(n)), int(&info), options | exited | anyChild) }
    return r == 0 && info.si_signo != 0 && info.si_code == Int32(stoppedCode)
}
