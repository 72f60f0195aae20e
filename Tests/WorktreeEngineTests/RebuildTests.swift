import Foundation
import TestSupport
import Testing

@testable import WorktreeEngine

@Suite struct RebuildTests {
    @Test(
        arguments: [
            "rm registry.sqlite*", "rm registry.sqlite*; echo 'not a database at all' > registry.sqlite",
            "rm registry.sqlite-*; head -c 3000 registry.sqlite > r; mv r registry.sqlite",
        ], [Materializer.checkout, .pool, .git, .clone])
    func `runs come back from disk when the registry is lost`(_ script: String, _ materializer: Materializer)
        async throws
    {
        let run = try await RunFixture(materializer)
        try await run.sh("echo unsaved > new.txt")
        try await run.engine.lock(run.key, reason: "evidence: #7")
        let row = try await run.engine.run(run.key)
        let before = try snapshot(run.path)
        try await shell(script, in: "\(run.scratch.path)/state")
        let (setAside, runs) = try await Engine.rebuild(run.scratch.configuration())
        #expect((setAside == nil) == !script.contains("registry.sqlite;") || runs == [run.key])
        #expect(runs == [run.key])
        let engine = try await run.scratch.engine()
        let back = try await engine.run(run.key)
        #expect(back.state == .ready && back.isActive && back.lockReason == "evidence: #7")
        #expect(back.path == row.path && back.identity == row.identity && back.branch == row.branch)
        #expect(back.base == row.base && back.adminID == row.adminID && back.materializer == row.materializer)
        #expect(try snapshot(run.path) == before)
        #expect(try await engine.run(containing: "\(run.path)/sub")?.key == run.key)
        #expect(try await engine.planCleanup(run.key).risks.map(\.path) == ["new.txt"])
        // Again: nothing new, and what was set aside is still there.
        #expect(try await Engine.rebuild(run.scratch.configuration()).runs.isEmpty)
        if let setAside { #expect(FileManager.default.fileExists(atPath: setAside)) }
    }

    @Test func `of several runs of one issue and role the newest is active`() async throws {
        let run = try await RunFixture()
        _ = try await run.sibling(issue: "local#1", "2026-02-14-backend-0002", switching: true)
        let newest = try await run.sibling(issue: "local#1", "2026-02-14-backend-0003", switching: true)
        let qa = try await run.sibling(issue: "local#1", "2026-02-14-qa-0001")
        try await shell("rm registry.sqlite*", in: "\(run.scratch.path)/state")
        #expect(try await Engine.rebuild(run.scratch.configuration()).runs.count == 4)
        let engine = try await run.scratch.engine()
        #expect(Set(try await engine.runs().filter(\.isActive).map(\.key)) == [newest.run, qa.run])
        #expect(try await code { try await engine.detach(run.key, outcome: .ok) } == .stale)
        // Nothing that came back is swept away before its time.
        #expect(try await engine.sweep().cleaned.isEmpty)
    }

    @Test func `a run whose workdir is gone comes back from its entry`() async throws {
        let run = try await RunFixture()
        try await shell("rm -r \(run.path) registry.sqlite*", in: "\(run.scratch.path)/state")
        #expect(try await Engine.rebuild(run.scratch.configuration()).runs.isEmpty)
        #expect(
            try await Engine.rebuild(run.scratch.configuration(), repositories: [run.repository.path]).runs == [run.key]
        )
        #expect(try await run.scratch.engine().prune().pruned == [run.key])
        #expect(try await run.repository.worktreeCount() == 1)
    }

    @Test(arguments: [
        "s|\"path\" : .*|\"path\" : \"$CANARY\",|",
        "s|\"path\" : .*|\"path\" : \"$ROOTDIR/../../canary\",|",
        "s|\"path\" : .*|\"path\" : \"$ROOTDIR/.wtengine/trash\",|",
        "s|\"root\" : .*|\"root\" : \"$CANARY\",|;s|\"path\" : .*|\"path\" : \"$CANARY/local+1/2026-02-14-backend-0001\",|",
        "s|\"adminID\" : .*|\"adminID\" : \"../../../../canary\",|",
        "s|\"adminID\" : .*|\"adminID\" : \"..\",|",
        "s|\"adminID\" : .*|\"adminID\" : \"other\",|",
        "s|\"commonDir\" : .*|\"commonDir\" : \"$CANARY/.git\",|",
        "s|\"run\" : .*|\"run\" : \"../x\",|", "s|\"issue\" : .*|\"issue\" : \"local#0\",|",
        "s|\"version\" : .*|\"version\" : 2|", "s|\"materializer\" : .*|\"materializer\" : \"rm\",|",
        "s|\"materializer\" : .*|\"materializer\" : \"clone\",|",
        "1s|.*|not json|",
    ])
    func `a record that is not its own is ignored`(_ edit: String) async throws {
        let run = try await RunFixture()
        let canary = try await Canary(run.scratch)
        let row = try await run.engine.run(run.key)
        let script = edit.replacing("$CANARY", with: canary.path).replacing("$ROOTDIR", with: row.root)
        let before = try Data(contentsOf: URL(fileURLWithPath: "\(AdminEntry.path(row))/wtengine.json"))
        try await TestSupport.run(["sed", "-i", script, "\(AdminEntry.path(row))/wtengine.json"], in: "/")
        #expect(try Data(contentsOf: URL(fileURLWithPath: "\(AdminEntry.path(row))/wtengine.json")) != before)
        try await expectNothing(run, canary)
    }

    @Test(arguments: [
        "head -c 3000000 /dev/zero | tr '\\0' ' ' > pad; cat pad $R > new; mv new $R", "rm $R; mkfifo $R",
        "rm $R; mkdir $R",
        "mv $R $ROOT/r; ln -s $ROOT/r $R", ": > $R", "rm $R; ln -s /dev/zero $R",
    ])
    func `a record that is no small file is ignored`(_ script: String) async throws {
        let run = try await RunFixture()
        let canary = try await Canary(run.scratch)
        let row = try await run.engine.run(run.key)
        try await shell(
            script, in: run.scratch.path, ["R": "\(AdminEntry.path(row))/wtengine.json", "ROOT": run.scratch.path])
        try await expectNothing(run, canary)
    }

    @Test func `a .git file that leads to a forged entry is ignored`() async throws {
        let run = try await RunFixture()
        let canary = try await Canary(run.scratch)
        let row = try await run.engine.run(run.key)
        try await shell(
            "cp -a $E forged; sed -i 's|\"adminID\" : .*|\"adminID\" : \"../stage\",|' forged/wtengine.json; "
                + "echo $C > forged/commondir; echo \"gitdir: $PWD/forged\" > $W/.git; mv $E $PWD/entry",
            in: run.scratch.path, ["E": AdminEntry.path(row), "C": row.commonDir, "W": run.path])
        try await expectNothing(run, canary)
    }

    private func expectNothing(_ run: RunFixture, _ canary: Canary) async throws {
        let before = try snapshot(run.path)
        try await shell("rm registry.sqlite*", in: "\(run.scratch.path)/state")
        let rebuilt = try await Engine.rebuild(run.scratch.configuration(), repositories: [run.repository.path]).runs
        #expect(rebuilt.isEmpty)
        let engine = try await run.scratch.engine()
        for key in rebuilt { _ = try? await engine.cleanup(engine.planCleanup(key), discard: true) }
        _ = try await engine.sweep()
        _ = try await engine.recover()
        #expect(await engine.finishTrash() == 0)
        #expect(try snapshot(run.path) == before)
        #expect(canary.isUntouched)
        try await git("worktree", "list", in: run.repository.path)
    }
}
