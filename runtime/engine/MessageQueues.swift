// Runs in the builder, and in each process for its notifications; on the region's main stack; no allocation, no libc.
// POSIX message queues: made under their names, filled, and opened for the descriptions that the tree had.
import CkptABI
import EngineBoot
import Freestanding

private let readWrite = 2, create = 0o100, exclusive = 0o200, noWait = 0o4000, closeOnExec = 0o2000000
private func object(_ i: Int) -> Int { Int(ipc[i].pointee.object) }
/// mq_open(2) takes the name without its slash.
private func name(_ i: Int) -> Int { int(bytes(objects[object(i)].pointee.path) + 1) }
private func isRemoved(_ i: Int) -> Bool { ipc[i].pointee.flags & CKPT_IPC_REMOVED.rawValue != 0 }

func standingOfQueue(_ i: Int) -> Standing {
    let r = system(CKPT_SYS_mq_open, name(i), closeOnExec, 0, 0), missing = -2
    if r == missing { return .free }
    guard r >= 0 else { return .taken }
    let inode = status(fd: Int32(truncatingIfNeeded: r)).inode
    _ = ckpt_close(Int32(truncatingIfNeeded: r))
    return inode == objects[object(i)].pointee.inode && isSamePlace(i) && !isRemoved(i) ? .left : .taken
}

func makePosixQueue(_ i: Int) {
    let r = ipc[i]
    var a = ckpt_posix_attributes()
    a.most = Int64(r.pointee.size); a.largest = Int64(ckpt_ipc_spare(r)[0])
    let fd = withUnsafeMutablePointer(to: &a) { there(CKPT_SYS_mq_open, name(i), readWrite | create | exclusive | noWait | closeOnExec, 0o600, int($0)) }
    guard fd >= 0 else { refuseIPC(i, fd, "cannot be made; raise the limits (ulimit -q, fs.mqueue.msg_max, fs.mqueue.msgsize_max)") }
    keep(i, fd)
    if isRemoved(i) { unlinkQueue(i) }
}
func unlinkQueue(_ i: Int) { _ = there(CKPT_SYS_mq_unlink, name(i)) }

/// Left by the tree's end: it has the messages of the checkpoint again.
func adoptQueue(_ i: Int) {
    let fd = system(CKPT_SYS_mq_open, name(i), readWrite | noWait | closeOnExec, 0, 0), largest = Int(ckpt_ipc_spare(ipc[i])[0])
    guard fd >= 0 else { refuseIPC(i, fd, "cannot be opened") }
    let b = anonymous(UInt64(largest))
    while system(CKPT_SYS_mq_timedreceive, fd, int(b), largest, 0, 0) >= 0 {}
    _ = ckpt_munmap(UInt64(UInt(bitPattern: b)), UInt64(largest))
    keep(i, fd)
}
func openOutsideQueue(_ i: Int) {
    let fd = system(CKPT_SYS_mq_open, name(i), closeOnExec, 0, 0)
    guard fd >= 0 else { refuseIPC(i, fd, "cannot be opened") }
    objectFd[object(i)].pointee = lift(Int32(truncatingIfNeeded: fd), "message queue")
}

/// Its messages, owner and mode.
private func keep(_ i: Int, _ fd: Int) {
    let r = ipc[i]
    for k in 0..<r.pointee.count {
        let m = queued[r.pointee.first + k].pointee, b = anonymous(m.size + 1)
        if m.size > 0 { readStatefile(b, m.size, at: m.content) }
        let e = system(CKPT_SYS_mq_timedsend, fd, int(b), int(m.size), Int(m.type), 0)
        _ = ckpt_munmap(UInt64(UInt(bitPattern: b)), m.size + 1)
        guard e == 0 else { refuseIPC(i, e, "a message cannot be put into it") }
    }
    let st = status(fd: Int32(truncatingIfNeeded: fd)), chown = 93
    if st.uid != r.pointee.uid || st.gid != r.pointee.gid {
        let e = system(chown, fd, Int(r.pointee.uid), Int(r.pointee.gid))
        guard e == 0 else { refuseIPC(i, e, "its owner cannot be set; restart it as root") }
    }
    objectFd[object(i)].pointee = lift(Int32(truncatingIfNeeded: fd), "message queue")
}

/// Descriptions that several processes hold must be one; the mode, which may forbid to open it, comes last.
func openQueueDescriptions() {
    for d in 0..<descriptions.count where objects[descriptions[d].pointee.object].pointee.kind == CKPT_OBJECT_QUEUE.rawValue && isThere(Int(objects[descriptions[d].pointee.object].pointee.detail)) && descriptionFd[d].pointee < 0 {
        descriptionFd[d].pointee = lift(openDescription(d), "message queue")
    }
    for i in 0..<ipc.count where isThere(i) && isPosix(i) && !isShared(i) { _ = system(CKPT_SYS_fchmod, Int(objectFd[object(i)].pointee), Int(ipc[i].pointee.mode & 0o777)) }
}

/// Another attempt makes its own, in another namespace.
func forgetQueue(_ i: Int) {
    for d in 0..<descriptions.count where Int(descriptions[d].pointee.object) == object(i) && descriptionFd[d].pointee >= 0 {
        _ = ckpt_close(descriptionFd[d].pointee)
        descriptionFd[d].pointee = -1
    }
    if objectFd[object(i)].pointee >= 0 { _ = ckpt_close(objectFd[object(i)].pointee) }
    objectFd[object(i)].pointee = -1
}

/// When all descriptors are in place: every close of one by this process would end its registration.
func restoreNotifications(_ process: Int) {
    for i in 0..<ipc.count where isPosix(i) && ipc[i].pointee.creator == Int32(process) {
        let p = processes[process]
        for k in 0..<p.pointee.fd_count {
            let f = fds[p.pointee.first_fd + k].pointee
            guard Int(descriptions[f.description].pointee.object) == object(i) else { continue }
            var event = ckpt_sigevent()
            event.value = ckpt_ipc_spare(ipc[i])[1]; event.signo = ipc[i].pointee.last; event.notify = Int32(ipc[i].pointee.cuid)
            let e = withUnsafeMutablePointer(to: &event) { system(CKPT_SYS_mq_notify, Int(f.number), int($0)) }
            guard e == 0 else { refuse(e) { l in putProcess(process, &l); putIPC(i, &l); l.put("its notification") } }
            break
        }
    }
}
