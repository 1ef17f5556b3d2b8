// What a restart does for each task's speculation control, on machines that offer other things than this one.
import Testing
@testable import FreestandingHosted

private func step(_ kind: SpeculationKind, _ was: UInt8, _ now: UInt8?) -> SpeculationStep { speculationStep(kind, was: SpeculationState(was), now: now.map { SpeculationState($0) }) }

@Suite struct SpeculationTests {
    @Test func `what the machine decides is not the task's`() {
        for kind in [SpeculationKind.storeBypass, .indirectBranch, .flushedCache] {
            for was: UInt8 in [0, 2, 4, 8] { for now: UInt8 in [0, 2, 3, 4, 5, 8, 9, 17] { #expect(step(kind, was, now) == .nothing) } }
        }
    }
    @Test func `what the task has chosen is set where it differs`() {
        #expect(step(.storeBypass, 5, 3) == .set(4))
        #expect(step(.storeBypass, 9, 5) == .set(8))
        #expect(step(.storeBypass, 17, 3) == .set(16))
        #expect(step(.indirectBranch, 3, 5) == .set(2))
        #expect(step(.flushedCache, 3, 5) == .set(2))
        for same: UInt8 in [3, 5, 9, 17] { #expect(step(.storeBypass, same, same) == .nothing) }
    }
    @Test func `a protection that this machine does not offer is impossible, unless nothing is to be protected from`() {
        #expect(step(.storeBypass, 5, 2) == .impossible)
        #expect(step(.indirectBranch, 9, nil) == .impossible)
        #expect(step(.flushedCache, 3, 8) == .impossible)
        #expect(step(.storeBypass, 5, 0) == .nothing)
        #expect(step(.storeBypass, 9, 4) == .nothing)
    }
    @Test func `who has no protection starts wherever it may`() {
        for now: UInt8? in [0, 2, 4, nil] { #expect(step(.storeBypass, 3, now) == .nothing) }
        #expect(step(.flushedCache, 5, 8) == .nothing)
    }
    @Test func `a word tells what the kernel tells of this task`() {
        let word = SpeculationWord.ofThisTask
        for kind in [SpeculationKind.storeBypass, .indirectBranch, .flushedCache] { #expect(word[kind]?.bits == SpeculationState(of: kind)?.bits) }
        #expect(SpeculationWord(0)[.storeBypass] == nil)
        #expect(SpeculationWord(0x85 << 8)[.indirectBranch]?.bits == 5)
    }
}
