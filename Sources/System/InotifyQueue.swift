// What is unread in an inotify queue.  read(2) would take it out, and nothing can put it back in a program that runs on: so the queue is looked at where
// the kernel has it, and stays as it is.
import CkptABI

/// Events as read(2) would give them, and the number that the next watch gets.
public struct QueuedEvents: Equatable, Sendable { public var bytes: [UInt8], count: Int, nextWatch: Int32 }

public enum InotifyLookFailure: Error {
    case notPermitted(SystemError)
    case unknownKernel                  // it does not describe itself, or has other structures
    case changing                       // somebody reads from it
    case unreadable(SystemError)
    case tooMany
}

/// Looks into queues of which we have a copy.
public final class InotifyQueueView {
    private let memory: KernelMemory
    private let files, table, descriptors, privateData, list, cursor, event, mask, watch, cookie, length, name: Int

    public init() throws(InotifyLookFailure) {
        do throws(SystemError) { memory = try KernelMemory() } catch { throw .notPermitted(error) }
        guard let t = KernelTypes(of: ["task_struct", "files_struct", "fdtable", "file", "fsnotify_group", "inotify_event_info"]),
              let files = t.offset("task_struct", "files"), let table = t.offset("files_struct", "fdt"), let descriptors = t.offset("fdtable", "fd"), let privateData = t.offset("file", "private_data"),
              let list = t.offset("fsnotify_group", "notification_list"), let cursor = t.offset("fsnotify_group", "inotify_data", "idr", "idr_next"),
              let event = t.offset("inotify_event_info", "fse", "list"), let mask = t.offset("inotify_event_info", "mask"), let watch = t.offset("inotify_event_info", "wd"),
              let cookie = t.offset("inotify_event_info", "sync_cookie"), let length = t.offset("inotify_event_info", "name_len"), let name = t.offset("inotify_event_info", "name"),
              name <= 64, [event + 8, mask + 4, watch + 4, cookie + 4, length + 4].allSatisfy({ $0 <= name }) else { throw .unknownKernel }
        self.files = files; self.table = table; self.descriptors = descriptors; self.privateData = privateData; self.list = list; self.cursor = cursor
        self.event = event; self.mask = mask; self.watch = watch; self.cookie = cookie; self.length = length; self.name = name
    }

    public static var isPossible: Bool { (try? InotifyQueueView()) != nil }

    /// What is in it at some moment of this call.  Others may queue more meanwhile, nobody may read.  No more than `most` bytes.
    public func events(in queue: File, most: Int) throws(InotifyLookFailure) -> QueuedEvents {
        let unread = try bytes(in: queue), found: QueuedEvents?, fault: SystemError?
        if unread > most { throw .tooMany }
        do throws(SystemError) { (found, fault) = (try lookTwice(queue, unread), nil) } catch { (found, fault) = (nil, error) }
        // Whoever reads takes away what we look at.
        if try bytes(in: queue) < unread { throw .changing }
        if let fault { throw .unreadable(fault) }
        guard let found else { throw .changing }
        return found
    }

    private func bytes(in queue: File) throws(InotifyLookFailure) -> Int {
        do throws(SystemError) { return try queue.unreadBytes() } catch { throw .unreadable(error) }
    }
    /// nil: not twice the same.
    private func lookTwice(_ queue: File, _ size: Int) throws(SystemError) -> QueuedEvents? {
        let group = try group(of: queue), first = try walk(group, size), second = try walk(group, size)
        return first == second ? first : nil
    }

    private func group(of queue: File) throws(SystemError) -> UInt64 {
        let open = try memory.pointer(memory.pointer(memory.pointer(memory.currentTask() &+ UInt64(files)) &+ UInt64(table)) &+ UInt64(descriptors))
        return try memory.pointer(memory.pointer(open &+ UInt64(queue.number) * 8) &+ UInt64(privateData))
    }

    /// The first events that make up so many bytes; nil: none do.
    private func walk(_ group: UInt64, _ size: Int) throws(SystemError) -> QueuedEvents? {
        let head = group &+ UInt64(list)
        var found = QueuedEvents(bytes: [], count: 0, nextWatch: Int32(truncatingIfNeeded: max(1, try memory.pointer(group &+ UInt64(cursor)) & 0xffff_ffff)))
        var at = try memory.pointer(head)
        found.bytes.reserveCapacity(size)
        while found.bytes.count < size {
            if at == head { return nil }
            at = try append(at &- UInt64(event), &found)
        }
        return found.bytes.count == size ? found : nil
    }

    /// One event; where the next one is.
    private func append(_ address: UInt64, _ found: inout QueuedEvents) throws(SystemError) -> UInt64 {
        let told: UInt32 = 0xfff | 0x4000_0000 | 0x2000 | 0x8000 | 0x4000, unit = 16, longest = 255
        let e = try memory.read(address, name)
        func word(_ offset: Int) -> UInt32 { e.loadUnaligned(fromByteOffset: offset, as: UInt32.self) }
        let next = e.loadUnaligned(fromByteOffset: event, as: UInt64.self), characters = Int(word(length))
        guard characters <= longest else { throw SystemError("bpf", errno: 14) }
        let padded = characters == 0 ? 0 : (characters + 1 + unit - 1) / unit * unit
        withUnsafeBytes(of: (word(watch), word(mask) & told, word(cookie), UInt32(padded))) { found.bytes += $0 }
        if characters > 0 { found.bytes += try memory.read(address &+ UInt64(name), characters, behind: true) }
        for _ in characters..<padded { found.bytes.append(0) }
        found.count += 1
        return next
    }
}
