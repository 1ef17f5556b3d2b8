// The programs under test, copied once to a folder that every user can read, and the scenario programs compiled beside them.
import Foundation
import Glibc
import HarnessC
import Synchronization
import Testing

struct Failure: Error, CustomStringConvertible {
    let description: String
    init(_ text: String) { description = text }
}

/// Who runs a scenario.  Root and an ordinary user take different ways through a restart.
enum User: String, CaseIterable, Sendable {
    case root, ckptuser
    static let current: User = geteuid() == 0 ? .root : .ckptuser
    /// Both where the tests run as root, else only the caller.
    static let available: [User] = geteuid() == 0 && getpwnam("ckptuser") != nil ? [.root, .ckptuser] : [.current]
    var isOther: Bool { self != User.current }
}

struct Installation: Sendable {
    static let current = Result { try Installation() }
    static func get() throws -> Installation { try current.get() }

    let package: String         // the source tree
    let folder: String          // world-readable copy of the programs, and the compiled scenario programs
    let scratch: String         // where scenarios get their folders
    var ckrun: String { folder + "/ckrun" }
    var ckptctl: String { folder + "/ckptctl" }

    private init() throws {
        let environment = ProcessInfo.processInfo.environment
        package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().path
        let build = environment["CKPT_BUILD"] ?? package + "/.build/release"
        scratch = (environment["CKPT_SCRATCH"] ?? "/tmp") + "/ckpt-scenarios-\(getpid())"
        folder = scratch + "/programs"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        chmod(scratch, 0o1777)
        for file in ["ckrun", "ckptctl", "libckpt.so", "ckptengine", "ckptexec"] {
            let source = build + "/" + file
            if !FileManager.default.fileExists(atPath: source) {
                if file == "ckptexec" { continue }
                throw Failure("\(source) is missing: swift build -c release --static-swift-stdlib")
            }
            try FileManager.default.copyItem(atPath: source, toPath: folder + "/" + file)
        }
        harness_become_subreaper()
        Children.installExitCleaner(scratch)
    }

    /// The path of Tests/Programs/NAME.c compiled; once per run of the tests.
    func program(_ name: String, flags: [String] = []) throws -> String {
        let target = folder + "/" + name
        try Self.compiling.withLock { done in
            if done.contains(name) { return }
            let source = package + "/Tests/Programs/" + name + ".c"
            let command = ["/usr/bin/gcc", "-g", "-O1", "-pthread", "-Wall", "-Wno-unused-result", "-Wno-unused-function", "-o", target, source, "-lm", "-lrt"] + flags
            let result = try run(command, in: scratch, limit: 60)
            if result.status != .exited(0) { throw Failure("gcc \(source): \(result.errors)") }
            done.insert(name)
        }
        return target
    }
    private static let compiling = Mutex<Set<String>>([])
}
