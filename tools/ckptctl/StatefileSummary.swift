// What `ckptctl status FILE` tells of a statefile.
import CkptABI
import CkptCompression
import CkptReport
import CkptStatefile
import CkptSystem
import CkptUnwind

struct StatefileSummary {
    private let statefile: Statefile
    private let processes: [Line]

    private struct Line {
        let record: ckpt_process_record, comm: String, parent: Int32?, virtual: UInt64, stored: UInt64
        var isZombie: Bool { record.flags & CKPT_PROCESS_ZOMBIE.rawValue != 0 }
        var state: String {
            if isZombie { return waitStatusWords(record.exit_status) }
            return record.flags & CKPT_PROCESS_STOPPED.rawValue != 0 ? "stopped" : "running"
        }
    }

    /// By process index.
    private let stacks: [Int: [StatefileStacks.Task]]

    init(_ statefile: Statefile, stacks wanted: Bool) throws {
        self.statefile = statefile
        var stacks: [Int: [StatefileStacks.Task]] = [:]
        for i in statefile.processes.indices where wanted && statefile.processes[i].task_count > 0 {
            stacks[i] = try StatefileStacks(statefile, process: i).tasks()
        }
        self.stacks = stacks
        processes = try statefile.processes.map { p in
            var stored: UInt64 = 0
            try statefile.storedPages(p) { stored += UInt64($0) * 4096 }
            return Line(record: p, comm: statefile.string(p.comm), parent: p.parent == ckpt_no_index() ? nil : statefile.processes[Int(p.parent)].pid,
                        virtual: statefile.vmas(of: p).reduce(0) { $0 + ($1.end - $1.start) }, stored: stored)
        }
    }

    private var seconds: UInt64 { statefile.tree.realtime / 1_000_000_000 }

    var text: String {
        let t = statefile.tree
        var text = "statefile of '\(printable(statefile.string(t.name)))': \(printable(statefile.string(t.command)))\n"
        text += "taken \(dateText(seconds)) on \(printable(statefile.string(t.host))) (Linux \(printable(statefile.string(t.kernel))))\n"
        text += "\(statefile.face.rawValue) face, \(sizeText(statefile.superblock.file_size)) apparent, "
        text += "\(sizeText(processes.reduce(0) { $0 + $1.stored })) of memory\(compression), \(counted(processes.count, "process", "processes")), \(counted(statefile.tasks.count, "task"))\n"
        if statefile.isDelta { text += "a delta since \(statefile.bases.indices.map { printable(statefile.basePath($0)) }.joined(separator: ", "))\n" }
        var table = TextTable([("PID", .right), ("PARENT", .right), ("GROUP", .right), ("SESSION", .right), ("THREADS", .right), ("STORED", .right), ("MAPPED", .right), ("STATE", .left), ("COMMAND", .left)])
        for l in processes {
            table.add([String(l.record.pid), l.parent.map { String($0) } ?? "-", String(l.record.pgid), String(l.record.sid), String(l.record.task_count),
                       sizeText(l.stored), sizeText(l.virtual), l.state, l.comm])
        }
        text += table.rendered()
        for i in stacks.keys.sorted() {
            for task in stacks[i]! {
                text += "\npid \(processes[i].record.pid) task \(task.tid) '\(printable(task.name))'\n"
                for (n, frame) in task.frames.enumerated() { text += "  #\(n) \(frame.text)\n" }
            }
        }
        return text
    }

    private var compression: String {
        guard statefile.isCompressed else { return "" }
        return " in \(sizeText(statefile.packing[0].stored)) (\(statefile.compression?.name ?? "unknown"))"
    }

    private func threads(_ i: Int) -> JSON {
        guard let stacks = stacks[i] else { return .list(statefile.tasks(of: processes[i].record).map { JSON($0.tid) }) }
        return .list(stacks.map { ["tid": JSON($0.tid), "name": .text($0.name), "stack": .list($0.frames.map { .text($0.text) })] })
    }

    var json: JSON {
        let t = statefile.tree
        return ["name": .text(statefile.string(t.name)), "command": .text(statefile.string(t.command)), "host": .text(statefile.string(t.host)),
                "kernel": .text(statefile.string(t.kernel)), "taken": JSON(seconds), "face": .text(statefile.face.rawValue),
                "size": JSON(statefile.superblock.file_size), "session": .text(sessionID), "bases": .list(statefile.bases.indices.map { .text(statefile.basePath($0)) }), "root": JSON(statefile.processes[Int(t.root)].pid),
                "processes": .list(processes.indices.map { i in
                    let line = processes[i]
                    return ["pid": JSON(line.record.pid), "parent": line.parent.map { JSON($0) } ?? .null, "group": JSON(line.record.pgid), "session": JSON(line.record.sid),
                     "command": .text(line.comm), "state": .text(line.state), "zombie": .bool(line.isZombie), "stored": JSON(line.stored), "mapped": JSON(line.virtual),
                     "executable": line.isZombie ? .null : .text(statefile.objectPath(line.record.exe)),
                     "threads": threads(i)]
                })]
    }

    private var sessionID: String {
        withUnsafeBytes(of: statefile.tree.session_id) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
}

/// 2026-11-23 19:07:32 UTC
func dateText(_ seconds: UInt64) -> String {
    var day = Int(seconds / 86400) + 719_468      // since 0000-03-01: leap days come last
    let era = day / 146_097
    day -= era * 146_097
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365
    let dayOfYear = day - (365 * year + year / 4 - year / 100)
    let shifted = (5 * dayOfYear + 2) / 153
    let month = shifted < 10 ? shifted + 3 : shifted - 9
    func two(_ v: Int) -> String { v < 10 ? "0\(v)" : "\(v)" }
    let s = Int(seconds % 86400)
    return "\(year + era * 400 + (month <= 2 ? 1 : 0))-\(two(month))-\(two(dayOfYear - (153 * shifted + 2) / 5 + 1)) \(two(s / 3600)):\(two(s / 60 % 60)):\(two(s % 60)) UTC"
}
