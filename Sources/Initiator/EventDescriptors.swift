// Descriptors of anonymous inodes as /proc/PID/fdinfo shows them: eventfd, timerfd, signalfd here; epoll, inotify and pidfd in files of their own.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

/// The lines of one descriptor's fdinfo, "name: value".
struct DescriptorInfo {
    let lines: [(name: Substring, value: Substring)]
    init(_ pid: Int32, _ number: Int32) throws(SystemError) {
        let text = try Path.text("/proc/\(pid)/fdinfo/\(number)")
        lines = text.split(separator: "\n").map { line in
            let parts = line.split(separator: ":", maxSplits: 1)
            return (parts.first?.trimmed ?? "", parts.count > 1 ? parts[1].trimmed : "")
        }
    }
    subscript(name: String) -> Substring { lines.first { $0.name == name }?.value ?? "" }
    func hex(_ name: String) -> UInt64 { UInt64(self[name], radix: 16) ?? 0 }
    func decimal(_ name: String) -> UInt64 { UInt64(self[name]) ?? 0 }
    /// "(4, 999871338)"
    func time(_ name: String) -> (seconds: Int64, nanoseconds: Int64) {
        let f = self[name].split { !$0.isNumber }.compactMap { Int64($0) }
        return f.count == 2 ? (f[0], f[1]) : (0, 0)
    }
}
extension Substring {
    fileprivate var trimmed: Substring {
        var s = drop { $0 == " " || $0 == "\t" }
        while let last = s.last, last == " " || last == "\t" { s.removeLast() }
        return s
    }
}

extension ObservedDescriptor {
    var isEpoll: Bool { link == "anon_inode:[eventpoll]" }
    var isSignalfd: Bool { link == "anon_inode:[signalfd]" }
    var isTimerfd: Bool { link == "anon_inode:[timerfd]" }
    var isPidfd: Bool { link == "anon_inode:[pidfd]" }
    static let inotifyLink = "anon_inode:inotify"
    var isInotify: Bool { link == ObservedDescriptor.inotifyLink }
}

extension SystemContent {
    /// The object of one of them.  Nobody can open such a file again, so each description is an object, made before the tree and inherited.
    func eventObject(_ description: Int, _ f: OpenFile) -> UInt32? {
        var e = ckpt_event_record()
        let kind: ckpt_object_kind
        do throws(SystemError) {
            var info = try DescriptorInfo(f.samplePid, f.sample.number)
            switch f.sample.link {
            case "anon_inode:[eventfd]": kind = CKPT_OBJECT_EVENTFD; record(info, eventfd: &e)
            case "anon_inode:[timerfd]":
                kind = CKPT_OBJECT_TIMERFD
                // It goes on then, and tells an edge once more: not where somebody waits for edges.
                if countsOn(info) && !watchedByEdge.contains(description) {
                    try fetch.copy(of: f.samplePid, f.sample.number).updateTimer()
                    info = try DescriptorInfo(f.samplePid, f.sample.number)
                }
                record(info, timerfd: &e)
            case "anon_inode:[signalfd]": kind = CKPT_OBJECT_SIGNALFD; e.value = info.hex("sigmask") & ~ckpt_sigckpt_bit()
            case "anon_inode:[eventpoll]": kind = CKPT_OBJECT_EPOLL; (e.first_item, e.item_count) = epollItems[description] ?? (0, 0)
            case ObservedDescriptor.inotifyLink:
                kind = CKPT_OBJECT_INOTIFY
                guard try recordWatches(f, &e) else { return nil }
            case "anon_inode:[pidfd]":
                kind = CKPT_OBJECT_PIDFD
                guard try record(info, pidfd: f, &e) else { return nil }
            default:
                let (what, remedy) = SystemContent.kindByName(f.sample)
                refusals.add(pid: f.samplePid, fd: f.sample.number, what, remedy)
                return nil
            }
        } catch {
            refusals.add(pid: f.samplePid, fd: f.sample.number, "\(f.sample.link): it can't be looked at: \(error.call): \(error.text)", "try again", status: .temporary)
            return nil
        }
        var o = ckpt_object_record()
        o.kind = kind.rawValue; o.mode = f.sample.mode; o.device = f.sample.device; o.inode = f.sample.inode; o.detail = UInt32(tables.events.count)
        e.object = append(o, ObjectKey(kind: o.kind, device: o.device, inode: o.inode, path: "\(description)"))
        tables.events.append(e)
        files.openInEngine(description)
        return e.object
    }

    private func record(_ info: DescriptorInfo, eventfd e: inout ckpt_event_record) {
        e.value = info.hex("eventfd-count")
        if info.decimal("eventfd-semaphore") != 0 { e.flags = CKPT_EVENT_SEMAPHORE.rawValue }
    }
    /// A periodic timer that has expired stands still until somebody asks; only then the kernel counts what has passed meanwhile.
    private func countsOn(_ info: DescriptorInfo) -> Bool {
        info.decimal("ticks") > 0 && info.time("it_value") == (0, 0) && info.time("it_interval") != (0, 0)
    }
    private func record(_ info: DescriptorInfo, timerfd e: inout ckpt_event_record) {
        let value = info.time("it_value"), interval = info.time("it_interval")
        e.value = info.decimal("ticks"); e.clock = Int32(info.decimal("clockid")); e.set_flags = UInt32(info["settime flags"], radix: 8) ?? 0
        e.left = ckpt_itimerspec(interval_sec: interval.seconds, interval_nsec: interval.nanoseconds, value_sec: value.seconds, value_nsec: value.nanoseconds)
    }
}
