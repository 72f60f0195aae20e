import Foundation
import Glibc
import TestSupport
import Testing

@testable import WorktreeEngine

/// A plan and its cleanup in one step.
@Suite struct CleanupIfCleanTests {
    @Test(arguments: [Materializer.checkout, .pool, .git, .clone])
    func `a clean run goes, with its branch and its admin entry`(_ materializer: Materializer) async throws {
        let run = try await RunFixture(materializer)
        let report = try await run.engine.cleanup(ifClean: run.key)
        #expect(report.run.state == .removed && report.run.removal == nil)
        #expect(report.deletedBranch == run.workdir.branch && report.discarded.isEmpty && report.trashPending)
        #expect(await run.engine.finishTrash() == 0)
        #expect(!FileManager.default.fileExists(atPath: run.path))
        // The admin entry too, which goes with the workdir.
        let leftovers = ["\(report.run.commonDir)/wtengine", "\(report.run.root)/.wtengine/trash"]
        for place in leftovers {
            #expect((try? FileManager.default.contentsOfDirectory(atPath: place))?.isEmpty != false, "\(place)")
        }
        #expect(try await run.repository.branches() == ["main"])
        #expect(try await run.repository.worktreeCount() == 1)
        try await git("fsck", "--strict", "--no-dangling", in: run.repository.path)
        #expect(
            try await run.engine.audit().map(\.action.rawValue).suffix(3) == [
                "cleanup.intent", "cleanup.checked", "cleanup.done",
            ])
    }

    /// The admin entry goes into the trash with the workdir where it can; these are the other ways.
    @Test(arguments: ["another filesystem", "a directory of its name", "a read-only workdir", "no workdir"])
    func `the admin entry leaves nothing behind`(_ obstacle: String) async throws {
        let scratch = try Scratch()
        let other = try await obstacle == "another filesystem" ? OtherFilesystem() : nil
        let repository = try await scratch.repository()
        let engine = try await (other?.scratch ?? scratch).engine()
        let workdir = try await engine.spawn(request(repository.path))
        let run = try await engine.run(workdir.run)
        let name = AdminEntry.trashName(run)
        switch obstacle {
        case "a directory of its name":
            try await sh("echo '\(name)' >> $(git rev-parse --git-path info/exclude); mkdir \(name)", in: workdir.path)
            try await sh("echo x > \(name)/index", in: workdir.path)
        case "a read-only workdir": try await sh("chmod 500 .", in: workdir.path)
        case "no workdir": try await sh("rm -r '\(workdir.path)'", in: scratch.path)
        default: break
        }
        #expect(try await engine.cleanup(ifClean: workdir.run).run.state == .removed)
        #expect(await engine.finishTrash() == 0)
        for place in ["\(run.commonDir)/wtengine", "\(run.root)/.wtengine/trash"] {
            #expect((try? FileManager.default.contentsOfDirectory(atPath: place))?.isEmpty != false, "\(place)")
        }
        #expect(try await repository.worktreeCount() == 1)
    }

    @Test(
        arguments: [
            ("an edit", "echo more >> README.md", Risk.Kind.modified),
            ("a staged file", "echo x > s; git add s", .staged),
            ("an untracked file", "echo x > new", .untracked),
            (
                "a commit on a detached HEAD", "git checkout -q --detach; git commit -q --allow-empty -m x",
                .detachedCommits
            ),
            ("a nested repository", "git init -q nested; echo x > nested/f", .nestedRepository),
            ("an operation", "git bisect start", .operation),
        ], [Materializer.checkout, .git, .clone])
    func `work at risk is named and stays as it was`(
        _ work: (name: String, script: String, kind: Risk.Kind), _ materializer: Materializer
    ) async throws {
        let run = try await RunFixture(materializer)
        try await run.sh(work.script)
        let before = try await run.witness()
        #expect(try await code { _ = try await run.engine.cleanup(ifClean: run.key) } == .workAtRisk)
        let after = try await run.witness()
        #expect(after.files == before.files && after.references == before.references && after.head == before.head)
        #expect(after.worktrees == before.worktrees)
        #expect(after.run.state == .ready && after.run.removal == nil && after.run.isActive)
        let note = try await run.engine.audit().last
        #expect(note?.action == .cleanupRefused && note?.detail?.contains(work.kind.rawValue) == true)
        #expect(try await run.engine.planCleanup(run.key).risks.contains { $0.kind == work.kind })
    }

    @Test func `commits that only the branch has keep the branch`() async throws {
        let run = try await RunFixture()
        try await run.sh("git commit -q --allow-empty -m own")
        let tip = try await git("rev-parse", "HEAD", in: run.path)
        let report = try await run.engine.cleanup(ifClean: run.key)
        #expect(report.run.state == .removed && report.deletedBranch == nil)
        #expect(try await git("rev-parse", run.workdir.branch!, in: run.repository.path) == tip)
    }

    @Test func `the commits of a clone arrive in the source repository before it goes`() async throws {
        let run = try await RunFixture(.clone)
        try await run.sh("git commit -q --allow-empty -m own")
        let tip = try await git("rev-parse", "HEAD", in: run.path)
        #expect(try await run.engine.cleanup(ifClean: run.key).run.state == .removed)
        #expect(try await git("rev-parse", run.workdir.branch!, in: run.repository.path) == tip)
    }

    @Test func `a run that is locked or in use is not moved`() async throws {
        let run = try await RunFixture()
        let identity = try Directory(run.path).fileVersion("README.md")
        let child = try Child("cd \(run.path); echo in; exec sleep 600")
        defer { child.end() }
        #expect(try await code { _ = try await run.engine.cleanup(ifClean: run.key) } == .inUse)
        child.end()
        try await run.engine.lock(run.key, reason: "for a look")
        #expect(try await code { _ = try await run.engine.cleanup(ifClean: run.key) } == .keepLocked)
        #expect(try Directory(run.path).fileVersion("README.md") == identity)
        #expect(try await run.engine.run(run.key).state == .ready)
        #expect(try await run.engine.audit().allSatisfy { $0.action != .cleanupIntent })
        try await run.engine.unlock(run.key)
        #expect(try await run.engine.cleanup(ifClean: run.key).run.state == .removed)
        #expect(try await code { _ = try await run.engine.cleanup(ifClean: run.key) } == .state)
    }

    @Test func `a directory that took the place of the workdir is not taken for it`() async throws {
        let run = try await RunFixture()
        try await shell(
            "mv \(run.path) $ROOT/kept; mkdir \(run.path); echo x > \(run.path)/f", in: "/", ["ROOT": run.scratch.path])
        #expect(try await code { _ = try await run.engine.cleanup(ifClean: run.key) } == .identity)
        #expect(try snapshot(run.path).keys.contains("f"))
        #expect(try await run.engine.run(run.key).state == .ready)
    }

    @Test func `a workdir that git has moved away is not taken for gone`() async throws {
        let run = try await RunFixture()
        try await git("worktree", "unlock", run.path, in: run.repository.path)
        try await git("worktree", "move", run.path, "\(run.scratch.path)/elsewhere", in: run.repository.path)
        #expect(try await code { _ = try await run.engine.cleanup(ifClean: run.key) } == .identity)
        #expect(try await run.engine.run(run.key).state == .ready)
        #expect(try await run.repository.worktreeCount() == 2)
    }

    @Test func `ignored files go with the workdir, and the audit log names them`() async throws {
        let run = try await RunFixture()
        try await run.sh("mkdir -p build; echo x > build/x; echo x > a.log")
        #expect(try await run.engine.cleanup(ifClean: run.key).run.state == .removed)
        let checked = try await run.engine.audit().first { $0.action == .cleanupChecked }
        #expect(checked?.detail == "nothing would be lost; ignored: a.log, build/")
    }

    @Test func `what is left of a workdir that somebody deleted goes too`() async throws {
        let run = try await RunFixture()
        try await shell("rm -rf \(run.path)", in: "/")
        let report = try await run.engine.cleanup(ifClean: run.key)
        #expect(report.run.state == .removed && !report.trashPending)
        #expect(try await run.repository.worktreeCount() == 1)
    }

    /// Killed after the intent was recorded, before or after the move into the trash.
    @Test(arguments: [false, true], [false, true])
    func `a kill on the way loses nothing`(_ isTrashed: Bool, _ isDirty: Bool) async throws {
        let run = try await RunFixture()
        if isDirty { try await run.sh("echo precious > new") }
        let before = try await run.witness()
        let row = try await run.engine.registry.transition(
            run.key, from: [.ready], to: .cleaning, action: .cleanupIntent
        ) {
            $0.removal = RemovalIntent(
                token: nil, discard: false, previousState: .ready, deleteBranchAt: nil, publishBranchAt: nil,
                actor: "test")
        }
        if isTrashed {
            let trash = "\(row.root)/.wtengine/trash"
            try await shell("mkdir -pm 700 \(trash); mv \(run.path) \(trash)/\(row.adminID)", in: "/")
        }
        let engine = try await run.scratch.engine()
        let recovered = try await engine.recover()
        #expect(recovered.map(\.action) == [isDirty ? "returned" : "finished"])
        let now = try await engine.run(run.key)
        #expect(now.state == (isDirty ? .ready : .removed) && now.removal == nil)
        if isDirty {
            let after = try await run.witness()
            #expect(after.files == before.files && after.references == before.references)
            #expect(after.worktrees == before.worktrees)
        } else {
            #expect(try await run.repository.branches() == ["main"])
            #expect(try await run.repository.worktreeCount() == 1)
        }
        try await git("fsck", "--strict", "--no-dangling", in: run.repository.path)
        #expect(try await engine.recover().isEmpty)
    }
}
