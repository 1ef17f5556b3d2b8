// Of `ckptctl inspect`: what stands behind a descriptor or mapping.  A new kind of object needs one line in `kinds`.
import CkptABI
import CkptReport
import CkptStatefile

struct ObjectKind: Sendable {
    let name: String
    /// What tells it from others of its kind: a path, an address, a peer, a count.
    let detail: @Sendable (Statefile, ckpt_object_record, Int) -> String

    @Sendable private static func path(_ s: Statefile, _ o: ckpt_object_record, _ i: Int) -> String { s.string(o.path) }
    private static let kinds: [ckpt_object_kind.RawValue: ObjectKind] = [
        CKPT_OBJECT_REGULAR.rawValue: .init(name: "file") { s, o, i in s.string(o.path) + " (\(sizeText(o.size))\(o.flags & CKPT_OBJECT_SAVED.rawValue != 0 ? ", stored" : ""))" },
        CKPT_OBJECT_DIRECTORY.rawValue: .init(name: "folder", detail: path),
        CKPT_OBJECT_DEVICE.rawValue: .init(name: "device") { s, o, i in "\(s.string(o.path)) (\(o.rdev >> 8 & 0xfff):\(o.rdev & 0xff))" },
        CKPT_OBJECT_FIFO.rawValue: .init(name: "FIFO") { s, o, i in "\(s.string(o.path)), \(sizeText(o.content_size)) unread" },
        CKPT_OBJECT_PIPE.rawValue: .init(name: "pipe") { s, o, i in "pipe:[\(o.inode)], \(sizeText(o.content_size)) unread" + holders(s, i) },
        CKPT_OBJECT_DELETED.rawValue: .init(name: "deleted file") { s, o, i in "\(s.string(o.path)) (\(sizeText(o.size)), stored)" },
        CKPT_OBJECT_SHMEM.rawValue: .init(name: "shared memory") { s, o, i in sizeText(o.size) },
        CKPT_OBJECT_OUTSIDE.rawValue: .init(name: "standard stream", detail: path),
        CKPT_OBJECT_MEMFD.rawValue: .init(name: "memfd") { s, o, i in "\(s.string(o.path)) (\(sizeText(o.size)))" },
        CKPT_OBJECT_SOCKET.rawValue: .init(name: "socket") { s, o, i in socketWords(s, Int(o.detail)) },
        CKPT_OBJECT_EVENTFD.rawValue: .init(name: "eventfd") { s, o, i in "count \(s.events[Int(o.detail)].value)" },
        CKPT_OBJECT_TIMERFD.rawValue: .init(name: "timerfd") { s, o, i in timerWords(s.events[Int(o.detail)]) },
        CKPT_OBJECT_SIGNALFD.rawValue: .init(name: "signalfd") { s, o, i in signalSet(s.events[Int(o.detail)].value) },
        CKPT_OBJECT_EPOLL.rawValue: .init(name: "epoll") { s, o, i in watchedWords(s, s.events[Int(o.detail)]) },
        CKPT_OBJECT_INOTIFY.rawValue: .init(name: "inotify") { s, o, i in
            let e = s.events[Int(o.detail)]
            return "watches " + (e.first_item..<e.first_item + e.item_count).map { s.string(s.watches[Int($0)].path) }.joined(separator: " ") + (e.flags & CKPT_EVENT_OVERFLOW.rawValue != 0 ? ", had unread events" : "") + (e.flags & CKPT_EVENT_UNREAD.rawValue != 0 ? ", \(sizeText(UInt64(e.set_flags))) unread" : "")
        },
        CKPT_OBJECT_PIDFD.rawValue: .init(name: "pidfd") { s, o, i in
            let e = s.events[Int(o.detail)]
            return e.flags & CKPT_EVENT_REAPED.rawValue != 0 ? "of a process that has ended" : "of process \(e.value)"
        },
        CKPT_OBJECT_RING.rawValue: .init(name: "io_uring") { s, o, i in
            let r = s.rings[Int(o.detail)]
            return "\(r.parameters.sq_entries) and \(r.parameters.cq_entries) entries, flags 0x\(hex(UInt64(r.parameters.flags))), \(counted(Int(r.submitted), "operation"))"
        },
        CKPT_OBJECT_QUEUE.rawValue: .init(name: "message queue") { s, o, i in "\(s.string(o.path)), \(counted(Int(s.ipc[Int(o.detail)].count), "message"))" },
        CKPT_OBJECT_SEGMENT.rawValue: .init(name: "System V shared memory") { s, o, i in "\(s.ipc[Int(o.detail)].id) (\(sizeText(o.size)))" },
        CKPT_OBJECT_PATH.rawValue: .init(name: "path", detail: path),
        CKPT_OBJECT_PROC.rawValue: .init(name: "/proc", detail: path),
        CKPT_OBJECT_NAMESPACE.rawValue: .init(name: "namespace", detail: path),
        CKPT_OBJECT_DELETED_FOLDER.rawValue: .init(name: "deleted folder", detail: path),
    ]
    static func of(_ o: ckpt_object_record) -> ObjectKind { kinds[o.kind] ?? .init(name: "kind \(o.kind)", detail: path) }

