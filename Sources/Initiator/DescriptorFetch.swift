// Copies of the tasks' descriptors: by pidfd_getfd(2), or, where only an ancestor may attach to a process (Yama, ptrace_scope 1), sent by its leader.
import CkptABI
import CkptReport
import CkptSession
import CkptSystem

final class DescriptorFetch {
    fileprivate struct Place: Hashable { var pid: Int32, number: Int32 }
    fileprivate var sent: [Place: File] = [:]

    /// A copy of `pid`'s descriptor `number`; closed by whoever holds it last.
    func copy(of pid: Int32, _ number: Int32) throws(SystemError) -> File {
        if let file = sent[Place(pid: pid, number: number)] { return file }
        return try File(of: pid, number: number)
    }
    /// Copies keep what they lead to alive: they go before anybody runs on.
    func drop() { sent = [:] }
}

extension ObservedDescriptor {
    /// /proc does not show all of it.  (An io_uring can't be sent; its leader looks into it.)
    fileprivate var isLookedInto: Bool { (![FileType.regular, FileType.directory].contains(mode & FileType.mask) || link.hasPrefix("anon_inode:")) && !isRing }
}

private let notPermitted: Int32 = 1, perMessage = 64

extension Operation {
    func fetchDescriptors(_ tree: ObservedTree, _ barrier: Barrier) throws(CheckpointFailure) -> DescriptorFetch {
        let fetch = DescriptorFetch()
        var asked: [Int: [Int32]] = [:]
        for (i, p) in tree.processes.enumerated() where !p.isZombie {
            let numbers = p.descriptors.filter(\.isLookedInto).map(\.number)
            guard let first = numbers.first else { continue }
            do throws(SystemError) { _ = try File(of: p.view, number: first) } catch { if error.errno == notPermitted { asked[i] = numbers } }
        }
        if asked.isEmpty { return fetch }
        log.debug("\(asked.count) leaders send their descriptors: pidfd_getfd is not permitted")
        let name = "ckpt-\(segment.id)-\(barrier.generation)-\(Kernel.processID)-descriptors", token = UInt64.random(in: 1...UInt64.max)
        let mailbox: Mailbox
        do throws(SystemError) { mailbox = try Mailbox(abstract: name) } catch { throw CheckpointFailure([problem(.system, "\(error.call): \(error.text)")]) }
        try mailbox.whileReceiving { () throws(CheckpointFailure) in try letSend(asked, tree, barrier, name, token) }
        for m in mailbox.messages { keep(m, token, asked, tree, fetch) }
        return fetch
    }

    /// Two questions to each leader: a socket; then its descriptors through it, and the socket's end.
    private func letSend(_ asked: [Int: [Int32]], _ tree: ObservedTree, _ barrier: Barrier, _ name: String, _ token: UInt64) throws(CheckpointFailure) {
        let unix: Int64 = 1, datagram: Int64 = 2, closeOnExec: Int64 = 0o2000000
        let sockets = try ask(tree, barrier, asked.mapValues { _ in [Ask(CKPT_SYS_socket, [unix, datagram | closeOnExec, 0])] })
        var questions: [Int: [Ask]] = [:]
        for (i, numbers) in asked {
            let p = tree.processes[i]
            guard let socket = sockets[i]?.first, socket >= 0, let home = p.mappings.first(where: { $0.inode == segment.identity.inode && $0.device == segment.identity.device }) else { continue }
            var all: [Ask] = []
            for first in stride(from: 0, to: numbers.count, by: perMessage) {
                let message = try letter(p, home.start &- home.offset, name, token, process: i, first: first, Array(numbers[first..<min(first + perMessage, numbers.count)]))
                all.append(Ask(CKPT_SYS_sendmsg, [socket, Int64(message), 0]))
            }
            questions[i] = all + [Ask(CKPT_SYS_close, [socket])]
        }
        _ = try ask(tree, barrier, questions)
    }

    /// A struct msghdr in the arena and all that it points to; its address in the process.
    private func letter(_ p: ObservedProcess, _ segmentAt: UInt64, _ name: String, _ token: UInt64, process: Int, first: Int, _ numbers: [Int32]) throws(CheckpointFailure) -> UInt64 {
        func place(_ bytes: [UInt8]) throws(CheckpointFailure) -> UInt64 { segmentAt + UInt64(CKPT_OFFSET_ARENA) + (try claim(p, bytes)).offset }
        func raw<T>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value) { [UInt8]($0) } }
        let address = raw(UInt16(1)) + [0] + Array(name.utf8), body = raw(token) + raw(UInt32(process)) + raw(UInt32(first))
        let length = 16 + numbers.count * 4, control = raw(UInt64(length)) + raw(Int32(1)) + raw(Int32(1)) + numbers.flatMap { raw($0) }      // SOL_SOCKET, SCM_RIGHTS
        var m = ckpt_msghdr()
        m.name = try place(address); m.namelen = UInt32(address.count)
        m.iov = try place(raw(ckpt_iovec(base: try place(body), length: UInt64(body.count)))); m.iovlen = 1
        m.control = try place(control + [UInt8](repeating: 0, count: control.count % 8)); m.controllen = UInt64((length + 7) & ~7)
        return try place(raw(m))
    }

    private func keep(_ m: QueuedMessage, _ token: UInt64, _ asked: [Int: [Int32]], _ tree: ObservedTree, _ fetch: DescriptorFetch) {
        guard m.bytes.count == 16 else { return }
        let (said, process, first) = m.bytes.withUnsafeBytes { ($0.load(as: UInt64.self), Int($0.load(fromByteOffset: 8, as: UInt32.self)), Int($0.load(fromByteOffset: 12, as: UInt32.self))) }
        guard said == token, let numbers = asked[process], first + m.descriptors.count <= numbers.count else { return }
        for (k, file) in m.descriptors.enumerated() { fetch.sent[DescriptorFetch.Place(pid: tree.processes[process].view, number: numbers[first + k])] = file }
    }
}
