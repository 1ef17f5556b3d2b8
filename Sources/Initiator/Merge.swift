// A delta and the statefiles that it refers to become one file of the same instant.  What the delta has stays at its place and the id stays, so deltas that were
// taken since it may refer to either.
import CkptABI
import CkptCompression
import CkptReport
import CkptStatefile
import CkptSystem

public struct MergeReport: Sendable {
    public var files = 0, own: UInt64 = 0, gathered: UInt64 = 0, fileSize: UInt64 = 0, face = "", compression = ""
}

public func merge(_ path: String, to output: String, face: FacePreference) throws(Problem) -> MergeReport {
    let delta = try Statefile(path: path)
    guard delta.isDelta else { throw Problem(.refused, "merge", object: path, cause: "it is no delta", remedy: "it can be copied as it is") }
    guard let compression = delta.compression else { throw Problem(.statefile, "merge", object: path, cause: "it is compressed in a way that is none") }
    if delta.isPacked && face == .core {
        throw Problem(.refused, "merge --face core", object: path, cause: "its memory lies in the order in which it came, for no debugger", remedy: "leave --face out, and open the merged file with `ckptctl gdb`")
    }
    let bases = try delta.openedBases(), shown = delta.isPacked ? Face.exec : chosenFace(face)
    if bases.contains(where: { realPath($0.path) == realPath(output) }) {
        throw Problem(.refused, "merge", object: path, cause: "\(output): the delta refers to it, and others may", remedy: "give the merged file another name with -o")
    }
    let draft: Draft
    do throws(CheckpointFailure) { draft = try Draft(merging: output, name: path) } catch { throw error.problems.first! }
    let merger = Merger(delta, draft, compression)
    func writing(_ body: () throws(SystemError) -> Void) throws(Problem) {
        do throws(SystemError) { try body() } catch { throw Problem(.system, "merge", object: path, cause: output, error.text, remedy: "free space, or choose another place with -o") }
    }
    try writing { () throws(SystemError) in try merger.copy(path) }
    for i in delta.processes.indices { try merger.gather(i, writing) }
    try writing { () throws(SystemError) in try merger.commit(shown) }
    return MergeReport(files: 1 + bases.count, own: merger.own, gathered: merger.gathered, fileSize: draft.end, face: shown.rawValue, compression: compression.name)
}

private typealias Writing = (() throws(SystemError) -> Void) throws(Problem) -> Void

private final class Merger {
    let delta: Statefile, draft: Draft
    var own: UInt64 = 0, gathered: UInt64 = 0
    private var stored: UInt64 = 0                  // what is gathered takes in a packed one
    private var unpacked: UnpackedFrame?
    private var borders: Set<UInt64> = []           // no run reaches from one mapping into the next
    private let packer: PagePacker

    init(_ delta: Statefile, _ draft: Draft, _ compression: Compression) { self.delta = delta; self.draft = draft; packer = PagePacker(draft, compression) }

    /// The delta as it is, hole by hole.
    func copy(_ path: String) throws(SystemError) {
        let file = try File(unnoticed: path), size = delta.superblock.file_size
        for part in try file.data(upTo: size) { try file.copy(part.offset, part.size, to: draft.file, at: part.offset) }
        draft.moveEnd(to: size)
        try draft.file.truncate(to: draft.end)
    }

    func gather(_ process: Int, _ writing: Writing) throws(Problem) {
        let p = delta.processes[process]
        borders = Set(delta.vmas(of: p).map(\.start))
        try gatherChain(p.runs, writing) { run in
            delta.vmas(of: p).first { $0.start <= run.address && run.address < $0.end && $0.data_offset != 0 }.map { $0.data_offset &+ (run.address - $0.start) }.flatMap { $0 < largestFile ? $0 : nil }
        }
        borders = []
        // Shared memory need not have a mapping with a place: it goes behind all.
        try gatherChain(p.shared_runs, writing) { _ in nil }
    }

