import Foundation
import GRDB
import Synchronization

/// Everything that changes the registry: each method is one transaction of a state change and its audit row.
extension Registry {
    // MARK: Creating

    /// Records the intent to create a run: the one place where runs, paths and limits are decided.
    ///
    /// - Parameter switching: the run may coexist with the active one until ``activate(_:identity:)`` supersedes it.
    /// - Returns: the row, in state `creating`.
    /// - Throws: ``RegistryError/runExists(_:)``, ``RegistryError/activeRun(_:)``,
    ///   ``RegistryError/creationInProgress(_:)``, ``RegistryError/pathTaken(_:by:)``,
    ///   ``RegistryError/limitReached(_:limit:)``.
    public func begin(_ run: Run, switching: Bool, limits: Limits) async throws(RegistryError) -> Run {
        try await write { [self] db in
            try Self.checkConflicts(db, run, switching: switching)
            try Self.checkLimits(db, run, limits)
            let created = try insert(db, run, active: !switching)
            try record(db, .spawnBegin, run: created, from: nil, to: .creating, detail: "base \(run.base)")
            return created
        }
    }

    /// Makes a created run available, and supersedes the run that was active until now in the same transaction.
    /// - Returns: the run, and the one that it superseded.
    public func activate(
        _ key: RunKey, materializer: Materializer, identity: FileIdentity
    ) async throws(RegistryError) -> (run: Run, superseded: Run?) {
        try await write { [self] db in
            var run = try Self.require(db, key)
            guard run.state == .creating else { throw RegistryError.illegalTransition(run, to: .ready) }
            var superseded: Run?
            if let active = try Self.activeRun(db, run, besides: run.id) {
                var previous = active
                previous.superseded = true
                previous.supersededBy = key.run.description
                previous.outcome = .superseded
                previous.endedAt = Date()
                try update(db, &previous, from: active)
                try record(
                    db, .superseded, run: previous, from: previous.state, to: previous.state, detail: "by \(key.run)")
                superseded = previous
            }
            let before = run
            run.state = .ready
            run.identity = identity
            run.materializer = materializer
            try update(db, &run, from: before)
            try record(
                db, .spawnReady, run: run, from: .creating, to: .ready, detail: "\(run.materializer.rawValue)")
            return (run, superseded)
        }
    }

    /// Forgets a run that was never handed to anybody; the audit log keeps why.
    public func abandon(_ key: RunKey, detail: String) async throws(RegistryError) {
        try await write { [self] db in
            guard let run = try Self.fetch(db, key) else { return }
            guard run.state == .creating else { throw RegistryError.illegalTransition(run, to: .removed) }
            try db.execute(sql: "DELETE FROM runs WHERE id = ?", arguments: [run.id])
            try record(db, .spawnRolledBack, run: run, from: .creating, to: nil, detail: detail)
        }
    }

    /// Adds a run that was found on disk when the registry was lost; rows that exist stay as they are.
    /// - Returns: whether it was added.
    public func adopt(_ run: Run) async throws(RegistryError) -> Bool {
        try await write { [self] db in
            let taken = try db.row(
                "SELECT 1 FROM runs WHERE (issue = ? AND run = ?) OR path = ? OR admin_id = ?",
                [run.key.issue.description, run.key.run.description, run.path, run.adminID])
            if taken != nil { return false }
            var run = run
            if let active = try Self.activeRun(db, run, besides: 0) {
                var previous = active
                // The newest record is the active run: lost state comes back as in use, never as free.
                if previous.createdAt <= run.createdAt {
                    previous.superseded = true
                    previous.supersededBy = run.key.run.description
                    previous.endedAt = Date()
                    try update(db, &previous, from: active)
                } else {
                    run.superseded = true
                    run.supersededBy = previous.key.run.description
                    run.endedAt = Date()
                }
            }
            let added = try insert(db, run, active: run.isActive)
            try record(db, .rebuilt, run: added, from: nil, to: added.state, detail: nil)
            return true
        }
    }

    // MARK: Changing

