// Sockets through which writers send pages, and the set of those that have something to read; pipes that a statefile goes through.
import CkptABI
import Glibc
import Synchronization

extension File {
    /// Two connected stream sockets: what one end sends the other reads.
    public static func streamPair() throws(SystemError) -> (reader: File, writer: File) {
        var ends: [Int32] = [0, 0]
        try retrying("socketpair") { socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) }
        var room: Int32 = 2 << 20
        for end in ends where setsockopt(end, SOL_SOCKET, 32, &room, 4) != 0 { setsockopt(end, SOL_SOCKET, SO_SNDBUF, &room, 4) }       // SO_SNDBUFFORCE
        return (File(adopting: ends[0]), File(adopting: ends[1]))
    }

    /// Whoever reads from a socket finds its end (shutdown(2)).
    public func end() { shutdown(number, Int32(SHUT_RDWR)) }

    /// At least `least` bytes and at most as many as there is room for, fewer only at the end.
    public func receive(into room: UnsafeMutableRawBufferPointer, atLeast least: Int) -> Int {
        var done = 0
        while done < least {
            let n = Glibc.read(number, room.baseAddress! + done, room.count - done)
            if n < 0 && errno == EINTR { continue }
            if n <= 0 { break }
            done += n
        }
        return done
    }

    /// write(2) of all; a descriptor that somebody made non-blocking is waited for.
    public func writeStream(_ bytes: UnsafeRawBufferPointer) throws(SystemError) {
        var done = 0
        while done < bytes.count {
            let n = Glibc.write(number, bytes.baseAddress! + done, bytes.count - done)
            if n >= 0 { done += n; continue }
            if errno == EINTR { continue }
            guard errno == EAGAIN else { throw SystemError("write", errno: errno) }
            var p = pollfd(fd: number, events: Int16(POLLOUT), revents: 0)
            poll(&p, 1, -1)
        }
    }

    /// Never closed.
    public static let standardOutput = File(adopting: 1), standardInput = File(adopting: 0)
    public var isTerminal: Bool { isatty(number) == 1 }
    public var isRegular: Bool { ((try? status())?.kind ?? 0) == S_IFREG }
    public var isEmpty: Bool { ((try? status())?.st_size ?? 0) == 0 }
    /// Where the next write(2) goes.
    public var position: Int64 { Int64(lseek(number, 0, SEEK_CUR)) }

    /// Fewer, larger pieces: as much room as an ordinary user may have (pipe-user-pages-soft).
    public func widenPipe() { _ = ckpt_syscall(72, Int(number), 1031, 1 << 20, 0, 0, 0) }      // F_SETPIPE_SZ

    /// All that comes through `stream`, from our own beginning on.  splice(2) moves it without a copy of ours in between; where it can't, read(2) does.
    public func fill(from stream: File) throws(SystemError) {
        let splice = 275, piece = 1 << 20
        stream.widenPipe()
        var at: Int64 = 0
        while true {
            let n = withUnsafeMutablePointer(to: &at) { ckpt_syscall(splice, Int(stream.number), 0, Int(number), Int(bitPattern: $0), piece, 0) }
            if n == 0 { return }
            if n == -Int(EINTR) { continue }
            if n == -Int(EINVAL) { break }
            if n < 0 { throw SystemError("splice", errno: Int32(-n)) }
        }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: piece, alignment: 4096)
        defer { buffer.deallocate() }
        while true {
            let n = try retrying("read") { Glibc.read(stream.number, buffer.baseAddress!, piece) }
            if n == 0 { return }
            try write(UnsafeRawBufferPointer(rebasing: buffer[..<n]), at: UInt64(at))
            at += Int64(n)
        }
    }

    /// Returns when whoever reads has taken all that was written.
    public func awaitReader() throws(SystemError) {
        while true {
            var left: Int32 = 0
            guard ioctl(number, isSocket ? 0x5411 : 0x541b, &left) == 0 else { return }        // SIOCOUTQ, FIONREAD
            if left == 0 { return }
            var p = pollfd(fd: number, events: 0, revents: 0)
            if poll(&p, 1, 1) > 0, p.revents & Int16(POLLERR | POLLHUP) != 0 { throw SystemError("write", errno: EPIPE) }
        }
    }
    private var isSocket: Bool { ((try? status())?.kind ?? 0) == S_IFSOCK }
}

/// Files to read from; each is given to one thread at a time (epoll(7), EPOLLONESHOT).
public final class ReadySet: Sendable {
    private let set: File
    private let stop: Mutex<File?>          // its other end is watched: closing it wakes everybody, from then on
    private static let create = 291, control = 233, wait = 232, closeOnExec = 0o2000000, add = 1, modify = 3
    private let stopped: File
    private static let readable: UInt32 = 1, once: UInt32 = 1 << 30

    public init() throws(SystemError) {
        let r = ckpt_syscall(Self.create, Self.closeOnExec, 0, 0, 0, 0, 0)
        if r < 0 { throw SystemError("epoll_create1", errno: Int32(-r)) }
        set = File(adopting: Int32(r))
        let (reader, writer) = try File.streamPair()
        stop = Mutex(writer)
        stopped = reader
        _ = change(Self.add, reader, 0, Self.readable)
    }
    private func change(_ operation: Int, _ file: File, _ tag: UInt64, _ events: UInt32) -> Int {
        var event = [events, UInt32(truncatingIfNeeded: tag), UInt32(truncatingIfNeeded: tag >> 32)]        // struct epoll_event is packed
        return event.withUnsafeMutableBytes { ckpt_syscall(Self.control, Int(set.number), operation, Int(file.number), Int(bitPattern: $0.baseAddress!), 0, 0) }
    }
    /// `tag`: not 0.
    public func add(_ file: File, tag: UInt64) throws(SystemError) {
        let r = change(Self.add, file, tag, Self.readable | Self.once)
        if r < 0 { throw SystemError("epoll_ctl", errno: Int32(-r)) }
    }
    /// Others may have it again.
    public func giveBack(_ file: File, tag: UInt64) { _ = change(Self.modify, file, tag, Self.readable | Self.once) }
    /// Waits; nil: it was stopped, or there is nothing for a second.
    public func next() -> UInt64? {
        var event: [UInt32] = [0, 0, 0]
        let r = event.withUnsafeMutableBytes { ckpt_syscall(Self.wait, Int(set.number), Int(bitPattern: $0.baseAddress!), 1, 1000, 0, 0) }
        let tag = UInt64(event[1]) | UInt64(event[2]) << 32
        return r == 1 && tag != 0 ? tag : nil
    }
    public func wakeAll() { stop.withLock { $0 = nil } }
}

extension Kernel {
    /// CPUs that this process may use.
    public static var processors: Int { max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) }
    /// As many descriptors as we may have; who is privileged may have as many as the system gives anybody.
    public static func permitOpenFiles() {
        let openFiles = __rlimit_resource_t(UInt32(Machine.openFiles))
        var all = rlimit(rlim_cur: rlim_t(highestOpenFiles), rlim_max: rlim_t(highestOpenFiles))
        if setrlimit(openFiles, &all) == 0 { return }
        var limit = rlimit()
        guard getrlimit(openFiles, &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        setrlimit(openFiles, &limit)
    }
    /// What no process may go beyond.
    public static var highestOpenFiles: UInt64 { (try? Path.text("/proc/sys/fs/nr_open")).flatMap { UInt64($0.prefix { $0.isNumber }) } ?? 1 << 20 }
    /// A reader that is gone is an error of write(2), and no signal.
    public static func ignoreBrokenPipes() { Glibc.signal(SIGPIPE, SIG_IGN) }
}
