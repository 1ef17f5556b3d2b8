// System calls that libc doesn't wrap, or wraps badly, for the tools: signals to threads, kcmp, scheduling, futexes, clocks.
import CkptABI
import Glibc

public enum Kernel {
    private static func call(_ name: String, _ n: Int, _ a: Int = 0, _ b: Int = 0, _ c: Int = 0, _ d: Int = 0, _ e: Int = 0, _ f: Int = 0) throws(SystemError) -> Int {
        let r = ckpt_syscall(n, a, b, c, d, e, f)
        if r < 0 && r > -4096 { throw SystemError(name, errno: Int32(-r)) }
        return r
    }
    /// tgkill(2)
    public static func signal(pid: Int32, tid: Int32, _ signal: Int32) throws(SystemError) { _ = try call("tgkill", CKPT_SYS_tgkill, Int(pid), Int(tid), Int(signal)) }
    /// A signal to whom `isMeant` tells to be the right one still, while nobody else can get the number (pidfd_send_signal(2)).
    public static func kill(pid: Int32, _ signal: Int32, if isMeant: () -> Bool) {
        let sendSignal = 424, noProcess = -3, process = ckpt_syscall(CKPT_SYS_pidfd_open, Int(pid), 0, 0, 0, 0, 0)
        guard process >= 0 else {
            if process != noProcess && isMeant() { Glibc.kill(pid, signal) }       // no such call, no descriptor left
            return
        }
        let held = File(adopting: Int32(process))
        if isMeant() { _ = ckpt_syscall(sendSignal, Int(held.number), Int(signal), 0, 0, 0, 0) }
    }
    public enum Compared: Int { case file = 0, memory = 1, files = 2, fs = 3, handlers = 4 }
    /// kcmp(2): 0 same, 1 and 2 an order, 3 different.
    public static func compare(_ a: Int32, _ b: Int32, _ what: Compared, _ x: Int32 = 0, _ y: Int32 = 0) throws(SystemError) -> Int {
        try call("kcmp", CKPT_SYS_kcmp, Int(a), Int(b), what.rawValue, Int(x), Int(y))
    }
    public static func schedule(of tid: Int32) throws(SystemError) -> ckpt_sched_attr {
        var a = ckpt_sched_attr()
        _ = try withUnsafeMutablePointer(to: &a) { (p) throws(SystemError) in
            try call("sched_getattr", CKPT_SYS_sched_getattr, Int(tid), Int(bitPattern: p), MemoryLayout<ckpt_sched_attr>.size, 0)
        }
        return a
    }
    /// sched_getaffinity(2): a bit per CPU, 0 to 1023.
    public static func affinity(of tid: Int32, into words: UnsafeMutablePointer<UInt64>) throws(SystemError) {
        _ = try call("sched_getaffinity", CKPT_SYS_sched_getaffinity, Int(tid), 128, Int(bitPattern: words))
    }
    public static func ioPriority(of tid: Int32) -> UInt32 {
        UInt32(max(0, ckpt_syscall(CKPT_SYS_ioprio_get, 1, Int(tid), 0, 0, 0, 0)))
    }
    public static func limits(of pid: Int32, _ resource: Int) throws(SystemError) -> ckpt_rlimit {
        var l = ckpt_rlimit()
        do throws(SystemError) {
            _ = try withUnsafeMutablePointer(to: &l) { (p) throws(SystemError) in
                try call("prlimit", CKPT_SYS_prlimit64, Int(pid), resource, 0, Int(bitPattern: p))
            }
        } catch {
            // Root without CAP_SYS_RESOURCE may not ask about a task of another user, but it may read.
            guard let known = limitsInProc(of: pid, resource) else { throw error }
            return known
        }
        return l
    }
    /// A line of /proc/PID/limits: they stand in the order of their numbers, below a heading; the name takes 26 columns.
    private static func limitsInProc(of pid: Int32, _ resource: Int) -> ckpt_rlimit? {
        guard let lines = try? Path.text("/proc/\(pid)/limits").split(separator: "\n"), lines.count > resource + 1 else { return nil }
        let values = lines[resource + 1].dropFirst(26).split(separator: " ").prefix(2).map { $0 == "unlimited" ? UInt64.max : UInt64($0) }
        guard values.count == 2, let soft = values[0], let hard = values[1] else { return nil }
        return ckpt_rlimit(soft: soft, hard: hard)
    }
    /// Waits until `word` is no longer `value`, at most `milliseconds`.
    public static func wait(_ word: UnsafePointer<UInt32>, whileEqual value: UInt32, milliseconds: Int) {
        var t = ckpt_timespec(sec: Int64(milliseconds / 1000), nsec: Int64(milliseconds % 1000) * 1_000_000)
        _ = ckpt_futex_wait(word, value, &t)
    }
    public static func wakeAll(_ word: UnsafePointer<UInt32>) { _ = ckpt_futex_wake(word, Int32.max) }
    /// Only who waits with one of the bits (FUTEX_WAKE_BITSET).
    public static func wake(_ word: UnsafePointer<UInt32>, _ bits: Int) { _ = ckpt_futex_wake_bits(word, UInt32(bits)) }
    /// Nanoseconds of a clock; CLOCK_REALTIME 0, CLOCK_MONOTONIC 1, CLOCK_BOOTTIME 7.
    public static func clock(_ id: Int32) -> UInt64 {
        var t = ckpt_timespec()
        _ = ckpt_clock(id, &t)
        return UInt64(t.sec) * 1_000_000_000 + UInt64(t.nsec)
    }
    public static func sleep(milliseconds: Int) { usleep(useconds_t(milliseconds * 1000)) }
    public static var userID: UInt32 { geteuid() }
    public static var processID: Int32 { getpid() }
    public static func environment(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
    public static var hostName: String {
        var buffer = [CChar](repeating: 0, count: 256)
        gethostname(&buffer, 255)
        return String(name: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) })
    }
    public static var release: String {
        var u = utsname()
        uname(&u)
        return withUnsafePointer(to: &u.release) { $0.withMemoryRebound(to: CChar.self, capacity: 65) { String(cString: $0) } }
    }
    public static func random(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8.random(in: 0...255) } }
}
extension Kernel {
    /// `body` without CAP_SYS_ADMIN, in this thread (capset(2)): what it opens shows whoever gets it no more than it would show themselves.
    public static func withoutAdministration<T>(_ body: () throws(SystemError) -> T) throws(SystemError) -> T {
        let capget = 125, capset = 126, administration: UInt32 = 21
        // struct __user_cap_header_struct; struct __user_cap_data_struct twice: effective, permitted, inheritable
        var head: (UInt32, Int32) = (0x2008_0522, 0), sets: (UInt32, UInt32, UInt32, UInt32, UInt32, UInt32) = (0, 0, 0, 0, 0, 0)
        func set(_ n: Int) throws(SystemError) {
            _ = try withUnsafeMutablePointer(to: &head) { (h) throws(SystemError) in
                try withUnsafeMutablePointer(to: &sets) { (s) throws(SystemError) in try call("capset", n, Int(bitPattern: h), Int(bitPattern: s)) }
            }
        }
        try set(capget)
        let before = sets.0
        guard before & 1 << administration != 0 else { return try body() }
        sets.0 &= ~(1 << administration)
        try set(capset)
        defer {
            sets.0 = before
            try? set(capset)
        }
        return try body()
    }
    public static func sleep(microseconds: Int) { usleep(useconds_t(microseconds)) }
}

extension Kernel {
    /// Waits for SIGCONT; every other signal acts as usual, so Ctrl-C ends us.
    public static func awaitContinue() {
        Glibc.signal(SIGCONT) { _ in }
        pause()
        Glibc.signal(SIGCONT, SIG_DFL)
    }
}
