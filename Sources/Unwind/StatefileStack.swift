// Stacks of tasks in a statefile: libunwind's remote interface with accessors that read the statefile.
import CUnwind
import CkptABI
import CkptReport
import CkptStatefile
import CkptSystem

/// Stacks of one process's tasks, main task first.
public final class StatefileStacks {
    public struct Task: Sendable { public let tid: Int32; public let name: String; public let frames: [Frame] }

    private let statefile: Statefile
    private let process: Int
    fileprivate let memory: ProcessMemory
    fileprivate var registers: [UInt64] = []
    fileprivate var tables: [UInt64: UnwindTable?] = [:]
    private var symbols: [String: SymbolTable?] = [:]

    public init(_ statefile: Statefile, process: Int) throws(Problem) {
        self.statefile = statefile
        self.process = process
        memory = try ProcessMemory(statefile, process: process)
    }

    public func tasks(limit: Int = 64) throws(Problem) -> [Task] {
        let core = try statefile.coreProcess(process, memory: memory)
        let names = Dictionary(statefile.tasks(of: statefile.processes[process]).map { ($0.tid, $0.commText) }, uniquingKeysWith: { a, _ in a })
        var accessors = unw_accessors_t(
            find_proc_info: findProcInfo, put_unwind_info: { _, _, _ in }, get_dyn_info_list_addr: { _, _, _ in noInfo },
            access_mem: accessMemory, access_reg: accessRegister, access_fpreg: { _, _, _, _, _ in badRegister },
            resume: { _, _, _ in invalid }, get_proc_name: { _, _, _, _, _, _ in noInfo })
        guard let space = cunwind_space(&accessors) else { throw Problem(.system, "stacks", object: statefile.path, cause: "libunwind has no memory") }
        defer { cunwind_space_end(space) }
        let this = Unmanaged.passUnretained(self).toOpaque()
        return core.tasks.map { task in
            registers = task.context.dwarfRegisters
            var inner = true
            let found = frames(space, this, limit: limit) { frame, _ in
                // A return address may lie behind the end of a function that never returns.
                describe(&frame, at: inner || frame.isSignalFrame ? frame.address : frame.address - 1)
                inner = frame.isSignalFrame
            }
            return Task(tid: task.tid, name: names[task.tid] ?? "", frames: found)
        }
    }

    private func describe(_ frame: inout Frame, at address: UInt64) {
        guard let vma = memory.vma(at: address), let object = statefile.mappedObject(vma) else { return }
        frame.object = object.path
        if symbols[object.path] == nil { symbols[object.path] = .some(object.isUnchanged ? SymbolTable(object.path) : nil) }
        guard let table = symbols[object.path] ?? nil, let found = table.find(fileOffset: vma.object_offset + (address - vma.start)) else { return }
        frame.symbol = found.name
        frame.offset = found.offset + (frame.address - address)
    }
}

extension ckpt_task_record {
    var commText: String { withUnsafeBytes(of: comm) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) } }
}

extension ckpt_sigcontext {
    /// In the order of the x86-64 psABI's DWARF numbers.
    var dwarfRegisters: [UInt64] { [rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, rip] }
}

// libunwind's errors are negative.
private let noInfo = Int32(-CUNWIND_NO_INFO), badRegister = Int32(-CUNWIND_BAD_REGISTER), invalid = Int32(-CUNWIND_INVALID)

private func stacks(_ argument: UnsafeMutableRawPointer?) -> StatefileStacks { Unmanaged<StatefileStacks>.fromOpaque(argument!).takeUnretainedValue() }

private func accessMemory(_ space: unw_addr_space_t?, _ address: unw_word_t, _ value: UnsafeMutablePointer<unw_word_t>?, _ write: Int32, _ argument: UnsafeMutableRawPointer?) -> Int32 {
    guard write == 0, let word = stacks(argument).memory.load(UInt64(address), as: UInt64.self) else { return invalid }
    value!.pointee = unw_word_t(word)
    return 0
}

private func accessRegister(_ space: unw_addr_space_t?, _ number: unw_regnum_t, _ value: UnsafeMutablePointer<unw_word_t>?, _ write: Int32, _ argument: UnsafeMutableRawPointer?) -> Int32 {
    let registers = stacks(argument).registers
    guard write == 0, number >= 0, Int(number) < registers.count else { return badRegister }
    value!.pointee = unw_word_t(registers[Int(number)])
    return 0
}

private func findProcInfo(_ space: unw_addr_space_t?, _ ip: unw_word_t, _ info: UnsafeMutablePointer<unw_proc_info_t>?, _ need: Int32, _ argument: UnsafeMutableRawPointer?) -> Int32 {
    let stacks = stacks(argument)
    guard let base = stacks.memory.imageBase(of: UInt64(ip)) else { return noInfo }
    if stacks.tables[base] == nil { stacks.tables[base] = .some(UnwindTable(stacks.memory, image: base)) }
    guard let table = stacks.tables[base] ?? nil else { return noInfo }
    return cunwind_search(space, UInt64(ip), table.start, table.end, table.header, table.table, table.entries, info!, need, argument)
}

/// Where an image in memory keeps its table of frame descriptions (.eh_frame_hdr).
private struct UnwindTable {
    let start: UInt64, end: UInt64, header: UInt64, table: UInt64, entries: UInt64

    init?(_ memory: ProcessMemory, image: UInt64) {
        guard memory.load(image, as: UInt32.self) == 0x464c457f, let offset = memory.load(image + 32, as: UInt64.self),
              let entrySize = memory.load(image + 54, as: UInt16.self), let count = memory.load(image + 56, as: UInt16.self), entrySize >= 56 else { return nil }
        var bias: UInt64?, low = UInt64.max, high: UInt64 = 0, frames: UInt64?
        let loadable: UInt32 = 1, ehFrame: UInt32 = 0x6474e550
        for i in 0..<UInt64(count) {
            let at = image &+ offset &+ i * UInt64(entrySize)
            guard let type = memory.load(at, as: UInt32.self), let address = memory.load(at + 16, as: UInt64.self), let size = memory.load(at + 40, as: UInt64.self),
                  let fileOffset = memory.load(at + 8, as: UInt64.self) else { return nil }
            if type == loadable {
                if fileOffset == 0 { bias = image &- address }
                low = min(low, address); high = max(high, address &+ size)
            }
            if type == ehFrame { frames = address }
        }
        guard let bias, let frames else { return nil }
        header = bias &+ frames
        start = bias &+ low
        end = bias &+ high
        // version 1, a pointer of four bytes, a count of four bytes, a table of pairs of four bytes relative to the header
        guard let encodings = memory.load(header, as: UInt32.self), encodings & 0xff == 1, encodings >> 16 & 0xff == 0x03, encodings >> 24 == 0x3b,
              [0x0b, 0x1b, 0x03, 0x3b].contains(encodings >> 8 & 0xff), let n = memory.load(header + 8, as: UInt32.self) else { return nil }
        table = header + 12
        entries = UInt64(n)
    }
}
