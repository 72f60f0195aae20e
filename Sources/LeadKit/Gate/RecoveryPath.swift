import Registry
import Settings
import WorktreeEngine

/// The way out of a failure: what a person does, as commands that may be pasted into a shell as they stand.
struct RecoveryPath {
    /// One sentence.
    let remedy: String
    /// In order; may be empty.
    private(set) var commands: [String]

    /// The path for an error of the engine.
    /// - Parameters:
    ///   - run: the run as the registry has it; nil when it was never made.
    ///   - finished: runs of the same repository that have ended and hold a workdir, oldest first.
    init(_ error: EngineError, _ key: RunKey, run: Run?, repository: String, state: String, finished: [Run]) {
        let options = " --state \(shellQuoted(state))"
        func wtengine(_ words: String) -> String { "wtengine \(words)\(options)" }
        let repo = shellQuoted(repository)
        switch error.code {
        case .limit, .disk:
            let change = error.code == .limit ? "raise limits" : "lower limits.disk_reserve"
            remedy =
                "Give workdirs of ended runs free, or \(change) in [workdir] of workflow.toml, which is what counts for "
                + "a Lead."
            // The first plans and tells the token; a person reads the plan before giving it.
            commands =
                [wtengine("sweep")] + finished.prefix(3).map { wtengine("cleanup \($0.key)") }
                + [wtengine("list --repo \(repo)")]
        case .unbornHead:
            remedy = "Make a first commit on the branch that HEAD names, or let HEAD name a branch that has one."
            commands = ["git -C \(repo) symbolic-ref HEAD", "git -C \(repo) branch --all"]
        case .noRepository:
            remedy = "Put the repository back at \(repository), or correct its path in [repos] of workflow.toml."
            commands = []
        case .git, .foreignOwner:
            remedy = "Mend the repository \(repository). Missing objects come back from its remote."
            commands = [
                "git -C \(repo) fsck --connectivity-only || git -C \(repo) fetch --quiet --refetch --all",
                wtengine("doctor --repo \(repo)"),
            ]
        case .unknownBase:
            remedy = "Fetch the revision that the run begins at."
            commands = ["git -C \(repo) fetch --all"]
        case .registryCorrupt:
            remedy = "Rebuild the registry from the workdirs on disk."
            commands = [wtengine("recover --rebuild --repo \(repo)")]
        case .inProgress:
            remedy = "Settle what a crash has left half-made."
            commands = [wtengine("recover")]
        case .runActive:
            remedy = "End the run that is active, or let it finish."
            commands = [wtengine("list --issue \(key.issue)")]
            if case .activeRun(let active)? = error.cause as? RegistryError {
                // Names of runs need no quoting.
                commands.append(wtengine("detach \(active.key) --outcome fail"))
            }
        default:
            remedy = "Do what the reason says."
            commands = [wtengine("doctor --repo \(repo)")]
        }
    }

    /// The path for a run that is quarantined: its workdir holds work that nobody may drop, or could not be removed.
    init(quarantined run: Run, state: String) {
        // Names of runs need no quoting.
        let key = "\(run.key)"
        let options = " --state \(shellQuoted(state))"
        let path = shellQuoted(run.path)
        remedy = "Keep the work that is left in the workdir, then clean it up."
        commands = [
            "wtengine show \(key)\(options)",
            // Nothing to commit is no failure. The branch stays, since nothing else reaches the commit.
            "git -C \(path) add --all && { git -C \(path) diff --cached --quiet || "
                + "git -C \(path) commit --quiet -m \(shellQuoted("Work left by run \(run.key)")); }",
            // Prints the plan, and the command with the token that carries it out.
            "wtengine cleanup \(key)\(options)",
        ]
    }
}
