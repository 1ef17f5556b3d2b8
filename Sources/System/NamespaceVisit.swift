// What can only be seen from inside of a namespace: this thread goes in for a moment.  Who is not root first has to become the owner of the
// namespace, which is for ever: a child does that.  It shares memory and descriptors with us, and we stand still meanwhile; so `body` runs as it would here.
import CkptABI
import Glibc

extension Namespace {
    /// Runs `body` in that namespace.
    public static func inside<T>(_ path: String, _ kind: Kind, _ body: () -> T) throws(SystemError) -> T { try visit(path, kind, isNew: false, body) }
    /// Runs `body` in a new one, made by whom that other one belongs to.
    public static func insideNew<T>(like path: String, _ kind: Kind, _ body: () -> T) throws(SystemError) -> T { try visit(path, kind, isNew: true, body) }

    /// The maps of a user namespace where perhaps nobody lives.
    public static func idMaps(inside users: Member) throws(SystemError) -> (users: String, groups: String, setgroups: String) {
        var maps: Result<(users: String, groups: String, setgroups: String), SystemError>?
        let r = try Visitor(owner: users.file, enter: { 0 }) {
            do throws(SystemError) { maps = .success(try idMaps("/proc/thread-self")) } catch { maps = .failure(error) }
        }.run()
        guard let maps, r == 0 else { throw SystemError("setns", errno: r != 0 ? r : ECHILD) }
        return try maps.get()
    }

    /// The device of an IPC namespace's POSIX message queues, which is nobody else's; nil: we may not know.  It is mounted nowhere.
    public static func queuesDevice(_ path: String) -> UInt64? {
        if let device = (try? inside(path, ipc, { MessageQueues.device })) ?? nil { return device }
        // Who becomes the namespace's owner has no power over the mounts here.
        guard let there = try? File(path), let owner = try? ownerFile(there) else { return nil }
        var device: UInt64?
        let newMounts = 0x2_0000
        _ = try? Visitor(owner: owner, enter: {
            let r = ckpt_syscall(CKPT_SYS_unshare, newMounts, 0, 0, 0, 0, 0)
            return r == 0 ? enter(there, ipc, false) : r
        }) { device = MessageQueues.device }.run()
        return device
    }

    /// The mounts of a process's mount namespace, all of them, as somebody without another root folder sees them.
    public static func mounts(_ pid: Int32) throws(SystemError) -> [Mount] {
        if number(pid, "mnt") == number(Kernel.processID, "mnt") { return try Mount.all(of: "self") }
        var r = -1
        try inMounts(of: pid) { proc in r = ckpt_openat(proc, "thread-self/mountinfo", O_RDONLY | O_CLOEXEC, 0) }
        if r < 0 { throw SystemError("mountinfo", errno: Int32(-r)) }
        let atMost = 16 << 20
        return Mount.all(in: String(name: try File(adopting: Int32(r)).read(at: 0, count: atMost)))
    }
    /// The mount at a path there, without what is mounted in it; by a descriptor.  `covers`: what lies over it, the uppermost first, which only the child takes away;
    /// it does that in a copy, where also what is unbindable can be opened.
    public static func mount(at path: String, of pid: Int32, under covers: [String] = [], inCopy: Bool = false) throws(SystemError) -> File {
        let clone = 1, newMounts = 0x2_0000, private_ = 0x4000 | 1 << 18, detach = 2
        var r = -Int(ECHILD)
        try inMounts(of: pid) { _ in
            if inCopy || !covers.isEmpty {
                r = ckpt_syscall(CKPT_SYS_unshare, newMounts, 0, 0, 0, 0, 0)
                if r == 0 { r = "/".systemName.withUnsafeBufferPointer { ckpt_syscall(CKPT_SYS_mount, 0, Int(bitPattern: $0.baseAddress!), 0, private_, 0, 0) } }
                for c in covers where r == 0 { r = c.systemName.withUnsafeBufferPointer { ckpt_syscall(CKPT_SYS_umount2, Int(bitPattern: $0.baseAddress!), detach, 0, 0, 0, 0) } }
                if r != 0 { return }
            }
            r = path.systemName.withUnsafeBufferPointer { ckpt_syscall(CKPT_SYS_open_tree, Int(AT_FDCWD), Int(bitPattern: $0.baseAddress!), clone | Int(O_CLOEXEC), 0, 0, 0) }
        }
        if r < 0 { throw SystemError("open_tree \(path)", errno: Int32(-r)) }
        return File(adopting: Int32(r))
    }
    /// Runs `body` in a child that is in a process's mount namespace, with a descriptor of our /proc.
    private static func inMounts(of pid: Int32, _ body: (Int32) -> Void) throws(SystemError) {
        let there = try File("/proc/\(pid)/ns/mnt"), proc = try File("/proc", flags: O_RDONLY | O_DIRECTORY), newMounts = 0x2_0000
        func go() -> Int { ckpt_syscall(CKPT_SYS_setns, Int(there.number), newMounts, 0, 0, 0, 0) }
        let notPermitted = EPERM
        var r = notPermitted
        for owner in [nil, try? ownerFile(there)] where r == notPermitted {
            r = try withoutActuallyEscaping({ body(proc.number) }) { (body) throws(SystemError) in try Visitor(owner: owner, enter: go, body).run() }
        }
        if r != 0 { throw SystemError("setns", errno: r) }
    }

