import Histogram

/// One line of the summary: what a promise of the design is judged by. See: docs/design.md, "Cost"
struct Figure: Sendable {
    /// Stable; the baseline uses it.
    let id: String
    let text: String
    let value: Double
    /// Spread over the rounds; nil for a percentile.
    let spread: ClosedRange<Double>?
    let form: Form
    /// nil where nothing was promised.
    let budget: Budget?

    enum Form: Sendable {
        /// Ours by theirs; less is better.
        case ratio
        /// Theirs by ours: how many times faster; more is better.
        case speed
        case milliseconds
    }

    enum Budget: Sendable {
        case atMost(Double)
        case atLeast(Double)

        func isMet(by value: Double) -> Bool {
            switch self {
            case .atMost(let limit): value <= limit
            case .atLeast(let limit): value >= limit
            }
        }
    }

    var isMet: Bool? { budget.map { $0.isMet(by: value) } }
}

extension SubjectResult {
    /// The summary, as far as was measured.
    var figures: [Figure] {
        spawnFigures + warmFigures + statusFigures + removalFigures + loadFigures + commandFigures
    }

    /// git with the number of workers that serves it better.
    var bestGit: String {
        let one = samples(Measure.spawn, Contender.gitOne).map(Statistics.median) ?? .infinity
        let many = samples(Measure.spawn, Contender.gitMany).map(Statistics.median) ?? .infinity
        return many < one ? Contender.gitMany : Contender.gitOne
    }

    private func ratio(
        _ id: String, _ text: String, _ ours: (String, String), _ theirs: (String, String), atMost limit: Double? = nil
    ) -> [Figure] {
        guard let over = samples(ours.0, ours.1), let under = samples(theirs.0, theirs.1),
            let (value, low, high) = Statistics.ratio(over, under)
        else { return [] }
        return [
            Figure(
                id: id, text: text, value: value, spread: low...high, form: .ratio, budget: limit.map { .atMost($0) })
        ]
    }

    private func speed(
        _ id: String, _ text: String, _ measure: String, _ ours: String, _ theirs: String, atLeast limit: Double?
    ) -> [Figure] {
        guard let over = samples(measure, theirs), let under = samples(measure, ours),
            let (value, low, high) = Statistics.ratio(over, under)
        else { return [] }
        return [
            Figure(
                id: id, text: text, value: value, spread: low...high, form: .speed, budget: limit.map { .atLeast($0) })
        ]
    }

    private func percentile(
        _ id: String, _ text: String, _ measure: String, _ contender: String, _ percentile: Double, atMost limit: Double
    ) -> [Figure] {
        guard let all = samples(measure, contender) else { return [] }
        let value = Double(Statistics.histogram(all).valueAtPercentile(percentile)) / 1e6
        return [
            Figure(id: id, text: text, value: value, spread: nil, form: .milliseconds, budget: .atMost(limit))
        ]
    }

    private var spawnFigures: [Figure] {
        let both = [
            ("spawn", "spawn by checkout, contents in memory", Contender.checkout),
            ("reading", "spawn by checkout, reading the repository", Contender.reading),
        ]
        return both.flatMap { id, text, contender in
            let ours = (Measure.spawn, contender)
            return ratio(
                "\(id)/git", "\(text) / `git worktree add`, its better worker count", ours,
                (Measure.spawn, bestGit), atMost: 0.4)
                + ratio(
                    "\(id)/floor", "\(text) / floor, the same files with the same threads", ours,
                    (Measure.spawn, Contender.floor), atMost: 1.6)
                + ratio(
                    "\(id)/libgit2", "\(text) / libgit2's `git_worktree_add`", ours,
                    (Measure.spawn, Contender.libgit2))
        }
            + ratio(
                "command/git", "`wtengine spawn`, the whole process / `git worktree add`",
                (Measure.spawn, Contender.commandLine), (Measure.spawn, bestGit))
    }

    private var warmFigures: [Figure] {
        percentile(
            "pool.p50", "spawn from the pool, p50", Measure.spawn, Contender.pool, 50, atMost: 2)
            + percentile(
                "pool.p99", "spawn from the pool, p99", Measure.spawn, Contender.pool, 99, atMost: 10)
            + percentile(
                "refilling.p50", "spawn from the pool while it refills, p50", Measure.spawn, Contender.refilling, 50,
                atMost: 2)
            + percentile(
                "refilling.p99", "spawn from the pool while it refills, p99", Measure.spawn, Contender.refilling, 99,
                atMost: 10)
            + ratio(
                "lead/engine", "spawn from the pool by a Lead, with number, claim and work order / by the engine alone",
                (Measure.leadSpawn, Contender.lead), (Measure.leadSpawn, Contender.pool), atMost: 2)
            + ratio(
                "snapshot/git", "spawn by snapshot / `git worktree add`", (Measure.spawn, Contender.snapshot),
                (Measure.spawn, bestGit))
    }

