// The call: finds every task of the session, looks whether it may be signalled, signals it, and waits until all are in their handlers.
// Membership is what /proc shows at this moment: tasks that appear meanwhile are found by looking again until a look finds nothing new.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem
import CkptUnwind
import Logging

/// A live process of the session, as it is being called.
final class CalledProcess {
    let pid: Int32                      // as we see it
    let startTime: UInt64
    let address: UInt64                 // of its segment mapping
    var ownPid: Int32                   // as it sees itself
    var depth: Int                      // pid namespaces between us and it
    let pids: UInt32                    // its pid namespace; two processes may have the same pid
    var signalled: Set<Int32> = []      // tids as we see them
    var ownTids: [Int32: Int32] = [:]   // ours → its own
    var workers: Set<Int32> = []        // threads of the kernel among its own
    var isStopped = false
    var leaderIsGone = false
    init(pid: Int32, startTime: UInt64, address: UInt64, ownPid: Int32, depth: Int, pids: UInt32) {
        self.pid = pid; self.startTime = startTime; self.address = address; self.ownPid = ownPid; self.depth = depth; self.pids = pids
    }
}

final class Census {
    private(set) var processes: [CalledProcess] = []
    private(set) var zombies: [ProcStat] = []
    private(set) var firstSignal: UInt64 = 0            // CLOCK_MONOTONIC, ns: the pause starts here
    private let segment: Segment, barrier: Barrier, patience: Int, log: Logger
    private var known: [Int32: UInt64] = [:]            // pid → start time of members
    /// Processes that are none of ours: each is asked again after a while, since its pid may be another's by then.
    private var strangers: [Int32: (startTime: UInt64, seen: UInt64)] = [:]
    /// Everybody waits while we look: a pid is not given to another process within so short a time (ns).
    private let trusted: UInt64 = 20_000_000
    private let patienceWithPassers: UInt64 = 300_000_000
    private var looked: UInt64 = 0                      // when the last look began
    private var foundZombies: [ProcStat] = []           // by it
    private var seenZombies: [Int32: UInt64] = [:]
    /// Somebody whom nobody knew has ended before it could be looked at, and may have left a child that is not in the list: of a chain of processes that each
    /// start the next one and end, a look may see none.
    private var missedSomebody = false
    private var waitingFor: [Int32: String] = [:]       // children that are on their way to becoming members
    private struct TaskKey: Hashable { var pid: Int32, tid: Int32, pids: UInt32 }
    private var arrivedTasks: Set<TaskKey> = []
    private var countedSlots = 0
    private let seized = SeizedTasks()
    private var unhandled: [Int32: UInt64] = [:]        // who does not handle SIGCKPT, and since when that is known
    private var continued: [Int32] = []
    private var unblocked: Set<Int32> = []
    private let refusals: Refusals

    init(_ segment: Segment, _ barrier: Barrier, patience: Int, _ log: Logger) {
        self.segment = segment; self.barrier = barrier; self.patience = patience; self.log = log
        refusals = Refusals(session: segment.name)
    }

    /// Who is in the session now; nobody notices.
    func findMembers() throws(CheckpointFailure) {
        try look()
        // Between two images nobody maps the segment: look again before the session counts as ended.
        for _ in 1...50 where processes.isEmpty { Kernel.sleep(milliseconds: 5); try look() }
        try refuseAll()
        if processes.isEmpty { throw failure(.noSession, "no process is left in it") }
    }

