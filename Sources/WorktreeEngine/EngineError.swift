import Git
import Glibc
@_exported public import Registry
import SystemPackage

/// Why the engine refused or failed: a stable code, a message that names the thing, the reason and the remedy, the
/// cause, and what a scheduler should do about it.
public struct EngineError: Error, Sendable, CustomStringConvertible {
    /// A stable name of the failure. New ones may be added.
    public struct Code: Hashable, Sendable, RawRepresentable, CustomStringConvertible {
        /// `WT-` and words.
        public let rawValue: String
        /// Wraps a name, for example one read from a log.
        public init(rawValue: String) { self.rawValue = rawValue }
        /// The name.
        public var description: String { rawValue }
    }

    /// What a scheduler should do.
    public enum Disposition: String, Sendable, CaseIterable {
        /// Try again: as it is when ``EngineError/mayRepeat`` is true, otherwise as the message says.
        case retry
        /// Something outside has to change first: capacity, disk, a missing base, a lock that is held.
        case blocked
        /// A person has to look.
        case needsHuman = "needs-human"
    }

    /// The stable name.
    public let code: Code
    /// One or more sentences for a person, with the remedy.
    public let message: String
    /// What a scheduler should do.
    public let disposition: Disposition
    /// The error below, when there was one.
    public let cause: (any Error)?

    /// Whether the same call, made again as it is, may succeed without anything done first. A name that is not valid, a run
    /// id that was used, a run that is unknown, superseded or in another state, and a plan that was overtaken stay so.
    public var mayRepeat: Bool { disposition == .retry && !Self.settled.contains(code) }

    private static let settled: Set<Code> = [
        .invalidInput, .runExists, .unknownRun, .stale, .state, .planChanged, .unsupported, .noProcess,
    ]

    /// `code: message`.
    public var description: String { "\(code): \(message)" }

    package init(_ code: Code, _ disposition: Disposition, _ message: String, cause: (any Error)? = nil) {
        self.code = code
        self.disposition = disposition
        self.message = message
        self.cause = cause
    }
}

