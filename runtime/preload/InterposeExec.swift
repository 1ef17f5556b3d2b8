// Runs inside applications, on the caller's stack, also in vfork children, which share everything but their registers with their parent:
// no libc, no lock, no allocation, and no global state is written.
// exec: the new image stays a member of the session whatever environment it is given, and SIGCKPT stays blocked until its constructor.
import CkptABI
import PreloadBoot
import Freestanding

/// A null-terminated array of strings, as argv and environ are.
typealias Strings = UnsafePointer<UnsafePointer<CChar>?>

enum ImageKind { case execve, execvpe, fexecve, execveat, spawn, spawnp, pidfdSpawn, pidfdSpawnp, popen }

/// A call that starts a new image, with all its arguments, on its way to libc.
struct ImageRequest {
    var kind: ImageKind
    var path: UnsafePointer<CChar>?
    var argv: Strings?
    var envp: Strings?
    var number: Int32 = 0, flags: Int32 = 0                 // fexecve, execveat
    var pid: UnsafeMutablePointer<Int32>?                   // spawn: where the child's pid goes
    var actions: UnsafeRawPointer?, attribute: UnsafeRawPointer?
    var stream: UnsafeMutableRawPointer?                    // popen's result
    var preload: UnsafePointer<CChar>?                      // LD_PRELOAD's value in envp, when it lacks the runtime
    var preloadLength = 0
    var count = 0                                           // entries of envp
}

private func prefixed(_ s: UnsafePointer<CChar>, _ prefix: StaticString) -> UnsafePointer<CChar>? {
    let n = prefix.utf8CodeUnitCount
    var i = 0
    while i < n { if UInt8(bitPattern: s[i]) != prefix.utf8Start[i] { return nil }; i &+= 1 }
    return s + n
}
private func length(_ s: UnsafePointer<CChar>) -> Int { var n = 0; while s[n] != 0 { n &+= 1 }; return n }
private func equal(_ a: UnsafePointer<CChar>, _ b: UnsafePointer<CChar>, _ n: Int) -> Bool {
    var i = 0
    while i < n { if a[i] != b[i] { return false }; i &+= 1 }
    return true
}
/// Whether LD_PRELOAD's value names the library: its entries are separated by colons or spaces.
private func names(_ value: UnsafePointer<CChar>, _ library: UnsafePointer<CChar>, _ size: Int) -> Bool {
    var at = value
    while true {
        var n = 0
        while at[n] != 0 && at[n] != 58 && at[n] != 32 { n &+= 1 }
        if n == size && equal(at, library, n) { return true }
        if at[n] == 0 { return false }
        at += n &+ 1
    }
}

/// Looks through envp; true if the new image finds the runtime and the session in it as it is.
private func examine(_ r: inout ImageRequest) -> Bool {
    guard let envp = r.envp else { return false }
    let state = interpose_state()
    let size = Int(state.pointee.preload_length) &- 11, library = UnsafePointer(interpose_preload_entry() + 11)
    var sessions = 0, preloads = 0, right = true, i = 0
    while let s = envp[i] {
        if s[0] == 76, let value = prefixed(s, "LD_PRELOAD=") {
            preloads &+= 1
            if !names(value, library, size) { right = false; r.preload = value; r.preloadLength = length(value) } else { r.preload = nil; r.preloadLength = 0 }
        } else if s[0] == 67, prefixed(s, "CKPT_SESSION=") != nil {
            sessions &+= 1
            if !equal(s, interpose_session_entry(), Int(state.pointee.session_length) &+ 1) { right = false }
        }
        i &+= 1
    }
    r.count = i
    return right && sessions == 1 && preloads == 1
}

