// Runs in the builder when every process of the tree exists and before any restores itself; then in each process.  No allocation, no libc.
// Pidfds come when the processes do, so the processes can't inherit them: each fetches its own from the builder (pidfd_getfd(2)).
import CkptABI
import EngineBoot
import Freestanding

private let setPtracer: Int32 = 0x59616d61

/// Everybody has fetched its own.
func closeToTracers() { if board.pointee.builder != 0 { _ = ckpt_prctl(setPtracer, 0, 0, 0, 0) } }

func openPidfds() {
    var any = false
    for e in 0..<events.count where objects[events[e].pointee.object].pointee.kind == CKPT_OBJECT_PIDFD.rawValue {
        guard let d = eventDescription(e) else { continue }
        if state.pointee.init_node >= 0 { refuse(.lacks) { $0.put("pidfd: in a tree with a process 1 of its own it cannot be opened; close it before the checkpoint") } }
        let v = events[e].pointee, flags = Int(descriptions[d].pointee.flags) & 0o4200
        let r = v.flags & CKPT_EVENT_REAPED.rawValue != 0 ? openReaped(Int32(truncatingIfNeeded: Int64(v.value)), flags) : system(CKPT_SYS_pidfd_open, Int(pidNow(Int32(truncatingIfNeeded: Int64(v.value)))), flags)
        guard r >= 0 else { refuse(r) { l in l.put("pidfd of process "); l.put(decimal: v.value); l.put(": cannot be opened") } }
        replace(d, r)
        any = true
    }
    guard any else { return }
    // Where only ancestors may attach (Yama), the builder lets its descendants.
    _ = ckpt_prctl(setPtracer, -1, 0, 0, 0)
    board.pointee.builder = ckpt_getpid()
}

/// Every process knows the number already.
func replace(_ d: Int, _ fd: Int) {
    let r = system(CKPT_SYS_dup3, fd, Int(descriptionFd[d].pointee), 0o2000000)
    guard r >= 0 else { refuse(r) { $0.put("descriptor: cannot be placed") } }
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
}

/// Of a process that has ended as `status` says (wait(2)), and is waited for.
private func openReaped(_ status: Int32, _ flags: Int) -> Int {
    let pid = fork(pid: 0, argument: UInt64(UInt32(bitPattern: status)), endedEntry)
    if pid <= 0 { return pid }
    let r = system(CKPT_SYS_pidfd_open, pid, flags)
    var wait = -4
    while wait == -4 { wait = system(CKPT_SYS_wait4, pid, 0, 0, 0) }
    return r
}
private let endedEntry: @convention(c) (UInt64) -> Void = { status in
    state.pointee.is_engine = 0
    state.pointee.is_builder = 0
    exitAs(Int32(truncatingIfNeeded: Int64(status)))
}

/// In process `i`: copies of the builder's, above the numbers of the tree.
func fetchPidfds(_ i: Int) {
    let p = processes[i]
    var builder = -1
    for k in 0..<p.pointee.fd_count {
        let d = Int(fds[p.pointee.first_fd + k].pointee.description)
        guard objects[descriptions[d].pointee.object].pointee.kind == CKPT_OBJECT_PIDFD.rawValue else { continue }
        if builder < 0 { builder = system(CKPT_SYS_pidfd_open, Int(board.pointee.builder), 0) }
        let r = builder < 0 ? builder : system(CKPT_SYS_pidfd_getfd, builder, Int(descriptionFd[d].pointee), 0)
        guard r >= 0 else { refuse(r) { l in putThisProcess(&l); l.put("pidfd: cannot be fetched") } }
        replace(d, r)
    }
    if builder >= 0 { _ = ckpt_close(Int32(truncatingIfNeeded: builder)) }
}
