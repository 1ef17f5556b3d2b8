// Runs in the builder, before the tree's first process; timers and inotify's watches just before the release.  No allocation, no libc.
// Event descriptors: made here and inherited, since nobody can open one again.  Epoll's entries are in Epoll.swift.
import CkptABI
import EngineBoot
import Freestanding

private let nonBlocking = 0o4000, closeOnExec = 0o2000000

/// Descriptions that are made here, and by nobody else.
func isEventKind(_ kind: UInt32) -> Bool { kind >= CKPT_OBJECT_EVENTFD.rawValue && kind <= CKPT_OBJECT_PIDFD.rawValue }

/// The description of an event descriptor: each is an object of its own.
func eventDescription(_ e: Int) -> Int? {
    for d in 0..<descriptions.count where descriptions[d].pointee.object == events[e].pointee.object { return d }
    return nil
}
func eventFd(_ e: Int) -> Int { eventDescription(e).map { Int(descriptionFd[$0].pointee) } ?? -1 }
private func eventKind(_ e: Int) -> UInt32 { objects[events[e].pointee.object].pointee.kind }

func makeEvents() {
    for e in 0..<events.count {
        guard let d = eventDescription(e) else { continue }
        // An attempt in another way may have left one.
        if descriptionFd[d].pointee >= 0 { _ = ckpt_close(descriptionFd[d].pointee); descriptionFd[d].pointee = -1 }
        let (r, name) = make(e, Int(descriptions[d].pointee.flags) & nonBlocking | closeOnExec)
        guard r >= 0 else { refuse(r) { l in l.put(name); l.put(": cannot be made") } }
        descriptionFd[d].pointee = lift(Int32(truncatingIfNeeded: r), name)
    }
}

private func make(_ e: Int, _ flags: Int) -> (Int, StaticString) {
    let v = events[e]
    switch eventKind(e) {
    case CKPT_OBJECT_EVENTFD.rawValue: return (makeCounter(v.pointee, flags), "eventfd")
    case CKPT_OBJECT_TIMERFD.rawValue: return (system(CKPT_SYS_timerfd_create, Int(v.pointee.clock), flags), "timerfd")
    case CKPT_OBJECT_SIGNALFD.rawValue: return (system(CKPT_SYS_signalfd4, -1, int(&v.pointee.value), 8, flags), "signalfd")
    case CKPT_OBJECT_PIDFD.rawValue: return (system(CKPT_SYS_eventfd2, 0, closeOnExec), "pidfd")      // keeps its number until the process exists
    case CKPT_OBJECT_INOTIFY.rawValue: return (system(CKPT_SYS_inotify_init1, flags), "inotify queue")
    default:
        let r = system(CKPT_SYS_epoll_create1, closeOnExec)
        if r >= 0 && flags & nonBlocking != 0 { setFlags(Int32(truncatingIfNeeded: r), UInt32(nonBlocking)) }
        return (r, "epoll instance")
    }
}

private func makeCounter(_ v: ckpt_event_record, _ flags: Int) -> Int {
    let r = system(CKPT_SYS_eventfd2, 0, flags | (v.flags & CKPT_EVENT_SEMAPHORE.rawValue != 0 ? 1 : 0))
    var count = v.value
    if r >= 0 && count != 0 {
        let n = ckpt_write(Int32(truncatingIfNeeded: r), &count, 8)
        if n != 8 { return n < 0 ? n : -22 }
    }
    return r
}

/// Everybody is back and nothing runs yet: timers start here, and whatever the restart itself did to watched files is past.
func startEvents() {
    for e in 0..<events.count where eventFd(e) >= 0 {
        if eventKind(e) == CKPT_OBJECT_TIMERFD.rawValue { startTimer(e, eventFd(e)) }
        if eventKind(e) == CKPT_OBJECT_INOTIFY.rawValue { addWatches(e, eventFd(e)) }
    }
}

private func startTimer(_ e: Int, _ fd: Int) {
    let v = events[e].pointee, ticking = v.left.value_sec != 0 || v.left.value_nsec != 0
    let isPeriodic = v.left.interval_sec != 0 || v.left.interval_nsec != 0
    var t = v.left, flags = 0
    if !ticking && isPeriodic {
        // It has expired, and goes on only when it is read: so it expires once more, now.
        if v.value > 0 { t.value_nsec = 1 } else { t.value_sec = t.interval_sec; t.value_nsec = t.interval_nsec }
    } else if ticking && v.set_flags & 1 != 0 {
        // TFD_TIMER_ABSTIME: what is left, from now on; the flags stay with the timer.
        let now = nanoseconds(v.clock), at = now &+ UInt64(t.value_sec) &* 1_000_000_000 &+ UInt64(t.value_nsec)
        t.value_sec = Int64(at / 1_000_000_000); t.value_nsec = Int64(at % 1_000_000_000)
        flags = Int(v.set_flags)
    } else { flags = Int(v.set_flags & ~3) }
    let r = system(CKPT_SYS_timerfd_settime, fd, flags, int(&t), 0)
    guard r == 0 else { refuse(r) { $0.put("timerfd: cannot be set") } }
    if v.value > 0 { setExpirations(fd, v.value, wait: t.value_nsec == 1 && t.value_sec == 0) }
}

/// TFD_IOC_SET_TICKS; a timer that has just been set to expire does so first, since that sets them too.
private func setExpirations(_ fd: Int, _ count: UInt64, wait: Bool) {
    if wait { _ = awaitReadable(fd) }
    var count = count
    let setTicks = 0x4008_5400
    let r = system(CKPT_SYS_ioctl, fd, setTicks, int(&count))
    guard r == 0 else { refuse(r) { l in l.put("timerfd: its expirations cannot be set; this kernel lacks CONFIG_CHECKPOINT_RESTORE") } }
}

/// poll(2) for input, at most a second.
func awaitReadable(_ fd: Int) -> Bool {
    var p = UInt64(UInt32(truncatingIfNeeded: fd)) | 1 << 32        // struct pollfd: POLLIN
    return system(CKPT_SYS_poll, int(&p), 1, 1000) == 1
}
