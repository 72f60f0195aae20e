import Glibc
import Logging
public import Registry

import struct Foundation.Date

extension Engine {
    /// Binds a worker process to the run. Binding the same process again changes nothing; another one may take over
    /// when the first is gone.
    /// - Parameter pid: a process of this machine. Its start time is kept, so that a later one with its pid is not it.
    /// - Throws: ``EngineError/Code/stale`` for a superseded run; ``EngineError/Code/noProcess``;
    ///   ``EngineError/Code/state`` for a run that has ended, or whose worker is alive.
    @discardableResult
    public func attach(_ key: RunKey, process pid: Int32) async throws(EngineError) -> Run {
        try await Self.catching("attach \(key)") {
            let lease = try Lease(key, state: self.configuration.state)
            defer { lease.release() }
            let run = try await self.run(key)
            let worker = ProcessTable.worker(pid)
            if !run.superseded {
                guard worker != nil else {
                    throw EngineError(
                        .noProcess, .retry,
                        "there is no process \(pid), so it cannot be attached to run \(key). Start the worker "
                            + "first, then attach its pid.")
                }
                if run.state == .attached, let bound = run.worker {
                    if bound == worker { return run }
                    if ProcessTable.isAlive(bound) {
                        throw EngineError(
                            .state, .retry,
                            "run \(key) is attached to process \(bound.pid) on \(bound.host), which is alive. Detach it first."
                        )
                    }
                }
            }
            return try await self.reporting(key) {
                try await self.registry.transition(
                    key, from: [.ready, .attached], to: .attached, action: .attach, detail: "pid \(pid)",
                    reporting: true
                ) { $0.worker = worker }
            }
        }
    }

    /// Releases the worker and records how the run ended, which starts the clock of the outcome's policy. The same
    /// report again changes nothing.
    ///
    /// With the policy `immediate` the workdir is cleaned up now; when that is refused, the run stays detached or is
    /// quarantined, and its ``Run/state`` and ``Run/reason`` say so. A cancelled task reports like any other, since a
    /// scheduler that is being stopped has ends to report; it only leaves that cleanup to the next sweep.
    /// - Throws: ``EngineError/Code/stale`` for a superseded run; ``EngineError/Code/state`` for one that has ended
    ///   otherwise.
    @discardableResult
    public func detach(_ key: RunKey, outcome: Outcome) async throws(EngineError) -> Run {
        try await Self.catching("detach \(key)") {
            let detached = try await self.recordDetach(key, outcome)
            guard detached.state == .detached, self.configuration.policy(for: outcome) == .immediate else {
                return detached
            }
            _ = try await self.applyPolicy(detached)
            return try await self.run(key)
        }
    }

    private func recordDetach(_ key: RunKey, _ outcome: Outcome) async throws -> Run {
        let lease = try Lease(key, state: configuration.state)
        defer { lease.release() }
        let run = try await self.run(key)
        // Whatever became of it since: the outcome stands.
        if !run.superseded, run.endedAt != nil, run.outcome == outcome { return run }
        return try await reporting(key) {
            try await self.registry.transition(
                key, from: [.ready, .attached], to: .detached, action: .detach, detail: outcome.rawValue,
                reporting: true
            ) { run in
                run.outcome = outcome
                run.endedAt = Date()
            }
        }
    }

    /// A refused late report is kept in the audit log, for a person to read.
    private func reporting(_ key: RunKey, _ body: () async throws -> Run) async throws -> Run {
        do { return try await body() } catch RegistryError.stale(let run, let successor) {
            metrics.reportRefused()
            try await registry.note(
                .staleReport, run: run,
                detail: "refused: superseded by \(run.supersededBy ?? successor ?? "another run")")
            throw RegistryError.stale(run, successor: successor)
        }
    }

    /// Keeps the workdir from every cleanup until ``unlock(_:)``.
    /// - Throws: ``EngineError/Code/invalidInput`` for an empty reason; ``EngineError/Code/state``.
    @discardableResult
    public func lock(_ key: RunKey, reason: String) async throws(EngineError) -> Run {
        try await Self.catching("lock \(key)") {
            let line = reason.split(whereSeparator: \.isNewline).joined(separator: " ")
            guard !line.isEmpty else {
                throw EngineError(
                    .invalidInput, .retry, "a lock needs a reason, so that the next person knows when it may go.")
            }
            return try await self.setLock(key, line)
        }
    }

    /// Allows cleanups again.
    /// - Throws: ``EngineError/Code/unknownRun``, ``EngineError/Code/state``.
    @discardableResult
    public func unlock(_ key: RunKey) async throws(EngineError) -> Run {
        try await Self.catching("unlock \(key)") { try await self.setLock(key, nil) }
    }

    private func setLock(_ key: RunKey, _ reason: String?) async throws -> Run {
        let lease = try Lease(key, state: configuration.state)
        defer { lease.release() }
        let current = try await run(key)
        guard [.ready, .attached, .detached, .quarantined].contains(current.state) else {
            throw EngineError(
                .state, .retry, "run \(key) is \(current.state.rawValue): it has no workdir to keep or to give free.")
        }
        let run = try await registry.transition(
            key, from: [.ready, .attached, .detached, .quarantined], to: current.state,
            action: reason == nil ? .unlock : .lock, detail: reason
        ) { $0.lockReason = reason }
        // What git shows; the registry decides. A workdir that is gone has nothing to show it in.
        if access(AdminEntry.gitDir(run), F_OK) == 0 { try await actor(for: run.commonDir).rewriteLock(run) }
        return run
    }
}
