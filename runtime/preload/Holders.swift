// Runs parked in the SIGCKPT handler, every signal blocked; a leader on its own stack, the other tasks on the application's, of which it takes little.
// What a leader has taken out of a queue or a terminal and not yet put back is nowhere else.  Should the checkpoint end meanwhile, or the initiator die, all
// the others stay in their handlers until it is back: nobody sees the empty queue.
import CkptABI
import PreloadBoot
import Freestanding

/// Runs `body` with what it takes marked as held, unless the phase is no longer that of `word`.  The mark comes before a second look at the phase; those who
/// leave look at the phase before they look for marks.  With a full fence between the two on both sides, one of us sees the other: either we see the end of
/// the phase and take nothing, or they see the mark and stay.  (A store may otherwise pass a later load.)
func hold(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>, _ what: ckpt_held, during word: UInt32, _ body: () -> Void) -> Bool {
    ckpt_store(&process.pointee.held, ckpt_load(&process.pointee.held) | what.rawValue)
    ckpt_fence()
    guard ckpt_load(ckpt_phase_word(session)) == word else { letGo(process, what); return false }
    body()
    return true
}
func letGo(_ process: UnsafeMutablePointer<ckpt_process>, _ what: ckpt_held) { ckpt_store(&process.pointee.held, ckpt_load(&process.pointee.held) & ~what.rawValue) }

/// At most ten seconds for each holder: one that is stopped (SIGSTOP) must not hold up the tree for ever.
func awaitHolders(_ session: UnsafeMutablePointer<ckpt_session>, leads: Bool) {
    let looks = 10_000, betweenDeaths = 100
    ckpt_fence()        // see hold()
    for i in 0..<ckpt_processes_used(session) {
        let holder = ckpt_process_slot(session, i)
        var look = 0
        while ckpt_load(&holder.pointee.held) != 0 && look < looks {
            // Followers have no room for that; whoever leads lets them go, too.
            if leads && look % betweenDeaths == 0 && hasEnded(session, holder) { ckpt_store(&holder.pointee.held, 0); break }
            var moment = ckpt_timespec(sec: 0, nsec: 1_000_000)
            _ = withUnsafeMutablePointer(to: &moment) { ckpt_syscall(Int(CKPT_SYS_nanosleep), Int(bitPattern: $0), 0, 0, 0, 0, 0) }
            look += 1
        }
    }
}

/// Known only of a process whose pid means to us what it means to itself.
private func hasEnded(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>) -> Bool {
    let its = ckpt_task_slot(session, process.pointee.leader_task).pointee.pids, ours = namespaceNumber("/proc/self/ns/pid")
    if its == 0 || its != ours { return false }
    let notFound = -2, closeOnExec: Int32 = 0o2000000, zombie: UInt8 = 90, dead: UInt8 = 88, parenthesis: UInt8 = 41
    var place = Line(), text = InlineArray<128, UInt8>(repeating: 0)
    place.put("/proc/"); place.put(signed: Int64(process.pointee.pid)); place.put("/stat")
    let file = place.withCString { ckpt_open($0, closeOnExec, 0) }
    if file < 0 { return file == notFound }
    let n = withUnsafeMutableBytes(of: &text) { ckpt_read(Int32(truncatingIfNeeded: file), $0.baseAddress!, 128) }
    _ = ckpt_close(Int32(truncatingIfNeeded: file))
    // "2081 (a name) Z …": its name may have parentheses, and is short.
    var i = n - 1
    while i > 0 && text[i] != parenthesis { i -= 1 }
    return i > 0 && i + 2 < n && (text[i + 2] == zombie || text[i + 2] == dead)
}
