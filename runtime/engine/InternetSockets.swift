// Runs in the engine before the tree exists, on the region's stack; no allocation, no libc.
// Sockets of the Internet families and of netlink: TCP and UDP in an order in which no name is in another's way.  They need no process,
// so they are made once, with all the rights that the engine has, before it may enter a user namespace.
import CkptABI
import EngineBoot
import Freestanding

enum Family { static let unix: UInt32 = 1, inet: UInt32 = 2, inet6: UInt32 = 10, netlink: UInt32 = 16 }
enum SocketState {
    static let open = CKPT_SOCKET_OPEN.rawValue, listening = CKPT_SOCKET_LISTENING.rawValue, connected = CKPT_SOCKET_CONNECTED.rawValue
    static let pending = CKPT_SOCKET_PENDING.rawValue, connecting = CKPT_SOCKET_CONNECTING.rawValue, ended = CKPT_SOCKET_ENDED.rawValue
}
let datagramType: UInt32 = 2

func isTCP(_ i: Int) -> Bool { isInternet(i) && sockets[i].pointee.type == 1 }
func isUDP(_ i: Int) -> Bool { isInternet(i) && sockets[i].pointee.type == datagramType }
func isInternet(_ i: Int) -> Bool { sockets[i].pointee.family == Family.inet || sockets[i].pointee.family == Family.inet6 }
func has(_ i: Int, _ flag: ckpt_socket_flags) -> Bool { sockets[i].pointee.flags & flag.rawValue != 0 }

/// Connections first: while they are made, nobody listens at their ports.  Then every name, and only then listening: a listener forbids others its port.
/// Connections that are over come when all names are taken: they end at a port of the kernel's choice, which it keeps for a minute.
/// Before the tree exists; where some are in networks of parts of it, in the builder, when those are there.
func makeInternetSocketsEarly() { if !hasPartSockets { makeInternetSockets() } }
func makeInternetSocketsLate() {
    guard hasPartSockets else { return }
    for i in 0..<sockets.count where sockets[i].pointee.family != Family.unix { forgetSocket(i) }
    makeInternetSockets()
}
private var hasPartSockets: Bool {
    for i in 0..<sockets.count where sockets[i].pointee.network != 0 || sockets[i].pointee.peer_network != 0 { return true }
    return false
}

private func makeInternetSockets() {
    for i in 0..<sockets.count where isTCP(i) { makeConnection(i) }
    for i in 0..<sockets.count where isTCP(i) && (sockets[i].pointee.state == SocketState.open || sockets[i].pointee.state == SocketState.listening) { makeNamed(i) }
    for i in 0..<sockets.count where isTCP(i) && sockets[i].pointee.state == SocketState.ended { makeEnded(i) }
    for i in 0..<sockets.count where isTCP(i) && sockets[i].pointee.state == SocketState.listening { listen(i) }
    for i in 0..<sockets.count where isTCP(i) && sockets[i].pointee.state == SocketState.pending { connectPending(i) }
    for i in 0..<sockets.count where isTCP(i) && sockets[i].pointee.state == SocketState.connecting { beginConnecting(i) }
    makeDatagramSockets()
    for i in 0..<sockets.count where sockets[i].pointee.family == Family.netlink { makeNetlink(i) }
    for i in 0..<sockets.count where (isInternet(i) || sockets[i].pointee.family == Family.netlink) && internetFd(i) >= 0 { finishSocket(i) }
}

/// The descriptor of a socket that has been made; −1.
func internetFd(_ i: Int) -> Int32 {
    let d = sockets[i].pointee.description
    return d < descriptions.count ? descriptionFd[d].pointee : -1
}
func setInternetFd(_ i: Int, _ fd: Int32) {
    let d = sockets[i].pointee.description
    if d < descriptions.count { descriptionFd[d].pointee = lift(fd, "socket") }
}

// MARK: names in messages

