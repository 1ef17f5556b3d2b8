// Runs in the engine before the tree exists, and in the builder; no allocation, no libc.
// System V IPC: what is the tree's alone is made again with the id that programs remember; what others use as well is there, or there is no restart.
// An id is the kernel's to give: it can be asked for (/proc/sys/kernel/*_next_id) in an IPC namespace of our own, or with CAP_CHECKPOINT_RESTORE.
import CkptABI
import EngineBoot
import Freestanding

enum IPCCommand { static let remove = 0, set = 1, status = 2 }
private let create = 0o1000, exclusive = 0o2000
/// In our copy of the records: we made it.
private let made: UInt32 = 1 << 31
/// The tree's, left by its end, and taken over; or perhaps the tree's, and left alone.
private let adopted: UInt32 = 1 << 30

/// Where an id stands here and now.
enum Standing { case free, left, taken }

/// In the namespace whose objects are being looked at or made.
func isThere(_ i: Int) -> Bool { ipc[i].pointee.place == state.pointee.ipc_place }
func isShared(_ i: Int) -> Bool { ipc[i].pointee.flags & CKPT_IPC_OUTSIDE.rawValue != 0 }
private func isAdopted(_ i: Int) -> Bool { ipc[i].pointee.flags & adopted != 0 }
/// In a namespace of a part everything is, perhaps by another process.
func isMade(_ i: Int) -> Bool { ipc[i].pointee.flags & made != 0 || ipc[i].pointee.place != 0 }

func control(_ i: Int, _ command: Int, _ buffer: Int = 0) -> Int { control(ipc[i].pointee.kind, Int(ipc[i].pointee.id), command, buffer) }
private func control(_ kind: UInt32, _ id: Int, _ command: Int, _ buffer: Int = 0) -> Int {
    switch kind {
    case CKPT_IPC_SEGMENT.rawValue: there(CKPT_SYS_shmctl, id, command, buffer)
    case CKPT_IPC_SEMAPHORES.rawValue: there(CKPT_SYS_semctl, id, 0, command, buffer)
    default: there(CKPT_SYS_msgctl, id, command, buffer)
    }
}

func putIPC(_ i: Int, _ l: inout Line) {
    let r = ipc[i]
    if isPosix(i) { l.put("POSIX message queue "); l.put(text: bytes(objects[r.pointee.object].pointee.path)); l.put(": "); return }
    l.put("System V ")
    l.put(r.pointee.kind == CKPT_IPC_SEGMENT.rawValue ? "shared memory " : r.pointee.kind == CKPT_IPC_SEMAPHORES.rawValue ? "semaphores " : "message queue ")
    l.put(signed: Int64(r.pointee.id))
    if r.pointee.key != 0 { l.put(" (key 0x"); l.put(hex: UInt64(r.pointee.key)); l.put(")") }
    l.put(": ")
}
func refuseIPC(_ i: Int, _ r: Int, _ what: StaticString) -> Never { refuse(r) { l in putIPC(i, &l); l.put(what) } }

/// This boot, and the IPC namespace that we are in, are those of the checkpoint: the id is the same object's.
func isPosix(_ i: Int) -> Bool { ipc[i].pointee.kind == CKPT_IPC_POSIX_QUEUE.rawValue }
func isSamePlace(_ i: Int) -> Bool {
    guard status(path: StaticString("/proc/self/ns/ipc").cString).status.inode == ipc[i].pointee.name_space else { return false }
    var text = InlineArray<64, UInt8>(repeating: 0), digits = 0
    let fd = Int32(truncatingIfNeeded: ckpt_open(StaticString("/proc/sys/kernel/random/boot_id").cString, 0o2000000, 0))
    guard fd >= 0 else { return false }
    let n = withUnsafeMutableBytes(of: &text) { ckpt_read(fd, $0.baseAddress!, 63) }
    _ = ckpt_close(fd)
    let boot = ckpt_ipc_boot(ipc[i])
    for k in 0..<max(0, n) where text[k] != 45 && text[k] != 10 && digits < 32 {
        let digit = text[k] >= 97 ? text[k] - 87 : text[k] - 48, wanted = digits % 2 == 0 ? boot[digits / 2] >> 4 : boot[digits / 2] & 15
        if digit != wanted { return false }
        digits += 1
    }
    return digits == 32
}

