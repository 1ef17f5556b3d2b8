// Networks that the tree has for itself: pairs of virtual devices (veth) whose ends are both in namespaces of the tree, their addresses and routes.
// The tables have the very messages by which the kernel makes them again (rtnetlink(7)).
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

/// One message to the kernel.
struct NetworkStep {
    var stage: ckpt_network_stage, message: [UInt8], what: String
    var place = 0, other: UInt32?               // where in the message the descriptor of the other end's namespace goes; its number
}

private enum Link {
    static let address: UInt16 = 1, name: UInt16 = 3, mtu: UInt16 = 4, peer: UInt16 = 5, queueing: UInt16 = 6, master: UInt16 = 10, length: UInt16 = 13, info: UInt16 = 18,
               alias: UInt16 = 20, families: UInt16 = 26, group: UInt16 = 27, namespaceFile: UInt16 = 28, sending: UInt16 = 31, receiving: UInt16 = 32, place: UInt16 = 37, program: UInt16 = 43
    static let make: UInt16 = 16, inet6: UInt16 = 10
    static let up: UInt32 = 1, settable: UInt32 = 1 | 0x80 | 0x100 | 0x200 | 0x1000        // UP, NOARP, PROMISC, ALLMULTI, MULTICAST
}

/// What there is in one network namespace.
struct ObservedNetwork {
    var links: [RoutingMessage] = [], addresses: [RoutingMessage] = [], routes: [RoutingMessage] = [], neighbours: [RoutingMessage] = [], rules: [RoutingMessage] = [], queues: [RoutingMessage] = []
    /// That where we are.
    static func here() -> Result<ObservedNetwork, SystemError> {
        Result { () throws(SystemError) -> ObservedNetwork in
            var n = ObservedNetwork()
            n.links = try Routing.all(Routing.links); n.addresses = try Routing.all(Routing.addresses); n.neighbours = try Routing.all(Routing.neighbours)
            n.queues = try Routing.all(Routing.queues)
            n.routes = try Routing.all(Routing.routes, family: 2); n.rules = try Routing.all(Routing.rules, family: 2)
            // Not in every kernel.
            n.routes += (try? Routing.all(Routing.routes, family: 10)) ?? []; n.rules += (try? Routing.all(Routing.rules, family: 10)) ?? []
            return n
        }
    }
    func name(_ index: UInt32) -> String { links.first { $0.fixedWord(4) == index }?.text(Link.name) ?? "\(index)" }
}

