// One scenario: a program in a folder of its own, checkpointed, ended and restarted under a name of its own.
import Foundation
import Glibc
import Synchronization
import Testing

final class Scenario {
    let tag: String
    let folder: String
    let user: User
    let installation: Installation
    var pid: pid_t = 0                  // of the program, or of the engine that stands for it
    var generation = 0
    var environment: [String: String]
    var way = Way.file()
    /// Whether the program may have ended before checkpoint --kill took the rest of its tree; `ownEnd` is how.
    var mayEndByItself = false
    private(set) var ownEnd: Status?
    private var isEngine = false        // whether `pid` is one
    var control = ""                    // folder, below ours, of the files "ready" and "go"

    init(_ name: String, as user: User) throws {
        installation = try Installation.get()
        self.user = user
        tag = "\(name)-\(Scenario.count.add(1, ordering: .relaxed).newValue)-\(getpid())"
        folder = installation.scratch + "/" + tag
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        if user.isOther, let entry = getpwnam(user.rawValue) { chown(folder, entry.pointee.pw_uid, entry.pointee.pw_gid) }
        environment = ["PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": folder, "LANG": "C.UTF-8",
                       "SCENARIO": folder, "CKPT_SCENARIO": tag, "CKPT_DIR": try Scenario.sessions(of: user)]
    }
    private static let count = Atomic<Int>(0)

    /// Sessions of our own: a ckptctl of another build, on the same machine, must not sweep them.
    private static func sessions(of user: User) throws -> String {
        let path = "/dev/shm/ckpt-scenarios-\(getpid())-\(user)"
        if mkdir(path, 0o700) == 0, user.isOther, let entry = getpwnam(user.rawValue) { chown(path, entry.pointee.pw_uid, entry.pointee.pw_gid) }
        return path
    }

    func path(_ name: String) -> String { folder + "/" + name }
    var statefile: String { path("generation-\(generation).ckpt") }
    var output: String { read(path("out")) }
    var errors: String { read(path("err")) }

    private func asUser(_ argv: [String]) -> [String] {
        user.isOther ? ["/usr/bin/setpriv", "--reuid", user.rawValue, "--regid", user.rawValue, "--init-groups", "--"] + argv : argv
    }

    func spawn(_ argv: [String], output: String, errors: String, input: String = "/dev/null", inputFlags: Int32 = O_RDONLY, append: Bool = false,
               descriptors: [Int32: Int32] = [:], ownSession: Bool = false) throws -> pid_t {
        // The user's own files: a restart opens them again.
        for name in [output, errors] where user.isOther && !append {
            FileManager.default.createFile(atPath: path(name), contents: nil)
            if let entry = getpwnam(user.rawValue) { chown(path(name), entry.pointee.pw_uid, entry.pointee.pw_gid) }
        }
        return try Children.spawn(asUser(argv), environment: environment, folder: folder, input: input, inputFlags: inputFlags, output: path(output), errors: path(errors),
                           append: append, descriptors: descriptors, ownSession: ownSession)
    }

    /// Starts the program; its standard streams are the regular files `out` and `err`.
    func start(_ argv: [String], ckrun: Bool = true, options: [String] = [], input: String = "/dev/null", descriptors: [Int32: Int32] = [:],
               ownSession: Bool = false) throws {
        pid = try spawn((ckrun ? [installation.ckrun, "--name", tag] + options + ["--"] : []) + argv, output: "out", errors: "err", input: input,
                        descriptors: descriptors, ownSession: ownSession)
    }