    /// Calls them, and whoever is new.
    func callEverybody() throws(CheckpointFailure) {
        let start = Kernel.clock(1), deadline = start + UInt64(patience) * 1_000_000
        try reserveSlots()
        segment.pointer.pointee.ask_keyrings = userHasKeys(segment.pointer.pointee.uid) ? 1 : 0
        barrier.open()
        var unsureSince: UInt64 = 0
        // What takes time is done before anybody is stopped: the look that decides, in the pause, then finds strangers that it may trust.
        if Kernel.clock(1) > looked + trusted / 4 { try look(trustingNobody: true) }
        var idleRounds = 0
        while true {
            collectArrivals()
            // Looking for new threads costs a read of /proc for each process; while some that we know are on their way there is time.
            let looksAtAll = idleRounds % 4 == 0 || knownAreIn
            if looksAtAll { try callNew(); try refuseAll() }
            if barrier.failed { throw CheckpointFailure([Problem(segment.pointer.pointee.failure, session: segment.name)]) }
            if looksAtAll && allIn() {
                // Everybody known stands still, so nobody new can appear: one more look decides.
                let before = processes.count
                try look()
                try refuseAll()
                if processes.count == before && waitingFor.isEmpty && allIn() {
                    if !missedSomebody { break }
                    if unsureSince == 0 { unsureSince = Kernel.clock(1) }
                    if Kernel.clock(1) > unsureSince + patienceWithPassers { throw failure(.temporary, "processes come and go faster than they can be looked at, and may be its own", "try again when there are fewer") }
                    continue
                }
            } else if idleRounds % 8 == 7 { try look() }
            let now = Kernel.clock(1)
            if waitingFor.values.contains("vfork") && now > start + 400_000_000 { throw sharersOfMemory() ?? CheckpointFailure([problem(.temporary, vforkCause)], passesSoon: true) }
            if now > deadline { throw whoIsMissing() }
            idleRounds += 1
            // An exec by another thread than the first drops what was pending for the first; a second SIGCKPT does no harm.
            if idleRounds % 150 == 0 { signalAgain() }
            if idleRounds % 100 == 50 { try reachHeldBack() }
            if idleRounds % 20 == 0 { serveStoppedTasks() }
            Kernel.sleep(microseconds: idleRounds < 20 ? 50 : idleRounds < 40 ? 100 : 1000)
        }
        zombies = foundZombies.filter { known[$0.parent] != nil && !isSnapshot($0) }
    }

    // MARK: who there is

    private func look(trustingNobody: Bool = false) throws(CheckpointFailure) {
        waitingFor = [:]
        foundZombies = []
        var children: [ProcStat] = [], examined: Set<Int32> = []
        let now = Kernel.clock(1), before = processes.count
        looked = now
        // Whoever came meanwhile is looked at at once, and who is new is called before anybody else is looked at.
        repeat {
            missedSomebody = false
            for pid in Proc.processes() where known[pid] == nil && examined.insert(pid).inserted {
                if !trustingNobody, let stranger = strangers[pid], now < stranger.seen + trusted { continue }
                if let child = try examine(pid, now) { children.append(child) }
            }
        } while missedSomebody && processes.count == before && Kernel.clock(1) < now + trusted
        // A child of a member that does not map the segment is on its way through exec, or will never come.
        var family = Set(known.keys)
        var grew = true
        while grew {
            grew = false
            for c in children where family.contains(c.parent) && !family.contains(c.pid) {
                family.insert(c.pid); grew = true
                if isSnapshot(c) { continue }
                guard ProcStat(pid: c.pid)?.startTime == c.startTime else { continue }
                if let address = Proc.mapping(of: segment.identity, in: Proc.view(of: c)) { try add(c, address) } else { try examineChild(c) }
            }
        }
        for c in children where !family.contains(c.pid) {
            if wasExecutedAsMember(c.pid), !isSnapshot(c) { try examineChild(c) } else { strangers[c.pid] = (c.startTime, now) }
        }
    }

