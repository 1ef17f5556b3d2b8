// Runs in the snapshot, or in a leader that writes in place; every signal blocked, on the writer's stack.  Raw system calls, static buffers.
// A delta: a page that the base has at the same place is compared with it byte by byte.  Equal ones stay there; a checksum would be no proof.
// Pages that are sent the initiator compares: here only what has not been written is kept back.
import CkptABI
import PreloadBoot
import Freestanding

extension PageWriter {
    private var knownCount: Int { Int(isShared ? process.pointee.shared_known_count : process.pointee.known_count) }
    private var known: UnsafeMutablePointer<ckpt_run> {
        ckpt_arena(session, isShared ? process.pointee.shared_known_offset : process.pointee.known_offset).assumingMemoryBound(to: ckpt_run.self)
    }
    var isDelta: Bool { knownCount != 0 && (isStream || ckpt_base_count().pointee != 0) }

    /// What differs is written; what does not is noted as lying in the base.
    mutating func writeDifferences(_ range: ckpt_range, base: UInt64, from: UInt64, to: UInt64, flags: UInt32) throws(WriteError) {
        var at = from, differing = from
        while at < to {
            let here = place(range, base, at), i = firstKnown(endingAbove: here, object: isShared ? range.object : 0)
            guard i < knownCount, known[i].object == (isShared ? range.object : 0), known[i].address < here + (to - at) else { break }
            let run = known[i]
            if run.address > here { at += run.address - here; continue }
            let end = min(to, at + (run.address + UInt64(run.pages) * 4096 - here))
            if isAsKnown(run, at, end) { try keepWhole(run, range, base, flags, from: at, &differing) } else if !isStream { try compare(range, base, from: at, to: end, with: run, flags: flags, &differing) }
            at = end
        }
        if differing < to { try storeRun(range, base: base, from: differing, to: to, flags: flags) }
    }

    /// A whole run that the kernel has seen no write to, and whose pages have its checksum.
    private func isAsKnown(_ run: ckpt_run, _ from: UInt64, _ to: UInt64) -> Bool {
        run.flags & CKPT_RUN_UNWRITTEN.rawValue != 0 && to - from == UInt64(run.pages) * 4096
            && ckpt_crc32c_hw(0, UnsafeRawPointer(bitPattern: UInt(from))!, Int(to - from)) == run.crc
    }
    private mutating func keepWhole(_ run: ckpt_run, _ range: ckpt_range, _ base: UInt64, _ flags: UInt32, from: UInt64, _ differing: inout UInt64) throws(WriteError) {
        var kept = run
        kept.flags = flags | run.flags & ~CKPT_RUN_UNWRITTEN.rawValue
        kept.object = isShared ? range.object : 0
        try keep(kept, range, base, flags, from: from, &differing)
        _ = ckpt_add64(&process.pointee.pages_unread, UInt64(run.pages))
    }

    /// `differing`: where the stretch begins that is to be written.
    private mutating func compare(_ range: ckpt_range, _ base: UInt64, from: UInt64, to: UInt64, with run: ckpt_run, flags: UInt32, _ differing: inout UInt64) throws(WriteError) {
        let file = ckpt_base_file(ckpt_run_base(run) - 1).pointee, buffer = ckpt_base_buffer(space)
        let origin = run.file_offset + (place(range, base, from) - run.address)
        var at = from
        // From `equal` on all is as in the base.
        var equal = from, kept = ckpt_run()
        kept.flags = flags | ckpt_run_base(run) << UInt32(CKPT_RUN_BASE_SHIFT); kept.object = isShared ? range.object : 0
        while at < to {
            let count = min(to - at, UInt64(CKPT_BASE_BUFFER))
            let readable = read(file, buffer, Int(count), at: origin + (at - from))
            var page: UInt64 = 0
            while page < count {
                if readable && isEqual(at + page, buffer + Int(page)) {
                    kept.crc = ckpt_crc32c_hw(kept.crc, buffer + Int(page), 4096)
                    kept.pages += 1
                } else {
                    if kept.pages > 0 {
                        kept.address = place(range, base, equal); kept.file_offset = origin + (equal - from)
                        try keep(kept, range, base, flags, from: equal, &differing)
                    }
                    equal = at + page + 4096; kept.crc = 0; kept.pages = 0
                }
                page += 4096
            }
            at += count
        }
        if kept.pages > 0 {
            kept.address = place(range, base, equal); kept.file_offset = origin + (equal - from)
            try keep(kept, range, base, flags, from: equal, &differing)
        }
    }

    /// What is to be written before it comes first.
    private mutating func keep(_ run: ckpt_run, _ range: ckpt_range, _ base: UInt64, _ flags: UInt32, from equal: UInt64, _ differing: inout UInt64) throws(WriteError) {
        if differing < equal { try storeRun(range, base: base, from: differing, to: equal, flags: flags) }
        if isStream { try send(run, from: 0, count: 0) } else { try note(run) }
        _ = ckpt_add64(&process.pointee.pages_kept, UInt64(run.pages))
        differing = equal + UInt64(run.pages) * 4096
    }

    /// A base that cannot be read proves nothing: the pages are written.
    private func read(_ file: Int32, _ buffer: UnsafeMutablePointer<UInt8>, _ count: Int, at offset: UInt64) -> Bool {
        var done = 0
        while done < count {
            let got = ckpt_pread(file, buffer + done, count - done, offset + UInt64(done))
            if got == -4 { continue }
            if got <= 0 { return false }
            done += got
        }
        return true
    }

    private func isEqual(_ page: UInt64, _ other: UnsafeMutablePointer<UInt8>) -> Bool {
        let a = UnsafePointer<UInt64>(bitPattern: UInt(page))!, b = UnsafeRawPointer(other).assumingMemoryBound(to: UInt64.self)
        var i = 0
        while i < 512 {
            if (a[i] ^ b[i]) | (a[i + 1] ^ b[i + 1]) | (a[i + 2] ^ b[i + 2]) | (a[i + 3] ^ b[i + 3])
                | (a[i + 4] ^ b[i + 4]) | (a[i + 5] ^ b[i + 5]) | (a[i + 6] ^ b[i + 6]) | (a[i + 7] ^ b[i + 7]) != 0 { return false }
            i += 8
        }
        return true
    }

    private func firstKnown(endingAbove place: UInt64, object: UInt32) -> Int {
        var low = 0, high = knownCount
        while low < high {
            let middle = (low + high) / 2, run = known[middle]
            if run.object < object || (run.object == object && run.address + UInt64(run.pages) * 4096 <= place) { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
