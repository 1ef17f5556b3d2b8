// Open files whose names changed or are gone, files of /proc, and --save-files.
import Foundation
import Glibc
import Testing

@Suite struct FileTests {
    @Test func `files renamed, replaced or unlinked while open are found again`() { feature("files-names") }
    @Test func `O_PATH, O_TMPFILE, removed folders and special flags come back`() { feature("files-kinds") }
    @Test func `names of files, sockets and tasks are bytes, whether UTF-8 or not`() { feature("files-bytes") }
    @Test func `files whose modes forbid by now what they were opened for are open, and their modes as they are`() { feature("files-forbidden") }
    @Test func `open files of /proc and namespaces come back`() { feature("files-proc") }

    @Test(arguments: ["keep", "ns"]) func `names and kinds come back however pids are kept`(pids: String) {
        for program in ["files-kinds", "files-proc", "locks-shared"] { feature(program, treatments: [.twice], users: [.root].filter(User.available.contains), pids: [pids]) }
    }

    /// On a file system in memory, and on one that is laid over another.
    @Test(arguments: ["tmpfs", "overlay"]) func `names that change are followed on other file systems`(system: String) {
        for program in ["files-names", "descriptors-deleted", "descriptors-directory", "memory-deleted", "files-saved"] {
            scenario("\(system)-\(program)") { s in
                let place = system == "tmpfs" ? "/dev/shm/\(s.tag)" : s.path("merged")
                for name in ["lower", "upper", "work", "merged"] { mkdir(s.path(name), 0o777) }
                mkdir(place, 0o777)
                defer { try? FileManager.default.removeItem(atPath: system == "tmpfs" ? place : s.path("tmpfs")) }
                // Overlays need an upper file system that carries their attributes.
                if system == "overlay" {
                    guard getuid() == 0 else { return }
                    let mounted = try run(["/bin/mount", "-t", "overlay", "overlay", "-o", "lowerdir=\(s.path("lower")),upperdir=\(s.path("upper")),workdir=\(s.path("work"))", place], in: s.folder)
                    if mounted.status != .exited(0) { return }
                }
                defer { if system == "overlay" { umount2(place, Int32(MNT_DETACH)) } }
                s.environment["SCENARIO"] = place
                try s.start([try s.installation.program(program)])
                guard eventually(20, { access(place + "/ready", F_OK) == 0 }) else { throw Failure("not ready: \(s.output)") }
                for _ in 0..<2 {
                    try s.checkpoint(kill: true, options: program == "files-saved" ? ["--save-files"] : [])
                    try s.restart()
                }
                FileManager.default.createFile(atPath: place + "/go", contents: nil)
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    // MARK: --save-files

    /// What may have happened to the files since.
    @Test(arguments: ["nothing", "changed", "grown", "removed", "unreadable"]) func `saved files are put back over whatever became of them`(how: String) {
        for user in User.available {
            scenario("saved-\(how)", as: user) { s in
                try s.start([try s.installation.program("files-saved")])
                try s.waitUntilReady()
                for _ in 0..<2 {
                    let report = try s.checkpoint(kill: true, options: ["--save-files", "--json"])
                    if !report.text.contains("\"saved_files\": 6") { throw Failure("not six files: \(report.text)") }
                    for name in ["log", "sparse", "mapped", "removed"] {
                        let file = s.path(name)
                        switch how {
                        case "changed":
                            let f = try #require(fopen(file, "r+")); fputs("changed", f); fseek(f, 2 << 20, SEEK_SET); fputs("in a hole", f); fclose(f)
                        case "grown": let f = try #require(fopen(file, "a")); fputs("more", f); fclose(f)
                        case "removed": unlink(file)
                        case "unreadable": chmod(file, 0)
                        default: break
                        }
                    }
                    try s.restart()
                }
                s.go()
                try s.expect(.exited(0), output: "ok\n")
            }
        }
    }

    @Test func `a file above the size is named and not stored, one whose folder is gone is refused by name`() {
        scenario("saved-limits") { s in
            mkdir(s.path("folder"), 0o700)
            try s.start(["/bin/sh", "-c", "exec 3>folder/log 4>big; echo one >&3; head -c 5000 /dev/zero >&4; touch ready; while ! test -e go; do sleep 0.02; done; echo two >&3"])
            try s.waitUntilReady()
            // The size may be missing, stand for itself, and be followed by another option or the session.
            for (words, isStored) in [(["--save-files", s.tag], true), (["--save-files", "4K", s.tag], false), (["--save-files=4K", s.tag], false), ([s.tag, "--save-files=4K", "--quiet"], false), ([s.tag, "--save-files=4K", "--save-files"], true)] {
                let result = try s.ckptctl(["checkpoint", "-o", s.path("tried.ckpt")] + words)
                if result.status != .exited(0) || result.errors.contains("it is not stored") == isStored { throw Failure("\(words): \(result.status) \(result.errors)") }
            }
            if try s.ckptctl(["checkpoint", s.tag, "--save-files=much"]).status != .exited(64) { throw Failure("a size that is none is taken") }
            let report = try s.checkpoint(kill: true, options: ["--save-files=4K"])
            if !report.errors.contains(s.path("big")) || report.errors.contains("folder/log") { throw Failure("the report: \(report.errors)") }
            rename(s.path("folder"), s.path("moved"))
            try s.restart()
            let status = try s.wait()
            if status == .exited(0) || !read(s.path("restart-1.err")).contains("folder/log: cannot be put back: its folder is missing") { throw Failure("\(status) \(read(s.path("restart-1.err")))") }
            rename(s.path("moved"), s.path("folder"))
            unlink(s.path("folder/log"))
            try s.restart()
            s.go()
            try s.expect(.exited(0))
            if read(s.path("folder/log")) != "one\ntwo\n" { throw Failure("log: \(read(s.path("folder/log")))") }
        }
    }

    @Test func `a saved file is left as it is with --files keep, and a damaged one is refused before anything is written`() {
        scenario("saved-keep") { s in
            try s.start(["/bin/sh", "-c", "exec 3>log; echo pomz-jo-uijt-gjmf | tr b-z a-y >&3; touch ready; while ! test -e go; do sleep 0.02; done; echo two >&3"])
            try s.waitUntilReady()
            try s.checkpoint(kill: true, options: ["--save-files"])
            let log = try #require(fopen(s.path("log"), "a")); fputs("later\n", log); fclose(log)
            var bytes = try Data(contentsOf: URL(fileURLWithPath: s.statefile))
            let intact = bytes
            let at = try #require(bytes.range(of: Data("only-in-this-file\n".utf8), options: .backwards))
            bytes[at.lowerBound] ^= 1
            try bytes.write(to: URL(fileURLWithPath: s.statefile))
            chmod(s.statefile, 0o700)
            try s.restart()
            let status = try s.wait()
            if status != .exited(65) || read(s.path("log")) != "only-in-this-file\nlater\n" { throw Failure("\(status) \(read(s.path("log"))) \(s.restartErrors)") }
            if try s.ckptctl(["verify", s.statefile]).status == .exited(0) { throw Failure("verify finds nothing") }
            try intact.write(to: URL(fileURLWithPath: s.statefile))
            try s.restart(["--files", "keep"])
            s.go()
            try s.expect(.exited(0))
            if read(s.path("log")) != "only-in-this-file\ntwo\nr\n" { throw Failure("log: \(read(s.path("log")))") }
        }
    }

    /// It writes on while its snapshot is written: what it puts into memory and file must not differ in the statefile.
    @Test func `memory and file are of the same instant although the tree runs on`() {
        scenario("saved-consistent") { s in
            try s.start([try s.installation.program("files-counter")])
            try s.waitUntilReady()
            usleep(100_000)
            try s.checkpoint(options: ["--save-files"])
            usleep(100_000)
            Glibc.kill(s.pid, SIGKILL)
            _ = Children.wait(s.pid, limit: 10)
            try s.restart()
            s.go()
            try s.expect(.exited(0), output: "ok\n")
        }
    }
}
