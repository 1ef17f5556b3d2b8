// Runs in the engine before the tree exists, on the region's stack; no allocation, no libc.
// Pipes and FIFOs with what is in them.  All their descriptions are opened here and inherited, so that no end is missing at any moment.
import CkptABI
import EngineBoot
import Freestanding

func makePipes() {
    for i in 0..<objects.count where isOfThisPlace(i) {
        if objects[i].pointee.kind == CKPT_OBJECT_PIPE.rawValue { makePipe(i) }
        if objects[i].pointee.kind == CKPT_OBJECT_FIFO.rawValue { openFifo(i) }
    }
}

private let accessMode: UInt32 = 3, writeOnly: UInt32 = 1

private func putPipe(_ i: Int, _ l: inout Line) {
    if objects[i].pointee.kind == CKPT_OBJECT_FIFO.rawValue { putObject(i, &l) } else { l.put("pipe "); l.put(decimal: objects[i].pointee.inode); l.put(": ") }
}

private func makePipe(_ i: Int) {
    var ends = InlineArray<2, Int32>(repeating: -1)
    let r = withUnsafeMutableBytes(of: &ends) { system(CKPT_SYS_pipe2, int($0.baseAddress!), 0o2004000) }
    guard r == 0 else { refuse(r) { l in putPipe(i, &l); l.put("cannot be made") } }
    let read = lift(ends[0], "pipe"), write = lift(ends[1], "pipe")
    setSize(i, write)
    fill(i, write)
    var usedRead = false, usedWrite = false
    for d in 0..<descriptions.count where descriptions[d].pointee.object == i {
        let mode = descriptions[d].pointee.flags & accessMode
        let end = mode == writeOnly ? write : read
        let taken = mode == writeOnly ? usedWrite : usedRead
        if mode == 2 || taken { descriptionFd[d].pointee = reopen(end, descriptions[d].pointee.flags, i) }
        else if mode == writeOnly { usedWrite = true; descriptionFd[d].pointee = write }
        else { usedRead = true; descriptionFd[d].pointee = read }
        setFlags(descriptionFd[d].pointee, descriptions[d].pointee.flags)
    }
    if !usedRead { _ = ckpt_close(read) }
    if !usedWrite { _ = ckpt_close(write) }
}

private func setSize(_ i: Int, _ fd: Int32) {
    let size = objects[i].pointee.size
    guard size > 0 else { return }
    if system(CKPT_SYS_fcntl, Int(fd), 1032) == int(size) { return }
    let r = system(CKPT_SYS_fcntl, Int(fd), 1031, int(size))
    guard r >= 0 else {
        refuse(r) { l in putPipe(i, &l); l.put("cannot hold "); l.put(decimal: size); l.put(" bytes (raise sysctl fs.pipe-max-size or fs.pipe-user-pages-soft)") }
    }
}

private func fill(_ i: Int, _ fd: Int32) {
    let o = objects[i], b = UnsafeMutableRawPointer(bitPattern: UInt(state.pointee.copy))!
    var at: UInt64 = 0
    while at < o.pointee.content_size {
        let n = min(65536, o.pointee.content_size - at)
        readStatefile(b, n, at: o.pointee.content + at)
        let r = ckpt_write(fd, b, Int(n))
        guard r > 0 else { refuse(r) { l in putPipe(i, &l); l.put("its contents do not fit") } }
        at += UInt64(r)
    }
}

/// Another description of the same file.
func reopen(_ fd: Int32, _ flags: UInt32, _ object: Int) -> Int32 {
    var l = Line()
    l.put("/proc/self/fd/"); l.put(signed: Int64(fd))
    let r = l.withCString { ckpt_open($0, Int32(bitPattern: flags & reopenable | 0o2004000), 0) }
    guard r >= 0 else { refuse(r) { l in putObject(object, &l); l.put("cannot be opened again") } }
    return lift(Int32(truncatingIfNeeded: r), "file of the tree")
}
/// Access mode, APPEND, NONBLOCK, SYNC, DIRECT, LARGEFILE, NOATIME, PATH, DIRECTORY.
private let reopenable: UInt32 = 3 | 0o2000 | 0o4000 | 0o4010000 | 0o40000 | 0o100000 | 0o1000000 | 0o10000000 | 0o200000

