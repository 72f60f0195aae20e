import Foundation
import TestSupport
import Testing

@testable import WorktreeEngine

/// Pools are filled again by themselves, and cost nobody anything when they cannot be.
@Suite struct PoolRefillTests {
    @Test func `a claim is followed by a refill in the background`() async throws {
        let fixture = try await PoolFixture(size: 2) { $0.refillsPools = true }
        for number in 1...5 {
            let workdir = try await fixture.engine.spawn(request(fixture.repository.path, issue: "local#\(number)"))
            #expect(workdir.materializer == .pool)
            try await fixture.expectGitsOwn(workdir)
            await fixture.engine.finishRefills()
            #expect(try await fixture.status().map { [$0.ready, $0.stale] } == [2, 0])
        }
        await fixture.engine.close()
    }

    @Test func `an engine with a pool size fills pools of what runs begin at`() async throws {
        let fixture = try await PoolFixture(size: 0) { configuration in
            configuration.poolSize = 2
            configuration.refillsPools = true
        }
        #expect(try await fixture.engine.spawn(request(fixture.repository.path)).materializer == .checkout)
        await fixture.engine.finishRefills()
        #expect(try await fixture.status().map { [$0.size, $0.ready] } == [2, 2])
        let second = try await fixture.engine.spawn(request(fixture.repository.path, issue: "local#2"))
        #expect(second.materializer == .pool)
        await fixture.engine.close()
    }

    @Test func `a command notes the size and the next sweep fills`() async throws {
        let fixture = try await PoolFixture(size: 0) { $0.poolSize = 2 }
        #expect(try await fixture.engine.spawn(request(fixture.repository.path)).materializer == .checkout)
        #expect(try await fixture.status().map { [$0.size, $0.ready] } == [2, 0])
        #expect(try await fixture.engine.sweep().slotsFilled == 2)
        #expect(try await fixture.status()?.ready == 2)
        #expect(try await fixture.engine.sweep().slotsFilled == 0)
    }

    @Test func `a size that somebody has set stands against the configuration`() async throws {
        let fixture = try await PoolFixture(size: 1) { $0.poolSize = 3 }
        _ = try await fixture.engine.spawn(request(fixture.repository.path))
        #expect(try await fixture.engine.sweep().slotsFilled == 1)
    }

    @Test func `a moved base is followed by the refill`() async throws {
        let fixture = try await PoolFixture(size: 1, files: [TestFile("a"), TestFile("b")])
        try await fixture.repository.commit([TestFile("a", "other\n")], message: "second")
        let report = try await fixture.engine.sweep()
        #expect(report.slotsFilled == 0 && report.slotsRenewed == 1 && report.poolsLeft.isEmpty)
        #expect(try await fixture.status().map { [$0.ready, $0.stale] } == [1, 0])
    }

    @Test func `a sweep forgets the pool of a repository that is gone`() async throws {
        let fixture = try await PoolFixture(size: 2)
        try FileManager.default.removeItem(atPath: fixture.repository.path)
        let gone = try #require(try await fixture.status())
        #expect(gone.commit == nil && gone.ready == 0 && gone.stale == 2)
        let report = try await fixture.engine.sweep()
        #expect(report.poolsLeft.isEmpty)
        #expect(try await fixture.engine.poolStatus() == [])
        #expect(fixture.slots == [])
    }

    @Test func `a sweep forgets the pool that was filled from a worktree which is gone`() async throws {
        let fixture = try await PoolFixture(size: 0)
        let workdir = try await fixture.engine.spawn(request(fixture.repository.path))
        try await fixture.engine.fillPool(repository: workdir.path, size: 1)
        _ = try await fixture.engine.cleanup(fixture.engine.planCleanup(workdir.run))
        let finding = try #require(try await fixture.engine.doctor().first { $0.message.hasPrefix("pool of ") })
        #expect(finding.remedy == "wtengine sweep")
        #expect(try await fixture.engine.sweep().poolsLeft.isEmpty)
        #expect(try await fixture.engine.poolStatus() == [])
        #expect(fixture.slots == [])
    }

