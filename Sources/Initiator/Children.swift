// Stopped and continued children whose status nobody has collected yet: only a wait by their parent shows it, so its leader peeks.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

private let stopped: Int32 = 5, continued: Int32 = 6, sigstop: Int32 = 19        // CLD_STOPPED, CLD_CONTINUED

struct AskedChildren {
    fileprivate let children: [ObservedProcess], queries: ArenaArray<ckpt_child_query>
}

extension Operation {
    func askForChildren(_ p: ObservedProcess, _ tree: ObservedTree) throws(CheckpointFailure) -> AskedChildren {
        let children = liveChildren(of: p, tree), slot = segment.process(p.slot), depth = p.status.namespaceProcessPids.count
        let queries = try claim(p, children.map { c in
            let pids = c.status.namespaceProcessPids
            return ckpt_child_query(pid: depth > 0 && depth <= pids.count ? pids[depth - 1] : c.ownPid, code: 0, status: 0, pad: 0)
        })
        slot.pointee.children_offset = queries.offset
        slot.pointee.children_count = UInt64(queries.count)
        return AskedChildren(children: children, queries: queries)
    }

    private func liveChildren(of p: ObservedProcess, _ tree: ObservedTree) -> [ObservedProcess] {
        guard let index = tree.processes.firstIndex(where: { $0 === p }) else { return [] }
        return tree.processes.filter { $0.parent == index && !$0.isZombie }
    }
}

extension AskedChildren {
    func read() {
        for (c, query) in zip(children, queries.copy()) {
            switch query.code {
            case stopped:
                c.isStopped = true
                c.uncollected = (stopped, query.status)
            // We had to continue it ourselves, and stop it again with SIGSTOP: its parent sees that.
            case continued where c.isStopped: c.uncollected = (stopped, sigstop)
            case continued: c.uncollected = (continued, 0)
            default: break
            }
        }
    }
}

/// A restart has each child made by its parent's main thread: one that gets a signal when another thread ends would not get it.
func refuseThreadsChildren(_ tree: ObservedTree, _ segment: Segment, _ refusals: Refusals) {
    for p in tree.live {
        guard let parent = p.parent.map({ tree.processes[$0] }), !parent.isZombie,
              let signal = p.tasks.lazy.map({ segment.task($0.slot).pointee.parent_death_signal }).first(where: { $0 != 0 }) else { continue }
        for tid in Proc.threads(of: parent.pid) where tid != parent.pid {
            guard let text = try? Path.text("/proc/\(parent.pid)/task/\(tid)/children"), text.split(separator: " ").contains(where: { Int32($0) == p.pid }) else { continue }
            refusals.add(pid: p.pid, "it gets \(signalName(signal)) when thread \(tid) of pid \(parent.pid) ends (PR_SET_PDEATHSIG), which is not that process's main thread",
                         "start it from the main thread")
        }
    }
}
