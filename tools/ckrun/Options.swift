// Part of ckrun (freestanding, one stack, no allocation): the command line.
import CkptABI
import Freestanding

struct Options {
    var supervision = Supervision()
    var name: UnsafePointer<CChar>
    /// The application's own command line, ending with a null pointer.
    var arguments: Strings
    var count: Int
    var application: UnsafePointer<CChar> { UnsafePointer(arguments[0]!) }

    init(_ argv: Strings, count: Int) {
        var name: UnsafePointer<CChar>?
        var i = 1
        while i < count, let word = argv[i], word[0] == 45, word[1] != 0 {
            i += 1
            if equal(word, "--") { break }
            if equal(word, "--help") || equal(word, "-h") { printHelp() }
            if equal(word, "--version") { printVersion() }
            if let value = Self.value("--name", word, argv, &i) { name = value } else if !supervision.take(word, argv, &i) {
                fail(ExitCode.usage, word, "unknown option", remedy: "ckrun --help lists them")
            }
        }
        guard i < count else { fail(ExitCode.usage, nil, "no application named", remedy: "usage: ckrun [OPTIONS] [--] APP [ARGS...]") }
        arguments = argv + i
        self.count = count - i
        self.name = name ?? Self.lastComponent(UnsafePointer(argv[i]!))
        if let name { Self.checkName(name) }
        supervision.check()
    }

    /// `--name VALUE` or `--name=VALUE`; moves `i` past a value of its own.
    static func value(_ option: StaticString, _ word: UnsafePointer<CChar>, _ argv: Strings, _ i: inout Int) -> UnsafePointer<CChar>? {
        guard prefix(word, option) else { return nil }
        let rest = word + option.utf8CodeUnitCount
        if rest[0] == 61 { return rest + 1 }
        guard rest[0] == 0 else { return nil }
        guard let next = argv[i] else { fail(ExitCode.usage, word, "needs a value") }
        i += 1
        return UnsafePointer(next)
    }

    static func lastComponent(_ path: UnsafePointer<CChar>) -> UnsafePointer<CChar> {
        if let i = lastIndex(of: 47, in: path) { path + i + 1 } else { path }
    }

    /// A session is named by name, id or pid: a name must not look like a pid, nor break a listing.
    static func checkName(_ name: UnsafePointer<CChar>) {
        let n = length(name)
        guard n > 0, n < 64 else { fail(ExitCode.usage, name, "a session's name has 1 to 63 characters") }
        var digits = true
        for i in 0..<n {
            let c = UInt8(bitPattern: name[i])
            if c < 32 || c == 127 || c == 47 { fail(ExitCode.usage, name, "a session's name has no `/` and no control characters") }
            if c < 48 || c > 57 { digits = false }
        }
        if digits { fail(ExitCode.usage, name, "a session's name is not a number", remedy: "numbers are pids") }
    }

    /// `/bin/sh FILE ARGS…` in memory that lives while `body` runs.
    func withArgumentsOfShell(_ program: UnsafePointer<CChar>, _ body: (Strings) -> Void) {
        var text = TextMemory()
        let all = text.pointers(count + 2)
        let mark = text.mark
        text.put("/bin/sh")
        all[0] = UnsafeMutablePointer(mutating: text.finish(from: mark))
        all[1] = UnsafeMutablePointer(mutating: program)
        for i in 1..<max(count, 1) { all[i + 1] = arguments[i] }
        body(all)
    }
}

func printHelp() -> Never {
    let text: StaticString = """
        usage: ckrun [OPTIONS] [--] APP [ARGS...]

        Starts APP so that it and all of its children can be checkpointed with
        ckptctl. ckrun becomes APP: same process, same job control, same exit status.

          --name NAME      the session's name for ckptctl (default: APP's file name)
          --resume FILE    if FILE exists, restart it instead of starting APP
          --files MODE     with --resume: what to do with files that APP has written to
                           since: truncate (to what they were) or keep
          --help           this text
          --version        the version

        With one of the next two, ckrun stays as APP's parent, takes checkpoints, and
        passes on signals and the exit status:
          --every TIME     a checkpoint every TIME (90s, 10m, 2h, 1d)
          --on-signal SIG  a checkpoint when ckrun gets SIG (USR1, TERM, XCPU, ...)
          -o FILE          the statefile (default: that of --resume, else NAME.ckpt)
          --compress METHOD  compress the memory in it: zstd, zstd:1 to zstd:22, lz4
          --save-files     store the files that APP writes in each statefile, up to 1 GiB
                           each (or --save-files=SIZE); a restart puts them back
          --keep N         keep the last N: FILE, FILE.1, ... (default 1).  From 2 on most of
                           them are deltas, which need older ones: more files are
                           there, to be kept in one folder, until those are merged
          --whole          no deltas
          --track          note writes between two checkpoints, so that a delta reads only
                           what may have changed.  Costs APP a fault per page that it writes
                           and its huge pages; Linux 6.7 or later, else all is compared
          --pre-copy       write most memory while APP runs: short pauses (not with --track)

        A job that outlives its machine:
          ckrun --every 10m --resume job.ckpt --files truncate ./job

        Environment: CKPT_DIR, where sessions live (default /dev/shm/ckpt-UID).
        Exit status: APP's own, or 64 usage, 69 the system lacks something,
        71 a system call failed, 126 APP can't be executed or checkpointed,
        127 APP not found.

        """
    text.withUTF8Buffer { _ = ckpt_write(1, $0.baseAddress!, $0.count) }
    ckpt_exit_group(0)
}

func printVersion() -> Never {
    var line = Line()
    line.put("ckrun ")
    line.put(text: ckpt_release())
    line.put(byte: 10)
    line.write(to: Descriptor(1))
    ckpt_exit_group(0)
}
