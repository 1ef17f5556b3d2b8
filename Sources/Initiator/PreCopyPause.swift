// The end of --pre-copy: in the pause, what is no longer as it was read; after it, the runs.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

/// To read a page in the pause takes about as long as to clone this many of a page table.
private let clonedPerRead: UInt64 = 8

extension Operation {
    /// In the pause.  Everything that follows takes only what is live now.
    func takeChanged(_ tree: ObservedTree, _ copy: PreCopy) {
        for m in copy.members.values where !tree.live.contains(where: { copy.member($0) === m }) { for s in m.stretches { s.isLive = false } }
        for p in tree.live {
            guard let m = copy.member(p) else { continue }
            if p.hasOwnTransfers { copy.drop(p) }
            let busy = busyPlaces(p)
            for s in m.stretches where s.isLive { look(m, s, p, busy) }
            copy.report.lateBytes += m.readLate()
            // Registered with a userfaultfd, and that one is ours.
            for i in p.mappings.indices where p.mappings[i].flags.contains("uw") || copy.stretch(p, p.mappings[i]) != nil { p.mappings[i].isTracked = m.tracking.add(p.mappings[i].start, p.mappings[i].end) }
        }
    }

    /// First what the pages show, then whether it is ours: what has been moved away and back is registered no longer, and would be by the question.
    private func look(_ m: PreCopy.Member, _ s: PreCopy.Stretch, _ p: ObservedProcess, _ busy: [PageRange]) {
        let step: UInt64 = 64 << 20, parts = Array(stride(from: s.start, to: s.end, by: Int(step)))
        let seen = inParallel(parts.count, atLeast: 2) { k in Result { () throws(SystemError) in try s.look(m.map, from: parts[k], to: min(parts[k] + step, s.end)) } }
        let all = seen.compactMap { try? $0.get() }, isThere = p.mappings.contains { $0.start == s.start && $0.end == s.end && $0.isTrackable(atLeast: 0) }
        if all.count < parts.count || !isThere || !m.tracking.add(s.start, s.end) { s.isLive = false; return }
        s.share(all.flatMap(\.late), busy, readsAll: options.afterwards != .run, present: all.reduce(0) { $0 + $1.present })
    }
}

extension PreCopy.Stretch {
    /// What has been written since it was read, and how many bytes are there at all.
    fileprivate func look(_ map: PageMap, from: UInt64, to: UInt64) throws(SystemError) -> (late: [PageRange], present: UInt64) {
        var at = index(from), late: [PageRange] = [], present: UInt64 = 0
        func skip(until end: Int) { while at < end { pages[at].formUnion([.known, .zero]); at += 1 } }
        try map.present(from: from, to: to) { first, last, isUnwritten in
            skip(until: index(first))
            present += last - first
            let end = index(last)
            while at < end {
                if isUnwritten && pages[at].contains(.known) { at += 1; continue }
                let begin = at
                while at < end && !(isUnwritten && pages[at].contains(.known)) { pages[at].remove(.known); at += 1 }
                late.append((start + UInt64(begin) * 4096, start + UInt64(at) * 4096))
            }
        }
        skip(until: index(to))
        return (late, present)
    }

    /// Between us, who read what is late now, and the snapshot.
    fileprivate func share(_ all: [PageRange], _ busy: [PageRange], readsAll: Bool, present: UInt64) {
        isInClone = !readsAll && all.bytes * clonedPerRead > present
        let others = (isInClone ? all + busy : busy).sorted { $0.start < $1.start }
        mine = [(start, end)].without(others)
        leftToSnapshot = [(start, end)].without(mine)
        late = all.without(leftToSnapshot)
        for r in leftToSnapshot { for i in index(r.start)..<index(r.end) { pages[i].insert(.snapshots) } }
    }

    /// What the process is told: which pages its snapshot has to write, and of which it needs nothing.
    var ranges: [ckpt_range] {
        let written = leftToSnapshot.map { ckpt_range(start: $0.start, end: $0.end, file_offset: place + ($0.start - start), kind: CKPT_RANGE_ANONYMOUS.rawValue, object: 0, object_offset: 0, copy: 0) }
        if isInClone { return written }
        return (written + mine.map { ckpt_range(start: $0.start, end: $0.end, file_offset: 0, kind: CKPT_RANGE_EARLY.rawValue, object: 0, object_offset: 0, copy: 0) }).sorted { $0.start < $1.start }
    }

    /// What lies in the statefile and is not the mapping's (any more) would show in its core face.
    fileprivate func clear(_ file: File, _ snapshot: MemoryImage?) {
        for r in pageRanges(where: { $0.contains(.inFile) && (!isLive || $0.intersection([.zero, .snapshots]) == .zero) }) { file.punch(at: place + (r.start - start), count: r.end - r.start) }
        if !isLive { return }
        for r in pageRanges(where: { $0.isSuperset(of: [.inFile, .snapshots]) }) {
            for at in stride(from: r.start, to: r.end, by: 4096) where snapshot?.read(at, 1) == nil { file.punch(at: place + (at - start), count: 4096) }
        }
    }

    /// The checksums from before the pause hold for what has not been written to the file since.
    fileprivate func finalRuns(_ file: File) throws(SystemError) -> [ckpt_run] {
        try requireAll()
        var known: [ckpt_run] = [], others: [ckpt_run] = []
        for var run in runs {
            let first = index(run.address), isAsSummed = pages[first..<first + Int(run.pages)].allSatisfy { $0.contains(.summed) }
            if isAsSummed, let sum = sums[run.address], sum.pages == run.pages { run.crc = sum.crc; known.append(run) } else { others.append(run) }
        }
        return known + (try summed(others, file))
    }

