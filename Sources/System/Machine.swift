// What this machine permits, found out by trying it.  Attempts that change a process are made in a forked child.
import CkptABI
import Glibc

public enum Machine {
    private static let newNamespace = 0x20000, newUser = 0x10000000, newPid = 0x20000000, newTime = 0x80

    /// That this process may run on.
    public static var cores: Int { max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) }

    /// clone3(2) with a pid of our choice, in this pid namespace.
    public static var canChoosePids: Bool {
        // From the top: a pid up there is rarely taken, and another attempt follows if it is.
        let highest = (try? Path.text("/proc/sys/kernel/pid_max")).flatMap { Int32($0.split(separator: "\n").first ?? "") } ?? 32768
        return (1...3).contains { inChildWithPid(highest - Int32($0) * 7) }
    }
    private static func inChildWithPid(_ wanted: Int32) -> Bool {
        var pid = wanted
        var arguments = ckpt_clone_args()
        arguments.exit_signal = UInt64(SIGCHLD)
        arguments.set_tid_size = 1
        let r = withUnsafeMutablePointer(to: &pid) { p in
            arguments.set_tid = UInt64(UInt(bitPattern: p))
            return withUnsafeMutablePointer(to: &arguments) {
                ckpt_syscall(Int(CKPT_SYS_clone3), Int(bitPattern: $0), MemoryLayout<ckpt_clone_args>.size, 0, 0, 0, 0)
            }
        }
        if r == 0 { ckpt_exit_group(0) }
        if r > 0 { waitpid(pid_t(r), nil, 0) }
        return r > 0
    }
    private static func canUnshare(_ flags: Int) -> Bool {
        Program.inChild { ckpt_syscall(Int(CKPT_SYS_unshare), flags, 0, 0, 0, 0, 0) == 0 ? 0 : 1 } == 0
    }
    private static var user: Int { geteuid() == 0 ? 0 : newUser }
    /// A new pid namespace, as a restart makes one: with a user namespace, unless root.
    public static var canMakePidNamespace: Bool { canUnshare(user | newPid | newNamespace) }
    public static var canMakeTimeNamespace: Bool { canUnshare(user | newTime) }

    /// ioctl(PAGEMAP_SCAN): Linux 6.7.
    public static var hasPagemapScan: Bool {
        guard let file = try? File("/proc/self/pagemap") else { return false }
        var argument = ckpt_pm_scan_arg()
        argument.size = UInt64(MemoryLayout<ckpt_pm_scan_arg>.size)
        let scan = 0xc0606610       // CKPT_PAGEMAP_SCAN
        return withUnsafeMutablePointer(to: &argument) { ckpt_syscall(Int(CKPT_SYS_ioctl), Int(file.number), scan, Int(bitPattern: $0), 0, 0, 0) } >= 0
    }
    /// userfaultfd(2) with faults of the kernel and forks: what `restart --lazy` needs.
    public static var canLoadLazily: Bool {
        let closeOnExec = 0x80000, handshake = 0xc018aa3f       // CKPT_UFFDIO_API
        let fd = ckpt_syscall(Int(CKPT_SYS_userfaultfd), closeOnExec, 0, 0, 0, 0, 0)
        guard fd >= 0 else { return false }
        defer { close(Int32(fd)) }
        var api = ckpt_uffdio_api(api: 0xaa, features: UInt64(CKPT_UFFD_EVENT_FORK), ioctls: 0)
        return withUnsafeMutablePointer(to: &api) { ckpt_syscall(Int(CKPT_SYS_ioctl), fd, handshake, Int(bitPattern: $0), 0, 0, 0) } == 0
    }
    public static var hasKcmp: Bool { (try? Kernel.compare(getpid(), getpid(), .file, 0, 0)) != nil }
    /// Whether a copy of the engine in memory may be executed (vm.memfd_noexec).
    public static var canExecuteMemory: Bool {
        guard let text = try? Path.text("/proc/sys/vm/memfd_noexec") else { return true }
        return !text.hasPrefix("2")
    }
    /// SSE4.2, for checksums.
    public static var hasChecksumInstruction: Bool {
        var registers: [UInt32] = [0, 0, 0, 0]
        ckpt_cpuid(1, 0, &registers)
        return registers[2] & 1 << 20 != 0
    }
    /// Bytes that are free on the file system of a folder.
    public static func freeSpace(of folder: String) -> UInt64? {
        var s = statvfs()
        guard statvfs(folder, &s) == 0 else { return nil }
        return UInt64(s.f_bavail) * UInt64(s.f_frsize)
    }
    public static func isDirectory(_ path: String) -> Bool { FileStatus(path).map { $0.mode & S_IFMT == S_IFDIR } ?? false }
    public static func limit(_ resource: Int) -> ckpt_rlimit? { try? Kernel.limits(of: 0, resource) }
    public static let openFiles = 7     // RLIMIT_NOFILE
}
