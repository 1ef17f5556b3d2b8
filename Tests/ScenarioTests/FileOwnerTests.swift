// Root's restart of a user's tree opens, makes and changes files as that user could: what has been put in their place leads root nowhere.
import CkptABI
import Foundation
import Glibc
import Testing

private let both = User.available == [.root, .ckptuser]
private let loop = "\nwhile not os.path.exists('go'): time.sleep(0.01)\n"

/// What only root may look at, in a folder of root's, with the contents that a user's file has.
private final class Victim {
    let folder: String, path: String
    private let kind: mode_t
    init(_ s: Scenario, size: Int = 100, fifo: Bool = false) throws {
        folder = s.installation.scratch + "/victim-" + s.tag
        path = folder + "/file"
        mkdir(folder, 0o700)
        if fifo { mkfifo(path, 0o600) } else { FileManager.default.createFile(atPath: path, contents: Data(repeating: 83, count: size), attributes: [.posixPermissions: 0o600]) }
        age(path)
        age(folder)
        kind = fifo ? S_IFIFO : S_IFREG
        before = Victim.look(folder) + Victim.look(path)
    }
    private var before: [Int] = []
    private static func look(_ path: String) -> [Int] {
        var st = stat()
        return lstat(path, &st) == 0 ? [Int(st.st_ino), Int(st.st_mode), Int(st.st_uid), Int(st.st_gid), Int(st.st_size), st.st_mtim.tv_sec, st.st_mtim.tv_nsec] : []
    }
    func expectUntouched() throws {
        let now = Victim.look(folder) + Victim.look(path)
        if now != before { throw Failure("root's file or its folder was \(before) and is \(now)") }
        if kind == S_IFREG, let text = FileManager.default.contents(atPath: path), text.contains(where: { $0 != 83 }) { throw Failure("root's file was written") }
    }
    func remove() { try? FileManager.default.removeItem(atPath: folder) }
}
/// The same time for all: it doesn't tell files apart.
private func age(_ path: String) {
    var times = (timeval(tv_sec: 1_600_000_000, tv_usec: 0), timeval(tv_sec: 1_600_000_000, tv_usec: 0))
    withUnsafePointer(to: &times) { $0.withMemoryRebound(to: timeval.self, capacity: 2) { _ = utimes(path, $0) } }
}
private func give(_ path: String, _ user: String = "ckptuser") { let u = getpwnam(user)!.pointee; lchown(path, u.pw_uid, u.pw_gid) }
private func write(_ path: String, mode: mode_t = 0o644, size: Int = 100) {
    FileManager.default.createFile(atPath: path, contents: Data(repeating: 117, count: size))
    chmod(path, mode); give(path); age(path)
}
private func restartAsRoot(_ s: Scenario, _ options: [String] = []) throws {
    s.pid = try Children.spawn([s.statefile] + options, environment: s.environment, folder: s.folder, output: s.path("restart-1.out"), errors: s.path("restart-1.err"))
}
private func expectRefusal(_ s: Scenario, _ words: String...) throws {
    try s.expect(.exited(71))
    let errors = read(s.path("restart-1.err"))
    for w in words where !errors.contains(w) { throw Failure("not \(w): \(errors)") }
    if errors.split(separator: "\n").count != 1 { throw Failure("not one line: \(errors)") }
}