    fileprivate func packedRuns() throws(SystemError) -> [ckpt_run] {
        try requireAll()
        return packed?.runs(of: pageRanges { $0.contains(.inFile) && !$0.contains(.zero) && !$0.contains(.snapshots) }) ?? []
    }

    private func requireAll() throws(SystemError) {
        if let r = pageRanges(where: { !$0.contains(.known) && !$0.contains(.snapshots) }).first { throw SystemError("page \(hex(r.start))", errno: 5) }
    }
}

extension PreCopy.Member {
    /// By all cores: nobody runs meanwhile.  What cannot be read here is the snapshot's.
    fileprivate func readLate() -> UInt64 {
        let late = stretches.flatMap { s in s.isLive ? s.late : [] }, total = Int(late.bytes)
        if total == 0 { return 0 }
        if (contents?.size ?? 0) < total { contents = PageBuffer(size: total) }
        guard let buffer = contents else { for s in stretches { s.isLive = false }; return 0 }
        var parts: [(ranges: ArraySlice<PageRange>, at: Int, bytes: Int)] = [], first = 0, at = 0, bytes = 0
        for (i, r) in late.enumerated() {
            bytes += Int(r.end - r.start)
            if bytes >= 1 << 20 || i == late.count - 1 { parts.append((late[first...i], at, bytes)); first = i + 1; at += bytes; bytes = 0 }
        }
        let isComplete = inParallel(parts.count, atLeast: 2) { buffer.read(pid: pid, parts[$0].ranges, at: parts[$0].at) == parts[$0].bytes }
        if isComplete.contains(false) { for s in stretches { s.isLive = false } }
        return UInt64(total)
    }

    /// After the pause: what was read in it.
    fileprivate func finish(_ draft: Draft, since base: KnownRuns?) throws(SystemError) {
        var parts: [(stretch: PreCopy.Stretch, ranges: ArraySlice<PageRange>, at: Int, bytes: Int)] = [], at = 0
        for s in stretches where s.isLive {
            var first = 0, bytes = 0
            for (i, r) in s.late.enumerated() {
                bytes += Int(r.end - r.start)
                if bytes >= 1 << 20 || i == s.late.count - 1 { parts.append((s, s.late[first...i], at, bytes)); first = i + 1; at += bytes; bytes = 0 }
            }
        }
        defer { self.contents = nil }
        guard let contents, !parts.isEmpty else { return }
        let writers = min(Machine.cores, parts.count), all = parts
        let failures = inParallel(writers, atLeast: 2) { k -> SystemError? in
            let output = EarlyOutput(draft, draft.file, since: base)
            for i in stride(from: k, to: all.count, by: writers) {
                do throws(SystemError) { try all[i].stretch.take(all[i].ranges, contents, at: all[i].at, count: all[i].bytes, output) } catch { return error }
            }
            return nil
        }
        if let e = failures.compactMap({ $0 }).first { throw e }
    }
}

extension Operation {
    /// The chain of a process begins with what was read early; what its snapshot has written follows.
    func chainEarly(_ tree: ObservedTree, _ copy: PreCopy, _ draft: Draft, _ chains: inout [Int: ChainHeads], _ written: inout [Int: [ckpt_run]]) throws(SystemError) {
        for (m, p) in try finishEarly(tree, copy, draft) {
            let snapshot = p.map { MemoryImage([draft.file], runs: written[$0.slot] ?? []) }
            for s in m.stretches { s.clear(draft.file, snapshot) }
            guard let slot = p?.slot else { continue }
            var runs: [ckpt_run] = []
            for s in m.stretches where s.isLive { runs += try s.finalRuns(draft.file) }
            chains[slot, default: ChainHeads()].own = try draft.putChain(runs, before: chains[slot]?.own ?? 0)
            written[slot, default: []] += runs
            count(runs)
        }
    }

    /// Of a packed one: they are chained with what the snapshots have sent.  `stored`: what all that was read takes.
    func packedEarly(_ tree: ObservedTree, _ copy: PreCopy, _ draft: Draft) throws(SystemError) -> (runs: [UInt32: [ckpt_run]], stored: UInt64) {
        var found: [UInt32: [ckpt_run]] = [:], stored: UInt64 = 0
        for (m, p) in try finishEarly(tree, copy, draft) {
            stored += m.stretches.reduce(0) { $0 + ($1.packed?.stored ?? 0) }
            guard let p else { continue }
            var runs: [ckpt_run] = []
            for s in m.stretches where s.isLive { runs += try s.packedRuns() }
            found[UInt32(truncatingIfNeeded: p.slot)] = runs
            count(runs)
        }
        return (found, stored)
    }

    /// With the process that each is, if that still lives.
    private func finishEarly(_ tree: ObservedTree, _ copy: PreCopy, _ draft: Draft) throws(SystemError) -> [(PreCopy.Member, ObservedProcess?)] {
        report.early = copy.report
        for m in copy.members.values { try m.finish(draft, since: copy.base) }
        return copy.members.values.map { m in (m, tree.live.first { copy.member($0) === m }) }
    }
    private func count(_ runs: [ckpt_run]) { report.early?.chainedBytes += runs.reduce(0) { $0 + UInt64($1.pages) * 4096 } }
}
