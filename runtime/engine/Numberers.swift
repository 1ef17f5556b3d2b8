// Who has entered a user namespace of a part may not choose pids outside of that.  A numberer, who stays outside, does it as anybody may: it tells the
// kernel which pid was the last (/proc/sys/kernel/ns_last_pid), and the next task gets the one after it.  If somebody else was faster, that task ends, and
// it is tried again.  There is one in each pid namespace where it takes one, and one task is created at a time.
// Runs in the builder, its numberers and the processes of the tree; no allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

private enum Ask { static let nothing: UInt32 = 0, set: UInt32 = 1, check: UInt32 = 2, back: UInt32 = 3, end: UInt32 = 4 }
private enum Verdict { static let none: UInt32 = 0, right: UInt32 = 1, wrong: UInt32 = 2 }

/// May somebody in that user namespace of a part choose pids in that pid namespace?
private func mayChoose(_ place: UInt32, in users: UInt32) -> Bool {
    var owner = place == 0 ? 0 : namespaces[Int(place) - 1].pointee.owner
    while owner != 0 && owner != users { owner = namespaces[Int(owner) - 1].pointee.owner }
    return owner == users
}
private func isNeeded(at place: UInt32) -> Bool {
    for i in 0..<processes.count where processes[i].pointee.users != 0 && processes[i].pointee.task_count > 1 && state.pointee.mode != ENGINE_PIDS_NEW.rawValue {
        let users = UInt32(processes[i].pointee.users)
        var p = UInt32(processes[i].pointee.pids)
        while p != place && p != 0 { p = around(p) }
        if p == place && !mayChoose(place, in: users) { return true }
    }
    return false
}

/// In the builder, when each pid namespace has its first process.
func startNumberers() {
    for place in 0...UInt32(namespaces.count) where (place == 0 || isPid(Int(place) - 1)) && isNeeded(at: place) {
        let pid = place != 0 ? 0 : state.pointee.init_node >= 0 ? sparePidInside() : sparePid()
        let r = forkInhabitant(of: place, pid: pid, exitSignal: 0, argument: UInt64(place), numberer)
        guard r > 0 else { refuse(r) { $0.put("a process that has pids given for user namespaces of the tree; restart it as root") } }
        engine_board_numberer(board, place).pointee = Int32(truncatingIfNeeded: r)
    }
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
    let place = UInt32(argument), word = engine_board_asked(board, place), tgkill = 234, file: StaticString = "/proc/sys/kernel/ns_last_pid"
    beChild()
    _ = ckpt_prctl(1, 9, 0, 0, 0)
    var before: Int64 = -1, r = 0
    while true {
        waitWhile(word, is: Ask.nothing)
        switch ckpt_load(word) {
        case Ask.set:
            if before < 0 { before = readNumber(file, hexadecimal: false) ?? 0 }
            r = writeText(file) { $0.put(decimal: UInt64(number(board.pointee.number_tid, in: place)) - 1) }
        case Ask.check: r = system(tgkill, Int(number(board.pointee.number_pid, in: place)), Int(number(board.pointee.number_tid, in: place)), 0)
        case Ask.back:
            if before >= 0 { _ = writeText(file) { $0.put(signed: before) } }
            before = -1
        default: ckpt_exit_group(0)
        }
        board.pointee.number_result = Int32(truncatingIfNeeded: min(r, 0))
        post(Ask.nothing, at: place)
    }
}

/// From inside to outside, those where this process may not choose.
private func ask(_ what: UInt32) -> Int {
    var p = here
    while true {
        if !mayChoose(p, in: state.pointee.entered_users) {
            post(what, at: p)
            waitWhile(engine_board_asked(board, p), is: what)
            if board.pointee.number_result != 0 { return Int(board.pointee.number_result) }
        }
        if p == 0 { return 0 }
        p = around(p)
    }
}

/// clone3(2) of a thread, with the tid that it had; it begins with `isNumbered`.
func cloneNumbered(_ a: inout ckpt_clone_args, _ tid: Int32, _ entry: @convention(c) (UInt64) -> Void, _ argument: UInt64) -> Int {
    let lock = engine_board_number_lock(board), alive = engine_board_number_alive(board), verdict = engine_board_number_verdict(board), clearsTid: UInt64 = 0x200000
    var wanted = InlineArray<32, Int32>(repeating: 0), own = 0, r = -17, tries = 0
    let levels = fillOwnPids(tid, &wanted)
    var p = here
    while own < levels && mayChoose(p, in: state.pointee.entered_users) { own += 1; p = p == 0 ? 0 : around(p) }
    while !ckpt_cas(lock, 0, 1) { waitWhile(lock, is: 1) }
    board.pointee.number_tid = tid
    board.pointee.number_pid = processes[tasks[Int(argument)].pointee.process].pointee.pid
    while r == -17 && tries < 1000 {
        tries += 1
        r = ask(Ask.set)
        if r != 0 { break }
        ckpt_store(alive, 1)
        a.flags |= clearsTid; a.child_tid = UInt64(UInt(bitPattern: alive))
        r = withUnsafeMutableBytes(of: &wanted) { w in
            a.set_tid = own > 0 ? UInt64(UInt(bitPattern: w.baseAddress!)) : 0; a.set_tid_size = UInt64(own)
            return ckpt_clone3(&a, entry, argument)
        }
        if r <= 0 { break }
        let isRight = r == Int(wanted[0]) && ask(Ask.check) == 0
        ckpt_store(verdict, isRight ? Verdict.right : Verdict.wrong)
        _ = ckpt_futex_wake(verdict, Int32.max)
        waitWhile(verdict, is: isRight ? Verdict.right : Verdict.wrong)
        if isRight { break }
        waitWhile(alive, is: 1)
        r = -17
    }
    _ = ask(Ask.back)
    ckpt_store(lock, 0)
    _ = ckpt_futex_wake(lock, 1)
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
