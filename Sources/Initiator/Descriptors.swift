// Descriptors as /proc/PID/fd and fdinfo show them.
import CkptABI
import CkptSession
import CkptSystem

func observeDescriptors(_ pid: Int32) throws(SystemError) -> [ObservedDescriptor] {
    var result: [ObservedDescriptor] = []
    for number in (try Path.names(in: "/proc/\(pid)/fd")).compactMap({ Int32($0) }).sorted() { result.append(try observeDescriptor(pid, number)) }
    return result
}

func observeDescriptor(_ pid: Int32, _ number: Int32) throws(SystemError) -> ObservedDescriptor {
    let path = "/proc/\(pid)/fd/\(number)"
    let link = try Path.link(path), info = try Path.text("/proc/\(pid)/fdinfo/\(number)"), s = try Path.status(path)
    var d = ObservedDescriptor(number: number, link: link, mode: UInt32(s.st_mode), device: s.deviceNumber, inode: s.inodeNumber, rdev: UInt64(s.st_rdev),
                               size: UInt64(s.st_size), links: UInt64(s.st_nlink), uid: s.st_uid, gid: s.st_gid,
                               modified: (Int64(s.st_mtim.tv_sec), Int64(s.st_mtim.tv_nsec)), flags: 0, position: 0, locks: [])
    for line in info.split(separator: "\n") {
        let parts = line.split(separator: ":", maxSplits: 1)
        guard parts.count == 2 else { continue }
        let value = parts[1].drop { $0 == "\t" || $0 == " " }
        switch parts[0] {
        case "pos": d.position = UInt64(value) ?? 0
        case "mnt_id": d.mount = Int32(value) ?? 0
        case "tty-index": d.terminalIndex = Int32(value) ?? -1
        case "flags": d.flags = UInt32(value, radix: 8) ?? 0
        case "lock": if let l = observeLock(value) { d.locks.append(l) }
        default: break
        }
    }
    return d
}

/// "1: POSIX  ADVISORY  WRITE 812 fe:00:1234 0 EOF": proc(5), /proc/locks.
private func observeLock(_ text: Substring) -> ObservedLock? {
    let f = text.split(separator: " ")
    guard f.count >= 8, let start = UInt64(f[6]) else { return nil }
    let kind: ckpt_lock_kind
    switch f[1] {
    case "POSIX": kind = CKPT_LOCK_POSIX
    case "FLOCK": kind = CKPT_LOCK_FLOCK
    case "OFDLCK": kind = CKPT_LOCK_OFD
    default: return ObservedLock(kind: CKPT_LOCK_LEASE, isExclusive: f[3] == "WRITE", start: 0, length: 0, isBreaking: f[2] != "ACTIVE")
    }
    let length = f[7] == "EOF" ? 0 : (UInt64(f[7]) ?? start) - start + 1
    return ObservedLock(kind: kind, isExclusive: f[3] == "WRITE", start: start, length: length)
}
