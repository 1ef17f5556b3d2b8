// A delta whose pages are sent to us: those that the base has at the same place are compared here, byte by byte, whether they lie there as they are or in a frame.
import CkptABI
import CkptCompression
import CkptStatefile
import CkptSystem

/// What the base has: of each slot by address, of shared memory by object and offset.
struct KnownRuns {
    let files: [File]
    var own: [UInt32: [ckpt_run]] = [:]
    var shared: [ckpt_run] = []
}

/// For one thread.
final class SentDifferences {
    enum Piece { case kept(ckpt_run), changed(first: Int, count: Int) }
    private let known: KnownRuns
    private let stored = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(CKPT_RUN_PAGES) * 4096, alignment: 4096)
    private let whole = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(CKPT_RUN_PAGES) * 4096, alignment: 4096)
    private var held: (base: UInt32, offset: UInt64)?       // the frame that lies in `whole`

    init(_ known: KnownRuns) { self.known = known }
    deinit { stored.deallocate(); whole.deallocate() }

    /// The pages of a message, in their order.
    func split(_ m: ckpt_page_message, _ pages: UnsafeRawBufferPointer) -> [Piece] {
        let runs = m.shared != 0 ? known.shared : known.own[m.process] ?? [], start = m.run.address, end = start + UInt64(pages.count)
        var found: [Piece] = [], changed = 0
        func index(_ address: UInt64) -> Int { Int((address - start) / 4096) }
        for run in runs[firstEnding(above: start, m.run.object, runs)...] {
            guard run.object == m.run.object, run.address < end else { break }
            let from = max(run.address, start), to = min(run.address + UInt64(run.pages) * 4096, end), skipped = Int((from - run.address) / 4096)
            // A base that can't be read proves nothing: the pages are written.
            guard from < to, let theirs = read(run, skipped, index(to) - index(from)) else { continue }
            for equal in equalStretches(UnsafeRawBufferPointer(rebasing: pages[index(from) * 4096..<index(to) * 4096]), theirs) {
                let first = index(from) + equal.lowerBound
                if changed < first { found.append(.changed(first: changed, count: first - changed)) }
                var kept = run.part(skipped + equal.lowerBound, equal.count)
                kept.flags = kept.flags & ~CKPT_RUN_UNWRITTEN.rawValue | m.run.flags & CKPT_RUN_HUGE.rawValue
                kept.crc = ckpt_crc32c_hw(0, pages.baseAddress! + first * 4096, equal.count * 4096)
                found.append(.kept(kept))
                changed = first + equal.count
            }
        }
        if changed < pages.count / 4096 { found.append(.changed(first: changed, count: pages.count / 4096 - changed)) }
        return found
    }

    /// What a writer says that the base has, and that nobody has written to since.
    func has(_ m: ckpt_page_message) -> Bool {
        let runs = m.shared != 0 ? known.shared : known.own[m.process] ?? [], i = firstEnding(above: m.run.address, m.run.object, runs)
        guard i < runs.count else { return false }
        let run = runs[i]
        return run.address == m.run.address && run.pages == m.run.pages && run.object == m.run.object && run.file_offset == m.run.file_offset && run.crc == m.run.crc && ckpt_run_base(run) == ckpt_run_base(m.run)
    }

    private func equalStretches(_ ours: UnsafeRawBufferPointer, _ theirs: UnsafeRawBufferPointer) -> [Range<Int>] {
        var found: [Range<Int>] = [], at = 0
        let count = ours.count / 4096
        func isEqual(_ i: Int) -> Bool { areEqual(ours.baseAddress! + i * 4096, theirs.baseAddress! + i * 4096, 4096) }
        while at < count {
            if !isEqual(at) { at += 1; continue }
            let first = at
            while at < count && isEqual(at) { at += 1 }
            found.append(first..<at)
        }
        return found
    }

    /// Some pages of a run of the base; the next one is mostly in the same frame.
    private func read(_ run: ckpt_run, _ first: Int, _ count: Int) -> UnsafeRawBufferPointer? {
        let base = ckpt_run_base(run), file = known.files[Int(base) - 1]
        func fill(_ offset: UInt64, _ size: Int) -> UnsafeRawBufferPointer? {
            let room = UnsafeMutableRawBufferPointer(rebasing: stored[..<size])
            return file.read(into: room, at: offset) ? UnsafeRawBufferPointer(room) : nil
        }
        guard run.isCompressed else { return fill(run.file_offset + UInt64(first) * 4096, count * 4096) }
        if held?.base != base || held?.offset != run.file_offset {
            held = nil
            guard let frame = fill(run.file_offset, Int(ckpt_run_stored(run))),
                  Decompressor.decompress(ckpt_run_kind(run), frame, into: UnsafeMutableRawBufferPointer(rebasing: whole[..<(Int(ckpt_run_frame(run)) * 4096)])) else { return nil }
            held = (base, run.file_offset)
        }
        let from = (Int(run.skipped) + first) * 4096
        return UnsafeRawBufferPointer(rebasing: whole[from..<from + count * 4096])
    }

    private func firstEnding(above address: UInt64, _ object: UInt32, _ runs: [ckpt_run]) -> Int {
        var low = 0, high = runs.count
        while low < high {
            let middle = (low + high) / 2, run = runs[middle]
            if run.object < object || (run.object == object && run.address + UInt64(run.pages) * 4096 <= address) { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
