// The notes of a core file, as the kernel's ELF core dumper lays them out (fs/binfmt_elf.c): what gdb, eu-stack and lldb read.
// Pure: bytes in, bytes out; no process and no file is touched.
import CkptABI

/// One task as a core file shows it: the registers of the interrupted point, not of the runtime's handler.
public struct CoreTask {
    public var tid: Int32
    public var signal: Int32 = 0            // the signal that stopped it; 0: none, gdb then prints no "terminated with"
    public var pendingSignals: UInt64 = 0
    public var blockedSignals: UInt64 = 0
    public var context: ckpt_sigcontext
    public var fsBase: UInt64
    public var gsBase: UInt64
    /// The FXSAVE or XSAVE image of the signal frame, 512 bytes or more; empty: unknown, the task gets no such note.
    public var xsave: [UInt8]

    public init(tid: Int32, context: ckpt_sigcontext, fsBase: UInt64, gsBase: UInt64, xsave: [UInt8]) {
        self.tid = tid; self.context = context; self.fsBase = fsBase; self.gsBase = gsBase; self.xsave = xsave
    }
}

/// A mapped file, for NT_FILE.
public struct CoreMapping {
    public var start: UInt64, end: UInt64
    public var fileOffset: UInt64           // in bytes
    public var path: [UInt8]
    public init(start: UInt64, end: UInt64, fileOffset: UInt64, path: [UInt8]) {
        self.start = start; self.end = end; self.fileOffset = fileOffset; self.path = path
    }
}

/// A process as a core file shows it.  The first task is the one that a debugger selects.
public struct CoreProcess {
    public var pid: Int32
    public var parent: Int32 = 0, group: Int32 = 0, terminalSession: Int32 = 0
    public var uid: UInt32 = 0, gid: UInt32 = 0
    public var nice: Int8 = 0
    public var comm: [UInt8] = []
    public var commandLine: [UInt8] = []    // as /proc/PID/cmdline has it: arguments end with a NUL
    public var siginfo = ckpt_siginfo()
    public var auxv: [UInt8] = []
    public var mappings: [CoreMapping] = []
    public var mappingUnit: UInt64 = 4096   // of the offsets in NT_FILE; 1 lets a view point at any byte
    public var tasks: [CoreTask] = []
    public init(pid: Int32) { self.pid = pid }
}

/// The contents of a PT_NOTE segment for `process`, in the kernel's order.
public func coreNotes(_ process: CoreProcess) -> [UInt8] {
    var notes = NoteBytes()
    notes.reserve(4096 + process.auxv.count + process.mappings.count * 96 + process.tasks.reduce(0) { $0 + 1024 + $1.xsave.count })
    for (index, task) in process.tasks.enumerated() {
        notes.add(.prstatus, statusNote(process, task))
        if index == 0 { addProcessNotes(process, to: &notes) }
        if task.xsave.count >= 512 { notes.add(.fpregset, floatingPointNote(task.xsave)) }
        if task.xsave.count >= 576, let state = extendedStateNote(task.xsave) { notes.add(.xstate, state) }
    }
    if process.tasks.isEmpty { addProcessNotes(process, to: &notes) }
    return notes.bytes
}

private func addProcessNotes(_ process: CoreProcess, to notes: inout NoteBytes) {
    notes.add(.prpsinfo, processNote(process))
    notes.add(.siginfo, withUnsafeBytes(of: process.siginfo) { [UInt8]($0) })
    if !process.auxv.isEmpty { notes.add(.auxv, process.auxv) }
    notes.add(.file, fileNote(process))
}

/// The note types of a core file, with their owners.
enum CoreNoteType: UInt32 {
    case prstatus = 1, fpregset = 2, prpsinfo = 3, auxv = 6
    case xstate = 0x202, file = 0x46494c45, siginfo = 0x53494749
    var owner: StaticString { self == .xstate ? "LINUX" : "CORE" }
}

