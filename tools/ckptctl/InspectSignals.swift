// Of `ckptctl inspect`: dispositions, what is blocked and pending, and timers.
import CkptABI
import CkptReport
import CkptStatefile

struct SignalView: ProcessView {
    static let title = "signals"
    private let handled: [(signal: Int32, handler: String, flags: [String])]
    private let blocked: [(tid: Int32, set: UInt64)]
    private let pending: [(signal: Int32, tid: Int32?, code: Int32)]

    init(_ s: Statefile, _ i: Int) {
        var p = s.processes[i]
        var handled: [(signal: Int32, handler: String, flags: [String])] = []
        for signal: Int32 in 1...64 where signal != Int32(CKPT_SIGCKPT) {
            let a = withUnsafeMutablePointer(to: &p) { ckpt_record_action($0, signal).pointee }
            if a.handler == 0 { continue }
            handled.append((signal, a.handler == 1 ? "ignored" : "0x" + hex(a.handler), a.handler == 1 ? [] : flagNames(UInt32(truncatingIfNeeded: a.flags) & ~0x4000000, Self.actionFlags)))
        }
        self.handled = handled
        // The mask that counts is in the frame that sigreturn restores.
        let memory = try? ProcessMemory(s, process: i), offset = UInt64(MemoryLayout<ckpt_ucontext>.offset(of: \.sigmask)!)
        blocked = s.tasks(of: p).compactMap { t in
            let mask = (memory?.load(t.ucontext + offset, as: UInt64.self) ?? 0) & ~ckpt_sigckpt_bit()
            return mask == 0 ? nil : (t.tid, mask)
        }
        pending = s.pending.filter { $0.process == UInt32(i) }.map { ($0.info.si_signo, $0.task == ckpt_no_index() ? nil : s.tasks[Int($0.task)].tid, $0.info.si_code) }
    }
    private static let actionFlags: [(UInt32, String)] = [(1, "NOCLDSTOP"), (2, "NOCLDWAIT"), (4, "SIGINFO"), (0x08000000, "ONSTACK"), (0x10000000, "RESTART"), (0x40000000, "NODEFER"), (0x80000000, "RESETHAND")]

    var lines: [String] {
        handled.map { "\(signalName($0.signal)): \($0.handler == "ignored" ? "ignored" : "handler \($0.handler)")\($0.flags.isEmpty ? "" : " " + $0.flags.joined(separator: "|"))" }
            + blocked.map { "tid \($0.tid) blocks \(signalSet($0.set))" }
            + pending.map { "pending for \($0.tid.map { "tid \($0)" } ?? "the process"): \(signalName($0.signal)) (code \($0.code))" }
    }
    var json: JSON {
        ["actions": .list(handled.map { ["signal": .text(signalName($0.signal)), "handler": .text($0.handler), "flags": .list($0.flags.map { .text($0) })] }),
         "blocked": .list(blocked.map { ["tid": JSON($0.tid), "signals": .text(signalSet($0.set))] }),
         "pending": .list(pending.map { ["signal": .text(signalName($0.signal)), "tid": $0.tid.map { JSON($0) } ?? .null, "code": JSON($0.code)] })]
    }
}

struct TimerView: ProcessView {
    static let title = "timers"
    private let rows: [(name: String, left: String, interval: String, tells: String)]
    init(_ s: Statefile, _ i: Int) {
        var p = s.processes[i]
        var rows: [(name: String, left: String, interval: String, tells: String)] = []
        for (k, name) in ["ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF"].enumerated() {
            let t = withUnsafeMutablePointer(to: &p) { ckpt_record_itimer($0, Int32(k)).pointee }
            if t.value_sec != 0 || t.value_usec != 0 { rows.append((name, seconds(t.value_sec, t.value_usec &* 1000), seconds(t.interval_sec, t.interval_usec &* 1000), "")) }
        }
        let clocks: [Int32: String] = [0: "CLOCK_REALTIME", 1: "CLOCK_MONOTONIC", 7: "CLOCK_BOOTTIME"]
        for t in s.timers where t.process == UInt32(i) {
            let armed = t.left.value_sec != 0 || t.left.value_nsec != 0
            rows.append(("timer \(t.id) \(clocks[t.clock] ?? "clock \(t.clock)")", armed ? seconds(t.left.value_sec, t.left.value_nsec) : "disarmed", seconds(t.left.interval_sec, t.left.interval_nsec),
                         t.notify & 1 != 0 ? "nobody" : signalName(t.signo)))
        }
        self.rows = rows
    }
    var lines: [String] { columns(rows.map { [$0.name, $0.left == "disarmed" ? $0.left : "\($0.left) s left", $0.interval == "0" ? "" : "every \($0.interval) s", $0.tells] }) }
    var json: JSON { .list(rows.map { ["name": .text($0.name), "left": .text($0.left), "interval": .text($0.interval), "signal": .text($0.tells)] }) }
}

/// 1.5, 0.000000001, 3
func seconds(_ sec: Int64, _ nsec: Int64) -> String {
    if nsec == 0 { return String(sec) }
    let digits = String(nsec)
    var fraction = String(repeating: "0", count: max(0, 9 - digits.count)) + digits
    while fraction.last == "0" { fraction.removeLast() }
    return "\(sec).\(fraction)"
}
