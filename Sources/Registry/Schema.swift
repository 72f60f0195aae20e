import Foundation
import GRDB

/// The tables. A migration that has shipped is never edited; a change is a new one.
enum Schema {
    static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1") { db in
            try db.execute(
                sql: """
                    CREATE TABLE runs (
                        id INTEGER PRIMARY KEY AUTOINCREMENT,
                        issue TEXT NOT NULL,
                        run TEXT NOT NULL,
                        role TEXT NOT NULL,
                        repo TEXT NOT NULL,
                        common_dir TEXT NOT NULL,
                        root TEXT NOT NULL,
                        path TEXT NOT NULL UNIQUE,
                        admin_id TEXT NOT NULL UNIQUE,
                        branch TEXT,
                        base TEXT NOT NULL,
                        state TEXT NOT NULL CHECK (state IN
                            ('creating','ready','attached','detached','cleaning','removed','quarantined')),
                        active INTEGER NOT NULL CHECK (active IN (0, 1)),
                        superseded INTEGER NOT NULL DEFAULT 0 CHECK (superseded IN (0, 1)),
                        superseded_by TEXT,
                        materializer TEXT NOT NULL,
                        outcome TEXT CHECK (outcome IN ('ok','fail','blocked','timeout','superseded')),
                        pid INTEGER,
                        process_start TEXT,
                        host TEXT,
                        device INTEGER,
                        inode INTEGER,
                        reason TEXT,
                        lock_reason TEXT,
                        removal TEXT,
                        created_at INTEGER NOT NULL,
                        updated_at INTEGER NOT NULL,
                        ended_at INTEGER,
                        UNIQUE (issue, run)
                    ) STRICT;
                    -- At most one active run per (issue, role). A run that is to supersede another is not
                    -- active before it is ready; at most one creation per (issue, role) is under way.
                    CREATE UNIQUE INDEX runs_active ON runs (issue, role) WHERE active = 1;
                    CREATE UNIQUE INDEX runs_creating ON runs (issue, role) WHERE state = 'creating';
                    CREATE INDEX runs_repository ON runs (common_dir, state);
                    CREATE TABLE audit (
                        id INTEGER PRIMARY KEY AUTOINCREMENT,
                        at INTEGER NOT NULL,
                        actor TEXT NOT NULL,
                        issue TEXT,
                        run TEXT,
                        path TEXT,
                        action TEXT NOT NULL,
                        from_state TEXT,
                        to_state TEXT,
                        detail TEXT
                    ) STRICT;
                    CREATE INDEX audit_run ON audit (issue, run);
                    CREATE TRIGGER audit_is_append_only_update BEFORE UPDATE ON audit
                        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
                    CREATE TRIGGER audit_is_append_only_delete BEFORE DELETE ON audit
                        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
                    -- REPLACE deletes without the trigger above. See: https://sqlite.org/lang_createtrigger.html
                    CREATE TRIGGER audit_is_append_only_replace BEFORE INSERT ON audit
                        WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)
                        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
                    CREATE TABLE roots (path TEXT PRIMARY KEY NOT NULL, marker TEXT NOT NULL) STRICT;
                    """)
        }
        migrator.registerMigration("2") { db in
            try db.execute(
                sql: """
                    -- Every run id that was given out, for ever; `settled = 0` is an attempt that a Lead still carries.
                    CREATE TABLE allocations (
                        issue TEXT NOT NULL,
                        run TEXT NOT NULL,
                        seq INTEGER NOT NULL,
                        role TEXT NOT NULL,
                        at INTEGER NOT NULL,
                        outbox TEXT,
                        lead_group TEXT,
                        number INTEGER NOT NULL,
                        replaces TEXT,
                        reason TEXT,
                        settled INTEGER NOT NULL CHECK (settled IN (0, 1)),
                        UNIQUE (issue, seq),
                        UNIQUE (issue, run)
                    ) STRICT;
                    CREATE INDEX allocations_open ON allocations (outbox, role) WHERE settled = 0;
                    -- What issues have to be told. One message for each trigger of an issue, for ever.
                    CREATE TABLE messages (
                        id INTEGER PRIMARY KEY AUTOINCREMENT,
                        outbox TEXT NOT NULL,
                        issue TEXT NOT NULL,
                        run TEXT NOT NULL,
                        trigger TEXT NOT NULL,
                        content TEXT NOT NULL,
                        state TEXT NOT NULL CHECK (state IN ('pending','delivered','refused')),
                        attempts INTEGER NOT NULL,
                        error TEXT,
                        kept_at INTEGER NOT NULL,
                        due_at INTEGER NOT NULL,
                        UNIQUE (outbox, issue, trigger)
                    ) STRICT;
                    CREATE INDEX messages_pending ON messages (outbox, issue, id) WHERE state = 'pending';
                    """)
        }
        return migrator
    }
}

