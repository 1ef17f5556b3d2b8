// Namespaces that the tree had for itself: host names (uts), System V IPC and message queues (ipc), networks (net).
// Those that all of it lived in the engine enters before it makes anything; those of a part the builder makes, and each process enters its own.
// No allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

private enum Namespace {
    static func flag(_ kind: UInt32) -> Int {
        switch kind {
        case CKPT_NAMESPACE_UTS.rawValue: 0x0400_0000
        case CKPT_NAMESPACE_IPC.rawValue: 0x0800_0000
        case CKPT_NAMESPACE_MOUNT.rawValue: 0x2_0000
        case CKPT_NAMESPACE_CGROUP.rawValue: 0x200_0000
        case CKPT_NAMESPACE_USER.rawValue: 0x1000_0000
        default: 0x4000_0000
        }
    }
    static func path(_ kind: UInt32) -> StaticString {
        switch kind {
        case CKPT_NAMESPACE_UTS.rawValue: "/proc/self/ns/uts"
        case CKPT_NAMESPACE_IPC.rawValue: "/proc/self/ns/ipc"
        case CKPT_NAMESPACE_MOUNT.rawValue: "/proc/self/ns/mnt"
        case CKPT_NAMESPACE_CGROUP.rawValue: "/proc/self/ns/cgroup"
        case CKPT_NAMESPACE_USER.rawValue: "/proc/self/ns/user"
        default: "/proc/self/ns/net"
        }
    }
    static func name(_ kind: UInt32) -> StaticString {
        switch kind {
        case CKPT_NAMESPACE_UTS.rawValue: "uts"
        case CKPT_NAMESPACE_IPC.rawValue: "ipc"
        case CKPT_NAMESPACE_USER.rawValue: "user"
        case CKPT_NAMESPACE_MOUNT.rawValue: "mnt"
        case CKPT_NAMESPACE_CGROUP.rawValue: "cgroup"
        case CKPT_NAMESPACE_TIME.rawValue: "time"
        default: "net"
        }
    }
}

func isWhole(_ i: Int) -> Bool { namespaces[i].pointee.flags & CKPT_NAMESPACE_WHOLE.rawValue != 0 }

func refuseNamespace(_ i: Int, _ r: Int) -> Never {
    refuse(r) { l in
        l.put("a "); l.put(Namespace.name(namespaces[i].pointee.kind)); l.put(" namespace of the tree cannot be made: "); putError(r, &l)
        l.put("; restart it as root")
    }
}

/// First of all, in the engine; what it was started in is what the tree is started in.
func enterWholeNamespaces() {
    noteNamespaces(engine_outer_namespaces())
    makeWhole(of: 0)
    for i in 0..<namespaces.count where isUser(i) && isWhole(i) { enterUsers(i); makeWhole(of: UInt32(i) + 1) }
}
/// What belongs to the user namespace that the engine is in.
private func makeWhole(of owner: UInt32) { for i in 0..<namespaces.count where isWhole(i) && !isUser(i) && namespaces[i].pointee.owner == owner { make(i) } }
func isUser(_ i: Int) -> Bool { namespaces[i].pointee.kind == CKPT_NAMESPACE_USER.rawValue }

/// In the builder, where the tree's pids are given.
func makePartNamespaces() {
    noteMade()
    if hasPartMounts { openProc() }
    for k in 0..<Int(CKPT_NAMESPACE_KINDS) { ckpt_session_namespaces(session)[k] = engine_outer_namespaces()[k] }
    for i in 0..<namespaces.count where !isWhole(i) && isUser(i) { letMake(i) }
    for i in 0..<namespaces.count where !isWhole(i) && !isUser(i) && !isPartMounts(i) && namespaces[i].pointee.kind != CKPT_NAMESPACE_PID.rawValue && namespaces[i].pointee.kind != CKPT_NAMESPACE_TIME.rawValue { letMake(i) }
    // They may show message queues and devices of the others.
    for i in 0..<namespaces.count where isPartMounts(i) { letMake(i); fillPartMounts(i) }
    // First all pairs, since a device is up when both ends are.
    letPartNetworks(makePartPairs); letPartNetworks(raisePartLinks); letPartNetworks(addressPart)
    makeTimeNamespaces()
}

