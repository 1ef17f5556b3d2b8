// Runs in a leader during the MEMORY phase, every signal blocked: memory that was read early (--pre-copy) need not be in the snapshot.
import CkptABI
import PreloadBoot
import Freestanding

private let wipeOnFork: Int32 = 18, keepOnFork: Int32 = 19

/// A clone gets the mapping and none of its pages: page tables are what it costs.  `copy` says afterwards whether it was done.
func leaveEarlyOut(_ list: UnsafeMutablePointer<ckpt_range>, _ count: Int) {
    let path: StaticString = "/proc/self/maps", closeOnExec: Int32 = 0o2000000
    var maps = -1, i = 0
    while i < count {
        if list[i].kind == CKPT_RANGE_EARLY.rawValue {
            list[i].copy = 0
            if maps < 0 { maps = ckpt_open(path.utf8Start, closeOnExec, 0) }
            if maps >= 0 && leaveOut(list[i], maps) { list[i].copy = 1 }
        }
        i += 1
    }
    if maps >= 0 { _ = ckpt_close(Int32(truncatingIfNeeded: maps)) }
}

/// The program may have set the same by itself, which must stay and be seen: its first page then does not become a mapping of its own.
private func leaveOut(_ range: ckpt_range, _ maps: Int) -> Bool {
    let page: UInt64 = 4096
    guard range.end - range.start > page, ckpt_madvise(range.start, page, wipeOnFork) == 0 else { return false }
    var query = ckpt_procmap_query()
    query.size = UInt64(MemoryLayout<ckpt_procmap_query>.size)
    query.address = range.start
    let r = withUnsafeMutablePointer(to: &query) { ckpt_syscall(Int(CKPT_SYS_ioctl), maps, Int(CKPT_PROCMAP_QUERY), Int(bitPattern: $0), 0, 0, 0) }
    guard r == 0 else { _ = ckpt_madvise(range.start, page, keepOnFork); return false }     // before Linux 6.11: nobody can tell
    guard query.end == range.start + page else { return false }
    _ = ckpt_madvise(range.start, range.end - range.start, wipeOnFork)
    return true
}

func takeEarlyBack(_ list: UnsafeMutablePointer<ckpt_range>, _ count: Int) {
    var i = 0
    while i < count {
        if list[i].kind == CKPT_RANGE_EARLY.rawValue && list[i].copy == 1 { _ = ckpt_madvise(list[i].start, list[i].end - list[i].start, keepOnFork) }
        i += 1
    }
}
