// What /proc does not show of event descriptors, asked through copies; nothing here takes anything.  File handles (open_by_handle_at(2)).
import CkptABI
import Glibc

extension File {
    /// poll(2): is it ready to be read or written, or has it anything else to tell?
    public func isReady() throws(SystemError) -> Bool {
        var p = pollfd(fd: number, events: Int16(POLLIN | POLLOUT | POLLPRI) | 0x2000, revents: 0)
        return try retrying("poll") { poll(&p, 1, 0) } > 0
    }
    /// FIONREAD
    public func unreadBytes() throws(SystemError) -> Int {
        var n: Int32 = 0
        try retrying("FIONREAD") { ioctl(number, UInt(FIONREAD), &n) }
        return Int(n)
    }
    /// timerfd_gettime(2) brings a periodic timer's expirations up to date, as a read would; none is taken.
    public func updateTimer() throws(SystemError) {
        var t = ckpt_itimerspec()
        let r = withUnsafeMutablePointer(to: &t) { ckpt_syscall(287, Int(number), Int(bitPattern: $0), 0, 0, 0, 0) }
        if r < 0 { throw SystemError("timerfd_gettime", errno: Int32(-r)) }
    }
    /// How the process of a pidfd ended, as wait(2) shows it (ioctl PIDFD_GET_INFO, Linux 6.15); nil: not known.
    public func exitStatus() -> Int32? {
        let getInfo: UInt = 0xc040_ff0b, infoExit: UInt64 = 8, statusOffset = 60
        var info = [UInt64](repeating: 0, count: 8)         // struct pidfd_info, its first version
        info[0] = infoExit
        return info.withUnsafeMutableBytes { ioctl(number, getInfo, $0.baseAddress!) == 0 && $0.load(as: UInt64.self) & infoExit != 0 ? $0.load(fromByteOffset: statusOffset, as: Int32.self) : nil }
    }
}

extension Kernel {
    /// kcmp(2), KCMP_EPOLL_TFD: is descriptor `number` of `pid` the file that `owner`'s epoll instance got as `watched`, the `nth` of that number?
    /// 0 yes; else 1 and 2, in the order of `compare`.
    public static func compareWatched(_ pid: Int32, _ number: Int32, with owner: Int32, epoll: Int32, _ watched: Int32, _ nth: Int) throws(SystemError) -> Int {
        let epollTarget = 7
        var slot = (UInt32(bitPattern: epoll), UInt32(bitPattern: watched), UInt32(nth))       // struct kcmp_epoll_slot
        let r = withUnsafeMutablePointer(to: &slot) { ckpt_syscall(CKPT_SYS_kcmp, Int(pid), Int(owner), epollTarget, Int(number), Int(bitPattern: $0), 0) }
        if r < 0 { throw SystemError("kcmp", errno: Int32(-r)) }
        return r
    }
}

/// struct file_handle: the size and the type as 32-bit words, then the bytes.
public struct FileHandle {
    public let bytes: [UInt8]
    public let mount: Int32             // its number in /proc/self/mountinfo; 0: not known
    public init?(_ bytes: [UInt8]) {
        if bytes.count <= 8 { return nil }
        self.bytes = bytes
        mount = 0
    }
    /// name_to_handle_at(2) of a name, which is not followed; nil where its file system has none.
    public init?(of path: String) {
        let sizeLimit = 128, onlyIdentity = 0x200           // AT_HANDLE_FID
        var buffer = [UInt8](repeating: 0, count: 8 + sizeLimit)
        var mount: Int32 = 0
        func ask(_ flags: Int) -> Int {
            buffer.withUnsafeMutableBytes { b in
                b.storeBytes(of: UInt32(sizeLimit), as: UInt32.self)
                return path.systemName.withUnsafeBufferPointer { ckpt_syscall(303, Int(AT_FDCWD), Int(bitPattern: $0.baseAddress!), Int(bitPattern: b.baseAddress!), Int(bitPattern: withUnsafeMutablePointer(to: &mount) { UnsafeRawPointer($0) }), flags, 0) }
            }
        }
        if ask(onlyIdentity) != 0 && ask(0) != 0 { return nil }
        let size = Int(buffer.withUnsafeBytes { $0.load(as: UInt32.self) })
        bytes = Array(buffer[..<(8 + size)])
        self.mount = mount
    }
    /// The path of the file in the mount at `place`; nil: not permitted, or it has none there.
    public func path(in place: String) -> String? {
        let pathOnly: Int32 = 0o10000000, openByHandle = 304
        // Who watches the place would be told that it is opened; a working folder is not, and a descriptor that stands for a path will not do.
        guard let home = try? File(".", flags: O_DIRECTORY | pathOnly), chdir(place.systemName) == 0 else { return nil }
        let r = bytes.withUnsafeBytes { ckpt_syscall(openByHandle, Int(AT_FDCWD), Int(bitPattern: $0.baseAddress!), Int(pathOnly | O_CLOEXEC), 0, 0, 0) }
        _ = fchdir(home.number)
        if r < 0 { return nil }
        let file = File(adopting: Int32(r))
        return try? Path.link("/proc/self/fd/\(file.number)")
    }
}

extension Path {
    /// A device number as the kernel keeps it: the major number from bit 20.
    public static func deviceWord(_ device: UInt64) -> UInt64 {
        let major = device >> 8 & 0xfff | device >> 32 & ~0xfff, minor = device & 0xff | device >> 12 & ~0xff & 0xffffffff
        return major << 20 | minor
    }
}

extension Kernel {
    /// Events that a new inotify queue takes.
    public static var longestInotifyQueue: Int? { (try? Path.text("/proc/sys/fs/inotify/max_queued_events")).flatMap { Int($0.prefix { $0.isNumber }) } }
}
