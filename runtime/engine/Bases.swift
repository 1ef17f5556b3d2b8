// Runs in the engine before the tree exists, on its initial stack; the reading in each process of the tree as well; no allocation, no libc.
// A delta's unchanged pages lie in the statefile that it was taken since, and in those that that one refers to.  Each is found by its id: where it was,
// under its name beside the delta, or under any name there.
import CkptABI
import EngineBoot
import Freestanding

/// All before anything is made: a missing one is found out at once.
func openBases() {
    for i in 0..<bases.count { openBase(i) }
}

/// What there is under a name; an error says why it could not be opened.
private enum Candidate: Equatable { case missing, closed(Int), stranger, right }

private func openBase(_ i: Int) {
    let path = bytes(bases[i].pointee.path)
    var seen = candidate(i, relocated(path))
    if seen == .right { return }
    let folder = folderOfStatefile()
    if folder > 0 {
        let name = lastName(path), buffer = engine_path()
        if folder + length(name) < 4096 {
            _ = copyText(name, to: buffer + folder, capacity: 4096)
            let beside = candidate(i, Text(buffer))
            if beside == .right { return }
            if beside != .missing { seen = beside }
        }
        if findById(i, folder) { return }
    }
    refuse(.badStatefile) { l in
        l.put("statefile: its base "); l.put(text: path)
        switch seen {
        case .closed(let error): l.put(": "); putError(error, &l)
        case .missing: l.put(folder > 0 ? ": missing there and in the folder of this delta" : ": missing there")
        default: l.put(": another statefile than the one that this delta was taken since")
        }
        l.put(folder > 0 ? "; put the right one there or beside this file" : "; put the right one there")
    }
}

/// open(2) of a regular file: others do something when they are opened, and are not.
private func openRegular(_ path: Text) -> Int {
    let pathOnly: Int32 = 0o10000000, noTerminal: Int32 = 0o400, nonBlocking: Int32 = 0o4000, closeOnExec: Int32 = 0o2000000, invalid = -22
    let found = ckpt_open(path, pathOnly | closeOnExec, 0)
    guard found >= 0 else { return found }
    defer { _ = ckpt_close(Int32(truncatingIfNeeded: found)) }
    guard status(fd: Int32(truncatingIfNeeded: found)).kind == 0o100000 else { return invalid }
    return throughProc(found) { ckpt_open($0, nonBlocking | noTerminal | closeOnExec, 0) }
}

/// Opens a file if it is the statefile with that id; its descriptor stays open then.
private func candidate(_ i: Int, _ path: Text) -> Candidate {
    let r = openRegular(path), noFile = -22
    let noEntry = -2, noFolder = -20
    guard r >= 0 else { return r == noFile ? .stranger : r == noEntry || r == noFolder ? .missing : .closed(r) }
    let fd = Int32(truncatingIfNeeded: r)
    var sb = ckpt_superblock(), status = InlineArray<18, UInt64>(repeating: 0)
    let size = withUnsafeMutableBytes(of: &status) { system(CKPT_SYS_fstat, Int(fd), int($0.baseAddress!)) } == 0 ? status[6] : 0
    let length = UInt64(MemoryLayout<ckpt_superblock>.size)
    var isWhole = readSuperblock(fd, &sb, at: UInt64(CKPT_SUPERBLOCK_OFFSET))
    // One that came through a pipe says what it is at its end.
    if isWhole && sb.file_size == ckpt_size_streamed() { isWhole = size > length && readSuperblock(fd, &sb, at: size - length) }
    isWhole = isWhole && sb.file_size <= size
    guard isWhole, hasId(i, &sb) else { _ = ckpt_close(fd); return .stranger }
    let lockShared = 1 | 4          // nobody turns it over meanwhile (flock(2))
    _ = system(73, Int(fd), lockShared)
    engine_base_fd(UInt32(i)).pointee = fd
    engine_base_size(UInt32(i)).pointee = sb.file_size
    return .right
}
private func readSuperblock(_ fd: Int32, _ sb: inout ckpt_superblock, at offset: UInt64) -> Bool {
    readExactly(fd, &sb, UInt64(MemoryLayout<ckpt_superblock>.size), at: offset) && sb.magic == ckpt_statefile_magic()
        && withUnsafeBytes(of: &sb) { ckpt_crc32c_hw(0, $0.baseAddress!, 128) } == sb.crc
}
private func hasId(_ i: Int, _ sb: inout ckpt_superblock) -> Bool {
    let wanted = ckpt_base_id(bases[i]), seen = engine_superblock_id(&sb)
    for k in 0..<16 where wanted[k] != seen[k] { return false }
    return true
}

