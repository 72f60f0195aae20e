import Foundation
import TestSupport
import Testing
import WorktreeEngine

@Suite struct SpawnTests {
    @Test func `a workdir equals git's own checkout, byte for byte and mode for mode`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let engine = try await scratch.engine()
        let workdir = try await engine.spawn(
            SpawnRequest(issue: "local#1", run: "2026-02-14-backend-0001", repository: repository.path))
        #expect(workdir.materializer == .checkout)
        let expected = try await gitsOwnCheckout(of: workdir.base, in: repository.path, scratch: scratch)
        #expect(try snapshot(workdir.path) == expected)
        #expect(try await git("status", "--porcelain", "--ignored", in: workdir.path) == "")
        #expect(try await git("diff-files", in: workdir.path) == "")
        try await git("fsck", "--strict", in: workdir.path)
    }

    @Test func `the lifecycle ends with everything removed`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let engine = try await scratch.engine()
        let workdir = try await engine.spawn(
            SpawnRequest(issue: "local#1", run: "2026-02-14-backend-0001", repository: repository.path))
        try await engine.attach(workdir.run, process: getpid())
        try await engine.detach(workdir.run, outcome: .ok)
        let plan = try await engine.planCleanup(workdir.run)
        #expect(plan.risks.isEmpty)
        #expect(plan.branchToDelete == workdir.branch)
        let report = try await engine.cleanup(plan)
        #expect(report.run.state == .removed)
        #expect(await engine.finishTrash() == 0)
        #expect(!FileManager.default.fileExists(atPath: workdir.path))
        #expect(
            try await git("worktree", "list", "--porcelain", in: repository.path).split(separator: "\n").filter {
                $0.hasPrefix("worktree")
            }.count == 1)
        #expect(try await git("branch", "--list", "run/*", in: repository.path) == "")
    }
}