private func standing(_ i: Int) -> Standing {
    if isPosix(i) { return standingOfQueue(i) }
    var s = InlineArray<128, UInt8>(repeating: 0)
    return withUnsafeMutableBytes(of: &s) { b in
        let r = ipc[i], e = control(i, IPCCommand.status, int(b.baseAddress!)), gone = e == -22 || e == -43
        if gone { return r.pointee.key == 0 || isFree(key: i) ? .free : .taken }
        guard e == 0, isSamePlace(i) else { return .taken }
        let p = field(b.baseAddress!, 0, ckpt_ipc_permission.self)
        guard p.key == r.pointee.key, p.cuid == r.pointee.cuid, p.cgid == r.pointee.cgid else { return .taken }
        if r.pointee.kind == CKPT_IPC_SEGMENT.rawValue && !isShared(i) { return field(b.baseAddress!, 0, ckpt_segment_state.self).attachments == 0 ? .left : .taken }
        if r.pointee.kind == CKPT_IPC_SEMAPHORES.rawValue && field(b.baseAddress!, 0, ckpt_semaphores_state.self).count != r.pointee.size { return .taken }
        return .left
    }
}
private func isFree(key i: Int) -> Bool { get(i, 0, flags: 0) == -2 }

/// shmget(2), semget(2), msgget(2)
private func get(_ i: Int, _ size: Int, flags: Int) -> Int {
    let key = Int(ipc[i].pointee.key)
    switch ipc[i].pointee.kind {
    case CKPT_IPC_SEGMENT.rawValue: return there(CKPT_SYS_shmget, key, size, flags)
    case CKPT_IPC_SEMAPHORES.rawValue: return there(CKPT_SYS_semget, key, size, flags)
    default: return there(CKPT_SYS_msgget, key, flags)
    }
}

/// What others use too, before anything is made.
func checkSystemV() {
    for i in 0..<ipc.count where isThere(i) && isShared(i) {
        guard state.pointee.ipc == ENGINE_IPC_ATTACH.rawValue else {
            refuse(.lacks) { l in putIPC(i, &l); l.put("programs outside the tree use it as well; to go on with it as it is now, use --ipc attach") }
        }
        guard standing(i) == .left else { refuse(.lacks) { l in putIPC(i, &l); l.put("used by programs outside the tree, and not there any more; start them again, and the tree anew") } }
    }
}

private func mustMake(_ i: Int) -> Bool {
    if isShared(i) { return false }
    return ipc[i].pointee.flags & CKPT_IPC_LOOSE.rawValue == 0 || standing(i) != .left
}

/// An object whose id or key belongs to another here; −1: none.
func takenIPC() -> Int {
    for i in 0..<ipc.count where isThere(i) && mustMake(i) && standing(i) == .taken { return i }
    return -1
}
/// In a pid namespace the tree gets an IPC namespace of its own, if it has what needs one.
func needsIPCNamespace() -> Bool {
    var own = -1, outside = -1
    for i in 0..<ipc.count where isThere(i) { if isShared(i) { outside = i } else if mustMake(i) { own = i } }
    if own >= 0 && outside >= 0 {
        refuse(.lacks) { l in putIPC(own, &l); l.put("needs an IPC namespace of its own in a new pid namespace, while the tree uses "); putIPC(outside, &l); l.put("restart it with --pids keep, as root") }
    }
    return own >= 0
}

/// In the builder, where the tree's ids are given; what shows pids of an inner pid namespace that one's first process makes.
func makeSystemV() {
    makeTrees()
    inParts { makePart(in: 0) }
}
/// In the first process of a pid namespace, before it has children.
func makeInnerSystemV() { inParts { makePart(in: here) } }

/// In each namespace of a part that has objects.
private func inParts(_ body: () -> Void) {
    for n in 0..<namespaces.count where namespaces[n].pointee.kind == CKPT_NAMESPACE_IPC.rawValue && !isWhole(n) {
        state.pointee.ipc_place = UInt32(n) + 1
        body()
    }
    state.pointee.ipc_place = 0
}
private func makePart(in pids: UInt32) {
    var any = false
    for i in 0..<ipc.count where isThere(i) && ipc[i].pointee.pids == pids { make(i); any = true }
    if !any { return }
    fillSegments(in: pids)
    openQueueDescriptions()
}
private func makeTrees() {
    for i in 0..<ipc.count where isThere(i) && isShared(i) && isPosix(i) { openOutsideQueue(i) }
    for i in 0..<ipc.count where isThere(i) && !isShared(i) {
        switch standing(i) {
        case .taken: refuseTakenIPC(i)
        case .left: adopt(i)
        case .free: make(i)
        }
    }
    fillSegments(in: 0)
    openQueueDescriptions()
}

