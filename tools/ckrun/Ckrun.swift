// Runs as a freestanding static program, in front of every job: no libc, no allocation, one stack, so that it starts in no time.
// It prepares a session and becomes the application, in the same process: same pid, same job control.
import CkptABI
import EngineBoot
import Freestanding

typealias Strings = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>

@c(ckpt_start) func start(_ sp: UnsafeMutablePointer<UInt64>) -> Never {
    let count = Int(sp.pointee)
    let argv = UnsafeMutableRawPointer(sp + 1).assumingMemoryBound(to: UnsafeMutablePointer<CChar>?.self)
    let environment = Environment(argv + count + 1)
    let options = Options(argv, count: count)
    var text = TextMemory()
    if let file = options.supervision.resume, (try? status(file)) != nil { resume(file, options, environment, &text) }
    let library = findPart("libckpt.so", "lib/ckpt/libckpt.so", &text)
    checkLibrary(library)
    let program = findProgram(options.application, path: environment.value(of: "PATH"), &text)
    let segment = createSegment(options, library: library, directory: environment.value(of: "CKPT_DIR"), &text)
    let variables = environment.forMember(segment: segment.path, library: library, &text)
    if !options.supervision.stays { launch(program, options, variables, segment, mask: nil) }
    let ckptctl = findPart("ckptctl", "bin/ckptctl", &text)
    let mask = blockAllSignals()
    var inherited = seeChildren()
    let child = forkProcess()
    if child == 0 {
        _ = ckpt_rt_sigaction(childSignal, &inherited, nil)
        segment.session.pointee.launch_pid = ckpt_getpid()
        launch(program, options, variables, segment, mask: mask)
    }
    if child < 0 { fail(ExitCode.system, program, "fork", Errno(-child)) }
    _ = ckpt_close(segment.folder)
    var supervisor = Supervisor(child: child, session: ckpt_session_id(segment.session), ckptctl: ckptctl, options,
                                environment: environment.variables, mask: mask)
    supervisor.run()
}

/// A statefile is there: its tree goes on instead of a new start.
func resume(_ file: UnsafePointer<CChar>, _ options: Options, _ environment: Environment, _ text: inout TextMemory) -> Never {
    let ckptctl = findPart("ckptctl", "bin/ckptctl", &text)
    let argv = text.pointers(6)
    let verb: StaticString = "restart", option: StaticString = "--files"
    argv[0] = UnsafeMutablePointer(mutating: ckptctl)
    argv[1] = UnsafeMutablePointer(mutating: verb.cString)
    argv[2] = UnsafeMutablePointer(mutating: file)
    if let mode = options.supervision.changedFiles {
        argv[3] = UnsafeMutablePointer(mutating: option.cString)
        argv[4] = UnsafeMutablePointer(mutating: mode)
    }
    let mask = blockAllSignals()
    if !options.supervision.stays { become(ckptctl, argv, environment.variables, mask: mask) }
    _ = seeChildren()
    let child = forkProcess()
    if child == 0 { become(ckptctl, argv, environment.variables, mask: mask) }
    if child < 0 { fail(ExitCode.system, file, "fork", Errno(-child)) }
    let mark = text.mark
    text.put(decimal: UInt64(child))
    let session = text.finish(from: mark)
    var supervisor = Supervisor(child: child, session: session, ckptctl: ckptctl, options, environment: environment.variables, mask: mask)
    supervisor.run()
}

/// The mask that was in force before.
func blockAllSignals() -> UInt64 {
    var all = UInt64.max, old: UInt64 = 0
    let set: Int32 = 2
    _ = ckpt_rt_sigprocmask(set, &all, &old)
    return old
}

private let childSignal: Int32 = 17
/// Whoever started us may ignore SIGCHLD: then nobody would tell us of a child's end.  Returns what the application inherits.
private func seeChildren() -> ckpt_sigaction {
    var standard = ckpt_sigaction(), old = ckpt_sigaction()
    _ = ckpt_rt_sigaction(childSignal, &standard, &old)
    return old
}

@c(ckpt_trap) func trap() -> Never {
    fail(ExitCode.`internal`, nil, "internal error")
}

// SwiftPM links Swift executables with --defsym main=MODULE_main.
@c(ckrun_main) func unused(_ c: Int32, _ v: Strings?) -> Int32 { 0 }

enum ExitCode {
    static let usage: Int32 = 64, lacking: Int32 = 69, `internal`: Int32 = 70, system: Int32 = 71
    static let notExecutable: Int32 = 126, notFound: Int32 = 127
}

/// Says what is wrong in one line and ends.
func fail(_ code: Int32, _ object: UnsafePointer<CChar>?, _ cause: StaticString, _ error: Errno? = nil, remedy: StaticString? = nil) -> Never {
    var line = Line()
    line.put("ckrun: ")
    if let object { line.put(text: object); line.put(": ") }
    line.put(cause)
    if let error { line.put(": "); line.put(error) }
    if let remedy { line.put("; "); line.put(remedy) }
    line.put(byte: 10)
    line.write(to: Descriptor(2))
    ckpt_exit_group(code)
}

/// The whole program replaces itself here.  SIGCKPT stays blocked until the runtime's constructor has installed its handler.
/// `mask`: the signal mask to begin with, if it is not the one in force.
func launch(_ program: UnsafePointer<CChar>, _ options: Options, _ environment: Strings, _ segment: Segment, mask: UInt64?) -> Never {
    let add: Int32 = 0, set: Int32 = 2
    var blocked = (mask ?? 0) | ckpt_sigckpt_bit()
    _ = ckpt_rt_sigprocmask(mask == nil ? add : set, &blocked, nil)
    let e = ckpt_syscall(Int(CKPT_SYS_execve), Int(bitPattern: program), Int(bitPattern: options.arguments), Int(bitPattern: environment), 0, 0, 0)
    let error = Errno(Int32(truncatingIfNeeded: -e))
    if error == .notExecutable { launchByShell(program, options, environment) }
    removeSegment(segment.folder, segment.id)
    fail(error == .noEntry ? ExitCode.notFound : ExitCode.notExecutable, program, "cannot be executed", error)
}

/// A text file without `#!` is a shell script, as for every shell and execvp(3).
func launchByShell(_ program: UnsafePointer<CChar>, _ options: Options, _ environment: Strings) {
    let shell: StaticString = "/bin/sh"
    options.withArgumentsOfShell(program) { arguments in
        _ = ckpt_syscall(Int(CKPT_SYS_execve), Int(bitPattern: shell.cString), Int(bitPattern: arguments), Int(bitPattern: environment), 0, 0, 0)
    }
}