extension Operation {
    /// In the order in which they can be made.
    func lookAtNetwork(_ n: inout ObservedNamespace, _ own: ObservedNetwork, _ fresh: ObservedNetwork, _ here: String, _ tree: ObservedTree, _ refuse: (String, String) -> Void) throws(SystemError) {
        let remedy = "start ckrun inside of the namespace"
        for link in own.links where link.fixedWord(4) != 1 {
            let name = own.name(link.fixedWord(4)), kind = link[Link.info].flatMap { RoutingMessage.attributes($0[...]).first { $0.kind == 1 }?.value }
            guard let kind, String(decoding: kind.prefix { $0 != 0 }, as: UTF8.self) == "veth" else { refuse("network device \(name) in a network namespace of its own", remedy); continue }
            let plain = [Link.master, Link.alias].allSatisfy { link[$0] == nil } && (link.word(Link.group) ?? 0) == 0 && ["noqueue", "noop"].contains(link.text(Link.queueing) ?? "")
                && (link[Link.program].flatMap { RoutingMessage.attributes($0[...]).first { $0.kind == 2 }?.value.first } ?? 0) == 0
            guard plain else { refuse("network device \(name) with a bridge, alias, group, queue or program of its own", remedy); continue }
            guard let other = try otherEnd(of: link, here, tree) else { refuse("network device \(name), whose other end is outside of the tree", "take both ends into namespaces of the tree, or \(remedy)"); continue }
            n.steps += pair(link, other, n.number, name)
            n.steps += raise(link, name)
        }
        for a in own.addresses {
            let index = a.fixedWord(4), permanent: UInt8 = 0x80
            if index == 1 {
                let text = addressText(a)
                if text == "127.0.0.1" { n.loopback = own.links.contains { $0.fixedWord(4) == 1 && $0.fixedWord(8) & Link.up != 0 } }
                if !["127.0.0.1", "::1"].contains(text) { refuse("address \(text) of the loopback in a network namespace of its own", "remove it, or \(remedy)") }
                continue
            }
            guard a.fixed[2] & permanent != 0 else { refuse("address \(addressText(a)) of \(own.name(index)), which is there for a while only", "remove it"); continue }
            n.steps.append(again(a, "address \(addressText(a)) of \(own.name(index))"))
        }
        var routes: [NetworkStep] = []
        for r in own.routes {
            let byKernel: UInt8 = 2, byAdvertisement: UInt8 = 9, cloned: UInt32 = 0x200, gateway: UInt16 = 5, several: UInt16 = 9, object: UInt16 = 30
            if r.fixed[5] == byKernel || r.fixedWord(8) & cloned != 0 { continue }
            if r.fixed[5] == byAdvertisement || r[object] != nil { refuse("a route of a router or a nexthop object in a network namespace of its own", "remove it"); continue }
            // rta_cacheinfo: references, last use, when it expires.
            if let cache = r[12], cache.count >= 12, cache[8..<12].contains(where: { $0 != 0 }) { refuse("a route that is there for a while only in a network namespace of its own", "remove it"); continue }
            let step = again(r, "a route")
            // A gateway must be reachable first.
            if r[gateway] != nil || r[several] != nil { routes.append(step) } else { routes.insert(step, at: 0) }
        }
        n.steps += routes
        if own.rules != fresh.rules { refuse("rules for routes in a network namespace of its own", "remove them, or \(remedy)") }
        for q in own.queues { if let kind = q.text(1), !["noqueue", "noop"].contains(kind) { refuse("a queue (\(kind)) of a device in a network namespace of its own", "remove it (tc qdisc del)") } }
        let permanent: UInt8 = 0x80
        if own.neighbours.contains(where: { $0.fixed[8] & permanent != 0 }) { refuse("permanent neighbours in a network namespace of its own", "remove them") }
    }

    /// Where the other end is: nil outside of the tree, 0 in the same namespace.
    private func otherEnd(of link: RoutingMessage, _ here: String, _ tree: ObservedTree) throws(SystemError) -> (link: RoutingMessage, number: UInt32)? {
        guard let index = link.word(Link.peer) else { return nil }
        func found(_ path: String, _ number: UInt32) throws(SystemError) -> (link: RoutingMessage, number: UInt32)? {
            try Namespace.inside(path, Namespace.net, ObservedNetwork.here).get().links.first { $0.fixedWord(4) == index }.map { ($0, number) }
        }
        guard let place = link.word(Link.place) else { return try found(here, 0) }
        let outer = ckpt_session_namespaces(segment.pointer)[Int(CKPT_NAMESPACE_NET.rawValue) - 1], me = Namespace.number(at: here)
        var seen: Set<UInt32> = []
        for p in tree.live {
            guard let number = p.namespace("net"), number != outer, number != me, seen.insert(number).inserted else { continue }
            let path = "/proc/\(p.view)/ns/net", file = try File(path)
            let called: Result<UInt32?, SystemError> = try Namespace.inside(here, Namespace.net) { Result { () throws(SystemError) -> UInt32? in try Routing.number(of: file) } }
            if try called.get() == place { return try found(path, number) }
        }
        return nil
    }

    /// Made once, by the end that comes first.
    private func pair(_ one: RoutingMessage, _ other: (link: RoutingMessage, number: UInt32), _ number: UInt32, _ name: String) -> [NetworkStep] {
        let ends = ["\(number) \(one.fixedWord(4))", "\(other.number == 0 ? number : other.number) \(other.link.fixedWord(4))"].sorted()
        guard pairs.insert(ends.joined(separator: " ")).inserted else { return [] }
        let create: UInt16 = 0x605, kept = [Link.name, Link.address, Link.mtu, Link.length, Link.sending, Link.receiving]
        func fixed(_ l: RoutingMessage) -> [UInt8] { [UInt8](repeating: 0, count: 4) + l.fixed[4..<8] + [UInt8](repeating: 0, count: 8) }
        func described(_ l: RoutingMessage) -> [RoutingMessage.Attribute] { kept.compactMap { k in l[k].map { .init(k, $0) } } }
        // The descriptor of the namespace stands at the very end.
        var peer = described(other.link)
        if other.number != 0 { peer.append(.init(Link.namespaceFile, 0)) }
        let data = RoutingMessage.Attribute(1 | 0x8000, fixed(other.link) + peer.flatMap(\.encoded))
        let message = RoutingMessage(type: Link.make, fixed: fixed(one), attributes: described(one) + [.init(Link.info, nested: [.init(1, Array("veth\0".utf8)), .init(2, nested: [data])])]).encoded(flags: create)
        return [NetworkStep(stage: CKPT_NETWORK_PAIR, message: message, what: "network device \(name)", place: other.number != 0 ? message.count - 4 : 0, other: other.number != 0 ? other.number : nil)]
    }

