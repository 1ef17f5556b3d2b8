// --pre-copy: most memory is written while the tree runs.  Its pages are protected first (WriteTracking); then everybody is stopped for a moment, so that no
// system call is under way that took hold of a page before; only then are the pages read.  What is still protected in the pause is as it was read.
// What has been written since is read in the pause, and what is not provably tracked is left to the snapshot, as always.
// A packed statefile has all that was read, one behind the other: the last of each page counts (EarlyPages).
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

final class PreCopy {
    /// A mapping: its place in the statefile, and what is known of each page.
    final class Stretch: @unchecked Sendable {
        let start: UInt64, end: UInt64, place: UInt64
        let pages: UnsafeMutableBufferPointer<Page>
        var isLive = true                   // false: it is another mapping now
        var mine: [PageRange] = [], leftToSnapshot: [PageRange] = []
        var isInClone = true                // the snapshot has its pages, although it needs few of them
        var late: [PageRange] = []          // written since, and read in the pause
        var sums: [UInt64: Run] = [:]       // by address: of what was there before the pause
        let packed: EarlyPages?             // where its pages have no place of their own
        init(_ process: Int32, _ start: UInt64, _ end: UInt64, _ draft: Draft) {
            self.start = start; self.end = end; place = draft.claimPages(end - start)
            packed = draft.isPacked ? EarlyPages(UInt32(process), start, count: Int((end - start) / 4096)) : nil
            pages = .allocate(capacity: Int((end - start) / 4096))
            pages.initialize(repeating: [])
        }
        deinit { pages.deallocate() }
        func index(_ address: UInt64) -> Int { Int((address - start) / 4096) }
    }
    struct Run { let pages: UInt16, crc: UInt32 }
    struct Page: OptionSet {
        let rawValue: UInt8
        static let known = Page(rawValue: 1)            // read, and unwritten since as far as the last look; or nothing is there
        static let zero = Page(rawValue: 2)
        static let inFile = Page(rawValue: 4)           // something of it lies in the statefile
        static let summed = Page(rawValue: 16)          // `sums` has it as it is in the file
        static let snapshots = Page(rawValue: 8)        // the snapshot writes it, if there is something
    }
    final class Member: @unchecked Sendable {
        let pid: Int32, startTime: UInt64, tracking: WriteTracking, map: PageMap
        var tracked: [PageRange] = []       // as registered: whole mappings
        var stretches: [Stretch] = []
        var contents: PageBuffer?           // of what is late, stretch by stretch
        init(_ p: ObservedProcess, _ tracking: WriteTracking) throws(SystemError) { pid = p.view; startTime = p.startTime; self.tracking = tracking; map = try PageMap(of: p.view) }
    }
    var members: [Int32: Member] = [:]
    var base: KnownRuns?                    // what a delta is taken since, by pid as in `members`
    var report = EarlyReport()
    var mappings: EarlyMappings?        // from before the last pages were protected

    func member(_ p: ObservedProcess) -> Member? { members[p.view].flatMap { $0.startTime == p.startTime ? $0 : nil } }
    func stretch(_ p: ObservedProcess, _ m: ProcMapping) -> Stretch? { member(p)?.stretches.first { $0.isLive && $0.start == m.start && $0.end == m.end } }
    /// When nothing is asked any more.  The kernel takes all of the protection off at once when a userfaultfd ends, and who faults waits; by pieces nobody does.
    func unprotect() {
        let step: UInt64 = 32 << 20
        for m in members.values { for r in m.tracked { for at in stride(from: r.start, to: r.end, by: Int(step)) { _ = m.tracking.clear(at, min(at + step, r.end)) } } }
    }
    /// Nothing that was read of it counts.
    func drop(_ p: ObservedProcess) { for s in member(p)?.stretches ?? [] { s.isLive = false } }
    fileprivate var stretches: [(Member, Stretch)] { members.values.flatMap { m in m.stretches.map { (m, $0) } } }
}

/// What --pre-copy did, for --timing.
public struct EarlyReport: Sendable {
    public var bytes: UInt64 = 0, lateBytes: UInt64 = 0     // read before the pause, and in it
    public var stops: [UInt64] = []                         // ns, each
    var chainedBytes: UInt64 = 0                            // of what was read that is in the statefile
}

