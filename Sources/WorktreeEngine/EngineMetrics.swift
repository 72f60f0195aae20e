import CoreMetrics
import Registry

/// What the engine tells swift-metrics. Names and dimensions are few and fixed: none names a repository, an issue or a
/// run, of which there is no end.
///
/// Handles are made once, with the engine. Without a backend each of them does nothing.
struct EngineMetrics: Sendable {
    private let spawns: [Materializer: Timer]
    private let failedSpawns: [EngineError.Disposition: Timer]
    private let cleanups: Timer
    private let failedCleanups: [EngineError.Disposition: Timer]
    private let refusedReports: Counter
    private let runs: [RunState: Meter]
    private let readySlots: Meter
    private let staleSlots: Meter
    private let wantedSlots: Meter
    /// Whether anybody sees what gauges show. They cost a query, other than timers and counters.
    let hasBackend: Bool

    init() {
        let factory = MetricsSystem.factory
        hasBackend = !(factory is NOOPMetricsHandler)
        func timers<Key: Hashable>(_ keys: [Key], _ label: String, _ dimensions: (Key) -> [(String, String)])
            -> [Key: Timer]
        {
            Dictionary(
                uniqueKeysWithValues: keys.map {
                    ($0, Timer(label: label, dimensions: dimensions($0), factory: factory))
                })
        }
        spawns = timers(Materializer.allCases, "wtengine_spawn_duration") {
            [("materializer", $0.rawValue), ("result", "ok")]
        }
        failedSpawns = timers(EngineError.Disposition.allCases, "wtengine_spawn_duration") {
            [("materializer", "none"), ("result", $0.rawValue)]
        }
        cleanups = Timer(label: "wtengine_cleanup_duration", dimensions: [("result", "ok")], factory: factory)
        failedCleanups = timers(EngineError.Disposition.allCases, "wtengine_cleanup_duration") {
            [("result", $0.rawValue)]
        }
        refusedReports = Counter(label: "wtengine_reports_refused", factory: factory)
        runs = Dictionary(
            uniqueKeysWithValues: RunState.allCases.filter { $0 != .removed }.map {
                ($0, Meter(label: "wtengine_runs", dimensions: [("state", $0.rawValue)], factory: factory))
            })
        readySlots = Meter(label: "wtengine_pool_slots", dimensions: [("state", "ready")], factory: factory)
        staleSlots = Meter(label: "wtengine_pool_slots", dimensions: [("state", "stale")], factory: factory)
        wantedSlots = Meter(label: "wtengine_pool_slots", dimensions: [("state", "wanted")], factory: factory)
    }

    // MARK: Spawns, cleanups, reports

    func spawned(_ materializer: Materializer, since begun: ContinuousClock.Instant) {
        spawns[materializer]?.record(since: begun)
    }

    func spawnFailed(_ error: EngineError, since begun: ContinuousClock.Instant) {
        failedSpawns[error.disposition]?.record(since: begun)
    }

    func cleanedUp(since begun: ContinuousClock.Instant) { cleanups.record(since: begun) }

    func cleanupFailed(_ error: EngineError, since begun: ContinuousClock.Instant) {
        failedCleanups[error.disposition]?.record(since: begun)
    }

    func reportRefused() { refusedReports.increment() }

    // MARK: Gauges

    func show(runs counts: [RunState: Int], pools: [PoolStatus]) {
        for (state, meter) in runs { meter.set(counts[state] ?? 0) }
        readySlots.set(pools.map(\.ready).reduce(0, +))
        staleSlots.set(pools.map(\.stale).reduce(0, +))
        wantedSlots.set(pools.map(\.size).reduce(0, +))
    }
}

extension Engine {
    /// Brings the gauges up to date, when there is a backend for them.
    func showGauges() async throws {
        guard metrics.hasBackend else { return }
        metrics.show(runs: try await registry.runCounts(), pools: try await poolStatus())
    }
}

extension Timer {
    fileprivate func record(since begun: ContinuousClock.Instant) {
        let (seconds, attoseconds) = (ContinuousClock.now - begun).components
        recordNanoseconds(seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
    }
}
