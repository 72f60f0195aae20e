import Foundation
import LeadKit
import TestSupport
import Testing
import WorktreeEngine

/// Which issues a Lead takes, and how many at once.
@Suite struct TakingTests {
    private let worker = "git commit --quiet --allow-empty -m x; result ok"

    @Test("only issues that wait, carry the labels, are assigned to it and are not gated", arguments: Backend.allCases)
    func selection(backend: Backend) async throws {
        let project = try await Project(backend)
        let own = try await project.open("Own")
        let others = [
            try await project.open("Gated", labels: ["role:backend", "state:todo", "needs-human"]),
            try await project.open("Another role", labels: ["role:qa", "state:todo"]),
            try await project.open("Not yet", labels: ["role:backend", "state:blocked"]),
            try await project.open("Two states", labels: ["role:backend", "state:todo", "state:doing"]),
            try await project.open("Somebody's", assignee: "ada"),
        ]
        let before = try await others.asyncMap { try await project.labels($0) }
        try await project.lead(worker).run(once: true)
        #expect(try await project.labels(own) == ["state:review"])
        #expect(try await others.asyncMap { try await project.labels($0) } == before)
        for issue in others { #expect(try await project.events(issue).isEmpty) }
        #expect(try await project.engine.runs().map(\.key.issue) == [own])
        // Issues that were not to be had are not asked for again and again, with a number each.
        let lead = project.lead(worker)
        let running = Task { try await lead.run() }
        try await Task.sleep(for: .seconds(1))
        lead.stop()
        try await running.value
        let next = try await project.engine.allocate(others[3], role: Role("backend"))
        // One at most; none when the machine was too slow for a pass within the second.
        #expect(["0002", "0003"].contains(next.description.suffix(4)))
    }

    @Test("as many at once as the group may have, and no more", arguments: [1, 3])
    func concurrency(limit: Int) async throws {
        let project = try await Project(.sqlite, maxConcurrent: limit)
        for number in 1...(3 * limit) { _ = try await project.open("Task \(number)") }
        let place = project.scratch.path
        // The first of them wait for one another, so that fewer at once would be seen too.
        try await project.lead(
            """
            echo + >> "\(place)/log"
            for _ in $(seq 1200); do [ "$(grep -c + "\(place)/log")" -ge \(limit) ] && break; sleep 0.05; done
            sleep 0.1; \(worker); echo - >> "\(place)/log"
            """
        ).run(once: true)
        let log = try String(contentsOfFile: "\(place)/log", encoding: .utf8).split(separator: "\n")
        var (now, most) = (0, 0)
        for line in log {
            now += line == "+" ? 1 : -1
            most = max(most, now)
        }
        #expect(most == limit)
        #expect(now == 0)
        #expect(log.count == 6 * limit)
    }

    @Test("an issue that has still to be told something waits, so that no claim overtakes a message")
    func waitsForMessage() async throws {
        let project = try await Project(.sqlite)
        let (told, other) = (try await project.open("Told"), try await project.open("Other"))
        let key = RunKey(issue: told, run: try RunID("2026-02-14-backend-0001"))
        let gate = TaskGate(engine: project.engine, outbox: project.outbox)
        try await gate.keep(
            IssueUpdate(issue: told, trigger: "workrun:x", body: "Trigger: workrun:x\n\n"), of: key)
        let registry = project.engine.registry
        let message = try #require(try await registry.messages(outbox: project.outbox.name).first)
        try await registry.postponed(message, until: Date() + 3600, error: "out of reach")
        // With nothing else left it is told whatever its pause, and the issue taken after that.
        try await project.lead(worker).run(once: true)
        for issue in [told, other] { #expect(try await project.labels(issue) == ["state:review"]) }
        #expect(
            try await project.events(told).map { $0["Trigger"]?.prefix(9) } == ["workrun:x", "workrun:2", "workrun:2"])
    }
}

extension Array {
    fileprivate func asyncMap<T>(_ transform: (Element) async throws -> T) async rethrows -> [T] {
        var result: [T] = []
        for element in self { result.append(try await transform(element)) }
        return result
    }
}
