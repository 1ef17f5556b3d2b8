// Names of files and tasks are bytes, and Swift's texts are Unicode.  A byte that is no UTF-8 becomes a private character, and that byte again where the name goes
// back to the kernel or into a statefile.  A name that has such a character itself keeps it: its bytes are taken one by one.
private let firstByte: UInt32 = 0x10ff00        // U+10FF00 to U+10FFFF; in UTF-8 they begin with 0xf4

extension String {
    /// What the kernel calls so; no NUL.
    public init(name bytes: some Collection<UInt8>) {
        if !bytes.contains(0xf4), let text = String(validating: bytes, as: UTF8.self) { self = text; return }
        self = ""
        let all = Array(bytes)
        var at = 0
        while at < all.count {
            let lead = all[at], length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4
            if at + length <= all.count, let character = String(validating: all[at..<at + length], as: UTF8.self), character.unicodeScalars.first!.value < firstByte {
                self += character
                at += length
            } else {
                unicodeScalars.append(Unicode.Scalar(firstByte + UInt32(lead))!)
                at += 1
            }
        }
    }
    /// The bytes that it stands for, without a NUL.
    public var nameBytes: [UInt8] {
        guard utf8.contains(0xf4) else { return Array(utf8) }
        return unicodeScalars.reduce(into: []) { bytes, c in
            if c.value >= firstByte { bytes.append(UInt8(c.value - firstByte)) } else { bytes += UTF8.encode(c)! }
        }
    }
    /// As a system call takes it.
    var systemName: [CChar] { nameBytes.map { CChar(bitPattern: $0) } + [0] }
}
