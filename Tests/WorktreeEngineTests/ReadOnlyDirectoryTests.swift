import Foundation
import Glibc
import TestSupport
import Testing

@testable import WorktreeEngine

/// Cleanups in directories that their owner made read-only. As root these tests pass but prove little, since modes do not
/// bind root.
@Suite struct ReadOnlyDirectoryTests {
    static let places = [
        "chmod 500 $WD", "chmod 555 $WD $WD/sub $WD/bin", "chmod 500 ${WD%/*}", "chmod 500 $ENTRY",
        "chmod 500 $COMMON/worktrees", "mkdir -p $COMMON/wtengine; chmod 500 $COMMON/wtengine",
        "mkdir -p $TRASH; chmod 500 $TRASH", "mkdir -p $TRASH; chmod 000 $TRASH", "chmod 500 ${TRASH%/*}",
        "mkdir -p $COMMON/wtengine; chmod 000 $COMMON/wtengine",
        "mkdir -p $TRASH $COMMON/wtengine; chmod 500 $WD/sub $WD ${WD%/*} $ENTRY $COMMON/worktrees $COMMON/wtengine $TRASH",
    ]

    private static func prepare(_ script: String, _ run: RunFixture) async throws {
        let row = try await run.engine.run(run.key)
        try await shell(
            script, in: "/",
            [
                "WD": run.path, "COMMON": row.commonDir, "ENTRY": AdminEntry.path(row),
                "TRASH": "\(row.root)/.wtengine/trash",
            ])
    }

    private static func mode(_ path: String) -> mode_t? {
        var value = stat()
        return stat(path, &value) == 0 ? value.st_mode & 0o7777 : nil
    }

    @Test(arguments: places, [false, true])
    func `a cleanup works in read-only directories and restores the modes of those that remain`(
        _ script: String, _ inOneStep: Bool
    ) async throws {
        let run = try await RunFixture()
        let sibling = try await run.sibling(issue: "local#1", "2026-02-14-qa-0001")
        try await Self.prepare(script, run)
        let row = try await run.engine.run(run.key)
        let staying = [(run.path as NSString).deletingLastPathComponent, "\(row.commonDir)/worktrees"]
        let before = staying.map(Self.mode)
        if inOneStep {
            #expect(try await run.engine.cleanup(ifClean: run.key).run.state == .removed)
        } else {
            let plan = try await run.engine.planCleanup(run.key)
            #expect(plan.risks.isEmpty)
            #expect(try await run.engine.cleanup(plan).run.state == .removed)
        }
        #expect(await run.engine.finishTrash() == 0)
        #expect(!FileManager.default.fileExists(atPath: run.path))
        #expect(staying.map(Self.mode) == before)
        for place in ["\(row.commonDir)/wtengine", "\(row.root)/.wtengine/trash"] {
            #expect((try? FileManager.default.contentsOfDirectory(atPath: place))?.isEmpty != false, "\(place)")
        }
        #expect(try await run.repository.worktreeCount() == 2)
        try await expectClean(sibling.path)
    }

    /// git cannot delete such a branch either.
    @Test(.enabled(if: geteuid() != 0, "root may write everywhere"))
    func `a cleanup that cannot delete the branch is finished by recovery once it can`() async throws {
        let run = try await RunFixture()
        let row = try await run.engine.run(run.key)
        let branches = ("\(row.commonDir)/refs/heads/\(try #require(row.branch))" as NSString).deletingLastPathComponent
        chmod(branches, 0o500)
        defer { chmod(branches, 0o700) }
        let error = await #expect(throws: EngineError.self) { _ = try await run.engine.cleanup(ifClean: run.key) }
        #expect(error?.disposition == .blocked, "\(String(describing: error))")
        #expect(error?.message.contains(branches) == true)
        #expect(try await run.engine.recover().map(\.action) == ["failed"])
        #expect(try await run.engine.run(run.key).state == .cleaning)
        chmod(branches, 0o700)
        #expect(try await run.engine.recover().map(\.action) == ["finished"])
        #expect(try await run.engine.run(run.key).state == .removed)
        #expect(try await run.repository.branches() == ["main"])
    }

    @Test func `lock and unlock work in a read-only admin entry`() async throws {
        let run = try await RunFixture()
        let entry = AdminEntry.path(try await run.engine.run(run.key))
        chmod(entry, 0o500)
        try await run.engine.lock(run.key, reason: "for a look")
        #expect(try String(contentsOfFile: "\(entry)/locked", encoding: .utf8).contains("for a look"))
        try await run.engine.unlock(run.key)
        #expect(Self.mode(entry) == 0o500)
    }

