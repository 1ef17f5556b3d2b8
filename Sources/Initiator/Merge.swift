// A delta and the statefiles that it refers to become one file of the same instant.  What the delta has stays at its place and the id stays, so deltas that were
// taken since it may refer to either.
import CkptABI
import CkptReport
import CkptStatefile
import CkptSystem

public struct MergeReport: Sendable {
    public var files = 0, own: UInt64 = 0, gathered: UInt64 = 0, fileSize: UInt64 = 0, face = ""
}

public func merge(_ path: String, to output: String, face: FacePreference) throws(Problem) -> MergeReport {
    let delta = try Statefile(path: path)
    guard delta.isDelta else { throw Problem(.refused, "merge", object: path, cause: "it is no delta", remedy: "it can be copied as it is") }
    let bases = try delta.openedBases()
    if bases.contains(where: { realPath($0.path) == realPath(output) }) {
        throw Problem(.refused, "merge", object: path, cause: "\(output): the delta refers to it, and others may", remedy: "give the merged file another name with -o")
    }
    let draft: Draft
    do throws(CheckpointFailure) { draft = try Draft(merging: output, name: path) } catch { throw error.problems.first! }
    let merger = Merger(delta, draft)
    func writing(_ body: () throws(SystemError) -> Void) throws(Problem) {
        do throws(SystemError) { try body() } catch { throw Problem(.system, "merge", object: path, cause: output, error.text, remedy: "free space, or choose another place with -o") }
    }
    try writing { () throws(SystemError) in try merger.copy(path) }
    for i in delta.processes.indices { try merger.gather(i, writing) }
    try writing { () throws(SystemError) in try merger.commit(chosenFace(face)) }
    return MergeReport(files: 1 + bases.count, own: merger.own, gathered: merger.gathered, fileSize: draft.end, face: chosenFace(face).rawValue)
}

private typealias Writing = (() throws(SystemError) -> Void) throws(Problem) -> Void

private final class Merger {
    let delta: Statefile, draft: Draft
    var own: UInt64 = 0, gathered: UInt64 = 0

    init(_ delta: Statefile, _ draft: Draft) { self.delta = delta; self.draft = draft }

    /// The delta as it is, hole by hole.
    func copy(_ path: String) throws(SystemError) {
        let file = try File(path), size = delta.superblock.file_size
        for part in try file.data(upTo: size) { try file.copy(part.offset, part.size, to: draft.file, at: part.offset) }
        draft.moveEnd(to: size)
        try draft.file.truncate(to: draft.end)
    }

    func gather(_ process: Int, _ writing: Writing) throws(Problem) {
        let p = delta.processes[process]
        try gatherChain(p.runs, writing) { run in
            delta.vmas(of: p).first { $0.start <= run.address && run.address < $0.end && $0.data_offset != 0 }.map { $0.data_offset + (run.address - $0.start) }
        }
        // Shared memory need not have a mapping with a place: it goes behind all.
        try gatherChain(p.shared_runs, writing) { _ in nil }
    }

    private func gatherChain(_ first: UInt64, _ writing: Writing, _ place: (ckpt_run) -> UInt64?) throws(Problem) {
        var chunks: [(UInt64, [UInt8])] = []
        try delta.forEachChunk(from: first) { offset, runs in chunks.append((offset, [UInt8](runs))) }
        for (offset, bytes) in chunks {
            var bytes = bytes
            let size = MemoryLayout<ckpt_run>.stride
            for i in 0..<bytes.count / size {
                var run = bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: i * size, as: ckpt_run.self) }
                if ckpt_run_base(run) == 0 { own += UInt64(run.pages) * 4096; continue }
                let target = place(run) ?? draft.claim(UInt64(run.pages) * 4096)
                let pages = try delta.checkedPages(of: run), file = draft.file
                try writing { () throws(SystemError) in try file.write(pages, at: target) }
                gathered += UInt64(run.pages) * 4096
                run.file_offset = target
                run.flags &= ~(UInt32(CKPT_RUN_BASE_MASK) << UInt32(CKPT_RUN_BASE_SHIFT))
                withUnsafeBytes(of: run) { r in bytes.withUnsafeMutableBytes { $0.baseAddress!.advanced(by: i * size).copyMemory(from: r.baseAddress!, byteCount: size) } }
            }
            let crc = bytes.withUnsafeBytes { ckpt_crc32c_hw(0, $0.baseAddress!, $0.count) }, changed = bytes, draft = draft
            try writing { () throws(SystemError) in
                try draft.put(changed, at: offset + 32)
                try draft.put(withUnsafeBytes(of: crc) { [UInt8]($0) }, at: offset + UInt64(MemoryLayout<ckpt_chunk>.offset(of: \.crc)!))
            }
        }
    }

    /// Without its bases, with its own checksums and its name.
    func commit(_ face: Face) throws(SystemError) {
        var block = delta.superblock
        let tables = delta.tablesWithoutBases()
        block.tables_crc = tables.withUnsafeBytes { ckpt_crc32c_hw(0, $0.baseAddress!, $0.count) }
        try draft.put(tables, at: block.tables_offset)
        block.file_size = draft.end
        try draft.put(draft.sealed(block), at: UInt64(CKPT_SUPERBLOCK_OFFSET))
        try draft.put(elfHeader(face, block), at: 0)
        try draft.publish()
    }
}
