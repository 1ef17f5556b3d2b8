// Part of ckrun (freestanding, one stack, no allocation): the parent that stays when checkpoints are to be taken by themselves.
// All signals are blocked and read one by one: nothing here is interrupted.
import CkptABI
import Freestanding

private enum Signal {
    static let hup: Int32 = 1, int: Int32 = 2, quit: Int32 = 3, kill: Int32 = 9, chld: Int32 = 17, cont: Int32 = 18, stop: Int32 = 19
    static let fromKernel: Int32 = 0x80     // si_code: a terminal's signal, which the whole process group has got
}

struct Supervisor: ~Copyable {
    private var files: History
    private let session: UnsafePointer<CChar>
    private let program: UnsafePointer<CChar>
    private let every: UInt64
    private let saveFiles: UnsafePointer<CChar>?, compress: UnsafePointer<CChar>?
    private let preCopy: Bool
    private let track: UnsafePointer<CChar>?        // both ends of the socket, as ckptctl takes them
    private let trigger: Int32
    private let environment: Strings
    private var child: Int32
    private var checkpoint: Int32 = 0       // a running ckptctl
    private var isDelta = false             // it takes one
    private var merge: Int32 = 0, mergeAge = 0          // a running ckptctl merge; checkpoints since it began
    private var wanted = false              // one more after it
    private var deadline: UInt64
    private let mask: UInt64                // the signal mask that ckrun was started with
    private var text = TextMemory()

    /// `session`: how ckptctl finds the tree.
    init(child: Int32, session: UnsafePointer<CChar>, ckptctl: UnsafePointer<CChar>, _ options: Options, environment: Strings, mask: UInt64) {
        self.mask = mask
        self.child = child
        self.session = session
        files = History(options, &text)
        self.environment = Environment(environment).quiet(&text)
        program = ckptctl
        every = options.supervision.every
        saveFiles = options.supervision.saveFiles
        compress = options.supervision.compress
        preCopy = options.supervision.preCopy
        track = options.supervision.track ? keepingSocket(&text) : nil
        trigger = options.supervision.signal
        deadline = now() + options.supervision.every
    }

    mutating func run() -> Never {
        while true {
            var info = ckpt_siginfo()
            let signal = wait(&info)
            if signal == Signal.chld { reap() }
            else if signal > 0 && signal == trigger { wanted = true }
            else if signal > 0 { pass(signal, info) }
            if every != 0 && now() >= deadline { wanted = true; deadline = now() + every }
            if wanted && checkpoint == 0 { start() }
        }
    }

    /// The next signal, or 0 when it is time for a checkpoint.
    private func wait(_ info: inout ckpt_siginfo) -> Int32 {
        var all = UInt64.max, left = ckpt_timespec()
        let t = now()
        if every != 0, deadline > t { left = ckpt_timespec(sec: Int64((deadline - t) / 1_000_000_000), nsec: Int64((deadline - t) % 1_000_000_000)) }
        let forever = every == 0
        let r = withUnsafeMutablePointer(to: &all) { a in withUnsafeMutablePointer(to: &info) { i in withUnsafeMutablePointer(to: &left) { l in
            ckpt_syscall(Int(CKPT_SYS_rt_sigtimedwait), Int(bitPattern: a), Int(bitPattern: i), forever ? 0 : Int(bitPattern: l), 8, 0, 0)
        } } }
        return r > 0 ? Int32(truncatingIfNeeded: r) : 0
    }

    private func pass(_ signal: Int32, _ info: ckpt_siginfo) {
        if info.si_code == Signal.fromKernel && signal != Signal.cont { return }
        _ = ckpt_syscall(Int(CKPT_SYS_kill), Int(child), Int(signal), 0, 0, 0, 0)
    }

