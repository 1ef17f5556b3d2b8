// Runs in the engine (keep, new) or in the init process of its namespace (ns), on the region's main stack; no allocation, no libc.
// Builds the tree stage by stage, waits until all tasks are back in the runtime, and tells the engine.
import CkptABI
import EngineBoot
import Freestanding

/// How many nodes take part in a stage.
private var everybody: UInt32 { UInt32(state.pointee.node_count) }

func buildTree() {
    let s = state
    s.pointee.is_builder = 1
    makePartNamespaces()
    openPartObjects()
    makeKernelObjects()
    startNumberers(in: 0...0)
    if s.pointee.warm != 0 { orderBirths() } else {
        giveBirth(creator: -1, stage: 0)
        giveBirth(creator: -1, stage: 1)
    }
    startNumberers(in: 1...UInt32(CKPT_MAX_NAMESPACES))
    waitForAll(ENGINE_STAGE_BIRTH, count: everybody)
    openStage(ENGINE_STAGE_GROUPS)
    waitForAll(ENGINE_STAGE_GROUPS, count: everybody)
    openStage(ENGINE_STAGE_LEAVE)
    reapTemporaries(of: -1)
    waitForAll(ENGINE_STAGE_LEAVE, count: everybody)
    checkPlaces()
    fetchInnerSockets()
    openPidfds()
    openStage(ENGINE_STAGE_RESTORE)
    waitForRuntime()
    endNumberers()
    fillQueues()
    mountInnerProc()
    closeToTracers()
    sealLate()
    startEvents()
    finishSystemV()
    confirmZombies(of: -1)
    watchFiles(.processes)
    stopStopped()
}

/// What the tree inherits and is made where its pids are given: in the namespace of the tree, before its first process.
private func makeKernelObjects() {
    makeInternetSocketsLate()
    makeEvents()
    makeSystemV()
    makeSockets()
    makeTerminals()
    openNamespaceFiles()
    remakeUnnamedFiles()
    completeSockets()
    watchFiles(.early)
}

/// Every task has come back into the runtime's handler.
private func waitForRuntime() {
    wait(on: ckpt_arrived_word(session), until: session.pointee.expected) { n in
        let i = nodes[n].pointee.record
        guard i >= 0, nodes[n].pointee.zombie == 0 else { return false }
        let p = ckpt_process_slot(session, processes[Int(i)].pointee.process_slot)
        return ckpt_load(&p.pointee.returned) < p.pointee.expected
    }
}

/// Processes that were stopped by job control are stopped before the barrier opens, those with a parent in the tree by that:
/// a SIGCONT lets them go on from there.
private func stopStopped() {
    for n in 0..<Int(state.pointee.node_count) where nodes[n].pointee.parent < 0 && isStopped(n) {
        let isInit = Int32(n) == state.pointee.init_node
        _ = system(CKPT_SYS_kill, Int(isInit ? state.pointee.init_pid : nodePids[n].pointee), 19)
    }
}

/// Kills all that this attempt has made.
func killTree() {
    abortStage()
    awaitNames()
    endServer()
    // In a namespace of ours the pids are others than ours: its first process takes all with it.
    if state.pointee.init_pid > 0 { _ = system(CKPT_SYS_kill, Int(state.pointee.init_pid), 9) }
    else if !(state.pointee.mode == ENGINE_PIDS_NS.rawValue) { for n in 0..<Int(state.pointee.node_count) where nodePids[n].pointee > 0 { _ = system(CKPT_SYS_kill, Int(nodePids[n].pointee), 9) } }
    while true {
        let r = system(CKPT_SYS_wait4, -1, 0, 0x40000000, 0)
        if r < 0 && r != -4 { return }
    }
}
