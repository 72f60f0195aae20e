import ArgumentParser
import CommandKit
import WorktreeEngine

struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "List the runs, oldest first.",
        discussion: """
            Prints the runs that match every condition; removed ones too, since a run id is never used twice. Reads the \
            registry only. --state names the state directory, as with every command: to choose runs by state use --in.

              wtengine list --in ready --in attached
              wtengine list --issue local#12 --json
            """)

    @Option(help: ArgumentHelp("Only runs of the repository at this path.", valueName: "path"))
    var repo: String?

    @Option(help: ArgumentHelp("Only runs of this issue.", valueName: "issue"), transform: { try IssueRef($0) })
    var issue: IssueRef?

    @Option(
        name: .customLong("in"), help: ArgumentHelp("Only runs in this state; may be repeated.", valueName: "state"))
    var states: [RunState] = []

    @OptionGroup var global: GlobalOptions

    func validate() throws {
        // Taken for a directory, the word would give an empty list that looks like an answer.
        guard let word = global.state, RunState(rawValue: word) != nil else { return }
        throw ValidationError(
            "--state names the state directory. Use --in \(word) for runs that are \(word), or --state ./\(word) for a "
                + "directory of that name.")
    }

    func run() async throws {
        let all = try await global.openToLook()?.runs(repository: repo, issue: issue) ?? []
        let runs = states.isEmpty ? all : all.filter { states.contains($0.state) }
        if runs.isEmpty, !global.json {
            if Console.isRead { Console.tell(Suggestion.complete("No runs match. `wtengine spawn` creates one.")) }
            return
        }
        let rows = runs.map { run in
            [
                run.key.issue.description, run.key.run.description, run.stateWord, run.role.description,
                run.branch ?? "-", run.path,
            ]
        }
        try global.answer(
            json: .array(runs.map(\.json)),
            text: Table(header: ["ISSUE", "RUN", "STATE", "ROLE", "BRANCH", "PATH"], rows: rows).text)
    }
}
