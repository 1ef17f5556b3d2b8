// The stack of a live task that does not arrive at the barrier, through libunwind's ptrace accessors.
// The task is stopped for the time it takes, unseen by its parent (PTRACE_SEIZE), and then let go.
import CUnwind
import CkptSystem

/// Empty if the task can't be traced: someone else traces it, it is in uninterruptible sleep, or that isn't permitted.
public func stack(ofTask tid: Int32, pid: Int32, limit: Int = 64) -> [Frame] {
    guard let traced = TracedTask(tid) else { return [] }
    defer { traced.release() }
    guard let space = cunwind_space(cunwind_ptrace_accessors()) else { return [] }
    defer { cunwind_space_end(space) }
    guard let argument = _UPT_create(tid) else { return [] }
    defer { _UPT_destroy(argument) }
    let objects = LiveObjects(pid)
    return frames(space, argument, limit: limit) { frame, cursor in
        var name = [CChar](repeating: 0, count: 256), offset: UInt64 = 0
        if cunwind_name(&cursor, &name, name.count, &offset) == 0 {
            frame.symbol = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            frame.offset = offset
        }
        frame.object = objects.name(at: frame.address)
    }
}

/// Walks from the innermost frame outwards.
func frames(_ space: unw_addr_space_t, _ argument: UnsafeMutableRawPointer, limit: Int, _ describe: (inout Frame, inout unw_cursor_t) -> Void) -> [Frame] {
    var cursor = unw_cursor_t(), result: [Frame] = []
    guard cunwind_start(&cursor, space, argument) == 0 else { return [] }
    var lastSP: UInt64 = 0
    while result.count < limit {
        var ip: UInt64 = 0, sp: UInt64 = 0
        guard cunwind_ip(&cursor, &ip) == 0, ip != 0 else { break }
        var frame = Frame(address: ip)
        frame.isSignalFrame = cunwind_is_signal_frame(&cursor) != 0
        describe(&frame, &cursor)
        result.append(frame)
        guard cunwind_step(&cursor) > 0 else { break }
        // A damaged stack must not be walked in circles.
        guard cunwind_sp(&cursor, &sp) == 0, sp != lastSP else { break }
        lastSP = sp
    }
    return result
}

/// The files that a live process maps, by address.
private struct LiveObjects {
    private var mappings: [(start: UInt64, end: UInt64, name: String)] = []
    init(_ pid: Int32) {
        guard let text = try? Path.text("/proc/\(pid)/maps") else { return }
        for line in text.split(separator: "\n") {
            let parts = line.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: true)
            let range = parts.first?.split(separator: "-").compactMap { UInt64($0, radix: 16) } ?? []
            if parts.count == 6, range.count == 2 { mappings.append((range[0], range[1], String(parts[5]))) }
        }
    }
    func name(at address: UInt64) -> String? { mappings.first { $0.start <= address && address < $0.end }?.name }
}
