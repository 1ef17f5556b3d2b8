// Runs at the end of the SIGCKPT handler, in the interrupted task, every signal blocked, on the application's stack.  Raw system calls only.
// A signal makes the kernel return what a blocked transfer has done so far, and few programs expect that who expect no signal.  The rest is transferred behind
// the handler (ckpt_go_on), and the application sees one call.  Should a handler of its own run before, it sees the short count, as without a checkpoint.
import CkptABI
import PreloadBoot
import Freestanding

private enum Number { static let write: UInt64 = 1, sendto: UInt64 = 44, recvfrom: UInt64 = 45 }
private enum Flag { static let peek: UInt64 = 2, dontWait: UInt64 = 0x40, waitAll: UInt64 = 0x100, noSignal: UInt64 = 0x4000, zeroCopy: UInt64 = 0x400_0000 }
private let largest: UInt64 = 0x7fff_f000       // MAX_RW_COUNT: nothing transfers more

/// `number`: of the call that has just returned a count.
func continueShort(_ context: UnsafeMutablePointer<ckpt_ucontext>, _ number: UInt64) {
    let m = context.pointee.mc
    guard number == Number.write || number == Number.sendto || number == Number.recvfrom, m.rax < m.rdx, m.rdx <= largest, let kind = blockingStream(m.rdi) else { return }
    // Of a call with MSG_ZEROCOPY there is one notification.
    if number != Number.write && m.r10 & (Flag.dontWait | Flag.zeroCopy) != 0 { return }
    if number == Number.recvfrom && (m.r10 & (Flag.waitAll | Flag.peek) != Flag.waitAll || isAtMark(m.rdi)) { return }
    guard let call = takeEntry(m) else { return }
    call.pointee.pid = ckpt_getpid(); call.pointee.tid = ckpt_gettid(); call.pointee.rsp = m.rsp
    call.pointee.rip = m.rip; call.pointee.count = 0; call.pointee.number = number
    call.pointee.rbx = m.rbx; call.pointee.r10 = m.r10; call.pointee.r8 = m.r8; call.pointee.r9 = m.r9
    // Who is told of a broken connection by a signal is so by the next call: this one has transferred something.
    if kind == .socket && number == Number.write { call.pointee.number = Number.sendto; context.pointee.mc.r10 = 0; context.pointee.mc.r8 = 0; context.pointee.mc.r9 = 0 }
    if kind == .socket && number != Number.recvfrom { context.pointee.mc.r10 |= Flag.noSignal }
    context.pointee.mc.rbx = UInt64(UInt(bitPattern: call))
    context.pointee.mc.rip = ckpt_went_on_address()
    ckpt_store(&call.pointee.taken, CKPT_CONTINUED_ACTIVE.rawValue)
    continueAgain(context, m.rax)
}

/// Behind ckpt_go_on: `more` has been transferred; another checkpoint has come.
func continueAgain(_ context: UnsafeMutablePointer<ckpt_ucontext>, _ more: UInt64) {
    guard more < context.pointee.mc.rdx, let call = UnsafeMutablePointer<ckpt_continued>(bitPattern: UInt(context.pointee.mc.rbx)) else { return }
    if call.pointee.number == Number.recvfrom && isAtMark(context.pointee.mc.rdi) { return }
    call.pointee.count &+= more
    context.pointee.mc.rsi &+= more; context.pointee.mc.rdx &-= more
    enterAgain(context, call.pointee.number)
}

private enum Stream { case pipe, socket }
/// What writes all that it is given unless a signal comes: pipes, stream sockets.
private func blockingStream(_ descriptor: UInt64) -> Stream? {
    let fd = Int(Int32(truncatingIfNeeded: descriptor)), getFlags = 3, nonBlocking = 0o4000
    var stat = InlineArray<18, UInt64>(repeating: 0), span = stat.mutableSpan
    let known = span.withUnsafeMutableBytes { ckpt_syscall(Int(CKPT_SYS_fstat), fd, Int(bitPattern: $0.baseAddress!), 0, 0, 0, 0) }
    guard known == 0, ckpt_syscall(Int(CKPT_SYS_fcntl), fd, getFlags, 0, 0, 0, 0) & nonBlocking == 0 else { return nil }
    switch stat[3] & 0o170000 {         // st_mode
    case 0o010000: return .pipe
    case 0o140000: return isStream(fd) ? .socket : nil
    default: return nil
    }
}
/// No recv(2) reads across urgent data (sockatmark(3)).
private func isAtMark(_ descriptor: UInt64) -> Bool {
    let atMark = 0x8905
    var value: Int32 = 0
    return withUnsafeMutablePointer(to: &value) { ckpt_syscall(Int(CKPT_SYS_ioctl), Int(Int32(truncatingIfNeeded: descriptor)), atMark, Int(bitPattern: $0), 0, 0, 0) } == 0 && value != 0
}
private func isStream(_ fd: Int) -> Bool {
    let getOption = 55, level = 1, type = 3, stream: Int32 = 1
    var value: Int32 = 0, size: UInt32 = 4
    let r = withUnsafeMutablePointer(to: &value) { v in withUnsafeMutablePointer(to: &size) { n in ckpt_syscall(getOption, fd, level, type, Int(bitPattern: v), Int(bitPattern: n), 0) } }
    return r == 0 && value == stream
}

/// nil: too many calls go on at once, and this one stays short.  Who is cancelled meanwhile, or jumps out of a handler, never comes to the end: such an entry is
/// taken again when its thread has ended, or makes the same call at the same depth.
private func takeEntry(_ m: ckpt_sigcontext) -> UnsafeMutablePointer<ckpt_continued>? {
    let free = CKPT_CONTINUED_FREE.rawValue, active = CKPT_CONTINUED_ACTIVE.rawValue, claimed = CKPT_CONTINUED_CLAIMED.rawValue
    func claim(_ state: UInt32, _ isOurs: (UnsafeMutablePointer<ckpt_continued>) -> Bool) -> UnsafeMutablePointer<ckpt_continued>? {
        var i: Int32 = 0
        while i < Int32(CKPT_CONTINUED_CALLS) {
            let call = ckpt_continued(i)
            if ckpt_load(&call.pointee.taken) == state && isOurs(call) && ckpt_cas(&call.pointee.taken, state, claimed) { return call }
            i += 1
        }
        return nil
    }
    let pid = ckpt_getpid(), tid = ckpt_gettid(), noProcess = -3
    return claim(active) { $0.pointee.pid == pid && $0.pointee.tid == tid && $0.pointee.rsp == m.rsp && $0.pointee.rip == m.rip }
        ?? claim(free) { _ in true }
        ?? claim(active) { $0.pointee.pid == pid && ckpt_syscall(Int(CKPT_SYS_tgkill), Int(pid), Int($0.pointee.tid), 0, 0, 0, 0) == noProcess }
}
