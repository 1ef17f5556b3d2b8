// Runs at the end of the SIGCKPT handler, in the interrupted task, every signal blocked, on the application's stack.  Raw system calls only.
// Decides how the interrupted system call goes on, so that the application sees no EINTR that is the checkpoint's, and each that is its own.
import CkptABI
import PreloadBoot
import Freestanding

private let EINTR: Int64 = 4
private let interrupted = UInt64(INTERPOSE_INTERRUPTED), restarted = UInt64(INTERPOSE_RESTARTED)

func reviseInterruptedCall(_ context: UnsafeMutablePointer<ckpt_ucontext>) {
    let rip = context.pointee.mc.rip
    if Int64(bitPattern: context.pointee.mc.rax) == -EINTR {
        // The kernel leaves the return address in rcx.  Otherwise a handler of the application has run in between.
        if context.pointee.mc.rcx != rip { return }
        if rip == ckpt_went_on_address() { continueAgain(context, 0) }
        else if interpose_is_own_call(rip) { reviseWrapped(context) } else { reviseForeign(context, rip) }
    } else if context.pointee.mc.rax < 512 && context.pointee.mc.rcx == rip &+ 2 {
        reviseRestarted(context, rip)
    } else if Int64(bitPattern: context.pointee.mc.rax) > 0 && context.pointee.mc.rcx == rip {
        if rip == ckpt_went_on_address() { continueAgain(context, context.pointee.mc.rax) }
        else if context.pointee.mc.rax < context.pointee.mc.rdx, let number = numberLoaded(before: rip, context.pointee.mc, last: true) { continueShort(context, number) }
    }
}

/// One of the wrappers' own calls.  Where a variant with a mask exists the wrapper repeats it by that: until it has put the thread's mask
/// back in one step with the wait, all signals stay blocked, so that none slips in between.  The others are entered again from here.
private func reviseWrapped(_ context: UnsafeMutablePointer<ckpt_ucontext>) {
    guard let call = Call(bitPattern: UInt(context.pointee.mc.rbx)) else { return }
    let kind = Int(call.pointee.kind)
    if kind == INTERPOSE_PLAIN || kind == INTERPOSE_ABSOLUTE {
        _ = prepareRepetition(call)
        load(call, context)
        enterAgain(context, UInt64(bitPattern: call.pointee.number))
        return
    }
    if call.pointee.blocked == 0 {
        call.pointee.mask = context.pointee.sigmask
        call.pointee.blocked = 1
        context.pointee.sigmask = ~(sigckptBit | 3 << 31)       // not those of pthread_cancel and setuid either
    }
    context.pointee.mc.rax = UInt64(bitPattern: -Int64(INTERPOSE_REPEAT))
}
private func load(_ call: Call, _ context: UnsafeMutablePointer<ckpt_ucontext>) {
    context.pointee.mc.rdi = UInt64(bitPattern: interpose_argument(call, 0).pointee)
    context.pointee.mc.rsi = UInt64(bitPattern: interpose_argument(call, 1).pointee)
    context.pointee.mc.rdx = UInt64(bitPattern: interpose_argument(call, 2).pointee)
    context.pointee.mc.r10 = UInt64(bitPattern: interpose_argument(call, 3).pointee)
    context.pointee.mc.r8 = UInt64(bitPattern: interpose_argument(call, 4).pointee)
    context.pointee.mc.r9 = UInt64(bitPattern: interpose_argument(call, 5).pointee)
}
/// Back to the instruction.  A handler that runs before it is reached finds the mark and lets the call return EINTR.
func enterAgain(_ context: UnsafeMutablePointer<ckpt_ucontext>, _ number: UInt64) {
    context.pointee.mc.rax = number
    context.pointee.mc.rip &-= 2
    context.pointee.mc.rcx = interrupted
}

// MARK: calls of libc and others

private func code(_ at: UInt64) -> UnsafePointer<UInt8>? { UnsafePointer(bitPattern: UInt(at)) }

