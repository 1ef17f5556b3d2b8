// Runs in a leader, parked in the SIGCKPT handler, every signal blocked: POSIX message queues, whose messages can only be received.
// They are taken and put back in one go, so that neither an abort nor a dead initiator can come in between; the others stay in their handlers for that long (Holders.swift).
import CkptABI
import PreloadBoot
import Freestanding

func recordQueues(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>) {
    let queries = ckpt_arena(session, process.pointee.queues_offset).assumingMemoryBound(to: ckpt_posix_query.self)
    var i = 0
    while i < Int(process.pointee.queues_count) {
        let q = queries + i
        let own = isOpenForBoth(q.pointee.fd), fd = own ? Int(q.pointee.fd) : openBoth(q.pointee.fd)
        if fd < 0 { q.pointee.error = Int32(truncatingIfNeeded: -fd) } else {
            take(session, q, fd)
            if q.pointee.registered != 0 { learnNotification(q, fd) }
            if !putBack(session, q, fd) { ckpt_fail(session, CKPT_ERROR_QUEUE.rawValue, 0, UInt64(q.pointee.fd)) }
            if !own { _ = ckpt_close(Int32(truncatingIfNeeded: fd)) }
        }
        // Every close by the process to be notified ends that.
        if fd >= 0 && q.pointee.registered != 0 { register(q) }
        i += 1
    }
}

private func isOpenForBoth(_ number: Int32) -> Bool {
    let getFlags = 3, access = 3, both = 2
    return ckpt_syscall(CKPT_SYS_fcntl, Int(number), getFlags, 0, 0, 0, 0) & access == both
}
/// For reading and writing, whatever the program opened it for.
private func openBoth(_ number: Int32) -> Int {
    let readWrite: Int32 = 2, closeOnExec: Int32 = 0o2000000
    var l = Line()
    l.put("/proc/self/fd/"); l.put(signed: Int64(number))
    return l.withCString { ckpt_open($0, readWrite | closeOnExec, 0) }
}

private func take(_ session: UnsafeMutablePointer<ckpt_session>, _ q: UnsafeMutablePointer<ckpt_posix_query>, _ fd: Int) {
    let header = UInt64(MemoryLayout<ckpt_posix_message>.size), again = -11, late = -110
    // A time that is over: whoever would wait comes back at once.
    var past = ckpt_timespec(sec: 0, nsec: 0)
    let noWait = Int(bitPattern: withUnsafeMutablePointer(to: &past) { $0 })
    while q.pointee.used + header + q.pointee.largest <= q.pointee.room {
        let at = ckpt_arena(session, q.pointee.messages + q.pointee.used)
        let message = at.assumingMemoryBound(to: ckpt_posix_message.self)
        let n = withUnsafeMutablePointer(to: &message.pointee.priority) { priority in
            ckpt_syscall(CKPT_SYS_mq_timedreceive, fd, Int(bitPattern: at) + Int(header), Int(q.pointee.largest), Int(bitPattern: priority), noWait, 0)
        }
        if n == again || n == late { return }
        if n < 0 { q.pointee.error = Int32(truncatingIfNeeded: -n); return }
        message.pointee.size = UInt32(n)
        q.pointee.used += header + (UInt64(n) + 7) & ~7
    }
    q.pointee.error = 28        // ENOSPC: somebody outside sends meanwhile
}

private func putBack(_ session: UnsafeMutablePointer<ckpt_session>, _ q: UnsafeMutablePointer<ckpt_posix_query>, _ fd: Int) -> Bool {
    let header = UInt64(MemoryLayout<ckpt_posix_message>.size)
    var at: UInt64 = 0
    while at < q.pointee.used {
        let p = ckpt_arena(session, q.pointee.messages + at), message = p.assumingMemoryBound(to: ckpt_posix_message.self).pointee
        if ckpt_syscall(CKPT_SYS_mq_timedsend, fd, Int(bitPattern: p) + Int(header), Int(message.size), Int(message.priority), 0, 0) != 0 { return false }
        at += header + (UInt64(message.size) + 7) & ~7
    }
    return true
}

/// A message of ours into the empty queue brings the notification, with the value that nothing else shows; the registration is used up by that.
private func learnNotification(_ q: UnsafeMutablePointer<ckpt_posix_query>, _ fd: Int) {
    var nothing: UInt64 = 0, wait = ckpt_timespec(sec: 0, nsec: 0), info = ckpt_siginfo()
    var set: UInt64 = q.pointee.signal > 0 ? 1 << UInt64(q.pointee.signal - 1) : 0
    let isSignal = q.pointee.registered == 1 + CKPT_NOTIFY_SIGNAL.rawValue
    let buffer = Int(bitPattern: withUnsafeMutablePointer(to: &nothing) { $0 })
    if ckpt_syscall(CKPT_SYS_mq_timedsend, fd, buffer, 0, 0, 0, 0) != 0 { q.pointee.error = 5; return }
    if isSignal {
        let got = withUnsafeMutablePointer(to: &set) { set in
            withUnsafeMutablePointer(to: &info) { info in
                withUnsafeMutablePointer(to: &wait) { ckpt_syscall(CKPT_SYS_rt_sigtimedwait, Int(bitPattern: set), Int(bitPattern: info), Int(bitPattern: $0), 8, 0, 0) }
            }
        }
        if got == Int(q.pointee.signal) { q.pointee.value = info.si_value } else { q.pointee.error = 5 }
    }
    forget(fd, q.pointee.largest)
}
private func forget(_ fd: Int, _ largest: UInt64) {
    // Its buffer must be as large as any message: the page writer's is unused now.
    _ = ckpt_syscall(CKPT_SYS_mq_timedreceive, fd, Int(bitPattern: ckpt_chunk_buffer(ckpt_own_workspace())), Int(max(largest, 1)), 0, 0, 0)
}

private func register(_ q: UnsafeMutablePointer<ckpt_posix_query>) {
    var event = ckpt_sigevent()
    event.value = q.pointee.value; event.signo = q.pointee.signal; event.notify = Int32(q.pointee.registered) - 1
    _ = withUnsafeMutablePointer(to: &event) { ckpt_syscall(CKPT_SYS_mq_notify, Int(q.pointee.fd), Int(bitPattern: $0), 0, 0, 0, 0) }
}