    private static func visit<T>(_ path: String, _ kind: Kind, isNew: Bool, _ body: () -> T) throws(SystemError) -> T {
        let there = try File(path), home = try File("/proc/thread-self/ns/\(kind.name)")
        // Root of a user namespace may enter its own namespaces, and not come back into one that belongs to another.
        let mayReturn = ckpt_syscall(CKPT_SYS_setns, Int(home.number), kind.flag, 0, 0, 0, 0) == 0
        let r = mayReturn ? enter(there, kind, isNew) : -Int(EPERM)
        if r == -Int(EPERM) { return try visitByChild(there, kind, isNew, asOwnerOnly: mayReturn, body) }
        if r != 0 { throw SystemError(isNew ? "unshare" : "setns", errno: Int32(-r)) }
        defer { _ = ckpt_syscall(CKPT_SYS_setns, Int(home.number), kind.flag, 0, 0, 0, 0) }
        return body()
    }
    fileprivate static func enter(_ there: File, _ kind: Kind, _ isNew: Bool) -> Int {
        isNew ? ckpt_syscall(CKPT_SYS_unshare, kind.flag, 0, 0, 0, 0, 0) : ckpt_syscall(CKPT_SYS_setns, Int(there.number), kind.flag, 0, 0, 0, 0)
    }

    private static func visitByChild<T>(_ there: File, _ kind: Kind, _ isNew: Bool, asOwnerOnly: Bool, _ body: () -> T) throws(SystemError) -> T {
        var answer: T?, r = EPERM
        for owner in (asOwnerOnly ? [] : [nil]) + [try? ownerFile(there)] where r == EPERM {
            r = try withoutActuallyEscaping({ answer = body() }) { (body) throws(SystemError) in try Visitor(owner: owner, enter: { enter(there, kind, isNew) }, body).run() }
        }
        if let answer, r == 0 { return answer }
        throw SystemError(isNew ? "unshare" : "setns", errno: r != 0 ? r : ECHILD)
    }
}

/// A child that has a stack of its own, and else what we have.
private final class Visitor {
    private let owner: File?, enter: () -> Int, body: () -> Void
    private var refusal: Int32 = 0
    init(owner: File?, enter: @escaping () -> Int, _ body: @escaping () -> Void) { self.owner = owner; self.enter = enter; self.body = body }

    /// What it was refused.
    func run() throws(SystemError) -> Int32 {
        let size: UInt64 = 1 << 20, anonymous: Int32 = 0x22, shared: UInt64 = 0x100 | 0x400 | 0x4000, anyChild = 0x4000_0000       // CLONE_VM, FILES, VFORK
        let stack = ckpt_mmap(0, size, 3, anonymous, -1, 0)
        if stack < 0 { throw SystemError("mmap", errno: Int32(-stack)) }
        defer { _ = ckpt_munmap(UInt64(stack), size) }
        var arguments = ckpt_clone_args()
        arguments.flags = shared; arguments.stack = UInt64(stack); arguments.stack_size = size
        let child = ckpt_clone3(&arguments, { visitor in
            Unmanaged<Visitor>.fromOpaque(UnsafeRawPointer(bitPattern: UInt(visitor))!).takeUnretainedValue().live()
            ckpt_exit_group(0)
        }, UInt64(UInt(bitPattern: Unmanaged.passUnretained(self).toOpaque())))
        if child < 0 { throw SystemError("clone", errno: Int32(-child)) }
        _ = ckpt_syscall(CKPT_SYS_wait4, child, 0, anyChild, 0, 0, 0)
        return refusal
    }
    private func live() {
        let newUser = 0x1000_0000, whenParentDies: Int32 = 1
        _ = ckpt_prctl(whenParentDies, 9, 0, 0, 0)
        var r = owner.map { ckpt_syscall(CKPT_SYS_setns, Int($0.number), newUser, 0, 0, 0, 0) } ?? 0
        if r == 0 { r = enter() }
        refusal = Int32(-r)
        if r == 0 { body() }
    }
}
