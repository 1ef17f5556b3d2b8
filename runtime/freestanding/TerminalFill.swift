// Runs in a parked leader and in the engine, every signal blocked: no allocation, no libc, any stack with 1 kB left.
// Puts into a pseudo-terminal what was taken from one, and its settings: the order keeps each step from disturbing those before.
import CkptABI

extension Terminal {
    /// false: it does not take what it had.
    public func fill() -> Bool {
        let state = state, keys = TypingKeys(state.pointee.termios)
        var typing = state.pointee.termios.typing(keys), quiet = state.pointee.termios.quiet, termios = state.pointee.termios
        let lines = termios.makesLines
        if lines { terminalCall(master, TerminalCall.setTermios, with: &typing) } else { terminalCall(master, TerminalCall.setTermios, with: &quiet) }
        flushQueues()
        guard write(input, Int(state.pointee.input_size), to: master), lines ? meetTypist(keys) : settles({ unread >= Int32(bitPattern: state.pointee.input_size) }) else { return false }
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

    var unread: Int32 {
        var n: Int32 = 0
        return terminalCall(slave, TerminalCall.unread, with: &n) == 0 ? n : Int32.max
    }

    private func write(_ bytes: UnsafeMutablePointer<UInt8>, _ count: Int, to fd: Int) -> Bool {
        var done = 0
        while done < count {
            var n = -11
            // The kernel's own size of a buffer: a terminal holds most in such pieces.
            _ = settles { n = ckpt_write(Int32(truncatingIfNeeded: fd), bytes + done, min(256, count - done)); return n != -11 }
            if n <= 0 { return false }
            done += n
        }
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
