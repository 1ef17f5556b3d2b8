// Runs inside applications, on the caller's stack, also in signal handlers and vfork children: no libc, no lock, no allocation.
// Signal actions: SIGCKPT keeps the runtime's handler, while the application sees the action that it installed.
import CkptABI
import PreloadBoot
import Freestanding

typealias SignalAction = UnsafePointer<interpose_sigaction>
typealias MutableSignalAction = UnsafeMutablePointer<interpose_sigaction>
typealias Disposition = UInt64      // SIG_DFL, SIG_IGN, or a handler's address
let SIG_ERR = UInt64.max, SIG_HOLD: UInt64 = 2, SIG_DFL: UInt64 = 0, SIG_IGN: UInt64 = 1
enum ActionFlag { static let siginfo: Int32 = 4, restart: Int32 = 0x1000_0000, noDefer: Int32 = 0x4000_0000, resetHand = Int32(bitPattern: 0x8000_0000) }

@c(sigaction) public func interposeSigaction(_ signal: Int32, _ action: UnsafePointer<interpose_sigaction>?, _ old: UnsafeMutablePointer<interpose_sigaction>?) -> Int32 {
    guard let function = real(INTERPOSE_sigaction, as: (@convention(c) (Int32, SignalAction?, MutableSignalAction?) -> Int32).self) else { return fail(ENOSYS) }
    if !isMember { return function(signal, action, old) }
    if signal == sigckpt {
        let new = action?.pointee       // the two may be one object
        if let old { old.pointee = interpose_state().pointee.action }
        if let new { install(new) }
        return 0
    }
    let bit = (1 as UInt64) << UInt64(UInt32(bitPattern: signal &- 1) & 63)
    let showed = ckpt_load64(&interpose_state().pointee.masked_actions) & bit != 0
    var holds = false, result: Int32
    if let action, action.pointee.mask.first & sigckptBit != 0 {
        var stripped = action.pointee
        stripped.mask.first &= ~sigckptBit
        holds = true
        result = withUnsafePointer(to: &stripped) { function(signal, $0, old) }
    } else {
        result = function(signal, action, old)
    }
    if result != 0 { return result }
    if let old, showed { old.pointee.mask.first |= sigckptBit }
    if let action {
        if holds != showed { remember(bit, holds) }
        if action.pointee.handler > SIG_IGN { returnThroughRuntime(signal) }
    }
    return result
}
/// The handler returns by way of the runtime, which sets interrupted calls right (interpose.c).
private func returnThroughRuntime(_ signal: Int32) {
    var action = ckpt_sigaction(handler: 0, flags: 0, restorer: 0, mask: 0)
    guard ckpt_rt_sigaction(signal, nil, &action) == 0, action.handler > SIG_IGN, action.flags & 0x0400_0000 != 0 else { return }
    action.restorer = interpose_restorer_address(action.flags & UInt64(UInt32(bitPattern: ActionFlag.restart)) != 0)
    _ = ckpt_rt_sigaction(signal, &action, nil)
}
private func remember(_ bit: UInt64, _ holds: Bool) {
    if holds { interpose_or64(&interpose_state().pointee.masked_actions, bit) } else { interpose_and64(&interpose_state().pointee.masked_actions, ~bit) }
}
private func forget(_ signal: Int32) {
    if signal > 0 && signal < 64 && ckpt_load64(&interpose_state().pointee.masked_actions) != 0 { remember(1 << UInt64(signal &- 1), false) }
}
/// The handler goes last: SIGCKPT may arrive in between.
private func install(_ action: interpose_sigaction) {
    interpose_state().pointee.action.handler = SIG_DFL
    interpose_state().pointee.action.mask = action.mask
    interpose_state().pointee.action.flags = action.flags
    interpose_state().pointee.action.restorer = action.restorer
    ckpt_store64(&interpose_state().pointee.action.handler, action.handler)
}
private func installSimple(_ handler: Disposition, flags: Int32, mask: UInt64) -> Disposition {
    if handler == SIG_ERR { _ = fail(EINVAL); return SIG_ERR }
    let old = interpose_state().pointee.action.handler
    install(interpose_sigaction(handler: handler, mask: interpose_sigset(mask), flags: flags, pad: 0, restorer: 0))
    return old
}