extension FileTests {
    @Test(.enabled(if: both), arguments: ["written", "truncated", "read", "mapped", "saved", "memory", "fifo", "folder"])
    func `a link in place of a user's file leads root nowhere`(how: String) {
        scenario("file-led-\(how)", as: .ckptuser) { s in
            let folder = how == "memory" ? "/dev/shm/\(s.tag)" : s.path("d"), file = folder + "/data", victim = try Victim(s, size: how == "truncated" ? 5000 : 100, fifo: how == "fifo")
            mkdir(folder, 0o755); give(folder)
            defer { victim.remove(); if how == "memory" { try? FileManager.default.removeItem(atPath: folder) } }
            func put() {
                switch how {
                case "fifo": mkfifo(file, 0o644); give(file)
                case "folder": mkdir(file, 0o755); give(file)
                default: write(file)
                }
            }
            put()
            let open = ["read": "f = os.open(p, os.O_RDONLY)", "mapped": "f = os.open(p, os.O_RDWR); m = mmap.mmap(f, 100); os.close(f)", "fifo": "f = os.open(p, os.O_RDWR); os.write(f, b'u')", "folder": "os.chdir(p)"][how] ?? "f = os.open(p, os.O_RDWR)"
            let use = ["read": "os.pread(f, 1, 0) == b'u' or 1/0", "mapped": "m[0] == 117 or 1/0", "fifo": "os.read(f, 1) == b'u' or 1/0", "folder": "os.getcwd() == p or 1/0"][how] ?? "os.pwrite(f, b'u', 0)"
            try s.start(["/usr/bin/python3", "-c", "import mmap, os, time; here = os.getcwd(); p = '\(file)'; \(open); os.close(os.open(here + '/ready', os.O_CREAT | os.O_WRONLY))\nwhile not os.path.exists(here + '/go'): time.sleep(0.01)\n\(use)"])
            try s.waitUntilReady()
            try s.checkpoint(kill: true, options: how == "saved" ? ["--save-files"] : [])
            let options = how == "truncated" ? ["--files", "truncate"] : []
            rename(file, file + "0")
            symlink(how == "folder" ? victim.folder : victim.path, file); give(file)
            s.go()
            try restartAsRoot(s, options)
            try expectRefusal(s, file, "others than root may exchange", "restart it as that user")
            try victim.expectUntouched()
            // What is the user's is there for root's restart, as itself and as another file.
            unlink(file); rename(file + "0", file)
            try restartAsRoot(s, options)
            try s.expect(.exited(0))
            if how == "read" || how == "mapped" { return }
            if how != "folder" { unlink(file) } else { rmdir(file) }
            if how != "saved" && how != "memory" { put() }
            try restartAsRoot(s, options)
            try s.expect(.exited(0))
            var st = stat()
            if lstat(file, &st) != 0 || st.st_uid != getpwnam("ckptuser")!.pointee.pw_uid { throw Failure("the file is \(st.st_uid)'s") }
        }
    }

    @Test(.enabled(if: both)) func `a file that root has put in the place of one is had by a user again only where he may open it`() {
        scenario("file-replaced", as: .ckptuser) { s in
            let folder = s.installation.scratch + "/served-" + s.tag, file = folder + "/data"
            mkdir(folder, 0o755)
            defer { try? FileManager.default.removeItem(atPath: folder) }
            func put(_ mode: mode_t) { unlink(file); write(file, mode: mode); chown(file, 0, 0) }
            put(0o666)
            try s.start(["/usr/bin/python3", "-c", "import os, time; f = os.open('\(file)', os.O_RDWR); open('ready', 'w').close()\(loop)os.pwrite(f, b'u', 0)"])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            s.go()
            put(0o600)
            try restartAsRoot(s)
            try expectRefusal(s, file, "who had it, may not do that")
            put(0o666)
            try restartAsRoot(s)
            try s.expect(.exited(0))
        }
    }

    /// What /proc shows depends on who has opened it, and whom a SIGIO may reach on who has asked for it.
    @Test(.enabled(if: both)) func `what the kernel notes of a user's open files is his when root restarts`() {
        scenario("file-credentials", as: .ckptuser) { s in
            try s.start([try s.installation.program("file-credentials")])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            s.go()
            try restartAsRoot(s)
            try s.expect(.exited(0), output: "ok\n")
        }
    }

    /// Its name is taken and given back for a moment only: as its user as well.
    @Test(.enabled(if: both), arguments: ["file", "folder", "unnamed"]) func `what a user's tree had deleted is not made again where a link leads`(what: String) {
        scenario("file-deleted-\(what)", as: .ckptuser) { s in
            let folder = s.path("d"), victim = try Victim(s)
            defer { victim.remove() }
            mkdir(folder, 0o755); give(folder)
            let make = ["file": "f = os.open(d + '/x', os.O_CREAT | os.O_RDWR); os.write(f, b'u'); os.unlink(d + '/x')", "unnamed": "f = os.open(d, os.O_TMPFILE | os.O_RDWR); os.write(f, b'u')", "folder": "os.mkdir(d + '/x'); f = os.open(d + '/x', os.O_DIRECTORY); os.rmdir(d + '/x')"][what]!
            let use = what == "folder" ? "os.fstat(f).st_nlink == 0 or 1/0" : "os.pread(f, 1, 0) == b'u' or 1/0"
            try s.start(["/usr/bin/python3", "-c", "import os, time; d = '\(folder)'; \(make); open('ready', 'w').close()\(loop)\(use)"])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            rename(folder, folder + "0"); symlink(victim.folder, folder); give(folder)
            s.go()
            try restartAsRoot(s)
            if what == "folder" { try expectRefusal(s, "removed folder", "others than root may exchange") } else { try s.expect(.exited(0)) }
            try victim.expectUntouched()
            unlink(folder); rename(folder + "0", folder)
            try restartAsRoot(s)
            try s.expect(.exited(0))
        }
    }

