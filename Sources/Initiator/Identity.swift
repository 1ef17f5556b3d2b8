// Who the tasks are: credentials as /proc shows them, each set once; keyrings that only a task itself can name.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

extension Operation {
    /// The index of this task's credentials.
    func credentials(_ t: ObservedTask, _ tables: Tables, isOthers: Bool) -> UInt32 {
        var c = ckpt_credentials_record()
        let u = t.status.numbers("Uid").map { UInt32($0) }, g = t.status.numbers("Gid").map { UInt32($0) }
        if u.count == 4 { c.uid = (u[0], u[1], u[2], u[3]) }
        if g.count == 4 { c.gid = (g[0], g[1], g[2], g[3]) }
        if let own = ownUsers {
            c.uid = (own.user(c.uid.0), own.user(c.uid.1), own.user(c.uid.2), own.user(c.uid.3))
            c.gid = (own.group(c.gid.0), own.group(c.gid.1), own.group(c.gid.2), own.group(c.gid.3))
        }
        let list = t.status.numbers("Groups").map { UInt32($0) }
        c.group_count = UInt32(list.count)
        c.cap_inheritable = t.status.hex("CapInh"); c.cap_permitted = t.status.hex("CapPrm"); c.cap_effective = t.status.hex("CapEff")
        c.cap_bounding = t.status.hex("CapBnd"); c.cap_ambient = t.status.hex("CapAmb")
        c.securebits = isOthers && !t.status.maySetSecurebits ? 0 : segment.task(t.slot).pointee.securebits
        c.no_new_privs = t.status["NoNewPrivs"] == "1" ? 1 : 0
        var known = false
        for (i, other) in tables.credentials.enumerated() where other.group_count == c.group_count {
            guard tables.groups[Int(other.first_group)..<Int(other.first_group + other.group_count)].elementsEqual(list) else { continue }
            c.first_group = other.first_group
            known = true
            if same(c, other) { return UInt32(i) }
        }
        if !known {
            c.first_group = UInt32(tables.groups.count)
            tables.groups += list
        }
        tables.credentials.append(c)
        return UInt32(tables.credentials.count - 1)
    }
    private func same(_ a: ckpt_credentials_record, _ b: ckpt_credentials_record) -> Bool {
        withUnsafeBytes(of: a) { a in withUnsafeBytes(of: b) { a.elementsEqual($0) } }
    }

    /// Tools, and the choice of a way to restart, look at the first task's.
    func takeIdentity(_ c: ckpt_credentials_record, _ r: inout ckpt_process_record) {
        r.uid = c.uid; r.gid = c.gid; r.first_group = c.first_group; r.group_count = c.group_count
        r.cap_inheritable = c.cap_inheritable; r.cap_permitted = c.cap_permitted; r.cap_effective = c.cap_effective
        r.cap_bounding = c.cap_bounding; r.cap_ambient = c.cap_ambient
    }
}

/// Has the session's user any key?  (/proc/key-users shows none of those who have not.)
func userHasKeys(_ uid: UInt32) -> Bool {
    guard let text = try? Path.text("/proc/key-users") else { return false }
    return text.split(separator: "\n").contains { UInt32($0.prefix { $0 != ":" }.drop { $0 == " " }) == uid }
}

/// What tasks know of themselves and nobody can make again: a keyring that a thread, a process or a session has joined (the user's own are there at the restart, too), a confinement, segments.
func refuseUnmakeable(_ tree: ObservedTree, _ segment: Segment, _ refusals: Refusals) {
    guard tree.processes.indices.contains(tree.root), let main = tree.processes[tree.root].tasks.first else { return }
    let common = segment.task(main.slot).pointee.session_keyring
    for p in tree.live {
        let process = segment.process(p.slot).pointee
        if process.confined != 0 { refusals.add(pid: p.pid, "it has restricted itself by Landlock, and nobody can read how", "start it outside the session, or without that") }
        if process.has_segments != 0 { refusals.add(pid: p.pid, "it has a table of segments of its own (modify_ldt)", "run it in 64-bit mode") }
        if process.has_moved != 0 { refuseThreadsElsewhere(p, refusals) }
        for t in p.tasks {
            let s = segment.task(t.slot).pointee
            func refuse(_ what: String, _ remedy: String) { refusals.add(pid: p.pid, "tid \(t.tid): \(what)", remedy) }
            // Only a task can tell these of itself.  Root's restart would set them, and set-uid programs that it executes then would go by them.
            if s.securebits != 0 && tree.isOthers(segment) && !t.status.maySetSecurebits { refuse("it says that it has securebits, and could not have set them", "let its user take the checkpoint") }
            if s.keyrings & CKPT_KEYRING_THREAD.rawValue != 0 { refuse("it has a thread keyring, which can't be made again", "let it keep its keys in the user's keyring") }
            if s.keyrings & CKPT_KEYRING_PROCESS.rawValue != 0 { refuse("it has a process keyring, which can't be made again", "let it keep its keys in the user's keyring") }
            if s.session_keyring != common { refuse("it has joined a session keyring of its own, which can't be made again", "start the whole tree in one keyctl session") }
            else if s.keyrings & CKPT_KEYRING_SESSION_KEYS.rawValue != 0 { refuse("its session keyring holds keys, which a restart would not have", "let it keep its keys in the user's keyring") }
        }
    }
}

extension ProcStatus {
    /// CAP_SETPCAP
    var maySetSecurebits: Bool { hex("CapPrm") & 1 << 8 != 0 }
    var effectiveUser: UInt32? { numbers("Uid").dropFirst().first.map { UInt32($0) } }
}
extension ObservedProcess { var effectiveUser: UInt32? { status.effectiveUser } }
extension ObservedTask { var effectiveUser: UInt32? { status.effectiveUser } }

/// A restart has one of each kind for a process.
private func refuseThreadsElsewhere(_ p: ObservedProcess, _ refusals: Refusals) {
    for kind in ["uts", "ipc", "net", "mnt", "cgroup", "time"] {
        let own = p.namespace(kind)
        for t in p.tasks where Namespace.number(p.pid, task: t.view, kind) != own {
            refusals.add(pid: p.pid, "tid \(t.tid): it lives in another \(kind) namespace than the main thread", "let a process of its own do what it does there")
        }
    }
}
