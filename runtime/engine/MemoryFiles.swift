// Runs in the engine before the tree exists, on the region's stack; no allocation, no libc.
// Objects whose contents are in the statefile: deleted files, memfds, files that --self-contained stored, shared anonymous memory.
import CkptABI
import EngineBoot
import Freestanding

func makeMemoryObjects() {
    for i in 0..<objects.count where isOfThisPlace(i) {
        switch objects[i].pointee.kind {
        case CKPT_OBJECT_DELETED.rawValue where objects[i].pointee.mounts == 0: makeDeleted(i)
        case CKPT_OBJECT_MEMFD.rawValue: makeMemoryFile(i)
        case CKPT_OBJECT_SHMEM.rawValue where objects[i].pointee.page_shift != 0: makeMemoryFile(i)
        case CKPT_OBJECT_DELETED_FOLDER.rawValue where objects[i].pointee.mounts == 0: makeDeletedFolder(i)
        default: break
        }
    }
    fillShared()
}

/// What has its path in the mounts of a part, made there.
func makeNamedObjects() {
    for i in 0..<objects.count where isOfThisPlace(i) {
        switch objects[i].pointee.kind {
        case CKPT_OBJECT_DELETED.rawValue: makeDeleted(i)
        case CKPT_OBJECT_DELETED_FOLDER.rawValue: makeDeletedFolder(i)
        case CKPT_OBJECT_FIFO.rawValue where hasLostName(i):
            let r = makeNameless(i)
            guard r >= 0 else { refuse(r) { l in putObject(i, &l); l.put("cannot be made") } }
            anchors[i].pointee = lift(Int32(truncatingIfNeeded: r), "FIFO")
        default: break
        }
    }
}

private let deletedMark: StaticString = " (deleted)"

/// The path at which an object is looked for, or made again.
func pathToFind(_ i: Int) -> Text {
    let kind = objects[i].pointee.kind
    return kind == CKPT_OBJECT_DELETED.rawValue || kind == CKPT_OBJECT_DELETED_FOLDER.rawValue ? Text(withoutMark(i)) : pathInside(i)
}
/// A path without the kernel's mark, in the state's path buffer.
private func withoutMark(_ i: Int) -> UnsafeMutablePointer<CChar> {
    let out = engine_path()
    let from = pathInside(i)
    if UnsafePointer(out) != from { _ = copyText(from, to: out, capacity: 4096) }
    if hasSuffix(Text(out), deletedMark) { out[length(Text(out)) - deletedMark.utf8CodeUnitCount] = 0 }
    return out
}

/// A deleted file is made again under its name and deleted again; where that is impossible it is an unnamed file of its folder, or a memfd.
private func makeDeleted(_ i: Int) {
    _ = isLed(i)        // uses the path's buffer
    let path = withoutMark(i)
    if objects[i].pointee.flags & CKPT_OBJECT_UNNAMED.rawValue != 0, let unnamed = makeUnnamed(i, path) { return keep(i, unnamed) }
    let o = objects[i].pointee
    var fd = makeAndRemove(i, Text(path))
    if fd < 0 {
        var n = length(Text(path))
        while n > 1 && path[n - 1] != 47 { n -= 1 }
        path[n] = 0
        fd = make(i, Text(path)) { ckpt_open(Text(path), 0o2000002 | 0o20200000, 0o600) }
        if fd < 0 { fd = owned(by: o) { system(CKPT_SYS_memfd_create, int(StaticString("deleted").cString), 1) } }
    }
    guard fd >= 0 else { refuse(fd) { l in putObject(i, &l); l.put("deleted file: cannot be made again") } }
    keep(i, fd)
}

private func make(_ i: Int, _ path: Text, _ body: () -> Int) -> Int { isLed(i) ? asMaker(of: i, at: path, body) : owned(by: objects[i].pointee, body) }
private func makeAndRemove(_ i: Int, _ path: Text) -> Int {
    let fd = make(i, path) {
        let fd = ckpt_open(path, 0o2000302, 0o600)
        if fd >= 0 { _ = system(CKPT_SYS_unlink, int(path)) }
        return fd
    }
    return withoutName(i, fd)
}
/// Whose the folder is may have given it another name meanwhile: then it is no file of the tree's alone, which gets its owner and mode.
private func withoutName(_ i: Int, _ fd: Int) -> Int {
    guard fd >= 0, isLed(i), status(fd: Int32(truncatingIfNeeded: fd)).links != 0 else { return fd }
    _ = ckpt_close(Int32(truncatingIfNeeded: fd))
    let taken = -17
    return taken
}

/// Made by O_TMPFILE once more: the program may still give it a name.
private func makeUnnamed(_ i: Int, _ path: UnsafeMutablePointer<CChar>) -> Int? {
    let first = firstUnnamed(i)
    guard first >= 0 else { return nil }
    var n = length(Text(path))
    while n > 1 && path[n - 1] != 47 { n -= 1 }
    let last = path[n]
    path[n] = 0
    let flags = descriptions[first].pointee.flags & ~0o2023700          // O_CREAT and its like, O_ASYNC, O_CLOEXEC, O_APPEND
    let r = make(i, Text(path)) { ckpt_open(Text(path), Int32(bitPattern: flags | 0o2000000), 0o600) }
    path[n] = last
    return r >= 0 ? r : nil
}

