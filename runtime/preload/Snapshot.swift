// Runs in a leader during the MEMORY phase, and in the snapshot that it clones: a copy-on-write image of the process that writes itself to the
// statefile while the original runs on.  Every signal is blocked.  The snapshot must be invisible: it keeps no descriptor, no shared mapping,
// no terminal session, and sends no signal when it ends (exit signal 0).
import CkptABI
import PreloadBoot
import Freestanding

func saveMemory(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>) {
    if process.pointee.memory_mode == CKPT_MEMORY_NONE.rawValue { return }
    ckpt_allow_all_keys()
    var writeInPlace = process.pointee.memory_mode == CKPT_MEMORY_IN_PLACE.rawValue
    let list = ranges(session, process), count = Int(process.pointee.ranges_count)
    if !writeInPlace && process.pointee.ranges_early != 0 && hasSegments(list, count) { _ = ckpt_call_on_stack(sharedInPlace, UnsafeMutableRawPointer(process), ckpt_writer_stack_top()) }
    if !writeInPlace {
        do throws(Errno) {
            defer { dropCopies(session, process); keepSegments(list, count, fromClone: false); takeEarlyBack(list, count) }
            try copyUninherited(session, process)
            keepSegments(list, count, fromClone: true)
            leaveEarlyOut(list, count)
            try cloneSnapshot(session, process)
        } catch {
            forgetCopies(session, process)
            // No memory or no process to be had: the application waits while its memory is written, and the report says so.
            process.pointee.snapshot_clone_errno = error.code
            writeInPlace = true
        }
    }
    if writeInPlace { _ = ckpt_call_on_stack(writerInPlace, UnsafeMutableRawPointer(process), ckpt_writer_stack_top()) }
}

private func cloneSnapshot(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>) throws(Errno) {
    let runtime = ckpt_runtime()
    ckpt_store(&process.pointee.snapshot_state, CKPT_SNAPSHOT_CLONED.rawValue)
    let child = try check(ckpt_syscall(Int(CKPT_SYS_clone), 0, 0, 0, 0, 0, 0))
    if child == 0 {
        runtime.pointee.is_snapshot = 1
        _ = ckpt_call_on_stack(snapshotBody, UnsafeMutableRawPointer(process), ckpt_writer_stack_top())
        ckpt_exit_group(0)
    }
    runtime.pointee.snapshot_pid = Int32(truncatingIfNeeded: child)
    runtime.pointee.snapshot_owner = process.pointee.pid
    process.pointee.snapshot_pid = Int32(truncatingIfNeeded: child)
    awaitDetached(session, process)
}

/// Whether it is no child of ours any more.
func takeSnapshotAway() -> Bool {
    let runtime = ckpt_runtime(), noHang = 1, clone = Int(Int32(bitPattern: 0x8000_0000))
    if ckpt_syscall(Int(CKPT_SYS_wait4), Int(runtime.pointee.snapshot_pid), 0, noHang | clone, 0, 0, 0) == 0 { return false }
    runtime.pointee.snapshot_pid = 0
    return true
}

/// The release may only come when the snapshot holds nothing that the application could notice.
private func awaitDetached(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>) {
    var timeout = ckpt_timespec(sec: 0, nsec: 100_000_000)
    while true {
        let state = ckpt_load(&process.pointee.snapshot_state)
        if state != CKPT_SNAPSHOT_CLONED.rawValue { return }
        reapSnapshot()
        if ckpt_runtime().pointee.snapshot_pid == 0 && ckpt_load(&process.pointee.snapshot_state) == state {
            ckpt_fail(session, CKPT_ERROR_CLONE.rawValue, 0, 0)
            ckpt_store(&process.pointee.snapshot_state, CKPT_SNAPSHOT_FAILED.rawValue)
            return
        }
        _ = ckpt_futex_wait(&process.pointee.snapshot_state, state, &timeout)
    }
}

/// After an abort, and before the next checkpoint: nobody wants what the snapshot writes.
func dropSnapshot() {
    let runtime = ckpt_runtime()
    if runtime.pointee.snapshot_pid == 0 || runtime.pointee.snapshot_owner != ckpt_getpid() { return }
    let kill = 9
    _ = ckpt_syscall(Int(CKPT_SYS_kill), Int(runtime.pointee.snapshot_pid), kill, 0, 0, 0, 0)
    // One that hangs in the kernel, at a file system that does not answer, is left for the next time.
    var moment = ckpt_timespec(sec: 0, nsec: 1_000_000), rounds = 0
    while !takeSnapshotAway() && rounds < 5000 {
        _ = withUnsafeMutablePointer(to: &moment) { ckpt_syscall(Int(CKPT_SYS_nanosleep), Int(bitPattern: $0), 0, 0, 0, 0, 0) }
        rounds += 1
    }
}

private func ranges(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>) -> UnsafeMutablePointer<ckpt_range> {
    ckpt_arena(session, process.pointee.ranges_offset).assumingMemoryBound(to: ckpt_range.self)
}

