// Runs in the builder, and in each process for its undo values; on the region's main stack; no allocation, no libc.
// What is in System V semaphores and message queues, with the pids that the kernel notes: children with those pids do it.
import CkptABI
import EngineBoot
import Freestanding

private let setValue = 16, setAll = 17
private let noWait = Int16(CKPT_IPC_NOWAIT), undo = Int16(CKPT_SEM_UNDO) | Int16(CKPT_IPC_NOWAIT)

func setSemaphores(_ i: Int, isNew: Bool) {
    let r = ipc[i]
    var who = Creator(pid: 0, uid: r.pointee.cuid, gid: r.pointee.cgid), isOne = true
    for k in 1..<max(1, r.pointee.count) where semaphores[r.pointee.first + k].pointee.last != semaphores[r.pointee.first].pointee.last { isOne = false }
    if isOne && r.pointee.count > 1 {
        guard semaphores[r.pointee.first].pointee.last != 0 || !isNew else { return }
        who.pid = semaphores[r.pointee.first].pointee.last
        let values = UnsafeMutablePointer<UInt16>(bitPattern: UInt(state.pointee.copy))!
        for k in 0..<Int(r.pointee.count) { values[k] = UInt16(truncatingIfNeeded: semaphores[Int(r.pointee.first) + k].pointee.value) }
        let e = call(as: who, CKPT_SYS_semctl, Int(r.pointee.id), 0, setAll, int(values))
        guard e == 0 else { refuseIPC(i, e, "its values cannot be set") }
        return
    }
    for k in 0..<r.pointee.count {
        let s = semaphores[r.pointee.first + k].pointee
        if isNew && s.last == 0 && s.value == 0 { continue }
        who.pid = s.last
        let e = call(as: who, CKPT_SYS_semctl, Int(r.pointee.id), Int(k), setValue, Int(s.value))
        guard e == 0 else { refuseIPC(i, e, "its values cannot be set") }
    }
}

/// semadj counts what a process has done with SEM_UNDO: it does it again, and without SEM_UNDO the opposite.  What others use as well is taken anew,
/// since the end of the process that was has given it back.
func restoreAdjustments(_ process: Int) {
    for k in 0..<adjustments.count where adjustments[k].pointee.process == UInt32(process) {
        let a = adjustments[k].pointee, set = Int(a.set)
        let e = isShared(set) ? takeAgain(a) : adjust(a, semaphores[ipc[set].pointee.first + a.number].pointee.value)
        let again = -11
        if e == again { refuse(.temporary) { l in putProcess(process, &l); putIPC(set, &l); l.put("a program outside the tree has taken semaphore "); l.put(decimal: UInt64(a.number)); l.put("; wait until it gives it back") } }
        guard e == 0 else { refuse(e) { l in putProcess(process, &l); putIPC(set, &l); l.put("its undo value") } }
    }
}

private func adjust(_ a: ckpt_adjustment_record, _ value: Int32) -> Int {
    var operations = InlineArray<8, ckpt_semaphore_operation>(repeating: ckpt_semaphore_operation()), count = 0, left = a.value
    let half: Int32 = 16384
    while left != 0 {
        // There and back within the range of the value, which is on one side of its middle.
        let step = min(max(left, -(half - 1)), half - 1), change = -step, undoFirst = (value >= half) == (change < 0)
        operations[count] = ckpt_semaphore_operation(number: UInt16(a.number), change: Int16(undoFirst ? change : -change), flags: undoFirst ? undo : noWait)
        operations[count + 1] = ckpt_semaphore_operation(number: UInt16(a.number), change: Int16(undoFirst ? -change : change), flags: undoFirst ? noWait : undo)
        count += 2
        left -= step
    }
    return withUnsafeMutableBytes(of: &operations) { system(CKPT_SYS_semop, Int(ipc[a.set].pointee.id), int($0.baseAddress!), count) }
}
private func takeAgain(_ a: ckpt_adjustment_record) -> Int {
    var operation = ckpt_semaphore_operation(number: UInt16(a.number), change: Int16(truncatingIfNeeded: max(-32767, min(32767, -a.value))), flags: undo)
    return withUnsafeMutableBytes(of: &operation) { system(CKPT_SYS_semop, Int(ipc[a.set].pointee.id), int($0.baseAddress!), 1) }
}

