// --track: which pages are as they were at the statefile that a delta is taken since, without reading them there.  A userfaultfd of each process notes writes;
// between two checkpoints it lies in a socket of the supervisor's (ckrun), so that no descriptor stays in the application, and all ends with the supervisor.
// Nothing depends on it alone: a writer leaves a run in the base only if its pages have the checksum of that run as well, and compares all others.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

final class WriteTracker {
    private struct Member {
        let tracking: WriteTracking, startTime: UInt64
        /// The statefile at which all was protected; nil: it has only just begun.
        var since: StatefileID?
        var unwritten: [(start: UInt64, end: UInt64)] = []
    }
    private let socket: (into: Int32, from: File)
    private var members: [Int32: Member] = [:]
    private static let smallest: UInt64 = 256 << 10

    /// Takes what the checkpoint before has left.  Should this one fail, nobody puts it back, and the next one compares everything.
    init(into: Int32, from: File) {
        socket = (into, from)
        while let m = try? from.take(capacity: 64) {
            guard let file = m.descriptors.first, m.bytes.count == 28 else { continue }
            let (pid, start) = m.bytes.withUnsafeBytes { ($0.loadUnaligned(as: Int32.self), $0.loadUnaligned(fromByteOffset: 4, as: UInt64.self)) }
            members[pid] = Member(tracking: WriteTracking(again: file), startTime: start, since: Array(m.bytes[12...]))
        }
    }
    func putBack(_ id: StatefileID) {
        for (pid, m) in members {
            let bytes = withUnsafeBytes(of: pid) { [UInt8]($0) } + withUnsafeBytes(of: m.startTime) { [UInt8]($0) } + id
            if !m.tracking.put(bytes, into: socket.into) { return }
        }
    }
    func drop() { members = [:] }

    func has(_ p: ObservedProcess) -> Bool { members[p.view]?.startTime == p.startTime }
    func add(_ p: ObservedProcess, _ tracking: WriteTracking) { members[p.view] = Member(tracking: tracking, startTime: p.startTime, since: nil) }
    func keep(only processes: [ObservedProcess]) { members = members.filter { m in processes.contains { $0.view == m.key && $0.startTime == m.value.startTime } } }

    /// Says of each mapping whether its writes are noted from now on: private memory that is worth it.
    func register(_ p: ObservedProcess) {
        guard let m = members[p.view] else { return }
        let odd: [StaticString] = ["ht", "dc", "wf", "gd", "ss", "um", "io", "pf", "dp", "sl", "lo", "lf"]
        var any = false
        for i in p.mappings.indices {
            let r = p.mappings[i], isOurs = r.flags.contains("uw")
            let isPlain = !r.isShared && r.inode == 0 && r.protection & 1 != 0 && r.anonymousBytes >= Self.smallest && (r.name.isEmpty || r.name == "[heap]" || r.name.hasPrefix("[anon"))
                && !odd.contains { r.flags.contains($0) }
            if isPlain || isOurs { p.mappings[i].isTracked = m.tracking.add(r.start, r.end) }
            any = any || p.mappings[i].isTracked
        }
        if !any { members[p.view] = nil }
    }

    /// In the pause: what has not been written since `base`, and from now on all counts as unwritten.
    /// `busy`: what is touched until the release.
    func protect(_ p: ObservedProcess, since base: StatefileID?, busy: [(start: UInt64, end: UInt64)]) {
        guard var m = members[p.view] else { return }
        m.unwritten = []
        do throws(SystemError) {
            let map = try PageMap(of: p.view)
            for r in p.mappings where r.isTracked {
                // What is written between the two must not count as unwritten: `written` is what was taken off.
                let written = try map.tracked(from: r.start, to: r.end, .sinceProtected, protecting: true)
                if m.since != nil && m.since == base { m.unwritten += without(busy, without(written, try map.tracked(from: r.start, to: r.end, .not))) }
            }
            members[p.view] = m
        } catch { members[p.view] = nil }
    }