private func isUninherited(_ kind: UInt32) -> Bool { kind == CKPT_RANGE_DONTFORK.rawValue || kind == CKPT_RANGE_WIPEONFORK.rawValue }

/// A clone doesn't inherit memory marked DONTFORK, and finds WIPEONFORK memory zeroed: what is in them is copied where it is inherited.
private func copyUninherited(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>) throws(Errno) {
    let list = ranges(session, process)
    var i = 0
    while i < Int(process.pointee.ranges_count) {
        defer { i += 1 }
        guard isUninherited(list[i].kind), list[i].object == 0 else { continue }
        let size = list[i].end - list[i].start
        let copy = try check(ckpt_mmap(0, size, Mapping.read | Mapping.write, Mapping.private | Mapping.anonymous, -1, 0))
        list[i].copy = UInt64(copy)
        try copyReadable(from: list[i].start, to: UInt64(copy), count: size)
    }
}
private func forgetCopies(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>) {
    let list = ranges(session, process)
    var i = 0
    while i < Int(process.pointee.ranges_count) { if isUninherited(list[i].kind) { list[i].copy = 0 }; i += 1 }
}

/// By process_vm_readv(2): a page that faults (a guard inside the mapping) is an error and no signal.
private func copyReadable(from: UInt64, to: UInt64, count: UInt64) throws(Errno) {
    var done: UInt64 = 0
    while done < count {
        var local = ckpt_iovec(base: to + done, length: count - done), remote = ckpt_iovec(base: from + done, length: count - done)
        let got = withUnsafeMutablePointer(to: &local) { local in
            withUnsafeMutablePointer(to: &remote) { remote in
                ckpt_syscall(CKPT_SYS_process_vm_readv, Int(ckpt_getpid()), Int(bitPattern: local), 1, Int(bitPattern: remote), 1, 0)
            }
        }
        guard got != 0 else { throw Errno(14) }
        done += UInt64(try check(got))
    }
}
private func dropCopies(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>) {
    let list = ranges(session, process)
    var i = 0
    while i < Int(process.pointee.ranges_count) {
        if isUninherited(list[i].kind) && list[i].copy != 0 { _ = ckpt_munmap(list[i].copy, list[i].end - list[i].start) }
        i += 1
    }
}

private let snapshotBody: @convention(c) (UnsafeMutableRawPointer?) -> UInt32 = { argument in
    let process = argument!.assumingMemoryBound(to: ckpt_process.self)
    guard let session = ckpt_runtime().pointee.session else { return 0 }
    // Leaving the terminal session and dropping every descriptor: the pipe whose writer ends must show its end of file.
    _ = ckpt_syscall(Int(CKPT_SYS_setsid), 0, 0, 0, 0, 0, 0)
    _ = ckpt_syscall(Int(CKPT_SYS_close_range), 0, Int(UInt32.max), 0, 0, 0, 0)
    // A folder that the program leaves meanwhile may be removed, and what is mounted there unmounted.
    _ = ckpt_syscall(Int(CKPT_SYS_chdir), Int(bitPattern: StaticString("/").cString), 0, 0, 0, 0, 0)
    let parent = ckpt_syscall(getParent, 0, 0, 0, 0, 0, 0)
    raiseFileSizeLimit()
    giveWay()
    writeProcess(session, process, isSnapshot: true)
    stay(session, process)
    if initiatorIsGone(session) { leaveAlone(parent) }
    ckpt_exit_group(0)
}

private let getParent = 110
/// Nobody is left who would ask our process to take us away: its handler ends us (reapSnapshot).
private func leaveAlone(_ parent: Int) {
    if ckpt_syscall(getParent, 0, 0, 0, 0, 0, 0) == parent { _ = ckpt_syscall(Int(CKPT_SYS_tgkill), parent, parent, Int(CKPT_SIGCKPT), 0, 0, 0) }
}

/// While the initiator looks at what the snapshot has inherited; bounded, as every wait.
private func stay(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>) {
    var timeout = ckpt_timespec(sec: 0, nsec: 100_000_000), rounds = 0
    while ckpt_load(&process.pointee.hold) != 0 && !initiatorIsGone(session) && rounds < 300 {
        _ = ckpt_futex_wait(&process.pointee.hold, 1, &timeout)
        rounds += 1
    }
}

private let writerInPlace: @convention(c) (UnsafeMutableRawPointer?) -> UInt32 = { argument in
    let process = argument!.assumingMemoryBound(to: ckpt_process.self)
    if let session = ckpt_runtime().pointee.session { writeProcess(session, process, isSnapshot: false) }
    return 0
}

/// What is shared, before there is a snapshot, when that will not have all of it.
private let sharedInPlace: @convention(c) (UnsafeMutableRawPointer?) -> UInt32 = { argument in
    let process = argument!.assumingMemoryBound(to: ckpt_process.self)
    guard let session = ckpt_runtime().pointee.session else { return 0 }
    do throws(WriteError) {
        let channel = try connect(session)
        defer { channel.close() }
        process.pointee.shared_runs = try writeRanges(session, process, channel, shared: true, isSnapshot: false, generation(ckpt_load(ckpt_phase_word(session))))
    } catch { ckpt_fail(session, error.code.rawValue, error.errno.code, error.detail) }
    process.pointee.ranges_early = 0
    return 0
}

