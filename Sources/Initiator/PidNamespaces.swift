// Pid namespaces that the tree has for itself: a process has a pid in its own and in each one around it.  In the records every process is called as in
// the namespace that the tree was started in; how it is called further in is noted beside that.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

/// One of them, and the one around it; 0: that in which the tree was started.
struct ObservedPidNamespace { var number: UInt32, around: UInt32, depth: Int }

struct ObservedNumber: Hashable { var namespace: UInt32, pid: Int32, inside: Int32 }

/// Where the children of a process will live, if not where it does.
enum ObservedChildren { case own, inNamespace(UInt32), fresh, dead }

/// Gives every process and task its place and its numbers; before anything asks for them.
func observePidNamespaces(_ tree: ObservedTree, _ segment: Segment, _ refusals: Refusals) {
    guard let first = tree.live.first else { return }
    let started = ckpt_session_namespaces(segment.pointer)[Int(CKPT_NAMESPACE_PID.rawValue) - 1]
    let base = started != 0 ? started : first.namespace("pid") ?? 0
    for p in tree.live {
        guard let n = p.namespace("pid"), n != base else { continue }
        p.pids = n
        if !tree.pidNamespaces.contains(where: { $0.number == n }) { addChain(p, n, base, tree, refusals) }
    }
    tree.pidNamespaces.sort { $0.depth == $1.depth ? $0.number < $1.number : $0.depth < $1.depth }
    // How many pid namespaces there are between us and that in which the tree was started.
    let level = tree.live.lazy.compactMap { p in tree.depth(of: p.pids).map { p.status.namespaceProcessPids.count - $0 } }.first ?? 1
    for p in tree.processes where p.isZombie { placeZombie(p, level, tree) }
    for p in tree.processes { number(p, max(1, level), tree) }
    for n in tree.pidNamespaces where !tree.hasInit(n.number) {
        for p in tree.live where p.pids == n.number { refusals.add(pid: p.pid, "its pid namespace has its first process outside the tree", "start ckrun inside of the namespace") }
    }
    for p in tree.live { observeChildrenPids(p, tree, refusals) }
}

private func addChain(_ p: ObservedProcess, _ number: UInt32, _ base: UInt32, _ tree: ObservedTree, _ refusals: Refusals) {
    let chain = [number] + Namespace.around("/proc/\(p.view)/ns/pid")
    guard let end = chain.firstIndex(of: base) else {
        refusals.add(pid: p.pid, "it lives in a pid namespace that is not inside of the one in which ckrun was started", "start ckrun inside of the namespace")
        return
    }
    for i in 0..<end where !tree.pidNamespaces.contains(where: { $0.number == chain[i] }) {
        tree.pidNamespaces.append(ObservedPidNamespace(number: chain[i], around: i + 1 == end ? 0 : chain[i + 1], depth: end - i))
    }
}

/// /proc may not say in which namespace a zombie is; how many numbers it has does.  Where nobody lives any more nobody can be put.
private func placeZombie(_ p: ObservedProcess, _ level: Int, _ tree: ObservedTree) {
    let depth = p.status.namespaceProcessPids.count - level
    if depth <= 0 { return }
    let living = tree.pidNamespaces.filter { n in n.depth == depth && tree.live.contains { $0.pids == n.number } }
    if let n = Namespace.number(p.pid, "pid"), living.contains(where: { $0.number == n }) { p.pids = n; return }
    let parent = tree.live.first { $0.pid == p.stat.parent }
    p.pids = living.first { $0.number == parent?.pids }?.number ?? 0
}

private func number(_ p: ObservedProcess, _ level: Int, _ tree: ObservedTree) {
    let own = p.status.namespaceProcessPids
    p.innerLevels = max(0, own.count - level)
    p.slotPid = own.last ?? p.pid
    if own.count >= level { p.ownPid = own[level - 1] }
    let chain = tree.chain(of: p.pids)
    func note(_ numbers: [Int32]) {
        for (i, n) in chain.enumerated() where level + i < numbers.count && numbers[level + i] > 0 && numbers[level - 1] > 0 {
            tree.numbers.insert(ObservedNumber(namespace: n, pid: numbers[level - 1], inside: numbers[level + i]))
        }
    }
    for key in ["NStgid", "NSpgid", "NSsid"] { note(p.status.numbers(key).map { Int32($0) }) }
    for i in p.tasks.indices {
        let numbers = p.tasks[i].status.namespacePids
        p.tasks[i].slotTid = p.tasks[i].tid
        if numbers.count >= level { p.tasks[i].tid = numbers[level - 1] }
        note(numbers)
    }
}

