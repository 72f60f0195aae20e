import WorktreeEngine

/// Creates and removes without a pause, with so many in flight. A sample is the time for one create and remove: the
/// whole time, until the last file is unlinked, by their number.
@MainActor
struct Sustained {
    let stage: Stage

    func run() async throws {
        for inFlight in stage.effort.inFlight {
            let measure = Measure.sustained(inFlight)
            let wanted = min(32, max(2 * inFlight, stage.effort.fileBudget / 4 / stage.subject.files))
            // As many as are in flight at least, else there are not so many in flight.
            let count = max(inFlight, min(wanted, stage.effort.fileLimit / 20 / stage.subject.files))
            guard inFlight * stage.subject.files <= 5 * stage.effort.fileLimit else {
                stage.note("no \(measure): it would write \(inFlight * stage.subject.files) files at once.")
                continue
            }
            guard try stage.room(for: inFlight * 2) == inFlight * 2 else {
                stage.note("no \(measure): there is no room for \(inFlight * 2) workdirs.")
                continue
            }
            for round in 0..<(count * stage.subject.files > 100_000 ? 1 : min(3, max(1, stage.effort.mostRounds / 6))) {
                for turn in 0..<3 {
                    switch (turn + round) % 3 {
                    case 0:
                        try await record(measure, Contender.checkout, count) { try await ours(.checkout, $0, inFlight) }
                    case 1: try await record(measure, Contender.git, count) { try await git($0, inFlight) }
                    // Where there are snapshots they are what an engine takes by itself.
                    default:
                        guard stage.result.samples(Measure.spawn, Contender.snapshot) != nil else { continue }
                        try await record(measure, Contender.snapshot, count) { try await ours(.snapshot, $0, inFlight) }
                    }
                }
            }
        }
    }

    private func record(
        _ measure: String, _ contender: String, _ count: Int, _ run: (Int) async throws -> UInt64
    ) async throws {
        stage.record(measure, contender, try await run(count) / UInt64(count))
        try await stage.settle()
    }

    private func ours(_ materializer: Materializer, _ count: Int, _ inFlight: Int) async throws -> UInt64 {
        let engine = stage.engine
        let requests = (0..<count).map { _ in stage.request(materializer) }
        return try await timed {
            try await keepInFlight(inFlight, of: count) { index in
                let workdir = try await engine.spawn(requests[index])
                _ = try await engine.cleanup(ifClean: workdir.run)
            }
            guard await engine.finishTrash() == 0 else { throw Failure("trash could not be unlinked.") }
        }.0
    }

    /// Concurrent calls of git fail now and then, since each walks over the entries that the others are about to remove.
    /// What failed is called again at once, as a scheduler would have to.
    private func git(_ count: Int, _ inFlight: Int) async throws -> UInt64 {
        let (git, commit) = (stage.git, stage.subject.commit)
        // Its better count while there are cores to spare.
        let workers = inFlight == 1 ? stage.bestWorkers : 1
        let paths = (0..<count).map { _ in "\(stage.place)/\(stage.fresh("sustained"))" }
        let failures = Counter()
        let (time, _) = try await timed {
            try await keepInFlight(inFlight, of: count) { index in
                try await failures.retrying { _ = try await git.add(paths[index], commit, workers: workers) }
                try await failures.retrying { _ = try await git.remove(paths[index]) }
            }
        }
        if failures.taken > 0 {
            stage.note(
                "\(failures.taken) of \(2 * count) calls of git failed with \(inFlight) in flight; they were repeated.")
        }
        return time
    }
}
