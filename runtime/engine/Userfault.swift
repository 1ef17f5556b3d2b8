// Runs in the engine, in each process of the tree and in whoever fills its memory; no allocation, no libc.
// userfaultfd(2): memory that is missing comes from us.
import CkptABI
import EngineBoot
import Freestanding

/// `user`: only for faults of user mode, which everybody may have; enough to fill memory that nobody touches.  Else to be read without blocking.
func openUserfault(user: Bool, features: UInt64) -> Int {
    let fd = system(CKPT_SYS_userfaultfd, Int(CKPT_UFFD_CLOEXEC) | (user ? Int(CKPT_UFFD_USER_MODE_ONLY) : 0o4000))
    guard fd >= 0 else { return fd }
    var api = ckpt_uffdio_api(api: 0xaa, features: features, ioctls: 0)
    let r = system(CKPT_SYS_ioctl, fd, Int(CKPT_UFFDIO_API), int(&api))
    guard r == 0 else { _ = ckpt_close(Int32(truncatingIfNeeded: fd)); return r }
    return Int(lift(Int32(truncatingIfNeeded: fd), "userfaultfd"))
}

func registerMemory(_ fd: Int32, _ start: UInt64, _ end: UInt64) -> Int {
    var r = ckpt_uffdio_register(start: start, size: end - start, mode: UInt64(CKPT_UFFD_MISSING), ioctls: 0)
    return system(CKPT_SYS_ioctl, Int(fd), Int(CKPT_UFFDIO_REGISTER), int(&r))
}

/// Puts a copy of `n` bytes where nothing is; how many, or a negative errno.
func copyOnce(_ fd: Int32, to: UInt64, from: UInt64, _ n: UInt64) -> Int {
    var c = ckpt_uffdio_copy(to: to, from: from, size: n, mode: 0, done: 0)
    let r = system(CKPT_SYS_ioctl, Int(fd), Int(CKPT_UFFDIO_COPY), int(&c))
    return c.done > 0 ? Int(c.done) : r
}
/// All of it; 0 or a negative errno.
func copyMemory(_ fd: Int32, to: UInt64, from: UInt64, _ n: UInt64) -> Int {
    var done: UInt64 = 0
    while done < n {
        let r = copyOnce(fd, to: to + done, from: from + done, n - done)
        if r < 0 { return r }
        done += UInt64(r)
    }
    return 0
}

/// Moves up to `n` bytes of this process's memory, huge pages as a whole, to where nothing is; how many, as far as the kernel will.
/// Where there was no huge page to begin with, small ones go one by one, and it may stop between two.
func moveMemory(_ fd: Int32, to: UInt64, from: UInt64, _ n: UInt64) -> UInt64 {
    let again = -11, busy = -16
    var moved: UInt64 = 0, tries = 0
    while moved < n && tries < 8 {
        var m = ckpt_uffdio_copy(to: to + moved, from: from + moved, size: n - moved, mode: 0, done: 0)
        let r = system(CKPT_SYS_ioctl, Int(fd), Int(CKPT_UFFDIO_MOVE), int(&m))
        if r == 0 { return n }
        // Somebody looked at a page.
        guard r == again || r == busy else { break }
        if m.done > 0 { moved += UInt64(m.done); tries = 0 } else { tries += 1 }
    }
    return moved
}
