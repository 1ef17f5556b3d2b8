// The restart engine: a static program without libc, embedded in every statefile.  It runs on its own stacks, never on the application's.
// This file is the protocol of a restart from top to bottom; each step's file is named by what it does.
import CkptABI
import CkptDecompress
import EngineBoot
import Freestanding

/// SwiftPM links Swift executables with --defsym main=MODULE_main.
@c(ckptengine_main) func unused(_ c: Int32, _ v: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> Int32 { 0 }

/// First half: in the image that the kernel mapped from the statefile.
@c(ckpt_start) func start(_ sp: UnsafeMutablePointer<UInt64>) -> Never {
    let stack = InitialStack(sp: sp), s = state
    initialise()
    let path = readOptions(stack)
    blockSignals()
    openStatefile(path)
    let superblock = readSuperblock()
    s.pointee.file_size = superblock.file_size
    s.pointee.statefile_id = withUnsafeBytes(of: superblock.id) { $0.load(as: UInt64.self) }
    if s.pointee.wants_warm != 0 { branchOff(stack, superblock) }
    readTables(superblock)
    verifyTables(fileSize: superblock.file_size)
    openBases()
    checkCpu()
    checkLabels()
    findSessionDirectory(stack)
    readClockOffsets()
    findVdso()
    timed("verify")
    if s.pointee.wants_template != 0 { prepareTemplate(stack, superblock, path); moveToRegion(continueAsTemplate) }
    moveToRegion(continueInRegion)
}

/// Second half: in a copy in memory, so that the statefile is nobody's text.
private let continueInRegion: @convention(c) (UInt64) -> Void = { oldImage in
    ckpt_decompress_begin()
    _ = ckpt_munmap(oldImage, state.pointee.image_size)
    parkVdso()
    reserveDescriptors()
    checkLazy()
    restart()
}

/// Once in an ordinary restart, and once in each branch of a template.
func restart() -> Never {
    enterWholeNamespaces()
    noteForeground()
    checkObjects()
    checkSystemV()
    putBackSavedFiles()
    createSegment()
    timed("files")
    makeMemoryObjects()
    makePipes()
    makeInternetSocketsEarly()
    openSharedDescriptions()
    finishMemoryObjects()
    releaseTerminal()
    restoreLocksInFlight()
    timed("shared objects")
    attempt(chooseMode())
}

/// One way to give pids.  When a pid is taken meanwhile, --pids auto comes here once more.
func attempt(_ mode: engine_pids) -> Never {
    let s = state
    s.pointee.mode = mode.rawValue
    clearBoard()
    dropTerminals()
    if mode == ENGINE_PIDS_NEW { warnNewPids() }
    planTree(adoptOrphans: mode != ENGINE_PIDS_NS)
    countRights()
    fillSegment()
    startServer()
    if mode == ENGINE_PIDS_NS {
        enterNamespaces()
        buildInNamespace()
    } else {
        enterTimeNamespace()
        buildTree()
    }
    timed("tree")
    adoptTerminal()
    openRepairedConnections()
    dropTreeDescriptors()
    release()
    timed("release")
    supervise()
}

func initialise() {
    let s = state
    s.pointee.is_engine = 1
    s.pointee.node = -1
    s.pointee.init_node = -1
    s.pointee.mapped_fd = -1
    s.pointee.report = -1
    s.pointee.released_terminal = -1
    for i: UInt32 in 0..<3 { engine_standard(i).pointee = -1 }
    s.pointee.engine_pid = ckpt_getpid()
    s.pointee.clock_start = nanoseconds(1)
    s.pointee.clock_last = s.pointee.clock_start
}

/// Everybody inherits this; the runtime's sigreturn sets each task's own mask, and its actions come from the records.
private func blockSignals() {
    var all = UInt64.max, standard = ckpt_sigaction()
    _ = ckpt_rt_sigprocmask(2, &all, nil)
    // Whoever started us may ignore SIGCHLD: then nobody would tell us of a child's end, nor how it was.
    _ = ckpt_rt_sigaction(sigchld, &standard, nil)
}

private func clearBoard() {
    let words = UnsafeMutablePointer<UInt64>(bitPattern: UInt(state.pointee.scratch))!
    for i in 0..<Int(boardBytes / 8) { words[i] = 0 }
}

private func warnNewPids() {
    var l = Line()
    l.put(text: engine_program())
    l.put(": restart: warning: --pids new: the processes get new pids; what the program remembers of them is wrong\n")
    l.write(to: Descriptor(state.pointee.standard.2 >= 0 ? state.pointee.standard.2 : 2))
}

/// Everybody is back in the runtime: the barrier opens.
private func release() {
    ckpt_store(ckpt_phase_word(session), phaseWord(CKPT_PHASE_RELEASE))
    _ = ckpt_futex_wake(ckpt_phase_word(session), Int32.max)
    ckpt_store(&board.pointee.stage, ENGINE_STAGE_RELEASED.rawValue)
    _ = ckpt_futex_wake(&board.pointee.stage, Int32.max)
    releaseLock()
    leaveSession()
}
