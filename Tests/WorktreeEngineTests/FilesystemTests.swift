import Foundation
import Glibc
import TestSupport
import Testing
import WorktreeEngine

/// The whole life of a run, by each materializer on each filesystem: what it hands out is what git makes there, and when
/// it is over nothing is left.
@Suite struct FilesystemTests {
    private static func materializers(_ kind: FilesystemImage.Kind) -> [Materializer] {
        [.checkout, .pool, .git, .clone] + (kind == .btrfs ? [.snapshot] : [])
    }

    @Test(.enabled(if: FilesystemImage.Kind.btrfs.canTry, "needs root and mkfs.btrfs"))
    func `on btrfs`() async throws { try await expectLives(on: .btrfs) }

    @Test(.enabled(if: FilesystemImage.Kind.xfs.canTry, "needs root and mkfs.xfs"))
    func `on XFS`() async throws { try await expectLives(on: .xfs) }

    @Test(.enabled(if: FilesystemImage.Kind.ext4.canTry, "needs root and mkfs.ext4"))
    func `on ext4`() async throws { try await expectLives(on: .ext4) }

    private func expectLives(on kind: FilesystemImage.Kind) async throws {
        let image = try await FilesystemImage(kind)
        for materializer in Self.materializers(kind) {
            try await expectLife(Scratch(below: image.path), materializer, "\(materializer) on \(kind)")
        }
        withExtendedLifetime(image) {}
    }

    private func expectLife(_ scratch: Scratch, _ materializer: Materializer, _ comment: Comment) async throws {
        let repository = try await scratch.repository()
        if materializer == .git { try await repository.refuseLibgit2() }
        let engine = try await scratch.engine { $0.refillsPools = false }
        let findings = try await engine.doctor(repository: repository.path)
        #expect(!findings.contains { $0.level != .info }, "\(comment): \(findings)")
        let references = try await git("for-each-ref", in: repository.path)
        let empty = try snapshot("\(scratch.path)/repo/.git/worktrees")
        let expected = try await gitsOwnCheckout(of: repository.head(), in: repository.path, scratch: scratch)
        if materializer == .pool { try await engine.fillPool(repository: repository.path, size: 2) }
        var workdirs: [Workdir] = []
        for number in 1...2 {
            let workdir = try await engine.spawn(
                request(repository.path, issue: "local#\(number)", materializer: materializer))
            #expect(workdir.materializer == materializer, comment)
            // Before anything refreshes the index.
            #expect(try await git("diff-files", "--name-only", in: workdir.path) == "", comment)
            #expect(try snapshot(workdir.path) == expected, comment)
            #expect(try await git("status", "--porcelain", "--ignored", in: workdir.path) == "", comment)
            try await git("fsck", "--no-progress", in: workdir.path)
            #expect(try await engine.verify(workdir.run) == [], comment)
            workdirs.append(workdir)
        }
        try await shell("echo more >> README.md; rm zero; git add -A; git commit -q -m work", in: workdirs[0].path)
        let commit = try await git("rev-parse", "HEAD", in: workdirs[0].path)
        #expect(try snapshot(workdirs[1].path) == expected, "\(comment): they share nothing that can be written")
        for workdir in workdirs {
            try await engine.attach(workdir.run, process: getpid())
            try await engine.detach(workdir.run, outcome: .ok)
            let plan = try await engine.planCleanup(workdir.run)
            #expect(plan.risks.isEmpty, "\(comment): \(plan.risks)")
            #expect(try await engine.cleanup(plan).run.state == .removed, comment)
        }
        #expect(await engine.finishTrash() == 0, comment)
        // The work stays, and nothing else does.
        let branch = try #require(workdirs[0].branch)
        #expect(try await git("rev-parse", branch, in: repository.path) == commit, comment)
        try await git("branch", "-q", "-D", branch, in: repository.path)
        #expect(try await git("for-each-ref", in: repository.path) == references, comment)
        try await git("fsck", "--no-progress", in: repository.path)
        #expect(try snapshot("\(scratch.path)/repo/.git/worktrees") == empty, comment)
        #expect(try await repository.worktreeCount() == 1, comment)
        func names(_ path: String) -> [String] { (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? [] }
        let root = "\(scratch.path)/state/workdirs"
        #expect(names(root) == [".wtengine"], comment)
        for path in ["\(repository.path)/.git/wtengine", "\(root)/.wtengine/stage", "\(root)/.wtengine/trash"] {
            #expect(names(path) == [], "\(comment): \(path)")
        }
        if materializer == .pool {
            let pools = try await engine.poolStatus()
            #expect(pools.map { [$0.ready, $0.stale] } == [[0, 0]], comment)
        }
    }
}