/// A folder that had been removed: made and removed again.  Nothing can be in it.
private func makeDeletedFolder(_ i: Int) {
    _ = isLed(i)        // uses the path's buffer
    let path = withoutMark(i), rmdir = 84
    let fd = withoutName(i, asMaker(of: i, at: Text(path)) {
        var r = system(CKPT_SYS_mkdir, int(path), 0o700)
        if r == -17 { r = nearbyFolder(path) }
        if r != 0 { return r }
        r = ckpt_open(Text(path), 0o2200000, 0)
        _ = system(rmdir, int(path))
        return r
    })
    guard fd >= 0 else { refuseFile(i, fd) { l in putObject(i, &l); l.put("removed folder: cannot be made again; make the one that it was in, or use --relocate OLD=NEW") } }
    objectFd[i].pointee = lift(Int32(truncatingIfNeeded: fd), "folder of the tree")
}

/// Its name is taken by now: any other one beside it, since it is removed at once.
private func nearbyFolder(_ path: UnsafeMutablePointer<CChar>) -> Int {
    let n = length(Text(path))
    guard n < 4090 else { return -36 }
    var r = -17, k: Int8 = 0
    while r == -17 && k < 26 {
        path[n] = 126; path[n + 1] = 97 + k; path[n + 2] = 0
        r = system(CKPT_SYS_mkdir, int(path), 0o700)
        k += 1
    }
    return r
}

/// A memfd that holds the object's contents.
func makeMemoryFile(_ i: Int) {
    let o = objects[i], mark: StaticString = "/memfd:"
    var name = Text(withoutMark(i))
    if hasPrefix(name, mark.cString) { name += mark.utf8CodeUnitCount } else {
        var p = name
        while p.pointee != 0 { if p.pointee == 47 { name = p + 1 }; p += 1 }
    }
    let sealing = o.pointee.kind == CKPT_OBJECT_MEMFD.rawValue && o.pointee.seals != sealSeal
    let flags = 1 | (sealing ? 2 : 0) | (o.pointee.page_shift != 0 ? hugeMemfd(o.pointee.page_shift) : 0)
    let fd = owned(by: o.pointee) { system(CKPT_SYS_memfd_create, int(name), flags) }
    guard fd >= 0 else { refuse(fd) { l in putObject(i, &l); l.put("memfd") } }
    keep(i, fd)
}

private func keep(_ i: Int, _ fd: Int) {
    let n = lift(Int32(truncatingIfNeeded: fd), "file of the tree")
    objectFd[i].pointee = n
    copyContent(i, to: n)
}

/// Mode, owner and seals come when all descriptions are open: they may forbid what we do before.
func finishMemoryObjects() {
    for i in 0..<objects.count where isOfThisPlace(i) && objectFd[i].pointee >= 0 { finish(i) }
}
private func finish(_ i: Int) {
    let o = objects[i], fd = Int(objectFd[i].pointee)
    if o.pointee.uid != currentIds(false)[1] || o.pointee.gid != currentIds(true)[1] { _ = system(93, fd, Int(o.pointee.uid), Int(o.pointee.gid)) }
    let ownMode = o.pointee.kind == CKPT_OBJECT_MEMFD.rawValue || o.pointee.kind == CKPT_OBJECT_DELETED.rawValue
    if ownMode || o.pointee.mode & 0o7777 != 0 { _ = system(CKPT_SYS_fchmod, fd, Int(o.pointee.mode & 0o7777)) }
    if o.pointee.kind == CKPT_OBJECT_MEMFD.rawValue && o.pointee.seals & sealFutureWrite == 0 { seal(i) }
}
private let sealSeal: UInt32 = 1, sealFutureWrite: UInt32 = 16

/// Runs in the builder when everybody is back: from F_SEAL_FUTURE_WRITE on nobody maps a file for writing, but mappings that are there go on.
func sealLate() {
    for i in 0..<objects.count where objects[i].pointee.kind == CKPT_OBJECT_MEMFD.rawValue && objects[i].pointee.seals & sealFutureWrite != 0 && objectFd[i].pointee >= 0 { seal(i) }
}
private func seal(_ i: Int) {
    let seals = objects[i].pointee.seals
    guard seals & ~sealSeal != 0 else { return }        // SEAL alone: it was made without sealing
    let r = system(CKPT_SYS_fcntl, Int(objectFd[i].pointee), 1033, Int(seals))
    guard r == 0 else { refuse(r) { l in putObject(i, &l); l.put("its seals cannot be set") } }
}