/// Nobody has the segment attached, so a new one is as good; of semaphores and queues nobody can say who waits for them: they stay, and get their contents.
private func adopt(_ i: Int) {
    if isPosix(i) { adoptQueue(i); return }
    if ipc[i].pointee.kind == CKPT_IPC_SEGMENT.rawValue { _ = control(i, IPCCommand.remove); make(i); return }
    ipc[i].pointee.flags |= adopted
    if ipc[i].pointee.flags & CKPT_IPC_LOOSE.rawValue == 0 { setContents(i) }
}
private func setContents(_ i: Int) {
    switch ipc[i].pointee.kind {
    case CKPT_IPC_SEMAPHORES.rawValue: setSemaphores(i, isNew: isMade(i))
    case CKPT_IPC_QUEUE.rawValue: fillQueue(i, isNew: isMade(i))
    default: break
    }
}

private func make(_ i: Int) {
    if isPosix(i) { makePosixQueue(i); ipc[i].pointee.flags |= made; return }
    let r = ipc[i], mode = Int(r.pointee.mode & 0o777) | 0o600, flags = mode | create | exclusive
    let isSegment = r.pointee.kind == CKPT_IPC_SEGMENT.rawValue
    // Somebody else may take the number between the two calls.
    var id = -17, tries = 0
    while tries < 16 {
        let chosen = chooseId(r.pointee.kind, r.pointee.id)
        guard chosen > 0 else { refuse(chosen) { l in putIPC(i, &l); l.put("its id cannot be chosen; restart it as root, or with --pids ns") } }
        let who = Creator(pid: isSegment ? r.pointee.creator : 0, uid: r.pointee.cuid, gid: r.pointee.cgid)
        switch r.pointee.kind {
        case CKPT_IPC_SEGMENT.rawValue: id = call(as: who, CKPT_SYS_shmget, Int(r.pointee.key), int(r.pointee.size), flags)
        case CKPT_IPC_SEMAPHORES.rawValue: id = call(as: who, CKPT_SYS_semget, Int(r.pointee.key), int(r.pointee.size), flags)
        default: id = call(as: who, CKPT_SYS_msgget, Int(r.pointee.key), flags)
        }
        guard id >= 0 else { break }
        if id == Int(r.pointee.id) { r.pointee.flags |= made; break }
        _ = control(r.pointee.kind, id, IPCCommand.remove)
        tries += 1
    }
    if id < 0 { spendId(r.pointee.kind) }
    if id == -17 || (id >= 0 && !isMade(i)) { refuseTakenIPC(i) }
    guard id >= 0 else { refuseIPC(i, id, "cannot be made; raise the limits kernel.shmmax, kernel.shmall, kernel.sem, kernel.msgmni") }
    setContents(i)
}

private func chooseId(_ kind: UInt32, _ id: Int32) -> Int {
    let path: StaticString = kind == CKPT_IPC_SEGMENT.rawValue ? "/proc/sys/kernel/shm_next_id" : kind == CKPT_IPC_SEMAPHORES.rawValue ? "/proc/sys/kernel/sem_next_id" : "/proc/sys/kernel/msg_next_id"
    let fd = there(CKPT_SYS_open, int(path.cString), 0o2000001)
    if fd < 0 { return fd }
    var l = Line()
    l.put(signed: Int64(id))
    let n = l.count, r = l.withCString { there(CKPT_SYS_write, fd, int($0), n) }
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
    return r
}
/// The number that we asked for must not go to a stranger.
private func spendId(_ kind: UInt32) {
    let id: Int
    switch kind {
    case CKPT_IPC_SEGMENT.rawValue: id = there(CKPT_SYS_shmget, 0, 4096, 0o600 | create)
    case CKPT_IPC_SEMAPHORES.rawValue: id = there(CKPT_SYS_semget, 0, 1, 0o600 | create)
    default: id = there(CKPT_SYS_msgget, 0, 0o600 | create)
    }
    if id >= 0 { _ = control(kind, id, IPCCommand.remove) }
}

/// When every process has attached what it had: owner, mode and what else might have stood in the way.
func finishSystemV() {
    finishThere()
    inParts(finishThere)
}
private func finishThere() {
    defer { noteSystemV() }
    for i in 0..<ipc.count where isThere(i) && (isMade(i) || isAdopted(i)) && !isPosix(i) {
        let r = ipc[i], isSegment = r.pointee.kind == CKPT_IPC_SEGMENT.rawValue
        setOwner(i)
        if r.pointee.flags & CKPT_IPC_LOCKED.rawValue != 0 {
            let lock = 11, e = control(i, lock)
            guard e == 0 else { refuseIPC(i, e, "cannot be locked in memory; raise the limit on locked memory (ulimit -l)") }
        }
        if isSegment && r.pointee.flags & CKPT_IPC_REMOVED.rawValue != 0 {
            _ = control(i, IPCCommand.remove)
            if r.pointee.place == 0 { _ = system(CKPT_SYS_shmdt, int(objectStaging[r.pointee.object].pointee)) }
        }
    }
}

