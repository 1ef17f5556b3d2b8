// Terminals: what only the leader of a process that has the master can read of a pseudo-terminal, and what /proc shows of controlling terminals.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

/// A pseudo-terminal whose master is in the tree; or the tree's own terminal, whose master is not.
struct ObservedTerminal {
    var device: UInt64                          // of the slave
    var state = ckpt_terminal_state()
    var output: [UInt8] = [], input: [UInt8] = [], late: [UInt8] = []
    var foreground: Int32 = 0                   // process group as the tree sees it; 0: none of it
    var path = ""
    var isOutside: Bool { state.flags & CKPT_TERMINAL_OUTSIDE.rawValue != 0 }
}

enum TerminalDevice {
    static let controlling: UInt64 = 0x500, master: UInt64 = 0x502
    /// The slave of this number (makedev(3)).
    static func slave(_ index: Int32) -> UInt64 { let n = UInt64(UInt32(bitPattern: index)); return 136 << 8 | n & 0xff | (n & ~0xff) << 12 }
}

/// A master, and one process that has it.
private struct Master { var process: ObservedProcess, descriptor: ObservedDescriptor }
private struct AskedTerminals { let process: ObservedProcess, masters: [Master], queries: ArenaArray<ckpt_terminal_query> }

extension Operation {
    func recordTerminals(_ tree: ObservedTree, _ barrier: Barrier) throws(CheckpointFailure) {
        let refusals = Refusals(session: segment.name)
        let masters = findMasters(tree)
        refuseUnreachable(tree, masters, refusals)
        try refusals.check()
        var asked: [AskedTerminals] = []
        for p in tree.live {
            let own = masters.filter { $0.process === p }
            if !own.isEmpty { asked.append(try ask(p, own, tree)) }
        }
        let leaders = asked.count
        // Short: between the two the terminals are empty, and an abort has to fill them again.
        try barrier.run(CKPT_PHASE_TERMINALS, expecting: leaders, patience: options.patience) { "a leader with pseudo-terminals" }
        onTerminalsTaken()
        try barrier.run(CKPT_PHASE_TERMINALS_BACK, expecting: leaders, patience: options.patience) { "a leader with pseudo-terminals" }
        for a in asked { collect(a, tree, refusals) }
        try refusals.check()
        addOwnTerminal(tree)
        for i in tree.terminals.indices { tree.terminals[i].foreground = foregroundGroup(tree, tree.terminals[i]) }
    }

    /// For tests that interrupt a checkpoint at this moment.
    private func onTerminalsTaken() { options.onPhase("terminals") }

    /// Each master once, whoever shares it.
    private func findMasters(_ tree: ObservedTree) -> [Master] {
        var masters: [Master] = []
        for p in tree.live {
            for d in p.descriptors where d.mode & FileType.mask == FileType.character && d.rdev == TerminalDevice.master && d.terminalIndex >= 0 {
                let isKnown = masters.contains { m in
                    m.descriptor.terminalIndex == d.terminalIndex && (try? Kernel.compare(p.view, m.process.view, .file, d.number, m.descriptor.number)) == 0
                }
                if !isKnown { masters.append(Master(process: p, descriptor: d)) }
            }
        }
        return masters
    }

    private func refuseUnreachable(_ tree: ObservedTree, _ masters: [Master], _ refusals: Refusals) {
        for (i, m) in masters.enumerated() {
            let name = "pseudo-terminal \(m.descriptor.terminalIndex)"
            if masters[..<i].contains(where: { $0.descriptor.terminalIndex == m.descriptor.terminalIndex }) {
                refusals.add(pid: m.process.pid, fd: m.descriptor.number, "\(name): one of the same number, from another mount of devpts, is in the tree", "close one of them")
            }
            for p in tree.live { for d in slaves(of: m.descriptor.terminalIndex, p) where d.flags & 0o20000 != 0 {
                refusals.add(pid: p.pid, fd: d.number, "\(name): its slave sends SIGIO (O_ASYNC)", "clear O_ASYNC before the checkpoint")
            } }
        }
    }

    /// Descriptors of a process that are the slave of this number.
    private func slaves(of index: Int32, _ p: ObservedProcess) -> [ObservedDescriptor] {
        let device = TerminalDevice.slave(index)
        return p.descriptors.filter { $0.mode & FileType.mask == FileType.character && ($0.rdev == device || ($0.rdev == TerminalDevice.controlling && p.terminalDevice(of: $0) == device)) }
    }

