public import Registry

/// What a run's workdir is to be.
public struct SpawnRequest: Sendable {
    /// What HEAD of the workdir names.
    public enum Branch: Hashable, Sendable {
        /// A new branch, named by the configuration's template.
        case template
        /// A new branch of this name, without `refs/heads/`.
        case named(String)
        /// No branch: a detached HEAD at the base.
        case detached
    }

    /// The issue, as text; checked by the spawn.
    public var issue: String
    /// The run id, as text; checked by the spawn.
    public var run: String
    /// The role; needed when the run id names none.
    public var role: String?
    /// A path in the repository: a worktree, a linked one, a bare repository or a submodule.
    public var repository: String
    /// The revision to begin at (man gitrevisions); nil for the repository's HEAD.
    public var base: String?
    /// What HEAD names.
    public var branch: Branch
    /// Supersede the active run of the issue and role in the same decision; without it an active run refuses the spawn.
    public var switching: Bool
    /// Forces a way; nil for the fastest that serves the repository.
    public var materializer: Materializer?

    /// A request with the defaults.
    public init(
        issue: String, run: String, role: String? = nil, repository: String, base: String? = nil,
        branch: Branch = .template, switching: Bool = false, materializer: Materializer? = nil
    ) {
        self.issue = issue
        self.run = run
        self.role = role
        self.repository = repository
        self.base = base
        self.branch = branch
        self.switching = switching
        self.materializer = materializer
    }
}

/// A clean directory that belongs to one run.
public struct Workdir: Hashable, Sendable {
    /// The run; what every other call takes.
    public let run: RunKey
    /// The directory, an absolute path.
    public let path: String
    /// The branch made for the run; nil for a detached HEAD.
    public let branch: String?
    /// The commit that it began at, in hexadecimal.
    public let base: String
    /// How it was filled.
    public let materializer: Materializer
    /// The run whose place this one took.
    public let superseded: RunKey?
}