/// Some pages of a stretch, as many as are read at once.
private struct Part {
    let member: PreCopy.Member, stretch: PreCopy.Stretch
    var ranges: [PageRange] = [], bytes: UInt64 = 0
}
private let piece: UInt64 = 8 << 20, smallest: UInt64 = 1 << 20, worthARound: UInt64 = 4 << 20, rounds = 3

extension Operation {
    /// All of this while the tree runs, but for a moment here and there.
    func copyEarly(_ draft: Draft, _ lock: SessionLock) throws(CheckpointFailure) -> PreCopy {
        let copy = PreCopy()
        var before: [Int32: [ProcMapping]] = [:]
        try stopForAMoment(copy, lock, before: { before = mappings(of: $0) }) { (tree, barrier) throws(CheckpointFailure) in
            try beginTracking(tree, barrier, copy)
            for (pid, m) in copy.members { track(m, before[pid] ?? []) }
        }
        for m in copy.members.values { place(m, draft) }
        let file = try draft.forWriters(direct: options.direct)
        if !draft.isPacked { do throws(SystemError) { try draft.file.truncate(to: draft.end) } catch { throw unwritable(error) } }
        for round in 0..<rounds {
            // What has been written during the one before is less, and takes less time.
            let written = protect(copy)
            if round > 0 && written.reduce(0, { $0 + $1.bytes }) < worthARound { break }
            try stopForAMoment(copy, lock) { tree, _ in dropTransfers(tree, copy) }
            try copyPages(copy, draft, file, written)
            if round == 0 && !draft.isPacked { try takeSums(copy, file) }
        }
        // Then what takes long before the call, and what has been written during that.
        var last: [Part] = []
        try stopForAMoment(copy, lock, before: { if reliesOnEarly { copy.mappings = EarlyMappings(of: $0.processes, segment) }; last = protect(copy) }) { tree, _ in dropTransfers(tree, copy) }
        try copyPages(copy, draft, file, last)
        prepareRoom(copy)
        options.onPhase("copied")
        return copy
    }

    private func dropTransfers(_ tree: ObservedTree, _ copy: PreCopy) { for p in tree.live where hasOwnTransfers(p) { copy.drop(p) } }

    private func stopForAMoment(_ copy: PreCopy, _ lock: SessionLock, before: (Census) -> Void = { _ in }, _ body: (ObservedTree, Barrier) throws(CheckpointFailure) -> Void) throws(CheckpointFailure) {
        let barrier = try Barrier(segment, lock, log), census = Census(segment, barrier, patience: options.patience, log)
        do throws(CheckpointFailure) {
            try census.findMembers()
            watchedPlaces.find(for: census.processes)
            before(census)
            try census.callEverybody()
            try barrier.enter(CKPT_PHASE_STOPPED)
            census.seeWhoWasContinued()
            barrier.whileWaiting = { [weak census] in census?.serveStoppedTasks() }
            try body(observeMembers(census), barrier)
        } catch {
            census.letStoppedTasksGo()
            barrier.abort(except: census.stoppedTasks)
            throw error
        }
        census.letStoppedTasksGo()
        barrier.release(except: census.stoppedTasks)
        copy.report.stops.append(Kernel.clock(1) - census.firstSignal)
        barrier.idle()
    }

    private func observeMembers(_ census: Census) -> ObservedTree {
        let tree = ObservedTree()
        var slots: [Int32: [Int]] = [:]
        for i in 0..<Int(ckpt_processes_used(segment.pointer)) { slots[segment.process(i).pointee.pid, default: []].append(i) }
        for called in census.processes {
            // Two that see themselves by one pid, in namespaces of their own, are not told apart here.
            guard let own = slots[called.ownPid], own.count == 1, let stat = ProcStat(pid: called.pid) else { continue }
            let view = Proc.view(of: stat)
            guard let status = ProcStatus(pid: view) else { continue }
            let p = ObservedProcess(pid: called.pid, startTime: called.startTime, ownPid: called.ownPid, stat: stat, status: status)
            p.view = view; p.slot = own[0]
            tree.processes.append(p)
        }
        return tree
    }

    private func beginTracking(_ tree: ObservedTree, _ barrier: Barrier, _ copy: PreCopy) throws(CheckpointFailure) {
        for (i, tracking) in try openTracking(tree, barrier, where: { !hasOwnTransfers($0) }) {
            copy.members[tree.processes[i].view] = try? PreCopy.Member(tree.processes[i], tracking)
        }
        if let base { copy.base = KnownRuns(files: base.files, own: Dictionary(uniqueKeysWithValues: tree.live.map { (UInt32($0.view), base.runs(ofPid: $0.ownPid) ?? []) })) }
        let untracked = tree.live.count - copy.members.count
        if untracked > 0 { report.remarks.append("--pre-copy: writes cannot be tracked in \(untracked) of \(tree.live.count) processes (ckptctl check); their memory is written as always") }
    }

