// ptrace(2) for one purpose: a task stopped by job control runs its SIGCKPT handler and stops again, unseen by its parent.
import CkptABI
import Glibc

/// Threads seized by this process; let go when the owner goes.  All calls must come from the thread that seized.
public final class SeizedTasks {
    private struct Task { var tid: Int32, pid: Int32 }
    private var tasks: [Task] = []                  // main threads last: a dead one is found only when the others of its process are
    private static let seize = 0x4206, interrupt = 0x4207, cont = 7, detach = 17
    public init() {}

    /// Seizes a task in group stop and lets it run: into its handler if the signal is pending for it, else on in it.
    public func run(_ tid: Int32, of pid: Int32, isPending: Bool) throws(SystemError) {
        try request(SeizedTasks.seize, tid)
        tasks.insert(Task(tid: tid, pid: pid), at: tid == pid ? tasks.count : 0)
        do throws(SystemError) { try follow(tid, isPending: isPending) } catch {
            // Left as it was found: whoever reaches it by another way must not find it held by us.
            tasks.removeAll { $0.tid == tid }
            letGo(tid)
            throw error
        }
    }
    /// It reports the group stop it is in, then each signal that it is about to handle, ours last (the highest number).
    private func follow(_ tid: Int32, isPending: Bool) throws(SystemError) {
        var silent = 0
        for _ in 0..<64 {
            guard let status = changeOfState(tid, milliseconds: 500) else {
                // It may stand in a stop whose report has been taken: then it goes on from there.  Otherwise it has not come to run yet.
                silent += 1
                if silent > 4 { throw SystemError("wait for \(tid)", errno: ETIMEDOUT) }
                _ = ckpt_syscall(CKPT_SYS_ptrace, SeizedTasks.cont, Int(tid), 0, 0, 0, 0)
                continue
            }
            guard status & 0xff == 0x7f else { return }         // it ended
            let report = Report(status)
            try request(SeizedTasks.cont, tid, Int(report.signal))
            if report.signal == Int32(CKPT_SIGCKPT) || (report.isGroupStop != nil && !isPending) { return }
        }
    }
    /// SIGCONT makes a seized task stand still until its tracer has seen it: who waits for these tasks calls this from time to time.
    public func serve() {
        for task in tasks { if let status = changeOfState(task.tid, milliseconds: 0) { goOn(task, Report(status)) } }
    }
    /// The processes that somebody has continued since they were seized: a PTRACE_INTERRUPTed task tells whether a group stop is in effect.
    public func continuedProcesses() -> Set<Int32> {
        for task in tasks { _ = ckpt_syscall(CKPT_SYS_ptrace, SeizedTasks.interrupt, Int(task.tid), 0, 0, 0, 0) }
        var continued: Set<Int32> = []
        for task in tasks {
            for _ in 0..<64 {
                guard let status = changeOfState(task.tid, milliseconds: 500) else { break }
                let report = Report(status)
                goOn(task, report)
                guard let isGroupStop = report.isGroupStop else { continue }
                if !isGroupStop { continued.insert(task.pid) }
                break
            }
        }
        return continued
    }
    private func goOn(_ task: Task, _ report: Report) {
        guard report.isStop else { return }
        _ = ckpt_syscall(CKPT_SYS_ptrace, SeizedTasks.cont, Int(task.tid), 0, Int(report.signal), 0, 0)
    }
    /// What wait(2) says of a seized task (ptrace(2), "PTRACE_EVENT stops").
    private struct Report {
        let isStop: Bool
        let signal: Int32               // that it is about to handle; 0: none
        let isGroupStop: Bool?          // of an event, whether the process is stopped by job control; nil: it is none
        init(_ status: Int32) {
            let sigtrap: Int32 = 5
            isStop = status & 0xff == 0x7f
            let isEvent = status >> 16 != 0, number = status >> 8 & 0xff
            signal = isStop && !isEvent ? number : 0
            isGroupStop = isStop && isEvent ? number != sigtrap : nil
        }
    }
    private func request(_ what: Int, _ tid: Int32, _ data: Int = 0) throws(SystemError) {
        let r = ckpt_syscall(CKPT_SYS_ptrace, what, Int(tid), 0, data, 0, 0)
        if r < 0 { throw SystemError("ptrace", errno: Int32(-r)) }
    }
    /// Detaching wants a ptrace stop: PTRACE_INTERRUPT makes one.  The task goes back into its group stop.
    public func release() {
        for task in tasks { letGo(task.tid) }
        tasks = []
    }
    private func letGo(_ tid: Int32) {
        _ = ckpt_syscall(CKPT_SYS_ptrace, SeizedTasks.interrupt, Int(tid), 0, 0, 0, 0)
        _ = changeOfState(tid, milliseconds: 2000)
        _ = ckpt_syscall(CKPT_SYS_ptrace, SeizedTasks.detach, Int(tid), 0, 0, 0, 0)
    }
    deinit { release() }
}

/// What wait(2) says of a traced task; nil: nothing within that time, or it is not ours.
private func changeOfState(_ tid: Int32, milliseconds: Int) -> Int32? {
    let wall: Int32 = 0x4000_0000
    let deadline = Kernel.clock(1) + UInt64(milliseconds) * 1_000_000
    while true {
        var status: Int32 = 0
        let r = waitpid(tid, &status, WNOHANG | wall)
        if r == tid { return status }
        if r < 0 && errno != EINTR || Kernel.clock(1) >= deadline { return nil }
        usleep(50)
    }
}

/// Takes `signals` out of a sleeping task's blocked set (PTRACE_SETSIGMASK): for threads of libc's own that block everything by themselves.
public func unblockSignals(_ signals: UInt64, of tid: Int32) throws(SystemError) {
    let seize = 0x4206, interrupt = 0x4207, getMask = 0x420a, setMask = 0x420b, detach = 17
    func request(_ what: Int, _ a: Int = 0, _ b: Int = 0) throws(SystemError) {
        let r = ckpt_syscall(CKPT_SYS_ptrace, what, Int(tid), a, b, 0, 0)
        if r < 0 { throw SystemError("ptrace", errno: Int32(-r)) }
    }
    try request(seize)
    defer { _ = ckpt_syscall(CKPT_SYS_ptrace, detach, Int(tid), 0, 0, 0, 0) }
    try request(interrupt)
    guard changeOfState(tid, milliseconds: 2000) != nil else { throw SystemError("wait for \(tid)", errno: ETIMEDOUT) }
    var mask: UInt64 = 0
    let address = withUnsafeMutablePointer(to: &mask) { Int(bitPattern: $0) }
    try request(getMask, 8, address)
    mask &= ~signals
    try request(setMask, 8, address)
}
