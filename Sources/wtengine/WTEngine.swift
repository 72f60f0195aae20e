import ArgumentParser
import CommandKit

/// The command line of the engine.
///
/// Every command says its own name. The parser would otherwise derive it from the type, by casts each of which searches
/// all conformances of the program: a fifth of the time of `wtengine list`.
@main
struct WTEngine: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "wtengine",
        abstract: "Gives every run of an agent a git workdir of its own, and takes it back without losing work.",
        discussion: """
            The life of a run, from its directory to its end:

              wtengine spawn --repo ~/src/app --issue local#12 \\
                  --run 2026-02-14-backend-0001
              wtengine attach local#12 2026-02-14-backend-0001 --pid 4711
              wtengine detach local#12 2026-02-14-backend-0001 --outcome ok
              wtengine cleanup local#12 2026-02-14-backend-0001

            spawn prints the path of a clean directory on a branch of its own. attach and detach say when a worker \
            begins and how it ended. cleanup shows what would go and what is at risk, and removes nothing before it is \
            confirmed. After a crash run `wtengine recover`; `wtengine sweep`, for example from cron, cleans up runs \
            that have ended; `wtengine doctor` says what is wrong and how to mend it.

            An issue is local#N or org/repo#N. A run id is <YYYY-MM-DD>-<role>-<seq>, or any other name when the role \
            is given apart. Only both together name a run.

            The state directory is --state, else $WTENGINE_STATE, else $XDG_STATE_HOME/wtengine, else \
            ~/.local/state/wtengine. It holds the registry, config.toml and, unless configured otherwise, the workdirs.

            stdout has the answer only; --json makes it one JSON document, and an error one JSON object on stderr. \
            $WTENGINE_LOG=info says more on stderr.

            Exit codes: 0 done; 1 failed; 2 the run was superseded; 3 blocked by something outside; 4 a person has to \
            look; 5 refused because work is at risk; 64 wrong usage.
            """,
        version: "0.1.0",
        groupedSubcommands: [
            CommandGroup(name: "Life of a run", subcommands: [Spawn.self, Attach.self, Detach.self, Cleanup.self]),
            CommandGroup(
                name: "Looking", subcommands: [List.self, Show.self, Which.self, Verify.self, Audit.self, Doctor.self]),
            CommandGroup(
                name: "Keeping house",
                subcommands: [Recover.self, Sweep.self, Prune.self, PoolCommand.self, Lock.self, Unlock.self]),
            CommandGroup(name: "Scheduling", subcommands: [LeadCommand.self]),
        ])

    static func main() async { await runProcess() }
}
