import Foundation
import TestSupport
import Testing

@testable import WorktreeEngine

/// A repository with a pool of ready slots. No refill runs beside a test that does not ask for it.
struct PoolFixture {
    let scratch: Scratch
    let repository: TestRepository
    let engine: Engine

    init(
        size: Int = 1, files: [TestFile] = TestFile.assorted,
        _ change: (inout WorktreeEngine.Configuration) -> Void = { _ in }
    ) async throws {
        scratch = try Scratch()
        repository = try await scratch.repository("repo", files)
        engine = try await scratch.engine { configuration in
            configuration.refillsPools = false
            change(&configuration)
        }
        if size > 0 { try await engine.fillPool(repository: repository.path, size: size) }
    }

    /// Another engine, which watches no slot: what another process is.
    func stranger(_ change: (inout WorktreeEngine.Configuration) -> Void = { _ in }) async throws -> Engine {
        try await scratch.engine { configuration in
            configuration.refillsPools = false
            change(&configuration)
        }
    }

    var slots: [String] {
        let top = "\(scratch.path)/state/workdirs/.wtengine/pool"
        let pools = (try? FileManager.default.contentsOfDirectory(atPath: top)) ?? []
        return pools.flatMap { pool in
            ((try? FileManager.default.contentsOfDirectory(atPath: "\(top)/\(pool)")) ?? [])
                .filter { $0.hasPrefix("slot-") }.map { "\(top)/\(pool)/\($0)" }
        }.sorted()
    }

    /// What is in a directory of ours; `wtengine` of the common dir, or `stage` and `trash`.
    func leftovers() async throws -> [String] {
        _ = await engine.finishTrash()
        return [
            "\(repository.path)/.git/wtengine", "\(scratch.path)/state/workdirs/.wtengine/stage",
            "\(scratch.path)/state/workdirs/.wtengine/trash",
        ]
        .flatMap { (try? FileManager.default.contentsOfDirectory(atPath: $0)) ?? [] }.sorted()
    }

    func status() async throws -> PoolStatus? { try await engine.poolStatus().first }

    /// A workdir is what git would have made.
    func expectGitsOwn(_ workdir: Workdir) async throws {
        let expected = try await gitsOwnCheckout(
            of: workdir.base, in: repository.path, scratch: scratch)
        #expect(try snapshot(workdir.path) == expected)
        try await expectClean(workdir.path)
        #expect(try await engine.verify(workdir.run) == [])
    }
}
