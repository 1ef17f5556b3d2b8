// Runs in the server of a lazy restart, on its own stacks; no allocation, no libc.
// The address spaces that are being loaded: what of each is still to come from where, as the tree moves, drops and copies it meanwhile.
// Whoever puts pages into a space holds the lock shared; events are read and applied with nobody else in it, so that no page comes
// where it has just been dropped.
import CkptABI
import EngineBoot
import Freestanding
import CkptMemory

private let maximumSpaces: UInt64 = 65536, maximumExtents: UInt64 = 1 << 20
typealias Space = UnsafeMutablePointer<engine_space>

var spaces: Table<engine_space> { Table(at: state.pointee.spaces, count: UInt64(ckpt_load(&state.pointee.space_count))) }
private func extents(_ s: Space) -> UnsafeMutablePointer<engine_extent> { UnsafeMutableRawPointer(bitPattern: UInt(s.pointee.extents))!.assumingMemoryBound(to: engine_extent.self) }
func runs(_ s: Space) -> Table<ckpt_run> { Table(at: s.pointee.runs, count: s.pointee.run_count) }
private func isDone(_ s: Space) -> UnsafeMutablePointer<UInt32> { UnsafeMutableRawPointer(bitPattern: UInt(s.pointee.done))!.assumingMemoryBound(to: UInt32.self) }
private func words(_ address: UInt64) -> UnsafeMutablePointer<UInt64> { UnsafeMutableRawPointer(bitPattern: UInt(address))!.assumingMemoryBound(to: UInt64.self) }

/// Address space that costs nothing until it is used.
func reserve(_ size: UInt64) -> UInt64 {
    let r = ckpt_mmap(0, max(pageAlignUp(size), 4096), 3, 0x4022, -1, 0)
    guard !failed(r) else { refuse(r) { $0.put("--lazy: memory for the server") } }
    return UInt64(r)
}

func makeSpaces() { state.pointee.spaces = reserve(maximumSpaces * UInt64(MemoryLayout<engine_space>.stride)) }

private func newSpace(_ fd: Int32) -> Space {
    let n = state.pointee.space_count
    guard UInt64(n) < maximumSpaces else { refuse(.lacks) { $0.put("--lazy: more than 65,536 processes before all memory was loaded") } }
    let s: Space = UnsafeMutableRawPointer(bitPattern: UInt(state.pointee.spaces))!.assumingMemoryBound(to: engine_space.self) + Int(n)
    s.pointee = engine_space()
    s.pointee.fd = fd
    s.pointee.live = 1
    return s
}

/// A process of the tree has given us its userfaultfd.
func addSpace(_ record: Int, _ fd: Int32) {
    let s = newSpace(fd)
    s.pointee.record = UInt32(record)
    s.pointee.extents = reserve(maximumExtents * UInt64(MemoryLayout<engine_extent>.stride))
    forEachLazy(record) { v in insert(s, engine_extent(start: vmas[v].pointee.start, end: vmas[v].pointee.end, source: vmas[v].pointee.start)) }
    collectRuns(s)
    countPages(s)
    s.pointee.done = reserve(s.pointee.run_count * 4)
    s.pointee.was_there = reserve(s.pointee.bit_words * 8)
    lockForEvents()
    ckpt_store(&state.pointee.space_count, state.pointee.space_count + 1)
    unlockAfterEvents()
}

/// The child of a fork: it has what its parent had, and misses what that missed.
private func addChild(of parent: Space, _ fd: Int32) {
    let s = newSpace(fd)
    s.pointee.record = parent.pointee.record
    s.pointee.runs = parent.pointee.runs; s.pointee.run_count = parent.pointee.run_count
    s.pointee.extents = reserve(maximumExtents * UInt64(MemoryLayout<engine_extent>.stride))
    s.pointee.extent_count = parent.pointee.extent_count
    _ = memcpy(extents(s), extents(parent), Int(parent.pointee.extent_count) * MemoryLayout<engine_extent>.stride)
    s.pointee.done = reserve(s.pointee.run_count * 4)
    _ = memcpy(isDone(s), isDone(parent), Int(s.pointee.run_count) * 4)
    s.pointee.bits = parent.pointee.bits; s.pointee.bit_words = parent.pointee.bit_words
    s.pointee.was_there = reserve(s.pointee.bit_words * 8)
    _ = memcpy(words(s.pointee.was_there), words(parent.pointee.was_there), Int(s.pointee.bit_words) * 8)
    ckpt_store(&state.pointee.space_count, state.pointee.space_count + 1)
}

