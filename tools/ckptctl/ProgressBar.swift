// One line on the terminal that says how far a checkpoint is; nothing where stderr is no terminal.
import CkptReport
import CkptSystem

final class ProgressBar: @unchecked Sendable {
    private let name: String
    private let start = Kernel.clock(1)
    private var phase = "", done: UInt64 = 0, expected: UInt64 = 0
    private var writeStart: UInt64 = 0, lastShown: UInt64 = 0
    private var isShowing = false
    /// What is over sooner shows nothing, and no line changes more often than one can read.
    private static let patience: UInt64 = 100_000_000, interval: UInt64 = 100_000_000

    init?(_ name: String) {
        guard Terminal.errorColumns != nil else { return nil }
        self.name = name
    }

    func show(phase: String) {
        self.phase = phase
        draw(isDue: true)
    }
    func show(done: UInt64, of expected: UInt64) {
        if writeStart == 0 { writeStart = Kernel.clock(1) }
        self.done = done; self.expected = max(expected, done)
        draw(isDue: false)
    }
    func erase() {
        if isShowing { Program.writeError("\r\u{1b}[K") }
        isShowing = false
    }

    private func draw(isDue: Bool) {
        let now = Kernel.clock(1)
        guard now - start > Self.patience, isDue || now - lastShown > Self.interval else { return }
        lastShown = now
        isShowing = true
        // The last column stays free: a terminal would go to the next line.
        Program.writeError("\r" + String(line(now).prefix(max(1, (Terminal.errorColumns ?? 80) - 1))) + "\u{1b}[K")
    }

    private func line(_ now: UInt64) -> String {
        let head = "\(printable(name)): \(phase)"
        guard expected > 0 else { return head }
        guard phase == "memory" || phase == "write" else { return "\(head), \(sizeText(done))" }
        let width = 24, filled = Int(Double(width) * Double(done) / Double(expected))
        let bar = "[" + String(repeating: "#", count: filled) + String(repeating: "-", count: width - filled) + "]"
        let rate = Double(done) * 1e9 / Double(max(1, now - writeStart))
        let text = "\(head) \(bar) \(sizeText(done)) of \(sizeText(expected))"
        return rate < 1 ? text : text + ", \(sizeText(UInt64(rate)))/s, \(ageText(seconds: UInt64(Double(expected - done) / rate + 0.5))) left"
    }
}
