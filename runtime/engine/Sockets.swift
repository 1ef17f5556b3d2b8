// Runs in the builder, before the tree's first process, on the region's main stack; no allocation, no libc.
// Unix sockets: made here and inherited, while those of other families exist already (InternetSockets.swift).  Their queues are filled when every description exists, since messages may carry any.
import CkptABI
import EngineBoot
import Freestanding

func makeSockets() {
    forgetSockets()
    reserveInnerSockets()
    holdNames()
    makeUnixSockets()
}

func completeSockets() {
    let start = ckpt_open(StaticString(".").cString, 0o12000000, 0)     // O_PATH
    giveUpIfAborted()
    fillUnixQueues()
    placeMovedFiles()
    removeFolders()
    leaveNames()
    if start >= 0 { _ = system(CKPT_SYS_fchdir, start); _ = ckpt_close(Int32(start)) }
    for i in 0..<sockets.count where isMadeHere(i) {
        guard let fd = socketFd(i) else { continue }
        setOptions(i, fd, CKPT_OPTION_FILLED)
        setFlags(fd, descriptions[sockets[i].pointee.description].pointee.flags)
    }
}

/// What an attempt in another way has left.
private func forgetSockets() {
    for i in 0..<sockets.count where sockets[i].pointee.family == Family.unix {
        sockets[i].pointee.ghost = 0
        forgetSocket(i)
    }
}
func forgetSocket(_ i: Int) {
    guard let fd = socketFd(i) else { return }
    _ = ckpt_close(fd)
    descriptionFd[sockets[i].pointee.description].pointee = -1
}

/// The descriptor of a socket that is made; nil: it has none (yet).
func socketFd(_ i: Int) -> Int32? {
    let d = sockets[i].pointee.description
    guard d != ckpt_no_index(), sockets[i].pointee.object != ckpt_no_index(), descriptionFd[d].pointee >= 0 else { return nil }
    return descriptionFd[d].pointee
}

/// Gives a socket of the tree its descriptor, and the options that it has from the beginning.
func adopt(_ i: Int, _ fd: Int) {
    let d = descriptionFd[sockets[i].pointee.description], n = d.pointee < -1 ? takeReserved(d.pointee, fd) : lift(Int32(truncatingIfNeeded: fd), "socket")
    d.pointee = n
    setOptions(i, n, CKPT_OPTION_CREATED)
}

func putSocket(_ i: Int, _ l: inout Line) {
    let s = sockets[i].pointee
    l.put(s.type == 1 ? "stream " : s.type == 2 ? "datagram " : s.type == 5 ? "seqpacket " : "")
    l.put("socket")
    let address = s.local_size > 2 ? (s.local, s.local_size) : (s.remote, s.remote_size)
    if s.family == 1 && address.1 > 2 {
        l.put(" ")
        for k in 2..<address.1 {
            let c = UInt8(bitPattern: bytes(address.0 + k).pointee)
            if c == 0 && k > 2 && bytes(address.0 + 2).pointee != 0 { break }
            l.put(byte: c < 32 ? 64 : c)
        }
    } else if s.object != ckpt_no_index() { l.put(" "); l.put(text: bytes(objects[s.object].pointee.path)) }
    l.put(": ")
}

func setOptions(_ i: Int, _ fd: Int32, _ stage: ckpt_option_stage) {
    let s = sockets[i]
    for k in 0..<s.pointee.option_count {
        let o = options[s.pointee.first_option + k]
        if o.pointee.stage == stage.rawValue { setOption(i, fd, o.pointee) }
    }
}

private func setOption(_ i: Int, _ fd: Int32, _ o: ckpt_option_record) {
    let value = int(bytes(o.value)), general = o.level == 1
    var r: Int
    if general && (o.name == 7 || o.name == 8) { r = setBuffer(fd, o.name, value, o.size) }
    else if general && o.name == 26 { r = attachFilter(fd, value, o.size) }
    else { r = system(CKPT_SYS_setsockopt, Int(fd), Int(o.level), Int(o.name), value, Int(o.size)) }
    guard r == 0 else {
        refuse(r) { l in putSocket(i, &l); l.put("its option "); l.put(text: bytes(o.text)); l.put(" cannot be set; restart it as root, or where this is permitted") }
    }
}

/// SO_SNDBUFFORCE and SO_RCVBUFFORCE where permitted; else within the limits of sysctl net.core.wmem_max and rmem_max.
private func setBuffer(_ fd: Int32, _ name: Int32, _ value: Int, _ size: UInt32) -> Int {
    let force = name == 7 ? 32 : 33
    if system(CKPT_SYS_setsockopt, Int(fd), 1, force, value, Int(size)) == 0 { return 0 }
    let r = system(CKPT_SYS_setsockopt, Int(fd), 1, Int(name), value, Int(size))
    var now: Int32 = 0, length: UInt32 = 4
    if r == 0, system(CKPT_SYS_getsockopt, Int(fd), 1, Int(name), int(&now), int(&length)) == 0, Int(now) < 2 * Int(field(UnsafeRawPointer(bitPattern: value)!, 0, Int32.self)) { return -1 }
    return r
}
/// struct sock_fprog: how many instructions of eight bytes, and where.
private func attachFilter(_ fd: Int32, _ value: Int, _ size: UInt32) -> Int {
    var program = InlineArray<2, UInt64>(repeating: 0)
    program[0] = UInt64(size / 8); program[1] = UInt64(value)
    return withUnsafeMutableBytes(of: &program) { system(CKPT_SYS_setsockopt, Int(fd), 1, 26, int($0.baseAddress!), 16) }
}
