// Runs in each process of the tree, on the region's main stack; no allocation, no libc.
// Becomes the recorded process.  The order matters: memory first (it needs descriptors of ours), then what the kernel keeps about it,
// then descriptors, then tasks; limits and credentials last, since they may forbid all of the former.
import CkptABI
import EngineBoot
import Freestanding

func becomeProcess(_ i: Int) -> Never {
    enterControlGroup(i)
    enterNamespaces(of: i)
    takeTerminal(i, Int(state.pointee.node))
    restoreControl(i, Int(state.pointee.node))
    restoreMemory(i)
    restoreMerging(i)
    sealMemory(i)
    restoreLayout(i)
    restoreProcFiles(i)
    enterDeletedFolder(i)
    restoreDescriptors(i)
    restoreNotifications(i)
    restoreLocks(i)
    restoreAdjustments(i)
    restoreActions(i)
    enterPlaces(i)
    restoreProcessAttributes(i)
    enterUsers(of: i)
    let main = createTasks(i)
    openProcFiles(i)
    if main == nil { restoreOwners(i) }
    restoreTimers(i)
    stopChildren(of: state.pointee.node)
    restorePending(i)
    redirectChildren(i)
    restoreMemoryRules(i)
    restoreLimits(i)
    openTasks(i)
    guard let main else { leaveAsMainTask(i) }
    becomeTask(main)
}

/// What the kernel knows of the layout: brk, arguments, environment, auxv, and which file /proc/PID/exe shows.
private func restoreLayout(_ i: Int) {
    let p = processes[i]
    var m = ckpt_prctl_mm_map()
    m.start_code = p.pointee.start_code; m.end_code = p.pointee.end_code
    m.start_data = p.pointee.start_data; m.end_data = p.pointee.end_data
    m.start_brk = p.pointee.start_brk; m.brk = p.pointee.brk
    m.start_stack = p.pointee.start_stack
    m.arg_start = p.pointee.arg_start; m.arg_end = p.pointee.arg_end
    m.env_start = p.pointee.env_start; m.env_end = p.pointee.env_end
    m.auxv = UInt64(UInt(bitPattern: bytes(p.pointee.auxv))); m.auxv_size = p.pointee.auxv_size
    let fd = openExe(Int(p.pointee.exe))
    m.exe_fd = UInt32(bitPattern: fd)
    var r = ckpt_prctl(35, 14, int(&m), MemoryLayout<ckpt_prctl_mm_map>.size, 0)
    if r == -1 || r == -13 {
        // Not permitted here (no namespace, no capability): /proc/PID/exe goes on showing the engine.
        m.exe_fd = UInt32.max
        r = ckpt_prctl(35, 14, int(&m), MemoryLayout<ckpt_prctl_mm_map>.size, 0)
    }
    _ = ckpt_close(fd)
    guard r == 0 else { refuse(r) { l in putProcess(i, &l); l.put("its memory layout (prctl PR_SET_MM_MAP)") } }
}
private func openExe(_ o: Int) -> Int32 {
    let r: Int
    if objectFd[o].pointee >= 0 { r = Int(reopen(objectFd[o].pointee, 0, o)) } else { r = openFile(o, 0o2000000) }
    guard r >= 0 else { refuseFile(o, r) { l in putThisProcess(&l); putObject(o, &l); l.put("its program cannot be opened") } }
    return lift(Int32(truncatingIfNeeded: r), "program")
}

/// A main thread that had left leaves again; the others wait for that, since the runtime unmaps the engine under it.
private func leaveAsMainTask(_ i: Int) -> Never {
    let word = leaderGone[i]
    _ = system(CKPT_SYS_set_tid_address, int(word))
    ckpt_exit_thread(0)
}