/// Note records one after the other, each part padded to four bytes.
struct NoteBytes {
    private(set) var bytes: [UInt8] = []
    mutating func reserve(_ n: Int) { bytes.reserveCapacity(n) }
    mutating func add(_ type: CoreNoteType, _ contents: [UInt8]) {
        let owner = type.owner
        bytes.put32(UInt32(owner.utf8CodeUnitCount + 1))
        bytes.put32(UInt32(contents.count))
        bytes.put32(type.rawValue)
        owner.withUTF8Buffer { bytes.append(contentsOf: $0) }
        bytes.append(0)
        bytes.pad(to: 4)
        bytes.append(contentsOf: contents)
        bytes.pad(to: 4)
    }
}

extension [UInt8] {
    mutating func put32(_ v: UInt32) { Swift.withUnsafeBytes(of: v.littleEndian) { append(contentsOf: $0) } }
    mutating func put32(_ v: Int32) { put32(UInt32(bitPattern: v)) }
    mutating func put64(_ v: UInt64) { Swift.withUnsafeBytes(of: v.littleEndian) { append(contentsOf: $0) } }
    mutating func put16(_ v: UInt16) { Swift.withUnsafeBytes(of: v.littleEndian) { append(contentsOf: $0) } }
    mutating func putZeros(_ n: Int) { append(contentsOf: repeatElement(0, count: n)) }
    mutating func pad(to alignment: Int) { while count % alignment != 0 { append(0) } }
    /// `text` cut or filled up with NULs to `size` bytes, the last always a NUL.
    mutating func putText(_ text: some Sequence<UInt8>, size: Int) {
        let end = count + size
        append(contentsOf: text.prefix(size - 1))
        while count < end { append(0) }
    }
}

/// struct elf_prstatus: 336 bytes.
func statusNote(_ process: CoreProcess, _ task: CoreTask) -> [UInt8] {
    var n: [UInt8] = []
    n.reserveCapacity(336)
    n.put32(task.signal); n.put32(UInt32(0)); n.put32(UInt32(0))
    n.put16(UInt16(truncatingIfNeeded: task.signal)); n.put16(0)
    n.put64(task.pendingSignals); n.put64(task.blockedSignals)
    n.put32(task.tid); n.put32(process.parent); n.put32(process.group); n.put32(process.terminalSession)
    n.putZeros(64)                          // CPU times: a restart can't keep them, so a debugger isn't told any
    let c = task.context
    for r in [c.r15, c.r14, c.r13, c.r12, c.rbp, c.rbx, c.r11, c.r10, c.r9, c.r8, c.rax, c.rcx, c.rdx, c.rsi, c.rdi] { n.put64(r) }
    n.put64(UInt64.max)                     // orig_rax −1: a debugger that resumes must not restart a system call
    for r in [c.rip, UInt64(c.cs), c.eflags, c.rsp, UInt64(c.ss), task.fsBase, task.gsBase, 0, 0, UInt64(c.fs), UInt64(c.gs)] { n.put64(r) }
    n.put32(UInt32(task.xsave.count >= 512 ? 1 : 0)); n.put32(UInt32(0))
    return n
}

/// struct elf_prpsinfo: 136 bytes.
func processNote(_ process: CoreProcess) -> [UInt8] {
    var n: [UInt8] = []
    n.reserveCapacity(136)
    n.append(0); n.append(UInt8(ascii: "R")); n.append(0); n.append(UInt8(bitPattern: process.nice))
    n.put32(UInt32(0)); n.put64(0)
    n.put32(process.uid); n.put32(process.gid)
    n.put32(process.pid); n.put32(process.parent); n.put32(process.group); n.put32(process.terminalSession)
    n.putText(process.comm, size: 16)
    var line = process.commandLine
    while line.last == 0 { line.removeLast() }
    n.putText(line.lazy.map { $0 == 0 ? UInt8(ascii: " ") : $0 }, size: 80)
    return n
}

/// NT_FILE: count, unit, (start, end, offset in units)…, paths.
func fileNote(_ process: CoreProcess) -> [UInt8] {
    var n: [UInt8] = []
    n.put64(UInt64(process.mappings.count)); n.put64(process.mappingUnit)
    for m in process.mappings { n.put64(m.start); n.put64(m.end); n.put64(m.fileOffset / process.mappingUnit) }
    for m in process.mappings { n.append(contentsOf: m.path); n.append(0) }
    return n
}