func fillQueue(_ i: Int, isNew: Bool) {
    let r = ipc[i]
    if !isNew { drain(i) }
    var who = Creator(pid: r.pointee.creator, uid: r.pointee.cuid, gid: r.pointee.cgid)
    makeRoom(i)
    if r.pointee.last != 0 {
        // Somebody has received: a message of ours, that it receives now.
        var empty = InlineArray<2, Int64>(repeating: 1)
        withUnsafeMutableBytes(of: &empty) { b in
            _ = call(as: who, CKPT_SYS_msgsnd, Int(r.pointee.id), int(b.baseAddress!), 0, Int(CKPT_IPC_NOWAIT))
            _ = call(as: Creator(pid: r.pointee.last, uid: who.uid, gid: who.gid), CKPT_SYS_msgrcv, Int(r.pointee.id), int(b.baseAddress!), 8, 0, Int(CKPT_IPC_NOWAIT))
        }
    }
    for k in 0..<r.pointee.count {
        let m = queued[r.pointee.first + k].pointee
        if k + 1 < r.pointee.count { who.pid = 0 } else { who.pid = r.pointee.creator }
        let e = send(i, m, who)
        guard e == 0 else { refuseIPC(i, e, "a message cannot be put into it; raise kernel.msgmnb or kernel.msgmax") }
    }
}

/// By a process of the tree: whoever receives is noted, and the engine is none.
private func drain(_ i: Int) {
    let r = ipc[i], who = Creator(pid: r.pointee.last != 0 ? r.pointee.last : r.pointee.creator, uid: r.pointee.cuid, gid: r.pointee.cgid)
    let b = int(UnsafeMutableRawPointer(bitPattern: UInt(state.pointee.copy))!), cut = 0o10000
    while call(as: who, CKPT_SYS_msgrcv, Int(r.pointee.id), b, 65528, 0, Int(CKPT_IPC_NOWAIT) | cut) >= 0 {}
}

/// msg_qbytes as it was, or for as long as it is filled, as large as what is in it.
private func makeRoom(_ i: Int) {
    let r = ipc[i]
    var bytes: UInt64 = 0, s = InlineArray<128, UInt8>(repeating: 0)
    for k in 0..<r.pointee.count { bytes += queued[r.pointee.first + k].pointee.size }
    withUnsafeMutableBytes(of: &s) { b in
        guard control(i, IPCCommand.status, int(b.baseAddress!)) == 0 else { return }
        let wanted = max(max(r.pointee.size, bytes), UInt64(r.pointee.count) + 1)
        if field(b.baseAddress!, 0, ckpt_queue_state.self).capacity >= wanted { return }
        setCapacity(b, wanted)
        let e = control(i, IPCCommand.set, int(b.baseAddress!))
        guard e == 0 else { refuse(e) { l in putIPC(i, &l); l.put("its capacity of "); l.put(decimal: wanted); l.put(" bytes cannot be set; restart it as root, or raise kernel.msgmnb") } }
    }
}

private func send(_ i: Int, _ m: ckpt_queued_record, _ who: Creator) -> Int {
    let b = anonymous(m.size + 8), id = Int(ipc[i].pointee.id)
    b.storeBytes(of: m.type, as: Int64.self)
    if m.size > 0 { readStatefile(b + 8, m.size, at: m.content) }
    let e = who.pid == 0 ? there(CKPT_SYS_msgsnd, id, int(b), int(m.size), Int(CKPT_IPC_NOWAIT)) : call(as: who, CKPT_SYS_msgsnd, id, int(b), int(m.size), Int(CKPT_IPC_NOWAIT))
    _ = ckpt_munmap(UInt64(UInt(bitPattern: b)), m.size + 8)
    return e
}
