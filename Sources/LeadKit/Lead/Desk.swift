import Logging
import Synchronization
public import WorktreeEngine

extension Lead {
    /// What a Lead may be told beside its profile.
    public struct Options: Sendable {
        /// How often it looks for issues.
        public var interval: Duration = .seconds(30)
        /// How long a worker gets to end by itself: between SIGTERM and SIGKILL when its lease is over, and when the Lead
        /// stops, before it is left to the next Lead.
        public var grace: Duration = .seconds(30)
        /// How many runs in a row an issue gets when workers die or hang, each with a workdir of its own.
        public var attempts = 2
        /// How often the policies are applied; see ``Engine/sweep()``.
        public var sweepInterval: Duration = .seconds(600)
        /// How long the context pack of a run is kept at least after its end, whenever its workdir goes: a week.
        public var packRetention: Duration = .seconds(7 * 24 * 3600)

        /// The defaults.
        public init() {}
    }
}

/// What every attempt of a Lead works with.
struct Desk: Sendable {
    let profile: Profile
    let engine: Engine
    let outbox: any Outbox
    let gate: TaskGate
    /// Run by `/bin/sh -c`, once for each run.
    let command: String
    let options: Lead.Options
    let logger: Logger
    let workers = Workers()

    /// The parent of the context packs.
    var packs: String { "\(engine.configuration.state)/packs" }
}

/// The workers that are being waited for.
final class Workers: Sendable {
    private struct State {
        var waiting: [RunKey: Worker] = [:]
        var isLeaving = false
    }

    private let state = Mutex(State())

    func add(_ worker: Worker, of key: RunKey) {
        let isLeaving = state.withLock { state in
            state.waiting[key] = worker
            return state.isLeaving
        }
        if isLeaving { worker.leave() }
    }

    func remove(_ key: RunKey) { _ = state.withLock { $0.waiting.removeValue(forKey: key) } }

    /// Leaves all, and all that come, as they are.
    func leave() {
        let workers = state.withLock { state in
            state.isLeaving = true
            return Array(state.waiting.values)
        }
        for worker in workers { worker.leave() }
    }
}

extension EngineError.Code {
    /// The outbox could not be used.
    public static let outbox = Self(rawValue: "WT-OUTBOX")
    /// Another Lead works for the role.
    public static let leadRunning = Self(rawValue: "WT-LEAD-RUNNING")
    /// The context pack of a run could not be written.
    public static let pack = Self(rawValue: "WT-PACK")
}

extension EngineError {
    /// An outbox that does not answer may answer later; one that says no needs a person.
    package init(_ error: OutboxError) {
        let disposition: Disposition =
            switch error.kind {
            case .unreachable, .missing: .blocked
            case .refused, .damaged: .needsHuman
            }
        self.init(.outbox, disposition, error.message, cause: error)
    }
}
