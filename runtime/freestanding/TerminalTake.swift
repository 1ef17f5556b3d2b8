// Runs in a parked leader, every signal blocked: no allocation, no libc, any stack with 1 kB left.
// Takes what is unread in a pseudo-terminal: the output that waits for the master; the input, as it has to be typed again.
// The line discipline holds at most 4095 bytes and marks of what was typed; what is beyond it has not been looked at yet, and must not be
// before the program's own settings are back: it is kept apart as `late`.
import CkptABI

extension Terminal {
    /// false: there was more than there is room for.  `scratch` has CKPT_TERMINAL_SCRATCH bytes.
    public func take(_ scratch: UnsafeMutablePointer<UInt8>) -> Bool {
        takeControlByte()
        var taken = 0
        guard settle(scratch, &taken), takeOutput(), takeEchoes() else { return false }
        var quiet = state.pointee.termios.quiet
        startOutput()
        guard takeEchoes() else { return false }
        terminalCall(master, TerminalCall.setTermios, with: &quiet)
        guard takeOutput() else { return false }
        return state.pointee.termios.makesLines ? takeLines(scratch, &taken) : takeBytes(scratch, &taken)
    }

    /// The kernel's worker may not have looked yet at what was typed last: it is waited for while the settings are the program's own, under which that
    /// may be a signal, an echo or an erased line.  read(2) and poll(2) wait for it when they find nothing; so what is there is taken first.
    /// Not where there is much: the discipline may be full, and then what it has not looked at is not to be looked at before it is read.
    private func settle(_ scratch: UnsafeMutablePointer<UInt8>, _ taken: inout Int) -> Bool {
        if ready(slave, Poll.input) & Poll.input == 0 || unread > Int32(CKPT_TERMINAL_QUEUE) / 2 { return true }
        return state.pointee.termios.makesLines ? takeCompleteLines(scratch, &taken) : takeBytes(scratch, &taken)
    }

    private func takeControlByte() {
        if !has(CKPT_TERMINAL_PACKET) { return }
        if ready(master, Poll.priority) & Poll.priority != 0 {
            var byte: UInt8 = 0
            if ckpt_read(Int32(truncatingIfNeeded: master), &byte, 1) == 1 { state.pointee.control = UInt32(byte) }
        }
        var off: Int32 = 0
        terminalCall(master, TerminalCall.setPacket, with: &off)
    }

    private func takeOutput() -> Bool {
        while true {
            let used = Int(state.pointee.output_size), room = Int(CKPT_TERMINAL_OUTPUT_ROOM) - used
            if room == 0 { return false }
            let n = ckpt_read(Int32(truncatingIfNeeded: master), output + used, room)
            if n <= 0 { return true }
            state.pointee.output_size += UInt32(n)
        }
    }

    /// An echo that found no room waits, in neither buffer, for the next write: one of nothing does.
    private func takeEchoes() -> Bool {
        while true {
            let before = state.pointee.output_size
            _ = ckpt_write(Int32(truncatingIfNeeded: slave), output, 0)
            guard takeOutput() else { return false }
            if state.pointee.output_size == before { return true }
        }
    }

    /// Nothing can be written to a stopped terminal.  With its buffers empty, one that takes no output is stopped; TCOON starts it only if it was TCOOFF that stopped it.
    private func startOutput() {
        if ready(slave, Poll.output) & Poll.output != 0 { return }
        terminalCall(slave, TerminalCall.flow, FlowAction.on)
        if ready(slave, Poll.output) & Poll.output != 0 { state.pointee.flags |= CKPT_TERMINAL_SUSPENDED.rawValue; return }
        state.pointee.flags |= CKPT_TERMINAL_STOPPED.rawValue
        var free = state.pointee.termios.quiet            // without IXON; what waits is converted as it would have been
        free.output = state.pointee.termios.output
        terminalCall(master, TerminalCall.setTermios, with: &free)
    }

    private func keepTyped(_ c: UInt8) -> Bool { append(c, to: input, &state.pointee.input_size, CKPT_TERMINAL_INPUT_ROOM) }
    private func keepLate(_ c: UInt8) -> Bool { append(c, to: late, &state.pointee.late_size, CKPT_TERMINAL_LATE_ROOM) }
    private func append(_ c: UInt8, to buffer: UnsafeMutablePointer<UInt8>, _ size: inout UInt32, _ room: Int) -> Bool {
        if size >= UInt32(room) { return false }
        buffer[Int(size)] = c
        size += 1
        return true
    }

    private func takeBytes(_ scratch: UnsafeMutablePointer<UInt8>, _ taken: inout Int) -> Bool {
        while true {
            let n = ckpt_read(Int32(truncatingIfNeeded: slave), scratch, Int(CKPT_TERMINAL_SCRATCH))
            if n <= 0 { return true }
            for i in 0..<n {
                guard taken < Int(CKPT_TERMINAL_QUEUE) ? keepTyped(scratch[i]) : keepLate(scratch[i]) else { return false }
                taken += 1
            }
        }
    }

    private func takeCompleteLines(_ scratch: UnsafeMutablePointer<UInt8>, _ taken: inout Int) -> Bool {
        while true {
            let n = ckpt_read(Int32(truncatingIfNeeded: slave), scratch, Int(CKPT_TERMINAL_SCRATCH))
            if n < 0 { return true }
            guard keepLine(scratch, n, complete: true, &taken) else { return false }
        }
    }

    /// Complete lines one by one, then the one that is being edited: a newline of ours completes it.  When LNEXT had been typed the newline is taken
    /// as it is and a second one does.
    private func takeLines(_ scratch: UnsafeMutablePointer<UInt8>, _ taken: inout Int) -> Bool {
        guard takeCompleteLines(scratch, &taken) else { return false }
        var newlines = 0, newline: UInt8 = 10
        repeat {
            _ = ckpt_write(Int32(truncatingIfNeeded: master), &newline, 1)
            newlines += 1
            // poll(2) lets the kernel's worker finish when there is no complete line.
        } while newlines < 2 && ready(slave, Poll.input) & Poll.input == 0
        let n = ckpt_read(Int32(truncatingIfNeeded: slave), scratch, Int(CKPT_TERMINAL_SCRATCH))
        if n < newlines { return false }
        if newlines == 2 { state.pointee.flags |= CKPT_TERMINAL_LITERAL.rawValue }
        guard keepLine(scratch, n - newlines, complete: false, &taken) else { return false }
        // In a line as long as the queue the newline took the place of the last character, as the program's own would.  Whatever stands there, it is only ever erased.
        return n <= Int(CKPT_TERMINAL_QUEUE) || keepTyped(0x20)
    }

    private func keepLine(_ line: UnsafeMutablePointer<UInt8>, _ n: Int, complete: Bool, _ taken: inout Int) -> Bool {
        let keys = TypingKeys(state.pointee.termios)
        for i in 0..<n {
            let isEnd = complete && i == n - 1 && keys.endsLine(line[i])
            taken += 1
            if taken > Int(CKPT_TERMINAL_QUEUE) { guard keepLate(line[i]) else { return false }; continue }
            if keys.isSpecial(line[i]) && !isEnd { guard keepTyped(keys.literal) else { return false } }
            guard keepTyped(line[i]) else { return false }
            if isEnd { return true }
        }
        if !complete { return true }
        taken += 1
        return taken > Int(CKPT_TERMINAL_QUEUE) || keepTyped(keys.endOfFile)
    }
}
