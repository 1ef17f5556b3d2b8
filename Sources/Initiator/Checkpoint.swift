// The checkpoint, from the call to the commit.  The function `checkpoint` is the list of phases; each phase has a file of its own.
import CkptABI
import CkptCompression
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem
import Logging

public enum Afterwards: Sendable { case run, kill, stop }
public enum FacePreference: String, Sendable, CaseIterable { case auto, core, exec }

public struct CheckpointOptions: Sendable {
    /// A path, or "-": stdout.
    public var output: String
    public var compression = Compression.none
    public var afterwards = Afterwards.run
    public var face = FacePreference.auto
    public var selfContained = false
    /// Files that the tree writes are stored up to this size; nil: none.
    public var saveFiles: UInt64?
    /// Memory is written with O_DIRECT.
    public var direct = false
    public var outside = OutsideConnections.auto
    /// What becomes of unread events of inotify queues.
    public var unreadEvents = UnreadEvents.keep
    /// A delta: pages that this statefile has as they are now are not written.
    public var since: String?
    /// Two ends of a socket that keeps what --track needs between two checkpoints.
    public var track: (into: Int32, from: Int32)?
    /// Most memory is written while the tree runs.
    public var preCopy = false
    /// How long tasks may take to arrive, in milliseconds.
    public var patience = 10_000
    /// Called at the start of each phase (CKPT_PAUSE, progress).
    public var onPhase: @Sendable (String) -> Void = { _ in }
    /// Called while memory is written: how much is, and how much it will be at most.
    public var onBytes: @Sendable (_ done: UInt64, _ expected: UInt64) -> Void = { _, _ in }
    public init(output: String) { self.output = output }
}

/// What was done and how long each phase took.
public struct CheckpointReport: Sendable {
    public var phases: [(name: String, nanoseconds: UInt64)] = []
    public var pause: UInt64 = 0            // ns from the first signal to the release
    public var processes = 0, tasks = 0
    public var fileSize: UInt64 = 0, memoryBytes: UInt64 = 0
    public var storedBytes: UInt64?         // what the memory takes in the file, where it is packed
    public var keptBytes: UInt64 = 0        // a delta: memory that stays in its base
    public var unreadBytes: UInt64 = 0      // of that: what nobody had to read there
    public var face = ""
    public var early: EarlyReport?          // --pre-copy
    public var remarks: [String] = []
    public var savedFiles = 0, savedBytes: UInt64 = 0       // --save-files; copied within the pause
}

/// Everything that stands in the way, one line each; nothing has changed for the tasks.
public struct CheckpointFailure: Error, Sendable {
    public var problems: [Problem]
    /// What stands in the way goes by itself when the tasks run on: a moment between two steps of theirs.
    public let passesSoon: Bool
    /// What EarlyMappings took for true was not.
    let mappingsChanged: Bool
    public init(_ problems: [Problem], passesSoon: Bool = false) { self.problems = problems; self.passesSoon = passesSoon; mappingsChanged = false }
    static var mappingsChanged: CheckpointFailure { CheckpointFailure(mappingsChanged: true) }
    private init(mappingsChanged: Bool) {
        problems = [Problem(.temporary, "checkpoint", cause: "its memory changes faster than it can be looked at", remedy: "try again")]
        passesSoon = true; self.mappingsChanged = mappingsChanged
    }
    /// Trying again helps only if it helps against all.
    public var status: ExitStatus { problems.first { $0.status != .temporary }?.status ?? problems.first?.status ?? .internal }
}

public func checkpoint(_ segment: Segment, _ options: CheckpointOptions, log: Logger) throws(CheckpointFailure) -> CheckpointReport {
    let attempts = 8
    // What has gone into a pipe can't be written again: the next attempt goes on behind it.
    var sent: Draft?
    var reliesOnEarly = options.afterwards == .run
    let watchedPlaces = WatchedPlaces()
    for attempt in 1...attempts {
        let operation = Operation(segment, options, log, watchedPlaces, reliesOnEarly: reliesOnEarly)
        do throws(CheckpointFailure) {
            return try operation.run(behind: sent)
        } catch {
            if operation.draft?.hasBegun ?? false { sent = operation.draft }
            if error.mappingsChanged { reliesOnEarly = false; log.debug("memory was advised differently meanwhile: again, with smaps read in the pause"); continue }
            // A vfork child that waits for a stopped task, a connection that is about to be accepted: everybody goes on, and we come back.
            guard error.passesSoon, attempt < attempts else { throw error }
            Kernel.sleep(milliseconds: 20 * attempt)
        }
    }
    throw CheckpointFailure([Problem(.temporary, "checkpoint", object: segment.name, cause: vforkCause)])
}
let vforkCause = "a vfork child does not get to its exec"

