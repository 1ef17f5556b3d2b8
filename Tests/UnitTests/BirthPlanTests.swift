import Testing
@testable import FreestandingHosted

/// Plans `nodes` and gives the plan's nodes back.
private func plan(_ given: [BirthNode], outerSid: Int32 = 0, outerPgid: Int32 = 0, adoptOrphans: Bool = false) throws -> [BirthNode] {
    let room = UnsafeMutableBufferPointer<BirthNode>.allocate(capacity: given.count * 3 + 4)
    defer { room.deallocate() }
    for (i, n) in given.enumerated() { room[i] = n }
    var p = BirthPlan(room, count: given.count, adoptOrphans: adoptOrphans)
    try p.plan(outerSid: outerSid, outerPgid: outerPgid)
    return Array(room[0..<p.count])
}
private func node(_ pid: Int32, sid: Int32, pgid: Int32, parent: Int32, record: Int32, zombie: Bool = false, orphan: Bool = false) -> BirthNode {
    var n = BirthNode(pid: pid, sid: sid, pgid: pgid, parent: parent, record: record)
    n.zombie = zombie ? 1 : 0
    n.orphan = orphan ? 1 : 0
    return n
}

@Test func aJobOfAShellInheritsItsSession() throws {
    let n = try plan([node(10, sid: 5, pgid: 10, parent: -1, record: 0), node(11, sid: 5, pgid: 10, parent: 0, record: 1)], outerSid: 5)
    #expect(n.count == 2)
    #expect(n[0].sid == 0 && n[0].creator == -1 && n[0].way == Birth.direct && n[0].leadsGroup == 1)
    #expect(n[1].creator == 0 && n[1].way == Birth.direct && n[1].leadsGroup == 0)
}

@Test func aChildOfTheFormerSessionIsForkedBeforeSetsid() throws {
    let n = try plan([node(10, sid: 5, pgid: 5, parent: -1, record: 0), node(11, sid: 11, pgid: 11, parent: 0, record: 1),
                      node(12, sid: 5, pgid: 5, parent: 1, record: 2), node(13, sid: 11, pgid: 11, parent: 1, record: 3)], outerSid: 5, outerPgid: 5)
    #expect(n[2].creator == 1 && n[2].stage == 0)
    #expect(n[3].creator == 1 && n[3].stage == 1)
}

@Test func aDaemonWhoseSessionLeaderDiedGetsATemporaryLeader() throws {
    let n = try plan([node(10, sid: 5, pgid: 5, parent: -1, record: 0), node(12, sid: 11, pgid: 11, parent: 0, record: 1)], outerSid: 5, outerPgid: 5)
    #expect(n.count == 3)
    #expect(n[2].isTemporary && n[2].pid == 11 && n[2].parent == 0 && n[2].leadsSession)
    #expect(n[1].creator == 2 && n[1].way == Birth.sibling)
}

@Test func anOrphanGoesToTheSystemsReaper() throws {
    let orphan = [node(10, sid: 5, pgid: 5, parent: -1, record: 0), node(12, sid: 5, pgid: 5, parent: -1, record: 1, orphan: true)]
    #expect(try plan(orphan, outerSid: 5, outerPgid: 5, adoptOrphans: true)[1].way == Birth.adopted)
    #expect(try plan(orphan, outerSid: 5, outerPgid: 5)[1].way == Birth.direct)
}

@Test func aGroupWhoseLeaderDiedGetsATemporaryOne() throws {
    let n = try plan([node(10, sid: 5, pgid: 5, parent: -1, record: 0), node(12, sid: 5, pgid: 11, parent: 0, record: 1),
                      node(13, sid: 5, pgid: 11, parent: 0, record: 2)], outerSid: 5, outerPgid: 5)
    #expect(n.count == 4)
    #expect(n[3].isTemporary && n[3].pid == 11 && n[3].pgid == 11 && n[3].sid == 0 && n[3].parent == 1)
}

@Test func aZombieMayLeadTheSessionOfTheLiving() throws {
    let n = try plan([node(10, sid: 5, pgid: 5, parent: -1, record: 0), node(11, sid: 11, pgid: 11, parent: 0, record: 1, zombie: true),
                      node(12, sid: 11, pgid: 11, parent: 0, record: 2)], outerSid: 5, outerPgid: 5)
    #expect(n.count == 3)
    #expect(n[2].creator == 1 && n[2].way == Birth.sibling)
}

@Test func aLeaderOfAGroupThatItLeftJoinsItsOwnLast() throws {
    let n = try plan([node(10, sid: 5, pgid: 5, parent: -1, record: 0), node(11, sid: 5, pgid: 5, parent: 0, record: 1),
                      node(12, sid: 5, pgid: 11, parent: 0, record: 2)], outerSid: 5, outerPgid: 5)
    #expect(n[1].leadsGroup == 1 && n[1].joinsLast)
}

@Test func parentsInACircleAreRefused() {
    #expect(throws: BirthError.self) { try plan([node(10, sid: 5, pgid: 5, parent: 1, record: 0), node(11, sid: 5, pgid: 5, parent: 0, record: 1)]) }
}

@Test func aThousandProcessesDeepArePlanned() throws {
    let n = try plan((0..<1000).map { node(Int32(100 + $0), sid: 5, pgid: 5, parent: Int32($0) - 1, record: Int32($0)) }, outerSid: 5, outerPgid: 5)
    #expect(n.count == 1000 && n[999].creator == 998)
}

@Test func aFreeRangeMeetsNobody() {
    let used = [AddressRange(0x5000, 0x9000), AddressRange(0x1000, 0x3000), AddressRange(0xa000, 0xb000)]
    #expect(freeBase(size: 0x2000, from: 0x1000, limit: 0x10000, guardSize: 0, alignment: 0x1000, count: 3) { used[$0] } == 0x3000)
    #expect(freeBase(size: 0x3000, from: 0x1000, limit: 0x10000, guardSize: 0, alignment: 0x1000, count: 3) { used[$0] } == 0xb000)
    #expect(freeBase(size: 0x2000, from: 0x1000, limit: 0x10000, guardSize: 0x1000, alignment: 0x1000, count: 3) { used[$0] } == 0xc000)
    #expect(freeBase(size: 0x9000, from: 0x1000, limit: 0x10000, guardSize: 0, alignment: 0x1000, count: 3) { used[$0] } == nil)
}
