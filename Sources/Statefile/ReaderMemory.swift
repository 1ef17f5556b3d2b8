// A process's memory as a statefile has it: runs of pages, holes that are zero, and what lies in the mapped files themselves.
import CkptABI
import CkptCompression
import CkptReport
import CkptSystem

extension Statefile {
    /// Walks a chain of chunks.  `body` gets each chunk's offset and its runs, all inside the file.
    public func forEachChunk(from first: UInt64, _ body: (UInt64, UnsafeRawBufferPointer) throws(Problem) -> Void) throws(Problem) {
        var offset = first, seen: Set<UInt64> = []
        let headerSize = UInt64(MemoryLayout<ckpt_chunk>.size), runSize = UInt64(MemoryLayout<ckpt_run>.size)
        let scan = Scan(file: file, path: path)
        while offset != 0 {
            guard scan.contains(offset, headerSize) else { throw bad("chunk", at: offset, "lies outside of the file") }
            guard seen.insert(offset).inserted else { throw bad("chunk", at: offset, "the chain comes back to it") }
            let header = load(ckpt_chunk.self, at: offset)
            guard header.magic == UInt32(CKPT_CHUNK_MAGIC) else { throw bad("chunk", at: offset, "no chunk of runs") }
            guard header.count <= UInt32(CKPT_CHUNK_RUNS), scan.contains(offset + headerSize, UInt64(header.count) * runSize) else {
                throw bad("chunk", at: offset, "\(header.count) runs do not fit into it")
            }
            let start = Int(offset + headerSize)
            let runs = UnsafeRawBufferPointer(rebasing: file.bytes[start..<start + Int(UInt64(header.count) * runSize)])
            guard ckpt_crc32c_hw(0, runs.baseAddress!, runs.count) == header.crc else { throw bad("chunk", at: offset, "wrong checksum") }
            try body(offset, runs)
            offset = header.next
        }
    }

    public func forEachRun(from first: UInt64, _ body: (ckpt_run) throws(Problem) -> Void) throws(Problem) {
        try forEachChunk(from: first) { (offset, runs) throws(Problem) in
            for i in 0..<runs.count / MemoryLayout<ckpt_run>.size {
                let at = offset + 32 + UInt64(i * MemoryLayout<ckpt_run>.size)
                let run = load(ckpt_run.self, at: at)
                let frame = ckpt_run_frame(run), stored = ckpt_run_stored(run)
                guard run.pages > 0, run.pages <= UInt32(CKPT_RUN_PAGES), run.address % 4096 == 0, run.address < 1 << 47 else { throw bad("run", at: at, "no sensible range of pages") }
                guard ckpt_run_kind(run) <= CKPT_COMPRESSION_LZ4.rawValue, run.isCompressed ? stored > 0 && stored < UInt64(frame) * 4096 : run.frame == 0 else { throw bad("run", at: at, "a compression that is none, or a size that no frame of \(frame) pages has") }
                guard UInt32(run.skipped) + UInt32(run.pages) <= frame else { throw bad("run", at: at, "more pages than its frame has") }
                guard try isStored(run, stored) else { throw bad("run", at: at, "its pages lie outside of the file") }
                try body(run)
            }
        }
    }

    func load<T>(_ type: T.Type, at offset: UInt64) -> T {
        withUnsafeTemporaryAllocation(of: T.self, capacity: 1) { slot in
            UnsafeMutableRawPointer(slot.baseAddress!).copyMemory(from: file.bytes.baseAddress! + Int(offset), byteCount: MemoryLayout<T>.size)
            return slot[0]
        }
    }
    func slice(_ offset: UInt64, _ count: Int) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: file.bytes[Int(offset)..<Int(offset) + count]) }
}

