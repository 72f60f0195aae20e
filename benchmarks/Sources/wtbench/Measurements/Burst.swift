import Glibc
import WorktreeEngine

/// Many spawns of one commit, all asked for at once. A sample is the time until the last is there.
@MainActor
struct Burst {
    let stage: Stage

    func run() async throws {
        let wanted = stage.effort.burst
        let files = stage.subject.files * wanted
        guard files <= stage.effort.fileLimit else {
            return stage.note(
                "no \(Measure.burst(wanted)): \(files) files are more than the limit of \(stage.effort.fileLimit).")
        }
        let count = try stage.room(for: wanted)
        guard count >= 8 else {
            return stage.note(
                "no \(Measure.burst(wanted)): only \(count) have room. Give a --dir with more free space.")
        }
        if count < wanted { stage.note("a burst of \(count) instead of \(wanted): no more have room.") }
        let measure = Measure.burst(count)
        for round in 0..<max(1, min(3, stage.effort.fileLimit / files)) {
            for turn in 0..<5 {
                switch (turn + round) % 5 {
                case 0: stage.record(measure, Contender.checkout, try await ours(count, stage.engine, .checkout))
                case 1: stage.record(measure, Contender.gitSerial, try await gitSerial(count))
                case 2: stage.record(measure, Contender.floor, try await floor(count))
                case 3: stage.record(measure, Contender.poolBurst, try await pool(count))
                default: stage.record(measure, Contender.gitConcurrent, try await gitConcurrent(count))
                }
                try await stage.settle()
            }
        }
    }

    /// What nobody who writes the files can do without.
    private func floor(_ count: Int) async throws -> UInt64 {
        let paths = paths(count)
        let floor = try Floor.make(stage.subject.entries)
        var time: UInt64 = 0
        for path in paths {
            guard mkdir(path, 0o700) == 0 else { throw Failure(errno: "mkdir", path) }
            time += try floor.write(path, threads: stage.threads)
        }
        for path in paths {
            _ = try floor.remove(path, threads: stage.threads)
            guard rmdir(path) == 0 else { throw Failure(errno: "rmdir", path) }
        }
        return time
    }

    /// Out of a pool that has a slot for each; it was filled before.
    private func pool(_ count: Int) async throws -> UInt64 {
        let engine = try await stage.poolEngine(refills: false)
        _ = try await engine.fillPool(repository: stage.subject.path, size: count)
        try await stage.settle()
        let time = try await ours(count, engine, .pool)
        _ = await engine.finishTrash()
        _ = try await engine.drainPool(repository: stage.subject.path)
        await engine.close()
        return time
    }

    private func ours(_ count: Int, _ engine: Engine, _ materializer: Materializer) async throws -> UInt64 {
        let requests = (0..<count).map { _ in stage.request(materializer) }
        let (time, workdirs) = try await timed { try await spawnAll(engine, requests) }
        _ = try await Git.status(workdirs[count / 2].path)
        for workdir in workdirs { _ = try await timedCleanup(engine, workdir.run) }
        return time
    }

    private func paths(_ count: Int) -> [String] { (0..<count).map { _ in "\(stage.place)/\(stage.fresh("burst"))" } }

    private func gitSerial(_ count: Int) async throws -> UInt64 {
        let (paths, git, commit, workers) = (paths(count), stage.git, stage.subject.commit, stage.bestWorkers)
        let (time, _) = try await timed {
            for path in paths { _ = try await git.add(path, commit, workers: workers) }
        }
        try await git.drop(paths)
        return time
    }

    /// One checkout worker each: more processes than cores are there as it is. Calls that fail are repeated at once.
    private func gitConcurrent(_ count: Int) async throws -> UInt64 {
        let (paths, git, commit) = (paths(count), stage.git, stage.subject.commit)
        let failures = Counter()
        let (time, _) = try await timed {
            try await keepInFlight(count, of: count) { index in
                try await failures.retrying { _ = try await git.add(paths[index], commit, workers: 1) }
            }
        }
        try await git.drop(paths)
        if failures.taken > 0 {
            stage.note("\(failures.taken) of \(count) `git worktree add` at once failed; they were repeated.")
        }
        return time
    }
}

/// All of them at once.
@concurrent
private func spawnAll(_ engine: Engine, _ requests: [SpawnRequest]) async throws -> [Workdir] {
    try await withThrowingTaskGroup(of: Workdir.self) { group in
        for request in requests { group.addTask { try await engine.spawn(request) } }
        var workdirs: [Workdir] = []
        for try await workdir in group { workdirs.append(workdir) }
        return workdirs
    }
}
