import Foundation
import GRDB
import Logging
import ServiceLifecycle
import ServiceLifecycleTestKit
import Synchronization
import TestSupport
import Testing
import WorktreeEngine

@testable import WorktreeMaintenance

/// What the service has done is seen in the audit log, never by waiting for a time.
@Suite(.timeLimit(.minutes(30))) struct MaintenanceTests {
    /// Runs the service beside a test, and ends it gracefully.
    private func serving(
        _ engine: Engine, interval: Duration = .milliseconds(1), log: LogMessages = LogMessages(),
        needsHuman: @escaping @Sendable (Run) async -> Void = { _ in },
        _ body: @escaping @Sendable () async throws -> Void
    ) async throws {
        let service = MaintenanceService(
            engine: engine, interval: interval, logger: log.logger, needsHuman: needsHuman)
        try await testGracefulShutdown { trigger in
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await service.run() }
                // Also when the test fails, so that the group comes to its end.
                defer { trigger.triggerGracefulShutdown() }
                try await body()
            }
        }
    }

    /// Waits for an event of a run.
    private func event(_ action: AuditEvent.Kind, of run: RunKey, _ engine: Engine) async throws {
        for try await event in engine.events(polling: .milliseconds(5)) where event.action == action && event.key == run
        {
            return
        }
        Issue.record("the events ended before \(action) of \(run)")
    }

    /// A run that has ended, and whose policy has run out.
    private func due(_ fixture: RunFixture, _ number: Int) async throws -> RunKey {
        let key = try await fixture.sibling(issue: "local#\(number)").run
        try await fixture.engine.detach(key, outcome: .ok)
        return key
    }

    /// The registry as another process opens it.
    private func database(_ fixture: RunFixture) throws -> DatabaseQueue {
        var configuration = GRDB.Configuration()
        configuration.busyMode = .timeout(10)
        return try DatabaseQueue(
            path: "\(fixture.scratch.path)/state/registry.sqlite", configuration: configuration)
    }

    private func fixture() async throws -> RunFixture { try await RunFixture { $0.policies[.ok] = .ttl(.zero) } }

    @Test func `what is due is cleaned up, round after round`() async throws {
        let fixture = try await fixture()
        let first = try await due(fixture, 2)
        try await serving(fixture.engine) {
            try await event(.cleanupDone, of: first, fixture.engine)
            for number in 3...5 { try await event(.cleanupDone, of: due(fixture, number), fixture.engine) }
        }
        #expect(try await fixture.engine.run(fixture.key).state == .ready)
    }

    @Test func `what a crash left half-made is recovered at the start`() async throws {
        let fixture = try await fixture()
        // As a process leaves it that ends right after the intent.
        try await database(fixture).write { db in
            try db.execute(
                sql: """
                    INSERT INTO runs (issue, run, role, repo, common_dir, root, path, admin_id, base, state, active,
                        materializer, created_at, updated_at)
                    SELECT 'local#9', run, role, repo, common_dir, root, replace(path, 'local+1', 'local+9'), 'left-behind',
                        base, 'creating', 1, materializer, created_at, updated_at FROM runs
                    """)
        }
        let key = try RunKey(issue: "local#9", run: fixture.key.run.description)
        try await serving(fixture.engine, interval: .seconds(3600)) {
            try await event(.spawnRolledBack, of: key, fixture.engine)
        }
        #expect(try await fixture.engine.runs().map(\.key) == [fixture.key])
    }

    @Test func `a run that needs a person is told of once`() async throws {
        let fixture = try await fixture()
        try await fixture.sh("echo work > untracked")
        try await fixture.engine.detach(fixture.key, outcome: .ok)
        let (told, teller) = AsyncStream.makeStream(of: Run.self)
        let log = LogMessages()
        try await serving(fixture.engine, log: log, needsHuman: { teller.yield($0) }) {
            var iterator = told.makeAsyncIterator()
            let run = try #require(await iterator.next())
            #expect(run.key == fixture.key && run.state == .quarantined)
            #expect(run.reason?.contains("untracked") == true)
            // Each of these takes another round.
            for number in 2...4 { try await event(.cleanupDone, of: due(fixture, number), fixture.engine) }
            let other = try await fixture.sibling(issue: "local#5").run
            try await shell("echo work > other", in: fixture.engine.run(other).path)
            try await fixture.engine.detach(other, outcome: .ok)
            #expect(await iterator.next()?.key == other, "the next one that is told of is another run")
        }
        #expect(log.messages.count { $0 == "error: a run needs a person" } == 2)
    }

    @Test func `a failure is said once, and the next round tries again`() async throws {
        let fixture = try await fixture()
        let key = try await due(fixture, 2)
        let database = try database(fixture)
        let log = LogMessages()
        try await database.write { try $0.execute(sql: "ALTER TABLE runs RENAME TO hidden") }
        try await serving(fixture.engine, log: log) {
            await log.wait(for: "debug: sweeping", times: 5)
            try await database.write { try $0.execute(sql: "ALTER TABLE hidden RENAME TO runs") }
            try await event(.cleanupDone, of: key, fixture.engine)
        }
        #expect(log.messages.count { $0 == "error: a sweep failed and is tried again" } == 1)
        #expect(log.messages.count { $0 == "error: a recovery failed and is tried again" } == 1)
    }

    @Test func `what is so from look to look is new once, and again after it was not`() {
        var notices = Notices()
        func look(_ texts: String..., failing: Bool = false) -> [String] {
            notices.beginLook()
            let new = texts.filter { notices.isNew($0) }
            if !failing { notices.endLook() }
            return new
        }
        #expect(look("a", "b") == ["a", "b"])
        #expect(look("a", "b", "c") == ["c"])
        #expect(look("a") == [])
        #expect(look("failure", failing: true) == ["failure"])
        #expect(look("failure", failing: true) == [])
        #expect(look("a", "b") == ["b"], "b had gone; a was there at the last whole look")
        #expect(look("failure", failing: true) == ["failure"])
    }

    @Test func `a graceful shutdown ends the wait for the next round`() async throws {
        let fixture = try await fixture()
        let key = try await due(fixture, 2)
        try await serving(fixture.engine, interval: .seconds(3600)) {
            try await event(.cleanupDone, of: key, fixture.engine)
        }
        #expect(try await fixture.engine.recover().isEmpty)
    }

    @Test func `a service group ends it with the signal, and its engine goes on`() async throws {
        let fixture = try await fixture()
        let key = try await due(fixture, 2)
        let group = ServiceGroup(
            services: [MaintenanceService(engine: fixture.engine, interval: .seconds(3600))],
            logger: LogMessages().logger)
        async let ended: Void = group.run()
        try await event(.cleanupDone, of: key, fixture.engine)
        await group.triggerGracefulShutdown()
        try await ended
        let next = try await due(fixture, 3)
        #expect(try await fixture.engine.sweep().cleaned == [next])
    }

    @Test func `a cancellation ends it, and leaves nothing half-made`() async throws {
        let fixture = try await fixture()
        var keys: [RunKey] = []
        for number in 2...8 { keys.append(try await due(fixture, number)) }
        let first = keys[0]
        let service = MaintenanceService(engine: fixture.engine, logger: LogMessages().logger)
        let task = Task { await service.run() }
        try await event(.cleanupDone, of: first, fixture.engine)
        task.cancel()
        await task.value
        #expect(try await fixture.engine.recover().isEmpty)
        for key in keys {
            #expect(try await [.detached, .removed].contains(fixture.engine.run(key).state))
        }
    }
}

/// What was logged, as `level: message`.
final class LogMessages: Sendable {
    private let kept = Mutex<[String]>([])

    var messages: [String] { kept.withLock { $0 } }
    var logger: Logger { Logger(label: "test") { _ in Handler(messages: self) } }

    func wait(for message: String, times: Int) async {
        while messages.count(where: { $0 == message }) < times, !Task.isCancelled {
            try? await Task.sleep(for: .milliseconds(2))
        }
    }

    private struct Handler: LogHandler {
        let messages: LogMessages
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.trace

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) { messages.kept.withLock { $0.append("\(event.level): \(event.message)") } }
    }
}
