// Part of ckrun (freestanding, one stack, no allocation): creates the session's directory and segment.
import CkptABI
import Freestanding

struct Segment {
    let path: UnsafePointer<CChar>
    let folder: Int32, id: UnsafePointer<CChar>
    let session: UnsafeMutablePointer<ckpt_session>     // only its header is mapped: ckrun is no member
}

/// A part of ckpt: beside ckrun in a build folder, else where tools/install puts it below the prefix.
func findPart(_ name: StaticString, _ installedName: StaticString, _ text: inout TextMemory) -> UnsafePointer<CChar> {
    let link: StaticString = "/proc/self/exe"
    let own = UnsafeMutableRawPointer(text.pointers(128)).assumingMemoryBound(to: CChar.self)
    let n = ckpt_syscall(Int(CKPT_SYS_readlink), Int(bitPattern: link.cString), Int(bitPattern: own), 1023, 0, 0, 0)
    if n <= 0 { fail(ExitCode.lacking, nil, "/proc is not mounted, and checkpoints need it", remedy: "mount -t proc proc /proc") }
    var directory = n
    while directory > 0, own[directory - 1] != 47 { directory -= 1 }
    var parent = max(directory - 1, 0)
    while parent > 0, own[parent - 1] != 47 { parent -= 1 }
    var mark = text.mark
    text.put(text: own, count: directory); text.put(name)
    let beside = text.finish(from: mark)
    if (try? status(beside)) != nil { return beside }
    mark = text.mark
    text.put(text: own, count: parent); text.put(installedName)
    let installed = text.finish(from: mark)
    if (try? status(installed)) != nil { return installed }
    fail(ExitCode.lacking, installed, "a part of ckpt is missing", remedy: "run tools/install")
}

func checkLibrary(_ library: UnsafePointer<CChar>) {
    if length(library) > 255 { fail(ExitCode.lacking, library, "this path is too long", remedy: "install ckpt where it has less than 256 characters") }
    if index(of: 32, in: library) != nil || index(of: 58, in: library) != nil {
        fail(ExitCode.lacking, library, "LD_PRELOAD can't name a path with a blank or a colon", remedy: "install ckpt elsewhere")
    }
}

private let directoryFlags: Int32 = 0o2200000 | 0o400000     // O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW

/// The directory of this user's sessions, created if need be; nobody else may write there, or even read.  Its descriptor stays open: by then another may have
/// the path.
private func sessionDirectory(_ chosen: UnsafePointer<CChar>?, _ text: inout TextMemory) -> (path: UnsafePointer<CChar>, descriptor: Int32) {
    let euid = UInt64(ckpt_syscall(Int(CKPT_SYS_geteuid), 0, 0, 0, 0, 0, 0))
    let mark = text.mark
    if let chosen, chosen[0] != 0 {
        if chosen[0] != 47 { fail(ExitCode.usage, chosen, "CKPT_DIR must be an absolute path") }
        text.put(text: chosen)
    } else {
        let memory: StaticString = "/dev/shm"
        text.put((try? status(memory.cString)) != nil ? "/dev/shm/ckpt-" : "/tmp/ckpt-")
        text.put(decimal: euid)
    }
    let path = text.finish(from: mark)
    if length(path) > 238 { fail(ExitCode.usage, path, "CKPT_DIR is too long: at most 238 characters") }
    let made = Int32(truncatingIfNeeded: ckpt_syscall(Int(CKPT_SYS_mkdir), Int(bitPattern: path), 0o700, 0, 0, 0, 0))
    if made < 0 && made != -17 { fail(ExitCode.system, path, "the session directory cannot be created", Errno(-made), remedy: "set CKPT_DIR to another one") }
    let descriptor = Int32(truncatingIfNeeded: ckpt_open(path, directoryFlags, 0))
    if descriptor < 0 { fail(ExitCode.system, path, "the session directory cannot be opened", Errno(-descriptor), remedy: "set CKPT_DIR to another one") }
    let empty: StaticString = ""
    var s = ckpt_stat()
    _ = withUnsafeMutablePointer(to: &s) {
        ckpt_syscall(Int(CKPT_SYS_newfstatat), Int(descriptor), Int(bitPattern: empty.cString), Int(bitPattern: $0), 0x1000, 0, 0)
    }
    if UInt64(s.uid) != euid { fail(ExitCode.system, path, "the session directory belongs to somebody else", remedy: "set CKPT_DIR to a directory of your own") }
    if made == 0 { _ = ckpt_syscall(Int(CKPT_SYS_fchmod), Int(descriptor), 0o700, 0, 0, 0, 0); s.mode = 0o40700 }     // whatever the umask took away
    if s.mode & 0o77 != 0 { fail(ExitCode.system, path, "others may enter the session directory", remedy: "chmod 700 it, or set CKPT_DIR to another one") }
    return (path, descriptor)
}

