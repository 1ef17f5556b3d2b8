// Copies of the tasks' descriptors: by pidfd_getfd(2).
import CkptABI
import CkptSession
import CkptSystem

final class DescriptorFetch {
    init(_ segment: Segment) {}
    func copy(of pid: Int32, _ number: Int32) throws(SystemError) -> File { try File(of: pid, number: number) }
}