/// While it is there.
private func openProc() {
    let r = ckpt_open(StaticString("/proc").cString, 0o12200000, 0)
    guard r >= 0 else { refuse(r) { $0.put("/proc: needed to make the mounts of a part of the tree") } }
    state.pointee.proc_folder = lift(Int32(truncatingIfNeeded: r), "/proc")
    var map = InlineArray<8, UInt64>(repeating: 0)
    let fd = inProc("/proc/self/uid_map")
    let n = withUnsafeMutableBytes(of: &map) { fd < 0 ? fd : ckpt_read(Int32(truncatingIfNeeded: fd), $0.baseAddress!, 63) }
    if fd >= 0 { _ = ckpt_close(Int32(truncatingIfNeeded: fd)) }
    // "0 0 4294967295", with blanks: all are called as they are in the first user namespace.
    let isWhole = withUnsafeMutableBytes(of: &map) { n > 0 && equal(words(in: $0.baseAddress!.assumingMemoryBound(to: CChar.self)), to: "0 0 4294967295") }
    state.pointee.is_root_of_user = n > 0 && !isWhole ? 1 : 0
}
/// One blank between words, none at the ends.
private func words(in text: UnsafeMutablePointer<CChar>) -> Text {
    var from = 0, to = 0
    while text[from] != 0 {
        let isBlank = text[from] == 32 || text[from] == 10
        if !isBlank { if to > 0 && (text[from - 1] == 32 || text[from - 1] == 10) { text[to] = 32; to += 1 }; text[to] = text[from]; to += 1 }
        from += 1
    }
    text[to] = 0
    return Text(text)
}
/// A path of /proc, though the mounts that this process is in may have none.
private func inProc(_ path: StaticString) -> Int {
    let folder = state.pointee.proc_folder, name = path.cString + 6        // behind "/proc/"
    return folder > 0 ? system(CKPT_SYS_openat, Int(folder), int(name), 0o2000000) : ckpt_open(path.cString, 0o2000000, 0)
}

private func letMake(_ i: Int) {
    // Ours, until the new one takes its place.
    if engine_namespace_fd(UInt32(i)).pointee <= 0 { engine_namespace_fd(UInt32(i)).pointee = lift(open(i), "namespace") }
    letChild(i, makePart)
}

/// Whoever is in a user namespace of the tree's can't return to what is outside of that: a child goes, which shares our descriptors.
func letChild(_ i: Int, _ entry: @convention(c) (UInt64) -> Void) {
    let shareFiles: UInt64 = 0x400
    let r = fork(pid: 0, flags: shareFiles, exitSignal: 0, argument: UInt64(i), entry)
    guard r > 0 else { refuseNamespace(i, r) }
    var status: Int32 = 0, e = -4
    while e == -4 { e = system(CKPT_SYS_wait4, r, int(&status), 0x4000_0000, 0) }
    guard e > 0, status == 0 else { refuseNamespace(i, e < 0 ? e : -5) }
}
private func letPartNetworks(_ entry: @convention(c) (UInt64) -> Void) { for i in 0..<namespaces.count where isPartNetwork(i) { letChild(i, entry) } }
/// A refusal in the child is told by the builder.
func beChild() { state.pointee.is_engine = 0; state.pointee.is_builder = 0 }

private let makePart: @convention(c) (UInt64) -> Void = { i in
    beChild()
    if isUser(Int(i)) { makeUsers(Int(i)) } else { if isPartMounts(Int(i)) { enterSource(Int(i)) }; enterOwner(Int(i)); make(Int(i)) }
    let made = open(Int(i)), r = system(CKPT_SYS_dup3, Int(made), Int(engine_namespace_fd(UInt32(i)).pointee), 0o2000000)
    guard r >= 0 else { refuseNamespace(Int(i), r) }
    _ = ckpt_close(made)
    ckpt_exit_group(0)
}
private let makePartPairs: @convention(c) (UInt64) -> Void = { i in visit(Int(i)) { makeNetwork(Int(i), CKPT_NETWORK_PAIR.rawValue...CKPT_NETWORK_PAIR.rawValue) } }
private let raisePartLinks: @convention(c) (UInt64) -> Void = { i in visit(Int(i)) { makeNetwork(Int(i), CKPT_NETWORK_LINK.rawValue...CKPT_NETWORK_LINK.rawValue) } }
private let addressPart: @convention(c) (UInt64) -> Void = { i in visit(Int(i)) { makeNetwork(Int(i), CKPT_NETWORK_ADDRESS.rawValue...CKPT_NETWORK_ROUTE.rawValue); set(Int(i)) } }
private func visit(_ i: Int, _ body: () -> Void) -> Never {
    beChild()
    let r = enterPart(i)
    guard r == 0 else { refuseNamespace(i, r) }
    body()
    ckpt_exit_group(0)
}

