// Unix sockets that show pids of a pid namespace of the tree's own (SO_PEERCRED): the first process of that makes them before it has children, which
// inherit them.  The others keep a number for each; the builder fetches them when all processes are there (Pidfds.swift).
// Runs in the builder and in such first processes; no allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

private let closeOnExec = 0o2000000

/// A Unix socket that this process makes.
func isMadeHere(_ i: Int) -> Bool { sockets[i].pointee.family == Family.unix && UInt32(sockets[i].pointee.creator_pids) == here }
private func isInner(_ i: Int) -> Bool { sockets[i].pointee.creator_pids != 0 && sockets[i].pointee.object != ckpt_no_index() }

/// In the builder: numbers that all processes inherit.
func reserveInnerSockets() {
    for i in 0..<sockets.count where isInner(i) {
        let r = system(CKPT_SYS_eventfd2, 0, closeOnExec)
        guard r >= 0 else { refuse(r) { l in putSocket(i, &l); l.put("a number for it") } }
        descriptionFd[sockets[i].pointee.description].pointee = lift(Int32(truncatingIfNeeded: r), "socket")
    }
}

/// In the first process of a pid namespace.
func makeInnerSockets() {
    var any = false
    for i in 0..<sockets.count where isInner(i) && isMadeHere(i) {
        let d = descriptionFd[sockets[i].pointee.description]
        // Below −1: not made yet, and its number.
        d.pointee = -2 - d.pointee
        any = true
    }
    guard any else { return }
    let inside = state.pointee.entered_users != 0
    if inside { makeInTask() } else { makeAll() }
}
private func makeAll() { holdNames(); makeUnixSockets(); completeSockets() }
/// Who is in a user namespace can enter other mounts and not come back, and has things to do where it is: a task goes there, and ends.
private func makeInTask() {
    let size = UInt64(ENGINE_MAIN_STACK), stack = UInt64(UInt(bitPattern: anonymous(size))), before = state.pointee.entered_mounts
    // The numbers of those whom it stands for are free.
    let r = runTask(0, stack, size, number: unusedNumber(in: here)) { _ in makeAll(); ckpt_exit_thread(0) }
    guard r > 0 else { refuse(r) { $0.put("sockets of a pid namespace: a task to make them") } }
    state.pointee.entered_mounts = before
    _ = ckpt_munmap(stack, size)
}
func takeReserved(_ mark: Int32, _ fd: Int) -> Int32 {
    let number = -2 - mark, r = system(CKPT_SYS_dup3, fd, Int(number), closeOnExec)
    guard r >= 0 else { refuse(r) { $0.put("socket: cannot be placed") } }
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
    return number
}

/// In the builder, which adds them to epoll instances.
func fetchInnerSockets() {
    for p in 0..<namespaces.count where isPid(p) {
        var maker = -1
        for i in 0..<sockets.count where isInner(i) && Int(sockets[i].pointee.creator_pids) == p + 1 {
            if maker < 0 { maker = system(CKPT_SYS_pidfd_open, Int(nodePids[firstNode(of: UInt32(p) + 1)].pointee), 0) }
            let d = Int(sockets[i].pointee.description), r = maker < 0 ? maker : system(CKPT_SYS_pidfd_getfd, maker, Int(descriptionFd[d].pointee), 0)
            guard r >= 0 else { refuse(r) { l in putSocket(i, &l); l.put("cannot be fetched from the first process of its pid namespace") } }
            replace(d, r)
        }
        if maker >= 0 { _ = ckpt_close(Int32(truncatingIfNeeded: maker)) }
    }
}

/// After the plan: who has such a socket is born below who makes it.
func checkInnerSockets() {
    for n in 0..<Int(state.pointee.node_count) where nodes[n].pointee.record >= 0 {
        let p = processes[Int(nodes[n].pointee.record)]
        for k in 0..<p.pointee.fd_count {
            let o = objects[descriptions[fds[p.pointee.first_fd + k].pointee.description].pointee.object].pointee
            guard o.kind == CKPT_OBJECT_SOCKET.rawValue, sockets[o.detail].pointee.creator_pids != 0 else { continue }
            let first = firstNode(of: UInt32(sockets[o.detail].pointee.creator_pids))
            var m = n
            while m >= 0 && m != first { m = Int(nodes[m].pointee.creator) }
            guard m >= 0 else {
                refuse(.lacks) { l in
                    putProcess(Int(nodes[n].pointee.record), &l); putSocket(Int(o.detail), &l)
                    l.put("it was made inside of a pid namespace, and this process can't be born there; start ckrun inside of the namespace")
                }
            }
        }
    }
}