    @Test(.enabled(if: both)) func `a user's file that only a group of his reaches is there when root restarts`() {
        scenario("file-group", as: .ckptuser) { s in
            let folder = s.path("d"), group = "54321"
            mkdir(folder, 0o755); give(folder)
            write(folder + "/data", mode: 0o660)
            chown(folder + "/data", 0, gid_t(group)!)
            let python = ["/usr/bin/python3", "-c", "import os, time; f = os.open('d/data', os.O_RDWR); open('ready', 'w').close()\(loop)os.pwrite(f, b'u', 0)"]
            s.pid = try Children.spawn(["/usr/bin/setpriv", "--reuid", "ckptuser", "--regid", "ckptuser", "--groups", group, "--", s.installation.ckrun, "--name", s.tag, "--"] + python, environment: s.environment, folder: s.folder, output: s.path("out"), errors: s.path("err"))
            try s.waitUntilReady()
            give(s.path("out")); give(s.path("err"))
            try s.checkpoint(kill: true)
            s.go()
            try restartAsRoot(s)
            try s.expect(.exited(0))
        }
    }

    /// `sudo ckrun …` in a user's folder, and a file in a folder where all may make some.
    @Test(.enabled(if: both)) func `root's own files are there wherever they lie, and nothing that has been put in their place`() {
        scenario("file-roots", as: .root) { s in
            let folder = s.path("d"), all = s.path("all"), victim = try Victim(s)
            defer { victim.remove() }
            mkdir(folder, 0o755); give(folder)
            mkdir(all, 0o777); chmod(all, 0o1777)
            try s.start(["/usr/bin/python3", "-c", "import os, time; f = os.open('d/log', os.O_CREAT | os.O_RDWR, 0o600); g = os.open('all/x', os.O_CREAT | os.O_RDWR, 0o600); [os.write(n, b'u' * 100) for n in (f, g)]; os.chdir('d'); open('../ready', 'w').close()\nwhile not os.path.exists('../go'): time.sleep(0.01)\n[os.pwrite(n, b'u', 0) for n in (f, g)]"])
            try s.waitUntilReady()
            try s.checkpoint(kill: true, options: ["--save-files"])
            s.go()
            try restartAsRoot(s)
            try s.expect(.exited(0))
            unlink(all + "/x")
            try restartAsRoot(s)
            try s.expect(.exited(0))
            for file in [folder + "/log", all + "/x"] {
                rename(file, file + "0")
                symlink(victim.path, file); give(file)
                try restartAsRoot(s)
                try expectRefusal(s, file, "others than root may exchange")
                unlink(file); rename(file + "0", file)
            }
            try victim.expectUntouched()
        }
    }

    /// More than a checkpoint writes: what would take hours, or is no number for the kernel.
    @Test(arguments: ["gap", "notification"]) func `numbers that no checkpoint writes are refused with their record`(what: String) {
        scenario("records-\(what)") { s in
            if what == "gap" {
                guard getuid() == 0 else { return }
                try s.start(["/usr/bin/unshare", "--mount", "/bin/sh", "-c", "mkdir m; mount -t tmpfs none m; touch m/x ready; while ! test -e go; do sleep 0.02; done"])
            } else { try s.start([try s.installation.program("posix-queues", flags: ["-lrt"])]) }
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            let (table, field, value) = what == "gap" ? (CKPT_TABLE_ENTRY, MemoryLayout<ckpt_entry_record>.offset(of: \.gap)!, UInt32(70_000)) : (CKPT_TABLE_IPC, MemoryLayout<ckpt_ipc_record>.offset(of: \.cuid)!, UInt32.max)
            try change(s.statefile, table, at: field, value)
            try s.restart()
            let status = try s.wait(limit: 10), errors = read(s.path("restart-1.err"))
            if status != .exited(65) || !errors.contains(what == "gap" ? "ENTRY record 0: too many names that are gone" : "IPC record 0: ") { throw Failure("\(status): \(errors)") }
        }
    }
}

