import WorktreeEngine

/// Spawns that find their files ready: out of the pool, or as a snapshot of a template.
@MainActor
struct Warm {
    let stage: Stage

    /// Few enough to be filled quickly and to fit, at any size.
    private var batch: Int { max(1, min(16, 250_000 / stage.subject.files)) }
    /// A p99 needs many samples, and a claim costs little; filling is what takes time.
    private var samples: Int {
        min(200, max(stage.effort.fewestClaims, stage.effort.fileBudget / stage.subject.files))
    }

    func run() async throws {
        try await pool()
        try await snapshot()
    }

    /// Claims of slots that are ready: first with nothing else going on, then while the pool refills itself behind
    /// every claim, as it does by default.
    private func pool() async throws {
        let size = try min(batch, stage.room(for: batch * 2) / 2)
        guard size > 0 else { return stage.note("no pool: there is no room for more workdirs.") }
        for refills in [false, true] {
            let engine = try await stage.poolEngine(refills: refills)
            var done = -size
            // Half the samples will do for the second, which fills every slot twice.
            while done < (refills ? samples / 2 : samples) {
                _ = try await engine.fillPool(repository: stage.subject.path, size: size)
                try await stage.settle()
                try await spawns(
                    engine, .pool, refills ? Contender.refilling : Contender.pool, count: size, counted: done >= 0)
                await engine.finishRefills()
                done += size
            }
            await engine.close()
            _ = try await engine.drainPool(repository: stage.subject.path)
            // Its trash is not the stage's, and the next measurement is not to pay for it.
            guard await engine.finishTrash() == 0 else { throw Failure("the pool's trash could not be unlinked.") }
            try await stage.settle()
        }
    }

    private func snapshot() async throws {
        let snapshot = Materializer.snapshot
        // The first makes the template, when the filesystem has snapshots at all.
        do {
            let (_, workdir) = try await timedSpawn(stage.engine, stage.request(snapshot))
            guard workdir.materializer == snapshot else { throw Failure("served by \(workdir.materializer)") }
            try await Git.verify(workdir.path, stage.subject.commit)
            _ = try await timedCleanup(stage.engine, workdir.run)
        } catch let error as EngineError where error.code == .unsupported {
            return stage.note("no snapshots: only btrfs has them, for who may make subvolumes there.")
        }
        try await stage.settle()
        for _ in 0..<max(1, samples / 10) {
            try await spawns(stage.engine, snapshot, Contender.snapshot, count: 10, counted: true)
        }
    }

    /// Spawns so many, one after the other, looks at some with git, and removes all.
    private func spawns(
        _ engine: Engine, _ materializer: Materializer, _ contender: String, count: Int, counted: Bool
    ) async throws {
        var workdirs: [Workdir] = []
        for _ in 0..<count {
            let (spawn, workdir) = try await timedSpawn(engine, stage.request(materializer))
            guard workdir.materializer == materializer else {
                throw Failure("\(workdir.path) was served by \(workdir.materializer) instead of \(materializer).")
            }
            if counted { stage.record(Measure.spawn, contender, spawn) }
            workdirs.append(workdir)
        }
        if !counted { try await Git.verify(workdirs[0].path, stage.subject.commit) }
        for workdir in workdirs.dropFirst().prefix(4) {
            let first = try await Git.status(workdir.path)
            let second = try await Git.status(workdir.path)
            guard counted else { continue }
            stage.record(Measure.firstStatus, contender, first)
            stage.record(Measure.secondStatus, contender, second)
        }
        for workdir in workdirs {
            let cleanup = try await timedCleanup(engine, workdir.run)
            let (rest, _) = await timed { await engine.finishTrash() }
            if counted {
                stage.record(cleanup, contender)
                stage.record(Measure.unlinked, contender, cleanup.both + rest)
            }
        }
        try await stage.settle()
    }
}
