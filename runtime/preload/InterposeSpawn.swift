// Runs inside applications, on the caller's stack: no libc but the functions it goes on to, no allocation.
// posix_spawn, popen and system: libc starts the image itself, so the wrappers prepare what the child inherits.
import CkptABI
import PreloadBoot
import Freestanding

typealias Spawn = @convention(c) (UnsafeMutablePointer<Int32>?, UnsafePointer<CChar>?, UnsafeRawPointer?, UnsafeRawPointer?, Strings?, Strings?) -> Int32
typealias Popen = @convention(c) (UnsafePointer<CChar>?, UnsafePointer<CChar>?) -> UnsafeMutableRawPointer?
private typealias GetFlags = @convention(c) (UnsafeRawPointer, UnsafeMutablePointer<Int16>) -> Int32
private typealias GetMask = @convention(c) (UnsafeRawPointer, MutableSignalSet) -> Int32
private typealias SetMask = @convention(c) (UnsafeMutableRawPointer, SignalSet) -> Int32
private let POSIX_SPAWN_SETSIGMASK: Int16 = 8

func callSpawn(_ r: inout ImageRequest) -> Int32 {
    if r.kind == .popen { return callPopen(&r) }
    let entry: Int
    switch r.kind {
    case .spawnp: entry = INTERPOSE_posix_spawnp
    case .pidfdSpawn: entry = INTERPOSE_pidfd_spawn
    case .pidfdSpawnp: entry = INTERPOSE_pidfd_spawnp
    default: entry = INTERPOSE_posix_spawn
    }
    guard let function = real(entry, as: Spawn.self) else { return ENOSYS }
    guard isMember, let attribute = r.attribute, setsMask(attribute) else {
        return function(r.pid, r.path, r.actions, r.attribute, r.argv, r.envp)
    }
    var copy = attribute.load(as: interpose_spawnattr.self)
    return withUnsafeMutablePointer(to: &copy) { c in
        blockSIGCKPT(in: c)
        return function(r.pid, r.path, r.actions, UnsafeRawPointer(c), r.argv, r.envp)
    }
}
private func setsMask(_ attribute: UnsafeRawPointer) -> Bool {
    var flags: Int16 = 0
    _ = real(INTERPOSE_posix_spawnattr_getflags, as: GetFlags.self)?(attribute, &flags)
    return flags & POSIX_SPAWN_SETSIGMASK != 0
}
/// The mask that the child sets before its exec holds SIGCKPT too.
private func blockSIGCKPT(in attribute: UnsafeMutablePointer<interpose_spawnattr>) {
    var mask = interpose_sigset(0)
    _ = real(INTERPOSE_posix_spawnattr_getsigmask, as: GetMask.self)?(attribute, &mask)
    mask.first |= sigckptBit
    _ = withUnsafePointer(to: &mask) { real(INTERPOSE_posix_spawnattr_setsigmask, as: SetMask.self)?(attribute, $0) }
}

private func spawn(_ kind: ImageKind, _ pid: UnsafeMutablePointer<Int32>?, _ path: UnsafePointer<CChar>?, _ actions: UnsafeRawPointer?,
                   _ attribute: UnsafeRawPointer?, _ argv: Strings?, _ envp: Strings?) -> Int32 {
    var r = ImageRequest(kind: kind, path: path, argv: argv, envp: envp, pid: pid, actions: actions, attribute: attribute)
    return startImage(&r)
}
@c(posix_spawn) public func interposeSpawn(_ pid: UnsafeMutablePointer<Int32>?, _ path: UnsafePointer<CChar>?, _ actions: UnsafeRawPointer?,
        _ attribute: UnsafeRawPointer?, _ argv: UnsafePointer<UnsafePointer<CChar>?>?, _ envp: UnsafePointer<UnsafePointer<CChar>?>?) -> Int32 {
    spawn(.spawn, pid, path, actions, attribute, argv, envp)
}
@c(posix_spawnp) public func interposeSpawnp(_ pid: UnsafeMutablePointer<Int32>?, _ file: UnsafePointer<CChar>?, _ actions: UnsafeRawPointer?,
        _ attribute: UnsafeRawPointer?, _ argv: UnsafePointer<UnsafePointer<CChar>?>?, _ envp: UnsafePointer<UnsafePointer<CChar>?>?) -> Int32 {
    spawn(.spawnp, pid, file, actions, attribute, argv, envp)
}
/// glibc 2.39.
@c(pidfd_spawn) public func interposePidfdSpawn(_ descriptor: UnsafeMutablePointer<Int32>?, _ path: UnsafePointer<CChar>?, _ actions: UnsafeRawPointer?,
        _ attribute: UnsafeRawPointer?, _ argv: UnsafePointer<UnsafePointer<CChar>?>?, _ envp: UnsafePointer<UnsafePointer<CChar>?>?) -> Int32 {
    spawn(.pidfdSpawn, descriptor, path, actions, attribute, argv, envp)
}
@c(pidfd_spawnp) public func interposePidfdSpawnp(_ descriptor: UnsafeMutablePointer<Int32>?, _ file: UnsafePointer<CChar>?, _ actions: UnsafeRawPointer?,
        _ attribute: UnsafeRawPointer?, _ argv: UnsafePointer<UnsafePointer<CChar>?>?, _ envp: UnsafePointer<UnsafePointer<CChar>?>?) -> Int32 {
    spawn(.pidfdSpawnp, descriptor, file, actions, attribute, argv, envp)
}

// MARK: popen

