// Runs in every process of a restart, on its own stacks; no allocation, no libc.
// The barrier of the restart before there is one: stages on a shared page.  Waits end every 100 ms to see whether the restart was given up.
import CkptABI
import EngineBoot
import Freestanding

private func pause(on word: UnsafePointer<UInt32>, while value: UInt32) {
    var limit = ckpt_timespec(sec: 0, nsec: 100_000_000)
    _ = ckpt_futex_wait(word, value, &limit)
}

/// Ends this process when the restart was given up, or when the engine is gone.
func checkAborted() {
    if ckpt_load(&board.pointee.stage) == ENGINE_STAGE_ABORT.rawValue { ckpt_exit_group(Exit.internalError.rawValue) }
}

/// In the engine's own pid namespace a dead engine is seen by its pid; in one of ours the kernel kills everybody.
private func engineIsGone() -> Bool {
    if state.pointee.node >= 0 && nodes[Int(state.pointee.node)].pointee.place != 0 { return false }     // it does not show there
    return state.pointee.mode != ENGINE_PIDS_NS.rawValue && system(CKPT_SYS_kill, Int(state.pointee.engine_pid), 0) == -3
}

/// Says that this process has done its part of `stage`.
func arrive(_ stage: engine_stage) {
    let word = engine_board_arrived(board, stage.rawValue)
    if state.pointee.node >= 0 { ckpt_store(nodeReached[Int(state.pointee.node)], stage.rawValue + 1) }
    _ = ckpt_add(word, 1)
    _ = ckpt_add(&board.pointee.progress, 1)
    _ = ckpt_futex_wake(word, 1)
}

/// Waits until the builder has opened `stage`.
func waitFor(_ stage: engine_stage) {
    while true {
        let now = ckpt_load(&board.pointee.stage)
        if now == ENGINE_STAGE_ABORT.rawValue { ckpt_exit_group(Exit.internalError.rawValue) }
        if now >= stage.rawValue { return }
        pause(on: &board.pointee.stage, while: now)
        if engineIsGone() { ckpt_exit_group(Exit.internalError.rawValue) }
    }
}

/// Waits until a word on the board is another; ends with the restart.
func waitWhile(_ word: UnsafePointer<UInt32>, is value: UInt32) {
    while ckpt_load(word) == value {
        pause(on: word, while: value)
        checkAborted()
        if state.pointee.node >= 0 && engineIsGone() { ckpt_exit_group(Exit.internalError.rawValue) }
    }
}

/// The builder opens a stage for everybody.
func openStage(_ stage: engine_stage) {
    guard ckpt_cas(&board.pointee.stage, stage.rawValue - 1, stage.rawValue) else { abortBuilder() }
    _ = ckpt_futex_wake(&board.pointee.stage, Int32.max)
}

/// The builder waits until `count` nodes have completed `stage`.
func waitForAll(_ stage: engine_stage, count: UInt32) {
    let word = engine_board_arrived(board, stage.rawValue)
    wait(on: word, until: count) { node in nodeReached[node].pointee <= stage.rawValue }
}

/// Waits for a counter with a bound of 60 s without progress; every second it looks whether somebody died.
func wait(on word: UnsafeMutablePointer<UInt32>, until count: UInt32, _ missing: (Int) -> Bool) {
    var quiet = 0, seen = ckpt_load(&board.pointee.progress), seenWord = ckpt_load(word)
    while true {
        let n = ckpt_load(word)
        if n >= count { return }
        if ckpt_load(&board.pointee.stage) == ENGINE_STAGE_ABORT.rawValue { abortBuilder() }
        if interrupted() { refuseInterrupted() }
        pause(on: word, while: n)
        let progress = ckpt_load(&board.pointee.progress)
        if progress != seen || n != seenWord { seen = progress; seenWord = n; quiet = 0 } else { quiet += 1 }
        if quiet > 0 && quiet % 10 == 0 { nameDead() }
        if quiet > 600 { nameMissing(missing) }
    }
}

/// A signal that asks the engine to end has come (all are blocked while the tree is built).
func interrupted() -> Bool {
    var set: UInt64 = 0
    _ = system(CKPT_SYS_rt_sigpending, int(&set), 8)
    return set & (1 << 0 | 1 << 1 | 1 << 2 | 1 << 14) != 0    // HUP, INT, QUIT, TERM
}

func refuseInterrupted() -> Never { refuse(.temporary) { $0.put("interrupted by a signal; nothing was restarted") } }

/// The builder has learnt of a failure: the engine itself reports it, an init process only ends.
func abortBuilder() -> Never {
    abortStage()
    if state.pointee.is_engine != 0 { endFailed() }
    ckpt_exit_group(Exit.internalError.rawValue)
}

/// Names a process that died while it was being restored.
private func nameDead() {
    if state.pointee.init_node >= 0 { return }      // their pids are not ours
    for n in 0..<Int(state.pointee.node_count) where nodes[n].pointee.record >= 0 && nodes[n].pointee.zombie == 0 && nodes[n].pointee.mainGone == 0 {
        let pid = nodePids[n].pointee
        if pid > 0, processIsDead(pid) {
            let i = Int(nodes[n].pointee.record)
            if ckpt_load(&board.pointee.failure) != 0 { abortBuilder() }
            refuse(.internalError) { l in putProcess(i, &l); l.put("died while it was being restored") }
        }
    }
}
private func nameMissing(_ missing: (Int) -> Bool) -> Never {
    for n in 0..<Int(state.pointee.node_count) where missing(n) {
        let pid = nodes[n].pointee.pid
        refuse(.temporary) { l in
            l.put("pid "); l.put(signed: Int64(pid)); l.put(": not back after 60 s without progress; try again")
        }
    }
    refuse(.temporary) { $0.put("the tree is not complete after 60 s without progress; try again") }
}

/// State Z or X in /proc/PID/stat.
private func processIsDead(_ pid: Int32) -> Bool {
    var line = Line()
    line.put("/proc/"); line.put(signed: Int64(pid)); line.put("/stat")
    let fd = line.withCString { Int32(truncatingIfNeeded: ckpt_open($0, 0o2000000, 0)) }
    guard fd >= 0 else { return system(CKPT_SYS_kill, Int(pid), 0) == -3 }
    var text = InlineArray<512, UInt8>(repeating: 0)
    let n = withUnsafeMutableBytes(of: &text) { ckpt_read(fd, $0.baseAddress!, 512) }
    _ = ckpt_close(fd)
    var i = n - 1
    while i > 0 && text[i] != 41 { i -= 1 }     // the last ')' ends the name
    guard i > 0, i + 2 < 512 else { return false }
    return text[i + 2] == 90 || text[i + 2] == 88
}