/// The session knows them as its own, as they are from now on.
private func noteSystemV() {
    let part = Int(state.pointee.ipc_place) - 1
    let place = UInt32(truncatingIfNeeded: part < 0 ? status(path: StaticString("/proc/self/ns/ipc").cString).status.inode : status(fd: engine_namespace_fd(UInt32(part)).pointee).inode)
    for i in 0..<ipc.count where isThere(i) && !isPosix(i) {
        let r = ipc[i].pointee
        var s = InlineArray<128, UInt8>(repeating: 0), what: UInt32 = 0, changed: Int64 = 0
        withUnsafeMutableBytes(of: &s) { b in
            guard control(i, IPCCommand.status, int(b.baseAddress!)) == 0 else { return }
            what = ckpt_ipc_what(r.kind, r.key, r.size)
            changed = r.kind == CKPT_IPC_SEGMENT.rawValue ? field(b.baseAddress!, 0, ckpt_segment_state.self).changed
                : r.kind == CKPT_IPC_SEMAPHORES.rawValue ? field(b.baseAddress!, 0, ckpt_semaphores_state.self).changed : field(b.baseAddress!, 0, ckpt_queue_state.self).changed
        }
        if !ckpt_note_ipc(session, r.kind, ckpt_ipc_object(place, r.id), what, UInt32(truncatingIfNeeded: changed)) { session.pointee.ipc_unseen |= 1 << r.kind }
    }
}

/// As an id of the records is called where the objects are.
private func idThere(_ id: UInt32, isGroup: UInt32) -> UInt32 {
    let before = state.pointee.entered_users
    defer { state.pointee.entered_users = before }
    if state.pointee.ipc_place != 0 {
        let owner = namespaces[state.pointee.ipc_place - 1].pointee.owner
        if owner != 0 && !isWhole(Int(owner) - 1) { state.pointee.entered_users = owner }
    }
    return idHere(id, isGroup: isGroup)
}

/// IPC_SET of what the maker's ids and the call did not give.
private func setOwner(_ i: Int) {
    let r = ipc[i], uid = idThere(r.pointee.uid, isGroup: 0), gid = idThere(r.pointee.gid, isGroup: 1)
    var s = InlineArray<128, UInt8>(repeating: 0)
    withUnsafeMutableBytes(of: &s) { b in
        guard control(i, IPCCommand.status, int(b.baseAddress!)) == 0 else { return }
        var p = field(b.baseAddress!, 0, ckpt_ipc_permission.self)
        let q = field(b.baseAddress!, 0, ckpt_queue_state.self), isQueue = r.pointee.kind == CKPT_IPC_QUEUE.rawValue
        // IPC_SET also dates it: semaphores and queues that are older than the tree count as somebody else's.
        if r.pointee.kind == CKPT_IPC_SEGMENT.rawValue && p.uid == uid && p.gid == gid && p.mode & 0o777 == r.pointee.mode && (!isQueue || q.capacity == r.pointee.size) { return }
        p.uid = uid; p.gid = gid; p.mode = r.pointee.mode
        b.storeBytes(of: p, as: ckpt_ipc_permission.self)
        if isQueue { setCapacity(b, r.pointee.size) }
        let e = control(i, IPCCommand.set, int(b.baseAddress!))
        guard e == 0 || r.pointee.flags & CKPT_IPC_LOOSE.rawValue != 0 else { refuseIPC(i, e, "its owner, mode or capacity cannot be set; restart it as root, or raise kernel.msgmnb") }
    }
}
func setCapacity(_ state: UnsafeMutableRawBufferPointer, _ bytes: UInt64) {
    state.storeBytes(of: bytes, toByteOffset: Int(CKPT_OFFSET_QUEUE_CAPACITY), as: UInt64.self)
}

/// In the engine: a restart that has failed leaves nothing behind.
func removeSystemV() {
    for i in 0..<ipc.count {
        if isMade(i) && ipc[i].pointee.place == 0 && state.pointee.ipc_namespace == 0 { if isPosix(i) { unlinkQueue(i) } else { _ = control(i, IPCCommand.remove) } }
        ipc[i].pointee.flags &= ~(made | adopted)
        if isPosix(i) { forgetQueue(i) }
    }
}