    @Test func `nothing of a pool that was forgotten stays in the repositories of runs`() async throws {
        let fixture = try await PoolFixture(size: 2)
        _ = try await fixture.engine.spawn(request(fixture.repository.path))
        let directory = (fixture.slots[0] as NSString).deletingLastPathComponent
        try await shell("echo '{' > pool.json", in: directory)
        _ = try await fixture.engine.recover()
        #expect(fixture.slots == [])
        #expect(try await fixture.leftovers() == [])
    }

    @Test func `a pool that can no longer be filled is reported, and spawns go on`() async throws {
        let fixture = try await PoolFixture(size: 1)
        try await fixture.repository.refuseLibgit2()
        let report = try await fixture.engine.sweep()
        #expect(report.poolsLeft.map(\.repository) == [fixture.repository.path])
        let workdir = try await fixture.engine.spawn(request(fixture.repository.path))
        #expect(workdir.materializer == .git)
        #expect(try await fixture.engine.drainPool() == 1)
    }

    @Test func `slots of an earlier boot are thrown away`() async throws {
        let fixture = try await PoolFixture(size: 1)
        let name = (fixture.slots[0] as NSString).lastPathComponent
        let record = "\(fixture.repository.path)/.git/wtengine/pool-\(name)/slot.json"
        try await shell("sed -i 's/\"boot\" : \"[^\"]*\"/\"boot\" : \"other\"/' \(record)", in: "/")
        let engine = try await fixture.stranger()
        #expect(try await engine.spawn(request(fixture.repository.path)).materializer == .checkout)
        _ = try await engine.recover()
        _ = await engine.finishTrash()
        #expect(fixture.slots == [])
        #expect(try await fixture.leftovers() == [])
    }

    @Test func `recovery leaves slots that are whole, and what others are at work on`() async throws {
        let fixture = try await PoolFixture(size: 1)
        let root = try #require(await fixture.engine.visibleRoots().first)
        let busy = SlotRecord.newName(root)
        let lease = try #require(
            try Lease(ifFree: SlotRecord.leaseName(busy), state: root.path.replacing("/workdirs", with: "")))
        let stage = "\(root.path)/.wtengine/stage/\(busy)"
        let files = "\(fixture.repository.path)/.git/wtengine/pool-\(busy)"
        try await shell("mkdir \(stage) \(files); echo x > \(stage)/x; echo x > \(files)/index", in: "/")
        let engine = try await fixture.stranger()
        _ = try await engine.recover()
        #expect(
            FileManager.default.fileExists(atPath: "\(stage)/x")
                && FileManager.default.fileExists(atPath: "\(files)/index"))
        #expect(try await fixture.status()?.ready == 1)
        lease.release()
        _ = try await engine.recover()
        #expect(!FileManager.default.fileExists(atPath: stage) && !FileManager.default.fileExists(atPath: files))
        #expect(try await fixture.status()?.ready == 1)
    }

    @Test func `foreign files in the pool's directory are no slots and no pools`() async throws {
        let fixture = try await PoolFixture(size: 1)
        let top = "\(fixture.scratch.path)/state/workdirs/.wtengine/pool"
        try await shell(
            "mkdir -p x/y; echo > x/pool.json; echo > file; ln -s / link; for d in *-*; do echo x > $d/pool.json.wtengine-12; done",
            in: top)
        #expect(try await fixture.engine.poolStatus().map(\.ready) == [1])
        _ = try await fixture.engine.recover()
        #expect(try await fixture.engine.poolStatus().map(\.ready) == [1])
        #expect(try await fixture.engine.spawn(request(fixture.repository.path)).materializer == .pool)
    }

    @Test func `closing an engine ends its refills`() async throws {
        let fixture = try await PoolFixture(size: 3) { $0.refillsPools = true }
        _ = try await fixture.engine.spawn(request(fixture.repository.path))
        await fixture.engine.close()
        let slots = fixture.slots
        // Still works, and begins nothing in the background.
        let workdir = try await fixture.engine.spawn(request(fixture.repository.path, issue: "local#2"))
        #expect(workdir.materializer == .pool)
        await fixture.engine.finishRefills()
        #expect(fixture.slots.count == slots.count - 1)
    }
}
