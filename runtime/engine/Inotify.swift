// Runs in the builder, just before the release: what the restart itself does to watched files is nobody's event.  No allocation, no libc.
// Inotify queues: their watches, with the numbers that the program knows.
import CkptABI
import EngineBoot
import Freestanding

func addWatches(_ e: Int, _ fd: Int) {
    let v = events[e].pointee, dontFollow: UInt32 = 0x0200_0000, p = holder(of: e)
    for k in 0..<v.item_count {
        let w = watches[v.first_item + k].pointee, path = w.mounts == 0 ? relocated(bytes(w.path)) : bytes(w.path)
        let r = withMounts(w.mounts) { add(fd, path, w.mask | dontFollow, w.wd, holder: p) }
        if case .limited(let limit)? = ReplayOutcome.ofWatch(r) { refuse(.lacks) { $0.put("inotify queue: "); $0.put(limit.cause); $0.put("; "); $0.put(limit.remedy) } }
        guard r >= 0 else { refuse(r) { l in l.put("inotify queue: watch on "); l.put(text: path); l.put("; put it back, or use --relocate OLD=NEW") } }
        guard r == Int(w.wd) else { refuse(.lacks) { l in l.put("inotify queue: watch on "); l.put(text: path); l.put(": this kernel cannot give it its number; it lacks CONFIG_CHECKPOINT_RESTORE") } }
    }
    if v.flags & CKPT_EVENT_UNREAD.rawValue != 0 { setNextWatch(fd, v.clock) }
}

/// Root adds it as whose the queue is: by a path that he has exchanged he would be told of what he may not read.  What he may not watch (any more) root adds
/// where nobody but root can exchange the path.
private func add(_ fd: Int, _ path: Text, _ mask: UInt32, _ wd: Int32, holder p: Int) -> Int {
    let notPermitted = -13, root: UInt32 = 0
    if p < 0 || currentIds(false)[1] != 0 || engine_uid(processes[p], 1).pointee == 0 { return addWatch(fd, path, mask, number: wd) }
    let q = processes[p], count = Int(q.pointee.group_count)
    let r = asUser(engine_uid(q, 1).pointee, engine_gid(q, 1).pointee, count > 0 ? groups[q.pointee.first_group] : nil, count) { addWatch(fd, path, mask, number: wd) }
    guard r == notPermitted, isRootAmongOthers, case .to(let file) = walkPath(path, from: nil, root: nil, links: false, to: .file, { $0 == root }) else { return r }
    _ = ckpt_close(file)
    return addWatch(fd, path, mask, number: wd)
}
/// A process that has the queue; -1: it is in a message.
private func holder(of e: Int) -> Int {
    for p in 0..<processes.count {
        for k in 0..<processes[p].pointee.fd_count where descriptions[fds[processes[p].pointee.first_fd + k].pointee.description].pointee.object == events[e].pointee.object { return p }
    }
    return -1
}
/// While /proc shows our descriptors: one of the tree's own hides that (PidNamespaces.swift).
func fillQueues() {
    let kept = CKPT_EVENT_UNREAD.rawValue, overflowed = CKPT_EVENT_OVERFLOW.rawValue
    for e in 0..<events.count where eventFd(e) >= 0 && isQueue(e) && events[e].pointee.flags & (kept | overflowed) != 0 { fill(e, eventFd(e)) }
}
private func isQueue(_ e: Int) -> Bool { objects[events[e].pointee.object].pointee.kind == CKPT_OBJECT_INOTIFY.rawValue }

private func fill(_ e: Int, _ queue: Int) {
    let v = events[e], isKept = v.pointee.flags & CKPT_EVENT_UNREAD.rawValue != 0, bytes = isKept ? Int(v.pointee.set_flags) : 0, room = bytes + 16
    let memory = anonymous(UInt64(room)), again = anonymous(UInt64(room)), buffer = UnsafeMutableRawPointer(bitPattern: UInt(state.pointee.copy))!, size = 65536
    defer { _ = ckpt_munmap(UInt64(UInt(bitPattern: memory)), UInt64(room)); _ = ckpt_munmap(UInt64(UInt(bitPattern: again)), UInt64(room)) }
    if isKept { readStatefile(memory, UInt64(bytes), at: v.pointee.value) }
    var list = EventList(memory, used: bytes, room: room)
    guard list.isSound else { refuse(.badStatefile) { $0.put("inotify queue: its unread events are none; the file is damaged, take another") } }
    if !isKept { list.addOverflow() }
    let mask = system(CKPT_SYS_umask, 0), flags = silence(queue)
    let stage = isKept ? EventStage(queue: queue, buffer: buffer, size: size) : nil
    if let stage, stage.root < 0 { expect(.noPlace(stage.root)) }
    guard var replay = EventReplay(queue: queue, stage, list, buffer: buffer, size: size) else { refuse(.systemCall) { $0.put("inotify queue: a file of memory cannot be made") } }
    var outcome = replay.rehearse(EventList(again, room: room))
    if outcome == .done { outcome = replay.fill() }
    if outcome == .done && !replay.open() { outcome = .different }
    expect(outcome)
    replay.close()
    stage?.close()
    _ = system(CKPT_SYS_umask, mask)
    if flags != 0 { _ = system(CKPT_SYS_fcntl, queue, putFlags, flags) }
}

private func expect(_ outcome: ReplayOutcome) {
    switch outcome {
    case .done: return
    case .limited(let limit): refuse(.lacks) { $0.put("inotify queue: its unread events cannot be made again: "); $0.put(limit.cause); $0.put("; "); $0.put(limit.remedy) }
    case .noPlace(let r): refuse(.lacks) { $0.put("inotify queue: there is no place to make its unread events again: "); putError(r, &$0); $0.put("; permit user namespaces (sysctl user.max_user_namespaces), or restart as root") }
    case .noNumber: refuse(.lacks) { $0.put("inotify queue: this kernel cannot give a watch its number; it lacks CONFIG_CHECKPOINT_RESTORE") }
    case .tooMany: refuse(.lacks) { $0.put("inotify queue: it does not take as many events as were unread; set sysctl fs.inotify.max_queued_events as it was, or higher") }
    case .queueTooLong: refuse(.lacks) { l in l.put("inotify queue: it takes too many events to be filled, as a restart must; set sysctl fs.inotify.max_queued_events to at most "); l.put(decimal: UInt64(EventReplay.most)) }
    case .different: refuse(.systemCall) { $0.put("inotify queue: its unread events cannot be made again; take a checkpoint when the program has read them") }
    }
}

private let getFlags = 3, putFlags = 4
/// What is queued here is nobody's SIGIO (O_ASYNC): the flags to set again, 0 if none signals.
private func silence(_ queue: Int) -> Int {
    let asynchronous = 0o20000, flags = system(CKPT_SYS_fcntl, queue, getFlags)
    if flags < 0 || flags & asynchronous == 0 { return 0 }
    _ = system(CKPT_SYS_fcntl, queue, putFlags, flags & ~asynchronous)
    return flags
}
