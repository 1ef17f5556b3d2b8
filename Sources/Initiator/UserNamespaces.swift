// User namespaces that the tree has for itself: those that all of it lives in, and those of a part, one within another.
// What we see has the ids outside; the tables have those that the tree sees: in the innermost one that is the whole tree's.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

/// uid_map, gid_map, setgroups (user_namespaces(7)); outside: as we see it.
struct IdMaps {
    struct Range { var inside: UInt32, outside: UInt32, count: UInt32 }
    var users: [Range], groups: [Range], deniesGroups: Bool
    var creator: (user: UInt32, group: UInt32)

    /// How an outer id shows inside; 65534 stands for all that don't.
    func user(_ id: UInt32) -> UInt32 { Self.inside(id, users) }
    func group(_ id: UInt32) -> UInt32 { Self.inside(id, groups) }
    static func inside(_ id: UInt32, _ ranges: [Range]) -> UInt32 {
        for r in ranges where id >= r.outside && id - r.outside < r.count { return r.inside + (id - r.outside) }
        return 65534
    }

    /// Lines of uid_map or gid_map.
    static func ranges(_ text: String) -> [Range] {
        text.split(separator: "\n").map { $0.split(separator: " ").compactMap { UInt32($0) } }.filter { $0.count == 3 }.map { Range(inside: $0[0], outside: $0[1], count: $0[2]) }
    }

    /// How an inner id is called outside.
    func outerUser(_ id: UInt32) -> UInt32 { Self.outside(id, users) }
    func outerGroup(_ id: UInt32) -> UInt32 { Self.outside(id, groups) }
    private static func outside(_ id: UInt32, _ ranges: [Range]) -> UInt32 {
        for r in ranges where id >= r.inside && id - r.inside < r.count { return r.outside + (id - r.inside) }
        return 65534
    }

    /// The same, where outside is what these show inside.
    func within(_ outer: IdMaps?) -> IdMaps {
        guard let outer else { return self }
        var r = self
        for k in r.users.indices { r.users[k].outside = outer.user(r.users[k].outside) }
        for k in r.groups.indices { r.groups[k].outside = outer.group(r.groups[k].outside) }
        r.creator = (outer.user(creator.user), outer.group(creator.group))
        return r
    }
    /// As seen in the namespace that these show: outside of that.
    fileprivate func outwards(_ ranges: [Range], _ mine: [Range]) -> [Range] {
        ranges.map { r in
            guard let m = mine.first(where: { r.outside >= $0.inside && r.outside - $0.inside < $0.count }) else { return r }
            return Range(inside: r.inside, outside: m.outside + (r.outside - m.inside), count: r.count)
        }
    }
}

extension IdMaps? {
    /// Who that is for the tree.
    func inside(_ user: UInt32, _ group: UInt32) -> (UInt32, UInt32) { map { ($0.user(user), $0.group(group)) } ?? (user, group) }
}

extension Operation {
    var outerUsers: UInt32 { ckpt_session_namespaces(segment.pointer)[Int(CKPT_NAMESPACE_USER.rawValue) - 1] }

    /// Before all other namespaces, which belong to them.
    func addUserNamespaces(_ tree: ObservedTree, _ outer: UInt32) {
        var chains: [(ObservedProcess, [Namespace.Member])] = []
        for p in tree.live {
            if let chain = Namespace.chain("/proc/\(p.view)/ns/user", below: outer) { chains.append((p, chain)) } else {
                tree.refusals.add(pid: p.pid, "it lives in a user namespace that is not inside of the one in which ckrun was started", "start ckrun inside of the namespace")
            }
        }
        for (p, chain) in chains {
            guard let i = addUsers(chain, p, tree, isWhole: { n in chains.count == tree.live.count && chains.allSatisfy { $0.1.contains { $0.number == n } } }) else { continue }
            if !tree.namespaces[i].isWhole { p.namespaces[CKPT_NAMESPACE_USER.rawValue] = i }
        }
        ownUsers = tree.ownUsers
    }