typealias SignalFunction = @convention(c) (Int32, Disposition) -> Disposition
private func simpleSignal(_ entry: Int, _ signal: Int32, _ handler: Disposition, flags: Int32, mask: UInt64) -> Disposition {
    if signal == sigckpt && isMember { return installSimple(handler, flags: flags, mask: mask) }
    guard let function = real(entry, as: SignalFunction.self) else { _ = fail(ENOSYS); return SIG_ERR }
    let old = function(signal, handler)
    if old != SIG_ERR && isMember {
        forget(signal)
        if handler > SIG_IGN { returnThroughRuntime(signal) }
    }
    return old
}
@c(signal) public func interposeSignal(_ signal: Int32, _ handler: UInt64) -> UInt64 {
    simpleSignal(INTERPOSE_signal, signal, handler, flags: ActionFlag.restart, mask: sigckptBit)
}
@c(bsd_signal) public func interposeBSDSignal(_ signal: Int32, _ handler: UInt64) -> UInt64 {
    simpleSignal(INTERPOSE_signal, signal, handler, flags: ActionFlag.restart, mask: sigckptBit)
}
@c(ssignal) public func interposeSsignal(_ signal: Int32, _ handler: UInt64) -> UInt64 {
    simpleSignal(INTERPOSE_signal, signal, handler, flags: ActionFlag.restart, mask: sigckptBit)
}
@c(sysv_signal) public func interposeSysvSignal(_ signal: Int32, _ handler: UInt64) -> UInt64 {
    simpleSignal(INTERPOSE_sysv_signal, signal, handler, flags: ActionFlag.resetHand | ActionFlag.noDefer, mask: 0)
}
@c(__sysv_signal) public func interposeUnderscoreSysvSignal(_ signal: Int32, _ handler: UInt64) -> UInt64 {
    simpleSignal(INTERPOSE_sysv_signal, signal, handler, flags: ActionFlag.resetHand | ActionFlag.noDefer, mask: 0)
}
@c(__sigaction) public func interposeUnderscoreSigaction(_ signal: Int32, _ action: UnsafePointer<interpose_sigaction>?, _ old: UnsafeMutablePointer<interpose_sigaction>?) -> Int32 {
    interposeSigaction(signal, action, old)
}
/// System V's: SIG_HOLD blocks, everything else unblocks; the old disposition is SIG_HOLD if it was blocked.
@c(sigset) public func interposeSigset(_ signal: Int32, _ handler: UInt64) -> UInt64 {
    guard signal == sigckpt && isMember else { return simpleSignal(INTERPOSE_sigset, signal, handler, flags: 0, mask: 0) }
    let was = believesBlocked(), old = interpose_state().pointee.action.handler
    if handler == SIG_HOLD { setBelief(blocked: true); return was ? SIG_HOLD : old }
    if installSimple(handler, flags: 0, mask: 0) == SIG_ERR { return SIG_ERR }
    setBelief(blocked: false)
    return was ? SIG_HOLD : old
}
@c(sigignore) public func interposeSigignore(_ signal: Int32) -> Int32 {
    if signal == sigckpt && isMember { return installSimple(SIG_IGN, flags: 0, mask: 0) == SIG_ERR ? -1 : 0 }
    forget(signal)
    return real(INTERPOSE_sigignore, as: (@convention(c) (Int32) -> Int32).self)?(signal) ?? fail(ENOSYS)
}
@c(siginterrupt) public func interposeSiginterrupt(_ signal: Int32, _ interrupt: Int32) -> Int32 {
    guard signal == sigckpt && isMember else {
        let result = real(INTERPOSE_siginterrupt, as: (@convention(c) (Int32, Int32) -> Int32).self)?(signal, interrupt) ?? fail(ENOSYS)
        if result == 0 && isMember { returnThroughRuntime(signal) }
        return result
    }
    if interrupt != 0 { interpose_state().pointee.action.flags &= ~ActionFlag.restart } else { interpose_state().pointee.action.flags |= ActionFlag.restart }
    return 0
}

// MARK: an application that sends itself SIGCKPT

/// Called by the runtime's handler when no checkpoint is under way: runs the application's own handler.  True if it ran (an interrupted
/// call then stays interrupted).  A SIGCKPT from outside by tgkill(2) is the initiator's, whatever it was for.
func deliverApplicationSIGCKPT(_ info: UnsafeMutablePointer<ckpt_siginfo>, _ context: UnsafeMutablePointer<ckpt_ucontext>) -> Bool {
    let SI_TKILL: Int32 = -6
    if info.pointee.si_code == SI_TKILL && info.pointee.si_pid != ckpt_getpid() { return false }
    if believesBlocked(), let b = belief(create: false) {
        b.pointee.info = info.pointee
        ckpt_store(&b.pointee.pending, 1)
        return false
    }
    let action = interpose_state().pointee.action
    guard action.handler != SIG_DFL, action.handler != SIG_IGN, let handler = UnsafeRawPointer(bitPattern: UInt(action.handler)) else { return false }
    if action.flags & ActionFlag.resetHand != 0 { ckpt_store64(&interpose_state().pointee.action.handler, SIG_DFL) }
    var mask = (context.pointee.sigmask | action.mask.first) & ~sigckptBit
    _ = ckpt_rt_sigprocmask(MaskChange.set, &mask, nil)
    typealias Handler = @convention(c) (Int32, UnsafeMutablePointer<ckpt_siginfo>, UnsafeMutablePointer<ckpt_ucontext>) -> Void
    unsafeBitCast(handler, to: Handler.self)(sigckpt, info, context)
    return true
}
