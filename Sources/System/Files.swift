// Files and descriptors: open(2), read(2), stat(2) … with errors as SystemError, and descriptors that close themselves.
import CkptABI
import Glibc

/// A descriptor that is closed when its owner goes.
public final class File: @unchecked Sendable {
    public let number: Int32
    public init(adopting number: Int32) { self.number = number }
    deinit { Glibc.close(number) }

    /// open(2), close-on-exec.
    public convenience init(_ path: String, flags: Int32 = O_RDONLY, mode: mode_t = 0) throws(SystemError) {
        self.init(adopting: try retrying("open \(path)") { Glibc.open(Path.seen(path), flags | O_CLOEXEC, mode) })
    }
    /// openat(2), close-on-exec.
    public convenience init(_ name: String, in folder: File, flags: Int32, mode: mode_t = 0) throws(SystemError) {
        self.init(adopting: try retrying("open \(name)") { Glibc.openat(folder.number, name.systemName, flags | O_CLOEXEC, mode) })
    }
    /// EMFILE or ENFILE where `count` more can't be open at once.
    public static func requireSpare(_ count: Int) throws(SystemError) {
        var spare: [File] = []
        while spare.count < count { spare.append(try File("/dev/null")) }
    }
    public func read(at offset: UInt64, count: Int) throws(SystemError) -> [UInt8] {
        var done = 0
        var failure: SystemError?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            while done < count {
                let n = pread(number, buffer.baseAddress! + done, count - done, off_t(offset) + off_t(done))
                if n < 0 { if errno == EINTR { continue }; failure = SystemError("read", errno: errno); break }
                if n == 0 { break }
                done += n
            }
            initialized = done
        }
        if let failure { throw failure }
        return bytes
    }
    /// Whether all of it could be read.
    public func read(into room: UnsafeMutableRawBufferPointer, at offset: UInt64) -> Bool {
        var done = 0
        while done < room.count {
            let n = pread(number, room.baseAddress! + done, room.count - done, off_t(offset) + off_t(done))
            if n < 0 && errno == EINTR { continue }
            if n <= 0 { return false }
            done += n
        }
        return true
    }
    public func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(SystemError) {
        var done = 0
        while done < bytes.count {
            done += try retrying("write") { pwrite(number, bytes.baseAddress! + done, bytes.count - done, off_t(offset) + off_t(done)) }
        }
    }
    public func status() throws(SystemError) -> stat {
        var s = stat()
        try retrying("fstat") { fstat(number, &s) }
        return s
    }
    public func truncate(to size: UInt64) throws(SystemError) { try retrying("ftruncate") { ftruncate(number, off_t(size)) } }
    public func synchronize() throws(SystemError) { try retrying("fsync") { fsync(number) } }
}

