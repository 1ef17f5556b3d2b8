// Sockets of the tree: which are connected to which, what is in their queues, their options.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

extension SystemContent {
    /// Looks at all sockets before any file is described: a queue may hold descriptors that nobody else has.
    func surveySockets(_ tree: ObservedTree) {}

    /// The object of one socket.
    func socketObject(_ description: Int, _ f: OpenFile) -> UInt32? {
        let (what, remedy) = SystemContent.kindByName(f.sample)
        refusals.add(pid: f.samplePid, fd: f.sample.number, what, remedy)
        return nil
    }
}