/// Runs in the builder: a file belongs to the mounts of the namespace in which it was opened, and gets a name only there.
func remakeUnnamedFiles() {
    guard state.pointee.mode == ENGINE_PIDS_NS.rawValue else { return }
    for i in 0..<objects.count where objects[i].pointee.mounts == 0 && objects[i].pointee.flags & CKPT_OBJECT_UNNAMED.rawValue != 0 && objectFd[i].pointee >= 0 {
        guard let fd = makeUnnamed(i, withoutMark(i)) else { continue }
        _ = ckpt_close(objectFd[i].pointee)
        keep(i, fd)
        finish(i)
        for d in 0..<descriptions.count where descriptions[d].pointee.object == i && descriptionFd[d].pointee >= 0 {
            _ = ckpt_close(descriptionFd[d].pointee)
            descriptionFd[d].pointee = lift(openDescription(d), "file of the tree")
        }
    }
}

/// Zero pages stay holes.
private func copyContent(_ i: Int, to fd: Int32) {
    let o = objects[i]
    var r = system(CKPT_SYS_ftruncate, Int(fd), int(max(o.pointee.size, 0)))
    guard r == 0 else { refuse(r) { l in putObject(i, &l); l.put("cannot get its size") } }
    if o.pointee.page_shift != 0 { return copyHugeContent(i, to: fd) }
    let b = UnsafeMutableRawPointer(bitPattern: UInt(state.pointee.copy))!
    var at: UInt64 = 0
    while at < o.pointee.content_size {
        let data = system(CKPT_SYS_lseek, Int(state.pointee.statefile), int(o.pointee.content + at), 3)       // SEEK_DATA
        if data == -6 { return }
        if data > 0 && UInt64(data) > o.pointee.content + at { at = (UInt64(data) - o.pointee.content) & ~4095; if at >= o.pointee.content_size { return } }
        let n = min(65536, o.pointee.content_size - at)
        readStatefile(b, n, at: o.pointee.content + at)
        var page: UInt64 = 0
        while page < n {
            let m = min(4096, n - page)
            if !isZero(b + Int(page), Int(m)) {
                r = ckpt_pwrite(fd, b + Int(page), Int(m), at + page)
                guard r == Int(m) else { refuse(r < 0 ? r : -28) { l in putObject(i, &l); l.put("cannot be written") } }
            }
            page += m
        }
        at += n
    }
}
func isZero(_ p: UnsafeMutableRawPointer, _ n: Int) -> Bool {
    var i = 0
    while i + 8 <= n { if field(p, i, UInt64.self) != 0 { return false }; i += 8 }
    while i < n { if field(p, i, UInt8.self) != 0 { return false }; i += 1 }
    return true
}

/// Shared anonymous memory: whichever process wrote a page into its shared chain.
func fillShared() {
    for p in 0..<processes.count where processes[p].pointee.flags & CKPT_PROCESS_ZOMBIE.rawValue == 0 {
        forEachRun(from: processes[p].pointee.shared_runs) { run in
            guard run.object < objects.count else { refuseStatefile("run", at: run.file_offset, "names no shared object") }
            let o = Int(run.object), size = UInt64(run.pages) * 4096
            if !isOfThisPlace(o) { return }
            if objects[o].pointee.kind == CKPT_OBJECT_SEGMENT.rawValue { return }     // when it has its id
            let isShared = objects[o].pointee.kind == CKPT_OBJECT_SHMEM.rawValue && objects[o].pointee.page_shift == 0
            // A template holds what a branch gets a copy of; files in memory each branch makes for itself.
            if isShared ? state.pointee.warm != 0 : state.pointee.wants_template != 0 { return }
            if !isShared { return fillMemoryObject(o, run) }
            guard run.address & 4095 == 0, run.address <= sharedSize(o), size <= sharedSize(o) - run.address else {
                refuseStatefile("run", at: run.file_offset, "lies outside its shared object")
            }
            readRun(run, to: objectStaging[o].pointee + run.address, frames: state.pointee.frames)
            if state.pointee.wants_template != 0 { noteMaster(o, run) }
        }
    }
}

/// Pages of a memfd or deleted file that were written through a shared mapping.
private func fillMemoryObject(_ o: Int, _ run: ckpt_run) {
    guard objectFd[o].pointee >= 0 else { refuseStatefile("run", at: run.file_offset, "names an object without contents") }
    if objects[o].pointee.page_shift != 0 { return fillHugeObject(o, run) }
    let b = state.pointee.frames + frameRoom, n = Int(run.pages) * 4096
    readRun(run, to: b, frames: state.pointee.frames)
    let r = writeAll(objectFd[o].pointee, UnsafeRawPointer(bitPattern: UInt(b))!, n, at: run.address)
    guard r == n else { refuse(r) { l in putObject(o, &l); l.put("cannot be written") } }
}
/// pwrite(2) until all is there, or what it said.
private func writeAll(_ fd: Int32, _ p: UnsafeRawPointer, _ n: Int, at offset: UInt64) -> Int {
    var done = 0
    while done < n {
        let r = ckpt_pwrite(fd, p + done, n - done, offset + UInt64(done))
        if r == -4 { continue }
        if r <= 0 { return r < 0 ? r : -28 }
        done += r
    }
    return done
}
