public import struct Foundation.Date

/// Where a run is in its life.
public enum RunState: String, Sendable, Hashable, CaseIterable {
    /// The intent is recorded; the workdir is being made and is nobody's yet.
    case creating
    /// The workdir is clean and available; no worker has been bound to it.
    case ready
    /// A worker process is bound to the workdir.
    case attached
    /// The run has ended with an outcome; the workdir waits for its policy.
    case detached
    /// A removal has begun; what it will do is recorded.
    case cleaning
    /// The workdir is gone. The run stays in the registry for ever.
    case removed
    /// Something needs a person; ``Run/reason`` says what.
    case quarantined

    /// The states that may follow. Anything else is refused by the registry.
    var successors: Set<RunState> {
        switch self {
        case .creating: [.ready, .quarantined]
        case .ready: [.attached, .detached, .cleaning, .quarantined]
        case .attached: [.attached, .detached, .cleaning, .quarantined]
        case .detached: [.cleaning, .quarantined]
        case .cleaning: [.removed, .ready, .attached, .detached, .quarantined]
        case .quarantined: [.cleaning, .quarantined]
        case .removed: []
        }
    }
}

/// How a run ended.
public enum Outcome: String, Sendable, Hashable, CaseIterable {
    /// The work is done.
    case ok
    /// The worker gave up or crashed.
    case fail
    /// The worker cannot go on without something from outside.
    case blocked
    /// The lease ran out.
    case timeout
    /// Another run of the same issue and role took its place.
    case superseded
}

/// The way a workdir is filled.
public enum Materializer: String, Sendable, Hashable, CaseIterable {
    /// Our own parallel checkout out of the object database, in process.
    case checkout
    /// A btrfs snapshot of a template with the files of the same checkout.
    case snapshot
    /// A prepared directory that nobody has used, with the files of the same checkout.
    case pool
    /// `git worktree add`, for repositories that the checkout cannot serve.
    case git
    /// A local `git clone`, where not even a git worktree can be made.
    case clone
}

/// A worker process. The start time tells it from a later process with the same pid.
public struct WorkerProcess: Hashable, Sendable {
    /// The process id on ``host``.
    public let pid: Int32
    /// Clock ticks since boot, field 22 of `/proc/<pid>/stat` (man 5 proc), with the boot id: `<boot id>:<ticks>`.
    public let start: String
    /// The host name that the pid belongs to.
    public let host: String

    /// A process as it was seen.
    public init(pid: Int32, start: String, host: String) {
        self.pid = pid
        self.start = start
        self.host = host
    }
}

/// What a removal that has begun will do, so that recovery finishes the same removal.
public struct RemovalIntent: Hashable, Sendable, Codable {
    /// The confirmation token of the plan that was accepted; nil when there was none, and nothing may be lost.
    public let token: String?
    /// Work at risk is dropped on the explicit word of a person.
    public let discard: Bool
    /// The state to return to when the removal is refused.
    public let previousState: String
    /// The branch tip to delete by compare-and-swap; nil keeps the branch.
    public var deleteBranchAt: String?
    /// For a clone: the branch tip that is handed to the source repository before the clone goes.
    public var publishBranchAt: String?
    /// Who asked.
    public let actor: String
    /// The workdir was compared with the plan after its move into the trash; what is left of the removal needs no
    /// further look, nor the files that such a look would need.
    public var isChecked = false
    /// The mode of the workdir before the cleanup made it writable, which a rename needs. Restored when the removal is
    /// refused. Nil when the mode was not changed.
    public var workdirMode: UInt32?

    /// Records an accepted plan.
    public init(
        token: String?, discard: Bool, previousState: RunState, deleteBranchAt: String?, publishBranchAt: String?,
        actor: String
    ) {
        self.token = token
        self.discard = discard
        self.previousState = previousState.rawValue
        self.deleteBranchAt = deleteBranchAt
        self.publishBranchAt = publishBranchAt
        self.actor = actor
    }
}

