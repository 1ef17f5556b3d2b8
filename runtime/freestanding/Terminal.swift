// Runs in a parked leader and in the engine, every signal blocked: no allocation, no libc, any stack with 1 kB left.
// A pseudo-terminal seen from both ends, and the calls that take what is unread in it and put it back (ioctl_tty(2), pty(7), termios(3)).
// A background process may do all of this: SIGTTIN and SIGTTOU are blocked.
import CkptABI

public struct Terminal {
    public let master: Int, slave: Int              // both O_NONBLOCK
    public let state: UnsafeMutablePointer<ckpt_terminal_state>
    public let output: UnsafeMutablePointer<UInt8>, input: UnsafeMutablePointer<UInt8>, late: UnsafeMutablePointer<UInt8>
    public init(master: Int, slave: Int, state: UnsafeMutablePointer<ckpt_terminal_state>, output: UnsafeMutablePointer<UInt8>,
                input: UnsafeMutablePointer<UInt8>, late: UnsafeMutablePointer<UInt8>) {
        self.master = master; self.slave = slave; self.state = state; self.output = output; self.input = input; self.late = late
    }
    @inline(__always) func has(_ flag: ckpt_terminal_flags) -> Bool { state.pointee.flags & flag.rawValue != 0 }
}

public enum TerminalCall {
    public static let getTermios = 0x802c542a, setTermios = 0x402c542b, getSize = 0x5413, setSize = 0x5414, getLockedTermios = 0x5456
    public static let flow = 0x540a, flush = 0x540b, exclusive = 0x540c, notExclusive = 0x540d, isExclusive = 0x80045440, discipline = 0x5424
    public static let control = 0x540e, giveUpControl = 0x5422, getGroup = 0x540f, setGroup = 0x5410, device = 0x80045432
    public static let number = 0x80045430, setLock = 0x40045431, getLock = 0x80045439, setPacket = 0x5420, getPacket = 0x80045438, openPeer = 0x5441
    static let unread = 0x541b
}
enum FlowAction { static let off = 0, on = 1 }
enum QueueChoice { static let input = 0, output = 1 }
enum PacketByte { static let flushRead: UInt32 = 1, flushWrite: UInt32 = 2, stop: UInt32 = 4, start: UInt32 = 8, noStop: UInt32 = 16, doStop: UInt32 = 32 }
enum Poll { static let input: Int16 = 1, priority: Int16 = 2, output: Int16 = 4, hangup: Int16 = 16 }
enum Local { static let signals: UInt32 = 1, canonical: UInt32 = 2, echo: UInt32 = 8, extended: UInt32 = 0o100000, external: UInt32 = 0o200000 }
enum Input { static let startStop: UInt32 = 0o2000 }
enum Output { static let processed: UInt32 = 1, expandTabs: UInt32 = 0o14000 }
enum Character { static let endOfFile: Int32 = 4, time: Int32 = 5, minimum: Int32 = 6, start: Int32 = 8, stop: Int32 = 9, endOfLine: Int32 = 11, literalNext: Int32 = 15, endOfLine2: Int32 = 16 }

@inline(__always) @discardableResult
public func terminalCall(_ fd: Int, _ request: Int, _ argument: Int = 0) -> Int { ckpt_syscall(Int(CKPT_SYS_ioctl), fd, request, argument, 0, 0, 0) }
@inline(__always) @discardableResult
public func terminalCall<T>(_ fd: Int, _ request: Int, with value: inout T) -> Int {
    withUnsafeMutablePointer(to: &value) { ckpt_syscall(Int(CKPT_SYS_ioctl), fd, request, Int(bitPattern: $0), 0, 0, 0) }
}

/// poll(2): what is ready of `events`, after at most `milliseconds`.
public func ready(_ fd: Int, _ events: Int16, milliseconds: Int = 0) -> Int16 {
    var p: (fd: Int32, events: Int16, revents: Int16) = (Int32(truncatingIfNeeded: fd), events, 0)
    let n = withUnsafeMutablePointer(to: &p) { ckpt_syscall(Int(CKPT_SYS_poll), Int(bitPattern: $0), 1, milliseconds, 0, 0, 0) }
    return n > 0 ? p.revents : 0
}

