// Part of ckrun (freestanding, one stack, no allocation): finds the application and says early, and in clear words, what can't be checkpointed.
import CkptABI
import Freestanding

/// Where the application is, as execvp(3) would find it.
func findProgram(_ name: UnsafePointer<CChar>, path: UnsafePointer<CChar>?, _ text: inout TextMemory) -> UnsafePointer<CChar> {
    if name[0] == 0 { fail(ExitCode.notFound, nil, "the application's name is empty") }
    if index(of: 47, in: name) != nil {
        if let e = cannotExecute(name) { fail(e == .noEntry ? ExitCode.notFound : ExitCode.notExecutable, name, "cannot be executed", e) }
        checkProgram(name, depth: 0, &text)
        return name
    }
    let standard: StaticString = "/bin:/usr/bin"
    var directory = path ?? standard.cString
    var denied = false
    while true {
        var n = 0
        while directory[n] != 0 && directory[n] != 58 { n += 1 }
        let mark = text.mark
        if n > 0 { text.put(text: directory, count: n); text.put(byte: 47) }    // an empty element is the current directory
        text.put(text: name)
        let candidate = text.finish(from: mark)
        switch cannotExecute(candidate) {
        case nil:
            checkProgram(candidate, depth: 0, &text)
            return candidate
        case .some(let e):
            if e == .denied { denied = true }
            text.drop(from: mark)
        }
        if directory[n] == 0 { break }
        directory += n + 1
    }
    if denied { fail(ExitCode.notExecutable, name, "found in PATH, but permission is denied") }
    fail(ExitCode.notFound, name, "not found in PATH")
}

let atCurrentDirectory = -100

func status(_ path: UnsafePointer<CChar>) throws(Errno) -> ckpt_stat {
    var s = ckpt_stat()
    try check(withUnsafeMutablePointer(to: &s) {
        ckpt_syscall(Int(CKPT_SYS_newfstatat), atCurrentDirectory, Int(bitPattern: path), Int(bitPattern: $0), 0, 0, 0)
    })
    return s
}

/// Why execve(2) would not take the file, as far as its type and permissions go.
private func cannotExecute(_ path: UnsafePointer<CChar>) -> Errno? {
    do throws(Errno) {
        let s = try status(path)
        if s.mode & 0o170000 != 0o100000 { return .denied }
        let faccessat2 = 439, executable = 1, effective = 0x200
        try check(ckpt_syscall(faccessat2, atCurrentDirectory, Int(bitPattern: path), executable, effective, 0, 0))
        return nil
    } catch {
        return error
    }
}

// Offsets in an ELF header and its program headers.
private enum Elf {
    static let fileClass = 4, machine = 18, type = 16, phoff = 32, phentsize = 54, phnum = 56
    static let interpreter: UInt32 = 3, core: UInt16 = 4, x86_64: UInt16 = 62
}

/// Refuses what could never load the runtime: set-uid, 32-bit and static programs, and scripts whose interpreter is one.
private func checkProgram(_ path: UnsafePointer<CChar>, depth: Int, _ text: inout TextMemory) {
    let readOnly: Int32 = 0o2000000
    let file = Int32(truncatingIfNeeded: ckpt_open(path, readOnly, 0))
    if file < 0 {
        let e = Errno(-file)
        fail(ExitCode.notExecutable, path, "cannot be read", e, remedy: "a checkpoint reads the files that a program maps: give it read permission")
    }
    defer { _ = ckpt_close(file) }
    checkPrivileges(path, file)
    let head = UnsafeMutableRawPointer(text.pointers(64)).assumingMemoryBound(to: UInt8.self)
    let n = ckpt_pread(file, head, 511, 0)
    if n < 4 { return }
    if head[0] == 35 && head[1] == 33 {
        // The kernel follows five levels and then gives up by itself.
        if depth < 5, let interpreter = interpreterOfScript(head, count: n, &text) { checkProgram(interpreter, depth: depth + 1, &text) }
        return
    }
    guard head[0] == 0x7f, head[1] == 69, head[2] == 76, head[3] == 70, n >= 64 else { return }
    checkImage(path, file, head)
}

private func checkImage(_ path: UnsafePointer<CChar>, _ file: Int32, _ head: UnsafePointer<UInt8>) {
    func word(_ offset: Int) -> UInt16 { UInt16(head[offset]) | UInt16(head[offset + 1]) << 8 }
    if head[Elf.fileClass] != 2 || word(Elf.machine) != Elf.x86_64 {
        fail(ExitCode.notExecutable, path, "not an x86-64 program", remedy: "only those can be checkpointed")
    }
    if word(Elf.type) == Elf.core { fail(ExitCode.notExecutable, path, "a core file or a statefile", remedy: "restart a statefile with ckptctl restart") }
    var offset: UInt64 = 0
    for i in 0..<8 { offset |= UInt64(head[Elf.phoff + i]) << UInt64(8 * i) }
    for i in 0..<Int(word(Elf.phnum)) {
        var type: UInt32 = 0
        let at = offset &+ UInt64(i &* Int(word(Elf.phentsize)))
        if ckpt_pread(file, &type, 4, at) != 4 { break }
        if type == Elf.interpreter { return }
    }
    fail(ExitCode.notExecutable, path, "a static program: it cannot load the runtime", remedy: "start it without ckrun, or link it dynamically")
}

/// The dynamic loader ignores LD_PRELOAD in a program that gains privileges.
private func checkPrivileges(_ path: UnsafePointer<CChar>, _ file: Int32) {
    var s = ckpt_stat()
    let emptyPath = 0x1000, empty: StaticString = ""
    let r = withUnsafeMutablePointer(to: &s) {
        ckpt_syscall(Int(CKPT_SYS_newfstatat), Int(file), Int(bitPattern: empty.cString), Int(bitPattern: $0), emptyPath, 0, 0)
    }
    let getNoNewPrivileges: Int32 = 39
    if r != 0 || ckpt_prctl(getNoNewPrivileges, 0, 0, 0, 0) == 1 { return }
    let remedy: StaticString = "the loader ignores the runtime in it: start it without ckrun"
    if s.mode & 0o4000 != 0, Int(s.uid) != ckpt_syscall(Int(CKPT_SYS_getuid), 0, 0, 0, 0, 0, 0) {
        fail(ExitCode.notExecutable, path, "a set-uid program", remedy: remedy)
    }
    if s.mode & 0o2010 == 0o2010, Int(s.gid) != ckpt_syscall(Int(CKPT_SYS_getgid), 0, 0, 0, 0, 0, 0) {
        fail(ExitCode.notExecutable, path, "a set-gid program", remedy: remedy)
    }
    let fgetxattr = 193, attribute: StaticString = "security.capability"
    let capabilities = ckpt_syscall(fgetxattr, Int(file), Int(bitPattern: attribute.cString), 0, 0, 0, 0) > 0
    if capabilities, ckpt_syscall(Int(CKPT_SYS_geteuid), 0, 0, 0, 0, 0, 0) != 0 {
        fail(ExitCode.notExecutable, path, "a program with file capabilities", remedy: remedy)
    }
}

/// The path after `#!`.
private func interpreterOfScript(_ head: UnsafePointer<UInt8>, count: Int, _ text: inout TextMemory) -> UnsafePointer<CChar>? {
    var i = 2
    while i < count, head[i] == 32 || head[i] == 9 { i += 1 }
    let mark = text.mark
    while i < count, head[i] != 32, head[i] != 9, head[i] != 10, head[i] != 0 { text.put(byte: head[i]); i += 1 }
    let interpreter = text.finish(from: mark)
    return interpreter[0] == 0 ? nil : interpreter
}