    /// Who else holds descriptors of an object.
    private static func holders(_ s: Statefile, _ object: Int) -> String {
        let found = s.descriptors.filter { Int(s.descriptions[Int($0.description)].object) == object }.map { "\(s.processes[Int($0.process)].pid)/\($0.number)" }
        return found.isEmpty ? "" : ", held as " + found.joined(separator: " ")
    }

    /// "watches 4 7 9": descriptors, as they were added.
    private static func watchedWords(_ s: Statefile, _ e: ckpt_event_record) -> String {
        e.item_count == 0 ? "watches nothing" : "watches " + (e.first_item..<e.first_item + e.item_count).map { String(s.watched[Int($0)].number) }.joined(separator: " ")
    }
    private static func timerWords(_ e: ckpt_event_record) -> String {
        e.left.value_sec == 0 && e.left.value_nsec == 0 ? "disarmed" : "\(seconds(e.left.value_sec, e.left.value_nsec)) s left"
    }
}

func signalSet(_ set: UInt64) -> String { (1...64).filter { set >> UInt64($0 - 1) & 1 != 0 }.map { signalName(Int32($0)) }.joined(separator: " ") }

/// "stream unix, listening at /run/x, backlog 5", "stream inet, connected 127.0.0.1:80 to socket 4"
func socketWords(_ s: Statefile, _ i: Int) -> String {
    let r = s.sockets[i]
    let families: [UInt32: String] = [1: "unix", 2: "inet", 10: "inet6", 16: "netlink", 17: "packet"], types: [UInt32: String] = [1: "stream", 2: "datagram", 3: "raw", 5: "seqpacket"]
    var text = "\(types[r.type] ?? "type \(r.type)") \(families[r.family] ?? "family \(r.family)")"
    let local = addressWords(s.blob(at: r.local, count: r.local_size)), remote = addressWords(s.blob(at: r.remote, count: r.remote_size))
    switch ckpt_socket_state(rawValue: r.state) {
    case CKPT_SOCKET_LISTENING: text += ", listening, backlog \(r.backlog)"
    case CKPT_SOCKET_CONNECTED, CKPT_SOCKET_PENDING: text += r.state == CKPT_SOCKET_PENDING.rawValue ? ", not yet accepted" : ", connected"
    default: break
    }
    if !local.isEmpty { text += ", at \(local)" }
    if r.peer != ckpt_no_index() { text += ", peer \(holderWords(s, s.sockets[Int(r.peer)].object))" } else if !remote.isEmpty { text += ", to \(remote)" }
    if r.message_count > 0 { text += ", \(counted(Int(r.message_count), "message")) unread" }
    return text
}
/// "812/5": pid and descriptor of whoever holds the object first.
private func holderWords(_ s: Statefile, _ object: UInt32) -> String {
    guard let d = s.descriptors.first(where: { s.descriptions[Int($0.description)].object == object }) else { return "not accepted" }
    return "\(s.processes[Int(d.process)].pid)/\(d.number)"
}
/// A sockaddr as ss(8) shows it.
func addressWords(_ b: [UInt8]) -> String {
    guard b.count >= 2 else { return "" }
    let family = UInt16(b[0]) | UInt16(b[1]) << 8
    switch family {
    case 1:
        if b.count == 2 { return "" }
        if b[2] == 0 { return "@" + String(decoding: b[3...], as: UTF8.self) }
        return String(decoding: b[2...].prefix { $0 != 0 }, as: UTF8.self)
    case 2 where b.count >= 8: return b[4..<8].map { String($0) }.joined(separator: ".") + ":\(Int(b[2]) << 8 | Int(b[3]))"
    case 10 where b.count >= 24:
        return "[" + (0..<8).map { hex(UInt64(b[8 + $0 * 2]) << 8 | UInt64(b[9 + $0 * 2])) }.joined(separator: ":") + "]:\(Int(b[2]) << 8 | Int(b[3]))"
    default: return "family \(family)"
    }
}
