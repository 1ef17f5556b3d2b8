// Runs in the snapshot, every signal blocked, on the writer's stack.  Raw system calls, no locks.
// On tmpfs write(2) holds the file's lock while it copies: several writers are no faster than one.  A mapping needs no lock, but a fault for each page.  So one of
// all the tree's writers writes, and whoever finds it at that copies through a window in the file meanwhile.
import CkptABI
import Freestanding

/// As large as a run, in memory of the writers' own: a mapping anywhere else could come to lie in a range that is being written.
struct Window {
    static let size = UInt64(CKPT_RUN_PAGES) * 4096
    private let address: UInt64
    private var offset: UInt64 = 0, length: UInt64 = 0      // of the part of the file that it shows

    init(at address: UInt64) { self.address = address }

    /// `offset`: of a run of `length` bytes; false: there is no seeing it.
    mutating func open(_ file: Descriptor, at offset: UInt64, _ length: Int) -> Bool {
        if self.length == UInt64(length) && self.offset == offset { return true }
        let fixed: Int32 = 0x10
        let r = ckpt_mmap(address, UInt64(length), Mapping.read | Mapping.write, Mapping.shared | fixed, file.value, offset)
        (self.offset, self.length) = r < 0 && r > -4096 ? (0, 0) : (offset, UInt64(length))
        return self.length != 0
    }

    /// False: nothing of it counts.  The pages are made first: where there is no room for them a touch would end the snapshot, the advice only fails.
    func copy(_ from: UnsafeRawPointer, _ count: Int, at offset: UInt64) -> Bool {
        let at = address + (offset - self.offset), populateWrite: Int32 = 23
        guard ckpt_madvise(at, UInt64(count), populateWrite) == 0 else { return false }
        UnsafeMutableRawPointer(bitPattern: UInt(at))!.copyMemory(from: from, byteCount: count)
        return true
    }
}
