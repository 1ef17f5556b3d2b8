// The commit: tables, core notes, headers, checksums, fsync, and the name last.  A statefile that exists is complete.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

extension Operation {
    func commit(_ tree: ObservedTree, _ content: SystemContent, _ plan: MemoryPlan, _ draft: Draft, _ packed: PackedPages?) throws(CheckpointFailure) {
        do throws(SystemError) {
            var chains: [Int: ChainHeads] = [:]         // by slot
            try checksumSavedFiles(content, draft)
            let main = tree.processes[tree.root]
            let image: MemoryImage
            if let packed {
                for p in tree.live {
                    let own = packed.first[.init(process: UInt32(p.slot), isShared: false)], shared = packed.first[.init(process: UInt32(p.slot), isShared: true)]
                    chains[p.slot] = ChainHeads(own: own ?? 0, shared: shared ?? 0)
                }
                if packed.isPlaced {
                    var written = Dictionary(tree.live.map { ($0.slot, packed.chains[.init(process: UInt32($0.slot), isShared: false)] ?? []) }) { own, _ in own }
                    if let preCopy { try chainEarly(tree, preCopy, draft, &chains, &written) }
                    image = MemoryImage([draft.file] + (base?.files ?? []), runs: written[main.slot] ?? [])
                } else {
                    content.tables.packing = [ckpt_packing_record(compression: packed.compression.kind.rawValue, level: packed.compression.level, pages: packed.pages, stored: packed.stored)]
                    image = MemoryImage(packed, of: UInt32(truncatingIfNeeded: main.slot))
                    report.storedBytes = packed.stored
                }
            } else {
                let tail = ckpt_load64(&segment.pointer.pointee.file_tail)
                guard tail >= plan.memoryEnd, tail <= plan.chunksEnd else { throw .damaged("the statefile ends at \(tail)") }
                draft.moveEnd(to: tail)
                var written = try readChains(tree, content, ChunkReader(draft.file, plan.memoryEnd..<tail, bases: base?.files ?? [], objects: content.tables.objects.count), &chains)
                if let preCopy { try chainEarly(tree, preCopy, draft, &chains, &written) }
                image = MemoryImage([draft.file] + (base?.files ?? []), runs: written[main.slot] ?? [])
            }
            try fillTables(tree, content, plan, chains)
            content.tables.bases = base?.records(content.tables) ?? []
            var block = try draft.superblock()
            withUnsafeMutableBytes(of: &block.id) { id in for (i, b) in Kernel.random(16).enumerated() { id[i] = b } }

            let tables = content.tables.encoded()
            block.tables_offset = draft.claim(UInt64(tables.count)); block.tables_size = UInt64(tables.count); block.tables_crc = crc(tables)
            try draft.put(tables, at: block.tables_offset)

            let notes = coreNotes(try coreProcess(tree, content, image))
            block.core_notes_offset = draft.claim(UInt64(notes.count)); block.core_notes_size = UInt64(notes.count); block.core_notes_crc = crc(notes)
            try draft.put(notes, at: block.core_notes_offset)

            var segments = [Segment64(type: 4, flags: 4, offset: block.core_notes_offset, address: 0, fileSize: UInt64(notes.count), memorySize: 0, align: 4),
                            Segment64(type: 4, flags: 4, offset: block.tables_offset, address: 0, fileSize: UInt64(tables.count), memorySize: 0, align: 4)]
            segments += try coreSegments(tree.root, tree.processes[tree.root].view, content.tables, image, draft)
            let headers = Headers.encode(segments)
            block.core_phoff = draft.claim(UInt64(headers.count)); block.core_phnum = UInt32(segments.count)
            try draft.put(headers, at: block.core_phoff)

            // Debuggers can't read compressed memory, nor what lies in a base; and a stream's first bytes are gone.
            let face = options.compression != .none || options.output == "-" || base != nil ? .exec : chosenFace(options.face)
            try draft.seal(block, face: face)
            try draft.publish()
            report.face = face.rawValue
            report.fileSize = draft.end
            report.processes = tree.processes.count
            report.tasks = tree.processes.reduce(0) { $0 + $1.tasks.count }
            // What writers say that they have done, as far as it can be.
            func told(_ count: (UnsafeMutablePointer<ckpt_process>) -> UInt64) -> UInt64 { min(plan.totalBytes, tree.live.reduce(0) { $0 &+ count(segment.process($1.slot)) }) }
            report.memoryBytes = told { $0.pointee.bytes_done } + (report.early?.chainedBytes ?? 0)
            if options.afterwards == .run { tracker?.putBack(withUnsafeBytes(of: block.id) { [UInt8]($0) }) }
            report.unreadBytes = told { $0.pointee.pages_unread &* 4096 }
            report.keptBytes = told { $0.pointee.pages_kept &* 4096 }
            if let packed { report.memoryBytes -= min(packed.unchanged, report.memoryBytes); report.keptBytes += packed.unchanged }
        } catch { throw unwritable(error) }
    }

