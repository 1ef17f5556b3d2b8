import ArgumentParser
import CkptReport
import CkptSystem

struct Binfmt: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Manages the rule by which the kernel executes core-face statefiles.",
        subcommands: [Install.self, Remove.self, Show.self])

    struct Install: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Registers the rule; needs root.")
        @Flag(help: "Also at every boot, through /etc/binfmt.d.") var permanent = false
        func run() throws {
            try BinfmtRule.install()
            if permanent { try BinfmtRule.makePermanent() }
        }
    }
    struct Remove: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Removes the rule; needs root.")
        func run() throws { try BinfmtRule.remove() }
    }
    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(commandName: "status", abstract: "Shows the rule; exit status 69 if there is none.")
        @Flag(help: "Print JSON.") var json = false
        func run() throws {
            let interpreter = BinfmtRule.interpreter
            if json { try output(["registered": .bool(interpreter != nil), "interpreter": JSON(interpreter)]) }
            guard let interpreter else {
                throw Problem(.lacking, "binfmt", cause: "the rule is not registered: core-face statefiles can't be executed directly", remedy: "as root: ckptctl binfmt install")
            }
            if !json { try output("registered: \(printable(interpreter))\n") }
        }
    }
}

enum BinfmtRule {
    private static let folder = "/proc/sys/fs/binfmt_misc", name = "ckpt", permanent = "/etc/binfmt.d/ckpt.conf"
    private static var path: String { folder + "/" + name }

    /// The interpreter of the rule, if it is registered and enabled.
    static var interpreter: String? {
        guard let text = try? Path.text(path), text.hasPrefix("enabled") else { return nil }
        return text.split(separator: "\n").first { $0.hasPrefix("interpreter ") }.map { String($0.dropFirst(12)) }
    }

    /// Our mark in e_ident's padding, then e_type ET_CORE.  F: the kernel keeps the interpreter open, so that the rule also holds in
    /// containers and after a chroot.
    private static func rule() throws -> String {
        guard let interpreter = Installation.find("ckptexec") else {
            throw Problem(.lacking, "binfmt install", cause: "ckptexec is missing beside ckptctl", remedy: "run tools/install")
        }
        guard interpreter.utf8.count < 128 else { throw Problem(.lacking, "binfmt install", object: interpreter, cause: "the kernel takes at most 127 characters", remedy: "install ckpt where its path is shorter") }
        return ":\(name):M:9:CKPTFIL\\x04\\x00::\(interpreter):F"
    }

    static func install() throws {
        let rule = try rule()
        if !Path.exists(folder + "/register") {
            do throws(SystemError) { try Kernel.mount("binfmt_misc", on: folder, type: "binfmt_misc") } catch {
                throw Problem(error.errno == 1 ? .refused : .lacking, "binfmt install", cause: "binfmt_misc is not mounted and can't be: \(error.text)", remedy: "as root: modprobe binfmt_misc")
            }
        }
        if Path.exists(path) { try write("-1", to: path, for: "binfmt install") }
        try write(rule, to: folder + "/register", for: "binfmt install")
    }

    static func makePermanent() throws {
        do throws(SystemError) {
            let file = try File(permanent, flags: File.create, mode: 0o644)
            try file.write(Array((try! rule() + "\n").utf8), at: 0)
        } catch { throw Problem(.system, "binfmt install", object: permanent, cause: error.text) }
    }

    static func remove() throws {
        Path.remove(permanent)
        guard Path.exists(path) else { return }
        try write("-1", to: path, for: "binfmt remove")
    }

    private static func write(_ text: String, to path: String, for operation: String) throws {
        do throws(SystemError) { try File(path, flags: File.writeOnly).write(Array(text.utf8), at: 0) } catch {
            throw Problem(error.errno == 13 || error.errno == 1 ? .refused : .system, operation, object: path, cause: error.text, remedy: "it needs root")
        }
    }
}

/// Where the parts of ckpt lie: beside this program in a build folder, else in ../lib/ckpt.
enum Installation {
    static func find(_ name: String) -> String? {
        let folder = Path.folder(of: Program.path)
        return ["\(folder)/\(name)", "\(Path.folder(of: folder))/lib/ckpt/\(name)"].first { Path.exists($0) }
    }
}
