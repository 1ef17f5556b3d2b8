// Runs in the engine before the tree exists, on the region's stack; no allocation, no libc.
// Files that --save-files stored: everything is checked before the first of them is touched, and only what differs is written.
import CkptABI
import EngineBoot
import Freestanding
import CkptMemory

private let piece: UInt64 = 65536       // both buffers of the state are that large
private var stored: UnsafeMutableRawPointer { UnsafeMutableRawPointer(bitPattern: UInt(state.pointee.copy))! }
private var present: UnsafeMutableRawPointer { UnsafeMutableRawPointer(bitPattern: UInt(state.pointee.chunk))! }

/// Its contents can be put back: by default always, with --files keep or truncate only when it is missing.  false: it is treated as any other file.
func checkSaved(_ i: Int) -> Bool {
    guard objects[i].pointee.flags & CKPT_OBJECT_SAVED.rawValue != 0 else { return false }
    let st = status(of: i)
    if st.result == 0 {
        guard st.status.kind == 0o100000 else { refuse(.systemCall) { l in putObject(i, &l); l.put("no longer a regular file; move what has its name away, or use --relocate OLD=NEW") } }
        if state.pointee.files == ENGINE_FILES_CHECK.rawValue { refuseUsed(i) }
        return state.pointee.files == ENGINE_FILES_CHECK.rawValue
    }
    guard st.result == -2 else { refuseFile(i, st.result) { l in putObject(i, &l); l.put("cannot be put back") } }
    let path = path(of: i)
    if asMaker(of: i, at: path, { folderExists(path) ? 1 : 0 }) != 1 { refuse(.systemCall) { l in putObject(i, &l); l.put("cannot be put back: its folder is missing; make it, or use --relocate OLD=NEW") } }
    return true
}

/// Shared memory in which others work now is not overwritten.
private func refuseUsed(_ i: Int) {
    guard objects[i].pointee.flags & CKPT_OBJECT_MEMORY.rawValue != 0 else { return }
    var user = processMapping(i), tries = 0
    // A process that was killed right before takes a moment to end.
    while user != 0 && tries < 20 { var t = ckpt_timespec(sec: 0, nsec: 50_000_000); _ = system(CKPT_SYS_nanosleep, int(&t), 0); user = processMapping(i); tries += 1 }
    if user != 0 { refuse(.temporary) { l in putObject(i, &l); l.put("shared memory that pid "); l.put(signed: Int64(user)); l.put(" uses now; end it, or use --files keep to go on with it as it is") } }
}

private func folderExists(_ path: Text) -> Bool {
    let out = engine_path()
    if UnsafePointer(out) != path { _ = copyText(path, to: out, capacity: 4096) }
    var n = length(Text(out))
    while n > 1 && out[n - 1] != 47 { n -= 1 }
    out[n] = 0
    let st = status(path: Text(out))
    return st.result == 0 && st.status.kind == 0o040000
}

/// Once all files are known to be in order.
func putBackSavedFiles() {
    for k in 0..<saved.count { verifySaved(k) }
    for k in 0..<saved.count where isWanted(k) { putBack(k) }
}
private func isWanted(_ k: Int) -> Bool {
    state.pointee.files == ENGINE_FILES_CHECK.rawValue || status(of: Int(saved[k].pointee.object)).result == -2
}

private func verifySaved(_ k: Int) {
    for x in 0..<saved[k].pointee.extent_count {
        let e = extents[saved[k].pointee.first_extent + x].pointee
        var crc: UInt32 = 0, at: UInt64 = 0
        while at < e.size {
            let n = min(piece, e.size - at)
            readStatefile(stored, n, at: e.content + at)
            crc = ckpt_crc32c_hw(crc, stored, Int(n))
            at += n
        }
        guard crc == e.crc else { refuseStatefile("saved file", at: e.content, "wrong checksum") }
    }
}

