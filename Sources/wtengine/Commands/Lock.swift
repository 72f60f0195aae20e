import ArgumentParser
import CommandKit
import WorktreeEngine

struct Lock: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lock",
        abstract: "Keep a workdir from any cleanup.",
        discussion: """
            Neither a policy nor `wtengine cleanup` removes it until `wtengine unlock`, whatever else they are told.

              wtengine lock local#12 2026-02-14-backend-0001 --reason "evidence"
            """)

    @OptionGroup var target: RunArguments

    @Option(help: ArgumentHelp("Why, for whoever wants to clean it up.", valueName: "text"))
    var reason: String

    @OptionGroup var global: GlobalOptions

    func validate() throws {
        if reason.allSatisfy(\.isWhitespace) {
            throw ValidationError("--reason is empty: say why, for whoever wants to clean it up.")
        }
    }

    func run() async throws {
        let run = try await global.openEngine().lock(target.key, reason: reason)
        try global.answer(json: run.json, text: run.line)
    }
}
