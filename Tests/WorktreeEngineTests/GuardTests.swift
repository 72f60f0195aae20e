import Foundation
import Glibc
import TestSupport
import Testing

@testable import WorktreeEngine

/// A tree outside every root. Whatever a test does, it stays as it is.
struct Canary {
    let path: String
    private let before: [String: String]

    init(_ scratch: Scratch) async throws {
        path = "\(scratch.path)/canary"
        try await shell(
            "git init -q canary; cd canary; mkdir -p deep/er; echo precious > file; echo x > deep/er/x; chmod 600 deep/er/x; "
                + "chmod 555 deep; ln -s file link; git add .; git -c user.name=x -c user.email=x commit -qm x; echo y > untracked",
            in: scratch.path)
        before = try Self.state(path)
    }

    var isUntouched: Bool { (try? Self.state(path)) == before }

    private static func state(_ path: String) throws -> [String: String] {
        try snapshot(path).merging(snapshot("\(path)/.git")) { $0 + $1 }
    }
}

@Suite struct GuardTests {
    /// Everything that takes workdirs away, tried on a run that somebody has tampered with.
    private func tryToRemove(_ run: RunFixture) async throws -> Set<EngineError.Code> {
        var codes: Set<EngineError.Code> = []
        if let refused = try await code({
            _ = try await run.engine.cleanup(run.engine.planCleanup(run.key), discard: true)
        }) {
            codes.insert(refused)
        }
        _ = try await run.engine.sweep()
        _ = try await run.engine.prune()
        _ = try await run.engine.recover()
        _ = await run.engine.finishTrash()
        return codes
    }

    @Test(arguments: [
        ("workdir replaced by a link", "mv $WD $ROOT/moved; ln -s $CANARY $WD"),
        ("parent replaced by a link", "mkdir $ROOT/p; mv ${WD%/*} $ROOT/p/issue; ln -s $ROOT/p/issue ${WD%/*}"),
        ("workdir replaced by a copy", "cp -a $WD $ROOT/copy; mv $WD $ROOT/moved; mv $ROOT/copy $WD"),
        ("workdir replaced by another repository", "mv $WD $ROOT/moved; mv $ROOT/other $WD"),
        (".git names the main repository", "echo \"gitdir: $REPO/.git\" > $WD/.git"),
        (".git names another entry", "cp $SIBLING/.git $WD/.git"),
        (".git is a link", "mv $WD/.git $ROOT/dotgit; ln -s $ROOT/dotgit $WD/.git"),
        ("the entry leads elsewhere", "echo $CANARY/.git > $ENTRY/gitdir"),
        ("the entry has another common dir", "echo $CANARY/.git > $ENTRY/commondir"),
        ("the entry is replaced by a link", "mv $ENTRY $ROOT/entry; ln -s $ROOT/entry $ENTRY"),
        ("the entry has another record", "cp $SIBLINGENTRY/wtengine.json $ENTRY/"),
        ("the worktree was moved by git", "git worktree move -f -f $WD $ROOT/moved"),
    ])
    func `a workdir that is not as it was made is left alone`(_ name: String, _ script: String) async throws {
        let run = try await RunFixture {
            $0.policies = Dictionary(uniqueKeysWithValues: Outcome.allCases.map { ($0, .immediate) })
        }
        let canary = try await Canary(run.scratch)
        let sibling = try await run.sibling()
        let row = try await run.engine.run(run.key)
        let other = try await run.engine.run(sibling.run)
        try await shell(
            "git clone -q repo other; cd \(run.path); git checkout -q --detach; git commit -q --allow-empty -m kept",
            in: run.scratch.path)
        try await shell(
            script, in: run.repository.path,
            [
                "ROOT": run.scratch.path, "WD": run.path, "CANARY": canary.path, "REPO": run.repository.path,
                "ENTRY": AdminEntry.path(row), "SIBLING": sibling.path, "SIBLINGENTRY": AdminEntry.path(other),
            ])
        let before = try snapshot(run.scratch.path).filter {
            !$0.key.hasPrefix("state/registry") && !$0.key.hasPrefix("state/leases")
        }
        #expect(try await !tryToRemove(run).isEmpty)
        let after = try snapshot(run.scratch.path).filter {
            !$0.key.hasPrefix("state/registry") && !$0.key.hasPrefix("state/leases")
        }
        for path in Set(before.keys).union(after.keys) where before[path] != after[path] {
            let isOurs =
                path.hasPrefix("state/workdirs/.wtengine") || path.hasSuffix("/index")
                || path.hasSuffix("wtengine.lock")
            #expect(isOurs, "\(path) changed")
        }
        #expect(canary.isUntouched)
    }

