// Runs in the snapshot, or in a leader that writes in place; every signal blocked, on the writer's stack.  Raw system calls, static buffers.
// Walks the ranges that the initiator listed, finds the pages that hold something (PAGEMAP_SCAN, or /proc/PID/pagemap before Linux 6.7),
// writes them straight to their place in the statefile and notes them as runs.
import CkptABI
import PreloadBoot
import Freestanding

struct WriteError: Error {
    var code: ckpt_error
    var errno: Errno
    var detail: UInt64
}

struct PageWriter {
    let session: UnsafeMutablePointer<ckpt_session>
    let process: UnsafeMutablePointer<ckpt_process>
    let space: UnsafeMutablePointer<ckpt_workspace>
    private let statefile: Descriptor, pagemap: Descriptor
    let isShared: Bool
    private let isSnapshot: Bool
    let isStream: Bool
    private var canScan = true, knowsGuards = true
    private(set) var chunkOffset: UInt64 = 0        // where the chunk being filled goes
    private(set) var firstChunk: UInt64 = 0
    private(set) var runs = 0                       // in the chunk being filled
    private var window: Window?
    private let fileLimit: UInt64                   // RLIMIT_FSIZE: whoever writes beyond it gets a signal, and in place that is the application

    /// `window`: where there is room for one, or 0.
    init(_ crew: UnsafeMutablePointer<ckpt_crew>, _ space: UnsafeMutablePointer<ckpt_workspace>, window: UInt64) {
        self.window = window != 0 ? Window(at: window) : nil
        session = crew.pointee.session; process = crew.pointee.process
        self.space = space
        fileLimit = limitOfFiles()
        statefile = Descriptor(crew.pointee.statefile); pagemap = Descriptor(crew.pointee.pagemap)
        isShared = crew.pointee.is_shared != 0; isSnapshot = crew.pointee.is_snapshot != 0; isStream = crew.pointee.is_stream != 0
    }
    /// Goes on with the chain that another writer has begun.
    init(_ crew: UnsafeMutablePointer<ckpt_crew>, continuing writer: UnsafeMutablePointer<ckpt_writer>) {
        self.init(crew, ckpt_writer_workspace(writer), window: 0)
        firstChunk = writer.pointee.first_chunk; chunkOffset = writer.pointee.chunk_offset; runs = Int(writer.pointee.runs)
    }

    /// Writes the pieces that nobody else has taken; the last chunk of the chain stays in the workspace.
    mutating func write(_ crew: UnsafeMutablePointer<ckpt_crew>) throws(WriteError) {
        let list = crew.pointee.ranges, count = Int(crew.pointee.range_count)
        var i = 0, before: UInt64 = 0
        while ckpt_load(&crew.pointee.failed) == 0 && !isAbandoned(session, crew.pointee.generation) {
            let piece = ckpt_add64(&crew.pointee.next, 1)
            while i < count {
                let here = isWanted(list[i], shared: isShared) ? pieces(of: list[i]) : 0
                if piece < before + here { break }
                before += here
                i += 1
            }
            if i == count { return }
            let mine = part(of: list[i], piece - before)
            if isSnapshot && overlapsOthers(crew, mine) { continue }
            try writeRange(mine)
            if isSnapshot { letGo(mine) }
        }
    }

    /// What a snapshot still has at its end keeps the checkpoint waiting until it is taken apart; here others hold the file's lock meanwhile.
    /// What it needs itself is small, or this library's.
    private func letGo(_ piece: ckpt_range) {
        guard piece.kind == CKPT_RANGE_ANONYMOUS.rawValue, piece.copy == 0, piece.end - piece.start >= 2 << 20,
              piece.end <= ckpt_library_start() || piece.start >= ckpt_library_end() else { return }
        let dontNeed: Int32 = 4
        _ = ckpt_madvise(piece.start, piece.end - piece.start, dontNeed)
    }

    /// What is not as expected is found when the snapshot is proven, and all begins again; until then nobody may lose their stack.
    private func overlapsOthers(_ crew: UnsafeMutablePointer<ckpt_crew>, _ piece: ckpt_range) -> Bool {
        let isReadThere = piece.copy == 0 && (piece.kind == CKPT_RANGE_ANONYMOUS.rawValue || piece.kind == CKPT_RANGE_FILE.rawValue)
        return isReadThere && piece.start < crew.pointee.others_end && crew.pointee.others < piece.end
    }

