// The commit: tables, core notes, headers, checksums, fsync, and the name last.  A statefile that exists is complete.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

extension Operation {
    func commit(_ tree: ObservedTree, _ content: SystemContent, _ plan: MemoryPlan, _ draft: Draft) throws(CheckpointFailure) {
        do throws(SystemError) {
            try checksumSavedFiles(content, draft)
            fillTables(tree, content, plan)
            draft.moveEnd(to: ckpt_load64(&segment.pointer.pointee.file_tail))
            var block = ckpt_superblock()
            block.magic = ckpt_statefile_magic(); block.version = UInt32(CKPT_STATEFILE_VERSION); block.size = UInt32(MemoryLayout<ckpt_superblock>.size)
            withUnsafeMutableBytes(of: &block.id) { id in for (i, b) in Kernel.random(16).enumerated() { id[i] = b } }
            block.engine_offset = UInt64(CKPT_ENGINE_OFFSET); block.engine_size = UInt64(draft.engine.count)
            block.engine_crc = crc(draft.engine)

            let tables = content.tables.encoded()
            block.tables_offset = draft.claim(UInt64(tables.count)); block.tables_size = UInt64(tables.count); block.tables_crc = crc(tables)
            try draft.put(tables, at: block.tables_offset)

            let image = try MemoryImage(draft.file, chain: segment.process(tree.processes[tree.root].slot).pointee.runs)
            let notes = coreNotes(try coreProcess(tree, content, image))
            block.core_notes_offset = draft.claim(UInt64(notes.count)); block.core_notes_size = UInt64(notes.count); block.core_notes_crc = crc(notes)
            try draft.put(notes, at: block.core_notes_offset)

            var segments = [Segment64(type: 4, flags: 4, offset: block.core_notes_offset, address: 0, fileSize: UInt64(notes.count), memorySize: 0, align: 4),
                            Segment64(type: 4, flags: 4, offset: block.tables_offset, address: 0, fileSize: UInt64(tables.count), memorySize: 0, align: 4)]
            segments += try coreSegments(tree.root, content.tables, image, draft)
            let headers = Headers.encode(segments)
            block.core_phoff = draft.claim(UInt64(headers.count)); block.core_phnum = UInt32(segments.count)
            try draft.put(headers, at: block.core_phoff)

            guard let engine = Headers.engine(draft.engine, at: UInt64(CKPT_ENGINE_OFFSET)) else { throw SystemError("engine", errno: 8) }
            let exec = Headers.encode(engine.segments)
            block.exec_phoff = 64; block.exec_phnum = UInt32(engine.segments.count); block.exec_entry = engine.entry
            try draft.put(exec, at: 64)

            block.file_size = draft.end
            block.crc = withUnsafeBytes(of: block) { ckpt_crc32c_hw(0, $0.baseAddress!, MemoryLayout<ckpt_superblock>.offset(of: \.crc)!) }
            try draft.put(withUnsafeBytes(of: block) { [UInt8]($0) }, at: UInt64(CKPT_SUPERBLOCK_OFFSET))
            let face = chosenFace()
            try draft.put(elfHeader(face, block), at: 0)
            try draft.file.truncate(to: draft.end)
            try draft.publish()
            report.face = face.rawValue
            report.fileSize = draft.end
            report.processes = tree.processes.count
            report.tasks = tree.processes.reduce(0) { $0 + $1.tasks.count }
            report.memoryBytes = tree.live.reduce(0) { $0 + segment.process($1.slot).pointee.bytes_done }
        } catch {
            throw CheckpointFailure([problem(.system, options.output, "\(error.call): \(error.text)", remedy: "free space, or choose another place with -o")])
        }
    }

    /// The core face runs only where the kernel knows it (binfmt_misc).
    private func chosenFace() -> Face {
        switch options.face {
        case .core: return .core
        case .exec: return .exec
        case .auto:
            let rule = (try? Path.text("/proc/sys/fs/binfmt_misc/ckpt")) ?? ""
            return rule.hasPrefix("enabled") ? .core : .exec
        }
    }
    private func crc(_ b: [UInt8]) -> UInt32 { b.withUnsafeBytes { ckpt_crc32c_hw(0, $0.baseAddress!, b.count) } }

    /// PT_LOADs of the main process.  A private file mapping is the file's except for its own pages, so each run of those is a segment of its own
    /// and a debugger finds the rest in the file.
    /// The first page of each mapped ELF file is stored as well, as the kernel does: unwinders find the build-id there.
    private func coreSegments(_ root: Int, _ tables: Tables, _ image: MemoryImage, _ draft: Draft) throws(SystemError) -> [Segment64] {
        let r = tables.processes[root]
        var segments: [Segment64] = []
        func add(_ v: ckpt_vma_record, _ start: UInt64, _ end: UInt64, _ offset: UInt64?) {
            let flags = (v.protection & 1) << 2 | (v.protection & 2) | (v.protection & 4) >> 2
            // Like the kernel: an empty segment is placed behind the one before it; elfutils misses one-page images otherwise.
            let place = offset ?? segments.last.map { $0.offset + $0.fileSize } ?? 0
            segments.append(Segment64(type: 1, flags: flags, offset: place, address: start, fileSize: offset == nil ? 0 : end - start, memorySize: end - start, align: 4096))
        }
        for v in tables.vmas[Int(r.first_vma)..<Int(r.first_vma + r.vma_count)] {
            switch ckpt_vma_kind(rawValue: v.kind) {
            case CKPT_VMA_SESSION, CKPT_VMA_VVAR: continue
            case CKPT_VMA_FILE:
                var at = v.start
                let stored = image.stretches(v.start, v.end)
                if v.object_offset == 0, stored.isEmpty, let page = elfPage(tables.objects[Int(v.object)], tables) {
                    // One segment with a short p_filesz, as in the kernel's cores: split in two, elfutils does not see the module.
                    let offset = draft.claim(4096)
                    try draft.put(page, at: offset)
                    add(v, v.start, v.end, offset)
                    segments[segments.count - 1].fileSize = 4096
                    continue
                }
                for (start, end) in stored {
                    if start > at { add(v, at, start, nil) }
                    add(v, start, end, v.data_offset + (start - v.start))
                    at = end
                }
                if at < v.end { add(v, at, v.end, nil) }
            default: add(v, v.start, v.end, v.data_offset == 0 ? nil : v.data_offset)
            }
        }
        return segments
    }

