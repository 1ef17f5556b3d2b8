// The first steps into an unknown file: is it a statefile, is it whole, where are its tables.
import CElf
import CkptABI
import CkptReport
import CkptSystem

struct Scan {
    let file: MappedFile
    let path: String
    var size: UInt64 { UInt64(file.bytes.count) }

    func bad(_ record: String, at offset: UInt64?, _ cause: String) -> Problem {
        Problem(.statefile, "statefile", object: path, cause: offset.map { "\(record) at 0x\(hex($0))" } ?? record, cause)
    }

    /// Whether [offset, offset + count) lies in the file.
    func contains(_ offset: UInt64, _ count: UInt64) -> Bool {
        let end = offset.addingReportingOverflow(count)
        return !end.overflow && end.partialValue <= size
    }
    func crc(_ offset: UInt64, _ count: UInt64) -> UInt32 { ckpt_crc32c_hw(0, file.bytes.baseAddress! + Int(offset), Int(count)) }

    func superblock() throws(Problem) -> ckpt_superblock {
        let offset = UInt64(CKPT_SUPERBLOCK_OFFSET), length = UInt64(MemoryLayout<ckpt_superblock>.size)
        guard contains(offset, length) else {
            throw Problem(.statefile, "statefile", object: path, cause: size == 0 ? "empty" : "too short to be a statefile")
        }
        var block = ckpt_superblock()
        withUnsafeMutableBytes(of: &block) { $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: file.bytes[Int(offset)..<Int(offset + length)])) }
        guard block.magic == ckpt_statefile_magic() else { throw Problem(.statefile, "statefile", object: path, cause: "not a statefile: no superblock") }
        guard block.version == UInt32(CKPT_STATEFILE_VERSION) else {
            throw Problem(.statefile, "statefile", object: path, cause: "version \(block.version) of the format; this ckptctl reads version \(CKPT_STATEFILE_VERSION)",
                          remedy: "use the ckptctl that wrote it, or execute the file: its engine is inside it")
        }
        guard block.size == length, crc(offset, length - 8) == block.crc else { throw bad("superblock", at: offset, "wrong checksum") }
        if block.file_size == ckpt_size_streamed() { block = try trailer(length) }
        guard block.file_size <= size else {
            throw Problem(.statefile, "statefile", object: path, cause: "cut off: \(size) of \(block.file_size) bytes", remedy: "copy it again")
        }
        func part(_ name: String, _ offset: UInt64, _ count: UInt64) throws(Problem) {
            guard contains(offset, count), offset + count <= block.file_size else { throw bad(name, at: offset, "lies outside of the file") }
        }
        try part("engine", block.engine_offset, block.engine_size)
        try part("exec program headers", block.exec_phoff, UInt64(block.exec_phnum) * 56)
        try part("core program headers", block.core_phoff, UInt64(block.core_phnum) * 56)
        try part("core notes", block.core_notes_offset, block.core_notes_size)
        try part("tables", block.tables_offset, block.tables_size)
        guard crc(block.tables_offset, block.tables_size) == block.tables_crc else { throw bad("tables", at: block.tables_offset, "wrong checksum") }
        return block
    }

    /// Of a statefile that was written to a pipe: the superblock that counts is its end.
    private func trailer(_ length: UInt64) throws(Problem) -> ckpt_superblock {
        let offset = size - length
        var block = ckpt_superblock()
        withUnsafeMutableBytes(of: &block) { $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: file.bytes[Int(offset)...])) }
        guard block.magic == ckpt_statefile_magic(), block.version == UInt32(CKPT_STATEFILE_VERSION), block.size == length, crc(offset, length - 8) == block.crc, block.file_size == size else {
            throw Problem(.statefile, "statefile", object: path, cause: "cut off: it came through a pipe, and its end is missing", remedy: "write it again")
        }
        return block
    }

    func withElf<R>(_ body: (OpaquePointer) throws(Problem) -> R) throws(Problem) -> R {
        elf_version(UInt32(EV_CURRENT))
        let start = UnsafeMutablePointer(mutating: file.bytes.baseAddress!.assumingMemoryBound(to: CChar.self))
        guard let elf = elf_memory(start, file.bytes.count), elf_kind(elf) == ELF_K_ELF else { throw bad("ELF header", at: 0, "not an ELF file") }
        defer { elf_end(elf) }
        return try body(elf)
    }

    func face() throws(Problem) -> Face {
        try withElf { (elf) throws(Problem) in
            var header = GElf_Ehdr()
            guard gelf_getehdr(elf, &header) != nil, gelf_getclass(elf) == Int32(ELFCLASS64), header.e_machine == UInt16(EM_X86_64) else {
                throw bad("ELF header", at: 0, "not one of a 64-bit x86 file")
            }
            switch Int32(header.e_type) {
            case ET_CORE: return .core
            case ET_EXEC, ET_DYN: return .exec
            default: throw bad("ELF header", at: 0, "type \(header.e_type) is neither face of a statefile")
            }
        }
    }

    /// A CKPT note's contents, by table type.
    func tables(_ block: ckpt_superblock) throws(Problem) -> [UInt32: Range<UInt64>] {
        try withElf { (elf) throws(Problem) in
            var found: [UInt32: Range<UInt64>] = [:]
            guard block.tables_size > 0, let data = elf_getdata_rawchunk(elf, Int64(block.tables_offset), Int(block.tables_size), ELF_T_NHDR) else {
                throw bad("tables", at: block.tables_offset, "not a sequence of ELF notes")
            }
            var at = 0
            while at < Int(block.tables_size) {
                var header = GElf_Nhdr(), name = 0, contents = 0
                let next = gelf_getnote(data, at, &header, &name, &contents)
                let offset = block.tables_offset + UInt64(at)
                guard next > at, contents + Int(header.n_descsz) <= Int(block.tables_size) else { throw bad("note", at: offset, "lies outside of the tables") }
                if header.n_namesz == 5, owner(data.pointee.d_buf, name) == "CKPT" {
                    guard found[header.n_type &- UInt32(CKPT_NOTE_BASE)] == nil else { throw bad("note", at: offset, "a second table of type \(header.n_type)") }
                    let start = block.tables_offset + UInt64(contents)
                    found[header.n_type &- UInt32(CKPT_NOTE_BASE)] = start..<start + UInt64(header.n_descsz)
                }
                at = next
            }
            return found
        }
    }
    private func owner(_ buffer: UnsafeMutableRawPointer, _ offset: Int) -> String {
        String(decoding: UnsafeRawBufferPointer(start: buffer + offset, count: 4), as: UTF8.self)
    }

    /// A table that came later: none is an empty one.
    func optionalTable<T>(_ range: Range<UInt64>?, _ name: String) throws(Problem) -> Table<T> {
        range == nil ? Table(base: nil, count: 0, file: file) : try table(range, name)
    }
    func table<T>(_ range: Range<UInt64>?, _ name: String) throws(Problem) -> Table<T> {
        guard let range else { throw bad("table \(name)", at: nil, "missing") }
        let header = UInt64(MemoryLayout<ckpt_table_header>.size)
        guard UInt64(range.count) >= header else { throw bad("table \(name)", at: range.lowerBound, "too short") }
        var h = ckpt_table_header()
        let base = file.bytes.baseAddress! + Int(range.lowerBound)
        withUnsafeMutableBytes(of: &h) { $0.copyMemory(from: UnsafeRawBufferPointer(start: base, count: Int(header))) }
        guard h.entry_size == UInt32(MemoryLayout<T>.stride) else {
            throw bad("table \(name)", at: range.lowerBound, "entries of \(h.entry_size) bytes; this version has \(MemoryLayout<T>.stride)")
        }
        guard h.count <= (UInt64(range.count) - header) / UInt64(h.entry_size) else { throw bad("table \(name)", at: range.lowerBound, "\(h.count) entries do not fit into it") }
        return Table(base: base + Int(header), count: Int(h.count), file: file)
    }
}
