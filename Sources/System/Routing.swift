// What the kernel tells of devices, addresses and routes (rtnetlink(7)), in the network namespace where we are.
import CkptABI
import Glibc

/// One netlink message: its type, the fixed part, and attributes in their order.
public struct RoutingMessage: Equatable, Sendable {
    public struct Attribute: Equatable, Sendable {
        public var kind: UInt16, value: [UInt8]
        public init(_ kind: UInt16, _ value: [UInt8]) { self.kind = kind; self.value = value }
        public init(_ kind: UInt16, _ word: UInt32) { self.init(kind, withUnsafeBytes(of: word) { [UInt8]($0) }) }
        public init(_ kind: UInt16, nested: [Attribute]) { self.init(kind | 0x8000, nested.flatMap(\.encoded)) }
        public var encoded: [UInt8] {
            withUnsafeBytes(of: UInt16(value.count + 4)) { [UInt8]($0) } + withUnsafeBytes(of: kind) { [UInt8]($0) } + value + [UInt8](repeating: 0, count: (4 - value.count % 4) % 4)
        }
    }
    public var type: UInt16, fixed: [UInt8], attributes: [Attribute]
    public init(type: UInt16, fixed: [UInt8], attributes: [Attribute]) { self.type = type; self.fixed = fixed; self.attributes = attributes }

    public subscript(_ kind: UInt16) -> [UInt8]? { attributes.first { $0.kind & 0x3fff == kind }?.value }
    public func word(_ kind: UInt16) -> UInt32? { self[kind].flatMap { $0.count >= 4 ? $0.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) } : nil } }
    public func text(_ kind: UInt16) -> String? { self[kind].map { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) } }
    public func fixedWord(_ at: Int) -> UInt32 { fixed.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: at, as: UInt32.self) } }
    public mutating func setFixedWord(_ at: Int, _ value: UInt32) { fixed.withUnsafeMutableBytes { $0.storeBytes(of: value, toByteOffset: at, as: UInt32.self) } }

    /// The whole message; sequence and port are 0.
    public func encoded(flags: UInt16) -> [UInt8] {
        let body = fixed + attributes.flatMap(\.encoded)
        return [UInt32(16 + body.count), UInt32(type) | UInt32(flags) << 16, 0, 0].withUnsafeBytes { [UInt8]($0) } + body
    }

    public static func attributes(_ bytes: ArraySlice<UInt8>) -> [Attribute] {
        var found: [Attribute] = [], at = bytes.startIndex
        while at + 4 <= bytes.endIndex {
            let length = Int(bytes[at]) | Int(bytes[at + 1]) << 8, kind = UInt16(bytes[at + 2]) | UInt16(bytes[at + 3]) << 8
            guard length >= 4, at + length <= bytes.endIndex else { break }
            found.append(Attribute(kind, Array(bytes[(at + 4)..<(at + length)])))
            at += (length + 3) & ~3
        }
        return found
    }
}

public enum Routing {
    public static let links: UInt16 = 18, addresses: UInt16 = 22, routes: UInt16 = 26, neighbours: UInt16 = 30, rules: UInt16 = 34, queues: UInt16 = 38
    /// The fixed part of the answers: ifinfomsg, ifaddrmsg, rtmsg, ndmsg, fib_rule_hdr, tcmsg.
    private static func fixedSize(_ question: UInt16) -> Int { question == links ? 16 : question == addresses ? 8 : question == queues ? 20 : 12 }

    /// All of a kind.
    public static func all(_ question: UInt16, family: UInt8 = 0) throws(SystemError) -> [RoutingMessage] {
        let dump: UInt16 = 0x301
        return try ask(RoutingMessage(type: question, fixed: [family] + [UInt8](repeating: 0, count: fixedSize(question) - 1), attributes: []).encoded(flags: dump), fixedSize(question))
    }

    /// What another namespace is called here, -1 if it has no number.
    public static func number(of namespace: File) throws(SystemError) -> UInt32? {
        let getNsid: UInt16 = 90, nsid: UInt16 = 1, byFile: UInt16 = 3
        let question = RoutingMessage(type: getNsid, fixed: [0, 0, 0, 0], attributes: [.init(byFile, UInt32(namespace.number))])
        return try ask(question.encoded(flags: 1), 4).first?.word(nsid)
    }

    private static func ask(_ question: [UInt8], _ fixed: Int) throws(SystemError) -> [RoutingMessage] {
        let rawType: Int32 = 3, routing: Int32 = 0, many: UInt32 = 2
        let netlink = try File.socket(family: SocketFamily.netlink, type: rawType, protocol: routing)
        try retrying("rtnetlink") { question.withUnsafeBytes { send(netlink.number, $0.baseAddress, $0.count, 0) } }
        var found: [RoutingMessage] = [], buffer = [UInt64](repeating: 0, count: 16384)
        while true {
            let n = try retrying("rtnetlink") { buffer.withUnsafeMutableBytes { recv(netlink.number, $0.baseAddress, $0.count, 0) } }
            let part = buffer.withUnsafeBytes { [UInt8]($0.prefix(n)) }
            var at = 0, isLast = n == 0
            while at + 16 <= part.count {
                func word(_ i: Int) -> UInt32 { part.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: at + i, as: UInt32.self) } }
                let length = Int(word(0)), type = UInt16(truncatingIfNeeded: word(4)), error: UInt16 = 2, done: UInt16 = 3
                guard length >= 16, at + length <= part.count else { break }
                if type == error { throw SystemError("rtnetlink", errno: -Int32(bitPattern: word(16))) }
                if type == done { return found }
                if length >= 16 + fixed {
                    found.append(RoutingMessage(type: type, fixed: Array(part[(at + 16)..<(at + 16 + fixed)]), attributes: RoutingMessage.attributes(part[(at + 16 + fixed)..<(at + length)])))
                }
                isLast = isLast || (word(4) >> 16) & many == 0
                at += (length + 3) & ~3
            }
            if isLast { return found }
        }
    }
}
