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
    public static func all() throws(SystemError) -> [(segment: Segment, members: [Member])] { try live(try segments()) }

    private static func segments() throws(SystemError) -> [Segment] {
        var segments: [Segment] = []
        for path in SessionFolder.paths {
            do throws(SystemError) {
                let folder = try SessionFolder(path), place = try folder.open()
                for name in try SessionFolder.names(in: place) where name.count == 16 {
                    do throws(Segment.Rejection) { segments.append(try Segment(name, in: folder, place)) } catch { if case .system(let e) = error, e.isOutOfDescriptors { throw e } }
                }
            } catch { if error.isOutOfDescriptors { throw error } }
        }
        return segments
    }

    private static func live(_ segments: [Segment]) throws(SystemError) -> [(segment: Segment, members: [Member])] {
        try File.requireSpare(16)       // without any, nobody would be found
        var members = members(of: segments)
        let old = Set(segments.indices.filter { mayBeAbandoned(segments[$0]) }), (named, left) = lookAgain(segments, &members, longer: old)
        var found: [(Segment, [Member])] = []
        for (i, s) in segments.enumerated() {
            if !members[i].isEmpty || named.contains(i) { found.append((s, members[i])) }
            else if old.contains(i), !left.contains(i), !s.isBeingRestored, !HiddenProcesses.mayBelong(to: s) { s.remove(patiently: false) }
        }
        return found.sorted { $0.0.created < $1.0.created }.map { (segment: $0.0, members: $0.1) }
    }

    /// By name, id or any pid in it.
    public static func find(_ what: String) throws(SystemError) -> [(segment: Segment, members: [Member])] {
        let segments = try segments()
        func isNamed(_ s: Segment) -> Bool { s.name == what || s.id == what }
        // Others need not be looked for, but for those that may be removed: one that has just ended would cost us a look or two.
        let named = try live(segments.filter { isNamed($0) || mayBeAbandoned($0) }).filter { isNamed($0.segment) }
        if !named.isEmpty { return named }
        guard let pid = Int32(what) else { return [] }
        return try live(segments).filter { $0.members.contains { $0.pid == pid } }
    }

    public static func members(of segment: Segment) -> [Member] { members(of: [segment])[0] }

    private static func members(of segments: [Segment]) -> [[Member]] {
        var result = [[Member]](repeating: [], count: segments.count)
        if segments.isEmpty { return result }
        let identities = segments.map(\.identity)
        for pid in Proc.processes() {
            guard let stat = ProcStat(pid: pid), !stat.isZombie else { continue }
            for (i, address) in Proc.mappings(of: identities, in: Proc.view(of: stat)) {
                result[i].append(Member(pid: pid, startTime: stat.startTime, address: address))
            }
        }
        return result.map { $0.sorted { $0.pid < $1.pid } }
    }

    /// A program that keeps executing others is often seen between two images, when nobody maps the segment: so those without a member
    /// are looked at again, until they have one or some looks in a row find nobody who even names them.  Returns those that are named, and
    /// those that may be.  `longer`: they would be removed, and there is no hurry.
    private static func lookAgain(_ segments: [Segment], _ members: inout [[Member]], longer: Set<Int>) -> (named: Set<Int>, left: Set<Int>) {
        var misses = [Int](repeating: 0, count: segments.count), named: Set<Int> = [], left: Set<Int> = []
        for _ in 1...8 {
            let missing = segments.indices.filter { members[$0].isEmpty && misses[$0] < (longer.contains($0) ? 5 : 2) }
            if missing.isEmpty { break }
            let seen = namedByProcesses(segments, missing)
            named.formUnion(seen.named)
            for i in missing { misses[i] = seen.named.contains(i) ? 0 : misses[i] + 1 }
            // Its own, perhaps: those that would be removed are left to the next look.
            if seen.mayMissOne { left.formUnion(missing) }
            Kernel.sleep(milliseconds: 10)
            for (i, found) in zip(missing, self.members(of: missing.map { segments[$0] })) { members[i] = found }
        }
        return (named, left)
    }

    /// Those that some process was executed as a member of: the new image has the environment before it maps the segment.
    /// `mayMissOne`: somebody has no environment yet.
    private static func namedByProcesses(_ segments: [Segment], _ wanted: [Int]) -> (named: Set<Int>, mayMissOne: Bool) {
        let variables = Dictionary(wanted.map { ("CKPT_SESSION=\(segments[$0].path)", $0) }, uniquingKeysWith: { a, _ in a })
        let prefix = Array("CKPT_SESSION=".utf8)
        var found: Set<Int> = [], mayMissOne = false
        for pid in Proc.processes() {
            guard var bytes = try? Path.contents("/proc/\(pid)/environ") else { continue }
            if bytes.isEmpty {
                if isBeingExecuted(pid) { mayMissOne = true }
                bytes = (try? Path.contents("/proc/\(pid)/environ")) ?? []
            }
            for variable in bytes.split(separator: 0) where variable.starts(with: prefix) {
                if let i = variables[String(decoding: variable, as: UTF8.self)] { found.insert(i) }
            }
        }
        return (found, mayMissOne)
    }
    /// The new image of a member: SIGCKPT is blocked in it.
    private static func isBeingExecuted(_ pid: Int32) -> Bool {
        guard let stat = ProcStat(pid: pid), !stat.hasNoMemory, stat.envEnd == 0, let status = ProcStatus(pid: pid) else { return false }
        return status.hex("SigBlk") & ckpt_sigckpt_bit() != 0
    }

    /// ckrun has made the file and not yet executed the program: such a one is young and stays.  So does one whose processes we could not see: a container may have
    /// the folder in common with those around it.
    private static func mayBeAbandoned(_ segment: Segment) -> Bool {
        let initial: UInt32 = 0xefff_fffc       // the outermost pid namespace's number (linux/proc_ns.h)
        guard Kernel.clock(0) &- segment.created > 60_000_000_000, let ours = Namespace.number(Kernel.processID, "pid") else { return false }
        return ours == initial || ours == ckpt_session_namespaces(segment.pointer)[Int(CKPT_NAMESPACE_PID.rawValue) - 1]
    }
}
