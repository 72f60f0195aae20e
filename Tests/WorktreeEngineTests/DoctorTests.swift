import Foundation
import TestSupport
import Testing

@testable import WorktreeEngine

/// What doctor says of pools and of the abilities of a root's filesystem, and that its remedies mend.
@Suite struct DoctorTests {
    private func pool(_ fixture: PoolFixture) async throws -> Finding {
        let findings = try await fixture.engine.doctor().filter { $0.message.hasPrefix("pool of ") }
        #expect(findings.count == 1, "\(findings)")
        return try #require(findings.first)
    }

    @Test func `a full pool is a fact`() async throws {
        let fixture = try await PoolFixture(size: 2)
        let finding = try await pool(fixture)
        #expect(finding.level == .info && finding.remedy == nil)
        #expect(finding.message == "pool of \(fixture.repository.path) at HEAD: 2 of 2 slots ready, 0 stale")
    }

    @Test func `a pool that lacks slots, or has stale ones, is mended by a sweep`() async throws {
        let fixture = try await PoolFixture(size: 2, files: [TestFile("a")])
        _ = try await fixture.engine.spawn(request(fixture.repository.path))
        try await fixture.repository.commit([TestFile("b")], message: "second")
        let finding = try await pool(fixture)
        #expect(finding.level == .warning && finding.remedy == "wtengine sweep")
        #expect(finding.message.hasSuffix("0 of 2 slots ready, 1 stale"))
        _ = try await fixture.engine.sweep()
        #expect(try await pool(fixture).level == .info)
    }

    @Test(arguments: [Materializer.checkout, .clone])
    func `a workdir that comes back after its run was removed is told`(_ materializer: Materializer) async throws {
        let run = try await RunFixture(materializer)
        try await shell("echo work > README.md; mv \(run.path) \(run.scratch.path)/away", in: run.path)
        _ = try await run.engine.prune()
        #expect(try await run.engine.run(run.key).state == .removed)
        func left() async throws -> [Finding] {
            try await run.engine.doctor().filter { $0.message.contains("belongs to no run") }
        }
        #expect(try await left().isEmpty)
        try await shell("mkdir -p $(dirname \(run.path)); mv \(run.scratch.path)/away \(run.path)", in: "/")
        let finding = try #require(try await left().first)
        #expect(finding.level == .warning && finding.message.hasPrefix("\(run.path) belongs to no run"))
        try FileManager.default.removeItem(atPath: run.path)
        #expect(try await left().isEmpty)
    }

    @Test(arguments: [
        "cp -a $D $D.copy; rm -r $D; mv $D.copy $D", "rm $D/.git", "rm -r $D; echo x > $D", "rm -r $D; ln -s / $D",
    ])
    func `what is not the workdir that was made is told, and not removed`(_ script: String) async throws {
        let run = try await RunFixture()
        try await shell(script, in: "/", ["D": run.path])
        let findings = try await run.engine.doctor().filter { $0.level == .warning }
        #expect(findings.map(\.remedy) == ["wtengine verify \(run.key)"], "\(findings)")
        #expect(try await code { _ = try await run.engine.planCleanup(run.key) } == .identity)
        // As the message says.
        try await shell("mv $D $D.away", in: "/", ["D": run.path])
        let plan = try await run.engine.planCleanup(run.key)
        #expect(try await run.engine.cleanup(plan).run.state == .removed)
    }

    @Test func `runs below a root that is not there are counted, and it is not made anew`() async throws {
        let run = try await RunFixture()
        let root = try await run.engine.run(run.key).root
        try await shell("mv \(root) \(root).away", in: "/")
        #expect(try await code { _ = try await run.sibling() } == .root)
        #expect(!FileManager.default.fileExists(atPath: root))
        let findings = try await run.engine.doctor()
        #expect(findings.contains { $0.level == .error && $0.message.contains("\(root) is gone") }, "\(findings)")
        #expect(findings.contains { $0.message == "root \(root): 1 run(s) there were not looked at" }, "\(findings)")
    }

    @Test func `a pool that is being filled needs nothing`() async throws {
        let fixture = try await PoolFixture(size: 1)
        _ = try await fixture.engine.spawn(request(fixture.repository.path))
        let root = try #require(await fixture.engine.visibleRoots().first)
        let state = fixture.engine.configuration.state
        let known = try #require(try PoolDirectory(root: root, state: state).pools().first)
        let lease = try fixture.engine.poolLease(known)
        defer { lease.release() }
        let finding = try await pool(fixture)
        #expect(finding.level == .info && finding.message.hasSuffix("it is being filled now"))
    }

    @Test func `a pool of other settings is mended by the fill that it names`() async throws {
        let fixture = try await PoolFixture(size: 1)
        try await git("config", "core.autocrlf", "true", in: fixture.repository.path)
        let finding = try await pool(fixture)
        #expect(finding.level == .warning)
        #expect(finding.remedy == "wtengine pool fill --repo \(fixture.repository.path) --size 1")
        try await fixture.engine.fillPool(repository: fixture.repository.path, size: 1)
        #expect(try await pool(fixture).level == .info)
    }

