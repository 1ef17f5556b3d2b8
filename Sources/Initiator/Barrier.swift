// The initiator's side of the barrier.  Tasks only ever wait for the phase word; everything here that waits is bounded and names who is missing.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem
import Logging

/// One operation at a time.  The kernel gives the lock back if we die.
final class SessionLock {
    private let segment: Segment, lock: RobustLock

    init(_ segment: Segment) throws(CheckpointFailure) {
        self.segment = segment
        lock = RobustLock(at: ckpt_lock_word(segment.pointer))
        let deadline = Kernel.clock(1) + 500_000_000
        while !lock.tryLock() {
            if Kernel.clock(1) > deadline {
                throw CheckpointFailure([Problem(.temporary, "checkpoint", object: segment.name, cause: "another operation on this session is under way", remedy: "wait for it to end")])
            }
            Kernel.sleep(milliseconds: 5)
        }
        let loaded = Kernel.clock(1) + 20_000_000_000
        while ckpt_load(&segment.pointer.pointee.loading) != 0 {
            if Kernel.clock(1) > loaded {
                lock.unlock()
                throw CheckpointFailure([Problem(.temporary, "checkpoint", object: segment.name, cause: "its memory is still being loaded (restart --lazy)", remedy: "try again when it is")])
            }
            Kernel.sleep(milliseconds: 5)
        }
    }
    deinit { lock.unlock() }
}

final class Barrier {
    let segment: Segment
    let generation: UInt32
    private let log: Logger
    private let lock: SessionLock
    /// Called now and then while tasks are waited for.
    var whileWaiting: () -> Void = {}
    private var isOpen = true
    private var count: UInt32 = 0       // of phases; the call is number 0
    private var session: UnsafeMutablePointer<ckpt_session> { segment.pointer }

    /// Clears what the last operation left.
    init(_ segment: Segment, _ lock: SessionLock, _ log: Logger) throws(CheckpointFailure) {
        self.segment = segment; self.lock = lock; self.log = log
        let s = segment.pointer
        let last = ckpt_load(ckpt_phase_word(s)) >> 8
        generation = last == UInt32(CKPT_LAST_GENERATION) ? UInt32(CKPT_RESTORE_GENERATION) + 1 : last + 1
        try awaitAbandoned()
        do throws(SystemError) {
            try segment.allocate(at: 0, count: UInt64(CKPT_SESSION_HEADER))
        } catch {
            throw CheckpointFailure([Problem(.system, "checkpoint", object: segment.name, cause: "\(segment.path): \(error.text)", remedy: "free memory or set CKPT_DIR to a folder with room")])
        }
        takeSlotsBack()
        s.pointee.failure = ckpt_failure()
        s.pointee.left = 0; s.pointee.snapshots_done = 0
        s.pointee.undo_count = 0; s.pointee.arena_used = min(s.pointee.arena_kept, ckpt_arena_size()); s.pointee.file_tail = 0; s.pointee.arrived = 0
        s.pointee.expected = UInt32.max
    }

    /// From here on who was called before gets no slot; and who has one is waited for while he fills it: it may be the next one's.
    private func takeSlotsBack() {
        let fromRestart: UInt64 = 0, before = ckpt_load64(&session.pointee.task_claims) >> 32, tasks = tasksUsed, processes = Int(ckpt_processes_used(session))
        ckpt_store64(&session.pointee.task_claims, UInt64(generation) << 32); ckpt_store64(&session.pointee.process_claims, UInt64(generation) << 32)
        let deadline = Kernel.clock(1) + 1_000_000_000
        for i in 0..<tasks where before != fromRestart {
            while ckpt_load(&segment.task(i).pointee.status) == 0, ckpt_load(&segment.task(i).pointee.left) == 0, Kernel.clock(1) < deadline { Kernel.sleep(microseconds: 200) }
        }
        // A slot that is claimed and not yet filled must not show what an earlier operation left in it.
        for i in 0..<tasks { segment.task(i).pointee.status = 0; segment.task(i).pointee.tid = 0; segment.task(i).pointee.pid = 0 }
        for i in 0..<processes { segment.process(i).pointee.pid = 0 }
    }

