// Runs in each process of the tree: on the region's main stack, restoreTaskPending on each task's own.  Every signal is blocked.
// Dispositions, pending signals and POSIX timers.
import CkptABI
import EngineBoot
import Freestanding

func restoreActions(_ i: Int) {
    for signal: Int32 in 1...64 where signal != 9 && signal != 19 {
        let r = ckpt_rt_sigaction(signal, ckpt_record_action(processes[i], signal), nil)
        guard r == 0 else { refuse(r) { l in putProcess(i, &l); l.put("signal "); l.put(signed: Int64(signal)); l.put(": its disposition") } }
    }
}

/// Queued signals come back with their siginfo: to oneself every kind may be sent.
func restorePending(_ i: Int) {
    let p = processes[i]
    for k in 0..<p.pointee.pending_count {
        let q = pendings[p.pointee.first_pending + k]
        let r = system(CKPT_SYS_rt_sigqueueinfo, Int(ckpt_getpid()), Int(q.pointee.info.si_signo), int(UnsafeRawPointer(q) + 8))
        guard r == 0 else { refuse(r) { l in putProcess(i, &l); l.put("pending signal "); l.put(signed: Int64(q.pointee.info.si_signo)) } }
    }
}
func restoreTaskPending(_ t: Int) {
    let r = tasks[t]
    for k in 0..<r.pointee.pending_count {
        let q = pendings[r.pointee.first_pending + k]
        let e = system(CKPT_SYS_rt_tgsigqueueinfo, Int(ckpt_getpid()), Int(ckpt_gettid()), Int(q.pointee.info.si_signo), int(UnsafeRawPointer(q) + 8))
        guard e == 0 else { refuseTask(t, e, "its pending signals") }
    }
}

/// Timers get their ids here; the runtime arms them when everybody is released.
func restoreTimers(_ i: Int) {
    let p = processes[i]
    guard p.pointee.timer_count > 0 else { return }
    let byId = ckpt_prctl(77, 1, 0, 0, 0) == 0
    for k in 0..<p.pointee.timer_count { createTimer(i, timers[p.pointee.first_timer + k].pointee, byId) }
    if byId { _ = ckpt_prctl(77, 0, 0, 0, 0) }
}

private func createTimer(_ i: Int, _ t: ckpt_timer_record, _ byId: Bool) {
    var e = ckpt_sigevent()
    e.value = t.value; e.signo = t.signo; e.notify = t.notify
    e.tid = t.notify & 4 != 0 ? pidNow(t.tid) : 0
    var attempts = 0
    while true {
        var id: Int32 = byId ? t.id : 0
        let r = system(CKPT_SYS_timer_create, Int(t.clock), int(&e), int(&id))
        guard r == 0 else { refuse(r) { l in putProcess(i, &l); l.put("POSIX timer "); l.put(signed: Int64(t.id)) } }
        if id == t.id { return }
        // Older kernels count ids upwards: the others are taken and given back.
        _ = system(CKPT_SYS_timer_delete, Int(id))
        attempts += 1
        if id > t.id || attempts > 1_000_000 { refuse(.lacks) { l in putProcess(i, &l); l.put("POSIX timer "); l.put(signed: Int64(t.id)); l.put(": this kernel cannot give it its id; use Linux 6.15 or newer") } }
    }
}
