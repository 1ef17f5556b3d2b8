// Runs in each process of the tree, on the region's main stack; no allocation, no libc.
// File locks and leases: everybody's locks were compatible at the checkpoint, so each can be taken at once, in any order; if not, somebody else has one.
import CkptABI
import EngineBoot
import Freestanding

/// struct flock as fcntl(2) wants it.
private struct Flock { var type: Int16 = 0, whence: Int16 = 0, pad: Int32 = 0, start: Int64 = 0, length: Int64 = 0, pid: Int32 = 0, pad2: Int32 = 0 }
private let setLock = 6, setOpenLock = 37, getLock = 5, getOpenLock = 36, setLease = 1024

func restoreLocks(_ i: Int) {
    for k in 0..<locks.count where locks[k].pointee.process == UInt32(i) {
        let l = locks[k].pointee
        let r = take(l, Int(l.fd))
        guard r == 0 else { refuseLock(l, Int(l.fd), r, process: i) }
    }
}

/// In the engine: of descriptions that only a message in flight holds.
func restoreLocksInFlight() {
    for k in 0..<locks.count where locks[k].pointee.process == ckpt_no_index() {
        let l = locks[k].pointee, fd = Int(descriptionFd[Int(l.fd)].pointee)
        let r = take(l, fd)
        guard r == 0 else { refuseLock(l, fd, r, process: -1) }
    }
}

private func take(_ l: ckpt_lock_record, _ fd: Int) -> Int {
    if l.kind == CKPT_LOCK_FLOCK.rawValue {
        let shared = 1, exclusive = 2, atOnce = 4
        return system(73, fd, (l.exclusive != 0 ? exclusive : shared) | atOnce)
    }
    if l.kind == CKPT_LOCK_LEASE.rawValue { return takeLease(l, fd) }
    var f = flock(l)
    return system(CKPT_SYS_fcntl, fd, l.kind == CKPT_LOCK_OFD.rawValue ? setOpenLock : setLock, int(&f))
}
private func flock(_ l: ckpt_lock_record) -> Flock {
    var f = Flock()
    f.type = l.exclusive != 0 ? 1 : 0
    f.start = Int64(bitPattern: l.start); f.length = Int64(bitPattern: l.length)
    return f
}

/// Another process of the tree may have the file open for a moment, to map it: a lease that is not to be had at once is asked for again.
private func takeLease(_ l: ckpt_lock_record, _ fd: Int) -> Int {
    var r = -11, tries = 0
    while r == -11 && tries < 500 {
        r = system(CKPT_SYS_fcntl, fd, setLease, l.exclusive != 0 ? 1 : 0)
        if r == -11 { var t = ckpt_timespec(sec: 0, nsec: 2_000_000); _ = system(CKPT_SYS_nanosleep, int(&t), 0) }
        tries += 1
    }
    return r
}

private func refuseLock(_ l: ckpt_lock_record, _ fd: Int, _ r: Int, process: Int) -> Never {
    var f = flock(l)
    let asked = l.kind == CKPT_LOCK_POSIX.rawValue ? system(CKPT_SYS_fcntl, fd, getLock, int(&f)) : l.kind == CKPT_LOCK_OFD.rawValue ? system(CKPT_SYS_fcntl, fd, getOpenLock, int(&f)) : -1
    refuse(r) { m in
        if process >= 0 { putProcess(process, &m); m.put("fd "); m.put(signed: Int64(l.fd)); m.put(": ") }
        putFileName(fd, &m)
        if l.kind == CKPT_LOCK_LEASE.rawValue { m.put("its lease cannot be taken, since a process outside the tree has the file open; end that one"); return }
        m.put("its file lock is held by ")
        if asked == 0 && f.type != 2 && f.pid > 0 { m.put("pid "); m.put(signed: Int64(f.pid)) } else { m.put("a process") }
        m.put(" outside the tree; end that one")
    }
}

private func putFileName(_ fd: Int, _ m: inout Line) {
    var l = Line()
    l.put("/proc/self/fd/"); l.put(signed: Int64(fd))
    let out = engine_path()
    let n = l.withCString { system(CKPT_SYS_readlink, int($0), int(out), 4095) }
    guard n > 0 else { return }
    out[n] = 0
    m.put(text: Text(out)); m.put(": ")
}
