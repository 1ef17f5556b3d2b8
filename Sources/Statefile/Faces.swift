// The 64 bytes that say which face of a statefile is showing.
import CkptABI
import CkptReport
import CkptSystem

/// The ELF header of one face.  Core program headers of 65,535 and more are counted in a section header right behind them (PN_XNUM).
public func elfHeader(_ face: Face, _ block: ckpt_superblock) -> [UInt8] {
    let dynamic: UInt16 = 3, core: UInt16 = 4, machine: UInt16 = 62
    var h: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0] + Array("CKPTFIL".utf8)
    let count = face == .core ? block.core_phnum : block.exec_phnum
    let offset = face == .core ? block.core_phoff : block.exec_phoff
    let extended = count >= 0xffff
    h.put16(face == .core ? core : dynamic); h.put16(machine); h.put32(UInt32(1))
    h.put64(face == .core ? 0 : block.exec_entry)
    h.put64(offset)
    h.put64(extended ? offset + UInt64(count) * 56 : 0)
    h.put32(UInt32(0)); h.put16(64); h.put16(56)
    h.put16(extended ? 0xffff : UInt16(count))
    h.put16(extended ? 64 : 0); h.put16(extended ? 1 : 0); h.put16(0)
    return h
}

extension Statefile {
    /// Turns the file over.  The engine that runs from it keeps it open and locked for as long as its tree lives.
    public func show(_ face: Face) throws(Problem) {
        if face == .core && isCompressed {
            throw Problem(.refused, "face core", object: path, cause: "its memory is compressed, which debuggers can't read", remedy: "open it with `ckptctl gdb`, or write a core file with `ckptctl core`")
        }
        let operation = "face \(face.rawValue)"
        if face == .core && isPacked && superblock.core_phnum == 0 {
            throw Problem(.refused, operation, object: path, cause: "it was merged, and its memory lies in the order in which it came", remedy: "open it with `ckptctl gdb`, or write a core file with `ckptctl core`")
        }
        if face == .core && isDelta {
            throw Problem(.refused, operation, object: path, cause: "a delta: a debugger would not find the pages that lie in \(basePath(0))", remedy: "ckptctl merge \(path) -o FULL makes one file, and ckptctl gdb opens a delta as it is")
        }
        let remedy = "a tree still runs from it, or a template of it is in memory: end that first, or turn a copy over"
        do throws(SystemError) {
            if try !overwrite(path, with: elfHeader(face, superblock)) { throw SystemError("lock", errno: SystemError.textFileBusy) }
        } catch {
            throw Problem(error.errno == SystemError.textFileBusy ? .temporary : .system, operation, object: path, cause: error.text,
                          remedy: error.errno == SystemError.textFileBusy ? remedy : nil)
        }
    }
}
