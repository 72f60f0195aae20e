import ArgumentParser
import CommandKit
import WorktreeEngine

struct Verify: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Check that workdirs are clean and available.",
        discussion: """
            Looks at the links between repository and workdir, HEAD, the index and the status, of one run or of every \
            run that has a workdir. Prints one problem a line, and exits with 1 when there is any. Changes nothing.

              wtengine verify local#12 2026-02-14-backend-0001
              wtengine verify
            """)

    @Argument(help: "The piece of work; all when left out.", transform: { try IssueRef($0) })
    var issue: IssueRef?

    @Argument(help: "The attempt at it.", transform: { try RunID($0) })
    var run: RunID?

    @OptionGroup var global: GlobalOptions

    func validate() throws {
        if issue != nil, run == nil {
            throw ValidationError("the run id is missing: give issue and run id, or neither to verify every run.")
        }
    }

    func run() async throws {
        let engine = try await global.openToLook()
        if engine == nil, let key = givenKey { throw try global.noRegistry("no run \(key) is known") }
        var results: [(key: RunKey, problems: [String])] = []
        if let engine {
            for key in try await keys(engine) {
                results.append((key, try await problems(key, engine).map(Suggestion.complete)))
            }
        }
        try global.answer(
            json: .array(
                results.map { $0.key.json.adding(["problems": .array($0.problems.map { .text($0) })]) }),
            lines: results.flatMap { result in result.problems.map { "\(result.key): \(Table.visible($0))" } },
            orTell: results.isEmpty ? "No run has a workdir." : "All are clean and available: \(results.count).")
        if results.contains(where: { !$0.problems.isEmpty }) { throw ExitStatus.failed.code }
    }

    /// One of many runs that cannot be looked at does not keep the others from being looked at.
    private func problems(_ key: RunKey, _ engine: Engine) async throws -> [String] {
        do {
            return try await engine.verify(key)
        } catch {
            guard issue == nil else { throw error }
            return [error.description]
        }
    }

    private var givenKey: RunKey? {
        guard let issue, let run else { return nil }
        return RunKey(issue: issue, run: run)
    }

    private func keys(_ engine: Engine) async throws -> [RunKey] {
        if let givenKey { return [givenKey] }
        // The others have no workdir that could be right or wrong.
        return try await engine.runs().filter { ![.creating, .cleaning, .removed].contains($0.state) }.map(\.key)
    }
}
