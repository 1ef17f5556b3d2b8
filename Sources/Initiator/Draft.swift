// The statefile while it is written: a file without a name in its folder, so that nothing is left whatever happens to us, or a stream.
import CkptABI
import CkptCompression
import CkptReport
import CkptStatefile
import CkptSystem
import Synchronization

final class Draft: @unchecked Sendable {
    let file: File
    let path: String                // where it will be; "-": stdout
    let compression: Compression
    /// Pages lie in the order in which they come.
    let isPacked: Bool
    private let folder: File?       // it stays this one, whatever gets its name meanwhile; a stream has none
    private let ending: String, name: String            // its name there
    private var temporary: String?  // where the file system has no O_TMPFILE
    private let stream: StreamOutput?
    private let free: Mutex<UInt64> // next free offset
    private var checksums: [UInt64: UInt32] = [:]       // of what was copied into a stream, by offset
    let engine: [UInt8]
    private static let directory: Int32 = 0o200000, temporaryFile: Int32 = 0o20200000, readWrite: Int32 = 2, create: Int32 = 0o100, exclusive: Int32 = 0o200

    convenience init(_ output: String, name: String, compression: Compression, isPacked: Bool) throws(CheckpointFailure) {
        guard let enginePath = Installation.find("ckptengine") else {
            throw CheckpointFailure([Problem(.lacking, "checkpoint", object: name, cause: "the engine (ckptengine) is not beside ckptctl nor in ../lib/ckpt", remedy: "install ckpt again with tools/install")])
        }
        let engine: [UInt8]
        do throws(SystemError) { engine = try Headers.loadable(File(enginePath)) } catch { throw Draft.failed("checkpoint", name, enginePath, error, "install ckpt again with tools/install") }
        try self.init(output, "checkpoint", name, engine, compression, isPacked: isPacked)
        do throws(SystemError) {
            if isStream { try putFront() }
            try put(engine, at: UInt64(CKPT_ENGINE_OFFSET))
        } catch { throw Draft.failed("checkpoint", name, output, error, "free space, or choose another place with -o") }
    }
    /// Empty: another statefile is copied into it.
    convenience init(merging output: String, name: String) throws(CheckpointFailure) { try self.init(output, "merge", name, [], .none, isPacked: false) }

    private static func failed(_ operation: String, _ name: String, _ what: String, _ e: SystemError, _ remedy: String) -> CheckpointFailure {
        CheckpointFailure([Problem(.system, operation, object: name, cause: what, e.text, remedy: remedy)])
    }

    private init(_ output: String, _ operation: String, _ name: String, _ engine: [UInt8], _ compression: Compression, isPacked: Bool) throws(CheckpointFailure) {
        path = output
        self.isPacked = isPacked || compression != .none || output == "-"
        self.compression = compression; self.engine = engine; self.name = name
        ending = Path.base(of: output)
        try Draft.refuseOthers(output, operation, name)
        if output == "-" {
            file = .standardOutput; folder = nil
        } else {
            do throws(SystemError) {
                let place = try File(Path.folder(of: output), flags: Draft.directory)
                folder = place
                if let unnamed = try? File("/proc/self/fd/\(place.number)", flags: Draft.temporaryFile | Draft.readWrite, mode: 0o700) { file = unnamed } else {
                    let other = "\(ending).\(Kernel.processID).part"
                    file = try File(other, in: place, flags: Draft.readWrite | Draft.create | Draft.exclusive, mode: 0o700)
                    temporary = other
                }
            } catch { throw Draft.failed(operation, name, output, error, "choose another place with -o") }
        }
        stream = output == "-" ? StreamOutput(file) : nil
        free = Mutex((UInt64(CKPT_ENGINE_OFFSET) + UInt64(engine.count) + 4095) & ~4095)
    }
    deinit { if let temporary, let folder { Path.remove(temporary, in: folder) } }

