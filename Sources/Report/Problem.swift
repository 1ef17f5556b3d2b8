// What the tools say when something fails, and with which status they end.

/// The exit statuses of ckptctl; a script may rely on them.
public enum ExitStatus: Int32, Sendable {
    case done = 0
    case usage = 64         // the command line is wrong
    case statefile = 65     // the statefile is damaged, incomplete or of another version
    case noSession = 66     // no such session, process or file
    case lacking = 69       // the system lacks something that `ckptctl check` names
    case `internal` = 70    // a fault of ckpt itself
    case system = 71        // a system call failed
    case temporary = 75     // trying again may help
    case refused = 77       // a task holds something that can't be restored, or refused by itself
}

/// One failure, one line: the operation, what it was done to, the cause, the remedy.
public struct Problem: Error, Equatable, Sendable, CustomStringConvertible {
    public var status: ExitStatus
    public var operation: String
    public var object: String?
    /// From the outside in: "pid 812", "fd 7", "inotify queue".
    public var cause: [String]
    public var remedy: String?

    public init(_ status: ExitStatus, _ operation: String, object: String? = nil, cause: String..., remedy: String? = nil) {
        self.status = status; self.operation = operation; self.object = object; self.cause = cause; self.remedy = remedy
    }

    public var description: String {
        var line = operation
        if let object { line += " '\(printable(object))'" }
        for part in cause { line += ": " + printable(part) }
        if let remedy { line += "; " + printable(remedy) }
        return line
    }

    /// The same problem as met by a wider operation on another object.
    public func during(_ operation: String, object: String? = nil) -> Problem {
        var p = self
        p.operation = operation
        p.object = object ?? p.object
        return p
    }
}

/// Names come from files and processes: a control character in one must not forge a line or move the cursor.  A byte that is no UTF-8 (String(name:)) shows as one.
public func printable(_ text: String) -> String {
    if !text.unicodeScalars.contains(where: { isControl($0) }) { return text }
    var result = ""
    for c in text.unicodeScalars {
        if isControl(c) { result += "\\x" + hex(UInt64(c.value >= 0x10ff00 ? c.value & 0xff : c.value), digits: 2) } else { result.unicodeScalars.append(c) }
    }
    return result
}

private func isControl(_ c: Unicode.Scalar) -> Bool { c.value < 32 || (c.value >= 127 && c.value < 160) || c.value == 0x2028 || c.value == 0x2029 || c.value >= 0x10ff00 }

public func hex(_ value: UInt64, digits: Int = 1) -> String {
    let text = String(value, radix: 16)
    return text.count < digits ? String(repeating: "0", count: digits - text.count) + text : text
}
