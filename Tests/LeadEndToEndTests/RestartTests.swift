import Foundation
import LeadKit
import TestSupport
import Testing
import WorktreeEngine

/// A Lead that is stopped or killed goes on where it was, and does nothing a second time.
@Suite struct RestartTests {
    /// Leaves a line for each beginning, then waits for a sign.
    private func worker(_ place: String) -> String {
        """
        echo "$WTENGINE_RUN" >> "\(place)/begun"
        until_there "\(place)/go" || exit 1
        echo done > shared.txt; git commit --quiet -am done; result ok
        """
    }

    private func eventually(_ condition: () async throws -> Bool) async throws -> Bool {
        for _ in 0..<1200 {
            if try await condition() { return true }
            try await Task.sleep(for: .milliseconds(50))
        }
        return false
    }

    private func touch(_ path: String) throws { try "".write(toFile: path, atomically: true, encoding: .utf8) }

    private func begun(_ project: Project) -> [String] {
        let text = try? String(contentsOfFile: "\(project.scratch.path)/begun", encoding: .utf8)
        return (text ?? "").split(separator: "\n").map(String.init)
    }

    @Test(
        "a stopped Lead leaves its worker, and the next one waits for it", arguments: Backend.allCases, [true, false])
    func stop(backend: Backend, byCancellation: Bool) async throws {
        let project = try await Project(backend)
        let place = project.scratch.path
        let issue = try await project.open()
        let first = project.lead(worker(place), grace: .milliseconds(50))
        let running = Task { try await first.run() }
        #expect(try await eventually { !begun(project).isEmpty })
        if byCancellation { running.cancel() } else { first.stop() }
        try await running.value
        let run = try #require(try await project.engine.runs().first)
        #expect(run.state == .attached)
        #expect(try await project.labels(issue) == ["state:doing"])
        // Mirrored for whoever reads the database; a forge has no place for it.
        let mirror = "active_run:backend:\(issue)"
        let isMirrored = backend == .sqlite
        #expect(try await project.outbox.value(mirror) == (isMirrored ? run.key.run.description : nil))
        #expect(try await project.outbox.value("cursor:backend") != nil || !isMirrored)

        let second = project.lead(worker(place))
        async let end: Void = second.run(once: true)
        try touch("\(place)/go")
        try await end
        #expect(try await project.labels(issue) == ["state:review"])
        #expect(begun(project) == [run.key.run.description])
        #expect(try await project.engine.runs().count == 1)
        #expect(try await project.outbox.value(mirror) == nil)
        #expect(try await project.events(issue).map { $0["Action"] } == ["claim", "finish"])
    }

    @Test("of a worker that ends while no Lead is there, the result counts", arguments: [Backend.sqlite])
    func resultWithoutLead(backend: Backend) async throws {
        let project = try await Project(backend)
        let place = project.scratch.path
        let issue = try await project.open()
        let lead = project.lead(worker(place), grace: .milliseconds(50))
        let running = Task { try await lead.run() }
        #expect(try await eventually { !begun(project).isEmpty })
        lead.stop()
        try await running.value
        try touch("\(place)/go")
        let run = try #require(try await project.engine.runs().first)
        let pack = ContextPack(run: run.key, in: "\(project.engine.configuration.state)/packs")
        #expect(try await eventually { try pack.result() != nil })
        try await project.lead("exit 1").run(once: true)
        #expect(try await project.labels(issue) == ["state:review"])
        #expect(begun(project).count == 1)
    }

