import ArgumentParser
import CommandKit
import WorktreeEngine

struct Unlock: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "unlock",
        abstract: "Allow the cleanup of a workdir again.",
        discussion: """
              wtengine unlock local#12 2026-02-14-backend-0001
            """)

    @OptionGroup var target: RunArguments
    @OptionGroup var global: GlobalOptions

    func run() async throws {
        let run = try await global.openEngine().unlock(target.key)
        try global.answer(json: run.json, text: run.line)
    }
}