/// The runs of lazy mappings, by address: several writers may have written the chain.
private func collectRuns(_ s: Space) {
    s.pointee.runs = reserve(state.pointee.file_size)
    let all = UnsafeMutableRawPointer(bitPattern: UInt(s.pointee.runs))!.assumingMemoryBound(to: ckpt_run.self)
    var count = 0, sorted = true
    let list = extents(s), extentCount = Int(s.pointee.extent_count)
    forEachRun(from: processes[s.pointee.record].pointee.runs) { run in
        let e = firstExtent(list, extentCount, endingAfter: run.address)
        guard e < extentCount, list[e].start <= run.address, run.address + UInt64(run.pages) * 4096 <= list[e].end else { return }
        if count > 0 && all[count - 1].address > run.address { sorted = false }
        all[count] = run
        count += 1
    }
    s.pointee.run_count = UInt64(count)
    if !sorted { sortRuns(all, count) }
}

/// Each run has words of its own: who puts one there writes them alone.
private func countPages(_ s: Space) {
    s.pointee.bits = reserve(s.pointee.run_count * 8)
    let first = words(s.pointee.bits), all = runs(s)
    for k in 0..<all.count { first[k] = s.pointee.bit_words; s.pointee.bit_words += (UInt64(all[k].pointee.pages) + 63) / 64 }
}

/// Heapsort: no memory, no bad case.
private func sortRuns(_ a: UnsafeMutablePointer<ckpt_run>, _ count: Int) {
    func sift(_ from: Int, _ end: Int) {
        var root = from
        while 2 * root + 1 < end {
            var child = 2 * root + 1
            if child + 1 < end && a[child].address < a[child + 1].address { child += 1 }
            if a[root].address >= a[child].address { return }
            let t = a[root]; a[root] = a[child]; a[child] = t
            root = child
        }
    }
    var k = count / 2
    while k > 0 { k -= 1; sift(k, count) }
    var end = count
    while end > 1 { end -= 1; let t = a[0]; a[0] = a[end]; a[end] = t; sift(0, end) }
}

/// The run that holds `address`, or the next one.
func runAtOrAfter(_ s: Space, _ address: UInt64) -> Int {
    let r = runs(s)
    var low = 0, high = r.count
    while low < high {
        let middle = (low + high) / 2
        if r[middle].pointee.address + UInt64(r[middle].pointee.pages) * 4096 <= address { low = middle + 1 } else { high = middle }
    }
    return low
}

private func firstExtent(_ list: UnsafeMutablePointer<engine_extent>, _ count: Int, endingAfter address: UInt64) -> Int {
    var low = 0, high = count
    while low < high {
        let middle = (low + high) / 2
        if list[middle].end <= address { low = middle + 1 } else { high = middle }
    }
    return low
}

private func insert(_ s: Space, _ e: engine_extent) {
    let list = extents(s), n = Int(s.pointee.extent_count)
    guard UInt64(n) < maximumExtents else { refuse(.lacks) { $0.put("--lazy: memory in more than a million pieces before all of it was loaded") } }
    let at = firstExtent(list, n, endingAfter: e.start)
    _ = memmove(list + at + 1, list + at, (n - at) * MemoryLayout<engine_extent>.stride)
    list[at] = e
    s.pointee.extent_count += 1
}

