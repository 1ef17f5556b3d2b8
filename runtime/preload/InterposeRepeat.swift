// Runs inside applications, on the caller's stack, before and between the attempts of a call that waits: no libc but clock_gettime, no lock,
// no allocation.  No frame of this file is on the stack while the thread waits.
import CkptABI
import PreloadBoot
import Freestanding

private enum Number {
    static let clockNanosleep: Int64 = 230, rtSigsuspend: Int64 = 130, pselect6: Int64 = 270, ppoll: Int64 = 271
    static let epollPwait: Int64 = 281
}
private let nanoseconds: Int64 = 1_000_000_000
typealias Call = UnsafeMutablePointer<interpose_call>
typealias ClockGettime = @convention(c) (Int32, UnsafeMutablePointer<ckpt_timespec>) -> Int32

/// libc's goes through the vdso.
private func now(_ clock: Int32) -> ckpt_timespec {
    var t = ckpt_timespec(sec: 0, nsec: 0)
    if let function = real(INTERPOSE_clock_gettime, as: ClockGettime.self) { _ = function(clock, &t) } else { _ = ckpt_clock(clock, &t) }
    return t
}
private func address<T>(_ p: UnsafeMutablePointer<T>) -> Int64 { Int64(Int(bitPattern: p)) }

/// Turns a time-out into a deadline.  One that no clock will reach stays as it is: no repetition shortens it.
@c(interpose_limit) func limit(_ call: UnsafeMutablePointer<interpose_call>, _ clock: Int32, _ left: UnsafePointer<ckpt_timespec>) {
    call.pointee.left = left.pointee
    call.pointee.clock = clock
    if left.pointee.sec < 0 || left.pointee.sec > Int64.max / 4 || left.pointee.nsec < 0 || left.pointee.nsec >= nanoseconds { return }
    call.pointee.limited = 1
    if left.pointee.sec == 0 && left.pointee.nsec == 0 { return }      // a deadline of 0 is past
    let t = now(clock)
    let nsec = t.nsec &+ left.pointee.nsec
    call.pointee.deadline = ckpt_timespec(sec: t.sec &+ left.pointee.sec &+ nsec / nanoseconds, nsec: nsec % nanoseconds)
}
/// The time left until the deadline, never negative.
@c(interpose_remain) func remain(_ call: UnsafeMutablePointer<interpose_call>, _ left: UnsafeMutablePointer<ckpt_timespec>) {
    let t = now(call.pointee.clock), end = call.pointee.deadline
    var sec = end.sec &- t.sec, nsec = end.nsec &- t.nsec
    if nsec < 0 { nsec &+= nanoseconds; sec &-= 1 }
    left.pointee = sec < 0 ? ckpt_timespec(sec: 0, nsec: 0) : ckpt_timespec(sec: sec, nsec: nsec)
}
@c(interpose_strip) func strip(_ set: UnsafeRawPointer) -> UInt64 {
    set.load(as: UInt64.self) & ~(isMember ? sigckptBit : 0)
}

/// Prepares the next attempt after a checkpoint; 0: the time is up.  The variants with a mask put the thread's own mask in place and wait in
/// one step, so that a signal that came meanwhile is seen by this call and by no other.
@c(interpose_repeat) func prepareRepetition(_ call: UnsafeMutablePointer<interpose_call>) -> Int32 {
    if call.pointee.limited != 0 { remain(call, &call.pointee.left) }
    let mask = address(&call.pointee.mask)
    switch Int(call.pointee.kind) {
    case INTERPOSE_POLL:
        call.pointee.number = Number.ppoll
        if call.pointee.limited != 0 { interpose_argument(call, 2).pointee = address(&call.pointee.left) } else if interpose_argument(call, 2).pointee == -1 { interpose_argument(call, 2).pointee = 0 }
        if interpose_argument(call, 3).pointee == 0 { interpose_argument(call, 3).pointee = mask }
        interpose_argument(call, 4).pointee = 8
    case INTERPOSE_SELECT:
        if interpose_pair(call).pointee == 0 { interpose_pair(call).pointee = UInt64(bitPattern: mask) }
    case INTERPOSE_EPOLL:
        call.pointee.number = Number.epollPwait
        if call.pointee.limited != 0 { interpose_argument(call, 3).pointee = milliseconds(call.pointee.left) }
        if interpose_argument(call, 4).pointee == 0 { interpose_argument(call, 4).pointee = mask }
    case INTERPOSE_EPOLL2:
        if interpose_argument(call, 4).pointee == 0 { interpose_argument(call, 4).pointee = mask }
    case INTERPOSE_SUSPEND:
        if call.pointee.number != Number.rtSigsuspend {
            call.pointee.number = Number.rtSigsuspend
            interpose_argument(call, 0).pointee = mask
            interpose_argument(call, 1).pointee = 8
        }
    case INTERPOSE_SLEEP:
        return prepareSleep(call, mask)
    case INTERPOSE_ABSOLUTE:
        interpose_argument(call, 1).pointee = 1     // TIMER_ABSTIME
        interpose_argument(call, 2).pointee = address(&call.pointee.deadline)
    default: break
    }
    return 1
}
/// The kernel may be late by a thousandth of ppoll's time-out: the last slice is a short one.
private func prepareSleep(_ call: Call, _ mask: Int64) -> Int32 {
    if call.pointee.limited == 0 { return 1 }       // longer than any clock: as it was
    if call.pointee.left.sec == 0 && call.pointee.left.nsec == 0 { return 0 }
    if call.pointee.left.sec > 0 || call.pointee.left.nsec > 20_000_000 {
        let whole = call.pointee.left.sec, part = whole / 500
        var nsec = call.pointee.left.nsec &- (whole % 500 &* 2_000_000 &+ call.pointee.left.nsec / 500), sec = whole &- part
        while nsec < 0 { nsec &+= nanoseconds; sec &-= 1 }
        call.pointee.left = ckpt_timespec(sec: sec, nsec: nsec)
    }
    call.pointee.number = Number.ppoll
    interpose_argument(call, 0).pointee = 0
    interpose_argument(call, 1).pointee = 0
    interpose_argument(call, 2).pointee = address(&call.pointee.left)
    interpose_argument(call, 3).pointee = call.pointee.blocked != 0 ? mask : 0
    interpose_argument(call, 4).pointee = 8
    return 1
}
/// Rounded up: a wait never ends early.
private func milliseconds(_ t: ckpt_timespec) -> Int64 {
    if t.sec > Int64(Int32.max) / 1000 &- 1 { return Int64(Int32.max) }
    return t.sec &* 1000 &+ (t.nsec &+ 999_999) / 1_000_000
}
