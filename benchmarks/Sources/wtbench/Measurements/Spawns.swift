import Foundation
import WorktreeEngine

/// Spawn, first and second status, and removal, one contender after the other in each round. The order turns from round
/// to round, so that no one always has the place after the same other.
@MainActor
struct Spawns {
    let stage: Stage

    func run() async throws {
        let floor = try Floor.make(stage.subject.entries)
        let rounds = stage.effort.rounds(stage.subject.files)
        let contenders = 7
        // An engine keeps in memory what it reads a second time.
        for _ in 0..<2 { try await checkout(stage.engine, Contender.checkout, false) }
        // Round 0 warms caches and checks the answers; it is not counted.
        for round in 0...rounds {
            for turn in 0..<contenders {
                let counts = round > 0
                switch (turn + round) % contenders {
                case 0: try await checkout(stage.engine, Contender.checkout, counts)
                case 6: try await checkout(stage.coldEngine, Contender.reading, counts)
                case 1: try await git(Contender.gitOne, workers: 1, counts)
                case 2: try await git(Contender.gitMany, workers: Machine.cores, counts)
                case 3: try await libgit2(counts)
                case 4: try await write(floor, counts)
                default: try await commandLine(counts)
                }
                try await stage.settle()
            }
        }
    }

    private func record(_ measure: String, _ contender: String, _ value: UInt64, _ counts: Bool) {
        if counts { stage.record(measure, contender, value) }
    }

    private func checkout(_ engine: Engine, _ contender: String, _ counts: Bool) async throws {
        let (spawn, workdir) = try await timedSpawn(engine, stage.request(.checkout))
        let first = try await Git.status(workdir.path)
        let second = try await Git.status(workdir.path)
        if !counts { try await Git.verify(workdir.path, stage.subject.commit) }
        record(Measure.spawn, contender, spawn, counts)
        // What was spawned is the same by either, so there are two ways to remove it.
        guard contender == Contender.checkout else {
            let (cleanup, _) = try await timedCleanup(engine, ifClean: workdir.run)
            return record(Measure.ifClean, Contender.checkout, cleanup, counts)
        }
        let cleanup = try await timedCleanup(engine, workdir.run)
        let (rest, _) = await timed { await engine.finishTrash() }
        record(Measure.firstStatus, contender, first, counts)
        record(Measure.secondStatus, contender, second, counts)
        if counts { stage.record(cleanup, contender) }
        record(Measure.unlinked, contender, cleanup.both + rest, counts)
    }

    private func git(_ contender: String, workers: Int, _ counts: Bool) async throws {
        let path = "\(stage.place)/\(stage.fresh("git"))"
        let spawn = try await stage.git.add(path, stage.subject.commit, workers: workers)
        let first = try await Git.status(path)
        let second = try await Git.status(path)
        let cleanup = try await stage.git.remove(path)
        record(Measure.spawn, contender, spawn, counts)
        // The worktree is the same with any number of workers.
        guard workers == 1 else { return }
        record(Measure.firstStatus, Contender.git, first, counts)
        record(Measure.secondStatus, Contender.git, second, counts)
        record(Measure.planned, Contender.git, cleanup, counts)
        record(Measure.ifClean, Contender.git, cleanup, counts)
        record(Measure.unlinked, Contender.git, cleanup, counts)
    }

    /// In a process of its own, so that libgit2 has its defaults and not what the engine sets for its own.
    private func libgit2(_ counts: Bool) async throws {
        let name = stage.fresh("libgit2")
        let call = [stage.tools.wtbench, "libgit2"]
        let add = try await Command.require(call + ["add", stage.subject.path, name, "\(stage.place)/\(name)"])
        let prune = try await Command.require(call + ["prune", stage.subject.path, name])
        // It makes a branch whether one is wanted or not.
        try await stage.git.require(["update-ref", "-d", "refs/heads/\(name)"])
        guard let added = UInt64(add.output.firstLine), let pruned = UInt64(prune.output.firstLine) else {
            throw Failure("`wtbench libgit2` gave no time: \(add.output) \(prune.output)")
        }
        record(Measure.spawn, Contender.libgit2, added, counts)
        record(Measure.planned, Contender.libgit2, pruned, counts)
        record(Measure.unlinked, Contender.libgit2, pruned, counts)
    }

    private func write(_ floor: borrowing Floor, _ counts: Bool) async throws {
        let path = "\(stage.place)/\(stage.fresh("floor"))"
        guard mkdir(path, 0o700) == 0 else { throw Failure(errno: "mkdir", path) }
        let written = try floor.write(path, threads: stage.threads)
        let looked = try floor.stat(path, threads: stage.threads)
        let listed = try floor.list(path, threads: stage.threads)
        let removed = try floor.remove(path, threads: stage.threads)
        guard rmdir(path) == 0 else { throw Failure(errno: "rmdir", path) }
        record(Measure.spawn, Contender.floor, written, counts)
        record(Measure.lstat, Contender.floor, looked, counts)
        record(Measure.listing, Contender.floor, looked + listed, counts)
        record(Measure.unlinked, Contender.floor, removed, counts)
    }

    private func commandLine(_ counts: Bool) async throws {
        let (call, key) = try CommandLine.spawn(stage)
        let outcome = try await Command.require(call)
        record(Measure.spawn, Contender.commandLine, outcome.nanoseconds, counts)
        if !counts { try await Git.verify(outcome.output.firstLine, stage.subject.commit) }
        _ = try await timedCleanup(stage.commandLineEngine, key)
    }
}