    private mutating func reap() {
        while true {
            var status: Int32 = 0
            let noHang = 1, untraced = 2
            let pid = Int32(truncatingIfNeeded: withUnsafeMutablePointer(to: &status) {
                ckpt_syscall(Int(CKPT_SYS_wait4), -1, Int(bitPattern: $0), noHang | untraced, 0, 0, 0)
            })
            if pid <= 0 { return }
            if pid == checkpoint && status & 0xff != 0x7f {
                checkpoint = 0
                finished(status)
            }
            if pid == merge && status & 0xff != 0x7f {
                merge = 0
                files.endMerge()
                if status == 0 { files.takeMerged(age: mergeAge, &text) } else { files.failed(files.merged, isDelta: false) }
            }
            if pid != child { continue }
            if status & 0xff == 0x7f { stopToo() } else { end(status) }
        }
    }

    private mutating func finished(_ status: Int32) {
        if status != 0 {
            files.failed(files.next, isDelta: isDelta)
            // Its base is gone or damaged: a whole one does not need it.
            let code = (status >> 8) & 0xff
            if isDelta && (code == 65 || code == 66) { wanted = true }
            return
        }
        files.rotate(isDelta: isDelta, &text)
        if merge != 0 { mergeAge += 1 } else if files.wantsMerge { startMerge() }
    }

    /// In the background, after all others.
    private mutating func startMerge() {
        let mark = text.mark, argv = text.pointers(6)
        let verb: StaticString = "merge", option: StaticString = "-o"
        argv[0] = UnsafeMutablePointer(mutating: program)
        argv[1] = UnsafeMutablePointer(mutating: verb.cString)
        argv[2] = UnsafeMutablePointer(mutating: files.merging)
        argv[3] = UnsafeMutablePointer(mutating: option.cString)
        argv[4] = UnsafeMutablePointer(mutating: files.merged)
        files.beginMerge()
        let pid = forkProcess()
        if pid == 0 {
            let setPriority = 141, process = 0, nice = 10, deathSignal: Int32 = 1, kill = 9
            _ = ckpt_syscall(setPriority, process, 0, nice, 0, 0, 0)
            // What it makes has a meaning only for the ckrun that knows the ages.
            _ = ckpt_prctl(deathSignal, kill, 0, 0, 0)
            dropStandardStreams()
            become(program, argv, environment, mask: mask)
        }
        text.drop(from: mark)
        if pid > 0 { merge = pid; mergeAge = 0 } else { warn(program, "cannot be started", Errno(-pid)) }
    }

    /// The job was stopped from the terminal: so that the shell sees it, ckrun stops as well.
    private func stopToo() {
        _ = ckpt_syscall(Int(CKPT_SYS_kill), Int(ckpt_getpid()), Int(Signal.stop), 0, 0, 0, 0)
        _ = ckpt_syscall(Int(CKPT_SYS_kill), Int(child), Int(Signal.cont), 0, 0, 0, 0)
    }

    private mutating func start() {
        wanted = false
        isDelta = files.takesDelta
        let mark = text.mark, argv = text.pointers(15)
        let verb: StaticString = "checkpoint", option: StaticString = "-o", since: StaticString = "--since", tracking: StaticString = "--track", compression: StaticString = "--compress", early: StaticString = "--pre-copy"
        argv[0] = UnsafeMutablePointer(mutating: program)
        argv[1] = UnsafeMutablePointer(mutating: verb.cString)
        argv[2] = UnsafeMutablePointer(mutating: session)
        argv[3] = UnsafeMutablePointer(mutating: option.cString)
        argv[4] = UnsafeMutablePointer(mutating: files.next)
        var n = 5
        if isDelta {
            argv[n] = UnsafeMutablePointer(mutating: since.cString)
            argv[n + 1] = UnsafeMutablePointer(mutating: files.beginDelta(&text))
            n += 2
        }
        if let track {
            argv[n] = UnsafeMutablePointer(mutating: tracking.cString)
            argv[n + 1] = UnsafeMutablePointer(mutating: track)
            n += 2
        }
        if let compress {
            argv[n] = UnsafeMutablePointer(mutating: compression.cString)
            argv[n + 1] = UnsafeMutablePointer(mutating: compress)
            n += 2
        }
        if preCopy {
            argv[n] = UnsafeMutablePointer(mutating: early.cString)
            n += 1
        }
        if let saveFiles { argv[n] = UnsafeMutablePointer(mutating: saveFiles) }
        let pid = forkProcess()
        if pid == 0 {
            dropStandardStreams()
            become(program, argv, environment, mask: mask)
        }
        text.drop(from: mark)
        if pid > 0 { checkpoint = pid } else { warn(program, "cannot be started", Errno(-pid)) }
    }

