// A session segment mapped into a tool.
import CkptABI
import CkptSystem

/// The device and inode of a segment's file: what a member's mapping shows in /proc/PID/maps.
public struct FileIdentity: Hashable, Sendable {
    public let device: UInt64, inode: UInt64
    public init(device: UInt64, inode: UInt64) { self.device = device; self.inode = inode }
    init(_ status: StatBuffer) { self.init(device: status.deviceNumber, inode: status.inodeNumber) }
}

public final class Segment: @unchecked Sendable {
    public let folder: SessionFolder
    private let fileName: String
    public let identity: FileIdentity
    public let pointer: UnsafeMutablePointer<ckpt_session>
    private let mapping: SharedMapping
    private var file: File?             // only while there is something to allocate: a user may have more sessions than a process may have files open

    /// Tools map a page more than there is, which nobody touches: so a tool is never taken for a member.
    private static let mappedSize = Int(ckpt_session_size()) + 4096
    public enum Rejection: Error { case notASession, version(UInt32), system(SystemError) }

    init(_ fileName: String, in folder: SessionFolder, _ place: File) throws(Rejection) {
        self.folder = folder
        self.fileName = fileName
        do throws(SystemError) {
            let file = try folder.open(fileName, in: place)
            identity = FileIdentity(try file.status())
            mapping = try SharedMapping(file, size: Self.mappedSize)
        } catch { throw .system(error) }
        pointer = mapping.base.assumingMemoryBound(to: ckpt_session.self)
        guard pointer.pointee.magic == ckpt_session_magic() else { throw .notASession }
        guard pointer.pointee.abi_version == UInt32(CKPT_ABI_VERSION) else { throw .version(pointer.pointee.abi_version) }
    }

    /// Room for `count` bytes from `offset` (posix_fallocate(3)).  ENOENT: another file has the name by now.
    public func allocate(at offset: UInt64, count: UInt64) throws(SystemError) {
        let file = if let file { file } else { try folder.open(fileName, in: try folder.open()) }
        guard identity == FileIdentity(try file.status()) else { throw SystemError("open \(path)", errno: SystemError.noEntry) }
        self.file = file
        try file.allocate(at: offset, count: count)
    }
    public func remove(patiently: Bool = true) { folder.remove(fileName, identity, patiently: patiently) }
    /// By an engine that lives: nobody is a member before it is done.
    var isBeingRestored: Bool {
        let phase = ckpt_load(ckpt_phase_word(pointer)) & UInt32(CKPT_PHASE_MASK), lock = ckpt_load(ckpt_lock_word(pointer))
        return phase == CKPT_PHASE_RESTORE.rawValue && lock & UInt32(CKPT_LOCK_OWNER) != 0 && lock & UInt32(CKPT_LOCK_OWNER_DIED) == 0
    }

    public var path: String { folder.path + "/" + fileName }
    public var name: String { text(ckpt_session_name(pointer), 64) }
    /// Its name where that can be one of a file; else the name of its own file, which nobody chose.  Whoever is in the session may write what he likes into it.
    public var nameOfFile: String {
        let name = name, slash = UInt8(ascii: "/"), isPlain = !name.isEmpty && name.utf8.allSatisfy { $0 >= 32 && $0 != slash && $0 != 127 }
        return isPlain ? name : fileName
    }
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