/// "TCP 127.0.0.1:8080: "
func putInternet(_ i: Int, _ l: inout Line) {
    l.put(isUDP(i) ? "UDP " : sockets[i].pointee.family == Family.netlink ? "netlink socket " : "TCP ")
    if sockets[i].pointee.local_size > 0 && isInternet(i) { putAddress(bytes(sockets[i].pointee.local), &l) }
    if sockets[i].pointee.remote_size > 0 && isInternet(i) { l.put(" to "); putAddress(bytes(sockets[i].pointee.remote), &l) }
    l.put(": ")
}
private func octet(_ a: Text, _ i: Int) -> UInt64 { UInt64(UInt8(bitPattern: a[i])) }
func port(_ a: Text) -> UInt16 { UInt16(octet(a, 2)) << 8 | UInt16(octet(a, 3)) }
private func putAddress(_ a: Text, _ l: inout Line) {
    if octet(a, 0) == 2 {
        for i in 0..<4 { if i > 0 { l.put(".") }; l.put(decimal: octet(a, 4 + i)) }
    } else {
        l.put("[")
        for i in 0..<8 { if i > 0 { l.put(":") }; l.put(hex: octet(a, 8 + 2 * i) << 8 | octet(a, 9 + 2 * i)) }
        l.put("]")
    }
    l.put(":"); l.put(decimal: UInt64(port(a)))
}

// MARK: steps that all share

func newSocket(_ family: UInt32, _ type: UInt32, _ number: UInt32, _ i: Int, isPeer: Bool = false) -> Int32 {
    let nonblockCloexec = 0o2004000, network = isPeer ? sockets[i].pointee.peer_network : sockets[i].pointee.network
    func make() -> Int { socket(Int(family), Int(type) | nonblockCloexec, Int(number), in: network) }
    let o = sockets[i].pointee.object, r = o < objects.count ? owned(by: objects[o].pointee) { make() } : make()
    guard r >= 0 else { refuse(r) { l in putInternet(i, &l); l.put("cannot be made") } }
    return lift(Int32(truncatingIfNeeded: r), "socket")
}

@discardableResult func setOption(_ fd: Int32, _ level: Int, _ name: Int, _ value: Int32) -> Int {
    var v = value
    return system(CKPT_SYS_setsockopt, Int(fd), level, name, int(&v), 4)
}
func getOption(_ fd: Int32, _ level: Int, _ name: Int) -> Int32 {
    var v: Int32 = 0, size: UInt32 = 4
    return system(CKPT_SYS_getsockopt, Int(fd), level, name, int(&v), int(&size)) == 0 ? v : 0
}

/// What is set while a socket is made and belongs to the program in the end.
private func isOurs(_ o: ckpt_option_record) -> Bool {
    (o.level == 1 && o.name == 2) || (o.level == 6 && o.name == 1) || (o.level == 0 && (o.name == 24 || o.name == 51))
}
private let reuseAddress = (1, 2), noDelay = (6, 1), addressWithoutPort = (0, 24), portRange = (0, 51)

/// Sets the recorded options of one stage.
func applySocketOptions(_ i: Int, _ fd: Int32, _ stage: ckpt_option_stage) {
    let s = sockets[i]
    for k in 0..<s.pointee.option_count {
        let o = options[s.pointee.first_option + k].pointee
        if o.stage != stage.rawValue || isOurs(o) { continue }
        setRecorded(i, fd, o)
    }
}

private func setRecorded(_ i: Int, _ fd: Int32, _ o: ckpt_option_record) {
    let attachFilter: Int32 = 26, value = int(bytes(o.value))
    var r: Int
    if o.level == 1 && o.name == attachFilter {
        // struct sock_fprog
        var program = InlineArray<2, UInt64>(repeating: 0)
        program[0] = UInt64(o.size / 8); program[1] = UInt64(UInt(bitPattern: value))
        r = withUnsafeMutableBytes(of: &program) { system(CKPT_SYS_setsockopt, Int(fd), 1, 26, int($0.baseAddress!), 16) }
    } else {
        r = system(CKPT_SYS_setsockopt, Int(fd), Int(o.level), Int(o.name), value, Int(o.size))
    }
    // A child of a listener has some of them already, and may not set them again.
    if r < 0 && holds(fd, o) { r = 0 }
    guard r >= 0 else {
        refuse(r) { l in putInternet(i, &l); l.put("option "); l.put(text: bytes(o.text)); if r == -1 { l.put(" (needs privileges that the program had)") } }
    }
}
private func holds(_ fd: Int32, _ o: ckpt_option_record) -> Bool {
    guard o.size <= 64 else { return false }
    var now = InlineArray<64, UInt8>(repeating: 0), size = o.size
    let r = withUnsafeMutableBytes(of: &now) { system(CKPT_SYS_getsockopt, Int(fd), Int(o.level), Int(o.name), int($0.baseAddress!), int(&size)) }
    guard r == 0, size == o.size else { return false }
    let v = bytes(o.value)
    for k in 0..<Int(o.size) where now[k] != UInt8(bitPattern: v[k]) { return false }
    return true
}