/// Changes a word of a table's first record, and makes the checksums fit.
private func change(_ statefile: String, _ table: ckpt_table, at field: Int, _ value: UInt32) throws {
    var file = try Data(contentsOf: URL(fileURLWithPath: statefile))
    let at = Int(CKPT_SUPERBLOCK_OFFSET), size = MemoryLayout<ckpt_superblock>.size
    var block = file.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: at, as: ckpt_superblock.self) }
    let tables = Int(block.tables_offset) ..< Int(block.tables_offset + block.tables_size)
    func word(_ at: Int) -> UInt32 { file.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: at, as: UInt32.self) } }
    var note = tables.lowerBound, isFound = false
    while note < tables.upperBound {
        let contents = note + 12 + Int(word(note) + 3) / 4 * 4
        if word(note + 8) == UInt32(CKPT_NOTE_BASE) + table.rawValue {
            withUnsafeBytes(of: value) { file.replaceSubrange(contents + MemoryLayout<ckpt_table_header>.size + field ..< contents + MemoryLayout<ckpt_table_header>.size + field + 4, with: $0) }
            isFound = true
        }
        note = contents + Int(word(note + 4) + 3) / 4 * 4
    }
    if !isFound { throw Failure("no such table") }
    func crc(_ bytes: Data) -> UInt32 { bytes.withUnsafeBytes { ckpt_crc32c_hw(0, $0.baseAddress!, $0.count) } }
    block.tables_crc = crc(file[tables])
    block.crc = crc(withUnsafeBytes(of: &block) { Data($0) }.prefix(128))
    withUnsafeBytes(of: &block) { file.replaceSubrange(at ..< at + size, with: $0) }
    try file.write(to: URL(fileURLWithPath: statefile))
    chmod(statefile, 0o700)
}

extension LazyTests {
    @Test(arguments: ["link", "other", "folder", "foreign"]) func `only a record is overwritten by --working-set`(what: String) {
        scenario("lazy-record-\(what)") { s in
            let other = s.path("other"), named = what == "link" ? s.path("link") : what == "folder" ? s.folder : other
            try s.start(["/bin/sh", "-c", "touch ready; while ! test -e go; do sleep 0.02; done; echo ok"])
            try s.waitUntilReady()
            try s.checkpoint(kill: true)
            FileManager.default.createFile(atPath: other, contents: Data(repeating: 83, count: what == "foreign" ? 0 : 3000))
            if what == "link" { symlink(other, named) }
            if what == "foreign" { if !both { return }; give(other) }
            s.go()
            try s.restart(["--lazy", "--working-set", named])
            let status = try s.wait(limit: 20)
            if status != .exited(71) || !s.restartErrors.contains("--working-set \(named): ") { throw Failure("\(status): \(s.restartErrors)") }
            if what != "foreign" && FileManager.default.contents(atPath: other)?.count != 3000 { throw Failure("it was overwritten") }
        }
    }
}

extension DeltaTests {
    @Test func `what is no regular file in place of a base is not opened`() {
        scenario("delta-fifo") { s in
            try s.start(["/bin/sh", "-c", "touch ready; while ! test -e go; do sleep 0.02; done"])
            try s.waitUntilReady()
            try s.checkpoint()
            let base = s.statefile
            try s.checkpoint(kill: true, options: ["--since", base])
            rename(base, s.path("base"))
            mkfifo(base, 0o666)
            // Who opens a FIFO to write waits for a reader.
            let writer = try Children.spawn(["/bin/sh", "-c", "exec 3> '\(base)'; touch seen"], environment: [:], folder: s.folder, output: s.path("writer"), errors: s.path("writer"))
            defer { kill(writer, SIGKILL); _ = Children.wait(writer, limit: 5) }
            usleep(100_000)
            s.go()
            try s.restart()
            try s.expect(.exited(0))
            usleep(50_000)
            if access(s.path("seen"), F_OK) == 0 { throw Failure("it was opened") }
        }
    }
}
