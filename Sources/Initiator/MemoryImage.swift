// One process's stored memory, by address, for the commit.
import CkptABI
import CkptStatefile
import CkptSystem

final class MemoryImage {
    private let files: [File]           // the statefile, then those that a delta refers to
    private var runs: [ckpt_run] = []
    private let packed: PackedPages?
    private var shared: [UInt32: [ckpt_run]] = [:]      // packed: by object
    var isPacked: Bool { packed != nil }

    init(_ files: [File], runs: [ckpt_run]) {
        self.files = files
        packed = nil
        self.runs = runs.sorted { $0.address < $1.address }
    }

    /// Of pages that went by.
    init(_ packed: PackedPages, of process: UInt32) {
        files = []
        self.packed = packed
        runs = packed.chains[.init(process: process, isShared: false)] ?? []
        for (chain, runs) in packed.chains where chain.isShared { for r in runs { shared[r.object, default: []].append(r) } }
        for o in shared.keys { shared[o]!.sort { $0.address < $1.address } }
    }

    private func index(of address: UInt64, in runs: [ckpt_run]) -> Int? {
        var low = 0, high = runs.count
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].address + UInt64(runs[middle].pages) * 4096 <= address { low = middle + 1 } else { high = middle }
        }
        return low < runs.count ? low : nil
    }

    /// Bytes at an address; nil when a part is not stored.
    func read(_ address: UInt64, _ count: Int) -> [UInt8]? {
        var out: [UInt8] = []
        var at = address
        while out.count < count {
            guard let part = stored(at, count - out.count) else { return nil }
            out += part
            at &+= UInt64(part.count)
        }
        return out
    }

    private func stored(_ at: UInt64, _ count: Int) -> [UInt8]? {
        if let packed {
            guard let page = packed.kept[at & ~4095] else { return nil }
            let from = Int(at & 4095)
            return Array(page[from..<min(4096, from + count)])
        }
        guard let i = index(of: at, in: runs), runs[i].address <= at else { return nil }
        let here = min(count, Int(runs[i].address + UInt64(runs[i].pages) * 4096 - at))
        guard let part = try? files[Int(ckpt_run_base(runs[i]))].read(at: runs[i].file_offset + (at - runs[i].address), count: here), part.count == here else { return nil }
        return part
    }

    /// What of a mapping lies in the file as a debugger can read it, neighbours joined.
    func stretches(_ v: ckpt_vma_record) -> [(start: UInt64, end: UInt64, offset: UInt64?)] {
        let isShared = v.kind == CKPT_VMA_SHARED_ANONYMOUS.rawValue || v.kind == CKPT_VMA_SHARED_FILE.rawValue
        let list = isShared ? shared[v.object] ?? [] : runs
        let from = isShared ? v.object_offset : v.start, to = from + (v.end - v.start)
        var result: [(start: UInt64, end: UInt64, offset: UInt64?)] = []
        var i = index(of: from, in: list) ?? list.count
        while i < list.count && list[i].address < to {
            let run = list[i]
            i += 1
            if ckpt_run_kind(run) != CKPT_COMPRESSION_NONE.rawValue { continue }
            let start = max(run.address, from), end = min(run.address + UInt64(run.pages) * 4096, to), isElsewhere = ckpt_run_base(run) != 0
            // What lies in a base has its place here as well: there it is put when they are merged.
            let offset = isElsewhere ? v.data_offset + (start - from) : run.file_offset + (start - run.address)
            // A program header's offset is aligned as its address is.
            if offset % 4096 != 0 { continue }
            if let last = result.last, last.end == start - from + v.start, last.offset! + (last.end - last.start) == offset {
                result[result.count - 1].end = end - from + v.start
            } else { result.append((start - from + v.start, end - from + v.start, offset)) }
        }
        return result
    }
}