    /// `object` of a private range: 1 + its protection when it can't be read as it is.
    private mutating func writeRange(_ range: ckpt_range) throws(WriteError) {
        let isCopy = range.copy != 0 && !isSharedKind(range.kind)
        let isHidden = !isSharedKind(range.kind) && range.object != 0
        if isHidden && ckpt_mprotect(range.start, range.end - range.start, Mapping.read) != 0 { return }
        defer { if isHidden { _ = ckpt_mprotect(range.start, range.end - range.start, Int32(range.object - 1)) } }
        if range.kind == CKPT_RANGE_SEGMENT.rawValue && range.start == 0 {
            try writeUnattached(range)
        } else if isSharedKind(range.kind) {
            try writeResident(range)
        } else if isCopy {
            try writePages(range, from: range.copy, to: range.copy + (range.end - range.start), flags: 0)
        } else if range.kind == CKPT_RANGE_WHOLE.rawValue {
            try writeWhole(range)
        } else {
            try scan(range)
        }
    }

    /// Pages behind the end of a mapped file raise SIGBUS when they are touched; process_vm_readv(2) of oneself fails instead.
    private mutating func writeWhole(_ range: ckpt_range) throws(WriteError) {
        let bounce = UInt64(UInt(bitPattern: ckpt_resident_buffer(space))), step: UInt64 = 65536, pid = Int(ckpt_getpid())
        var at = range.start
        while at < range.end {
            let length = min(step, range.end - at)
            var local = ckpt_iovec(base: bounce, length: length), remote = ckpt_iovec(base: at, length: length)
            let got = withUnsafeMutablePointer(to: &local) { local in
                withUnsafeMutablePointer(to: &remote) { remote in
                    ckpt_syscall(CKPT_SYS_process_vm_readv, pid, Int(bitPattern: local), 1, Int(bitPattern: remote), 1, 0)
                }
            }
            let usable = got < 4096 ? 0 : UInt64(got) & ~4095
            if usable == 0 { at += 4096; continue }
            var part = range
            part.kind = CKPT_RANGE_FILE.rawValue        // zeros count
            part.start = at; part.end = at + usable; part.copy = bounce
            part.file_offset = range.file_offset + (at - range.start)
            try writePages(part, from: bounce, to: bounce + usable, flags: 0)
            at += usable
        }
    }

    /// Pages of this process's page table that are present or swapped and no longer the file's.
    private mutating func scan(_ range: ckpt_range) throws(WriteError) {
        var at = range.start
        while at < range.end && canScan {
            var argument = ckpt_pm_scan_arg()
            argument.size = UInt64(MemoryLayout<ckpt_pm_scan_arg>.size)
            argument.start = at; argument.end = range.end
            argument.vec = UInt64(UInt(bitPattern: ckpt_region_buffer(space))); argument.vec_len = UInt64(CKPT_REGIONS)
            // Guards (MADV_GUARD_INSTALL) count as swapped; Linux 6.13 and 6.14 have them and don't tell them apart.
            let unwanted = UInt64(CKPT_PAGE_IS_FILE) | (knowsGuards ? UInt64(CKPT_PAGE_IS_GUARD) : 0)
            argument.category_mask = unwanted; argument.category_inverted = unwanted
            argument.category_anyof_mask = UInt64(CKPT_PAGE_IS_PRESENT | CKPT_PAGE_IS_SWAPPED)
            argument.return_mask = UInt64(CKPT_PAGE_IS_HUGE | CKPT_PAGE_IS_SWAPPED)
            let got = withUnsafeMutablePointer(to: &argument) {
                ckpt_syscall(Int(CKPT_SYS_ioctl), Int(pagemap.value), Int(CKPT_PAGEMAP_SCAN), Int(bitPattern: $0), 0, 0, 0)
            }
            if got == -22 && knowsGuards { knowsGuards = false; continue }
            if got == -25 || got == -22 { canScan = false; break }      // ENOTTY, EINVAL: a kernel without it
            if got < 0 { throw WriteError(code: CKPT_ERROR_PAGEMAP, errno: Errno(Int32(truncatingIfNeeded: -got)), detail: at) }
            var i = 0
            while i < got {
                let region = ckpt_region_buffer(space)[i]
                if !knowsGuards && region.categories & UInt64(CKPT_PAGE_IS_SWAPPED) != 0 { try requireReadable(region.start, region.end) }
                try writePages(range, from: region.start, to: region.end, flags: region.categories & UInt64(CKPT_PAGE_IS_HUGE) != 0 ? CKPT_RUN_HUGE.rawValue : 0)
                i += 1
            }
            at = argument.walk_end
        }
        if at < range.end { try scanPagemap(range, from: at) }
    }

