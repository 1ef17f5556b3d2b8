// What mappings have beyond addresses and contents: guards, names of their own.  Read from /proc; nothing is changed.
import CkptABI
import CkptSession
import CkptSystem

extension ProcMapping {
    /// MAP_ANONYMOUS | MAP_HUGETLB: a file without a name of the kernel's own.
    var isAnonymousHuge: Bool { flags.contains("ht") && name.hasPrefix("/anon_hugepage") }

    /// PR_SET_VMA_ANON_NAME; nil: none.
    var givenName: String? {
        for prefix in ["[anon:", "[anon_shmem:"] where name.hasPrefix(prefix) && name.hasSuffix("]") { return String(name.dropFirst(prefix.count).dropLast()) }
        return nil
    }
}

/// Pages of MADV_GUARD_INSTALL.  A mapping that is resident as a whole has none, and the rest is walked together.
func observeGuards(_ view: Int32, _ mappings: [ProcMapping]) throws(SystemError) -> [(start: UInt64, end: UInt64)] {
    var stretches: [(start: UInt64, end: UInt64)] = []
    for m in mappings where m.residentBytes < m.size && !m.flags.contains("ht") && !m.name.hasPrefix("[v") {
        if let last = stretches.last, last.end == m.start { stretches[stretches.count - 1].end = m.end } else { stretches.append((m.start, m.end)) }
    }
    let pagemap = try PageMap(of: view)
    var guards: [(start: UInt64, end: UInt64)] = []
    for s in stretches { guard try pagemap.addGuards(from: s.start, to: s.end, &guards) else { return [] } }
    return guards
}