/// unshare(2) and setns(2) change where a thread's children are born; a restart has the main thread do it.
private func observeChildrenPids(_ p: ObservedProcess, _ tree: ObservedTree, _ refusals: Refusals) {
    guard let own = p.namespace("pid") else { return }
    for t in p.tasks {
        let n = t.childrenPids
        if n == own { continue }
        guard t.tid == p.ownPid else {
            refusals.add(pid: p.pid, "tid \(t.tid): the children of a thread that is not the main one are to be born in another pid namespace", "let the main thread unshare it")
            continue
        }
        if let n, tree.hasInit(n) { p.childrenPids = .inNamespace(n) }
        else if let n, Proc.processes().contains(where: { Namespace.number($0, "pid") == n && ProcStat(pid: $0).map { !$0.isDead } ?? false }) {
            refusals.add(pid: p.pid, "its children are to be born in a pid namespace that is not the tree's", "start ckrun inside of the namespace")
        } else { p.childrenPids = n == nil ? .fresh : .dead }
    }
}

extension ObservedTree {
    func depth(of number: UInt32) -> Int? { number == 0 ? 0 : pidNamespaces.first { $0.number == number }?.depth }
    /// From the outermost of the tree's own to this one.
    func chain(of number: UInt32) -> [UInt32] {
        guard let n = pidNamespaces.first(where: { $0.number == number }) else { return [] }
        return chain(of: n.around) + [number]
    }
    func hasInit(_ number: UInt32) -> Bool { live.contains { $0.pids == number && $0.slotPid == 1 } }
}

extension ObservedProcess {
    var hasOtherChildrenPids: Bool { if case .own = childrenPids { false } else { true } }
}

extension Operation {
    func addPidNamespaces(_ tree: ObservedTree) {
        for n in tree.pidNamespaces {
            let members = tree.processes.filter { $0.pids == n.number }
            guard let sample = members.first(where: { !$0.isZombie }) ?? tree.live.first else { continue }
            var observed = ObservedNamespace(kind: CKPT_NAMESPACE_PID, number: n.number, isWhole: false, sample: sample)
            if !members.isEmpty { observed.owner = (try? owner("/proc/\(sample.view)/ns/pid", sample, tree)) ?? nil }
            if !tree.canMake(in: observed.owner) { tree.refusals.add(pid: sample.pid, "its pid namespace belongs to a user namespace that the tree has left", "start ckrun inside of the namespace") }
            for p in members { p.namespaces[CKPT_NAMESPACE_PID.rawValue] = tree.namespaces.count }
            tree.namespaces.append(observed)
        }
    }

    /// Who is born in a pid namespace that belongs to a user namespace of a part is in that from the beginning: of what is outside it has what the first
    /// process there had.
    func refuseBornInside(_ tree: ObservedTree) {
        for p in tree.live {
            func refuse(_ what: String) { tree.refusals.add(pid: p.pid, what, "start ckrun inside of the namespace") }
            for number in tree.chain(of: p.pids) {
                guard let i = pidIndex(number, tree), let users = tree.namespaces[i].owner, !tree.isWhole(users), let first = tree.live.first(where: { $0.pids == number && $0.slotPid == 1 }) else { continue }
                func outside(_ p: ObservedProcess) -> [UInt32: Int] { p.namespaces.filter { $0.key != CKPT_NAMESPACE_USER.rawValue && $0.key != CKPT_NAMESPACE_PID.rawValue && !tree.isWithin(tree.namespaces[$0.value].owner, users) } }
                let mine = outside(p), its = outside(first)
                for kind in Set(mine.keys).union(its.keys).sorted() where mine[kind] != its[kind] {
                    refuse("its \(kindName(kind)) namespace is neither that of the first process in its pid namespace nor belongs to the same user namespace as that")
                }
                if tree.namespaces.contains(where: { $0.kind == CKPT_NAMESPACE_TIME }) { refuse("its pid namespace belongs to a user namespace of a part, in a tree with several time namespaces") }
            }
            if case .inNamespace(let n) = p.childrenPids, let users = p.namespaces[CKPT_NAMESPACE_USER.rawValue], let i = pidIndex(n, tree), !tree.isWithin(tree.namespaces[i].owner, users) {
                refuse("the pid namespace of its children belongs to another user namespace than it lives in")
            }
        }
    }

    func pidIndex(_ number: UInt32, _ tree: ObservedTree) -> Int? { tree.namespaces.firstIndex { $0.kind == CKPT_NAMESPACE_PID && $0.number == number } }

    func pidNumbers(_ tree: ObservedTree, _ tables: Tables) {
        for n in tree.numbers.sorted(by: { ($0.namespace, $0.pid) < ($1.namespace, $1.pid) }) {
            guard let i = pidIndex(n.namespace, tree) else { continue }
            tables.numbers.append(ckpt_number_record(namespaces: UInt32(i), pid: n.pid, inside: n.inside, pad: 0))
        }
    }

    func childrenPids(_ p: ObservedProcess, _ tree: ObservedTree) -> UInt8 {
        switch p.childrenPids {
        case .own: 0
        case .inNamespace(let n): UInt8((pidIndex(n, tree) ?? -1) + 1)
        case .fresh: UInt8(CKPT_CHILDREN_FRESH)
        case .dead: UInt8(CKPT_CHILDREN_DEAD)
        }
    }
}
