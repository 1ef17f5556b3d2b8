// What kind of executable a file is, from its ELF headers (elf(5)).

public enum Executable {
    /// True: an ELF executable without an interpreter, so that nothing can be preloaded.  nil: not readable or no ELF file.
    public static func isStatic(_ path: String) -> Bool? {
        guard let file = try? File(path), let header = try? file.read(at: 0, count: 64), header.count == 64,
              header[0] == 0x7f, header[1] == 0x45, header[2] == 0x4c, header[3] == 0x46, header[4] == 2 else { return nil }
        func number(_ bytes: [UInt8], _ at: Int, _ count: Int) -> UInt64 { (0..<count).reduce(0) { $0 | UInt64(bytes[at + $1]) << UInt64(8 * $1) } }
        let offset = number(header, 32, 8), size = Int(number(header, 54, 2)), count = Int(number(header, 56, 2))
        guard size == 56, count > 0, count < 200, let table = try? file.read(at: offset, count: size * count), table.count == size * count else { return nil }
        let interpreter: UInt64 = 3
        return !(0..<count).contains { number(table, $0 * size, 4) == interpreter }
    }
    /// The NT_GNU_BUILD_ID of an ELF file; empty: none.
    public static func buildID(_ path: String) -> [UInt8] {
        guard let file = try? File(unnoticed: path) else { return [] }
        return buildID { try? file.read(at: $0, count: $1) } ?? []
    }
    /// `read`: bytes of the file, or fewer at its end; nil: what is needed cannot be read.
    public static func buildID(_ read: (_ at: UInt64, _ count: Int) -> [UInt8]?) -> [UInt8]? {
        guard let header = read(0, 64) else { return nil }
        guard header.count == 64, header[0] == 0x7f, header[4] == 2 else { return [] }
        func number(_ bytes: [UInt8], _ at: Int, _ count: Int) -> UInt64 { (0..<count).reduce(0) { $0 | UInt64(bytes[at + $1]) << UInt64(8 * $1) } }
        let offset = number(header, 32, 8), size = Int(number(header, 54, 2)), count = Int(number(header, 56, 2))
        guard size == 56, count > 0, count < 200 else { return [] }
        guard let table = read(offset, size * count) else { return nil }
        guard table.count == size * count else { return [] }
        let note: UInt64 = 4, buildID: UInt64 = 3
        for i in 0..<count where number(table, i * size, 4) == note {
            let at = number(table, i * size + 8, 8), length = number(table, i * size + 32, 8)
            guard length < 65536 else { continue }
            guard let notes = read(at, Int(length)) else { return nil }
            var p = 0
            while p + 12 <= notes.count {
                let nameSize = Int(number(notes, p, 4)), valueSize = Int(number(notes, p + 4, 4)), type = number(notes, p + 8, 4)
                let value = p + 12 + (nameSize + 3) & ~3
                guard value + valueSize <= notes.count else { break }
                if type == buildID && nameSize == 4 && notes[p + 12] == 0x47 { return Array(notes[value..<value + valueSize]) }
                p = value + (valueSize + 3) & ~3
            }
        }
        return []
    }
}
