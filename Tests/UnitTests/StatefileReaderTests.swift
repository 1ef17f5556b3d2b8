import Testing
import CkptABI
import CkptReport
import CkptSystem
@testable import CkptStatefile

@Test func readsWhatWasWritten() throws {
    let s = try StatefileFixture().open()
    #expect(s.face == .core)
    #expect(s.processes.count == 2 && s.tasks.count == 2 && s.vmas.count == 3)
    #expect(s.processes[1].exit_status == 0x300)
    #expect(s.string(s.tree.name) == "job")
    #expect(s.process(pid: 101) == 1)
    #expect(s.verify().problems == [])
    #expect(s.verify().pages == 2)
}

@Test func memoryHasPagesHolesAndEnds() throws {
    let s = try StatefileFixture().open()
    let m = try ProcessMemory(s, process: 0)
    let around = m.read(StatefileFixture.heap + 4096 - 2, count: 6)
    #expect(around == [0, 0, 0, 1, 2, 3])
    #expect(m.read(StatefileFixture.heap + 8192 - 1, count: 10).count == 1)     // memory ends
    #expect(m.read(StatefileFixture.heap + 0x10000, count: 16) == [UInt8](repeating: 0, count: 16))
    #expect(m.read(0x1000, count: 4) == [])
}

@Test func registersComeFromTheSignalFrame() throws {
    let s = try StatefileFixture().open()
    let core = try s.coreProcess(0, memory: ProcessMemory(s, process: 0))
    #expect(core.tasks.map(\.tid) == [100, 102])
    #expect(core.tasks[0].context.rip == 0x401000 && core.tasks[0].fsBase == 0xf5)
    let view = try CoreView(s, process: 0, complete: false)
    #expect(view.head[16] == 4)
}

@Test func damageIsNamed() throws {
    var f = StatefileFixture()
    f.bytes[Int(StatefileFixture.memory) + 4096 + 7] ^= 1
    let problems = try f.open().verify().problems
    #expect(problems.count == 1)
    #expect(problems.first?.description.contains("0x50001000") == true)
    var g = StatefileFixture()
    g.bytes.removeLast(10)
    #expect(throws: Problem.self) { try g.open() }
    do { _ = try g.open() } catch let p as Problem { #expect(p.status == .statefile && p.cause.last?.hasPrefix("cut off") == true) }
}

@Test func indexesOutOfRangeAreRefused() {
    typealias P = ckpt_process_record
    let changes: [(inout [ckpt_process_record], inout [ckpt_task_record], inout [ckpt_vma_record], inout [ckpt_run]) -> Void] = [
        { p, _, _, _ in p[0].task_count = 3 }, { p, _, _, _ in p[0].first_vma = .max }, { p, _, _, _ in p[0].parent = 1; p[1].parent = 0 },
        { p, _, _, _ in p[0].parent = 0 }, { p, _, _, _ in p[0].exe = 9 }, { p, _, _, _ in p[0].comm = 4000 }, { p, _, _, _ in p[0].auxv_size = 9999 },
        { _, t, _, _ in t[1].process = 1 }, { _, t, _, _ in t[0].tid = 0 },
        { _, _, v, _ in v[1].start = v[0].start }, { _, _, v, _ in v[0].end = v[0].start }, { _, _, v, _ in v[0].kind = 99 },
        { _, _, v, _ in v[0].data_offset = 1 << 40 }, { _, _, v, _ in v[1].kind = CKPT_VMA_FILE.rawValue },
    ]
    for change in changes { #expect(throws: Problem.self) { try StatefileFixture(change: change).open() } }
}

@Test func chainsThatLoopOrLeaveTheFileAreRefused() throws {
    var f = StatefileFixture()
    f.bytes[Int(StatefileFixture.chunk) + 9] = 0x60     // next: itself
    let loop = try f.open().verify().problems
    #expect(loop.contains { $0.description.contains("comes back") })
    let outside = try StatefileFixture { _, _, _, r in r[0].file_offset = 1 << 40 }.open()
    #expect(outside.verify().problems.count == 1)
    #expect(throws: Problem.self) { try ProcessMemory(outside, process: 0) }
}

/// Whatever the bytes are, the reader answers or refuses; it never crashes.
@Test func mutationsNeverCrashTheReader() {
    var random = SplitMix(state: 42)
    let original = StatefileFixture()
    for round in 0..<1000 {
        var f = original
        for _ in 0..<1 + Int(random.next() % 4) {
            // Mostly where the tables, the chunk and the headers are.
            let parts = [0..<64, 0xc00..<0xc88, Int(StatefileFixture.chunk)..<Int(StatefileFixture.chunk) + 96, 0x7000..<f.bytes.count, 0x7000..<f.bytes.count]
            let part = parts[Int(random.next() % UInt64(parts.count))]
            let at = part.lowerBound + Int(random.next() % UInt64(part.count))
            f.bytes[at] = [0, 0xff, 0x80, 1, UInt8(truncatingIfNeeded: random.next())][Int(random.next() % 5)]
        }
        if round % 3 != 0 { f.reseal() }
        if round % 7 == 0 { f.bytes.removeLast(Int(random.next() % UInt64(f.bytes.count))) }
        guard let s = try? f.open() else { continue }
        _ = s.verify()
        for i in s.processes.indices {
            guard let view = try? CoreView(s, process: i, complete: true) else { continue }
            if view.size < 1 << 24 { try? view.writeMemory { (_, _) throws(SystemError) in } }
            _ = try? CoreView(s, process: i, complete: false)
        }
    }
}

private struct SplitMix {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e3779b97f4a7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58476d1ce4e5b9
        z = (z ^ (z >> 27)) &* 0x94d049bb133111eb
        return z ^ (z >> 31)
    }
}

@Test func checksumsOfThreeStreamsAreThoseOfOne() {
    let bytes = (0 ..< 70_001).map { UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 13) }
    for count in [0, 1, 9, 4096, 16383, 16384, 16385, 65536, 70_001] {
        var plain = ~UInt32(0)
        for byte in bytes.prefix(count) {
            plain ^= UInt32(byte)
            for _ in 0 ..< 8 { plain = plain >> 1 ^ (plain & 1 == 1 ? 0x82f6_3b78 : 0) }
        }
        #expect(bytes.withUnsafeBytes { ckpt_crc32c_hw(0, $0.baseAddress!, count) } == ~plain)
    }
}