    @Test func `a pool that cannot be filled any more says why`() async throws {
        let fixture = try await PoolFixture(size: 1)
        try await fixture.repository.refuseLibgit2()
        let refused = try await pool(fixture)
        #expect(refused.level == .warning && refused.message.contains("refs/replace"))
        #expect(refused.remedy == "wtengine pool drain --repo \(fixture.repository.path)")
        try FileManager.default.removeItem(atPath: fixture.repository.path)
        let gone = try await pool(fixture)
        #expect(gone.level == .warning && gone.message.hasSuffix("the repository is gone"))
        #expect(gone.remedy == "wtengine sweep")
        _ = try await fixture.engine.sweep()
        #expect(try await !fixture.engine.doctor().contains { $0.message.hasPrefix("pool of ") })
    }

    @Test func `a pool whose revision is gone says so`() async throws {
        let fixture = try await PoolFixture(size: 0)
        try await git("branch", "topic", in: fixture.repository.path)
        try await fixture.engine.fillPool(repository: fixture.repository.path, base: "topic", size: 1)
        try await git("branch", "-D", "topic", in: fixture.repository.path)
        let finding = try await pool(fixture)
        #expect(finding.level == .warning && finding.message.contains("names no commit"))
        #expect(finding.remedy == "wtengine pool drain --repo \(fixture.repository.path)")
    }

    @Test func `a damaged pool is mended by recover`() async throws {
        let fixture = try await PoolFixture(size: 1)
        let directory = (fixture.slots[0] as NSString).deletingLastPathComponent
        try await shell("echo '{' > pool.json", in: directory)
        let finding = try #require(try await fixture.engine.doctor().first { $0.message.contains("pool.json") })
        #expect(
            finding.level == .warning && finding.remedy == "wtengine recover" && finding.message.contains(directory))
        _ = try await fixture.engine.recover()
        #expect(!FileManager.default.fileExists(atPath: directory))
        #expect(try await !fixture.engine.doctor().contains { $0.level != .info })
    }

    private func snapshots(_ scratch: Scratch) async throws -> Finding {
        let engine = try await scratch.engine()
        let repository = try await scratch.repository()
        _ = try await engine.spawn(request(repository.path))
        let finding = try #require(try await engine.doctor().first { $0.message.contains("snapshots") })
        let stage = "\(engine.configuration.state)/workdirs/.wtengine/stage"
        #expect(try FileManager.default.contentsOfDirectory(atPath: stage) == [], "the probe leaves nothing")
        return finding
    }

    @Test(.enabled(if: FilesystemImage.Kind.btrfs.canTry, "needs root and mkfs.btrfs"))
    func `a root that has snapshots is told from one that has none`() async throws {
        let image = try await FilesystemImage(.btrfs)
        let able = try await snapshots(Scratch(below: image.path))
        #expect(able.level == .info && able.message.contains("spawns are snapshots"))
        let other = try await OtherFilesystem()
        let unable = try await snapshots(other.scratch)
        #expect(unable.level == .info && unable.message.contains("no snapshots (tmpfs)"))
    }

    @Test func `commands in remedies are complete and quoted for a shell`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("it's ours")
        let engine = try await scratch.engine { $0.refillsPools = false }
        try await engine.fillPool(repository: repository.path, base: "HEAD", size: 1)
        try await git("config", "core.autocrlf", "true", in: repository.path)
        let quoted = shellQuoted(repository.path)
        #expect(quoted.hasSuffix("/it'\\''s ours'"))
        let fill = "wtengine pool fill --repo \(quoted) --base HEAD --size 1"
        #expect(try await engine.doctor().contains { $0.remedy == fill })
        #expect(try await engine.sweep().poolsLeft.map { $0.reason.contains("`\(fill)`") } == [true])
        try await git("symbolic-ref", "HEAD", "refs/heads/none", in: repository.path)
        #expect(try await engine.doctor().contains { $0.remedy == "wtengine pool drain --repo \(quoted)" })
    }

    @Test func `a run whose repository is gone is left to a person`() async throws {
        let run = try await RunFixture()
        #expect(try await !run.engine.doctor().contains { $0.level == .error })
        try FileManager.default.removeItem(atPath: run.repository.path)
        let finding = try #require(try await run.engine.doctor().first { $0.level == .error })
        #expect(finding.message == "the repository \(run.repository.path) of run \(run.key) is gone")
        #expect(
            finding.remedy
                == "put it back if it was moved; otherwise look at \(run.path), then: wtengine cleanup \(run.key)")
        let problems = try await run.engine.verify(run.key)
        #expect(problems.count == 1 && problems[0].contains("is gone"), "\(problems)")
    }
}