/// A frame that was taken apart.  Reading goes from page to page, and from one part of a frame to the next: whoever reads keeps the last one.
public final class UnpackedFrame {
    fileprivate let base: UInt32, offset: UInt64
    fileprivate let room: UnsafeMutableRawBufferPointer
    /// nil: `bytes` are no frame of as many pages as the run says.
    fileprivate init?(_ run: ckpt_run, _ bytes: UnsafeRawBufferPointer) {
        base = ckpt_run_base(run); offset = run.file_offset
        room = .allocate(byteCount: Int(ckpt_run_frame(run)) * 4096, alignment: 4096)
        if !Decompressor.decompress(ckpt_run_kind(run), bytes, into: room) { return nil }
    }
    deinit { room.deallocate() }
    fileprivate func holds(_ run: ckpt_run) -> Bool { base == ckpt_run_base(run) && offset == run.file_offset && room.count == Int(ckpt_run_frame(run)) * 4096 }
}

extension Statefile {
    /// nil: what lies there is no frame of that many pages.  Valid as long as `last` is as it is then.
    func pages(of run: ckpt_run, _ last: inout UnpackedFrame?) -> UnsafeRawBufferPointer? {
        let stored = storedBytes(of: run)
        guard run.isCompressed else { return stored }
        if !(last?.holds(run) ?? false) { last = UnpackedFrame(run, stored) }
        let from = Int(run.skipped) * 4096
        return last.map { UnsafeRawBufferPointer(rebasing: $0.room[from..<from + Int(run.pages) * 4096]) }
    }

    /// Runs lie in the order in which they came.
    public var isPacked: Bool { packing.count == 1 }
    /// nil: one that there is not.
    public var compression: Compression? { isPacked ? Compression(kind: packing[0].compression, level: packing[0].level) : Compression.none }
    public var isCompressed: Bool { isPacked && packing[0].compression != CKPT_COMPRESSION_NONE.rawValue }
}

/// Runs sorted by address, to be asked what covers an address.
struct RunIndex {
    private(set) var runs: [ckpt_run]
    init(_ runs: [ckpt_run]) { self.runs = runs.sorted { $0.address < $1.address } }

    /// The first run that ends above `address`.
    func firstEnding(above address: UInt64) -> Int {
        var low = 0, high = runs.count
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].end <= address { low = middle + 1 } else { high = middle }
        }
        return low
    }
    /// The run that holds `address`, and how many bytes from there on it does; or how far it is to the next one.
    func find(_ address: UInt64) -> (run: ckpt_run?, count: UInt64) {
        let i = firstEnding(above: address)
        if i == runs.count { return (nil, .max) }
        if runs[i].address > address { return (nil, runs[i].address - address) }
        return (runs[i], runs[i].end - address)
    }
}
extension ckpt_run {
    public var isCompressed: Bool { ckpt_run_kind(self) != CKPT_COMPRESSION_NONE.rawValue }
}
extension ckpt_run { var end: UInt64 { address + UInt64(pages) * 4096 } }

/// Pages of shared objects, by object: some process of the tree wrote them.
struct SharedRuns {
    private(set) var objects: [UInt32: RunIndex] = [:]
    init(_ statefile: Statefile) {
        var found: [UInt32: [ckpt_run]] = [:]
        for p in statefile.processes where p.shared_runs != 0 {
            try? statefile.forEachRun(from: p.shared_runs) { found[$0.object, default: []].append($0) }
        }
        objects = found.mapValues(RunIndex.init)
    }
}

/// The memory of one process.
public final class ProcessMemory {
    let statefile: Statefile
    let vmas: [ckpt_vma_record]
    let index: RunIndex
    private var mapped: [UInt32: MappedFile?] = [:]
    private var unpacked: UnpackedFrame?

    public init(_ statefile: Statefile, process: Int) throws(Problem) {
        self.statefile = statefile
        let p = statefile.processes[process]
        vmas = Array(statefile.vmas(of: p))
        var runs: [ckpt_run] = []
        try statefile.forEachRun(from: p.runs) { runs.append($0) }
        index = RunIndex(runs)
    }

    public func vma(at address: UInt64) -> ckpt_vma_record? {
        var low = 0, high = vmas.count
        while low < high {
            let middle = (low + high) / 2
            if vmas[middle].end <= address { low = middle + 1 } else { high = middle }
        }
        return low < vmas.count && vmas[low].start <= address ? vmas[low] : nil
    }

