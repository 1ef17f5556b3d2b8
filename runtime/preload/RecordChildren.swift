// Runs in the SIGCKPT handler, every signal blocked.
// A child's stop or continuation that nobody has collected yet is visible only to a wait of its parent; with WNOWAIT it stays uncollected.
import CkptABI
import PreloadBoot
import Freestanding

func recordChildren(_ session: UnsafeMutablePointer<ckpt_session>, _ process: UnsafeMutablePointer<ckpt_process>) {
    let byPid = 1, noHang = 1, stopped = 2, continued = 8, noWait = 0x0100_0000, all = 0x4000_0000
    let queries = ckpt_arena(session, process.pointee.children_offset).assumingMemoryBound(to: ckpt_child_query.self)
    var i = 0
    while i < Int(process.pointee.children_count) {
        var info = ckpt_siginfo()
        let at = withUnsafeMutablePointer(to: &info) { Int(bitPattern: $0) }
        let r = ckpt_syscall(CKPT_SYS_waitid, byPid, Int(queries[i].pid), at, noHang | stopped | continued | noWait | all, 0, 0)
        if r == 0 && info.si_signo != 0 {
            queries[i].code = info.si_code
            // si_status follows si_pid and si_uid.
            queries[i].status = Int32(truncatingIfNeeded: info.si_value)
        }
        i += 1
    }
}
