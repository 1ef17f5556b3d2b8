// Runs in the engine before the tree exists, on the initial stack; no allocation, no libc.
// The command line and the environment of a restart.
import CkptABI
import EngineBoot
import Freestanding

/// argc, argv, envp and auxv as the kernel left them.
struct InitialStack {
    let sp: UnsafeMutablePointer<UInt64>
    var argumentCount: Int { Int(sp[0]) }
    func argument(_ i: Int) -> Text { Text(bitPattern: UInt(sp[1 + i]))! }
    private var environment: UnsafeMutablePointer<UInt64> { sp + 2 + argumentCount }
    func variable(_ name: StaticString) -> Text? {
        var e = environment
        while let t = Text(bitPattern: UInt(e.pointee)) {
            let n = name.utf8CodeUnitCount
            if hasPrefix(t, name.cString) && t[n] == 61 { return t + (n + 1) }
            e += 1
        }
        return nil
    }
    func auxiliary(_ type: UInt64) -> UInt64 {
        var e = environment
        while e.pointee != 0 { e += 1 }
        e += 1
        while e[0] != 0 { if e[0] == type { return e[1] }; e += 2 }
        return 0
    }
}

private let help: StaticString = """
usage: FILE.ckpt [--pids auto|keep|ns|new] [--relocate OLD=NEW]... [--files keep|truncate]
                 [--tcp repair|reset|refuse] [--ipc attach] [--lazy [--working-set FILE]] [--ignore-cpu] [--ignore-clock] [--ignore-label]
                 [--warm] [--timing]
Restarts the process tree that this statefile holds.
  --pids auto       keep the pids if permitted and free, else in a new pid namespace (default)
  --pids keep       keep the pids in this pid namespace
  --pids ns         keep the pids in a new pid namespace
  --pids new        new pids; programs that remember a pid break
  --relocate O=N    look for files below O under N instead
  --files keep      go on when a file has changed since the checkpoint
  --files truncate  cut files that a task writes to the size that they had
  --tcp repair      go on with TCP connections to programs outside of the tree (default with CAP_NET_ADMIN)
  --tcp reset       they are broken, as after a network failure (default otherwise)
  --tcp refuse      no restart when there are any
  --ipc attach      use the shared memory, semaphores and queues as they are now that programs outside of the tree use too
  --lazy            start at once; memory is read when it is touched, and the rest meanwhile (as root)
  --working-set F   note in F which memory is touched first; the next restart reads that ahead first
  --ignore-cpu      go on without a CPU feature that the program may have used
  --ignore-clock    let the monotonic clock go backwards
  --ignore-label    go on under this shell's security label (AppArmor, SELinux) instead of the program's
  --warm            branch off the template in memory (ckptctl warm FILE.ckpt), in a pid namespace; without one, read the file;
                    --lazy and --working-set say how: a branch has its memory at once
  --timing          print the time of each phase

"""

/// Reads the options; returns the statefile's path.
func readOptions(_ stack: InitialStack) -> Text {
    var path: Text? = nil
    nameProgram(stack.argumentCount > 0 ? stack.argument(0) : StaticString("ckptengine").cString)
    var i = 1
    while i < stack.argumentCount {
        let a = stack.argument(i)
        if equal(a, to: "--statefile") { path = value(stack, &i); nameProgram(path!) }
        else if equal(a, to: "--statefile-fd") { state.pointee.statefile = descriptorNumber(value(stack, &i)); path = stack.argument(0) }
        else if equal(a, to: "--pids") { state.pointee.pids = pidsMode(value(stack, &i)) }
        else if equal(a, to: "--files") { state.pointee.files = filesMode(value(stack, &i)) }
        else if equal(a, to: "--tcp") { state.pointee.tcp = tcpMode(value(stack, &i)) }
        else if equal(a, to: "--ipc") { state.pointee.ipc = ipcMode(value(stack, &i)) }
        else if equal(a, to: "--relocate") { addRelocation(value(stack, &i)) }
        else if equal(a, to: "--ignore-cpu") { state.pointee.ignore_cpu = 1 }
        else if equal(a, to: "--ignore-clock") { state.pointee.ignore_clock = 1 }
        else if equal(a, to: "--ignore-label") { state.pointee.ignore_label = 1 }
        else if equal(a, to: "--lazy") { state.pointee.lazy = 1 }
        else if equal(a, to: "--working-set") { openWorkingSet(value(stack, &i)) }
        else if let v = valueOf(a, "--working-set=") { openWorkingSet(v) }
        else if equal(a, to: "--warm") { state.pointee.wants_warm = 1 }
        else if equal(a, to: "--template") { state.pointee.wants_template = 1 }
        else if equal(a, to: "--timing") { state.pointee.timing = 1 }
        else if equal(a, to: "--help") || equal(a, to: "-h") { printAndExit(help) }
        else if equal(a, to: "--version") { printAndExit("ckptengine, statefile version 1\n") }
        else if let v = valueOf(a, "--pids=") { state.pointee.pids = pidsMode(v) }
        else if let v = valueOf(a, "--files=") { state.pointee.files = filesMode(v) }
        else if let v = valueOf(a, "--tcp=") { state.pointee.tcp = tcpMode(v) }
        else if let v = valueOf(a, "--ipc=") { state.pointee.ipc = ipcMode(v) }
        else if let v = valueOf(a, "--relocate=") { addRelocation(v) }
        else { refuse(.usage) { l in l.put("option "); l.put(text: a); l.put(": unknown; try --help") } }
        i += 1
    }
    if state.pointee.working_set > 0 && state.pointee.lazy == 0 { refuse(.usage) { $0.put("--working-set: only with --lazy") } }
    if let path { return path }
    state.pointee.exec_face = 1
    return StaticString("/proc/self/exe").cString
}

