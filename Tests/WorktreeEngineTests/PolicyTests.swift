import Foundation
import TestSupport
import Testing

@testable import WorktreeEngine

@Suite struct PolicyTests {
    @Test func `immediate cleans up at detach`() async throws {
        let run = try await RunFixture { $0.policies[.ok] = .immediate }
        #expect(try await run.engine.detach(run.key, outcome: .ok).state == .removed)
        #expect(!FileManager.default.fileExists(atPath: run.path))
        #expect(try await run.repository.worktreeCount() == 1)
    }

    @Test func `a ttl counts from the end of the run, by outcome`() async throws {
        let run = try await RunFixture { $0.policies[.fail] = .ttl(.seconds(3600)) }
        let other = try await run.sibling()
        let kept = try await run.sibling(issue: "local#3")
        try await run.engine.detach(run.key, outcome: .fail)
        try await run.engine.detach(other.run, outcome: .ok)
        #expect(try await run.engine.sweep().cleaned.isEmpty)
        for key in [run.key, other.run] {
            try await run.engine.registry.transition(key, from: [.detached], to: .detached, action: "test") {
                $0.endedAt = Date(timeIntervalSinceNow: -3601)
            }
        }
        #expect(try await run.engine.sweep().cleaned == [run.key])
        #expect(try await run.engine.run(other.run).state == .detached)
        #expect(try await run.engine.verify(kept.run) == [])
    }

    @Test func `keep keeps, and a run that has not ended is never due`() async throws {
        let run = try await RunFixture { configuration in
            for outcome in Outcome.allCases { configuration.policies[outcome] = outcome == .ok ? .keep : .ttl(.zero) }
        }
        let other = try await run.sibling()
        try await run.engine.detach(run.key, outcome: .ok)
        let report = try await run.engine.sweep()
        #expect(report.cleaned.isEmpty && report.skipped.isEmpty)
        #expect(try await run.engine.run(other.run).state == .ready)
    }

    @Test func `work at risk outlives any policy, is reported, and is not tried again`() async throws {
        let run = try await RunFixture { $0.policies[.ok] = .ttl(.zero) }
        let sibling = try await run.sibling()
        try await run.sh("echo precious > new.txt")
        try await run.engine.detach(run.key, outcome: .ok)
        try await run.engine.detach(sibling.run, outcome: .ok)
        let before = try snapshot(run.path)
        let report = try await run.engine.sweep()
        #expect(report.quarantined.map(\.run) == [run.key])
        #expect(report.quarantined.first?.reason.contains("new.txt") == true)
        #expect(report.cleaned == [sibling.run])
        let rows = try await run.engine.audit().count
        let again = try await run.engine.sweep()
        #expect(again.quarantined.isEmpty && again.cleaned.isEmpty)
        #expect(try await run.engine.audit().count == rows)
        #expect(try snapshot(run.path) == before)
        #expect(try await run.engine.cleanup(run.engine.planCleanup(run.key), discard: true).run.state == .removed)
    }

    @Test func `a sweep skips what is locked or in use`() async throws {
        let run = try await RunFixture { $0.policies[.ok] = .ttl(.zero) }
        let used = try await run.sibling()
        try await run.engine.lock(run.key, reason: "a demo")
        try await run.engine.detach(run.key, outcome: .ok)
        let child = try Child("cd \(used.path); echo in; exec sleep 600")
        defer { child.end() }
        try await run.engine.detach(used.run, outcome: .ok)
        let report = try await run.engine.sweep()
        #expect(Set(report.skipped.map(\.run)) == [run.key, used.run])
        #expect(try await run.engine.run(used.run).state == .detached)
        child.end()
        try await run.engine.unlock(run.key)
        #expect(Set(try await run.engine.sweep().cleaned) == [run.key, used.run])
    }

    @Test func `a superseded run whose worker lives is not swept`() async throws {
        let run = try await RunFixture { $0.policies[.superseded] = .ttl(.zero) }
        let child = try Child("echo in; exec sleep 600")
        defer { child.end() }
        try await run.engine.attach(run.key, process: child.pid)
        _ = try await run.sibling(issue: "local#1", "2026-02-14-backend-0002", switching: true)
        #expect(try await run.engine.sweep().skipped.map(\.run) == [run.key])
        child.end()
        #expect(try await run.engine.sweep().cleaned == [run.key])
    }

