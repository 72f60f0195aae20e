import Foundation
import Logging
import Synchronization
import TestSupport
import Testing
import WorktreeEngine

@testable import LeadKit

@Suite struct TaskGateTests {
    let scratch: Scratch
    let engine: Engine
    let run = "2026-02-14-backend-0001"

    init() async throws {
        scratch = try Scratch()
        engine = try await scratch.engine()
    }

    private func gate(_ outbox: MemoryOutbox) -> TaskGate {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        return TaskGate(engine: engine, outbox: outbox, logger: logger)
    }

    private func key(_ issue: String = "local#1", _ number: Int = 1) throws -> RunKey {
        try RunKey(issue: issue, run: "2026-02-14-backend-000\(number)")
    }

    private func update(_ issue: String, _ trigger: String, _ state: TaskState? = .blocked) throws -> IssueUpdate {
        IssueUpdate(issue: try IssueRef(issue), trigger: trigger, state: state, body: "Trigger: \(trigger)\n\n")
    }

    @Test(arguments: [
        (EngineError.Disposition.retry, false), (.blocked, false), (.needsHuman, true),
    ])
    func `a failure becomes a state of the task by its disposition`(
        disposition: EngineError.Disposition, isForPerson: Bool
    ) async throws {
        let outbox = try MemoryOutbox("local#1")
        let error = EngineError(.git, disposition, "first line\nTrigger: forged\n\nsecond")
        try await gate(outbox).close(try key(), after: error, during: "spawn", repository: "/srv/my repo")
        #expect(outbox.updates.isEmpty)
        let delivery = try await gate(outbox).deliver()
        #expect(delivery == Delivery(delivered: 1))
        #expect(outbox.labels("local#1") == (isForPerson ? ["state:blocked", "needs-human"] : ["state:blocked"]))
        let update = try #require(outbox.updates.first)
        #expect(update.trigger == "workrun:\(run)")
        #expect(IssueUpdate.trigger(in: update.body) == update.trigger)
        // The header is whole: an error's text can neither end it nor add a line to it.
        let header = update.body.components(separatedBy: "\n\n")[0]
        let names = header.split(separator: "\n").map { $0.prefix { $0 != ":" } }
        #expect(names == ["IssueRef", "RunId", "Action", "Status", "Reason", "Remedy", "Next", "Trigger"])
        // A path is one word of a shell.
        #expect(update.body.contains("git -C '/srv/my repo' fsck"))
        #expect(update.body.contains("--state \(scratch.path)/state"))
    }

