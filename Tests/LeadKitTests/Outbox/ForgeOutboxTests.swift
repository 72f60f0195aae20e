import ForgeServers
import Foundation
import Registry
import Testing

@testable import LeadKit

/// What an update leaves on the issues of a forge, when nothing fails.
@Suite struct ForgeOutboxTests {
    @Test(arguments: FakeForge.Kind.allCases)
    func `it lists what is open, labelled, assigned and not gated, oldest first, over all pages`(
        _ kind: FakeForge.Kind
    ) async throws {
        let fixture = try await ForgeFixture(kind)
        let forge = fixture.forge
        let first = forge.open(labels: ["backend", "state:todo"], assignees: ["lead-backend"])
        forge.open(labels: ["backend"], assignees: ["lead-backend"])
        forge.open(labels: ["backend", "state:todo"], assignees: ["lead-qa"])
        forge.open(labels: ["backend", "state:todo"])
        forge.open(labels: ["backend", "state:todo", "needs-human"], assignees: ["lead-backend"])
        let closed = forge.open(labels: ["backend", "state:todo"], assignees: ["lead-backend"])
        forge.change(closed) { $0.isClosed = true }
        forge.open(labels: ["backend", "state:todo"], assignees: ["lead-backend"], isPullRequest: true)
        let rest = (0..<4).map { _ in
            forge.open(body: "", labels: ["state:todo", "other", "backend"], assignees: ["ada", "lead-backend"])
        }
        let issues = try await fixture.outbox.issues(
            labelled: ["backend", "state:todo"], assignedTo: "lead-backend")
        #expect(issues.map(\.ref) == ([first] + rest).map(fixture.ref))
        #expect(issues.last?.labels == ["state:todo", "other", "backend"])
        #expect(issues.last?.assignees == ["ada", "lead-backend"])
        #expect(issues.last?.body == "")
        #expect(issues.first?.title == "A title")
        #expect(issues.first?.state(Labels()) == .todo)
        let pages = forge.requests.filter { $0.target.contains("page=") && $0.path.hasSuffix("/issues") }.count
        #expect(pages >= 3, "the list was cut into pages")
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `one issue is read as it is, with the time of its last change`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let number = fixture.forge.open(title: "Ümläut", body: "Line\r\nline", labels: ["Needs-Human"])
        let issue = try await fixture.outbox.issue(fixture.ref(number))
        #expect(issue.title == "Ümläut")
        #expect(issue.body == "Line\r\nline")
        #expect(issue.isGated, "whatever the case of the gate")
        #expect(!issue.isClosed)
        #expect(issue.state(Labels()) == nil)
        #expect(issue.updatedAt == Date(timeIntervalSince1970: 1_771_070_401))
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `an update is one comment, then the state in place of the others`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let (number, ref) = fixture.openTodo(["backend", "state:doing"])
        let update = fixture.update(ref, state: .blocked, needsHuman: true)
        #expect(try await fixture.outbox.apply(update) == .applied)
        let issue = fixture.forge.issue(number)
        #expect(Set(issue.labels) == ["backend", "state:blocked", "needs-human"])
        #expect(issue.comments.map(\.text) == [update.body])
        let first = try #require(fixture.writes.first)
        #expect(first == "POST \(fixture.commentsPath.dropFirst())")
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `an update without a state leaves the labels alone`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let (number, ref) = fixture.openTodo()
        #expect(try await fixture.outbox.apply(fixture.update(ref, state: nil)) == .applied)
        #expect(fixture.forge.issue(number).labels == ["state:todo"])
        #expect(fixture.writes.count == 1)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `the same update writes nothing a second time`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let (number, ref) = fixture.openTodo()
        let update = fixture.update(ref, requires: .todo, state: .doing)
        #expect(try await fixture.outbox.apply(update) == .applied)
        let writes = fixture.writes
        #expect(try await fixture.outbox.apply(update) == .alreadyApplied)
        #expect(fixture.writes == writes)
        #expect(fixture.forge.events(on: number).count == 1)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `at once, with one trigger, only one call writes`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let (number, ref) = fixture.openTodo()
        let update = fixture.update(ref)
        let results = try await withThrowingTaskGroup(of: UpdateResult.self) { group in
            for _ in 0..<8 { group.addTask { try await fixture.outbox.apply(update) } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(results.filter { $0 == .applied }.count == 1)
        #expect(results.filter { $0 == .alreadyApplied }.count == 7)
        #expect(fixture.forge.events(on: number).count == 1)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `nothing is written to an issue that is gated, closed or in another state`(
        _ kind: FakeForge.Kind
    ) async throws {
        let fixture = try await ForgeFixture(kind)
        let (gated, gatedRef) = fixture.openTodo(["needs-human"])
        let (closed, closedRef) = fixture.openTodo()
        fixture.forge.change(closed) { $0.isClosed = true }
        let (unclear, unclearRef) = fixture.openTodo(["state:review"])
        let other = fixture.forge.open(labels: ["state:review"])
        #expect(try await fixture.outbox.apply(fixture.update(gatedRef)) == .gated)
        #expect(try await fixture.outbox.apply(fixture.update(closedRef)) == .closed)
        #expect(try await fixture.outbox.apply(fixture.update(unclearRef, requires: .todo)) == .notApplicable(nil))
        #expect(
            try await fixture.outbox.apply(fixture.update(fixture.ref(other), requires: .todo))
                == .notApplicable(.review))
        #expect(fixture.writes.isEmpty)
        for number in [gated, closed, unclear, other] { #expect(fixture.forge.issue(number).comments.isEmpty) }
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `a gate that is closed while the comments are read counts`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let (number, ref) = fixture.openTodo()
        fixture.forge.interrupt(method: "GET", path: fixture.commentsPath) { forge in
            forge.change(number) { $0.add(label: "needs-human") }
        }
        #expect(try await fixture.outbox.apply(fixture.update(ref)) == .gated)
        #expect(fixture.writes.isEmpty)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `only a comment of our own with the trigger in its header counts`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let (number, ref) = fixture.openTodo()
        let update = fixture.update(ref)
        fixture.forge.change(number) { issue in
            issue.comment(update.body, by: .person)
            issue.comment("A quotation follows.\n\nTrigger: \(update.trigger)\n", by: .bot)
            issue.comment("Trigger: \(update.trigger)/claim\n", by: .bot)
            if kind == .gitlab { issue.comment(update.body, by: .bot, isSystem: true) }
        }
        #expect(try await fixture.outbox.apply(update) == .applied)
        #expect(fixture.forge.issue(number).comments.last?.text == update.body)
        #expect(try await fixture.outbox.apply(update) == .alreadyApplied)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `a comment that a forge gives line ends of its own is found`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let (number, ref) = fixture.openTodo()
        let update = fixture.update(ref)
        fixture.forge.change(number) { $0.comment(update.body.replacing("\n", with: "\r\n"), by: .bot) }
        #expect(try await fixture.outbox.apply(update) == .alreadyApplied)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `no line of a worker's text makes the forge do anything`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let (number, ref) = fixture.openTodo()
        let update = fixture.update(ref, text: "Done.\n/close\n  /label ~x\nsee /close and a/b")
        #expect(try await fixture.outbox.apply(update) == .applied)
        let issue = fixture.forge.issue(number)
        #expect(!issue.isClosed)
        let slash = kind == .gitlab ? "\\/" : "/"
        #expect(
            issue.comments.first?.text.hasSuffix("Done.\n\(slash)close\n  \(slash)label ~x\nsee /close and a/b\n")
                == true)
        #expect(try await fixture.outbox.apply(update) == .alreadyApplied)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `a text that is too long for the forge is cut at its end`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let (number, ref) = fixture.openTodo()
        let update = fixture.update(ref, text: String(repeating: "ü/", count: kind == .github ? 40_000 : 600_000))
        #expect(try await fixture.outbox.apply(update) == .applied)
        let text = try #require(fixture.forge.events(on: number).first)
        #expect(text.hasPrefix("IssueRef: \(ref)\n"))
        #expect(text.hasSuffix("more characters do not fit here.)"))
        #expect(try await fixture.outbox.apply(update) == .alreadyApplied)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `labels with any characters are put on and taken off`(_ kind: FakeForge.Kind) async throws {
        let labels = Labels(names: [.todo: "a/b?c=d&e#f %2F ü", .doing: "doing 100%", .blocked: "stuck & waiting"])
        let fixture = try await ForgeFixture(kind, labels: labels)
        let number = fixture.forge.open(labels: ["a/b?c=d&e#f %2F ü", "doing 100%"], assignees: ["lead-backend"])
        let listed = try await fixture.outbox.issues(
            labelled: ["a/b?c=d&e#f %2F ü"], assignedTo: "lead-backend")
        #expect(listed.count == 1)
        #expect(try await fixture.outbox.apply(fixture.update(fixture.ref(number))) == .applied)
        #expect(fixture.forge.issue(number).labels == ["stuck & waiting"])
    }

    @Test func `to GitHub a label is the same in any case`() async throws {
        let fixture = try await ForgeFixture(.github)
        let number = fixture.forge.open(labels: ["State:Todo", "Backend"], assignees: ["Lead-Backend"])
        let issue = try await fixture.outbox.issue(fixture.ref(number))
        #expect(issue.state(Labels()) == .todo)
        #expect(try await fixture.outbox.apply(fixture.update(issue.ref, requires: .todo, state: .doing)) == .applied)
        #expect(fixture.forge.issue(number).labels == ["Backend", "state:doing"])
    }

    @Test func `a project of GitLab may lie in any number of groups`() async throws {
        let fixture = try await ForgeFixture(.gitlab, repository: "group/sub/project")
        let (number, ref) = fixture.openTodo()
        #expect(ref.description == "group/sub/project#1")
        #expect(fixture.outbox.name == "gitlab:group/sub/project")
        #expect(try await fixture.outbox.apply(fixture.update(ref, state: .done)) == .applied)
        #expect(fixture.forge.issue(number).labels == ["state:done"])
        #expect(fixture.forge.requests.allSatisfy { !$0.path.contains("group/sub") }, "its path is one segment")
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `an issue that is not there, or is none of this repository, is missing`(
        _ kind: FakeForge.Kind
    ) async throws {
        let fixture = try await ForgeFixture(kind)
        let pullRequest = fixture.forge.open(isPullRequest: true)
        for text in ["org/repo#99", "org/repo#\(pullRequest)", "org/other#1", "local#1"] {
            let ref = try IssueRef(text)
            let read = try await outboxError { _ = try await fixture.outbox.issue(ref) }
            #expect(read?.kind == .missing, "\(text)")
            #expect(read?.message.contains(text) == true)
            let written = try await outboxError { try await fixture.outbox.apply(fixture.update(ref)) }
            #expect(written?.kind == .missing, "\(text)")
        }
        #expect(fixture.writes.isEmpty)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `an event that does not name its trigger is not written`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let (_, ref) = fixture.openTodo()
        var update = fixture.update(ref)
        update.trigger = "workrun:another"
        let error = try await outboxError { [update] in try await fixture.outbox.apply(update) }
        #expect(error?.kind == .damaged)
        #expect(fixture.writes.isEmpty)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `a forge remembers nothing for a Lead`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        try await fixture.outbox.setValue("x", for: "cursor:backend")
        #expect(try await fixture.outbox.value("cursor:backend") == nil)
        #expect(fixture.forge.requests.isEmpty)
        await fixture.outbox.close()
    }
}
