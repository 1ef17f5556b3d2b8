// Runs in the engine before the tree exists, on the region's stack; no allocation, no libc.
// Which process maps a file: /proc is looked through, before there is a process of the tree.
import CkptABI
import EngineBoot
import Freestanding
import CkptMemory

/// POSIX shared memory that others used at the checkpoint as well: its contents are theirs.
func refuseUsedOutside(_ i: Int) {
    guard objects[i].pointee.flags & CKPT_OBJECT_USED_OUTSIDE.rawValue != 0, state.pointee.ipc != ENGINE_IPC_ATTACH.rawValue else { return }
    refuse(.lacks) { l in putObject(i, &l); l.put("shared memory that programs outside the tree use as well; to go on with it as it is now, use --ipc attach") }
}

/// The first process that maps the file below /dev/shm that has this name now; 0: none that may be looked at.
func processMapping(_ i: Int) -> Int32 {
    let inode = status(of: i).status.inode
    let entries = UnsafeMutableRawPointer(bitPattern: UInt(state.pointee.copy))!, capacity = 32768
    let folder = ckpt_open(StaticString("/proc").cString, 0o2200000, 0)
    guard folder >= 0 else { return 0 }
    defer { _ = ckpt_close(Int32(truncatingIfNeeded: folder)) }
    while true {
        let n = system(CKPT_SYS_getdents64, folder, int(entries), capacity)
        if n <= 0 { return 0 }
        var at = 0
        while at + 19 < n {
            let size = Int(field(entries, at + 16, UInt16.self)), pid = number(entries + at + 19)
            if pid > 0 && maps(pid, inode) { return pid }
            if size == 0 { return 0 }
            at += size
        }
    }
}

private func number(_ text: UnsafeMutableRawPointer) -> Int32 {
    var v: Int32 = 0, i = 0
    while true {
        let c = field(text, i, UInt8.self)
        if c == 0 { return v }
        guard c >= 48, c <= 57, i < 8 else { return 0 }
        v = v &* 10 &+ Int32(c - 48)
        i += 1
    }
}

private func maps(_ pid: Int32, _ inode: UInt64) -> Bool {
    var l = Line()
    l.put("/proc/"); l.put(signed: Int64(pid)); l.put("/maps")
    let fd = l.withCString { Int32(truncatingIfNeeded: ckpt_open($0, 0o2000000, 0)) }
    guard fd >= 0 else { return false }
    defer { _ = ckpt_close(fd) }
    let buffer = UnsafeMutableRawPointer(bitPattern: UInt(state.pointee.chunk))!, capacity = 65536, newline: UInt8 = 10
    var held = 0
    while held < capacity {
        let n = ckpt_read(fd, buffer + held, capacity - held)
        if n <= 0 { return false }
        held += n
        var start = 0, i = 0
        while i < held {
            if field(buffer, i, UInt8.self) == newline {
                if names(buffer + start, i - start, inode) { return true }
                start = i + 1
            }
            i += 1
        }
        buffer.copyMemory(from: buffer + start, byteCount: held - start)
        held -= start
    }
    return false
}

/// "7f10-7f20 rw-s 00000000 00:16 42    /dev/shm/name": the inode is the fifth word.
private func names(_ line: UnsafeMutableRawPointer, _ size: Int, _ inode: UInt64) -> Bool {
    let space: UInt8 = 32
    var at = 0, words = 0
    while at < size && words < 4 {
        if field(line, at, UInt8.self) == space { words += 1 }
        at += 1
    }
    var v: UInt64 = 0
    while at < size, field(line, at, UInt8.self) != space { v = v &* 10 &+ UInt64(field(line, at, UInt8.self) &- 48); at += 1 }
    while at < size, field(line, at, UInt8.self) == space { at += 1 }
    let folder: StaticString = "/dev/shm/"
    guard v == inode, size - at > folder.utf8CodeUnitCount else { return false }
    for k in 0..<folder.utf8CodeUnitCount where field(line, at + k, UInt8.self) != folder.utf8Start[k] { return false }
    return true
}
