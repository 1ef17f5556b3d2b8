// A file mapped for reading: what the statefile reader works on.
import Glibc

/// The bytes of a file, or of memory.  They live as long as this object.
public final class MappedFile: @unchecked Sendable {
    public let bytes: UnsafeRawBufferPointer
    private let isMapped: Bool

    public init(_ path: String) throws(SystemError) {
        let number = try retrying("open \(path)") { Glibc.open(path.systemName, O_RDONLY | O_CLOEXEC | O_NONBLOCK) }      // a FIFO is refused, not waited for
        defer { close(number) }
        var s = stat()
        try retrying("fstat \(path)") { fstat(number, &s) }
        guard s.st_mode & S_IFMT == S_IFREG else { throw SystemError("map \(path)", errno: s.st_mode & S_IFMT == S_IFDIR ? EISDIR : EINVAL) }
        isMapped = s.st_size > 0
        guard s.st_size > 0 else { bytes = UnsafeRawBufferPointer(start: nil, count: 0); return }
        let p = mmap(nil, Int(s.st_size), PROT_READ, MAP_PRIVATE, number, 0)
        guard let p, p != MAP_FAILED else { throw SystemError("map \(path)", errno: errno) }
        bytes = UnsafeRawBufferPointer(start: p, count: Int(s.st_size))
    }

    /// A copy of bytes that are in memory already: tests and fuzzers.
    public init(copying source: [UInt8]) {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(source.count, 1), alignment: 4096)
        copy.copyBytes(from: source)
        bytes = UnsafeRawBufferPointer(start: copy.baseAddress, count: source.count)
        isMapped = false
    }

    deinit {
        guard let base = bytes.baseAddress else { return }
        if isMapped { munmap(UnsafeMutableRawPointer(mutating: base), bytes.count) } else { base.deallocate() }
    }
}

/// What stat(2) tells of a file that a statefile refers to; nil when there is none.
public struct FileStatus: Equatable, Sendable {
    public let size: UInt64
    public let modifiedSeconds: Int64, modifiedNanoseconds: Int64
    public let device: UInt64, inode: UInt64
    public let mode: UInt32, owner: UInt32
    public init?(_ path: String) {
        var s = stat()
        guard stat(path.systemName, &s) == 0 else { return nil }
        size = UInt64(s.st_size)
        modifiedSeconds = Int64(s.st_mtim.tv_sec); modifiedNanoseconds = Int64(s.st_mtim.tv_nsec)
        device = UInt64(s.st_dev); inode = UInt64(s.st_ino)
        mode = s.st_mode; owner = s.st_uid
    }
}

extension SystemError { public static let textFileBusy: Int32 = ETXTBSY }

/// Writes over the beginning of a file in one call; false: somebody holds a lock on it (flock(2)).
public func overwrite(_ path: String, with bytes: [UInt8]) throws(SystemError) -> Bool {
    let number = try retrying("open \(path)") { Glibc.open(path.systemName, O_RDWR | O_CLOEXEC) }
    defer { close(number) }
    do throws(SystemError) { try retrying("lock \(path)") { flock(number, LOCK_EX | LOCK_NB) } } catch {
        if error.errno == EWOULDBLOCK { return false }
        throw error
    }
    try retrying("write \(path)") { bytes.withUnsafeBytes { pwrite(number, $0.baseAddress, $0.count, 0) } }
    return true
}

extension File {
    /// flock(2), exclusively; false: another has it, and all attempts, 10 ms apart, were in vain.  Where there are no locks nobody has one.
    public func lock(attempts: Int) -> Bool {
        for attempt in 1...attempts {
            if flock(number, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK { return true }
            if attempt < attempts { Kernel.sleep(milliseconds: 10) }
        }
        return false
    }
}

/// The absolute path without symbolic links; the path itself if it can't be found.
public func realPath(_ path: String) -> String {
    guard let p = realpath(path.systemName, nil) else { return path }
    defer { free(p) }
    return String(name: UnsafeBufferPointer(start: p, count: strlen(p)).map { UInt8(bitPattern: $0) })
}
