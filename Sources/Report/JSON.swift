// JSON as the tools print it: members keep their order, so that the same state gives the same bytes.

public enum JSON: Sendable, Equatable {
    case null
    case bool(Bool)
    case signed(Int64)
    case unsigned(UInt64)
    case text(String)
    case list([JSON])
    case object([Member])

    public struct Member: Sendable, Equatable {
        public var name: String, value: JSON
        public init(_ name: String, _ value: JSON) { self.name = name; self.value = value }
    }

    public func rendered(indent: Int = 0) -> String {
        var out = ""
        write(to: &out, indent: indent)
        return out
    }

    private func write(to out: inout String, indent: Int) {
        switch self {
        case .null: out += "null"
        case .bool(let v): out += v ? "true" : "false"
        case .signed(let v): out += String(v)
        case .unsigned(let v): out += String(v)
        case .text(let v): Self.write(v, to: &out)
        case .list(let items):
            Self.writeItems(items, "[", "]", to: &out, indent: indent) { $0.write(to: &$1, indent: indent + 2) }
        case .object(let members):
            Self.writeItems(members, "{", "}", to: &out, indent: indent) {
                Self.write($0.name, to: &$1)
                $1 += ": "
                $0.value.write(to: &$1, indent: indent + 2)
            }
        }
    }

    private static func writeItems<T>(_ items: [T], _ open: String, _ close: String, to out: inout String, indent: Int, _ each: (T, inout String) -> Void) {
        out += open
        for (i, item) in items.enumerated() {
            out += i == 0 ? "\n" : ",\n"
            out += String(repeating: " ", count: indent + 2)
            each(item, &out)
        }
        if !items.isEmpty { out += "\n" + String(repeating: " ", count: indent) }
        out += close
    }

    private static func write(_ text: String, to out: inout String) {
        out += "\""
        for c in text.unicodeScalars {
            switch c {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\t": out += "\\t"
            case _ where c.value < 32 || c.value == 127: out += "\\u" + hex(UInt64(c.value), digits: 4)
            default: out.unicodeScalars.append(c)
            }
        }
        out += "\""
    }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral {
    public init(stringLiteral v: String) { self = .text(v) }
    public init(booleanLiteral v: Bool) { self = .bool(v) }
    public init(integerLiteral v: Int64) { self = .signed(v) }
    public init(arrayLiteral items: JSON...) { self = .list(items) }
    public init(dictionaryLiteral members: (String, JSON)...) { self = .object(members.map { Member($0.0, $0.1) }) }
    public init(_ v: some BinaryInteger) { self = v < 0 ? .signed(Int64(clamping: v)) : .unsigned(UInt64(clamping: v)) }
    public init(_ v: String?) { self = v.map { .text($0) } ?? .null }
}
