import GRDB
import Glibc
import Logging
public import WorktreeEngine

import struct Foundation.Date

/// An outbox in a SQLite database that other programs write to as well; docs/workflow.md describes its tables.
///
/// Each call opens the file, makes one short transaction, and closes it again. So nothing of ours is in another
/// writer's way between two calls, and a file that was replaced, by a backup for example, is the one that is read. A
/// transaction that writes is `IMMEDIATE`: it waits for its turn at its beginning and cannot fail half-way for being
/// late. The journal mode is left as the owner of the file has set it.
public struct SQLiteOutbox: Outbox {
    /// The database file.
    public let path: String
    private let labels: Labels
    private let actor: String
    private let patience: Duration
    private let logger = Logger(label: "wtengine.outbox")

    /// Looks at a database that exists; see ``create(_:)``. Blocks for as long as another writer has the file locked, at
    /// most ten seconds.
    /// - Parameters:
    ///   - path: an absolute path.
    ///   - actor: who stands in `outbox_events`.
    /// - Throws: ``OutboxError``, which names the table or column that is missing.
    public init(path: String, labels: Labels = Labels(), actor: String = "wtengine") throws(OutboxError) {
        try self.init(path: path, labels: labels, actor: actor, patience: .seconds(10))
    }

    /// - Parameter patience: how long a call waits for the locks of others.
    init(path: String, labels: Labels, actor: String, patience: Duration) throws(OutboxError) {
        self.path = realPath(path) ?? path
        self.labels = labels
        self.actor = actor
        self.patience = patience
        do { try connect().read { try SQLiteSchema.check($0, self.path) } } catch { throw map(error) }
    }

    /// `sqlite:` and the path.
    public var name: String { "sqlite:\(path)" }

    /// See ``Outbox/issues(labelled:assignedTo:)``. The oldest issue is the one with the smallest number.
    public func issues(
        labelled labels: Set<String>, assignedTo assignee: String
    ) async throws(OutboxError) -> [Issue] {
        try await read { db in
            var conditions: [SQL] = ["t.assignee = \(assignee)", "coalesce(t.is_closed, 0) = 0"]
            for label in labels {
                conditions.append(
                    """
                    EXISTS (SELECT 1 FROM outbox_thread_labels l WHERE l.thread_id = t.thread_id AND l.label = \(label))
                    """)
            }
            return try issues(db, where: "\(conditions.joined(operator: .and))").filter { !$0.isGated }
        }
    }

    /// See ``Outbox/issue(_:)``.
    public func issue(_ ref: IssueRef) async throws(OutboxError) -> Issue {
        let thread = try thread(of: ref)
        return try await read { db in try issue(db, thread) }
    }

    /// See ``Outbox/apply(_:)``. One transaction, so that no interrupted call leaves half of it.
    @discardableResult
    public func apply(_ update: IssueUpdate) async throws(OutboxError) -> UpdateResult {
        guard IssueUpdate.trigger(in: update.body) == update.trigger else {
            throw OutboxError(
                .refused,
                "the event for \(update.issue) does not name its trigger \(update.trigger) in its header, by "
                    + "which it would be found again. It was not written.")
        }
        let thread = try thread(of: update.issue)
        return try await write { db in
            let issue = try issue(db, thread)
            if try hasEvent(db, thread, trigger: update.trigger) { return .alreadyApplied }
            if issue.isGated { return .gated }
            if issue.isClosed { return .closed }
            let state = issue.state(labels)
            if let required = update.requires, required != state { return .notApplicable(state) }
            if let new = update.state { try setState(db, thread, new) }
            if update.needsHuman { try addLabel(db, thread, labels.needsHuman) }
            try db.execute(
                sql: """
                    INSERT INTO outbox_events (thread_id, actor, body, created_at)
                        VALUES (:thread, :actor, :body, datetime('now'));
                    UPDATE outbox_threads SET updated_at = datetime('now') WHERE thread_id = :thread;
                    """,
                arguments: ["thread": thread, "actor": actor, "body": update.body])
            return .applied
        }
    }

    /// A value of `outbox_kv`.
    public func value(_ key: String) async throws(OutboxError) -> String? {
        try await read { db in
            try String.fetchOne(
                db, sql: "SELECT CAST(value AS TEXT) FROM outbox_kv WHERE key = ?", arguments: [key])
        }
    }

    /// Sets or, with nil, removes a value of `outbox_kv`.
    public func setValue(_ value: String?, for key: String) async throws(OutboxError) {
        try await write { db in
            // Not an upsert, which needs a unique key that the owner of the table may not have declared.
            try db.execute(sql: "DELETE FROM outbox_kv WHERE key = ?", arguments: [key])
            guard let value else { return }
            try db.execute(
                sql: "INSERT INTO outbox_kv (key, value, updated_at) VALUES (?, ?, datetime('now'))",
                arguments: [key, value])
        }
    }

    /// Does nothing: nothing is open between two calls.
    public func close() async {}

    // MARK: Rows

    /// The number of an issue of ours, `local#12`.
    private func thread(of ref: IssueRef) throws(OutboxError) -> Int64 {
        guard ref.description.hasPrefix("local#"), let number = Int64(ref.description.dropFirst("local#".count)) else {
            throw OutboxError(.missing, "\(ref) is no issue of \(path), whose issues are called local#1 and so on.")
        }
        return number
    }