/// It takes its environment from `environ` and its child's mask from the caller, and does not wait.
@c(popen) public func interposePopen(_ command: UnsafePointer<CChar>?, _ mode: UnsafePointer<CChar>?) -> UnsafeMutableRawPointer? {
    var r = ImageRequest(kind: .popen, path: command, argv: nil, envp: environmentVariable()?.pointee)
    r.actions = UnsafeRawPointer(mode)
    _ = startImage(&r)
    return r.stream
}
private func callPopen(_ r: inout ImageRequest) -> Int32 {
    guard let function = real(INTERPOSE_popen, as: Popen.self) else { return fail(ENOSYS) }
    let mode = r.actions?.assumingMemoryBound(to: CChar.self)
    guard let variable = environmentVariable(), variable.pointee != r.envp else { r.stream = function(r.path, mode); return 0 }
    // The application has dropped our entries from its environment: the child gets them, and the application's goes back.
    let own = variable.pointee
    variable.pointee = r.envp
    r.stream = function(r.path, mode)
    if variable.pointee == r.envp { variable.pointee = own }
    return 0
}

// MARK: system

private typealias Attribute = @convention(c) (UnsafeMutableRawPointer) -> Int32
private typealias SetFlags = @convention(c) (UnsafeMutableRawPointer, Int16) -> Int32

/// What system(3) changes while it waits; the C side keeps it on its stack.
struct SystemCall {
    var pid: Int32 = 0
    var error: Int32 = 0
    var mask: UInt64 = 0
}
private func sigaction(_ signal: Int32, _ new: SignalAction?, _ old: MutableSignalAction?) { _ = interposeSigaction(signal, new, old) }

/// Holders run with all signals blocked, so a checkpoint never finds the lock held by a task that is stopped.
private func locked(_ body: () -> Void) {
    var all = UInt64.max, before: UInt64 = 0
    _ = ckpt_rt_sigprocmask(MaskChange.block, &all, &before)
    while !ckpt_cas(&interpose_state().pointee.system_lock, 0, 1) { _ = ckpt_syscall(Int(CKPT_SYS_sched_yield), 0, 0, 0, 0, 0, 0) }
    body()
    ckpt_store(&interpose_state().pointee.system_lock, 0)
    _ = ckpt_rt_sigprocmask(MaskChange.set, &before, nil)
}
/// First half of system(3): ignores SIGINT and SIGQUIT, blocks SIGCHLD and starts the shell.
@c(interpose_system_begin) func systemBegin(_ memory: UnsafeMutableRawPointer, _ command: UnsafePointer<CChar>) {
    let s = memory.assumingMemoryBound(to: SystemCall.self)
    s.pointee = SystemCall()
    let state = interpose_state()
    locked {
        if state.pointee.system_depth == 0 {
            var ignore = interpose_sigaction()
            ignore.handler = SIG_IGN
            withUnsafePointer(to: &ignore) {
                sigaction(2, $0, &state.pointee.system_interrupt)
                sigaction(3, $0, &state.pointee.system_quit)
            }
        }
        state.pointee.system_depth &+= 1
    }
    var child: UInt64 = 1 << 16
    _ = ckpt_rt_sigprocmask(MaskChange.block, &child, &s.pointee.mask)
    s.pointee.error = startShell(s, command)
}
private func startShell(_ s: UnsafeMutablePointer<SystemCall>, _ command: UnsafePointer<CChar>) -> Int32 {
    var attribute = interpose_spawnattr(), defaults = interpose_sigset(0), mask = interpose_sigset(s.pointee.mask)
    if interpose_state().pointee.system_interrupt.handler != SIG_IGN { defaults.first |= 1 << 1 }
    if interpose_state().pointee.system_quit.handler != SIG_IGN { defaults.first |= 1 << 2 }
    _ = real(INTERPOSE_posix_spawnattr_init, as: Attribute.self)?(&attribute)
    _ = withUnsafePointer(to: &defaults) { real(INTERPOSE_posix_spawnattr_setsigdefault, as: SetMask.self)?(&attribute, $0) }
    _ = withUnsafePointer(to: &mask) { real(INTERPOSE_posix_spawnattr_setsigmask, as: SetMask.self)?(&attribute, $0) }
    _ = real(INTERPOSE_posix_spawnattr_setflags, as: SetFlags.self)?(&attribute, POSIX_SPAWN_SETSIGMASK | 4 /* SETSIGDEF */)
    var arguments = InlineArray<4, UnsafePointer<CChar>?>(repeating: nil)
    arguments[0] = StaticString("sh").cString
    arguments[1] = StaticString("-c").cString
    arguments[2] = command
    let result = arguments.span.withUnsafeBufferPointer { argv in
        withUnsafePointer(to: &attribute) {
            spawn(.spawn, &s.pointee.pid, StaticString("/bin/sh").cString, nil, UnsafeRawPointer($0), argv.baseAddress, environmentVariable()?.pointee)
        }
    }
    _ = real(INTERPOSE_posix_spawnattr_destroy, as: Attribute.self)?(&attribute)
    return result
}
/// Second half: the last one out restores the two actions.
@c(interpose_system_end) func systemEnd(_ memory: UnsafeMutableRawPointer) {
    let s = memory.assumingMemoryBound(to: SystemCall.self)
    let state = interpose_state()
    locked {
        state.pointee.system_depth &-= 1
        if state.pointee.system_depth == 0 {
            sigaction(2, &state.pointee.system_interrupt, nil)
            sigaction(3, &state.pointee.system_quit, nil)
        }
    }
    _ = ckpt_rt_sigprocmask(MaskChange.set, &s.pointee.mask, nil)
}
