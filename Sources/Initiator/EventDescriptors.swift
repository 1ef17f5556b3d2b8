// Descriptors of anonymous inodes: eventfd, timerfd, signalfd, epoll, … as /proc/PID/fdinfo shows them.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

extension SystemContent {
    /// The object of one of them.
    func eventObject(_ description: Int, _ f: OpenFile) -> UInt32? {
        let (what, remedy) = SystemContent.kindByName(f.sample)
        refusals.add(pid: f.samplePid, fd: f.sample.number, what, remedy)
        return nil
    }
}