/// Starts the image with SIGCKPT blocked and the session in its environment.  For exec: −1 and errno; for spawn: an error number.
func startImage(_ request: inout ImageRequest) -> Int32 {
    if !isMember { return call(&request) }
    var before: UInt64 = 0, bit = sigckptBit
    _ = ckpt_rt_sigprocmask(MaskChange.block, &bit, &before)
    let result: Int32
    if examine(&request) {
        result = call(&request)
    } else {
        let bytes = (request.count &+ 3) &* 8 &+ Int(interpose_state().pointee.preload_length) &+ request.preloadLength &+ 2
        let r = interpose_with_memory(bytes, &request)
        // −ENOMEM is the mapping's; the others come through from libc.
        result = r == -12 ? failure(request.kind, 12) : Int32(truncatingIfNeeded: r)
    }
    if before & bit == 0 { _ = ckpt_rt_sigprocmask(MaskChange.unblock, &bit, nil) }
    return result
}
private func failure(_ kind: ImageKind, _ code: Int32) -> Int32 {
    switch kind {
    case .execve, .execvpe, .fexecve, .execveat, .popen: return fail(code)
    default: return code
    }
}

/// Called back with memory for the new environment: everything in the old one but our two entries, and these.
@c(interpose_start_image) func startImageWithMemory(_ request: UnsafeMutableRawPointer, _ memory: UnsafeMutableRawPointer) -> Int {
    let r = request.assumingMemoryBound(to: ImageRequest.self)
    let list = memory.assumingMemoryBound(to: UnsafePointer<CChar>?.self)
    var n = 0
    if let envp = r.pointee.envp {
        var i = 0
        while let s = envp[i] {
            if prefixed(s, "LD_PRELOAD=") == nil && prefixed(s, "CKPT_SESSION=") == nil { list[n] = s; n &+= 1 }
            i &+= 1
        }
    }
    list[n] = preloadEntry(r.pointee, (memory + (r.pointee.count &+ 3) &* 8).assumingMemoryBound(to: CChar.self))
    list[n &+ 1] = UnsafePointer(interpose_session_entry())
    list[n &+ 2] = nil
    r.pointee.envp = UnsafePointer(list)
    return Int(call(&r.pointee))
}
private func preloadEntry(_ r: ImageRequest, _ text: UnsafeMutablePointer<CChar>) -> UnsafePointer<CChar> {
    guard let others = r.preload, r.preloadLength > 0 else { return UnsafePointer(interpose_preload_entry()) }
    let n = Int(interpose_state().pointee.preload_length)
    for i in 0 ..< n { text[i] = interpose_preload_entry()[i] }
    text[n] = 58
    for i in 0 ... r.preloadLength { text[n &+ 1 &+ i] = others[i] }
    return UnsafePointer(text)
}

typealias Execve = @convention(c) (UnsafePointer<CChar>?, Strings?, Strings?) -> Int32
typealias Fexecve = @convention(c) (Int32, Strings?, Strings?) -> Int32
typealias Execveat = @convention(c) (Int32, UnsafePointer<CChar>?, Strings?, Strings?, Int32) -> Int32

private func call(_ r: inout ImageRequest) -> Int32 {
    switch r.kind {
    case .execve: return real(INTERPOSE_execve, as: Execve.self)?(r.path, r.argv, r.envp) ?? fail(ENOSYS)
    case .execvpe: return real(INTERPOSE_execvpe, as: Execve.self)?(r.path, r.argv, r.envp) ?? fail(ENOSYS)
    case .fexecve: return real(INTERPOSE_fexecve, as: Fexecve.self)?(r.number, r.argv, r.envp) ?? fail(ENOSYS)
    case .execveat: return real(INTERPOSE_execveat, as: Execveat.self)?(r.number, r.path, r.argv, r.envp, r.flags) ?? fail(ENOSYS)
    default: return callSpawn(&r)
    }
}

