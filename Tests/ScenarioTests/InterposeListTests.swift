// The list of wrappers against what libc exports: a function that could block or take SIGCKPT, start an image, wait for a child, or return
// EINTR is wrapped, or stands here with the reason why it need not be.
import Foundation
import Testing

@Suite struct InterposeListTests {
    /// Reasons for functions without a wrapper; a key with `*` stands for a family.
    static let reasons: [String: String] = [
        // Children
        "fork": "the child inherits the runtime, its handler and its masks as they are", "__fork": "fork", "_Fork": "fork", "__libc_fork": "fork", "forkpty": "fork",
        "vfork": "shares its parent's memory until it execs; the checkpoint waits for that", "__vfork": "vfork",
        "clone": "the raw call: the child inherits everything, or shares it", "__clone": "clone",
        "posix_spawn_file_actions_*": "says nothing of signals or environments", "posix_spawnattr_*": "the attribute stays the application's; posix_spawn passes a copy",
        "__libc_system": "private to libc", "_IO_popen": "no header declares it", "rexec*": "a remote command", "re_exec": "regular expressions", "regexec": "regular expressions",
        "pthread_exit": "ends one thread", "thrd_create": "the same as pthread_create but for the belief about a blocked SIGCKPT", "pthread_atfork": "handlers only",
        "__register_atfork": "handlers only", "exit": "a snapshot outlives its owner unseen", "_exit": "exit", "quick_exit": "exit", "on_exit": "handlers only",
        "__cxa_at*": "handlers only", "__cxa_thread_atexit_impl": "handlers only", "__cyg_profile_func_exit": "profiling",
        "flockfile": "locks of stdio", "ftrylockfile": "locks of stdio", "funlockfile": "locks of stdio",
        "_IO_flockfile": "locks of stdio", "_IO_ftrylockfile": "locks of stdio", "_IO_funlockfile": "locks of stdio", "__resolv_context_*": "memory of the resolver", "wordexp": "its shell lives for an instant", "thrd_exit": "ends one thread",
        // Signals
        "sigblock": "32 signals only", "siggetmask": "32 signals only", "sigvec": "no new program can link to it", "sigreturn": "returns ENOSYS", "sigstack": "no stack of SIGCKPT's",
        "sigaltstack": "our handler runs on it", "sigqueue": "sends", "pthread_sigqueue": "sends", "pthread_kill": "sends", "gsignal": "sends", "raise": "sends",
        "pidfd_send_signal": "sends", "psig*": "prints", "strsignal": "names", "sigabbrev_np": "names", "sigdescr_np": "names", "sigaddset": "sets in memory",
        "sigdelset": "sets in memory", "sigandset": "sets in memory", "sigorset": "sets in memory", "sigemptyset": "sets in memory", "sigfillset": "sets in memory",
        "sigisemptyset": "sets in memory", "sigismember": "sets in memory", "__sigaddset": "sets in memory", "__sigdelset": "sets in memory", "__sigismember": "sets in memory",
        "__sigsetjmp": "saves the kernel's mask, which is without SIGCKPT", "siglongjmp": "restores it", "pthread_attr_getsigmask_np": "shows what was set",
        "__libc_sigaction": "private to libc", "__sigtimedwait": "private to libc", "__libc_current_sig*": "a number", "__libc_allocate_rtsig": "a number",
        "_dl_signal_*": "the loader's errors", "__signbit*": "numbers", "copysign*": "numbers", "getcontext": "saves the kernel's mask", "makecontext": "the mask is put in place by setcontext and swapcontext",
        "timer_*": "kernel objects, found out at checkpoint time", "epoll_create*": "does not wait", "epoll_ctl": "does not wait",
        // Restarted by the kernel, since SIGCKPT's handler has SA_RESTART; with a time-out of the socket by the handler
        "read": "restarted", "__read": "restarted", "readv": "restarted", "write": "restarted", "__write": "restarted", "writev": "restarted",
        "recv*": "restarted", "__recv*": "restarted", "send": "restarted", "__send": "restarted", "sendto": "restarted", "sendmsg": "restarted",
        "sendmmsg": "restarted", "__sendmmsg": "restarted", "sendfile*": "restarted", "accept": "restarted", "accept4": "restarted", "connect": "restarted", "__connect": "restarted",
        "flock": "restarted", "lockf*": "restarted", "fcntl*": "restarted", "__fcntl*": "restarted", "__libc_fcntl64": "restarted",
        "mq_*": "restarted: absolute time-outs", "__mq_open_2": "restarted", "sem_wait": "restarted", "sem_timedwait": "repeated by the handler: absolute time-out", "sem_clockwait": "sem_timedwait",
        "sem_*": "does not wait",
        "pthread_cond_*": "libc repeats it itself", "cnd_*": "libc repeats it itself", "mtx_*": "libc repeats it itself", "pthread_mutex_*": "libc repeats it itself",
        "__libc_msg*": "private to libc", "aio_suspend*": "an absolute futex, repeated by the handler", "aio_*": "does not wait", "gai_suspend": "aio_suspend", "gai_*": "does not wait",
        "lio_listio*": "libc repeats it itself",
        "thrd_current": "does not wait", "thrd_detach": "does not wait", "thrd_equal": "does not wait", "thrd_join": "restarted", "thrd_yield": "does not wait",
        "pthread_join": "restarted", "pthread_barrier_wait": "libc repeats it itself", "pthread_clockjoin_np": "libc repeats it itself",
        "pthread_timedjoin_np": "libc repeats it itself", "__lll_lock_wait_private": "private to libc",
        "__rpc_thread_svc_*": "names of descriptors", "svc_*": "RPC servers call poll and handle EINTR", "svcerr_systemerr": "an RPC answer", "xdr_*": "encodes",
        "__res_*": "resolvers repeat their own polls", "res_*": "resolvers repeat their own polls", "getmsg": "returns ENOSYS", "getpmsg": "returns ENOSYS",
        "putmsg": "returns ENOSYS", "putpmsg": "returns ENOSYS", "fmtmsg": "prints", "tcsendbreak": "does not wait", "__cmsg_nxthdr": "memory", "scandir*": "files",
    ]
    static let families = ["sig", "poll", "select", "sleep", "wait", "exec", "spawn", "system", "popen", "fork", "clone", "exit", "context", "timer_", "aio_", "gai_", "lio_",
                           "thrd_", "cnd_", "mtx_", "epoll", "pause", "msg", "recv", "send", "accept", "connect", "flock", "lockf", "fcntl", "syscall", "wordexp", "pthread_create"]
    static let families2 = ["sem", "mq_", "read", "readv", "write", "writev", "__read", "__write", "raise"]

