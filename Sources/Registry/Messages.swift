package import Foundation
import GRDB

/// Something that an issue has to be told, kept until its outbox has it.
package struct Message: Hashable, Sendable {
    /// What to keep.
    package struct Draft: Hashable, Sendable {
        package let outbox: String
        /// The run that it is about.
        package let key: RunKey
        /// What caused it; kept once for each outbox and issue.
        package let trigger: String
        /// The update, in the form of whoever delivers it.
        package let content: String

        package init(outbox: String, key: RunKey, trigger: String, content: String) {
            self.outbox = outbox
            self.key = key
            self.trigger = trigger
            self.content = content
        }
    }

    /// Where it is on its way.
    package enum State: String, Sendable {
        case pending
        /// The outbox answered; what it did is in the audit log.
        case delivered
        /// Given up; why is in the audit log.
        case refused
    }

    /// Ascending in the order in which messages were kept.
    package let id: Int64
    package let draft: Draft
    package let state: State
    /// How often its delivery was tried in vain.
    package let attempts: Int
    /// Why the last delivery failed.
    package let error: String?
    package let keptAt: Date
    /// The next delivery is tried at this time, not before.
    package let dueAt: Date
}

/// Kept messages. The messages of one issue are delivered in the order in which they were kept: one that cannot be
/// delivered yet holds back those after it, and none of another issue.
extension Registry {
    /// Keeps a message; one with its trigger that is there already is left as it is.
    /// - Returns: whether it was kept.
    @discardableResult
    package func keep(_ message: Message.Draft) async throws(RegistryError) -> Bool {
        try await write { [self] db in try keep(db, message) }
    }

    /// Every pending message that is the first of its issue and due, oldest first.
    package func dueMessages(outbox: String, at now: Date) async throws(RegistryError) -> [Message] {
        try await read { db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT * FROM messages AS message WHERE outbox = ?1 AND state = 'pending' AND due_at <= ?2
                    AND NOT EXISTS (
                        SELECT 1 FROM messages WHERE outbox = ?1 AND state = 'pending' AND issue = message.issue
                        AND id < message.id)
                    ORDER BY id
                    """, arguments: [outbox, now.milliseconds]
            ).map(Message.init(row:))
        }
    }

    /// All messages of an outbox, oldest first.
    /// - Parameter state: only those in this state.
    package func messages(outbox: String, state: Message.State? = nil) async throws(RegistryError) -> [Message] {
        try await read { db in
            try Row.fetchAll(
                db, sql: "SELECT * FROM messages WHERE outbox = ?1 AND (?2 IS NULL OR state = ?2) ORDER BY id",
                arguments: [outbox, state?.rawValue]
            ).map(Message.init(row:))
        }
    }

    /// The message has reached its outbox, which did with it what `result` says.
    package func delivered(_ message: Message, result: String) async throws(RegistryError) {
        try await close(message, .delivered, action: .messageDelivered, detail: result)
    }

    /// The message is given up for good.
    package func refused(_ message: Message, error: String) async throws(RegistryError) {
        try await close(message, .refused, action: .messageRefused, detail: error)
    }

    /// The message stays, and is tried again at `date`.
    /// - Parameter isFailure: whether this counts as an attempt in vain.
    package func postponed(
        _ message: Message, until date: Date, error: String, isFailure: Bool = true
    ) async throws(RegistryError) {
        try await write { db in
            try db.execute(
                sql: "UPDATE messages SET attempts = attempts + ?, error = ?, due_at = ? WHERE id = ?",
                arguments: [isFailure ? 1 : 0, error, date.milliseconds, message.id])
        }
    }

    private func close(
        _ message: Message, _ state: Message.State, action: AuditEvent.Kind, detail: String
    ) async throws(RegistryError) {
        try await write { [self] db in
            try db.execute(
                sql: "UPDATE messages SET state = ?, error = ? WHERE id = ? AND state = 'pending'",
                arguments: [state.rawValue, state == .refused ? detail : nil, message.id])
            guard db.changesCount == 1 else { return }
            try record(
                db, action, key: message.draft.key, path: nil, from: nil, to: nil,
                detail: "\(message.draft.trigger): \(detail)")
        }
    }

    // MARK: Inside a transaction

    @discardableResult
    func keep(_ db: Database, _ message: Message.Draft) throws -> Bool {
        let now = Date().milliseconds
        try db.execute(
            sql: """
                INSERT INTO messages (outbox, issue, run, trigger, content, state, attempts, kept_at, due_at)
                VALUES (?, ?, ?, ?, ?, 'pending', 0, ?, ?) ON CONFLICT (outbox, issue, trigger) DO NOTHING
                """,
            arguments: [
                message.outbox, message.key.issue.description, message.key.run.description, message.trigger,
                message.content, now, now,
            ])
        guard db.changesCount == 1 else { return false }
        try record(db, .messageKept, key: message.key, path: nil, from: nil, to: nil, detail: message.trigger)
        return true
    }

    static func isKept(_ db: Database, outbox: String, issue: IssueRef, trigger: String) throws -> Bool {
        try Bool.fetchOne(
            db, sql: "SELECT EXISTS (SELECT 1 FROM messages WHERE outbox = ? AND issue = ? AND trigger = ?)",
            arguments: [outbox, issue.description, trigger]) ?? false
    }
}

extension Message {
    init(row: Row) throws {
        guard let state = State(rawValue: row["state"]) else {
            throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: "unknown state of message \(row["id"] as Int64)")
        }
        self.init(
            id: row["id"],
            draft: Draft(
                outbox: row["outbox"], key: try RunKey(issue: row["issue"], run: row["run"]), trigger: row["trigger"],
                content: row["content"]),
            state: state, attempts: row["attempts"], error: row["error"], keptAt: Date(milliseconds: row["kept_at"]),
            dueAt: Date(milliseconds: row["due_at"]))
    }
}
