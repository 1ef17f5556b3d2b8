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
        var any = false
        for i in p.mappings.indices {
            let r = p.mappings[i], isOurs = r.flags.contains("uw")
            if r.isTrackable(atLeast: Self.smallest) || isOurs { p.mappings[i].isTracked = m.tracking.add(r.start, r.end) }
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
                if m.since != nil && m.since == base { m.unwritten += try map.tracked(from: r.start, to: r.end, .not).without(written).without(busy) }
            }
            members[p.view] = m
        } catch { members[p.view] = nil }
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
    func beginTracking(_ tree: ObservedTree, _ barrier: Barrier) throws(CheckpointFailure) {
        guard let tracker else { return }
        if tree.live.contains(where: \.hasOwnTransfers) {
            report.remarks.append("--track: programs with io_uring or asynchronous I/O are not tracked; all memory is compared")
            return tracker.drop()
        }
        tracker.keep(only: tree.live)
        for (i, tracking) in try openTracking(tree, barrier, where: { !tracker.has($0) }) { tracker.add(tree.processes[i], tracking) }
        let untracked = tree.live.count { !tracker.has($0) }
        if untracked > 0 { report.remarks.append("--track: writes cannot be tracked in \(untracked) of \(tree.live.count) processes (ckptctl check); their memory is compared") }
        for p in tree.live { tracker.register(p) }
    }
}