    /// As ObservedProcess.hasOwnTransfers, of a process of which nothing has been read yet.
    private func hasOwnTransfers(_ p: ObservedProcess) -> Bool {
        guard let names = try? Path.names(in: "/proc/\(p.view)/fd"), let maps = try? Path.text("/proc/\(p.view)/maps") else { return true }
        return maps.contains("[io_uring]") || maps.contains("/[aio]") || names.contains { (try? Path.link("/proc/\(p.view)/fd/\($0)"))?.contains("[io_uring]") ?? false }
    }

    /// As they are before the call: what smaps shows costs a walk over all pages.
    private func mappings(of census: Census) -> [Int32: [ProcMapping]] {
        var found: [Int32: [ProcMapping]] = [:]
        for p in census.processes {
            guard let stat = ProcStat(pid: p.pid) else { continue }
            let view = Proc.view(of: stat)
            found[view] = try? ProcMapping.all(of: view, withFlags: true)
        }
        return found
    }

    /// Only whole mappings, and so only while nobody can change them: the kernel splits one of which a part is registered, and mremap(2) over both parts fails.
    private func track(_ member: PreCopy.Member, _ before: [ProcMapping]) {
        var at = 0
        for m in (try? ProcMapping.all(of: member.pid, withFlags: false)) ?? [] {
            while at < before.count && before[at].end <= m.start { at += 1 }
            let known = before[at...].prefix { $0.start < m.end }, holds = known.reduce(0) { $0 + $1.anonymousBytes }
            guard holds >= smallest, m.isTrackable(atLeast: 0), known.allSatisfy({ $0.isTrackable(atLeast: 0) && !$0.flags.contains("uw") }) else { continue }
            if member.tracking.add(m.start, m.end) { member.tracked.append((m.start, m.end)) }
        }
    }

    private func place(_ member: PreCopy.Member, _ draft: Draft) {
        for r in member.tracked where member.tracking.clear(r.start, r.end) { member.stretches.append(PreCopy.Stretch(member.pid, r.start, r.end, draft)) }
    }

    /// What has been written since the last time, or ever, counts as unwritten from now on.
    private func protect(_ copy: PreCopy) -> [Part] {
        var parts: [Part] = []
        for (member, s) in copy.stretches where s.isLive {
            do throws(SystemError) {
                var part = Part(member: member, stretch: s)
                for r in try member.map.tracked(from: s.start, to: s.end, .sinceProtected, protecting: true) {
                    for i in s.index(r.start)..<s.index(r.end) { s.pages[i].remove(.known) }
                    var at = r.start
                    while at < r.end {
                        let end = min(r.end, at + piece - part.bytes)
                        part.ranges.append((at, end)); part.bytes += end - at
                        if part.bytes == piece { parts.append(part); part = Part(member: member, stretch: s) }
                        at = end
                    }
                }
                if part.bytes > 0 { parts.append(part) }
            } catch { s.isLive = false }
        }
        return parts
    }

    /// Pages that are protected: whatever is written to them after this shows.
    private func copyPages(_ copy: PreCopy, _ draft: Draft, _ file: File, _ parts: [Part]) throws(CheckpointFailure) {
        let writers = max(1, min(Machine.cores, parts.count)), base = copy.base
        // A buffer each: touching memory for the first time costs more than copying.
        let failures = inParallel(writers, atLeast: 2) { k -> SystemError? in
            guard let buffer = PageBuffer(size: Int(piece)) else { return nil }
            let output = EarlyOutput(draft, file, since: base)
            for i in stride(from: k, to: parts.count, by: writers) {
                let part = parts[i], got = buffer.read(pid: part.member.pid, part.ranges[...], at: 0)
                do throws(SystemError) { try part.stretch.take(part.ranges[...], buffer, at: 0, count: got, output) } catch { return error }
            }
            return nil
        }
        if let e = failures.compactMap({ $0 }).first { throw unwritable(e) }
        copy.report.bytes += parts.reduce(0) { $0 + $1.bytes }
    }