/// A socket of the recorded kind, with what must be set before it has a name.  SO_REUSEADDR lets connections that linger (TIME_WAIT) be no obstacle.
func newTCP(_ i: Int, isPeer: Bool = false) -> Int32 {
    let fd = newSocket(sockets[i].pointee.family, 1, 6, i, isPeer: isPeer)
    setOption(fd, reuseAddress.0, reuseAddress.1, 1)
    setOption(fd, noDelay.0, noDelay.1, 1)
    applySocketOptions(i, fd, CKPT_OPTION_CREATED)
    return fd
}

/// The options that belong to a socket with a name, a peer and a full queue; flags, owner.
private func finishSocket(_ i: Int) {
    let fd = internetFd(i), s = sockets[i]
    if s.pointee.repair_size == 0 || !isRepairing(fd) {
        if isTCP(i) && s.pointee.state == SocketState.connected { applySocketOptions(i, fd, CKPT_OPTION_CREATED) }
        settleBuffers(i, fd)
    }
    applySocketOptions(i, fd, CKPT_OPTION_CONNECTED)
    if isTCP(i) {
        if !isRepairing(fd) { setBack(i, fd, reuseAddress) }
        setBack(i, fd, noDelay); setBack(i, fd, addressWithoutPort); setBack(i, fd, portRange)
    } else { for k in 0..<s.pointee.option_count where isOurs(options[s.pointee.first_option + k].pointee) { setRecorded(i, fd, options[s.pointee.first_option + k].pointee) } }
    applySocketOptions(i, fd, CKPT_OPTION_FILLED)
    if has(i, CKPT_SOCKET_SHUT_READ) { _ = system(CKPT_SYS_shutdown, Int(fd), 0) }
    setOwner(i, fd)
    setFlags(fd, descriptions[s.pointee.description].pointee.flags)
}
private func setBack(_ i: Int, _ fd: Int32, _ option: (level: Int, name: Int)) { setOption(fd, option.level, option.name, recordedInt(i, option.level, option.name)) }
private func setOwner(_ i: Int, _ fd: Int32) {
    let o = sockets[i].pointee.object
    guard o < objects.count else { return }
    let r = objects[o].pointee
    if r.uid != currentIds(false)[1] || r.gid != currentIds(true)[1] { _ = system(93, Int(fd), Int(r.uid), Int(r.gid)) }
}

func recordedInt(_ i: Int, _ level: Int, _ name: Int) -> Int32 {
    let s = sockets[i]
    for k in 0..<s.pointee.option_count {
        let o = options[s.pointee.first_option + k].pointee
        if Int(o.level) == level && Int(o.name) == name && o.size == 4 { return field(bytes(o.value), 0, Int32.self) }
    }
    return 0
}

/// Buffers that were raised to take what was in the queues get their size back, or are the system's to choose again.
private func settleBuffers(_ i: Int, _ fd: Int32) {
    let send = recordedInt(i, 1, 7), receive = recordedInt(i, 1, 8), lock = 72
    if send > 0 { setOption(fd, 1, 7, send) }
    if receive > 0 { setOption(fd, 1, 8, receive) }
    setOption(fd, 1, lock, (send > 0 ? 1 : 0) | (receive > 0 ? 2 : 0))
}

// MARK: names

/// False: connections that have ended (TIME_WAIT) hold the port.
func bindsAtOnce(_ fd: Int32, _ address: Text, _ size: UInt32, _ i: Int) -> Bool {
    let r = system(CKPT_SYS_bind, Int(fd), int(address), Int(size)), inUse = -98, notHere = -99, forbidden = -13
    if r == 0 { return true }
    if r == notHere { refuse(.lacks) { l in putInternet(i, &l); l.put("this machine does not have the address; add it (ip address add)") } }
    if r == forbidden { refuse(.lacks) { l in putInternet(i, &l); l.put("the port needs a privilege (CAP_NET_BIND_SERVICE); restart it as root, or lower sysctl net.ipv4.ip_unprivileged_port_start") } }
    guard r == inUse else { refuse(r) { l in putInternet(i, &l); l.put("cannot get its address") } }
    guard isTCP(i), onlyLingers(port(address), i) else { refuseInUse(address, i) }
    return false
}
func refuseInUse(_ address: Text, _ i: Int) -> Never {
    refuse(.systemCall) { l in putInternet(i, &l); l.put("port "); l.put(decimal: UInt64(port(address))); l.put(" is in use by another program; end it") }
}

