import Foundation
import LeadKit
import Synchronization
import TestSupport
import Testing
import WorktreeEngine

/// People gate issues while a Lead is at work on them, and profiles change meanwhile.
@Suite struct GateTests {
    private let worker = "git commit --quiet --allow-empty -m x; result ok"

    private func actions(_ project: Project, _ issue: IssueRef) async throws -> [String?] {
        try await project.events(issue).map { $0["Action"] }
    }

    @Test(
        "what came of a run whose issue is gated meanwhile is told when the gate is open", arguments: Backend.allCases)
    func gatedMeanwhile(backend: Backend) async throws {
        let project = try await Project(backend)
        let place = project.scratch.path
        let issue = try await project.open()
        let lead = project.lead("touch \"\(place)/begun\"; until_there \"\(place)/go\" || exit 1; \(worker)")
        let running = Task { try await lead.run(once: true) }
        for _ in 0..<1200 where !FileManager.default.fileExists(atPath: "\(place)/begun") {
            try await Task.sleep(for: .milliseconds(50))
        }
        try await project.relabel(issue, off: [], on: ["needs-human"])
        try "".write(toFile: "\(place)/go", atomically: true, encoding: .utf8)
        // It waits for a person, so nothing is left to do, also for the next.
        try await running.value
        try await project.lead("exit 1").run(once: true)
        #expect(try await project.labels(issue) == ["state:doing", "needs-human"])
        #expect(try await actions(project, issue) == ["claim"])

        try await project.relabel(issue, off: ["needs-human"], on: [])
        try await project.lead("exit 1").run(once: true)
        #expect(try await project.labels(issue) == ["state:review"])
        #expect(try await actions(project, issue) == ["claim", "finish"])
    }

    @Test(
        "an issue that is gated between claim and worker gets none, and another run when the gate is open",
        arguments: Backend.allCases)
    func gatedBeforeWorker(backend: Backend) async throws {
        let project = try await Project(backend)
        let issue = try await project.open()
        let outbox = Meddling(project.outbox) { update, outbox in
            let result = try await outbox.apply(update)
            if update.trigger.hasSuffix("/claim") {
                try await project.relabel(issue, off: [], on: ["needs-human"])
            }
            return result
        }
        try await project.lead("exit 1", outbox: outbox).run(once: true)
        #expect(try await project.labels(issue) == ["state:doing", "needs-human"])
        #expect(try await project.engine.runs().filter { $0.isActive || $0.worker != nil }.isEmpty)

        try await project.relabel(issue, off: ["needs-human"], on: [])
        try await project.lead(worker).run(once: true)
        #expect(try await project.labels(issue) == ["state:review"])
        #expect(try await actions(project, issue) == ["claim", "withdraw", "claim", "finish"])
    }

    @Test("an issue that was gated for a moment is taken after it")
    func gatedForAMoment() async throws {
        let project = try await Project(.sqlite)
        let issue = try await project.open()
        let isFirst = Once()
        let outbox = Meddling(project.outbox) { update, outbox in
            if isFirst.first() { return .gated }
            return try await outbox.apply(update)
        }
        let lead = project.lead(worker, outbox: outbox)
        let running = Task { try await lead.run() }
        for _ in 0..<1200 where try await project.labels(issue) != ["state:review"] {
            try await Task.sleep(for: .milliseconds(50))
        }
        lead.stop()
        try await running.value
        #expect(try await project.labels(issue) == ["state:review"])
    }

    @Test("numbers that a lost registry has given out are passed over at once")
    func lostRegistry() async throws {
        let project = try await Project(.sqlite)
        let issue = try await project.open()
        var configuration = project.profile.workdir
        configuration.state = "\(project.scratch.path)/lost"
        let lost = try await Engine.open(configuration, logger: Project.logger)
        for _ in 1...3 {
            let run = try await lost.allocate(issue, role: Role(Project.role))
            for action in ["claim", "finish"] {
                let trigger = "workrun:\(run)/\(action)"
                try await project.outbox.apply(
                    IssueUpdate(issue: issue, trigger: trigger, body: "Action: \(action)\nTrigger: \(trigger)\n\n"))
            }
        }
        try await project.lead(worker).run(once: true)
        #expect(try await project.labels(issue) == ["state:review"])
        #expect(try await project.engine.runs().map { $0.key.run.description.suffix(4) } == ["0004"])
    }

