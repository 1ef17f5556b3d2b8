// Runs in the builder and its children, on the region's main stack; no allocation, no libc.
// The calls that make, attach and change single mounts (fsopen(2), open_tree(2), move_mount(2), mount_setattr(2)), by descriptors: no name is looked up twice.
import CkptABI
import EngineBoot
import Freestanding

private let closeOnExec = 0o2000000, pathOnly = 0o10000000, emptyPath = 0x1000, noFollow = 0x100

enum Propagation { static let unbindable = 1 << 17, single = 1 << 18, slave = 1 << 19, shared = 1 << 20 }

/// What mount(2) calls MS_RDONLY and so on, as MOUNT_ATTR_*.
func attributes(_ flags: UInt32) -> UInt64 {
    let noAccess: UInt32 = 1024, noFolderAccess: UInt32 = 2048, relative: UInt32 = 1 << 21, noLinks: UInt32 = 256
    return UInt64(flags & 15) | (flags & noLinks != 0 ? 0x20_0000 : 0) | (flags & noAccess != 0 ? 0x10 : flags & relative != 0 ? 0 : 0x20) | (flags & noFolderAccess != 0 ? 0x80 : 0)
}
private let allAttributes: UInt64 = 15 | 0x20_0000 | 0x70 | 0x80

func setAttributes(_ mount: Int32, _ flags: UInt32) -> Int { change(mount, set: attributes(flags), clear: allAttributes, propagation: 0) }
func setPropagation(_ mount: Int32, _ kind: Int) -> Int { change(mount, set: 0, clear: 0, propagation: UInt64(kind)) }
private func change(_ mount: Int32, set: UInt64, clear: UInt64, propagation: UInt64) -> Int {
    var a = (set, clear, propagation, UInt64(0))            // struct mount_attr
    return system(CKPT_SYS_mount_setattr, Int(mount), int(StaticString("").cString), emptyPath, int(&a), 32)
}

/// A copy of what is at a path below `folder`, not attached anywhere yet; with all that is mounted in it if that may not be left out.
func copyTree(_ folder: Int, _ path: Text, withAll: inout Bool) -> Int {
    let clone = 1, recursive = 0x8000, empty = path.pointee == 0 ? emptyPath : 0, invalid = -22
    withAll = false
    let r = system(CKPT_SYS_open_tree, folder, int(path), clone | closeOnExec | empty | noFollow)
    if r != invalid { return r }
    withAll = true
    return system(CKPT_SYS_open_tree, folder, int(path), clone | recursive | closeOnExec | empty | noFollow)
}

/// Its file system as a whole, which nobody has open for writing.
func makeReadOnly(_ mount: Int32) -> Int {
    let setFlag = 0, reconfigure = 7, empty = 8
    let fs = system(CKPT_SYS_fspick, Int(mount), int(StaticString("").cString), 1 | empty)
    if fs < 0 { return fs }
    defer { _ = ckpt_close(Int32(truncatingIfNeeded: fs)) }
    let r = system(CKPT_SYS_fsconfig, fs, setFlag, int(StaticString("ro").cString))
    return r < 0 ? r : system(CKPT_SYS_fsconfig, fs, reconfigure)
}

/// On the place that `to` is, above what may be mounted there.
func attach(_ mount: Int32, to: Int32) -> Int {
    let emptySource = 4, emptyTarget = 0x40, none = int(StaticString("").cString)
    return system(CKPT_SYS_move_mount, Int(mount), none, Int(to), none, emptySource | emptyTarget)
}
/// Makes a private mount the peer, or the slave, that another is.
func joinPeers(_ mount: Int32, of other: Int32) -> Int {
    let emptySource = 4, emptyTarget = 0x40, setGroup = 0x100, none = int(StaticString("").cString)
    return system(CKPT_SYS_move_mount, Int(other), none, Int(mount), none, emptySource | emptyTarget | setGroup)
}