public enum Path {
    /// The whole of a file that may have no size of its own (/proc).
    public static func contents(_ path: String) throws(SystemError) -> [UInt8] {
        let file = try File(path)
        var bytes = try streamRead(file, 4096), chunk = 16384
        // /proc gives what it has at a time, up to a page: only an empty read is the end.
        if bytes.isEmpty { return bytes }
        while true {
            let part = try streamRead(file, chunk)
            if part.isEmpty { return bytes }
            bytes += part
            chunk = min(chunk * 2, 1 << 20)
        }
    }
    private static func streamRead(_ file: File, _ count: Int) throws(SystemError) -> [UInt8] {
        var failure: SystemError?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            var n = Glibc.read(file.number, buffer.baseAddress!, count)
            while n < 0 && errno == EINTR { n = Glibc.read(file.number, buffer.baseAddress!, count) }
            if n < 0 { failure = SystemError("read", errno: errno) }
            initialized = max(0, n)
        }
        if let failure { throw failure }
        return bytes
    }
    public static func text(_ path: String) throws(SystemError) -> String { String(name: try contents(path)) }
    public static func link(_ path: String) throws(SystemError) -> String {
        var buffer = [CChar](repeating: 0, count: 4097)
        let n = try retrying("readlink \(path)") { readlink(path.systemName, &buffer, 4096) }
        return String(name: buffer[..<n].map { UInt8(bitPattern: $0) })
    }
    /// Reading a symbolic link changes when it was read last: that is set back.
    public static func linkUnnoticed(_ path: String) throws(SystemError) -> String {
        let before = try statusOfName(path), target = try link(path), after = try statusOfName(path)
        if before.st_atim.tv_sec != after.st_atim.tv_sec || before.st_atim.tv_nsec != after.st_atim.tv_nsec {
            let omit = (1 << 30) - 2
            var times = [before.st_atim, timespec(tv_sec: 0, tv_nsec: omit)]
            _ = utimensat(AT_FDCWD, path.systemName, &times, AT_SYMLINK_NOFOLLOW)
        }
        return target
    }
    public static func status(_ path: String) throws(SystemError) -> stat {
        var s = stat()
        try retrying("stat \(path)") { stat(Path.seen(path), &s) }
        return s
    }
    /// A name that a process has used, as it was looked up there: links lead to where they lead for it (openat2(2), RESOLVE_IN_ROOT).
    public static func statusInside(_ path: String, root: String, follow: Bool) -> stat? {
        let pathOnly: UInt64 = 0o10000000, noFollow: UInt64 = 0o400000, inRoot: UInt64 = 0x10
        guard let folder = try? File(root, flags: O_RDONLY | O_DIRECTORY | Int32(pathOnly)) else { return nil }
        var how = (pathOnly | UInt64(O_CLOEXEC) | (follow ? 0 : noFollow), UInt64(0), inRoot)           // struct open_how
        let fd = withUnsafeMutablePointer(to: &how) { h in path.systemName.withUnsafeBufferPointer { ckpt_syscall(CKPT_SYS_openat2, Int(folder.number), Int(bitPattern: $0.baseAddress!), Int(bitPattern: h), 24, 0, 0) } }
        return fd < 0 ? nil : try? File(adopting: Int32(fd)).status()
    }
    /// `unnoticed`: its times stay, where that is permitted.
    public static func names(in directory: String, unnoticed: Bool = false) throws(SystemError) -> [String] {
        try listing(of: directory, unnoticed: unnoticed).map(\.name).filter { $0 != "." && $0 != ".." }
    }
    /// As readdir(3) tells it, each with its position and the one behind it (d_off).
    public static func listing(of directory: String, unnoticed: Bool) throws(SystemError) -> [(name: String, position: UInt64, next: UInt64)] {
        let quiet = unnoticed ? Glibc.open(Path.seen(directory), O_RDONLY | O_DIRECTORY | O_CLOEXEC | 0o1000000) : -1
        guard let d = quiet >= 0 ? fdopendir(quiet) : opendir(Path.seen(directory)) else { throw SystemError("open \(directory)", errno: errno) }
        defer { closedir(d) }
        var all: [(name: String, position: UInt64, next: UInt64)] = []
        while let entry = readdir(d) {
            all.append((withUnsafeBytes(of: &entry.pointee.d_name) { String(name: $0.prefix { $0 != 0 }) }, all.last?.next ?? 0, UInt64(bitPattern: Int64(entry.pointee.d_off))))
        }
        return all
    }
    /// The names that are numbers: processes, tasks, descriptors.
    public static func numbers(in directory: String) throws(SystemError) -> [Int32] {
        guard let d = opendir(Path.seen(directory)) else { throw SystemError("open \(directory)", errno: errno) }
        defer { closedir(d) }
        var numbers: [Int32] = []
        while let entry = readdir(d) {
            withUnsafeBytes(of: &entry.pointee.d_name) { name in
                var n: Int32 = 0, i = 0
                while i < 10, name[i] >= 48, name[i] <= 57 { n = n &* 10 &+ Int32(name[i] - 48); i += 1 }
                if i > 0 && name[i] == 0 { numbers.append(n) }
            }
        }
        return numbers
    }
    /// Writes a short text in one go, as /proc wants it.
    public static func write(_ text: String, to path: String) throws(SystemError) {
        let file = try File(path, flags: O_WRONLY), bytes = Array(text.utf8)
        try retrying("write \(path)") { Glibc.write(file.number, bytes, bytes.count) }
    }
    public static func exists(_ path: String) -> Bool { access(path.systemName, F_OK) == 0 }
    /// mkdtemp(3); removed with what `body` leaves of it empty.  Whoever owns the folder may put something else in its place: `body` gets a path that leads to
    /// the one that was made.
    public static func withTemporaryFolder<R>(in folder: File, _ body: (String) -> R) throws(SystemError) -> R {
        var template = Array("/proc/self/fd/\(folder.number)/ckpt-\(String(repeating: "X", count: 6))".utf8CString)         // it replaces them
        guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp", errno: errno) }
        defer { rmdir(template) }
        let made = try File(String(cString: template), flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW), status = try made.status()
        guard status.st_uid == geteuid(), status.st_mode & 0o077 == 0 else { throw SystemError("mkdtemp", errno: EPERM) }
        return withExtendedLifetime(made) { body("/proc/self/fd/\(made.number)") }
    }
    public static func remove(_ path: String) { unlink(path.systemName) }
    public static func remove(_ name: String, in folder: File) { unlinkat(folder.number, name.systemName, 0) }
    public static func rename(_ from: String, to: String, in folder: File) throws(SystemError) {
        try retrying("rename to \(to)") { renameat(folder.number, from.systemName, folder.number, to.systemName) }
    }
    public static func folder(of path: String) -> String {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }      // a combining character may follow it
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }
    public static func base(of path: String) -> String {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return path }
        return String(path[path.utf8.index(after: slash)...])
    }
}


public typealias StatBuffer = stat

