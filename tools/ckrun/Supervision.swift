// Part of ckrun (freestanding, one stack, no allocation): what `--every`, `--on-signal` and `--resume` ask for.
import CkptABI
import Freestanding

/// Only with one of these does ckrun stay.
struct Supervision {
    var every: UInt64 = 0                           // ns between checkpoints; 0: none
    var signal: Int32 = 0                           // a checkpoint when it arrives; 0: none
    var keep = 1                                    // statefiles: FILE, FILE.1 …
    var whole = false                               // no deltas
    var track = false                               // writes are noted between two checkpoints
    var preCopy = false                             // most memory is written while the job runs
    var output: UnsafePointer<CChar>?
    var resume: UnsafePointer<CChar>?
    var changedFiles: UnsafePointer<CChar>?         // --files: what a restart does with files that have grown since
    var compress: UnsafePointer<CChar>?             // as ckptctl takes it
    var saveFiles: UnsafePointer<CChar>?            // --save-files[=SIZE], as ckptctl takes it
    var stays: Bool { every != 0 || signal != 0 }

    /// Takes the option at `word`, if it is one of these.
    mutating func take(_ word: UnsafePointer<CChar>, _ argv: Strings, _ i: inout Int) -> Bool {
        if let v = Options.value("--every", word, argv, &i) { every = Self.duration(v); return true }
        if let v = Options.value("--on-signal", word, argv, &i) { signal = Self.signal(v); return true }
        if let v = Options.value("--keep", word, argv, &i) { keep = Self.count(v); return true }
        if let v = Options.value("--output", word, argv, &i) { output = v; return true }
        if let v = Options.value("-o", word, argv, &i) { output = v; return true }
        if let v = Options.value("--resume", word, argv, &i) { resume = v; return true }
        if let v = Options.value("--files", word, argv, &i) { changedFiles = v; return true }
        if let v = Options.value("--compress", word, argv, &i) { compress = v; return true }
        if equal(word, "--whole") { whole = true; return true }
        if equal(word, "--track") { track = true; return true }
        if equal(word, "--pre-copy") { preCopy = true; return true }
        if equal(word, "--save-files") || prefix(word, "--save-files=") { saveFiles = word; return true }
        return false
    }

    func check() {
        if !stays && (output != nil || keep != 1 || whole) { fail(ExitCode.usage, nil, "-o, --keep and --whole need --every or --on-signal") }
        if track && (!stays || keep == 1 || whole) { fail(ExitCode.usage, nil, "--track is for deltas: --every or --on-signal, and --keep from 2 on without --whole") }
        if preCopy && !stays { fail(ExitCode.usage, nil, "--pre-copy needs --every or --on-signal") }
        if preCopy && track { fail(ExitCode.usage, nil, "--pre-copy and --track exclude each other: both note writes") }
        if !stays && saveFiles != nil { fail(ExitCode.usage, nil, "--save-files needs --every or --on-signal") }
        if let method = compress {
            if !stays { fail(ExitCode.usage, nil, "--compress needs --every or --on-signal") }
            if !equal(method, "zstd") && !equal(method, "lz4") && !(prefix(method, "zstd:") && Self.isLevel(method + 5)) { fail(ExitCode.usage, method, "--compress wants zstd, zstd:1 to zstd:22, or lz4") }
        }
        if let mode = changedFiles {
            if resume == nil { fail(ExitCode.usage, nil, "--files needs --resume") }
            if !equal(mode, "keep") && !equal(mode, "truncate") { fail(ExitCode.usage, mode, "--files wants keep or truncate") }
        }
        if let file = output ?? resume, length(file) > 3900 || file[0] == 0 { fail(ExitCode.usage, file, "no path for a statefile") }
    }

    /// 90, 90s, 500ms, 10m, 2h, 1d
    private static func duration(_ text: UnsafePointer<CChar>) -> UInt64 {
        let (value, rest) = number(text)
        let unit: UInt64 = equal(rest, "ms") ? 1_000_000 : equal(rest, "") || equal(rest, "s") ? 1_000_000_000 : equal(rest, "m") ? 60_000_000_000
            : equal(rest, "h") ? 3_600_000_000_000 : equal(rest, "d") ? 86_400_000_000_000 : 0
        guard value > 0, value < 100_000, unit > 0 else { fail(ExitCode.usage, text, "not a duration", remedy: "write it as 90s, 10m, 2h or 1d") }
        return value * unit
    }

    private static func count(_ text: UnsafePointer<CChar>) -> Int {
        let (value, rest) = number(text)
        guard value >= 1, value <= 1000, rest[0] == 0 else { fail(ExitCode.usage, text, "--keep wants a number from 1 to 1000") }
        return Int(value)
    }

    private static func isLevel(_ text: UnsafePointer<CChar>) -> Bool {
        let (value, rest) = number(text)
        return value >= 1 && value <= 22 && rest[0] == 0
    }

    private static func number(_ text: UnsafePointer<CChar>) -> (UInt64, UnsafePointer<CChar>) {
        var p = text, v: UInt64 = 0
        while p[0] >= 48, p[0] <= 57, v < 1_000_000_000 { v = v * 10 + UInt64(p[0] - 48); p += 1 }
        return (p == text ? 0 : v, p)
    }

    /// USR1, SIGUSR1, 10
    private static func signal(_ text: UnsafePointer<CChar>) -> Int32 {
        let name = prefix(text, "SIG") ? text + 3 : text
        let (value, rest) = number(text)
        let known: Int32 = equal(name, "USR1") ? 10 : equal(name, "USR2") ? 12 : equal(name, "HUP") ? 1 : equal(name, "TERM") ? 15 : equal(name, "INT") ? 2
            : equal(name, "QUIT") ? 3 : equal(name, "ALRM") ? 14 : equal(name, "XCPU") ? 24 : equal(name, "PWR") ? 30 : equal(name, "URG") ? 23
            : rest[0] == 0 && value < 64 ? Int32(value) : 0
        let killSignal: Int32 = 9, childSignal: Int32 = 17, continueSignal: Int32 = 18, stopSignal: Int32 = 19
        guard known > 0, known != killSignal, known != childSignal, known != continueSignal, known != stopSignal else {
            fail(ExitCode.usage, text, "not a signal that ckrun can wait for", remedy: "for example USR1, TERM or XCPU")
        }
        return known
    }
}

func warn(_ object: UnsafePointer<CChar>, _ cause: StaticString, _ error: Errno? = nil) {
    var line = Line()
    line.put("ckrun: ")
    line.put(text: object)
    line.put(": ")
    line.put(cause)
    if let error { line.put(": "); line.put(error) }
    line.put(byte: 10)
    line.write(to: Descriptor(2))
}
