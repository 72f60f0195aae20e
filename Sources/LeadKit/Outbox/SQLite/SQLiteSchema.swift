import GRDB
import Glibc

/// The tables of an outbox, and what is asked of those that somebody else has made.
enum SQLiteSchema {
    /// Table and column names. More of either do no harm.
    static let columns: [(table: String, columns: [String])] = [
        (
            "outbox_threads",
            ["thread_id", "title", "body", "assignee", "is_closed", "created_at", "updated_at", "closed_at"]
        ),
        ("outbox_thread_labels", ["thread_id", "label"]),
        ("outbox_events", ["event_id", "thread_id", "actor", "body", "created_at"]),
        ("outbox_kv", ["key", "value", "updated_at"]),
    ]

    /// Times are UTC in the form of SQLite's own `datetime('now')` and `CURRENT_TIMESTAMP`, `2026-02-14 10:00:00`, so that
    /// they sort with what other writers leave to a default.
    static let sql = """
        CREATE TABLE outbox_threads (
            thread_id INTEGER PRIMARY KEY AUTOINCREMENT,
            title TEXT NOT NULL,
            body TEXT NOT NULL DEFAULT '',
            assignee TEXT,
            is_closed INTEGER NOT NULL DEFAULT 0 CHECK (is_closed IN (0, 1)),
            created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
            updated_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
            closed_at TEXT
        );
        CREATE TABLE outbox_thread_labels (
            thread_id INTEGER NOT NULL REFERENCES outbox_threads (thread_id),
            label TEXT NOT NULL,
            PRIMARY KEY (thread_id, label)
        );
        CREATE TABLE outbox_events (
            event_id INTEGER PRIMARY KEY AUTOINCREMENT,
            thread_id INTEGER NOT NULL REFERENCES outbox_threads (thread_id),
            actor TEXT NOT NULL,
            body TEXT NOT NULL,
            created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
        );
        CREATE INDEX outbox_events_thread ON outbox_events (thread_id);
        CREATE TRIGGER outbox_events_are_append_only_update BEFORE UPDATE ON outbox_events
            BEGIN SELECT RAISE(ABORT, 'outbox_events is append-only'); END;
        CREATE TRIGGER outbox_events_are_append_only_delete BEFORE DELETE ON outbox_events
            BEGIN SELECT RAISE(ABORT, 'outbox_events is append-only'); END;
        CREATE TABLE outbox_kv (
            key TEXT PRIMARY KEY NOT NULL,
            value TEXT NOT NULL,
            updated_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
        );
        """

    /// Throws when a table or column is missing, or when a number is not given out by SQLite.
    static func check(_ db: Database, _ path: String) throws {
        for (table, names) in columns {
            guard try db.tableExists(table, in: "main") else {
                throw OutboxError(.damaged, "\(path) is no outbox: it has no table \(table). See docs/workflow.md.")
            }
            let found = try db.columns(in: table, in: "main")
            for name in names where !found.contains(where: { $0.name.lowercased() == name }) {
                throw OutboxError(
                    .damaged, "\(path) is no outbox: the table \(table) has no column \(name). See docs/workflow.md.")
            }
        }
        // Rows are inserted without a number. Only such a column gets one. See: https://sqlite.org/rowidtable.html
        for (table, name) in [("outbox_threads", "thread_id"), ("outbox_events", "event_id")] {
            let keys = try db.columns(in: table, in: "main").filter { $0.primaryKeyIndex > 0 }
            guard keys.count == 1, keys[0].name.lowercased() == name, keys[0].type.uppercased() == "INTEGER" else {
                throw OutboxError(
                    .damaged,
                    "\(path) is no outbox: \(name) of \(table) is not declared INTEGER PRIMARY KEY. See "
                        + "docs/workflow.md.")
            }
        }
    }

    /// Opens a file that exists. Neither the journal mode nor anything else that outlives the connection is changed.
    static func connect(_ path: String, patience: Duration) throws -> DatabaseQueue {
        var configuration = GRDB.Configuration()
        configuration.label = "wtengine.outbox"
        let (seconds, attoseconds) = patience.components
        configuration.busyMode = .timeout(Double(seconds) + Double(attoseconds) / 1e18)
        configuration.prepareDatabase { db in
            // What others have put into the file, such as triggers and views, is not trusted.
            // See: https://sqlite.org/security.html
            try db.execute(sql: "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON")
        }
        return try DatabaseQueue(path: path, configuration: configuration)
    }

    /// What a failure of SQLite means for a Lead.
    static func error(_ error: DatabaseError, _ path: String) -> OutboxError {
        // A trigger of somebody else's may say anything, and this goes into a line of the log.
        let detail = EventText.line(error.message ?? "\(error.resultCode)")
        return switch error.resultCode {
        case .SQLITE_BUSY, .SQLITE_LOCKED:
            OutboxError(
                .unreachable,
                "the outbox \(path) is locked by another program for too long (\(detail)). It is tried "
                    + "again; end the transaction of the other one.")
        case .SQLITE_FULL:
            OutboxError(.unreachable, "no space is left for the outbox \(path) (\(detail)). Free space.")
        case .SQLITE_CORRUPT, .SQLITE_NOTADB, .SQLITE_FORMAT, .SQLITE_ERROR, .SQLITE_SCHEMA, .SQLITE_MISMATCH,
            .SQLITE_TOOBIG:
            OutboxError(.damaged, "the outbox \(path) is damaged or no database (\(detail)). Restore it from a backup.")
        case .SQLITE_READONLY, .SQLITE_PERM, .SQLITE_AUTH:
            OutboxError(.refused, "the outbox \(path) cannot be written (\(detail)). Give this user the right to it.")
        case .SQLITE_CONSTRAINT:
            OutboxError(
                .refused,
                "the outbox \(path) does not take the row (\(detail)). Change the constraint or trigger that "
                    + "its owner has added.")
        default: OutboxError(.unreachable, "the outbox \(path) cannot be used now (\(detail)). It is tried again.")
        }
    }
}

extension SQLiteOutbox {
    /// Makes a database with the tables of an outbox, which has no issues yet. Blocks.
    /// - Parameter path: where there is no file yet.
    /// - Throws: ``OutboxError``.
    public static func create(_ path: String) throws(OutboxError) {
        // SQLite would open a file that exists.
        let file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
        guard file >= 0 else {
            throw OutboxError(.refused, "the outbox \(path) cannot be made: \(String(cString: strerror(errno))).")
        }
        Glibc.close(file)
        do {
            try SQLiteSchema.connect(path, patience: .seconds(10)).inTransaction(.immediate) { db in
                try db.execute(sql: SQLiteSchema.sql)
                return .commit
            }
        } catch {
            unlink(path)
            throw (error as? DatabaseError).map { SQLiteSchema.error($0, path) }
                ?? OutboxError(.damaged, "\(path): \(error).")
        }
    }
}
