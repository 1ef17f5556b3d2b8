// Pages that writers send instead of writing them: a thread per CPU takes them in, compresses them and puts them behind one another into the statefile, or
// puts them where they belong.
import CkptABI
import CkptCompression
import CkptReport
import CkptSystem
import Synchronization

final class PageIntake: @unchecked Sendable {
    struct Chain: Hashable { var process: UInt32, isShared: Bool }
    private struct State {
        var readers: [UInt64: File] = [:]
        var nextTag: UInt64 = 0
        var busy = 0                            // threads that hold pages without a place
        var chains: [Chain: [ckpt_run]] = [:]
        var kept: [UInt64: [UInt8]] = [:]
        var pages: UInt64 = 0, stored: UInt64 = 0, unchanged: UInt64 = 0
        var arrived: UInt64 = 0                 // bytes of memory, wherever they lie
        var failure: SystemError?
        var isStopped = false

        mutating func count(_ runs: [ckpt_run]) {
            for r in runs { pages += r.written.bytes; unchanged += r.bytes - r.written.bytes }
        }
    }
    private let state = Mutex(State())
    private let draft: Draft
    private let ready: ReadySet
    /// Pages of one process that the commit looks into: they can't be read back from a stream.
    private let looked: (process: UInt32, pages: Set<UInt64>)
    private let base: KnownRuns?
    private let places: PagePlaces?         // nil: they lie in the order in which they come
    private let most: UInt64                // bytes that all writers together can have
    private let onFailure: @Sendable (SystemError) -> Void
    private var workers: [Worker] = []

    init(_ draft: Draft, since base: KnownRuns?, places: PagePlaces?, most: UInt64, lookingAt looked: (process: UInt32, pages: Set<UInt64>), onFailure: @escaping @Sendable (SystemError) -> Void) throws(SystemError) {
        self.draft = draft; self.base = base; self.places = places; self.most = most; self.looked = looked; self.onFailure = onFailure
        ready = try ReadySet()
        workers.append(try Worker { self.work() })
        for _ in 1..<Kernel.processors { if let more = try? Worker({ self.work() }) { workers.append(more) } }
    }

    /// For one writer: the end that it sends into.
    func connect() throws(SystemError) -> File {
        let (reader, writer) = try File.streamPair()
        let tag = state.withLock { s in
            s.nextTag += 1
            s.readers[s.nextTag] = reader
            return s.nextTag
        }
        try ready.add(reader, tag: tag)
        return writer
    }

    var failure: SystemError? { state.withLock { $0.failure } }
    func stop() {
        state.withLock { s in
            s.isStopped = true
            for r in s.readers.values { r.end() }          // nobody goes on waiting for the rest of a message
        }
        ready.wakeAll()
        for w in workers { w.join() }
        workers = []
    }

    /// All writers have said that they are done: waits until what they sent has its place, and puts the chains there, with what was read early.
    func finish(_ early: (runs: [UInt32: [ckpt_run]], stored: UInt64)) throws(SystemError) -> PackedPages {
        // Not for their ends: whoever has one of these sockets may keep it.
        let patience: UInt64 = 60_000_000_000
        var arrived: UInt64 = 0, deadline = Kernel.clock(1) + patience
        while let now = state.withLock({ s in s.failure == nil && (s.busy > 0 || s.readers.values.contains { $0.readable > 0 }) ? s.arrived : nil }) {
            if now != arrived { arrived = now; deadline = Kernel.clock(1) + patience }
            if Kernel.clock(1) > deadline { throw SystemError.damaged("pages that were sent do not arrive") }
            Kernel.sleep(microseconds: 200)
        }
        stop()
        return try state.withLock { (s) throws(SystemError) in
            if let failure = s.failure { throw failure }
            var first: [Chain: UInt64] = [:]
            for (process, runs) in early.runs {
                s.chains[Chain(process: process, isShared: false), default: []] += runs
                s.count(runs)
            }
            s.stored += early.stored
            for (chain, runs) in s.chains.sorted(by: { ($0.key.process, $0.key.isShared ? 1 : 0) < ($1.key.process, $1.key.isShared ? 1 : 0) }) {
                let sorted = runs.sorted { ($0.object, $0.address) < ($1.object, $1.address) }
                s.chains[chain] = sorted
                first[chain] = try draft.putChain(sorted)
            }
            return PackedPages(chains: s.chains, first: first, kept: s.kept, pages: s.pages, stored: s.stored, unchanged: s.unchanged, compression: draft.compression, isPlaced: places != nil)
        }
    }