    @Test func `a run is told of once, whatever fails of it and whoever delivers`() async throws {
        let outbox = try MemoryOutbox("local#1")
        for code in [EngineError.Code.limit, .disk] {
            try await gate(outbox).close(
                try key(), after: EngineError(code, .blocked, "x"), during: "spawn", repository: "/r")
        }
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 { group.addTask { _ = try? await gate(outbox).deliver() } }
        }
        try await gate(outbox).deliver()
        #expect(outbox.updates.count == 1)
        #expect(outbox.state.withLock { $0.calls } == 1)
        #expect(try await engine.audit(issue: key().issue).map(\.action) == ["message.kept", "message.delivered"])
    }

    @Test func `what cannot be delivered is kept and delivered later, in order for each issue`() async throws {
        let outbox = try MemoryOutbox("local#1", "local#2")
        let gate = gate(outbox)
        outbox.change { $0.isUnreachable = true }
        for (issue, trigger) in [("local#1", "a"), ("local#1", "b"), ("local#2", "c"), ("local#1", "d")] {
            try await gate.keep(update(issue, trigger), of: key(issue))
        }
        // One moment for both, since the pause is a second and this machine may be slow.
        let now = Date()
        let first = try await gate.deliver(at: now)
        #expect(first.pending == 4)
        #expect(first.problem == "out of reach")
        // Of one that is out of reach for all, one is asked.
        #expect(outbox.state.withLock { $0.calls } == 1)
        // Its pause is not over, and those after it wait; the other issue's do not.
        outbox.change { $0.isUnreachable = false }
        #expect(try await gate.deliver(at: now) == Delivery(delivered: 1, pending: 3))
        #expect(outbox.updates.map(\.trigger) == ["c"])
        // Another process goes on.
        let other = TaskGate(engine: try await scratch.engine(), outbox: outbox)
        #expect(try await other.deliver(at: Date() + 3600) == Delivery(delivered: 3))
        #expect(outbox.updates.map(\.trigger) == ["c", "a", "b", "d"])
    }

    @Test func `a message for an issue that is gone is given up, and the audit log says so`() async throws {
        let outbox = try MemoryOutbox("local#1")
        let gate = gate(outbox)
        try await gate.keep(update("local#7", "a"), of: key("local#7"))
        try await gate.keep(update("local#1", "b"), of: key())
        let delivery = try await gate.deliver()
        #expect((delivery.delivered, delivery.refused, delivery.pending) == (1, 1, 0))
        let refused = try #require(try await engine.audit(issue: IssueRef("local#7")).last)
        #expect(refused.action == "message.refused")
        #expect(refused.detail == "a: no local#7")
    }

    @Test func `a message that the outbox refuses is tried for hours and then given up, and holds up no other issue`()
        async throws
    {
        let outbox = try MemoryOutbox("local#1", "local#2")
        let issue = try IssueRef("local#1")
        outbox.change { $0.failures[issue] = OutboxError(.refused, "the token has run out") }
        let gate = gate(outbox)
        try await gate.keep(update("local#1", "a"), of: key())
        try await gate.keep(update("local#2", "b"), of: key("local#2"))
        var now = Date()
        #expect(try await gate.deliver(at: now).delivered == 1)
        for _ in 1..<TaskGate.patience {
            now += 3600
            #expect(try await gate.deliver(at: now).pending == 1)
            // Before its time it is tried for nothing.
            #expect(try await gate.deliverAll().pending == 1)
        }
        #expect(try await gate.deliver(at: now + 3600).refused == 1)
        #expect(outbox.updates.map(\.trigger) == ["b"])
    }

    @Test func `an outbox that asks to be left alone is left alone`() async throws {
        let outbox = try MemoryOutbox("local#1")
        let issue = try IssueRef("local#1")
        outbox.change { $0.failures[issue] = OutboxError(.unreachable, "x", retryAfter: .seconds(600)) }
        let gate = gate(outbox)
        try await gate.keep(update("local#1", "a"), of: key())
        try await gate.deliver()
        outbox.change { $0.failures = [:] }
        #expect(try await gate.deliver(at: Date() + 500).pending == 1)
        #expect(try await gate.deliver(at: Date() + 700).delivered == 1)
    }

    @Test func `an outbox that asks to be left alone for a year is asked again after an hour`() async throws {
        let outbox = try MemoryOutbox("local#1")
        let issue = try IssueRef("local#1")
        outbox.change { $0.failures[issue] = OutboxError(.unreachable, "x", retryAfter: .seconds(31_536_000)) }
        let gate = gate(outbox)
        try await gate.keep(update("local#1", "a"), of: key())
        try await gate.deliver()
        outbox.change { $0.failures = [:] }
        #expect(try await gate.deliver(at: Date() + 3601).delivered == 1)
    }

    @Test func `all that is kept is tried whatever its pause, after another process that delivers`() async throws {
        let outbox = try MemoryOutbox("local#1")
        let gate = gate(outbox)
        outbox.change { $0.isUnreachable = true }
        try await gate.keep(update("local#1", "a"), of: key())
        try await gate.deliver()
        outbox.change { $0.isUnreachable = false }
        let lease = try #require(try Lease(ifFree: "deliver memory:test", state: engine.configuration.state))
        #expect(try await gate.deliver(at: Date() + 3600) == Delivery(pending: 1))
        async let delivery = gate.deliverAll()
        lease.release()
        #expect(try await delivery == Delivery(delivered: 1))
    }

    @Test func `an issue that is gated or closed is left as it is, and told when it no longer is`() async throws {
        let outbox = try MemoryOutbox("local#1", "local#2", "local#3")
        let (gated, closed) = (try IssueRef("local#1"), try IssueRef("local#2"))
        outbox.change {
            $0.issues[gated]?.labels = ["needs-human", "state:doing"]
            $0.issues[closed]?.isClosed = true
        }
        let gate = gate(outbox)
        for issue in ["local#1", "local#2"] { try await gate.keep(update(issue, "a"), of: key(issue)) }
        for issue in ["local#1", "local#3"] { try await gate.keep(update(issue, "b"), of: key(issue)) }
        let first = try await gate.deliver()
        #expect((first.delivered, first.pending, first.held) == (1, 3, 3))
        #expect(first.problem == "local#1 is gated")
        // It is no failure, however long it takes.
        var now = Date()
        for _ in 0...TaskGate.patience {
            now += 3600
            #expect(try await gate.deliver(at: now).held == 3)
        }
        #expect(outbox.updates.map(\.issue.description) == ["local#3"])
        #expect(outbox.labels("local#1") == ["needs-human", "state:doing"])
        outbox.change {
            $0.issues[gated]?.labels = ["state:doing"]
            $0.issues[closed]?.isClosed = false
        }
        #expect(try await gate.deliver(at: now + 3600) == Delivery(delivered: 3))
        #expect(outbox.updates.filter { $0.issue == gated }.map(\.trigger) == ["a", "b"])
        #expect(outbox.labels("local#2") == ["state:blocked"])
    }

    @Test func `when somebody has changed the state, the event is told and the state stands`() async throws {
        let outbox = try MemoryOutbox("local#1")
        let issue = try IssueRef("local#1")
        outbox.change { $0.issues[issue]?.labels = ["state:done"] }
        var update = try update("local#1", "a", .review)
        update.requires = .doing
        try await gate(outbox).keep(update, of: key())
        try await gate(outbox).deliver()
        #expect(outbox.updates.map(\.trigger) == ["a"])
        #expect(outbox.labels("local#1") == ["state:done"])
    }
}
