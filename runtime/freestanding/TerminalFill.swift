// Runs in a parked leader and in the engine, every signal blocked: no allocation, no libc, any stack with 1 kB left.
// Puts into a pseudo-terminal what was taken from one, and its settings: the order keeps each step from disturbing those before.
import CkptABI

extension Terminal {
    /// false: it does not take what it had.
    public func fill() -> Bool {
        let state = state, keys = TypingKeys(state.pointee.termios)
        var typing = state.pointee.termios.typing(keys), quiet = state.pointee.termios.quiet, termios = state.pointee.termios
        let lines = termios.makesLines
        makeRoom()
        if lines { terminalCall(master, TerminalCall.setTermios, with: &typing) } else { terminalCall(master, TerminalCall.setTermios, with: &quiet) }
        flushQueues()
        guard lines ? typeLines(keys) : typeBytes() else { return false }
        guard write(output, Int(state.pointee.output_size), to: slave) else { return false }
        if has(CKPT_TERMINAL_STOPPED) {
            if !lines { terminalCall(master, TerminalCall.setTermios, with: &typing) }
            stop(keys)
        }
        if has(CKPT_TERMINAL_LITERAL) { typeLiteral(keys) }
        terminalCall(master, TerminalCall.setTermios, with: &termios)
        guard write(late, Int(state.pointee.late_size), to: master) else { return false }
        if has(CKPT_TERMINAL_SUSPENDED) { terminalCall(slave, TerminalCall.flow, FlowAction.off) }
        if has(CKPT_TERMINAL_PACKET) { setPacketMode() }
        return true
    }

    var unread: Int32 { unread(at: slave) }
    private func unread(at end: Int) -> Int32 {
        var n: Int32 = 0
        return terminalCall(end, TerminalCall.unread, with: &n) == 0 ? n : Int32.max
    }

    /// Large pieces up to the limit of the terminal; beyond it the kernel takes what fits into small buffers that it has kept.
    private func write(_ bytes: UnsafeMutablePointer<UInt8>, _ count: Int, to fd: Int) -> Bool {
        let queue = Int(CKPT_TERMINAL_QUEUE)
        var done = 0, pieces = 0, rounds = 0
        while done < count {
            let large = Piece.large(pieces, toMaster: fd == slave)
            var n = write(bytes + done, min(large, count - done), fd)
            if n == large { pieces += 1 }
            if n == -11 && rounds >= Piece.patience { n = write(bytes + done, min(Piece.small, count - done), fd) }
            if n == -11 && rounds < 2000 { rounds += 1; pauseBriefly(); continue }
            if n <= 0 { return false }
            let isFilled = done < queue && done + n >= queue
            done += n
            if rounds > Piece.patience { rounds = Piece.patience }
            // Small buffers count as well: the first is only taken when nothing is on its way any more.
            if isFilled && fd == slave { _ = settles { Int(unread(at: master)) >= queue } }
        }
        return true
    }
    private func write(_ bytes: UnsafeMutablePointer<UInt8>, _ count: Int, _ fd: Int) -> Int { ckpt_write(Int32(truncatingIfNeeded: fd), bytes, count) }

    /// A terminal that was in use holds more than a new one, whose kernel has not kept small buffers yet.  Both ends are empty.
    private func makeRoom() {
        if state.pointee.output_size <= UInt32(Piece.always) && state.pointee.late_size <= UInt32(Piece.always) { return }
        var raw = state.pointee.termios.raw
        terminalCall(master, TerminalCall.setTermios, with: &raw)
        makeRoom(from: slave, to: master)
        makeRoom(from: master, to: slave)
    }
    private func makeRoom(from end: Int, to other: Int) {
        for _ in 0..<3 {
            var pieces = 0
            while pieces < 4096, write(output, Piece.small, end) > 0 { pieces += 1 }
            pauseBriefly()
        }
        terminalCall(end, TerminalCall.flush, QueueChoice.output)
        terminalCall(other, TerminalCall.flush, QueueChoice.input)
    }

    private func typeBytes() -> Bool {
        let count = Int(state.pointee.input_size)
        return write(input, count, to: master) && settles { Int(unread) >= count }
    }

