// The program headers of both faces, encoded by libelf; Faces.swift has the 64 bytes that point to one of them.
import CElf
import CkptABI
import CkptSystem

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

    /// What of an ELF file is mapped when it runs: up to the end of its last segment, and no section headers.  Debug information is the rest, and most of it.
    public static func loadable(_ file: File) throws(SystemError) -> [UInt8] {
        let front = try file.read(at: 0, count: 4096)
        guard let found = engine(front, at: 0) else { throw SystemError("ELF header", errno: 8) }
        var image = try file.read(at: 0, count: Int(found.segments.map { $0.offset + $0.fileSize }.max() ?? 0))
        image.withUnsafeMutableBytes {
            var header = $0.loadUnaligned(as: Elf64_Ehdr.self)
            header.e_shoff = 0; header.e_shnum = 0; header.e_shstrndx = 0
            $0.storeBytes(of: header, as: Elf64_Ehdr.self)
        }
        return image
    }

    public static func encode(_ segments: [Segment64]) -> [UInt8] {
        var table = segments.map {
            Elf64_Phdr(p_type: $0.type, p_flags: $0.flags, p_offset: $0.offset, p_vaddr: $0.address, p_paddr: 0, p_filesz: $0.fileSize, p_memsz: $0.memorySize, p_align: $0.align)
        }
        var bytes = translate(&table, ELF_T_PHDR)
        if segments.count >= 0xffff {
            // elf(5), PN_XNUM: the count is in sh_info of a first section header.
            var section = [Elf64_Shdr()]
            section[0].sh_info = UInt32(segments.count)
            bytes += translate(&section, ELF_T_SHDR)
        }
        return bytes
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
