import Testing
import CkptABI
import CkptCompression
import CkptReport
import CkptSystem
@testable import CkptStatefile

private func packed(_ method: Compression, _ pages: [UInt8]) -> [UInt8]? {
    var room = [UInt8](repeating: 0, count: pages.count)
    let n = pages.withUnsafeBytes { p in room.withUnsafeMutableBytes { Compressor(method).compress(p, into: $0) } }
    return n.map { Array(room[..<$0]) }
}

@Test(arguments: [Compression.zstd(level: 1), .zstd(level: 19), .lz4]) func framesComeBackAndNoiseStaysAsItIs(method: Compression) throws {
    let text = [UInt8]((0..<40960).map { UInt8(truncatingIfNeeded: $0 / 64) })
    let frame = try #require(packed(method, text))
    var out = [UInt8](repeating: 1, count: text.count)
    let good = frame.withUnsafeBytes { f in out.withUnsafeMutableBytes { Decompressor.decompress(method.kind.rawValue, f, into: $0) } }
    #expect(good && out == text)
    var short = [UInt8](repeating: 1, count: text.count - 4096)
    #expect(!frame.withUnsafeBytes { f in short.withUnsafeMutableBytes { Decompressor.decompress(method.kind.rawValue, f, into: $0) } })
    #expect(packed(method, (0..<8192).map { _ in UInt8.random(in: 0...255) }) == nil)
}

@Test func methodsAreNamed() {
    #expect(Compression("zstd")?.level == 3 && Compression("zstd:7") == .zstd(level: 7) && Compression("lz4") == .lz4 && Compression("none") == Compression.none)
    for bad in ["zstd:", "zstd:0", "zstd:23", "zstd:x", "lz4:3", "gzip", ""] { #expect(Compression(bad) == nil) }
}

private func flags(_ kind: UInt32, _ stored: UInt32) -> UInt32 { kind << CKPT_RUN_KIND_SHIFT.rawValue | stored << CKPT_RUN_STORED_SHIFT.rawValue }

@Test(arguments: [(UInt32(1), UInt32(0)), (1, 4096), (1, 5000), (1, 0xffffff), (2, 0), (2, 4096), (3, 100), (3, 0)])
func sizesThatNoFrameHasAreRefused(kind: UInt32, stored: UInt32) throws {
    let s = try StatefileFixture { _, _, _, r in r[0].flags = flags(kind, stored) }.open()
    #expect(s.verify().problems.contains { $0.description.contains("run at 0x") })
    #expect(throws: Problem.self) { try ProcessMemory(s, process: 0) }
}

@Test(arguments: [UInt32(1), 2], [UInt32(1), 2, 100, 4095]) func bytesThatAreNoFrameAreNamedAndReadAsNothing(kind: UInt32, stored: UInt32) throws {
    let s = try StatefileFixture { _, _, _, r in r[0].flags = flags(kind, stored) }.open()
    #expect(s.verify().problems.contains { $0.description.contains("pages of 0x50001000") })
    _ = try ProcessMemory(s, process: 0).read(StatefileFixture.heap + 4096, count: 16)
}

@Test func compressedPagesAreReadThroughTheirFrame() throws {
    let pages = [UInt8]((0..<4096).map { UInt8(truncatingIfNeeded: $0) })
    for method in [Compression.zstd(level: 3), .lz4] {
        let frame = try #require(packed(method, pages))
        var f = StatefileFixture { _, _, _, r in r[0].flags = flags(method.kind.rawValue, UInt32(frame.count)) }
        f.bytes.replaceSubrange(Int(StatefileFixture.memory) + 4096..<Int(StatefileFixture.memory) + 4096 + frame.count, with: frame)
        f.reseal()
        let s = try f.open()
        #expect(s.verify().problems == [])
        #expect(try ProcessMemory(s, process: 0).read(StatefileFixture.heap + 4096 - 2, count: 6) == [0, 0, 0, 1, 2, 3])
    }
}

/// The heap's second page is the third of a frame of four, which lies where it lay.
@Test func aPartOfAFrameIsReadThroughTheWholeFrame() throws {
    let page = [UInt8]((0..<4096).map { UInt8(truncatingIfNeeded: $0) }), four = [[1, 1], [2, 2], [], [4, 4]].flatMap { $0.isEmpty ? page : [UInt8](repeating: $0[0], count: 4096) }
    for method in [Compression.zstd(level: 3), .lz4] {
        let frame = try #require(packed(method, four))
        var f = StatefileFixture { _, _, _, r in r[0].flags = flags(method.kind.rawValue, UInt32(frame.count)); r[0].skipped = 2; r[0].frame = 3 }
        f.bytes.replaceSubrange(Int(StatefileFixture.memory) + 4096..<Int(StatefileFixture.memory) + 4096 + frame.count, with: frame)
        f.reseal()
        let s = try f.open()
        #expect(s.verify().problems == [])
        #expect(try ProcessMemory(s, process: 0).read(StatefileFixture.heap + 4096 - 2, count: 6) == [0, 0, 0, 1, 2, 3])
    }
}

@Test(arguments: [(UInt32(1), UInt8(3), UInt8(2)), (1, 255, 254), (0, 0, 3), (0, 1, 1), (2, 1, 0)]) func partsThatNoFrameHasAreRefused(kind: UInt32, skipped: UInt8, frame: UInt8) throws {
    let s = try StatefileFixture { _, _, _, r in r[0].flags = flags(kind, kind == 0 ? 0 : 100); r[0].skipped = skipped; r[0].frame = frame }.open()
    #expect(s.verify().problems.contains { $0.description.contains("run at 0x") })
}

@Test func checksumsOfPagesMakeThatOfAll() {
    let pages = (0..<5).map { _ in [UInt8]((0..<4096).map { _ in .random(in: 0...255) }) }
    #expect(pages.reduce(0) { ckpt_crc32c_append_page($0, StatefileFixture.crc($1)) } == StatefileFixture.crc(pages.flatMap { $0 }))
}
