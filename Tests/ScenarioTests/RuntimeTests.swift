// Other C libraries, allocators and language runtimes than those that the rest of the tests run on: each through the oracle.
import Foundation
import Glibc
import Testing

extension Subject {
    private static func allocations(_ name: String, preload: String) -> Subject {
        Subject(name: name) { ["/usr/bin/env", "LD_PRELOAD=\(preload)"] + (try compiled("allocations", "allocations.c", ["-pthread"]).argv()) }
    }
    static let runtimes: [Subject] = [
        compiled("musl", "allocations.c", ["-pthread"], by: "musl-gcc"),
        allocations("jemalloc", preload: "libjemalloc.so.2"),
        allocations("tcmalloc", preload: "libtcmalloc_minimal.so.4"),
        Subject(name: "sbcl") { ["/usr/bin/sbcl", "--script", try copied("threads.lisp")] },
        Subject(name: "guile") { ["/usr/bin/guile", "--no-auto-compile", try copied("threads.scm")] },
        script("faulthandler", "faulthandler.py", by: "/usr/bin/python3"),
    ]
}

/// One at a time, as the oracle's other programs.
@Suite(.serialized) struct RuntimeTests {
    @Test(arguments: Subject.runtimes) func `other libraries, allocators and runtimes go on byte for byte`(subject: Subject) {
        #expect(oracle(subject, as: .current, count: soak ? 40 : 8) >= 4)
    }

    /// glibc 2.31 keeps dlsym in libdl and knows no rseq; the newest has what this one has not.  Needs root, and two minutes for a system of each.
    @Test(.enabled(if: soak && getuid() == 0), arguments: ["bullseye", "trixie"]) func `programs on older and newer glibc go on`(release: String) throws {
        scenario("glibc-\(release)") { s in
            let root = s.path("root")
            let made = try run(["debootstrap", "--variant=minbase", "--include=gcc,libc6-dev", release, root, "http://deb.debian.org/debian"], in: s.folder, limit: 600)
            if made.status != .exited(0) { throw Failure(made.errors + made.text.suffix(500)) }
            for file in ["ckrun", "libckpt.so", "ckptengine", "ckptexec"] { try FileManager.default.copyItem(atPath: s.installation.folder + "/" + file, toPath: root + "/" + file) }
            try FileManager.default.copyItem(atPath: s.installation.package + "/Tests/Oracle/allocations.c", toPath: root + "/allocations.c")
            let sessions = root + "/sessions"
            mkdir(sessions, 0o700)
            let setUp = try run(["/bin/sh", "-c", "mount -t proc proc \(root)/proc && mount --rbind /dev \(root)/dev && chroot \(root) gcc -O1 -pthread -o allocations allocations.c && chroot \(root) ./allocations"], in: s.folder)
            defer { _ = try? run(["/bin/sh", "-c", "umount -l \(root)/dev; umount \(root)/proc"], in: s.folder) }
            if setUp.status != .exited(0) { throw Failure(setUp.errors) }
            s.environment["CKPT_DIR"] = "/sessions"
            s.pid = try s.spawn(["chroot", root, "/ckrun", "--name", s.tag, "--", "/allocations"], output: "out", errors: "err")
            s.environment["CKPT_DIR"] = sessions
            var restarts = 0
            while restarts < 5, !eventually(0.25, { s.hasEnded }) { try s.checkpoint(kill: true); try s.restart(); restarts += 1 }
            try s.expect(.exited(0), output: setUp.text)
            if restarts < 2 { throw Failure("it ended after \(restarts) restarts") }
        }
    }
}
