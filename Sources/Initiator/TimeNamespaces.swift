// Time namespaces of a part of the tree: how far their clocks are ahead of the rest's.  Whoever calls unshare(2) stays where it is; its children are born there.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

/// As /proc/PID/timens_offsets has it, in nanoseconds.
struct ClockOffsets {
    var monotonic: Int64 = 0, boottime: Int64 = 0
    init() {}
    /// Those of the time namespace of that process's children.
    init?(childrenOf pid: Int32) {
        guard let text = try? Path.text("/proc/\(pid)/timens_offsets") else { return nil }
        for line in text.split(separator: "\n") {
            let f = line.split(separator: " ")
            guard f.count == 3, let s = Int64(f[1]), let ns = Int64(f[2]) else { return nil }
            if f[0] == "monotonic" { monotonic = s &* 1_000_000_000 &+ ns } else if f[0] == "boottime" { boottime = s &* 1_000_000_000 &+ ns }
        }
    }
    static func - (a: ClockOffsets, b: ClockOffsets) -> ClockOffsets {
        var r = ClockOffsets()
        r.monotonic = a.monotonic &- b.monotonic; r.boottime = a.boottime &- b.boottime
        return r
    }
}

extension Operation {
    /// /proc shows the offsets of the namespace of somebody's children: there must be one whose children live there.
    private func offsets(of number: UInt32) -> ClockOffsets? {
        Proc.processes().first { Namespace.number($0, "time_for_children") == number }.flatMap { ClockOffsets(childrenOf: $0) }
    }
    private var startedTimes: UInt32 { ckpt_session_namespaces(segment.pointer)[Int(CKPT_NAMESPACE_TIME.rawValue) - 1] }

    func lookAtClocks(_ n: inout ObservedNamespace, _ view: Int32, _ refuse: (String, String) -> Void) {
        guard let there = offsets(of: n.number), let base = offsets(of: startedTimes) else {
            return refuse("the clocks of its time namespace can't be compared with those where ckrun was started", "start ckrun inside of the namespace")
        }
        n.ahead = there - base
    }

    func observeChildrenTimes(_ tree: ObservedTree) {
        for p in tree.live {
            guard let own = p.namespace("time") else { continue }
            let ofProcess = p.namespace("time_for_children")
            for t in p.tasks where t.childrenTimes != ofProcess {
                tree.refusals.add(pid: p.pid, "tid \(t.tid): its children are to be born in another time namespace than those of the other threads", "unshare it before there are threads")
            }
            guard let children = ofProcess, children != own else { continue }
            func refuse(_ what: String, _ remedy: String) { tree.refusals.add(pid: p.pid, what, remedy) }
            // The restart has it made by whoever's children are to be born in it.
            guard p.namespaces[CKPT_NAMESPACE_TIME.rawValue] == nil, children != startedTimes,
                  !tree.live.contains(where: { $0 !== p && $0.childrenTimes.map { tree.namespaces[$0].number } == children }) else {
                refuse("its children are to be born in a time namespace that it has not made alone", "start ckrun inside of the namespace")
                continue
            }
            // Before they are born it is not in its user namespace yet.
            if let users = try? owner("/proc/\(p.view)/ns/time_for_children", p, tree), !tree.isWhole(users) {
                refuse("its children are to be born in a time namespace that belongs to a user namespace of a part of the tree", "start ckrun inside of the namespace")
                continue
            }
            if let known = tree.namespaces.firstIndex(where: { $0.kind == CKPT_NAMESPACE_TIME && $0.number == children }) { p.childrenTimes = known; continue }
            var n = ObservedNamespace(kind: CKPT_NAMESPACE_TIME, number: children, isWhole: false, sample: p)
            lookAtClocks(&n, p.view, refuse)
            p.childrenTimes = tree.namespaces.count
            tree.namespaces.append(n)
        }
    }
}
