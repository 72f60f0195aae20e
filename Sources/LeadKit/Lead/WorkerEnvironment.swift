public import WorktreeEngine

public import class Foundation.ProcessInfo

extension Worker {
    /// The environment of a worker: where its order is and where its answer goes.
    ///
    /// `WTENGINE_ISSUE`, `WTENGINE_RUN`, `WTENGINE_WORKDIR` and `WTENGINE_STATE` name the run, `WTENGINE_CONTEXT_PACK`
    /// the directory with the order, `WTENGINE_WORK_ORDER` the order itself, and `WTENGINE_RESULT` the file that its
    /// result goes into. The forge's token, with which only a Lead may write, is not in it, nor are the variables that
    /// would lead git to another repository.
    /// - Parameter base: the rest; by default that of this process.
    public static func environment(
        for key: RunKey, workdir: String, pack: ContextPack, state: String,
        inheriting base: [String: String] = ProcessInfo.processInfo.environment
    ) -> [String: String] {
        var environment = base.filter { !withheld.contains($0.key) }
        environment["WTENGINE_ISSUE"] = key.issue.description
        environment["WTENGINE_RUN"] = key.run.description
        environment["WTENGINE_WORKDIR"] = workdir
        environment["WTENGINE_STATE"] = state
        environment["WTENGINE_CONTEXT_PACK"] = pack.directory
        environment["WTENGINE_WORK_ORDER"] = pack.orderPath
        environment["WTENGINE_RESULT"] = pack.resultPath
        environment["PWD"] = workdir
        return environment
    }

    /// The tokens, and what `git rev-parse --local-env-vars` lists of places.
    private static let withheld: Set<String> = [
        "GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR",
        "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_PREFIX", "OLDPWD",
    ]
}
