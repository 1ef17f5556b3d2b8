// Who has entered a user namespace of a part may not choose pids outside of that.  A numberer, who stays outside, does it as anybody may: it tells the
// kernel which pid was the last (/proc/sys/kernel/ns_last_pid), and the next task gets the one after it.  If somebody else was faster, that task ends, and
// it is tried again.  There is one in each pid namespace where it takes one, and one task is created at a time.
// Runs in the builder, its numberers and the processes of the tree; no allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

private let lastPid: StaticString = "/proc/sys/kernel/ns_last_pid"
private enum Ask { static let nothing: UInt32 = 0, set: UInt32 = 1, check: UInt32 = 2, back: UInt32 = 3, end: UInt32 = 4 }
private enum Verdict { static let none: UInt32 = 0, right: UInt32 = 1, wrong: UInt32 = 2 }

/// May somebody in that user namespace of a part choose pids in that pid namespace?
private func mayChoose(_ place: UInt32, in users: UInt32) -> Bool { isInside(place == 0 ? 0 : namespaces[Int(place) - 1].pointee.owner, users) }
/// In how many pid namespaces, from that one outwards, this process may.
func chosenLevels(_ place: UInt32) -> Int {
    var p = place, count = 0
    while mayChoose(p, in: state.pointee.entered_users) {
        count += 1
        if p == 0 { break }
        p = around(p)
    }
    return count
}
private func isNeeded(at place: UInt32) -> Bool {
    func isAsked(from inner: UInt32, in users: UInt32) -> Bool {
        var p = inner
        while p != place && p != 0 { p = around(p) }
        return p == place && users != 0 && !mayChoose(place, in: users)
    }
    for i in 0..<processes.count where processes[i].pointee.task_count > 1 && isAsked(from: UInt32(processes[i].pointee.pids), in: UInt32(processes[i].pointee.users)) { return true }
    for k in 0..<namespaces.count where isPid(k) && isAsked(from: UInt32(k) + 1, in: namespaces[k].pointee.owner) { return true }
    return false
}

/// In the builder, where there is a first process, or will be one.
func startNumberers(in places: ClosedRange<UInt32>) {
    if state.pointee.mode == ENGINE_PIDS_NEW.rawValue { return }
    for place in places where Int(place) <= namespaces.count && (place == 0 || isPid(Int(place) - 1)) && isNeeded(at: place) {
        // What gets no number from us shall not take one of the tree's.
        if place == 0 && state.pointee.mode == ENGINE_PIDS_NS.rawValue && state.pointee.init_node < 0 { _ = writeText(lastPid) { $0.put(signed: Int64(highestNumber(in: 0))) } }
        let r = among(place) { forkNumberer(place) }
        guard r > 0 else { refuse(r) { $0.put("a process that has pids given for user namespaces of the tree; restart it as root") } }
        engine_board_numberer(board, place).pointee = Int32(truncatingIfNeeded: r)
    }
}
/// It stays for a while: everywhere with a number that nobody needs.
private func forkNumberer(_ place: UInt32) -> Int {
    var r = -17, attempt: Int32 = 0
    while r == -17 && attempt < 1000 {
        var numbers = InlineArray<32, Int32>(repeating: 0), count = 0, p = place, a = childArguments(flags: 0, exitSignal: 0)
        attempt += 1
        while p != 0 { numbers[count] = highestNumber(in: p) + attempt; count += 1; p = around(p) }
        numbers[count] = state.pointee.init_node >= 0 ? highestNumber(in: 0) + attempt : sparePid()
        r = withUnsafeMutableBytes(of: &numbers) { n in
            a.set_tid = UInt64(UInt(bitPattern: n.baseAddress!)); a.set_tid_size = UInt64(count + 1)
            return ckpt_clone3(&a, numberer, UInt64(place))
        }
    }
    return r
}
func endNumberers() {
    for place in 0...UInt32(namespaces.count) where engine_board_numberer(board, place).pointee != 0 {
        post(Ask.end, at: place)
        var e = -4
        while e == -4 { e = system(CKPT_SYS_wait4, Int(engine_board_numberer(board, place).pointee), 0, 0x4000_0000, 0) }
        engine_board_numberer(board, place).pointee = 0
    }
}

private func post(_ what: UInt32, at place: UInt32) {
    ckpt_store(engine_board_asked(board, place), what)
    _ = ckpt_futex_wake(engine_board_asked(board, place), Int32.max)
}

private let numberer: @convention(c) (UInt64) -> Void = { argument in
    let place = UInt32(argument), word = engine_board_asked(board, place), tgkill = 234
    beChild()
    _ = ckpt_prctl(1, 9, 0, 0, 0)
    var before: Int64 = -1, r = 0
    while true {
        waitWhile(word, is: Ask.nothing)
        switch ckpt_load(word) {
        case Ask.set:
            if before < 0 { before = readNumber(lastPid, hexadecimal: false) ?? 0 }
            r = writeText(lastPid) { $0.put(decimal: UInt64(number(board.pointee.number_tid, in: place)) - 1) }
        case Ask.check:
            let tid = number(board.pointee.number_tid, in: place)
            if board.pointee.number_pid != 0 { r = system(tgkill, Int(number(board.pointee.number_pid, in: place)), Int(tid), 0) } else { r = fileOwner() == tid ? 0 : -3 }
        case Ask.back:
            if before >= 0 { _ = writeText(lastPid) { $0.put(signed: before) } }
            before = -1
        default: ckpt_exit_group(0)
        }
        board.pointee.number_result = Int32(truncatingIfNeeded: min(r, 0))
        post(Ask.nothing, at: place)
    }
}

