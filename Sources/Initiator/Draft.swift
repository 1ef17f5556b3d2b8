// The statefile while it is written: a file without a name in its folder, so that nothing is left whatever happens to us.
import CkptABI
import CkptReport
import CkptSystem

final class Draft {
    let file: File
    let path: String                // where it will be
    private let folder: String
    private var temporary: String?  // where the file system has no O_TMPFILE
    private(set) var end: UInt64    // next free offset, page-aligned
    let engine: [UInt8]
    private let name: String
    private static let directory: Int32 = 0o200000, temporaryFile: Int32 = 0o20200000, readWrite: Int32 = 2, create: Int32 = 0o100, exclusive: Int32 = 0o200

    init(_ output: String, name: String) throws(CheckpointFailure) {
        path = output
        self.name = name
        folder = Path.folder(of: output)
        func failed(_ what: String, _ e: SystemError, _ remedy: String) -> CheckpointFailure {
            CheckpointFailure([Problem(.system, "checkpoint", object: name, cause: what, e.text, remedy: remedy)])
        }
        guard let enginePath = Installation.find("ckptengine") else {
            throw CheckpointFailure([Problem(.lacking, "checkpoint", object: name, cause: "the engine (ckptengine) is not beside ckptctl nor in ../lib/ckpt", remedy: "install ckpt again with tools/install")])
        }
        do throws(SystemError) { engine = try Path.contents(enginePath) } catch { throw failed(enginePath, error, "install ckpt again with tools/install") }
        var opened: File?
        do throws(SystemError) {
            opened = try File(folder, flags: Draft.temporaryFile | Draft.readWrite, mode: 0o700)
        } catch {
            let other = "\(output).\(Kernel.processID).part"
            do throws(SystemError) { opened = try File(other, flags: Draft.readWrite | Draft.create | Draft.exclusive, mode: 0o700); temporary = other } catch {
                throw failed(output, error, "choose another place with -o")
            }
        }
        file = opened!
        end = (UInt64(CKPT_ENGINE_OFFSET) + UInt64(engine.count) + 4095) & ~4095
        do throws(SystemError) { try put(engine, at: UInt64(CKPT_ENGINE_OFFSET)) } catch { throw failed(output, error, "free space, or choose another place with -o") }
    }
    deinit { if let temporary { Path.remove(temporary) } }

    /// What writers of memory write to.  O_DIRECT (open(2)) is asked of a second opening: our own writes are not aligned.
    func forWriters(direct: Bool) throws(CheckpointFailure) -> File {
        if !direct { return file }
        let directly: Int32 = 0o40000
        do throws(SystemError) { return try File("/proc/self/fd/\(file.number)", flags: directly | Draft.readWrite) } catch {
            throw CheckpointFailure([Problem(.lacking, "checkpoint", object: name, cause: "\(path): its file system has no direct writes: \(error.text)", remedy: "leave --direct out, or choose another place with -o")])
        }
    }

    func put(_ bytes: [UInt8], at offset: UInt64) throws(SystemError) {
        var failure: SystemError?
        bytes.withUnsafeBytes { b in do throws(SystemError) { try file.write(b, at: offset) } catch { failure = error } }
        if let failure { throw failure }
    }
    /// Reserves page-aligned room.
    func claim(_ size: UInt64) -> UInt64 {
        let at = end
        end = (end + size + 4095) & ~4095
        return at
    }
    func moveEnd(to offset: UInt64) { end = (offset + 4095) & ~4095 }

    /// Gives the finished file its name.  An older file of that name stays until this very moment.
    func publish() throws(SystemError) {
        try file.synchronize()
        let linked = temporary ?? "\(path).\(Kernel.processID).part"
        if temporary == nil { try Path.linkOpenFile(file, to: linked) }
        // Whoever works in this folder waits while rename frees the older file; an open file is freed by the close.
        let pathOnly: Int32 = 0o10400000, older = try? File(path, flags: pathOnly)
        defer { _ = consume older }
        do throws(SystemError) { try Path.rename(linked, to: path) } catch { Path.remove(linked); throw error }
        temporary = nil
        try Path.synchronizeFolder(folder)
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
