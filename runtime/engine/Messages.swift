// Runs in the builder, before the tree's first process, on the region's main stack; no allocation, no libc.
// Puts a message back into a Unix socket's queue: its bytes, the descriptors that it carries, the credentials that it shows.
import CkptABI
import EngineBoot
import Freestanding

/// Sends message `m` of socket `i` from `from`, to an address or to the peer.
/// `o`: whose the name is, if somebody else than root may lead it elsewhere.
func send(_ i: Int, _ m: UnsafeMutablePointer<ckpt_message_record>, _ from: Int32, _ address: UInt64, _ length: UInt32, as o: FileOwner? = nil) {
    let size = pageAlignUp(max(m.pointee.content_size, 1)), content = anonymous(size + 4096)
    defer { _ = ckpt_munmap(UInt64(UInt(bitPattern: content)), size + 4096) }
    if m.pointee.content_size > 0 { readStatefile(content, m.pointee.content_size, at: m.pointee.content) }
    let control = content + Int(size)
    var vector = ckpt_iovec(), header = ckpt_msghdr(), done: UInt64 = 0, room: Int32 = 0
    defer { if room > 0 { setRoom(from, room) } }
    header.name = address; header.namelen = length
    repeat {
        vector = ckpt_iovec(base: UInt64(UInt(bitPattern: content)) + done, length: m.pointee.content_size - done)
        header.iov = UInt64(UInt(bitPattern: withUnsafeMutablePointer(to: &vector) { $0 })); header.iovlen = 1
        header.control = UInt64(UInt(bitPattern: control)); header.controllen = done == 0 ? UInt64(fillControl(i, m, control)) : 0
        if header.controllen == 0 { header.control = 0 }
        var r = sendOnce(m, from, &header, o)
        if r == -11 && room == 0 { room = makeRoom(from); r = sendOnce(m, from, &header, o) }
        guard r >= 0 else { refuseQueue(i, r) }
        done += UInt64(r)
    } while done < m.pointee.content_size
}

// A sender is let in as long as its buffer is not full, so that the last piece may reach beyond the end; how the bytes were cut into pieces nobody knows, and cut
// otherwise they may take more.  (EAGAIN, and room for twice as much is everybody's to ask for.)
private let sendBuffer = 7, socketLevel = 1
/// Of a buffer; as getsockopt(2) says it, which is twice what setsockopt(2) takes.
private func makeRoom(_ fd: Int32) -> Int32 {
    let getOption = 55
    var before: Int32 = 0, size: UInt32 = 4
    guard system(getOption, Int(fd), socketLevel, sendBuffer, int(&before), int(&size)) == 0 else { return 0 }
    setRoom(fd, before < Int32.max / 4 ? before * 4 : before)
    return before
}
private func setRoom(_ fd: Int32, _ size: Int32) {
    var half = size / 2
    let force = 32
    if system(CKPT_SYS_setsockopt, Int(fd), socketLevel, force, int(&half), 4) < 0 { _ = system(CKPT_SYS_setsockopt, Int(fd), socketLevel, sendBuffer, int(&half), 4) }
}

/// Credentials are those of a process with that pid; what it says of itself it may say.
private func sendOnce(_ m: UnsafeMutablePointer<ckpt_message_record>, _ from: Int32, _ header: UnsafeMutablePointer<ckpt_msghdr>, _ o: FileOwner?) -> Int {
    let dontWaitNoSignal = 0x4040
    if let o, o.isAlone, m.pointee.flags & CKPT_MESSAGE_CREDENTIALS.rawValue == 0 { return call(as: o, OwnerCall.send, header, dontWaitNoSignal, fd: from) }
    if m.pointee.flags & CKPT_MESSAGE_CREDENTIALS.rawValue == 0 { return system(CKPT_SYS_sendmsg, Int(from), int(header), dontWaitNoSignal) }
    // The sender's own SO_PASSCRED makes the kernel add who sends.
    var on: Int32 = 1, off: Int32 = 0
    _ = system(CKPT_SYS_setsockopt, Int(from), 1, 16, int(&on), 4)
    let r = call(as: Creator(pid: m.pointee.pid, uid: m.pointee.uid, gid: m.pointee.gid), CreatorCall.send, from, UInt64(UInt(bitPattern: header)))
    _ = system(CKPT_SYS_setsockopt, Int(from), 1, 16, int(&off), 4)
    return r
}

/// SCM_RIGHTS; the size of the control data.
private func fillControl(_ i: Int, _ m: UnsafeMutablePointer<ckpt_message_record>, _ control: UnsafeMutableRawPointer) -> Int {
    let count = Int(m.pointee.carried_count)
    if count == 0 { return 0 }
    guard count <= 253 else { refuse(.badStatefile) { l in putSocket(i, &l); l.put("a message with too many descriptors; the file is damaged, take another") } }
    control.storeBytes(of: UInt64(16 + count * 4), as: UInt64.self)
    control.storeBytes(of: 1, toByteOffset: 8, as: Int32.self); control.storeBytes(of: 1, toByteOffset: 12, as: Int32.self)
    for k in 0..<count {
        let d = Int(carried[Int(m.pointee.first_carried) + k].pointee), fd = descriptionFd[d].pointee
        guard fd >= 0 else { refuse(.internalError) { l in putSocket(i, &l); l.put("a descriptor that a message carries was not opened; report it with the statefile") } }
        setFlags(fd, descriptions[d].pointee.flags)
        control.storeBytes(of: fd, toByteOffset: 16 + k * 4, as: Int32.self)
    }
    return 16 + count * 4
}

private func refuseQueue(_ i: Int, _ r: Int) -> Never {
    refuse(r) { l in putSocket(i, &l); l.put("what is unread in it does not fit; raise sysctl net.core.wmem_default or net.unix.max_dgram_qlen to what they were at the checkpoint") }
}