/// From inside to outside, those where this process may not choose.
private func ask(_ what: UInt32, _ place: UInt32) -> Int {
    var p = place
    while true {
        if !mayChoose(p, in: state.pointee.entered_users) {
            post(what, at: p)
            // Whoever sleeps now is late: others get the number.
            var spins = 0
            while what == Ask.set && spins < 200_000 && ckpt_load(engine_board_asked(board, p)) == what { spins += 1 }
            waitWhile(engine_board_asked(board, p), is: what)
            if board.pointee.number_result != 0 { return Int(board.pointee.number_result) }
        }
        if p == 0 { return 0 }
        p = around(p)
    }
}

// The kernel translates whom a file's signals go to: what one calls that process, another learns so, on a file that both have.
private let setOwner = 15, getOwner = 16
private func fileOwner() -> Int32 {
    var owner = InlineArray<2, Int32>(repeating: 0)
    _ = withUnsafeMutableBytes(of: &owner) { system(CKPT_SYS_fcntl, Int(state.pointee.segment_fd), getOwner, int($0.baseAddress!)) }
    return owner[1]
}
private func setFileOwner(_ pid: Int) {
    var owner = InlineArray<2, Int32>(repeating: 1)         // F_OWNER_PID
    owner[1] = Int32(truncatingIfNeeded: pid)
    _ = withUnsafeMutableBytes(of: &owner) { system(CKPT_SYS_fcntl, Int(state.pointee.segment_fd), setOwner, int($0.baseAddress!)) }
}

/// While somebody waits for a number, nobody of the tree shall take one that the kernel chooses.  Did this process take the lock?
func lockNumbers() -> Bool {
    if state.pointee.holds_numbers != 0 { return false }
    let lock = engine_board_number_lock(board)
    while !ckpt_cas(lock, 0, 1) { waitWhile(lock, is: 1) }
    state.pointee.holds_numbers = 1
    return true
}
func unlockNumbers(_ locked: Bool) {
    if !locked { return }
    state.pointee.holds_numbers = 0
    ckpt_store(engine_board_number_lock(board), 0)
    _ = ckpt_futex_wake(engine_board_number_lock(board), 1)
}

/// clone3(2) with the pid that it had, in that pid namespace; `group`: of a thread, else 0.  It begins with `isNumbered`.
func cloneNumbered(_ a: inout ckpt_clone_args, _ pid: Int32, inside place: UInt32, group: Int32, _ entry: @convention(c) (UInt64) -> Void, _ argument: UInt64) -> Int {
    var r = -17, wrong = 0, tries = 0
    while r == -17 && tries < 1000 {
        r = tryNumbered(&a, pid, inside: place, group: group, wrong: &wrong, entry, argument)
        if wrong > 0 && group == 0 { _ = system(CKPT_SYS_wait4, wrong, 0, 0x4000_0000, 0) }
        tries += 1
        if tries > 100 { var t = ckpt_timespec(sec: 0, nsec: 1_000_000); _ = system(CKPT_SYS_nanosleep, int(&t), 0) }
    }
    return r
}

/// Once; −17: somebody else was faster.  `wrong`: the task that has another number now, and ends; a thread has ended.
func tryNumbered(_ a: inout ckpt_clone_args, _ pid: Int32, inside place: UInt32, group: Int32, wrong: inout Int, _ entry: @convention(c) (UInt64) -> Void, _ argument: UInt64) -> Int {
    let alive = engine_board_number_alive(board), verdict = engine_board_number_verdict(board), clearsTid: UInt64 = 0x200000
    var wanted = InlineArray<32, Int32>(repeating: 0)
    _ = fillPids(pid, of: place, &wanted)
    let own = chosenLevels(place)
    let locked = lockNumbers()
    board.pointee.number_tid = pid
    board.pointee.number_pid = group
    wrong = 0
    var r = ask(Ask.set, place)
    if r == 0 {
        ckpt_store(alive, 1)
        if group != 0 { a.flags |= clearsTid; a.child_tid = UInt64(UInt(bitPattern: alive)) }
        r = withUnsafeMutableBytes(of: &wanted) { w in
            a.set_tid = own > 0 ? UInt64(UInt(bitPattern: w.baseAddress!)) : 0; a.set_tid_size = UInt64(own)
            return ckpt_clone3(&a, entry, argument)
        }
    }
    if r > 0 {
        if group == 0 { setFileOwner(r) }
        let isRight = r == Int(number(pid, in: here)) && ask(Ask.check, place) == 0
        if group == 0 { setFileOwner(0) }
        let said = isRight ? Verdict.right : Verdict.wrong
        ckpt_store(verdict, said)
        _ = ckpt_futex_wake(verdict, Int32.max)
        waitWhile(verdict, is: said)
        if !isRight { if group != 0 { waitWhile(alive, is: 1) }; wrong = r; r = -17 }
    }
    _ = ask(Ask.back, place)
    unlockNumbers(locked)
    return r
}

/// In the new task: who has the wrong number ends.
func isNumbered() -> Bool {
    let verdict = engine_board_number_verdict(board)
    waitWhile(verdict, is: Verdict.none)
    let isRight = ckpt_load(verdict) == Verdict.right
    ckpt_store(verdict, Verdict.none)
    _ = ckpt_futex_wake(verdict, Int32.max)
    return isRight
}