/// A call outside the wrappers that returned EINTR because of the checkpoint (a socket with a time-out, sem_timedwait, any wait without a limit) is entered again
/// if its number can be read from the code before it and repeating it is exact.
private func reviseForeign(_ context: UnsafeMutablePointer<ckpt_ucontext>, _ rip: UInt64) {
    guard let number = numberLoaded(before: rip, context.pointee.mc), repeatable(number, context) else { return }
    enterAgain(context, number)
}

/// The number in `mov $number, %eax` or `xor %eax, %eax` close before the instruction `syscall`, whose end is `rip`; liburing keeps its own in a register.
/// `last`: only by the instruction before it, which cannot be another's: a call that has done something must not be taken for another.
private func numberLoaded(before rip: UInt64, _ m: ckpt_sigcontext, last: Bool = false) -> UInt64? {
    if rip < 4096 { return nil }
    if rip & 4095 >= 24, let p = code(rip &- 24) { return numberLoaded(in: p, m, last: last) }
    // The page before may not be there: the kernel looks.
    var copy = InlineArray<3, UInt64>(repeating: 0)
    var span = copy.mutableSpan
    return span.withUnsafeMutableBytes { b in
        var to = ckpt_iovec(base: UInt64(UInt(bitPattern: b.baseAddress!)), length: 24), from = ckpt_iovec(base: rip &- 24, length: 24)
        let processVMReadv = 310
        let got = withUnsafeMutablePointer(to: &to) { t in
            withUnsafeMutablePointer(to: &from) { f in ckpt_syscall(processVMReadv, Int(ckpt_getpid()), Int(bitPattern: t), 1, Int(bitPattern: f), 1, 0) }
        }
        return got == 24 ? numberLoaded(in: UnsafePointer(b.baseAddress!.assumingMemoryBound(to: UInt8.self)), m, last: last) : nil
    }
}
private func numberLoaded(in p: UnsafePointer<UInt8>, _ m: ckpt_sigcontext, last: Bool) -> UInt64? {
    if p[22] != 0x0f || p[23] != 0x05 { return nil }
    if isRingEntered(p, m) { return ringEnter }
    if p[20] == 0x31 && p[21] == 0xc0 { return 0 }
    var i = 17
    while i >= (last ? 17 : 2) {
        // With a prefix it is r8d, a fifth argument.
        if p[i] == 0xb8 && p[i &- 1] & 0xf1 != 0x41 && p[i &+ 2] < 2 && p[i &+ 3] == 0 && p[i &+ 4] == 0 { return UInt64(p[i &+ 1]) | UInt64(p[i &+ 2]) << 8 }
        i &-= 1
    }
    return nil
}

private let ringEnter: UInt64 = 426
/// `mov %reg, %eax`: of the registers that a call leaves alone, with and without the prefix that tells their upper half.
private func isRingEntered(_ p: UnsafePointer<UInt8>, _ m: ckpt_sigcontext) -> Bool {
    guard p[20] == 0x89, p[21] & 0xc7 == 0xc0 else { return false }
    switch p[21] >> 3 & 7 {
    case 3: return m.rbx == ringEnter
    case 4: return m.r12 == ringEnter
    case 5: return m.rbp == ringEnter || m.r13 == ringEnter
    case 6: return m.r14 == ringEnter
    case 7: return m.r15 == ringEnter
    default: return false
    }
}