/// Instants are stored as whole milliseconds since 1970, so that they sort and compare as numbers.
extension Date {
    var milliseconds: Int64 { Int64((timeIntervalSince1970 * 1000).rounded()) }
    init(milliseconds: Int64) { self.init(timeIntervalSince1970: Double(milliseconds) / 1000) }
    var wholeMilliseconds: Date { Date(milliseconds: milliseconds) }
}

extension Run {
    init(row: Row) throws {
        let key = try RunKey(issue: row["issue"], run: row["run"])
        self.init(
            key: key, role: try Role(row["role"]), repo: row["repo"], commonDir: row["common_dir"], root: row["root"],
            path: row["path"], adminID: row["admin_id"], branch: row["branch"], base: row["base"],
            materializer: try decode(row, "materializer"), createdAt: Date(milliseconds: row["created_at"]))
        id = row["id"]
        state = try decode(row, "state")
        superseded = row["superseded"]
        supersededBy = row["superseded_by"]
        outcome = row["outcome"] == nil ? nil : try decode(row, "outcome") as Outcome
        if let pid = row["pid"] as Int32? {
            worker = WorkerProcess(pid: pid, start: row["process_start"] ?? "", host: row["host"] ?? "")
        }
        if let device = row["device"] as Int64?, let inode = row["inode"] as Int64? {
            identity = FileIdentity(device: UInt64(bitPattern: device), inode: UInt64(bitPattern: inode))
        }
        reason = row["reason"]
        lockReason = row["lock_reason"]
        removal = try (row["removal"] as String?).map {
            try JSONDecoder().decode(RemovalIntent.self, from: Data($0.utf8))
        }
        updatedAt = Date(milliseconds: row["updated_at"])
        endedAt = (row["ended_at"] as Int64?).map { Date(milliseconds: $0) }
    }

    /// Every column but the row id and ``encodedRemoval``. `active` is what the unique index needs; see `runs_active`.
    func columns(active: Bool) -> [(String, (any DatabaseValueConvertible)?)] {
        [
            ("issue", key.issue.description), ("run", key.run.description), ("role", role.description), ("repo", repo),
            ("common_dir", commonDir), ("root", root), ("path", path), ("admin_id", adminID), ("branch", branch),
            ("base", base), ("state", state.rawValue), ("active", active), ("superseded", superseded),
            ("superseded_by", supersededBy), ("materializer", materializer.rawValue), ("outcome", outcome?.rawValue),
            ("pid", worker?.pid), ("process_start", worker?.start), ("host", worker?.host),
            ("device", identity.map { Int64(bitPattern: $0.device) }),
            ("inode", identity.map { Int64(bitPattern: $0.inode) }), ("reason", reason), ("lock_reason", lockReason),
            ("created_at", createdAt.milliseconds), ("updated_at", updatedAt.milliseconds),
            ("ended_at", endedAt?.milliseconds),
        ]
    }

    /// The column `removal`. By itself, since encoding costs more than the rest of a transaction.
    var encodedRemoval: (String, (any DatabaseValueConvertible)?) {
        get throws { ("removal", try removal.map { String(decoding: try JSONEncoder().encode($0), as: UTF8.self) }) }
    }
}

/// A stored word that this version does not know is a damaged registry, not a default.
func decode<T: RawRepresentable>(_ row: Row, _ column: String) throws -> T where T.RawValue == String {
    let text: String = row[column] ?? ""
    guard let value = T(rawValue: text) else {
        throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: "unknown \(column) \(text.debugDescription)")
    }
    return value
}
