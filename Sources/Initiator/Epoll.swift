// What each epoll instance watches.  fdinfo lists it; kcmp(2) finds the file behind each entry, since its number may stand for another one by now.
import CkptABI
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

private let privateBits: UInt32 = 0xf000_0000, edge: UInt32 = 0x8000_0000       // EPOLLET, ONESHOT, WAKEUP, EXCLUSIVE

extension SystemContent {
    /// Before any file is described: what is watched is made before the tree, like the instance itself.
    func surveyEpolls(_ tree: ObservedTree, _ segment: Segment) {
        for i in files.all.indices where files.all[i].sample.isEpoll {
            let f = files.all[i], first = tables.watched.count
            do throws(SystemError) { try surveyItems(of: f, tree, segment) } catch {
                refusals.add(pid: f.samplePid, fd: f.sample.number, "epoll instance: it can't be looked at: \(error.call): \(error.text)", "try again", status: .temporary)
            }
            epollItems[i] = (UInt32(first), UInt32(tables.watched.count - first))
        }
    }

    /// "tfd: 5 events: 19 data: 7fff00000005  pos:0 ino:2d sdev:9"
    private func surveyItems(of f: OpenFile, _ tree: ObservedTree, _ segment: Segment) throws(SystemError) {
        var seen: [Int32: Int] = [:]
        for line in try DescriptorInfo(f.samplePid, f.sample.number).lines where line.name == "tfd" {
            let words = line.value.split { $0 == " " || $0 == ":" }
            guard words.count >= 9, let number = Int32(words[0]), let events = UInt32(words[2], radix: 16), let data = UInt64(words[4], radix: 16), let inode = UInt64(words[8], radix: 16) else { continue }
            // Entries of one number are told apart by their order.
            let nth = seen[number, default: 0]
            seen[number] = nth + 1
            guard let target = try self.target(of: f, number, nth, inode: inode) else {
                refusals.add(pid: f.samplePid, fd: f.sample.number, "epoll instance: it watches a file, added as descriptor \(number), that nobody in the tree has open any more", "remove it with EPOLL_CTL_DEL before closing it")
                continue
            }
            var w = ckpt_watched_record(target: UInt32(target), number: number, events: events, process: ckpt_no_index(), data: data)
            let isRing = files.all[target].sample.isRing
            if files.all[target].sample.isSignalfd || isRing {
                // A signalfd shows the signals of whoever added it, and nobody tells who that was.  An io_uring is made by its process.
                let both = f.users.intersection(files.all[target].users)
                guard both.count == 1, let p = both.first else {
                    let what = isRing ? "an io_uring" : "a signalfd"
                    refusals.add(pid: f.samplePid, fd: f.sample.number, both.isEmpty ? "epoll instance: it watches \(what) of a process that does not have the instance" : "epoll instance: it watches \(what), and several processes have both",
                                 "keep both open in one process (close-on-exec, or close them after fork)")
                    continue
                }
                w.process = UInt32(p)
            }
            if events & ~privateBits == 0 && !canFire(target, segment) {
                refusals.add(pid: f.samplePid, fd: f.sample.number, "epoll instance: a one-shot entry (descriptor \(number)) has fired and its file is ready for nothing",
                             mayBeReadySoon(target) ? "try again" : "arm the entry again (EPOLL_CTL_MOD) or take it out (EPOLL_CTL_DEL) before the checkpoint", status: mayBeReadySoon(target) ? .temporary : .refused)
            }
            tables.watched.append(w)
            files.watch(target)
            if events & edge != 0 { watchedByEdge.insert(target) }
            if !files.all[target].sample.isEpoll && !files.all[target].sample.isPidfd && !isRing { files.openInEngine(target) }
        }
    }

    private func target(of f: OpenFile, _ number: Int32, _ nth: Int, inode: UInt64) throws(SystemError) -> Int? {
        // Mostly it still has its number in a process that has the instance.
        func order(_ c: OpenFile) throws(SystemError) -> Int { try Kernel.compareWatched(c.samplePid, c.sample.number, with: f.samplePid, epoll: f.sample.number, number, nth) }
        for i in f.users.compactMap({ files.description(process: $0, number: number) }) where files.all[i].sample.inode == inode {
            if try order(files.all[i]) == 0 { return i }
        }
        return try files.search(inode: inode, order)
    }

    /// A connection is, when it can be written to again.  What waits for others may do so for ever: a listener, an inotify queue, a process, a signal.
    private func mayBeReadySoon(_ target: Int) -> Bool {
        let c = files.all[target].sample, acceptsConnections: Int32 = 30
        if c.isSignalfd || c.isPidfd || c.isInotify { return false }
        guard c.link.hasPrefix("socket:"), let copy = try? fetch.copy(of: files.all[target].samplePid, c.number) else { return true }
        return copy.intOption(SocketLevel.socket, acceptsConnections) == 0
    }

    /// A one-shot entry that has fired is made by letting it fire: its file must be ready for something, or be made so.
    private func canFire(_ target: Int, _ segment: Segment) -> Bool {
        let c = files.all[target].sample
        // These are added late, when others of the instance may fire in their place.
        if c.isSignalfd || c.isPidfd || c.isRing { return false }
        if c.isTimerfd || c.isEpoll { return true }
        let isOurs = files.all.contains { $0.sample.inode == c.inode && $0.sample.canWrite }
        if c.link.hasPrefix("pipe:") && c.canRead && isOurs { return true }
        return (try? fetch.copy(of: files.all[target].samplePid, c.number).isReady()) ?? false
    }
}
