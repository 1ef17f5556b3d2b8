// What new networks and new namespaces of System V IPC are like, which the tree's own are compared with.  Known before the pause.
import CkptABI
import CkptSession
import CkptSystem

/// What somebody finds inside of one.
struct NamespaceInside {
    var settings: [String: String]
    var network: Result<ObservedNetwork, SystemError>?

    static let kinds = [(CKPT_NAMESPACE_NET, Namespace.net), (CKPT_NAMESPACE_IPC, Namespace.ipc)]
    static func look(_ kind: Namespace.Kind) -> NamespaceInside {
        let isNetwork = kind.name == Namespace.net.name
        return NamespaceInside(settings: Namespace.settings(isNetwork ? ["/proc/sys/net"] : Namespace.ipcSettings), network: isNetwork ? ObservedNetwork.here() : nil)
    }
}

final class NewNamespaces {
    private var known: [String: NamespaceInside] = [:]

    init(like processes: [Int32], _ segment: Segment) {
        for (number, kind) in NamespaceInside.kinds {
            let outer = ckpt_session_namespaces(segment.pointer)[Int(number.rawValue) - 1]
            for pid in processes where outer != 0 && Namespace.number(pid, kind.name) != outer { _ = try? like("/proc/\(pid)/ns/\(kind.name)", kind) }
        }
    }

    /// One of the same user namespace as that; all of them are alike.
    func like(_ path: String, _ kind: Namespace.Kind) throws(SystemError) -> NamespaceInside {
        let key = "\(kind.name) \(try Namespace.owner(path))"
        if let found = known[key] { return found }
        let new = try Namespace.insideNew(like: path, kind) { NamespaceInside.look(kind) }
        known[key] = new
        return new
    }
}
