// Runs in every process of a restart, on its own stacks; no allocation, no libc.
// The one way to fail: the first failure is written on the board (or, before there is one, on standard error) with what, why and the
// remedy; the stage becomes ABORT and everybody ends.  Nothing half-restored runs the application's code.
import CkptABI
import EngineBoot
import Freestanding

enum Exit: Int32 { case usage = 64, badStatefile = 65, lacks = 69, internalError = 70, systemCall = 71, temporary = 75 }

/// Ends the restart.  `body` words the failure: object, cause; remedy.
func refuse(_ code: Exit, _ body: (inout Line) -> Void) -> Never {
    var line = Line()
    line.put(text: engine_program()); line.put(": restart: ")
    body(&line)
    line.put("\n")
    publish(code, line, taken: false)
}
/// The same for a system call that failed with `result` (a negative errno).
func refuse(_ result: Int, _ body: (inout Line) -> Void) -> Never {
    let code: Exit = result == -11 || result == -12 ? .temporary : .systemCall
    refuse(code) { l in body(&l); l.put(": "); putError(result, &l) }
}
/// A pid or tid is in use: another way to give pids may still succeed.
func refuseTaken(pid: Int32, _ result: Int) -> Never {
    var line = Line()
    line.put(text: engine_program())
    line.put(": restart: pid "); line.put(signed: Int64(pid))
    if result == -17 { line.put(": in use by another process; end that process, or use --pids ns") }
    else if result == -22 { line.put(": higher than this machine allows; raise sysctl kernel.pid_max, or use --pids new") }
    else { line.put(": cannot be chosen: "); putError(result, &line); line.put("; use --pids ns, or --pids new") }
    line.put("\n")
    publish(.temporary, line, taken: true)
}

/// The same for an id or key of System V IPC: a tree in namespaces has its own.
func refuseTakenIPC(_ i: Int) -> Never {
    var line = Line()
    line.put(text: engine_program()); line.put(": restart: ")
    putIPC(i, &line)
    line.put("its id or key is in use here; remove that one (ipcrm), or use --pids ns\n")
    publish(.temporary, line, taken: true)
}

private func publish(_ code: Exit, _ line: borrowing Line, taken: Bool) -> Never {
    guard state.pointee.scratch != 0 else { line.write(to: Descriptor(2)); ckpt_exit_group(code.rawValue) }
    // The tree runs already: its memory's keeper ends it.
    if state.pointee.is_server != 0 && ckpt_load(&board.pointee.stage) == ENGINE_STAGE_RELEASED.rawValue {
        line.write(to: Descriptor(state.pointee.standard.2))
        ckpt_exit_group(code.rawValue)
    }
    if ckpt_cas(&board.pointee.failure, 0, 1) {
        line.copy(to: engine_board_text(board), capacity: 1024)
        board.pointee.text_length = UInt32(line.count)
        board.pointee.exit_code = code.rawValue
        board.pointee.pid_taken = taken ? 1 : 0
        ckpt_store(&board.pointee.failure, 2)
    }
    removeAllNames()
    abortStage()
    if state.pointee.is_engine != 0 { endFailed() }
    ckpt_exit_group(code.rawValue)
}

func abortStage() {
    ckpt_store(&board.pointee.stage, ENGINE_STAGE_ABORT.rawValue)
    _ = ckpt_futex_wake(&board.pointee.stage, Int32.max)
    _ = ckpt_futex_wake(&board.pointee.ready, Int32.max)
}

/// The runtime's trap function: an overflow or an index out of bounds is a bug of ours.
@c(ckpt_trap) func trap() -> Never { refuse(.internalError) { $0.put("internal error in the restart engine; report it with the statefile") } }

func putError(_ result: Int, _ l: inout Line) { l.put(Errno(Int32(truncatingIfNeeded: -result))) }

/// "pid 812 (make)" as every message about a process starts.
func putProcess(_ i: Int, _ l: inout Line) {
    let p = processes[i]
    l.put("pid "); l.put(signed: Int64(p.pointee.pid))
    if p.pointee.comm != 0 { l.put(" ("); l.put(text: bytes(p.pointee.comm)); l.put(")") }
    l.put(": ")
}
func putThisProcess(_ l: inout Line) { putProcess(Int(state.pointee.process), &l) }