/// The flags that F_SETFL can change; O_ASYNC comes last, with its owner.
func setFlags(_ fd: Int32, _ flags: UInt32) { _ = system(CKPT_SYS_fcntl, Int(fd), 4, Int(flags & (0o2000 | 0o4000 | 0o40000 | 0o1000000))) }

/// While it is filled a FIFO has a reader, so that what is written stays in it, and a writer, so that no open waits for one.
private func openFifo(_ i: Int) {
    let r = hasLostName(i) ? anchors[i].pointee >= 0 ? Int(anchors[i].pointee) : makeNameless(i) : openFile(i, 0o2004000)
    guard r >= 0 else { refuseFile(i, r) { l in putObject(i, &l); l.put("cannot be opened") } }
    let reader = lift(Int32(truncatingIfNeeded: r), "FIFO"), writer = isLed(i) && !hasLostName(i) ? openEnd(i, writeOnly) : reopen(reader, writeOnly, i)
    setSize(i, writer)
    fill(i, writer)
    for d in 0..<descriptions.count where descriptions[d].pointee.object == i && descriptions[d].pointee.no_hangup == 0 { openEnd(d, i, reader) }
    _ = ckpt_close(writer)
    // An end that is opened without a writer waits for the first one, and reports no hang-up before.
    for d in 0..<descriptions.count where descriptions[d].pointee.object == i && descriptions[d].pointee.no_hangup != 0 { openEnd(d, i, reader) }
    _ = ckpt_close(reader)
    if hasLostName(i) { anchors[i].pointee = -1 }
}
private func openEnd(_ d: Int, _ i: Int, _ reader: Int32) {
    let flags = descriptions[d].pointee.flags
    descriptionFd[d].pointee = hasLostName(i) ? reopen(reader, flags, i) : openEnd(i, flags)
    setFlags(descriptionFd[d].pointee, flags)
}
private func openEnd(_ i: Int, _ flags: UInt32) -> Int32 {
    let r = openFile(i, Int32(bitPattern: flags & reopenable | 0o2004000))
    guard r >= 0 else { refuseFile(i, r) { l in putObject(i, &l); l.put("cannot be opened") } }
    return lift(Int32(truncatingIfNeeded: r), "FIFO")
}

func hasLostName(_ i: Int) -> Bool { objects[i].pointee.flags & CKPT_OBJECT_UNNAMED.rawValue != 0 }

/// A FIFO that was removed while it was open: made where it was if that is possible, else among the sessions, and removed again.
func makeNameless(_ i: Int) -> Int {
    _ = isLed(i)        // uses the path's buffer
    let path = pathInside(i), r = asMaker(of: i, at: path) { makeAndRemove(path, in: -100, objects[i].pointee) }
    if r >= 0 { return r }
    var l = Line()
    l.put("fifo-"); l.put(decimal: UInt64(ckpt_getpid()))
    let folder = openSessionDirectory()
    if folder < 0 { return Int(folder) }
    defer { _ = ckpt_close(folder) }
    return l.withCString { makeAndRemove($0, in: folder, objects[i].pointee) }
}
private func makeAndRemove(_ path: Text, in folder: Int32, _ o: ckpt_object_record) -> Int {
    let r = system(CKPT_SYS_mknodat, Int(folder), int(path), Int(o.mode & 0o170777), 0)
    if r < 0 { return r }
    let fd = ckpt_openat(folder, path, 0o2404000, 0)
    // Whose folder it is may have put something else there.
    if fd >= 0 {
        let st = status(fd: Int32(truncatingIfNeeded: fd))
        guard st.kind == 0o010000, st.links == 1 else { _ = ckpt_close(Int32(truncatingIfNeeded: fd)); return -17 }
    }
    if fd >= 0 && effectiveCapabilities() & 1 != 0 { _ = system(93, fd, Int(o.uid), Int(o.gid)) }     // fchown(2)
    _ = system(CKPT_SYS_unlinkat, Int(folder), int(path), 0)
    return fd
}
