// Pages that become a part of a packed statefile: compressed, behind what is there.
import CkptABI
import CkptCompression
import CkptSession
import CkptStatefile
import CkptSystem

/// For one thread.
final class PagePacker {
    private let draft: Draft, compressor: Compressor
    private let frame = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(CKPT_RUN_PAGES) * 4096, alignment: 4096)

    init(_ draft: Draft, _ compression: Compression? = nil) { self.draft = draft; compressor = Compressor(compression ?? draft.compression) }
    deinit { frame.deallocate() }

    /// `run` says whose they are; the result, where they are.  At most CKPT_RUN_PAGES.
    func pack(_ run: ckpt_run, _ pages: UnsafeRawBufferPointer) throws(SystemError) -> ckpt_run {
        var run = run, bytes = pages
        run.pages = UInt16(pages.count / 4096); run.skipped = 0; run.frame = 0
        run.crc = ckpt_crc32c_hw(0, pages.baseAddress!, pages.count)
        run.flags &= CKPT_RUN_HUGE.rawValue
        if let size = compressor.compress(pages, into: frame) {
            bytes = UnsafeRawBufferPointer(rebasing: frame[..<size])
            run.flags |= compressor.method.kind.rawValue << CKPT_RUN_KIND_SHIFT.rawValue | UInt32(size) << CKPT_RUN_STORED_SHIFT.rawValue
        }
        run.file_offset = try draft.append(bytes)
        return run
    }
    /// As they are, at their place.
    fileprivate func put(_ run: ckpt_run, _ pages: UnsafeRawBufferPointer, at offset: UInt64) throws(SystemError) -> ckpt_run {
        var run = run
        run.pages = UInt16(pages.count / 4096); run.skipped = 0; run.frame = 0; run.file_offset = offset
        run.crc = ckpt_crc32c_hw(0, pages.baseAddress!, pages.count)
        run.flags &= CKPT_RUN_HUGE.rawValue
        try draft.file.write(pages, at: offset)
        return run
    }
}

extension PagePacker {
    /// The pages of a message, in their order: what the base has as it is stays there, the rest is packed, or put where it belongs.
    func pack(_ m: ckpt_page_message, _ pages: UnsafeRawBufferPointer, since base: SentDifferences?, _ places: PagePlaces?) throws(SystemError) -> [ckpt_run] {
        var runs: [ckpt_run] = []
        for piece in base?.split(m, pages) ?? [.changed(first: 0, count: pages.count / 4096)] {
            switch piece {
            case .kept(let run): runs.append(run)
            case .changed(let first, let count):
                var run = m.run
                run.address += UInt64(first) * 4096
                let part = UnsafeRawBufferPointer(rebasing: pages[first * 4096..<(first + count) * 4096])
                guard let places else { runs.append(try pack(run, part)); continue }
                guard let at = places.offset(of: m, run.address, count: part.count) else { throw SystemError.damaged("pages that nobody was to send") }
                runs.append(try put(run, part, at: at))
            }
        }
        return runs
    }
}

extension ckpt_run {
    /// Bytes of its pages, and what these take in the file that is being written; 0: they lie in a base.
    var bytes: UInt64 { UInt64(pages) * 4096 }
    var written: (bytes: UInt64, stored: UInt64) { ckpt_run_base(self) == 0 ? (bytes, ckpt_run_stored(self)) : (0, 0) }

    /// Some of its pages, where they lie; their checksum is another one.
    func part(_ first: Int, _ count: Int) -> ckpt_run {
        var r = self
        if count == Int(pages) { return r }
        r.address += UInt64(first) * 4096; r.pages = UInt16(count)
        if isCompressed { r.frame = UInt8(ckpt_run_frame(self) - 1); r.skipped += UInt8(first) } else { r.file_offset += UInt64(first) * 4096 }
        return r
    }
}

extension Draft {
    /// A chain of runs behind what is there, from its last chunk to its first: each names the next; the last one, what is `before`.
    func putChain(_ runs: [ckpt_run], before: UInt64 = 0) throws(SystemError) -> UInt64 {
        var next = before, end = runs.count
        while end > 0 {
            let start = (end - 1) / Int(CKPT_CHUNK_RUNS) * Int(CKPT_CHUNK_RUNS)
            let part = Array(runs[start..<end]), crc = part.withUnsafeBytes { ckpt_crc32c_hw(0, $0.baseAddress!, $0.count) }
            let header = [ckpt_chunk(magic: UInt32(CKPT_CHUNK_MAGIC), count: UInt32(part.count), next: next, crc: crc, pad: 0, pad2: 0)]
            next = try header.reading { (h) throws(SystemError) in try append(h) }
            _ = try part.reading { (b) throws(SystemError) in try append(b) }
            end = start
        }
        return next
    }
}
