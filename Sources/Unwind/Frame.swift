// One frame of a task's stack.
import CkptReport

public struct Frame: Sendable, Equatable {
    public var address: UInt64
    public var symbol: String?
    public var offset: UInt64 = 0       // from the symbol's beginning
    public var object: String?          // the mapped file
    public var isSignalFrame = false

    public init(address: UInt64) { self.address = address }

    /// "read+0x19 (libc.so.6)"
    public var text: String {
        let place = symbol.map { offset == 0 ? $0 : "\($0)+0x\(hex(offset))" } ?? "0x\(hex(address))"
        let name = object.map { " (\($0.split(separator: "/").last.map { String($0) } ?? $0))" } ?? ""
        return printable(isSignalFrame ? "<signal handler> \(place)" : place) + printable(name)
    }
}
