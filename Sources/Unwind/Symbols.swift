// Names of functions in an ELF file, by file offset; read with libelf.
import CElf
import CkptSystem

struct SymbolTable {
    private struct Symbol { let address: UInt64, size: UInt64, name: String }
    private var symbols: [Symbol] = []
    private var segments: [(offset: UInt64, size: UInt64, address: UInt64)] = []

    init?(_ path: String) {
        elf_version(UInt32(EV_CURRENT))
        guard let file = try? MappedFile(path), file.bytes.count > 64,
              let elf = elf_memory(UnsafeMutablePointer(mutating: file.bytes.baseAddress!.assumingMemoryBound(to: CChar.self)), file.bytes.count) else { return nil }
        defer { elf_end(elf) }
        readSegments(elf)
        var section = elf_nextscn(elf, nil), dynamic: OpaquePointer?, complete: OpaquePointer?
        while let current = section {
            var header = GElf_Shdr()
            if gelf_getshdr(current, &header) != nil {
                if header.sh_type == UInt32(SHT_SYMTAB) { complete = current }
                if header.sh_type == UInt32(SHT_DYNSYM) { dynamic = current }
            }
            section = elf_nextscn(elf, current)
        }
        guard let chosen = complete ?? dynamic else { return }
        readSymbols(elf, chosen)
        symbols.sort { $0.address < $1.address }
    }

    private mutating func readSegments(_ elf: OpaquePointer) {
        var count = 0
        guard elf_getphdrnum(elf, &count) == 0 else { return }
        for i in 0..<count {
            var header = GElf_Phdr()
            if gelf_getphdr(elf, Int32(i), &header) != nil, header.p_type == UInt32(PT_LOAD) { segments.append((header.p_offset, header.p_filesz, header.p_vaddr)) }
        }
    }

    private mutating func readSymbols(_ elf: OpaquePointer, _ section: OpaquePointer) {
        var header = GElf_Shdr()
        guard gelf_getshdr(section, &header) != nil, header.sh_entsize > 0, let data = elf_getdata(section, nil) else { return }
        for i in 0..<Int32(clamping: header.sh_size / header.sh_entsize) {
            var symbol = GElf_Sym()
            let function: UInt8 = 2, indirect: UInt8 = 10
            guard gelf_getsym(data, i, &symbol) != nil, [function, indirect].contains(symbol.st_info & 15), symbol.st_value != 0,
                  let name = elf_strptr(elf, Int(header.sh_link), Int(symbol.st_name)) else { continue }
            symbols.append(Symbol(address: symbol.st_value, size: symbol.st_size, name: String(cString: name)))
        }
    }

    func find(fileOffset: UInt64) -> (name: String, offset: UInt64)? {
        guard let segment = segments.first(where: { fileOffset >= $0.offset && fileOffset - $0.offset < $0.size }) else { return nil }
        let address = segment.address &+ (fileOffset - segment.offset)
        var low = 0, high = symbols.count
        while low < high {
            let middle = (low + high) / 2
            if symbols[middle].address <= address { low = middle + 1 } else { high = middle }
        }
        guard low > 0 else { return nil }
        let symbol = symbols[low - 1]
        if symbol.size > 0 && address >= symbol.address &+ symbol.size { return nil }
        return (symbol.name, address - symbol.address)
    }
}