    /// Touching a guard would end the writer.
    private func requireReadable(_ start: UInt64, _ end: UInt64) throws(WriteError) {
        var at = start, byte: UInt8 = 0
        while at < end {
            var local = ckpt_iovec(base: UInt64(UInt(bitPattern: withUnsafeMutablePointer(to: &byte) { $0 })), length: 1), remote = ckpt_iovec(base: at, length: 1)
            let got = withUnsafeMutablePointer(to: &local) { local in
                withUnsafeMutablePointer(to: &remote) { remote in
                    ckpt_syscall(CKPT_SYS_process_vm_readv, Int(ckpt_getpid()), Int(bitPattern: local), 1, Int(bitPattern: remote), 1, 0)
                }
            }
            if got != 1 { throw WriteError(code: CKPT_ERROR_PAGEMAP, errno: Errno(14), detail: at) }
            at += 4096
        }
    }

    /// pagemap(5): bit 63 present, 62 swapped, 61 file or shared anonymous, 58 a guard.
    private mutating func scanPagemap(_ range: ckpt_range, from: UInt64) throws(WriteError) {
        let entries = ckpt_pagemap_buffer(space)
        var at = from
        while at < range.end {
            let pages = min((range.end - at) / 4096, UInt64(CKPT_REGIONS))
            let got = ckpt_pread(pagemap.value, entries, Int(pages * 8), at / 4096 * 8)
            guard got == Int(pages * 8) else { throw WriteError(code: CKPT_ERROR_PAGEMAP, errno: Errno(got < 0 ? Int32(truncatingIfNeeded: -got) : 5), detail: at) }
            var i: UInt64 = 0
            while i < pages {
                func wanted(_ e: UInt64) -> Bool { e >> 62 != 0 && e & (1 << 61 | 1 << 58) == 0 }
                if !wanted(entries[Int(i)]) { i += 1; continue }
                var j = i + 1
                while j < pages && wanted(entries[Int(j)]) { j += 1 }
                try writePages(range, from: at + i * 4096, to: at + j * 4096, flags: 0)
                i = j
            }
            at += pages * 4096
        }
    }

    /// Shared memory: other processes' pages need not be in this one's page table.  mincore(2) knows all that is in memory; `copy` says
    /// that there is swap, where mincore would miss some: then every page is read.
    private mutating func writeResident(_ range: ckpt_range) throws(WriteError) {
        let resident = ckpt_resident_buffer(space)
        var at = range.start
        while at < range.end {
            let pages = min((range.end - at) / 4096, 65536)
            let known = range.copy & 1 == 0
                && ckpt_syscall(Int(CKPT_SYS_mincore), Int(at), Int(pages * 4096), Int(bitPattern: resident), 0, 0, 0) == 0
            var i: UInt64 = 0
            while i < pages {
                if known && resident[Int(i)] & 1 == 0 { i += 1; continue }
                var j = i + 1
                while j < pages && (!known || resident[Int(j)] & 1 != 0) { j += 1 }
                try writePages(range, from: at + i * 4096, to: at + j * 4096, flags: 0)
                i = j
            }
            at += pages * 4096
        }
    }

    /// A System V segment that the tree has, and has attached nowhere.
    private mutating func writeUnattached(_ range: ckpt_range) throws(WriteError) {
        var part = range
        do throws(Errno) { part.start = try attachSegment(range) } catch { throw WriteError(code: CKPT_ERROR_SEGMENT, errno: error, detail: range.copy >> 32) }
        defer { detachSegment(part.start) }
        part.end = part.start + range.end
        try writeResident(part)
    }

    /// Splits a stretch of pages into runs; zero pages of anonymous memory stay holes.
    private mutating func writePages(_ range: ckpt_range, from: UInt64, to: UInt64, flags: UInt32) throws(WriteError) {
        let base = range.copy != 0 && !isSharedKind(range.kind) ? range.copy : range.start
        let keepsZeros = range.kind == CKPT_RANGE_FILE.rawValue
        var at = from
        while at < to {
            if isScratch(range.start + (at - base)) || (!keepsZeros && isZero(at)) { at += 4096; continue }
            var end = at + 4096
            while end < to && !isScratch(range.start + (end - base)) && !endsRun(range.start + (end - base)) && (keepsZeros || !isZero(end)) { end += 4096 }
            try writeRun(range, base: base, from: at, to: end, flags: flags)
            at = end
        }
    }