    @Test func `a read-only workdir with work in it is not touched`() async throws {
        let run = try await RunFixture()
        try await run.sh("echo precious > new; chmod 500 .")
        let parent = try Directory((run.path as NSString).deletingLastPathComponent)
        let before = try parent.fileVersion((run.path as NSString).lastPathComponent)
        let witness = try await run.witness()
        #expect(try await code { _ = try await run.engine.cleanup(ifClean: run.key) } == .workAtRisk)
        let after = try await run.witness()
        #expect(after.files == witness.files && after.references == witness.references && after.head == witness.head)
        #expect(after.run.state == .ready && after.run.removal == nil)
        // As root, the cleanup moves the workdir to the trash and back, which changes its ctime.
        if geteuid() != 0 {
            #expect(try parent.fileVersion((run.path as NSString).lastPathComponent) == before)
        }
        #expect(Self.mode(run.path) == 0o500)
    }

    @Test(arguments: [0o500, 0o555, 0o550] as [mode_t])
    func `a workdir moved back from the trash has its old mode`(_ mode: mode_t) async throws {
        let run = try await RunFixture()
        let plan = try await run.engine.planCleanup(run.key)
        try await run.sh("echo more >> README.md")
        chmod(run.path, mode)
        #expect(try await code { _ = try await run.engine.cleanup(plan) } == .planChanged)
        #expect(Self.mode(run.path) == mode)
        let now = try await run.engine.run(run.key)
        #expect(now.state == .ready && now.removal == nil)
    }

    /// Killed with the workdir made writable, before or after the move into the trash.
    @Test(arguments: [false, true], [false, true])
    func `recovery gives a workdir its mode back`(_ isTrashed: Bool, _ isDirty: Bool) async throws {
        let run = try await RunFixture()
        if isDirty { try await run.sh("echo precious > new") }
        let row = try await run.engine.registry.transition(
            run.key, from: [.ready], to: .cleaning, action: .cleanupIntent
        ) {
            var intent = RemovalIntent(
                token: nil, discard: false, previousState: .ready, deleteBranchAt: nil, publishBranchAt: nil,
                actor: "test")
            intent.workdirMode = 0o550
            $0.removal = intent
        }
        if isTrashed {
            let trash = "\(row.root)/.wtengine/trash"
            try await shell("mkdir -pm 700 \(trash); mv \(run.path) \(trash)/\(row.adminID)", in: "/")
        }
        let engine = try await run.scratch.engine()
        #expect(try await engine.recover().map(\.action) == [isDirty ? "returned" : "finished"])
        #expect(Self.mode(run.path) == (isDirty ? 0o550 : nil))
    }

    @Test(.enabled(if: geteuid() != 0, "root can read everything"), arguments: [0o000, 0o300, 0o400] as [mode_t])
    func `a workdir that cannot be inspected is neither changed nor removed`(_ mode: mode_t) async throws {
        let run = try await RunFixture()
        chmod(run.path, mode)
        defer { chmod(run.path, 0o700) }
        for body: () async throws -> Void in [
            { _ = try await run.engine.cleanup(ifClean: run.key) }, { _ = try await run.engine.planCleanup(run.key) },
        ] {
            let error = await #expect(throws: EngineError.self) { try await body() }
            #expect(error?.message.contains(run.path) == true, "\(String(describing: error))")
        }
        #expect(Self.mode(run.path) == mode)
        #expect(try await run.engine.run(run.key).state == .ready)
    }

    @Test(.enabled(if: FilesystemImage.Kind.ext4.canTry, "needs root and mkfs.ext4"))
    func `an immutable workdir is kept, and is removed once it can be moved`() async throws {
        let image = try await FilesystemImage(.ext4)
        defer { withExtendedLifetime(image) {} }
        let scratch = try Scratch(below: image.path)
        let repository = try await scratch.repository()
        let engine = try await scratch.engine()
        let workdir = try await engine.spawn(request(repository.path))
        try await sh("chattr +i .", in: workdir.path)
        let error = await #expect(throws: EngineError.self) { _ = try await engine.cleanup(ifClean: workdir.run) }
        #expect(error?.disposition == .blocked && error?.message.contains(workdir.path) == true)
        #expect(try await engine.run(workdir.run).state == .ready)
        try await sh("chattr -i .", in: workdir.path)
        #expect(try await engine.cleanup(ifClean: workdir.run).run.state == .removed)
    }
}