    /// Adds who maps the segment; the rest may be a member's child.
    private func examine(_ pid: Int32, _ now: UInt64) throws(CheckpointFailure) -> ProcStat? {
        guard let stat = ProcStat(pid: pid) else { missedSomebody = true; return nil }
        if stat.isZombie {
            foundZombies.append(stat)
            if seenZombies[pid] != stat.startTime { seenZombies[pid] = stat.startTime; missedSomebody = true }
            return nil
        }
        if strangers[pid]?.startTime == stat.startTime { strangers[pid]!.seen = now; return nil }
        if stat.isKernels { strangers[pid] = (stat.startTime, now); return nil }
        // Reading maps costs a lot in big processes: first those that handle or block SIGCKPT, as members do.
        let view = Proc.view(of: stat)
        if let status = ProcStatus(pid: view), (status.hex("SigCgt") | status.hex("SigBlk")) & ckpt_sigckpt_bit() != 0 {
            if let address = Proc.mapping(of: segment.identity, in: view) { try add(stat, address); return nil }
            if willLoadRuntime(pid) { try add(stat, 0); return nil }
            if mayBeHiddenMember(stat, status) {
                refuse(pid, "\(stat.comm) may belong to the session, and does not let others of its user look at it (PR_SET_DUMPABLE)", "run ckptctl as root, or end it before the checkpoint")
                return nil
            }
        }
        if !isThere(stat) { missedSomebody = true }
        return stat
    }
    private func isThere(_ stat: ProcStat) -> Bool {
        ProcStat(pid: stat.pid).map { $0.startTime == stat.startTime && !$0.isZombie && !$0.isExiting } ?? false
    }

    /// Its environment names our session, as that of every image does which a member executes; whoever its parent is by now.
    private func wasExecutedAsMember(_ pid: Int32) -> Bool {
        guard let bytes = try? Path.contents("/proc/\(pid)/environ") else { return false }
        return bytes.split(separator: 0).contains { $0.elementsEqual("CKPT_SESSION=\(segment.path)".utf8) }
    }

    /// One of our user that handles SIGCKPT, is not older than the session, and lets nobody see what it maps; whoever its parent is.
    private func mayBeHiddenMember(_ stat: ProcStat, _ status: ProcStatus) -> Bool {
        guard Kernel.userID != 0, status.hex("SigCgt") & ckpt_sigckpt_bit() != 0, status.numbers("Uid").first == Int(Kernel.userID) else { return false }
        return HiddenProcesses.isHidden(stat) && HiddenProcesses.isYounger(stat, than: segment)
    }

    /// The loader takes nothing from LD_PRELOAD for a program that has more rights than who executed it.
    private func isSecure(_ pid: Int32) -> Bool {
        guard let words = try? Path.contents("/proc/\(pid)/auxv") else { return false }
        let secure: UInt64 = 23         // AT_SECURE
        return words.withUnsafeBytes { b in stride(from: 0, to: b.count - 15, by: 16).contains { b.loadUnaligned(fromByteOffset: $0, as: UInt64.self) == secure && b.loadUnaligned(fromByteOffset: $0 + 8, as: UInt64.self) != 0 } }
    }

    /// A process between two images: its new one has our session in its environment, loads the runtime first, and has SIGCKPT blocked until then.
    private func willLoadRuntime(_ pid: Int32) -> Bool {
        guard let status = ProcStatus(pid: pid), isBetweenImages(status), mayOpenSegment(status), let bytes = try? Path.contents("/proc/\(pid)/environ") else { return false }
        let entries = bytes.split(separator: 0)
        let named = Array("CKPT_SESSION=\(segment.path)".utf8), library = Array(segment.library.utf8)
        guard entries.contains(where: { $0.elementsEqual(named) }),
              entries.contains(where: { $0.starts(with: Array("LD_PRELOAD=".utf8)) && $0.dropFirst(11).split(whereSeparator: { $0 == 32 || $0 == 58 }).contains { $0.elementsEqual(library) } }) else { return false }
        return Executable.isStatic("/proc/\(pid)/exe") == false && !isSecure(pid) && hiddenFrom(pid) == nil
    }

    /// What a process that was executed in a sandbox needs and is not shown there; SIGCKPT would wait in it for a runtime that does not come, and end it.
    private func hiddenFrom(_ pid: Int32) -> String? {
        let root = "/proc/\(pid)/root"
        return [segment.library, segment.path].first { $0.isEmpty || Path.statusInside($0, root: root, follow: true) == nil }
    }

