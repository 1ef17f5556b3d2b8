import ArgumentParser
import CkptReport
import CkptSession
import CkptSystem

struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Says what this machine offers, and how to get what it lacks.",
        discussion: "Exit status 69 if something is missing without which checkpoints or restarts don't work at all.")
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        let items = Offer.all()
        if json {
            try output(.list(items.map { ["name": .text($0.name), "state": .text($0.state.rawValue), "detail": .text($0.detail), "remedy": JSON($0.remedy)] }))
        } else {
            var table = TextTable([("", .left), ("", .left), ("", .left)])
            for i in items { table.add([i.state.rawValue, i.name, i.remedy.map { "\(i.detail): \($0)" } ?? i.detail]) }
            try output(String(table.rendered().drop { $0 == "\n" }))
        }
        let missing = items.filter { $0.state == .missing }
        if !missing.isEmpty { throw Problem(.lacking, "check", cause: "missing: \(missing.map(\.name).joined(separator: ", "))") }
    }
}

/// One thing that a machine offers or not.
private struct Offer {
    enum State: String { case good = "ok", lacking, missing }      // missing: nothing works without it
    let name: String, state: State, detail: String
    var remedy: String?

    init(_ name: String, _ good: Bool, _ detail: String, else lack: String = "", remedy: String? = nil, vital: Bool = false) {
        self.name = name
        state = good ? .good : vital ? .missing : .lacking
        self.detail = good ? detail : lack
        self.remedy = good ? nil : remedy
    }

    static func all() -> [Offer] { [kernel, cpu, parts] + restart() + [gdb, binfmt] + checkpoint() }

    private static var kernel: Offer {
        let release = Kernel.release
        let numbers = release.split(whereSeparator: { !$0.isNumber }).prefix(2).compactMap { Int($0) }
        let good = numbers.count == 2 && (numbers[0], numbers[1]) >= (5, 9)
        return Offer("kernel", good, "Linux \(release)", else: "Linux \(release)", remedy: "boot Linux 5.9 or later", vital: true)
    }
    private static var cpu: Offer {
        Offer("checksums", Machine.hasChecksumInstruction, "SSE4.2", else: "this CPU has no SSE4.2", remedy: "use a machine that has it", vital: true)
    }
    private static var parts: Offer {
        let missing = ["libckpt.so", "ckptengine", "ckptexec"].filter { Installation.find($0) == nil }
        return Offer("installation", missing.isEmpty, Path.folder(of: Installation.find("libckpt.so") ?? ""),
                     else: "\(missing.joined(separator: ", ")) missing", remedy: "tools/install", vital: true)
    }

    private static func restart() -> [Offer] {
        let keep = Machine.canChoosePids, namespace = Machine.canMakePidNamespace
        let unlock = namespaceRemedy
        return [
            Offer("pids kept", keep, "in this pid namespace", else: "only in a pid namespace", remedy: "restart as root, or with CAP_CHECKPOINT_RESTORE"),
            Offer("pid namespace", namespace, "a restart can make one", else: "not permitted", remedy: unlock, vital: !keep),
            Offer("time namespace", Machine.canMakeTimeNamespace, "clocks go on across reboots and machines", else: "after a reboot the monotonic clock may go backwards", remedy: unlock),
            Offer("lazy restart", Machine.canLoadLazily, "--lazy starts before the memory is read", else: "--lazy needs userfaultfd(2) with CAP_SYS_PTRACE", remedy: "restart as root"),
            Offer("engine in memory", Machine.canExecuteMemory, "may be executed", else: "vm.memfd_noexec forbids it: ckptctl restart and the binfmt rule do not work", remedy: "as root: sysctl -w vm.memfd_noexec=0"),
        ]
    }

    /// What forbids user namespaces differs between distributions.
    private static var namespaceRemedy: String {
        let switches = [("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
                        ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
                        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0")]
        let wrong = switches.filter { (try? Path.text($0.0))?.split(separator: "\n").first.map { String($0) } == $0.1 }
        return wrong.isEmpty ? "allow user namespaces in the policy of this container (seccomp, LSM)" : "as root: sysctl -w " + wrong.map(\.2).joined(separator: " ")
    }

    private static var gdb: Offer {
        let version = Program.find("gdb").flatMap { Program.output(of: $0, ["--version"]) }?.split(separator: "\n").first.map { String($0) }
        return Offer("gdb", version != nil, version ?? "", else: "not found", remedy: "apt-get install gdb")
    }
    private static var binfmt: Offer {
        Offer("binfmt rule", BinfmtRule.interpreter != nil, BinfmtRule.interpreter ?? "", else: "statefiles are written with the exec face, not as core files", remedy: "as root: ckptctl binfmt install")
    }

    private static func checkpoint() -> [Offer] {
        let scope = (try? Path.text("/proc/sys/kernel/yama/ptrace_scope")).flatMap { Int($0.prefix { $0.isNumber }) } ?? 0
        let mayTrace = Kernel.userID == 0 ? scope < 3 : scope == 0
        let memory = Machine.isDirectory("/dev/shm")
        let folder = memory ? "/dev/shm" : "/tmp", free = Machine.freeSpace(of: folder) ?? 0
        let files = Machine.limit(Machine.openFiles)?.soft ?? 0
        return [
            Offer("write tracking", WriteTracking.isPossible && mayTrace, "for checkpoint --pre-copy, and ckrun --track, whose deltas read only what may have changed",
                  else: "deltas compare all memory with their base, also with --track, and all is saved in the pause, also with --pre-copy",
                  remedy: WriteTracking.isPossible ? "as root: sysctl -w kernel.yama.ptrace_scope=0" : "boot Linux 6.7 or later"),
            Offer("page scan", Machine.hasPagemapScan, "PAGEMAP_SCAN", else: "checkpoints read /proc/PID/pagemap, which is slower", remedy: "boot Linux 6.7 or later"),
            Offer("inotify queues", InotifyQueueView.isPossible, "unread events are kept", else: "with unread events they are refused, for the moment",
                  remedy: Kernel.userID == 0 ? "boot a kernel with CONFIG_DEBUG_INFO_BTF and CONFIG_BPF_SYSCALL" : "take such checkpoints as root, or with CAP_BPF and CAP_PERFMON"),
            Offer("kcmp", Machine.hasKcmp, "shared descriptors are recognised", else: "kcmp(2) is not available", remedy: "boot a kernel with CONFIG_KCMP", vital: true),
            Offer("ptrace", mayTrace, "stopped and stuck tasks can be looked at", else: "stopped tasks are woken with SIGCONT, stuck ones named without a stack", remedy: "as root: sysctl -w kernel.yama.ptrace_scope=0"),
            Offer("session memory", free >= 64 << 20, "\(sizeText(free)) free in \(folder)", else: "\(sizeText(free)) free in \(folder)",
                  remedy: memory ? "as root: mount -o remount,size=1g /dev/shm, or set CKPT_DIR" : "set CKPT_DIR", vital: free < 1 << 20),
            Offer("open files", files >= 1024, "\(files)", else: "\(files) is few for a large tree", remedy: "ulimit -n 4096"),
        ]
    }
}