    @Test(arguments: [Materializer.checkout, .pool, .git])
    func `entries of workdirs that somebody deleted are pruned`(_ materializer: Materializer) async throws {
        let run = try await RunFixture(materializer)
        let sibling = try await run.sibling()
        try FileManager.default.removeItem(atPath: run.path)
        #expect(try await run.engine.prune().pruned == [run.key])
        #expect(try await run.engine.run(run.key).state == .removed)
        #expect(try await run.repository.worktreeCount() == 2)
        #expect(try await run.engine.verify(sibling.run) == [])
        #expect(try await run.repository.branches() == ["main", sibling.branch])
    }

    @Test func `a sweep leaves a missing workdir to its policy, since it may come back`() async throws {
        let run = try await RunFixture { $0.policies = [.ok: .ttl(.zero), .fail: .ttl(.seconds(3600))] }
        let failed = try await run.sibling()
        try await run.engine.detach(failed.run, outcome: .fail)
        try await shell("mv \(run.path) \(run.path).away; mv \(failed.path) \(failed.path).away", in: "/")
        let report = try await run.engine.sweep()
        #expect(report.pruned.isEmpty && Set(report.skipped.map(\.run)) == [run.key, failed.run])
        try await shell("mv \(run.path).away \(run.path)", in: "/")
        #expect(try await run.engine.verify(run.key) == [])

        try FileManager.default.removeItem(atPath: run.path)
        try await run.engine.detach(run.key, outcome: .ok)
        #expect(try await run.engine.sweep().pruned == [run.key])
        let intent = try await run.engine.audit().last { $0.action == .cleanupIntent }
        #expect(intent?.detail == "the workdir was gone")
    }

    @Test(arguments: [
        "git checkout -q --detach; git commit -q --allow-empty -m kept",
        "echo staged > new; git add new",
        "git update-ref refs/worktree/x $(git commit-tree -m x HEAD^{tree})",
    ])
    func `an entry that keeps work alive is not pruned`(_ script: String) async throws {
        let run = try await RunFixture()
        try await run.sh(script)
        try FileManager.default.removeItem(atPath: run.path)
        let before = try await git("rev-list", "--all", "--reflog", "--count", in: run.repository.path)
        let report = try await run.engine.prune()
        #expect(report.pruned.isEmpty && report.quarantined.map(\.run) == [run.key])
        #expect(try await run.repository.worktreeCount() == 2)
        try await git("gc", "-q", "--prune=now", in: run.repository.path)
        #expect(try await git("rev-list", "--all", "--reflog", "--count", in: run.repository.path) == before)
    }

    @Test func `nothing is pruned when entry and workdir were removed by git, but the branch has work`() async throws {
        let run = try await RunFixture()
        try await run.sh("git commit -q --allow-empty -m work; cd $REPO; git worktree remove -f -f $OLDPWD")
        #expect(try await run.engine.prune().pruned == [run.key])
        #expect(try await run.repository.branches().contains(run.workdir.branch!))
    }

    @Test func `trash and stage that a crash left are emptied, those of a person are not`() async throws {
        let run = try await RunFixture()
        let row = try await run.engine.run(run.key)
        try await shell(
            "mkdir -p stage/left/a/b trash/gone-0123456789/x trash/gone-0123456789.7/y; echo x > trash/gone-0123456789.7/y/z; "
                + "ln -s $ROOT/repo trash/link",
            in: "\(row.root)/.wtengine", ["ROOT": run.scratch.path])
        #expect(try await run.engine.sweep().emptied >= 4)
        #expect(try await run.repository.head() == run.workdir.base)
        let left = try FileManager.default.subpathsOfDirectory(atPath: "\(row.root)/.wtengine")
        #expect(Set(left) == ["marker", "owner", "stage", "trash"])
        #expect(try await run.engine.verify(run.key) == [])
    }

    @Test func `many cleanups at once touch no sibling`() async throws {
        let run = try await RunFixture()
        var keys: [RunKey] = []
        for number in 1...8 { keys.append(try await run.sibling(issue: "local#5", "2026-02-14-r\(number)-0001").run) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for key in keys {
                group.addTask { _ = try await run.engine.cleanup(run.engine.planCleanup(key)) }
            }
            try await group.waitForAll()
        }
        #expect(await run.engine.finishTrash() == 0)
        #expect(try await run.engine.verify(run.key) == [])
        #expect(try await run.repository.worktreeCount() == 2)
    }
}
