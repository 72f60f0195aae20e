import Foundation
import GRDB
import TestSupport
import Testing
import WorktreeEngine

@testable import LeadKit

/// A database of its own, and a second connection to it.
struct SQLiteFixture {
    let scratch: Scratch
    let path: String
    let outbox: SQLiteOutbox

    init(labels: Labels = Labels()) throws {
        scratch = try Scratch()
        path = "\(scratch.path)/outbox.sqlite"
        try SQLiteOutbox.create(path)
        outbox = try SQLiteOutbox(path: path, labels: labels, actor: "lead-qa", patience: .milliseconds(50))
    }

    /// A connection that waits for a lock, since the outbox may be at work.
    private var database: DatabaseQueue {
        get throws {
            var configuration = GRDB.Configuration()
            configuration.busyMode = .timeout(10)
            return try DatabaseQueue(path: path, configuration: configuration)
        }
    }

    /// What another program does to the file.
    func execute(_ sql: String) async throws {
        try await database.writeWithoutTransaction { try $0.execute(sql: sql) }
    }

    func strings(_ sql: String) async throws -> [String] {
        try await database.read { try String.fetchAll($0, sql: sql) }
    }

    /// An open issue that waits for lead-qa.
    func add(_ number: Int, labels: [String] = ["state:todo", "role:qa"], assignee: String = "lead-qa") async throws {
        try await execute(
            """
            INSERT INTO outbox_threads (thread_id, title, body, assignee) VALUES (\(number), 'Title', 'Body', '\(assignee)');
            \(labels.map { "INSERT INTO outbox_thread_labels VALUES (\(number), '\($0)');" }.joined())
            """)
    }

    func labels(_ number: Int) async throws -> [String] {
        try await strings("SELECT label FROM outbox_thread_labels WHERE thread_id = \(number) ORDER BY label")
    }

    var events: [String] {
        get async throws { try await strings("SELECT body FROM outbox_events ORDER BY event_id") }
    }

    static func update(
        _ issue: String = "local#1", trigger: String = "workrun:r", requires: TaskState? = nil, state: TaskState? = nil,
        needsHuman: Bool = false
    ) throws -> IssueUpdate {
        IssueUpdate(
            issue: try IssueRef(issue), trigger: trigger, requires: requires, state: state, needsHuman: needsHuman,
            body: "IssueRef: \(issue)\nTrigger: \(trigger)\n\nTrigger: quoted")
    }
}

@Suite struct SQLiteOutboxTests {
    @Test func `open issues with all labels and the assignee are found, oldest first, and none that is gated`()
        async throws
    {
        let fixture = try SQLiteFixture()
        try await fixture.add(12)
        try await fixture.add(3, labels: ["role:qa", "other", "state:todo"])
        try await fixture.add(4, labels: ["state:todo"])
        try await fixture.add(5, assignee: "someone")
        try await fixture.add(6, labels: ["state:todo", "role:qa", "needs-human"])
        try await fixture.add(7, labels: ["state:todo", "role:qa", "Needs-Human"])
        try await fixture.add(8)
        try await fixture.execute(
            "UPDATE outbox_threads SET is_closed = 1, closed_at = datetime('now') WHERE thread_id = 8")
        let found = try await fixture.outbox.issues(labelled: ["state:todo", "role:qa"], assignedTo: "lead-qa")
        #expect(found.map(\.ref.description) == ["local#3", "local#12"])
        #expect(found[0].labels == ["role:qa", "other", "state:todo"] && found[0].state(Labels()) == .todo)
        #expect(found[0].assignees == ["lead-qa"] && found[0].title == "Title" && found[0].body == "Body")
        #expect(try await fixture.outbox.issues(labelled: [], assignedTo: "someone").count == 1)
        #expect(try await fixture.outbox.issues(labelled: ["x' OR 1 --"], assignedTo: "lead-qa").isEmpty)
    }

    @Test func `one issue is read whatever its state`() async throws {
        let fixture = try SQLiteFixture()
        try await fixture.execute(
            "INSERT INTO outbox_threads (title, is_closed, updated_at) VALUES (' Two' || char(10) || 'lines', 1, "
                + "'2026-02-14 10:00:00')")
        let issue = try await fixture.outbox.issue(try IssueRef("local#1"))
        #expect(issue.title == " Two lines" && issue.body == "" && issue.assignees == [])
        #expect(issue.isClosed && !issue.isGated && issue.state(Labels()) == nil)
        #expect(issue.updatedAt == Date(timeIntervalSince1970: 1_771_063_200))
    }

