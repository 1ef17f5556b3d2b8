// Starting and waiting for processes.  Children of `swift test` would inherit its blocked signals and open descriptors: both are reset.
import Foundation
import Glibc
import HarnessC
import Synchronization

enum Status: Equatable, CustomStringConvertible, Sendable {
    case exited(Int32), killed(Int32)
    init(wait status: Int32) {
        let signal = status & 0x7f
        self = signal == 0 ? .exited((status >> 8) & 0xff) : .killed(signal)
    }
    var description: String {
        switch self {
        case .exited(let code): "exit status \(code)"
        case .killed(let signal): "killed by signal \(signal)"
        }
    }
}

/// The children of this process.  It is a sub-reaper: what a killed tree leaves behind comes here and must be waited for, or it keeps its pid.
enum Children {
    private static let own = Mutex<Set<pid_t>>([])

    static func spawn(_ argv: [String], environment: [String: String], folder: String, input: String = "/dev/null", inputFlags: Int32 = O_RDONLY,
                      output: String, errors: String, append: Bool = false, descriptors: [Int32: Int32] = [:], ownSession: Bool = false) throws -> pid_t {
        var actions = posix_spawn_file_actions_t()
        var attributes = posix_spawnattr_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawnattr_init(&attributes)
        defer { posix_spawn_file_actions_destroy(&actions); posix_spawnattr_destroy(&attributes) }
        harness_add_chdir(&actions, folder)
        let flags = O_WRONLY | O_CREAT | (append ? O_APPEND : O_TRUNC)
        if descriptors[0] == nil { posix_spawn_file_actions_addopen(&actions, 0, input, inputFlags, 0) }
        if descriptors[1] == nil { posix_spawn_file_actions_addopen(&actions, 1, output, flags, 0o666) }
        if descriptors[2] == nil { posix_spawn_file_actions_addopen(&actions, 2, errors, flags, 0o666) }
        for (target, source) in descriptors { posix_spawn_file_actions_adddup2(&actions, source, target) }
        harness_add_closefrom(&actions, max(3, (descriptors.keys.max() ?? 2) + 1))
        var none = sigset_t(), all = sigset_t()
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF) | (ownSession ? 0x80 : Int16(POSIX_SPAWN_SETPGROUP)))
        var arguments = argv.map { strdup($0) } + [nil]
        var variables = environment.map { strdup($0.key + "=" + $0.value) } + [nil]
        defer { arguments.forEach { free($0) }; variables.forEach { free($0) } }
        return try own.withLock { own in
            var pid: pid_t = 0
            let error = posix_spawnp(&pid, argv[0], &actions, &attributes, &arguments, &variables)
            if error != 0 { throw Failure("\(argv[0]): \(String(cString: strerror(error)))") }
            own.insert(pid)
            return pid
        }
    }

    /// Waits for a child, at most `limit` seconds; nil when it runs on.
    static func wait(_ pid: pid_t, limit: Double) -> Status? {
        let end = now() + limit
        var pause: UInt32 = 500
        while true {
            let status: Status? = own.withLock { own in
                var raw: Int32 = 0
                guard waitpid(pid, &raw, WNOHANG) == pid else { return nil }
                own.remove(pid)
                return Status(wait: raw)
            }
            if let status { reapStrays(); return status }
            if now() > end { return nil }
            usleep(pause)
            pause = min(pause * 2, 10_000)
        }
    }

    /// Waits for whatever came to us as the sub-reaper and has ended.
    static func reapStrays() {
        own.withLock { own in
            for task in (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task")) ?? [] {
                guard let list = try? String(contentsOfFile: "/proc/self/task/\(task)/children", encoding: .utf8) else { continue }
                for pid in list.split(separator: " ").compactMap({ pid_t($0) }) where !own.contains(pid) { waitpid(pid, nil, WNOHANG) }
            }
        }
    }

    static func alive(_ pid: pid_t) -> Bool {
        var info = siginfo_t()
        return !(waitid(P_PID, id_t(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_signo == SIGCHLD)
    }

    /// Processes that carry `tag` in their environment.
    static func pids(tagged tag: String) -> [pid_t] {
        let needle = Data("CKPT_SCENARIO=\(tag)\0".utf8)
        return ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).compactMap { pid_t($0) }.filter { pid in
            pid != getpid() && FileManager.default.contents(atPath: "/proc/\(pid)/environ")?.range(of: needle) != nil
        }
    }
    static func any(tagged tag: String) -> Bool { !pids(tagged: tag).isEmpty }
    static func signal(tagged tag: String, _ signal: Int32) { for pid in pids(tagged: tag) { Glibc.kill(pid, signal) } }

    /// Ends every process that carries `tag` in its environment; true if there was one.
    @discardableResult static func kill(tagged tag: String) -> Bool {
        var any = false
        for _ in 0 ..< 50 {
            let found = pids(tagged: tag)
            for pid in found { Glibc.kill(pid, SIGKILL) }
            reapStrays()
            if found.isEmpty { return any }
            any = true
            usleep(20_000)
        }
        return any
    }

    static func installExitCleaner(_ scratch: String) {
        cleaned.withLock { $0 = scratch }
        atexit { Children.removeIfEmpty() }
    }
    private static let cleaned = Mutex("")
    static let kept = Atomic<Int>(0)
    /// The scratch folder goes unless a failed scenario is kept in it.
    private static func removeIfEmpty() {
        let path = cleaned.withLock { $0 }
        for user in User.allCases { try? FileManager.default.removeItem(atPath: "/dev/shm/ckpt-scenarios-\(getpid())-\(user)") }
        if kept.load(ordering: .relaxed) == 0 { try? FileManager.default.removeItem(atPath: path) }
    }
}

func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

/// Repeats `condition` until it holds or `limit` seconds have passed.
func eventually(_ limit: Double, _ condition: () throws -> Bool) rethrows -> Bool {
    let end = now() + limit
    while true {
        if try condition() { return true }
        if now() > end { return false }
        usleep(3_000)
    }
}

struct Output: Sendable { let status: Status; let text: String; let errors: String }

/// Runs a program to its end with its output collected.
func run(_ argv: [String], in folder: String, environment: [String: String] = [:], limit: Double = 30) throws -> Output {
    let name = folder + "/.run-\(UInt64.random(in: 0 ... .max))"
    let variables = ["PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8"].merging(environment) { $1 }
    let pid = try Children.spawn(argv, environment: variables, folder: folder, output: name + ".out", errors: name + ".err")
    let status = Children.wait(pid, limit: limit)
    if status == nil { kill(-pid, SIGKILL); kill(pid, SIGKILL); _ = Children.wait(pid, limit: 5) }
    let text = read(name + ".out"), errors = read(name + ".err")
    unlink(name + ".out")
    unlink(name + ".err")
    guard let status else { throw Failure("\(argv.joined(separator: " ")): did not end in \(limit) s; \(errors)") }
    return Output(status: status, text: text, errors: errors)
}

func read(_ path: String) -> String { FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) } ?? "" }
