// Runs in the SIGCKPT handler when the tasks are let go, every signal blocked.
// The initiator changes some options of sockets while it looks at them, and sets them back.  When it dies in between, whoever holds the socket and is
// let go first sets the option back; the others wait for that, so that no code of the application sees it changed.
import CkptABI
import PreloadBoot
import Freestanding

func undoOptions(_ session: UnsafeMutablePointer<ckpt_session>) {
    let count = min(ckpt_load(&session.pointee.undo_count), 4096)
    var i: UInt32 = 0
    while i < count {
        let entry = ckpt_undo_entry(session, i)
        if ckpt_load(&entry.pointee.state) != CKPT_UNDO_DONE.rawValue, let fd = descriptor(entry) { setBack(entry, fd) }
        i += 1
    }
}

/// This process's descriptor of the socket.
private func descriptor(_ entry: UnsafeMutablePointer<ckpt_undo>) -> Int32? {
    let me = ckpt_runtime().pointee.process
    var i: UInt32 = 0
    while i < min(entry.pointee.holder_count, UInt32(CKPT_UNDO_HOLDERS)) {
        let holder = ckpt_undo_holder(entry, i)
        if holder.pointee.process == me { return holder.pointee.fd }
        i += 1
    }
    return nil
}

private func setBack(_ entry: UnsafeMutablePointer<ckpt_undo>, _ fd: Int32) {
    if ckpt_cas(&entry.pointee.state, CKPT_UNDO_ACTIVE.rawValue, CKPT_UNDO_UNDER_WAY.rawValue) {
        _ = ckpt_syscall(CKPT_SYS_setsockopt, Int(fd), Int(entry.pointee.level), Int(entry.pointee.name), Int(bitPattern: ckpt_undo_value(entry)), Int(entry.pointee.size), 0)
        ckpt_store(&entry.pointee.state, CKPT_UNDO_DONE.rawValue)
        return
    }
    // One system call of another task; should that be killed in the midst, nobody waits for long.
    var patience = 0
    while ckpt_load(&entry.pointee.state) == CKPT_UNDO_UNDER_WAY.rawValue && patience < 10_000 { _ = ckpt_syscall(CKPT_SYS_sched_yield, 0, 0, 0, 0, 0, 0); patience += 1 }
}
