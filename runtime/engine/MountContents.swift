// What was in a tmpfs that only the tree sees, before anything looks for its files; no allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

private let fchownat = 260, noFollow = 0x100, emptyPath = 0x1000

func fill(mount k: Int) {
    let root = ckpt_open(bytes(mounts[k].pointee.target), 0o2200000, 0)
    guard root >= 0 else { refuseEntry(nil, root, k) }
    fill(mount: k, root: root)
    _ = ckpt_close(Int32(truncatingIfNeeded: root))
}
func fill(mount k: Int, root: Int) {
    let buffer = anonymous(65536)
    for i in 0..<entries.count where entries[i].pointee.mount == UInt32(k) { make(i, root, buffer, k) }
    for i in 0..<entries.count where entries[i].pointee.mount == UInt32(k) && entries[i].pointee.after != 0 { skipPositions(entries[i].pointee.after, inFolder: i, root, buffer, k) }
    for i in 0..<entries.count where entries[i].pointee.mount == UInt32(k) && entries[i].pointee.listing != 0 { compareListing(i, root, buffer, k) }
    // A folder's times change with what is put into it, and when it is read.
    var i = entries.count - 1
    while i >= 0 {
        if entries[i].pointee.mount == UInt32(k) && entries[i].pointee.link == 0 { setTimes(i, root, k) }
        i -= 1
    }
    _ = ckpt_munmap(UInt64(UInt(bitPattern: buffer)), 65536)
}

private func refuseEntry(_ i: Int?, _ r: Int, _ k: Int) -> Never {
    refuse(r) { l in
        l.put("mount "); l.put(text: bytes(mounts[k].pointee.target))
        if let i { l.put(": "); l.put(text: bytes(entries[i].pointee.path)) }
        l.put(" cannot be made again: "); putError(r, &l)
        let overflow = -75
        l.put(r == overflow ? "; restart it as the user whose it is" : "; restart it as root")
    }
}

/// "." stands for the tmpfs itself.
private func name(_ i: Int) -> Int { bytes(entries[i].pointee.path).pointee == 0 ? int(StaticString(".").cString) : int(bytes(entries[i].pointee.path)) }

private func make(_ i: Int, _ root: Int, _ buffer: UnsafeMutableRawPointer, _ k: Int) {
    let e = entries[i].pointee, path = name(i), kind = e.mode & 0o170000
    if e.gap != 0 { skipPositions(e.gap, before: i, root, buffer, k) }
    if e.link != 0 {
        let r = asOwner(e.uid, e.gid) { system(CKPT_SYS_linkat, root, name(Int(e.link) - 1), root, path, 0) }
        guard r == 0 else { refuseEntry(i, r, k) }
        return
    }
    var r = asOwner(e.uid, e.gid) {
        switch kind {
        case 0o040000: e.path != 0 && bytes(e.path).pointee != 0 ? system(CKPT_SYS_mkdirat, root, path, 0o700) : 0
        case 0o120000: system(CKPT_SYS_symlinkat, int(bytes(e.target)), root, path)
        case 0o100000: write(i, root, path, buffer)
        default: system(CKPT_SYS_mknodat, root, path, Int(kind | 0o600), int(e.rdev))
        }
    }
    if r == 0 { r = system(fchownat, root, path, Int(e.uid), Int(e.gid), noFollow) }
    if r == 0 && kind != 0o120000 { r = system(CKPT_SYS_fchmodat, root, path, Int(e.mode & 0o7777)) }
    guard r == 0 else { refuseEntry(i, r, k) }
}

