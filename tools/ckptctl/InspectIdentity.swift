// Of `ckptctl inspect`: who a process is and where, its tasks, its limits.
import CkptABI
import CkptReport
import CkptStatefile

struct IdentityView: ProcessView {
    static let title = "identity"
    private let rows: [(String, String)]
    init(_ s: Statefile, _ i: Int) {
        let p = s.processes[i]
        func four(_ v: (UInt32, UInt32, UInt32, UInt32)) -> String { v.0 == v.1 && v.1 == v.2 && v.2 == v.3 ? "\(v.0)" : "real \(v.0), effective \(v.1), saved \(v.2), files \(v.3)" }
        let groups = s.groups[Int(p.first_group)..<Int(p.first_group + p.group_count)].map { String($0) }.joined(separator: " ")
        var rows = [("executable", s.objectPath(p.exe)), ("folder", s.objectPath(p.cwd))]
        if p.root != ckpt_no_index() { rows.append(("root", s.objectPath(p.root))) }
        rows += [("uid", four(p.uid)), ("gid", four(p.gid)), ("groups", groups), ("capabilities", "effective \(hex(p.cap_effective)), permitted \(hex(p.cap_permitted)), inheritable \(hex(p.cap_inheritable)), bounding \(hex(p.cap_bounding)), ambient \(hex(p.cap_ambient))"),
                 ("umask", "0" + String(p.umask, radix: 8)), ("oom_score_adj", "\(p.oom_score_adj)"), ("personality", "0x" + hex(UInt64(p.personality)))]
        let settings = [(p.no_new_privs, "no_new_privs"), (p.child_subreaper, "child_subreaper"), (p.keep_caps, "keep_caps"), (p.thp_disable, "thp_disable"), (p.io_flusher, "io_flusher"), (p.dumpable != 1 ? 1 : 0, "dumpable \(p.dumpable)")]
        let set = settings.filter { $0.0 > 0 }.map(\.1)
        if !set.isEmpty { rows.append(("settings", set.joined(separator: ", "))) }
        self.rows = rows
    }
    var lines: [String] { columns(rows.map { [$0.0, $0.1] }) }
    var json: JSON { .object(rows.map { .init($0.0, .text($0.1)) }) }
}

struct TaskView: ProcessView {
    static let title = "tasks"
    private let rows: [(tid: Int32, name: String, policy: String, nice: Int32, deathSignal: Int32)]
    init(_ s: Statefile, _ i: Int) {
        let policies: [UInt32: String] = [0: "other", 1: "fifo", 2: "rr", 3: "batch", 5: "idle", 6: "deadline"]
        rows = s.tasks(of: s.processes[i]).map { t in
            let name = withUnsafeBytes(of: t.comm) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            return (t.tid, name, policies[t.sched.policy] ?? "policy \(t.sched.policy)", t.sched.nice, t.parent_death_signal)
        }
    }
    var lines: [String] { columns(rows.map { [String($0.tid), $0.name, $0.policy, $0.nice == 0 ? "" : "nice \($0.nice)", $0.deathSignal == 0 ? "" : "gets \(signalName($0.deathSignal)) when its parent dies"] }) }
    var json: JSON { .list(rows.map { ["tid": JSON($0.tid), "name": .text($0.name), "policy": .text($0.policy), "nice": JSON($0.nice), "death_signal": JSON($0.deathSignal)] }) }
}

struct LimitView: ProcessView {
    static let title = "limits"
    private let rows: [(String, ckpt_rlimit)]
    init(_ s: Statefile, _ i: Int) {
        let names = ["CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"]
        var p = s.processes[i]
        rows = names.enumerated().map { k, name in (name, withUnsafeMutablePointer(to: &p) { ckpt_record_limit($0, Int32(k)).pointee }) }
    }
    private func words(_ v: UInt64) -> String { v == .max ? "unlimited" : String(v) }
    /// Those without a limit say nothing.
    var lines: [String] { columns(rows.filter { $0.1.soft != .max || $0.1.hard != .max }.map { [$0.0, words($0.1.soft), "at most " + words($0.1.hard)] }) }
    var json: JSON { .object(rows.map { .init($0.0, ["soft": .text(words($0.1.soft)), "hard": .text(words($0.1.hard))]) }) }
}
