// The plan of the memory: one record per VMA, a place in the statefile for what of it must be stored, and the ranges that tell each process what to write.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

final class MemoryPlan {
    var ranges: [ObjectIdentifier: [ckpt_range]] = [:]
    var vmaRange: [ObjectIdentifier: (first: Int, count: Int)] = [:]
    var sessionAddress: [ObjectIdentifier: UInt64] = [:]
    var memoryEnd: UInt64 = 0, chunksEnd: UInt64 = 0    // the writers' chunks lie between the two
    var totalBytes: UInt64 = 0
    private var steps: UInt64 = 0
    /// How far the writers are, by their own word: it ends, whatever they say, and never goes back.
    func progress(_ bytes: UInt64) -> UInt64 { steps = max(steps, min(bytes, totalBytes) >> 20); return steps }
    fileprivate var expected: [ObjectIdentifier: UInt64] = [:]
    func bytes(of p: ObservedProcess) -> UInt64 { expected[ObjectIdentifier(p)] ?? 0 }
    var expectedBytes: UInt64 = 0                   // at most: pages that turn out to be zero are not written
    var segmentsWritten: Set<UInt32> = []           // System V shared memory
    fileprivate var dumpedParts: [UInt32: [(UInt64, UInt64)]] = [:]
}

extension Operation {
    func planMemory(_ tree: ObservedTree, _ content: SystemContent, _ segment: Segment, _ draft: Draft, _ options: CheckpointOptions) throws(CheckpointFailure) -> MemoryPlan {
        let plan = MemoryPlan()
        let hasSwap = ((try? Path.text("/proc/swaps"))?.split(separator: "\n").count ?? 1) > 1
        content.addSharedDeletedFiles(tree, segment)
        for (i, p) in tree.processes.enumerated() where !p.isZombie {
            let first = content.tables.vmas.count
            var ranges: [ckpt_range] = [], own: UInt64 = 0
            for m in p.mappings {
                guard let vma = content.vma(m, p, segment) else { continue }
                var v = vma
                v.process = UInt32(i)
                if v.kind == CKPT_VMA_ANONYMOUS.rawValue, let early = preCopy?.stretch(p, m) {
                    v.data_offset = early.place
                    ranges += early.ranges
                    own += early.leftToSnapshot.bytes
                } else if let range = plan.range(m, &v, content, draft, p, hasSwap: hasSwap) {
                    ranges.append(range)
                    if range.file_offset != 0 { own += m.isShared ? m.residentBytes : max(m.anonymousBytes, m.hugeBytes) }
                }
                if v.kind == CKPT_VMA_SESSION.rawValue { plan.sessionAddress[ObjectIdentifier(p)] = m.start }
                content.tables.vmas.append(v)
            }
            ranges += plan.unattached(content, tree, i, draft, hasSwap: hasSwap)
            plan.vmaRange[ObjectIdentifier(p)] = (first, content.tables.vmas.count - first)
            plan.ranges[ObjectIdentifier(p)] = ranges
            plan.expected[ObjectIdentifier(p)] = own
            plan.expectedBytes += own
            plan.totalBytes += ranges.reduce(0) { $0 + ($1.end - $1.start) }
        }
        try content.refusals.check()
        plan.memoryEnd = (draft.end + 65535) & ~65535
        draft.moveEnd(to: plan.memoryEnd)
        try handOut(plan, tree, segment)
        handOutBase(tree, content, draft)
        if draft.isPacked { return plan }
        plan.chunksEnd = plan.memoryEnd + plan.totalBytes / 4096 * 64 + UInt64(tree.processes.count + 4 + 2 * Machine.cores) * 131072
        do throws(SystemError) { try draft.file.truncate(to: plan.chunksEnd) } catch {
            throw CheckpointFailure([problem(.system, "\(options.output)", "\(error.text)", remedy: "a process reserves more address space than this file system's largest file; choose another with -o")])
        }
        return plan
    }