func bindSocket(_ fd: Int32, _ address: Text, _ size: UInt32, _ i: Int) {
    let patience = 650
    for attempt in 0..<patience {
        if bindsAtOnce(fd, address, size, i) { return }
        if attempt == 10 { warnOfLingering() }
        pause(milliseconds: 100)
    }
    refuseInUse(address, i)
}
func pause(milliseconds: Int64) {
    var t = ckpt_timespec(sec: milliseconds / 1000, nsec: milliseconds % 1000 * 1_000_000)
    _ = system(CKPT_SYS_nanosleep, int(&t))
}
func warnOfLingering() {
    var l = Line()
    l.put(text: engine_program()); l.put(": restart: the port is held by connections that have ended (TIME_WAIT); waiting, at most a minute\n")
    l.write(to: Descriptor(state.pointee.standard.2 >= 0 ? state.pointee.standard.2 : 2))
}

/// Nobody has a socket at this TCP port but connections in TIME_WAIT.  In a network that the restart has made nobody else can.
func onlyLingers(_ port: UInt16, _ i: Int) -> Bool {
    sockets[i].pointee.network != 0 || sockets[i].pointee.peer_network != 0 || lingers(StaticString("/proc/self/net/tcp").cString, port) && lingers(StaticString("/proc/self/net/tcp6").cString, port)
}
/// Lines of /proc/net/tcp: "  0: 0100007F:1F90 00000000:0000 0A …": the local address and the state are fields 1 and 3.
private func lingers(_ path: Text, _ port: UInt16) -> Bool {
    let fd = Int32(truncatingIfNeeded: ckpt_open(path, 0o2000000, 0))
    guard fd >= 0 else { return true }
    defer { _ = ckpt_close(fd) }
    let b = UnsafeMutablePointer<UInt8>(bitPattern: UInt(state.pointee.copy))!
    var column = -1, inWord = false, afterColon = false, value: UInt32 = 0, seen: UInt32 = 0
    while true {
        let n = ckpt_read(fd, b, 65536)
        if n <= 0 { return true }
        for k in 0..<n {
            let c = b[k]
            if c == 10 { column = -1; inWord = false; continue }
            if c == 32 {
                if inWord && column == 1 { seen = value }
                if inWord && column == 3 && seen == UInt32(port) && value != 6 { return false }
                inWord = false
                continue
            }
            if !inWord { inWord = true; column += 1; value = 0; afterColon = column == 3 }
            if c == 58 { afterColon = true; value = 0; continue }
            if afterColon { value = value &* 16 &+ UInt32(c <= 57 ? c &- 48 : (c | 32) &- 87) }
        }
    }
}

private func makeNamed(_ i: Int) {
    let fd = newTCP(i), s = sockets[i]
    if s.pointee.local_size > 0 { bindSocket(fd, bytes(s.pointee.local), s.pointee.local_size, i) }
    setInternetFd(i, fd)
}
private func listen(_ i: Int) {
    let r = system(CKPT_SYS_listen, Int(internetFd(i)), Int(sockets[i].pointee.backlog))
    guard r == 0 else { refuse(r) { l in putInternet(i, &l); l.put("cannot listen") } }
}

// MARK: netlink

private func makeNetlink(_ i: Int) {
    let s = sockets[i], fd = newSocket(Family.netlink, s.pointee.type, s.pointee.protocol, i)
    applySocketOptions(i, fd, CKPT_OPTION_CREATED)
    if s.pointee.local_size >= 12 {
        let a = bytes(s.pointee.local), number = field(a, 4, UInt32.self), groups = field(a, 8, UInt32.self)
        if number != 0 || groups != 0 {
            let r = system(CKPT_SYS_bind, Int(fd), int(a), 12)
            guard r == 0 else { refuse(r) { l in putInternet(i, &l); l.put("port "); l.put(decimal: UInt64(number)); l.put(" cannot be had") } }
        }
    }
    setInternetFd(i, fd)
}
