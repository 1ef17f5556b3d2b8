// Runs in the runtime, the engine and the freestanding tools: no allocation, no libc, any stack.
// Words for the errors that a user can meet; others are shown by number.

extension Errno {
    public static let notPermitted = Errno(1), noEntry = Errno(2), notExecutable = Errno(8), denied = Errno(13), notDirectory = Errno(20)

    /// As strerror(3) has it, or plainer; nil for an error that nobody has met here.
    public var text: StaticString? {
        switch code {
        case 1: "operation not permitted"
        case 2: "no such file or directory"
        case 3: "no such process"
        case 4: "interrupted"
        case 5: "input/output error"
        case 6: "no such device or address"
        case 7: "argument list too long"
        case 8: "not in an executable format"
        case 9: "bad file descriptor"
        case 10: "no child processes"
        case 11: "resource temporarily unavailable"
        case 12: "cannot allocate memory"
        case 13: "permission denied"
        case 14: "bad address"
        case 16: "device or resource busy"
        case 17: "file exists"
        case 18: "invalid cross-device link"
        case 19: "no such device"
        case 20: "not a directory"
        case 21: "is a directory"
        case 22: "invalid argument"
        case 23: "too many open files in the system"
        case 24: "too many open files"
        case 26: "text file busy"
        case 27: "file too large"
        case 28: "no space left on device"
        case 29: "illegal seek"
        case 30: "read-only file system"
        case 32: "broken pipe"
        case 36: "file name too long"
        case 38: "this kernel has no such call"
        case 40: "too many levels of symbolic links"
        case 61: "no data available"
        case 75: "value too large"
        case 80: "accessing a corrupted shared library"
        case 95: "operation not supported"
        case 98: "address already in use"
        case 99: "cannot assign requested address"
        case 104: "connection reset by peer"
        case 110: "connection timed out"
        case 111: "connection refused"
        case 122: "disk quota exceeded"
        default: nil
        }
    }
}

extension Line {
    @inline(never) public mutating func put(_ error: Errno) {
        if let text = error.text { put(text) } else { put("error "); put(signed: Int64(error.code)) }
    }
}
