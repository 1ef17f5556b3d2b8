// All checksums of a statefile, and that its parts fit together.
import CkptABI
import CkptReport

public struct Verification: Sendable {
    public var problems: [Problem] = []
    public var processes = 0, tasks = 0
    public var chunks: UInt64 = 0, runs: UInt64 = 0, pages: UInt64 = 0
}

extension Statefile {
    /// Reads every stored page once.  Opening the file has checked the superblock and the tables.
    public func verify() -> Verification {
        var v = Verification()
        v.processes = processes.count
        v.tasks = tasks.count
        let notes = Scan(file: file, path: path).crc(superblock.core_notes_offset, superblock.core_notes_size)
        if notes != superblock.core_notes_crc { v.problems.append(bad("core notes", at: superblock.core_notes_offset, "wrong checksum")) }
        let engine = Scan(file: file, path: path).crc(superblock.engine_offset, superblock.engine_size)
        if engine != superblock.engine_crc { v.problems.append(bad("engine", at: superblock.engine_offset, "wrong checksum")) }
        for e in extents where ckpt_crc32c_hw(0, slice(e.content, Int(e.size)).baseAddress!, Int(e.size)) != e.crc {
            v.problems.append(bad("contents of a saved file", at: e.content, "wrong checksum"))
        }
        for i in processes.indices {
            let p = processes[i]
            verifyChain(p.runs, of: i, shared: false, &v)
            verifyChain(p.shared_runs, of: i, shared: true, &v)
        }
        return v
    }

    private func verifyChain(_ first: UInt64, of process: Int, shared: Bool, _ v: inout Verification) {
        let p = processes[process], space = Array(vmas(of: p))
        var found: [Problem] = [], unpacked: UnpackedFrame?
        do throws(Problem) {
            try forEachChunk(from: first) { (_, _) throws(Problem) in v.chunks += 1 }
            try forEachRun(from: first) { (run) throws(Problem) in
                v.runs += 1
                v.pages += UInt64(run.pages)
                let pages = pages(of: run, &unpacked)
                if pages == nil {
                    found.append(wrongPages(run, "pid \(p.pid): compressed pages of 0x\(hex(run.address))", "not a frame of \(ckpt_run_frame(run)) pages"))
                } else if let pages, ckpt_crc32c_hw(0, pages.baseAddress!, pages.count) != run.crc {
                    found.append(wrongPages(run, "pid \(p.pid): pages of 0x\(hex(run.address))"))
                } else if let cause = shared ? misplacedShared(run) : misplaced(run, space) {
                    found.append(bad("pid \(p.pid): pages of 0x\(hex(run.address))", at: run.file_offset, cause))
                }
            }
        } catch { found.append(error) }
        v.problems += found
    }

    private func misplaced(_ run: ckpt_run, _ space: [ckpt_vma_record]) -> String? {
        guard let vma = space.first(where: { $0.start <= run.address && run.address < $0.end }), run.end <= vma.end else { return "they lie in no mapping" }
        if ckpt_run_base(run) != 0 { return nil }
        if isPacked { return vma.data_offset == UInt64(CKPT_DATA_PACKED) ? nil : "their mapping stores nothing" }
        return vma.data_offset + (run.address - vma.start) == run.file_offset ? nil : "they lie elsewhere than their mapping says"
    }
    private func misplacedShared(_ run: ckpt_run) -> String? { Int(run.object) < objects.count ? nil : "their object is out of range" }
}
