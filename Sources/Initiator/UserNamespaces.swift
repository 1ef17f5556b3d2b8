// The user namespace that a whole tree has for itself.  What we see of it has the ids outside; the tables have those that the tree sees.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

/// uid_map, gid_map, setgroups (user_namespaces(7)).
struct IdMaps {
    struct Range { var inside: UInt32, outside: UInt32, count: UInt32 }
    var users: [Range], groups: [Range], deniesGroups: Bool
    var creator: (user: UInt32, group: UInt32)

    /// How an outer id shows inside; 65534 stands for all that don't.
    func user(_ id: UInt32) -> UInt32 { Self.inside(id, users) }
    func group(_ id: UInt32) -> UInt32 { Self.inside(id, groups) }
    private static func inside(_ id: UInt32, _ ranges: [Range]) -> UInt32 {
        for r in ranges where id >= r.outside && id - r.outside < r.count { return r.inside + (id - r.outside) }
        return 65534
    }
}

extension IdMaps? {
    /// Who that is for the tree.
    func inside(_ user: UInt32, _ group: UInt32) -> (UInt32, UInt32) { map { ($0.user(user), $0.group(group)) } ?? (user, group) }
}

extension Operation {
    func lookAtUsers(_ n: inout ObservedNamespace, _ first: ObservedProcess, _ outer: UInt32, _ refuse: (String, String) -> Void) {
        let view = first.view
        func map(_ name: String) -> [IdMaps.Range]? {
            guard let lines = (try? Path.text("/proc/\(view)/\(name)"))?.split(separator: "\n").map({ $0.split(separator: " ").compactMap { UInt32($0) } }),
                  lines.allSatisfy({ $0.count == 3 }), lines.count <= Int(CKPT_MAX_ID_RANGES) else { return nil }
            return lines.map { IdMaps.Range(inside: $0[0], outside: $0[1], count: $0[2]) }
        }
        guard let users = map("uid_map"), let groups = map("gid_map"), (try? Namespace.parent("/proc/\(view)/ns/user")) == outer else {
            return refuse("it lives in a user namespace within another", "start ckrun inside of the namespace")
        }
        let denies = (try? Path.text("/proc/\(view)/setgroups"))?.hasPrefix("deny") == true
        // A tree without a map is its creator's all the same.
        func own(_ key: String) -> UInt32 { UInt32(first.status.numbers(key).dropFirst().first ?? 0) }
        let single = users.count == 1 && users[0].count == 1 ? users[0].outside : nil
        let creator = single ?? (try? Namespace.creator("/proc/\(view)/ns/user")) ?? own("Uid")
        let group = groups.count == 1 && groups[0].count == 1 ? groups[0].outside : own("Gid")
        n.users = IdMaps(users: users, groups: groups, deniesGroups: denies, creator: (creator, group))
        ownUsers = n.users
    }

    func take(_ maps: IdMaps, _ r: inout ckpt_namespace_record, _ tables: Tables) {
        (r.outer_user, r.outer_group) = maps.creator
        if maps.deniesGroups { r.flags |= CKPT_NAMESPACE_NO_SETGROUPS.rawValue }
        for (ranges, isGroup) in [(maps.users, UInt32(0)), (maps.groups, 1)] {
            for m in ranges { tables.idRanges.append(ckpt_id_range_record(namespaces: UInt32(tables.namespaces.count), is_group: isGroup, inside: m.inside, outside: m.outside, count: m.count)) }
        }
    }
}