    /// The name gets another file, at the end: a device would be gone.
    private static func refuseOthers(_ output: String, _ operation: String, _ name: String) throws(CheckpointFailure) {
        guard output != "-", let there = try? Path.status(output), !there.isRegular || (try? Path.link(output))?.hasPrefix("/proc/") ?? false else { return }
        throw CheckpointFailure([Problem(.usage, operation, object: name, cause: "\(output) is no regular file", remedy: "choose another place with -o; -o - writes a stream")])
    }

    /// What writers of memory write to.  O_DIRECT (open(2)) is asked of a second opening: our own writes are not aligned.
    func forWriters(direct: Bool) throws(CheckpointFailure) -> File {
        if !direct { return file }
        let directly: Int32 = 0o40000
        do throws(SystemError) { return try File("/proc/self/fd/\(file.number)", flags: directly | Draft.readWrite) } catch {
            throw CheckpointFailure([Problem(.lacking, "checkpoint", object: name, cause: "\(path): its file system has no direct writes: \(error.text)", remedy: "leave --direct out, or choose another place with -o")])
        }
    }
    var isStream: Bool { stream != nil }
    var isInMemory: Bool { stream == nil && Path.fileSystem(of: "/proc/self/fd/\(file.number)") == Path.tmpfs }
    /// Some of it has gone out.
    var hasBegun: Bool { stream?.hasBegun ?? false }
    var end: UInt64 { free.withLock { ($0 + 4095) & ~4095 } }

    func put(_ bytes: [UInt8], at offset: UInt64) throws(SystemError) {
        try bytes.reading { (b) throws(SystemError) in try put(b, at: offset) }
    }
    private func put(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(SystemError) {
        if let stream { try stream.write(bytes, at: offset) } else { try file.write(bytes, at: offset) }
    }
    /// Reserves page-aligned room.
    func claim(_ size: UInt64) -> UInt64 {
        free.withLock { end in
            let at = (end + 4095) & ~4095
            end = at + size
            return at
        }
    }
    /// A place for a mapping's pages: an offset for its first one, or a mark that they will have some.
    func claimPages(_ size: UInt64) -> UInt64 { isPacked ? UInt64(CKPT_DATA_PACKED) : claim(size) }
    func moveEnd(to offset: UInt64) { free.withLock { $0 = (offset + 4095) & ~4095 } }

    /// Puts bytes behind what is there; any thread may.
    func append(_ bytes: UnsafeRawBufferPointer) throws(SystemError) -> UInt64 {
        var failure: SystemError?
        let at = free.withLock { end in
            let at = end
            end += UInt64(bytes.count)
            // A stream has one order, that of the offsets.
            if isStream { do throws(SystemError) { try put(bytes, at: at) } catch { failure = error } }
            return at
        }
        if let failure { throw failure }
        if !isStream { try put(bytes, at: at) }
        return at
    }

    /// A stretch of another file; blocks are shared where the file system can.
    func copy(_ source: File, _ offset: UInt64, _ count: UInt64, at target: UInt64) throws(SystemError) {
        guard isStream else { return try source.copy(offset, count, to: file, at: target) }
        var done: UInt64 = 0, crc: UInt32 = 0
        while done < count {
            let part = try source.read(at: offset + done, count: Int(min(count - done, 1 << 20)))
            if part.isEmpty { throw SystemError("read: the file became shorter", errno: 11) }
            crc = part.withUnsafeBytes { ckpt_crc32c_hw(crc, $0.baseAddress!, part.count) }
            try put(part, at: target + done)
            done += UInt64(part.count)
        }
        checksums[target] = crc
    }
    /// Of what was copied to `offset`.
    func checksum(_ offset: UInt64, _ count: UInt64) throws(SystemError) -> UInt32 {
        if isStream { return checksums[offset] ?? 0 }
        var crc: UInt32 = 0, at: UInt64 = 0
        while at < count {
            let part = try file.read(at: offset + at, count: Int(min(count - at, 1 << 20)))
            if part.isEmpty { throw SystemError("read", errno: 5) }
            crc = part.withUnsafeBytes { ckpt_crc32c_hw(crc, $0.baseAddress!, part.count) }
            at += UInt64(part.count)
        }
        return crc
    }

    /// Gives the finished file its name.  An older file of that name stays until this very moment.
    func publish() throws(SystemError) {
        if let stream { return try stream.finish() }
        guard let folder else { return }
        try file.truncate(to: end)
        try file.synchronize()
        let linked = temporary ?? "\(ending).\(Kernel.processID).part"
        if temporary == nil { try Path.linkOpenFile(file, to: linked, in: folder) }
        // Whoever works in this folder waits while rename frees the older file; an open file is freed by the close.
        let pathOnly: Int32 = 0o10400000, older = try? File(ending, in: folder, flags: pathOnly)
        defer { _ = consume older }
        do throws(SystemError) { try Path.rename(linked, to: ending, in: folder) } catch { Path.remove(linked, in: folder); throw error }
        temporary = nil
        try folder.synchronize()
    }
}

/// The three parts that name the others: the ELF header, the exec face's program headers, the superblock.
extension Draft {
    private func engineHeaders() throws(SystemError) -> (segments: [Segment64], entry: UInt64) {
        guard let found = Headers.engine(engine, at: UInt64(CKPT_ENGINE_OFFSET)) else { throw SystemError("engine", errno: 8) }
        return found
    }

