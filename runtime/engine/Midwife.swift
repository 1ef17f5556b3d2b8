// Runs in processes that share the keeper's memory, one after the other, each on a stack of its own while those before it sleep (CLONE_VFORK);
// and in the branch that they serve.  No allocation, no libc.
// The memory of a process can only be inherited, so its forebear must have the keeper's; its parent, its namespaces and its session are the branch's.
// The midwife joins the branch's namespaces and takes over its descriptors and what its engine knows; the bearer, its child inside, forks the process and
// exits: the first process of the namespace adopts it.  Only that last fork copies page tables.
import CkptABI
import EngineBoot
import Freestanding

private let shareAndSleep: UInt64 = 0x100 | 0x4000      // CLONE_VM, CLONE_VFORK
private let newTime = 0x80, newUser = 0x1000_0000, newPid = 0x2000_0000

/// Creates a process in this one's memory, on stack `k`, and sleeps until it is gone.
func share(_ k: Int, pid: Int32, argument: UInt64, _ entry: @convention(c) (UInt64) -> Void) -> Int {
    var wanted = pid
    return withUnsafeMutableBytes(of: &wanted) { w in
        var a = ckpt_clone_args()
        a.flags = shareAndSleep
        a.exit_signal = 17
        a.stack = engine_template().pointee.range + UInt64(k) * UInt64(ENGINE_SHARING_STACK)
        a.stack_size = UInt64(ENGINE_SHARING_STACK)
        if pid != 0 { a.set_tid = UInt64(UInt(bitPattern: w.baseAddress!)); a.set_tid_size = 1 }
        return ckpt_clone3(&a, entry, argument)
    }
}

/// A pid that nobody in the tree needs.
func sparePid(from first: Int32 = 2) -> Int32 {
    func isNeeded(_ pid: Int32) -> Bool {
        for n in 0..<Int(state.pointee.node_count) where nodes[n].pointee.pid == pid { return true }
        for t in 0..<tasks.count where tasks[t].pointee.tid == pid { return true }
        return false
    }
    var pid = first
    while isNeeded(pid) || system(CKPT_SYS_kill, Int(pid), 0) != -3 { pid += 1 }
    return pid
}

// In the branch: its engine, then the first process of its namespace.

private func order(_ kind: Int, _ numbers: UnsafePointer<Int32>? = nil, _ count: Int = 0, node: Int = -1, leads: Int32 = 0, users: UInt32 = 0) {
    var o = engine_order()
    o.kind = UInt32(kind); o.count = UInt32(count)
    o.node = Int32(node); o.leads = leads; o.users = users
    if kind == ENGINE_MIDWIFE_STATE { noteNamespaces(engine_order_namespaces(&o)) }
    send(&o, numbers, count)
}
private func send(_ o: UnsafeMutablePointer<engine_order>, _ numbers: UnsafePointer<Int32>?, _ count: Int) {
    let r = send(state.pointee.channel, o, MemoryLayout<engine_order>.size, numbers, count)
    if r == -22 || r == -109 { refuse(r) { $0.put("--warm: a descriptor of the tree cannot be handed to a branch; restart it without --warm") } }
    guard r > 0 else { giveUpBranch() }
}
/// The midwife's own reason is on the board, if she had one.
private func giveUpBranch() -> Never {
    if ckpt_load(&board.pointee.failure) != 0 { abortBuilder() }
    refuse(.temporary) { $0.put("--warm: the template has ended or does not answer; make another with ckptctl warm, or restart it without --warm") }
}
private func awaitAnswer() -> (result: Int32, number: Int32) {
    var answer = engine_answer(), number: Int32 = -1
    guard receive(state.pointee.channel, &answer, MemoryLayout<engine_answer>.size, &number, 1).size > 0 else { giveUpBranch() }
    return (answer.result, number)
}