    /// An initiator that died has left tasks behind that still put back what they took, from the arena: until they have, nothing here is ours.
    private func awaitAbandoned() throws(CheckpointFailure) {
        let word = ckpt_load(ckpt_phase_word(session))
        try refuseHalfRestored(word)
        switch ckpt_phase(rawValue: word & UInt32(CKPT_PHASE_MASK)) {
        case CKPT_PHASE_IDLE, CKPT_PHASE_RELEASE, CKPT_PHASE_END: break
        case CKPT_PHASE_ABORT: awaitLeaving()
        default:
            ckpt_store(ckpt_phase_word(session), word & ~0xff | CKPT_PHASE_ABORT.rawValue)
            Kernel.wakeAll(ckpt_phase_word(session))
            awaitLeaving()
        }
        try awaitHolders()
    }
    /// The engine died before everybody was back: who is ends, whenever it gets to that.  A new generation would tell it that it has been released.
    private func refuseHalfRestored(_ word: UInt32) throws(CheckpointFailure) {
        guard session.pointee.restored != 0, word >> 8 == UInt32(CKPT_RESTORE_GENERATION), word & UInt32(CKPT_PHASE_MASK) != CKPT_PHASE_RELEASE.rawValue else { return }
        isOpen = false
        ckpt_store(ckpt_phase_word(session), word & ~0xff | CKPT_PHASE_ABORT.rawValue)
        Kernel.wakeAll(ckpt_phase_word(session))
        throw CheckpointFailure([Problem(.noSession, "checkpoint", object: segment.name, cause: "its restart ended before it was complete", remedy: "restart it again")])
    }
    private func awaitLeaving() {
        let deadline = Kernel.clock(1) + 1_000_000_000
        while Kernel.clock(1) < deadline, Int(ckpt_load(&session.pointee.left)) < tasksUsed { Kernel.sleep(microseconds: 200) }
    }
    /// A leader that was stopped between the two; one that is dead holds nothing any more.
    private func awaitHolders() throws(CheckpointFailure) {
        let deadline = Kernel.clock(1) + 3_000_000_000
        var holders = (0..<Int(ckpt_processes_used(session))).map { (slot: segment.process($0), pid: segment.process($0).pointee.pid) }
        while true {
            holders = holders.filter { ckpt_load(&$0.slot.pointee.held) != 0 }
            if holders.isEmpty { return }
            let members = Dictionary(Sessions.members(of: segment).map { (ProcStatus(pid: $0.pid)?.namespacePids.last ?? $0.pid, $0.pid) }) { first, _ in first }
            for h in holders where members[h.pid] == nil { ckpt_store(&h.slot.pointee.held, 0) }
            holders = holders.filter { members[$0.pid] != nil }
            if let h = holders.first, Kernel.clock(1) > deadline {
                throw CheckpointFailure([Problem(.temporary, "checkpoint", object: segment.name, cause: "pid \(members[h.pid]!)", "it still has to put back what an interrupted checkpoint took out of a queue", remedy: "let it run (SIGCONT), and try again")])
            }
            Kernel.sleep(milliseconds: 5)
        }
    }

    deinit { if isOpen { abort() } }

    var tasksUsed: Int { Int(ckpt_tasks_used(session)) }
    var failed: Bool { ckpt_load(&session.pointee.failure.code) != 0 }

    /// Starts a phase in which nobody has to arrive.
    func enter(_ phase: ckpt_phase) throws(CheckpointFailure) {
        if failed { throw broken() }
        set(phase)
    }

    /// Starts a phase and waits until `count` of them have done their part.
    func run(_ phase: ckpt_phase, expecting count: Int, patience: Int, progress: (() -> UInt64)? = nil, missing: () -> String) throws(CheckpointFailure) {
        if failed { throw broken() }
        if count == 0 { return }
        ckpt_store(ckpt_arrived_word(session), 0)
        ckpt_store(&session.pointee.expected, UInt32(count))
        set(phase)
        var deadline = Kernel.clock(1) + UInt64(patience) * 1_000_000
        var last = progress?() ?? 0
        while true {
            let arrived = ckpt_load(ckpt_arrived_word(session))
            if failed { throw broken() }
            if arrived >= UInt32(count) { return }
            let now = Kernel.clock(1)
            if let p = progress?(), p != last { last = p; deadline = now + UInt64(patience) * 1_000_000 }
            if now > deadline {
                throw CheckpointFailure([Problem(.temporary, "checkpoint", object: segment.name, cause: missing() + " did not arrive in time", remedy: "try again")])
            }
            Kernel.wait(ckpt_arrived_word(session), whileEqual: arrived, milliseconds: 50)
            whileWaiting()
        }
    }

    private func broken() -> CheckpointFailure {
        CheckpointFailure([Problem(session.pointee.failure, session: segment.name)])
    }

    private func set(_ phase: ckpt_phase) {
        ckpt_store(ckpt_phase_word(session), generation << 8 | (count & 7) << UInt32(CKPT_PHASE_COUNT_SHIFT) | phase.rawValue)
        count &+= 1
        switch phase {
        case CKPT_PHASE_STOPPED: break          // nobody has anything to do
        case CKPT_PHASE_RECORD, CKPT_PHASE_TERMINALS, CKPT_PHASE_TERMINALS_BACK, CKPT_PHASE_ASK, CKPT_PHASE_QUEUES, CKPT_PHASE_MEMORY:
            Kernel.wake(ckpt_phase_word(session), CKPT_WAITS_AS_LEADER)
        default: Kernel.wakeAll(ckpt_phase_word(session))
        }
    }

    /// Opens the call: from now on a task that gets SIGCKPT joins.
    func open() { set(CKPT_PHASE_CALL) }

    /// Lets everybody go and waits (briefly: they only have to leave) until they have, so that the slots can be used again.
    /// A task that is stopped by job control stays in its handler until it is continued; nobody waits for it.
    func release(except stopped: Int) { close(CKPT_PHASE_RELEASE, stopped) }
    func abort(except stopped: Int = 0) { if isOpen { close(CKPT_PHASE_ABORT, stopped) } }
    func end() { isOpen = false; set(CKPT_PHASE_END) }

    private func close(_ phase: ckpt_phase, _ stopped: Int) {
        isOpen = false
        let joined = max(0, tasksUsed - stopped)
        set(phase)
        let deadline = Kernel.clock(1) + 1_000_000_000
        while Kernel.clock(1) < deadline, Int(ckpt_load(&session.pointee.left)) < joined {
            if joined > 0 { Kernel.sleep(microseconds: 50) }
        }
    }
    /// Nothing under way any more.
    func idle() { set(CKPT_PHASE_IDLE) }
}