    /// A program that gave its user away can't open the session any more: SIGCKPT would end it.
    private func mayOpenSegment(_ status: ProcStatus) -> Bool {
        guard let user = status.effectiveUser else { return false }
        return user == 0 || user == segment.pointer.pointee.uid
    }

    private func add(_ stat: ProcStat, _ address: UInt64) throws(CheckpointFailure) {
        guard let status = ProcStatus(pid: Proc.view(of: stat)) else { return }
        // A vfork child shares its parent's memory, and so its segment; it is never stopped.
        if known[stat.parent] != nil, (try? Kernel.compare(stat.pid, stat.parent, .memory)) == 0 {
            waitingFor[stat.pid] = "vfork"
            return
        }
        if isBetweenImages(status) {
            guard willLoadRuntime(stat.pid) else { waitingFor[stat.pid] = "exec"; return }
        } else if try !mayBeSignalled(stat.pid, status) { return }
        let own = status.namespaceProcessPids
        known[stat.pid] = stat.startTime
        processes.append(CalledProcess(pid: stat.pid, startTime: stat.startTime, address: address, ownPid: own.last ?? stat.pid, depth: own.count, pids: Namespace.number(Proc.view(of: stat), "pid") ?? 0))
    }

    private func isSnapshot(_ stat: ProcStat) -> Bool {
        // An earlier checkpoint's snapshot has left its terminal session and blocks everything; its exit signal is 0.
        for i in 0..<Int(ckpt_processes_used(segment.pointer)) where segment.process(i).pointee.snapshot_pid != 0 {
            guard segment.process(i).pointee.snapshot_pid == ProcStatus(pid: stat.pid)?.namespacePids.last else { continue }
            // In another pid namespace another process has that number.
            let leader = segment.process(i).pointee.leader_task, pids = leader < UInt32(CKPT_MAX_TASKS) ? segment.task(Int(leader)).pointee.pids : 0
            if pids == 0 || Namespace.number(stat.pid, "pid") ?? pids == pids { return true }
        }
        return false
    }

    /// What must hold right before a task is signalled: it handles SIGCKPT, and nobody stands between us and its handler.
    /// false: it is ending, and shows no handlers any more.
    private func mayBeSignalled(_ pid: Int32, _ status: ProcStatus) throws(CheckpointFailure) -> Bool {
        if status["Seccomp"] == "1" {
            refuse(pid, "it runs under strict seccomp, where the runtime may not work", "end it, or start it outside the session")
            return false
        }
        // A filter may kill for the runtime's system calls, and nobody can read it.
        if status["Seccomp"] == "2" {
            refuse(pid, "it runs under a seccomp filter, which can't be read", "start it without the filter (for example with its --no-sandbox option)")
            return false
        }
        if isDispatching(pid, status) {
            refuse(pid, "tid \(status.numbers("Pid").first ?? Int(pid)): it dispatches its system calls to itself (PR_SET_SYSCALL_USER_DISPATCH), which would end it in the runtime's handler", "let it switch that off before the checkpoint, or start it outside the session")
            return false
        }
        if let tracer = status["TracerPid"], tracer != "0" {
            refuse(pid, "it is being traced by pid \(tracer)", "detach the debugger or tracer")
            return false
        }
        if status.hex("SigCgt") & ckpt_sigckpt_bit() == 0 {
            // A thread that has just ended shows none; handlers are the process's.
            guard let whole = ProcStatus(pid: pid), whole.hex("SigCgt") & ckpt_sigckpt_bit() == 0 else { return false }
            guard let now = ProcStat(pid: pid), !now.isDead, !now.isExiting, Proc.mapping(of: segment.identity, in: pid) != nil else { return false }
            // Who executes by system calls of his own (Go) may take the handlers away just before.
            let onItsWay: UInt64 = 100_000_000, since = unhandled[pid, default: Kernel.clock(1)]
            unhandled[pid] = since
            if Kernel.clock(1) < since + onItsWay { waitingFor[pid] = "exec"; return false }
            refuse(pid, "it no longer handles SIGCKPT (signal \(CKPT_SIGCKPT)); its handlers were reset by a raw system call", "restart the program under ckrun")
            return false
        }
        return true
    }

