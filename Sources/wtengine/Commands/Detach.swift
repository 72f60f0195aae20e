import ArgumentParser
import CommandKit
import WorktreeEngine

struct Detach: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "detach",
        abstract: "Release the worker of a run, with how it ended.",
        discussion: """
            Starts the clock of the outcome's policy in config.toml: by default `wtengine sweep` cleans up 24 hours \
            after ok and 7 days after any other outcome. With the policy \"immediate\" the workdir goes now, unless work \
            is at risk. Prints the run and its state after that.

              wtengine detach local#12 2026-02-14-backend-0001 --outcome ok
            """)

    @OptionGroup var target: RunArguments

    @Option(help: "How the run ended.")
    var outcome: Outcome

    @OptionGroup var global: GlobalOptions

    func run() async throws {
        let engine = try await global.openEngine()
        let run = try await engine.detach(target.key, outcome: outcome)
        try global.answer(json: run.json, text: run.line)
        // With the policy "immediate" it did not go, and the word alone would not say why.
        if run.state == .quarantined, !global.json, let reason = run.reason {
            Console.tell(
                "\(Table.visible(reason)); `wtengine cleanup \(run.key)\(Suggestion.options)` shows all of it.")
        }
        if run.state == .removed { await engine.emptyTrash() }
    }
}