extension EngineError.Code {
    /// A name or option is not valid.
    public static let invalidInput = Self(rawValue: "WT-INVALID")
    /// The configuration cannot be used.
    public static let configuration = Self(rawValue: "WT-CONFIG")
    /// The run id was used before.
    public static let runExists = Self(rawValue: "WT-RUN-EXISTS")
    /// Another run of the issue and role is active.
    public static let runActive = Self(rawValue: "WT-RUN-ACTIVE")
    /// Another operation on the run, or creation for the issue and role, is under way.
    public static let inProgress = Self(rawValue: "WT-IN-PROGRESS")
    /// The task was cancelled; what it had begun is undone.
    public static let cancelled = Self(rawValue: "WT-CANCELLED")
    /// No such run.
    public static let unknownRun = Self(rawValue: "WT-RUN-UNKNOWN")
    /// The run was superseded.
    public static let stale = Self(rawValue: "WT-STALE")
    /// The run is not in a state for this.
    public static let state = Self(rawValue: "WT-STATE")
    /// A limit is reached.
    public static let limit = Self(rawValue: "WT-LIMIT")
    /// Less disk is free than the reserve, or none.
    public static let disk = Self(rawValue: "WT-DISK")
    /// The workdir's path is taken.
    public static let pathTaken = Self(rawValue: "WT-PATH-TAKEN")
    /// The root lies inside a worktree.
    public static let pathNested = Self(rawValue: "WT-PATH-NESTED")
    /// A root is missing, was replaced or is not mounted.
    public static let root = Self(rawValue: "WT-ROOT")
    /// The branch exists.
    public static let branchTaken = Self(rawValue: "WT-BRANCH-TAKEN")
    /// The base names no commit.
    public static let unknownBase = Self(rawValue: "WT-BASE-UNKNOWN")
    /// HEAD has no commit.
    public static let unbornHead = Self(rawValue: "WT-HEAD-UNBORN")
    /// There is no repository.
    public static let noRepository = Self(rawValue: "WT-REPO-MISSING")
    /// The repository belongs to another user.
    public static let foreignOwner = Self(rawValue: "WT-REPO-OWNER")
    /// The forced materializer cannot serve the repository.
    public static let unsupported = Self(rawValue: "WT-UNSUPPORTED")
    /// The pool has no slot that fits.
    public static let noSlot = Self(rawValue: "WT-POOL-EMPTY")
    /// git or libgit2 failed.
    public static let git = Self(rawValue: "WT-GIT")
    /// A lock is held by another process.
    public static let locked = Self(rawValue: "WT-LOCKED")
    /// A person keeps the workdir from cleanup.
    public static let keepLocked = Self(rawValue: "WT-KEEP")
    /// Work would be lost.
    public static let workAtRisk = Self(rawValue: "WT-AT-RISK")
    /// A process is inside the workdir.
    public static let inUse = Self(rawValue: "WT-IN-USE")
    /// The confirmation token is not that of the plan as it is now.
    public static let planChanged = Self(rawValue: "WT-PLAN-CHANGED")
    /// A directory is not the one that the registry recorded.
    public static let identity = Self(rawValue: "WT-IDENTITY")
    /// The worker process does not exist.
    public static let noProcess = Self(rawValue: "WT-NO-PROCESS")
    /// The registry is damaged.
    public static let registryCorrupt = Self(rawValue: "WT-REGISTRY-CORRUPT")
    /// The registry was written by a newer version.
    public static let registryNewer = Self(rawValue: "WT-REGISTRY-NEWER")
    /// The registry cannot be written.
    public static let registryReadOnly = Self(rawValue: "WT-REGISTRY-READONLY")
    /// The registry failed.
    public static let registry = Self(rawValue: "WT-REGISTRY")
    /// A system call failed.
    public static let system = Self(rawValue: "WT-SYSTEM")
}

extension EngineError {
    /// The one place where errors of the layers below become the engine's.
    package static func wrap(_ error: any Error, _ context: String) -> EngineError {
        switch error {
        case let error as EngineError: error
        case is CancellationError:
            EngineError(
                .cancelled, .retry,
                "\(context): the task was cancelled before it was done. Nothing is left half-made; try again.",
                cause: error)
        case let error as InvalidName: EngineError(.invalidInput, .retry, error.description, cause: error)
        case let error as RegistryError: .registry(error)
        case let error as SystemError: .system(error, context)
        case let error as GitError: .git(error, context)
        default: EngineError(.system, .retry, "\(context): \(error)", cause: error)
        }
    }

    private static func system(_ error: SystemError, _ context: String) -> EngineError {
        switch error.errno {
        case .noSpace, Errno(rawValue: 122):  // EDQUOT
            EngineError(
                .disk, .blocked, "\(context): no space is left (\(error)). Free space, then try again.", cause: error)
        case .readOnlyFileSystem:
            EngineError(
                .system, .blocked, "\(context): \(error). Remount it writable, then try again.", cause: error)
        case .permissionDenied, .notPermitted:
            EngineError(
                .system, .needsHuman, "\(context): \(error). Give this user the right to it, then try again.",
                cause: error)
        default: EngineError(.system, .retry, "\(context): \(error)", cause: error)
        }
    }