    /// Changes a run and writes the audit row, in one transaction.
    ///
    /// - Parameters:
    ///   - from: the states that the step may start from.
    ///   - durable: the commit is on disk before this returns (`PRAGMA synchronous = FULL`), so that an intent is
    ///     known even after a power failure. Other commits survive a crash of the process.
    ///   - reporting: the step is a report of the run's own worker or Lead, which a superseded run may not make.
    ///   - change: alters the row; a state that may not follow is refused.
    /// - Throws: ``RegistryError/unknownRun(_:)``, ``RegistryError/stale(_:successor:)``,
    ///   ``RegistryError/illegalTransition(_:to:)``.
    @discardableResult
    public func transition(
        _ key: RunKey, from states: Set<RunState>, to state: RunState, action: AuditEvent.Kind, detail: String? = nil,
        durable: Bool = false, reporting: Bool = false, _ change: @escaping @Sendable (inout Run) -> Void = { _ in }
    ) async throws(RegistryError) -> Run {
        let body: @Sendable (Database) throws -> Run = { [self] db in
            var run = try Self.require(db, key)
            if reporting, run.superseded {
                throw RegistryError.stale(
                    run,
                    successor: try Self.activeRun(db, run, besides: run.id)?.key.run.description ?? run.supersededBy)
            }
            let old = run
            let before = run.state
            guard states.contains(before), before == state || before.successors.contains(state) else {
                throw RegistryError.illegalTransition(run, to: state)
            }
            change(&run)
            run.state = state
            try update(db, &run, from: old)
            try record(db, action, run: run, from: before, to: state, detail: detail)
            return run
        }
        return try await write(durable: durable, body)
    }

    /// Writes an audit row that changes no state, such as a refusal.
    public func note(_ action: AuditEvent.Kind, run: Run? = nil, detail: String?) async throws(RegistryError) {
        try await write { [self] db in
            try record(db, action, run: run, from: run?.state, to: run?.state, detail: detail)
        }
    }

    /// The marker that a root had when it was first used; nil for a root that is new.
    ///
    /// A root whose marker is another or missing is not mounted or was replaced: what is not visible there is not gone.
    public func rootMarker(_ path: String) async throws(RegistryError) -> String? {
        // A row of this table is never changed.
        if let known = rootMarkers.withLock({ $0[path] }) { return known }
        let marker = try await read {
            try String.fetchOne($0, sql: "SELECT marker FROM roots WHERE path = ?", arguments: [path])
        }
        if let marker { rootMarkers.withLock { $0[path] = marker } }
        return marker
    }

    /// Records the marker of a new root.
    /// - Returns: the marker that is recorded, which is another when a process was faster.
    public func recordRoot(_ path: String, marker: String) async throws(RegistryError) -> String {
        try await write { db in
            try db.execute(sql: "INSERT OR IGNORE INTO roots (path, marker) VALUES (?, ?)", arguments: [path, marker])
            return try String.fetchOne(db, sql: "SELECT marker FROM roots WHERE path = ?", arguments: [path]) ?? marker
        }
    }

    // MARK: Inside a transaction

    static func fetch(_ db: Database, _ key: RunKey) throws -> Run? {
        try db.row(
            "SELECT * FROM runs WHERE issue = ? AND run = ?",
            [key.issue.description, key.run.description]
        ).map(Run.init(row:))
    }

    private static func require(_ db: Database, _ key: RunKey) throws -> Run {
        guard let run = try fetch(db, key) else { throw RegistryError.unknownRun(key) }
        return run
    }

    private static func activeRun(_ db: Database, _ run: Run, besides id: Int64) throws -> Run? {
        try db.row(
            "SELECT * FROM runs WHERE issue = ? AND role = ? AND active = 1 AND id <> ?",
            [run.key.issue.description, run.role.description, id]
        ).map(Run.init(row:))
    }