/// Has the midwife make the branch's time namespace, and enters it: she herself can't enter one of ours.
func enterMidwifesClocks() -> Bool {
    let s = state, (ours, midwifes) = socketPair()
    var byte: UInt8 = 1, end = midwifes
    let r = send(s.pointee.keeper, &byte, 1, &end, 1)
    _ = ckpt_close(midwifes)
    s.pointee.channel = lift(ours, "socket")
    setPatience(s.pointee.channel, seconds: 600)        // others may be before us
    guard r > 0 else { giveUpBranch() }
    var numbers = InlineArray<2, Int32>(repeating: -1)
    numbers[0] = Int32(truncatingIfNeeded: system(CKPT_SYS_pidfd_open, Int(ckpt_getpid()), 0))
    numbers[1] = s.pointee.board_fd
    numbers.span.withUnsafeBufferPointer { order(ENGINE_MIDWIFE_CLOCKS, $0.baseAddress!, 2, users: state.pointee.user_namespace) }
    _ = ckpt_close(numbers[0])
    let answer = awaitAnswer()
    guard answer.number >= 0 else { return false }
    let before = nanoseconds(1)
    let entered = system(CKPT_SYS_setns, Int(answer.number), newTime)
    _ = ckpt_close(answer.number)
    s.pointee.clock_last = s.pointee.clock_last &+ (nanoseconds(1) &- before)      // --timing goes on
    guard entered == 0 else { refuse(entered) { $0.put("time namespace of a branch") } }
    return true
}

/// In the builder: those that it would fork.  Who needs no memory it does fork.
func orderBirths() {
    let s = state
    var last = -1
    handOver()
    for n in 0..<Int(s.pointee.node_count) where nodes[n].pointee.creator < 0 {
        guard bearsMemory(n) else { create(n, by: -1); continue }
        // A leader that only bears others is the bearer herself: no copy is made for it.  She is there until all have joined her groups, so she comes last.
        if nodes[n].pointee.isTemporary && last < 0 { last = n; continue }
        order(ENGINE_MIDWIFE_BIRTH, node: n)
        _ = awaitAnswer()
    }
    if last >= 0 { order(ENGINE_MIDWIFE_BIRTH, node: last, leads: 1) }
    order(ENGINE_MIDWIFE_DONE)
    _ = ckpt_close(s.pointee.channel)
    s.pointee.channel = -1
}

/// What the processes would have inherited: the engine's state, its tables, its descriptors.
private func handOver() {
    // A sibling's parent would be the bearer's: it is adopted instead, by the builder like all.
    for n in 0..<Int(state.pointee.node_count) where nodes[n].pointee.way == Birth.sibling && nodes[n].pointee.parent < 0 { nodes[n].pointee.way = Birth.adopted }
    let memory = system(CKPT_SYS_memfd_create, int(StaticString("state").cString), 1)
    guard memory >= 0 else { refuse(memory) { $0.put("memory for the restart") } }
    var at: UInt64 = 0
    forEachPart { part, size in
        var done: UInt64 = 0
        while done < size {
            let r = ckpt_pwrite(Int32(truncatingIfNeeded: memory), UnsafeRawPointer(bitPattern: UInt(part + done))!, Int(size - done), at + done)
            guard r > 0 else { refuse(r) { $0.put("memory for the restart") } }
            done += UInt64(r)
        }
        at += size
    }
    var numbers = InlineArray<2, Int32>(repeating: -1)
    numbers[0] = Int32(truncatingIfNeeded: memory)
    numbers[1] = Int32(truncatingIfNeeded: system(CKPT_SYS_pidfd_open, Int(ckpt_getpid()), 0))
    numbers.span.withUnsafeBufferPointer { order(ENGINE_MIDWIFE_STATE, $0.baseAddress!, 2) }
    for k in 0..<2 { _ = ckpt_close(numbers[k]) }
    handOverDescriptors()
}

/// The state, the tables, and the arrays behind them: the same addresses in all processes of a template.
private func forEachPart(_ body: (UInt64, UInt64) -> Void) {
    let s = state, tables = s.pointee.stacks + UInt64(ENGINE_MAIN_STACK) + s.pointee.stack_count * UInt64(ENGINE_TASK_STACK)
    body(UInt64(UInt(bitPattern: s)), engine_state_size())
    body(tables, s.pointee.chunk - tables)
    body(s.pointee.object_staging, s.pointee.arrays_size)
}