/// Nothing comes to [start, end) any more: what is there now is zeros, or somebody else's.
private func cut(_ s: Space, _ start: UInt64, _ end: UInt64) {
    let list = extents(s)
    var k = firstExtent(list, Int(s.pointee.extent_count), endingAfter: start)
    while k < Int(s.pointee.extent_count) && list[k].start < end {
        let e = list[k]
        if e.start < start && e.end > end {
            list[k].end = start
            insert(s, engine_extent(start: end, end: e.end, source: e.source + (end - e.start)))
            return
        }
        if e.start < start { list[k].end = start; k += 1 }
        else if e.end > end { list[k] = engine_extent(start: end, end: e.end, source: e.source + (end - e.start)); return }
        else {
            _ = memmove(list + k, list + k + 1, (Int(s.pointee.extent_count) - k - 1) * MemoryLayout<engine_extent>.stride)
            s.pointee.extent_count -= 1
        }
    }
}

/// mremap(2) has moved [from, from + size) to `to`.
private func remap(_ s: Space, _ from: UInt64, _ to: UInt64, _ size: UInt64) {
    let list = extents(s)
    cut(s, to, to + size)
    while true {
        let k = firstExtent(list, Int(s.pointee.extent_count), endingAfter: from)
        guard k < Int(s.pointee.extent_count), list[k].start < from + size else { return }
        let e = list[k], start = max(e.start, from), end = min(e.end, from + size)
        cut(s, start, end)
        insert(s, engine_extent(start: start - from + to, end: end - from + to, source: e.source + (start - e.start)))
    }
}

/// With nobody else in the spaces.
func apply(_ m: ckpt_uffd_msg, to k: Int) {
    let s = spaces[k]
    switch UInt32(m.event) {
    case CKPT_UFFD_FORK.rawValue: addChild(of: s, lift(Int32(truncatingIfNeeded: m.a), "userfaultfd"))
    case CKPT_UFFD_REMAP.rawValue: remap(s, m.a, m.b, m.c)
    case CKPT_UFFD_REMOVE.rawValue, CKPT_UFFD_UNMAP.rawValue: cut(s, m.a, m.b)
    default: break
    }
}

/// What comes to `address`: its address at the checkpoint, and how far this goes on; nil: zeros, up to there.
func origin(_ s: Space, _ address: UInt64) -> (source: UInt64?, end: UInt64) {
    let list = extents(s), n = Int(s.pointee.extent_count), k = firstExtent(list, n, endingAfter: address)
    if k == n { return (nil, UInt64.max) }
    return list[k].start <= address ? (list[k].source + (address - list[k].start), list[k].end) : (nil, list[k].start)
}

func extentCount(_ s: Space) -> Int { Int(s.pointee.extent_count) }
func extent(_ s: Space, _ k: Int) -> engine_extent { extents(s)[k] }

/// An address space that is gone: nothing is to come to it any more.
func forget(_ s: Space) {
    _ = ckpt_close(s.pointee.fd)
    s.pointee.fd = -1
    _ = ckpt_madvise(s.pointee.extents, maximumExtents * UInt64(MemoryLayout<engine_extent>.stride), 4)
    s.pointee.extent_count = 0
}

/// Puts a run's pages, which lie at `pages`, wherever they are still to come; with the lock shared.  0 or a negative errno.
func install(_ s: Space, _ k: Int, _ pages: UInt64) -> Int {
    beginInstalling(s, k)
    let r = installAlone(s, k, pages)
    endInstalling(s, k, complete: r == 0)
    return r
}
private func installAlone(_ s: Space, _ run: Int, _ pages: UInt64) -> Int {
    let list = extents(s), isThere = bits(s, run), run = runs(s)[run].pointee, end = run.address + UInt64(run.pages) * 4096
    for k in 0..<Int(s.pointee.extent_count) {
        let e = list[k], from = max(e.source, run.address), to = min(e.source + (e.end - e.start), end)
        if from >= to { continue }
        let r = putMissing(s.pointee.fd, isThere, Int((from - run.address) / 4096)..<Int((to - run.address) / 4096), to: e.start &- e.source &+ run.address, from: pages)
        if r != 0 { return r }
    }
    return 0
}

