// The tools' only door to libc: thin, typed wrappers that throw errno.
import Glibc

/// A system call failed: what was tried, on what, and errno.
public struct SystemError: Error, Equatable, Sendable {
    public let call: String
    public let errno: Int32
    public init(_ call: String, errno: Int32) { self.call = call; self.errno = errno }
    public var text: String { String(cString: strerror(errno)) }
    public static let noEntry = ENOENT, notPermitted = EPERM, protocolError = EPROTO
    /// The limit of open files, ours or the machine's.
    public var isOutOfDescriptors: Bool { errno == EMFILE || errno == ENFILE }
}

/// Runs a call that returns −1 and sets errno; repeats it on EINTR.
@discardableResult
public func retrying<T: FixedWidthInteger>(_ call: @autoclosure () -> String, _ body: () -> T) throws(SystemError) -> T {
    while true {
        let r = body()
        if r != -1 { return r }
        let e = errno
        if e != EINTR { throw SystemError(call(), errno: e) }
    }
}

extension Array {
    /// withUnsafeBytes for what may fail.
    public func reading<T>(_ body: (UnsafeRawBufferPointer) throws(SystemError) -> T) throws(SystemError) -> T {
        try withUnsafeBytes { bytes -> Result<T, SystemError> in
            do throws(SystemError) { return .success(try body(bytes)) } catch { return .failure(error) }
        }.get()
    }
}
