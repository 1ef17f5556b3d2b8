// Runs in the engine and in process 1 of its pid namespace, on the region's main stack; no allocation, no libc.
// A pid namespace needs a first process.  Mostly that is one of ours, which builds the tree as its children; a tree that has its own process 1
// (a whole container's) brings it along, and the engine builds the rest from outside.
import CkptABI
import EngineBoot
import Freestanding

func buildInNamespace() {
    let s = state
    for n in 0..<Int(s.pointee.node_count) where nodes[n].pointee.pid == 1 { s.pointee.init_node = Int32(n) }
    makeReportPipe()
    let own = s.pointee.init_node < 0
    let r = own ? fork(pid: 0, argument: 0, initEntry) : fork(pid: 0, argument: UInt64(s.pointee.init_node), firstNodeEntry)
    guard r > 0 else { refuse(r) { $0.put("the first process of the pid namespace") } }
    s.pointee.init_pid = Int32(truncatingIfNeeded: r)
    board.pointee.init_pid = s.pointee.init_pid
    if own { keepReportEnd(reading: true); waitForInit() } else { refuseStopped(); buildTree() }
}

/// A pipe on which process 1 reports the main process's changes; it wakes the engine by SIGIO.
private func makeReportPipe() {
    var ends = InlineArray<2, Int32>(repeating: -1)
    let r = withUnsafeMutableBytes(of: &ends) { system(CKPT_SYS_pipe2, int($0.baseAddress!), 0o2004000) }
    guard r == 0 else { refuse(r) { $0.put("pipe to the first process of the pid namespace") } }
    state.pointee.report = lift(ends[0], "pipe")
    state.pointee.report_writer = lift(ends[1], "pipe")
    _ = system(CKPT_SYS_fcntl, Int(state.pointee.report), 8, Int(ckpt_getpid()))
    _ = system(CKPT_SYS_fcntl, Int(state.pointee.report), 4, 0o24000)
}
private func keepReportEnd(reading: Bool) {
    let s = state
    _ = ckpt_close(reading ? s.pointee.report_writer : s.pointee.report)
    if !reading { s.pointee.report = s.pointee.report_writer }
}

private let initEntry: @convention(c) (UInt64) -> Void = { _ in
    let s = state
    s.pointee.is_engine = 0
    _ = ckpt_prctl(1, 9, 0, 0, 0)
    keepReportEnd(reading: false)
    mountProc()
    buildTree()
    dropTreeDescriptors()
    ckpt_store(&board.pointee.ready, 1)
    _ = ckpt_futex_wake(&board.pointee.ready, Int32.max)
    superviseAsInit()
}
private let firstNodeEntry: @convention(c) (UInt64) -> Void = { n in
    mountProc()
    runNode(Int(n))
}

/// A child that has ended, and that nobody has waited for.
func isEnded(_ child: Int32) -> Bool {
    guard child > 0 else { return false }
    var info = InlineArray<16, UInt64>(repeating: 0)
    // waitid(P_PID, WNOHANG | WEXITED | WNOWAIT)
    let r = withUnsafeMutableBytes(of: &info) { system(CKPT_SYS_waitid, 1, Int(child), int($0.baseAddress!), 0x1000005, 0) }
    return r != 0 || info[0] & 0xffff_ffff != 0
}

/// The engine waits outside until process 1 says that the tree is complete.
private func waitForInit() {
    let s = state
    while ckpt_load(&board.pointee.ready) == 0 {
        if ckpt_load(&board.pointee.stage) == ENGINE_STAGE_ABORT.rawValue { endFailed() }
        if interrupted() { refuseInterrupted() }
        if isEnded(s.pointee.init_pid) { endFailed() }
        var limit = ckpt_timespec(sec: 0, nsec: 50_000_000)
        _ = ckpt_futex_wait(&board.pointee.ready, 0, &limit)
    }
}

/// From outside the engine cannot name a process that it would have to stop, but process 1; those with a parent in the tree are stopped by that.
private func refuseStopped() {
    for n in 0..<Int(state.pointee.node_count) where nodes[n].pointee.parent < 0 && Int32(n) != state.pointee.init_node && isStopped(n) {
        refuse(.lacks) { l in putProcess(Int(nodes[n].pointee.record), &l); l.put("stopped, with a parent outside the tree's pid namespace; continue it before the checkpoint") }
    }
}