    /// Up, if it was, without addresses that come by themselves: those that there were come as they were.
    private func raise(_ link: RoutingMessage, _ name: String) -> [NetworkStep] {
        let fixed = [UInt8](repeating: 0, count: 4) + link.fixed[4..<8], none: [UInt8] = [1]
        var steps: [NetworkStep] = []
        func step(_ flags: UInt32, _ change: UInt32, _ attributes: [RoutingMessage.Attribute]) {
            var m = RoutingMessage(type: Link.make, fixed: fixed + [UInt8](repeating: 0, count: 8), attributes: attributes)
            m.setFixedWord(8, flags); m.setFixedWord(12, change)
            steps.append(NetworkStep(stage: CKPT_NETWORK_LINK, message: m.encoded(flags: 5), what: "network device \(name)"))
        }
        if link[Link.families].map({ RoutingMessage.attributes($0[...]).contains { $0.kind & 0x3fff == Link.inet6 } }) == true {
            step(0, 0, [.init(Link.families, nested: [.init(Link.inet6, nested: [.init(8, none)])])])
        }
        step(link.fixedWord(8) & Link.settable, Link.settable, [])
        return steps
    }

    /// An address or a route as the kernel told it, without what only it can say.
    private func again(_ m: RoutingMessage, _ what: String) -> NetworkStep {
        let isAddress = m.type == 20, cache: UInt16 = isAddress ? 6 : 12, flags: UInt16 = 8
        var copy = m
        copy.attributes.removeAll { $0.kind == cache || (isAddress && $0.kind == flags) }
        if isAddress {
            // IFA_F_NODAD: nobody else has it; neither secondary nor tentative, which the kernel finds out.
            let nodad: UInt32 = 2, passing: UInt32 = 1 | 8 | 0x40
            copy.attributes.append(.init(flags, ((m.word(flags) ?? UInt32(m.fixed[2])) & ~passing) | (m.fixed[0] == 10 ? nodad : 0)))
            copy.fixed[2] = 0
        } else { copy.setFixedWord(8, m.fixedWord(8) & 4) }
        return NetworkStep(stage: isAddress ? CKPT_NETWORK_ADDRESS : CKPT_NETWORK_ROUTE, message: copy.encoded(flags: 0x605), what: what)
    }

    private func addressText(_ a: RoutingMessage) -> String {
        let bytes = a[2] ?? a[1] ?? []
        if bytes.count == 4 { return bytes.map(String.init).joined(separator: ".") }
        return bytes.dropLast().allSatisfy { $0 == 0 } && bytes.last == 1 ? "::1" : stride(from: 0, to: bytes.count - 1, by: 2).map { String(Int(bytes[$0]) << 8 | Int(bytes[$0 + 1]), radix: 16) }.joined(separator: ":")
    }

    func take(_ steps: [NetworkStep], _ tree: ObservedTree, _ tables: Tables) {
        for s in steps {
            let other = s.other.flatMap { number in tree.namespaces.firstIndex { $0.kind == CKPT_NAMESPACE_NET && $0.number == number } }
            tables.networkSteps.append(ckpt_network_record(namespaces: UInt32(tables.namespaces.count), stage: s.stage.rawValue, message: tables.blob(s.message), size: UInt32(s.message.count),
                                                           place: UInt32(s.place), other: other.map { UInt32($0) } ?? ckpt_no_index(), what: tables.text(s.what), pad: 0))
        }
    }
}