    /// Room for everything that may be unread, before anybody reads.
    private func ask(_ p: ObservedProcess, _ masters: [Master], _ tree: ObservedTree) throws(CheckpointFailure) -> AskedTerminals {
        let slot = segment.process(p.slot), queries = try room(p) { () throws(SystemError) in try segment.claim(zeroed: ckpt_terminal_query.self, masters.count) }
        slot.pointee.terminals_offset = queries.offset
        for (i, m) in masters.enumerated() {
            let query = queries.pointer(i)
            query.pointee.master = m.descriptor.number
            query.pointee.slave = slaves(of: m.descriptor.terminalIndex, p).first { $0.flags & 3 == 2 }?.number ?? -1
            if tree.live.contains(where: { !slaves(of: m.descriptor.terminalIndex, $0).isEmpty }) { query.pointee.state.flags = CKPT_TERMINAL_SLAVE_KNOWN.rawValue }
        }
        slot.pointee.terminals_count = UInt64(masters.count)
        return AskedTerminals(process: p, masters: masters, queries: queries)
    }

    private func collect(_ asked: AskedTerminals, _ tree: ObservedTree, _ refusals: Refusals) {
        let p = asked.process
        for (i, m) in asked.masters.enumerated() {
            let q = asked.queries.pointer(i)
            if let (what, remedy) = words(for: q.pointee) {
                refusals.add(pid: p.pid, fd: m.descriptor.number, "pseudo-terminal \(m.descriptor.terminalIndex): " + what, remedy)
                continue
            }
            func bytes(_ from: UnsafeMutablePointer<UInt8>, _ count: UInt32, _ room: Int) -> [UInt8] { Array(UnsafeBufferPointer(start: from, count: min(Int(count), room))) }
            let state = q.pointee.state
            var t = ObservedTerminal(device: TerminalDevice.slave(state.index), state: state)
            t.output = bytes(ckpt_query_output(q), t.state.output_size, CKPT_TERMINAL_OUTPUT_ROOM)
            t.input = bytes(ckpt_query_input(q), t.state.input_size, CKPT_TERMINAL_INPUT_ROOM)
            t.late = bytes(ckpt_query_late(q), t.state.late_size, CKPT_TERMINAL_LATE_ROOM)
            t.path = tree.live.lazy.flatMap(\.descriptors).first { $0.rdev == t.device }?.link ?? "/dev/pts/\(t.state.index)"
            if t.state.device == 0, let s = try? Path.status("/proc/\(p.view)/root\(t.path)") { t.state.mode = UInt32(s.st_mode); (t.state.uid, t.state.gid) = ownUsers.inside(s.st_uid, s.st_gid) }
            tree.terminals.append(t)
        }
    }

    private func words(for q: ckpt_terminal_query) -> (String, String)? {
        switch ckpt_terminal_failure(rawValue: q.failure) {
        case CKPT_TERMINAL_FINE: nil
        case CKPT_TERMINAL_NO_PEER: ("its slave can't be opened: \(SystemError("open", errno: q.error).text)", "leave exclusive mode (TIOCNXCL), or close descriptors when the table is full")
        case CKPT_TERMINAL_DISCIPLINE: ("it has another line discipline than N_TTY", "set the line discipline back before the checkpoint")
        case CKPT_TERMINAL_KEPT_LOCKS: ("parts of its settings are locked (TIOCSLCKTRMIOS)", "unlock them before the checkpoint")
        case CKPT_TERMINAL_OUTPUT_UNREACHED: ("it has unread output, and no process of the tree has its slave open", "read it, or start the program on the slave under ckrun as well")
        case CKPT_TERMINAL_FULL: ("more is unread in it than a terminal holds: a program outside the session writes to it", "try again when it has been read")
        case CKPT_TERMINAL_ECHOES: ("its output is full or stopped, and echoes may wait behind it", "try again when it has been read")
        default: ("it did not take back what was unread in it", "report it with the kernel's version")
        }
    }

    /// The terminal that the tree was started on: some process's controlling terminal, and no pseudo-terminal of the tree.
    private func addOwnTerminal(_ tree: ObservedTree) {
        let candidates = [tree.processes[tree.root]] + tree.live
        guard let p = candidates.first(where: { $0.stat.terminal != 0 && tree.controlled(by: $0) == nil }) else { return }
        var t = ObservedTerminal(device: p.stat.terminal)
        t.state.flags = CKPT_TERMINAL_OUTSIDE.rawValue
        for q in tree.live {
            for d in q.descriptors where d.mode & FileType.mask == FileType.character && (d.rdev == t.device || (d.rdev == TerminalDevice.controlling && q.terminalDevice(of: d) == t.device)) {
                guard let file = try? File(of: q.view, number: d.number), let termios = file.termios else { continue }
                t.state.termios = termios
                t.state.size = file.windowSize ?? ckpt_winsize()
                if d.rdev == t.device { t.path = d.link }
                tree.terminals.append(t)
                return
            }
        }
        tree.terminals.append(t)
    }

