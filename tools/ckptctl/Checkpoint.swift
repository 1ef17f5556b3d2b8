import ArgumentParser
import CkptCompression
import CkptInitiator
import CkptReport
import CkptSession
import CkptSystem
import Logging

extension FacePreference: ExpressibleByArgument {}
extension OutsideConnections: ExpressibleByArgument {}
extension UnreadEvents: ExpressibleByArgument {}
extension Compression: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
}

/// 4096, 64K, 100M, 2G
struct FileSize: ExpressibleByArgument {
    var bytes: UInt64
    init(bytes: UInt64) { self.bytes = bytes }
    init?(argument: String) {
        let units: [Character: UInt64] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40]
        let unit = argument.last.flatMap { units[Character($0.uppercased())] }
        guard let n = UInt64(unit == nil ? argument[...] : argument.dropLast()), n < 1 << 60 else { return nil }
        let product = n.multipliedReportingOverflow(by: unit ?? 1)
        if product.overflow { return nil }
        bytes = product.partialValue
    }

    /// An option whose value may be missing: the value is given here, as the parser loses one that another option follows, and would take a session's name for one.
    static func completed(_ words: [String], option: String, missing: String) -> [String] {
        var result: [String] = []
        var rest = words[...]
        while let word = rest.popFirst() {
            if word == "--" { return result + [word] + rest }
            if word != option { result.append(word); continue }
            // A bare number may be a session's pid.
            let isSize = rest.first.map { FileSize(argument: $0) != nil && UInt64($0) == nil } ?? false
            result.append("\(option)=\(isSize ? rest.removeFirst() : missing)")
        }
        return result
    }
}