    @Test func `a registry row cannot lead out of the root`() async throws {
        let run = try await RunFixture()
        let canary = try await Canary(run.scratch)
        let row = try await run.engine.run(run.key)
        let outside = [
            (row.root, canary.path), (run.scratch.path, canary.path), (row.root, "\(row.root)/../../canary"),
            (row.root, "\(row.root)/.wtengine/stage"), (row.root, row.root), ("/", canary.path),
        ]
        for (number, (root, path)) in outside.enumerated() {
            for adminID in ["forged-\(number)", "../../../../canary\(String(repeating: "/.", count: number))"] {
                let key = try RunKey(issue: "local#\(10 + number)", run: adminID.hasPrefix("f") ? "a" : "b")
                let forged = Run(
                    key: key, role: try Role("x"), repo: row.repo, commonDir: row.commonDir, root: root,
                    path: adminID.hasPrefix("f") ? path : "\(row.root)/local+\(10 + number)/b", adminID: adminID,
                    branch: nil, base: row.base, materializer: .checkout)
                guard (try? await run.engine.registry.begin(forged, switching: false, limits: Limits())) != nil else {
                    continue
                }
                let identity = try Directory(canary.path).identity()
                _ = try await run.engine.registry.activate(key, materializer: .checkout, identity: identity)
                #expect(
                    try await code { _ = try await run.engine.cleanup(run.engine.planCleanup(key), discard: true) }
                        != nil)
                _ = try? await run.engine.registry.transition(key, from: [.ready], to: .detached, action: "test") {
                    $0.endedAt = .distantPast
                }
                // A removal that was recorded already is no way around either.
                _ = try? await run.engine.registry.transition(
                    key, from: [.ready, .detached, .quarantined], to: .cleaning, action: "test"
                ) {
                    var intent = RemovalIntent(
                        token: "x", discard: true, previousState: .ready, deleteBranchAt: nil, publishBranchAt: nil,
                        actor: "x")
                    intent.isChecked = true
                    $0.removal = intent
                }
            }
        }
        _ = try await run.engine.recover()
        _ = try await run.engine.sweep()
        _ = await run.engine.finishTrash()
        #expect(canary.isUntouched)
        #expect(try await run.engine.verify(run.key) == [])
    }

    @Test func `the main worktree is never removed, even when a row names it`() async throws {
        let scratch = try Scratch()
        let engine = try await scratch.engine()
        let helper = try await scratch.repository("helper")
        let workdir = try await engine.spawn(
            SpawnRequest(issue: "local#9", run: "r", role: "x", repository: helper.path))
        let root = try await engine.run(workdir.run).root
        // A main worktree that somebody keeps below the root.
        let main = try await scratch.repository("state/workdirs/local+1/main")
        let forged = Run(
            key: try RunKey(issue: "local#1", run: "main"), role: try Role("x"), repo: main.path,
            commonDir: "\(main.path)/.git", root: root, path: main.path, adminID: "main-0123456789", branch: nil,
            base: try await main.head(), materializer: .checkout)
        _ = try await engine.registry.begin(forged, switching: false, limits: Limits())
        _ = try await engine.registry.activate(
            forged.key, materializer: .checkout, identity: Directory(main.path).identity())
        let before = try snapshot(main.path)
        #expect(
            try await code { _ = try await engine.cleanup(engine.planCleanup(forged.key), discard: true) } == .identity)
        _ = try await engine.sweep()
        #expect(try snapshot(main.path) == before)
        #expect(try await git("status", "--porcelain", in: main.path) == "")
    }

    @Test func `a root that the configuration no longer names is left alone`() async throws {
        let run = try await RunFixture { $0.policies[.ok] = .immediate }
        try await run.engine.lock(run.key, reason: "first")
        try await run.engine.detach(run.key, outcome: .ok)
        try await run.engine.unlock(run.key)
        try FileManager.default.createDirectory(atPath: "\(run.scratch.path)/other", withIntermediateDirectories: true)
        let engine = try await run.scratch.engine {
            $0.roots = ["\(run.scratch.path)/other"]
            $0.policies[.ok] = .immediate
        }
        let before = try await run.witness()
        #expect(try await code { _ = try await engine.planCleanup(run.key) } == .root)
        let swept = try await engine.sweep()
        #expect(swept.skipped.map(\.run) == [run.key])
        #expect(try await engine.recover().isEmpty)
        #expect(try await run.witness() == before)
    }

    @Test(arguments: [
        "mv workdirs hidden; mkdir workdirs", "mv workdirs hidden", "mv workdirs hidden; ln -s hidden workdirs",
    ])
    func `what a root hides is not taken for gone`(_ script: String) async throws {
        let run = try await RunFixture { $0.policies[.ok] = .immediate }
        try await run.engine.lock(run.key, reason: "for the test")
        try await run.engine.detach(run.key, outcome: .ok)
        try await run.engine.unlock(run.key)
        let state = "\(run.scratch.path)/state"
        let before = try await run.witness()
        try await shell(script, in: state)
        let code = try await code { _ = try await run.engine.cleanup(run.engine.planCleanup(run.key)) }
        #expect(code == .root)
        let swept = try await run.engine.sweep()
        #expect(swept.pruned.isEmpty && swept.cleaned.isEmpty)
        #expect(try await run.engine.prune().pruned.isEmpty)
        try await shell("rm -d workdirs 2>&- || true; mv hidden workdirs", in: state)
        #expect(try await run.witness() == before)
        #expect(try await run.engine.sweep().cleaned == [run.key])
    }
}