    @Test("an attempt whose group has been renamed is carried by another of its role")
    func renamedGroup() async throws {
        let project = try await Project(.sqlite)
        let issue = try await project.open()
        _ = try await project.engine.registry.begin(
            issue, role: Role(Project.role), on: Date(), outbox: project.outbox.name, group: "old")
        try await project.lead(worker).run(once: true)
        #expect(try await project.labels(issue) == ["state:review"])
        #expect(try await project.engine.runs().map { $0.key.run.description.suffix(4) } == ["0001"])
    }

    @Test("an attempt whose role is not enabled any more keeps a Lead from beginning, and is named")
    func disabledRole() async throws {
        let project = try await Project(.sqlite)
        let issue = try await project.open()
        let key = try await project.engine.registry.begin(
            issue, role: Role("qa"), on: Date(), outbox: project.outbox.name, group: "checks"
        ).key
        let error = await #expect(throws: EngineError.self) { try await project.lead(worker).run(once: true) }
        #expect(error?.code == .configuration)
        for name in [key.description, "checks", "qa", project.profilePath] {
            #expect(error?.message.contains(name) == true, "\(error?.message ?? "")")
        }
        try await project.engine.registry.settle(key)
        try await project.lead(worker).run(once: true)
        #expect(try await project.labels(issue) == ["state:review"])
    }

    @Test("a Lead that is to drain and is stopped before says that work is left")
    func stoppedBeforeTheEnd() async throws {
        let project = try await Project(.sqlite)
        let place = project.scratch.path
        _ = try await project.open()
        let lead = project.lead(
            "touch \"\(place)/begun\"; until_there \"\(place)/go\"; \(worker)", grace: .milliseconds(50))
        let running = Task { try await lead.run(once: true) }
        for _ in 0..<1200 where !FileManager.default.fileExists(atPath: "\(place)/begun") {
            try await Task.sleep(for: .milliseconds(50))
        }
        lead.stop()
        let error = await #expect(throws: EngineError.self) { try await running.value }
        #expect(error?.disposition == .blocked)
        #expect(error?.message.contains("0 messages") == true && error?.message.contains("1 attempts") == true)
        try "".write(toFile: "\(place)/go", atomically: true, encoding: .utf8)
        try await project.lead("exit 1").run(once: true)
    }
}

/// An outbox with somebody else between it and the Lead.
private struct Meddling: Outbox {
    typealias Apply = @Sendable (IssueUpdate, any Outbox) async throws -> UpdateResult
    let inner: any Outbox
    let body: Apply

    init(_ inner: any Outbox, _ body: @escaping Apply) {
        self.inner = inner
        self.body = body
    }

    var name: String { inner.name }
    func issues(labelled labels: Set<String>, assignedTo assignee: String) async throws(OutboxError) -> [LeadKit.Issue]
    {
        try await inner.issues(labelled: labels, assignedTo: assignee)
    }
    func issue(_ ref: IssueRef) async throws(OutboxError) -> LeadKit.Issue { try await inner.issue(ref) }
    func apply(_ update: IssueUpdate) async throws(OutboxError) -> UpdateResult {
        do { return try await body(update, inner) } catch {
            throw error as? OutboxError ?? OutboxError(.damaged, "\(error)")
        }
    }
    func value(_ key: String) async throws(OutboxError) -> String? { try await inner.value(key) }
    func setValue(_ value: String?, for key: String) async throws(OutboxError) {
        try await inner.setValue(value, for: key)
    }
    func close() async {}
}

/// Says yes once.
private final class Once: Sendable {
    private let isUsed = Mutex(false)

    func first() -> Bool {
        isUsed.withLock { used in
            defer { used = true }
            return !used
        }
    }
}
