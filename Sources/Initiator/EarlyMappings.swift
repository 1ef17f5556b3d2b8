// What smaps shows of a mapping costs a walk over all its pages.  So it is read before the call; in the pause only maps is, and what changed
// meanwhile without a trace there is found in the snapshot, which has the mappings of that very moment: then the checkpoint is done once more, with smaps
// read in the pause.  Memory that a snapshot does not show as it is (shared, locked, not inherited, huge pages) is never treated so.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

final class EarlyMappings {
    private var known: [Int32: [ProcMapping]] = [:]
    private let segment: FileIdentity

    init(of processes: [CalledProcess], _ segment: Segment) {
        self.segment = segment.identity
        for p in processes {
            // All that the record reads is read: what it needs of us and of the kernel for the first time is not needed in the pause.
            guard let seen = try? observeProcess(p, nil), seen.mappings.allSatisfy(isPlain) else { continue }
            known[p.pid] = seen.mappings
        }
    }

    private func isSession(_ m: ProcMapping) -> Bool { m.inode == segment.inode && m.device == segment.device }

    private func isPlain(_ m: ProcMapping) -> Bool {
        let odd: [StaticString] = ["ht", "dc", "wf", "lo", "lf", "ss", "um", "io", "pf"]
        if isSession(m) || m.name.hasPrefix("[v") { return true }
        return !m.isShared && !m.name.hasPrefix("/dev/zero") && !odd.contains { m.flags.contains($0) }
    }

    /// The mappings of a process that stands still; nil: smaps must be read.
    func now(_ pid: Int32, view: Int32, _ status: ProcStatus) -> [ProcMapping]? {
        guard let before = known[pid], status.kilobytes("VmLck") == 0, status.kilobytes("HugetlbPages") == 0,
              var mappings = try? ProcMapping.all(of: view, withFlags: false), let pages = try? PageMap(of: view) else { return nil }
        var at = 0
        for i in mappings.indices {
            while at < before.count && before[at].end <= mappings[i].start { at += 1 }
            var m = mappings[i], k = at
            // One that grew or was split has what it had.
            while k < before.count && before[k].start < m.end && !before[k].continues(in: m) { k += 1 }
            let old = k < before.count && before[k].start < m.end ? before[k] : nil
            if let old { m.flags = old.flags; m.protectionKey = old.protectionKey } else if m.isShared || m.name.hasPrefix("/dev/zero") { return nil }
            if !isSession(m) && !m.name.hasPrefix("[v") {
                guard let holds = pages.holdsOwn(from: m.start, to: m.end) else { return nil }
                m.anonymousBytes = !holds ? 0 : (old?.anonymousBytes).flatMap { $0 > 0 ? $0 : nil } ?? m.size     // about: only 0 counts
            }
            mappings[i] = m
        }
        return mappings
    }
}

extension ProcMapping {
    /// `m` may be this mapping at a later time.
    fileprivate func continues(in m: ProcMapping) -> Bool {
        isShared == m.isShared && inode == m.inode && device == m.device && name == m.name && (inode == 0 || offset &- start == m.offset &- m.start)
    }
    /// What a record says of the mapping beyond its line in maps.
    fileprivate func isAdvised(like m: ProcMapping, leftOut: Bool) -> Bool {
        let codes: [StaticString] = ["gd", "nr", "dc", "dd", "hg", "nh", "mg", "sr", "rr", "sl", "dp", "ht", "ss", "io", "pf"]
        return protectionKey == m.protectionKey && codes.allSatisfy { flags.contains($0) == m.flags.contains($0) } && (leftOut || flags.contains("wf")) == m.flags.contains("wf")
    }
}

extension Operation {
    /// Compares what was taken for true with those that write their memory themselves.
    func proveMappings(_ tree: ObservedTree) throws(CheckpointFailure) {
        var allHold = true
        for p in tree.live where !p.areMappingsProven && segment.process(p.slot).pointee.snapshot_pid == 0 { allHold = areProven(p, view: p.view, leftOut: []) && allHold }
        if !allHold { throw CheckpointFailure.mappingsChanged }
    }

    /// The same with a snapshot that has written its memory and let go of most: a walk over that is short.
    func isSnapshotProven(_ p: ObservedProcess) -> Bool { p.areMappingsProven || areProven(p, view: snapshotPid(p), leftOut: leftOut(p)) }

    /// A snapshot's guards are the process's.
    private func areProven(_ p: ObservedProcess, view: Int32?, leftOut: [PageRange]) -> Bool {
        var holds = false
        if let view, let there = try? ProcMapping.all(of: view, withFlags: true), let guards = try? observeGuards(view, there) {
            p.guards = guards
            holds = agree(p.mappings, there, leftOut: leftOut)
        }
        p.areMappingsProven = true
        letSnapshotGo(p)
        return holds
    }

    func letSnapshotGo(_ p: ObservedProcess) {
        let slot = segment.process(p.slot)
        ckpt_store(&slot.pointee.hold, 0)
        Kernel.wakeAll(&slot.pointee.hold)
    }

    /// What the leader has made its snapshot have without the pages (--pre-copy).
    private func leftOut(_ p: ObservedProcess) -> [PageRange] {
        p.ranges?.copy().compactMap { $0.kind == CKPT_RANGE_EARLY.rawValue && $0.copy == 1 ? ($0.start, $0.end) : nil } ?? []
    }

    private func agree(_ expected: [ProcMapping], _ there: [ProcMapping], leftOut: [PageRange]) -> Bool {
        var at = 0
        for m in expected where m.inode != segment.identity.inode && !m.name.hasPrefix("[v") {
            while at < there.count && there[at].end <= m.start { at += 1 }
            // The snapshot's own memory may have joined a neighbour, and what was left out has parted from the rest.
            var from = m.start, k = at
            while from < m.end {
                guard k < there.count, there[k].start <= from else { return false }
                let to = min(there[k].end, m.end)
                if !m.isAdvised(like: there[k], leftOut: leftOut.contains { $0.start < to && from < $0.end }) { return false }
                from = to; k += 1
            }
        }
        return true
    }
}
