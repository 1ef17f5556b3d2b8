// Runs inside applications, on the caller's stack, after a wait that found a child: no libc, no lock, no allocation.
// A snapshot is nobody's child: the wait family shows none, also where it was adopted by a sub-reaper of the tree.
import CkptABI
import PreloadBoot
import Freestanding

/// Its owner sees a snapshot only by __WCLONE or __WALL, since it has no exit signal; a sub-reaper sees it by any wait.
@c(interpose_is_snapshot) func isSnapshot(_ pid: Int32, _ options: UInt32) -> Int32 {
    guard let session = ckpt_runtime().pointee.session else { return 0 }
    if options & 0xc000_0000 == 0 && session.pointee.has_subreaper == 0 { return 0 }
    let runtime = ckpt_runtime()
    if runtime.pointee.snapshot_pid == pid && runtime.pointee.snapshot_owner == ckpt_getpid() {
        runtime.pointee.snapshot_pid = 0        // taken away here instead of in the handler
        return 1
    }
    let used = min(ckpt_load(&session.pointee.processes_used), UInt32(CKPT_MAX_PROCESSES))
    var i: UInt32 = 0
    while i < used {
        if ckpt_process_slot(session, i).pointee.snapshot_pid == pid { return 1 }
        i &+= 1
    }
    return 0
}

/// uc_sigmask of <ucontext.h> lies where the kernel has it.
@c(interpose_strip_context) func stripContext(_ context: UnsafeMutableRawPointer) {
    if isMember { context.assumingMemoryBound(to: ckpt_ucontext.self).pointee.sigmask &= ~sigckptBit }
}
