// The abstract socket between the initiator and the writers (unix(7)), and the thread that serves it.
import CkptABI
import Glibc

extension File {
    /// Gives a socket a name without a file.
    fileprivate func bind(abstract name: String) throws(SystemError) {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(name.utf8.prefix(106))
        withUnsafeMutableBytes(of: &address.sun_path) { path in for (i, b) in bytes.enumerated() { path[i + 1] = b } }
        let length = socklen_t(2 + 1 + bytes.count)
        try retrying("bind") { withUnsafePointer(to: &address) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.bind(number, $0, length) } } }
    }
}

public final class Connection {
    private let socket: File
    public let peer: Int32              // as this process sees it (SO_PEERCRED)
    public let peerUser: UInt32
    fileprivate init(_ socket: File) {
        self.socket = socket
        var c: (pid: Int32, uid: UInt32, gid: UInt32) = (0, UInt32.max, UInt32.max)      // struct ucred
        var length = socklen_t(12)
        getsockopt(socket.number, SOL_SOCKET, SO_PEERCRED, &c, &length)
        peer = c.pid; peerUser = c.uid
    }
    /// Two descriptors and what the first one is in one message (SCM_RIGHTS), with how many more messages follow: one for each of `more`.
    public func send(_ a: File, _ b: File, _ channel: ckpt_channel, more: [File] = []) {
        send(a, b, UInt64(channel.rawValue) | UInt64(more.count) << 8)
        for file in more { send(file, file, 0) }
    }
    private func send(_ a: File, _ b: File, _ word: UInt64) {
        var byte = word
        var control = ckpt_cmsg_fd(length: 24, level: SOL_SOCKET, type: 1, fd: a.number, pad: b.number)
        withUnsafeMutablePointer(to: &byte) { byte in
            withUnsafeMutablePointer(to: &control) { control in
                var vector = iovec(iov_base: byte, iov_len: 8)
                withUnsafeMutablePointer(to: &vector) { vector in
                    var message = msghdr()
                    message.msg_iov = vector; message.msg_iovlen = 1
                    message.msg_control = UnsafeMutableRawPointer(control); message.msg_controllen = MemoryLayout<ckpt_cmsg_fd>.size
                    _ = sendmsg(socket.number, &message, Int32(MSG_NOSIGNAL))
                }
            }
        }
    }
    /// The other side has closed, or died.
    public var hasEnded: Bool {
        var p = pollfd(fd: socket.number, events: Int16(POLLIN), revents: 0)
        return poll(&p, 1, 0) > 0
    }
}

public final class Listener: @unchecked Sendable {
    private let socket: File
    public init(abstract name: String) throws(SystemError) {
        socket = File(adopting: try retrying("socket") { Glibc.socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0) })
        try socket.bind(abstract: String(decoding: name.utf8.prefix(62), as: UTF8.self))
        try retrying("listen") { listen(socket.number, 4096) }
    }
    /// Ends a wait in accept, and all later ones.
    public func stop() { shutdown(socket.number, Int32(SHUT_RDWR)) }
    public func accept(milliseconds: Int32) -> Connection? {
        var p = pollfd(fd: socket.number, events: Int16(POLLIN), revents: 0)
        guard poll(&p, 1, milliseconds) > 0, p.revents & Int16(POLLHUP) == 0 else { return nil }
        let acceptFour = 288, closeOnExec = 0o2000000
        let n = Int32(ckpt_syscall(acceptFour, Int(socket.number), 0, 0, closeOnExec, 0, 0))
        return n < 0 ? nil : Connection(File(adopting: n))
    }
}

/// A thread that runs a closure once; fails where no thread may be made (RLIMIT_NPROC, pids.max).
public final class Worker: @unchecked Sendable {
    private var thread = pthread_t()
    private final class Box { let body: () -> Void; init(_ b: @escaping () -> Void) { body = b } }
    public init(_ body: @escaping @Sendable () -> Void) throws(SystemError) {
        let box = Unmanaged.passRetained(Box(body))
        let failure = pthread_create(&thread, nil, { argument in
            Unmanaged<Box>.fromOpaque(argument!).takeRetainedValue().body()
            return nil
        }, box.toOpaque())
        if failure != 0 { box.release(); throw SystemError("pthread_create", errno: failure) }
    }
    public func join() { pthread_join(thread, nil) }
}

private final class WorkCursor: @unchecked Sendable { var next: UInt32 = 0 }
private struct SharedWork<T>: @unchecked Sendable { let results: UnsafeMutablePointer<T>, body: (Int) -> T }

/// `body` for each of 0..<count, on all cores when there are many; the results in their order.
public func inParallel<T>(_ count: Int, atLeast: Int = 8, _ body: (Int) -> T) -> [T] {
    let cores = count < atLeast ? 1 : Machine.cores
    if cores < 2 { return (0..<count).map(body) }
    return withoutActuallyEscaping(body) { body in
        [T](unsafeUninitializedCapacity: count) { buffer, initialized in
            let cursor = WorkCursor(), shared = SharedWork(results: buffer.baseAddress!, body: body)
            let work: @Sendable () -> Void = {
                while true {
                    let i = Int(ckpt_add(&cursor.next, 1))
                    if i >= count { return }
                    (shared.results + i).initialize(to: shared.body(i))
                }
            }
            let workers = (1..<cores).compactMap { _ in try? Worker(work) }
            work()
            for w in workers { w.join() }
            initialized = count
        }
    }
}

/// What the serving thread and the initiator tell each other.
public final class ServerState: @unchecked Sendable {
    private var mutex = pthread_mutex_t()
    private var stopped = false, openNow: [Int32] = [], everSeen: Set<Int32> = []
    public init() { pthread_mutex_init(&mutex, nil) }
    private func locked<T>(_ body: () -> T) -> T { pthread_mutex_lock(&mutex); defer { pthread_mutex_unlock(&mutex) }; return body() }
    public var isStopped: Bool { locked { stopped } }
    public func stop() { locked { stopped = true } }
    public var open: [Int32] { locked { openNow } }
    public func setOpen(_ o: [Int32]) { locked { openNow = o } }
    public var seen: Set<Int32> { locked { everSeen } }
    public func addSeen(_ p: Int32) { locked { _ = everSeen.insert(p) } }
}

/// A datagram socket with an abstract name that takes in whatever is sent to it, in a thread of its own.
public final class Mailbox: @unchecked Sendable {
    private let socket: File
    private let state = ServerState()
    private var worker: Worker?
    /// Complete after `whileReceiving`.
    public private(set) var messages: [QueuedMessage] = []
    public init(abstract name: String) throws(SystemError) {
        socket = File(adopting: try retrying("socket") { Glibc.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0) })
        try socket.bind(abstract: name)
        worker = try Worker { self.receive() }
    }
    /// Takes in all that is sent while `body` runs.  Once.
    public func whileReceiving<E: Error>(_ body: () throws(E) -> Void) throws(E) {
        defer { state.stop(); worker?.join() }
        try body()
    }
    private func receive() {
        while true {
            let isLast = state.isStopped
            while let m = try? socket.take(capacity: 64) { messages.append(m) }
            if isLast { return }
            var p = pollfd(fd: socket.number, events: Int16(POLLIN), revents: 0)
            poll(&p, 1, 5)
        }
    }
}
