// A delta's unchanged pages lie in other statefiles, which it names by id and path.
import CkptABI
import CkptReport
import CkptSystem

public typealias StatefileID = [UInt8]

/// A statefile that a delta refers to: where it is now, and its bytes.
public struct Base: Sendable {
    public let id: StatefileID
    public let recordedPath: String, path: String
    let file: MappedFile
}

extension Statefile {
    public var id: StatefileID { withUnsafeBytes(of: superblock.id) { [UInt8]($0) } }
    public var isDelta: Bool { !bases.isEmpty }
    public func basePath(_ i: Int) -> String { string(bases[i].path) }
    public func baseID(_ i: Int) -> StatefileID { withUnsafeBytes(of: bases[i].id) { [UInt8]($0) } }

    /// All that it refers to, opened; the first that cannot be found is named.
    public func openedBases() throws(Problem) -> [Base] {
        if let known = openBases { return known }
        var found: [Base] = []
        for i in bases.indices { found.append(try openBase(i)) }
        openBases = found
        return found
    }

    /// Where it was, beside this file under its name, or beside this file under any name.
    private func openBase(_ i: Int) throws(Problem) -> Base {
        let recorded = basePath(i), wanted = baseID(i), folder = Path.folder(of: realPath(path))
        var others = 0, closed: SystemError?
        for candidate in [recorded, folder + "/" + Path.base(of: recorded)] {
            let file: MappedFile
            do throws(SystemError) { file = try openIfRegular(candidate) } catch {
                if !error.isNoEntry { closed = error }
                continue
            }
            if let block = try? Scan(file: file, path: candidate).superblock(), withUnsafeBytes(of: block.id, { [UInt8]($0) }) == wanted {
                return Base(id: wanted, recordedPath: recorded, path: candidate, file: file)
            }
            others += 1
        }
        for name in ((try? Path.names(in: folder)) ?? []).sorted() {
            let candidate = folder + "/" + name
            guard let file = try? openIfRegular(candidate), let block = try? Scan(file: file, path: candidate).superblock(),
                  withUnsafeBytes(of: block.id, { [UInt8]($0) }) == wanted else { continue }
            return Base(id: wanted, recordedPath: recorded, path: candidate, file: file)
        }
        throw Problem(.statefile, "statefile", object: path, cause: "its base \(recorded)",
                      others > 0 ? "another statefile than the one that this delta was taken since" : closed?.text ?? "missing there and in the folder of this delta",
                      remedy: "put the right one there or beside this file")
    }

    /// To open a device does something to it.
    private func openIfRegular(_ path: String) throws(SystemError) -> MappedFile {
        guard try Path.status(path).isRegular else { throw SystemError("open \(path)", errno: 22) }
        return try MappedFile(path)
    }

    /// The file that has a run's pages.  Whoever asks has opened the bases.
    func source(of run: ckpt_run) -> MappedFile {
        let base = Int(ckpt_run_base(run))
        return base == 0 ? file : openBases![base - 1].file
    }

    /// Whether the bytes of a run are inside the file that has them.
    func isStored(_ run: ckpt_run, _ bytes: UInt64) throws(Problem) -> Bool {
        let base = Int(ckpt_run_base(run))
        if base == 0 { return Scan(file: file, path: path).contains(run.file_offset, bytes) }
        guard base <= bases.count else { return false }
        return Scan(file: try openedBases()[base - 1].file, path: path).contains(run.file_offset, bytes)
    }

    /// A run's pages as the checkpoint saw them.
    public func checkedPages(of run: ckpt_run, _ last: inout UnpackedFrame?) throws(Problem) -> UnsafeRawBufferPointer {
        guard let bytes = pages(of: run, &last), ckpt_crc32c_hw(0, bytes.baseAddress!, bytes.count) == run.crc else { throw wrongPages(run, "pages of 0x\(hex(run.address))") }
        return bytes
    }
    /// As they lie in their file; a compressed run is a frame.
    public func storedBytes(of run: ckpt_run) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: source(of: run).bytes[Int(run.file_offset)..<Int(run.file_offset + ckpt_run_stored(run))])
    }
    /// Named by the file that is damaged.
    func wrongPages(_ run: ckpt_run, _ what: String, _ cause: String = "wrong checksum") -> Problem {
        let base = Int(ckpt_run_base(run))
        if base == 0 { return bad(what, at: run.file_offset, cause) }
        return Problem(.statefile, "statefile", object: path, cause: "its base \(openBases![base - 1].path)", "\(what) at 0x\(hex(run.file_offset))", cause)
    }

    /// The tables as they are in the file, but for BASE, which has no entries any more; a packed one has more memory.
    public func mergedTables(gathered: UInt64, stored: UInt64) -> [UInt8] {
        var all = [UInt8](slice(superblock.tables_offset, Int(superblock.tables_size)))
        if !isDelta { return all }
        if isPacked {
            var record = packing[0]
            record.pages += gathered; record.stored += stored
            withUnsafeBytes(of: record) { all.replaceSubrange(Int(packing.fileOffset - superblock.tables_offset)..<Int(packing.fileOffset - superblock.tables_offset) + $0.count, with: $0) }
        }
        let count = Int(bases.fileOffset - superblock.tables_offset) - 8        // the last word of its header (struct ckpt_table_header)
        for i in count..<count + 8 { all[i] = 0 }
        return all
    }
}
