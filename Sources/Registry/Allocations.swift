public import Foundation
import GRDB

/// A run id that was given out, and what a Lead has to know to carry the attempt to its end, also after a crash.
///
/// It exists before the run does, so it is the durable intent of everything that a Lead does for an attempt.
public struct Allocation: Hashable, Sendable {
    /// The run that it is for, whether or not that was ever made.
    public let key: RunKey
    /// The role of the run.
    public let role: Role
    /// The name of the outbox whose Lead carries the attempt; nil for an id that somebody only asked for.
    public let outbox: String?
    /// The Lead's group that the attempt belongs to; nil without an outbox.
    public let group: String?
    /// How many attempts in a row this is: 1, and one more for each switch.
    public let number: Int
    /// The run whose place this one takes; nil for the first attempt.
    public let replaces: RunID?
    /// Why that run is replaced, one line for a person.
    public let reason: String?
}

/// Run ids: `seq` counts per issue, over all roles, days and processes.
extension Registry {
    /// Gives out the next run id of an issue: `<date>-<role>-<seq>`, with `seq` from 0001 on.
    ///
    /// One transaction decides it, and what was given out is remembered. So a number is never given twice, also when its
    /// run was rolled back or never made. Ids that people chose themselves count when they have the same form.
    /// - Parameter date: its day in UTC stands in the id.
    public func allocate(_ issue: IssueRef, role: Role, on date: Date) async throws(RegistryError) -> RunID {
        try await write { db in
            try Self.allocate(
                db, issue, on: date, role: role, outbox: nil, group: nil, number: 1, replaces: nil, reason: nil
            ).key.run
        }
    }

    /// The same for a first attempt that a Lead carries until ``settle(_:keeping:)``.
    package func begin(
        _ issue: IssueRef, role: Role, on date: Date, outbox: String, group: String
    ) async throws(RegistryError) -> Allocation {
        try await write { db in
            try Self.allocate(
                db, issue, on: date, role: role, outbox: outbox, group: group, number: 1, replaces: nil, reason: nil)
        }
    }

    /// Ends an attempt and begins the next one of the same issue and role, as one step.
    /// - Returns: the new attempt.
    package func replace(
        _ allocation: Allocation, on date: Date, because reason: String
    ) async throws(RegistryError) -> Allocation {
        try await write { db in
            try Self.settle(db, allocation.key)
            return try Self.allocate(
                db, allocation.key.issue, on: date, role: allocation.role, outbox: allocation.outbox,
                group: allocation.group, number: allocation.number + 1, replaces: allocation.key.run, reason: reason)
        }
    }

    /// The attempts of an outbox that have not come to their end, oldest first.
    /// - Parameter role: only those of this role.
    package func openAllocations(outbox: String, role: Role? = nil) async throws(RegistryError) -> [Allocation] {
        try await read { db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT * FROM allocations WHERE outbox = ?1 AND (?2 IS NULL OR role = ?2) AND settled = 0
                    ORDER BY rowid
                    """, arguments: [outbox, role?.description]
            ).map(Allocation.init(row:))
        }
    }

    /// Ends an attempt, and keeps the message that says how, in one transaction: neither is ever there without the other.
    package func settle(_ key: RunKey, keeping message: Message.Draft? = nil) async throws(RegistryError) {
        try await write { [self] db in
            try Self.settle(db, key)
            if let message { try keep(db, message) }
        }
    }

    /// Quarantined runs that the Leads of an outbox have made and whose issues have not been told, oldest first.
    /// - Parameter trigger: the trigger of the message that tells it, for a run id.
    package func untoldQuarantines(
        outbox: String, roles: Set<Role>, trigger: @escaping @Sendable (RunID) -> String
    ) async throws(RegistryError) -> [Run] {
        try await read { db in
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT runs.* FROM runs JOIN allocations USING (issue, run)
                    WHERE runs.state = 'quarantined' AND outbox = ? AND settled = 1 ORDER BY runs.id
                    """, arguments: [outbox])
            return try rows.map(Run.init(row:)).filter { run in
                try roles.contains(run.role)
                    && !Self.isKept(db, outbox: outbox, issue: run.key.issue, trigger: trigger(run.key.run))
            }
        }
    }

    private static func settle(_ db: Database, _ key: RunKey) throws {
        try db.execute(
            sql: "UPDATE allocations SET settled = 1 WHERE issue = ? AND run = ?",
            arguments: [key.issue.description, key.run.description])
    }

    private static func allocate(
        _ db: Database, _ issue: IssueRef, on date: Date, role: Role, outbox: String?, group: String?, number: Int,
        replaces: RunID?, reason: String?
    ) throws -> Allocation {
        let sequence = try lastSequence(db, issue) + 1
        let digits = String(sequence)
        let padded = String(repeating: "0", count: max(0, 4 - digits.count)) + digits
        let run = try RunID("\(day(date))-\(role)-\(padded)")
        try db.execute(
            sql: """
                INSERT INTO allocations
                    (issue, run, seq, role, at, outbox, lead_group, number, replaces, reason, settled)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                """,
            arguments: [
                issue.description, run.description, sequence, role.description, date.milliseconds, outbox, group,
                number, replaces?.description, reason, outbox == nil,
            ])
        return Allocation(
            key: RunKey(issue: issue, run: run), role: role, outbox: outbox, group: group, number: number,
            replaces: replaces, reason: reason)
    }

    /// The highest number that an id of the issue has ever had: given out here, or chosen by whoever spawned a run,
    /// also one that was rolled back, of which only the audit log knows.
    private static func lastSequence(_ db: Database, _ issue: IssueRef) throws -> Int {
        let allocated = try Int.fetchOne(
            db, sql: "SELECT max(seq) FROM allocations WHERE issue = ?", arguments: [issue.description])
        let others = try String.fetchAll(
            db,
            sql: """
                SELECT run FROM runs WHERE issue = ?1
                UNION SELECT run FROM audit WHERE issue = ?1 AND run IS NOT NULL
                """, arguments: [issue.description])
        return others.compactMap { (try? RunID($0))?.sequence }.reduce(allocated ?? 0, max)
    }

    /// `YYYY-MM-DD` in UTC. See: man 3 gmtime
    private static func day(_ date: Date) -> String {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = TimeZone(secondsFromGMT: 0)!
        let parts = calendar.dateComponents([.year, .month, .day], from: date)
        func padded(_ number: Int?, _ width: Int) -> String {
            let digits = String(number ?? 0)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        return "\(padded(parts.year, 4))-\(padded(parts.month, 2))-\(padded(parts.day, 2))"
    }
}

extension RunID {
    /// The number of an id of the form `<YYYY-MM-DD>-<role>-<seq>`; nil for other ids, and for numbers of more than
    /// nine digits, which nobody counts up to.
    var sequence: Int? {
        guard role != nil, let digits = description.split(separator: "-").last, digits.utf8.count <= 9 else {
            return nil
        }
        return Int(digits)
    }
}

extension Allocation {
    init(row: Row) throws {
        self.init(
            key: try RunKey(issue: row["issue"], run: row["run"]), role: try Role(row["role"]),
            outbox: row["outbox"], group: row["lead_group"], number: row["number"],
            replaces: try (row["replaces"] as String?).map { try RunID($0) }, reason: row["reason"])
    }
}