    /// The ranges go into the arena, where the processes read them.
    private func handOut(_ plan: MemoryPlan, _ tree: ObservedTree, _ segment: Segment) throws(CheckpointFailure) {
        for p in tree.live {
            let ranges = plan.ranges[ObjectIdentifier(p)] ?? []
            let told = try claim(p, ranges), slot = segment.process(p.slot)
            p.ranges = told
            slot.pointee.ranges_offset = told.offset
            slot.pointee.ranges_count = UInt32(told.count)
            slot.pointee.ranges_early = UInt32(ranges.filter { $0.isShared && $0.file_offset != 0 }.count)
        }
    }
}

extension SystemContent {
    /// The record of one mapping; nil: nothing that a restart makes (vsyscall), or refused.
    func vma(_ m: ProcMapping, _ p: ObservedProcess, _ segment: Segment) -> ckpt_vma_record? { within(place(of: m, p)) { vmaHere(m, p, segment) } }
    private func vmaHere(_ m: ProcMapping, _ p: ObservedProcess, _ segment: Segment) -> ckpt_vma_record? {
        if m.name == "[vsyscall]" { return nil }
        var v = ckpt_vma_record()
        v.start = m.start; v.end = m.end; v.protection = m.protection; v.object = ckpt_no_index(); v.name = tables.text(m.name)
        v.flags = vmaFlags(m)
        v.key = m.protectionKey
        if m.flags.contains("ht") { v.page_shift = UInt8(m.kernelPageSize.trailingZeroBitCount) }
        if let p = p.policies[m.start] { v.policy = UInt16(truncatingIfNeeded: p.mode); v.policy_nodes = p.nodes }
        if let name = m.givenName { v.name = tables.text(name); v.flags |= CKPT_VMA_NAMED.rawValue }
        let isDeleted = m.name.hasSuffix(" (deleted)")
        if m.inode == segment.identity.inode && m.device == segment.identity.device { v.kind = CKPT_VMA_SESSION.rawValue; return v }
        if m.name == "[vdso]" { v.kind = CKPT_VMA_VDSO.rawValue; return v }
        if m.name.hasPrefix("[vvar") { v.kind = CKPT_VMA_VVAR.rawValue; return v }
        if m.isAsynchronousContext { return asynchronousContext(m, v, p) }
        if m.name == "anon_inode:[io_uring]" { return ringMapping(m, v, p) }
        if refuse(m, p) { return nil }
        if m.isShared {
            v.object_offset = m.offset
            if m.isSegment {
                guard let object = attachedSegment(m, p) else { return nil }
                v.kind = CKPT_VMA_SHARED_ANONYMOUS.rawValue; v.object = object
                return v
            }
            if m.name.hasPrefix("/dev/zero") || m.name.hasPrefix("[anon_shmem:") || isDeleted {
                v.kind = CKPT_VMA_SHARED_ANONYMOUS.rawValue
                if isDeleted, let other = stillNamed(m, p) { v.kind = CKPT_VMA_SHARED_FILE.rawValue; v.object = other; return v }
                if let file = openDeleted(m) { v.kind = CKPT_VMA_SHARED_FILE.rawValue; v.object = file; return v }
                v.object = sharedObject(m)
                return v
            }
            v.kind = CKPT_VMA_SHARED_FILE.rawValue
        } else if m.inode == 0 || m.name.hasPrefix("/dev/zero") || (isDeleted && openDeleted(m) == nil) {
            v.kind = CKPT_VMA_ANONYMOUS.rawValue
            if m.name == "[heap]" { v.flags |= CKPT_VMA_HEAP.rawValue }
            if m.name == "[stack]" { v.flags |= CKPT_VMA_STACK.rawValue }
            return v
        } else {
            v.kind = CKPT_VMA_FILE.rawValue
        }
        v.object_offset = m.offset
        if !tree.parts.isEmpty && openDeleted(m) == nil && !isMapped(m, at: m.name) {
            refusals.add(pid: p.pid, "mapping \(hex(m.start))-\(hex(m.end)): \(m.name): it can't be reached by this path in the mnt namespace that it was mapped in", "unmap it, or uncover the file")
            return nil
        }
        guard let object = openDeleted(m) ?? objectByPath(CKPT_OBJECT_REGULAR, m.name, device: m.device, inode: m.inode, mapped: true, at: m, pid: p.pid, fd: nil) else { return nil }
        v.object = object
        tables.objects[Int(object)].flags |= CKPT_OBJECT_MAPPED.rawValue
        return v
    }