/// In a folder that is open, the positions of names that were gone.
private func skipPositions(_ count: UInt32, before i: Int, _ root: Int, _ buffer: UnsafeMutableRawPointer, _ k: Int) {
    let path = bytes(entries[i].pointee.path), slash: CChar = 47
    var n = 0, folder = 0
    while path[n] != 0 { n += 1; if path[n - 1] == slash { folder = n } }
    skipPositions(count, path, folder, i, root, buffer, k)
}
private func skipPositions(_ count: UInt32, inFolder i: Int, _ root: Int, _ buffer: UnsafeMutableRawPointer, _ k: Int) {
    skipPositions(count, bytes(entries[i].pointee.path), length(bytes(entries[i].pointee.path)), i, root, buffer, k)
}
/// By a name that nobody has: the first `n` bytes of the path, and that.
private func skipPositions(_ count: UInt32, _ path: Text, _ n: Int, _ i: Int, _ root: Int, _ buffer: UnsafeMutableRawPointer, _ k: Int) {
    let e = entries[i].pointee, other = buffer.assumingMemoryBound(to: CChar.self), stem = StaticString(".ckpt-gone-0").cString, regular = 0o100600, slash: CChar = 47, taken = -17
    var at = 0, j = 0, left = count
    while at < n { other[at] = path[at]; at += 1 }
    if n > 0 && path[n - 1] != slash { other[at] = slash; at += 1 }
    while stem[j] != 0 { other[at + j] = stem[j]; j += 1 }
    other[at + j] = 0
    while left > 0 {
        var r = asOwner(e.uid, e.gid) { system(CKPT_SYS_mknodat, root, int(buffer), regular, 0) }
        if r == taken && other[at + j - 1] < 57 { other[at + j - 1] += 1; continue }
        if r == 0 { r = system(CKPT_SYS_unlinkat, root, int(buffer), 0) }
        guard r == 0 else { refuseEntry(i, r, k) }
        left -= 1
    }
}

/// FoldersInReading.digest
private func compareListing(_ i: Int, _ root: Int, _ buffer: UnsafeMutableRawPointer, _ k: Int) {
    let folder = system(CKPT_SYS_openat, root, name(i), 0o2200000)
    guard folder >= 0 else { refuseEntry(i, folder, k) }
    var crc: UInt32 = 0
    while true {
        let n = system(CKPT_SYS_getdents64, folder, int(buffer), 65536)
        guard n >= 0 else { refuseEntry(i, n, k) }
        if n == 0 { break }
        var at = 0
        while at < n {
            let name = (buffer + at + 19).assumingMemoryBound(to: CChar.self)
            var length = 0
            while name[length] != 0 { length += 1 }
            crc = ckpt_crc32c_hw(crc, name, length)
            crc = ckpt_crc32c_hw(crc, buffer + at + 8, 8)
            at += Int(field(buffer, at + 16, UInt16.self))
        }
    }
    _ = ckpt_close(Int32(truncatingIfNeeded: folder))
    if entries[i].pointee.listing == 1 << 32 | UInt64(crc) { return }
    refuse(.lacks) { l in
        l.put("mount "); l.put(text: bytes(mounts[k].pointee.target)); l.put("/"); l.put(text: bytes(entries[i].pointee.path))
        l.put(": the program was reading this folder, and this kernel would list it differently; restart it on the release of Linux where it was running")
    }
}

/// Pages of zeros stay holes.
private func write(_ i: Int, _ root: Int, _ path: Int, _ buffer: UnsafeMutableRawPointer) -> Int {
    let e = entries[i].pointee, open = system(CKPT_SYS_openat, root, path, 0o2000302, 0o600)
    if open < 0 { return open }
    let fd = Int32(truncatingIfNeeded: open)
    var r = system(CKPT_SYS_ftruncate, open, int(e.size)), at: UInt64 = 0
    while r == 0 && at < e.size {
        let seekData = 3, noData = -6, data = system(CKPT_SYS_lseek, Int(state.pointee.statefile), int(e.content + at), seekData)
        if data == noData { break }
        if data > int(e.content + at) { at = (UInt64(data) - e.content) & ~4095 }
        if at >= e.size { break }
        let n = min(4096, e.size - at)
        readStatefile(buffer, n, at: e.content + at)
        if !isZero(buffer, Int(n)) {
            let done = system(CKPT_SYS_pwrite64, open, int(buffer), Int(n), int(at))
            if done != Int(n) { r = done < 0 ? done : -28 }
        }
        at += n
    }
    _ = ckpt_close(fd)
    return r
}
private func setTimes(_ i: Int, _ root: Int, _ k: Int) {
    var times = (entries[i].pointee.accessed, entries[i].pointee.modified)
    let r = system(CKPT_SYS_utimensat, root, name(i), int(&times), noFollow)
    guard r == 0 else { refuseEntry(i, r, k) }
}
