// Of `ckptctl inspect`: who is whose child, and what belongs to all.
import CkptABI
import CkptReport
import CkptStatefile

struct TreeView {
    private let statefile: Statefile
    init(_ statefile: Statefile) { self.statefile = statefile }

    private func children(of parent: UInt32) -> [Int] { statefile.processes.indices.filter { statefile.processes[$0].parent == parent && $0 != Int(parent) } }

    var text: String {
        let t = statefile.tree
        var text = "'\(printable(statefile.string(t.name)))' on \(printable(statefile.string(t.host))), Linux \(printable(statefile.string(t.kernel))), \(dateText(t.realtime / 1_000_000_000))\n"
        func put(_ i: Int, _ depth: Int) {
            let p = statefile.processes[i]
            var notes: [String] = []
            if i == Int(t.root) { notes.append("main") }
            if p.flags & CKPT_PROCESS_ZOMBIE.rawValue != 0 { notes.append("zombie") }
            if p.flags & CKPT_PROCESS_STOPPED.rawValue != 0 { notes.append("stopped") }
            if p.flags & CKPT_PROCESS_ORPHAN.rawValue != 0 { notes.append("its parent has gone") }
            if p.child_subreaper != 0 { notes.append("sub-reaper") }
            text += String(repeating: "  ", count: depth + 1) + "\(p.pid) \(printable(statefile.string(p.comm)))" + (notes.isEmpty ? "" : " (\(notes.joined(separator: ", ")))")
            text += "  group \(p.pgid), session \(p.sid)\n"
            for c in children(of: UInt32(i)) { put(c, depth + 1) }
        }
        for i in children(of: ckpt_no_index()) { put(i, 0) }
        return text
    }

    var json: JSON {
        let t = statefile.tree
        return ["name": .text(statefile.string(t.name)), "host": .text(statefile.string(t.host)), "kernel": .text(statefile.string(t.kernel)), "taken": JSON(t.realtime / 1_000_000_000),
                "main": JSON(statefile.processes[Int(t.root)].pid), "monotonic": JSON(t.monotonic), "boottime": JSON(t.boottime),
                "processes": .list(statefile.processes.map { p in
                    ["pid": JSON(p.pid), "parent": p.parent == ckpt_no_index() ? .null : JSON(statefile.processes[Int(p.parent)].pid), "group": JSON(p.pgid), "session": JSON(p.sid),
                     "name": .text(statefile.string(p.comm)), "zombie": .bool(p.flags & CKPT_PROCESS_ZOMBIE.rawValue != 0), "stopped": .bool(p.flags & CKPT_PROCESS_STOPPED.rawValue != 0)]
                })]
    }
}
