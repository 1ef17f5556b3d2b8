// Runs inside applications, on the caller's stack, after a wait that found a child: no libc, no lock, no allocation.
// A snapshot is nobody's child: the wait family shows none, also where it was adopted by a sub-reaper of the tree.
import CkptABI
import PreloadBoot
import Freestanding

/// Its owner sees a snapshot only by __WCLONE or __WALL, since it has no exit signal; a sub-reaper sees it by any wait.
@c(interpose_is_snapshot) func isSnapshot(_ pid: Int32, _ options: UInt32) -> Int32 {
    guard let session = ckpt_runtime().pointee.session else { return 0 }
    if options & 0xc000_0000 == 0 && session.pointee.has_subreaper == 0 { return 0 }
    if isOwn(pid) {
        ckpt_runtime().pointee.snapshot_pid = 0     // taken away here instead of in the handler
        return 1
    }
    return isListed(session, pid) ? 1 : 0
}
/// This process's, also where the checkpoint that it was for has been given up, and no slot names it any more.  A forked child has our number, but not the snapshot.
private func isOwn(_ pid: Int32) -> Bool { ckpt_runtime().pointee.snapshot_pid == pid && ckpt_runtime().pointee.snapshot_owner == ckpt_getpid() }
/// The snapshot of any process of the session.
private func isListed(_ session: UnsafeMutablePointer<ckpt_session>, _ pid: Int32) -> Bool {
    let used = ckpt_processes_used(session)
    var i: UInt32 = 0
    while i < used {
        if ckpt_process_slot(session, i).pointee.snapshot_pid == pid { return true }
        i &+= 1
    }
    return false
}

/// Whether snapshots that still write are this process's only children: a wait would sleep until they end, instead of failing with ECHILD.
/// Its own counts with __WALL; one that a sub-reaper has adopted, in any wait.
@c(interpose_has_only_snapshot) func hasOnlySnapshot(_ options: UInt32) -> Int32 {
    let runtime = ckpt_runtime(), wall: UInt32 = 0x4000_0000
    guard let session = runtime.pointee.session else { return 0 }
    let ownCounts = options & wall != 0 && runtime.pointee.snapshot_pid != 0 && isOwn(runtime.pointee.snapshot_pid)
    guard ownCounts || session.pointee.has_subreaper != 0 else { return 0 }
    let fd = ckpt_open(StaticString("/proc/self/task").cString, 0o2200000 /* O_DIRECTORY | O_CLOEXEC */, 0)
    if fd < 0 { return 0 }
    let tasks = OwnedDescriptor(adopting: Descriptor(Int32(truncatingIfNeeded: fd)))
    var entries = InlineArray<128, UInt64>(repeating: 0)
    var span = entries.mutableSpan
    return span.withUnsafeMutableBytes { b in
        while true {
            let n = ckpt_syscall(Int(CKPT_SYS_getdents64), Int(tasks.raw.value), Int(bitPattern: b.baseAddress!), b.count, 0, 0, 0)
            if n <= 0 { return n == 0 ? 1 : 0 }
            var at = 0
            while at < n {
                let name = (b.baseAddress! + (at &+ 19)).assumingMemoryBound(to: CChar.self)      // struct linux_dirent64: d_name
                if name[0] != 46 && hasRealChild(task: name, session) { return 0 }
                at &+= Int(b.load(fromByteOffset: at &+ 16, as: UInt16.self))
            }
        }
    }
}
/// A child that is no snapshot.
private func hasRealChild(task: UnsafePointer<CChar>, _ session: UnsafeMutablePointer<ckpt_session>) -> Bool {
    var path = Line()
    path.put("/proc/self/task/"); path.put(text: task); path.put("/children")
    let fd = path.withCString { ckpt_open($0, 0o2000000, 0) }
    if fd < 0 { return true }                       // unknown: the wait is the kernel's
    let file = OwnedDescriptor(adopting: Descriptor(Int32(truncatingIfNeeded: fd)))
    var text = InlineArray<16, UInt64>(repeating: 0), pid: Int32 = 0
    var span = text.mutableSpan
    return span.withUnsafeMutableBytes { b in
        while true {
            let n = ckpt_read(file.raw.value, b.baseAddress!, b.count)
            if n <= 0 { return n < 0 }
            var i = 0
            while i < n {
                let c = b[i]
                if c >= 48 && c <= 57 { pid = pid &* 10 &+ Int32(c &- 48) } else {
                    if pid != 0 && !isOwn(pid) && !isListed(session, pid) { return true }
                    pid = 0
                }
                i &+= 1
            }
        }
    }
}

/// uc_sigmask of <ucontext.h> lies where the kernel has it.
@c(interpose_strip_context) func stripContext(_ context: UnsafeMutableRawPointer) {
    if isMember { context.assumingMemoryBound(to: ckpt_ucontext.self).pointee.sigmask &= ~sigckptBit }
}
