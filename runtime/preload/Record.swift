// Runs in the SIGCKPT handler, every signal blocked.  A task writes down what only it can see of itself: most of it is its own registers' neighbourhood,
// the rest has no passive reader in /proc.  Nothing here changes what it reads.
import CkptABI
import PreloadBoot
import Freestanding

enum Prctl {
    static let getParentDeathSignal: Int32 = 2, getDumpable: Int32 = 3, getKeepCaps: Int32 = 7, getTsc: Int32 = 25, getSecurebits: Int32 = 27
    static let getTimerSlack: Int32 = 30, getChildSubreaper: Int32 = 37, getNoNewPrivs: Int32 = 39, getTidAddress: Int32 = 40
    static let getThpDisable: Int32 = 42, getMceKill: Int32 = 34, getIoFlusher: Int32 = 58, getMemoryMerge: Int32 = 68, getExecGain: Int32 = 66
}

func recordTask(_ slot: UnsafeMutablePointer<ckpt_task>) {
    let getFS = 0x1003, getGS = 0x1004
    _ = ckpt_syscall(Int(CKPT_SYS_arch_prctl), getFS, address(&slot.pointee.fs_base), 0, 0, 0, 0)
    _ = ckpt_syscall(Int(CKPT_SYS_arch_prctl), getGS, address(&slot.pointee.gs_base), 0, 0, 0, 0)
    _ = ckpt_syscall(Int(CKPT_SYS_get_robust_list), 0, address(&slot.pointee.robust_head), address(&slot.pointee.robust_length), 0, 0, 0)
    _ = ckpt_prctl(Prctl.getTidAddress, address(&slot.pointee.tid_address), 0, 0, 0)
    _ = ckpt_prctl(Prctl.getParentDeathSignal, address(&slot.pointee.parent_death_signal), 0, 0, 0)
    slot.pointee.timer_slack = UInt64(max(0, ckpt_prctl(Prctl.getTimerSlack, 0, 0, 0, 0)))
    slot.pointee.mce_kill = UInt32(max(0, ckpt_prctl(Prctl.getMceKill, 0, 0, 0, 0)))
    slot.pointee.securebits = Int32(truncatingIfNeeded: ckpt_prctl(Prctl.getSecurebits, 0, 0, 0, 0))
    slot.pointee.speculation = SpeculationWord.ofThisTask.word
    recordTaskPolicy(slot)
    recordKeyrings(slot)
    recordRseq(slot)
    probeOwnRings(threadPointer: slot.pointee.fs_base)
    // Two processes of a session may have the same pid.
    slot.pointee.pids = namespaceNumber(StaticString("/proc/self/ns/pid"))
}

@inline(__always) private func address<T>(_ p: UnsafeMutablePointer<T>) -> Int { Int(bitPattern: p) }

/// rseq(2) can't be asked for its address.  Registering libc's area once more tells: EBUSY, it is the one; 0, there was none (taken back at once);
/// anything else, a foreign one, which nobody could restore.
private func recordRseq(_ slot: UnsafeMutablePointer<ckpt_task>) {
    let signature: Int = 0x53053053, unregister = 1, length = 32
    let libc = libcRseqArea(threadPointer: slot.pointee.fs_base)
    // The slot's spare bytes serve as the area of a task whose libc has none; aligned to 32 as the call demands.
    let scratch = (address(slot) + MemoryLayout<ckpt_task>.size - 64) & ~31
    let area = libc != 0 ? Int(libc) : scratch
    switch ckpt_syscall(Int(CKPT_SYS_rseq), area, length, 0, signature, 0, 0) {
    case 0: _ = ckpt_syscall(Int(CKPT_SYS_rseq), area, length, unregister, signature, 0, 0)
    case -16:
        slot.pointee.rseq_address = UInt64(area); slot.pointee.rseq_length = UInt32(length); slot.pointee.rseq_signature = UInt32(signature)
    case -38: break         // ENOSYS: a kernel without rseq
    case let error:
        if let session = ckpt_runtime().pointee.session { ckpt_fail(session, CKPT_ERROR_RSEQ.rawValue, Int32(truncatingIfNeeded: error), UInt64(area)) }
    }
}

/// Where libc keeps this thread's rseq area: its exported __rseq_offset from the thread pointer, when __rseq_size says it is registered.
private func libcRseqArea(threadPointer: UInt64) -> UInt64 {
    let runtime = ckpt_runtime()
    guard let offset = UnsafePointer<Int64>(bitPattern: UInt(runtime.pointee.rseq_offset_address)),
          let size = UnsafePointer<UInt32>(bitPattern: UInt(runtime.pointee.rseq_size_address)), size.pointee != 0, threadPointer != 0 else { return 0 }
    return threadPointer &+ UInt64(bitPattern: offset.pointee)
}