/// What the restart has made anew for all stands for what the tree was started in, unless that had its own.
private func noteMade() {
    let numbers = engine_outer_namespaces(), mount = Int(CKPT_NAMESPACE_MOUNT.rawValue) - 1
    let before = numbers[mount]
    noteNamespaces(numbers, from: state.pointee.own_users != 0 ? CKPT_NAMESPACE_MOUNT.rawValue : CKPT_NAMESPACE_USER.rawValue)
    if isWhole(CKPT_NAMESPACE_MOUNT) { numbers[mount] = before }
    // One that the restart made around the tree, for its ids, is not the tree's own.
    if state.pointee.ipc_namespace != 0 { numbers[Int(CKPT_NAMESPACE_IPC.rawValue) - 1] = UInt32(truncatingIfNeeded: status(path: Namespace.path(CKPT_NAMESPACE_IPC.rawValue).cString).status.inode) }
}

/// Does the whole tree live in one of its own of this kind?
func isWhole(_ kind: ckpt_namespace_kind) -> Bool {
    for i in 0..<namespaces.count where isWhole(i) && namespaces[i].pointee.kind == kind.rawValue { return true }
    return false
}

/// In each process, before it becomes what it was.
func enterNamespaces(of i: Int) {
    enterTimes(i)
    enterOwn(i, outside: 0)
}
/// Those that this process may enter; only what is outside of a user namespace, unless 0.
func enterOwn(_ i: Int, outside users: UInt32) {
    let p = processes[i].pointee
    enter(p.cgroups, users); enter(p.uts, users); enter(p.ipc, users); enter(p.net, users)
}
/// The mounts come when everything that is found by outer paths is there; who was born inside of a user namespace is in those that are outside of it.
func enterMounts(of i: Int, outside users: UInt32) {
    if processes[i].pointee.mounts == 0 || state.pointee.entered_mounts == UInt32(processes[i].pointee.mounts) { return }
    enter(processes[i].pointee.mounts, users, isPatient: true)
}
private func enter(_ n: UInt8, _ outside: UInt32, isPatient: Bool = false) {
    if n == 0 { return }
    let owner = namespaces[Int(n) - 1].pointee.owner
    // Who was born inside of a user namespace is in those that are outside.
    if !isInside(owner, state.pointee.entered_users) || (outside != 0 && isInside(owner, outside)) { return }
    var r = enterPart(Int(n) - 1), patience = 0
    // A task that has filled memory may not be quite gone yet, and has the same working folder.
    while r == -22 && isPatient && patience < 10_000 { patience += 1; pause(milliseconds: 1); r = enterPart(Int(n) - 1) }
    guard r == 0 else { refuseNamespace(Int(n) - 1, r) }
    if isPatient { state.pointee.entered_mounts = UInt32(n) }
}
/// Where the whole tree lives everybody is.
func enterPart(_ i: Int) -> Int { isWhole(i) ? 0 : system(CKPT_SYS_setns, Int(engine_namespace_fd(UInt32(i)).pointee), Namespace.flag(namespaces[i].pointee.kind)) }

private func open(_ i: Int) -> Int32 {
    let r = inProc(Namespace.path(namespaces[i].pointee.kind))
    guard r >= 0 else { refuseNamespace(i, r) }
    return Int32(truncatingIfNeeded: r)
}

/// This process goes into a new one, which becomes as that of the tree was.
private func make(_ i: Int) {
    let n = namespaces[i].pointee
    if n.kind == CKPT_NAMESPACE_CGROUP.rawValue {
        let r = unshareControlGroups(root: bytes(n.host))
        guard r == 0 else { refuse(r) { l in l.put("control group "); l.put(text: bytes(n.host)); l.put(", the root of a cgroup namespace of the tree: "); putError(r, &l); l.put("; make it again (mkdir), and restart the tree as root") } }
        return
    }
    var r = system(CKPT_SYS_unshare, Namespace.flag(n.kind))
    guard r == 0 else { refuseNamespace(i, r) }
    if n.kind == CKPT_NAMESPACE_UTS.rawValue {
        let setHost = 170, setDomain = 171
        r = system(setHost, int(bytes(n.host)), length(bytes(n.host)))
        if r == 0 { r = system(setDomain, int(bytes(n.domain)), length(bytes(n.domain))) }
    } else if n.kind == CKPT_NAMESPACE_MOUNT.rawValue { if isWhole(i) { mountOwn(i) } else { makePartMounts(i) } }
    else if n.kind == CKPT_NAMESPACE_NET.rawValue && n.flags & CKPT_NAMESPACE_LOOPBACK.rawValue != 0 { r = raiseLoopback() }
    guard r == 0 else { refuseNamespace(i, r) }
    // Of a part: when all of them are there.
    if isPartNetwork(i) { return }
    if n.kind == CKPT_NAMESPACE_NET.rawValue { makeNetwork(i, CKPT_NETWORK_PAIR.rawValue...CKPT_NETWORK_ROUTE.rawValue) }
    set(i)
}