/// The statefile's folder with its slash, in the path buffer; how long it is, 0: it has none, since it came through a pipe.
private func folderOfStatefile() -> Int {
    if state.pointee.streamed != 0 { return 0 }
    var link = InlineArray<32, CChar>(repeating: 0)
    let buffer = engine_path()
    let n = withUnsafeMutableBytes(of: &link) { raw in
        let text = raw.baseAddress!.assumingMemoryBound(to: CChar.self), prefix: StaticString = "/proc/self/fd/"
        _ = copyText(prefix.cString, to: text, capacity: 32)
        var digits = 1, rest = state.pointee.statefile
        while rest >= 10 { rest /= 10; digits += 1 }
        rest = state.pointee.statefile
        for k in 0..<digits { text[prefix.utf8CodeUnitCount + digits - 1 - k] = CChar(48 + rest % 10); rest /= 10 }
        return system(89, int(text), int(buffer), 4000)
    }
    guard n > 0, buffer[0] == 47 else { return 0 }
    var end = n
    while end > 0 && buffer[end - 1] != 47 { end -= 1 }
    buffer[end] = 0
    return end
}
private func lastName(_ path: Text) -> Text {
    var name = path, p = path
    while p.pointee != 0 { if p.pointee == 47 { name = p + 1 }; p += 1 }
    return name
}

/// Whoever has the id, under whatever name (getdents64(2)).
private func findById(_ i: Int, _ folder: Int) -> Bool {
    let buffer = engine_path()
    buffer[folder] = 0
    let directory = ckpt_open(Text(buffer), 0o200000 | 0o2000000, 0)
    guard directory >= 0 else { return false }
    defer { _ = ckpt_close(Int32(truncatingIfNeeded: directory)) }
    let room = 65536, entries = anonymous(UInt64(room)), regular: UInt8 = 8, unknown: UInt8 = 0
    defer { _ = ckpt_munmap(UInt64(UInt(bitPattern: entries)), UInt64(room)) }
    while true {
        let n = system(217, directory, int(entries), room)
        if n <= 0 { return false }
        var at = 0
        while at < n {
            let size = Int(field(entries, at + 16, UInt16.self)), type = field(entries, at + 18, UInt8.self)
            let name = Text((entries + at + 19).assumingMemoryBound(to: CChar.self))
            at += max(size, 24)
            guard type == regular || type == unknown, folder + length(name) < 4096 else { continue }
            _ = copyText(name, to: buffer + folder, capacity: 4096)
            if candidate(i, Text(buffer)) == .right { return true }
        }
    }
}

/// Of the file that has a run's pages; 0: there is none.
func sizeOfFile(_ run: ckpt_run) -> UInt64 {
    let base = ckpt_run_base(run)
    return base == 0 ? state.pointee.file_size : base <= bases.count ? engine_base_size(base - 1).pointee : 0
}

/// Reads `n` bytes of a run's pages, from `skipped` on.
func readPages(of run: ckpt_run, from skipped: UInt64 = 0, to p: UnsafeMutableRawPointer, _ n: UInt64) {
    let base = ckpt_run_base(run)
    if base == 0 { return readStatefile(p, n, at: run.file_offset + skipped) }
    guard readExactly(engine_base_fd(base - 1).pointee, p, n, at: run.file_offset + skipped) else { refusePages(run) }
}
func refusePages(_ run: ckpt_run, _ what: StaticString = "pages", _ why: StaticString = "wrong checksum") -> Never {
    let base = ckpt_run_base(run)
    if base == 0 { refuseStatefile(what, at: run.file_offset, why) }
    refuse(.badStatefile) { l in
        l.put("statefile: its base "); l.put(text: bytes(bases[base - 1].pointee.path)); l.put(": "); l.put(what); l.put(" at offset 0x"); l.put(hex: run.file_offset)
        l.put(": "); l.put(why); l.put("; that file is damaged, take another copy of it")
    }
}
