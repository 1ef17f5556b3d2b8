// Runs in the builder, just before the release: what the restart itself does to watched files is nobody's event.  No allocation, no libc.
// Inotify queues: their watches, with the numbers that the program knows.
import CkptABI
import EngineBoot
import Freestanding

private let setNextNumber = 0x4004_4900

func addWatches(_ e: Int, _ fd: Int) {
    let v = events[e].pointee, dontFollow: UInt32 = 0x0200_0000
    for k in 0..<v.item_count {
        let w = watches[v.first_item + k].pointee, path = relocated(bytes(w.path))
        // INOTIFY_IOC_SETNEXTWD: CONFIG_CHECKPOINT_RESTORE.
        _ = system(CKPT_SYS_ioctl, fd, setNextNumber, Int(w.wd))
        let r = system(CKPT_SYS_inotify_add_watch, fd, int(path), Int(w.mask | dontFollow))
        guard r >= 0 else { refuse(r) { l in l.put("inotify queue: watch on "); l.put(text: path); l.put("; put it back, or use --relocate OLD=NEW") } }
        guard r == Int(w.wd) else { refuse(.lacks) { l in l.put("inotify queue: watch on "); l.put(text: path); l.put(": this kernel cannot give it its number; it lacks CONFIG_CHECKPOINT_RESTORE") } }
    }
}

/// While /proc shows our descriptors: one of the tree's own hides that (PidNamespaces.swift).
func overflowQueues() {
    for e in 0..<events.count where eventFd(e) >= 0 && events[e].pointee.flags & CKPT_EVENT_OVERFLOW.rawValue != 0 { overflow(eventFd(e)) }
}

/// IN_Q_OVERFLOW alone: the kernel queues it behind as many events as fit, which are taken out again.  They are those of a file of ours, of two kinds in
/// turn, since equal ones in a row are one; nothing is queued behind it, not even that the watch is gone.
private func overflow(_ queue: Int) {
    let modify = 2, attributes = 4, readWrite: Int32 = 0o2000002, size = 16, most = 1 << 24, countingEach = 4096
    let file = system(CKPT_SYS_memfd_create, int(StaticString("overflow").cString), 1)
    guard file >= 0 else { refuse(file) { $0.put("inotify queue: a file of memory") } }
    var path = Line()
    path.put("/proc/self/fd/"); path.put(signed: Int64(file))
    // A descriptor of memfd_create(2) itself tells nobody.
    let watch = path.withCString { system(CKPT_SYS_inotify_add_watch, queue, int($0), modify | attributes) }, seen = path.withCString { ckpt_open($0, readWrite, 0) }
    guard watch >= 0, seen >= 0 else { refuse(watch < 0 ? watch : seen) { $0.put("inotify queue: a watch that makes it overflow") } }
    var byte: UInt8 = 0, made = 0, before = -1
    while made < most {
        if made % countingEach == 0 { let now = unread(queue); if now == before { break }; before = now }
        if made & 1 == 0 { _ = system(CKPT_SYS_pwrite64, seen, int(&byte), 1, 0) } else { _ = system(CKPT_SYS_fchmod, seen, 0o600) }
        made += 1
    }
    _ = system(CKPT_SYS_inotify_rm_watch, queue, watch)
    var left = unread(queue) - size
    while left > 0 {
        let n = ckpt_read(Int32(truncatingIfNeeded: queue), UnsafeMutableRawPointer(bitPattern: UInt(state.pointee.copy))!, min(left, 65536))
        if n <= 0 { break }
        left -= n
    }
    guard left == 0, unread(queue) == size else { refuse(.systemCall) { $0.put("inotify queue: it cannot be made to overflow; lower sysctl fs.inotify.max_queued_events") } }
    _ = ckpt_close(Int32(truncatingIfNeeded: seen)); _ = ckpt_close(Int32(truncatingIfNeeded: file))
}
private func unread(_ queue: Int) -> Int {
    var n: Int32 = 0
    return system(CKPT_SYS_ioctl, queue, 0x541b, int(&n)) == 0 ? Int(n) : 0
}