struct Checkpoint: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Saves a session's whole process tree into one executable file.",
        discussion: "CKPT_PAUSE=PHASE waits for a debugger (or a kill) at the start of a phase; CKPT_LOG=LEVEL shows what happens.")
    @Argument(help: "The session: its name, its id or any pid in it.") var session: String
    @Option(name: .shortAndLong, help: "The statefile.  Default: NAME.ckpt in this folder.  -: stdout, for a pipe to `ckptctl restart -`.") var output: String?
    @Flag(help: "Kill the tree once the statefile is complete.") var kill = false
    @Flag(help: "Stop the tree (SIGSTOP) once the statefile is complete.") var stop = false
    @Option(help: "auto, core (gdb opens it) or exec (it runs without a binfmt rule).") var face = FacePreference.auto
    @Option(help: ArgumentHelp("Compress the memory: zstd, zstd:1 to zstd:22, lz4, none.", valueName: "METHOD[:LEVEL]")) var compress = Compression.none
    @Flag(name: .customLong("self-contained"), help: "Store the mapped files as well, so that it runs on a machine that has none of them.") var selfContained = false
    @Option(name: .customLong("save-files"), help: ArgumentHelp("Store the files that the tree writes, up to SIZE each (K, M, G; 1G where no =SIZE is given): a restart puts them back.", valueName: "SIZE"))
    var saveFiles: FileSize?
    @Option(help: ArgumentHelp("Write a delta: only the memory that is not as in this statefile, which a restart then needs beside it.  ckptctl merge makes one file.", valueName: "BASE")) var since: String?
    @Flag(name: .customLong("pre-copy"), help: "Write most memory while the tree runs, so that the pause takes what it has written meanwhile.") var preCopy = false
    @Option(help: .hidden) var track: Track?
    @Option(help: "TCP connections to programs outside of the tree: repair (record them so that a restart can go on with them), reset (a restart finds them broken), refuse; auto: repair where permitted, else reset.") var tcp = OutsideConnections.auto
    @Option(help: "Unread events of inotify queues: keep (a restart finds them; only root may look at them), refuse (the checkpoint, for the moment), overflow (a restart finds IN_Q_OVERFLOW in their place, as after too many events).") var inotify = UnreadEvents.keep
    @Flag(help: "Write memory past the page cache (O_DIRECT): for storage that is slower than memory, and to keep the cache for others.") var direct = false
    @Option(help: "Seconds that tasks may take to arrive.") var timeout = 10
    @Flag(help: "Print how long each phase took.") var timing = false
    @Flag(help: "Print JSON.") var json = false
    @Flag(name: .shortAndLong, help: "No progress bar and no hints.") var quiet = false

    func validate() throws {
        if kill && stop { throw ValidationError("--kill and --stop exclude each other.") }
        if compress != .none && face == .core { throw ValidationError("--face core shows memory to debuggers, which can't read compressed memory: leave --compress out, or use ckptctl gdb later.") }
        if output == "-" && face == .core { throw ValidationError("A stream has the exec face; ckptctl face core turns the file over that it becomes.") }
        if direct && (compress != .none || output == "-") { throw ValidationError("--direct goes with neither --compress nor -o -.") }
        if output == "-" && json { throw ValidationError("--json and -o - exclude each other: both take stdout.") }
        if since != nil && face == .core { throw ValidationError("--face core: a delta has no face for debuggers; ckptctl gdb opens it, and ckptctl merge makes one file.") }
        if preCopy && track != nil { throw ValidationError("--pre-copy and --track exclude each other: both note writes.") }
        if timeout < 1 || timeout > 86_400 { throw ValidationError("--timeout takes 1 to 86400 seconds.") }
    }

    func run() throws {
        let found = try ckptctl.session(session, for: "checkpoint")
        var options = CheckpointOptions(output: output == "-" ? "-" : absolutePath(output ?? "\(found.segment.nameOfFile).ckpt"))
        if output == "-" { try prepareStream() }
        options.compression = compress
        options.afterwards = kill ? .kill : stop ? .stop : .run
        options.face = face
        options.selfContained = selfContained
        options.saveFiles = saveFiles?.bytes
        options.outside = tcp
        options.unreadEvents = inotify
        options.direct = direct
        options.preCopy = preCopy
        options.track = track.map { ($0.into, $0.from) }
        options.since = since.map { absolutePath($0) }
        options.patience = timeout * 1000
        let pauseAt = Kernel.environment("CKPT_PAUSE")
        let bar = quiet ? nil : ProgressBar(found.segment.name)
        options.onPhase = {
            bar?.show(phase: $0)
            if $0 == pauseAt { bar?.erase(); note("paused at phase '\($0)' (pid \(Kernel.processID)); SIGCONT goes on"); Kernel.awaitContinue() }
        }
        options.onBytes = { bar?.show(done: $0, of: $1) }
        let report = perform(found.segment, options, bar)
        for remark in report.remarks { note(remark) }
        try show(report, options.output)
    }

    private func prepareStream() throws {
        let stream = File.standardOutput
        if stream.isTerminal { throw Problem(.usage, "checkpoint", object: session, cause: "stdout is a terminal", remedy: "pipe it into `ckptctl restart -`, or redirect it into a file") }
        if stream.isRegular && (stream.position != 0 || !stream.isEmpty) { throw Problem(.usage, "checkpoint", object: session, cause: "stdout is a file with something in it", remedy: "a statefile begins a file: use > instead of >>") }
        Kernel.ignoreBrokenPipes()
    }

    /// All that stands in the way is printed, a line each.
    private func perform(_ segment: Segment, _ options: CheckpointOptions, _ bar: ProgressBar?) -> CheckpointReport {
        defer { bar?.erase() }
        do throws(CheckpointFailure) {
            return try CkptInitiator.checkpoint(segment, options, log: logger())
        } catch {
            bar?.erase()
            for p in error.problems { Program.writeError("ckptctl: \(p)\n") }
            if json { try? ckptctl.output(refusal(error)) }
            Program.exit(error.status.rawValue)
        }
    }

    /// What stands in the way, for programs.
    private func refusal(_ failure: CheckpointFailure) -> JSON {
        ["session": .text(session), "status": JSON(failure.status.rawValue), "problems": .list(failure.problems.map { p in
            func number(_ word: String) -> JSON { p.cause.first { $0.hasPrefix(word + " ") }.flatMap { Int($0.dropFirst(word.count + 1)) }.map { JSON($0) } ?? .null }
            let cause = p.cause.filter { part in !["pid ", "fd "].contains { part.hasPrefix($0) && Int(part.dropFirst($0.count)) != nil } }
            return ["pid": number("pid"), "fd": number("fd"), "cause": .text(cause.joined(separator: ": ")), "remedy": JSON(p.remedy), "status": JSON(p.status.rawValue)]
        })]
    }

    private func logger() -> Logger {
        LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
        var log = Logger(label: "ckptctl")
        log.logLevel = Kernel.environment("CKPT_LOG").flatMap { Logger.Level(rawValue: String($0.split(separator: ":").last ?? "")) } ?? .notice
        return log
    }

    private func show(_ r: CheckpointReport, _ path: String) throws {
        if json {
            return try ckptctl.output(.object([
                .init("file", .text(path)), .init("face", .text(r.face)), .init("processes", JSON(r.processes)), .init("tasks", JSON(r.tasks)),
                .init("memory", JSON(r.memoryBytes)), .init("size", JSON(r.fileSize)), .init("stored", JSON(r.storedBytes ?? r.memoryBytes)), .init("pause", JSON(r.pause)), .init("kept", JSON(r.keptBytes)), .init("unread", JSON(r.unreadBytes)),
                .init("early", JSON(r.early?.bytes ?? 0)), .init("late", JSON(r.early?.lateBytes ?? 0)),
                .init("saved_files", JSON(r.savedFiles)), .init("saved_bytes", JSON(r.savedBytes)),
                .init("phases", .object(r.phases.map { .init($0.name, JSON($0.nanoseconds)) }))]))
        }
        if r.savedFiles > 0 { note("\(r.savedFiles) \(r.savedFiles == 1 ? "file" : "files") stored, \(sizeText(r.savedBytes)); the pause was longer by \(milliseconds(r.phases.first { $0.name == "files" }?.nanoseconds ?? 0))") }
        let packed = r.storedBytes.map { $0 == r.memoryBytes ? "" : " in \(sizeText($0))" } ?? ""
        let line = "\(r.processes) \(r.processes == 1 ? "process" : "processes"), \(r.tasks) \(r.tasks == 1 ? "task" : "tasks"), \(sizeText(r.memoryBytes))\(packed)\(kept(r)), paused \(milliseconds(r.pause))"
        if path == "-" { if !quiet { note("stdout: \(line)") } } else {
            try ckptctl.output("\(path): \(line)\n")
            if r.face == "exec" && !quiet && Kernel.environment("CKPT_QUIET") == nil && face == .auto { note("run it with \(path); open it with: ckptctl gdb \(path)") }
        }
        if timing, let e = r.early {
            Program.writeError("ckptctl: --pre-copy: \(sizeText(e.bytes)) read before the pause, \(sizeText(e.lateBytes)) in it; before it all were stopped \(e.stops.count) times, for \(milliseconds(e.stops.max() ?? 0)) at most\n")
        }
        if timing { for p in r.phases { Program.writeError("ckptctl: phase \(p.name): \(milliseconds(p.nanoseconds))\n") } }
    }
    private func kept(_ r: CheckpointReport) -> String {
        guard let since else { return "" }
        return " of \(sizeText(r.memoryBytes + r.keptBytes)) since \(since)"
    }
    private func milliseconds(_ ns: UInt64) -> String { "\(ns / 1_000_000).\(String(ns / 100_000 % 10)) ms" }
}

/// The two ends of a socket that whoever started us has open: INTO,FROM.
struct Track: ExpressibleByArgument {
    let into: Int32, from: Int32
    init?(argument: String) {
        let numbers = argument.split(separator: ",").compactMap { Int32($0) }
        guard numbers.count == 2 else { return nil }
        into = numbers[0]; from = numbers[1]
    }
}
