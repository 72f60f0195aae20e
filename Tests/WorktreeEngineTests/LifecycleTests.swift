import Foundation
import Glibc
import TestSupport
import Testing

@testable import WorktreeEngine

@Suite struct LifecycleTests {
    private func actions(_ run: RunFixture) async throws -> [String] {
        try await run.engine.audit(issue: run.key.issue, run: run.key.run).map(\.action.rawValue)
    }

    @Test func `every step leaves one row in the audit log`() async throws {
        let run = try await RunFixture()
        try await run.engine.attach(run.key, process: getpid())
        try await run.engine.lock(run.key, reason: "looking\nat it")
        try await run.engine.unlock(run.key)
        try await run.engine.detach(run.key, outcome: .ok)
        _ = try await run.engine.cleanup(run.engine.planCleanup(run.key))
        #expect(
            try await actions(run) == [
                "spawn.begin", "spawn.ready", "attach", "lock", "unlock", "detach", "cleanup.intent", "cleanup.checked",
                "cleanup.done",
            ])
        let events = try await run.engine.audit()
        #expect(
            events.compactMap(\.to) == [
                .creating, .ready, .attached, .attached, .attached, .detached, .cleaning, .cleaning, .removed,
            ])
        #expect(events.allSatisfy { $0.key == run.key && $0.path == run.path && $0.actor == "test" })
    }

    @Test func `attaching the same worker again changes nothing`() async throws {
        let run = try await RunFixture()
        let first = try await run.engine.attach(run.key, process: getpid())
        let rows = try await run.engine.audit().count
        #expect(try await run.engine.attach(run.key, process: getpid()) == first)
        #expect(try await run.engine.audit().count == rows)
        #expect(first.worker?.pid == getpid())
    }

    @Test func `a second worker is refused while the first lives, and takes over when it is dead`() async throws {
        let run = try await RunFixture()
        let child = try Child("echo in; exec sleep 600")
        defer { child.end() }
        try await run.engine.attach(run.key, process: child.pid)
        #expect(try await code { try await run.engine.attach(run.key, process: getpid()) } == .state)
        #expect(try await run.engine.run(run.key).worker?.pid == child.pid)
        child.end()
        #expect(try await run.engine.attach(run.key, process: getpid()).worker?.pid == getpid())
    }

    @Test func `a process that does not run cannot be attached`() async throws {
        let run = try await RunFixture()
        let child = try Child("echo in; exec sleep 600")
        child.end()
        for pid in [child.pid, 0, -1, Int32.max] {
            #expect(try await code { try await run.engine.attach(run.key, process: pid) } == .noProcess)
        }
        #expect(try await run.engine.run(run.key).state == .ready)
    }

    @Test func `detaching again with the same outcome changes nothing, another outcome is refused`() async throws {
        let run = try await RunFixture()
        try await run.engine.attach(run.key, process: getpid())
        let first = try await run.engine.detach(run.key, outcome: .fail)
        #expect(first.state == .detached && first.outcome == .fail && first.endedAt != nil)
        #expect(try await run.engine.detach(run.key, outcome: .fail) == first)
        #expect(try await code { try await run.engine.detach(run.key, outcome: .ok) } == .state)
        #expect(try await code { try await run.engine.attach(run.key, process: getpid()) } == .state)
        #expect(try await run.engine.run(run.key) == first)
        _ = try await run.engine.cleanup(run.engine.planCleanup(run.key))
        #expect(try await run.engine.detach(run.key, outcome: .fail).state == .removed)
        #expect(try await code { try await run.engine.detach(run.key, outcome: .ok) } == .state)
    }

    @Test func `a report that led to quarantine may be repeated`() async throws {
        let run = try await RunFixture { $0.policies[.ok] = .immediate }
        try await run.sh("echo x > new")
        let first = try await run.engine.detach(run.key, outcome: .ok)
        #expect(first.state == .quarantined)
        #expect(try await run.engine.detach(run.key, outcome: .ok) == first)
    }

    @Test func `an ended run makes room for the next one of its role`() async throws {
        let run = try await RunFixture()
        #expect(try await code { _ = try await run.sibling(issue: "local#1", "2026-02-14-backend-0002") } == .runActive)
        _ = try await run.sibling(issue: "local#1", "2026-02-14-qa-0001")
        try await run.engine.detach(run.key, outcome: .blocked)
        let next = try await run.sibling(issue: "local#1", "2026-02-14-backend-0002")
        #expect(next.superseded == nil && next.path != run.path)
        #expect(try await code { _ = try await run.sibling(issue: "local#1") } == .runExists)
    }

    @Test func `a superseded run reports in vain`() async throws {
        let run = try await RunFixture()
        try await run.engine.attach(run.key, process: getpid())
        try await run.sh("echo unsaved > new.txt")
        let before = try snapshot(run.path)
        let next = try await run.sibling(issue: "local#1", "2026-02-14-backend-0002", switching: true)
        #expect(next.superseded == run.key)
        let row = try await run.engine.run(run.key)
        #expect(row.superseded && row.outcome == .superseded && row.supersededBy == "2026-02-14-backend-0002")
        for report in [
            { _ = try await run.engine.attach(run.key, process: getpid()) },
            { _ = try await run.engine.attach(run.key, process: Int32.max) },
            { _ = try await run.engine.detach(run.key, outcome: .ok) },
            { _ = try await run.engine.detach(run.key, outcome: .superseded) },
        ] as [() async throws -> Void] {
            do {
                try await report()
                Issue.record("a stale report was accepted")
            } catch let error as EngineError {
                #expect(error.code == .stale && error.message.contains("2026-02-14-backend-0002"))
            }
        }
        #expect(try await run.engine.run(run.key) == row)
        #expect(try snapshot(run.path) == before)
        #expect(try await actions(run).filter { $0 == "report.stale" }.count == 4)
        // The third of the line is named, not the second.
        _ = try await run.sibling(issue: "local#1", "2026-02-14-backend-0003", switching: true)
        do { try await run.engine.detach(run.key, outcome: .ok) } catch {
            #expect(error.message.contains("2026-02-14-backend-0003"))
        }
    }

    @Test func `a switch that fails leaves the old run active`() async throws {
        let run = try await RunFixture()
        try await run.engine.attach(run.key, process: getpid())
        let before = try await run.witness()
        #expect(
            try await code {
                _ = try await run.sibling(issue: "local#1", "2026-02-14-backend-0002", switching: true, base: "no-such")
            } == .unknownBase)
        #expect(
            try await code {
                _ = try await run.sibling(
                    issue: "local#1", "2026-02-14-backend-0002", switching: true, branch: .named("main"))
            } == .branchTaken)
        #expect(try await run.witness() == before)
        #expect(try await run.engine.runs().count == 1)
        #expect(try await run.engine.detach(run.key, outcome: .ok).state == .detached)
    }

    @Test func `a lock keeps the workdir until it is unlocked, and git shows why`() async throws {
        let run = try await RunFixture()
        try await run.engine.lock(run.key, reason: "a demo")
        let list = try await git("worktree", "list", "--porcelain", in: run.repository.path)
        #expect(list.contains("locked wtengine local#1 2026-02-14-backend-0001: a demo"))
        let before = try await run.witness()
        let plan = try await run.engine.planCleanup(run.key)
        #expect(try await code { _ = try await run.engine.cleanup(plan, discard: true) } == .keepLocked)
        #expect(try await run.witness() == before)
        #expect(try await code { try await run.engine.lock(run.key, reason: "\n") } == .invalidInput)
        try await run.engine.unlock(run.key)
        #expect(try await run.engine.cleanup(plan).run.state == .removed)
        #expect(try await code { try await run.engine.lock(run.key, reason: "late") } == .state)
    }

    @Test func `the repository's configuration and hooks are left alone`() async throws {
        let run = try await RunFixture(
            prepare: "for h in post-checkout reference-transaction pre-commit; do "
                + "printf '#!/bin/sh\\ntouch $ROOT/hook-ran\\n' > .git/hooks/$h; chmod +x .git/hooks/$h; done")
        let config = "\(run.repository.path)/.git/config"
        let before = try Data(contentsOf: URL(fileURLWithPath: config))
        _ = try await run.sibling()
        _ = try await run.engine.cleanup(run.engine.planCleanup(run.key))
        #expect(try Data(contentsOf: URL(fileURLWithPath: config)) == before)
        #expect(!FileManager.default.fileExists(atPath: "\(run.scratch.path)/hook-ran"))
    }

    @Test func `nothing is done twice, and nothing to an unknown run`() async throws {
        let run = try await RunFixture()
        let plan = try await run.engine.planCleanup(run.key)
        _ = try await run.engine.cleanup(plan)
        #expect(try await code { _ = try await run.engine.cleanup(plan) } == .state)
        #expect(try await code { _ = try await run.engine.planCleanup(run.key) } == .state)
        let unknown = try RunKey(issue: "local#1", run: "nobody")
        #expect(try await code { try await run.engine.attach(unknown, process: getpid()) } == .unknownRun)
        #expect(try await code { try await run.engine.detach(unknown, outcome: .ok) } == .unknownRun)
        #expect(try await code { _ = try await run.engine.planCleanup(unknown) } == .unknownRun)
        #expect(try await code { try await run.engine.lock(unknown, reason: "x") } == .unknownRun)
    }

    @Test func `two cleanups of one plan at once remove it once`() async throws {
        let run = try await RunFixture()
        let plan = try await run.engine.planCleanup(run.key)
        let codes = await withTaskGroup(of: EngineError.Code?.self) { group in
            for _ in 0..<4 {
                group.addTask { try? await code { _ = try await run.engine.cleanup(plan) } }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(codes.filter { $0 == nil }.count == 1)
        #expect(codes.compactMap(\.self).allSatisfy { $0 == .state || $0 == .inProgress })
        #expect(try await actions(run).filter { $0 == "cleanup.done" }.count == 1)
    }
}