private func handOverDescriptors() {
    let folder = ckpt_open(StaticString("/proc/self/fd").cString, 0o2200000, 0)
    guard folder >= 0 else { refuse(folder) { $0.put("/proc/self/fd") } }
    let b = UnsafeMutableRawPointer(bitPattern: UInt(state.pointee.copy))!, next = engine_next_order()
    next.pointee = engine_order()
    while true {
        let n = system(CKPT_SYS_getdents64, folder, int(b), 65536)
        guard n > 0 else { break }
        var at = 0
        while at < n {
            let number = decimal((b + at + 19).assumingMemoryBound(to: CChar.self))
            at += Int(field(b, at + 16, UInt16.self))
            if number < state.pointee.fd_floor || Int(number) == folder || number == state.pointee.channel { continue }
            engine_order_numbers(next)[Int(next.pointee.count)] = number
            next.pointee.count += 1
            if next.pointee.count == UInt32(ENGINE_PASSED) { passDescriptors(next) }
        }
    }
    passDescriptors(next)
    _ = ckpt_close(Int32(truncatingIfNeeded: folder))
}
private func passDescriptors(_ o: UnsafeMutablePointer<engine_order>) {
    if o.pointee.count == 0 { return }
    o.pointee.kind = UInt32(ENGINE_MIDWIFE_DESCRIPTORS)
    send(o, engine_order_numbers(o), Int(o.pointee.count))
    o.pointee.count = 0
}
private func decimal(_ t: UnsafeMutablePointer<CChar>) -> Int32 {
    var v: Int32 = 0, i = 0
    while t[i] >= 48 && t[i] <= 57 { v = v &* 10 &+ Int32(t[i] - 48); i += 1 }
    return i > 0 ? v : -1
}

// In the keeper's memory.

let midwifeEntry: @convention(c) (UInt64) -> Void = { _ in
    let t = engine_template()
    callThisProcess("ckpt-midwife")
    var o = engine_order(), numbers = InlineArray<200, Int32>(repeating: -1)
    while true {
        let r = withUnsafeMutableBytes(of: &numbers) { receive(t.pointee.channel, &o, MemoryLayout<engine_order>.size, $0.baseAddress!.assumingMemoryBound(to: Int32.self), Int(ENGINE_PASSED)) }
        if r.size <= 0 { ckpt_exit_group(0) }
        guard r.count == Int(o.count) else { refuse(.lacks) { $0.put("--warm: descriptors of the branch don't fit; raise the limit on open files (ulimit -Hn)") } }
        switch Int(o.kind) {
        case ENGINE_MIDWIFE_CLOCKS: makeClocks(engine: numbers[0], board: numbers[1], users: o.users != 0)
        case ENGINE_MIDWIFE_STATE: takeOver(numbers[0], first: numbers[1], &o)
        case ENGINE_MIDWIFE_DESCRIPTORS:
            for k in 0..<r.count { setAside(numbers[k], for: engine_order_numbers(&o)[k]) }
        case ENGINE_MIDWIFE_BIRTH: bear(o.node, leads: o.leads != 0)
        default: ckpt_exit_group(0)
        }
    }
}

private func answer(_ result: Int, _ number: Int32 = -1) {
    var a = engine_answer(result: Int32(truncatingIfNeeded: result)), number = number
    _ = send(engine_template().pointee.channel, &a, MemoryLayout<engine_answer>.size, &number, number >= 0 ? 1 : 0)
}

/// First of all the branch's board, for what may go wrong.
private func makeClocks(engine: Int32, board: Int32, users: Bool) {
    let m = ckpt_mmap(state.pointee.scratch, boardBytes, 3, 0x11, board, 0)
    guard !failed(m) else { ckpt_exit_group(Exit.internalError.rawValue) }
    if users {
        let r = system(CKPT_SYS_setns, Int(engine), newUser)
        guard r == 0 else { refuse(r) { $0.put("--warm: the user namespace of the branch cannot be entered") } }
    }
    _ = ckpt_close(engine)
    _ = ckpt_close(board)
    let r = system(CKPT_SYS_unshare, newTime)
    guard r == 0, writeClockOffsets() else { return answer(-1) }
    let clocks = ckpt_open(StaticString("/proc/self/ns/time_for_children").cString, 0o2000000, 0)
    answer(clocks, Int32(truncatingIfNeeded: clocks))
    if clocks >= 0 { _ = ckpt_close(Int32(truncatingIfNeeded: clocks)) }
}

