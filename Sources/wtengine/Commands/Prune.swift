import ArgumentParser
import CommandKit
import WorktreeEngine

struct Prune: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prune",
        abstract: "Remove the admin entries of workdirs that are gone.",
        discussion: """
            Does for runs what `git worktree prune` does not, since their admin entries are locked. A workdir counts as \
            gone only when its root is there: one on a disk that is not mounted is kept. One that was only moved away is \
            forgotten too, so put it back before.

              wtengine prune
            """)

    @OptionGroup var global: GlobalOptions

    func run() async throws {
        let report = try await global.openEngine().prune()
        try global.answer(json: report.json, lines: report.lines, orTell: "Nothing to prune.")
    }
}