/// One attempt.  The barrier's lock is held, and the statefile has no name, for as long as it lives.
final class Operation {
    let segment: Segment
    let options: CheckpointOptions
    let log: Logger
    var report = CheckpointReport()
    var ownUsers: IdMaps?                       // the tree's own user namespace
    var pairs: Set<String> = []                 // virtual devices that one end has brought along
    private(set) var newNamespaces: NewNamespaces
    private(set) var draft: Draft?
    private var intake: PageIntake?
    private(set) var base: DeltaBase?
    var sentSince: KnownRuns?                   // a delta whose pages are sent to us
    private(set) var tracker: WriteTracker?
    private(set) var preCopy: PreCopy?
    private var phaseStart: UInt64 = 0
    private var phaseName = ""

    let watchedPlaces: WatchedPlaces
    let reliesOnEarly: Bool

    init(_ segment: Segment, _ options: CheckpointOptions, _ log: Logger, _ watchedPlaces: WatchedPlaces, reliesOnEarly: Bool) {
        self.watchedPlaces = watchedPlaces
        self.segment = segment; self.options = options; self.log = log; self.reliesOnEarly = reliesOnEarly
        newNamespaces = NewNamespaces(like: [], segment)
    }

    func run(behind sent: Draft?) throws(CheckpointFailure) -> CheckpointReport {
        Kernel.permitOpenFiles()            // a copy of what shows its state only through a descriptor; two per writer
        do throws(Problem) { base = try options.since.map { path throws(Problem) in try DeltaBase(path, output: options.output) } } catch { throw CheckpointFailure([error]) }
        // Where writers can't compare, and of what is read while the tree runs, pages are compared here.
        let isSent = base.map { $0.hasFrames || options.preCopy } ?? false
        if options.direct && isSent { throw CheckpointFailure([problem(.usage, "--direct does not go with a base that is compressed, nor with --pre-copy and --since", remedy: "leave it out")]) }
        tracker = options.track.flatMap { ends in (try? File(of: Kernel.processID, number: ends.from)).map { WriteTracker(into: ends.into, from: $0) } }
        let draft: Draft
        if let sent { draft = sent } else { draft = try Draft(options.output, name: segment.name, compression: options.compression, isPacked: isSent) }
        self.draft = draft
        let lock = try SessionLock(segment)
        if options.preCopy { phase("early"); preCopy = try copyEarly(draft, lock) }
        let barrier = try Barrier(segment, lock, log)
        let census = Census(segment, barrier, patience: options.patience, log)
        do throws(CheckpointFailure) {
            phase("find")
            try census.findMembers()
            watchedPlaces.find(for: census.processes)
            let early = reliesOnEarly ? preCopy?.mappings ?? EarlyMappings(of: census.processes, segment) : nil
            newNamespaces = NewNamespaces(like: census.processes.map(\.pid), segment)
            let numbering = folderNumbering(census)
            phase("call")
            try census.callEverybody()
            phase("stopped")
            try barrier.enter(CKPT_PHASE_STOPPED)
            census.seeWhoWasContinued()
            barrier.whileWaiting = { [weak census] in census?.serveStoppedTasks() }
            phase("record")
            let tree = try observe(census, early, segment)
            tree.folderNumbering = numbering
            if let preCopy { phase("changed"); takeChanged(tree, preCopy); phase("record") }
            // First: what was typed may still become a signal.
            try recordTerminals(tree, barrier)
            try recordQueues(tree, barrier)
            try recordSignals(tree, barrier)
            try recordSystemV(tree, barrier)
            try recordRings(tree, barrier)
            try beginTracking(tree, barrier)
            let fetch = try fetchDescriptors(tree, barrier)
            phase("system")
            observeNamespaces(tree)
            let visit = enterWholeMounts(tree)
            defer { visit?.end() }
            let content = try gatherSystem(tree, segment, options, draft, fetch)
            if content.refusals.problems.isEmpty {
                if options.saveFiles != nil { phase("files") }
                try saveFiles(tree, content, limit: options.saveFiles)
                try saveMounts(tree, content, draft)
            }
            phase("memory")
            let plan = try planMemory(tree, content, segment, draft, options)
            visit?.end()
            let intake = try takeIn(tree, plan, draft)
            defer { intake?.stop() }
            self.intake = intake
            let server = try ChannelServer(segment, try draft.forWriters(direct: options.direct), intake, generation: barrier.generation, tree.live,
                                           networks: networks(tree), bases: base?.files ?? [])
            defer { server.stop() }
            try saveMemory(tree, plan, draft, barrier, server)
            if options.afterwards == .run {
                phase("release")
                census.letStoppedTasksGo()
                barrier.release(except: census.stoppedTasks)
                report.pause = Kernel.clock(1) - census.firstSignal
                phase("write")
                preCopy?.unprotect()
            }
            do throws(CheckpointFailure) {
                if options.afterwards == .run { try awaitSnapshots(tree, plan, barrier, server) }
                try rehearseEvents(content)
                phase("commit")
                try commit(tree, content, plan, draft, try packed(intake, tree, draft))
            } catch {
                if options.afterwards == .run { endSnapshots(tree, barrier) }
                throw error
            }
            finish(tree, content, census, barrier)
        } catch {
            tracker?.drop()
            census.letStoppedTasksGo()
            barrier.abort(except: census.stoppedTasks)
            let failure = failureOfATask(error)
            throw failure
        }
        phase("")
        return report
    }

