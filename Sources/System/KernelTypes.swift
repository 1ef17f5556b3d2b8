// Where the fields of the kernel's own structures lie, as it describes itself (/sys/kernel/btf/vmlinux, BPF Type Format).
import CkptABI

struct KernelTypes {
    private enum Kind: UInt32 {
        case integer = 1, pointer, array, structure, union, enumeration, forward, typedef, volatile, const, restrict, function, prototype, variable, section, float, declarationTag, typeTag, enumeration64
        /// What follows the three words of a type, for `n` members.
        func trailer(_ n: Int) -> Int {
            switch self {
            case .integer, .variable, .declarationTag: 4
            case .array: 12
            case .structure, .union, .section, .enumeration64: 12 * n
            case .enumeration, .prototype: 8 * n
            default: 0
            }
        }
    }
    private let bytes: [UInt8], strings: Int
    private var starts: [UInt32] = [0]              // of each type, by its number; 0 is void
    private var structures: [String: Int] = [:]     // number of each wanted one

    /// Looks for these structures; nil: the kernel describes itself in no way that is known here.  It is quick, since tasks may be waiting.
    init?(of wanted: [String]) {
        guard let bytes = KernelTypes.description(), bytes.count > 24 else { return nil }
        let magic: UInt32 = 0xeb9f, names = wanted.map { Array($0.utf8) + [0] }
        let header = bytes.withUnsafeBytes { b in (0..<5).map { b.load(fromByteOffset: $0 * 4, as: UInt32.self) } }
        let types = Int(header[1]) + Int(header[2]), end = types + Int(header[3])
        strings = Int(header[1]) + Int(header[4])
        self.bytes = bytes
        guard header[0] & 0xffff == magic, end <= bytes.count, strings < bytes.count, types % 4 == 0 else { return nil }
        starts.reserveCapacity(Int(header[3]) / 24)
        let isKnown = bytes.withUnsafeBytes { b in
            var at = types
            while at + 12 <= end {
                let information = b.load(fromByteOffset: at + 4, as: UInt32.self), name = b.load(fromByteOffset: at, as: UInt32.self)
                guard let kind = Kind(rawValue: information >> 24 & 31) else { return false }
                if kind == .structure, name != 0, let k = names.indices.first(where: { KernelTypes.isText(names[$0], b, at: strings + Int(name)) }) { structures[wanted[k]] = starts.count }
                starts.append(UInt32(at))
                at += 12 + kind.trailer(Int(information & 0xffff))
            }
            return at == end
        }
        if !isKnown { return nil }
    }

    private static func description() -> [UInt8]? {
        let path = "/sys/kernel/btf/vmlinux"
        guard let size = try? Path.status(path).st_size, size > 0, let file = try? File(path) else { return nil }
        return try? file.read(at: 0, count: Int(size))
    }
    /// In bytes; nil: there is no such field.
    func offset(_ structure: String, _ fields: String...) -> Int? {
        guard var type = structures[structure] else { return nil }
        var sum = 0
        for f in fields {
            guard let found = field(Array(f.utf8) + [0], in: type, depth: 0), found.offset % 8 == 0 else { return nil }
            sum += found.offset / 8
            type = found.type
        }
        return sum
    }

    /// In bits.  Members without a name are looked into.
    private func field(_ name: [UInt8], in number: Int, depth: Int) -> (offset: Int, type: Int)? {
        let deepest = 8, type = plain(number), isBitField: UInt32 = 1 << 31
        guard depth < deepest, type > 0, type < starts.count else { return nil }
        let at = Int(starts[type]), information = word(at + 4)
        guard let kind = Kind(rawValue: information >> 24 & 31), kind == .structure || kind == .union else { return nil }
        for m in 0..<Int(information & 0xffff) {
            let member = at + 12 + 12 * m, place = word(member + 8), offset = Int(information & isBitField != 0 ? place & 0xffffff : place)
            if word(member) == 0 {
                if let inner = field(name, in: Int(word(member + 4)), depth: depth + 1) { return (offset + inner.offset, inner.type) }
            } else if isText(name, at: strings + Int(word(member))) { return (offset, Int(word(member + 4))) }
        }
        return nil
    }
    /// Without typedef, const and their like.
    private func plain(_ number: Int) -> Int {
        var type = number
        for _ in 0..<16 {
            guard type > 0, type < starts.count, let kind = Kind(rawValue: word(Int(starts[type]) + 4) >> 24 & 31) else { return 0 }
            switch kind {
            case .typedef, .volatile, .const, .restrict, .typeTag: type = Int(word(Int(starts[type]) + 8))
            default: return type
            }
        }
        return 0
    }
    private func word(_ at: Int) -> UInt32 { bytes.withUnsafeBytes { at >= 0 && at + 4 <= $0.count ? $0.loadUnaligned(fromByteOffset: at, as: UInt32.self) : 0 } }
    private func isText(_ text: [UInt8], at: Int) -> Bool { bytes.withUnsafeBytes { KernelTypes.isText(text, $0, at: at) } }
    /// `text` ends with a NUL.
    private static func isText(_ text: [UInt8], _ b: UnsafeRawBufferPointer, at: Int) -> Bool {
        guard at >= 0, at + text.count <= b.count else { return false }
        for i in text.indices where b[at + i] != text[i] { return false }
        return true
    }
}