    func wrapped() throws -> Set<String> {
        let package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let text = try String(contentsOf: package.appending(path: "runtime/preload/exports.map"), encoding: .utf8)
        let global = text.components(separatedBy: "local:")[0].components(separatedBy: "global:")[1]
        return Set(global.split(separator: ";").map { $0.trimmingCharacters(in: .whitespacesAndNewlines) }.filter { !$0.isEmpty })
    }
    func exported() throws -> Set<String> {
        let libc = try String(contentsOfFile: "/proc/self/maps", encoding: .utf8).split(separator: "\n").first { $0.hasSuffix("/libc.so.6") }?.split(separator: " ").last
        let nm = try run(["/usr/bin/nm", "-D", "--defined-only", String(libc ?? "/lib/x86_64-linux-gnu/libc.so.6")], in: NSTemporaryDirectory())
        return Set(nm.text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ")
            guard words.count == 3, "TWi".contains(words[1]) else { return nil }
            return String(words[2].prefix { $0 != "@" })
        })
    }
    func matters(_ name: String) -> Bool {
        Self.families.contains { name.contains($0) } || Self.families2.contains { ["sem", "mq_"].contains($0) ? name.drop { $0 == "_" }.hasPrefix($0) : name == $0 }
    }
    func reason(_ name: String) -> String? {
        if let exact = Self.reasons[name] { return exact }
        return Self.reasons.filter { $0.key.hasSuffix("*") && name.hasPrefix($0.key.dropLast()) }.max { $0.key.count < $1.key.count }?.value
    }

    @Test func `every function of libc that matters is wrapped or has a reason`() throws {
        let wrapped = try wrapped(), exported = try exported()
        #expect(exported.count > 1000)
        let missing = exported.filter { matters($0) && !wrapped.contains($0) && reason($0) == nil }
        #expect(missing.isEmpty, "neither wrapped nor explained: \(missing.sorted().joined(separator: " "))")
    }
    @Test func `every wrapper is a function of libc and has no reason to be absent`() throws {
        let wrapped = try wrapped(), exported = try exported()
        let newer: Set = ["ckpt_runtime_version", "ckpt_set_hook", "pidfd_spawn", "pidfd_spawnp", "io_setup", "io_submit"]      // glibc 2.39; libaio
        let unknown = wrapped.subtracting(exported).subtracting(newer).filter { !$0.hasPrefix("io_uring_") }
        #expect(unknown.isEmpty, "libc has no \(unknown.sorted())")
        let both = wrapped.filter { Self.reasons[$0] != nil }
        #expect(both.isEmpty, "wrapped and explained: \(both.sorted())")
    }
    @Test func `the runtime needs nothing but the kernel and exports only its wrappers`() throws {
        let installation = try Installation.get()
        let result = try run(["\(installation.package)/tools/check-freestanding", "\(installation.folder)/libckpt.so", "\(installation.package)/runtime/preload/exports.map"],
                             in: installation.scratch)
        #expect(result.status == .exited(0), "\(result.errors)")
    }
}
