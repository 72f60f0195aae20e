import WorktreeEngine

/// The command as a script meets it: how fast a process is up, and how much memory it takes.
@MainActor
struct CommandLine {
    let stage: Stage

    /// A `wtengine spawn` of a run that was not used before, and the run.
    static func spawn(_ stage: Stage) throws -> (call: [String], key: RunKey) {
        let request = stage.request(.checkout)
        let call = [
            stage.tools.wtengine, "spawn", "--state", "\(stage.place)/cli-state", "--repo", stage.subject.path,
            "--issue",
            request.issue, "--run", request.run, "--detach", "--materializer", "checkout",
        ]
        return (call, try RunKey(issue: request.issue, run: request.run))
    }

    func run() async throws {
        try await start()
        try await memory()
    }

    private func start() async throws {
        let state = ["--state", "\(stage.place)/cli-state"]
        let calls: [(String, [String])] = [
            ("wtengine --version", [stage.tools.wtengine, "--version"]),
            ("wtengine list", [stage.tools.wtengine, "list"] + state),
            ("git --version", ["git", "--version"]),
            ("git worktree list", ["git", "-C", stage.subject.path, "worktree", "list"]),
        ]
        for round in 0...min(30, stage.effort.mostRounds) {
            for (name, call) in calls {
                let outcome = try await Command.require(call)
                if round > 0 { stage.record(Measure.start, name, outcome.nanoseconds) }
            }
        }
    }

    private func memory() async throws {
        for _ in 0..<3 {
            let (call, key) = try CommandLine.spawn(stage)
            try await peak(Contender.commandLine, call)
            _ = try await timedCleanup(stage.commandLineEngine, key)
            try await stage.settle()
            for (contender, workers) in [(Contender.gitOne, 1), (Contender.gitMany, Machine.cores)] {
                let path = "\(stage.place)/\(stage.fresh("memory"))"
                let adding = Git.adding(path, stage.subject.commit, workers: workers)
                try await peak(contender, ["git", "-C", stage.subject.path] + adding)
                try await stage.git.drop([path])
                try await stage.settle()
            }
        }
    }

    private func peak(_ contender: String, _ call: [String]) async throws {
        let outcome = try await Command.require([stage.tools.peakmemory] + call)
        guard let value = UInt64(outcome.output.firstLine) else {
            throw Failure("peakmemory gave no number: \(outcome.output)")
        }
        stage.record(Measure.memory, contender, value, .kibibytes)
    }
}
