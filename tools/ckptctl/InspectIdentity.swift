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
        if p.cgroup != 0 { rows.append(("control group", s.string(p.cgroup))) }
        let own = [p.uts, p.ipc, p.net, p.mounts, p.cgroups, p.times].filter { $0 != 0 }.map { s.namespace(Int($0) - 1) } + s.ownPid(p) + s.namespaces.indices.filter { s.namespaces[$0].kind == CKPT_NAMESPACE_USER.rawValue && ($0 + 1 == Int(p.users) || s.namespaces[$0].flags & CKPT_NAMESPACE_WHOLE.rawValue != 0) }.map { s.namespace($0) }
        if !own.isEmpty { rows.append(("own namespaces", own.joined(separator: ", "))) }
        if let parent = s.uncollected(p) { rows.append(("its parent", parent)) }
        self.rows = rows
    }
    var lines: [String] { columns(rows.map { [$0.0, $0.1] }) }
    var json: JSON { .object(rows.map { .init($0.0, .text($0.1)) }) }
}

extension Statefile {
    fileprivate func namespace(_ i: Int) -> String {
        let n = namespaces[i], mine = mounts.filter { Int($0.namespaces) == i }.map { string($0.target) }, set = settings.filter { Int($0.namespaces) == i }.count
        let detail = switch ckpt_namespace_kind(rawValue: n.kind) {
        case CKPT_NAMESPACE_UTS: "uts (\(string(n.host)))"
        case CKPT_NAMESPACE_IPC: "ipc"
        case CKPT_NAMESPACE_NET: "net"
        case CKPT_NAMESPACE_MOUNT: mine.isEmpty ? "mnt" : "mnt (\(mine.joined(separator: " ")))"
        case CKPT_NAMESPACE_CGROUP: "cgroup (below \(string(n.host)))"
        case CKPT_NAMESPACE_TIME: "time (\(Double(n.monotonic / 1_000_000) / 1000) s ahead)"
        default: users(i)
        }
        return set == 0 ? detail : detail + " with \(set) setting\(set == 1 ? "" : "s") of its own"
    }
    private func users(_ i: Int) -> String {
        let ranges = idRanges.filter { Int($0.namespaces) == i && $0.is_group == 0 }.map { $0.count == 1 ? "\($0.inside) is \($0.outside) outside" : "\($0.count) from \($0.inside) are those from \($0.outside) outside" }
        return ranges.isEmpty ? "user" : "user (\(ranges.joined(separator: ", ")))"
    }
    /// What it is called where it lives.
    fileprivate func ownPid(_ p: ckpt_process_record) -> [String] {
        numbers.filter { $0.namespaces + 1 == UInt32(p.pids) && $0.pid == p.pid }.map { "pid (it is \($0.inside) there)" }
    }
    fileprivate func uncollected(_ p: ckpt_process_record) -> String? {
        let stopped: UInt16 = 5, continued: UInt16 = 6          // CLD_STOPPED, CLD_CONTINUED
        switch p.wait_code {
        case stopped: return "has not collected that \(signalName(Int32(p.wait_signal))) stopped it"
        case continued: return "has not collected that it was continued"
        default: return nil
        }
    }
}

struct TaskView: ProcessView {
    static let title = "tasks"
    private let rows: [(tid: Int32, name: String, policy: String, nice: Int32, deathSignal: Int32, differs: String)]
    init(_ s: Statefile, _ i: Int) {
        let policies: [UInt32: String] = [0: "other", 1: "fifo", 2: "rr", 3: "batch", 5: "idle", 6: "deadline"]
        rows = s.tasks(of: s.processes[i]).map { t in
            let name = withUnsafeBytes(of: t.comm) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            return (t.tid, name, policies[t.sched.policy] ?? "policy \(t.sched.policy)", t.sched.nice, t.parent_death_signal, s.difference(t, i))
        }
    }
    var lines: [String] { columns(rows.map { [String($0.tid), $0.name, $0.policy, $0.nice == 0 ? "" : "nice \($0.nice)", $0.deathSignal == 0 ? "" : "gets \(signalName($0.deathSignal)) when its parent dies", $0.differs] }) }
    var json: JSON { .list(rows.map { ["tid": JSON($0.tid), "name": .text($0.name), "policy": .text($0.policy), "nice": JSON($0.nice), "death_signal": JSON($0.deathSignal), "credentials": .text($0.differs)] }) }
}

extension Statefile {
    /// What a task's credentials have other than those of its process's first task.
    fileprivate func difference(_ t: ckpt_task_record, _ i: Int) -> String {
        let first = tasks[Int(processes[i].first_task)]
        if t.credentials == first.credentials { return "" }
        let a = credentials[Int(first.credentials)], b = credentials[Int(t.credentials)]
        var words: [String] = []
        if a.uid != b.uid { words.append("uid \(b.uid.0) \(b.uid.1) \(b.uid.2) \(b.uid.3)") }
        if a.gid != b.gid { words.append("gid \(b.gid.0) \(b.gid.1) \(b.gid.2) \(b.gid.3)") }
        if a.first_group != b.first_group || a.group_count != b.group_count {
            words.append("groups " + groups[Int(b.first_group)..<Int(b.first_group + b.group_count)].map { String($0) }.joined(separator: " "))
        }
        if (a.cap_effective, a.cap_permitted, a.cap_inheritable, a.cap_bounding, a.cap_ambient) != (b.cap_effective, b.cap_permitted, b.cap_inheritable, b.cap_bounding, b.cap_ambient) {
            words.append("capabilities \(hex(b.cap_effective)) \(hex(b.cap_permitted)) \(hex(b.cap_inheritable)) \(hex(b.cap_bounding)) \(hex(b.cap_ambient))")
        }
        if a.securebits != b.securebits { words.append("securebits \(b.securebits)") }
        if a.no_new_privs != b.no_new_privs { words.append("no_new_privs \(b.no_new_privs)") }
        return words.joined(separator: ", ")
    }
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
