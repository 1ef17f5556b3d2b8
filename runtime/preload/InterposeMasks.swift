// Runs inside applications, on the caller's stack, also in signal handlers and vfork children: no libc, no lock, no allocation.
// Signal masks: SIGCKPT never reaches the kernel's mask, and each thread goes on seeing the mask that it set.
import CkptABI
import PreloadBoot
import Freestanding

typealias SignalSet = UnsafePointer<interpose_sigset>
typealias MutableSignalSet = UnsafeMutablePointer<interpose_sigset>
let sigckpt = Int32(CKPT_SIGCKPT)
@inline(__always) var sigckptBit: UInt64 { ckpt_sigckpt_bit() }
enum MaskChange { static let block: Int32 = 0, unblock: Int32 = 1, set: Int32 = 2 }

enum Membership { case unknown, member, stranger }
/// Before the constructor nobody knows; SIGCKPT's place in the mask must then stay what exec left.
@inline(__always) var membership: Membership {
    if ckpt_runtime().pointee.session != nil { return .member }
    return ckpt_load(&interpose_state().pointee.started) == 0 ? .unknown : .stranger
}
@inline(__always) var isMember: Bool { ckpt_runtime().pointee.session != nil }

extension interpose_sigset {
    init(_ first: UInt64) { self.init(); self.first = first }
}

// MARK: what a thread believes

/// The thread's entry, made if `create`; nil when there is none, or the table is full and the belief is lost.
func belief(create: Bool) -> UnsafeMutablePointer<interpose_belief>? {
    let thread = interpose_thread()
    var i = UInt32(truncatingIfNeeded: thread >> 6 &* 0x9e37_79b1) % UInt32(INTERPOSE_BELIEFS)
    for _ in 0 ..< INTERPOSE_BELIEFS {
        let b = interpose_belief(i)
        let holder = ckpt_load64(&b.pointee.thread)
        if holder == thread { return b }
        if holder == 0 {
            if !create { return nil }
            if interpose_cas64(&b.pointee.thread, 0, thread) { return b }
            continue                    // somebody else took it: look at it again
        }
        i = (i &+ 1) % UInt32(INTERPOSE_BELIEFS)
    }
    return nil
}
/// Whether the calling thread believes that SIGCKPT is blocked.
@inline(__always) func believesBlocked() -> Bool {
    if ckpt_load(&interpose_state().pointee.believers) == 0 { return false }
    guard let b = belief(create: false) else { return false }
    return ckpt_load(&b.pointee.blocked) != 0
}
func setBelief(blocked: Bool) {
    if !blocked && ckpt_load(&interpose_state().pointee.believers) == 0 { return }
    guard let b = belief(create: blocked) else { return }
    let was = interpose_exchange(&b.pointee.blocked, blocked ? 1 : 0)
    if blocked && was == 0 { _ = ckpt_add(&interpose_state().pointee.believers, 1) }
    if !blocked && was != 0 {
        _ = ckpt_add(&interpose_state().pointee.believers, UInt32.max)
        if interpose_exchange(&b.pointee.pending, 0) != 0 {     // it comes now, as a pending signal does
            _ = ckpt_syscall(Int(CKPT_SYS_rt_tgsigqueueinfo), Int(ckpt_getpid()), Int(ckpt_gettid()), Int(sigckpt),
                             Int(bitPattern: withUnsafeMutablePointer(to: &b.pointee.info) { $0 }), 0, 0)
        }
    }
}
/// For threads created by one that believes: the mask is inherited.
@c(interpose_believes) func believesForC() -> Int32 { believesBlocked() ? 1 : 0 }
@c(interpose_believe) func believeForC(_ blocked: Int32) { setBelief(blocked: blocked != 0) }

// MARK: sigprocmask and pthread_sigmask

typealias MaskFunction = @convention(c) (Int32, SignalSet?, MutableSignalSet?) -> Int32

@c(sigprocmask) public func interposeSigprocmask(_ how: Int32, _ set: UnsafePointer<interpose_sigset>?, _ old: UnsafeMutablePointer<interpose_sigset>?) -> Int32 {
    guard let function = real(INTERPOSE_sigprocmask, as: MaskFunction.self) else { return fail(ENOSYS) }
    return changeMask(function, how, set, old)
}
@c(pthread_sigmask) public func interposePthreadSigmask(_ how: Int32, _ set: UnsafePointer<interpose_sigset>?, _ old: UnsafeMutablePointer<interpose_sigset>?) -> Int32 {
    guard let function = real(INTERPOSE_pthread_sigmask, as: MaskFunction.self) else { return ENOSYS }
    return changeMask(function, how, set, old)
}