/// Whether the same call once more does what is left of it: no time-out, an absolute one, or one of the socket, which then begins again.
private func repeatable(_ number: UInt64, _ context: UnsafeMutablePointer<ckpt_ucontext>) -> Bool {
    let m = context.pointee.mc
    switch number {
    case 0, 1, 19, 20, 17, 18, 295, 296: return true            // read, write, readv, writev, pread64, pwrite64, preadv, pwritev
    case 42, 43, 288: return true                               // connect, accept, accept4
    case 44, 45, 46, 47, 307: return true                       // sendto, recvfrom, sendmsg, recvmsg, sendmmsg
    case 299: return m.r8 == 0                                  // recvmmsg
    case 202: return futexRepeatable(m)
    case ringEnter: return ringRepeatable(m)
    case 7: return Int32(truncatingIfNeeded: m.rdx) < 0         // poll
    case 232, 281: return Int32(truncatingIfNeeded: m.r10) < 0  // epoll_wait, epoll_pwait
    case 441: return m.r10 == 0                                 // epoll_pwait2
    case 271: return m.rdx == 0                                 // ppoll
    case 23, 270: return m.r8 == 0                              // select, pselect6
    case 34, 130, 69, 70, 65: return true                       // pause, rt_sigsuspend, msgsnd, msgrcv, semop
    case 128: return m.rdx == 0                                 // rt_sigtimedwait
    case 16: return m.rsi == 0x5409 && m.rdx != 0               // ioctl: tcdrain
    case 220: return m.r10 == 0                                 // semtimedop
    case 230: return m.rsi & 1 == 1                             // clock_nanosleep until
    default: return false
    }
}
/// FUTEX_WAIT_BITSET and FUTEX_LOCK_PI have absolute time-outs; FUTEX_WAIT only if it has none.
private func futexRepeatable(_ m: ckpt_sigcontext) -> Bool {
    switch m.rsi & 127 {
    case 9, 6, 11, 13: return true
    case 0: return m.r10 == 0
    default: return false
    }
}

/// It returns EINTR only if it has taken nothing.  With IORING_ENTER_EXT_ARG there may be a time-out, absolute with IORING_ENTER_ABS_TIMER.
private func ringRepeatable(_ m: ckpt_sigcontext) -> Bool {
    let extended: UInt64 = 8, absolute: UInt64 = 32, registered: UInt64 = 64, timeoutAt = 16
    if m.r10 & registered != 0 { return false }
    if m.r10 & extended == 0 || m.r10 & absolute != 0 { return true }
    guard let argument = UnsafeRawPointer(bitPattern: UInt(m.r8)) else { return true }
    return argument.loadUnaligned(fromByteOffset: timeoutAt, as: UInt64.self) == 0
}

/// The kernel restarts the call because our handler has SA_RESTART.  If a handler without it runs before, the application expects EINTR.
private func reviseRestarted(_ context: UnsafeMutablePointer<ckpt_ucontext>, _ rip: UInt64) {
    guard rip & 4095 <= 4094, let p = code(rip), p[0] == 0x0f, p[1] == 0x05, interruptible(context.pointee.mc) else { return }
    context.pointee.mc.rcx = restarted
}
private func interruptible(_ m: ckpt_sigcontext) -> Bool {
    switch m.rax {
    case 0, 1, 19, 20: return !isRegular(m.rdi)                 // a regular file's never return EINTR
    case 16: return !isRegular(m.rdi)                           // ioctl
    case 42, 43, 288, 44, 45, 46, 47, 299, 307: return true
    case 61, 247: return true                                   // wait4, waitid
    case 202: return m.rsi & 127 == 0 || m.rsi & 127 == 9
    case 73: return true                                        // flock
    case 72: return m.rsi == 7 || m.rsi == 38                   // fcntl: F_SETLKW, F_OFD_SETLKW
    case 2, 257: return true                                    // open of a FIFO
    case 240, 242, 243, 241: return true                        // mq_*
    case 318: return true                                       // getrandom
    default: return false
    }
}
private func isRegular(_ descriptor: UInt64) -> Bool {
    var stat = InlineArray<18, UInt64>(repeating: 0)
    var span = stat.mutableSpan
    let result = span.withUnsafeMutableBytes { ckpt_syscall(Int(CKPT_SYS_fstat), Int(truncatingIfNeeded: descriptor), Int(bitPattern: $0.baseAddress!), 0, 0, 0, 0) }
    return result == 0 && stat[3] & 0o170000 == 0o100000        // st_mode
}
