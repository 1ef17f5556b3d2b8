// Looking into pipes without taking anything out (tee(2)), and at who else holds them.
import CkptABI
import Glibc

public enum Pipe {
    /// What is in the pipe behind `path` (/proc/PID/fd/N of a reading end), and its size.
    public static func contents(_ path: String) throws(SystemError) -> (bytes: [UInt8], size: Int) {
        let end = try File(path, flags: O_RDONLY | O_NONBLOCK)
        let size = Int(fcntl(end.number, F_GETPIPE_SZ))
        var queued: Int32 = 0
        try retrying("FIONREAD") { ioctl(end.number, UInt(FIONREAD), &queued) }
        if queued == 0 { return ([], size) }
        var mine: [Int32] = [0, 0]
        try retrying("pipe") { pipe(&mine) }
        let reader = File(adopting: mine[0]), writer = File(adopting: mine[1])
        // Ours must hold as many buffers as theirs; a big one may be over the user's limit, then it is refused here.
        if size > 65536 { try retrying("F_SETPIPE_SZ") { fcntl(writer.number, F_SETPIPE_SZ, Int32(size)) } }
        let teed = ckpt_syscall(CKPT_SYS_tee, Int(end.number), Int(writer.number), size, 2, 0, 0)
        if teed < 0 { throw SystemError("tee", errno: Int32(-teed)) }
        var bytes = [UInt8](repeating: 0, count: teed)
        var done = 0
        while done < teed { done += try retrying("read") { bytes.withUnsafeMutableBytes { read(reader.number, $0.baseAddress! + done, teed - done) } } }
        guard done == Int(queued) else { throw SystemError("tee: \(queued) bytes queued, \(done) copied", errno: EAGAIN) }
        return (bytes, size)
    }
    /// Whether anybody holds the other end.  A new reading (writing) end reports POLLHUP (POLLERR) when there is no writer (reader);
    /// that of a FIFO waits for its first writer instead, but an empty one copies as ended (tee(2)); of a full one nobody knows.
    public static func otherEndIsOpen(_ path: String, reading: Bool, isNamed: Bool) throws(SystemError) -> Bool {
        if !reading && isNamed {
            do throws(SystemError) { _ = try File(path, flags: O_WRONLY | O_NONBLOCK) } catch where error.errno == ENXIO { return false }
            return true
        }
        let end = try File(path, flags: (reading ? O_RDONLY : O_WRONLY) | O_NONBLOCK)
        if isNamed {
            var mine: [Int32] = [0, 0]
            try retrying("pipe") { pipe(&mine) }
            let reader = File(adopting: mine[0]), writer = File(adopting: mine[1])
            defer { withExtendedLifetime(reader) {} }
            return ckpt_syscall(CKPT_SYS_tee, Int(end.number), Int(writer.number), 1, 2, 0, 0) != 0
        }
        var p = pollfd(fd: end.number, events: 0, revents: 0)
        try retrying("poll") { poll(&p, 1, 0) }
        return Int32(p.revents) & (reading ? POLLHUP : POLLERR) == 0
    }
    /// Whether a reading end reports that all writers have gone (poll(2)); asked of the open file itself.
    public static func reportsHangup(_ copy: File) -> Bool {
        var p = pollfd(fd: copy.number, events: 0, revents: 0)
        return poll(&p, 1, 0) > 0 && Int32(p.revents) & POLLHUP != 0
    }
    private static let F_GETPIPE_SZ: Int32 = 1032, F_SETPIPE_SZ: Int32 = 1031
}
public enum Seals {
    public static func of(_ path: String) -> UInt32 {
        guard let f = try? File(path) else { return 0 }
        return UInt32(max(0, fcntl(f.number, 1034)))
    }
}
