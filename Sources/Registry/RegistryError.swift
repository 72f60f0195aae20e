/// Why the registry refused or could not answer.
public enum RegistryError: Error, Sendable {
    /// The pair is taken; run ids are never used twice.
    case runExists(Run)
    /// Another run of the same issue and role is active.
    case activeRun(Run)
    /// Another run of the same issue and role is being created.
    case creationInProgress(Run)
    /// The path belongs to another run.
    case pathTaken(String, by: RunKey)
    /// A limit is reached: what is limited, and the limit.
    case limitReached(String, limit: Int)
    /// The run was superseded; the run that is active now, or else the successor that ended.
    case stale(Run, successor: String?)
    /// No such run.
    case unknownRun(RunKey)
    /// The state machine has no such step.
    case illegalTransition(Run, to: RunState)
    /// The file is not a registry, or is damaged.
    case corrupt(path: String, detail: String)
    /// The file was written by a newer version.
    case newer(path: String)
    /// The file cannot be written.
    case readOnly(path: String)
    /// Other processes held the write lock for too long.
    case busy(path: String)
    /// The disk is full.
    case full(path: String)
    /// Any other failure of the database.
    case database(path: String, detail: String)
}
