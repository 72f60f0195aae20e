import Foundation
import TestSupport
import Testing

@testable import WorktreeEngine

/// Followers of the audit log. An engine of another process has a connection of its own to the registry; so has a second
/// engine of this process, which stands for one here.
@Suite(.timeLimit(.minutes(30))) struct EventTests {
    /// Events up to the first of a kind, or the end.
    private func events(
        of engine: Engine, since id: AuditEvent.ID? = nil, until kind: AuditEvent.Kind,
        polling interval: Duration = .milliseconds(5)
    ) async throws -> [AuditEvent] {
        var seen: [AuditEvent] = []
        for try await event in engine.events(since: id, polling: interval) {
            seen.append(event)
            if event.action == kind { break }
        }
        return seen
    }

    @Test func `a follower sees the whole log, whoever wrote it`() async throws {
        let run = try await RunFixture()
        let other = try await run.scratch.engine { $0.actor = "other" }
        async let seen = events(of: run.engine, until: .cleanupDone)
        try await other.attach(run.key, process: getpid())
        try await run.engine.detach(run.key, outcome: .ok)
        _ = try await other.cleanup(other.planCleanup(run.key))
        let (found, log) = (try await seen, try await run.engine.audit())
        #expect(found == log)
        #expect(
            log.map(\.action) == [
                .spawnBegin, .spawnReady, .attach, .detach, .cleanupIntent, .cleanupChecked, .cleanupDone,
            ])
        #expect(log.map(\.actor) == ["test", "test", "other", "test", "other", "other", "other"])
    }

    @Test func `a commit of the same engine needs no look`() async throws {
        let run = try await RunFixture()
        let started = try await run.engine.lastEventID()
        async let seen = events(of: run.engine, since: started, until: .detach, polling: .seconds(3600))
        try await run.engine.attach(run.key, process: getpid())
        try await run.engine.detach(run.key, outcome: .ok)
        let found = try await seen
        #expect(found.map(\.action) == [.attach, .detach])
    }

    @Test func `no event is missed or seen twice by one who comes back again and again`() async throws {
        let scratch = try Scratch()
        let writers = try await [scratch.engine(), scratch.engine(), scratch.engine()]
        let total = 300
        let read = Task {
            var seen: [AuditEvent.ID] = []
            while seen.count < total {
                // As after a restart: another engine, which knows nothing but the last id.
                let engine = try await scratch.engine()
                let most = Int.random(in: 1...40)
                var count = 0
                for try await event in engine.events(since: seen.last, polling: .milliseconds(1)) {
                    seen.append(event.id)
                    count += 1
                    if count == most || seen.count == total { break }
                }
            }
            return seen
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for writer in writers {
                group.addTask {
                    for number in 0..<(total / 3) { try await writer.registry.note("test", detail: "\(number)") }
                }
            }
            try await group.waitForAll()
        }
        let seen = try await read.value
        #expect(try await seen == writers[0].audit().map(\.id))
        #expect(seen.count == total)
    }

    @Test func `several followers each see everything, also more than one batch`() async throws {
        let scratch = try Scratch()
        let engine = try await scratch.engine()
        for number in 0..<250 { try await engine.registry.note("test", detail: "\(number)") }
        try await withThrowingTaskGroup(of: [AuditEvent].self) { group in
            for _ in 0..<4 { group.addTask { try await events(of: engine, until: "end") } }
            try await engine.registry.note("end", detail: nil)
            let log = try await engine.audit()
            for try await seen in group { #expect(seen == log) }
        }
    }

    @Test func `a cancelled task sees the end`() async throws {
        let scratch = try Scratch()
        let engine = try await scratch.engine()
        try await engine.registry.note("first", detail: nil)
        let (seen, sink) = AsyncStream.makeStream(of: AuditEvent.Kind.self)
        let follower = Task {
            for try await event in engine.events(polling: .seconds(3600)) { sink.yield(event.action) }
            #expect(Task.isCancelled)
        }
        var iterator = seen.makeAsyncIterator()
        #expect(await iterator.next() == "first")
        // It waits for the next one now, or is about to.
        follower.cancel()
        try await follower.value
    }

    @Test func `the end comes with the engine's, after what is there`() async throws {
        let scratch = try Scratch()
        let engine = try await scratch.engine()
        for _ in 0..<150 { try await engine.registry.note("test", detail: nil) }
        let (seen, sink) = AsyncStream.makeStream(of: AuditEvent.ID.self)
        let follower = Task {
            for try await event in engine.events(polling: .seconds(3600)) { sink.yield(event.id) }
            sink.finish()
        }
        var iterator = seen.makeAsyncIterator()
        #expect(await iterator.next() == 1)
        await engine.close()
        try await follower.value
        var rest: [AuditEvent.ID] = []
        while let id = await iterator.next() { rest.append(id) }
        #expect(rest == Array(2...150))
        // One that begins after that does not wait either.
        var late = engine.events(since: 148).makeAsyncIterator()
        #expect(try await late.next()?.id == 149)
        #expect(try await late.next()?.id == 150)
        #expect(try await late.next() == nil)
        #expect(try await late.next() == nil)
    }

    @Test func `an id that the log has not reached is refused, since the registry is another one`() async throws {
        let scratch = try Scratch()
        let engine = try await scratch.engine()
        try await engine.registry.note("only", detail: nil)
        #expect(try await engine.lastEventID() == 1)
        var events = engine.events(since: 7).makeAsyncIterator()
        do throws(EngineError) {
            _ = try await events.next(isolation: nil)
            Issue.record("nothing was thrown")
        } catch {
            #expect(error.code == .invalidInput)
            #expect(error.message.contains("no event 7") && error.message.contains("is 1"), "\(error)")
        }
        #expect(try await events.next() == nil)
    }

    @Test func `a registry that cannot be read ends the sequence with its error`() async throws {
        let scratch = try Scratch()
        let engine = try await scratch.engine()
        try await engine.registry.note("first", detail: nil)
        var events = engine.events(polling: .milliseconds(1)).makeAsyncIterator()
        #expect(try await events.next()?.action == "first")
        try await run(
            [
                "python3", "-c",
                "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('ALTER TABLE audit RENAME TO lost')",
                "\(scratch.path)/state/registry.sqlite",
            ], in: "/")
        do throws(EngineError) {
            _ = try await events.next(isolation: nil)
            Issue.record("nothing was thrown")
        } catch { #expect(error.code == .registry) }
        #expect(try await events.next() == nil)
    }

    @Test func `an engine without events has none, and its last id is nought`() async throws {
        let scratch = try Scratch()
        let engine = try await scratch.engine()
        #expect(try await engine.lastEventID() == 0)
        await engine.close()
        var events = engine.events().makeAsyncIterator()
        #expect(try await events.next() == nil)
    }
}