    private func vmaFlags(_ m: ProcMapping) -> UInt32 {
        let bits: [(StaticString, ckpt_vma_flags)] = [
            ("gd", CKPT_VMA_GROWSDOWN), ("nr", CKPT_VMA_NORESERVE), ("lo", CKPT_VMA_LOCKED), ("lf", CKPT_VMA_LOCKONFAULT), ("dc", CKPT_VMA_DONTFORK), ("wf", CKPT_VMA_WIPEONFORK),
            ("dd", CKPT_VMA_DONTDUMP), ("hg", CKPT_VMA_HUGEPAGE), ("nh", CKPT_VMA_NOHUGEPAGE), ("mg", CKPT_VMA_MERGEABLE), ("sr", CKPT_VMA_SEQUENTIAL), ("rr", CKPT_VMA_RANDOM),
            ("sl", CKPT_VMA_SEALED), ("dp", CKPT_VMA_DROPPABLE)]
        var flags = bits.reduce(UInt32(0)) { m.flags.contains($1.0) ? $0 | $1.1.rawValue : $0 }
        if m.isShared && m.flags.contains("mw") { flags |= CKPT_VMA_MAYWRITE.rawValue }
        return flags
    }

    private func refuse(_ m: ProcMapping, _ p: ObservedProcess) -> Bool {
        func no(_ what: String, _ remedy: String) -> Bool { refusals.add(pid: p.pid, "mapping \(hex(m.start))-\(hex(m.end)): \(what)", remedy); return true }
        if m.flags.contains("um") || (m.flags.contains("uw") && !m.isTracked) { return no("registered with a userfaultfd", "unregister it before the checkpoint; of a job of ckrun --track only that ckrun takes checkpoints") }
        if m.flags.contains("ht") && m.isShared && m.flags.contains("nr") { return no("shared huge pages without a reservation (MAP_NORESERVE)", "map them without MAP_NORESERVE") }
        if m.flags.contains("ss") { return no("a shadow stack", "start it without GLIBC_TUNABLES=glibc.cpu.x86_shstk") }
        if m.flags.contains("sl") && m.protection & 1 == 0 && m.anonymousBytes > 0 { return no("sealed by mseal while it can't be read, with contents", "seal it readable") }
        if let policy = p.policies[m.start], policy.error != 0 { return no("a memory policy that can't be read, or names a node beyond 63", "use nodes 0 to 63") }
        if m.isSegment && m.flags.contains("ht") { return no("System V shared memory on huge pages (SHM_HUGETLB)", "use a memfd with MFD_HUGETLB") }
        if m.name.hasPrefix("socket:[") { return no("a mapping of a socket (TCP_ZEROCOPY_RECEIVE)", "unmap it before the checkpoint") }
        if m.isSecret { return no(SystemContent.secret.0, SystemContent.secret.1) }
        if m.name.hasPrefix("anon_inode:") { return no(m.name, "close it before the checkpoint") }
        if (m.flags.contains("io") || m.flags.contains("pf")) && !m.name.hasPrefix("[") { return no("device memory \(m.name)", "unmap it before the checkpoint") }
        return false
    }

