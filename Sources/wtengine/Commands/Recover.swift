import ArgumentParser
import CommandKit
import WorktreeEngine

struct Recover: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "recover",
        abstract: "Bring every run to a legal state after a crash.",
        discussion: """
            Finishes or undoes what was interrupted, and prints one line for each run that it touched. It may be \
            interrupted itself, and run again at any time; what other processes work on is left to them.

              wtengine recover

            --rebuild is for a registry that is damaged or lost: the file is set aside, never deleted, and the runs are \
            read back from the workdirs below the roots. Name further repositories whose runs are missing with --repo.

              wtengine recover --rebuild --repo ~/src/app --repo ~/src/lib
            """)

    @Flag(help: "Set the registry aside and rebuild it from the workdirs on disk.")
    var rebuild = false

    @Option(
        name: .customLong("repo"),
        help: ArgumentHelp("With --rebuild: a repository to look for runs in; may be repeated.", valueName: "path"))
    var repositories: [String] = []

    @OptionGroup var global: GlobalOptions

    func validate() throws {
        if !repositories.isEmpty, !rebuild {
            throw ValidationError("--repo goes with --rebuild only: without it, the registry names the repositories.")
        }
    }

    func run() async throws {
        if rebuild { return try await rebuildRegistry() }
        let recovered = try await global.openEngine().recover()
        try global.answer(
            json: .array(
                recovered.map { $0.run.json.adding(["action": .text($0.action), "detail": .text($0.detail)]) }),
            lines: recovered.map {
                "\($0.action) \($0.run)\($0.detail.isEmpty ? "" : ": \(Table.visible($0.detail))")"
            },
            orTell: "Nothing to recover.")
        if recovered.contains(where: { $0.action == "failed" }) { throw ExitStatus.failed.code }
    }

    private func rebuildRegistry() async throws {
        let result = try await Engine.rebuild(
            try global.configuration(), repositories: try repositories.map(absolutePath))
        if let old = result.setAside, !global.json { Console.tell("The old registry is kept as \(old).") }
        try global.answer(
            json: ["setAside": .text(result.setAside), "runs": .array(result.runs.map(\.json))],
            lines: result.runs.map { "rebuilt \($0)" }, orTell: "No runs were found on disk.")
    }
}