    /// All are looked at, and where they begin is what the tables will say; kept are those of the main process, which the core face is made of, and of those that were
    /// read early.
    private func readChains(_ tree: ObservedTree, _ content: SystemContent, _ reader: ChunkReader, _ chains: inout [Int: ChainHeads]) throws(SystemError) -> [Int: [ckpt_run]] {
        var reader = reader, kept: [Int: [ckpt_run]] = [:]
        for (i, p) in tree.processes.enumerated() where !p.isZombie {
            let slot = segment.process(p.slot), heads = ChainHeads(own: slot.pointee.runs, shared: slot.pointee.shared_runs), isKept = i == tree.root || preCopy?.member(p) != nil
            var own: [ckpt_run] = []
            try reader.forEachRun(from: heads.own, isShared: false) { if isKept { own.append($0) } }
            try reader.forEachRun(from: heads.shared, isShared: true) { _ in }
            if isKept { kept[p.slot] = own }
            chains[p.slot] = heads
        }
        return kept
    }

    private func crc(_ b: [UInt8]) -> UInt32 { b.withUnsafeBytes { ckpt_crc32c_hw(0, $0.baseAddress!, b.count) } }

    /// PT_LOADs of the main process.  A private file mapping is the file's except for its own pages, so each run of those is a segment of its own
    /// and a debugger finds the rest in the file.
    /// The first page of each mapped ELF file is stored as well, as the kernel does: unwinders find the build-id there.
    private func coreSegments(_ root: Int, _ view: Int32, _ tables: Tables, _ image: MemoryImage, _ draft: Draft) throws(SystemError) -> [Segment64] {
        let r = tables.processes[root], memory = try? File("/proc/\(view)/mem")
        var segments: [Segment64] = []
        func add(_ v: ckpt_vma_record, _ start: UInt64, _ end: UInt64, _ offset: UInt64?) {
            let flags = (v.protection & 1) << 2 | (v.protection & 2) | (v.protection & 4) >> 2
            // Like the kernel: an empty segment is placed behind the one before it; elfutils misses one-page images otherwise.
            let place = offset ?? segments.last.map { $0.offset + $0.fileSize } ?? 0
            segments.append(Segment64(type: 1, flags: flags, offset: place, address: start, fileSize: offset == nil ? 0 : end - start, memorySize: end - start, align: 4096))
        }
        func addParts(_ v: ckpt_vma_record, _ stored: [(start: UInt64, end: UInt64, offset: UInt64?)]) {
            var at = v.start
            for part in stored {
                if part.start > at { add(v, at, part.start, nil) }
                add(v, part.start, part.end, part.offset)
                at = part.end
            }
            if at < v.end { add(v, at, v.end, nil) }
        }
        for v in tables.vmas[Int(r.first_vma)..<Int(r.first_vma + r.vma_count)] {
            switch ckpt_vma_kind(rawValue: v.kind) {
            case CKPT_VMA_SESSION, CKPT_VMA_VVAR: continue
            case CKPT_VMA_FILE:
                let stored = image.stretches(v)
                if v.object_offset == 0, stored.isEmpty, let page = elfPage(v, tables.objects[Int(v.object)], memory) {
                    // One segment with a short p_filesz, as in the kernel's cores: split in two, elfutils does not see the module.
                    let offset = draft.claim(4096)
                    try draft.put(page, at: offset)
                    add(v, v.start, v.end, offset)
                    segments[segments.count - 1].fileSize = 4096
                    continue
                }
                addParts(v, stored)
            case _ where image.isPacked: addParts(v, image.stretches(v))
            default: add(v, v.start, v.end, v.data_offset == 0 ? nil : v.data_offset)
            }
        }
        return segments
    }

    /// From where it is mapped: to open the file would move its time of access, tell those who watch it, and break a lease.
    private func elfPage(_ v: ckpt_vma_record, _ o: ckpt_object_record, _ memory: File?) -> [UInt8]? {
        guard o.kind == CKPT_OBJECT_REGULAR.rawValue, v.protection & 1 != 0, let page = try? memory?.read(at: v.start, count: 4096),
              page.count == 4096, page.starts(with: [0x7f, 0x45, 0x4c, 0x46]) else { return nil }
        return page
    }

    private func coreProcess(_ tree: ObservedTree, _ content: SystemContent, _ image: MemoryImage) throws(SystemError) -> CoreProcess {
        let p = tree.processes[tree.root], r = content.tables.processes[tree.root]
        var core = CoreProcess(pid: p.ownPid)
        core.group = p.group; core.terminalSession = p.terminalSession
        core.uid = r.uid.0; core.gid = r.gid.0; core.nice = Int8(clamping: p.stat.nice)
        core.comm = p.stat.comm.nameBytes; core.commandLine = p.commandLine; core.auxv = p.auxv
        for m in p.mappings where m.inode != 0 && m.inode != segment.identity.inode {
            core.mappings.append(CoreMapping(start: m.start, end: m.end, fileOffset: m.offset, path: m.name.nameBytes))
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

/// The core face runs only where the kernel knows it (binfmt_misc).
func chosenFace(_ preference: FacePreference) -> Face {
    switch preference {
    case .core: return .core
    case .exec: return .exec
    case .auto:
        let rule = (try? Path.text("/proc/sys/fs/binfmt_misc/ckpt")) ?? ""
        return rule.hasPrefix("enabled") ? .core : .exec
    }
}
