// A statefile on its way through a pipe: bytes in the order of their offsets, once.
import CkptABI
import CkptReport
import CkptSystem

/// Its owner sees to it that one thread writes at a time.
final class StreamOutput {
    private let file: File
    private(set) var position: UInt64 = 0
    /// Until the first pages come a refusal should leave the reader with nothing.
    private var held: [UInt8]? = []
    var hasBegun: Bool { held == nil }
    private static let holdAtMost = 32 << 20

    init(_ file: File) {
        self.file = file
        file.widenPipe()
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(SystemError) {
        if offset < position { throw SystemError("write behind what has been sent", errno: 29) }
        let zeros = [UInt8](repeating: 0, count: Int(min(offset - position, 1 << 20)))
        while position < offset {
            try zeros.reading { (z) throws(SystemError) in try send(UnsafeRawBufferPointer(rebasing: z[..<min(z.count, Int(offset - position))])) }
        }
        try send(bytes)
    }

    private func send(_ bytes: UnsafeRawBufferPointer) throws(SystemError) {
        position += UInt64(bytes.count)
        if held != nil {
            held! += bytes
            if held!.count < Self.holdAtMost { return }
            try begin()
        } else { try file.writeStream(bytes) }
    }

    /// From now on what is written goes out.
    func begin() throws(SystemError) {
        guard let first = held else { return }
        held = nil
        try first.reading { (b) throws(SystemError) in try file.writeStream(b) }
    }

    /// A file is on the disk; what went through a pipe has been read.
    func finish() throws(SystemError) {
        try begin()
        if file.isRegular { try file.synchronize() } else { try file.awaitReader() }
    }
}
