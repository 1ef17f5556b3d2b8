// A lock in memory that others may write to as they like.
import CkptABI

/// One word, shared between processes: the holder's tid.  When the holder dies the kernel marks it (get_robust_list(2)).  The list that tells the kernel where the word
/// lies is in our own memory: a pthread mutex would have its links beside the word, and write wherever they lead.  Held and given back by one thread.
public final class RobustLock {
    private let word: UnsafeMutablePointer<UInt32>
    /// struct robust_list_head (next, distance from an entry to its word, pending), and its one entry.
    private let list = UnsafeMutablePointer<UInt>.allocate(capacity: 4)
    private static let headSize = 24

    public init(at word: UnsafeMutablePointer<UInt32>) {
        self.word = word
        let head = UInt(bitPattern: list), entry = UInt(bitPattern: list + 3)
        list[0] = entry; list[1] = UInt(bitPattern: word) &- entry; list[2] = 0; list[3] = head
    }
    deinit { list.deallocate() }

    /// True if the lock is now held by this thread.
    public func tryLock() -> Bool {
        let libcs = currentList()
        // First: whoever dies with the word must be found.
        use(UInt(bitPattern: list))
        let found = ckpt_load(word)
        if found & UInt32(CKPT_LOCK_OWNER) == 0 || found & UInt32(CKPT_LOCK_OWNER_DIED) != 0, ckpt_cas(word, found, UInt32(bitPattern: ckpt_gettid())) {
            libcsList = libcs
            return true
        }
        use(libcs)
        return false
    }
    public func unlock() {
        _ = ckpt_cas(word, UInt32(bitPattern: ckpt_gettid()), 0)
        use(libcsList)
    }

    private var libcsList: UInt = 0
    private func use(_ head: UInt) { _ = ckpt_syscall(CKPT_SYS_set_robust_list, Int(bitPattern: head), Self.headSize, 0, 0, 0, 0) }
    private func currentList() -> UInt {
        let getRobustList = 274
        var head: UInt = 0, size = 0
        _ = withUnsafeMutablePointer(to: &head) { h in withUnsafeMutablePointer(to: &size) { ckpt_syscall(getRobustList, 0, Int(bitPattern: h), Int(bitPattern: $0), 0, 0, 0) } }
        return head
    }
}