    /// The foreground group, if it is one of the tree's, in the tree's own numbers.  One that has ended keeps the terminal until somebody else takes it.
    private func foregroundGroup(_ tree: ObservedTree, _ t: ObservedTerminal) -> Int32 {
        guard let p = tree.live.first(where: { tree.terminal(of: $0).map { tree.terminals[$0].device == t.device && tree.terminals[$0].isOutside == t.isOutside } ?? false }), p.stat.foreground > 0 else { return 0 }
        let group = p.stat.foreground
        if let member = tree.processes.first(where: { $0.stat.group == group }) { return member.group }
        return t.isOutside || p.ownPid != p.pid ? 0 : group
    }
}

extension ObservedProcess {
    /// What its /dev/tty stands for in this descriptor.
    func terminalDevice(of d: ObservedDescriptor) -> UInt64 {
        if d.rdev != TerminalDevice.controlling { return d.rdev }
        return (try? File(of: view, number: d.number))?.terminalDevice ?? stat.terminal
    }
}

extension ObservedTree {
    /// The pseudo-terminal of the tree that controls this process.  Only a session that is led inside the tree can have one: another
    /// terminal may have the same number in another instance of devpts.
    func controlled(by p: ObservedProcess) -> Int? {
        guard p.stat.terminal != 0, processes.contains(where: { $0.ownPid == p.terminalSession }) else { return nil }
        return terminals.firstIndex { !$0.isOutside && $0.device == p.stat.terminal }
    }
    /// The terminal that controls this process, of the tree or outside.
    func terminal(of p: ObservedProcess) -> Int? {
        if p.stat.terminal == 0 { return nil }
        return controlled(by: p) ?? terminals.firstIndex { $0.isOutside && $0.device == p.stat.terminal }
    }
}

extension SystemContent {
    /// The records of all terminals; a description's object names its own.
    func addTerminals(_ tree: ObservedTree) {
        observed = tree
        for t in tree.terminals {
            var r = ckpt_terminal_record()
            r.state = t.state
            r.foreground = t.foreground
            if t.isOutside && t.foreground != 0 { r.state.flags |= CKPT_TERMINAL_FOREGROUND.rawValue }
            r.path = tables.text(t.path)
            do throws(SystemError) {
                if !t.output.isEmpty { r.output = try store(t.output) }
                if !t.input.isEmpty { r.input = try store(t.input) }
                if !t.late.isEmpty { r.late = try store(t.late) }
            } catch { refusals.add(pid: 0, "terminal \(t.path): \(error.call): \(error.text)", "free space, or choose another place with -o") }
            tables.terminals.append(r)
        }
    }

    /// The object of one end of a terminal; nil when it was refused.
    func terminalObject(_ i: Int, _ f: OpenFile) -> UInt32? {
        let d = f.sample
        if d.rdev == TerminalDevice.master {
            if let t = observed.terminals.firstIndex(where: { !$0.isOutside && $0.state.index == d.terminalIndex }) { return terminal(CKPT_OBJECT_PTY_MASTER, t, d) }
            refusals.add(pid: f.samplePid, fd: d.number, "pseudo-terminal \(d.terminalIndex): no process of the tree has its master, only a message in flight", "receive it before the checkpoint")
            return nil
        }
        let device = observed.live.first { $0.view == f.samplePid }?.terminalDevice(of: d) ?? d.rdev
        let ofTree = observed.terminals.firstIndex { !$0.isOutside && $0.device == device && (d.rdev == TerminalDevice.controlling || $0.state.device == 0 || $0.state.device == d.device) }
        if d.rdev == TerminalDevice.controlling {
            if let t = ofTree { return terminal(CKPT_OBJECT_PTY_CONTROLLING, t, d) }
            // The engine's is the terminal of the restart; a process of another session would open its own.
            files.openInEngine(i)
            return objectByPath(CKPT_OBJECT_DEVICE, d.link, device: d.device, inode: d.inode, mapped: false, pid: f.samplePid, fd: d.number)
        }
        if let t = ofTree { return terminal(CKPT_OBJECT_PTY_SLAVE, t, d) }
        if f.standard >= 0 || observed.terminals.contains(where: { $0.isOutside && $0.device == d.rdev }) { return outside(d) }
        refusals.add(pid: f.samplePid, fd: d.number, "terminal \(d.link): neither the tree's controlling terminal nor a standard stream",
                     "close it, or start the program with it as a standard stream")
        return nil
    }

    private func terminal(_ kind: ckpt_object_kind, _ t: Int, _ d: ObservedDescriptor) -> UInt32 {
        let key = ObjectKey(kind: kind.rawValue, device: 0, inode: UInt64(t), path: "")
        if let index = known(key) { return index }
        var o = ckpt_object_record()
        o.kind = kind.rawValue; o.mode = d.mode; o.device = d.device; o.inode = d.inode; o.rdev = d.rdev; o.path = tables.text(d.link); o.detail = UInt32(t)
        return append(o, key)
    }
}
