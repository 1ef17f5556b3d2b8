// The record phase from outside: everybody stands still, and what /proc shows of each process is read once.  Reading changes nothing.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

func observe(_ census: Census, _ early: EarlyMappings?, _ segment: Segment) throws(CheckpointFailure) -> ObservedTree {
    let tree = ObservedTree()
    let refusals = Refusals(session: segment.name)
    let called = census.processes
    let seen = inParallel(called.count) { i in Result { () throws(SystemError) in try observeProcess(called[i], early) } }
    for (i, result) in seen.enumerated() {
        do throws(SystemError) {
            if let p = try result.get() { tree.processes.append(p) }
        } catch {
            refusals.add(pid: called[i].pid, "/proc can't be read: \(error.call): \(error.text)", "run ckptctl as the user who owns it, or as root")
        }
    }
    addZombies(tree, census)
    observePidNamespaces(tree, segment, refusals)
    attachSlots(tree, segment, refusals)
    try refusals.check()
    if tree.live.isEmpty { throw CheckpointFailure([Problem(.temporary, "checkpoint", object: segment.name, cause: "its tasks ended while they were being stopped", remedy: "try again")], passesSoon: true) }
    arrangeFamilies(tree, segment, refusals)
    for p in tree.live { refuseUnrestorable(p, refusals) }
    refuseSharedTables(tree, refusals)
    refuseUnmakeable(tree, segment, refusals)
    refuseThreadsChildren(tree, segment, refusals)
    tree.refusals = refusals        // told with what the descriptors and the memory add
    return tree
}

func observeProcess(_ called: CalledProcess, _ early: EarlyMappings?) throws(SystemError) -> ObservedProcess? {
    guard var stat = ProcStat(pid: called.pid) else { return nil }
    let pid = called.pid, view = Proc.view(of: stat), base = "/proc/\(view)"
    if view != pid, let alive = ProcStat(pid: view) { stat.takeMemory(from: alive) }
    let p = ObservedProcess(pid: pid, startTime: called.startTime, ownPid: called.ownPid, stat: stat, status: ProcStatus(try Path.contents(base + "/status")))
    p.view = view
    p.isStopped = called.isStopped
    p.leaderIsGone = called.leaderIsGone
    if let now = early?.now(pid, view: view, p.status) { p.mappings = now; p.areMappingsProven = false } else {
        p.mappings = try ProcMapping.all(of: view, withFlags: true)
        p.guards = try observeGuards(view, p.mappings)
    }
    p.exe = try Path.link(base + "/exe"); p.cwd = try Path.link(base + "/cwd"); p.root = try Path.link(base + "/root")
    p.auxv = try Path.contents(base + "/auxv")
    p.commandLine = try Path.contents(base + "/cmdline")
    p.personality = UInt32((try? Path.text(base + "/personality"))?.trimmedHex ?? 0)
    p.label = securityLabel(base)
    p.oomScoreAdj = Int32((try Path.text(base + "/oom_score_adj")).trimmedNumber ?? 0)
    p.coredumpFilter = (try? Path.text(base + "/coredump_filter"))?.trimmedHex ?? 0
    for i in 0..<16 { p.limits[i] = try Kernel.limits(of: view, i) }
    p.timers = observeTimers((try? Path.text(base + "/timers")) ?? "")
    // The kernel shows a timer's thread as we see it, in another pid namespace than its own.
    for i in p.timers.indices { p.timers[i].tid = called.ownTids[p.timers[i].tid] ?? p.timers[i].tid }
    p.descriptors = try observeDescriptors(view)
    let tids = called.signalled.sorted().filter { !($0 == pid && called.leaderIsGone) && called.ownTids[$0] != nil }
    for task in inParallel(tids.count, atLeast: 32, { i in Result { () throws(SystemError) in try observeTask(tids[i], of: pid, own: called.ownTids[tids[i]]!) } }) {
        if let t = try task.get() { p.tasks.append(t) }
    }
    return p
}

/// As AppArmor and SELinux show it; empty where no security module gives labels (EINVAL).
private func securityLabel(_ base: String) -> String {
    String(((try? Path.text(base + "/attr/current")) ?? "").prefix { $0 != "\n" && $0 != "\0" })
}

/// nil: one that ended before it arrived is no part of the tree; those that arrived can't end.
private func observeTask(_ tid: Int32, of pid: Int32, own: Int32) throws(SystemError) -> ObservedTask? {
    guard let status = ProcStatus(pid: pid, tid: tid) else { return nil }
    var t = ObservedTask(tid: own, view: tid, slot: -1, status: status)
    t.comm = status.name
    t.childrenPids = Namespace.number(pid, task: tid, "pid_for_children")
    t.childrenTimes = Namespace.number(pid, task: tid, "time_for_children")
    t.sched = try Kernel.schedule(of: tid)
    do { try t.affinity.withUnsafeMutableBufferPointer { b throws(SystemError) in try Kernel.affinity(of: tid, into: b.baseAddress!) } }
    t.ioprio = Kernel.ioPriority(of: tid)
    return t
}