    func waitUntilReady(limit: Double = 20) throws {
        let ready = eventually(limit) { access(path(control + "ready"), F_OK) == 0 || hasEnded }
        if access(path(control + "ready"), F_OK) != 0 { throw Failure("\(ready ? "ended" : "hangs") before it was ready; out: \(output) err: \(errors)") }
    }
    var hasEnded: Bool {
        var info = siginfo_t()
        return waitid(P_PID, id_t(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_signo == SIGCHLD
    }
    func go() { FileManager.default.createFile(atPath: path(control + "go"), contents: nil) }

    /// `ulimit`: options of the shell's, under which it runs.
    func ckptctl(_ arguments: [String], ulimit: String? = nil, limit: Double = 60) throws -> Output {
        try run(asUser((ulimit.map { ["/bin/bash", "-c", "ulimit \($0) && exec \"$@\"", "bash"] } ?? []) + [installation.ckptctl] + arguments), in: folder, environment: environment, limit: limit)
    }

    /// Takes the next generation's statefile and expects it to work.
    @discardableResult func checkpoint(kill: Bool = false, options: [String] = []) throws -> Output {
        generation += 1
        var options = options
        if case .file(let more) = way { options += more }
        // A tree that is still coming back has no session yet (66), or is busy (75).
        var result = try ckptctl(["checkpoint", tag, "-o", statefile] + (kill ? ["--kill"] : []) + options)
        let end = now() + 15
        while [.exited(66), .exited(75)].contains(result.status) && now() < end && !hasEnded {
            usleep(20_000)
            result = try ckptctl(["checkpoint", tag, "-o", statefile] + (kill ? ["--kill"] : []) + options)
        }
        if result.status != .exited(0) { throw Failure("checkpoint \(generation): \(result.status): \(result.errors)\(result.text) \(restartErrors)") }
        if kill {
            guard let status = Children.wait(pid, limit: 20) else { throw Failure("the program outlived checkpoint --kill") }
            try see(status, isEngine: isEngine)
            pid = 0
            Children.reapStrays()
        }
        return result
    }

    /// The end that checkpoint --kill has made.  The init process of a restart's namespace can't be killed from inside: its engine tells the status.
    private func see(_ status: Status, isEngine: Bool) throws {
        if status == .killed(SIGKILL) || isEngine && status == .exited(128 + SIGKILL) { return }
        if !mayEndByItself { throw Failure("after checkpoint --kill: \(status)") }
        ownEnd = status
    }

    /// Takes the next generation's statefile, and does something when ckptctl has come to `phase` (CKPT_PAUSE); it comes there again if it has to begin again.
    func checkpoint(at phase: String, through: [String] = [], _ body: () throws -> Void) throws {
        generation += 1
        environment["CKPT_PAUSE"] = phase
        let initiator = try spawn(through + [installation.ckptctl, "checkpoint", tag, "-o", statefile], output: "initiator.out", errors: "initiator.err")
        environment["CKPT_PAUSE"] = nil
        guard eventually(10, { read(path("initiator.err")).contains("paused") }) else { throw Failure("ckptctl did not pause: \(read(path("initiator.err")))") }
        try body()
        var status: Status?
        for _ in 0 ..< 100 where status == nil { Glibc.kill(initiator, SIGCONT); status = Children.wait(initiator, limit: 0.1) }
        if status != .exited(0) { throw Failure("checkpoint: \(status.map(String.init(describing:)) ?? "hangs"): \(read(path("initiator.err")))") }
    }

    /// Starts a checkpoint and ends ckptctl when it has come to `phase` (CKPT_PAUSE).
    func endInitiator(at phase: String, by signal: Int32, options: [String] = []) throws {
        environment["CKPT_PAUSE"] = phase
        let initiator = try spawn([installation.ckptctl, "checkpoint", tag, "-o", path("never.ckpt")] + options, output: "initiator.out", errors: "initiator.err")
        environment["CKPT_PAUSE"] = nil
        guard eventually(10, { read(path("initiator.err")).contains("paused") }) else { throw Failure("ckptctl did not pause: \(read(path("initiator.err")))") }
        kill(initiator, signal)
        kill(initiator, SIGCONT)
        guard let status = Children.wait(initiator, limit: 10) else { throw Failure("the initiator hangs") }
        if status == .exited(0) { throw Failure("the interrupted initiator says that all is well") }
    }

    /// Executes the statefile.
    func restart(_ options: [String] = [], from file: String? = nil, descriptors: [Int32: Int32] = [:], ownSession: Bool = false) throws {
        isEngine = true
        pid = try spawn([file ?? statefile] + options, output: "restart-\(generation).out", errors: "restart-\(generation).err", descriptors: descriptors,
                        ownSession: ownSession)
    }

    /// Ends the program and brings it back, by a file or through a pipe.
    func move(_ options: [String] = []) throws {
        guard case .pipe(let checkpointOptions) = way else {
            try checkpoint(kill: true)
            return try restart(options)
        }
        generation += 1
        let end = now() + 15
        while true {
            var ends: [Int32] = [0, 0]
            if pipe(&ends) != 0 { throw Failure("pipe") }
            let reader = try spawn([installation.ckptctl, "restart", "-"] + options, output: "restart-\(generation).out", errors: "restart-\(generation).err", descriptors: [0: ends[0]])
            let writer = try spawn([installation.ckptctl, "checkpoint", tag, "-o", "-", "--kill"] + checkpointOptions, output: ".unused", errors: ".checkpoint.err", descriptors: [1: ends[1]])
            for n in ends { Glibc.close(n) }
            let status = Children.wait(writer, limit: 60)
            if status == .exited(0) {
                guard let ended = Children.wait(pid, limit: 20) else { throw Failure("the program outlived checkpoint --kill") }
                pid = reader
                try see(ended, isEngine: true)
                return Children.reapStrays()
            }
            _ = Children.wait(reader, limit: 20)
            guard [.exited(66), .exited(75)].contains(status) && now() < end && !hasEnded else { throw Failure("checkpoint \(generation): \(String(describing: status)): \(read(path(".checkpoint.err"))) \(restartErrors)") }
            usleep(20_000)
        }
    }

    func wait(limit: Double = 30) throws -> Status {
        guard let status = Children.wait(pid, limit: limit) else { throw Failure("hangs; out: \(output.suffix(600)) err: \(errors.suffix(600)) \(restartErrors)") }
        pid = 0
        return status
    }
    var restartErrors: String { generation == 0 ? "" : "restart: " + read(path("restart-\(generation).err")).suffix(1000) }

    func expect(_ status: Status, output expected: String? = nil, limit: Double = 30) throws {
        let seen = try wait(limit: limit)
        if seen != status { throw Failure("\(seen), not \(status); out: \(output.suffix(1000)) err: \(errors.suffix(600)) \(restartErrors)") }
        if let expected, output != expected { throw Failure("printed: \(output.suffix(2000)) \(errors.suffix(600)) \(restartErrors)") }
    }

    /// What a program has noted (systemv.h): nothing ends it but its removal.
    private func removeIPC() {
        let noted = Set(read(path("ipc")).split(separator: "\n")).map { $0.split(separator: " ").map(String.init) }.filter { $0.count == 2 }
        let objects = noted.filter { $0[0] != "p" }.flatMap { ["-" + $0[0], $0[1]] }, queues = noted.filter { $0[0] == "p" }.map { $0[1] }
        if !objects.isEmpty { _ = try? run(["/usr/bin/ipcrm"] + objects, in: folder) }
        if !queues.isEmpty, let unlink = try? installation.program("posix-unlink", flags: ["-lrt"]) { _ = try? run([unlink] + queues, in: folder) }
    }

    /// Ends whatever is left; the folder stays when the scenario failed.
    func close(failed: Bool) {
        if pid != 0, Children.wait(pid, limit: 0) == nil { Glibc.kill(pid, SIGKILL) }
        Children.kill(tagged: tag)
        if pid != 0 { _ = Children.wait(pid, limit: 5) }
        removeIPC()
        if failed { Children.kept.add(1, ordering: .relaxed) } else { try? FileManager.default.removeItem(atPath: folder) }
    }
}

/// Runs a scenario as one user; a failure is recorded with the folder that it leaves and the command that runs it again.
func scenario(_ name: String, as user: User = .current, sourceLocation: SourceLocation = #_sourceLocation, _ body: (Scenario) throws -> Void) {
    let scenario: Scenario
    do { scenario = try Scenario(name, as: user) } catch {
        Issue.record("\(error)", sourceLocation: sourceLocation)
        return
    }
    do {
        try body(scenario)
        scenario.close(failed: false)
    } catch {
        scenario.close(failed: true)
        let test = Test.current.map { String($0.name.prefix { $0 != "(" }) } ?? name
        Issue.record("\(name) as \(user): \(error)\nkept in \(scenario.folder); again: tools/test --filter '\(test)'", sourceLocation: sourceLocation)
    }
}

/// How a tree gets from a checkpoint to its restart; with options of the checkpoint.
enum Way { case file(_ options: [String] = []), pipe(_ options: [String] = []) }

/// How a feature's program is treated between "ready" and "go".
enum Treatment: String, CaseIterable {
    case undisturbed, launched, checkpointed, restarted, twice
    /// CKPT_TREATMENTS=launched,twice runs only those.
    static let selected = ProcessInfo.processInfo.environment["CKPT_TREATMENTS"].map { $0.split(separator: ",").compactMap { Treatment(rawValue: String($0)) } } ?? allCases
}

/// A feature holds when its program prints "ok" however it is treated.
func feature(_ program: String, _ arguments: [String] = [], treatments: [Treatment] = Treatment.allCases, users: [User] = User.available,
             pids: [String] = [], flags: [String] = [], by way: Way = .file(), limit: Double = 30, sourceLocation: SourceLocation = #_sourceLocation) {
    for user in users {
        for treatment in treatments where Treatment.selected.contains(treatment) && (user == .current || treatment == .twice || treatments.count == 1) {
            scenario("\(program)-\(treatment)", as: user, sourceLocation: sourceLocation) { s in
                s.way = way
                try s.start([try s.installation.program(program, flags: flags)] + arguments, ckrun: treatment != .undisturbed)
                try s.waitUntilReady()
                switch treatment {
                case .undisturbed, .launched: break
                case .checkpointed: try s.checkpoint()
                case .restarted, .twice:
                    for _ in 0 ..< (treatment == .twice ? 2 : 1) { try s.move(pids.isEmpty ? [] : ["--pids"] + pids) }
                }
                s.go()
                try s.expect(.exited(0), output: "ok\n", limit: limit)
            }
        }
    }
}

/// Long variants run only on demand.
let soak = ProcessInfo.processInfo.environment["CKPT_SOAK"] != nil
