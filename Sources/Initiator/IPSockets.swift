// Sockets of the Internet families, and those of families that nothing restores.
import CkptABI
import CkptReport
import CkptSystem

extension SocketOption {
    /// The options of IP, IPv6, TCP and UDP.
    nonisolated(unsafe) static let internet: [SocketOption] = []
}

extension SystemContent {
    func surveyIPSocket(_ s: ObservedSocket, _ tree: ObservedTree) {
        refuse(s, "socket of family \(s.family)", "close it before the checkpoint, or use a Unix socket")
    }
}
