// Is a file that the tree mapped still the one it was?
import CElf
import CkptABI
import CkptReport
import CkptSystem

extension Statefile {
    /// By build-id where the checkpoint recorded one, else by size and time of modification.
    public func isUnchanged(_ object: Int) -> Bool {
        let o = objects[object]
        let path = string(o.path)
        guard let s = FileStatus(path) else { return false }
        if s.size == o.size && s.modifiedSeconds == o.mtime_sec && s.modifiedNanoseconds == o.mtime_nsec { return true }
        guard o.build_id_size > 0, let file = try? MappedFile(path), let id = buildID(of: file) else { return false }
        return id == blob(at: o.build_id, count: o.build_id_size)
    }
}

/// The NT_GNU_BUILD_ID of an ELF file, read with libelf.
public func buildID(of file: MappedFile) -> [UInt8]? {
    elf_version(UInt32(EV_CURRENT))
    guard file.bytes.count > 64, let elf = elf_memory(UnsafeMutablePointer(mutating: file.bytes.baseAddress!.assumingMemoryBound(to: CChar.self)), file.bytes.count) else { return nil }
    defer { elf_end(elf) }
    var count = 0
    guard elf_getphdrnum(elf, &count) == 0 else { return nil }
    for i in 0..<count {
        var header = GElf_Phdr()
        guard gelf_getphdr(elf, Int32(i), &header) != nil, header.p_type == UInt32(PT_NOTE),
              let data = elf_getdata_rawchunk(elf, Int64(truncatingIfNeeded: header.p_offset), Int(truncatingIfNeeded: header.p_filesz), header.p_align == 8 ? ELF_T_NHDR8 : ELF_T_NHDR)
        else { continue }
        var at = 0
        while true {
            var note = GElf_Nhdr(), name = 0, contents = 0
            let next = gelf_getnote(data, at, &note, &name, &contents)
            if next <= at { break }
            let buildIDType: UInt32 = 3
            if note.n_type == buildIDType, note.n_namesz == 4, String(decoding: UnsafeRawBufferPointer(start: data.pointee.d_buf + name, count: 3), as: UTF8.self) == "GNU" {
                return [UInt8](UnsafeRawBufferPointer(start: data.pointee.d_buf + contents, count: Int(note.n_descsz)))
            }
            at = next
        }
    }
    return nil
}

extension Statefile {
    public func objectPath(_ i: UInt32) -> String { string(objects[Int(i)].path) }
    /// The whole ELF file of the engine.
    public var engine: [UInt8] { [UInt8](slice(superblock.engine_offset, Int(superblock.engine_size))) }
    /// The runs of a process's own memory.
    public func storedRuns(_ p: ckpt_process_record, _ body: (ckpt_run) -> Void) throws(Problem) { try forEachRun(from: p.runs) { body($0) } }
    /// The sizes of all runs of a process, in pages.
    public func storedPages(_ p: ckpt_process_record, _ body: (UInt32) -> Void) throws(Problem) {
        for chain in [p.runs, p.shared_runs] { try forEachRun(from: chain) { body(UInt32($0.pages)) } }
    }
}

extension Statefile {
    /// The file behind a mapping, and whether it is still the same.
    public func mappedObject(_ vma: ckpt_vma_record) -> (path: String, isUnchanged: Bool)? {
        if vma.kind == CKPT_VMA_VDSO.rawValue { return ("[vdso]", false) }
        guard vma.isFile else { return nil }
        let object = objects[Int(vma.object)]
        return (string(object.path), object.kind == CKPT_OBJECT_REGULAR.rawValue && isUnchanged(Int(vma.object)))
    }
}

extension ProcessMemory {
    /// Where the image (program, library, vdso) begins that `address` lies in.
    public func imageBase(of address: UInt64) -> UInt64? {
        guard let vma = vma(at: address) else { return nil }
        if vma.kind == CKPT_VMA_VDSO.rawValue { return vma.start }
        guard vma.isFile else { return nil }
        return vmas.last { $0.start <= address && $0.isFile && $0.object == vma.object && $0.object_offset == 0 }?.start
    }
}