    private static func checkConflicts(_ db: Database, _ run: Run, switching: Bool) throws {
        if let existing = try fetch(db, run.key) {
            throw existing.state == .creating
                ? RegistryError.creationInProgress(existing) : RegistryError.runExists(existing)
        }
        let creating = try db.row(
            "SELECT * FROM runs WHERE issue = ? AND role = ? AND state = 'creating'",
            [run.key.issue.description, run.role.description])
        if let creating { throw RegistryError.creationInProgress(try Run(row: creating)) }
        if !switching, let active = try activeRun(db, run, besides: 0) { throw RegistryError.activeRun(active) }
        if let owner = try db.row("SELECT * FROM runs WHERE path = ?", [run.path]) {
            throw RegistryError.pathTaken(run.path, by: try Run(row: owner).key)
        }
    }

    private static func checkLimits(_ db: Database, _ run: Run, _ limits: Limits) throws {
        if let limit = limits.perRepository {
            let count = try Int.fetchOne(
                db, sql: "SELECT count(*) FROM runs WHERE common_dir = ? AND state <> 'removed'",
                arguments: [run.commonDir])
            if count ?? 0 >= limit { throw RegistryError.limitReached("workdirs of \(run.repo)", limit: limit) }
        }
        if let limit = limits.perRole {
            // A run that is being switched out makes room for its successor.
            let count = try Int.fetchOne(
                db,
                sql: """
                    SELECT count(*) FROM runs WHERE common_dir = ? AND role = ? AND (active = 1 OR state = 'creating')
                    AND NOT (issue = ? AND active = 1)
                    """, arguments: [run.commonDir, run.role.description, run.key.issue.description])
            if count ?? 0 >= limit {
                throw RegistryError.limitReached("active \(run.role) runs in \(run.repo)", limit: limit)
            }
        }
    }

    private func insert(_ db: Database, _ run: Run, active: Bool) throws -> Run {
        let columns = run.columns(active: active) + [try run.encodedRemoval]
        try db.run(
            """
            INSERT INTO runs (\(columns.map(\.0).joined(separator: ", ")))
            VALUES (\(columns.map { _ in "?" }.joined(separator: ", ")))
            """, StatementArguments(columns.map(\.1)))
        var run = run
        run.id = db.lastInsertedRowID
        return run
    }

    /// Writes the columns that have changed: each that is named costs its indexes, changed or not.
    private func update(_ db: Database, _ run: inout Run, from before: Run) throws {
        // As they will be read back.
        run.updatedAt = Date().wholeMilliseconds
        run.endedAt = run.endedAt?.wholeMilliseconds
        let old = before.columns(active: before.holdsRole)
        var columns = zip(old, run.columns(active: run.holdsRole)).filter { old, new in
            // A run that is to supersede another is not active yet, whatever it says of itself.
            new.0 == "active" || old.1?.databaseValue != new.1?.databaseValue
        }.map(\.1)
        if run.removal != before.removal { columns.append(try run.encodedRemoval) }
        try db.run(
            "UPDATE runs SET \(columns.map { "\($0.0) = ?" }.joined(separator: ", ")) WHERE id = ?",
            StatementArguments(columns.map(\.1) + [run.id]))
    }

    private func record(
        _ db: Database, _ action: AuditEvent.Kind, run: Run?, from: RunState?, to: RunState?, detail: String?
    ) throws {
        try record(db, action, key: run?.key, path: run?.path, from: from, to: to, detail: detail)
    }

    func record(
        _ db: Database, _ action: AuditEvent.Kind, key: RunKey?, path: String?, from: RunState?, to: RunState?,
        detail: String?
    ) throws {
        try db.run(
            """
            INSERT INTO audit (at, actor, issue, run, path, action, from_state, to_state, detail)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                Date().milliseconds, actor, key?.issue.description, key?.run.description, path, action.rawValue,
                from?.rawValue, to?.rawValue, detail,
            ])
    }
}

/// Every statement is compiled once per connection.
extension Database {
    fileprivate func row(_ sql: String, _ arguments: StatementArguments) throws -> Row? {
        try Row.fetchOne(cachedStatement(sql: sql), arguments: arguments)
    }

    fileprivate func run(_ sql: String, _ arguments: StatementArguments) throws {
        try cachedStatement(sql: sql).execute(arguments: arguments)
    }
}