/// Pages that are there already, and addresses that are nobody's any more, are passed over; so are pages that have been there and are missing: they
/// were given away, and no event tells that of some (MADV_GUARD_INSTALL).  `to` and `from`: of the run's first page.
private func putMissing(_ fd: Int32, _ isThere: UnsafeMutablePointer<UInt64>, _ pages: Range<Int>, to: UInt64, from: UInt64) -> Int {
    var page = pages.lowerBound, most = pages.count
    while page < pages.upperBound {
        if hasBit(isThere, page) { page += 1; continue }
        var n = 1
        while n < most && page + n < pages.upperBound && !hasBit(isThere, page + n) { n += 1 }
        let r = copyOnce(fd, to: to &+ UInt64(page) * 4096, from: from + UInt64(page) * 4096, UInt64(n) * 4096)
        if r > 0 {
            for k in 0..<r / 4096 { setBit(isThere, page + k) }
            page += r / 4096; most = pages.count
        }
        // The pages may lie in several mappings: one by one then.
        else if (r == -2 || r == -22) && n > 1 { most = 1 }
        else if r == -17 { setBit(isThere, page); page += 1; most = pages.count }
        else if r == -2 || r == -22 { page += 1 }
        else if r < 0 { return r }
    }
    return 0
}

private func bits(_ s: Space, _ k: Int) -> UnsafeMutablePointer<UInt64> { words(s.pointee.was_there) + Int(words(s.pointee.bits)[k]) }
private func hasBit(_ bits: UnsafeMutablePointer<UInt64>, _ n: Int) -> Bool { ckpt_load64(bits + n / 64) >> UInt64(n % 64) & 1 != 0 }
private func setBit(_ bits: UnsafeMutablePointer<UInt64>, _ n: Int) { ckpt_store64(bits + n / 64, ckpt_load64(bits + n / 64) | 1 << UInt64(n % 64)) }

/// How many pages from `source` on, which is in this run, have been there: where they are missing, the program has given them away.
func pagesThatWereThere(_ s: Space, _ k: Int, _ source: UInt64) -> UInt64 {
    let run = runs(s)[k].pointee, first = Int((source - run.address) / 4096), isThere = bits(s, k)
    var n = first
    while n < Int(run.pages) && hasBit(isThere, n) { n += 1 }
    return UInt64(n - first)
}

private let complete: UInt32 = 1, busy: UInt32 = 2
func wasDone(_ s: Space, _ k: Int) -> Bool { ckpt_load(isDone(s) + k) & complete != 0 }
/// One at a time: a page that has come must be known before somebody else finds it missing again.
private func beginInstalling(_ s: Space, _ k: Int) {
    let word = isDone(s) + k
    while true {
        let v = ckpt_load(word)
        if v & busy != 0 { _ = ckpt_futex_wait(word, v, nil) } else if ckpt_cas(word, v, v | busy) { return }
    }
}
private func endInstalling(_ s: Space, _ k: Int, complete isComplete: Bool) {
    let word = isDone(s) + k
    ckpt_store(word, ckpt_load(word) & complete | (isComplete ? complete : 0))
    _ = ckpt_futex_wake(word, Int32.max)
}

private let alone: UInt32 = 1 << 31
/// Shared: any number, unless somebody reads events or wants to.
func lockShared() {
    let word = spaceLock
    while true {
        let v = ckpt_load(word)
        if v & alone != 0 { _ = ckpt_futex_wait(word, v, nil) } else if ckpt_cas(word, v, v + 1) { return }
    }
}
func unlockShared() {
    let word = spaceLock
    if ckpt_add(word, UInt32.max) == alone + 1 { _ = ckpt_futex_wake(word, Int32.max) }
}
/// Only the server's first task does this.
func lockForEvents() {
    let word = spaceLock
    _ = ckpt_add(word, alone)
    while true {
        let v = ckpt_load(word)
        if v == alone { return }
        _ = ckpt_futex_wait(word, v, nil)
    }
}
func unlockAfterEvents() {
    ckpt_store(spaceLock, 0)
    _ = ckpt_futex_wake(spaceLock, Int32.max)
}
private var spaceLock: UnsafeMutablePointer<UInt32> { engine_space_lock() }
