// Of `ckptctl inspect`: descriptors, each with what stands behind it; locks and leases.
import CkptABI
import CkptReport
import CkptStatefile

struct DescriptorView: ProcessView {
    static let title = "descriptors"
    private let rows: [(number: Int32, kind: String, flags: [String], position: UInt64, detail: String, users: UInt32)]

    init(_ s: Statefile, _ i: Int) {
        rows = s.descriptors(of: s.processes[i]).map { f in
            let d = s.descriptions[Int(f.description)], o = s.objects[Int(d.object)], kind = ObjectKind.of(o)
            return (f.number, kind.name, openFlags(d.flags) + (f.close_on_exec != 0 ? ["CLOEXEC"] : []), d.position, kind.detail(s, o, Int(d.object)), d.users)
        }
    }
    var lines: [String] {
        columns(rows.map { [String($0.number), $0.kind, $0.detail, $0.flags.joined(separator: "|"), $0.position == 0 ? "" : "at \($0.position)", $0.users > 1 ? "shared by \($0.users)" : ""] })
    }
    var json: JSON {
        .list(rows.map { ["fd": JSON($0.number), "kind": .text($0.kind), "detail": .text($0.detail), "flags": .list($0.flags.map { .text($0) }), "offset": JSON($0.position), "users": JSON($0.users)] })
    }
}

/// The flags of open(2), access mode first.
func openFlags(_ flags: UInt32) -> [String] {
    let access = ["RDONLY", "WRONLY", "RDWR", "3"][Int(flags & 3)]
    if flags & 0o10000000 != 0 { return ["PATH"] + flagNames(flags & 0o600000, [(0o200000, "DIRECTORY"), (0o400000, "NOFOLLOW")]) }
    return [access] + flagNames(flags & ~0o100003, [(0o20200000, "TMPFILE"), (0o4010000, "SYNC"), (0o2000, "APPEND"), (0o4000, "NONBLOCK"), (0o10000, "DSYNC"), (0o20000, "ASYNC"), (0o40000, "DIRECT"),
                                                     (0o200000, "DIRECTORY"), (0o400000, "NOFOLLOW"), (0o1000000, "NOATIME")])
}

struct LockView: ProcessView {
    static let title = "locks"
    private let rows: [(fd: Int32, kind: String, isExclusive: Bool, range: String)]
    init(_ s: Statefile, _ i: Int) {
        let names = [CKPT_LOCK_POSIX.rawValue: "fcntl", CKPT_LOCK_FLOCK.rawValue: "flock", CKPT_LOCK_OFD.rawValue: "OFD", CKPT_LOCK_LEASE.rawValue: "lease"]
        rows = s.locks.filter { $0.process == UInt32(i) }.map { l in
            let isWhole = l.kind == CKPT_LOCK_FLOCK.rawValue || l.kind == CKPT_LOCK_LEASE.rawValue
            return (l.fd, names[l.kind] ?? "kind \(l.kind)", l.exclusive != 0, isWhole ? "" : l.length == 0 ? "\(l.start) to the end" : "\(l.start) to \(l.start + l.length - 1)")
        }
    }
    var lines: [String] { columns(rows.map { ["fd \($0.fd)", $0.kind, $0.isExclusive ? "write" : "read", $0.range] }) }
    var json: JSON { .list(rows.map { ["fd": JSON($0.fd), "kind": .text($0.kind), "type": .text($0.isExclusive ? "write" : "read"), "range": .text($0.range)] }) }
}
