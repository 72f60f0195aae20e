import Foundation
import GRDB
import TestSupport
import Testing
import WorktreeEngine

@testable import LeadKit

/// The database beside other writers, and when it is not what it should be.
@Suite struct SQLiteWritersTests {
    /// Another writer that may keep a transaction open for as long as a test likes.
    private func holder(of path: String) throws -> DatabaseQueue {
        var configuration = GRDB.Configuration()
        configuration.allowsUnsafeTransactions = true
        return try DatabaseQueue(path: path, configuration: configuration)
    }

    @Test(arguments: ["DELETE", "WAL", "PERSIST"])
    func `the journal mode of the owner stays`(_ mode: String) async throws {
        let fixture = try SQLiteFixture()
        try await fixture.execute("PRAGMA journal_mode = \(mode)")
        try await fixture.add(1)
        try await fixture.outbox.apply(try SQLiteFixture.update(state: .doing))
        try await fixture.outbox.setValue("1", for: "cursor:qa")
        // PERSIST is a matter of each connection; the file itself knows WAL or not.
        let expected = mode == "WAL" ? "wal" : "delete"
        #expect(try await fixture.strings("PRAGMA journal_mode") == [expected])
    }

    @Test func `a lock that somebody holds for too long is out of reach, and passes`() async throws {
        let fixture = try SQLiteFixture()
        try await fixture.add(1)
        let other = try holder(of: fixture.path)
        try await other.writeWithoutTransaction { try $0.execute(sql: "BEGIN EXCLUSIVE") }
        let update = try SQLiteFixture.update(state: .doing)
        for body: @Sendable () async throws -> Void in [
            { _ = try await fixture.outbox.apply(update) }, { _ = try await fixture.outbox.value("x") },
            { _ = try SQLiteOutbox(path: fixture.path, labels: Labels(), actor: "x", patience: .milliseconds(10)) },
        ] {
            let error = await #expect(throws: OutboxError.self) { try await body() }
            #expect(error?.kind == .unreachable && error?.message.contains(fixture.path) == true)
        }
        try await other.writeWithoutTransaction { try $0.execute(sql: "COMMIT") }
        #expect(try await fixture.outbox.apply(update) == .applied)
    }

    @Test func `a lock that is given up in time is waited for`() async throws {
        let fixture = try SQLiteFixture()
        try await fixture.add(1)
        let other = try holder(of: fixture.path)
        try await other.writeWithoutTransaction { try $0.execute(sql: "BEGIN IMMEDIATE") }
        let patient = try SQLiteOutbox(path: fixture.path, labels: Labels(), actor: "x", patience: .seconds(60))
        async let result = patient.apply(try SQLiteFixture.update(state: .doing))
        // Whether the call is waiting already or not begun, it is served after this.
        try await other.writeWithoutTransaction { try $0.execute(sql: "COMMIT") }
        #expect(try await result == .applied)
    }

    @Test func `the sqlite3 shell and we write at the same time, and nothing is lost`() async throws {
        let fixture = try SQLiteFixture()
        for number in 1...10 { try await fixture.add(number) }
        let outbox = try SQLiteOutbox(path: fixture.path, labels: Labels(), actor: "x", patience: .seconds(60))
        let insert = "INSERT INTO outbox_events (thread_id, actor, body) VALUES (1, 'person', 'note');"
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                for _ in 0..<20 {
                    try await run(
                        ["sqlite3", "-cmd", ".timeout 60000", fixture.path, insert], in: fixture.scratch.path)
                }
            }
            for number in 1...10 {
                // The same update twice at once: one of them writes it.
                for _ in 0..<2 {
                    group.addTask {
                        _ = try await outbox.apply(
                            try SQLiteFixture.update("local#\(number)", trigger: "t", requires: .todo, state: .doing))
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(try await fixture.strings("SELECT count(*) FROM outbox_events WHERE actor = 'person'") == ["20"])
        #expect(try await fixture.strings("SELECT count(*) FROM outbox_events WHERE actor = 'x'") == ["10"])
        #expect(
            try await fixture.strings("SELECT count(*) FROM outbox_thread_labels WHERE label = 'state:doing'") == ["10"]
        )
        #expect(try await fixture.strings("PRAGMA integrity_check") == ["ok"])
    }

    @Test func `an update that fails half-way leaves nothing`() async throws {
        let fixture = try SQLiteFixture()
        try await fixture.add(1)
        try await fixture.execute(
            "CREATE TRIGGER full BEFORE INSERT ON outbox_events BEGIN SELECT RAISE(ABORT, 'no\nmore events'); END")
        let error = await #expect(throws: OutboxError.self) {
            try await fixture.outbox.apply(try SQLiteFixture.update(state: .doing, needsHuman: true))
        }
        #expect(error?.kind == .refused && error?.message.contains("no more events") == true)
        #expect(try await fixture.labels(1) == ["role:qa", "state:todo"])
    }

