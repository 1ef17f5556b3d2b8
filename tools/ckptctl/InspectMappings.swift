// Of `ckptctl inspect`: mappings with their sizes, what backs them, and how much of each is stored.
import CkptABI
import CkptReport
import CkptStatefile

struct MappingView: ProcessView {
    static let title = "mappings"
    private let rows: [(start: UInt64, end: UInt64, protection: String, kind: String, detail: String, offset: UInt64, flags: [String], stored: UInt64)]

    init(_ s: Statefile, _ i: Int) {
        let kinds = ["private", "file", "shared file", "shared memory", "session", "vdso", "vvar", "asynchronous I/O"]
        var stored: [UInt64: UInt64] = [:]
        let vmas = Array(s.vmas(of: s.processes[i]))
        try? s.storedRuns(s.processes[i]) { run in
            if let v = vmas.first(where: { $0.start <= run.address && run.address < $0.end }) { stored[v.start, default: 0] += UInt64(run.pages) * 4096 }
        }
        rows = vmas.map { v in
            let letters = (v.protection & 1 != 0 ? "r" : "-") + (v.protection & 2 != 0 ? "w" : "-") + (v.protection & 4 != 0 ? "x" : "-")
            let flags = flagNames(v.flags & ~(CKPT_VMA_STACK.rawValue | CKPT_VMA_HEAP.rawValue | CKPT_VMA_MAYWRITE.rawValue | CKPT_VMA_MERGED.rawValue), Self.names)
            var detail = s.string(v.name)
            if detail.isEmpty, v.object != ckpt_no_index() { detail = s.objectPath(v.object) }
            return (v.start, v.end, letters, Int(v.kind) < kinds.count ? kinds[Int(v.kind)] : v.kind == CKPT_VMA_RING.rawValue ? "io_uring" : "kind \(v.kind)", detail, v.object_offset, flags, stored[v.start] ?? 0)
        }
    }
    private static let names: [(UInt32, String)] = [
        (CKPT_VMA_GROWSDOWN.rawValue, "growsdown"), (CKPT_VMA_NORESERVE.rawValue, "noreserve"), (CKPT_VMA_LOCKED.rawValue, "locked"), (CKPT_VMA_LOCKONFAULT.rawValue, "lockonfault"),
        (CKPT_VMA_DONTFORK.rawValue, "dontfork"), (CKPT_VMA_WIPEONFORK.rawValue, "wipeonfork"), (CKPT_VMA_DONTDUMP.rawValue, "dontdump"), (CKPT_VMA_HUGEPAGE.rawValue, "hugepage"),
        (CKPT_VMA_NOHUGEPAGE.rawValue, "nohugepage"), (CKPT_VMA_MERGEABLE.rawValue, "mergeable"), (CKPT_VMA_SEQUENTIAL.rawValue, "sequential"), (CKPT_VMA_RANDOM.rawValue, "random"),
        (CKPT_VMA_SEALED.rawValue, "sealed"), (CKPT_VMA_DROPPABLE.rawValue, "droppable"), (CKPT_VMA_NAMED.rawValue, "named")]

    var lines: [String] {
        columns(rows.map { ["\(hex($0.start, digits: 12))-\(hex($0.end, digits: 12))", $0.protection, $0.kind, sizeText($0.end - $0.start), $0.stored == 0 ? "" : "\(sizeText($0.stored)) stored",
                            $0.detail + ($0.offset == 0 ? "" : " at 0x\(hex($0.offset))"), $0.flags.joined(separator: " ")] })
    }
    var json: JSON {
        .list(rows.map { ["start": JSON($0.start), "end": JSON($0.end), "protection": .text($0.protection), "kind": .text($0.kind), "backing": .text($0.detail), "offset": JSON($0.offset),
                          "stored": JSON($0.stored), "flags": .list($0.flags.map { .text($0) })] })
    }
}
