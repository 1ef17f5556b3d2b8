// Contexts of asynchronous I/O (io_setup(2)).  Nobody shows what is in flight on one; but the runtime counts what is given to it, and the ring in
// its memory shows how many have completed: both modulo its size, of which no more can be in flight.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

/// The ring as io_setup(2) maps it: number, events, head, tail, then marks and the events.
struct AsynchronousRing {
    let bytes: [UInt8], events: UInt32, head: UInt32, tail: UInt32
    init?(_ bytes: [UInt8]) {
        guard bytes.count >= 32 else { return nil }
        func word(_ at: Int) -> UInt32 { bytes.withUnsafeBytes { $0.load(fromByteOffset: at, as: UInt32.self) } }
        guard word(16) == 0xa10a_10a1, word(4) > 0, word(8) < word(4), word(12) < word(4) else { return nil }
        self.bytes = bytes; events = word(4); head = word(8); tail = word(12)
    }
    func inFlight(_ submitted: UInt64) -> UInt64 { (submitted % UInt64(events) + UInt64(events) - UInt64(tail)) % UInt64(events) }
}

extension ProcMapping { var isAsynchronousContext: Bool { name.hasPrefix("/[aio]") } }

extension Operation {
    /// A forked child has the ring of its parent's context, not the context: the kernel says which is one.
    func askContexts(_ tree: ObservedTree, _ barrier: Barrier, _ holders: [Int]) throws(CheckpointFailure) {
        let getEvents = 208
        var questions: [Int: [Ask]] = [:], about: [(process: Int, mapping: ProcMapping, at: Int, place: ArenaArray<UInt8>)] = []
        for i in holders {
            for m in tree.processes[i].mappings where m.isAsynchronousContext && m.protection & 1 != 0 {
                let place = try room(tree.processes[i], Int(m.size))
                about.append((i, m, questions[i]?.count ?? 0, place))
                questions[i, default: []] += [Ask(getEvents, [Int64(m.start), 0, 0, 0, 0]), Ask(Int(CKPT_ASK_RING), [-1, Int64(m.start), Int64(m.size)], buffer: place)]
            }
        }
        let results = try ask(tree, barrier, questions)
        for a in about where results[a.process]![a.at] == 0 && results[a.process]![a.at + 1] == 0 {
            tree.processes[a.process].contexts[a.mapping.start] = AsynchronousRing(a.place.copy())
        }
    }
}

extension SystemContent {
    func asynchronousContext(_ m: ProcMapping, _ vma: ckpt_vma_record, _ p: ObservedProcess) -> ckpt_vma_record? {
        func refuse(_ what: String, _ remedy: String, _ status: ExitStatus = .refused) -> ckpt_vma_record? {
            refusals.add(pid: p.pid, "mapping \(hex(m.start))-\(hex(m.end)): asynchronous I/O context (io_setup) \(what)", remedy, status: status)
            return nil
        }
        guard let notes = p.ringNotes, let ring = p.contexts[m.start], let submitted = notes.contexts[m.start] else {
            return refuse("that this program did not make through libc's syscall(2) or libaio", "destroy it before the checkpoint, or make it so")
        }
        if notes.isBusy || ring.inFlight(submitted) != 0 { return refuse("with operations in flight", "try again when they have completed", .temporary) }
        var v = vma
        v.kind = CKPT_VMA_AIO.rawValue; v.object_offset = UInt64(ring.events)
        do throws(SystemError) { v.data_offset = try store(ring.bytes) } catch { return refuse(": \(error.call): \(error.text)", "free space, or choose another place with -o") }
        return v
    }
}