    /// Runs end at multiples of their greatest size, so that none reaches over the border of a huge page.
    private func endsRun(_ address: UInt64) -> Bool { address & (UInt64(CKPT_RUN_PAGES) * 4096 - 1) == 0 }

    /// The writer's own memory changes under its checksum.
    private func isScratch(_ page: UInt64) -> Bool { page >= ckpt_scratch_start() && page < ckpt_scratch_end() }

    private func isZero(_ page: UInt64) -> Bool { ckpt_page_is_zero(UnsafeRawPointer(bitPattern: UInt(page))!) }

    private mutating func writeRun(_ range: ckpt_range, base: UInt64, from: UInt64, to: UInt64, flags: UInt32) throws(WriteError) {
        if isDelta { try writeDifferences(range, base: base, from: from, to: to, flags: flags) }
        else { try storeRun(range, base: base, from: from, to: to, flags: flags) }
    }

    mutating func storeRun(_ range: ckpt_range, base: UInt64, from: UInt64, to: UInt64, flags: UInt32) throws(WriteError) {
        var run = ckpt_run()
        run.address = place(range, base, from); run.pages = UInt16((to - from) / 4096); run.flags = flags; run.object = isShared ? range.object : 0
        if isStream { try send(run, from: from, count: Int(to - from)) } else {
            run.file_offset = range.file_offset + (from - base)
            run.crc = try putSteady(from, Int(to - from), at: run.file_offset)
            try note(run)
        }
        _ = ckpt_add64(&process.pointee.pages_written, (to - from) / 4096)
        _ = ckpt_add64(&process.pointee.bytes_done, to - from)
    }
    /// Where a page belongs: its address, or in the shared chain its offset in the object.
    func place(_ range: ckpt_range, _ base: UInt64, _ page: UInt64) -> UInt64 { (isShared ? range.object_offset : range.start) + (page - base) }

    mutating func note(_ entry: ckpt_run) throws(WriteError) {
        if runs == Int(CKPT_CHUNK_RUNS) || chunkOffset == 0 {
            let next = ckpt_add64(&session.pointee.file_tail, UInt64(CKPT_CHUNK_SIZE))
            if chunkOffset == 0 { firstChunk = next } else { try flushChunk(next: next) }
            chunkOffset = next; runs = 0
        }
        UnsafeMutableRawPointer(ckpt_chunk_buffer(space) + 32 + runs * 32).assumingMemoryBound(to: ckpt_run.self).pointee = entry
        runs += 1
    }

    /// The initiator gives it a place and a checksum, and keeps the chain.
    func send(_ run: ckpt_run, from: UInt64, count: Int) throws(WriteError) {
        do throws(Errno) {
            try sendPages(to: statefile, run, process: ckpt_process_index(session, process), shared: isShared, from: from, count: count)
        } catch { throw WriteError(code: CKPT_ERROR_WRITE, errno: error, detail: run.address) }
    }

    /// Even parked tasks change memory: the kernel writes a task's CPU into its rseq area, and whoever waits wakes now and then.
    /// What is written is a copy, then, and its checksum.  In a snapshot only its own rseq area changes.
    private mutating func putSteady(_ from: UInt64, _ count: Int, at offset: UInt64) throws(WriteError) -> UInt32 {
        let pages = UnsafeRawPointer(bitPattern: UInt(from))!
        if isSnapshot && !holdsRseq(from, UInt64(count)) { return try putOnce(pages, count, at: offset) }
        let copy = UnsafeMutableRawPointer(ckpt_steady_buffer(space)), step = Int(CKPT_STEADY_BUFFER)
        var crc: UInt32 = 0, done = 0
        while done < count {
            let n = min(step, count - done)
            copy.copyMemory(from: pages + done, byteCount: n)
            crc = ckpt_crc32c_hw(crc, copy, n)
            try put(UInt64(UInt(bitPattern: copy)), n, at: offset + UInt64(done))
            done += n
        }
        return crc
    }

    /// In steps that stay in a core's cache between the checksum and the copy: the copy, for which the file is locked, is then the shorter.
    private mutating func putOnce(_ pages: UnsafeRawPointer, _ count: Int, at offset: UInt64) throws(WriteError) -> UInt32 {
        let step = 256 << 10
        var crc: UInt32 = 0, done = 0
        while done < count {
            let n = min(step, count - done)
            crc = ckpt_crc32c_hw(crc, pages + done, n)
            try putBesideOthers(pages + done, n, at: offset + UInt64(done), run: offset, count)
            done += n
        }
        return crc
    }