    /// Tasks have noted that themselves, with the tid that they see.
    private func isDispatching(_ pid: Int32, _ status: ProcStatus) -> Bool {
        let noted = ckpt_dispatching(segment.pointer)
        if noted.pointee.more != 0 { return true }
        guard ckpt_any_noted(noted), let pids = Namespace.number(pid, "pid"), let tid = status.namespacePids.last else { return false }
        return ckpt_is_noted(noted, ckpt_note_of(pids, tid))
    }

    /// SIGCKPT stays blocked from before an exec until the new image's constructor has installed the handler.
    private func isBetweenImages(_ status: ProcStatus) -> Bool {
        status.hex("SigCgt") & ckpt_sigckpt_bit() == 0 && status.hex("SigBlk") & ckpt_sigckpt_bit() != 0
    }

    private func examineChild(_ stat: ProcStat) throws(CheckpointFailure) {
        let exe = "/proc/\(stat.pid)/exe"
        if let path = try? Path.link(exe), let isStatic = Executable.isStatic(exe), isStatic {
            // Only when the exec is over: the image before it was the parent's.
            refuse(stat.pid, "\(path) is statically linked, so the runtime is not in it", "use a dynamically linked build, or start it outside the session")
            return
        }
        if wasExecutedAsMember(stat.pid), let hidden = hiddenFrom(stat.pid), let path = try? Path.link(exe), let now = ProcStat(pid: stat.pid), now.startTime == stat.startTime, !now.isDead {
            refuse(stat.pid, "\(path) runs in a sandbox that does not show \(hidden), so the runtime is not in it", "bind that into the sandbox, or start it outside the session")
            return
        }
        if isSecure(stat.pid), let now = ProcStat(pid: stat.pid), now.startTime == stat.startTime, !now.isDead {
            refuse(stat.pid, "\((try? Path.link(exe)) ?? stat.comm) is set-uid, set-gid or has file capabilities, so the runtime is not in it", "start it outside the session, or let it end")
            return
        }
        if hasGivenUpUser(stat) {
            let user = ProcStatus(pid: stat.pid)?.effectiveUser ?? 0
            refuse(stat.pid, "\(stat.comm) runs as user \(user), who may not join the session of user \(segment.pointer.pointee.uid): it was left when that user was taken and a program executed",
                   "start what that user runs in a session of its own (su USER -c 'ckrun …'), or let it end")
            return
        }
        waitingFor[stat.pid] = "exec"
    }

    /// Its runtime has been loaded and was not let in.  Members can do to each other what they like, so the segment is for one user only.
    private func hasGivenUpUser(_ stat: ProcStat) -> Bool {
        guard let status = ProcStatus(pid: stat.pid), !mayOpenSegment(status), (status.hex("SigCgt") | status.hex("SigBlk")) & ckpt_sigckpt_bit() == 0,
              let now = ProcStat(pid: stat.pid) else { return false }
        return now.startTime == stat.startTime && !now.isDead && !now.isExiting
    }

    // MARK: calling them

    /// All that nobody has called yet: first each is looked at, then they are signalled together, so that the first does not wait while the last is looked at.
    private func callNew() throws(CheckpointFailure) {
        struct Candidate { var p: CalledProcess, tid: Int32 }
        let new = processes.flatMap { p in Proc.threads(of: p.pid).filter { !p.signalled.contains($0) }.map { Candidate(p: p, tid: $0) } }
        let start = Kernel.clock(1)
        let seen = inParallel(new.count) { i in (stat: ProcStat(pid: new[i].p.pid, tid: new[i].tid), status: ProcStatus(pid: new[i].p.pid, tid: new[i].tid)) }
        for (i, c) in new.enumerated() {
            guard let stat = seen[i].stat else { continue }
            if stat.isRingWorker { c.p.workers.insert(c.tid); continue }
            c.p.workers.remove(c.tid)
            if stat.isDead {
                if c.tid == c.p.pid { c.p.leaderIsGone = true; c.p.signalled.insert(c.tid) }
                continue
            }
            guard let status = seen[i].status else { continue }
            // The pid must still be the one we looked at, and what we learned about it still true.
            let isRecent = Kernel.clock(1) < start + trusted
            if !isRecent || i == 0 || new[i - 1].p !== c.p { guard ProcStat(pid: c.p.pid)?.startTime == c.p.startTime else { continue } }
            guard let status = isRecent ? status : ProcStatus(pid: c.p.pid, tid: c.tid) else { continue }
            try call(c.p, c.tid, stat, status)
        }
    }

