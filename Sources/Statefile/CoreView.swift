// A core file of one process of a statefile, for debuggers: gdb's core has one address space, a tree has many.
// A view is small: its memory is not copied, NT_FILE (in units of one byte) says where in the statefile it lies.
import CkptABI
import CkptReport
import CkptSystem

extension Statefile {
    /// Registers, names and mappings of one process, as coreNotes(_:) wants them.  Zombies have none.
    public func coreProcess(_ index: Int, memory: ProcessMemory) throws(Problem) -> CoreProcess {
        let p = processes[index]
        guard p.task_count > 0 else { throw Problem(.noSession, "core", object: path, cause: "pid \(p.pid)", "it had exited: it has no memory and no registers") }
        var core = CoreProcess(pid: p.pid)
        core.group = p.pgid
        core.terminalSession = p.sid
        core.parent = p.parent == ckpt_no_index() ? 0 : processes[Int(p.parent)].pid
        core.uid = p.uid.0
        core.gid = p.gid.0
        core.comm = bytes(at: p.comm)
        core.commandLine = bytes(at: p.cmdline)
        core.auxv = blob(at: p.auxv, count: p.auxv_size)
        for i in mainTaskFirst(p) { core.tasks.append(try coreTask(i, memory)) }
        core.nice = Int8(clamping: tasks[Int(p.first_task)].sched.nice)
        return core
    }

    private func mainTaskFirst(_ p: ckpt_process_record) -> [Int] {
        let all = Int(p.first_task)..<Int(p.first_task + p.task_count)
        return all.filter { tasks[$0].tid == p.pid } + all.filter { tasks[$0].tid != p.pid }
    }

    /// The interrupted point lies in the signal frame, in the process's own memory.
    private func coreTask(_ i: Int, _ memory: ProcessMemory) throws(Problem) -> CoreTask {
        let t = tasks[i], size = MemoryLayout<ckpt_ucontext>.size
        let frame = memory.read(t.ucontext, count: size)
        guard frame.count == size else { throw bad("TASK \(i)", at: tasks.offset(of: i), "its signal frame 0x\(hex(t.ucontext)) is not in the stored memory") }
        var context = ckpt_ucontext()
        withUnsafeMutableBytes(of: &context) { $0.copyBytes(from: frame) }
        var task = CoreTask(tid: t.tid, context: context.mc, fsBase: t.fs_base, gsBase: t.gs_base, xsave: floatingPointState(context.mc.fpstate, memory))
        task.blockedSignals = t.sigmask
        for q in Int(t.first_pending)..<Int(t.first_pending + t.pending_count) {
            let signal = pending[q].info.si_signo
            if signal > 0 && signal <= 64 { task.pendingSignals |= 1 << UInt64(signal - 1) }
        }
        return task
    }

    private func floatingPointState(_ address: UInt64, _ memory: ProcessMemory) -> [UInt8] {
        guard address != 0 else { return [] }
        let legacy = memory.read(address, count: 512)
        guard legacy.count == 512 else { return [] }
        let (magic, size) = legacy.withUnsafeBytes { ($0.loadUnaligned(fromByteOffset: 464, as: UInt32.self), $0.loadUnaligned(fromByteOffset: 480, as: UInt32.self)) }
        guard magic == 0x46505853, size > 512, size <= 1 << 16 else { return legacy }
        let whole = memory.read(address, count: Int(size))
        return whole.count == Int(size) ? whole : legacy
    }
}

/// A core file: what stands at its beginning, and how long it is; what follows the beginning is a hole or is written by writeMemory.
public struct CoreView {
    public let head: [UInt8]
    public let size: UInt64
    /// (VMA, offset in the core file) of what a complete core stores.
    let stored: [(vma: ckpt_vma_record, offset: UInt64)]
    let memory: ProcessMemory

