import Testing
import CkptABI
@testable import CkptStatefile

/// A frame as the kernel writes it: software bytes, header, one component.
private func frame(present: UInt64) -> [UInt8] {
    var f = [UInt8](repeating: 0xaa, count: 836)
    func put<T: FixedWidthInteger>(_ v: T, at o: Int) { withUnsafeBytes(of: v.littleEndian) { for (i, b) in $0.enumerated() { f[o + i] = b } } }
    put(UInt32(0x46505853), at: 464); put(UInt32(836), at: 468); put(UInt64(7), at: 472); put(UInt32(832), at: 480)
    put(present, at: 512)
    return f
}
private func word(_ b: [UInt8], _ o: Int) -> UInt64 { b.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: o, as: UInt64.self) } }

@Test func statusNoteHasTheKernelsLayout() {
    var c = ckpt_sigcontext()
    c.r15 = 15; c.rip = 0x1234; c.rsp = 0x5678; c.cs = 0x33; c.ss = 0x2b; c.rdi = 99
    let task = CoreTask(tid: 42, context: c, fsBase: 0xf5, gsBase: 0x65, xsave: frame(present: 7))
    let n = statusNote(CoreProcess(pid: 41), task)
    #expect(n.count == 336)
    #expect(word(n, 32) & 0xffff_ffff == 42)
    #expect(word(n, 112) == 15)
    #expect(word(n, 112 + 14 * 8) == 99)
    #expect(word(n, 112 + 15 * 8) == .max)
    #expect(word(n, 112 + 16 * 8) == 0x1234)
    #expect(word(n, 112 + 19 * 8) == 0x5678)
    #expect(word(n, 112 + 21 * 8) == 0xf5)
    #expect(n[328] == 1)
}

@Test func processNoteCutsLongNames() {
    var p = CoreProcess(pid: 7)
    p.comm = [UInt8]("a-very-long-command-name".utf8)
    p.commandLine = [UInt8]("prog\u{0}arg\u{0}".utf8)
    let n = processNote(p)
    #expect(n.count == 136)
    #expect(Array(n[40..<56]) == [UInt8]("a-very-long-com".utf8) + [0])
    #expect(Array(n[56..<65]) == [UInt8]("prog arg".utf8) + [0])
}

@Test func extendedStateCarriesTheFeatureMask() throws {
    let note = try #require(extendedStateNote(frame(present: 7)))
    #expect(note.count == 832)              // without the trailing magic
    #expect(word(note, 464) == 7)
    #expect(word(note, 472) == 0)
    #expect(note[200] == 0xaa)
}

@Test func packedAVX512StateIsLaidOutAsDebuggersExpect() throws {
    var f = [UInt8](repeating: 0, count: 2436)
    func put<T: FixedWidthInteger>(_ v: T, at o: Int) { withUnsafeBytes(of: v.littleEndian) { for (i, b) in $0.enumerated() { f[o + i] = b } } }
    put(UInt32(0x46505853), at: 464); put(UInt32(2436), at: 468); put(UInt64(0xe7), at: 472); put(UInt32(2432), at: 480); put(UInt64(0xe7), at: 512)
    put(UInt64(0x1111), at: 832); put(UInt64(0x2222), at: 896); put(UInt64(0x3333), at: 1408 + 1016)
    let note = try #require(extendedStateNote(f))
    #expect(note.count == 2688)
    #expect(word(note, 1088) == 0x1111 && word(note, 1152) == 0x2222 && word(note, 1664 + 1016) == 0x3333)
    #expect(word(note, 832) == 0)
}

@Test func partsInTheirInitialStateAreFilledIn() {
    let n = floatingPointNote(frame(present: 4))
    #expect(n.count == 512)
    #expect(n[0] == 0x7f && n[1] == 3)
    #expect(n[24] == 0xaa)                  // MXCSR is always there
    #expect(n[160] == 0)
}

@Test func notesStartWithTheFirstTask() {
    var p = CoreProcess(pid: 1)
    let c = ckpt_sigcontext()
    p.tasks = [CoreTask(tid: 5, context: c, fsBase: 0, gsBase: 0, xsave: []), CoreTask(tid: 6, context: c, fsBase: 0, gsBase: 0, xsave: [])]
    p.mappings = [CoreMapping(start: 0x1000, end: 0x3000, fileOffset: 8192, path: [UInt8]("/x".utf8))]
    let n = coreNotes(p)
    var types: [UInt32] = [], at = 0
    while at < n.count {
        let h = n.withUnsafeBytes { b in (0..<3).map { b.loadUnaligned(fromByteOffset: at + 4 * $0, as: UInt32.self) } }
        types.append(h[2])
        at += 12 + (Int(h[0]) + 3) / 4 * 4 + (Int(h[1]) + 3) / 4 * 4
    }
    #expect(at == n.count)
    #expect(types == [1, 3, 0x53494749, 0x46494c45, 1])
}
