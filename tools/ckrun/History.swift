// Part of ckrun (freestanding, one stack, no allocation): which statefiles there are, what each needs, and when one may go.
// FILE is the newest, FILE.1 the one before it, …  With deltas a statefile needs older ones, so more than --keep asks for may be there.
import CkptABI
import Freestanding

struct History: ~Copyable {
    let file: UnsafePointer<CChar>
    let next: UnsafePointer<CChar>          // a new one, until it is complete
    let merging: UnsafePointer<CChar>       // FILE as it was when it began to be merged
    let merged: UnsafePointer<CChar>        // the newest one as one file, until it is complete
    private let keep: Int
    private let whole: Bool
    private var count = 0                   // statefiles that are there
    private let oldest: UnsafeMutablePointer<UInt32>    // by index: the oldest one that it needs, as an index
    private var deltas = 0                  // in a row, the newest last
    private var mustBeWhole = false
    private var pending = 0                 // what a delta that is being taken needs, as an index
    private var mergedAt = -1               // a merged one: the next delta is taken since it, and needs no older ones; −1: there is none
    private var usesMerged = false
    private static let most = 4096, longestChain = 14       // a delta may refer to CKPT_MAX_BASES

    init(_ options: Options, _ text: inout TextMemory) {
        let path: UnsafePointer<CChar>
        if let given = options.supervision.output ?? options.supervision.resume { path = given } else {
            let mark = text.mark
            text.put(text: options.name)
            text.put(".ckpt")
            path = text.finish(from: mark)
        }
        file = path
        next = suffixed(path, ".next", &text)
        merging = suffixed(path, ".merging", &text)
        merged = suffixed(path, ".merged", &text)
        keep = options.supervision.keep
        whole = options.supervision.whole
        let numbers = text.pointers(Self.most / 2)
        oldest = UnsafeMutableRawPointer(numbers).assumingMemoryBound(to: UInt32.self)
        findEarlier(&text)
    }

    /// What an earlier run has left may need all that is there.
    private mutating func findEarlier(_ text: inout TextMemory) {
        // Who was killed while it renamed them has left a gap.
        while count < Self.most - 1, exists(count, &text) || exists(count + 1, &text) { count += 1 }
        for i in 0..<count { oldest[i] = UInt32(count - 1) }
        mustBeWhole = true
    }
    private func exists(_ i: Int, _ text: inout TextMemory) -> Bool {
        let mark = text.mark, access = 21
        defer { text.drop(from: mark) }
        return ckpt_syscall(access, Int(bitPattern: name(i, &text)), 0, 0, 0, 0, 0) == 0
    }

    /// Whether the next one may refer to FILE.
    var takesDelta: Bool { keep > 1 && !whole && !mustBeWhole && count > 0 && deltas < Self.longestChain }
    /// Whether FILE should become one file, so that older ones can go.
    var wantsMerge: Bool { deltas >= min(keep - 1, Self.longestChain - 4) && deltas > 0 }

    /// The new statefile is complete.  FILE is there at every moment: it gets its second name before the new one takes its place.
    mutating func rotate(isDelta: Bool, _ text: inout TextMemory) {
        var i = min(count, Self.most - 1)
        while i >= 1 {
            let mark = text.mark
            let old = name(i - 1, &text), new = name(i, &text)
            if i > 1 { _ = ckpt_syscall(rename, Int(bitPattern: old), Int(bitPattern: new), 0, 0, 0, 0) } else {
                _ = ckpt_syscall(Int(CKPT_SYS_unlink), Int(bitPattern: new), 0, 0, 0, 0, 0)
                _ = ckpt_syscall(link, Int(bitPattern: old), Int(bitPattern: new), 0, 0, 0, 0)
            }
            text.drop(from: mark)
            oldest[i] = oldest[i - 1] + 1
            i -= 1
        }
        let r = ckpt_syscall(rename, Int(bitPattern: next), Int(bitPattern: file), 0, 0, 0, 0)
        if r < 0 { warn(file, "the new statefile cannot take this name", Errno(Int32(truncatingIfNeeded: -r))) }
        count = min(count + 1, Self.most)
        oldest[0] = isDelta ? UInt32(pending + 1) : 0
        deltas = !isDelta ? 0 : usesMerged ? 1 : deltas + 1
        if !isDelta || usesMerged { mergedAt = -1 } else if mergedAt >= 0 { mergedAt += 1 }
        pending = 0; usesMerged = false
        mustBeWhole = false
        prune(&text)
    }
    /// What the next delta is taken since.  It needs what that needs now, whatever becomes of it meanwhile.
    mutating func beginDelta(_ text: inout TextMemory) -> UnsafePointer<CChar> {
        usesMerged = mergedAt >= 0
        pending = Int(oldest[max(mergedAt, 0)])
        return name(max(mergedAt, 0), &text)
    }

    /// FILE under a name that it keeps until it is merged.
    func beginMerge() {
        _ = ckpt_syscall(Int(CKPT_SYS_unlink), Int(bitPattern: merging), 0, 0, 0, 0, 0)
        _ = ckpt_syscall(link, Int(bitPattern: file), Int(bitPattern: merging), 0, 0, 0, 0)
    }
    func endMerge() { _ = ckpt_syscall(Int(CKPT_SYS_unlink), Int(bitPattern: merging), 0, 0, 0, 0, 0) }

    /// FILE has been rotated `age` times since it began to be merged.
    mutating func takeMerged(age: Int, _ text: inout TextMemory) {
        if age >= count { return failed(merged, isDelta: false) }
        let mark = text.mark
        defer { text.drop(from: mark) }
        let r = ckpt_syscall(rename, Int(bitPattern: merged), Int(bitPattern: name(age, &text)), 0, 0, 0, 0)
        if r < 0 { return warn(merged, "the merged statefile cannot take its name", Errno(Int32(truncatingIfNeeded: -r))) }
        oldest[age] = UInt32(age)
        mergedAt = age
        deltas = 0
        prune(&text)
    }
    mutating func failed(_ path: UnsafePointer<CChar>, isDelta: Bool) {
        _ = ckpt_syscall(Int(CKPT_SYS_unlink), Int(bitPattern: path), 0, 0, 0, 0, 0)
        if isDelta { mustBeWhole = true; pending = 0; usesMerged = false }
    }

    /// Those that none of the last `keep` needs are removed, the oldest first.
    private mutating func prune(_ text: inout TextMemory) {
        var needed = max(keep - 1, pending)
        for i in 0..<min(keep, count) { needed = max(needed, Int(oldest[i])) }
        while count > needed + 1 {
            count -= 1
            let mark = text.mark
            _ = ckpt_syscall(Int(CKPT_SYS_unlink), Int(bitPattern: name(count, &text)), 0, 0, 0, 0, 0)
            text.drop(from: mark)
        }
    }
    private let rename = 82, link = 86

    private func name(_ i: Int, _ text: inout TextMemory) -> UnsafePointer<CChar> {
        let mark = text.mark
        text.put(text: file)
        if i > 0 { text.put(byte: 46); text.put(decimal: UInt64(i)) }
        return text.finish(from: mark)
    }
}

private func suffixed(_ path: UnsafePointer<CChar>, _ suffix: StaticString, _ text: inout TextMemory) -> UnsafePointer<CChar> {
    let mark = text.mark
    text.put(text: path)
    text.put(suffix)
    return text.finish(from: mark)
}