    /// A view that points into `statefile` (its memory must lie there as it was: not packed), or with `complete` a core that stands alone once writeMemory has filled it.
    public init(_ statefile: Statefile, process: Int, complete: Bool) throws(Problem) {
        let memory = try ProcessMemory(statefile, process: process)
        var core = try statefile.coreProcess(process, memory: memory)
        if complete {
            core.mappings = memory.fileMappings()
        } else {
            core.mappings = memory.viewMappings()
            core.mappingUnit = 1
        }
        let notes = coreNotes(core)
        let vmas = memory.vmas.filter { $0.kind != CKPT_VMA_VVAR.rawValue }
        let notesOffset = UInt64(64 + 56 * (vmas.count + 1))
        let dataOffset = (notesOffset + UInt64(notes.count) + 4095) & ~4095
        var segments = [Segment(type: 4, flags: 0, offset: notesOffset, address: 0, fileSize: UInt64(notes.count), memorySize: 0, alignment: 4)]
        var end = dataOffset, stored: [(ckpt_vma_record, UInt64)] = []
        for vma in vmas {
            let size = vma.end - vma.start
            let inFile = complete ? vma.isReadable : memory.isUntouched(vma)
            segments.append(Segment(type: 1, flags: vma.segmentFlags, offset: complete ? end : dataOffset, address: vma.start,
                                    fileSize: inFile ? size : 0, memorySize: size, alignment: 4096))
            if complete && inFile { stored.append((vma, end)); end += size }
            if !complete && inFile { end = max(end, dataOffset + size) }     // all untouched memory shares one hole
        }
        head = elfCoreHeader(segments: segments) + notes
        size = end
        self.stored = stored
        self.memory = memory
    }

    /// Gives the contents of a complete core to `write`, piece by piece; zeros are left out.
    public func writeMemory(_ write: (UInt64, [UInt8]) throws(SystemError) -> Void) throws(SystemError) {
        let step: UInt64 = 1 << 20
        for (vma, offset) in stored {
            var at = vma.start
            while at < vma.end {
                let n = min(step, vma.end - at)
                let bytes = memory.read(at, count: Int(n))
                if bytes.contains(where: { $0 != 0 }) { try write(offset + (at - vma.start), bytes) }
                at += n
            }
        }
    }
}

struct Segment {
    var type: UInt32, flags: UInt32
    var offset: UInt64, address: UInt64, fileSize: UInt64, memorySize: UInt64, alignment: UInt64
}

func elfCoreHeader(segments: [Segment]) -> [UInt8] {
    var h: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0]
    h.putZeros(8)
    let typeCore: UInt16 = 4, machine: UInt16 = 62
    h.put16(typeCore); h.put16(machine); h.put32(UInt32(1)); h.put64(0); h.put64(64); h.put64(0); h.put32(UInt32(0))
    h.put16(64); h.put16(56); h.put16(UInt16(clamping: segments.count)); h.put16(0); h.put16(0); h.put16(0)
    for s in segments {
        h.put32(s.type); h.put32(s.flags)
        for v in [s.offset, s.address, 0, s.fileSize, s.memorySize, s.alignment] { h.put64(v) }
    }
    return h
}

extension ckpt_vma_record {
    var isReadable: Bool { protection & 1 != 0 || kind == CKPT_VMA_ANONYMOUS.rawValue && protection != 0 }
    var isFile: Bool { kind == CKPT_VMA_FILE.rawValue || kind == CKPT_VMA_SHARED_FILE.rawValue }
    /// PF_R 4, PF_W 2, PF_X 1 of PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4
    var segmentFlags: UInt32 { (protection & 1) << 2 | protection & 2 | (protection & 4) >> 2 }
}

/// A stretch of memory, and where it is stored: in the statefile (0) or one of its bases.
struct StoredPiece { var start: UInt64, end: UInt64, base: Int, offset: UInt64 }

extension ProcessMemory {
    /// NT_FILE as the kernel would write it.
    func fileMappings() -> [CoreMapping] {
        vmas.filter(\.isFile).map {
            CoreMapping(start: $0.start, end: $0.end, fileOffset: $0.object_offset, path: statefile.bytes(at: statefile.objects[Int($0.object)].path))
        }
    }