private func changeMask(_ function: MaskFunction, _ how: Int32, _ set: SignalSet?, _ old: MutableSignalSet?) -> Int32 {
    let state = membership
    if state == .stranger { return function(how, set, old) }
    let was = believesBlocked()
    // libc and the kernel read the first word only; the application may have put no more behind the pointer.
    var stripped = interpose_sigset(0)
    var wanted = false
    if let set {
        let bits = UnsafeRawPointer(set).load(as: UInt64.self)
        wanted = bits & sigckptBit != 0
        stripped.first = bits & ~sigckptBit
        if state == .unknown && how == MaskChange.set { stripped.first |= kernelMask() & sigckptBit }
    }
    let result = withUnsafePointer(to: &stripped) { function(how, set == nil ? nil : $0, old) }
    if result != 0 || state == .unknown { return result }
    if let old { show(was, in: old) }
    if set != nil {
        switch how {
        case MaskChange.block: if wanted { setBelief(blocked: true) }
        case MaskChange.unblock: if wanted { setBelief(blocked: false) }
        default: setBelief(blocked: wanted)
        }
    }
    return result
}
/// Puts the application's view of SIGCKPT into a set that the kernel filled.
@inline(__always) func show(_ blocked: Bool, in set: MutableSignalSet) {
    let raw = UnsafeMutableRawPointer(set)
    let bits = raw.load(as: UInt64.self) & ~sigckptBit
    raw.storeBytes(of: blocked ? bits | sigckptBit : bits, as: UInt64.self)
}
func kernelMask() -> UInt64 {
    var mask: UInt64 = 0
    _ = ckpt_rt_sigprocmask(0, nil, &mask)
    return mask
}

// MARK: the older families

@c(sighold) public func interposeSighold(_ signal: Int32) -> Int32 {
    if signal == sigckpt && isMember { setBelief(blocked: true); return 0 }
    return real(INTERPOSE_sighold, as: (@convention(c) (Int32) -> Int32).self)?(signal) ?? fail(ENOSYS)
}
@c(sigrelse) public func interposeSigrelse(_ signal: Int32) -> Int32 {
    if signal == sigckpt && isMember { setBelief(blocked: false); return 0 }
    return real(INTERPOSE_sigrelse, as: (@convention(c) (Int32) -> Int32).self)?(signal) ?? fail(ENOSYS)
}
/// It sets signals 1 to 32 and unblocks all others.
@c(sigsetmask) public func interposeSigsetmask(_ mask: Int32) -> Int32 {
    if isMember { setBelief(blocked: false) }
    return real(INTERPOSE_sigsetmask, as: (@convention(c) (Int32) -> Int32).self)?(mask) ?? fail(ENOSYS)
}
@c(sigpending) public func interposeSigpending(_ set: UnsafeMutablePointer<interpose_sigset>) -> Int32 {
    guard let function = real(INTERPOSE_sigpending, as: (@convention(c) (MutableSignalSet) -> Int32).self) else { return fail(ENOSYS) }
    let result = function(set)
    if result != 0 || !isMember { return result }
    var pending = false
    if ckpt_load(&interpose_state().pointee.believers) != 0, let b = belief(create: false) { pending = ckpt_load(&b.pointee.pending) != 0 }
    show(pending, in: set)
    return result
}

// MARK: sets that others hand to the kernel

/// signalfd(2) would take SIGCKPT off the queue.
@c(signalfd) public func interposeSignalfd(_ descriptor: Int32, _ set: UnsafePointer<interpose_sigset>, _ flags: Int32) -> Int32 {
    guard let function = real(INTERPOSE_signalfd, as: (@convention(c) (Int32, SignalSet, Int32) -> Int32).self) else { return fail(ENOSYS) }
    if !isMember { return function(descriptor, set, flags) }
    var stripped = interpose_sigset(UnsafeRawPointer(set).load(as: UInt64.self) & ~sigckptBit)
    return withUnsafePointer(to: &stripped) { function(descriptor, $0, flags) }
}
/// A thread created with this attribute would start with SIGCKPT blocked.
@c(pthread_attr_setsigmask_np) public func interposeAttributeMask(_ attribute: UnsafeMutableRawPointer, _ set: UnsafePointer<interpose_sigset>?) -> Int32 {
    guard let function = real(INTERPOSE_pthread_attr_setsigmask_np, as: (@convention(c) (UnsafeMutableRawPointer, SignalSet?) -> Int32).self)
    else { return ENOSYS }
    guard isMember, let set else { return function(attribute, set) }
    var stripped = set.pointee
    stripped.first &= ~sigckptBit
    return withUnsafePointer(to: &stripped) { function(attribute, $0) }
}
