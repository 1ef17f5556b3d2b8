// Runs in the runtime's handler and in each new task of the engine: on any stack, no call but prctl(2).
// Speculation control (PR_SET_SPECULATION_CTRL): a task may have chosen what the processor must not do ahead of time.
import CkptABI

public enum SpeculationKind: Int {
    case storeBypass = 0, indirectBranch = 1, flushedCache = 2
    public static func forEach(_ body: (SpeculationKind) -> Void) { body(.storeBypass); body(.indirectBranch); body(.flushedCache) }
}

/// What prctl(2) says of one kind.
public struct SpeculationState {
    static let perTask: UInt8 = 1, enabled: UInt8 = 2, disabled: UInt8 = 4, notAffected: UInt8 = 0
    let bits: UInt8
    public init(_ bits: UInt8) { self.bits = bits }
    /// nil: this kernel does not know the kind.
    public init?(of kind: SpeculationKind) {
        let get: Int32 = 52, r = ckpt_prctl(get, kind.rawValue, 0, 0, 0)
        guard r >= 0 else { return nil }
        bits = UInt8(truncatingIfNeeded: r)
    }
    /// What a task can ask for; where it is not per task, the machine has decided.
    var choice: UInt8 { bits & ~SpeculationState.perTask }
    var isPerTask: Bool { bits & SpeculationState.perTask != 0 }
    /// The caches are flushed where that is enabled.
    func protects(_ kind: SpeculationKind) -> Bool { choice != 0 && (choice == SpeculationState.enabled) == (kind == .flushedCache) }
}

/// What a restart has to do for it.
public enum SpeculationStep: Equatable { case nothing, set(UInt8), impossible }

public func speculationStep(_ kind: SpeculationKind, was: SpeculationState, now: SpeculationState?) -> SpeculationStep {
    if !was.isPerTask { return .nothing }
    guard let now else { return was.protects(kind) ? .impossible : .nothing }
    if now.choice == was.choice { return .nothing }
    if now.isPerTask { return .set(was.choice) }
    // Here the machine decides for all: that may be as good, and who had no protection needs none.
    let isSafe = now.bits == SpeculationState.notAffected || (kind != .flushedCache && now.choice == SpeculationState.disabled)
    return was.protects(kind) && !isSafe ? .impossible : .nothing
}

/// The kinds of one task in one word: 0x80 and its state for each that is known.
public struct SpeculationWord {
    public var word: UInt32
    static let isKnown: UInt8 = 0x80
    public init(_ word: UInt32) { self.word = word }
    public static var ofThisTask: SpeculationWord {
        var all = SpeculationWord(0)
        SpeculationKind.forEach { kind in if let s = SpeculationState(of: kind) { all.word |= UInt32(isKnown | s.bits) << UInt32(8 * kind.rawValue) } }
        return all
    }
    public subscript(_ kind: SpeculationKind) -> SpeculationState? {
        let byte = UInt8(truncatingIfNeeded: word >> UInt32(8 * kind.rawValue))
        return byte & SpeculationWord.isKnown == 0 ? nil : SpeculationState(byte & ~SpeculationWord.isKnown)
    }
}
