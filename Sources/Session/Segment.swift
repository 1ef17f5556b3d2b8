// A session segment mapped into a tool, and the folder where they live.
import CkptABI
import CkptSystem

/// The folder of this user's sessions: $CKPT_DIR, else /dev/shm/ckpt-UID, else /tmp/ckpt-UID.
public enum SessionFolder {
    public static var path: String {
        if let set = Kernel.environment("CKPT_DIR"), !set.isEmpty { return set }
        return (Path.exists("/dev/shm") ? "/dev/shm" : "/tmp") + "/ckpt-\(Kernel.userID)"
    }
    /// Every folder that this caller may look into: root sees all users' sessions.
    public static var all: [String] {
        if Kernel.userID != 0 || Kernel.environment("CKPT_DIR") != nil { return [path] }
        var folders: [String] = []
        for base in ["/dev/shm", "/tmp"] {
            for name in (try? Path.names(in: base)) ?? [] where name.hasPrefix("ckpt-") { folders.append(base + "/" + name) }
        }
        return folders
    }
}

/// The device and inode of a segment's file: what a member's mapping shows in /proc/PID/maps.
public struct FileIdentity: Hashable, Sendable {
    public let device: UInt64, inode: UInt64
    public init(device: UInt64, inode: UInt64) { self.device = device; self.inode = inode }
}

public final class Segment: @unchecked Sendable {
    public let path: String
    public let identity: FileIdentity
    public let pointer: UnsafeMutablePointer<ckpt_session>
    private let mapping: SharedMapping
    private var file: File?             // only while there is something to allocate: a user may have more sessions than a process may have files open

    /// Tools map a page more than there is, which nobody touches: so a tool is never taken for a member.
    private static let mappedSize = Int(ckpt_session_size()) + 4096
    public enum Rejection: Error { case notASession, version(UInt32), system(SystemError) }

    public init(path: String) throws(Rejection) {
        self.path = path
        do throws(SystemError) {
            let file = try File(path, flags: 2), status = try file.status()
            identity = FileIdentity(device: status.deviceNumber, inode: status.inodeNumber)
            guard UInt64(status.st_size) >= ckpt_session_size() else { throw SystemError("size", errno: 0) }
            mapping = try SharedMapping(file, size: Self.mappedSize)
        } catch { throw error.errno == 0 ? .notASession : .system(error) }
        pointer = mapping.base.assumingMemoryBound(to: ckpt_session.self)
        guard pointer.pointee.magic == ckpt_session_magic() else { throw .notASession }
        guard pointer.pointee.abi_version == UInt32(CKPT_ABI_VERSION) else { throw .version(pointer.pointee.abi_version) }
    }

    /// Room for `count` bytes from `offset` (posix_fallocate(3)).  ENOENT: another file has the name by now.
    public func allocate(at offset: UInt64, count: UInt64) throws(SystemError) {
        let file = if let file { file } else { try File(path, flags: 2) }
        let status = try file.status()
        guard identity == FileIdentity(device: status.deviceNumber, inode: status.inodeNumber) else { throw SystemError("open \(path)", errno: 2) }
        self.file = file
        try file.allocate(at: offset, count: count)
    }

    public var name: String { text(ckpt_session_name(pointer), 64) }
    public var id: String { text(ckpt_session_id(pointer), 24) }
    public var command: String { text(ckpt_session_command(pointer), 256) }
    public var library: String { text(ckpt_session_library(pointer), 256) }
    public var created: UInt64 { pointer.pointee.created }
    public var checkpoints: Int { Int(pointer.pointee.checkpoints) }
    public func process(_ i: Int) -> UnsafeMutablePointer<ckpt_process> { ckpt_process_slot(pointer, UInt32(i)) }
    public func task(_ i: Int) -> UnsafeMutablePointer<ckpt_task> { ckpt_task_slot(pointer, UInt32(i)) }

    private func text(_ p: UnsafeMutablePointer<CChar>, _ limit: Int) -> String {
        var bytes: [UInt8] = []
        for i in 0..<limit { if p[i] == 0 { break }; bytes.append(UInt8(bitPattern: p[i])) }
        return String(decoding: bytes, as: UTF8.self)
    }
}
