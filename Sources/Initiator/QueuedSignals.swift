// Pending signals as a tracer sees them: nobody takes them off their queues, so a checkpoint that the program survives changes nothing there.  Where attaching is
// forbidden (Yama, a sandbox, a debugger that is there already) the tasks take them and queue them again (Pending).
import CkptABI
import CkptSession
import CkptSystem

/// Of one process.
struct QueuedSignals: Equatable {
    var shared: [ckpt_siginfo] = []
    var own: [Int: [ckpt_siginfo]] = [:]        // by the task's slot

    /// nil: they can't be seen, or a timer's is among them: only whoever takes that learns how often the timer has run out.
    init?(_ p: ObservedProcess) {
        let asked = p.tasks.filter { $0.pendingMask != 0 }, ofTimer: Int32 = -2
        for t in asked.isEmpty ? Array(p.tasks.prefix(1)) : asked {
            // It is parked; where it gets little time, nobody could go on without it.
            guard let task = TracedTask(t.view, milliseconds: 5000) else { return nil }
            defer { task.release() }
            do throws(SystemError) {
                if t.pendingMask != 0 { own[t.slot] = Self.all(of: t.pendingMask, in: try task.queuedSignals(shared: false)) }
                if p.sharedPendingMask != 0 && shared.isEmpty { shared = Self.all(of: p.sharedPendingMask, in: try task.queuedSignals(shared: true)) }
            } catch { return nil }
        }
        if (shared + own.values.joined()).contains(where: { $0.si_code == ofTimer }) { return nil }
    }

    /// A signal may be pending without an entry in the queue; whoever takes it is told that a process of number 0 has sent it.
    private static func all(of mask: UInt64, in queue: [ckpt_siginfo]) -> [ckpt_siginfo] {
        let all = queue.filter { UInt32(bitPattern: $0.si_signo) != UInt32(CKPT_SIGCKPT) }
        let missing = (1..<Int32(CKPT_SIGCKPT)).filter { s in mask >> UInt64(s - 1) & 1 != 0 && !all.contains { $0.si_signo == s } }
        return all + missing.map { s in
            var info = ckpt_siginfo()
            info.si_signo = s
            return info
        }
    }

    static func == (a: Self, b: Self) -> Bool {
        func isSame(_ x: [ckpt_siginfo], _ y: [ckpt_siginfo]) -> Bool {
            x.withUnsafeBytes { x in y.withUnsafeBytes { y in x.elementsEqual(y) } }
        }
        return isSame(a.shared, b.shared) && a.own.keys == b.own.keys && a.own.allSatisfy { isSame($0.value, b.own[$0.key] ?? []) }
    }
}