    /// What every superblock says of the engine.
    func superblock() throws(SystemError) -> ckpt_superblock {
        var block = ckpt_superblock(), headers = try engineHeaders()
        block.magic = ckpt_statefile_magic(); block.version = UInt32(CKPT_STATEFILE_VERSION); block.size = UInt32(MemoryLayout<ckpt_superblock>.size)
        block.engine_offset = UInt64(CKPT_ENGINE_OFFSET); block.engine_size = UInt64(engine.count)
        block.engine_crc = engine.withUnsafeBytes { ckpt_crc32c_hw(0, $0.baseAddress!, engine.count) }
        block.exec_phoff = 64; block.exec_phnum = UInt32(headers.segments.count); block.exec_entry = headers.entry
        headers.segments = []
        return block
    }

    /// Of a stream: it can be executed; where the rest lies its end says.
    private func putFront() throws(SystemError) {
        var block = try superblock()
        block.file_size = ckpt_size_streamed()
        try put(elfHeader(.exec, block), at: 0)
        try put(Headers.encode(try engineHeaders().segments), at: 64)
        try put(sealed(block), at: UInt64(CKPT_SUPERBLOCK_OFFSET))
    }

    /// The last of what is written: from here on it is a statefile.
    func seal(_ unfinished: ckpt_superblock, face: Face) throws(SystemError) {
        var block = unfinished
        if isStream {
            let size = UInt64(MemoryLayout<ckpt_superblock>.size), at = claim(size)
            block.file_size = at + size
            try put(sealed(block), at: at)
            return
        }
        block.file_size = end
        try put(Headers.encode(try engineHeaders().segments), at: 64)
        try put(sealed(block), at: UInt64(CKPT_SUPERBLOCK_OFFSET))
        try put(elfHeader(face, block), at: 0)
    }
    func sealed(_ unsealed: ckpt_superblock) -> [UInt8] {
        var block = unsealed
        block.crc = withUnsafeBytes(of: block) { ckpt_crc32c_hw(0, $0.baseAddress!, MemoryLayout<ckpt_superblock>.offset(of: \.crc)!) }
        return withUnsafeBytes(of: block) { [UInt8]($0) }
    }
}

/// Where the programs of an installation are: beside this one (a build folder), else in ../lib/ckpt.
public enum Installation {
    public static func find(_ name: String) -> String? {
        guard let me = try? Path.link("/proc/self/exe") else { return nil }
        let here = Path.folder(of: me)
        return [here + "/" + name, Path.folder(of: here) + "/lib/ckpt/" + name].first { Path.exists($0) }
    }
}
