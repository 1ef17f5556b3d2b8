// Runs in the application: the constructor before main (ordinary context, libc possibly not initialised yet), the rest from the SIGCKPT handler.
// Raw system calls only: nothing here may allocate, lock, touch errno or TLS, because the interrupted code may be inside any of them.
import CkptABI
import PreloadBoot
import Freestanding

@inline(__always) func phase(_ word: UInt32) -> ckpt_phase { ckpt_phase(rawValue: word & UInt32(CKPT_PHASE_MASK)) }
@inline(__always) func generation(_ word: UInt32) -> UInt32 { word >> 8 }

enum OpenFlags {
    static let readOnly: Int32 = 0, readWrite: Int32 = 2, closeOnExec: Int32 = 0o2000000
}
enum Mapping {
    static let read: Int32 = 1, write: Int32 = 2
    static let shared: Int32 = 1, `private`: Int32 = 2, anonymous: Int32 = 0x20
}
enum SignalMask { static let block: Int32 = 0, unblock: Int32 = 1, set: Int32 = 2 }

/// Called by the dynamic loader: joins the session named in the environment.  Whatever goes wrong, the application starts all the same;
/// the initiator then names the process as one that did not load the runtime.
@c(ckpt_runtime_start)
func start(_ passed: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) {
    let envp = passed ?? environmentVariable().flatMap { UnsafeMutableRawPointer(mutating: $0.pointee)?.assumingMemoryBound(to: UnsafeMutablePointer<CChar>?.self) }
    if let envp, let path = environmentValue(envp, "CKPT_SESSION"), let session = mapSession(path) {
        interposeStart(session)
        installHandler()
        ckpt_runtime().pointee.session = session
        takeNotes(session)
        ckpt_runtime().pointee.rseq_offset_address = libcObject("__rseq_offset")
        ckpt_runtime().pointee.rseq_size_address = libcObject("__rseq_size")
    } else {
        interposeStart(nil)
        discardCall()
    }
    // The mask was inherited across exec with SIGCKPT blocked; a checkpoint that came meanwhile is delivered here.
    var bit = ckpt_sigckpt_bit()
    _ = ckpt_rt_sigprocmask(SignalMask.unblock, &bit, nil)
}

private func mapSession(_ path: UnsafePointer<CChar>) -> UnsafeMutablePointer<ckpt_session>? {
    do throws(Errno) {
        let file = try OwnedDescriptor(path: path, flags: OpenFlags.readWrite | OpenFlags.closeOnExec)
        let address = try check(ckpt_mmap(0, ckpt_session_size(), Mapping.read | Mapping.write, Mapping.shared, file.raw.value, 0))
        guard let session = UnsafeMutablePointer<ckpt_session>(bitPattern: address) else { return nil }
        if session.pointee.magic == ckpt_session_magic() && session.pointee.abi_version == UInt32(CKPT_ABI_VERSION) { return session }
        _ = ckpt_munmap(UInt64(address), ckpt_session_size())
        return nil
    } catch { return nil }
}

/// An exec ends a dispatch of system calls, and keeps a confinement.
private func takeNotes(_ session: UnsafeMutablePointer<ckpt_session>) {
    let dispatching = ckpt_dispatching(session), confined = ckpt_confined(session)
    guard ckpt_any_noted(dispatching) || ckpt_any_noted(confined) else { return }
    let pids = namespaceNumber("/proc/self/ns/pid")
    ckpt_forget_noted(dispatching, ckpt_note_of(pids, ckpt_gettid()))
    if ckpt_is_noted(confined, ckpt_note_of(pids, ckpt_getpid())) { ckpt_runtime().pointee.is_confined = 1 }
}

/// Another user's session: a checkpoint that called us before the exec is not ours, and nobody handles its signal.
private func discardCall() {
    let ignore: UInt64 = 1
    var action = ckpt_sigaction(handler: ignore, flags: 0, restorer: 0, mask: 0), before = ckpt_sigaction(handler: 0, flags: 0, restorer: 0, mask: 0)
    _ = ckpt_rt_sigaction(CKPT_SIGCKPT.signal, &action, &before)        // takes off what is pending
    _ = ckpt_rt_sigaction(CKPT_SIGCKPT.signal, &before, nil)
}

private func installHandler() {
    let siginfo: UInt64 = 4, onStack: UInt64 = 0x0800_0000, restart: UInt64 = 0x1000_0000, restorer: UInt64 = 0x0400_0000
    var action = ckpt_sigaction(handler: ckpt_handler_address(), flags: siginfo | onStack | restart | restorer,
                                restorer: ckpt_restorer_address(), mask: ~0)
    _ = ckpt_rt_sigaction(CKPT_SIGCKPT.signal, &action, nil)
}

extension UInt32 { @inline(__always) var signal: Int32 { Int32(bitPattern: self) } }
extension Int { @inline(__always) var signal: Int32 { Int32(truncatingIfNeeded: self) } }

func environmentValue(_ envp: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>, _ name: StaticString) -> UnsafeMutablePointer<CChar>? {
    var e = envp
    let n = name.utf8CodeUnitCount
    while let s = e.pointee {
        var i = 0
        while i < n && UInt8(bitPattern: s[i]) == name.utf8Start[i] { i += 1 }
        if i == n && s[i] == 61 { return s + (n + 1) }
        e += 1
    }
    return nil
}

/// Every Swift trap of the runtime comes here.  In a parked task it becomes an aborted checkpoint; in the snapshot, a failed one.
@c(ckpt_trap)
func trap() -> Never {
    if let session = ckpt_runtime().pointee.session {
        ckpt_fail(session, CKPT_ERROR_TRAP.rawValue, 0, 0)
        if ckpt_runtime().pointee.is_snapshot != 0 { ckpt_exit_group(70) }
        let tid = ckpt_gettid(), pid = ckpt_getpid()
        let used = ckpt_tasks_used(session)
        var i: UInt32 = 0
        while i < used {
            let slot = ckpt_task_slot(session, i)
            if slot.pointee.tid == tid && slot.pointee.pid == pid && slot.pointee.resume_rsp != 0 && ckpt_load(&slot.pointee.parked) != 0 {
                awaitEnd(session, generation(ckpt_load(ckpt_phase_word(session))))
                ckpt_unpark_trapped(slot.pointee.resume_rsp)
            }
            i += 1
        }
    }
    ckpt_exit_group(70)
}
