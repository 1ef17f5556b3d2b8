import ArgumentParser
import CkptReport
import CkptSession
import CkptStatefile
import CkptSystem

struct Warm: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Keeps a template of a statefile in memory: FILE --warm branches off it, without reading the file.",
        discussion: """
            A template is the tree of the statefile, restored and never released.  Every branch is a tree of its own, in a pid namespace of its own; \
            branches and template share memory until one of them writes it.
            """)
    @Argument(help: "The statefile.") var file: String?
    @Option(help: ArgumentHelp("Look for files below OLD under NEW; branches need the same.", valueName: "OLD=NEW")) var relocate: [String] = []
    @Flag(help: "Go on without a CPU feature that the program may have used.") var ignoreCpu = false
    @Flag(help: "List the templates in memory.") var list = false
    @Option(help: ArgumentHelp("End the template of a statefile, or all of them; branches go on.", valueName: "FILE|all")) var drop: String?
    @Flag(help: "Print JSON (--list).") var json = false

    func validate() throws {
        if [file != nil, list, drop != nil].filter({ $0 }).count != 1 { throw ValidationError("Give a statefile, --list, or --drop FILE|all.") }
    }

    func run() throws {
        if list { return try show() }
        if let drop { return try end(drop) }
        let statefile = try Statefile(path: file!)
        try statefile.executeEngine(for: "warm", of: file!, [file!, "--statefile", file!, "--template"] + relocate.flatMap { ["--relocate", $0] } + (ignoreCpu ? ["--ignore-cpu"] : []))
    }

    private func show() throws {
        let templates = Templates.all()
        if json { return try output(.list(templates.map(Self.json))) }
        if templates.isEmpty { return note("no templates; make one with ckptctl warm FILE") }
        var table = TextTable([("FILE", .left), ("ID", .left), ("PID", .right), ("MEMORY", .right), ("BRANCHES", .right), ("LIVE", .right), ("AGE", .right)])
        for t in templates {
            table.add([t.file, String(t.id.prefix(8)), String(t.pid), sizeText(t.memory), String(t.served), String(t.living), ageText(seconds: t.age / 1_000_000_000)])
        }
        try output(table.rendered())
    }
    private static func json(_ t: Template) -> JSON {
        ["file": .text(t.file), "id": .text(t.id), "pid": JSON(t.pid), "keeper": JSON(t.keeper), "memory": JSON(t.memory), "branches": JSON(t.served),
         "living": JSON(t.living), "since": JSON(t.since), "socket": .text(t.path)]
    }

    private func end(_ what: String) throws {
        let wanted = what == "all" ? Templates.all() : try templates(of: what)
        for t in wanted where !Templates.drop(t) { note("template of '\(t.file)': has ended by itself, or does not answer") }
    }
    /// By the statefile's id, and by the name that it had: another may lie there by now, or none.
    private func templates(of what: String) throws -> [Template] {
        let id = (try? Statefile(path: what))?.id
        let absolute = what.hasPrefix("/") ? what : ((try? Path.link("/proc/self/cwd")) ?? ".") + "/" + what
        let found = Templates.all().filter { $0.id == id || $0.file == absolute || (what.count >= 8 && $0.id.hasPrefix(what)) }
        if found.isEmpty { throw Problem(.noSession, "warm", object: what, cause: "no template of it is in memory", remedy: "ckptctl warm --list shows those that are") }
        return found
    }
}

extension Statefile {
    /// The 32 hexadecimal digits that tell it from all others.
    var id: String {
        withUnsafeBytes(of: superblock.id) { $0.map { hex(UInt64($0), digits: 2) }.joined() }
    }

    /// Becomes the engine inside it, from a copy in memory: the statefile is then not the text of a running program, and a core face can't be executed.
    func executeEngine(for operation: String, of file: String, _ arguments: [String]) throws -> Never {
        let engine = try File.inMemory("ckptengine", executable: true)
        try engine.write(self.engine, at: 0)
        let error = Program.become(engine, arguments)
        throw Problem(.system, operation, object: file, cause: "its engine cannot be executed", error.text,
                      remedy: error.errno == 13 ? "sysctl vm.memfd_noexec=0, or turn it over with `ckptctl face exec` and execute it" : nil)
    }
}
