// Processes that don't let the caller see what they map: PR_SET_DUMPABLE, more rights than the caller, another user namespace.
import CkptABI
import CkptSystem

public enum HiddenProcesses {
    /// One that may be of the session's user, handles or blocks SIGCKPT as members do, and is not older than the session.
    static func mayBelong(to segment: Segment) -> Bool {
        let overflow = 65534        // who has no number in our user namespace
        let users = [Int(segment.pointer.pointee.uid), Int(Kernel.userID), overflow]
        return Proc.processes().contains { pid in
            guard let stat = ProcStat(pid: pid), !stat.hasNoMemory, isHidden(stat), let status = ProcStatus(pid: Proc.view(of: stat)) else { return false }
            return (status.hex("SigCgt") | status.hex("SigBlk")) & ckpt_sigckpt_bit() != 0 && status.numbers("Uid").contains(where: users.contains) && isYounger(stat, than: segment)
        }
    }
    public static func isHidden(_ stat: ProcStat) -> Bool {
        let notPermitted: Int32 = 1, noAccess: Int32 = 13
        do throws(SystemError) { _ = try File("/proc/\(Proc.view(of: stat))/maps"); return false } catch { return error.errno == noAccess || error.errno == notPermitted }
    }
    public static func isYounger(_ stat: ProcStat, than segment: Segment) -> Bool {
        let second: UInt64 = 1_000_000_000, started = Kernel.clock(0) &- Kernel.clock(7) &+ stat.startTime * (second / 100)        // clock ticks since boot
        return started &+ second > segment.created
    }
}