// Offsets in an XSAVE image.
private enum XSave {
    static let mxcsr = 24, x87Registers = 32, xmm = 160, softwareReserved = 464, header = 512, components = 576
    static let x87: UInt64 = 1, sse: UInt64 = 2, magic: UInt32 = 0x46505853
    static let mpx: UInt64 = 3 << 3, avx512: UInt64 = 7 << 5, keys: UInt64 = 1 << 9
    /// Where a CPU without MPX keeps AVX-512's three parts and the protection keys, and where one that had it does (CPUID leaf 0xd).
    static let dense = (opmask: 832, upper: 896, more: 1408, keys: 2432), standard = (opmask: 1088, upper: 1152, more: 1664, keys: 2688)
}

private func load<T: FixedWidthInteger & BitwiseCopyable>(_ bytes: [UInt8], _ offset: Int, as: T.Type) -> T {
    bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: T.self) }
}

/// What the frame says of itself: its parts and their total size, or nil if it is a plain FXSAVE image.
private func softwareBytes(_ frame: [UInt8]) -> (features: UInt64, size: Int)? {
    guard frame.count >= XSave.components, load(frame, XSave.softwareReserved, as: UInt32.self) == XSave.magic else { return nil }
    let size = Int(load(frame, XSave.softwareReserved + 16, as: UInt32.self))
    guard size >= XSave.components, size <= frame.count else { return nil }
    return (load(frame, XSave.softwareReserved + 8, as: UInt64.self), size)
}

/// The first 512 bytes with parts in their initial state filled in: a frame need not hold those.
private func legacyArea(_ frame: [UInt8]) -> [UInt8] {
    var area = [UInt8](frame[0..<512])
    let present = softwareBytes(frame) == nil ? UInt64.max : load(frame, XSave.header, as: UInt64.self)
    if present & XSave.x87 == 0 {
        for i in 0..<XSave.mxcsr { area[i] = 0 }
        area[0] = 0x7f; area[1] = 0x03      // the control word after FNINIT
        for i in XSave.x87Registers..<XSave.xmm { area[i] = 0 }
    }
    if present & XSave.sse == 0 { for i in XSave.xmm..<416 { area[i] = 0 } }
    for i in 416..<512 { area[i] = 0 }
    return area
}

/// NT_FPREGSET: the FXSAVE image.
func floatingPointNote(_ frame: [UInt8]) -> [UInt8] { legacyArea(frame) }

/// gdb knows one place for each part of AVX-512, the one of the CPUs with MPX before it; others pack them (since gdb 14 it guesses by the size).
private func standardLayout(_ frame: [UInt8], _ software: (features: UInt64, size: Int)) -> [UInt8] {
    let hasKeys = software.features & XSave.keys != 0
    guard software.features & XSave.avx512 == XSave.avx512, software.features & XSave.mpx == 0,
          software.size == XSave.dense.keys + (hasKeys ? 8 : 0) else { return [UInt8](frame[0..<software.size]) }
    var image = [UInt8](frame[0..<XSave.dense.opmask]) + [UInt8](repeating: 0, count: XSave.standard.keys + (hasKeys ? 8 : 0) - XSave.dense.opmask)
    func move(_ from: Int, _ to: Int, _ count: Int) { image.replaceSubrange(to..<to + count, with: frame[from..<from + count]) }
    move(XSave.dense.opmask, XSave.standard.opmask, 64)
    move(XSave.dense.upper, XSave.standard.upper, 512)
    move(XSave.dense.more, XSave.standard.more, 1024)
    if hasKeys { move(XSave.dense.keys, XSave.standard.keys, 8) }
    return image
}

/// NT_X86_XSTATE: the XSAVE image with XCR0 where the signal frame has its software bytes.
func extendedStateNote(_ frame: [UInt8]) -> [UInt8]? {
    guard let software = softwareBytes(frame) else { return nil }
    var note = legacyArea(frame)
    note.append(contentsOf: standardLayout(frame, software)[512...])
    for i in 0..<8 { note[XSave.softwareReserved + i] = UInt8(truncatingIfNeeded: software.features >> (8 * i)) }
    return note
}
