// Runs in a leader, parked in the SIGCKPT handler, every signal blocked: System V IPC, as only a process inside its namespace, with its rights, can see it.
// The initiator words the questions as system calls; none of them changes what it looks at.
import CkptABI
import PreloadBoot
import Freestanding

func answerAsks(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>) {
    let asks = ckpt_arena(session, process.pointee.asks_offset).assumingMemoryBound(to: ckpt_ask.self)
    var i = 0
    while i < Int(process.pointee.asks_count) {
        let ask = asks + i
        func argument(_ n: Int32) -> Int {
            let value = ckpt_ask_argument(ask, n).pointee
            return ask.pointee.relative & 1 << UInt32(n) != 0 ? Int(bitPattern: ckpt_arena(session, UInt64(bitPattern: value))) : Int(value)
        }
        switch ask.pointee.number {
        case Int64(CKPT_ASK_ADJUSTMENT): ask.pointee.result = Int64(adjustment(argument(0), argument(1)))
        case Int64(CKPT_ASK_RING_NOTES): ask.pointee.result = Int64(copyRingNotes(to: argument(0)))
        case Int64(CKPT_ASK_RING): ask.pointee.result = Int64(copyRing(argument(0), argument(1), argument(2), to: argument(3)))
        default: ask.pointee.result = Int64(ckpt_syscall(Int(ask.pointee.number), argument(0), argument(1), argument(2), argument(3), argument(4), argument(5)))
        }
        if ask.pointee.number == Int64(CKPT_SYS_userfaultfd) && ask.pointee.result >= 0 { ckpt_runtime().pointee.tracking = Int32(truncatingIfNeeded: ask.pointee.result) + 1 }
        if ask.pointee.number == Int64(CKPT_SYS_close) { ckpt_runtime().pointee.tracking = 0 }
        i += 1
    }
}

/// An initiator that died before it had this closed.
func closeTracking() {
    let runtime = ckpt_runtime()
    if runtime.pointee.tracking != 0 { _ = ckpt_close(runtime.pointee.tracking - 1) }
    runtime.pointee.tracking = 0
}

/// semadj of one semaphore in this process.  Nothing shows it, but an operation that would take it out of its range (−32768 to 32767) fails with ERANGE;
/// and a list of operations of which the last must fail changes nothing at all (semop(2)).  So the range is halved until the value is known.
/// Less than −32768: a negative errno, 65536 below.
private func adjustment(_ set: Int, _ number: Int) -> Int {
    let farBelow = 65536, busy = -16
    var tries = 0
    while tries < 64 {
        let before = semaphoreValue(set, number)
        if before < 0 { return before - farBelow }
        let found = search(set, number, before)
        if found > -farBelow && found != 0 && search(set, number, before) != found { tries += 1; continue }
        // Programs outside the tree go on meanwhile: what was found holds when it is found twice, and the value has not changed.
        if semaphoreValue(set, number) == before { return found }
        tries += 1
    }
    return busy - farBelow
}
private func semaphoreValue(_ set: Int, _ number: Int) -> Int { ckpt_syscall(CKPT_SYS_semctl, set, number, 12, 0, 0, 0) }

private func search(_ set: Int, _ number: Int, _ value: Int) -> Int {
    let farBelow = 65536
    var low = 1, high = 32767, up = true
    var r = overflows(set, number, value, high, up: true)
    if r == 0 { up = false; high = 32768; r = overflows(set, number, value, high, up: false); if r == 0 { return 0 } }
    if r < 0 { return r - farBelow }
    while low < high {
        let middle = (low + high) / 2
        r = overflows(set, number, value, middle, up: up)
        if r < 0 { return r - farBelow }
        if r == 1 { high = middle } else { low = middle + 1 }
    }
    return up ? 32768 - low : low - 32769
}

private struct OperationList {
    private var all = InlineArray<8, ckpt_semaphore_operation>(repeating: ckpt_semaphore_operation())
    private(set) var count = 0
    mutating func add(_ number: Int, _ change: Int, _ flags: Int16) {
        all[count] = ckpt_semaphore_operation(number: UInt16(number), change: Int16(change), flags: flags)
        count += 1
    }
    mutating func perform(_ set: Int) -> Int { withUnsafeMutableBytes(of: &all) { ckpt_syscall(CKPT_SYS_semop, set, Int(bitPattern: $0.baseAddress!), count, 0, 0, 0) } }
}

/// 1: semadj + shift (or semadj − shift) is out of range; 0: it is not; a negative errno when it can't be told.
private func overflows(_ set: Int, _ number: Int, _ value: Int, _ shift: Int, up: Bool) -> Int {
    let largest = Int(CKPT_SEMAPHORE_LARGEST), noWait = Int16(CKPT_IPC_NOWAIT), undo = Int16(CKPT_SEM_UNDO) | Int16(CKPT_IPC_NOWAIT)
    var operations = OperationList(), left = shift
    // To the end of the value's range from which there is most room.
    let first = up ? largest - value : -value
    if first != 0 { operations.add(number, first, noWait) }
    while left > 0 {
        let step = min(left, largest)
        operations.add(number, up ? -step : step, undo)
        operations.add(number, up ? step : -step, noWait)
        left -= step
    }
    // No value has room for both: this fails whatever the value has become.
    operations.add(number, -largest, noWait)
    operations.add(number, -1, noWait)
    let r = operations.perform(set), again = -11, range = -34
    return r == range ? 1 : r == again ? 0 : r < 0 ? r : -5
}

/// No clone inherits the attachments while it is made: each would be counted and dated (shmctl(2), shm_nattch, shm_atime, shm_lpid).
func keepSegments(_ list: UnsafeMutablePointer<ckpt_range>, _ count: Int, fromClone: Bool) {
    let dontFork: Int32 = 10, doFork: Int32 = 11
    var i = 0
    while i < count {
        let isOwn = list[i].copy & 2 == 0          // not the program's own MADV_DONTFORK
        if list[i].kind == CKPT_RANGE_SEGMENT.rawValue && list[i].start != 0 && isOwn { _ = ckpt_madvise(list[i].start, list[i].end - list[i].start, fromClone ? dontFork : doFork) }
        i += 1
    }
}
func hasSegments(_ list: UnsafeMutablePointer<ckpt_range>, _ count: Int) -> Bool {
    var i = 0
    while i < count { if list[i].kind == CKPT_RANGE_SEGMENT.rawValue { return true }; i += 1 }
    return false
}

/// An attachment of our own to a segment that no process of the tree has attached; its address.
func attachSegment(_ range: ckpt_range) throws(Errno) -> UInt64 {
    let readOnly = 0o10000
    return UInt64(try check(ckpt_syscall(CKPT_SYS_shmat, Int(range.copy >> 32), 0, readOnly, 0, 0, 0)))
}
func detachSegment(_ address: UInt64) { _ = ckpt_syscall(CKPT_SYS_shmdt, Int(address), 0, 0, 0, 0, 0) }
