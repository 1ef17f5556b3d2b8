// Words for numbers: a task's failure, signals, wait statuses.
import CkptABI
import CkptSystem

/// What a task meant by the failure that it left in the session.
public func words(for failure: ckpt_failure) -> String {
    let noSpace: Int32 = 28
    let cause = switch ckpt_error(rawValue: failure.code) {
    case CKPT_ERROR_NONE: "no failure"
    case CKPT_ERROR_TRAP: "the runtime found a fault in itself"
    case CKPT_ERROR_SLOTS: "more processes or threads than a session can hold (\(CKPT_MAX_PROCESSES) and \(CKPT_MAX_TASKS))"
    case CKPT_ERROR_ARENA: "the session's arena is full"
    case CKPT_ERROR_CLONE: "the snapshot could not be cloned"
    case CKPT_ERROR_CONNECT: "the initiator could not be reached"
    case CKPT_ERROR_DESCRIPTOR: "the statefile's descriptor did not arrive"
    case CKPT_ERROR_PAGEMAP: "its page map could not be read"
    case CKPT_ERROR_WRITE: "writing its memory to the statefile failed"
    case CKPT_ERROR_RSEQ: "it registered an rseq area that is not libc's"
    case CKPT_ERROR_APPLICATION: "the application refused"
    case CKPT_ERROR_INITIATOR: "the initiator died"
    case CKPT_ERROR_RESTORE: "it could not restore a part of itself"
    case CKPT_ERROR_SIGNALS where failure.errno_value == noSpace: "signals were sent to it faster than they could be recorded"
    case CKPT_ERROR_SIGNALS: "its pending signals could not be read"
    case CKPT_ERROR_UNMAP: "it could not give memory back"
    case CKPT_ERROR_QUEUE: "a POSIX message queue did not take back what was in it"
    case CKPT_ERROR_SEGMENT: "System V shared memory could not be attached"
    case CKPT_ERROR_TERMINAL: "a pseudo-terminal did not take back what was unread in it"
    default: "failure \(failure.code)"
    }
    let detail = failure.detail == 0 ? "" : " (0x\(hex(failure.detail)))"
    let reason = failure.errno_value == 0 ? "" : ": " + SystemError("", errno: failure.errno_value).text
    return cause + detail + reason
}

extension Problem {
    /// A task's failure, as one of the checkpoint that it stands in the way of.
    public init(_ failure: ckpt_failure, session: String) {
        let outOfSpace: [Int32] = [28, 122], tooLarge: Int32 = 27         // ENOSPC, EDQUOT; EFBIG
        let (status, remedy): (ExitStatus, String?) = switch ckpt_error(rawValue: failure.code) {
        case CKPT_ERROR_WRITE where outOfSpace.contains(failure.errno_value): (.system, "free space, or choose another place with -o")
        case CKPT_ERROR_WRITE where failure.errno_value == tooLarge: (.system, "raise the limit on file sizes (ulimit -Hf) of the program, or choose a place that takes larger files with -o")
        case CKPT_ERROR_WRITE: (.system, "choose another place with -o")
        case CKPT_ERROR_SIGNALS where outOfSpace.contains(failure.errno_value): (.temporary, "try again")
        case CKPT_ERROR_CLONE: (.temporary, "free memory, and try again")
        case CKPT_ERROR_TRAP: (.internal, nil)
        case CKPT_ERROR_CONNECT, CKPT_ERROR_DESCRIPTOR, CKPT_ERROR_PAGEMAP, CKPT_ERROR_SIGNALS, CKPT_ERROR_UNMAP, CKPT_ERROR_SEGMENT, CKPT_ERROR_QUEUE, CKPT_ERROR_TERMINAL: (.system, "try again")
        default: (.refused, nil)
        }
        self.init(status, "checkpoint", object: session, cause: "pid \(failure.pid)", words(for: failure), remedy: remedy)
    }
}

/// SIGTERM, SIGRTMIN+3, …
public func signalName(_ signal: Int32) -> String {
    let names = ["HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT",
                 "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS"]
    if signal >= 1 && signal <= names.count { return "SIG" + names[Int(signal) - 1] }
    if signal == 34 { return "SIGRTMIN" }
    if signal > 34 && signal <= 64 { return "SIGRTMIN+\(signal - 34)" }
    return "signal \(signal)"
}

/// "exited with status 3", "killed by SIGTERM"
public func waitStatusWords(_ status: Int32) -> String {
    let signal = status & 0x7f
    if signal == 0 { return "exited with status \((status >> 8) & 0xff)" }
    return "killed by \(signalName(signal))" + (status & 0x80 != 0 ? " (core dumped)" : "")
}