    private static func git(_ error: GitError, _ context: String) -> EngineError {
        // With any code: libgit2 calls a lock file that it may not create locked as well.
        if error.message.hasSuffix("Permission denied") {
            return EngineError(
                .system, .blocked,
                "\(context): \(error.message). Make that directory writable for user \(geteuid()), then try again; after a "
                    + "cleanup, `wtengine recover` finishes it.", cause: error)
        }
        if error.isLocked {
            return EngineError(
                .locked, .blocked,
                "\(context): \(error.message). Another git process holds the lock; when none runs, remove the .lock file "
                    + "that the message names, then try again.", cause: error)
        }
        if let directory = error.safeDirectory {
            let add = "git config --global --add safe.directory"
            return EngineError(
                .foreignOwner, .needsHuman,
                "\(context): \(error.message). If you trust it: `\(add) \(shellQuoted(directory))`; for a clone, which it gets "
                    + "when it cannot be written, also `\(add) \(shellQuoted(directory + "/.git"))`. `*` in that list counts "
                    + "for git, but not for libgit2 1.5.", cause: error)
        }
        return EngineError(
            .git, .needsHuman, "\(context): \(error). `git fsck` in the repository tells more.", cause: error)
    }

    private static func registry(_ error: RegistryError) -> EngineError {
        switch error {
        case .runExists(let run):
            EngineError(
                .runExists, .retry,
                "run \(run.key) exists already (\(run.state.rawValue), \(run.path)). A run id is used once: take a new one.",
                cause: error)
        case .activeRun(let run):
            EngineError(
                .runActive, .blocked,
                "\(run.key.issue) has an active \(run.role) run: \(run.key.run) (\(run.state.rawValue), \(run.path)). "
                    + "Detach it, or supersede it with --switch.", cause: error)
        case .creationInProgress(let run):
            EngineError(
                .inProgress, .blocked,
                "run \(run.key) is being created. Wait for it; if its process died, run `wtengine recover`.",
                cause: error)
        case .pathTaken(let path, let key):
            EngineError(.pathTaken, .blocked, "\(path) belongs to run \(key). Take another run id.", cause: error)
        case .limitReached(let what, let limit):
            EngineError(
                .limit, .blocked,
                "the limit of \(limit) for \(what) is reached. Clean up runs (`wtengine list`, `wtengine sweep`) or raise "
                    + "[limits] in config.toml.", cause: error)
        case .stale(let run, let successor):
            EngineError(
                .stale, .retry,
                "run \(run.key) was superseded"
                    + (successor.map { "; the active run is \($0)" } ?? " and no run is active now")
                    + ". Stop this worker: its report changes nothing, and its workdir stays as it is.", cause: error)
        case .unknownRun(let key):
            EngineError(.unknownRun, .retry, "no run \(key) is known. `wtengine list` shows the runs.", cause: error)
        case .illegalTransition(let run, let state):
            EngineError(
                .state, .retry,
                "run \(run.key) is \(run.state.rawValue)\(run.outcome.map { " (\($0.rawValue))" } ?? "") and cannot become "
                    + "\(state.rawValue)."
                    + ([.creating, .cleaning].contains(run.state)
                        ? " Wait for it; if its process died, run `wtengine recover`." : ""),
                cause: error)
        case .corrupt(let path, let detail):
            EngineError(
                .registryCorrupt, .needsHuman,
                "the registry \(path) is damaged (\(detail)). `wtengine recover --rebuild` sets it aside and rebuilds it "
                    + "from the workdirs on disk.", cause: error)
        case .newer(let path):
            EngineError(
                .registryNewer, .needsHuman,
                "the registry \(path) was written by a newer wtengine. Install that version; this one changes nothing.",
                cause: error)
        case .readOnly(let path):
            EngineError(
                .registryReadOnly, .needsHuman,
                "the registry \(path) cannot be opened for writing. Check the rights and the mount of its directory, or "
                    + "name another with --state.", cause: error)
        case .busy(let path):
            EngineError(
                .locked, .blocked, "the registry \(path) was locked by other processes for 10 s. Try again.",
                cause: error)
        case .full(let path):
            EngineError(
                .disk, .blocked,
                "no space is left for the registry \(path). Free some by other means, since every command of wtengine needs "
                    + "a little, then try again.", cause: error)
        case .database(let path, let detail):
            EngineError(
                .registry, .needsHuman, "the registry \(path) failed: \(detail). `wtengine doctor` tells more.",
                cause: error)
        }
    }
}
