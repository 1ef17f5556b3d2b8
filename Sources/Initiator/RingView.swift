// One io_uring, and all that may stand in the way of making an equal one.
import CkptABI
import CkptReport
import CkptSystem

struct RingObstacle {
    let what: String, remedy: String, passes: Bool
    init(_ what: String, _ remedy: String, passes: Bool = false) { self.what = what; self.remedy = remedy; self.passes = passes }
}

struct RingView {
    let note: ckpt_ring_note, contents: RingContents, info: DescriptorInfo
    init(_ note: ckpt_ring_note, _ contents: RingContents, _ info: DescriptorInfo) { self.note = note; self.contents = contents; self.info = info }

    private var parameters: ckpt_ring_parameters { note.parameters }
    private func has(_ operation: ckpt_ring_operation) -> Bool { note.registered & 1 << UInt64(operation.rawValue) != 0 }
    /// Where the words lie the program says; what lies outside is none.
    private func word(_ offset: UInt32) -> UInt32 { word(at: Int(offset)) }
    private func word(at offset: Int) -> UInt32 { offset > contents.rings.count - 4 ? 0 : contents.rings.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self) } }
    private func found(_ what: ckpt_ring_found) -> Bool { note.found & what.rawValue != 0 }

    private func mask(_ name: String) -> UInt32 { UInt32(info[name].dropFirst(2), radix: 16) ?? 0 }       // "0x7"

    var isDisabled: Bool { parameters.has(CKPT_RING_R_DISABLED) && !has(CKPT_RING_ENABLE) }
    var hasEvent: Bool { found(CKPT_RING_HAS_EVENTFD) }
    var submitted: UInt32 { UInt32(info.decimal("CachedSqHead")) }
    var completed: UInt32 { UInt32(info.decimal("CachedCqTail")) }
    var dropped: UInt32 { word(parameters.sq.dropped) }
    var files: UInt32 { UInt32(info.decimal("UserFiles")) }

    /// The first thing that can't be made again.
    func obstacle(_ generation: UInt32, isBusy: Bool) -> RingObstacle? {
        settingsObstacle() ?? registeredObstacle(generation) ?? (isBusy ? RingObstacle(", and a task is registering something just now", "try again", passes: true) : nil) ?? workObstacle()
    }

    private func settingsObstacle() -> RingObstacle? {
        if parameters.has(CKPT_RING_SQPOLL) { return RingObstacle(" with a thread that polls (IORING_SETUP_SQPOLL)", "make it without") }
        let unknown = parameters.flags & ~UInt32(CKPT_RING_KNOWN.rawValue)
        if unknown != 0 { return RingObstacle(" that was made with flags unknown here (0x\(hex(UInt64(unknown))))", "make it without") }
        if info["CachedSqHead"].isEmpty || info["UserFiles"].isEmpty { return RingObstacle(", and it is busy", "try again", passes: true) }
        if mask("SqMask") + 1 != parameters.sq_entries || mask("CqMask") + 1 != parameters.cq_entries || has(CKPT_RING_RESIZE) { return RingObstacle(" that has been resized", "make it as large as it must be") }
        if contents.rings.isEmpty || word(parameters.sq.head) != info.decimal("SqHead") || word(parameters.cq.tail) != info.decimal("CqTail") { return RingObstacle(" whose memory is not where it was given (IORING_SETUP_NO_MMAP)", "leave the memory in its place") }
        return nil
    }

    private func registeredObstacle(_ generation: UInt32) -> RingObstacle? {
        let close = "unregister it before the checkpoint"
        let lasting: [(ckpt_ring_operation, String)] = [(CKPT_RING_PERSONALITY, "a personality"), (CKPT_RING_RESTRICTIONS, "restrictions"), (CKPT_RING_WORKERS_AFFINITY, "CPUs of its workers"),
            (CKPT_RING_WORKERS, "a number of workers"), (CKPT_RING_CLOCK, "a clock"), (CKPT_RING_RECEIVE, "a receive queue"), (CKPT_RING_REGION, "a memory region")]
        for (operation, what) in lasting where has(operation) { return RingObstacle(" with which \(what) was registered", "do without, or close it before the checkpoint") }
        guard note.generation == generation && found(CKPT_RING_PROBED) && !found(CKPT_RING_FOREIGN) else {
            return parameters.has(CKPT_RING_SINGLE_ISSUER) ? RingObstacle(" of a single task (IORING_SETUP_SINGLE_ISSUER) that has ended", "close it") : RingObstacle(" that is no longer at the descriptor that it was made at", "leave it there")
        }
        if found(CKPT_RING_HAS_BUFFERS) { return RingObstacle(" with provided buffers", close) }
        if info.decimal("UserBufs") > 0 { return RingObstacle(" with registered buffers", close) }
        if files > 0 && (has(CKPT_RING_FILE_RANGE) || hasFiles) { return RingObstacle(" with registered files", close) }
        if info["NAPI"] != "disabled" && !info["NAPI"].isEmpty { return RingObstacle(" that polls the network (IORING_REGISTER_NAPI)", close) }
        if hasEvent && note.event == 0 { return RingObstacle(" that tells an eventfd which was not registered through libc or liburing's shared library", close) }
        return nil
    }
    private var hasFiles: Bool {
        guard let first = info.lines.firstIndex(where: { $0.name == "UserFiles" }) else { return false }
        return info.lines[(first + 1)...].prefix { UInt32($0.name) != nil }.contains { $0.value != "<none>" }
    }

    private func workObstacle() -> RingObstacle? {
        let again = "try again when they have completed"
        let inFlight = RingObstacle(": operations are in flight", again, passes: true)
        if info.lines.contains(where: { $0.name.hasPrefix("op=") || $0.name.hasPrefix("user_data=") }) { return inFlight }
        // NEED_WAKEUP, CQ_OVERFLOW, TASKRUN
        if word(parameters.sq.flags) & 7 != 0 { return inFlight }
        if submitted &- dropped != completed || completesRepeatedly { return RingObstacle(": operations are in flight, or there were some that complete more than once or not at all (multishot, IOSQE_CQE_SKIP_SUCCESS), which hides that", again, passes: true) }
        if submitted > UInt32(CKPT_RING_LIMIT) { return RingObstacle(" that has been used for \(submitted) operations, more than a restart makes again (\(CKPT_RING_LIMIT))", "make a new one from time to time") }
        return nil
    }
    /// A completion, read or not, that was not its operation's last (IORING_CQE_F_MORE, _NOTIF): the counts say nothing then.
    private var completesRepeatedly: Bool {
        let size = parameters.has(CKPT_RING_CQE32) ? 32 : 16, flagsAt = 12, repeated: UInt32 = 2 | 8
        return (0..<min(Int(parameters.cq_entries), Int(completed), contents.rings.count / size)).contains { word(at: Int(parameters.cq.cqes) + $0 * size + flagsAt) & repeated != 0 }
    }
}