    /// The place of the innermost in the tree's list.
    private func addUsers(_ chain: [Namespace.Member], _ p: ObservedProcess, _ tree: ObservedTree, isWhole: (UInt32) -> Bool) -> Int? {
        var around: Int?
        for m in chain {
            if let known = tree.namespaces.firstIndex(where: { $0.kind == CKPT_NAMESPACE_USER && $0.number == m.number }) { around = known; continue }
            var n = ObservedNamespace(kind: CKPT_NAMESPACE_USER, number: m.number, isWhole: isWhole(m.number), sample: p)
            n.owner = around
            do throws(SystemError) { n.users = try maps(m, n.isWhole, around.flatMap { tree.namespaces[$0].users }, p, tree) } catch {
                tree.refusals.add(pid: p.pid, "its user namespace can't be looked at: \(error.call): \(error.text)", "run ckptctl as root, or start ckrun inside of the namespace")
                return nil
            }
            if !n.isWhole && !tree.canMake(in: around) { tree.refusals.add(pid: p.pid, "its user namespace lies outside of that in which the whole tree lives", "start ckrun inside of the namespace") }
            around = tree.namespaces.count
            tree.namespaces.append(n)
        }
        return around
    }

    /// The user namespace that another one belongs to; nil: that in which the tree was started.  Nobody of the tree need live in it any more.
    func owner(_ path: String, _ p: ObservedProcess, _ tree: ObservedTree) throws(SystemError) -> Int? {
        let owner = try Namespace.ownerFile(path)
        if owner.number == outerUsers || outerUsers == 0 { return nil }
        guard let chain = Namespace.chain(owner, below: outerUsers) else {
            tree.refusals.add(pid: p.pid, "it lives in a namespace that belongs to a user namespace outside of the one in which ckrun was started", "start ckrun inside of the namespace")
            return nil
        }
        return addUsers(chain, p, tree, isWhole: { _ in false })
    }

    private func maps(_ of: Namespace.Member, _ isWhole: Bool, _ around: IdMaps?, _ p: ObservedProcess, _ tree: ObservedTree) throws(SystemError) -> IdMaps {
        let member = tree.live.first { $0.namespace("user") == of.number }
        // Who reads his own sees outside what the next one around shows.
        let texts = if let member { try Namespace.idMaps("/proc/\(member.view)") } else { try Namespace.idMaps(inside: of) }
        var users = IdMaps.ranges(texts.users), groups = IdMaps.ranges(texts.groups)
        if member == nil, let around { users = around.outwards(users, around.users); groups = around.outwards(groups, around.groups) }
        // A namespace without a map is its creator's all the same.
        func own(_ key: String) -> UInt32 { UInt32((member ?? p).status.numbers(key).dropFirst().first ?? 0) }
        let creator = (try? Namespace.creator(of)) ?? own("Uid"), single = users.count == 1 && users[0].count == 1 ? users[0].outside : nil
        let group = groups.count == 1 && groups[0].count == 1 ? groups[0].outside : own("Gid")
        return IdMaps(users: users, groups: groups, deniesGroups: texts.setgroups.hasPrefix("deny"), creator: (isWhole ? single ?? creator : creator, group))
    }

    func take(_ n: ObservedNamespace, _ r: inout ckpt_namespace_record, _ tree: ObservedTree, _ tables: Tables) {
        guard let seen = n.users else { return }
        let maps = seen.within(n.isWhole ? n.owner.flatMap { tree.namespaces[$0].users } : ownUsers)
        (r.outer_user, r.outer_group) = maps.creator
        if maps.deniesGroups { r.flags |= CKPT_NAMESPACE_NO_SETGROUPS.rawValue }
        for (ranges, isGroup) in [(maps.users, UInt32(0)), (maps.groups, 1)] {
            for m in ranges { tables.idRanges.append(ckpt_id_range_record(namespaces: UInt32(tables.namespaces.count), is_group: isGroup, inside: m.inside, outside: m.outside, count: m.count)) }
        }
    }
}

extension ObservedTree {
    /// The innermost that all of it lives in.
    private var wholeUsers: Int? { namespaces.lastIndex { $0.kind == CKPT_NAMESPACE_USER && $0.isWhole } }
    var ownUsers: IdMaps? { wholeUsers.flatMap { namespaces[$0].users } }
    /// A restart makes what belongs to these for all before there are processes, and for a part from the innermost of them or in one of a part.
    func isWhole(_ owner: Int?) -> Bool { owner.map { namespaces[$0].isWhole } ?? true }
    func canMake(in owner: Int?) -> Bool { owner == wholeUsers || !isWhole(owner) }
    /// Is that user namespace the other one, or somewhere within?
    func isWithin(_ users: Int?, _ outer: Int) -> Bool { users == outer || users.map { isWithin(namespaces[$0].owner, outer) } == true }
    /// 1 + NAMESPACE, or 0: where it is made there is nothing to be entered before.
    func ownerRecord(_ n: ObservedNamespace) -> UInt32 { n.owner.map { n.isWhole || !isWhole($0) ? UInt32($0) + 1 : 0 } ?? 0 }
}
