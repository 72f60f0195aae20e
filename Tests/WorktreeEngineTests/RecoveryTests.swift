import Foundation
import TestSupport
import Testing

@testable import WorktreeEngine

/// Each state that a kill may leave on disk, made by hand with the engine's own steps.
@Suite struct RecoveryTests {
    enum Creation: Int, CaseIterable, Sendable { case row, halfStage, adminStage, branch, entry, published }
    enum Removal: Int, CaseIterable, Sendable { case row, trashed, checked, unregistered, branchGone, partlyUnlinked }

    /// Recovery ends in a legal state with git in order, and doing it again changes nothing.
    private func settle(_ scratch: Scratch, _ repository: TestRepository) async throws -> [Recovered] {
        let engine = try await scratch.engine()
        let first = try await engine.recover()
        try await git("fsck", "--strict", "--no-dangling", in: repository.path)
        try await git("worktree", "list", in: repository.path)
        try await git("status", in: repository.path)
        let rows = try await engine.runs()
        #expect(rows.allSatisfy { $0.state != .creating && $0.state != .cleaning })
        let audit = try await engine.audit()
        let disk = try snapshot(scratch.path).filter { !$0.key.hasPrefix("state/registry") }
        #expect(try await scratch.engine().recover().isEmpty)
        #expect(try await engine.runs() == rows)
        #expect(try await engine.audit() == audit)
        #expect(try snapshot(scratch.path).filter { !$0.key.hasPrefix("state/registry") } == disk)
        return first
    }

    /// A finished run, taken apart again to where the kill came.
    private func takeApart(_ made: Workdir, of run: RunFixture, to step: Creation) async throws {
        let row = try await run.engine.run(made.run)
        let entry = AdminEntry.path(row)
        let stage = "\(row.root)/.wtengine/stage/\(row.adminID)"
        let adminStage = "\(row.commonDir)/wtengine/\(AdminEntry.stageName(row))"
        if step.rawValue < Creation.published.rawValue { try await shell("mv \(row.path) \(stage)", in: "/") }
        if step.rawValue < Creation.entry.rawValue { try await shell("mv \(entry) \(adminStage)", in: "/") }
        if step.rawValue < Creation.branch.rawValue {
            try await git("branch", "-qD", made.branch!, in: run.repository.path)
        }
        if step.rawValue < Creation.adminStage.rawValue { try await shell("rm -r \(adminStage)", in: "/") }
        if step == .halfStage { try await shell("rm -r \(stage)/sub \(stage)/.git", in: "/") }
        if step == .row { try await shell("rm -r \(stage)", in: "/") }
        try await forgetActivation(run.scratch, made.run)
    }

