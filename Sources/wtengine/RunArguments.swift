// Public, since a conformance of public types is.
public import ArgumentParser
public import WorktreeEngine

/// The two arguments that name a run.
struct RunArguments: ParsableArguments {
    @Argument(help: "The piece of work: local#12 or org/repo#123.", transform: { try IssueRef($0) })
    var issue: IssueRef

    @Argument(help: "The attempt at it: 2026-02-14-backend-0001.", transform: { try RunID($0) })
    var run: RunID

    var key: RunKey { RunKey(issue: issue, run: run) }
}

extension RunState: ExpressibleByArgument {}
extension Outcome: ExpressibleByArgument {}
