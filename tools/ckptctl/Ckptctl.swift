import ArgumentParser

@main struct Ckptctl: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ckptctl", abstract: "Checkpoints process trees started by ckrun and works with their statefiles.")
}
