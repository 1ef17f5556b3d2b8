// How the mounts of a part are shared (mount_namespaces(7)), as far as a restart can bring it back: with what it was copied from, and among each other.
// What a restart would find otherwise when all is back is refused here, while the program runs.
import CkptABI
import CkptSystem

extension PartMounts {
    /// Inherited ones that others, inherited too, cover: no path leads there.
    func covered(inherited: Set<Int>) -> Set<Int> {
        inherited.filter { i in
            var above: Set<Int32> = [mounts[i].id], next = mounts[i]
            while let parent = mounts.first(where: { $0.id == next.parent }), above.insert(parent.id).inserted { next = parent }
            return inherited.contains { !above.contains(mounts[$0].id) && Mount.path(mounts[i].point, isBelow: mounts[$0].point) }
        }
    }
}

/// What a restart does to all of a part's mounts at once, before it comes to each.
struct PropagationRules {
    let mine: PartMounts, observed: [ObservedMount], around: [Mount]
    private let members: [Int32: [Int]]

    init(_ mine: PartMounts, _ observed: [ObservedMount], _ around: [Mount]) {
        self.mine = mine; self.observed = observed; self.around = around
        members = Dictionary(grouping: mine.mounts.indices.filter { mine.mounts[$0].peers != nil }, by: { mine.mounts[$0].peers! })
    }
    private func has(_ i: Int, _ f: ckpt_mount_propagation) -> Bool { observed[i].part!.propagation & f.rawValue != 0 }
    private func isReached(_ i: Int) -> Bool { !has(i, CKPT_PROPAGATION_COVERED) && !observed[i].part!.isLate }
    private func shows(_ o: Int, _ i: Int) -> Bool { mine.mounts[o].device == mine.mounts[i].device && Mount.path(mine.mounts[i].root, isBelow: mine.mounts[o].root) }
    private func receivesInside(_ i: Int) -> Bool { mine.mounts[i].master.map { (members[$0] ?? []).contains { $0 != i && isReached($0) && shows($0, i) } } ?? false }
    private var receives: Bool { mine.mounts.indices.contains { has($0, CKPT_PROPAGATION_SLAVE) && !has($0, CKPT_PROPAGATION_OUTSIDE) && !receivesInside($0) } }

    func check(_ refuse: (Int, Unmakeable) -> Void) {
        let covered = mine.mounts.indices.filter { has($0, CKPT_PROPAGATION_COVERED) }
        let staysOutside = covered.contains { has($0, CKPT_PROPAGATION_OUTSIDE) }, becomesShared = covered.contains { isShared($0) }
        let receives = self.receives || mine.mounts.indices.contains { has($0, CKPT_PROPAGATION_OUTSIDE) }
        for i in mine.mounts.indices {
            let m = mine.mounts[i]
            if has(i, CKPT_PROPAGATION_COVERED) {
                guard let o = observed[i].part!.outer else { continue }        // it is refused already
                let master = staysOutside ? o.master : receives ? o.peers ?? o.master : nil, peers = becomesShared ? nil : staysOutside ? o.peers : nil
                let isAlike = m.master == master && isShared(i) == becomesShared && (becomesShared || m.peers == peers) && !(becomesShared && staysOutside) && has(i, CKPT_PROPAGATION_UNBINDABLE) == (staysOutside && o.propagation.contains("unbindable"))
                if !isAlike || becomesShared && members[m.peers ?? 0]?.count != 1 { refuse(i, Unmakeable("another mount covers it, and it shares what is mounted in another way than others do", "unmount what covers it, or make all alike (mount --make-rprivate /)")) }
                else if m.flags != o.flags { refuse(i, Unmakeable("another mount covers it, and its options were changed in the namespace", "unmount what covers it, or give it the options that it has outside (\(o.options.joined(separator: ",")))")) }
            } else if let cause = cause(i) { refuse(i, Unmakeable(cause, "make it private before the checkpoint (mount --make-private \(m.point))")) }
        }
    }
    private func isShared(_ i: Int) -> Bool { has(i, CKPT_PROPAGATION_SHARED) && !has(i, CKPT_PROPAGATION_OUTSIDE) }

    private func cause(_ i: Int) -> String? {
        let m = mine.mounts[i], isLate = observed[i].part!.isLate
        if has(i, CKPT_PROPAGATION_OUTSIDE) { return isLate || observed[i].options.isEmpty ? "it shares what is mounted with one outside that can't be reached" : nil }
        if isShared(i) {
            let all = members[m.peers!]!
            if all.count > 1 && (isLate || !all.contains { o in isReached(o) && all.allSatisfy { shows(o, $0) } }) { return "it shares what is mounted with others of which none shows all that the others show" }
        }
        guard let master = m.master, !receivesInside(i) || isLate else { return nil }
        // A copy of what is shared outside receives from there.
        if let o = observed[i].part!.outer, !isLate, (o.peers ?? o.master) == master { return nil }
        return "it receives what is mounted (as a slave) from one that a restart doesn't find"
    }
}
