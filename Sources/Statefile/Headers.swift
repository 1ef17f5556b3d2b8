// The two faces: program headers and the ELF header of each, encoded by libelf.
import CElf
import CkptABI

public enum Face: String, Sendable { case core, exec }

public struct Segment64: Sendable {
    public var type: UInt32, flags: UInt32, offset: UInt64, address: UInt64, fileSize: UInt64, memorySize: UInt64, align: UInt64
    public init(type: UInt32, flags: UInt32, offset: UInt64, address: UInt64, fileSize: UInt64, memorySize: UInt64, align: UInt64) {
        self.type = type; self.flags = flags; self.offset = offset; self.address = address; self.fileSize = fileSize; self.memorySize = memorySize; self.align = align
    }
}

public enum Headers {
    private static let load: UInt32 = 1

    /// The program headers of the engine's own ELF file, moved to where it lies in the statefile; and its entry.
    public static func engine(_ image: [UInt8], at base: UInt64) -> (segments: [Segment64], entry: UInt64)? {
        guard image.count >= 64, image[0] == 0x7f, image[4] == 2 else { return nil }
        let header = image.withUnsafeBytes { $0.loadUnaligned(as: Elf64_Ehdr.self) }
        var segments: [Segment64] = []
        for i in 0..<Int(header.e_phnum) {
            let at = Int(header.e_phoff) + i * 56
            guard at + 56 <= image.count else { return nil }
            let p = image.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: at, as: Elf64_Phdr.self) }
            if p.p_type == load || p.p_type == 0x6474e551 {         // PT_LOAD, PT_GNU_STACK
                segments.append(Segment64(type: p.p_type, flags: p.p_flags, offset: p.p_type == load ? p.p_offset + base : 0, address: p.p_vaddr, fileSize: p.p_filesz, memorySize: p.p_memsz, align: p.p_align))
            }
        }
        return (segments, header.e_entry)
    }

    public static func encode(_ segments: [Segment64]) -> [UInt8] {
        var table = segments.map {
            Elf64_Phdr(p_type: $0.type, p_flags: $0.flags, p_offset: $0.offset, p_vaddr: $0.address, p_paddr: 0, p_filesz: $0.fileSize, p_memsz: $0.memorySize, p_align: $0.align)
        }
        return translate(&table, ELF_T_PHDR)
    }

    /// The ELF header of one face.  More than 65,534 program headers don't fit in it (PN_XNUM): the caller merges.
    public static func elf(_ face: Face, _ block: ckpt_superblock) -> [UInt8] {
        var h = Elf64_Ehdr()
        withUnsafeMutableBytes(of: &h.e_ident) { id in
            let start: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0] + Array(CKPT_IDENT_MARK.utf8)
            for (i, b) in start.enumerated() where i < 16 { id[i] = b }
        }
        let core: UInt16 = 4, sharedObject: UInt16 = 3, x86_64: UInt16 = 62
        h.e_type = face == .core ? core : sharedObject
        h.e_machine = x86_64; h.e_version = 1; h.e_ehsize = 64; h.e_phentsize = 56
        h.e_entry = face == .core ? 0 : block.exec_entry
        h.e_phoff = face == .core ? block.core_phoff : block.exec_phoff
        h.e_phnum = UInt16(truncatingIfNeeded: face == .core ? block.core_phnum : block.exec_phnum)
        var one = [h]
        return translate(&one, ELF_T_EHDR)
    }

    private static func translate<T>(_ table: inout [T], _ type: Elf_Type) -> [UInt8] {
        elf_version(UInt32(EV_CURRENT))
        let size = table.count * MemoryLayout<T>.stride
        var out = [UInt8](repeating: 0, count: size)
        table.withUnsafeMutableBytes { source in
            out.withUnsafeMutableBytes { target in
                var from = Elf_Data(), to = Elf_Data()
                from.d_buf = source.baseAddress; from.d_size = size; from.d_type = type; from.d_version = UInt32(EV_CURRENT)
                to.d_buf = target.baseAddress; to.d_size = size; to.d_type = type; to.d_version = UInt32(EV_CURRENT)
                elf64_xlatetof(&to, &from, UInt32(ELFDATA2LSB))
            }
        }
        return out
    }
}