    private func call(_ p: CalledProcess, _ tid: Int32, _ stat: ProcStat, _ status: ProcStatus) throws(CheckpointFailure) {
        // The signal stays pending through the exec and is delivered by the new image's constructor.
        if isBetweenImages(status) { guard willLoadRuntime(p.pid) else { return } } else if try !mayBeSignalled(p.pid, status) { return }
        if stat.state == "t" { return refuse(p.pid, "it is stopped by a debugger", "detach the debugger") }
        if firstSignal == 0 { firstSignal = Kernel.clock(1) }
        do throws(SystemError) { try Kernel.signal(pid: p.pid, tid: tid, CKPT_SIGCKPT.int32) } catch {
            if error.errno == 3 { return }
            let isFull = error.errno == 11      // RLIMIT_SIGPENDING of its user
            return refusals.add(pid: p.pid, "SIGCKPT can't be sent: \(error.text)", isFull ? "raise the limit on pending signals (ulimit -i), or try again" : "run ckptctl as the user who owns it", status: isFull ? .temporary : .refused)
        }
        p.signalled.insert(tid)
        p.ownTids[tid] = p.depth > 1 ? status.namespacePids.last ?? tid : tid
        if stat.isStopped { try runStopped(p, tid) }
    }

    /// A task that was stopped after it had been looked at gets no signal before it runs, or stands still in its handler.
    /// libc's thread for SIGEV_THREAD timers blocks every signal with a system call of its own, and sleeps.  (A task in execve keeps SIGCKPT blocked for good reason.)
    private func reachHeldBack() throws(CheckpointFailure) {
        for p in processes {
            // (One that is traced already shows another state.)
            for tid in p.signalled.sorted() { if let stat = ProcStat(pid: p.pid, tid: tid), stat.isStopped { try runStopped(p, tid) } }
            if p.isStopped { continue }
            for (tid, own) in p.ownTids where !hasArrived(p, own) && !unblocked.contains(tid) {
                guard let stat = ProcStat(pid: p.pid, tid: tid), stat.state == "S", let status = ProcStatus(pid: p.pid, tid: tid),
                      status.hex("SigBlk") & status.hex("SigCgt") & ckpt_sigckpt_bit() != 0,
                      let call = (try? Path.text("/proc/\(p.pid)/task/\(tid)/syscall"))?.split(separator: " ").first.flatMap({ Int($0) }),
                      call != CKPT_SYS_execve, call != CKPT_SYS_execveat else { continue }
                unblocked.insert(tid)
                try? unblockSignals(ckpt_sigckpt_bit(), of: tid)
            }
        }
    }

    private func signalAgain() {
        for p in processes {
            p.signalled = p.signalled.filter { tid in
                (tid == p.pid && p.leaderIsGone) || p.isStopped || (p.ownTids[tid].map { hasArrived(p, $0) } ?? false)
            }
        }
    }

    /// A stopped task runs its handler under ptrace, which nobody notices; where that is forbidden SIGCONT does it, which its parent sees.
    private func runStopped(_ p: CalledProcess, _ tid: Int32) throws(CheckpointFailure) {
        p.isStopped = true
        if continued.contains(p.pid) { return }
        do throws(SystemError) { try seized.run(tid, of: p.pid, isPending: (ProcStatus(pid: p.pid, tid: tid)?.hex("SigPnd") ?? 0) & ckpt_sigckpt_bit() != 0) } catch {
            log.notice("pid \(p.pid) is stopped and may not be traced: it is continued and stopped again")
            continued.append(p.pid)
            Kernel.kill(pid: p.pid, 18) { isStill(p) }
        }
    }

