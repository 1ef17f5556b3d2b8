// Mappings and the robust lock of a session segment.
import CkptABI
import Glibc

/// A shared mapping of a whole file, unmapped when its owner goes.
public final class SharedMapping: @unchecked Sendable {
    public let base: UnsafeMutableRawPointer
    public let size: Int
    public init(_ file: File, size: Int, writable: Bool = true) throws(SystemError) {
        guard let p = mmap(nil, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, file.number, 0), p != MAP_FAILED else {
            throw SystemError("mmap", errno: errno)
        }
        base = p; self.size = size
    }
    deinit { munmap(base, size) }
}

/// A robust process-shared pthread mutex in shared memory: the kernel marks it when its holder dies.
public struct RobustLock {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    public init(at address: UnsafeMutableRawPointer) { mutex = address.assumingMemoryBound(to: pthread_mutex_t.self) }
    /// True if the lock is now held by this thread.
    public func tryLock() -> Bool {
        switch pthread_mutex_trylock(mutex) {
        case 0: return true
        case EOWNERDEAD: pthread_mutex_consistent(mutex); return true
        case ENOTRECOVERABLE: initialize(); return pthread_mutex_trylock(mutex) == 0
        default: return false
        }
    }
    public func unlock() { pthread_mutex_unlock(mutex) }
    private func initialize() {
        var a = pthread_mutexattr_t()
        pthread_mutexattr_init(&a)
        pthread_mutexattr_setpshared(&a, Int32(PTHREAD_PROCESS_SHARED))
        pthread_mutexattr_setrobust(&a, Int32(PTHREAD_MUTEX_ROBUST))
        pthread_mutex_init(mutex, &a)
        pthread_mutexattr_destroy(&a)
    }
}

extension File {
    /// Makes the file's blocks exist, so that touching the mapping can't raise SIGBUS (fallocate(2)).
    public func allocate(at offset: UInt64, count: UInt64) throws(SystemError) {
        if count == 0 { return }
        let r = ckpt_syscall(CKPT_SYS_fallocate, Int(number), File.keepSize, Int(offset), Int(count), 0, 0)
        // A file system without fallocate gives blocks on demand; all there is to do is to hope for space.
        if r < 0 && r != -95 { throw SystemError("fallocate", errno: Int32(-r)) }
    }
    /// Gives blocks back: the range reads as zeros (fallocate(2)).
    public func punch(at offset: UInt64, count: UInt64) {
        _ = ckpt_syscall(CKPT_SYS_fallocate, Int(number), File.keepSize | File.punchHole, Int(offset), Int(count), 0, 0)
    }
    private static let keepSize = 1, punchHole = 2
}
