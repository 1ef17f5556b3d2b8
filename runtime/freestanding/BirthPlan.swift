// Runs in the engine, in the builder's stack: no allocation, no system call; tested as ordinary Swift.
// Who creates whom.  A process inherits its terminal session from its creator, and only a session leader has one of its own, so the
// creator must be in the right session at that moment.  Four ways:
//   direct   the parent forks it, before (stage 0) or after (stage 1) its own setsid
//   sibling  another child of the parent that is in the session clones it with CLONE_PARENT
//   adopted  a member of the session forks an intermediate that forks it and exits: it goes to the nearest reaper, as orphans did before
// A session or group whose leader is dead gets a temporary process with the leader's pid, which leaves once everybody has joined.

public struct BirthNode {
    public var pid: Int32 = 0, sid: Int32 = 0, pgid: Int32 = 0      // sid, pgid 0: the engine's own
    public var parent: Int32 = -1                                   // node; −1: the builder
    public var creator: Int32 = -1
    public var record: Int32 = -1                                   // process record; −1: a temporary leader
    public var way: UInt8 = 0                                       // Birth
    public var stage: UInt8 = 1                                     // of the creator; 2: it inherits its group
    public var zombie: UInt8 = 0, orphan: UInt8 = 0, planned: UInt8 = 0
    public var leadsGroup: UInt8 = 0                                // somebody's process group has this pid
    public var mainGone: UInt8 = 0, place: UInt8 = 0                // place: its pid namespace, as the engine numbers them
    public init() {}
    public init(pid: Int32, sid: Int32, pgid: Int32, parent: Int32, record: Int32) {
        self.pid = pid; self.sid = sid; self.pgid = pgid; self.parent = parent; self.record = record
    }
    public var isTemporary: Bool { record < 0 }
    public var leadsSession: Bool { sid == pid }
    /// It leads a group for others but belongs to another one: it joins that last.
    public var joinsLast: Bool { leadsGroup != 0 && pgid != pid }
}
public enum Birth { public static let direct: UInt8 = 0, sibling: UInt8 = 1, adopted: UInt8 = 2 }
/// A struct: a public enum would bring Hashable and with it a random seed.
public struct BirthError: Error {
    public let isCycle: Bool
    static let cycle = BirthError(isCycle: true), full = BirthError(isCycle: false)
}

public struct BirthPlan {
    let nodes: UnsafeMutableBufferPointer<BirthNode>
    public private(set) var count: Int
    let adoptOrphans: Bool

    /// `nodes` holds `count` processes and has room for temporary leaders.  `adoptOrphans`: orphans go to the system's reaper.
    public init(_ nodes: UnsafeMutableBufferPointer<BirthNode>, count: Int, adoptOrphans: Bool) {
        self.nodes = nodes; self.count = count; self.adoptOrphans = adoptOrphans
    }

    public func find(pid: Int32) -> Int? {
        for i in 0..<count where nodes[i].pid == pid { return i }
        return nil
    }

    /// The engine's own session and group stand for `outerSid` and `outerPgid` when no process of the tree has these pids.
    public mutating func plan(outerSid: Int32, outerPgid: Int32) throws(BirthError) {
        for i in 0..<count {
            if nodes[i].sid == outerSid && find(pid: outerSid) == nil { nodes[i].sid = 0 }
            if nodes[i].pgid == outerPgid && find(pid: outerPgid) == nil { nodes[i].pgid = 0 }
        }
        var left = count
        while left > 0 {
            let before = left
            var i = 0
            while i < count {
                let p = Int(nodes[i].parent)
                if nodes[i].planned == 0 && (p < 0 || nodes[p].planned != 0) {
                    try planBirth(i)
                    left -= 1
                }
                i += 1
            }
            if left == before { throw BirthError.cycle }
        }
        try planGroups()
    }

    private func session(of p: Int) -> Int32 { p < 0 ? 0 : nodes[p].sid }

    /// The session in which node `i` starts its life.
    private func birthSession(_ i: Int) -> Int32 {
        var i = i
        while true {
            let n = nodes[i], p = Int(n.parent)
            if n.way != Birth.direct { return n.creator < 0 ? 0 : nodes[Int(n.creator)].sid }
            if n.stage == 1 { return session(of: p) }
            if p < 0 { return 0 }
            i = p
        }
    }

    /// A child that is in none of the sessions of `i`'s own tells in which one `i` was born.
    private func birthSessionWanted(_ i: Int) -> Int32? {
        for c in 0..<count where Int(nodes[c].parent) == i && nodes[c].sid != nodes[i].pid && nodes[c].sid != nodes[c].pid { return nodes[c].sid }
        return nil
    }

    private mutating func planBirth(_ i: Int) throws(BirthError) {
        let p = Int(nodes[i].parent), s = nodes[i].sid
        let adopted = p < 0 && adoptOrphans && nodes[i].orphan != 0
        nodes[i].planned = 1
        nodes[i].creator = Int32(p)
        nodes[i].stage = 1
        nodes[i].way = adopted ? Birth.adopted : Birth.direct
        if s == nodes[i].pid {
            if let wanted = birthSessionWanted(i), wanted != session(of: p), p >= 0, nodes[p].leadsSession, birthSession(p) == wanted { nodes[i].stage = 0 }
            return
        }
        if s == session(of: p) { return }
        if p >= 0 && nodes[p].leadsSession && birthSession(p) == s { nodes[i].stage = 0; return }
        if s == 0 { nodes[i].creator = -1; nodes[i].way = Birth.adopted; return }
        let leader: Int
        if let l = find(pid: s) { leader = l } else { leader = try addTemporary(pid: s, sid: s, parent: p) }
        nodes[i].creator = Int32(leader)
        nodes[i].way = !adopted && nodes[leader].parent == Int32(p) ? Birth.sibling : Birth.adopted
    }

    private mutating func addTemporary(pid: Int32, sid: Int32, parent: Int) throws(BirthError) -> Int {
        guard count < nodes.count else { throw BirthError.full }
        var n = BirthNode(pid: pid, sid: sid, pgid: pid, parent: Int32(parent), record: -1)
        n.creator = Int32(parent); n.planned = 1; n.leadsGroup = 1
        nodes[count] = n
        count += 1
        return count - 1
    }

    /// Every group has a leader; a living member makes a temporary one when it is dead.
    private mutating func planGroups() throws(BirthError) {
        let processes = count
        try planGroups(ofZombies: false, processes)
        try planGroups(ofZombies: true, processes)
    }
    private mutating func planGroups(ofZombies zombies: Bool, _ processes: Int) throws(BirthError) {
        for i in 0..<processes where nodes[i].pgid != 0 && (nodes[i].zombie != 0) == zombies {
            if let leader = find(pid: nodes[i].pgid) { nodes[leader].leadsGroup = 1 }
            else { _ = try addTemporary(pid: nodes[i].pgid, sid: nodes[i].sid, parent: i) }
        }
    }
}