    private func issue(_ db: Database, _ thread: Int64) throws -> Issue {
        guard let issue = try issues(db, where: "t.thread_id = \(thread)").first else {
            throw OutboxError(.missing, "\(path) has no issue local#\(thread).")
        }
        return issue
    }

    /// Casts, since a column of SQLite holds values of any type. See: https://sqlite.org/datatype3.html
    private func issues(_ db: Database, where condition: SQL) throws -> [Issue] {
        let request: SQLRequest<Row> = """
            SELECT t.thread_id, CAST(coalesce(t.title, '') AS TEXT) AS title, CAST(coalesce(t.body, '') AS TEXT) AS body,
                CAST(t.assignee AS TEXT) AS assignee, coalesce(t.is_closed, 0) <> 0 AS is_closed,
                CAST(coalesce(strftime('%s', t.updated_at), strftime('%s', t.created_at), 0) AS INTEGER) AS updated
                FROM outbox_threads t WHERE \(condition) ORDER BY t.thread_id
            """
        return try request.fetchAll(db).compactMap { row in
            let thread: Int64 = try row.decode(forColumn: "thread_id")
            guard let ref = try? IssueRef("local#\(thread)") else {
                // One row of somebody else's must not be in the way of all others.
                logger.warning(
                    "a thread whose number names no issue", metadata: ["path": "\(path)", "id": "\(thread)"])
                return nil
            }
            let updated: Int64 = try row.decode(forColumn: "updated")
            let labels = try Set(
                String.fetchAll(
                    db, sql: "SELECT CAST(coalesce(label, '') AS TEXT) FROM outbox_thread_labels WHERE thread_id = ?",
                    arguments: [thread]))
            let title: String = try row.decode(forColumn: "title")
            let assignee: String? = try row.decode(forColumn: "assignee")
            return Issue(
                ref: ref, title: title.split(whereSeparator: \.isNewline).joined(separator: " "),
                body: try row.decode(forColumn: "body"), labels: labels, assignees: assignee.map { [$0] } ?? [],
                isClosed: try row.decode(forColumn: "is_closed"), isGated: self.labels.isGated(labels),
                updatedAt: Date(timeIntervalSince1970: Double(updated)))
        }
    }

    /// Whether an event of the thread has this trigger in its header.
    private func hasEvent(_ db: Database, _ thread: Int64, trigger: String) throws -> Bool {
        let bodies = try String.fetchCursor(
            db, sql: "SELECT CAST(body AS TEXT) FROM outbox_events WHERE thread_id = ? AND instr(body, ?) > 0",
            arguments: [thread, trigger])
        return try bodies.contains { IssueUpdate.trigger(in: $0) == trigger }
    }

    private func setState(_ db: Database, _ thread: Int64, _ state: TaskState) throws {
        let others = labels.stateNames.subtracting([labels.name(of: state)])
        let request: SQL = "DELETE FROM outbox_thread_labels WHERE thread_id = \(thread) AND label IN \(others)"
        try db.execute(literal: request)
        try addLabel(db, thread, labels.name(of: state))
    }

    private func addLabel(_ db: Database, _ thread: Int64, _ label: String) throws {
        try db.execute(
            literal: """
                INSERT INTO outbox_thread_labels (thread_id, label) SELECT \(thread), \(label)
                    WHERE NOT EXISTS (SELECT 1 FROM outbox_thread_labels WHERE thread_id = \(thread) AND label = \(label))
                """)
    }

    // MARK: Access

    private func read<T: Sendable>(
        _ body: @escaping @Sendable (Database) throws -> T
    ) async throws(OutboxError) -> T {
        do {
            return try await blocking {
                try connect().read { db in
                    try SQLiteSchema.check(db, path)
                    return try body(db)
                }
            }
        } catch { throw map(error) }
    }

    private func write<T: Sendable>(
        _ body: @escaping @Sendable (Database) throws -> T
    ) async throws(OutboxError) -> T {
        do {
            // By our own thread and not by GRDB's async methods, which a cancelled task interrupts: a Lead that is told to
            // stop still writes what it has begun to say.
            return try await blocking {
                var result: T?
                try connect().inTransaction(.immediate) { db in
                    try SQLiteSchema.check(db, path)
                    result = try body(db)
                    return .commit
                }
                return result!
            }
        } catch { throw map(error) }
    }

    private func connect() throws -> DatabaseQueue {
        // SQLite would make a file that is missing.
        var value = stat()
        guard stat(path, &value) == 0 else {
            throw OutboxError(
                .unreachable,
                "the outbox \(path) cannot be found: \(String(cString: strerror(errno))). Put it there, or "
                    + "correct `path` in workflow.toml.")
        }
        guard value.st_mode & S_IFMT == S_IFREG else {
            throw OutboxError(.damaged, "the outbox \(path) is not a regular file. Correct `path` in workflow.toml.")
        }
        return try SQLiteSchema.connect(path, patience: patience)
    }

    private func map(_ error: any Error) -> OutboxError {
        switch error {
        case let error as OutboxError: error
        case let error as DatabaseError: SQLiteSchema.error(error, path)
        default: OutboxError(.damaged, "\(path): \(error).")
        }
    }
}