@c(interpose_execve) func execveForC(_ path: UnsafePointer<CChar>?, _ argv: UnsafePointer<UnsafePointer<CChar>?>?, _ envp: UnsafePointer<UnsafePointer<CChar>?>?) -> Int32 {
    var r = ImageRequest(kind: .execve, path: path, argv: argv, envp: envp)
    return startImage(&r)
}
@c(interpose_execv) func execvForC(_ path: UnsafePointer<CChar>?, _ argv: UnsafePointer<UnsafePointer<CChar>?>?) -> Int32 {
    execveForC(path, argv, environmentVariable()?.pointee)
}
@c(interpose_execvp) func execvpForC(_ file: UnsafePointer<CChar>?, _ argv: UnsafePointer<UnsafePointer<CChar>?>?) -> Int32 {
    var r = ImageRequest(kind: .execvpe, path: file, argv: argv, envp: environmentVariable()?.pointee)
    return startImage(&r)
}
@c(execve) public func interposeExecve(_ path: UnsafePointer<CChar>?, _ argv: UnsafePointer<UnsafePointer<CChar>?>?, _ envp: UnsafePointer<UnsafePointer<CChar>?>?) -> Int32 {
    execveForC(path, argv, envp)
}
@c(execv) public func interposeExecv(_ path: UnsafePointer<CChar>?, _ argv: UnsafePointer<UnsafePointer<CChar>?>?) -> Int32 { execvForC(path, argv) }
@c(execvp) public func interposeExecvp(_ file: UnsafePointer<CChar>?, _ argv: UnsafePointer<UnsafePointer<CChar>?>?) -> Int32 { execvpForC(file, argv) }
@c(execvpe) public func interposeExecvpe(_ file: UnsafePointer<CChar>?, _ argv: UnsafePointer<UnsafePointer<CChar>?>?, _ envp: UnsafePointer<UnsafePointer<CChar>?>?) -> Int32 {
    var r = ImageRequest(kind: .execvpe, path: file, argv: argv, envp: envp)
    return startImage(&r)
}
@c(fexecve) public func interposeFexecve(_ descriptor: Int32, _ argv: UnsafePointer<UnsafePointer<CChar>?>?, _ envp: UnsafePointer<UnsafePointer<CChar>?>?) -> Int32 {
    if argv == nil || envp == nil { return fail(EINVAL) }       // libc's own answer
    var r = ImageRequest(kind: .fexecve, path: nil, argv: argv, envp: envp, number: descriptor)
    return startImage(&r)
}
@c(execveat) public func interposeExecveat(_ directory: Int32, _ path: UnsafePointer<CChar>?, _ argv: UnsafePointer<UnsafePointer<CChar>?>?,
                                           _ envp: UnsafePointer<UnsafePointer<CChar>?>?, _ flags: Int32) -> Int32 {
    var r = ImageRequest(kind: .execveat, path: path, argv: argv, envp: envp, number: directory, flags: flags)
    return startImage(&r)
}

// MARK: start

/// The constructor calls this with the segment that it has mapped, before anything finds it in ckpt_runtime(); nil: the process is no member.  After a
/// restart its leader does, while all tasks are in their handlers.
func interposeStart(_ session: UnsafeMutablePointer<ckpt_session>?) {
    let state = interpose_state()
    if let session {
        state.pointee.session_length = compose(interpose_session_entry(), "CKPT_SESSION=", ckpt_session_path(session))
        // A restart does not know it when its file had been replaced: the name from before counts then.
        if ckpt_session_library(session)[0] != 0 { state.pointee.preload_length = compose(interpose_preload_entry(), "LD_PRELOAD=", ckpt_session_library(session)) }
    }
    ckpt_store(&state.pointee.started, 1)
}
private func compose(_ entry: UnsafeMutablePointer<CChar>, _ name: StaticString, _ value: UnsafePointer<CChar>) -> UInt32 {
    var n = 0
    while n < name.utf8CodeUnitCount { entry[n] = CChar(bitPattern: name.utf8Start[n]); n &+= 1 }
    var i = 0
    while i < 255 && value[i] != 0 { entry[n] = value[i]; n &+= 1; i &+= 1 }
    entry[n] = 0
    return UInt32(truncatingIfNeeded: n)
}
