public import Registry

/// Work that a removal would lose.
public struct Risk: Hashable, Sendable {
    /// What sort of work it is.
    public enum Kind: String, Sendable, CaseIterable {
        /// A tracked file differs from the index.
        case modified
        /// The index differs from HEAD.
        case staged
        /// A file that git does not know.
        case untracked
        /// An unresolved merge.
        case conflicted
        /// An edit of a file that git is told not to look at (assume-unchanged, skip-worktree).
        case hidden
        /// An ignored file, when the configuration says that those are kept.
        case ignored
        /// Commits that no reference of the repository reaches: of a detached HEAD, of one that was left by checking
        /// something else out, or of a per-worktree reference.
        case detachedCommits = "detached-commits"
        /// Commits that nothing but a branch that would be deleted reaches.
        case branchCommits = "branch-commits"
        /// A rebase, merge, cherry-pick, revert or bisect in progress.
        case operation
        /// Work in a submodule.
        case submodule
        /// Work in a repository inside the workdir.
        case nestedRepository = "nested-repository"
        /// A stash entry made here, which nobody would look for when the workdir is gone. It is lost only with a clone, and
        /// stays in the repository otherwise.
        case stash
    }

    /// What sort of work it is.
    public let kind: Kind
    /// The path below the workdir, or the reference.
    public let path: String
    /// More for a person: a commit's summary, why it counts.
    public let detail: String
    /// The path as it is on disk: it need not be UTF-8.
    let rawPath: [UInt8]

    /// - Parameter rawPath: the path's bytes, when they may be others.
    init(kind: Kind, path: String, detail: String, rawPath: [UInt8]? = nil) {
        self.kind = kind
        self.path = path
        self.detail = detail
        self.rawPath = rawPath ?? Array(path.utf8)
    }
}

/// What a cleanup would do, as things are now. Ask a person or a policy, then give it to ``Engine/cleanup(_:discard:)``,
/// which refuses when anything in it has changed since.
public struct CleanupPlan: Sendable {
    /// The run.
    public let run: Run
    /// Bound to everything below; changes when any of it does.
    public let token: String
    /// Work that would be lost; empty for a clean run.
    public let risks: [Risk]
    /// Ignored files and directories that go with the workdir.
    public let ignored: [String]
    /// Who is inside; a cleanup is refused while anybody is.
    public let processes: [ProcessInside]
    /// The branch that goes with the workdir; nil when it stays or there is none.
    public let branchToDelete: String?
    /// The workdir does not exist any more: only the admin entry and the branch are left.
    public let isMissing: Bool
    let branchTip: String?
}

/// What a cleanup did.
public struct CleanupReport: Sendable {
    /// The run as it is now, in state `removed`.
    public let run: Run
    /// The branch that was deleted.
    public let deletedBranch: String?
    /// Work that was dropped because the caller said so.
    public let discarded: [Risk]
    /// Whether the trashed directory is still to be unlinked, by the background or the next sweep.
    public let trashPending: Bool
}

/// What ``Engine/sweep()`` did.
public struct SweepReport: Sendable {
    /// Runs cleaned up by their policies.
    public internal(set) var cleaned: [RunKey] = []
    /// Runs that hold work or cannot be removed, now or before in state `quarantined`, with the reason.
    public internal(set) var quarantined: [(run: RunKey, reason: String)] = []
    /// Runs whose policy has run out but that are in use, locked or not visible, and runs whose workdirs are gone before
    /// it has, with the reason.
    public internal(set) var skipped: [(run: RunKey, reason: String)] = []
    /// Runs whose workdirs were gone, and whose admin entries were pruned.
    public internal(set) var pruned: [RunKey] = []
    /// Trashed directories that were unlinked.
    public internal(set) var emptied = 0
    /// Directories in the stage or the trash that could not be unlinked, with the reason.
    public internal(set) var trashLeft: [(path: String, reason: String)] = []
    /// Slots of pools that were filled.
    public internal(set) var slotsFilled = 0
    /// Slots of pools that were brought forward to the commit that their revision names now.
    public internal(set) var slotsRenewed = 0
    /// Pools that could not be filled, with the reason.
    public internal(set) var poolsLeft: [(repository: String, reason: String)] = []

    init() {}
}

/// What ``Engine/recover()`` did with one run that a crash had left half-way.
public struct Recovered: Sendable {
    /// The run.
    public let run: RunKey
    /// `rolled-back`, `finished`, `returned` (its cleanup was refused), `quarantined`, `failed` (try again), or `busy`
    /// when its process still works on it.
    public let action: String
    /// More for a person.
    public let detail: String
}

/// Something that ``Engine/doctor(repository:)`` found.
public struct Finding: Sendable, Hashable {
    /// How bad it is.
    public enum Level: String, Sendable {
        /// A fact, nothing to do.
        case info
        /// Works, but not for long or not well.
        case warning
        /// Does not work.
        case error
    }
    /// How bad it is.
    public let level: Level
    /// What is the case.
    public let message: String
    /// The command that mends it; nil for a fact.
    public let remedy: String?
}
