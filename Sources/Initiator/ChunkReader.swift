// The chains that writers have left in a statefile.  Writers are the user's processes, and where a chain begins the segment says: nothing of it is believed.
import CkptABI
import CkptSystem

/// Where a process's chains begin, as the commit has found them.
struct ChainHeads { var own: UInt64 = 0, shared: UInt64 = 0 }

struct ChunkReader {
    private let file: File
    private let places: Range<UInt64>           // where writers put chunks
    private let ends: [UInt64]                  // of the statefile, then of those that a delta refers to
    private let objects: Int
    private var left: UInt64                    // chunks that there is room for: more of them are a chain that comes back to itself

    init(_ file: File, _ places: Range<UInt64>, bases: [File], objects: Int) throws(SystemError) {
        self.file = file; self.places = places; self.objects = objects
        var ends = [places.upperBound]
        for b in bases { ends.append(UInt64(try b.status().st_size)) }
        self.ends = ends
        left = (places.upperBound - places.lowerBound) / UInt64(CKPT_CHUNK_SIZE)
    }

    mutating func forEachRun(from first: UInt64, isShared: Bool, _ body: (ckpt_run) -> Void) throws(SystemError) {
        var at = first
        while at != 0 {
            guard left > 0, places.contains(at), UInt64(CKPT_CHUNK_SIZE) <= places.upperBound - at else { throw .damaged("a chunk at \(at) of the statefile") }
            left -= 1
            let bytes = try file.read(at: at, count: Int(CKPT_CHUNK_SIZE)), headerSize = MemoryLayout<ckpt_chunk>.size, runSize = MemoryLayout<ckpt_run>.size
            guard bytes.count >= headerSize else { throw .damaged("a chunk at \(at) of the statefile") }
            let next: UInt64? = bytes.withUnsafeBytes { b in
                let header = b.loadUnaligned(as: ckpt_chunk.self), size = Int(header.count) * runSize
                guard header.magic == UInt32(CKPT_CHUNK_MAGIC), size <= b.count - headerSize, ckpt_crc32c_hw(0, b.baseAddress! + headerSize, size) == header.crc else { return nil }
                for i in 0..<Int(header.count) {
                    let run = b.loadUnaligned(fromByteOffset: headerSize + i * runSize, as: ckpt_run.self)
                    guard isSensible(run, isShared) else { return nil }
                    body(run)
                }
                return header.next
            }
            guard let next else { throw .damaged("a chunk at \(at) of the statefile") }
            at = next
        }
    }

    private func isSensible(_ run: ckpt_run, _ isShared: Bool) -> Bool {
        let base = Int(ckpt_run_base(run)), size = UInt64(run.pages) * 4096
        guard run.pages > 0, run.pages <= UInt16(CKPT_RUN_PAGES), run.address % 4096 == 0, run.address < 1 << 47, !isShared || Int(run.object) < objects else { return false }
        return ckpt_run_kind(run) == CKPT_COMPRESSION_NONE.rawValue && run.frame == 0 && run.skipped == 0 && base < ends.count && size <= ends[base] && run.file_offset <= ends[base] - size
    }
}