    private func elfPage(_ o: ckpt_object_record, _ tables: Tables) -> [UInt8]? {
        guard o.kind == CKPT_OBJECT_REGULAR.rawValue, let file = try? File(tables.text(at: o.path)), let page = try? file.read(at: 0, count: 4096),
              page.count == 4096, page.starts(with: [0x7f, 0x45, 0x4c, 0x46]) else { return nil }
        return page
    }

    private func coreProcess(_ tree: ObservedTree, _ content: SystemContent, _ image: MemoryImage) throws(SystemError) -> CoreProcess {
        let p = tree.processes[tree.root], r = content.tables.processes[tree.root]
        var core = CoreProcess(pid: p.ownPid)
        core.group = p.group; core.terminalSession = p.terminalSession
        core.uid = r.uid.0; core.gid = r.gid.0; core.nice = Int8(clamping: p.stat.nice)
        core.comm = Array(p.stat.comm.utf8); core.commandLine = p.commandLine; core.auxv = p.auxv
        for m in p.mappings where m.inode != 0 && m.inode != segment.identity.inode {
            core.mappings.append(CoreMapping(start: m.start, end: m.end, fileOffset: m.offset, path: Array(m.name.utf8)))
        }
        for t in content.tables.tasks[Int(r.first_task)..<Int(r.first_task + r.task_count)] {
            guard let context = image.read(t.ucontext, MemoryLayout<ckpt_ucontext>.size) else { continue }
            let u = context.withUnsafeBytes { $0.loadUnaligned(as: ckpt_ucontext.self) }
            var task = CoreTask(tid: t.tid, context: u.mc, fsBase: t.fs_base, gsBase: t.gs_base, xsave: [])
            task.blockedSignals = u.sigmask
            if u.mc.fpstate != 0, let fx = image.read(u.mc.fpstate, 512) {
                // fxsave's software bytes: magic at 464, the size of the whole image at 480 (sigcontext.h, struct _fpx_sw_bytes).
                let magic = fx.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 464, as: UInt32.self) }
                let size = fx.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 480, as: UInt32.self) }
                task.xsave = magic == 0x46505853 && size >= 576 && size < 65536 ? image.read(u.mc.fpstate, Int(size)) ?? fx : fx
            }
            core.tasks.append(task)
        }
        return core
    }
}

/// One process's stored memory, by address.
final class MemoryImage {
    private let file: File
    private var runs: [ckpt_run] = []

    init(_ file: File, chain: UInt64) throws(SystemError) {
        self.file = file
        var at = chain
        while at != 0 {
            let bytes = try file.read(at: at, count: Int(CKPT_CHUNK_SIZE))
            guard bytes.count >= 32 else { throw SystemError("chunk", errno: 5) }
            let header = bytes.withUnsafeBytes { $0.loadUnaligned(as: ckpt_chunk.self) }
            guard header.magic == UInt32(CKPT_CHUNK_MAGIC), 32 + Int(header.count) * 32 <= bytes.count else { throw SystemError("chunk", errno: 5) }
            for i in 0..<Int(header.count) { runs.append(bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 32 + i * 32, as: ckpt_run.self) }) }
            at = header.next
        }
        runs.sort { $0.address < $1.address }
    }

    private func index(of address: UInt64) -> Int? {
        var low = 0, high = runs.count
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].address + UInt64(runs[middle].pages) * 4096 <= address { low = middle + 1 } else { high = middle }
        }
        return low < runs.count ? low : nil
    }

    /// Bytes at an address; nil when a part is not stored.
    func read(_ address: UInt64, _ count: Int) -> [UInt8]? {
        var out: [UInt8] = []
        var at = address
        while out.count < count {
            guard let i = index(of: at), runs[i].address <= at else { return nil }
            let here = min(count - out.count, Int(runs[i].address + UInt64(runs[i].pages) * 4096 - at))
            guard let part = try? file.read(at: runs[i].file_offset + (at - runs[i].address), count: here), part.count == here else { return nil }
            out += part
            at += UInt64(here)
        }
        return out
    }

    /// The stored stretches within [start, end), neighbours joined.
    func stretches(_ start: UInt64, _ end: UInt64) -> [(UInt64, UInt64)] {
        var result: [(UInt64, UInt64)] = []
        var i = index(of: start) ?? runs.count
        while i < runs.count && runs[i].address < end {
            let last = runs[i].address + UInt64(runs[i].pages) * 4096
            if let open = result.last, open.1 == runs[i].address { result[result.count - 1].1 = last } else { result.append((runs[i].address, last)) }
            i += 1
        }
        return result
    }
}
