// Who is whose child, in which process group and terminal session, as the tree itself sees it.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

func arrangeFamilies(_ tree: ObservedTree, _ segment: Segment, _ refusals: Refusals) {
    var byPid: [Int32: Int] = [:]
    tree.processes.sort { $0.startTime == $1.startTime ? $0.pid < $1.pid : $0.startTime < $1.startTime }
    for (i, p) in tree.processes.enumerated() { byPid[p.pid] = i }
    for (i, p) in tree.processes.enumerated() {
        if let parent = byPid[p.stat.parent], parent != i { p.parent = parent }
        // NSsid and NSpgid show them as the task itself does; 0: outside its pid namespace.
        let inward = p.innerLevels
        p.terminalSession = p.status.numbers("NSsid").dropLast(inward).last.map { Int32($0) } ?? p.stat.terminalSession
        p.group = p.status.numbers("NSpgid").dropLast(inward).last.map { Int32($0) } ?? p.stat.group
    }
    chooseRoot(tree, segment)
    let root = tree.processes[tree.root]
    for p in tree.processes where p.parent == nil && p !== root { p.isOrphan = true }
    let pids = Set(tree.processes.map(\.ownPid))
    if !pids.contains(root.terminalSession) { tree.outerSession = root.terminalSession }
    if !pids.contains(root.group) && root.terminalSession == tree.outerSession { tree.outerGroup = root.group }
}

/// The main process: the one that ckrun became, else the oldest that has no parent in the tree.
private func chooseRoot(_ tree: ObservedTree, _ segment: Segment) {
    let launched = segment.pointer.pointee.launch_pid
    tree.root = tree.processes.firstIndex { $0.ownPid == launched && !$0.isZombie } ?? tree.processes.firstIndex { $0.parent == nil && !$0.isZombie } ?? 0
}
