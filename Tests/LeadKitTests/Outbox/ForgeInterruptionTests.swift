import ForgeServers
import Registry
import Testing

@testable import LeadKit

/// What an update leaves on the issues of a forge when it is interrupted, and who has the last word then.
@Suite struct ForgeInterruptionTests {
    /// An update whose comment was written and whose labels were not.
    private func interrupted(
        _ fixture: ForgeFixture, needsHuman: Bool = false
    ) async throws -> (number: Int, update: IssueUpdate) {
        let (number, ref) = fixture.openTodo()
        let update = fixture.update(ref, state: .blocked, needsHuman: needsHuman)
        fixture.forge.fail(.status(503), times: .max, method: fixture.labelsMethod, path: fixture.labelsPath)
        let error = try await outboxError { try await fixture.outbox.apply(update) }
        try #require(error?.kind == .unreachable)
        fixture.forge.recover()
        try #require(fixture.forge.issue(number).labels == ["state:todo"])
        try #require(fixture.forge.events(on: number).count == 1)
        return (number, update)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `the labels that an interrupted update did not get to are set by the next`(
        _ kind: FakeForge.Kind
    ) async throws {
        let fixture = try await ForgeFixture(kind)
        let (number, update) = try await interrupted(fixture, needsHuman: true)
        fixture.forge.change(number) { issue in
            issue.comment("What happened here?")
            issue.add(label: "bug")
        }
        #expect(try await fixture.outbox.apply(update) == .alreadyApplied)
        #expect(Set(fixture.forge.issue(number).labels) == ["state:blocked", "needs-human", "bug"])
        #expect(fixture.forge.events(on: number).count == 1)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `half of the labels are made whole`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let (number, update) = try await interrupted(fixture, needsHuman: true)
        fixture.forge.change(number) { issue in
            issue.add(label: "state:blocked", by: .bot)
            issue.add(label: "needs-human", by: .bot)
        }
        #expect(try await fixture.outbox.apply(update) == .alreadyApplied)
        #expect(Set(fixture.forge.issue(number).labels) == ["state:blocked", "needs-human"])
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `who has changed the state since keeps it`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let (number, update) = try await interrupted(fixture)
        fixture.forge.change(number) { issue in
            issue.remove(label: "state:todo")
            issue.add(label: "state:review")
        }
        #expect(try await fixture.outbox.apply(update) == .alreadyApplied)
        #expect(fixture.forge.issue(number).labels == ["state:review"])
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `who has opened the gate since finds it open`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let (number, ref) = fixture.openTodo()
        let update = fixture.update(ref, needsHuman: true)
        #expect(try await fixture.outbox.apply(update) == .applied)
        fixture.forge.change(number) { issue in
            issue.remove(label: "needs-human")
            issue.remove(label: "state:blocked")
            issue.add(label: "state:todo")
        }
        #expect(try await fixture.outbox.apply(update) == .alreadyApplied)
        #expect(fixture.forge.issue(number).labels == ["state:todo"])
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `a later event of ours has the last word`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let (number, update) = try await interrupted(fixture)
        let later = fixture.update(update.issue, "workrun:2026-02-14-backend-0002/claim", state: .doing)
        #expect(try await fixture.outbox.apply(later) == .applied)
        #expect(try await fixture.outbox.apply(update) == .alreadyApplied)
        #expect(fixture.forge.issue(number).labels == ["state:doing"])
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `nothing is finished on an issue that was closed or gated since`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let closed = try await interrupted(fixture)
        fixture.forge.change(closed.number) { $0.isClosed = true }
        let gated = try await interrupted(fixture)
        fixture.forge.change(gated.number) { $0.add(label: "needs-human") }
        #expect(try await fixture.outbox.apply(closed.update) == .alreadyApplied)
        #expect(try await fixture.outbox.apply(gated.update) == .alreadyApplied)
        #expect(fixture.forge.issue(closed.number).labels == ["state:todo"])
        #expect(fixture.forge.issue(gated.number).labels == ["state:todo", "needs-human"])
    }

    @Test(
        arguments: FakeForge.Kind.allCases,
        [FakeForge.Failure.drop, .status(502), .status(500), .hang])
    func `a comment whose answer is lost is not written twice`(
        _ kind: FakeForge.Kind, _ failure: FakeForge.Failure
    ) async throws {
        var patience = ForgePatience()
        if case .hang = failure { patience.request = .seconds(3) }
        let fixture = try await ForgeFixture(kind, patience: patience)
        let (number, ref) = fixture.openTodo()
        fixture.forge.fail(.afterwards(failure), method: "POST", path: fixture.commentsPath)
        #expect(try await fixture.outbox.apply(fixture.update(ref)) == .applied)
        #expect(fixture.forge.events(on: number).count == 1)
        #expect(fixture.forge.issue(number).labels == ["state:blocked"])
    }

    @Test(arguments: FakeForge.Kind.allCases, [FakeForge.Failure.drop, .status(502), .status(429)])
    func `a comment that was not written is written at the next attempt`(
        _ kind: FakeForge.Kind, _ failure: FakeForge.Failure
    ) async throws {
        let fixture = try await ForgeFixture(kind)
        let (number, ref) = fixture.openTodo()
        fixture.forge.fail(failure, times: 2, method: "POST", path: fixture.commentsPath)
        #expect(try await fixture.outbox.apply(fixture.update(ref)) == .applied)
        #expect(fixture.forge.events(on: number).count == 1)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `a comment is not waited with for longer than a request is`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let (number, ref) = fixture.openTodo()
        fixture.forge.fail(
            .status(503, headers: ["Retry-After": "3600"]), method: "POST", path: fixture.commentsPath)
        let error = await #expect(throws: OutboxError.self) { try await fixture.outbox.apply(fixture.update(ref)) }
        #expect(error?.kind == .unreachable)
        #expect(error?.retryAfter == .seconds(3600))
        #expect(fixture.pauses.all.isEmpty)
        #expect(fixture.forge.events(on: number).isEmpty)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `a forge that is out of reach gets the event once it is back`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let (number, ref) = fixture.openTodo()
        let update = fixture.update(ref)
        for method in ["GET", "POST", kind == .github ? "DELETE" : "PUT"] {
            fixture.forge.fail(.drop, times: .max, method: method)
            let error = try await outboxError { try await fixture.outbox.apply(update) }
            #expect(error?.kind == .unreachable)
            fixture.forge.recover()
        }
        _ = try await fixture.outbox.apply(update)
        #expect(fixture.forge.events(on: number).count == 1)
        #expect(fixture.forge.issue(number).labels == ["state:blocked"])
    }

    @Test func `a label that somebody else has just taken off is off`() async throws {
        let fixture = try await ForgeFixture(.github)
        let (number, ref) = fixture.openTodo()
        fixture.forge.interrupt(method: "DELETE") { forge in
            forge.change(number) { _ = $0.remove(label: "state:todo") }
        }
        #expect(try await fixture.outbox.apply(fixture.update(ref)) == .applied)
        #expect(fixture.forge.issue(number).labels == ["state:blocked"])
    }
}