/// The argument after option `i`.
private func value(_ stack: InitialStack, _ i: inout Int) -> Text {
    let option = stack.argument(i)
    i += 1
    guard i < stack.argumentCount else { refuse(.usage) { l in l.put("option "); l.put(text: option); l.put(": a value is missing; try --help") } }
    return stack.argument(i)
}
private func valueOf(_ a: Text, _ name: StaticString) -> Text? { hasPrefix(a, name.cString) ? a + name.utf8CodeUnitCount : nil }

private func printAndExit(_ s: StaticString) -> Never {
    _ = ckpt_write(1, s.utf8Start, s.utf8CodeUnitCount)
    ckpt_exit_group(0)
}

/// A statefile that came through a pipe is a descriptor, in memory of its own.
private func descriptorNumber(_ v: Text) -> Int32 {
    var n: Int32 = 0, p = v
    while p.pointee >= 48 && p.pointee <= 57 && n < 1 << 24 { n = n * 10 + Int32(p.pointee - 48); p += 1 }
    guard p.pointee == 0, n > 2 else { refuse(.usage) { l in l.put("--statefile-fd "); l.put(text: v); l.put(": not a descriptor") } }
    state.pointee.streamed = 1
    return n
}

/// Messages begin with the statefile's name.
private func nameProgram(_ path: Text) {
    var name = path, p = path
    while p.pointee != 0 { if p.pointee == 47 && p[1] != 0 { name = p + 1 }; p += 1 }
    _ = copyText(name, to: engine_program(), capacity: 64)
}

private func pidsMode(_ v: Text) -> UInt32 {
    if equal(v, to: "auto") { return ENGINE_PIDS_AUTO.rawValue }
    if equal(v, to: "keep") { return ENGINE_PIDS_KEEP.rawValue }
    if equal(v, to: "ns") { return ENGINE_PIDS_NS.rawValue }
    if equal(v, to: "new") { return ENGINE_PIDS_NEW.rawValue }
    refuse(.usage) { l in l.put("--pids "); l.put(text: v); l.put(": unknown; one of auto, keep, ns, new") }
}
private func filesMode(_ v: Text) -> UInt32 {
    if equal(v, to: "keep") { return ENGINE_FILES_KEEP.rawValue }
    if equal(v, to: "truncate") { return ENGINE_FILES_TRUNCATE.rawValue }
    refuse(.usage) { l in l.put("--files "); l.put(text: v); l.put(": unknown; one of keep, truncate") }
}
private func ipcMode(_ v: Text) -> UInt32 {
    if equal(v, to: "attach") { return ENGINE_IPC_ATTACH.rawValue }
    refuse(.usage) { l in l.put("--ipc "); l.put(text: v); l.put(": unknown; there is attach") }
}
private func tcpMode(_ v: Text) -> UInt32 {
    if equal(v, to: "repair") { return ENGINE_TCP_REPAIR.rawValue }
    if equal(v, to: "reset") { return ENGINE_TCP_RESET.rawValue }
    if equal(v, to: "refuse") { return ENGINE_TCP_REFUSE.rawValue }
    refuse(.usage) { l in l.put("--tcp "); l.put(text: v); l.put(": unknown; one of repair, reset, refuse") }
}

/// Copied: the initial stack is gone when the files are opened.
private func addRelocation(_ v: Text) {
    let s = state
    var n = 0
    while v[n] != 0 && v[n] != 61 { n += 1 }
    guard v[n] == 61, n > 0, v[0] == 47, v[n + 1] == 47 else {
        refuse(.usage) { l in l.put("--relocate "); l.put(text: v); l.put(": not OLD=NEW with two absolute paths") }
    }
    let used = Int(s.pointee.relocation_used), total = length(v)
    guard s.pointee.relocations < 64, used + total + 1 < 32768 else { refuse(.usage) { $0.put("--relocate: too many; at most 64") } }
    for k in 0...total { engine_relocation_text(UInt32(used + k)).pointee = v[k] }
    engine_relocation_text(UInt32(used + n)).pointee = 0
    engine_relocation_old(s.pointee.relocations).pointee = UInt32(used)
    engine_relocation_new(s.pointee.relocations).pointee = UInt32(used + n + 1)
    s.pointee.relocations += 1
    s.pointee.relocation_used = UInt32(used + total + 1)
}

/// The path after --relocate, in the state's path buffer; the first pair that fits counts.
func relocated(_ path: Text) -> Text {
    for i in 0..<state.pointee.relocations {
        let old = Text(engine_relocation_text(engine_relocation_old(i).pointee)), new = Text(engine_relocation_text(engine_relocation_new(i).pointee))
        var n = length(old)
        while n > 1 && old[n - 1] == 47 { n -= 1 }
        var same = 0
        while same < n && path[same] == old[same] { same += 1 }
        guard same == n, path[n] == 0 || path[n] == 47 else { continue }
        var m = length(new)
        while m > 1 && new[m - 1] == 47 { m -= 1 }
        let out = engine_path()
        guard m + length(path) - n < 4096 else { continue }
        for k in 0..<m { out[k] = new[k] }
        _ = copyText(path + n, to: out + m, capacity: 4096)
        return Text(out)
    }
    return path
}
