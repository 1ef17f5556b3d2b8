// Runs in the builder before the tree's first process; entries that only one process can add, in that one.  No allocation, no libc.
// What epoll instances watch.  An entry is a file and a number: the file is given that number for a moment.
import CkptABI
import EngineBoot
import Freestanding

private let privateBits: UInt32 = 0xf000_0000, add = 1, anything: UInt32 = 0x2007       // EPOLLRDHUP, IN, PRI, OUT

/// Which entries: those of files that exist before the tree; of processes, when these exist; or those that process `i` itself has to add.
enum WatchTime { case early, processes, inside(Int) }

func watchFiles(_ time: WatchTime) {
    // Entries that have fired come first: they are alone then, and firing them takes no event from another.  (None of them comes later than early.)
    for pass in 0..<2 {
        for e in 0..<events.count where objects[events[e].pointee.object].pointee.kind == CKPT_OBJECT_EPOLL.rawValue {
            let waits = hasInner(e)
            for k in 0..<events[e].pointee.item_count {
                let w = watched[events[e].pointee.first_item + k].pointee
                if isDue(w, time, waits: waits) && (w.events & ~privateBits == 0) == (pass == 0) { watch(eventFd(e), w) }
            }
        }
    }
}

/// An instance that watches a socket which only its maker has so far: all of its entries wait, since those that have fired come first.
private func hasInner(_ e: Int) -> Bool {
    for k in 0..<events[e].pointee.item_count {
        let o = objects[descriptions[watched[events[e].pointee.first_item + k].pointee.target].pointee.object].pointee
        if o.kind == CKPT_OBJECT_SOCKET.rawValue && sockets[o.detail].pointee.creator_pids != 0 { return true }
    }
    return false
}
private func isDue(_ w: ckpt_watched_record, _ time: WatchTime, waits: Bool) -> Bool {
    let isLate = waits || objects[descriptions[w.target].pointee.object].pointee.kind == CKPT_OBJECT_PIDFD.rawValue
    switch time {
    case .early: return w.process == ckpt_no_index() && !isLate
    case .processes: return w.process == ckpt_no_index() && isLate
    case .inside(let i): return w.process == UInt32(i)
    }
}

private func putWatched(_ w: ckpt_watched_record, _ l: inout Line) {
    l.put("epoll instance: descriptor "); l.put(signed: Int64(w.number)); l.put(" ("); l.put(text: bytes(objects[descriptions[w.target].pointee.object].pointee.path)); l.put(")")
}

private func watch(_ epoll: Int, _ w: ckpt_watched_record) {
    let fd = Int(descriptionFd[w.target].pointee), number = Int(w.number)
    guard epoll >= 0, fd >= 0 else { refuse(.lacks) { l in putWatched(w, &l); l.put(": it cannot be watched; the file does not exist yet") } }
    let placed = system(CKPT_SYS_dup3, fd, number, 0o2000000)
    guard placed >= 0 else { refuse(placed) { l in putWatched(w, &l); l.put(": cannot be placed") } }
    let hasFired = w.events & ~privateBits == 0
    let r = control(epoll, number, hasFired ? w.events | anything : w.events, w.data)
    guard r == 0 else { refuse(r) { l in putWatched(w, &l); l.put(": it cannot be watched"); if r == -1 { l.put("; give the restart a terminal or a pipe where the program had one") } } }
    if hasFired { fire(epoll, number, w) }
    _ = ckpt_close(w.number)
}

/// struct epoll_event is packed: events, data.
private func control(_ epoll: Int, _ number: Int, _ events: UInt32, _ data: UInt64) -> Int {
    var event = InlineArray<3, UInt32>(repeating: 0)
    event[0] = events; event[1] = UInt32(truncatingIfNeeded: data); event[2] = UInt32(truncatingIfNeeded: data >> 32)
    return withUnsafeMutableBytes(of: &event) { system(CKPT_SYS_epoll_ctl, epoll, add, number, int($0.baseAddress!)) }
}

/// Lets a one-shot entry fire, as it has: that alone disarms it.
private func fire(_ epoll: Int, _ number: Int, _ w: ckpt_watched_record) {
    let kind = objects[descriptions[w.target].pointee.object].pointee.kind
    var fired = takeEvent(epoll)
    if !fired {
        switch kind {
        case CKPT_OBJECT_TIMERFD.rawValue: fired = fireTimer(epoll, number)
        case CKPT_OBJECT_EPOLL.rawValue: fired = fireInstance(epoll, number)
        case CKPT_OBJECT_PIPE.rawValue: fired = firePipe(epoll, number)
        default: break
        }
    }
    guard fired else { refuse(.lacks) { l in putWatched(w, &l); l.put(": a one-shot entry that has fired, of a file that is ready for nothing; take another checkpoint") } }
}
private func takeEvent(_ epoll: Int) -> Bool {
    var event = InlineArray<3, UInt32>(repeating: 0)
    return withUnsafeMutableBytes(of: &event) { system(CKPT_SYS_epoll_wait, epoll, int($0.baseAddress!), 1, 0) } == 1
}

/// Timers are set when the tree is released: until then this one may do anything.
private func fireTimer(_ epoll: Int, _ number: Int) -> Bool {
    var soon = ckpt_itimerspec(interval_sec: 0, interval_nsec: 0, value_sec: 0, value_nsec: 1)
    guard system(CKPT_SYS_timerfd_settime, number, 0, int(&soon), 0) == 0, awaitReadable(number) else { return false }
    let fired = takeEvent(epoll)
    var expirations: UInt64 = 0
    _ = ckpt_read(Int32(truncatingIfNeeded: number), &expirations, 8)
    return fired
}
/// An instance is ready when anything in it is: an eventfd of ours, for the moment.
private func fireInstance(_ epoll: Int, _ number: Int) -> Bool {
    let event = system(CKPT_SYS_eventfd2, 1, 0o2000000), remove = 2
    guard event >= 0, control(number, event, 1, 0) == 0 else { return false }
    let fired = takeEvent(epoll)
    _ = system(CKPT_SYS_epoll_ctl, number, remove, event, 0)
    _ = ckpt_close(Int32(truncatingIfNeeded: event))
    return fired
}
/// An empty pipe's reading end: a byte goes in and comes out again.
private func firePipe(_ epoll: Int, _ number: Int) -> Bool {
    var l = Line(), byte: UInt8 = 0
    l.put("/proc/self/fd/"); l.put(signed: Int64(number))
    let fd = l.withCString { ckpt_open($0, 0o2004002, 0) }
    guard fd >= 0, ckpt_write(Int32(truncatingIfNeeded: fd), &byte, 1) == 1 else { return false }
    let fired = takeEvent(epoll)
    _ = ckpt_read(Int32(truncatingIfNeeded: fd), &byte, 1)
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
    return fired
}
