// Of `ckptctl inspect`: System V IPC and POSIX message queues, which belong to the whole tree.
import CkptABI
import CkptReport
import CkptStatefile

struct IPCView {
    private struct Row { var kind: String, name: String, key: UInt32, detail: String, flags: [String], adjustments: [String] }
    private let rows: [Row]

    init(_ s: Statefile) {
        rows = s.ipc.enumerated().map { i, r in
            let names: [(UInt32, String)] = [(CKPT_IPC_OUTSIDE.rawValue, "used outside"), (CKPT_IPC_LOOSE.rawValue, "perhaps the tree's"), (CKPT_IPC_REMOVED.rawValue, "removed"), (CKPT_IPC_LOCKED.rawValue, "locked")]
            var row = Row(kind: "", name: "\(r.id)", key: r.key, detail: "", flags: flagNames(r.flags, names), adjustments: [])
            if r.place != 0 { row.flags.append("in the ipc namespace of pid \(s.processes.first { UInt32($0.ipc) == r.place }?.pid ?? 0)") }
            switch ckpt_ipc_kind(rawValue: r.kind) {
            case CKPT_IPC_SEGMENT: row.kind = "shared memory"; row.detail = sizeText(r.size)
            case CKPT_IPC_SEMAPHORES:
                row.kind = "semaphores"
                row.detail = s.semaphores[Int(r.first)..<Int(r.first + r.count)].prefix(16).map { "\($0.value)" }.joined(separator: " ")
                row.adjustments = s.adjustments.filter { Int($0.set) == i }.map { "\(s.processes[Int($0.process)].pid)/\($0.number): \($0.value > 0 ? "+" : "")\($0.value)" }
            case CKPT_IPC_POSIX_QUEUE: row.kind = "POSIX queue"; row.name = s.objectPath(r.object); row.detail = counted(Int(r.count), "message")
            default: row.kind = "message queue"; row.detail = counted(Int(r.count), "message")
            }
            return row
        }
    }

    var text: String {
        if rows.isEmpty { return "" }
        let lines = columns(rows.map { [$0.kind, $0.name, $0.key == 0 ? "" : "key 0x\(hex(UInt64($0.key)))", $0.detail, ($0.flags + ($0.adjustments.isEmpty ? [] : ["undo " + $0.adjustments.joined(separator: ", ")])).joined(separator: "; ")] })
        return "IPC\n" + lines.map { "  \($0)\n" }.joined()
    }
    var json: JSON {
        .list(rows.map { ["kind": .text($0.kind), "name": .text($0.name), "key": JSON(UInt64($0.key)), "detail": .text($0.detail), "flags": .list($0.flags.map { .text($0) }), "undo": .list($0.adjustments.map { .text($0) })] })
    }
}