    private func without(_ holes: [(start: UInt64, end: UInt64)], _ all: [(start: UInt64, end: UInt64)]) -> [(start: UInt64, end: UInt64)] {
        var rest: [(start: UInt64, end: UInt64)] = [], h = 0
        for r in all {
            var at = r.start
            while h < holes.count && holes[h].end <= at { h += 1 }
            var k = h
            while k < holes.count && holes[k].start < r.end {
                if at < holes[k].start { rest.append((at, holes[k].start)) }
                at = max(at, holes[k].end)
                k += 1
            }
            if at < r.end { rest.append((at, r.end)) }
        }
        return rest
    }

    /// Marks the runs of the base of which no page has been written.
    func mark(_ runs: inout [ckpt_run], of p: ObservedProcess) {
        guard let all = members[p.view]?.unwritten else { return }
        var k = 0
        for i in runs.indices {
            let start = runs[i].address, end = start + UInt64(runs[i].pages) * 4096
            while k < all.count && all[k].end <= start { k += 1 }
            if k < all.count && all[k].start <= start && end <= all[k].end { runs[i].flags |= CKPT_RUN_UNWRITTEN.rawValue }
        }
    }
}

extension Operation {
    /// A userfaultfd belongs to the process that asks for it: each leader does, and keeps no descriptor.
    func beginTracking(_ tree: ObservedTree, _ barrier: Barrier) throws(CheckpointFailure) {
        guard let tracker else { return }
        // What these have under way the kernel writes to memory at any time, and without a fault where it holds the pages.
        if tree.live.contains(where: { p in p.mappings.contains { $0.isAsynchronousContext } || p.descriptors.contains { $0.link.contains("[io_uring]") } || p.mappings.contains { $0.name.contains("[io_uring]") } }) {
            report.remarks.append("--track: programs with io_uring or asynchronous I/O are not tracked; all memory is compared")
            return tracker.drop()
        }
        tracker.keep(only: tree.live)
        var asked: [Int: [Ask]] = [:], closing: [Int: [Ask]] = [:]
        for (i, p) in tree.processes.enumerated() where !p.isZombie && !tracker.has(p) {
            asked[i] = [Ask(Int(CKPT_SYS_userfaultfd), [Int64(CKPT_UFFD_CLOEXEC | CKPT_UFFD_USER_MODE_ONLY)])]
        }
        for (i, result) in try ask(tree, barrier, asked) {
            guard let number = result.first, number >= 0 else { continue }
            closing[i] = [Ask(Int(CKPT_SYS_close), [number])]
            let p = tree.processes[i]
            if let file = try? File(of: p.view, number: Int32(number)), let tracking = try? WriteTracking(new: file) { tracker.add(p, tracking) }
        }
        _ = try ask(tree, barrier, closing)
        let untracked = tree.live.count { !tracker.has($0) }
        if untracked > 0 { report.remarks.append("--track: writes cannot be tracked in \(untracked) of \(tree.live.count) processes (ckptctl check); their memory is compared") }
        for p in tree.live { tracker.register(p) }
    }

    /// What tasks touch while they wait for the release, by address: the stack that their handler is on, and what the kernel writes for them.
    func busyPlaces(_ p: ObservedProcess) -> [(start: UInt64, end: UInt64)] {
        let below: UInt64 = 256 << 10, above: UInt64 = 16 << 10
        var places: [(start: UInt64, end: UInt64)] = []
        func add(_ start: UInt64, _ end: UInt64) { places.append((start & ~4095, (end &+ 4095) & ~4095)) }
        for t in p.tasks {
            let task = segment.task(t.slot)
            add(task.pointee.resume_rsp &- below, max(task.pointee.ucontext, task.pointee.resume_rsp) &+ above)
            add(task.pointee.rseq_address, task.pointee.rseq_address &+ UInt64(task.pointee.rseq_length))
        }
        return places.sorted { $0.start < $1.start }
    }
}
