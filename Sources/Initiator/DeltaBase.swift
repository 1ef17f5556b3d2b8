// The statefile that a delta is taken since: which of its pages may still be the tree's, and where they lie.  They are compared byte by byte, by the writers or by
// us (SentDifferences): all here is only a hint where to look, and a wrong one costs nothing but room.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

final class DeltaBase {
    let statefile: Statefile
    /// It, and those that it refers to itself: the table BASE of the delta.
    let ids: [StatefileID], paths: [String], files: [File]
    /// Read before anybody is stopped: the pages of each process, by address, and those of shared memory, with the object that the base means.
    private let runs: [Int32: [ckpt_run]], shared: [ckpt_run]
    /// Writers can't compare what is compressed: they send everything.
    let hasFrames: Bool

    init(_ path: String, output: String) throws(Problem) {
        let statefile = try Statefile(path: path), more = try statefile.openedBases()
        self.statefile = statefile
        ids = [statefile.id] + more.map(\.id)
        paths = [realPath(path)] + more.map { realPath($0.path) }
        func refused(_ cause: String, _ remedy: String) -> Problem { Problem(.refused, "checkpoint --since", object: path, cause: cause, remedy: remedy) }
        if ids.count > Int(CKPT_MAX_BASES) { throw refused("it is the last of a chain of \(ids.count) statefiles, and a delta may refer to \(CKPT_MAX_BASES)", "make one file of it first: ckptctl merge \(path) -o FULL") }
        if output != "-" && paths.contains(realPath(output)) { throw refused("the delta would take the name of \(output), which it refers to", "give it another name with -o") }
        do throws(SystemError) {
            var files: [File] = []
            for p in paths { files.append(try File(unnoticed: p)) }
            self.files = files
        } catch { throw Problem(.system, "checkpoint --since", object: path, cause: error.text) }
        var runs: [Int32: [ckpt_run]] = [:], shared: [ckpt_run] = []
        for p in statefile.processes where p.task_count > 0 {
            var found: [ckpt_run] = []
            try statefile.forEachRun(from: p.runs) { run throws(Problem) in found.append(DeltaBase.renumbered(run)) }
            runs[p.pid] = found.sorted { $0.address < $1.address }
        }
        for p in statefile.processes where p.shared_runs != 0 {
            try statefile.forEachRun(from: p.shared_runs) { run throws(Problem) in
                if Int(run.object) < statefile.objects.count { shared.append(DeltaBase.renumbered(run, object: run.object)) }
            }
        }
        self.runs = runs; self.shared = shared
        hasFrames = shared.contains(where: \.isCompressed) || runs.values.contains { $0.contains(where: \.isCompressed) }
    }

    func records(_ tables: Tables) -> [ckpt_base_record] {
        zip(ids, paths).map { id, path in
            var r = ckpt_base_record()
            withUnsafeMutableBytes(of: &r.id) { $0.copyBytes(from: id) }
            r.path = tables.text(path)
            return r
        }
    }

    /// As the delta numbers them: what the base has itself is in the first statefile, what it refers to in the next ones.
    private static func renumbered(_ run: ckpt_run, object: UInt32 = 0) -> ckpt_run {
        var r = run
        let bits = UInt32(CKPT_RUN_BASE_MASK) << UInt32(CKPT_RUN_BASE_SHIFT)
        r.flags = run.flags & ~(bits | CKPT_RUN_HUGE.rawValue) | (ckpt_run_base(run) + 1) << UInt32(CKPT_RUN_BASE_SHIFT)
        r.object = object
        return r
    }

    func runs(ofPid pid: Int32) -> [ckpt_run]? { runs[pid] }

    /// Pages of shared memory, by object of the delta and offset.
    func sharedRuns(_ tables: Tables) -> [ckpt_run] {
        struct Key: Hashable { var kind: UInt32, device: UInt64, inode: UInt64, detail: UInt64 }
        func key(_ o: ckpt_object_record) -> Key { Key(kind: UInt32(o.kind), device: UInt64(o.device), inode: UInt64(o.inode), detail: UInt64(o.detail)) }
        let now = Dictionary(tables.objects.enumerated().map { (key($1), UInt32($0)) }) { first, _ in first }
        return shared.compactMap { run in
            guard let object = now[key(statefile.objects[Int(run.object)])] else { return nil }
            var r = run
            r.object = object
            return r
        }.sorted { ($0.object, $0.address) < ($1.object, $1.address) }
    }
}

extension Operation {
    /// What the base has goes into the arena, where the writers read it.  To those that send everything it says only what need not be sent.
    func handOutBase(_ tree: ObservedTree, _ content: SystemContent, _ draft: Draft) {
        if let tracker { for p in tree.live { tracker.protect(p, since: base?.statefile.id, busy: busyPlaces(p)) } }
        guard let base else { return }
        let shared = base.sharedRuns(content.tables)
        if takesIn(tree, draft) {
            var known = KnownRuns(files: base.files, shared: shared)
            for p in tree.live {
                let runs = knownRuns(p, tree, base) ?? [], slot = segment.process(p.slot)
                known.own[UInt32(truncatingIfNeeded: p.slot)] = runs
                if let (at, count) = place(runs.filter { $0.flags & CKPT_RUN_UNWRITTEN.rawValue != 0 }) { slot.pointee.known_offset = at; slot.pointee.known_count = count }
            }
            sentSince = known
            return
        }
        var sharedPlace: (at: UInt64, count: UInt32)?
        for p in tree.live {
            let slot = segment.process(p.slot)
            if let runs = knownRuns(p, tree, base), let (at, count) = place(runs) { slot.pointee.known_offset = at; slot.pointee.known_count = count }
            if slot.pointee.ranges_early == 0 { continue }
            if sharedPlace == nil { sharedPlace = place(shared) }
            if let (at, count) = sharedPlace { slot.pointee.shared_known_offset = at; slot.pointee.shared_known_count = count }
        }
    }

    /// Those of the process; of its nearest ancestor when it has been born since.
    private func knownRuns(_ p: ObservedProcess, _ tree: ObservedTree, _ base: DeltaBase) -> [ckpt_run]? {
        var at: ObservedProcess? = p, steps = 0
        while let q = at, steps <= tree.processes.count {
            if var runs = base.runs(ofPid: q.ownPid) {
                if q === p { tracker?.mark(&runs, of: p) }
                return runs
            }
            at = q.parent.map { tree.processes[$0] }
            steps += 1
        }
        return nil
    }

    /// The largest, when there is no room for all: pages that no writer knows of are written.
    private func place(_ runs: [ckpt_run]) -> (at: UInt64, count: UInt32)? {
        let stride = MemoryLayout<ckpt_run>.stride, left = segment.arenaLeft, reserve: UInt64 = 4 << 20
        guard left > reserve else { return nil }
        let room = Int(left - reserve) / stride
        var chosen = runs
        if runs.count > room {
            chosen = Array(runs.sorted { $0.pages > $1.pages }.prefix(room)).sorted { ($0.object, $0.address) < ($1.object, $1.address) }
        }
        guard !chosen.isEmpty, let place = try? segment.claim(chosen) else { return nil }
        return (place.offset, UInt32(place.count))
    }
}