    @Test(arguments: ["local#2", "org/repo#1", "local#9999999999"])
    func `an issue that is not there is missing`(_ ref: String) async throws {
        let fixture = try SQLiteFixture()
        try await fixture.add(1)
        let read = await #expect(throws: OutboxError.self) { try await fixture.outbox.issue(try IssueRef(ref)) }
        #expect(read?.kind == .missing && read?.message.contains(ref) == true)
        let written = await #expect(throws: OutboxError.self) {
            try await fixture.outbox.apply(try SQLiteFixture.update(ref))
        }
        #expect(written?.kind == .missing)
        #expect(try await fixture.events.isEmpty)
    }

    @Test(arguments: [
        "2026-02-14 10:00:00", "2026-02-14T10:00:00Z", "2026-02-14T12:00:00+02:00", "2026-02-14 10:00:00.250",
        "2026-02-14 10:00",
    ]) func `times of other writers are read in every form of SQLite`(_ time: String) async throws {
        let fixture = try SQLiteFixture()
        try await fixture.add(1)
        try await fixture.execute("UPDATE outbox_threads SET updated_at = '\(time)'")
        let issue = try await fixture.outbox.issue(try IssueRef("local#1"))
        #expect(issue.updatedAt == Date(timeIntervalSince1970: 1_771_063_200))
    }

    @Test func `an update writes labels, event and time together`() async throws {
        let fixture = try SQLiteFixture()
        try await fixture.add(1, labels: ["state:todo", "state:blocked", "role:qa"])
        try await fixture.add(2)
        try await fixture.execute("UPDATE outbox_threads SET updated_at = '2020-01-01 00:00:00'")
        let update = try SQLiteFixture.update(state: .doing, needsHuman: true)
        #expect(try await fixture.outbox.apply(update) == .applied)
        #expect(try await fixture.labels(1) == ["needs-human", "role:qa", "state:doing"])
        #expect(try await fixture.labels(2) == ["role:qa", "state:todo"])
        #expect(try await fixture.events == [update.body])
        #expect(
            try await fixture.strings("SELECT actor FROM outbox_events WHERE created_at GLOB '????-??-?? ??:??:??'")
                == ["lead-qa"])
        #expect(
            try await fixture.strings("SELECT thread_id FROM outbox_threads WHERE updated_at > '2026'") == ["1"])
    }

    @Test func `an update is written once for each trigger`() async throws {
        let fixture = try SQLiteFixture()
        try await fixture.add(1)
        let update = try SQLiteFixture.update(requires: .todo, state: .doing)
        #expect(try await fixture.outbox.apply(update) == .applied)
        #expect(try await fixture.outbox.apply(update) == .alreadyApplied)
        // Also when a person has changed and gated it since.
        try await fixture.execute("UPDATE outbox_thread_labels SET label = 'state:review' WHERE label = 'state:doing'")
        try await fixture.execute("INSERT INTO outbox_thread_labels VALUES (1, 'needs-human')")
        #expect(try await fixture.outbox.apply(update) == .alreadyApplied)
        #expect(try await fixture.labels(1) == ["needs-human", "role:qa", "state:review"])
        #expect(try await fixture.events.count == 1)
    }

    @Test func `a trigger counts in the header of an event of the same issue only`() async throws {
        let fixture = try SQLiteFixture()
        try await fixture.add(1)
        try await fixture.add(2)
        for (thread, body) in [(1, "x\n\nTrigger: workrun:r"), (1, "Trigger: workrun:r2"), (2, "Trigger: workrun:r")] {
            try await fixture.execute(
                "INSERT INTO outbox_events (thread_id, actor, body) VALUES (\(thread), 'x', '\(body)')")
        }
        #expect(try await fixture.outbox.apply(try SQLiteFixture.update()) == .applied)
        #expect(try await fixture.outbox.apply(try SQLiteFixture.update("local#2")) == .alreadyApplied)
    }

    @Test func `a gated, closed or changed issue is left alone`() async throws {
        let fixture = try SQLiteFixture()
        try await fixture.add(1, labels: ["state:todo", "NEEDS-human"])
        try await fixture.add(2)
        try await fixture.execute("UPDATE outbox_threads SET is_closed = 1 WHERE thread_id = 2")
        try await fixture.add(3, labels: ["state:doing"])
        try await fixture.add(4, labels: ["state:doing", "state:todo"])
        let before = try await fixture.strings("SELECT thread_id || updated_at FROM outbox_threads")
        func apply(_ issue: String) async throws -> UpdateResult {
            try await fixture.outbox.apply(
                try SQLiteFixture.update(issue, requires: .todo, state: .doing, needsHuman: true))
        }
        #expect(try await apply("local#1") == .gated)
        #expect(try await apply("local#2") == .closed)
        #expect(try await apply("local#3") == .notApplicable(.doing))
        #expect(try await apply("local#4") == .notApplicable(nil))
        #expect(try await fixture.events.isEmpty)
        #expect(try await fixture.labels(1) == ["NEEDS-human", "state:todo"])
        #expect(try await fixture.labels(4) == ["state:doing", "state:todo"])
        #expect(try await fixture.strings("SELECT thread_id || updated_at FROM outbox_threads") == before)
    }

    @Test func `an event that would not be found again is not written`() async throws {
        let fixture = try SQLiteFixture()
        try await fixture.add(1)
        let update = IssueUpdate(
            issue: try IssueRef("local#1"), trigger: "workrun:r", state: .doing,
            body: "IssueRef: local#1\n\nTrigger: workrun:r")
        let error = await #expect(throws: OutboxError.self) { try await fixture.outbox.apply(update) }
        #expect(error?.kind == .refused)
        #expect(try await fixture.labels(1) == ["role:qa", "state:todo"])
    }

    @Test func `labels have the names of the profile`() async throws {
        let fixture = try SQLiteFixture(labels: Labels(names: [.todo: "new", .done: "it's done"], needsHuman: "help"))
        try await fixture.add(1, labels: ["new", "state:todo"])
        #expect(
            try await fixture.outbox.apply(try SQLiteFixture.update(requires: .todo, state: .done, needsHuman: true))
                == .applied)
        #expect(try await fixture.labels(1) == ["help", "it's done", "state:todo"])
        #expect(try await fixture.outbox.issue(try IssueRef("local#1")).isGated)
    }

    @Test func `values are remembered, replaced and forgotten`() async throws {
        let fixture = try SQLiteFixture()
        let key = "active_run:qa:local#1"
        #expect(try await fixture.outbox.value(key) == nil)
        try await fixture.outbox.setValue("a'b", for: key)
        try await fixture.outbox.setValue("2", for: "cursor:qa")
        #expect(try await fixture.outbox.value(key) == "a'b")
        try await fixture.outbox.setValue("c", for: key)
        #expect(try await fixture.outbox.value(key) == "c")
        try await fixture.outbox.setValue(nil, for: key)
        #expect(try await fixture.outbox.value(key) == nil)
        #expect(try await fixture.outbox.value("cursor:qa") == "2")
        await fixture.outbox.close()
    }

    @Test func `events cannot be changed or deleted`() async throws {
        let fixture = try SQLiteFixture()
        try await fixture.add(1)
        try await fixture.outbox.apply(try SQLiteFixture.update())
        for sql in ["UPDATE outbox_events SET body = ''", "DELETE FROM outbox_events"] {
            await #expect(throws: DatabaseError.self) { try await fixture.execute(sql) }
        }
    }

    @Test func `its name is the real path`() throws {
        let fixture = try SQLiteFixture()
        try write(TestFile("link.sqlite", "outbox.sqlite", .link), in: fixture.scratch.path)
        let outbox = try SQLiteOutbox(path: "\(fixture.scratch.path)/link.sqlite")
        #expect(outbox.name == "sqlite:\(fixture.path)" && fixture.outbox.name == outbox.name)
    }

    @Test func `nothing is made where something is`() async throws {
        let fixture = try SQLiteFixture()
        try await fixture.add(1)
        #expect(throws: OutboxError.self) { try SQLiteOutbox.create(fixture.path) }
        #expect(throws: OutboxError.self) { try SQLiteOutbox.create("\(fixture.scratch.path)/none/outbox.sqlite") }
        #expect(try await fixture.labels(1).count == 2)
    }
}