/// The branch's state replaces what the keeper has here, which needs none; what it needs lies in engine_template.
private func takeOver(_ memory: Int32, first: Int32, _ o: inout engine_order) {
    var own = InlineArray<8, UInt32>(repeating: 0), at: UInt64 = 0
    withUnsafeMutableBytes(of: &own) { noteNamespaces($0.baseAddress!.assumingMemoryBound(to: UInt32.self)) }
    forEachPart { part, size in
        var done: UInt64 = 0
        while done < size {
            let r = ckpt_pread(memory, UnsafeMutableRawPointer(bitPattern: UInt(part + done))!, Int(size - done), at + done)
            guard r > 0 else { ckpt_exit_group(Exit.internalError.rawValue) }
            done += UInt64(r)
        }
        at += size
    }
    _ = ckpt_close(memory)
    state.pointee.is_engine = 0
    state.pointee.is_builder = 0
    var flags = newPid
    for kind in 1...6 where kind != Int(CKPT_NAMESPACE_USER.rawValue) && engine_order_namespaces(&o)[kind - 1] != own[kind - 1] { flags |= namespaceFlag(UInt32(kind)) }
    let r = system(CKPT_SYS_setns, Int(first), flags)
    guard r == 0 else { refuse(r) { $0.put("--warm: the namespaces of the branch cannot be entered") } }
    _ = ckpt_close(first)
    engine_template().pointee.highest = -1
}
private func namespaceFlag(_ kind: UInt32) -> Int {
    switch kind {
    case CKPT_NAMESPACE_UTS.rawValue: 0x400_0000
    case CKPT_NAMESPACE_IPC.rawValue: 0x800_0000
    case CKPT_NAMESPACE_NET.rawValue: 0x4000_0000
    case CKPT_NAMESPACE_CGROUP.rawValue: 0x200_0000
    default: 0x2_0000
    }
}

/// Until all are here: a number may still be in use by one that has just come.
private func setAside(_ fd: Int32, for number: Int32) {
    let t = engine_template(), r = system(CKPT_SYS_dup3, Int(fd), Int(t.pointee.numbers + number), 0o2000000)
    guard r >= 0, t.pointee.numbers + number < t.pointee.requests else { refuse(.lacks) { $0.put("--warm: the tree has too many descriptors for a template; raise the limit on open files (ulimit -Hn), or restart it without --warm") } }
    _ = ckpt_close(fd)
    t.pointee.highest = max(t.pointee.highest, number)
}

private func prepare() {
    let t = engine_template(), s = state
    if t.pointee.prepared != 0 { return }
    t.pointee.prepared = 1
    if t.pointee.highest >= 0 {
        for number in 0...t.pointee.highest where system(CKPT_SYS_dup3, Int(t.pointee.numbers + number), Int(number), 0o2000000) >= 0 { _ = ckpt_close(t.pointee.numbers + number) }
    }
    let m = ckpt_mmap(s.pointee.segment, segmentMapping, 3, 0x11, s.pointee.segment_fd, 0)
    guard !failed(m) else { refuse(m) { $0.put("session segment: cannot be mapped") } }
    copyMasters()
}

private func bear(_ n: Int32, leads: Bool) {
    prepare()
    engine_template().pointee.leads = leads ? 1 : 0
    let r = share(ENGINE_BEARER, pid: leads ? nodes[Int(n)].pointee.pid : sparePidInside(), argument: UInt64(n), bearerEntry)
    guard r > 0 else { refuseBirth(Int(n), r) }
    _ = system(CKPT_SYS_wait4, r, 0, 0, 0)
    if !leads { answer(0) }
}
/// From outside it can't be asked whether a pid is free inside: the kernel's choice, unless a process of the tree has a small one.
private func sparePidInside() -> Int32 {
    let pid = highestNumber(in: 0) + 1
    return pid < 32768 ? pid : 0
}

private let bearerEntry: @convention(c) (UInt64) -> Void = { n in
    if engine_template().pointee.leads != 0 { runNode(Int(n)) }
    prune(for: Int(n))
    let r = fork(pid: wantedPid(Int(n)), argument: n, nodeEntry)
    if r <= 0 { refuseBirth(Int(n), r) }
    ckpt_exit_group(0)
}