    /// A file without a name that only mappings hold, one of them shared: its pages come from there.  (One that is open too is complete already.)
    func addSharedDeletedFiles(_ tree: ObservedTree, _ segment: Segment) {
        for p in tree.live {
            for m in p.mappings where m.isShared && m.name.hasSuffix(" (deleted)") && !m.name.hasPrefix("/dev/zero") && !m.isAnonymousHuge && !m.name.hasPrefix("/SYSV") && m.inode != segment.identity.inode {
                let key = ObjectKey(kind: CKPT_OBJECT_DELETED.rawValue, device: m.device, inode: m.inode, path: "")
                if let index = known(key) {
                    if tables.objects[Int(index)].content == 0 { tables.objects[Int(index)].size = max(tables.objects[Int(index)].size, m.offset + m.size) }
                    continue
                }
                let place = place(of: m, p)
                if within(place, { stillNamed(m, p) }) != nil { continue }
                let isMemory = m.name.hasPrefix("/memfd:")
                if m.flags.contains("ht") && !isMemory { refusals.add(pid: p.pid, "mapping \(hex(m.start))-\(hex(m.end)): \(m.name): a file of hugetlbfs without a name", "keep its name, or use a memfd with MFD_HUGETLB"); continue }
                var o = ckpt_object_record()
                if m.flags.contains("ht") { o.page_shift = UInt32(m.kernelPageSize.trailingZeroBitCount) }
                o.kind = (isMemory ? CKPT_OBJECT_MEMFD : CKPT_OBJECT_DELETED).rawValue
                o.device = m.device; o.inode = m.inode; o.size = m.offset + m.size; o.mode = FileType.regular | 0o600; o.flags = CKPT_OBJECT_MAPPED.rawValue
                let path = String(m.name.dropLast(" (deleted)".count))
                o.path = tables.text(isMemory ? String(path.dropFirst(7)) : path)
                within(isMemory ? 0 : place) { _ = append(o, key) }
            }
        }
    }

    /// A file that lost the name it was mapped by and has another: no memory of its own.
    func stillNamed(_ m: ProcMapping, _ p: ObservedProcess) -> UInt32? {
        if m.name.hasPrefix("/dev/zero") || m.name.hasPrefix("/memfd:") || m.name.hasPrefix("/SYSV") || openDeleted(m) != nil { return nil }
        guard let other = otherName(of: String(m.name.dropLast(deletedMark.count)), inode: m.inode, device: nil) else { return nil }
        return objectByPath(CKPT_OBJECT_REGULAR, other, device: m.device, inode: m.inode, mapped: true, at: m, pid: p.pid, fd: nil)
    }

    /// A deleted file that is also open: its contents are in the statefile already.
    fileprivate func isHeldByMappingsOnly(_ object: UInt32) -> Bool {
        let o = tables.objects[Int(object)]
        return (o.kind == CKPT_OBJECT_DELETED.rawValue || o.kind == CKPT_OBJECT_MEMFD.rawValue) && o.flags & CKPT_OBJECT_OPENED.rawValue == 0
    }
    private func openDeleted(_ m: ProcMapping) -> UInt32? {
        known(ObjectKey(kind: CKPT_OBJECT_DELETED.rawValue, device: m.device, inode: m.inode, path: ""))
    }

    /// Memory that processes share and that has no name: anonymous, or a file that only mappings hold.
    private func sharedObject(_ m: ProcMapping) -> UInt32 {
        let key = ObjectKey(kind: CKPT_OBJECT_SHMEM.rawValue, device: m.device, inode: m.inode, path: "")
        let end = m.offset + m.size
        if let index = known(key) {
            tables.objects[Int(index)].size = max(tables.objects[Int(index)].size, end)
            return index
        }
        var o = ckpt_object_record()
        if m.flags.contains("ht") { o.page_shift = UInt32(m.kernelPageSize.trailingZeroBitCount) }
        o.kind = CKPT_OBJECT_SHMEM.rawValue; o.device = m.device; o.inode = m.inode; o.size = end; o.flags = CKPT_OBJECT_MAPPED.rawValue
        if m.isAnonymousHuge { o.path = tables.text("anon_hugepage") }
        return append(o, key)
    }
}

