// Runs as a freestanding static program: `ckptexec FILE ARGS…`, the interpreter that the binfmt_misc rule names for core-face statefiles.
// It copies the engine inside FILE to a memfd and becomes it: the kernel itself would not execute an ET_CORE file.
import CkptABI
import EngineBoot
import Freestanding

typealias Arguments = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>

@c(ckpt_start) func start(_ sp: UnsafeMutablePointer<UInt64>) -> Never {
    let count = Int(sp.pointee)
    let argv = UnsafeMutableRawPointer(sp + 1).assumingMemoryBound(to: UnsafeMutablePointer<CChar>?.self)
    guard count >= 2, let file = argv[1] else {
        var line = Line()
        line.put("ckptexec: usage: ckptexec STATEFILE [OPTIONS OF THE RESTART]; it is the interpreter of the rule that `ckptctl binfmt install` registers\n")
        line.write(to: Descriptor(2))
        ckpt_exit_group(64)
    }
    becomeEngine(file, arguments: argv + 2, count: count - 2, environment: argv + count + 1)
}

@c(ckpt_trap) func trap() -> Never {
    var line = Line()
    line.put("ckptexec: internal error\n")
    line.write(to: Descriptor(2))
    ckpt_exit_group(70)
}

// SwiftPM links Swift executables with --defsym main=MODULE_main.
@c(ckptexec_main) func unused(_ c: Int32, _ v: Arguments?) -> Int32 { 0 }

func fail(_ code: Int32, _ file: UnsafePointer<CChar>, _ cause: StaticString, _ error: Errno? = nil) -> Never {
    var line = Line()
    line.put("ckptexec: ")
    line.put(text: file)
    line.put(": ")
    line.put(cause)
    if let error { line.put(": "); line.put(error) }
    line.put(byte: 10)
    line.write(to: Descriptor(2))
    ckpt_exit_group(code)
}

func becomeEngine(_ file: UnsafePointer<CChar>, arguments: Arguments, count: Int, environment: Arguments) -> Never {
    let readOnly: Int32 = 0, closeOnExec: Int32 = 0o2000000
    let statefile = Int32(truncatingIfNeeded: ckpt_open(file, readOnly | closeOnExec, 0))
    if statefile < 0 { fail(71, file, "cannot be opened", Errno(-statefile)) }
    let block = superblock(of: statefile, file)
    let engine = copyEngine(from: statefile, file, offset: block.engine_offset, size: block.engine_size)
    execute(engine, file, arguments: arguments, count: count, environment: environment)
}

/// Reads the superblock and believes none of it before the checksum fits.
func superblock(of statefile: Int32, _ file: UnsafePointer<CChar>) -> ckpt_superblock {
    var block = ckpt_superblock()
    let size = MemoryLayout<ckpt_superblock>.size
    let crcOffset = MemoryLayout<ckpt_superblock>.size - 8
    let n = ckpt_pread(statefile, &block, size, UInt64(CKPT_SUPERBLOCK_OFFSET))
    if n < 0 { fail(71, file, "cannot be read", Errno(Int32(truncatingIfNeeded: -n))) }
    guard n == size, block.magic == ckpt_statefile_magic() else { fail(65, file, "not a statefile of ckptctl checkpoint") }
    if block.version != UInt32(CKPT_STATEFILE_VERSION) { fail(65, file, "written by another version of ckpt: use the ckptexec of that version") }
    let crc = ckpt_crc32c_hw(0, &block, crcOffset)
    guard crc == block.crc else { fail(65, file, "damaged: the superblock's checksum is wrong") }
    let end = block.engine_offset.addingReportingOverflow(block.engine_size)
    guard !end.overflow, end.partialValue <= block.file_size, block.engine_size > 64, block.engine_size < 1 << 28 else {
        fail(65, file, "damaged: the engine lies outside of the file")
    }
    return block
}

func copyEngine(from statefile: Int32, _ file: UnsafePointer<CChar>, offset: UInt64, size: UInt64) -> Int32 {
    let closeOnExec = 1, executable = 0x10
    let name: StaticString = "ckptengine"
    var r = ckpt_syscall(Int(CKPT_SYS_memfd_create), Int(bitPattern: name.cString), closeOnExec | executable, 0, 0, 0, 0)
    if r == -22 { r = ckpt_syscall(Int(CKPT_SYS_memfd_create), Int(bitPattern: name.cString), closeOnExec, 0, 0, 0, 0) }
    if r < 0 { fail(71, file, "memfd for the engine", Errno(Int32(truncatingIfNeeded: -r))) }
    let engine = Int32(truncatingIfNeeded: r)
    let sendfile = 40
    var at = offset
    while at < offset + size {
        let n = withUnsafeMutablePointer(to: &at) {
            ckpt_syscall(sendfile, Int(engine), Int(statefile), Int(bitPattern: $0), Int(truncatingIfNeeded: offset + size - $0.pointee), 0, 0)
        }
        if n == 0 { fail(65, file, "damaged: it ends inside the engine") }
        if n < 0 { fail(71, file, "copying the engine", Errno(Int32(truncatingIfNeeded: -n))) }
    }
    _ = ckpt_close(statefile)
    return engine
}

func execute(_ engine: Int32, _ file: UnsafePointer<CChar>, arguments: Arguments, count: Int, environment: Arguments) -> Never {
    let bytes = UInt64((count + 4) * 8)
    let protection: Int32 = 3, privateAnonymous: Int32 = 0x22
    let r = ckpt_mmap(0, pageAlignUp(bytes), protection, privateAnonymous, -1, 0)
    if r < 0 && r > -4096 { fail(71, file, "memory for the arguments", Errno(Int32(truncatingIfNeeded: -r))) }
    let argv = UnsafeMutablePointer<UnsafePointer<CChar>?>(bitPattern: r)!
    let option: StaticString = "--statefile", empty: StaticString = ""
    argv[0] = file
    argv[1] = option.cString
    argv[2] = file
    for i in 0..<count { argv[3 + i] = UnsafePointer(arguments[i]) }
    argv[3 + count] = nil
    let emptyPath = 0x1000
    let e = ckpt_syscall(Int(CKPT_SYS_execveat), Int(engine), Int(bitPattern: empty.cString), Int(bitPattern: argv), Int(bitPattern: environment), emptyPath, 0)
    fail(71, file, "the engine inside it cannot be executed", Errno(Int32(truncatingIfNeeded: -e)))
}