    private var statusFigures: [Figure] {
        // 1.2 is "as fast as": two equal process starts differ by as much.
        let contenders = [
            (Contender.checkout, 1.2), (Contender.pool, 1.2), (Contender.snapshot, 1.2),
            (Contender.git, nil as Double?),
        ]
        return contenders.flatMap { contender, limit in
            ratio(
                "status.\(contender)", "first `git status` / second, \(contender)", (Measure.firstStatus, contender),
                (Measure.secondStatus, contender), atMost: limit)
        }
    }

    private var removalFigures: [Figure] {
        // Each looks at every file once. A file that is not tracked is only found in a listing.
        [
            ("ifclean.p50", Measure.ifClean, Measure.lstat, .atMost(5)),
            ("plan.p50", Measure.plan, Measure.lstat, .atMost(5)),
            ("cleanup.p50", Measure.cleanup, Measure.lstat, .atMost(5)),
            ("plan.own", Measure.plan, Measure.listing, nil as Figure.Budget?),
            ("cleanup.own", Measure.cleanup, Measure.listing, nil),
        ].compactMap { id, measure, floor, budget in
            guard let time = samples(measure, Contender.checkout), let pass = samples(floor, Contender.floor)
            else { return nil }
            return Figure(
                id: id, text: "\(measure), p50 beyond a parallel \(floor)",
                value: (Statistics.median(time) - Statistics.median(pass)) / 1e6, spread: nil, form: .milliseconds,
                budget: budget)
        }
            + ratio(
                "ifclean/git", "cleanup if clean, in one step / `git worktree remove`",
                (Measure.ifClean, Contender.checkout), (Measure.ifClean, Contender.git))
            + ratio(
                "cleanup/git", "plan and cleanup / `git worktree remove`", (Measure.planned, Contender.checkout),
                (Measure.planned, Contender.git))
            + ratio(
                "unlinked/git", "plan and cleanup until unlinked / `git worktree remove`",
                (Measure.unlinked, Contender.checkout),
                (Measure.unlinked, Contender.git))
            + ratio(
                "unlinked/floor", "plan and cleanup until unlinked / floor, parallel unlinking",
                (Measure.unlinked, Contender.checkout), (Measure.unlinked, Contender.floor))
    }

    private var loadFigures: [Figure] {
        var figures: [Figure] = []
        for series in series where series.measure.hasPrefix("burst of") && series.contender == Contender.checkout {
            let serial = samples(series.measure, Contender.gitSerial).map(Statistics.median) ?? .infinity
            let concurrent = samples(series.measure, Contender.gitConcurrent).map(Statistics.median) ?? .infinity
            let best = concurrent < serial ? Contender.gitConcurrent : Contender.gitSerial
            figures += speed(
                "burst", "\(series.measure) by checkout: times faster than \(best)", series.measure,
                Contender.checkout, best, atLeast: nil)
            figures += speed(
                "burst.pool", "\(series.measure) from the pool: times faster than \(best)", series.measure,
                Contender.poolBurst, best, atLeast: 5)
            figures += speed(
                "burst.floor", "\(series.measure), the floor: times faster than \(best)", series.measure,
                Contender.floor, best, atLeast: nil)
            figures += ratio(
                "burst/floor", "\(series.measure) by checkout / floor", (series.measure, Contender.checkout),
                (series.measure, Contender.floor), atMost: 1.6)
        }
        for inFlight in [1, 2, 4, 8, 16] {
            let measure = Measure.sustained(inFlight)
            figures += speed(
                "sustained.\(inFlight)", "\(measure): times faster than git", measure, Contender.checkout,
                Contender.git,
                atLeast: inFlight == 8 ? 3 : nil)
            figures += speed(
                "sustained.snapshot.\(inFlight)", "\(measure), by snapshot: times faster than git", measure,
                Contender.snapshot, Contender.git, atLeast: inFlight == 8 ? 3 : nil)
        }
        return figures + sustainedFloor(Measure.sustained(8))
    }

    /// How a load compares with writing the files and unlinking them again, both with all threads and nothing else.
    private func sustainedFloor(_ measure: String) -> [Figure] {
        guard let ours = samples(measure, Contender.checkout), let theirs = samples(measure, Contender.git),
            let written = samples(Measure.spawn, Contender.floor),
            let unlinked = samples(Measure.unlinked, Contender.floor)
        else { return [] }
        let floor = Statistics.median(written) + Statistics.median(unlinked)
        return [
            Figure(
                id: "sustained.floor", text: "\(measure), the floor of writing and unlinking: times faster than git",
                value: Statistics.median(theirs) / floor, spread: nil, form: .speed, budget: nil),
            Figure(
                id: "sustained/floor", text: "\(measure) / floor of writing and unlinking",
                value: Statistics.median(ours) / floor, spread: nil, form: .ratio, budget: nil),
        ]
    }

    private var commandFigures: [Figure] {
        percentile("list", "`wtengine list`, the whole process, p50", Measure.start, "wtengine list", 50, atMost: 20)
            + ratio(
                "memory/git", "peak memory of a spawn / git's, 1 worker", (Measure.memory, Contender.commandLine),
                // Promised for large repositories; a small one measures the size of the programs.
                (Measure.memory, Contender.gitOne), atMost: files >= 50_000 ? 1 : nil)
    }
}
