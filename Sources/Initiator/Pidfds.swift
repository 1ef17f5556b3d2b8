// Pidfds: they are opened again when their processes exist.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

extension SystemContent {
    private static let threadFlag: UInt32 = 0o200           // PIDFD_THREAD is O_EXCL

    /// false: refused.
    func record(_ info: DescriptorInfo, pidfd f: OpenFile, _ e: inout ckpt_event_record) throws(SystemError) -> Bool {
        let pid = Int32(info["Pid"]) ?? 0
        func refuse(_ what: String, _ remedy: String) -> Bool {
            refusals.add(pid: f.samplePid, fd: f.sample.number, "pidfd: \(what)", remedy)
            return false
        }
        // A message would carry what stands in its place until its process exists.
        if f.heldOtherwise > 0 { return refuse("in a message that is not received yet", "receive it before the checkpoint") }
        if tree.processes.contains(where: { $0.ownPid == 1 }) { return refuse("in a tree with a process 1 of its own", "close it") }
        if pid < 0 {
            // Ended and waited for; newer kernels remember how.
            e.flags = CKPT_EVENT_REAPED.rawValue
            e.value = UInt64(try fetch.copy(of: f.samplePid, f.sample.number).exitStatus() ?? 0)
            return true
        }
        if f.sample.flags & SystemContent.threadFlag != 0 && !tree.processes.contains(where: { $0.pid == pid }) { return refuse("of a thread", "close it") }
        guard let p = tree.processes.first(where: { $0.pid == pid }) else {
            return refuse("of process \(pid), which is outside the tree", "close it, or start that process under the same ckrun")
        }
        e.value = UInt64(p.ownPid)
        return true
    }
}
