// Root's statefile of somebody else's tree: the tree sends its pages, and only we write them.  Whoever writes a file may do so for as long as it has it, and this
// one holds the engine that root will execute.
import CkptABI
import CkptSession
import CkptSystem

/// Where pages belong that have a place of their own in the statefile; by the plan, whatever their sender says.
struct PagePlaces: Sendable {
    private struct Stretch: Sendable { var start, end, offset: UInt64 }
    private var own: [UInt32: [Stretch]] = [:]          // by process; addresses
    private var shared: [UInt32: [Stretch]] = [:]       // by object; offsets in it

    init(_ tree: ObservedTree, _ plan: MemoryPlan) {
        for p in tree.live {
            for r in plan.ranges[ObjectIdentifier(p)] ?? [] where r.file_offset != 0 {
                let isShared = r.isShared, start = isShared ? r.object_offset : r.start
                let stretch = Stretch(start: start, end: start + (r.end - r.start), offset: r.file_offset)
                if isShared { shared[r.object, default: []].append(stretch) } else { own[UInt32(truncatingIfNeeded: p.slot), default: []].append(stretch) }
            }
        }
        for k in own.keys { own[k]!.sort { $0.start < $1.start } }
    }

    /// nil: pages that nobody was to send.
    func offset(of m: ckpt_page_message, _ address: UInt64, count: Int) -> UInt64? {
        func within(_ s: Stretch) -> Bool { address >= s.start && address < s.end && UInt64(count) <= s.end - address }
        if m.shared != 0 { return shared[m.run.object]?.first(where: within).map { $0.offset + (address - $0.start) } }
        guard let list = own[m.process] else { return nil }
        var low = 0, high = list.count
        while low < high {
            let middle = (low + high) / 2
            if list[middle].end <= address { low = middle + 1 } else { high = middle }
        }
        return low < list.count && within(list[low]) ? list[low].offset + (address - list[low].start) : nil
    }
}

extension ckpt_range {
    var isShared: Bool { kind == CKPT_RANGE_SHARED.rawValue || kind == CKPT_RANGE_SEGMENT.rawValue }
}
extension ObservedTree {
    /// A tree of somebody else's, without any process of root's, while we are root.
    func isOthers(_ segment: Segment) -> Bool {
        if let known = knownToBeOthers { return known }
        let areOthers = Kernel.userID == 0 && (!segment.folder.isOurs || !live.contains { $0.effectiveUser == 0 })
        knownToBeOthers = areOthers
        return areOthers
    }
}
extension Operation {
    /// Pages come to us instead of being written by the tree.
    func takesIn(_ tree: ObservedTree, _ draft: Draft) -> Bool { draft.isPacked || tree.isOthers(segment) }
}