    /// A full queue does not look at a STOP: the last two characters are typed behind it, and nothing shows when they have been looked at.
    private func typeLines(_ keys: TypingKeys) -> Bool {
        let count = Int(state.pointee.input_size)
        var held = 0, at = 0, last = 0, beforeLast = 0
        while at < count {
            beforeLast = last; last = at
            at += input[at] == keys.literal ? 2 : 1
            held += 1
        }
        let first = held < Int(CKPT_TERMINAL_QUEUE) ? count : beforeLast
        guard write(input, first, to: master), meetTypist(keys), write(input + first, count - first, to: master) else { return false }
        if first < count { for _ in 0..<20 { pauseBriefly() } }
        return true
    }

    /// All that was typed has been looked at when a STOP typed after it has stopped the output.
    private func meetTypist(_ keys: TypingKeys) -> Bool {
        if state.pointee.input_size == 0 { return true }
        var stop = keys.stop, start = keys.start
        guard ckpt_write(Int32(truncatingIfNeeded: master), &stop, 1) == 1, settles({ ready(slave, Poll.output) & Poll.output == 0 }) else { return false }
        return ckpt_write(Int32(truncatingIfNeeded: master), &start, 1) == 1 && settles { ready(slave, Poll.output) & Poll.output != 0 }
    }

    private func stop(_ keys: TypingKeys) {
        let isFull = ready(slave, Poll.output) & Poll.output == 0
        var stop = keys.stop
        _ = ckpt_write(Int32(truncatingIfNeeded: master), &stop, 1)
        if !isFull { _ = settles { ready(slave, Poll.output) & Poll.output == 0 } } else { for _ in 0..<20 { pauseBriefly() } }
    }

    /// Nothing shows that LNEXT has been looked at, but that poll(2) waits for the kernel's worker when no line is complete.
    private func typeLiteral(_ keys: TypingKeys) {
        var literal = keys.literal
        _ = ckpt_write(Int32(truncatingIfNeeded: master), &literal, 1)
        for _ in 0..<5 { _ = ready(slave, Poll.input); pauseBriefly() }
    }

    /// The control byte of packet mode tells of flushes: one that was unread is made by flushing what is empty yet.
    private func flushQueues() {
        let flushes = PacketByte.flushRead | PacketByte.flushWrite
        if !has(CKPT_TERMINAL_PACKET) || state.pointee.control & flushes == 0 { return }
        var on: Int32 = 1
        terminalCall(master, TerminalCall.setPacket, with: &on)
        if state.pointee.control & PacketByte.flushRead != 0 { terminalCall(slave, TerminalCall.flush, QueueChoice.input) }
        if state.pointee.control & PacketByte.flushWrite != 0 { terminalCall(slave, TerminalCall.flush, QueueChoice.output) }
    }

    /// The rest of the control byte: each bit is made as a program makes it.
    private func setPacketMode() {
        let control = state.pointee.control
        var on: Int32 = 1, termios = state.pointee.termios
        terminalCall(master, TerminalCall.setPacket, with: &on)
        if control & PacketByte.start != 0 { terminalCall(slave, TerminalCall.flow, FlowAction.off); terminalCall(slave, TerminalCall.flow, FlowAction.on) }
        if control & PacketByte.stop != 0 && has(CKPT_TERMINAL_SUSPENDED) { terminalCall(slave, TerminalCall.flow, FlowAction.on); terminalCall(slave, TerminalCall.flow, FlowAction.off) }
        if control & (PacketByte.noStop | PacketByte.doStop) != 0 {
            // It tells whether ^S and ^Q act: changed to the contrary and back.  IXON is never taken away: that would start the output.
            if control & PacketByte.doStop != 0 { termios.set(Character.stop, 0) }
            else { termios.set(Character.stop, 0x13); termios.set(Character.start, 0x11); termios.input |= Input.startStop }
            terminalCall(master, TerminalCall.setTermios, with: &termios)
        }
        if control & (PacketByte.noStop | PacketByte.doStop | 64) != 0 {        // TIOCPKT_IOCTL: any change under EXTPROC
            termios = state.pointee.termios
            terminalCall(master, TerminalCall.setTermios, with: &termios)
        }
    }
}

/// The kernel's buffers have a size of at most 1792 and hold twice as much.  It makes one as long as those that there are have together no more than
/// 8192, and keeps the small ones for later.  So these lengths get the most into a terminal: four (and the one that the queue has begun), one that makes
/// it 8192, another.
private enum Piece {
    static let small = 256, patience = 30
    /// Bytes that any terminal holds, whatever it was used for.
    static let always = 12000
    static func large(_ n: Int, toMaster: Bool) -> Int { n / 2 == (toMaster ? 5 : 4) ? 1024 : 1792 }
}