    /// Ends the phase before and starts one; its name is what --timing prints and CKPT_PAUSE takes.
    func phase(_ name: String) {
        let now = Kernel.clock(1)
        if !phaseName.isEmpty { report.phases.append((phaseName, now - phaseStart)) }
        phaseName = name
        if name.isEmpty { return }
        log.debug("phase \(name)")
        options.onPhase(name)
        phaseStart = Kernel.clock(1)
    }

    func problem(_ status: ExitStatus, _ cause: String..., remedy: String? = nil) -> Problem {
        var p = Problem(status, "checkpoint", object: segment.name, remedy: remedy)
        p.cause = cause
        return p
    }

    /// When the barrier broke because a task failed, the task's word counts, not ours.
    private func failureOfATask(_ error: CheckpointFailure) -> CheckpointFailure {
        if let e = intake?.failure { return unwritable(e) }
        let failure = segment.pointer.pointee.failure
        guard failure.code != 0, failure.code != CKPT_ERROR_INITIATOR.rawValue else { return error }
        return CheckpointFailure([Problem(failure, session: segment.name)])
    }

    /// --kill, --stop, and the release of those who waited for the commit.
    private func finish(_ tree: ObservedTree, _ content: SystemContent, _ census: Census, _ barrier: Barrier) {
        segment.pointer.pointee.checkpoints &+= 1
        switch options.afterwards {
        case .run:
            reapSnapshots(tree, barrier)
            return
        case .kill:
            // END first: should we die now, whoever is left ends by itself instead of running on without the others.
            barrier.end()
            content.endConnections()
            for p in tree.processes where !p.isZombie { Kernel.kill(pid: p.pid, 9) { p.stillLives } }
            // A process whose threads we trace is gone when we have seen each of them go.
            census.seeTracedTasksEnd()
            let deadline = Kernel.clock(1) + 5_000_000_000
            while Kernel.clock(1) < deadline, tree.processes.contains(where: { $0.stillLives }) { Kernel.sleep(milliseconds: 1) }
            segment.remove()
        case .stop:
            for p in tree.processes where !p.isZombie { Kernel.kill(pid: p.pid, 19) { p.stillLives } }
            barrier.release(except: Int.max)
        }
        report.pause = Kernel.clock(1) - census.firstSignal
    }
}