/// Some settings set others: all of them twice, and then they must be what they were.
private func set(_ i: Int) {
    for round in 0..<3 {
        for k in 0..<settings.count where settings[k].pointee.namespaces == UInt32(i) {
            let path = bytes(settings[k].pointee.path), value = bytes(settings[k].pointee.value)
            if round == 2 { check(path, value); continue }
            let fd = Int32(truncatingIfNeeded: ckpt_open(path, 0o2000001, 0))
            _ = ckpt_write(fd, value, length(value))
            if fd >= 0 { _ = ckpt_close(fd) }
        }
    }
}
private func check(_ path: Text, _ value: Text) {
    var text = InlineArray<1024, UInt8>(repeating: 0)
    let fd = Int32(truncatingIfNeeded: ckpt_open(path, 0o2000000, 0)), n = length(value)
    let got = fd < 0 ? Int(fd) : withUnsafeMutableBytes(of: &text) { ckpt_read(fd, $0.baseAddress!, 1023) }
    if fd >= 0 { _ = ckpt_close(fd) }
    var same = got >= n && n < 1023 && (got == n || text[n] == 10)
    for k in 0..<min(n, 1023) where text[k] != UInt8(bitPattern: value[k]) { same = false }
    if same { return }
    refuse(got < 0 ? got : -1) { l in l.put("setting "); l.put(text: path); l.put(" of a namespace of the tree cannot be "); l.put(text: value); l.put(" here; restart it as root") }
}

/// netdevice(7), SIOCSIFFLAGS: IFF_UP.  The addresses come by themselves.
private func raiseLoopback() -> Int {
    let socket = system(CKPT_SYS_socket, 2, 2 | 0o2000000, 0), setFlags = 0x8914, up: UInt64 = 1
    if socket < 0 { return socket }
    var request = InlineArray<5, UInt64>(repeating: 0)      // struct ifreq: the name, 16 bytes, then the flags
    request[0] = 0x6f6c                                     // "lo"
    request[2] = up
    let r = withUnsafeMutableBytes(of: &request) { system(CKPT_SYS_ioctl, socket, setFlags, int($0.baseAddress!)) }
    _ = ckpt_close(Int32(truncatingIfNeeded: socket))
    return r
}

/// What is mounted from here on is seen by nobody outside.
private func mountOwn(_ i: Int) {
    let none = StaticString("none").cString, root = StaticString("/").cString, bind = 0x1000, remount = 0x20, readOnly = 1
    var r = system(CKPT_SYS_mount, int(none), int(root), 0, 0x4000 | 1 << 18, 0)
    guard r == 0 else { refuseNamespace(i, r) }
    for k in 0..<mounts.count where mounts[k].pointee.namespaces == UInt32(i) {
        let m = mounts[k].pointee, target = int(bytes(m.target)), flags = Int(m.flags)
        if m.kind == CKPT_MOUNT_BIND.rawValue {
            r = system(CKPT_SYS_mount, int(relocated(bytes(m.source))), target, 0, bind, 0)
            if r == 0 { r = system(CKPT_SYS_mount, int(none), target, 0, bind | remount | flags, 0) }
        } else if m.kind == CKPT_MOUNT_PROC.rawValue { continue         // when its pids are there
        } else {
            let tmpfs = StaticString("tmpfs").cString
            r = system(CKPT_SYS_mount, int(bytes(m.source)), target, int(tmpfs), flags & ~readOnly, int(bytes(m.options)))
            if r == 0 { fill(mount: k) }
            if r == 0 && flags & readOnly != 0 { r = system(CKPT_SYS_mount, int(none), target, 0, bind | remount | flags, 0) }
        }
        guard r == 0 else { refuse(r) { l in l.put("mount "); l.put(text: bytes(m.target)); l.put(" of the tree: "); putError(r, &l); l.put("; restart it where its folders are") } }
    }
}
