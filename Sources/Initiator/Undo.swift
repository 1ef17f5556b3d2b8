// Socket options that must change for a moment so that a queue can be looked at.  What was there is written into the session segment first: whoever
// of its holders is let go first sets it back, should we die in between (preload/Undo.swift).
import CkptABI
import CkptSession
import CkptSystem

/// A process, by its slot in the segment, and its descriptor of the socket.
struct UndoHolder { var slot: Int, number: Int32 }

final class OptionUndo {
    private let segment: Segment
    private let capacity = 4096
    private var entries: ArenaArray<ckpt_undo>?
    private var used = 0, free: [Int] = []              // what the entries say may be anybody's word
    private var fenced: [(file: File, entry: Int)] = []
    init(_ segment: Segment) { self.segment = segment }

    /// Sets an option while `body` runs, and then what was there before.
    func with<T>(_ file: File, _ holders: [UndoHolder], _ level: Int32, _ name: Int32, _ value: Int32, _ body: () throws(SystemError) -> T) throws(SystemError) -> T {
        guard let before = file.option(level, name, capacity: Int(CKPT_UNDO_VALUE)) else { throw SystemError("getsockopt", errno: 92) }
        return try with(file, holders, level, name, value, before: before, body)
    }
    /// `before`: what sets it back, where that is not what getsockopt(2) shows (SO_RCVBUF shows the double).
    func with<T>(_ file: File, _ holders: [UndoHolder], _ level: Int32, _ name: Int32, _ value: Int32, before: [UInt8], _ body: () throws(SystemError) -> T) throws(SystemError) -> T {
        let entry = try note(holders, level, name, before)
        defer { giveBack(entry) }
        try file.setOption(level, name, value)
        defer { try? file.setOption(level, name, before) }
        return try body()
    }

    /// Lets nothing into the socket any more, until its tasks are let go or this list goes: a filter that drops all.
    func fence(_ file: File, _ holders: [UndoHolder]) throws(SystemError) {
        let entry = try note(holders, SocketLevel.socket, detachFilter, [0, 0, 0, 0])
        do throws(SystemError) { try file.dropWhatArrives() } catch {
            giveBack(entry)
            throw error
        }
        fenced.append((file, entry))
    }
    /// Their sockets end behind the fence.
    func leaveFences() { fenced = [] }
    deinit {
        guard let entries else { return }
        for f in fenced where ckpt_cas(&entries.pointer(f.entry).pointee.state, CKPT_UNDO_ACTIVE.rawValue, CKPT_UNDO_UNDER_WAY.rawValue) {
            try? f.file.setOption(SocketLevel.socket, detachFilter, 0)
            ckpt_store(&entries.pointer(f.entry).pointee.state, CKPT_UNDO_DONE.rawValue)
        }
    }

    /// What is to be set back is in the segment before anything changes.
    private func note(_ holders: [UndoHolder], _ level: Int32, _ name: Int32, _ before: [UInt8]) throws(SystemError) -> Int {
        let (i, entry) = try claim()
        entry.pointee.level = level; entry.pointee.name = name; entry.pointee.size = UInt32(before.count)
        for (i, b) in before.prefix(Int(CKPT_UNDO_VALUE)).enumerated() { ckpt_undo_value(entry)[i] = b }
        let known = holders.filter { $0.slot >= 0 }.prefix(Int(CKPT_UNDO_HOLDERS))
        entry.pointee.holder_count = UInt32(known.count)
        for (i, h) in known.enumerated() { ckpt_undo_holder(entry, UInt32(i)).pointee = ckpt_undo_holder(process: UInt32(h.slot), fd: h.number) }
        ckpt_store(&entry.pointee.state, CKPT_UNDO_ACTIVE.rawValue)
        ckpt_store(&segment.pointer.pointee.undo_count, UInt32(used))
        return i
    }

    /// One after the other is used again: an option is back before the next one changes, but changes may be nested.
    private func claim() throws(SystemError) -> (Int, UnsafeMutablePointer<ckpt_undo>) {
        if entries == nil {
            entries = try segment.claim(roomFor: ckpt_undo.self, capacity)
            if let entries { segment.pointer.pointee.undo_offset = entries.offset }
        }
        guard let entries, !free.isEmpty || used < capacity else { throw SystemError("session arena", errno: 12) }
        if let i = free.popLast() { return (i, entries.pointer(i)) }
        used += 1
        entries.pointer(used - 1).initialize(to: ckpt_undo())
        return (used - 1, entries.pointer(used - 1))
    }
    private func giveBack(_ i: Int) {
        if let entries { ckpt_store(&entries.pointer(i).pointee.state, CKPT_UNDO_DONE.rawValue) }
        free.append(i)
    }
}

private let detachFilter: Int32 = 27