/// Writers of a real-time application would keep all CPUs from it and from others: they are ordinary, with the nice value that it would have.
/// (Who is under SCHED_IDLE may not leave it, and need not.)
private func giveWay() {
    let batch: UInt32 = 3, process = 0, priority = ckpt_syscall(Int(CKPT_SYS_getpriority), process, 0, 0, 0, 0, 0)
    if priority < 0 { return }
    var a = ckpt_sched_attr()
    a.size = UInt32(MemoryLayout<ckpt_sched_attr>.size); a.policy = batch; a.nice = Int32(20 - priority)
    _ = withUnsafeMutablePointer(to: &a) { ckpt_syscall(Int(CKPT_SYS_sched_setattr), 0, Int(bitPattern: $0), 0, 0, 0, 0) }
}

private func raiseFileSizeLimit() {
    let fileSize = 1
    var limit = ckpt_rlimit(soft: 0, hard: 0)
    let pointer = Int(bitPattern: withUnsafeMutablePointer(to: &limit) { $0 })
    if ckpt_syscall(Int(CKPT_SYS_prlimit64), 0, fileSize, 0, pointer, 0, 0) == 0 {
        limit.soft = limit.hard
        _ = ckpt_syscall(Int(CKPT_SYS_prlimit64), 0, fileSize, pointer, 0, 0, 0)
    }
}

/// Writes the shared ranges, lets go of what is shared, tells the leader, then writes the private ranges.
private func writeProcess(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>, isSnapshot: Bool) {
    let list = ranges(session, process), count = Int(process.pointee.ranges_count), own = generation(ckpt_load(ckpt_phase_word(session)))
    do throws(WriteError) {
        var channel: Channel?
        defer { channel?.close() }
        if process.pointee.ranges_early != 0 || !isSnapshot { channel = try connect(session) }
        if process.pointee.ranges_early != 0 { process.pointee.shared_runs = try writeRanges(session, process, channel!, shared: true, isSnapshot: false, own) }
        if isSnapshot {
            unmapShared(list, count)
            ckpt_store(&process.pointee.snapshot_state, CKPT_SNAPSHOT_DETACHED.rawValue)
            _ = ckpt_futex_wake(&process.pointee.snapshot_state, Int32.max)
            awaitOtherClones(session)
            if channel == nil { channel = try connect(session) }
        }
        let runs = try writeRanges(session, process, channel!, shared: false, isSnapshot: isSnapshot, own)
        if isAbandoned(session, own) { return }
        process.pointee.runs = runs
    } catch {
        if isAbandoned(session, own) { return }
        ckpt_fail(session, error.code.rawValue, error.errno.code, error.detail)
        finish(session, process, CKPT_SNAPSHOT_FAILED)
        return
    }
    finish(session, process, CKPT_SNAPSHOT_DONE)
}

/// The initiator has gone, or another is there: what is in the segment is no longer ours.
func isAbandoned(_ session: UnsafeMutablePointer<ckpt_session>, _ own: UInt32) -> Bool { generation(ckpt_load(ckpt_phase_word(session))) != own || initiatorIsGone(session) }

/// Leaders that have not cloned yet keep the tree waiting, and need the CPUs first.
private func awaitOtherClones(_ session: UnsafeMutablePointer<ckpt_session>) {
    let word = ckpt_load(ckpt_phase_word(session)), expected = ckpt_load(&session.pointee.expected)
    var timeout = ckpt_timespec(sec: 0, nsec: 100_000_000), rounds = 0
    if phase(word) != CKPT_PHASE_MEMORY { return }
    while ckpt_load(ckpt_phase_word(session)) == word && !initiatorIsGone(session) && rounds < 300 {
        let arrived = ckpt_load(ckpt_arrived_word(session))
        if arrived >= expected { return }
        // Only the last one to arrive wakes anybody.
        _ = ckpt_futex_wait(ckpt_arrived_word(session), arrived, &timeout)
        rounds += 1
    }
}

private func connect(_ session: UnsafeMutablePointer<ckpt_session>) throws(WriteError) -> Channel {
    do throws(Errno) { return try openChannel(session) } catch { throw WriteError(code: CKPT_ERROR_CONNECT, errno: error, detail: 0) }
}

private func unmapShared(_ list: UnsafeMutablePointer<ckpt_range>, _ count: Int) {
    var i = 0
    while i < count {
        if list[i].kind == CKPT_RANGE_SHARED.rawValue { _ = ckpt_munmap(list[i].start, list[i].end - list[i].start) }
        i += 1
    }
}

private func finish(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>, _ state: ckpt_snapshot_state) {
    ckpt_store(&process.pointee.snapshot_state, state.rawValue)
    _ = ckpt_futex_wake(&process.pointee.snapshot_state, Int32.max)
    _ = ckpt_add(&session.pointee.snapshots_done, 1)
    _ = ckpt_futex_wake(&session.pointee.snapshots_done, Int32.max)
}
