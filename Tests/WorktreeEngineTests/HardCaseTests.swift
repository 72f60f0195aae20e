import Foundation
import TestSupport
import Testing

@testable import WorktreeEngine

/// Ways in which references, indexes and crashes have tricked a removal.
@Suite struct HardCaseTests {
    @Test(arguments: [Materializer.checkout, .pool, .git])
    func `a symbolic reference to the run's branch does not make its commits safe`(_ way: Materializer) async throws {
        let run = try await RunFixture(way)
        try await run.sh(
            "git commit -q --allow-empty -m precious; git -C $REPO symbolic-ref refs/heads/alias refs/heads/$BRANCH")
        let plan = try await run.engine.planCleanup(run.key)
        #expect(plan.branchToDelete == nil)
        _ = try await run.engine.cleanup(plan)
        #expect(try await run.repository.branches().contains(run.workdir.branch!))
    }

    @Test(arguments: [Materializer.checkout, .pool, .git])
    func `a commit that only a bisect reaches is at risk`(_ way: Materializer) async throws {
        let run = try await RunFixture(way, branch: .detached)
        try await run.sh(
            "git commit -q --allow-empty -m precious; git -C $REPO update-ref refs/bisect/bad $(git rev-parse HEAD)")
        #expect(try await run.engine.planCleanup(run.key).risks.map(\.kind) == [.detachedCommits])
    }

    @Test(arguments: [Materializer.checkout, .pool, .git])
    func `of two branches with the same commits one stays, also when both are cleaned up at once`(
        _ way: Materializer
    ) async throws {
        let run = try await RunFixture(way)
        try await run.sh("git commit -q --allow-empty -m precious")
        let commit = try await run.sh("git rev-parse HEAD")
        let other = try await run.sibling(base: commit.trimmingCharacters(in: .newlines))
        let plans = try await [run.engine.planCleanup(run.key), run.engine.planCleanup(other.run)]
        await withTaskGroup(of: Void.self) { group in
            // Either may be refused, since the branches that it saw have changed; the commit may not be lost.
            for plan in plans { group.addTask { _ = try? await run.engine.cleanup(plan) } }
        }
        let holders = try await git(
            "for-each-ref", "--contains", commit.trimmingCharacters(in: .newlines), in: run.repository.path)
        #expect(!holders.isEmpty)
    }

    @Test func `a branch leaves no reflog that blocks names below it`() async throws {
        let run = try await RunFixture(branch: .named("feature"))
        _ = try await run.engine.cleanup(run.engine.planCleanup(run.key))
        let next = try await run.sibling(branch: .named("feature/part"))
        #expect(next.branch == "feature/part")
    }

    @Test func `tracked directories that look like bare repositories are no work`() async throws {
        let run = try await RunFixture(
            prepare: """
                mkdir -p fixture/objects fixture/refs; touch fixture/HEAD fixture/objects/.k fixture/refs/.k
                git add -A; git commit -qm fixture
                """)
        #expect(try await run.engine.verify(run.key) == [])
        try await run.sh("touch fixture/new")
        #expect(try await run.engine.planCleanup(run.key).risks.map(\.path) == ["fixture/new"])
    }

    @Test func `an index in a form that libgit2 cannot read is left to git`() async throws {
        let run = try await RunFixture()
        try await run.sh("git update-index --split-index; echo more >> README.md")
        let plan = try await run.engine.planCleanup(run.key)
        #expect(plan.risks.map(\.kind) == [.modified])
        try await run.sh("git checkout -q README.md")
        _ = try await run.engine.cleanup(run.engine.planCleanup(run.key))
    }

    @Test func `a per-worktree reference to a file's content is at risk and no error`() async throws {
        let run = try await RunFixture()
        try await run.sh("git update-ref refs/worktree/note $(echo note | git hash-object -w --stdin)")
        #expect(try await run.engine.planCleanup(run.key).risks.map(\.path) == ["refs/worktree/note"])
    }

    @Test func `tags that a clone brought along are no work`() async throws {
        let run = try await RunFixture(
            .clone,
            prepare: "git checkout -q --detach; git commit -q --allow-empty -m off; git tag v1; git checkout -q main")
        #expect(try await run.engine.planCleanup(run.key).risks.isEmpty)
        try await run.sh("git commit -q --allow-empty -m own; git tag mine; git reset -q --hard HEAD~1")
        #expect(try await run.engine.planCleanup(run.key).risks.map(\.path) == ["refs/tags/mine"])
    }

    @Test func `a lost registry in the middle of a removal loses no work`() async throws {
        let run = try await RunFixture()
        let row = try await run.engine.run(run.key)
        try await run.sh("echo precious > precious")
        try await shell(
            "mkdir -p \(row.root)/.wtengine/trash; mv \(run.path) \(row.root)/.wtengine/trash/\(row.adminID); rm \(run.scratch.path)/state/registry.sqlite*",
            in: "/")
        let blind = try await run.scratch.engine()
        _ = try await blind.recover()
        _ = try await blind.sweep()
        let rebuilt = try await Engine.rebuild(run.scratch.configuration())
        #expect(rebuilt.runs == [run.key])
        #expect(try String(contentsOfFile: "\(run.path)/precious", encoding: .utf8) == "precious\n")
        #expect(try await run.scratch.engine().planCleanup(run.key).risks.map(\.path) == ["precious"])
    }

    @Test func `lock files of a process that died while it changed a branch are taken back, others are not`()
        async throws
    {
        let run = try await RunFixture()
        let common = "\(run.repository.path)/.git"
        let branch = run.workdir.branch!
        // What a kill leaves: the note in our lock, and libgit2's lock files.
        try await shell(
            "printf 'refs/heads/%s\\n' '\(branch)' > wtengine.lock; touch packed-refs.lock 'refs/heads/\(branch).lock' config.lock",
            in: common)
        _ = try await run.engine.cleanup(run.engine.planCleanup(run.key))
        #expect(!FileManager.default.fileExists(atPath: "\(common)/packed-refs.lock"))
        #expect(FileManager.default.fileExists(atPath: "\(common)/config.lock"))
        #expect(try await run.repository.branches() == ["main"])
        #expect(try String(contentsOfFile: "\(common)/wtengine.lock", encoding: .utf8) == "")
        // Without a note it is somebody else's.
        try await shell("touch packed-refs.lock", in: common)
        _ = try await run.sibling(issue: "local#3")
        #expect(FileManager.default.fileExists(atPath: "\(common)/packed-refs.lock"))
    }
}
