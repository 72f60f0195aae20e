public import Foundation
import GRDB
import Synchronization

/// The durable record of runs and the audit log: one SQLite database in WAL mode, shared by any number of processes.
///
/// Every state change and its audit row are one transaction. Methods suspend while SQLite works on GRDB's own
/// queues, so none blocks the cooperative pool. Thread-safe: `DatabasePool` is documented to be.
///
/// A cancelled task changes nothing here: what was asked for is done. An undo that its own cancellation stopped would
/// leave a run half-made.
public final class Registry: Sendable {
    /// The database file.
    public let path: String
    private let pool: DatabasePool
    let commits = Commits()
    let actor: String
    let rootMarkers = Mutex<[String: String]>([:])

    /// Opens the registry at `path`, and creates or migrates it first where that is needed.
    /// - Parameter actor: who stands in the audit log, for example `user@host:pid`.
    /// - Throws: ``RegistryError/corrupt(path:detail:)``, ``RegistryError/newer(path:)``,
    ///   ``RegistryError/readOnly(path:)`` and others.
    public init(path: String, actor: String) throws(RegistryError) {
        self.path = path
        self.actor = actor
        pool = try Self.catching(path) {
            var configuration = GRDB.Configuration()
            configuration.busyMode = .timeout(10)
            configuration.label = "wtengine.registry"
            let pool = try DatabasePool(path: path, configuration: configuration)
            let migrator = Schema.migrator
            let isCurrent = try pool.read { db in
                if try migrator.hasBeenSuperseded(db) { throw RegistryError.newer(path: path) }
                return try migrator.hasCompletedMigrations(db)
            }
            if !isCurrent { try Self.migrate(pool, migrator) }
            return pool
        }
    }

    /// Others that open the same new file make the same steps at the same time: whoever is slower in one fails in it, and
    /// goes on from there.
    private static func migrate(_ pool: DatabasePool, _ migrator: DatabaseMigrator) throws {
        for attempt in 1... {
            do { return try migrator.migrate(pool) } catch {
                if try pool.read(migrator.hasCompletedMigrations) { return }
                guard attempt < 20 else { throw error }
                usleep(10_000)
            }
        }
    }

    // MARK: Reading

    /// One run; nil when there is none.
    public func run(_ key: RunKey) async throws(RegistryError) -> Run? {
        try await read { try Self.fetch($0, key) }
    }

    /// The run whose workdir is `path`; nil when there is none.
    public func run(atPath path: String) async throws(RegistryError) -> Run? {
        try await read { db in
            try Row.fetchOne(db, sql: "SELECT * FROM runs WHERE path = ?", arguments: [path]).map(Run.init(row:))
        }
    }

    /// Runs that match every given condition, oldest first.
    public func runs(
        commonDir: String? = nil, issue: IssueRef? = nil, states: Set<RunState>? = nil
    ) async throws(RegistryError) -> [Run] {
        try await read { db in
            var conditions: [SQL] = ["1"]
            if let commonDir { conditions.append("common_dir = \(commonDir)") }
            if let issue { conditions.append("issue = \(issue.description)") }
            if let states { conditions.append("state IN \(states.map(\.rawValue))") }
            let request: SQLRequest<Row> = "SELECT * FROM runs WHERE \(conditions.joined(operator: .and)) ORDER BY id"
            return try request.fetchAll(db).map(Run.init(row:))
        }
    }

    /// How many runs are in each state; ``RunState/removed`` is left out, which only grows.
    public func runCounts() async throws(RegistryError) -> [RunState: Int] {
        try await read { db in
            let rows = try Row.fetchAll(
                db, sql: "SELECT state, count(*) AS runs FROM runs WHERE state <> 'removed' GROUP BY state")
            var counts: [RunState: Int] = [:]
            for row in rows { try counts[decode(row, "state")] = row["runs"] as Int }
            return counts
        }
    }

    /// Audit rows that match every given condition, oldest first.
    public func audit(
        issue: IssueRef? = nil, run: RunID? = nil, since: Date? = nil
    ) async throws(RegistryError) -> [AuditEvent] {
        try await read { db in
            var conditions: [SQL] = ["1"]
            if let issue { conditions.append("issue = \(issue.description)") }
            if let run { conditions.append("run = \(run.description)") }
            if let since { conditions.append("at >= \(since.milliseconds)") }
            let request: SQLRequest<Row> = "SELECT * FROM audit WHERE \(conditions.joined(operator: .and)) ORDER BY id"
            return try request.fetchAll(db).map(AuditEvent.init(row:))
        }
    }

