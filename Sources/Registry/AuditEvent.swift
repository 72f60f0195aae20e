public import struct Foundation.Date

/// One line of the audit log. Rows are only ever added.
public struct AuditEvent: Hashable, Sendable, Identifiable {
    /// What was done. New kinds may be added, so a `switch` needs a default.
    public struct Kind: Hashable, Sendable, RawRepresentable, ExpressibleByStringLiteral, CustomStringConvertible {
        /// The word in the audit log, which does not change.
        public let rawValue: String
        /// Wraps a word, for example one read from a log.
        public init(rawValue: String) { self.rawValue = rawValue }
        /// Wraps a word.
        public init(stringLiteral value: String) { rawValue = value }
        /// The word.
        public var description: String { rawValue }
    }

    /// Ascending in the order of commits: who has seen one id has seen all below it.
    public let id: Int64
    /// When.
    public let at: Date
    /// Who: `user@host:pid` or what the configuration says.
    public let actor: String
    /// The run; nil for events of the engine itself.
    public let key: RunKey?
    /// The workdir.
    public let path: String?
    /// What was done.
    public let action: Kind
    /// The state before; nil when there was none.
    public let from: RunState?
    /// The state after.
    public let to: RunState?
    /// More, as text for a person: the reason of a refusal, the commit that was dropped.
    public let detail: String?
}

extension AuditEvent.Kind {
    /// The intent to create a run is recorded. The detail names the base.
    public static let spawnBegin = Self(rawValue: "spawn.begin")
    /// git could not add a worktree, and a clone takes its place. The detail is what git said.
    public static let spawnFallback = Self(rawValue: "spawn.fallback")
    /// The workdir is clean and available. The detail names the materializer.
    public static let spawnReady = Self(rawValue: "spawn.ready")
    /// A creation failed and was undone; the run is forgotten. The detail is the failure.
    public static let spawnRolledBack = Self(rawValue: "spawn.rolled-back")
    /// Another run took the place of this one. The detail names it.
    public static let superseded = Self(rawValue: "superseded")
    /// A worker was bound. The detail names its pid.
    public static let attach = Self(rawValue: "attach")
    /// The run has ended. The detail is the outcome.
    public static let detach = Self(rawValue: "detach")
    /// A report of a superseded run was refused.
    public static let staleReport = Self(rawValue: "report.stale")
    /// A person keeps the workdir from any cleanup. The detail is the reason.
    public static let lock = Self(rawValue: "lock")
    /// Cleanups are allowed again.
    public static let unlock = Self(rawValue: "unlock")
    /// A removal has begun. The detail has the plan's token, and the work that is dropped on request.
    public static let cleanupIntent = Self(rawValue: "cleanup.intent")
    /// In the trash everything was as planned.
    public static let cleanupChecked = Self(rawValue: "cleanup.checked")
    /// The workdir is gone.
    public static let cleanupDone = Self(rawValue: "cleanup.done")
    /// A removal was refused; the workdir is as it was. The detail is the reason.
    public static let cleanupRefused = Self(rawValue: "cleanup.refused")
    /// A removal stopped half-way; `recover` goes on with it. The detail is the failure.
    public static let cleanupFailed = Self(rawValue: "cleanup.failed")
    /// A person has to look. The detail is the reason.
    public static let quarantined = Self(rawValue: "quarantined")
    /// The run was found on disk when the registry was lost.
    public static let rebuilt = Self(rawValue: "rebuilt")
    /// An issue has to be told something, which is kept until its outbox has it. The detail is the trigger.
    public static let messageKept = Self(rawValue: "message.kept")
    /// The outbox took a kept message. The detail is the trigger and what the outbox did.
    public static let messageDelivered = Self(rawValue: "message.delivered")
    /// A kept message was given up. The detail is the trigger and the reason.
    public static let messageRefused = Self(rawValue: "message.refused")
}