extension stat {
    public var deviceNumber: UInt64 { UInt64(st_dev) }
    public var inodeNumber: UInt64 { UInt64(st_ino) }
    public var kind: UInt32 { UInt32(st_mode) & S_IFMT }
    public var isRegular: Bool { kind == S_IFREG }
}

extension Path {
    /// statfs(2): what kind of file system this is on.
    public static func fileSystem(of path: String) -> UInt64 {
        var words = [UInt64](repeating: 0, count: 32)      // struct statfs begins with the kind; Swift's Glibc does not show it
        let r = words.withUnsafeMutableBytes { buffer in path.systemName.withUnsafeBufferPointer { ckpt_syscall(137, Int(bitPattern: $0.baseAddress!), Int(bitPattern: buffer.baseAddress!), 0, 0, 0, 0) } }
        return r == 0 ? words[0] : 0
    }
    public static let hugetlbfs: UInt64 = 0x958458f6, tmpfs: UInt64 = 0x01021994
    /// Names a file that was opened with O_TMPFILE (linkat(2) on /proc/self/fd).
    public static func linkOpenFile(_ file: File, to name: String, in folder: File) throws(SystemError) {
        try retrying("link \(name)") { linkat(AT_FDCWD, "/proc/self/fd/\(file.number)", folder.number, name.systemName, AT_SYMLINK_FOLLOW) }
    }
}

/// Files as they are stored: hole by hole, and without leaving a trace on them.
extension File {
    /// Opens for reading without moving the time of the last access, where the kernel permits that (open(2), O_NOATIME).
    public convenience init(unnoticed path: String) throws(SystemError) {
        let quiet = Glibc.open(Path.seen(path), O_RDONLY | O_CLOEXEC | O_NONBLOCK | 0o1000000)
        if quiet >= 0 { self.init(adopting: quiet) } else { try self.init(path, flags: O_RDONLY | O_NONBLOCK) }
    }
    /// The stretches of the first `size` bytes that are no holes (lseek(2), SEEK_DATA).  Moves the file's position.
    public func data(upTo size: UInt64) throws(SystemError) -> [(offset: UInt64, size: UInt64)] {
        let seekData: Int32 = 3, seekHole: Int32 = 4
        var found: [(offset: UInt64, size: UInt64)] = []
        var at: UInt64 = 0
        while at < size {
            let start = lseek(number, off_t(at), seekData)
            if start < 0 {
                if errno == ENXIO { break }
                if errno == EINVAL { return [(0, size)] }       // a file system that knows of no holes
                throw SystemError("lseek", errno: errno)
            }
            let hole = lseek(number, start, seekHole)
            if hole < 0 { throw SystemError("lseek", errno: errno) }
            let stop = min(UInt64(hole), size)
            if UInt64(start) >= stop { break }
            found.append((UInt64(start), stop - UInt64(start)))
            at = stop
        }
        return found
    }
    /// Copies a stretch into another file: shared blocks where the file system has them (copy_file_range(2)), else bytes.
    public func copy(_ offset: UInt64, _ count: UInt64, to other: File, at target: UInt64) throws(SystemError) {
        var from = off_t(offset), to = off_t(target), left = count
        while left > 0 {
            let n = withUnsafeMutablePointer(to: &from) { f in withUnsafeMutablePointer(to: &to) { t in
                ckpt_syscall(326, Int(number), Int(bitPattern: f), Int(other.number), Int(bitPattern: t), Int(min(left, 1 << 30)), 0)
            } }
            if n == -Int(EINTR) { continue }
            if n <= 0 { break }
            left -= UInt64(n)
        }
        var at = offset + (count - left)
        while left > 0 {
            let part = try read(at: at, count: Int(min(left, 1 << 20)))
            if part.isEmpty { throw SystemError("read: the file became shorter", errno: EAGAIN) }
            var failure: SystemError?
            part.withUnsafeBytes { b in do throws(SystemError) { try other.write(b, at: target + (at - offset)) } catch { failure = error } }
            if let failure { throw failure }
            at += UInt64(part.count); left -= UInt64(part.count)
        }
    }
}

extension Path {
    /// lstat(2)
    public static func statusOfName(_ path: String) throws(SystemError) -> stat {
        var s = stat()
        try retrying("lstat \(path)") { lstat(Path.seen(path), &s) }
        return s
    }
    public struct Entry: Sendable { public var name: String, inode: UInt64, isFolder: Bool }
    /// At most `limit` entries of a folder; none of one that can't be read.
    public static func entries(in folder: String, limit: Int) -> [Entry] {
        guard let d = opendir(Path.seen(folder)) else { return [] }
        defer { closedir(d) }
        var found: [Entry] = []
        while found.count < limit, let entry = readdir(d) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(name: $0.prefix { $0 != 0 }) }
            if name != "." && name != ".." { found.append(Entry(name: name, inode: UInt64(entry.pointee.d_ino), isFolder: entry.pointee.d_type == UInt8(DT_DIR))) }
        }
        return found
    }
}