    /// For what will be read in the pause, and more, so that nobody waits there for memory.
    private func prepareRoom(_ copy: PreCopy) {
        for m in copy.members.values {
            let written = m.stretches.reduce(0) { sum, s in sum + ((try? m.map.tracked(from: s.start, to: s.end, .sinceProtected)) ?? []).bytes }
            let all = m.stretches.reduce(0) { $0 + UInt64($1.pages.count) * 4096 }
            if all > 0 { m.contents = PageBuffer(size: Int(min(all, written * 2 + all / 64 + (4 << 20)))) }
        }
    }
}

extension Operation {
    /// Most of the file is as it will be: nobody need wait for its checksums later (--kill).
    private func takeSums(_ copy: PreCopy, _ file: File) throws(CheckpointFailure) {
        for (_, s) in copy.stretches {
            do throws(SystemError) { for r in try s.summed(s.runs, file) { s.keep(r) } } catch { throw unwritable(error) }
        }
    }
}

extension PreCopy.Stretch {
    func pageRanges(where isWanted: (PreCopy.Page) -> Bool) -> [PageRange] {
        var found: [PageRange] = [], i = 0
        while i < pages.count {
            if !isWanted(pages[i]) { i += 1; continue }
            let first = i
            while i < pages.count && isWanted(pages[i]) { i += 1 }
            found.append((start + UInt64(first) * 4096, start + UInt64(i) * 4096))
        }
        return found
    }

    /// Of what is in the file, but for the snapshot's.
    var runs: [ckpt_run] {
        var runs: [ckpt_run] = []
        for r in pageRanges(where: { $0.contains(.inFile) && !$0.contains(.zero) && !$0.contains(.snapshots) }) {
            var at = r.start
            while at < r.end {
                // None reaches over the border of a huge page.
                let border = (at / (UInt64(CKPT_RUN_PAGES) * 4096) + 1) * UInt64(CKPT_RUN_PAGES) * 4096, end = min(r.end, border)
                var run = ckpt_run()
                run.address = at; run.file_offset = place + (at - start); run.pages = UInt16((end - at) / 4096)
                runs.append(run)
                at = end
            }
        }
        return runs
    }

    fileprivate func keep(_ run: ckpt_run) {
        sums[run.address] = PreCopy.Run(pages: run.pages, crc: run.crc)
        for i in index(run.address)..<index(run.address) + Int(run.pages) { pages[i].insert(.summed) }
    }

    /// Each with the checksum of what the file has.
    func summed(_ all: [ckpt_run], _ file: File) throws(SystemError) -> [ckpt_run] {
        let step = 64
        var runs = all
        let sums = inParallel((all.count + step - 1) / step, atLeast: 2) { k in
            all[k * step..<min((k + 1) * step, all.count)].map { run -> UInt32? in
                guard let bytes = try? file.read(at: run.file_offset, count: Int(run.pages) * 4096), bytes.count == Int(run.pages) * 4096 else { return nil }
                return bytes.withUnsafeBytes { ckpt_crc32c_hw(0, $0.baseAddress!, $0.count) }
            }
        }.flatMap { $0 }
        for (i, crc) in sums.enumerated() {
            guard let crc else { throw SystemError("read", errno: 5) }
            runs[i].crc = crc
        }
        return runs
    }

    /// What was read goes to its place; zero pages stay holes.
    func take(_ ranges: ArraySlice<PageRange>, _ buffer: PageBuffer, at offset: Int, count: Int, _ output: EarlyOutput) throws(SystemError) {
        var done = 0
        for r in ranges {
            var at = r.start
            while at < r.end {
                guard done + 4096 <= count else { return }
                var end = at, length = 0
                let isZero = buffer.isZero(page: offset + done)
                while end < r.end, done + length + 4096 <= count, buffer.isZero(page: offset + done + length) == isZero {
                    let i = index(end)
                    pages[i] = isZero ? pages[i].union([.known, .zero]).subtracting(.summed) : [.known, .inFile]
                    end += 4096; length += 4096
                }
                if !isZero { try put(UnsafeRawBufferPointer(start: buffer.base + offset + done, count: length), at, output) }
                at = end; done += length
            }
        }
    }
    private func put(_ bytes: UnsafeRawBufferPointer, _ address: UInt64, _ output: EarlyOutput) throws(SystemError) {
        if let packed, let packer = output.packer { try packed.take(bytes, address, packer, output.differences) } else { try output.file.write(bytes, at: place + (address - start)) }
    }
}