/// In place where it is: who else has it, or a link to it, sees it as it was.
private func putBack(_ k: Int) {
    let i = Int(saved[k].pointee.object), o = objects[i]
    let opened = openToWrite(i)
    guard opened.fd >= 0 else { refuseFile(i, opened.fd) { l in putObject(i, &l); l.put("cannot be put back") } }
    let fd = lift(Int32(truncatingIfNeeded: opened.fd), "saved file")
    /// As who opened it: that does not make him its owner.
    func change(_ body: () -> Int) -> Int { opened.isOurs ? body() : asHolder(of: i, body) }
    var r = status(fd: fd).size == o.pointee.size ? 0 : system(CKPT_SYS_ftruncate, Int(fd), int(o.pointee.size))
    guard r == 0 else { refuseWrite(i, r) }
    var at: UInt64 = 0
    for x in 0..<saved[k].pointee.extent_count {
        let e = extents[saved[k].pointee.first_extent + x].pointee
        clear(i, fd, from: at, to: e.offset)
        writeBack(i, fd, e)
        at = e.offset + e.size
    }
    clear(i, fd, from: at, to: o.pointee.size)
    let st = status(fd: fd)
    if st.uid != o.pointee.uid || st.gid != o.pointee.gid {
        r = change { system(93, Int(fd), Int(o.pointee.uid), Int(o.pointee.gid)) }
        guard r == 0 else { refuseFile(i, r, or: { l in putObject(i, &l); l.put("its owner cannot be put back; restart it as root, or use --files keep: "); putError(r, &l) }) { l in putObject(i, &l); l.put("its owner cannot be put back") } }
    }
    if st.mode != o.pointee.mode {
        r = change { system(CKPT_SYS_fchmod, Int(fd), Int(o.pointee.mode & 0o7777)) }
        guard r == 0 else { refuseFile(i, r) { l in putObject(i, &l); l.put("its mode cannot be put back") } }
    }
    var times = InlineArray<4, Int64>(repeating: 0)
    times[0] = saved[k].pointee.atime_sec; times[1] = saved[k].pointee.atime_nsec
    times[2] = o.pointee.mtime_sec; times[3] = o.pointee.mtime_nsec
    r = withUnsafeMutableBytes(of: &times) { t in change { system(CKPT_SYS_utimensat, Int(fd), 0, int(t.baseAddress!), 0) } }
    // Whoever may write another user's file may not set its times.
    guard r == 0 || st.uid != currentIds(false)[1] else { refuse(r) { l in putObject(i, &l); l.put("its times cannot be put back") } }
    _ = ckpt_close(fd)
}

private func refuseWrite(_ i: Int, _ r: Int) -> Never { refuse(r) { l in putObject(i, &l); l.put("cannot be put back; free space and restart again") } }

private func differ(_ a: UnsafeMutableRawPointer, _ b: UnsafeMutableRawPointer, _ n: Int) -> Bool {
    var i = 0
    while i + 8 <= n { if field(a, i, UInt64.self) != field(b, i, UInt64.self) { return true }; i += 8 }
    while i < n { if field(a, i, UInt8.self) != field(b, i, UInt8.self) { return true }; i += 1 }
    return false
}

private func writeBack(_ i: Int, _ fd: Int32, _ e: ckpt_extent_record) {
    var at: UInt64 = 0
    while at < e.size {
        let n = min(piece, e.size - at)
        readStatefile(stored, n, at: e.content + at)
        if ckpt_pread(fd, present, Int(n), e.offset + at) != Int(n) || differ(stored, present, Int(n)) {
            let r = ckpt_pwrite(fd, stored, Int(n), e.offset + at)
            guard r == Int(n) else { refuseWrite(i, r < 0 ? r : -28) }
        }
        at += n
    }
}

/// A hole of the saved file: given back to the file system, or zeros where it knows no holes.
private func clear(_ i: Int, _ fd: Int32, from: UInt64, to: UInt64) {
    guard from < to else { return }
    let keepSize = 1, punchHole = 2
    if system(CKPT_SYS_fallocate, Int(fd), keepSize | punchHole, int(from), int(to - from)) == 0 { return }
    stored.initializeMemory(as: UInt8.self, repeating: 0, count: Int(piece))
    var at = from
    while at < to {
        let n = min(piece, to - at)
        if ckpt_pread(fd, present, Int(n), at) != Int(n) || differ(stored, present, Int(n)) {
            let r = ckpt_pwrite(fd, stored, Int(n), at)
            guard r == Int(n) else { refuseWrite(i, r < 0 ? r : -28) }
        }
        at += n
    }
}
