// Runs in the engine, then in the server of a lazy restart; no allocation, no libc.
// --working-set FILE: which runs were touched before they were read ahead, in that order; the next lazy restart reads them first.
import CkptABI
import EngineBoot
import Freestanding

private let magic: UInt64 = 0x5445534b43545031, most: UInt64 = 1 << 20
private struct Header { var magic: UInt64, statefile: UInt64, count: UInt64 }
private struct Touched { var record: UInt64, address: UInt64 }

private func list(_ address: UInt64) -> UnsafeMutablePointer<Touched> { UnsafeMutableRawPointer(bitPattern: UInt(address))!.assumingMemoryBound(to: Touched.self) }

/// It will be overwritten: nothing else than a record, and nobody else's, wherever a link in its place leads.
func openWorkingSet(_ path: Text) {
    let readWrite: Int32 = 2, make: Int32 = 0o100, noFollow: Int32 = 0o400000, noTerminal: Int32 = 0o400, nonBlocking: Int32 = 0o4000, closeOnExec: Int32 = 0o2000000, root: UInt32 = 0
    let r = ckpt_open(path, readWrite | make | noFollow | noTerminal | nonBlocking | closeOnExec, 0o600), fd = Int32(truncatingIfNeeded: r)
    func put(_ l: inout Line) { l.put("--working-set "); l.put(text: path); l.put(": ") }
    let aLink = -40
    if r == aLink { refuse(.systemCall) { l in put(&l); l.put("a symbolic link; name the file itself") } }
    guard r >= 0 else { refuse(r) { l in put(&l); l.put("cannot be opened") } }
    let st = status(fd: fd)
    var first: UInt64 = 0
    guard st.kind == 0o100000, st.size == 0 || ckpt_pread(fd, &first, 8, 0) == 8 && first == magic else {
        refuse(.systemCall) { l in put(&l); l.put("no record of a lazy restart, and would be overwritten; name another file") }
    }
    guard st.uid == root || st.uid == currentIds(false)[1] else { refuse(.systemCall) { l in put(&l); l.put("another user's; name another file") } }
    state.pointee.working_set = fd
}

/// A record of another statefile, or none, is passed over; it is written anew.
func readWorkingSet() {
    let s = state
    s.pointee.touched = reserve(most * 16)
    guard s.pointee.working_set > 0 else { return }
    s.pointee.wanted = reserve(most * 16)
    var h = Header(magic: 0, statefile: 0, count: 0)
    guard ckpt_pread(s.pointee.working_set, &h, 24, 0) == 24, h.magic == magic, h.statefile == s.pointee.statefile_id, h.count <= most else { return }
    let n = ckpt_pread(s.pointee.working_set, list(s.pointee.wanted), Int(h.count) * 16, 24)
    s.pointee.wanted_count = n > 0 ? UInt64(n) / 16 : 0
}

func noteFault(_ space: Space, _ address: UInt64) {
    let s = state
    guard s.pointee.working_set > 0, s.pointee.touched_count < most else { return }
    list(s.pointee.touched)[Int(s.pointee.touched_count)] = Touched(record: UInt64(space.pointee.record), address: address)
    s.pointee.touched_count += 1
}

/// The next of the record that nobody has taken; false: there are none.
func loadWorkingSet(_ room: UInt64) -> Bool {
    let s = state
    while ckpt_load64(&s.pointee.wanted_next) < s.pointee.wanted_count {
        let k = ckpt_add64(&s.pointee.wanted_next, 1)
        guard k < s.pointee.wanted_count else { return false }
        let t = list(s.pointee.wanted)[Int(k)]
        for n in 0..<spaces.count where UInt64(spaces[n].pointee.record) == t.record && ckpt_load(&spaces[n].pointee.live) != 0 {
            loadRun(spaces[n], at: t.address, room)
            return true
        }
    }
    return false
}

/// What was read ahead by the record before counts as touched: first those, then what came on top.
func writeWorkingSet() {
    let s = state
    guard s.pointee.working_set > 0 else { return }
    let old = s.pointee.wanted_count, new = min(s.pointee.touched_count, most - old)
    var h = Header(magic: magic, statefile: s.pointee.statefile_id, count: old + new)
    _ = system(CKPT_SYS_ftruncate, Int(s.pointee.working_set), 0)
    if old > 0 { _ = ckpt_pwrite(s.pointee.working_set, list(s.pointee.wanted), Int(old) * 16, 24) }
    if new > 0 { _ = ckpt_pwrite(s.pointee.working_set, list(s.pointee.touched), Int(new) * 16, 24 + old * 16) }
    _ = ckpt_pwrite(s.pointee.working_set, &h, 24, 0)
}
