// The kernel's memory, read by a program of ours (bpf(2)): for what no other call shows without taking it.  Nothing is changed.
// That takes CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN.
import CkptABI

final class KernelMemory {
    static let most = 512                           // bytes of a read
    private static let block = 256                  // what one run reads; it lies in one page
    private let program: File
    private var run = Attributes()                  // the same for each
    private var lastBlock: UInt64 = 0               // whose contents are in the context; 0: none's
    private let context = UnsafeMutableRawBufferPointer.allocate(byteCount: 16 + block, alignment: 8)       // address, result, what was read
    private let room = UnsafeMutableRawBufferPointer.allocate(byteCount: most, alignment: 8)

    init() throws(SystemError) {
        let code = KernelMemory.code, license: [UInt8] = Array("GPL\0".utf8)
        var number = 0
        code.withUnsafeBytes { code in
            license.withUnsafeBytes { license in
                var a = Attributes()
                a.put(UInt32(31), at: 0); a.put(UInt32(code.count / 8), at: 4)                    // BPF_PROG_TYPE_SYSCALL
                a.put(UInt64(UInt(bitPattern: code.baseAddress)), at: 8); a.put(UInt64(UInt(bitPattern: license.baseAddress)), at: 16)
                a.put(UInt32(16), at: 44)                                                          // BPF_F_SLEEPABLE
                number = a.call(.load)
            }
        }
        if number < 0 { throw SystemError("bpf", errno: Int32(-number)) }
        program = File(adopting: Int32(number))
        run.put(UInt32(number), at: 0); run.put(UInt32(context.count), at: 40); run.put(UInt64(UInt(bitPattern: context.baseAddress)), at: 48)
    }
    deinit { context.deallocate(); room.deallocate() }

    /// Valid until the next read.  `behind`: what the last read has brought along is taken from that, so that both are of one moment.
    func read(_ address: UInt64, _ count: Int, behind: Bool = false) throws(SystemError) -> UnsafeRawBufferPointer {
        let fault = SystemError("bpf", errno: 14)
        guard address != 0, count <= KernelMemory.most else { throw fault }
        var done = 0
        while done < count {
            let at = address &+ UInt64(done), within = Int(truncatingIfNeeded: at) & (KernelMemory.block - 1), part = min(count - done, KernelMemory.block - within)
            if !(behind && at &- UInt64(within) == lastBlock) {
                lastBlock = 0
                if try run(on: at &- UInt64(within)) < 0 { throw fault }
                lastBlock = at &- UInt64(within)
            }
            UnsafeMutableRawBufferPointer(rebasing: room[done...]).copyMemory(from: UnsafeRawBufferPointer(rebasing: context[16 + within..<16 + within + part]))
            done += part
        }
        return UnsafeRawBufferPointer(rebasing: room[..<count])
    }
    func pointer(_ address: UInt64) throws(SystemError) -> UInt64 { try read(address, 8).load(as: UInt64.self) }
    /// struct task_struct of the calling thread.
    func currentTask() throws(SystemError) -> UInt64 { lastBlock = 0; return UInt64(bitPattern: try run(on: 0)) }

    private func run(on address: UInt64) throws(SystemError) -> Int64 {
        context.storeBytes(of: address, as: UInt64.self)
        let r = run.call(.run)
        if r < 0 { throw SystemError("bpf", errno: Int32(-r)) }
        return context.load(fromByteOffset: 8, as: Int64.self)
    }

    /// address 0: which task runs this; else what is there, through the stack, since a context is no place to read into.
    private static var code: [UInt64] {
        enum Register: UInt64 { case r0, r1, r2, r3, r6 = 6, stack = 10 }
        func i(_ operation: UInt64, _ to: Register, _ from: Register = .r0, offset: Int16 = 0, value: Int32 = 0) -> UInt64 {
            operation | to.rawValue << 8 | from.rawValue << 12 | UInt64(UInt16(bitPattern: offset)) << 16 | UInt64(UInt32(bitPattern: value)) << 32
        }
        let load: UInt64 = 0x79, store: UInt64 = 0x7b, move: UInt64 = 0xbf, add: UInt64 = 0x07, set: UInt64 = 0xb7, unless: UInt64 = 0x55, call: UInt64 = 0x85, exit: UInt64 = 0x95
        let currentTask: Int32 = 35, probeRead: Int32 = 113
        var c = [i(move, .r6, .r1), i(load, .r3, .r6),
                 i(unless, .r3, offset: 4), i(call, .r0, value: currentTask), i(store, .r6, .r0, offset: 8), i(set, .r0), i(exit, .r0),
                 i(move, .r1, .stack), i(add, .r1, value: -Int32(block)), i(set, .r2, value: Int32(block)), i(call, .r0, value: probeRead), i(store, .r6, .r0, offset: 8)]
        for at in stride(from: 0, to: Int16(block), by: 8) { c += [i(load, .r1, .stack, offset: at - Int16(block)), i(store, .r6, .r1, offset: 16 + at)] }
        return c + [i(set, .r0), i(exit, .r0)]
    }
}

/// union bpf_attr
private struct Attributes {
    enum Command: Int { case load = 5, run = 10 }
    private var words = [UInt64](repeating: 0, count: 16)
    mutating func put<T: BitwiseCopyable>(_ value: T, at offset: Int) { words.withUnsafeMutableBytes { $0.storeBytes(of: value, toByteOffset: offset, as: T.self) } }
    mutating func call(_ command: Command) -> Int {
        words.withUnsafeMutableBytes { ckpt_syscall(321, command.rawValue, Int(bitPattern: $0.baseAddress!), $0.count, 0, 0, 0) }
    }
}
