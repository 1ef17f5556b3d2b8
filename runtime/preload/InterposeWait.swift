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

/// Whether a snapshot that still writes is this process's only child: a wait with __WALL would sleep until it ends, instead of
/// failing with ECHILD.
@c(interpose_has_only_snapshot) func hasOnlySnapshot(_ options: UInt32) -> Int32 {
    let runtime = ckpt_runtime(), wall: UInt32 = 0x4000_0000
    guard options & wall != 0, runtime.pointee.snapshot_pid != 0, runtime.pointee.snapshot_owner == ckpt_getpid() else { return 0 }
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
                if name[0] != 46 && hasOtherChild(task: name, than: runtime.pointee.snapshot_pid) { return 0 }
                at &+= Int(b.load(fromByteOffset: at &+ 16, as: UInt16.self))
            }
        }
    }
}
/// The first two children of the task tell: only one is the snapshot.
private func hasOtherChild(task: UnsafePointer<CChar>, than snapshot: Int32) -> Bool {
    var path = Line()
    path.put("/proc/self/task/"); path.put(text: task); path.put("/children")
    let fd = path.withCString { ckpt_open($0, 0o2000000, 0) }
    if fd < 0 { return true }                       // unknown: the wait is the kernel's
    let file = OwnedDescriptor(adopting: Descriptor(Int32(truncatingIfNeeded: fd)))
    var text = InlineArray<4, UInt64>(repeating: 0)
    var span = text.mutableSpan
    return span.withUnsafeMutableBytes { b in
        let n = ckpt_read(file.raw.value, b.baseAddress!, b.count)
        var pid: Int32 = 0, i = 0
        while i < n {
            let c = b[i]
            if c >= 48 && c <= 57 { pid = pid &* 10 &+ Int32(c &- 48) } else {
                if pid != 0 && pid != snapshot { return true }
                pid = 0
            }
            i &+= 1
        }
        return n < 0
    }
}

/// uc_sigmask of <ucontext.h> lies where the kernel has it.
@c(interpose_strip_context) func stripContext(_ context: UnsafeMutableRawPointer) {
    if isMember { context.assumingMemoryBound(to: ckpt_ucontext.self).pointee.sigmask &= ~sigckptBit }
}