    @Test("killed at any step, the next Lead comes to the same end", arguments: Backend.allCases, Step.allCases)
    func killed(backend: Backend, step: Step) async throws {
        let project = try await Project(backend)
        let place = project.scratch.path
        try touch("\(place)/go")
        let issue = try await project.open()
        try await step.leave(project, issue)
        try await project.lead(worker(place)).run(once: true)
        #expect(
            try await project.labels(issue) == (step == .gated ? ["state:doing", "needs-human"] : ["state:review"]))
        let actions = try await project.events(issue).map { $0["Action"] }
        #expect(actions == (step == .gated ? ["claim"] : ["claim", "finish"]))
        #expect(begun(project).count == ([.gated, .ended].contains(step) ? 0 : 1))
        #expect(try await project.engine.runs().filter(\.isActive).isEmpty)
        // Nothing is left to do.
        try await project.lead(worker(place)).run(once: true)
        #expect(try await project.events(issue).count == actions.count)
    }

    /// Where a Lead was when it was killed.
    enum Step: String, Sendable, CaseIterable, CustomTestStringConvertible {
        /// An id was given out.
        case allocated
        /// The issue was claimed.
        case claimed
        /// The workdir was there.
        case ready
        /// The same, and somebody has gated the issue since.
        case gated
        /// The run had ended, and the issue was not told.
        case ended

        var testDescription: String { rawValue }

        /// Does what a Lead does until there.
        func leave(_ project: Project, _ issue: IssueRef) async throws {
            let role = try Role(Project.role)
            let key = try await project.engine.registry.begin(
                issue, role: role, on: Date(), outbox: project.outbox.name, group: "backend"
            ).key
            if self == .allocated { return }
            let trigger = "workrun:\(key.run)/claim"
            let claim = IssueUpdate(
                issue: issue, trigger: trigger, requires: .todo, state: .doing,
                body: "Action: claim\nTrigger: \(trigger)\n\n")
            #expect(try await project.outbox.apply(claim) == .applied)
            if self == .claimed { return }
            _ = try await project.engine.spawn(
                SpawnRequest(issue: issue.description, run: key.run.description, repository: project.repository))
            if self == .gated { try await project.relabel(issue, off: [], on: ["needs-human"]) }
            if self == .ended { _ = try await project.engine.detach(key, outcome: .ok) }
        }
    }

    @Test("a second Lead for a role is refused as long as the first works")
    func twoLeads() async throws {
        let project = try await Project(.sqlite)
        let place = project.scratch.path
        _ = try await project.open()
        let first = project.lead(worker(place))
        let running = Task { try await first.run() }
        #expect(try await eventually { !begun(project).isEmpty })
        let second = project.lead("exit 1")
        let refusal = await #expect(throws: EngineError.self) { try await second.run(once: true) }
        #expect(refusal?.code == .leadRunning)
        #expect(refusal?.disposition == .blocked)
        try touch("\(place)/go")
        first.stop()
        try await running.value
        try await second.run(once: true)
        #expect(begun(project).count == 1)
    }

    @Test(
        "while a forge is out of reach the end of a run is kept, and told by the next Lead",
        arguments: [Backend.github, .gitlab])
    func unreachable(backend: Backend) async throws {
        let project = try await Project(backend)
        let issue = try await project.open()
        let place = project.scratch.path
        let lead = project.lead(worker(place))
        let running = Task { try await lead.run(once: true) }
        #expect(try await eventually { !begun(project).isEmpty })
        project.cutOff()
        try touch("\(place)/go")
        await #expect(throws: EngineError.self) { try await running.value }
        #expect(try await project.engine.runs().first?.outcome == .ok)
        project.reconnect()
        #expect(try await project.labels(issue) == ["state:doing"])
        #expect(
            try await eventually {
                _ = try? await project.lead(worker(place)).run(once: true)
                return try await project.labels(issue) == ["state:review"]
            })
        #expect(try await project.events(issue).map { $0["Action"] } == ["claim", "finish"])
        #expect(begun(project).count == 1)
    }

    @Test(
        "a result that is missing or refused ends in blocked, with the reason",
        arguments: [
            ("true", "without a result"),
            ("printf 'Status: ok\\n\\n' > \"$WTENGINE_CONTEXT_PACK/work_result.txt\"", "IssueRef"),
            (
                "result ok; sed -i 's/^RunId: .*/RunId: 2020-01-01-backend-0001/' \"$WTENGINE_CONTEXT_PACK/work_result.txt\"",
                "not of"
            ),
            ("result fail", nil), ("result blocked", nil),
        ] as [(String, String?)])
    func refusedResult(worker: String, reason: String?) async throws {
        let project = try await Project(.sqlite)
        let issue = try await project.open()
        try await project.lead(worker).run(once: true)
        #expect(try await project.labels(issue) == ["state:blocked"])
        let events = try await project.events(issue)
        #expect(events.map { $0["Action"] } == ["claim", "finish"])
        if let reason { #expect(events.last?["Reason"]?.contains(reason) == true, "\(events.last?.text ?? "")") }
        #expect(try await project.engine.runs().count == 1)
    }

    @Test("what a worker cannot do is tried by a second one, and then it is for a person")
    func attempts() async throws {
        let project = try await Project(.sqlite)
        let issue = try await project.open()
        try await project.lead("exit 3", attempts: 3).run(once: true)
        #expect(try await project.engine.runs().map { $0.outcome } == [.superseded, .superseded, .fail])
        #expect(try await project.events(issue).map { $0["Action"] } == ["claim", "switch", "switch", "finish"])
        #expect(try await project.labels(issue) == ["state:blocked"])
    }

    @Test(
        "two Leads that know nothing of one another but the outbox never take the same issue",
        arguments: [Backend.sqlite])
    func strangers(backend: Backend) async throws {
        let project = try await Project(backend)
        let place = project.scratch.path
        try touch("\(place)/go")
        var issues: [IssueRef] = []
        for number in 1...10 { issues.append(try await project.open("Task \(number)")) }
        var configuration = project.profile.workdir
        configuration.state = "\(place)/other"
        let other = try await Engine.open(configuration, logger: Project.logger)
        let script = "echo \"$WTENGINE_ISSUE\" >> \"\(place)/begun\"; git commit --quiet --allow-empty -m x; result ok"
        async let first: Void = project.lead(script).run(once: true)
        async let second: Void = project.lead(script, engine: other).run(once: true)
        _ = try await (first, second)
        #expect(Set(begun(project)) == Set(issues.map(\.description)))
        #expect(begun(project).count == 10)
        for issue in issues {
            #expect(try await project.labels(issue) == ["state:review"])
            #expect(try await project.events(issue).map { $0["Action"] } == ["claim", "finish"])
        }
    }

    @Test("a run that a person has put another in place of changes nothing any more", arguments: [Backend.sqlite])
    func personSwitches(backend: Backend) async throws {
        let project = try await Project(backend)
        let place = project.scratch.path
        let issue = try await project.open()
        let lead = project.lead(worker(place))
        let running = Task { try await lead.run(once: true) }
        #expect(try await eventually { !begun(project).isEmpty })
        let own = try await project.engine.allocate(issue, role: Role(Project.role))
        _ = try await project.engine.spawn(
            SpawnRequest(
                issue: issue.description, run: own.description, repository: project.repository, switching: true))
        try touch("\(place)/go")
        try await running.value
        // The person goes on with the issue; the result of the first run is kept in its pack.
        #expect(try await project.labels(issue) == ["state:doing"])
        #expect(try await project.events(issue).map { $0["Action"] } == ["claim"])
        let runs = try await project.engine.runs()
        #expect(runs.map(\.isActive) == [false, true])
        let pack = ContextPack(run: runs[0].key, in: "\(project.engine.configuration.state)/packs")
        #expect(try pack.result()?.status == .ok)
    }

    @Test("a switch that comes too late, since the issue is gated, ends the old run and begins no other")
    func gatedBeforeSwitch() async throws {
        let project = try await Project(.sqlite)
        let place = project.scratch.path
        let issue = try await project.open()
        let script = "echo x >> \"\(place)/begun\"; until_there \"\(place)/go\"; exit 3"
        let lead = project.lead(script, grace: .milliseconds(50))
        let running = Task { try await lead.run() }
        #expect(try await eventually { !begun(project).isEmpty })
        lead.stop()
        try await running.value
        try await project.relabel(issue, off: [], on: ["needs-human"])
        try touch("\(place)/go")
        try await project.lead(script).run(once: true)
        let runs = try await project.engine.runs()
        #expect(runs.map(\.outcome) == [.fail])
        #expect(begun(project).count == 1)
        #expect(try await project.labels(issue) == ["state:doing", "needs-human"])
        #expect(try await project.events(issue).count == 1)
    }
}
