import Foundation
import Glibc
import TestSupport
import Testing
import WorktreeEngine

@Suite struct CloneTests {
    @Test func `a clone has the lifecycle of a worktree, and hands its commits over`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let engine = try await scratch.engine()
        let workdir = try await engine.spawn(request(repository.path, materializer: .clone))
        #expect(workdir.materializer == .clone)
        let expected = try await gitsOwnCheckout(of: workdir.base, in: repository.path, scratch: scratch)
        #expect(try snapshot(workdir.path) == expected)
        try await expectClean(workdir.path)
        #expect(try await engine.verify(workdir.run) == [])
        try await expectLifecycle(workdir, engine, repository: repository.path)
    }

    @Test func `what only the clone has is at risk`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let engine = try await scratch.engine()
        let workdir = try await engine.spawn(request(repository.path, materializer: .clone))
        for (kind, make, undo) in [
            (
                .detachedCommits, "git checkout -q -b other; git commit -qm own --allow-empty; git checkout -q -",
                "git branch -D other"
            ),
            (
                .detachedCommits, "git commit -qm own --allow-empty; git tag keep; git reset -q --hard HEAD~1",
                "git tag -d keep"
            ),
            (.stash, "echo x >>README.md; git stash -q", "git stash drop -q"),
            (.nestedRepository, "git init -q nested; git -C nested commit -qm x --allow-empty", "rm -rf nested"),
        ] as [(Risk.Kind, String, String)] {
            try await sh(make, in: workdir.path)
            let plan = try await engine.planCleanup(workdir.run)
            #expect(plan.risks.contains { $0.kind == kind }, "\(make): \(plan.risks)")
            await #expect(throws: EngineError.self) { try await engine.cleanup(plan) }
            try await sh(undo, in: workdir.path)
            #expect(try await engine.planCleanup(workdir.run).risks.isEmpty, "\(undo)")
        }
    }

    @Test func `a base that only a tag or another worktree reaches is cloned as well`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let linked = "\(scratch.path)/linked"
        try await git("worktree", "add", "--quiet", "--detach", linked, in: repository.path)
        try await sh("git commit -qm detached --allow-empty", in: linked)
        let head = try await sh("git rev-parse HEAD", in: linked)
        let engine = try await scratch.engine()
        let workdir = try await engine.spawn(
            request(repository.path, base: String(head.prefix(40)), materializer: .clone))
        #expect(try await sh("git rev-parse HEAD", in: workdir.path) == head)
    }

    @Test func `a root on another filesystem gets a copy of the objects`() async throws {
        // No hard link leads from one filesystem to another.
        let other = try await OtherFilesystem()
        let repository = try await other.scratch.repository()
        let scratch = try Scratch()
        let engine = try await scratch.engine()
        let workdir = try await engine.spawn(request(repository.path, materializer: .clone))
        try await expectClean(workdir.path)
        try await expectLifecycle(workdir, engine, repository: repository.path)
    }

    @Test(.enabled(if: Mount.canTry, "needs root"))
    func `a repository that cannot be written is cloned, as doctor says`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let mount = try await Mount(readOnly: repository.path)
        let engine = try await scratch.engine()
        #expect(
            try await engine.doctor(repository: mount.path).contains {
                $0.message == "\(mount.path): cannot be written, so runs get a clone"
            })
        let workdir = try await engine.spawn(request(mount.path))
        #expect(workdir.materializer == .clone)
        try await expectClean(workdir.path)
        let report = try await engine.cleanup(engine.planCleanup(workdir.run))
        #expect(report.run.state == .removed)
    }

    @Test(.enabled(if: Mount.canTry, "needs root"))
    func `a repository that cannot be written has no other materializer and no pool, and nothing is recorded`()
        async throws
    {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let mount = try await Mount(readOnly: repository.path)
        let engine = try await scratch.engine()
        for materializer in [Materializer.checkout, .pool, .snapshot, .git] {
            try await expectRefused(
                request(mount.path, materializer: materializer), engine, code: .unsupported,
                mentions: "cannot be written", repository: repository.path)
        }
        #expect(try await code { try await engine.fillPool(repository: mount.path, size: 1) } == .unsupported)
        #expect(try await engine.poolStatus() == [])
        #expect(try await engine.sweep().poolsLeft.isEmpty)
    }

    @Test(.enabled(if: Mount.canTry, "needs root"))
    func `commits of a clone are at risk when the repository cannot take them`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let mount = try await Mount(readOnly: repository.path)
        let engine = try await scratch.engine()
        let workdir = try await engine.spawn(request(mount.path))
        try await sh("git commit -qm own --allow-empty", in: workdir.path)
        let plan = try await engine.planCleanup(workdir.run)
        #expect(plan.risks.map(\.kind) == [.branchCommits], "\(plan.risks)")
        #expect(try await code { _ = try await engine.cleanup(plan) } == .workAtRisk)
        #expect(try await engine.cleanup(plan, discard: true).run.state == .removed)
    }

    @Test(.enabled(if: Mount.canTry, "needs root"))
    func `a clone that fails is rolled back where the repository cannot be written`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        try await sh(
            "mkdir .git/wtengine; rm -f .git/objects/$(git rev-parse HEAD:sub/data.dat | sed 's,^..,&/,')",
            in: repository.path)
        let mount = try await Mount(readOnly: repository.path)
        let engine = try await scratch.engine()
        try await expectRefused(
            request(mount.path), engine, code: .git, mentions: "sub/data.dat", repository: repository.path)
    }
}