func recordProcess(_ process: UnsafeMutablePointer<ckpt_process>) {
    var signal: Int32 = 1
    while signal <= 64 {
        _ = ckpt_rt_sigaction(signal, nil, ckpt_process_action(process, signal))
        signal += 1
    }
    recordIntervals(process)
    process.pointee.monotonic = clock(1)
    process.pointee.boottime = clock(7)
    process.pointee.brk = UInt64(bitPattern: Int64(ckpt_syscall(Int(CKPT_SYS_brk), 0, 0, 0, 0, 0, 0)))
    process.pointee.dumpable = Int32(truncatingIfNeeded: ckpt_prctl(Prctl.getDumpable, 0, 0, 0, 0))
    process.pointee.keep_caps = Int32(truncatingIfNeeded: ckpt_prctl(Prctl.getKeepCaps, 0, 0, 0, 0))
    process.pointee.securebits = Int32(truncatingIfNeeded: ckpt_prctl(Prctl.getSecurebits, 0, 0, 0, 0))
    process.pointee.no_new_privs = Int32(truncatingIfNeeded: ckpt_prctl(Prctl.getNoNewPrivs, 0, 0, 0, 0))
    process.pointee.thp_disable = Int32(truncatingIfNeeded: ckpt_prctl(Prctl.getThpDisable, 0, 0, 0, 0))
    process.pointee.io_flusher = Int32(truncatingIfNeeded: ckpt_prctl(Prctl.getIoFlusher, 0, 0, 0, 0))
    process.pointee.memory_merge = Int32(truncatingIfNeeded: ckpt_prctl(Prctl.getMemoryMerge, 0, 0, 0, 0))
    recordProtectionKeys(process)
    recordMemoryRules(process)
    recordNames(process)
    probeSharedRings()
    _ = ckpt_prctl(Prctl.getChildSubreaper, address(&process.pointee.child_subreaper), 0, 0, 0)
    _ = ckpt_prctl(Prctl.getTsc, address(&process.pointee.tsc_mode), 0, 0, 0)
}

private func recordIntervals(_ process: UnsafeMutablePointer<ckpt_process>) {
    var which = 0
    while which < 3 {
        _ = ckpt_syscall(Int(CKPT_SYS_getitimer), which, Int(bitPattern: ckpt_process_itimer(process, Int32(which))), 0, 0, 0, 0)
        which += 1
    }
}

/// By system call: the vdso's time would do, but the interrupted code may be inside it.
private func clock(_ id: Int32) -> UInt64 {
    var time = ckpt_timespec(sec: 0, nsec: 0)
    _ = ckpt_clock(id, &time)
    return UInt64(time.sec) &* 1_000_000_000 &+ UInt64(time.nsec)
}

/// The initiator has listed the ids from /proc/PID/timers; only the owner can ask for the time that is left.
func recordTimers(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>) {
    recordIntervals(process)
    forEachTimer(session, process.pointee.timers_offset, process.pointee.timers_count) { timer in
        _ = ckpt_syscall(Int(CKPT_SYS_timer_gettime), Int(timer.pointee.id), address(&timer.pointee.left), 0, 0, 0, 0)
        timer.pointee.overrun = Int32(truncatingIfNeeded: ckpt_syscall(Int(CKPT_SYS_timer_getoverrun), Int(timer.pointee.id), 0, 0, 0, 0, 0))
    }
}

func recordOwners(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>) {
    let getOwner = 16, getSignal = 11
    let owners = ckpt_arena(session, process.pointee.owners_offset).assumingMemoryBound(to: ckpt_owner_query.self)
    var i = 0
    while i < Int(process.pointee.owners_count) {
        let fd = Int(owners[i].fd)
        // struct f_owner_ex is a type and a pid: the query's own two fields.
        let ex = withUnsafeMutablePointer(to: &owners[i].type) { Int(bitPattern: $0) }
        if ckpt_syscall(CKPT_SYS_fcntl, fd, getOwner, ex, 0, 0, 0) < 0 { owners[i].pid = 0 }
        owners[i].signal = Int32(truncatingIfNeeded: max(0, ckpt_syscall(CKPT_SYS_fcntl, fd, getSignal, 0, 0, 0, 0)))
        if owners[i].is_socket != 0 { recordPeer(&owners[i]) }
        i += 1
    }
}

/// struct ucred is the query's last three fields.
private func recordPeer(_ query: UnsafeMutablePointer<ckpt_owner_query>) {
    let socketLevel = 1, peerCredentials = 17
    var size: UInt32 = 12
    let peer = withUnsafeMutablePointer(to: &query.pointee.peer_pid) { Int(bitPattern: $0) }
    _ = ckpt_syscall(CKPT_SYS_getsockopt, Int(query.pointee.fd), socketLevel, peerCredentials, peer, address(&size), 0)
}

/// Copied while the restart holds everybody: after the release the slot may be the next checkpoint's.  (What is in the arena stays: arena_kept.)
struct TimersToArm {
    let offset: UInt64, count: UInt32
    var intervals: (ckpt_itimerval, ckpt_itimerval, ckpt_itimerval)
    init(_ process: UnsafeMutablePointer<ckpt_process>) {
        offset = process.pointee.timers_offset; count = process.pointee.timers_count; intervals = process.pointee.itimers
    }
}

/// After a restart: the engine has created the timers; they start to run when the tree does.
func armTimers(_ session: UnsafeMutablePointer<ckpt_session>, _ timers: inout TimersToArm) {
    forEachTimer(session, timers.offset, timers.count) { timer in
        _ = ckpt_syscall(Int(CKPT_SYS_timer_settime), Int(timer.pointee.id), 0, address(&timer.pointee.left), 0, 0, 0)
    }
    armInterval(0, &timers.intervals.0); armInterval(1, &timers.intervals.1); armInterval(2, &timers.intervals.2)
}
private func armInterval(_ which: Int, _ timer: inout ckpt_itimerval) {
    if timer.value_sec == 0 && timer.value_usec == 0 { return }
    _ = ckpt_syscall(Int(CKPT_SYS_setitimer), which, address(&timer), 0, 0, 0, 0)
}

private func forEachTimer(_ session: UnsafeMutablePointer<ckpt_session>, _ offset: UInt64, _ count: UInt32, _ body: (UnsafeMutablePointer<ckpt_timer_query>) -> Void) {
    let timers = ckpt_arena(session, offset).assumingMemoryBound(to: ckpt_timer_query.self)
    var i = 0
    while i < Int(count) { body(timers + i); i += 1 }
}