    /// `count` bytes from `address` on; fewer when memory ends or is in a file that is no longer the same.
    public func read(_ address: UInt64, count: Int) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(count)
        var at = address
        while result.count < count, let part = piece(at: at, limit: count - result.count) {
            if let bytes = part.bytes { result.append(contentsOf: bytes) } else { result.append(contentsOf: repeatElement(0, count: part.count)) }
            at += UInt64(part.count)
        }
        return result
    }
    public func load<T: FixedWidthInteger & BitwiseCopyable>(_ address: UInt64, as: T.Type = T.self) -> T? {
        let bytes = read(address, count: MemoryLayout<T>.size)
        return bytes.count == MemoryLayout<T>.size ? bytes.withUnsafeBytes { $0.loadUnaligned(as: T.self) } : nil
    }

    private typealias Piece = (bytes: UnsafeRawBufferPointer?, count: Int)   // bytes nil: zeros

    private func piece(at address: UInt64, limit: Int) -> Piece? {
        guard let v = vma(at: address) else { return nil }
        let limit = min(limit, Int(v.end - address))
        switch ckpt_vma_kind(v.kind) {
        case CKPT_VMA_ANONYMOUS, CKPT_VMA_FILE:
            let (run, count) = index.find(address)
            let n = Int(min(UInt64(limit), count))
            if let run { return stored(run, address, n) }
            if v.kind == CKPT_VMA_ANONYMOUS.rawValue { return (nil, n) }
            return objectPiece(v, address, n)
        case CKPT_VMA_SHARED_ANONYMOUS, CKPT_VMA_SHARED_FILE:
            let offset = v.object_offset + (address - v.start)
            if let shared = statefile.sharedRuns.objects[v.object] {
                let (run, count) = shared.find(offset)
                let n = Int(min(UInt64(limit), count))
                if let run { return stored(run, offset, n) }
                if v.kind == CKPT_VMA_SHARED_ANONYMOUS.rawValue { return (nil, n) }
            }
            return v.kind == CKPT_VMA_SHARED_ANONYMOUS.rawValue ? (nil, limit) : objectPiece(v, address, limit)
        default:
            let (run, count) = index.find(address)
            guard let run else { return nil }
            return stored(run, address, Int(min(UInt64(limit), count)))
        }
    }

    /// A part of a run; nil: its frame is none.
    private func stored(_ run: ckpt_run, _ address: UInt64, _ n: Int) -> Piece? {
        guard let pages = statefile.pages(of: run, &unpacked) else { return nil }
        let from = Int(address - run.address)
        return (UnsafeRawBufferPointer(rebasing: pages[from..<from + n]), n)
    }

    /// From the mapped object: its contents in the statefile, or the file, if that is still the same.
    private func objectPiece(_ v: ckpt_vma_record, _ address: UInt64, _ limit: Int) -> Piece? {
        let o = statefile.objects[Int(v.object)]
        let offset = v.object_offset + (address - v.start)
        let whole: UnsafeRawBufferPointer
        if o.content_size > 0 {
            whole = statefile.slice(o.content, Int(o.content_size))
        } else {
            guard let file = mappedFile(v.object, o) else { return nil }
            whole = file.bytes
        }
        if offset >= UInt64(whole.count) { return (nil, limit) }
        let n = min(limit, whole.count - Int(offset))
        return (UnsafeRawBufferPointer(rebasing: whole[Int(offset)..<Int(offset) + n]), n)
    }

    private func mappedFile(_ i: UInt32, _ o: ckpt_object_record) -> MappedFile? {
        if let known = mapped[i] { return known }
        var file: MappedFile?
        if o.kind == CKPT_OBJECT_REGULAR.rawValue, statefile.isUnchanged(Int(i)) { file = try? MappedFile(statefile.string(o.path)) }
        mapped[i] = .some(file)
        return file
    }
}
