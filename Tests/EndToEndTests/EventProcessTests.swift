import Foundation
import TestSupport
import Testing
import WorktreeEngine

/// A scheduler that follows the log while processes beside it write there.
@Suite(.timeLimit(.minutes(30))) struct EventProcessTests {
    @Test func `what other processes do is seen once and in order, as audit prints it`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let tool = try Tool(scratch)
        let engine = try await scratch.engine()
        let issues = ["local#1", "local#2", "org/repo#3", "local#4"]
        let follower = Task {
            var seen: [AuditEvent] = []
            for try await event in engine.events(polling: .milliseconds(5)) {
                seen.append(event)
                if seen.count(where: { $0.action == .cleanupDone }) == issues.count { break }
            }
            return seen
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for issue in issues {
                group.addTask {
                    let run = "2026-02-14-backend-0001"
                    _ = try await tool.spawn(repository, issue: issue, run: run)
                    for command in [
                        ["lock", issue, run, "--reason", "looking"], ["unlock", issue, run],
                        ["detach", issue, run, "--outcome", "ok"],
                        ["cleanup", issue, run, "--confirm", try await tool.token(issue, run)],
                    ] {
                        let answer = try await tool.run(command)
                        #expect(answer.status == 0, "\(command): \(answer.message)")
                    }
                }
            }
            do { try await group.waitForAll() } catch {
                follower.cancel()
                throw error
            }
        }
        let seen = try await follower.value
        for issue in issues {
            #expect(
                seen.filter { $0.key?.issue.description == issue }.map(\.action) == [
                    .spawnBegin, .spawnReady, .lock, .unlock, .detach, .cleanupIntent, .cleanupChecked, .cleanupDone,
                ])
        }
        let printed = try await tool("audit", "--json").output.split(separator: "\n").map {
            try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any] ?? [:]
        }
        #expect(printed.map { $0["id"] as? Int } == seen.map { Int($0.id) })
        #expect(printed.map { $0["action"] as? String } == seen.map(\.action.rawValue))
        #expect(printed.map { $0["actor"] as? String } == seen.map(\.actor))
    }
}
