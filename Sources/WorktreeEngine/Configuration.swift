/// What happens to the workdir of a run that has ended.
public enum Policy: Hashable, Sendable {
    /// Cleaned up when the run is detached.
    case immediate
    /// Cleaned up by the first sweep after this time.
    case ttl(Duration)
    /// Never cleaned up by itself.
    case keep
}

/// Everything that an engine needs to know. A value; changing it changes no engine that is open.
public struct Configuration: Sendable {
    /// The directory of the registry. An absolute path; made when it is missing.
    public var state: String
    /// Directories under which workdirs may exist, absolute paths. The first takes new workdirs. When empty,
    /// `<state>/workdirs` is used, and made when it is missing; others must exist.
    public var roots: [String]
    /// How many runs may exist at once.
    public var limits: Limits
    /// Bytes that must stay free on the root's filesystem; a spawn is refused below that.
    public var diskReserve: Int64
    /// By outcome; `ok` 24 hours and all others 7 days by default.
    public var policies: [Outcome: Policy]
    /// The name of a run's branch, with `{issue}`, `{run}` and `{role}` replaced.
    public var branchTemplate: String
    /// Delete a run's branch at cleanup even when it has commits that nothing else reaches. Such commits are then work
    /// at risk. By default the branch stays.
    public var deletesUnmergedBranches: Bool
    /// Treat ignored files as work: a cleanup that would remove them is refused.
    public var keepsIgnoredFiles: Bool
    /// Threads that write the files of one workdir; nil for as many as there are cores, at most 8.
    public var checkoutWorkers: Int?
    /// Bytes of file contents that are kept in memory, of trees that are checked out again and again, so that nothing has
    /// to be read for the third workdir of a commit and those after it; 0 for none. What is not used for five minutes is
    /// given back.
    public var checkoutMemory: Int64
    /// How many workdirs are kept ready for each revision that runs begin at; 0 for none but those of
    /// ``Engine/fillPool(repository:base:size:)``.
    public var poolSize: Int
    /// Refill pools in the background after a claim. A process that ends soon after its spawn says false, and leaves it
    /// to ``Engine/sweep()``.
    public var refillsPools: Bool
    /// How long one git process may take.
    public var gitTimeout: Duration
    /// Who stands in the audit log; nil for `user@host:pid`.
    public var actor: String?

    /// The defaults.
    public init(state: String, roots: [String] = []) {
        self.state = state
        self.roots = roots
        limits = Limits()
        diskReserve = 256 << 20
        policies = [:]
        branchTemplate = "run/{issue}/{run}"
        deletesUnmergedBranches = false
        keepsIgnoredFiles = false
        checkoutMemory = 256 << 20
        poolSize = 0
        refillsPools = true
        gitTimeout = .seconds(600)
    }

    /// The policy of an outcome.
    public func policy(for outcome: Outcome) -> Policy {
        policies[outcome] ?? .ttl(outcome == .ok ? .seconds(24 * 3600) : .seconds(7 * 24 * 3600))
    }

    /// The registry's file.
    package var registryPath: String { "\(state)/registry.sqlite" }
}