    private func isStill(_ p: CalledProcess) -> Bool { ProcStat(pid: p.pid)?.startTime == p.startTime }

    /// Who was stopped when it was called may have been continued before the last one of the tree stood still; its next stop signal waits in its queue.
    func seeWhoWasContinued() {
        let running = seized.continuedProcesses()
        for p in processes where running.contains(p.pid) { p.isStopped = false }
    }
    /// While tasks are waited for, those that were stopped are kept going.
    func serveStoppedTasks() { seized.serve() }

    /// Back into their group stop, while they are still parked: so none of their own code runs before somebody continues them.
    func letStoppedTasksGo() {
        for p in processes where continued.contains(p.pid) { Kernel.kill(pid: p.pid, 19) { isStill(p) } }
        seized.release()
    }
    func seeTracedTasksEnd() { seized.release() }
    var stoppedTasks: Int { processes.filter(\.isStopped).reduce(0) { $0 + $1.signalled.count } }

    // MARK: who is in

    private func collectArrivals() {
        let used = max(barrier.tasksUsed, countedSlots), most = 2 * Int(CKPT_MAX_TASKS)
        // Each task is here once or twice: what others write into the slots does not pile up.
        if arrivedTasks.count > most { arrivedTasks = []; countedSlots = 0 }
        for i in countedSlots..<used {
            let t = segment.task(i)
            // A slot that is claimed and not yet filled is looked at again.
            if ckpt_load(&t.pointee.status) != CKPT_PHASE_CALL.rawValue { countedSlots = i; collectLater(i, used); return }
            arrivedTasks.insert(TaskKey(pid: t.pointee.pid, tid: t.pointee.tid, pids: t.pointee.pids))
        }
        countedSlots = used
    }
    private func collectLater(_ from: Int, _ to: Int) {
        for i in from..<to where ckpt_load(&segment.task(i).pointee.status) == CKPT_PHASE_CALL.rawValue {
            let t = segment.task(i).pointee
            arrivedTasks.insert(TaskKey(pid: t.pid, tid: t.tid, pids: t.pids))
        }
    }
    /// A task that has no /proc of its own does not know its namespace.
    private func hasArrived(_ p: CalledProcess, _ tid: Int32) -> Bool {
        arrivedTasks.contains(TaskKey(pid: p.ownPid, tid: tid, pids: p.pids)) || arrivedTasks.contains(TaskKey(pid: p.ownPid, tid: tid, pids: 0))
    }

    private var knownAreIn: Bool {
        processes.allSatisfy { p in p.signalled.allSatisfy { tid in (tid == p.pid && p.leaderIsGone) || p.ownTids[tid].map { hasArrived(p, $0) } ?? false } }
    }

    private func allIn() -> Bool {
        var live: [CalledProcess] = []
        var complete = true
        for p in processes {
            let tids = Proc.threads(of: p.pid)
            guard let stat = ProcStat(pid: p.pid), stat.startTime == p.startTime, !tids.isEmpty else { known[p.pid] = nil; continue }
            if stat.isZombie { known[p.pid] = nil; continue }       // it ended before it arrived
            live.append(p)
            for tid in tids {
                if tid == p.pid && p.leaderIsGone || p.workers.contains(tid) { continue }
                guard let own = p.ownTids[tid], hasArrived(p, own) else { complete = false; break }
            }
        }
        processes = live
        return complete
    }