    /// SQLite's own verdict on the file: empty when it is sound. See: https://sqlite.org/pragma.html#pragma_quick_check
    public func integrityProblems() async throws(RegistryError) -> [String] {
        try await read { try String.fetchAll($0, sql: "PRAGMA quick_check").filter { $0 != "ok" } }
    }

    // MARK: Access

    // By GRDB's methods with callbacks: its async ones throw `CancellationError` when the task is cancelled.

    func read<T: Sendable>(
        _ body: @escaping @Sendable (Database) throws -> T
    ) async throws(RegistryError) -> T {
        let result = await withCheckedContinuation { continuation in
            pool.asyncRead { database in continuation.resume(returning: Result { try body(database.get()) }) }
        }
        do { return try result.get() } catch { throw Self.map(error, path) }
    }

    @discardableResult
    func write<T: Sendable>(
        durable: Bool = false, _ body: @escaping @Sendable (Database) throws -> T
    ) async throws(RegistryError) -> T {
        let result = await onWriter { [commits] db in
            let value = try Self.transaction(db, durable: durable, body)
            commits.add()
            return value
        }
        do { return try result.get() } catch { throw Self.map(error, path) }
    }

    /// Uses the one connection that writes, outside of a transaction.
    func onWriter<T: Sendable>(_ body: @escaping @Sendable (Database) throws -> T) async -> Result<T, any Error> {
        await withCheckedContinuation { continuation in
            pool.asyncWriteWithoutTransaction { db in continuation.resume(returning: Result { try body(db) }) }
        }
    }

    private static func transaction<T>(_ db: Database, durable: Bool, _ body: (Database) throws -> T) throws -> T {
        // The pragma may not change inside a transaction, and WAL defaults to NORMAL here, which syncs at checkpoints
        // only. See: https://sqlite.org/pragma.html#pragma_synchronous
        if durable { try db.execute(sql: "PRAGMA synchronous = FULL") }
        defer { if durable { try? db.execute(sql: "PRAGMA synchronous = NORMAL") } }
        var result: T?
        try db.inTransaction(.immediate) {
            result = try body(db)
            return .commit
        }
        return result!
    }

    private static func catching<T>(_ path: String, _ body: () throws -> T) throws(RegistryError) -> T {
        do { return try body() } catch { throw map(error, path) }
    }

    /// Whether there is room for the least that opening writes, the 32 KiB of `-shm`. See: man 3 statvfs
    private static func hasRoom(_ path: String) -> Bool {
        var value = statvfs()
        return statvfs(path, &value) != 0 || UInt(value.f_bavail) * UInt(value.f_frsize) >= 1 << 16
    }

    static func map(_ error: any Error, _ path: String) -> RegistryError {
        if let error = error as? RegistryError { return error }
        if let error = error as? InvalidName { return .corrupt(path: path, detail: error.description) }
        if error is DecodingError { return .corrupt(path: path, detail: "\(error)") }
        guard let error = error as? DatabaseError else { return .database(path: path, detail: "\(error)") }
        return switch error.resultCode {
        case .SQLITE_CORRUPT, .SQLITE_NOTADB: .corrupt(path: path, detail: error.message ?? "\(error)")
        case .SQLITE_READONLY, .SQLITE_CANTOPEN, .SQLITE_PERM: .readOnly(path: path)
        case .SQLITE_BUSY, .SQLITE_LOCKED: .busy(path: path)
        case .SQLITE_FULL: .full(path: path)
        // Opening makes `-wal` and `-shm`; where these find no room, SQLite calls it an I/O error.
        case .SQLITE_IOERR where !hasRoom(path): .full(path: path)
        default: .database(path: path, detail: "\(error)")
        }
    }
}

extension AuditEvent {
    init(row: Row) throws {
        let issue: String? = row["issue"]
        let run: String? = row["run"]
        self.init(
            id: row["id"], at: Date(milliseconds: row["at"]), actor: row["actor"],
            key: try issue.flatMap { issue in try run.map { try RunKey(issue: issue, run: $0) } }, path: row["path"],
            action: Kind(rawValue: row["action"]), from: (row["from_state"] as String?).flatMap(RunState.init),
            to: (row["to_state"] as String?).flatMap(RunState.init), detail: row["detail"])
    }
}