    /// The job's input and output are not ckptctl's; what it has to complain about goes to stderr.
    private func dropStandardStreams() {
        let path: StaticString = "/dev/null", readWrite: Int32 = 2
        let null = ckpt_open(path.cString, readWrite, 0)
        for stream in 0...1 where null >= 0 { _ = ckpt_syscall(Int(CKPT_SYS_dup2), null, stream, 0, 0, 0, 0) }
    }

    private func cancel(_ helper: Int32, _ path: UnsafePointer<CChar>) {
        _ = ckpt_syscall(Int(CKPT_SYS_kill), Int(helper), Int(Signal.int), 0, 0, 0, 0)
        _ = ckpt_syscall(Int(CKPT_SYS_wait4), Int(helper), 0, 0, 0, 0, 0)
        _ = ckpt_syscall(Int(CKPT_SYS_unlink), Int(bitPattern: path), 0, 0, 0, 0, 0)
    }

    /// As the application ended, so does ckrun.
    private func end(_ status: Int32) -> Never {
        if checkpoint != 0 { cancel(checkpoint, files.next) }
        if merge != 0 { cancel(merge, files.merged); files.endMerge() }
        let signal = status & 0x7f
        if signal == 0 { ckpt_exit_group((status >> 8) & 0xff) }
        var none = ckpt_rlimit(soft: 0, hard: 0), standard = ckpt_sigaction(), mask: UInt64 = 1 << UInt64(signal - 1)
        let coreSize = 4
        _ = withUnsafeMutablePointer(to: &none) { ckpt_syscall(Int(CKPT_SYS_setrlimit), coreSize, Int(bitPattern: $0), 0, 0, 0, 0) }
        _ = ckpt_rt_sigaction(signal, &standard, nil)
        let unblock: Int32 = 1
        _ = ckpt_syscall(Int(CKPT_SYS_kill), Int(ckpt_getpid()), Int(signal), 0, 0, 0, 0)
        _ = ckpt_rt_sigprocmask(unblock, &mask, nil)
        ckpt_exit_group(128 + signal)
    }
}

/// What ckptctl wants to find again the next time, userfaultfds of the application, it leaves in this socket: it ends with us.  "INTO,FROM"
private func keepingSocket(_ text: inout TextMemory) -> UnsafePointer<CChar>? {
    let local = 1, packets = 5, socketpair = 53
    var ends = InlineArray<2, Int32>(repeating: -1)
    let r = withUnsafeMutableBytes(of: &ends) { ckpt_syscall(socketpair, local, packets, 0, Int(bitPattern: $0.baseAddress!), 0, 0) }
    if r < 0 { return nil }
    let mark = text.mark
    text.put(decimal: UInt64(ends[0])); text.put(byte: 44); text.put(decimal: UInt64(ends[1]))
    return text.finish(from: mark)
}

private func now() -> UInt64 {
    var t = ckpt_timespec()
    let monotonic: Int32 = 1
    _ = ckpt_clock(monotonic, &t)
    return UInt64(t.sec) * 1_000_000_000 + UInt64(t.nsec)
}

/// fork(2): 0 in the child, else its pid or -errno.
func forkProcess() -> Int32 { Int32(truncatingIfNeeded: ckpt_syscall(Int(CKPT_SYS_fork), 0, 0, 0, 0, 0, 0)) }

/// Executes a program of ckpt's own, or ends.
func become(_ program: UnsafePointer<CChar>, _ argv: Strings, _ environment: Strings, mask: UInt64) -> Never {
    var mask = mask
    let set: Int32 = 2
    _ = ckpt_rt_sigprocmask(set, &mask, nil)
    let e = ckpt_syscall(Int(CKPT_SYS_execve), Int(bitPattern: program), Int(bitPattern: argv), Int(bitPattern: environment), 0, 0, 0)
    fail(ExitCode.lacking, program, "cannot be executed", Errno(Int32(truncatingIfNeeded: -e)), remedy: "run tools/install")
}