    @Test func `a cancelled task still writes what it has begun to say`() async throws {
        let fixture = try SQLiteFixture()
        try await fixture.add(1)
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await fixture.outbox.apply(try SQLiteFixture.update(state: .doing))
        }
        #expect(try await task.value == .applied)
    }

    @Test func `tables and columns that its owner has added do no harm`() async throws {
        let fixture = try SQLiteFixture()
        try await fixture.execute(
            """
            ALTER TABLE outbox_threads ADD COLUMN priority INTEGER DEFAULT 3;
            ALTER TABLE outbox_events ADD COLUMN mood TEXT;
            CREATE TABLE more (x);
            CREATE TABLE plain_kv AS SELECT * FROM outbox_kv;
            DROP TABLE outbox_kv;
            ALTER TABLE plain_kv RENAME TO outbox_kv;
            """)
        try await fixture.add(1)
        #expect(try await fixture.outbox.apply(try SQLiteFixture.update(state: .done)) == .applied)
        try await fixture.outbox.setValue("a", for: "k")
        try await fixture.outbox.setValue("b", for: "k")
        #expect(try await fixture.strings("SELECT value FROM outbox_kv") == ["b"])
    }

    @Test(arguments: [
        ("DROP TABLE outbox_kv", "no table outbox_kv"),
        (
            "DROP TABLE outbox_events; CREATE VIEW outbox_events AS SELECT * FROM outbox_threads",
            "no table outbox_events"
        ),
        ("ALTER TABLE outbox_threads DROP COLUMN closed_at", "outbox_threads has no column closed_at"),
        ("ALTER TABLE outbox_thread_labels RENAME COLUMN label TO name", "outbox_thread_labels has no column label"),
        (
            "DROP TABLE outbox_events; CREATE TABLE outbox_events (event_id TEXT PRIMARY KEY, thread_id, actor, body, "
                + "created_at)", "event_id of outbox_events is not declared INTEGER PRIMARY KEY"
        ),
    ]) func `a table or column that is missing is named, also when it goes later`(
        _ sql: String, _ message: String
    ) async throws {
        let fixture = try SQLiteFixture()
        try await fixture.execute("PRAGMA foreign_keys = OFF; PRAGMA legacy_alter_table = ON; \(sql)")
        let opening = #expect(throws: OutboxError.self) { try SQLiteOutbox(path: fixture.path) }
        #expect(
            opening?.kind == .damaged && opening?.message.contains(message) == true, "\(String(describing: opening))")
        let later = await #expect(throws: OutboxError.self) { try await fixture.outbox.value("x") }
        #expect(later?.message == opening?.message)
    }

    @Test func `a file that is missing is not made`() async throws {
        let fixture = try SQLiteFixture()
        try FileManager.default.removeItem(atPath: fixture.path)
        let opening = #expect(throws: OutboxError.self) { try SQLiteOutbox(path: fixture.path) }
        #expect(opening?.kind == .unreachable && opening?.message.contains(fixture.path) == true)
        let later = await #expect(throws: OutboxError.self) { try await fixture.outbox.setValue("x", for: "y") }
        #expect(later?.kind == .unreachable)
        #expect(!FileManager.default.fileExists(atPath: fixture.path))
    }

    @Test func `a file that was replaced is the one that is read`() async throws {
        let fixture = try SQLiteFixture()
        try await fixture.outbox.setValue("old", for: "k")
        try await shell("cp outbox.sqlite backup && mv outbox.sqlite gone", in: fixture.scratch.path)
        try await shell("mv backup outbox.sqlite", in: fixture.scratch.path)
        try await fixture.outbox.setValue("new", for: "k")
        #expect(try await fixture.strings("SELECT value FROM outbox_kv") == ["new"])
    }

    @Test(arguments: ["mkfifo", "mkdir", "printf 'no database at all' >", "head -c 8192 /dev/zero >", "touch"])
    func `a file that is no outbox is refused`(_ command: String) async throws {
        let scratch = try Scratch()
        try await shell("\(command) f", in: scratch.path)
        let error = #expect(throws: OutboxError.self) { try SQLiteOutbox(path: "\(scratch.path)/f") }
        #expect(error?.kind == .damaged && error?.message.contains("\(scratch.path)/f") == true)
    }

    @Test func `damage inside the file is told as such`() async throws {
        let fixture = try SQLiteFixture()
        for number in 1...200 { try await fixture.add(number) }
        let file = try #require(FileHandle(forUpdatingAtPath: fixture.path))
        let size = try file.seekToEnd()
        for page in stride(from: UInt64(4096), to: size, by: 4096) {
            try file.seek(toOffset: page)
            try file.write(contentsOf: Data(repeating: 0x5A, count: 4096))
        }
        try file.close()
        let error = await #expect(throws: OutboxError.self) {
            try await fixture.outbox.issues(labelled: ["state:todo"], assignedTo: "lead-qa")
        }
        #expect(error?.kind == .damaged)
    }

    @Test func `a file that may only be read is refused for writing and can be read`() async throws {
        let fixture = try SQLiteFixture()
        try await fixture.add(1)
        // "If the write version is greater than 2 but the read version is 1 or 2, the database must be treated as
        // read-only", for root too. See: https://sqlite.org/fileformat2.html (1.3.3)
        let file = try #require(FileHandle(forUpdatingAtPath: fixture.path))
        try file.seek(toOffset: 18)
        try file.write(contentsOf: Data([9]))
        try file.close()
        #expect(try await fixture.outbox.issue(try IssueRef("local#1")).title == "Title")
        let error = await #expect(throws: OutboxError.self) {
            try await fixture.outbox.apply(try SQLiteFixture.update(state: .doing))
        }
        #expect(error?.kind == .refused && error?.message.contains("cannot be written") == true)
    }

    @Test(arguments: [-1, 0, 99_999_999_999])
    func `a thread whose number names no issue is in the way of no other`(_ number: Int) async throws {
        let fixture = try SQLiteFixture()
        try await fixture.add(number)
        try await fixture.add(2)
        let issues = try await fixture.outbox.issues(labelled: [], assignedTo: "lead-qa")
        #expect(issues.map(\.ref.description) == ["local#2"])
    }

    @Test(arguments: [("created_at = '2026-02-14 10:00:00'", 1_771_063_200), ("created_at = 'never'", 0)])
    func `a time that is none counts as that of the creation, or as the first of all`(
        _ creation: String, _ seconds: Int
    ) async throws {
        let fixture = try SQLiteFixture()
        try await fixture.add(1)
        try await fixture.execute("UPDATE outbox_threads SET updated_at = 'yesterday', \(creation)")
        let issues = try await fixture.outbox.issues(labelled: [], assignedTo: "lead-qa")
        #expect(issues.map(\.updatedAt) == [Date(timeIntervalSince1970: Double(seconds))])
    }

    @Test func `values of another type than text are read as text`() async throws {
        let fixture = try SQLiteFixture()
        try await fixture.execute(
            "INSERT INTO outbox_threads (title, body, assignee) VALUES (12, x'68C3A4', 'lead-qa')")
        let issue = try #require(try await fixture.outbox.issues(labelled: [], assignedTo: "lead-qa").first)
        #expect(issue.title == "12" && issue.body == "hä")
    }
}
