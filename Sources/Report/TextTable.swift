// Listings for people: aligned columns, sizes and times in few characters.

public struct TextTable {
    public enum Alignment { case left, right }
    private let titles: [String]
    private let alignments: [Alignment]
    private var rows: [[String]] = []

    public init(_ columns: [(String, Alignment)]) { titles = columns.map { $0.0 }; alignments = columns.map { $0.1 } }
    public mutating func add(_ cells: [String]) { rows.append(cells.map(printable)) }
    public var isEmpty: Bool { rows.isEmpty }

    public func rendered() -> String {
        var widths = titles.map(\.count)
        for row in rows { for (i, cell) in row.enumerated() { widths[i] = max(widths[i], cell.count) } }
        var out = ""
        for row in [titles] + rows {
            var line = ""
            for (i, cell) in row.enumerated() {
                let fill = String(repeating: " ", count: widths[i] - cell.count)
                line += (i == 0 ? "" : "  ") + (alignments[i] == .right ? fill + cell : cell + fill)
            }
            while line.last == " " { line.removeLast() }
            out += line + "\n"
        }
        return out
    }
}

/// 1.5 GiB, 12 MiB, 4 KiB, 17 B
public func sizeText(_ bytes: UInt64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    var value = Double(bytes), unit = 0
    while value >= 1024 && unit < units.count - 1 { value /= 1024; unit += 1 }
    if unit == 0 || value >= 10 { return "\(Int(value.rounded())) \(units[unit])" }
    let tenths = Int((value * 10).rounded())
    return "\(tenths / 10).\(tenths % 10) \(units[unit])"
}

/// 3d 4h, 2h 5m, 7m 3s, 12s
public func ageText(seconds s: UInt64) -> String {
    switch s {
    case ..<60: "\(s)s"
    case ..<3600: "\(s / 60)m \(s % 60)s"
    case ..<86400: "\(s / 3600)h \(s / 60 % 60)m"
    default: "\(s / 86400)d \(s / 3600 % 24)h"
    }
}

/// 1 task, 2 tasks
public func counted(_ n: Int, _ one: String, _ many: String? = nil) -> String { "\(n) \(n == 1 ? one : many ?? one + "s")" }
