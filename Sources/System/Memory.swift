// Shared mappings, and the blocks of files behind them.
import CkptABI
import Glibc
import Synchronization

/// A shared mapping of a whole file, unmapped when its owner goes.
public final class SharedMapping: @unchecked Sendable {
    public let base: UnsafeMutableRawPointer
    public let size: Int
    public init(_ file: File, size: Int, writable: Bool = true) throws(SystemError) {
        guard let p = mmap(nil, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, file.number, 0), p != MAP_FAILED else {
            throw SystemError("mmap", errno: errno)
        }
        base = p; self.size = size
        place = LostPages.cover(p, size)
    }
    deinit {
        place.pointee.size = 0          // first: what is mapped there next is another's
        munmap(base, size)
    }
    private let place: UnsafeMutablePointer<LostPages.Place>
}

/// Whose file it is may truncate it, or give its blocks back and fill the file system.  What is not there any more is then zeros, for us alone, and no SIGBUS.
private enum LostPages {
    struct Place { var start: UInt, size: UInt, next: UnsafeMutablePointer<Place>? }
    /// The newest first.  None is ever taken out: a handler may be on its way through the list.
    private static let first = { let p = UnsafeMutablePointer<UnsafeMutablePointer<Place>?>.allocate(capacity: 1); p.initialize(to: nil); return Shared(p) }()
    private struct Shared: @unchecked Sendable { let pointer: UnsafeMutablePointer<UnsafeMutablePointer<Place>?>; init(_ p: UnsafeMutablePointer<UnsafeMutablePointer<Place>?>) { pointer = p } }
    private static let lock = Mutex(false)          // whether the handler is there

    static func cover(_ start: UnsafeMutableRawPointer, _ size: Int) -> UnsafeMutablePointer<Place> {
        let place = UnsafeMutablePointer<Place>.allocate(capacity: 1), first = Self.first.pointer
        lock.withLock { isInstalled in
            place.initialize(to: Place(start: UInt(bitPattern: start), size: UInt(size), next: first.pointee))
            first.pointee = place
            if !isInstalled { install() }
            isInstalled = true
        }
        return place
    }

    private static func install() {
        var action = sigaction()
        action.sa_flags = SA_SIGINFO
        action.__sigaction_handler.sa_sigaction = { _, info, _ in
            let addressAt = 16          // siginfo_t.si_addr
            let page = UnsafeRawPointer(info!).load(fromByteOffset: addressAt, as: UInt.self) & ~4095
            var at = LostPages.first.pointer.pointee
            while let p = at {
                if page &- p.pointee.start < p.pointee.size, mmap(UnsafeMutableRawPointer(bitPattern: page), 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED { return }
                at = p.pointee.next
            }
            signal(SIGBUS, SIG_DFL)     // another's: the instruction comes again
        }
        sigaction(SIGBUS, &action, nil)
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