    /// No page of it is stored and none comes from a file: it is zero.
    func isUntouched(_ v: ckpt_vma_record) -> Bool {
        guard v.protection != 0 else { return false }
        if v.kind == CKPT_VMA_SHARED_ANONYMOUS.rawValue {
            return sharedPieces(v).isEmpty
        }
        return v.kind == CKPT_VMA_ANONYMOUS.rawValue && v.data_offset == 0
    }

    private func sharedPieces(_ v: ckpt_vma_record) -> [StoredPiece] {
        guard let shared = statefile.sharedRuns.objects[v.object] else { return [] }
        let from = v.object_offset, to = from + (v.end - v.start)
        return clipped(shared, from, to).map { StoredPiece(start: $0.start - from + v.start, end: $0.end - from + v.start, base: $0.base, offset: $0.offset) }
    }

    private func clipped(_ index: RunIndex, _ from: UInt64, _ to: UInt64) -> [StoredPiece] {
        var pieces: [StoredPiece] = []
        var i = index.firstEnding(above: from)
        while i < index.runs.count, index.runs[i].address < to {
            let run = index.runs[i], start = max(run.address, from), end = min(run.end, to), offset = run.file_offset + (start - run.address), base = Int(ckpt_run_base(run))
            if let last = pieces.last, last.end == start, last.base == base, last.offset + (start - last.start) == offset { pieces[pieces.count - 1].end = end } else {
                pieces.append(StoredPiece(start: start, end: end, base: base, offset: offset))
            }
            i += 1
        }
        return pieces
    }

    /// NT_FILE of a view: what is stored points into the statefile, unmodified parts of files to the files.
    func viewMappings() -> [CoreMapping] {
        let own = realPath(statefile.path).nameBytes, paths = [own] + (statefile.openBases ?? []).map { realPath($0.path).nameBytes }
        var result: [CoreMapping] = []
        for v in vmas {
            let isAnonymous = v.kind == CKPT_VMA_ANONYMOUS.rawValue
            if isAnonymous && v.data_offset == 0 { continue }
            if isAnonymous && !statefile.isDelta {
                result.append(CoreMapping(start: v.start, end: v.end, fileOffset: v.data_offset, path: own))
                continue
            }
            let pieces = v.kind == CKPT_VMA_SHARED_ANONYMOUS.rawValue || v.kind == CKPT_VMA_SHARED_FILE.rawValue
                ? sharedPieces(v) : clipped(index, v.start, v.end)
            // Holes in the statefile read as the zeros that they stand for.
            func gap(_ from: UInt64, _ to: UInt64) {
                if !isAnonymous { return addGap(v, from, to, own, &result) }
                if from < to { result.append(CoreMapping(start: from, end: to, fileOffset: v.data_offset + (from - v.start), path: own)) }
            }
            var at = v.start
            for piece in pieces {
                gap(at, piece.start)
                result.append(CoreMapping(start: piece.start, end: piece.end, fileOffset: piece.offset, path: paths[piece.base]))
                at = piece.end
            }
            gap(at, v.end)
        }
        return result
    }

    private func addGap(_ v: ckpt_vma_record, _ from: UInt64, _ to: UInt64, _ own: [UInt8], _ result: inout [CoreMapping]) {
        guard from < to, v.isFile else { return }
        let object = statefile.objects[Int(v.object)], offset = v.object_offset + (from - v.start)
        if object.content_size > 0 {
            let end = min(to, from + (object.content_size > offset ? object.content_size - offset : 0))
            if end > from { result.append(CoreMapping(start: from, end: end, fileOffset: object.content + offset, path: own)) }
        } else if object.kind == CKPT_OBJECT_REGULAR.rawValue {
            result.append(CoreMapping(start: from, end: to, fileOffset: offset, path: statefile.bytes(at: object.path)))
        }
    }
}