    private func gatherChain(_ first: UInt64, _ writing: Writing, _ place: (ckpt_run) -> UInt64?) throws(Problem) {
        try delta.forEachRun(from: first) { _ in }         // each is one
        var chunks: [(UInt64, [ckpt_run])] = []
        try delta.forEachChunk(from: first) { offset, runs in
            chunks.append((offset, (0..<runs.count / MemoryLayout<ckpt_run>.size).map { runs.loadUnaligned(fromByteOffset: $0 * MemoryLayout<ckpt_run>.size, as: ckpt_run.self) }))
        }
        for (offset, runs) in chunks {
            for r in runs { if ckpt_run_base(r) == 0 { own += UInt64(r.pages) * 4096 } else { gathered += UInt64(r.pages) * 4096 } }
            let changed = delta.isPacked ? try packed(runs, writing) : try placed(runs, writing, place)
            let bytes = changed.withUnsafeBytes { [UInt8]($0) }, crc = bytes.withUnsafeBytes { ckpt_crc32c_hw(0, $0.baseAddress!, $0.count) }, draft = draft
            try writing { () throws(SystemError) in
                try draft.put(bytes, at: offset + 32)
                try draft.put(withUnsafeBytes(of: UInt32(changed.count)) { [UInt8]($0) }, at: offset + UInt64(MemoryLayout<ckpt_chunk>.offset(of: \.count)!))
                try draft.put(withUnsafeBytes(of: crc) { [UInt8]($0) }, at: offset + UInt64(MemoryLayout<ckpt_chunk>.offset(of: \.crc)!))
            }
        }
    }

    /// Pages have the place that their mapping has for them.
    private func placed(_ runs: [ckpt_run], _ writing: Writing, _ place: (ckpt_run) -> UInt64?) throws(Problem) -> [ckpt_run] {
        var changed = runs
        for i in runs.indices where ckpt_run_base(runs[i]) != 0 {
            let target = place(runs[i]) ?? draft.claim(UInt64(runs[i].pages) * 4096), pages = try delta.checkedPages(of: runs[i], &unpacked), file = draft.file
            try writing { () throws(SystemError) in try file.write(pages, at: target) }
            changed[i].file_offset = target
            changed[i].flags &= ~ownBits
        }
        return changed
    }

    /// Pages lie behind what is there, compressed as the delta is.  What is one frame of that kind already is copied; pieces that have come apart become one again.
    private func packed(_ runs: [ckpt_run], _ writing: Writing) throws(Problem) -> [ckpt_run] {
        var changed: [ckpt_run] = [], i = 0
        let draft = draft, packer = packer
        while i < runs.count {
            let run = runs[i]
            var end = i + 1
            if ckpt_run_base(run) == 0 { changed.append(run); i = end; continue }
            while end < runs.count, isContinued(runs[end - 1], by: runs[end]) { end += 1 }
            var result = run
            if end == i + 1 && run.frame == 0 && ckpt_run_kind(run) == delta.packing[0].compression {
                _ = try delta.checkedPages(of: run, &unpacked)
                let bytes = delta.storedBytes(of: run)
                try writing { () throws(SystemError) in result.file_offset = try draft.append(bytes) }
                result.flags &= ~ownBits
            } else {
                var pages: [UInt8] = []
                for r in runs[i..<end] { pages += try delta.checkedPages(of: r, &unpacked) }
                try writing { () throws(SystemError) in result = try pages.reading { (b) throws(SystemError) in try packer.pack(run, b) } }
            }
            stored += ckpt_run_stored(result)
            changed.append(result)
            i = end
        }
        return changed
    }

    /// Neighbours, with no border of a huge page nor of a mapping between them.
    private func isContinued(_ a: ckpt_run, by b: ckpt_run) -> Bool {
        let border = UInt64(CKPT_RUN_PAGES) * 4096
        return ckpt_run_base(b) != 0 && a.object == b.object && (a.flags ^ b.flags) & CKPT_RUN_HUGE.rawValue == 0 && a.address + UInt64(a.pages) * 4096 == b.address && b.address % border != 0 && !borders.contains(b.address)
    }
    private let largestFile: UInt64 = 1 << 47
    private let ownBits = UInt32(CKPT_RUN_BASE_MASK) << UInt32(CKPT_RUN_BASE_SHIFT)

    /// Without its bases, with its own checksums and its name.
    func commit(_ face: Face) throws(SystemError) {
        var block = delta.superblock
        let tables = delta.mergedTables(gathered: gathered, stored: stored)
        // Debuggers would look for what was gathered where it is not.
        if delta.isPacked { block.core_phnum = 0 }
        block.tables_crc = tables.withUnsafeBytes { ckpt_crc32c_hw(0, $0.baseAddress!, $0.count) }
        try draft.put(tables, at: block.tables_offset)
        block.file_size = draft.end
        try draft.put(draft.sealed(block), at: UInt64(CKPT_SUPERBLOCK_OFFSET))
        try draft.put(elfHeader(face, block), at: 0)
        try draft.publish()
    }
}
