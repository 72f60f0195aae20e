import ArgumentParser
import CommandKit
import WorktreeEngine

struct Show: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Show everything about one run.",
        discussion: """
              wtengine show local#12 2026-02-14-backend-0001
              wtengine show local#12 2026-02-14-backend-0001 --json
            """)

    @OptionGroup var target: RunArguments
    @OptionGroup var global: GlobalOptions

    func run() async throws {
        guard let run = try await global.openToLook()?.run(target.key) else {
            throw try global.noRegistry("no run \(target.key) is known")
        }
        try global.answer(json: run.json, text: run.details)
    }
}