extension ProcMapping {
    /// memfd_secret(2): locked in memory, and never dumped.
    var isSecret: Bool { name == "/secretmem (deleted)" && flags.contains("lo") && flags.contains("dd") }
}

extension MemoryPlan {
    /// What of a mapping its process must write; gives the record its place in the statefile.
    fileprivate func range(_ m: ProcMapping, _ v: inout ckpt_vma_record, _ content: SystemContent, _ draft: Draft, _ p: ObservedProcess, hasSwap: Bool) -> ckpt_range? {
        var r = ckpt_range(start: m.start, end: m.end, file_offset: 0, kind: CKPT_RANGE_ANONYMOUS.rawValue, object: m.protection & 1 == 0 ? 1 + m.protection : 0, object_offset: 0, copy: 0)
        switch ckpt_vma_kind(rawValue: v.kind) {
        case CKPT_VMA_ANONYMOUS:
            if m.flags.contains("wf") { r.kind = CKPT_RANGE_WIPEONFORK.rawValue } else if m.flags.contains("dc") { r.kind = CKPT_RANGE_DONTFORK.rawValue }
            if m.flags.contains("ht") { if m.hugeBytes == 0 { return nil } }
            else if m.inode != 0 && !m.name.hasPrefix("/dev/zero") { r.kind = CKPT_RANGE_WHOLE.rawValue }
            else if m.anonymousBytes == 0 { return nil }
        case CKPT_VMA_FILE:
            if m.anonymousBytes == 0 && m.hugeBytes == 0 { return nil }
            r.kind = m.flags.contains("dc") ? CKPT_RANGE_DONTFORK.rawValue : CKPT_RANGE_FILE.rawValue
        case CKPT_VMA_VDSO:
            r.kind = CKPT_RANGE_WHOLE.rawValue
        case CKPT_VMA_SHARED_ANONYMOUS where m.isSegment:
            return segmentRange(m, &v, r, content, draft, p, hasSwap: hasSwap)
        case CKPT_VMA_SHARED_ANONYMOUS:
            return sharedRange(m, &v, r, draft, hasSwap: hasSwap)
        case CKPT_VMA_SHARED_FILE where content.isHeldByMappingsOnly(v.object):
            return sharedRange(m, &v, r, draft, hasSwap: hasSwap)
        case CKPT_VMA_SHARED_FILE, CKPT_VMA_RING, CKPT_VMA_AIO:
            // Nothing of it is stored; the snapshot only lets go of it.
            r.kind = CKPT_RANGE_SHARED.rawValue
            return r
        default: return nil
        }
        r.file_offset = draft.claimPages(m.size)
        v.data_offset = r.file_offset
        return r
    }

    /// Each part of a shared object is written once, by the first process that maps it.
    private func sharedRange(_ m: ProcMapping, _ v: inout ckpt_vma_record, _ range: ckpt_range, _ draft: Draft, hasSwap: Bool) -> ckpt_range {
        var r = range
        r.kind = CKPT_RANGE_SHARED.rawValue; r.object = v.object; r.object_offset = m.offset; // mincore(2) of huge pages knows what this process has touched, not what is there.
        r.copy = hasSwap || m.flags.contains("ht") ? 1 : 0
        let part = (m.offset, m.offset + m.size)
        if dumpedParts[v.object]?.contains(where: { $0.0 <= part.0 && $0.1 >= part.1 }) ?? false { return r }
        guard m.protection & 1 != 0 else { return r }
        dumpedParts[v.object, default: []].append(part)
        r.file_offset = draft.claimPages(m.size)
        v.data_offset = r.file_offset
        return r
    }
}
