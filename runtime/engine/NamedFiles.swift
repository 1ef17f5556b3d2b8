// Files that are opened by a name when the tree, or its namespaces, exist: /proc/PID and namespaces.  No allocation, no libc.
import CkptABI
import EngineBoot
import Freestanding

/// Runs in the builder, in the namespaces of the tree.  An earlier attempt may have left its own.
func openNamespaceFiles() {
    for d in 0..<descriptions.count where objects[descriptions[d].pointee.object].pointee.kind == CKPT_OBJECT_NAMESPACE.rawValue {
        if descriptionFd[d].pointee >= 0 { _ = ckpt_close(descriptionFd[d].pointee) }
        let kind = bytes(objects[descriptions[d].pointee.object].pointee.path)
        var l = Line()
        l.put("/proc/self/ns/"); l.put(text: kind)
        // The builder itself is not in the time namespace of its children.
        if equal(kind, to: "time") { l.put("_for_children") }
        let r = l.withCString { ckpt_open($0, Int32(bitPattern: descriptions[d].pointee.flags & 0o10000000 | 0o2000000), 0) }
        guard r >= 0 else { refuse(r) { l in l.put("namespace "); l.put(text: kind); l.put(": cannot be opened") } }
        descriptionFd[d].pointee = lift(Int32(truncatingIfNeeded: r), "namespace")
    }
}

func isProcOfPid(_ o: Int) -> Bool { objects[o].pointee.kind == CKPT_OBJECT_PROC.rawValue && objects[o].pointee.detail != 0 }

/// Runs in each process when its tasks exist: its open files of /proc/PID.  A task of another process may come a little later.
func openProcFiles(_ i: Int) {
    let p = processes[i]
    for k in 0..<p.pointee.fd_count {
        let f = fds[p.pointee.first_fd + k].pointee, d = Int(f.description)
        let o = Int(descriptions[d].pointee.object)
        guard isProcOfPid(o) else { continue }
        var source = -1
        for m in 0..<k where fds[p.pointee.first_fd + m].pointee.description == f.description { source = Int(fds[p.pointee.first_fd + m].pointee.number); break }
        let opened = source < 0
        if opened { source = Int(openProcFile(o, descriptions[d].pointee)) }
        let closeOnExec = f.close_on_exec != 0 ? 0o2000000 : 0
        let r = source == Int(f.number) ? system(CKPT_SYS_fcntl, source, 2, closeOnExec != 0 ? 1 : 0) : system(CKPT_SYS_dup3, source, Int(f.number), closeOnExec)
        guard r >= 0 else { refuse(r) { l in putProcess(i, &l); l.put("fd "); l.put(signed: Int64(f.number)); l.put(" cannot be placed") } }
        if opened && source != Int(f.number) { _ = ckpt_close(Int32(source)) }
    }
}

private func openProcFile(_ o: Int, _ d: ckpt_description_record) -> Int32 {
    var own = InlineArray<32, CChar>(repeating: 0)
    let link: StaticString = "/proc/self"
    let n = withUnsafeMutableBytes(of: &own) { system(CKPT_SYS_readlink, int(link.cString), int($0.baseAddress!), 31) }
    var pid: Int32 = 0
    for k in 0..<max(0, n) { pid = pid &* 10 &+ Int32(own[k]) - 48 }
    guard pid == ckpt_getpid() else { refuse(.lacks) { l in putObject(o, &l); l.put("there is no /proc of the tree's own; restart it with --pids keep, as root") } }
    // "/proc/PID" and the rest: pids may be new ones.
    var rest = bytes(objects[o].pointee.path) + 6
    while rest.pointee >= 48 && rest.pointee <= 57 { rest += 1 }
    var l = Line()
    l.put("/proc/"); l.put(signed: Int64(pidNow(Int32(bitPattern: objects[o].pointee.detail)))); l.put(text: rest)
    var r = -2, tries = 0
    while r == -2 && tries < 2000 {
        r = l.withCString { ckpt_open($0, Int32(bitPattern: d.flags & ~0o20000 | 0o2000400), 0) }
        if r == -2 { var t = ckpt_timespec(sec: 0, nsec: 1_000_000); _ = system(CKPT_SYS_nanosleep, int(&t), 0) }
        tries += 1
    }
    guard r >= 0 else { refuse(r) { l in putObject(o, &l); l.put("cannot be opened") } }
    if d.position != 0 && d.flags & 0o10000000 == 0 {
        let e = system(CKPT_SYS_lseek, r, int(d.position), 0)
        guard e == int(d.position) else { refuse(e < 0 ? e : -22) { l in putObject(o, &l); l.put("cannot be positioned at "); l.put(decimal: d.position) } }
    }
    return Int32(truncatingIfNeeded: r)
}
