import ArgumentParser
import CommandKit
import WorktreeEngine

struct Sweep: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sweep",
        abstract: "Apply the policies now, empty the trash, and tend the pools.",
        discussion: """
            Cleans up runs whose policy in config.toml has run out, also those whose workdirs are gone, and prints a line \
            for each run that it touched or left. A run with work at risk is never cleaned up: it is quarantined for a \
            person to look at. Fills the pools and brings their slots forward, and drops snapshot templates that nobody \
            uses. Made for cron, whose PATH is short:

              */10 * * * *  $HOME/.local/bin/wtengine sweep
            """)

    @OptionGroup var global: GlobalOptions

    func run() async throws {
        let engine = try await global.openEngine()
        let report = try await engine.sweep()
        try global.answer(json: report.json, lines: report.lines, orTell: "Nothing to sweep.")
        // Slots that were thrown away.
        await engine.emptyTrash()
    }
}
