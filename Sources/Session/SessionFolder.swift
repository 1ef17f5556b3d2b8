// The folders where sessions live.  Root looks into those of other users, who may exchange what they like meanwhile: a folder and what is in it are looked at when
// they are open, and nothing in it is opened or removed by its path.
import CkptABI
import CkptSystem

public struct SessionFolder: Sendable {
    public let path: String
    private let identity: FileIdentity, owner: UInt32

    /// The folder of this user's sessions: $CKPT_DIR, else /dev/shm/ckpt-UID, else /tmp/ckpt-UID.
    public static var path: String {
        if let set = Kernel.environment("CKPT_DIR"), !set.isEmpty { return set }
        return (Path.exists("/dev/shm") ? "/dev/shm" : "/tmp") + "/ckpt-\(Kernel.userID)"
    }
    /// Every folder that this caller may look into: root sees all users' sessions.
    static var paths: [String] {
        if Kernel.userID != 0 || Kernel.environment("CKPT_DIR") != nil { return [path] }
        var folders: [String] = []
        for base in ["/dev/shm", "/tmp"] {
            for name in (try? Path.names(in: base)) ?? [] where name.hasPrefix("ckpt-") { folders.append(base + "/" + name) }
        }
        return folders
    }

    init(_ path: String) throws(SystemError) {
        let status = try Self.open(path).status()
        self.path = path
        identity = FileIdentity(status)
        owner = status.st_uid
    }
    /// One that belongs to the caller, or for root to anybody, and where nobody else may write.
    private static func open(_ path: String) throws(SystemError) -> File {
        let file = try File(path, flags: Flag.folder | Flag.noFollow), status = try file.status()
        let writeOfOthers: UInt32 = 0o022
        guard Kernel.userID == 0 || status.st_uid == Kernel.userID, UInt32(status.st_mode) & writeOfOthers == 0 else { throw SystemError("open \(path)", errno: SystemError.notPermitted) }
        return file
    }
    public var isOurs: Bool { owner == Kernel.userID }
    /// It is open only while something is done in it: root may see more folders than a process may have files open.
    public func open() throws(SystemError) -> File {
        let file = try Self.open(path)
        guard identity == FileIdentity(try file.status()) else { throw SystemError("open \(path)", errno: SystemError.noEntry) }
        return file
    }

    static func names(in folder: File) throws(SystemError) -> [String] { try Path.names(in: "/proc/self/fd/\(folder.number)") }

    /// A session's file.  What can't be one is not opened at all: that does something to a FIFO or a device.  Root's folder may hold sessions of trees that
    /// have given their user away.
    func open(_ name: String, in folder: File) throws(SystemError) -> File {
        let found = try File(name, in: folder, flags: Flag.pathOnly | Flag.noFollow), status = try found.status()
        guard status.isRegular, status.st_nlink == 1, status.st_uid == owner || owner == 0, UInt64(status.st_size) == ckpt_session_size() else {
            throw SystemError("open \(path)/\(name)", errno: SystemError.noEntry)
        }
        return try File("/proc/self/fd/\(found.number)", flags: Flag.readWrite | Flag.nonBlocking)
    }
    /// Removes a session's file, if the name is still this one's: whoever removes one holds the folder's lock meanwhile, so that the name can't become another's
    /// between the look and the removal.  `patiently`: else it is left to the next look where somebody has the lock.
    func remove(_ name: String, _ identity: FileIdentity, patiently: Bool) {
        guard let folder = try? open(), folder.lock(attempts: patiently ? 100 : 1), let status = try? open(name, in: folder).status(), FileIdentity(status) == identity else { return }
        Path.remove(name, in: folder)
    }
}

private enum Flag {
    static let readWrite: Int32 = 2, nonBlocking: Int32 = 0o4000, folder: Int32 = 0o200000, noFollow: Int32 = 0o400000, pathOnly: Int32 = 0o10000000
}
