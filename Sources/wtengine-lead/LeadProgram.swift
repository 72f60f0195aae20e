import ArgumentParser
import CommandKit

/// `wtengine lead`, as a program of its own.
@main
struct LeadProgram: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "wtengine lead",
        abstract: "Take issues from an outbox and give each a worker in a workdir of its own.",
        subcommands: [RunLead.self])

    static func main() async { await runProcess() }
}
