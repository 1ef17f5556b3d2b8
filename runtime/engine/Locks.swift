// Runs in each process of the tree, on the region's main stack; no allocation, no libc.
// File locks: everybody's locks were compatible at the checkpoint, so each can be taken at once, in any order; if not, somebody else has one.
import CkptABI
import EngineBoot
import Freestanding

/// struct flock as fcntl(2) wants it.
private struct Flock { var type: Int16 = 0, whence: Int16 = 0, pad: Int32 = 0, start: Int64 = 0, length: Int64 = 0, pid: Int32 = 0, pad2: Int32 = 0 }

func restoreLocks(_ i: Int) {
    for k in 0..<locks.count where locks[k].pointee.process == UInt32(i) {
        let l = locks[k].pointee
        let r: Int
        if l.kind == CKPT_LOCK_FLOCK.rawValue {
            // LOCK_SH or LOCK_EX, with LOCK_NB
            r = system(73, Int(l.fd), (l.exclusive != 0 ? 2 : 1) | 4)
        } else {
            var f = Flock()
            f.type = l.exclusive != 0 ? 1 : 0
            f.start = Int64(bitPattern: l.start); f.length = Int64(bitPattern: l.length)
            // F_SETLK, F_OFD_SETLK
            r = system(CKPT_SYS_fcntl, Int(l.fd), l.kind == CKPT_LOCK_OFD.rawValue ? 37 : 6, int(&f))
        }
        guard r == 0 else {
            refuse(r) { m in
                putProcess(i, &m); m.put("fd "); m.put(signed: Int64(l.fd)); m.put(": its file lock is held by a process outside the tree; end that one")
            }
        }
    }
}