    /// Children that share their parent's memory while no task of that waits for a vfork (in the kernel, state D): clone(2) with CLONE_VM made them.
    private func sharersOfMemory() -> CheckpointFailure? {
        let sharers = waitingFor.filter { pid, why in
            guard why == "vfork", let parent = ProcStat(pid: pid)?.parent else { return false }
            return !Proc.threads(of: parent).contains { ProcStat(pid: parent, tid: $0)?.state == "D" }
        }
        if sharers.isEmpty { return nil }
        return CheckpointFailure(sharers.keys.sorted().map { problem(.refused, "pid \($0) (\(ProcStat(pid: $0)?.comm ?? "?")): it shares its parent's memory (clone with CLONE_VM)", remedy: "let it end, or make it by fork or as a thread") })
    }

    private func whoIsMissing() -> CheckpointFailure {
        var problems: [Problem] = []
        for (pid, why) in waitingFor.sorted(by: { $0.key < $1.key }) {
            let comm = ProcStat(pid: pid)?.comm ?? "?"
            problems.append(problem(.refused, why == "vfork" ? "pid \(pid) (\(comm)): \(vforkCause)" : "pid \(pid) (\(comm)): it does not run the runtime: a set-uid program, or one that was started without LD_PRELOAD",
                                    remedy: "start it outside the session, or let it end"))
        }
        for p in processes {
            for tid in Proc.threads(of: p.pid) where !(tid == p.pid && p.leaderIsGone) && !p.workers.contains(tid) {
                if let own = p.ownTids[tid], hasArrived(p, own) { continue }
                problems.append(problem(.temporary, "pid \(p.pid) tid \(tid): did not arrive in \(patience / 1000) s: " + whereItIs(p.pid, tid), remedy: "try again, or raise --timeout"))
            }
        }
        if problems.isEmpty { problems.append(problem(.temporary, "new processes appear faster than they can be stopped", remedy: "try again")) }
        return CheckpointFailure(problems)
    }

    private func whereItIs(_ pid: Int32, _ tid: Int32) -> String {
        var text = "state \(ProcStat(pid: pid, tid: tid)?.state ?? "?")"
        if let call = try? Path.text("/proc/\(pid)/task/\(tid)/syscall"), let n = call.split(separator: " ").first.flatMap({ Int($0) }) {
            text += ", in \(systemCallName(n))"
        }
        let frames = stack(ofTask: tid, pid: pid, limit: 6)
        return frames.isEmpty ? text : text + ", at " + frames.map(\.text).joined(separator: " < ")
    }

    // MARK: failures and room

    /// The slots' blocks exist before anybody writes to them: a full file system is our error, never a SIGBUS of the application.
    private func reserveSlots() throws(CheckpointFailure) {
        let threads = processes.reduce(0) { $0 + Proc.threads(of: $1.pid).count }
        let tasks = min(threads * 2 + 64, Int(CKPT_MAX_TASKS)), slots = min(processes.count * 2 + 32, Int(CKPT_MAX_PROCESSES))
        do throws(SystemError) {
            try segment.allocate(at: UInt64(CKPT_OFFSET_PROCESSES), count: UInt64(slots) * 4096)
            try segment.allocate(at: UInt64(CKPT_OFFSET_TASKS), count: UInt64(tasks) * 256)
            try segment.allocate(at: UInt64(CKPT_OFFSET_ARENA), count: 1 << 20)
        } catch { throw failure(.system, "\(segment.path): \(error.text)", "free memory, or set CKPT_DIR to a folder with room before ckrun") }
    }
    private func refuse(_ pid: Int32, _ what: String, _ remedy: String) { refusals.add(pid: pid, what, remedy) }

    /// Everybody has been looked at: all that forbids to call them is told at once.
    private func refuseAll() throws(CheckpointFailure) { try refusals.check() }

    private func problem(_ status: ExitStatus, _ cause: String, remedy: String? = nil) -> Problem {
        Problem(status, "checkpoint", object: segment.name, cause: cause, remedy: remedy)
    }
    private func failure(_ status: ExitStatus, _ cause: String, _ remedy: String? = nil) -> CheckpointFailure {
        CheckpointFailure([problem(status, cause, remedy: remedy)])
    }
}

extension Int { var int32: Int32 { Int32(self) } }
extension UInt32 { var int32: Int32 { Int32(self) } }