    // MARK: the threads

    private static let piece = 1 << 20, head = MemoryLayout<ckpt_page_message>.size, largest = head + Int(CKPT_RUN_PAGES) * 4096

    private func work() {
        let packer = PagePacker(draft), differences = base.map { SentDifferences($0) }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.piece + Self.largest, alignment: 4096)
        defer { buffer.deallocate() }
        while !state.withLock({ $0.isStopped }) {
            guard let tag = ready.next() else { continue }
            guard let reader = state.withLock({ s in
                if s.readers[tag] != nil { s.busy += 1 }
                return s.readers[tag]
            }) else { continue }
            let ends = take(reader, buffer)
            if ends.isEmpty { state.withLock { s in s.readers[tag] = nil } } else { ready.giveBack(reader, tag: tag) }
            var at = 0
            for end in ends where failure == nil {
                do throws(SystemError) { try place(UnsafeMutableRawBufferPointer(rebasing: buffer[at..<end]), packer, differences) } catch { fail(error) }
                at = end
            }
            state.withLock { $0.busy -= 1 }
        }
    }

    /// Whole messages, as many as are there; where each ends.  None: the writer has ended.
    private func take(_ reader: File, _ buffer: UnsafeMutableRawBufferPointer) -> [Int] {
        var have = reader.receive(into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<Self.piece]), atLeast: 1), at = 0, ends: [Int] = []
        func reach(_ end: Int) -> Bool {
            if end > have { have += reader.receive(into: UnsafeMutableRawBufferPointer(rebasing: buffer[have..<end]), atLeast: end - have) }
            return have >= end
        }
        while at < have {
            guard reach(at + Self.head) else { break }
            let run = buffer.loadUnaligned(fromByteOffset: at, as: ckpt_page_message.self).run
            guard run.pages > 0, run.pages <= UInt32(CKPT_RUN_PAGES), run.address % 4096 == 0, run.address < 1 << 47, Int(ckpt_run_base(run)) <= base?.files.count ?? 0 else {
                fail(.damaged("a message of a writer that is none"))
                return []
            }
            let size = Self.head + (ckpt_run_base(run) == 0 ? Int(run.pages) * 4096 : 0)
            guard reach(at + size) else { break }
            at += size
            ends.append(at)
        }
        return ends
    }

    private func place(_ message: UnsafeMutableRawBufferPointer, _ packer: PagePacker, _ differences: SentDifferences?) throws(SystemError) {
        let m = message.loadUnaligned(as: ckpt_page_message.self)
        let isWithin = state.withLock { s in
            s.arrived += m.run.bytes
            return s.arrived <= most
        }
        guard isWithin else { throw SystemError.damaged("more pages than there are") }
        let pages = UnsafeRawBufferPointer(rebasing: message[Self.head...])
        if ckpt_run_base(m.run) != 0 && differences?.has(m) != true { throw SystemError.damaged("pages that the base does not have") }
        let isKept = ckpt_run_base(m.run) != 0, runs = isKept ? [m.run] : try packer.pack(m, pages, since: differences, places)
        let end = m.run.address + UInt64(pages.count), kept = m.shared == 0 && m.process == looked.process ? looked.pages.filter { $0 >= m.run.address && $0 < end } : []
        state.withLock { s in
            s.chains[Chain(process: m.process, isShared: m.shared != 0), default: []] += runs
            if !isKept { s.count(runs) }        // what writers keep they count
            s.stored += runs.reduce(0) { $0 + $1.written.stored }
            for page in kept { s.kept[page] = Array(pages[Int(page - m.run.address)..<Int(page - m.run.address) + 4096]) }
        }
    }

    /// What comes after this is read and dropped.
    private func fail(_ error: SystemError) {
        let isFirst = state.withLock { s in
            defer { if s.failure == nil { s.failure = error } }
            return s.failure == nil
        }
        if isFirst { onFailure(error) }
    }
}

/// Where the pages of a packed statefile lie.
struct PackedPages {
    let chains: [PageIntake.Chain: [ckpt_run]]
    let first: [PageIntake.Chain: UInt64]       // offset of each chain's first chunk
    let kept: [UInt64: [UInt8]]                 // pages of the main process, by address
    let pages: UInt64, stored: UInt64           // bytes, before and after
    let unchanged: UInt64                       // bytes that were sent and are as in the base
    let compression: Compression
    let isPlaced: Bool                          // each has its place, and only the chains are ours
}