/// A run as the registry holds it: a snapshot, not a live view.
public struct Run: Hashable, Sendable {
    /// The registry's row number; also names the lease that serializes operations on the run.
    public internal(set) var id: Int64
    /// Issue and run id.
    public let key: RunKey
    /// The worker's role.
    public let role: Role
    /// The repository as people name it: its main worktree, or the git directory of a bare one. A real path.
    public let repo: String
    /// The git directory that all worktrees of the repository share. A real path.
    public let commonDir: String
    /// The allowlisted root that holds the workdir. A real path.
    public let root: String
    /// The workdir, below ``root``. Never given to a second run.
    public let path: String
    /// The name of the admin entry in `<commonDir>/worktrees/`, of the staged and of the trashed directory.
    public let adminID: String
    /// The branch made for the run, without `refs/heads/`; nil for a detached HEAD.
    public let branch: String?
    /// The commit that the run began at, in hexadecimal.
    public let base: String
    /// Where the run is in its life.
    public var state: RunState
    /// Another run of the same issue and role took this one's place.
    public var superseded: Bool
    /// The run that took its place.
    public var supersededBy: String?
    /// How the workdir was filled.
    public var materializer: Materializer
    /// How the run ended; nil while it has not.
    public var outcome: Outcome?
    /// The worker bound by the last attach.
    public var worker: WorkerProcess?
    /// The device and inode of the workdir, recorded before anybody got its path.
    public var identity: FileIdentity?
    /// Why the run is quarantined.
    public var reason: String?
    /// A person's reason to keep the workdir from any cleanup.
    public var lockReason: String?
    /// The removal under way.
    public var removal: RemovalIntent?
    /// When the intent was recorded.
    public let createdAt: Date
    /// When the row last changed.
    public var updatedAt: Date
    /// When the run ended (detached or superseded): the start of its policy's clock.
    public var endedAt: Date?

    /// The run may still report: it is being made, waits for its worker, or has one, and nothing took its place.
    public var isActive: Bool { !superseded && [.creating, .ready, .attached].contains(state) }
    /// No other run of the same issue and role may become active: true as well while a removal of the active run
    /// is under way, since a refused removal gives the run back.
    var holdsRole: Bool {
        guard state == .cleaning, let before = removal.flatMap({ RunState(rawValue: $0.previousState) }) else {
            return isActive
        }
        return !superseded && [.ready, .attached].contains(before)
    }
    /// The run has ended, so that its policy applies.
    public var hasEnded: Bool { superseded || state == .detached }

    /// A new run, in state `creating`.
    public init(
        key: RunKey, role: Role, repo: String, commonDir: String, root: String, path: String, adminID: String,
        branch: String?, base: String, materializer: Materializer, createdAt: Date = Date()
    ) {
        id = 0
        self.key = key
        self.role = role
        self.repo = repo
        self.commonDir = commonDir
        self.root = root
        self.path = path
        self.adminID = adminID
        self.branch = branch
        self.base = base
        self.materializer = materializer
        self.createdAt = createdAt
        updatedAt = createdAt
        state = .creating
        superseded = false
    }
}

/// What tells one directory from another that has taken its name.
public struct FileIdentity: Hashable, Sendable, Codable {
    /// `st_dev`; on btrfs, where that is given anew with each mount, the ids of filesystem and subvolume.
    public let device: UInt64
    /// `st_ino`.
    public let inode: UInt64

    /// A pair read by one `fstat`.
    public init(device: UInt64, inode: UInt64) {
        self.device = device
        self.inode = inode
    }
}

/// How many runs may exist at once. A run counts until its workdir is removed.
public struct Limits: Hashable, Sendable {
    /// Per repository; nil for no limit.
    public var perRepository: Int?
    /// Active runs per repository and role; nil for no limit.
    public var perRole: Int?

    /// Limits; none by default.
    public init(perRepository: Int? = nil, perRole: Int? = nil) {
        self.perRepository = perRepository
        self.perRole = perRole
    }
}
