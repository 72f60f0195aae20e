import ArgumentParser
import CommandKit
import WorktreeEngine

struct Spawn: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "spawn",
        abstract: "Create a run and its workdir, and print the path.",
        discussion: """
            Makes a clean directory at the base on a new branch, as one atomic step: it is complete when its path is \
            printed, and nothing is left of one that failed.

              cd "$(wtengine spawn --repo ~/src/app --issue local#12 \\
                  --run 2026-02-14-backend-0001)"
              wtengine spawn --repo . --issue acme/app#7 --run try-2 --role qa \\
                --base v1.4 --detach

            At most one run of an issue and role is active. --switch makes this one active and supersedes the other in \
            the same step: whatever that one reports afterwards is refused with exit code 2.
            """)

    @Option(
        help: ArgumentHelp(
            "A path in the repository; a bare one, a linked worktree or a submodule will do.", valueName: "path"))
    var repo: String

    @Option(
        help: ArgumentHelp("The piece of work: local#12, org/repo#123 or group/subgroup/repo#123.", valueName: "issue"),
        transform: { try IssueRef($0) })
    var issue: IssueRef

    @Option(
        help: ArgumentHelp(
            "The run id: <YYYY-MM-DD>-<role>-<seq>, or any name when --role is given.", valueName: "run"),
        transform: { try RunID($0) })
    var run: RunID

    @Option(
        help: ArgumentHelp("What the worker is. (default: the role in the run id)", valueName: "role"),
        transform: { try Role($0) })
    var role: Role?

    @Option(
        help: ArgumentHelp(
            "The revision to begin at (man gitrevisions). (default: the repository's HEAD)", valueName: "rev"))
    var base: String?

    @Option(
        help: ArgumentHelp(
            "The name of the new branch. (default: run/<issue>/<run>, or as configured)", valueName: "name"))
    var branch: String?

    @Flag(help: "Make no branch: HEAD is detached at the base.")
    var detach = false

    @Flag(name: .customLong("switch"), help: "Supersede the active run of the issue and role.")
    var switching = false

    @Option(help: "How to fill the workdir; auto takes the fastest that serves the repository.")
    var materializer = Way.auto

    @OptionGroup var global: GlobalOptions

    /// The materializers, and the choice to leave it to the engine.
    enum Way: String, CaseIterable, ExpressibleByArgument {
        case auto, pool, snapshot, checkout, git, clone
    }

    func validate() throws {
        if detach, branch != nil {
            throw ValidationError("--branch and --detach exclude each other: a detached HEAD has no branch.")
        }
    }

    func run() async throws {
        let engine = try await global.openEngine()
        let workdir = try await engine.spawn(
            SpawnRequest(
                issue: issue.description, run: run.description, role: role?.description, repository: repo, base: base,
                branch: detach ? .detached : branch.map { .named($0) } ?? .template, switching: switching,
                materializer: Materializer(rawValue: materializer.rawValue)))
        if let superseded = workdir.superseded, !global.json {
            Console.tell("superseded \(superseded); its workdir stays until it is cleaned up.")
        }
        guard global.json else { return try Console.answer(workdir.path) }
        try Console.answer(try await engine.run(workdir.run).json.description)
    }
}
