import Dispatch
import Foundation
import Synchronization
import TestSupport
import Testing

@testable import WorktreeEngine

/// Unlinking in the background gives way to spawns, but not for ever.
@Suite struct BackgroundTests {
    private func pauses(_ background: Background) -> Int { background.pauses.load(ordering: .relaxed) }

    @Test func `the background stands back while a spawn is under way, for a while`() {
        let background = Background(pause: {})
        background.giveWay()
        #expect(pauses(background) == 0)
        background.spawnBegins()
        background.spawnBegins()
        background.giveWay()
        #expect(pauses(background) == 10)
        background.spawnEnds()
        background.giveWay()
        #expect(pauses(background) == 20, "one is under way still")
        background.spawnEnds()
        background.giveWay()
        #expect(pauses(background) == 20)
    }

    @Test func `it goes on as soon as the spawn has ended`() {
        let end = Mutex<@Sendable () -> Void>({})
        let background = Background(pause: { end.withLock { $0 }() })
        end.withLock { end in
            end = { [unowned background] in
                if background.pauses.load(ordering: .relaxed) == 3 { background.spawnEnds() }
            }
        }
        background.spawnBegins()
        background.giveWay()
        #expect(pauses(background) == 3)
    }

    @Test func `it does not stand back while somebody waits for it`() async {
        let background = Background(pause: {})
        background.spawnBegins()
        await background.hurry { background.giveWay() }
        #expect(pauses(background) == 0)
        background.giveWay()
        #expect(pauses(background) == 10)
    }

    @Test func `it does not stand back when much has gathered`() async throws {
        let background = Background(pause: {})
        background.spawnBegins()
        let gate = DispatchSemaphore(value: 0)
        let (started, counter) = AsyncStream.makeStream(of: Void.self)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<5 {
                group.addTask {
                    try await background.run {
                        counter.yield()
                        gate.wait()
                    }
                }
            }
            var running = started.makeAsyncIterator()
            for _ in 0..<5 { await running.next() }
            background.giveWay()
            #expect(pauses(background) == 0)
            for _ in 0..<5 { gate.signal() }
            try await group.waitForAll()
        }
        background.giveWay()
        #expect(pauses(background) == 10)
    }

    /// Ways to have something unlinked.
    enum Work: CaseIterable { case cleanup, slots, sweep, recover }

    @Test(arguments: Work.allCases, [true, false])
    func `whatever is unlinked gives way to a spawn`(_ work: Work, isSpawning: Bool) async throws {
        let fixture = try await PoolFixture(size: work == .slots ? 1 : 0)
        let engine = fixture.engine
        let workdir = try await engine.spawn(
            request(fixture.repository.path, materializer: work == .slots ? nil : .checkout))
        if work == .slots { try await engine.fillPool(repository: fixture.repository.path, size: 1) }
        let trash = "\(fixture.scratch.path)/state/workdirs/.wtengine/trash"
        try await shell("mkdir -p \(trash)/left/a/b/c; echo x > \(trash)/left/a/b/file", in: "/")
        let before = pauses(engine.background)
        if isSpawning { engine.background.spawnBegins() }
        switch work {
        case .cleanup: _ = try await engine.cleanup(engine.planCleanup(workdir.run))
        case .slots: #expect(try await engine.drainPool() == 1)
        case .sweep: #expect(try await engine.sweep().emptied == 1)
        case .recover: #expect(try await engine.recover().isEmpty)
        }
        // Not by `finishTrash`, since then somebody waits.
        let expected = work == .cleanup || work == .slots ? ["left"] : []
        while try FileManager.default.contentsOfDirectory(atPath: trash) != expected {
            try await Task.sleep(for: .milliseconds(5))
        }
        #expect((pauses(engine.background) > before) == isSpawning)
    }
}
