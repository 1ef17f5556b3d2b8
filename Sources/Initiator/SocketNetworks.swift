// In which network each socket is: the tree's, or one that only a part of the tree lives in.  A socket stays where it was made, whoever has it.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

/// Which of the networks of parts, by its place in the tree's namespaces; nil: the tree's own.
typealias PartNetwork = Int?

extension SystemContent {
    var partNetworks: [Int] { tree.namespaces.indices.filter { tree.namespaces[$0].kind == CKPT_NAMESPACE_NET && !tree.namespaces[$0].isWhole } }
    /// All that may have sockets of the tree, or ends of their connections.
    var networks: [PartNetwork] { [nil] + partNetworks }

    /// Looks where `s` is, if there is a choice.
    func locate(_ s: ObservedSocket) {
        let parts = partNetworks
        // Who may not ask has no power over that network: it is none of a part that could be looked at.
        guard !parts.isEmpty, let number = s.file.networkNamespace else { return }
        if let n = parts.first(where: { tree.namespaces[$0].number == number }) {
            s.network = n
            s.record.network = UInt8(n + 1)
            return
        }
        let whole = tree.namespaces.first { $0.kind == CKPT_NAMESPACE_NET && $0.isWhole }?.number
        let own = whole ?? ckpt_session_namespaces(segment.pointer)[Int(CKPT_NAMESPACE_NET.rawValue) - 1]
        if own != 0 && number != own && files.all[s.description].standard < 0 {
            refuse(s, "socket of a network namespace in which nobody of the tree lives", "close it before the checkpoint, or keep a process there")
        }
    }

    /// Somebody who lives there; for /proc/PID/net.
    func view(of network: PartNetwork) -> Int32 {
        if let network { return tree.namespaces[network].sample.view }
        return inhabitant?.view ?? tree.processes[tree.root].view
    }
    private var inhabitant: ObservedProcess? {
        let parts = partNetworks
        return tree.live.first { p in !parts.contains { p.namespaces[CKPT_NAMESPACE_NET.rawValue] == $0 } }
    }

    /// Runs `body` there.
    func inNetwork<T>(_ network: PartNetwork, _ body: () -> T) throws(SystemError) -> T {
        if let network { return try Namespace.inside("/proc/\(view(of: network))/ns/net", Namespace.net, body) }
        guard let path = inhabitant?.networkElsewhere else { return body() }
        return try Namespace.inside(path, Namespace.net, body)
    }

    /// Can it be bound there?
    func isLocal(_ e: Endpoint, _ network: PartNetwork) -> Bool { e.isLoopback || (try? inNetwork(network) { InternetTables.isLocal(e) }) ?? false }
    /// In which network: there or, but for a loopback, in another of the tree's.
    func home(of e: Endpoint, near network: PartNetwork) -> PartNetwork? {
        if isLocal(e, network) { return .some(network) }
        return e.isLoopback ? nil : networks.first { $0 != network && isLocal(e, $0) }
    }
}

extension ObservedSocket {
    /// Abstract names of Unix sockets are a network's own; paths are everybody's.
    func sharesNames(with other: ObservedSocket, _ name: [UInt8]) -> Bool { network == other.network || (name.count > 2 && name[2] != 0) }
}