/// Waits at most two seconds for `condition`: the kernel's worker moves data from one end to the other.
func settles(_ condition: () -> Bool) -> Bool {
    var rounds = 0
    while rounds < 2000 {
        if condition() { return true }
        if rounds < 200 { _ = ckpt_syscall(Int(CKPT_SYS_sched_yield), 0, 0, 0, 0, 0, 0) } else { pauseBriefly() }
        rounds += 1
    }
    return condition()
}
func pauseBriefly() {
    var t = ckpt_timespec(sec: 0, nsec: 1_000_000)
    _ = withUnsafeMutablePointer(to: &t) { ckpt_syscall(Int(CKPT_SYS_nanosleep), Int(bitPattern: $0), 0, 0, 0, 0, 0) }
}

extension ckpt_termios {
    /// Lines are made of what is typed; else every byte can be read at once.
    var makesLines: Bool { local & (Local.canonical | Local.external) == Local.canonical }
    /// VEOL and VEOL2 where they act; 0: they don't.
    var lineEnds: (UInt8, UInt8) { (at(Character.endOfLine), local & Local.extended != 0 ? at(Character.endOfLine2) : 0) }
    func at(_ i: Int32) -> UInt8 { var t = self; return ckpt_termios_character(&t, i).pointee }
    mutating func set(_ i: Int32, _ c: UInt8) { ckpt_termios_character(&self, i).pointee = c }

    /// Nothing is interpreted, echoed, signalled or converted.  What is in the buffers stays as it is: the bits that would make the kernel look at it anew are the same.
    var quiet: ckpt_termios {
        var t = self
        t.input = 0; t.output = 0
        t.local &= Local.canonical | Local.external
        for i: Int32 in 0..<19 { t.set(i, 0) }
        t.set(Character.minimum, 1)
        return t
    }
    /// Nothing is interpreted, and no lines are made: only for empty buffers.
    var raw: ckpt_termios {
        var t = quiet
        t.local = 0
        return t
    }
    /// An echo that waits for room may become longer than the output that it waits for leaves room for: without OPOST that is the longest, and tabs become spaces.
    public var echoesAtLength: Bool { local & Local.echo != 0 && (output & Output.processed == 0 || output & Output.expandTabs == Output.expandTabs) }
    /// The same, with four characters of ours that mark an end of file, a literal character, and stop and start the output.
    func typing(_ keys: TypingKeys) -> ckpt_termios {
        var t = quiet
        t.input = Input.startStop
        t.set(Character.stop, keys.stop); t.set(Character.start, keys.start)
        if makesLines {
            t.local |= Local.extended
            t.set(Character.endOfFile, keys.endOfFile); t.set(Character.literalNext, keys.literal)
            t.set(Character.endOfLine, lineEnds.0); t.set(Character.endOfLine2, lineEnds.1)
        }
        return t
    }
}

/// Characters that mean something while input is typed again; none is one that ends a line.
struct TypingKeys {
    let endOfFile: UInt8, literal: UInt8, start: UInt8, stop: UInt8
    private let ends: (UInt8, UInt8)
    init(_ t: ckpt_termios) {
        let ends = t.lineEnds
        self.ends = ends
        func free(_ c: UInt8) -> UInt8 {
            let other = c | 0x80
            if c != ends.0 && c != ends.1 { return c }
            return other != ends.0 && other != ends.1 ? other : c | 0x40
        }
        endOfFile = free(0x04); literal = free(0x16); start = free(0x11); stop = free(0x13)
    }
    func endsLine(_ c: UInt8) -> Bool { c == 10 || (c != 0 && (c == ends.0 || c == ends.1)) }
    func isSpecial(_ c: UInt8) -> Bool { endsLine(c) || c == endOfFile || c == literal || c == start || c == stop }
}