    @Test(arguments: Creation.allCases)
    func `a creation that was killed`(_ step: Creation) async throws {
        let run = try await RunFixture()
        let engine = run.engine
        let made = try await run.sibling()
        let row = try await engine.run(made.run)
        let stage = "\(row.root)/.wtengine/stage/\(row.adminID)"
        let adminStage = "\(row.commonDir)/wtengine/\(AdminEntry.stageName(row))"
        let key = made.run
        try await takeApart(made, of: run, to: step)

        let recovered = try await settle(run.scratch, run.repository)
        #expect(recovered.map(\.run) == [key])
        #expect(recovered.map(\.action) == [step == .published ? "finished" : "rolled-back"])
        #expect(try await engine.verify(run.key) == [])
        if step == .published {
            #expect(try await engine.verify(key) == [])
        } else {
            #expect(try await run.repository.branches() == ["main", run.workdir.branch])
            #expect(try await run.repository.worktreeCount() == 2)
            #expect(!FileManager.default.fileExists(atPath: row.path))
            #expect(
                !FileManager.default.fileExists(atPath: stage) && !FileManager.default.fileExists(atPath: adminStage))
            // The same request can be made again.
            #expect(try await run.sibling().run == key)
        }
    }

    @Test(arguments: Creation.allCases)
    func `the same request after a kill settles what is left first`(_ step: Creation) async throws {
        let run = try await RunFixture()
        let made = try await run.sibling()
        try await takeApart(made, of: run, to: step)
        let other = try await run.scratch.engine()
        func again() async throws -> RunKey {
            try await other.spawn(request(run.repository.path, issue: "local#2")).run
        }
        let late = try await code { try await other.detach(made.run, outcome: .ok) }
        #expect(late == .state)
        if step == .published {
            do { _ = try await again() } catch {
                #expect((error as? EngineError)?.code == .runExists && "\(error)".contains("use it"), "\(error)")
            }
        } else {
            #expect(try await again() == made.run)
        }
        #expect(try await other.run(made.run).state == .ready)
        #expect(try await other.verify(made.run) == [])
        #expect(try await run.repository.worktreeCount() == 3)
    }

    @Test func `a branch that a person made after a kill stays, although it has the run's name and base`() async throws
    {
        let run = try await RunFixture()
        let made = try await run.sibling()
        let row = try await run.engine.run(made.run)
        // Killed while files were written: no entry was built yet, so the branch of this name cannot be the run's.
        try await shell(
            "mv \(row.path) \(row.root)/.wtengine/stage/\(row.adminID); rm -r \(AdminEntry.path(row))", in: "/")
        try await forgetActivation(run.scratch, made.run)
        #expect(try await settle(run.scratch, run.repository).map(\.action) == ["rolled-back"])
        #expect(try await run.repository.branches().contains(made.branch!))
    }

    @Test func `a creation that fell back to a clone and was killed`() async throws {
        let run = try await RunFixture(.clone)
        try await forgetActivation(run.scratch, run.key, materializer: "git")
        #expect(try await settle(run.scratch, run.repository).map(\.action) == ["finished"])
        #expect(try await run.engine.run(run.key).materializer == .clone)
        #expect(try await run.engine.verify(run.key) == [])
    }

    @Test func `a creation that fails after its workdir was published leaves nothing`() async throws {
        let run = try await RunFixture()
        try await forgetActivation(run.scratch, run.key)
        try await run.engine.rollBack(run.engine.run(run.key), detail: "test")
        #expect(!FileManager.default.fileExists(atPath: run.path))
        #expect(try await run.engine.runs().isEmpty)
        #expect(try await run.repository.branches() == ["main"])
        #expect(try await run.repository.worktreeCount() == 1)
    }

    @Test func `a lock file that git has left at the branch when it was ended keeps no branch`() async throws {
        let run = try await RunFixture(.git)
        try await forgetActivation(run.scratch, run.key, materializer: "git")
        let lock = "\(run.repository.path)/.git/refs/heads/\(run.workdir.branch!).lock"
        #expect(FileManager.default.createFile(atPath: lock, contents: nil))
        try await run.engine.rollBack(run.engine.run(run.key), detail: "test")
        #expect(!FileManager.default.fileExists(atPath: lock))
        #expect(try await run.engine.runs().isEmpty)
        #expect(try await run.repository.branches() == ["main"])
        #expect(try await run.repository.worktreeCount() == 1)
    }

    @Test func `a lock file at the branch that a process holds stays, and so does the branch`() async throws {
        let run = try await RunFixture(.git)
        try await forgetActivation(run.scratch, run.key, materializer: "git")
        let branch = run.workdir.branch!
        let lock = "\(run.repository.path)/.git/refs/heads/\(branch).lock"
        let child = try Child("exec 3> '\(lock)'; echo; exec sleep 600")
        defer { child.end() }
        try await run.engine.rollBack(run.engine.run(run.key), detail: "test")
        #expect(FileManager.default.fileExists(atPath: lock))
        #expect(try await run.repository.branches().contains(branch))
    }

    @Test(arguments: Removal.allCases, [Materializer.checkout, .pool, .git])
    func `a cleanup that was killed`(_ step: Removal, _ materializer: Materializer) async throws {
        let run = try await RunFixture(materializer)
        let sibling = try await run.sibling()
        let row = try await begin(run)
        let root = try await run.engine.root(of: row)
        if step.rawValue >= Removal.trashed.rawValue { #expect(try Trash.take(row, root: root) == .home) }
        if step.rawValue >= Removal.checked.rawValue { try await markChecked(run) }
        if step.rawValue >= Removal.unregistered.rawValue {
            try await run.engine.actor(for: row.commonDir).unregister(row)
        }
        if step.rawValue >= Removal.branchGone.rawValue {
            try await git("update-ref", "-d", "refs/heads/\(run.workdir.branch!)", in: run.repository.path)
        }
        if step == .partlyUnlinked {
            try await shell(
                "mkdir \(AdminEntry.trashName(row)).3; mv \(AdminEntry.trashName(row))/logs \(AdminEntry.trashName(row)).3/",
                in: "\(row.commonDir)/wtengine")
        }
        #expect(try await settle(run.scratch, run.repository).map(\.action) == ["finished"])
        #expect(try await run.engine.run(run.key).state == .removed)
        #expect(try FileManager.default.contentsOfDirectory(atPath: "\(row.root)/.wtengine/trash").isEmpty)
        #expect(try FileManager.default.contentsOfDirectory(atPath: "\(row.commonDir)/wtengine").isEmpty)
        #expect(try await run.repository.branches() == ["main", sibling.branch])
        #expect(try await run.repository.worktreeCount() == 2)
        #expect(try await run.engine.verify(sibling.run) == [])
    }

    @Test(arguments: [Removal.row, .trashed])
    func `a cleanup that was killed does not drop what was written since`(_ step: Removal) async throws {
        let run = try await RunFixture()
        let row = try await begin(run)
        try await run.sh("echo late > late.txt; git checkout -q --detach; git commit -q --allow-empty -m late")
        let before = try snapshot(run.path)
        if step == .trashed { #expect(try await Trash.take(row, root: run.engine.root(of: row)) == .home) }
        #expect(try await settle(run.scratch, run.repository).map(\.action) == ["returned"])
        #expect(try snapshot(run.path) == before)
        let after = try await run.engine.run(run.key)
        #expect(after.state == .ready && after.removal == nil)
        #expect(Set(try await run.engine.planCleanup(run.key).risks.map(\.kind)) == [.untracked, .detachedCommits])
    }

    @Test func `work stays in the trash when something took its place`() async throws {
        let run = try await RunFixture()
        let row = try await begin(run)
        try await run.sh("echo late > late.txt")
        #expect(try await Trash.take(row, root: run.engine.root(of: row)) == .home)
        try await shell("mkdir -p \(run.path); echo squatter > \(run.path)/x", in: "/")
        #expect(try await settle(run.scratch, run.repository).map(\.action) == ["quarantined"])
        let trash = "\(row.root)/.wtengine/trash/\(row.adminID)"
        #expect(FileManager.default.fileExists(atPath: "\(trash)/late.txt"))
        _ = try await run.engine.sweep()
        #expect(FileManager.default.fileExists(atPath: "\(trash)/late.txt"))
        #expect(FileManager.default.fileExists(atPath: "\(run.path)/x"))
    }

    @Test func `two branches with the same commits do not both go`() async throws {
        let run = try await RunFixture()
        try await run.sh("git commit -q --allow-empty -m shared")
        let other = try await run.sibling(base: run.workdir.branch)
        let tip = try await git("rev-parse", "HEAD", in: other.path)
        for key in [run.key, other.run] {
            _ = try await begin(run, key)
            try await markChecked(run, key)
        }
        _ = try await settle(run.scratch, run.repository)
        #expect(try await run.repository.branches().count == 2)
        #expect(try await git("rev-list", "--all", in: run.repository.path).contains(tip))
    }

    /// As when a clone could not hand over its branch, and the disk was full for the rows too.
    @Test func `work in a workdir that was moved back after its check is seen by the next attempt`() async throws {
        let run = try await RunFixture()
        _ = try await begin(run)
        try await markChecked(run)
        try await run.sh("echo precious > new")
        let before = try await run.witness()
        #expect(try await settle(run.scratch, run.repository).map(\.action) == ["returned"])
        #expect(try await run.witness().files == before.files)
        #expect(try await run.engine.run(run.key).state == .ready)
    }

    // MARK: Steps

    private func begin(_ run: RunFixture, _ key: RunKey? = nil) async throws -> Run {
        let plan = try await run.engine.planCleanup(key ?? run.key)
        let intent = RemovalIntent(
            token: plan.token, discard: false, previousState: plan.run.state,
            deleteBranchAt: plan.branchToDelete == nil ? nil : plan.branchTip, publishBranchAt: nil, actor: "test")
        return try await run.engine.registry.transition(
            plan.run.key, from: [.ready], to: .cleaning, action: "cleanup.intent"
        ) { $0.removal = intent }
    }

    private func markChecked(_ run: RunFixture, _ key: RunKey? = nil) async throws {
        try await run.engine.registry.transition(key ?? run.key, from: [.cleaning], to: .cleaning, action: "test") {
            $0.removal?.isChecked = true
        }
    }

    /// The row as it was before the last step of its creation.
    private func forgetActivation(_ scratch: Scratch, _ key: RunKey, materializer: String = "checkout") async throws {
        let script = """
            import sqlite3, sys
            with sqlite3.connect(sys.argv[1]) as db:
                db.execute("UPDATE runs SET state='creating', device=NULL, inode=NULL, materializer=? WHERE issue=? AND run=?",
                    sys.argv[2:])
            """
        try await TestSupport.run(
            [
                "python3", "-c", script, "\(scratch.path)/state/registry.sqlite", materializer, key.issue.description,
                key.run.description,
            ], in: "/")
    }
}