/// Opens a name by its path alone, through no link.
func openPlace(_ folder: Int, _ path: Text, followsLinks: Bool = false, belowOnly: Bool = false) -> Int {
    let noLinks: UInt64 = 4, noMagicLinks: UInt64 = 2, below: UInt64 = 8
    if path.pointee == 0 { return system(CKPT_SYS_openat, folder, int(StaticString(".").cString), pathOnly | closeOnExec) }
    var how = (UInt64(pathOnly | closeOnExec | (followsLinks ? 0 : 0o400000)), UInt64(0), (followsLinks ? 0 : noLinks | noMagicLinks) | (belowOnly ? below : 0))       // struct open_how
    return system(CKPT_SYS_openat2, folder, int(path), int(&how), 24)
}

/// The number of the mount in which an open file lies.
func mountNumber(_ fd: Int32) -> Int32 { statx(fd, askMount).map { Int32(truncatingIfNeeded: $0[18]) } ?? -1 }
/// Is that what is mounted there, and not merely a folder?
func isMountRoot(_ fd: Int32) -> Bool { statx(fd, askMount).map { $0[1] & 0x2000 != 0 } ?? false }
/// When a file was made, in ns; nil: its file system does not know.
func birth(_ fd: Int32) -> UInt64? {
    guard let s = statx(fd, askBirth), s[0] & UInt64(askBirth) != 0 else { return nil }
    return s[10] &* 1_000_000_000 &+ (s[11] & 0xffff_ffff)
}
private let askMount = 0x1000, askBirth = 0x800
private func statx(_ fd: Int32, _ asked: Int) -> InlineArray<32, UInt64>? {
    var words = InlineArray<32, UInt64>(repeating: 0)
    let r = withUnsafeMutableBytes(of: &words) { system(CKPT_SYS_statx, Int(fd), int(StaticString("").cString), emptyPath, asked, int($0.baseAddress!)) }
    return r == 0 ? words : nil
}

/// A new file system, as the options of its mount say: "size=1024k,mode=755"; not attached anywhere.
func makeFileSystem(_ type: Text, source: Text, options: Text, flags: UInt32, owner: UInt32) -> Int {
    let setString = 1, setFlag = 0, create = 6
    let fs = system(CKPT_SYS_fsopen, int(type), 1)
    if fs < 0 { return fs }
    defer { _ = ckpt_close(Int32(truncatingIfNeeded: fs)) }
    _ = system(CKPT_SYS_fsconfig, fs, setString, int(StaticString("source").cString), int(source))
    var r = 0, at = 0
    while options[at] != 0 && r == 0 {
        var key = Line(), value = Line(), hasValue = false
        // A list of NUMA nodes has commas of its own.
        while options[at] != 0 && (options[at] != 44 || options[at + 1] >= 48 && options[at + 1] <= 57) {
            if options[at] == 61 && !hasValue { hasValue = true } else if hasValue { value.put(byte: UInt8(bitPattern: options[at])) } else { key.put(byte: UInt8(bitPattern: options[at])) }
            at += 1
        }
        if options[at] == 44 { at += 1 }
        r = key.withCString { k in
            // Who owns it is told as whoever makes it calls him.
            let isUser = equal(k, to: "uid"), isGroup = equal(k, to: "gid")
            if isUser || isGroup {
                let id = value.withCString { decimal($0) }
                var own = Line()
                own.put(decimal: UInt64(owner == 0 ? id : inside(id, isGroup: isGroup ? 1 : 0, of: Int(owner) - 1) ?? id))
                return own.withCString { system(CKPT_SYS_fsconfig, fs, setString, int(k), int($0)) }
            }
            return hasValue ? value.withCString { system(CKPT_SYS_fsconfig, fs, setString, int(k), int($0)) } : system(CKPT_SYS_fsconfig, fs, setFlag, int(k))
        }
    }
    if r == 0 { r = system(CKPT_SYS_fsconfig, fs, create) }
    return r < 0 ? r : system(CKPT_SYS_fsmount, fs, 1, Int(attributes(flags)))
}
private func decimal(_ t: Text) -> UInt32 {
    var v: UInt32 = 0, i = 0
    while t[i] >= 48 && t[i] <= 57 { v = v &* 10 &+ UInt32(t[i] - 48); i += 1 }
    return v
}
