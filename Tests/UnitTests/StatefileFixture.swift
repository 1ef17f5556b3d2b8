// A small statefile, made by hand: one process with two tasks, a child that is a zombie, three VMAs, two runs of pages.
import CkptABI
import CkptSystem
@testable import CkptStatefile

struct StatefileFixture {
    var bytes: [UInt8]
    static let heap: UInt64 = 0x5000_0000, stack: UInt64 = 0x7fff_0000_0000, frame: UInt64 = stack + 0x100
    static let engine: UInt64 = 0x1000, memory: UInt64 = 0x2000, chunk: UInt64 = 0x6000

    private static func raw<T>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value) { [UInt8]($0) } }
    static func crc(_ b: [UInt8]) -> UInt32 { b.withUnsafeBytes { ckpt_crc32c_hw(0, $0.baseAddress!, $0.count) } }

    private static func note<T>(_ type: ckpt_table, _ entries: [T]) -> [UInt8] {
        var contents = raw(ckpt_table_header(version: 1, entry_size: UInt32(MemoryLayout<T>.stride), count: UInt64(entries.count)))
        for e in entries { contents += raw(e) }
        var n: [UInt8] = []
        n.put32(UInt32(5)); n.put32(UInt32(contents.count)); n.put32(UInt32(CKPT_NOTE_BASE) + type.rawValue)
        n += Array("CKPT".utf8) + [0]
        n.pad(to: 4)
        n += contents
        n.pad(to: 4)
        return n
    }

    init(change: (inout [ckpt_process_record], inout [ckpt_task_record], inout [ckpt_vma_record], inout [ckpt_run]) -> Void = { _, _, _, _ in }) {
        var process = ckpt_process_record()
        process.pid = 100; process.pgid = 100; process.sid = 100
        process.parent = ckpt_no_index(); process.root = ckpt_no_index()
        process.task_count = 2; process.vma_count = 3; process.fd_count = 1
        process.runs = Self.chunk
        process.comm = 1; process.cmdline = 1
        var zombie = ckpt_process_record()
        zombie.pid = 101; zombie.flags = CKPT_PROCESS_ZOMBIE.rawValue; zombie.exit_status = 0x300
        zombie.first_task = 2; zombie.first_vma = 3; zombie.first_fd = 1
        var task = ckpt_task_record()
        task.tid = 100; task.ucontext = Self.frame; task.fs_base = 0xf5
        var second = task
        second.tid = 102
        func vma(_ start: UInt64, _ pages: UInt64, _ kind: ckpt_vma_kind, data: UInt64, object: UInt32) -> ckpt_vma_record {
            var v = ckpt_vma_record()
            v.start = start; v.end = start + pages * 4096; v.protection = 3; v.kind = kind.rawValue; v.data_offset = data; v.object = object
            return v
        }
        var processes = [process, zombie], tasks = [task, second]
        var vmas = [vma(Self.heap, 2, CKPT_VMA_ANONYMOUS, data: Self.memory, object: ckpt_no_index()),
                    vma(Self.heap + 0x10000, 4, CKPT_VMA_ANONYMOUS, data: 0, object: ckpt_no_index()),
                    vma(Self.stack, 2, CKPT_VMA_ANONYMOUS, data: Self.memory + 0x2000, object: ckpt_no_index())]
        var file = [UInt8](repeating: 0, count: Int(Self.chunk))
        for i in 0..<4096 { file[Int(Self.memory) + 4096 + i] = UInt8(truncatingIfNeeded: i) }     // the heap's second page
        var context = ckpt_ucontext()
        context.mc.rip = 0x401000; context.mc.rsp = Self.stack + 0x1800
        file.replaceSubrange(Int(Self.memory) + 0x2100..<Int(Self.memory) + 0x2100 + MemoryLayout<ckpt_ucontext>.size, with: Self.raw(context))
        func run(_ address: UInt64, _ offset: UInt64) -> ckpt_run {
            ckpt_run(address: address, file_offset: offset, pages: 1, skipped: 0, frame: 0, crc: Self.crc(Array(file[Int(offset)..<Int(offset) + 4096])), flags: 0, object: ckpt_no_index())
        }
        var runs = [run(Self.heap + 4096, Self.memory + 4096), run(Self.stack, Self.memory + 0x2000)]
        change(&processes, &tasks, &vmas, &runs)
        let runBytes = runs.flatMap { Self.raw($0) }
        file += Self.raw(ckpt_chunk(magic: UInt32(CKPT_CHUNK_MAGIC), count: UInt32(runs.count), next: 0, crc: Self.crc(runBytes), pad: 0, pad2: 0)) + runBytes
        file.pad(to: 4096)
        bytes = file
        addTables(processes, tasks, vmas)
    }

    private mutating func addTables(_ processes: [ckpt_process_record], _ tasks: [ckpt_task_record], _ vmas: [ckpt_vma_record]) {
        var tree = ckpt_tree()
        tree.page_size = 4096; tree.name = 1; tree.command = 1
        var exe = ckpt_object_record()
        exe.kind = CKPT_OBJECT_REGULAR.rawValue; exe.path = 5
        var fd = ckpt_fd_record()
        fd.number = 3
        var tables = Self.note(CKPT_TABLE_TREE, [tree]) + Self.note(CKPT_TABLE_PROCESS, processes) + Self.note(CKPT_TABLE_TASK, tasks)
        tables += Self.note(CKPT_TABLE_VMA, vmas) + Self.note(CKPT_TABLE_OBJECT, [exe]) + Self.note(CKPT_TABLE_DESCRIPTION, [ckpt_description_record()])
        tables += Self.note(CKPT_TABLE_FD, [fd]) + Self.note(CKPT_TABLE_PENDING, [ckpt_pending_record]()) + Self.note(CKPT_TABLE_TIMER, [ckpt_timer_record]())
        tables += Self.note(CKPT_TABLE_GROUP, [UInt32]()) + Self.note(CKPT_TABLE_CREDENTIALS, [ckpt_credentials_record()]) + Self.note(CKPT_TABLE_BYTES, [0] + Array("job".utf8) + [0] + Array("/nonexistent/job".utf8) + [0])
        var block = ckpt_superblock()
        block.magic = ckpt_statefile_magic(); block.version = UInt32(CKPT_STATEFILE_VERSION); block.size = UInt32(MemoryLayout<ckpt_superblock>.size)
        block.engine_offset = Self.engine; block.engine_size = 64
        block.exec_phoff = 64; block.exec_phnum = 1; block.core_phoff = UInt64(bytes.count); block.core_phnum = 0; block.exec_entry = 0x1000
        block.tables_offset = UInt64(bytes.count); block.tables_size = UInt64(tables.count); block.tables_crc = Self.crc(tables)
        block.core_notes_offset = block.tables_offset
        bytes += tables
        block.file_size = UInt64(bytes.count)
        seal(&block)
        bytes.replaceSubrange(0..<64, with: elfHeader(.core, block))
    }

    private mutating func seal(_ block: inout ckpt_superblock) {
        block.engine_crc = Self.crc([UInt8](repeating: 0, count: 64))
        block.crc = Self.crc(Array(Self.raw(block)[..<128]))
        bytes.replaceSubrange(Int(CKPT_SUPERBLOCK_OFFSET)..<Int(CKPT_SUPERBLOCK_OFFSET) + 136, with: Self.raw(block))
    }

    /// After a change: checksums of superblock and tables fit again, as an attacker would see to it.
    mutating func reseal() {
        var block = ckpt_superblock()
        withUnsafeMutableBytes(of: &block) { $0.copyBytes(from: bytes[Int(CKPT_SUPERBLOCK_OFFSET)..<Int(CKPT_SUPERBLOCK_OFFSET) + 136]) }
        if block.tables_offset < UInt64(bytes.count), block.tables_size <= UInt64(bytes.count) - block.tables_offset, block.tables_size > 0 {
            block.tables_crc = Self.crc(Array(bytes[Int(block.tables_offset)..<Int(block.tables_offset + block.tables_size)]))
        }
        seal(&block)
    }

    func open() throws -> Statefile { try Statefile(MappedFile(copying: bytes), path: "test.ckpt") }
}