    /// `run`, `whole`: what it is a part of.  A writer that is killed while the file counts as taken leaves the others their windows.
    private mutating func putBesideOthers(_ pages: UnsafeRawPointer, _ count: Int, at offset: UInt64, run: UInt64, _ whole: Int) throws(WriteError) {
        if window != nil, !ckpt_cas(&session.pointee.file_use, CKPT_FILE_FREE.rawValue, CKPT_FILE_TAKEN.rawValue) {
            if window!.open(statefile, at: run, whole), window!.copy(pages, count, at: offset) { return }
            return try put(UInt64(UInt(bitPattern: pages)), count, at: offset)
        }
        defer { if window != nil { ckpt_store(&session.pointee.file_use, CKPT_FILE_FREE.rawValue) } }
        try put(UInt64(UInt(bitPattern: pages)), count, at: offset)
    }

    private func holdsRseq(_ from: UInt64, _ count: UInt64) -> Bool {
        let slot = ckpt_task_slot(session, process.pointee.leader_task)
        return slot.pointee.rseq_address != 0 && slot.pointee.rseq_address &+ UInt64(slot.pointee.rseq_length) > from && slot.pointee.rseq_address < from + count
    }

    func flushChunk(next: UInt64) throws(WriteError) {
        let buffer = ckpt_chunk_buffer(space)
        let header = UnsafeMutableRawPointer(buffer).assumingMemoryBound(to: ckpt_chunk.self)
        let bytes = runs * MemoryLayout<ckpt_run>.size
        header.pointee = ckpt_chunk(magic: UInt32(CKPT_CHUNK_MAGIC), count: UInt32(runs), next: next, crc: ckpt_crc32c_hw(0, buffer + 32, bytes), pad: 0, pad2: 0)
        // Whole pages, also of memory: direct writes want it.
        try put(UInt64(UInt(bitPattern: buffer)), (32 + bytes + 4095) & ~4095, at: chunkOffset)
    }

    private func put(_ from: UInt64, _ count: Int, at: UInt64) throws(WriteError) {
        if at &+ UInt64(count) > fileLimit { return try putMapped(statefile, from, count, at: at) }
        var done = 0
        while done < count {
            let got = ckpt_pwrite(statefile.value, UnsafeRawPointer(bitPattern: UInt(from) + UInt(done))!, count - done, at + UInt64(done))
            if got == -4 { continue }
            if got <= 0 { throw WriteError(code: CKPT_ERROR_WRITE, errno: Errno(got < 0 ? Int32(truncatingIfNeeded: -got) : 28), detail: at) }
            done += got
        }
    }

    /// RLIMIT_FSIZE forbids write(2) beyond it, even inside the file; the initiator has made the file long enough, so a mapping reaches there.
    private func putMapped(_ statefile: Descriptor, _ from: UInt64, _ count: Int, at: UInt64) throws(WriteError) {
        let start = at & ~4095, length = UInt64(count) + (at - start)
        let window = ckpt_mmap(0, length, Mapping.read | Mapping.write, Mapping.shared, statefile.value, start)
        if window < 0 && window > -4096 { throw WriteError(code: CKPT_ERROR_WRITE, errno: Errno(Int32(truncatingIfNeeded: -window)), detail: at) }
        defer { _ = ckpt_munmap(UInt64(UInt(bitPattern: window)), length) }
        // Where there is no room a touch would be a SIGBUS.  Linux before 5.14 does not know the advice.
        let populateWrite: Int32 = 23, unknown = -22, noSpace: Int32 = 28, r = ckpt_madvise(UInt64(UInt(bitPattern: window)), length, populateWrite)
        if r != 0 && r != unknown { throw WriteError(code: CKPT_ERROR_WRITE, errno: Errno(noSpace), detail: at) }
        UnsafeMutableRawPointer(bitPattern: UInt(bitPattern: window) + UInt(at - start))!
            .copyMemory(from: UnsafeRawPointer(bitPattern: UInt(from))!, byteCount: count)
    }
}

private func limitOfFiles() -> UInt64 {
    let fileSize = 1, none = UInt64.max
    var limit = ckpt_rlimit(soft: 0, hard: 0)
    let r = withUnsafeMutablePointer(to: &limit) { ckpt_syscall(Int(CKPT_SYS_prlimit64), 0, fileSize, 0, Int(bitPattern: $0), 0, 0) }
    // To the kernel it is a signed number, and below 0 nothing may be written; but for the one that stands for none.
    return r != 0 || limit.soft == none ? none : limit.soft > UInt64(Int64.max) ? 0 : limit.soft
}