/// The slots that the tasks filled, found by the pids that they see themselves.
private func attachSlots(_ tree: ObservedTree, _ segment: Segment, _ refusals: Refusals) {
    struct Owner: Hashable { var pid: Int32, pids: UInt32 }
    struct Key: Hashable { var owner: Owner, tid: Int32 }
    // Who lives alone with its pid need not have said in which namespace that is its pid.
    let shared = Dictionary(grouping: tree.live, by: \.slotPid).filter { $0.value.count > 1 }
    // Where /proc shows another namespace a task can't say; one among them all may be found by that.
    let said = Set((0..<Int(ckpt_tasks_used(segment.pointer))).map { Owner(pid: segment.task($0).pointee.pid, pids: segment.task($0).pointee.pids) })
    let silent = shared.compactMapValues { same in
        let rest = Set(same.compactMap { $0.namespace("pid") }).filter { !said.contains(Owner(pid: same[0].slotPid, pids: $0)) }
        return rest.count == 1 ? rest.first : nil
    }
    func owner(_ pid: Int32, _ pids: UInt32) -> Owner { Owner(pid: pid, pids: shared[pid] == nil ? 0 : pids != 0 ? pids : silent[pid] ?? 0) }
    var slots: [Key: Int] = [:]
    var parked: [Owner: Int] = [:], processSlots: [Owner: Int] = [:]
    let tasks = Int(ckpt_tasks_used(segment.pointer))
    // Slots are claimed by generation, and a leader's stack has one owner: if all the same two tasks were one, their restart would crash.
    struct Context: Hashable { var owner: Owner, address: UInt64 }
    var contexts: Set<Context> = [], mixed: Set<Owner> = []
    for i in 0..<tasks {
        let t = segment.task(i).pointee, owner = owner(t.pid, t.pids)
        let isFirst = slots.updateValue(i, forKey: Key(owner: owner, tid: t.tid)) == nil
        if !isFirst || !contexts.insert(Context(owner: owner, address: t.ucontext)).inserted { mixed.insert(owner) }
    }
    for key in slots.keys { parked[key.owner, default: 0] += 1 }
    for i in 0..<Int(ckpt_processes_used(segment.pointer)) {
        let leader = Int(segment.process(i).pointee.leader_task)
        if leader < tasks { processSlots[owner(segment.process(i).pointee.pid, segment.task(leader).pointee.pids)] = i }
    }
    for p in tree.live {
        let me = owner(p.slotPid, p.namespace("pid") ?? 0)
        p.slot = processSlots[me] ?? -1
        for i in p.tasks.indices { p.tasks[i].slot = slots[Key(owner: me, tid: p.tasks[i].slotTid)] ?? -1 }
        p.tasks.removeAll { $0.slot < 0 }
        // Every task that is parked must be in the record: one that is not would be lost.
        if p.slot < 0 || p.tasks.isEmpty || p.tasks.count != parked[me] || mixed.contains(me) { refusals.add(pid: p.pid, "its tasks ended while they were being stopped", "try again", status: .temporary) }
    }
}

private func addZombies(_ tree: ObservedTree, _ census: Census) {
    for stat in census.zombies {
        guard let status = ProcStatus(pid: stat.pid) else { continue }
        let p = ObservedProcess(pid: stat.pid, startTime: stat.startTime, ownPid: stat.pid, stat: stat, status: status)
        p.isZombie = true
        tree.processes.append(p)
    }
}

private func refuseUnrestorable(_ p: ObservedProcess, _ refusals: Refusals) {
    for t in p.tasks where t.sched.policy == 6 {
        refusals.add(pid: p.pid, "tid \(t.tid): it runs under SCHED_DEADLINE", "change its scheduling policy with chrt")
    }
}

private func observeTimers(_ text: String) -> [ObservedTimer] {
    var timers: [ObservedTimer] = []
    for line in text.split(separator: "\n") {
        let parts = line.split(separator: ":", maxSplits: 1)
        guard parts.count == 2 else { continue }
        let value = parts[1].drop { $0 == " " }
        switch parts[0] {
        case "ID": timers.append(ObservedTimer(id: Int32(value) ?? 0, signal: 0, value: 0, notify: 0, tid: 0, clock: 0))
        case "signal":
            let f = value.split(separator: "/")
            if f.count == 2, !timers.isEmpty {
                timers[timers.count - 1].signal = Int32(f[0]) ?? 0
                timers[timers.count - 1].value = UInt64(f[1], radix: 16) ?? 0
            }
        case "notify":
            // "signal/pid.42", "signal/tid.43", "none/pid.42"
            let f = value.split(separator: "/")
            if f.count == 2, !timers.isEmpty {
                let kind: Int32 = f[0] == "none" ? 1 : f[0] == "thread" ? 2 : 0, toThread: Int32 = 4
                timers[timers.count - 1].notify = f[1].hasPrefix("tid") ? kind | toThread : kind
                timers[timers.count - 1].tid = Int32(f[1].dropFirst(4)) ?? 0
            }
        case "ClockID": if !timers.isEmpty { timers[timers.count - 1].clock = Int32(value) ?? 0 }
        default: break
        }
    }
    return timers
}

extension String {
    var trimmedHex: UInt64? { UInt64(self.filter { !$0.isWhitespace }, radix: 16) }
    var trimmedNumber: Int? { Int(self.filter { !$0.isWhitespace }) }
}