/// The segment's file: sparse, but with its first page allocated, so that a full file system is an error here and never a SIGBUS in the application.
func createSegment(_ options: Options, library: UnsafePointer<CChar>, directory: UnsafePointer<CChar>?, _ text: inout TextMemory) -> Segment {
    let (directory, folder) = sessionDirectory(directory, &text)
    var mark = text.mark
    var random: UInt64 = 0
    _ = withUnsafeMutablePointer(to: &random) { ckpt_syscall(Int(CKPT_SYS_getrandom), Int(bitPattern: $0), 8, 0, 0, 0, 0) }
    text.put(hex: random, digits: 16)
    let id = text.finish(from: mark)
    mark = text.mark
    text.put(text: directory); text.put(byte: 47); text.put(text: id)
    let path = text.finish(from: mark)

    let createExclusive: Int32 = 0o2000302     // O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC
    let file = Int32(truncatingIfNeeded: ckpt_openat(folder, id, createExclusive, 0o600))
    if file < 0 { fail(ExitCode.system, path, "the session segment cannot be created", Errno(-file)) }
    func must(_ r: Int) { if r < 0 {
        removeSegment(folder, id)
        fail(ExitCode.system, path, "the session segment", Errno(Int32(truncatingIfNeeded: -r)), remedy: "free space there, or set CKPT_DIR to another directory")
    } }
    must(ckpt_syscall(Int(CKPT_SYS_fchmod), Int(file), 0o600, 0, 0, 0, 0))
    must(ckpt_syscall(Int(CKPT_SYS_ftruncate), Int(file), Int(ckpt_session_size()), 0, 0, 0, 0))
    let header = Int(CKPT_SESSION_HEADER)
    must(ckpt_syscall(Int(CKPT_SYS_fallocate), Int(file), 0, 0, header, 0, 0))
    let readWrite: Int32 = 3, shared: Int32 = 1
    let address = ckpt_mmap(0, UInt64(header), readWrite, shared, file, 0)
    must(address > -4096 && address < 0 ? address : 0)
    _ = ckpt_close(file)
    let session = UnsafeMutablePointer<ckpt_session>(bitPattern: address)!
    fill(session, options, id: id, path: path, library: library)
    return Segment(path: path, folder: folder, id: id, session: session)
}
func removeSegment(_ folder: Int32, _ id: UnsafePointer<CChar>) { _ = ckpt_syscall(Int(CKPT_SYS_unlinkat), Int(folder), Int(bitPattern: id), 0, 0, 0, 0) }

private func fill(_ session: UnsafeMutablePointer<ckpt_session>, _ options: Options, id: UnsafePointer<CChar>, path: UnsafePointer<CChar>, library: UnsafePointer<CChar>) {
    func copy(_ from: UnsafePointer<CChar>, to: UnsafeMutablePointer<CChar>, capacity: Int) {
        var i = 0
        while i < capacity - 1, from[i] != 0 { to[i] = from[i]; i += 1 }
    }
    copy(id, to: ckpt_session_id(session), capacity: 24)
    copy(options.name, to: ckpt_session_name(session), capacity: 64)
    copy(path, to: ckpt_session_path(session), capacity: 256)
    copy(library, to: ckpt_session_library(session), capacity: 256)
    let command = ckpt_session_command(session)
    var used = 0
    for i in 0..<options.count where used < 254 {
        if i > 0 { command[used] = 32; used += 1 }
        let word = UnsafePointer(options.arguments[i]!)
        copy(word, to: command + used, capacity: 256 - used)
        used += min(length(word), 255 - used)
    }
    session.pointee.abi_version = UInt32(CKPT_ABI_VERSION)
    session.pointee.header_size = UInt32(CKPT_SESSION_HEADER)
    session.pointee.size = ckpt_session_size()
    var now = ckpt_timespec()
    let realtime: Int32 = 0
    _ = ckpt_clock(realtime, &now)
    session.pointee.created = UInt64(now.sec) &* 1_000_000_000 &+ UInt64(now.nsec)
    session.pointee.uid = UInt32(truncatingIfNeeded: ckpt_syscall(Int(CKPT_SYS_geteuid), 0, 0, 0, 0, 0, 0))
    session.pointee.launch_pid = ckpt_getpid()
    noteNamespaces(ckpt_session_namespaces(session))
    // Last: a file without the magic is one that is still being made.
    withUnsafeMutablePointer(to: &session.pointee.magic) { ckpt_store64($0, ckpt_session_magic()) }
}
