// How writes of the tree's are noted (--track, --pre-copy): each process has a userfaultfd of its own made, and we keep the descriptor.
import CkptABI
import CkptSession
import CkptSystem

typealias PageRange = (start: UInt64, end: UInt64)

extension [PageRange] {
    /// Both are in order.
    func without(_ holes: [PageRange]) -> [PageRange] {
        var rest: [PageRange] = [], h = 0
        for r in self {
            var at = r.start
            while h < holes.count && holes[h].end <= at { h += 1 }
            var k = h
            while k < holes.count && holes[k].start < r.end {
                if at < holes[k].start { rest.append((at, holes[k].start)) }
                at = Swift.max(at, holes[k].end)
                k += 1
            }
            if at < r.end { rest.append((at, r.end)) }
        }
        return rest
    }
    var bytes: UInt64 { reduce(0) { $0 + ($1.end - $1.start) } }
}

extension ProcMapping {
    /// Private memory that is worth it, and has no settings that make it another's.
    func isTrackable(atLeast smallest: UInt64) -> Bool {
        let odd: [StaticString] = ["ht", "dc", "wf", "gd", "ss", "um", "io", "pf", "dp", "sl", "lo", "lf"]
        return !isShared && inode == 0 && protection & 1 != 0 && anonymousBytes >= smallest && (name.isEmpty || name == "[heap]" || name.hasPrefix("[anon"))
            && !odd.contains { flags.contains($0) }
    }
}

extension ObservedProcess {
    /// What it has under way the kernel writes to memory at any time, and without a fault where it holds the pages.
    var hasOwnTransfers: Bool {
        mappings.contains { $0.isAsynchronousContext || $0.name.contains("[io_uring]") } || descriptors.contains { $0.link.contains("[io_uring]") }
    }
}

extension Operation {
    /// A userfaultfd belongs to the process that asks for it: each leader does, and keeps no descriptor.  By index in the tree.
    func openTracking(_ tree: ObservedTree, _ barrier: Barrier, where isWanted: (ObservedProcess) -> Bool) throws(CheckpointFailure) -> [Int: WriteTracking] {
        var asked: [Int: [Ask]] = [:], closing: [Int: [Ask]] = [:], opened: [Int: WriteTracking] = [:]
        for (i, p) in tree.processes.enumerated() where !p.isZombie && isWanted(p) {
            asked[i] = [Ask(Int(CKPT_SYS_userfaultfd), [Int64(CKPT_UFFD_CLOEXEC | CKPT_UFFD_USER_MODE_ONLY)])]
        }
        for (i, result) in try ask(tree, barrier, asked) {
            guard let number = result.first, number >= 0 else { continue }
            closing[i] = [Ask(Int(CKPT_SYS_close), [number])]
            if let file = try? File(of: tree.processes[i].view, number: Int32(number)) { opened[i] = try? WriteTracking(new: file) }
        }
        options.onPhase("opened")
        _ = try ask(tree, barrier, closing)
        return opened
    }

    /// What tasks touch while they wait for the release, by address: the stack that their handler is on, what the kernel writes for them, and the runtime's memory.
    func busyPlaces(_ p: ObservedProcess) -> [(start: UInt64, end: UInt64)] {
        let below: UInt64 = 256 << 10, above: UInt64 = 16 << 10, runtime: UInt64 = 1 << 20
        var places: [(start: UInt64, end: UInt64)] = []
        func add(_ start: UInt64, _ end: UInt64) { if start < end && end < 1 << 47 { places.append((start & ~4095, (end &+ 4095) & ~4095)) } }
        for t in p.tasks {
            let task = segment.task(t.slot).pointee
            add(task.resume_rsp &- below, max(task.ucontext, task.resume_rsp) &+ above)
            add(task.rseq_address, task.rseq_address &+ UInt64(task.rseq_length))
        }
        // Its variables lie behind what is mapped of its file, and may have joined what lies behind them.
        if let rip = p.tasks.first.map({ segment.task($0.slot).pointee.resume_rip }), let code = p.mappings.first(where: { $0.start <= rip && rip < $0.end }),
           let last = p.mappings.last(where: { $0.inode == code.inode && $0.device == code.device && $0.name == code.name }) { add(last.end, last.end + runtime) }
        return places.sorted { $0.start < $1.start }
    }
}
