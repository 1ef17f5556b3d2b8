// What a tool does as a process: its output, its end, becoming another program, files in memory.
import CkptABI
import Glibc

public enum Program {
    public static func exit(_ status: Int32) -> Never { Glibc.exit(status) }

    /// All of `text`, or an error: a full disk behind stdout must not look like success.
    public static func write(_ text: String, to number: Int32) throws(SystemError) {
        let bytes = Array(text.utf8)
        var done = 0
        while done < bytes.count {
            done += try retrying("write") { bytes.withUnsafeBytes { Glibc.write(number, $0.baseAddress! + done, bytes.count - done) } }
        }
    }
    public static func writeError(_ text: String) { try? write(text, to: 2) }

    /// The path of the running program.
    public static var path: String { (try? Path.link("/proc/self/exe")) ?? "" }

    /// Searches PATH as a shell does.
    public static func find(_ name: String) -> String? {
        if name.contains("/") { return access(name, X_OK) == 0 ? name : nil }
        for directory in (Kernel.environment("PATH") ?? "/usr/bin:/bin").split(separator: ":", omittingEmptySubsequences: false) {
            let path = (directory.isEmpty ? "." : String(directory)) + "/" + name
            var s = stat()
            if access(path, X_OK) == 0, stat(path, &s) == 0, s.st_mode & S_IFMT == S_IFREG { return path }
        }
        return nil
    }

    /// execve(2) with the environment as it is; returns only the failure.
    public static func become(_ path: String, _ arguments: [String]) -> SystemError {
        withArguments(arguments) { execv(path, $0) }
        return SystemError("execute \(path)", errno: errno)
    }
    /// execveat(2) of an open file.
    public static func become(_ file: File, _ arguments: [String]) -> SystemError {
        let emptyPath = 0x1000
        var failure: Int32 = 0
        withArguments(arguments) { argv in
            let r = "".withCString { ckpt_syscall(Int(CKPT_SYS_execveat), Int(file.number), Int(bitPattern: $0), Int(bitPattern: argv), Int(bitPattern: environ), emptyPath, 0) }
            failure = Int32(-r)
        }
        return SystemError("execveat", errno: failure)
    }
    private static func withArguments(_ arguments: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Void) {
        var pointers: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
        pointers.append(nil)
        body(&pointers)
        for p in pointers { free(p) }
    }

    /// Runs `body` in a forked child that only makes system calls; its exit status, or −1.
    public static func inChild(_ body: () -> Int32) -> Int32 {
        let pid = ckpt_syscall(Int(CKPT_SYS_fork), 0, 0, 0, 0, 0, 0)
        if pid == 0 { ckpt_exit_group(body()) }
        if pid < 0 { return -1 }
        var status: Int32 = 0
        while waitpid(pid_t(pid), &status, 0) < 0 && errno == EINTR {}
        return status & 0x7f == 0 ? (status >> 8) & 0xff : -1
    }

    /// Runs a program, gives back what it printed on stdout; nil if it can't be started or fails.
    public static func output(of path: String, _ arguments: [String]) -> String? {
        var ends: [Int32] = [0, 0]
        guard ckpt_syscall(Int(CKPT_SYS_pipe2), ends.withUnsafeMutableBufferPointer { Int(bitPattern: $0.baseAddress!) }, Int(O_CLOEXEC), 0, 0, 0, 0) == 0 else { return nil }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        var pid: pid_t = 0, started: Int32 = 0
        withArguments([path] + arguments) { started = posix_spawn(&pid, path, &actions, nil, $0, environ) }
        close(ends[1])
        let reader = File(adopting: ends[0])
        guard started == 0 else { return nil }
        var bytes: [UInt8] = []
        while let part = try? reader.readStream(65536), !part.isEmpty { bytes += part }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
        return status == 0 ? String(decoding: bytes, as: UTF8.self) : nil
    }
}

extension File {
    /// A file that lives in memory only (memfd_create(2)).  `inherited`: it stays open in a program that this one becomes.
    public static func inMemory(_ name: String, executable: Bool = false, inherited: Bool = false) throws(SystemError) -> File {
        let closeOnExec = inherited ? 0 : 1, executableFlag = 0x10, sealed = 8
        func create(_ flags: Int) -> Int { name.withCString { ckpt_syscall(Int(CKPT_SYS_memfd_create), Int(bitPattern: $0), flags, 0, 0, 0, 0) } }
        // Kernels before 6.3 know neither flag: there every memfd may be executed.
        var number = create(closeOnExec | (executable ? executableFlag : sealed))
        if number == -22 { number = create(closeOnExec) }
        if number < 0 { throw SystemError("memfd_create", errno: Int32(-number)) }
        return File(adopting: Int32(number))
    }
    public func write(_ bytes: [UInt8], at offset: UInt64) throws(SystemError) {
        var failure: SystemError?
        bytes.withUnsafeBytes { b in
            do throws(SystemError) { try write(b, at: offset) } catch { failure = error }
        }
        if let failure { throw failure }
    }
    /// What comes next, at most `count` bytes; empty at the end.
    public func readStream(_ count: Int) throws(SystemError) -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: count)
        let n = try retrying("read") { Glibc.read(number, &buffer, count) }
        return Array(buffer[..<n])
    }
}

extension File {
    public static let createNew = O_RDWR | O_CREAT | O_TRUNC, create = O_WRONLY | O_CREAT | O_TRUNC, writeOnly = O_WRONLY
    /// Keeps the descriptor open for good; its number.
    public func release() -> Int32 { _ = Unmanaged.passRetained(self); return number }
}

extension Kernel {
    public static func mount(_ source: String, on folder: String, type: String) throws(SystemError) {
        try retrying("mount \(type)") { Glibc.mount(source, folder, type, 0, nil) }
    }
}
