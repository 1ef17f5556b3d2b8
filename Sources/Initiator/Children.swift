// Stopped and continued children whose status nobody has collected yet: only a wait by their parent shows it, so its leader peeks.
import CkptABI
import CkptSession

private let stopped: Int32 = 5, continued: Int32 = 6, sigstop: Int32 = 19        // CLD_STOPPED, CLD_CONTINUED

extension Operation {
    func askForChildren(_ p: ObservedProcess, _ tree: ObservedTree) throws(CheckpointFailure) {
        let children = liveChildren(of: p, tree), slot = segment.process(p.slot), depth = p.status.namespaceProcessPids.count
        let queries = children.map { c in
            let pids = c.status.namespaceProcessPids
            return ckpt_child_query(pid: depth > 0 && depth <= pids.count ? pids[depth - 1] : c.ownPid, code: 0, status: 0, pad: 0)
        }
        slot.pointee.children_offset = try claim(p, queries)
        slot.pointee.children_count = UInt64(queries.count)
    }

    func readChildren(_ p: ObservedProcess, _ tree: ObservedTree) {
        let slot = segment.process(p.slot)
        let queries = ckpt_arena(segment.pointer, slot.pointee.children_offset).assumingMemoryBound(to: ckpt_child_query.self)
        for (i, c) in liveChildren(of: p, tree).enumerated() where i < Int(slot.pointee.children_count) {
            switch queries[i].code {
            case stopped:
                c.isStopped = true
                c.uncollected = (stopped, queries[i].status)
            // We had to continue it ourselves, and stop it again with SIGSTOP: its parent sees that.
            case continued where c.isStopped: c.uncollected = (stopped, sigstop)
            case continued: c.uncollected = (continued, 0)
            default: break
            }
        }
    }

    private func liveChildren(of p: ObservedProcess, _ tree: ObservedTree) -> [ObservedProcess] {
        guard let index = tree.processes.firstIndex(where: { $0 === p }) else { return [] }
        return tree.processes.filter { $0.parent == index && !$0.isZombie }
    }
}
