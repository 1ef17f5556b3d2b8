// Which sessions there are and who belongs to them.  A member is a process that maps the segment; nobody registers.
import CkptABI
import CkptSystem

public struct Member: Sendable, Hashable {
    public let pid: Int32           // as this tool sees it
    public let startTime: UInt64    // clock ticks since boot: with the pid, an identity
    public let address: UInt64      // where it maps the segment
}

public enum Sessions {
    /// All sessions with a live member, oldest first.  Segments that nobody maps any more are removed.
    public static func all() -> [(segment: Segment, members: [Member])] {
        var segments: [Segment] = []
        for folder in SessionFolder.all {
            for name in (try? Path.names(in: folder)) ?? [] where name.count == 16 {
                if let s = try? Segment(path: folder + "/" + name) { segments.append(s) }
            }
        }
        let members = members(of: segments)
        var found: [(Segment, [Member])] = []
        for (i, s) in segments.enumerated() {
            let present = members[i].isEmpty ? lookAgain(s) : members[i]
            if present.isEmpty && !isNamed(s) { removeIfAbandoned(s) } else { found.append((s, present)) }
        }
        return found.sorted { $0.0.created < $1.0.created }.map { (segment: $0.0, members: $0.1) }
    }

    /// By name, id or any pid in it.
    public static func find(_ what: String) -> [(segment: Segment, members: [Member])] {
        let all = all()
        let byName = all.filter { $0.segment.name == what || $0.segment.id == what }
        if !byName.isEmpty { return byName }
        guard let pid = Int32(what) else { return [] }
        return all.filter { $0.members.contains { $0.pid == pid } }
    }

    public static func members(of segment: Segment) -> [Member] { members(of: [segment])[0] }

    private static func members(of segments: [Segment]) -> [[Member]] {
        var result = [[Member]](repeating: [], count: segments.count)
        if segments.isEmpty { return result }
        for pid in Proc.processes() {
            guard let stat = ProcStat(pid: pid), !stat.isZombie else { continue }
            for (i, s) in segments.enumerated() {
                if let address = Proc.mapping(of: s.identity, in: Proc.view(of: stat)) {
                    result[i].append(Member(pid: pid, startTime: stat.startTime, address: address))
                }
            }
        }
        return result.map { $0.sorted { $0.pid < $1.pid } }
    }

    /// A program that keeps executing others is often seen between two images, when nobody maps the segment.
    private static func lookAgain(_ segment: Segment) -> [Member] {
        for _ in 1...8 {
            Kernel.sleep(milliseconds: 10)
            let members = members(of: segment)
            if !members.isEmpty { return members }
        }
        return []
    }

    /// Whether some process was executed as a member: the new image has the environment before it maps the segment.
    private static func isNamed(_ segment: Segment) -> Bool {
        let needle = Array("CKPT_SESSION=\(segment.path)".utf8)
        return Proc.processes().contains { pid in
            guard let bytes = try? Path.contents("/proc/\(pid)/environ") else { return false }
            return bytes.split(separator: 0).contains { $0.elementsEqual(needle) }
        }
    }

    /// ckrun has made the file and not yet executed the program: such a one is young and stays.
    private static func removeIfAbandoned(_ segment: Segment) {
        let age = Kernel.clock(0) &- segment.created
        if age > 60_000_000_000 { Path.remove(segment.path) }
    }
}
