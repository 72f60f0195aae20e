import CoreMetrics
import MetricsTestKit
import TestSupport
import Testing

@testable import WorktreeEngine

@Suite struct MetricsTests {
    /// A run of an engine whose metrics are kept here.
    private func fixture(
        _ materializer: Materializer = .checkout, _ change: (inout Configuration) -> Void = { _ in }
    ) async throws -> (TestMetrics, RunFixture) {
        let metrics = TestMetrics()
        return (metrics, try await withMetricsFactory(metrics) { try await RunFixture(materializer, change) })
    }

    private func count(
        _ metrics: TestMetrics, _ label: String, _ dimensions: [(String, String)]
    ) throws -> Int {
        let values = try metrics.expectTimer(label, dimensions).values
        #expect(values.allSatisfy { $0 > 0 })
        return values.count
    }

    @Test(arguments: [Materializer.checkout, .pool, .git, .clone])
    func `a spawn is timed once, by the way that served it`(_ way: Materializer) async throws {
        let (metrics, _) = try await fixture(way)
        for other in Materializer.allCases {
            let dimensions = [("materializer", other.rawValue), ("result", "ok")]
            #expect(try count(metrics, "wtengine_spawn_duration", dimensions) == (other == way ? 1 : 0))
        }
    }

    @Test func `a refused spawn is timed by what a scheduler should do`() async throws {
        let (metrics, run) = try await fixture { $0.limits.perRepository = 1 }
        #expect(try await code { _ = try await run.sibling() } == .limit)
        #expect(try await code { _ = try await run.sibling(issue: "not an issue") } == .invalidInput)
        func failed(_ result: String) throws -> Int {
            try count(metrics, "wtengine_spawn_duration", [("materializer", "none"), ("result", result)])
        }
        #expect(try failed("blocked") == 1)
        #expect(try failed("retry") == 1)
        #expect(try failed("needs-human") == 0)
    }

    @Test func `cleanups are timed, and refused reports are counted`() async throws {
        let (metrics, run) = try await fixture()
        let engine = run.engine
        let next = try await run.sibling(issue: "local#1", "2026-02-14-backend-0002", switching: true)
        #expect(try await code { try await engine.detach(run.key, outcome: .ok) } == .stale)
        #expect(try metrics.expectCounter("wtengine_reports_refused").totalValue == 1)
        try await run.sh("echo x > untracked")
        #expect(try await code { _ = try await engine.cleanup(engine.planCleanup(run.key)) } == .workAtRisk)
        _ = try await engine.cleanup(engine.planCleanup(next.run))
        #expect(try count(metrics, "wtengine_cleanup_duration", [("result", "ok")]) == 1)
        #expect(try count(metrics, "wtengine_cleanup_duration", [("result", "needs-human")]) == 1)
        #expect(try count(metrics, "wtengine_cleanup_duration", [("result", "blocked")]) == 0)
    }

    @Test func `a sweep shows runs by state and slots of all pools`() async throws {
        let metrics = TestMetrics()
        let fixture = try await withMetricsFactory(metrics) { try await PoolFixture(size: 2) }
        let engine = fixture.engine
        for number in 1...3 {
            _ = try await engine.spawn(
                request(fixture.repository.path, issue: "local#\(number)", materializer: .checkout))
        }
        try await engine.detach(RunKey(issue: "local#1", run: "2026-02-14-backend-0001"), outcome: .fail)
        _ = try await engine.sweep()
        func value(_ label: String, _ state: String) throws -> Double? {
            try metrics.expectMeter(label, [("state", state)]).lastValue
        }
        #expect(try value("wtengine_runs", "ready") == 2)
        #expect(try value("wtengine_runs", "detached") == 1)
        #expect(try value("wtengine_runs", "quarantined") == 0)
        #expect(try value("wtengine_pool_slots", "ready") == 2)
        #expect(try value("wtengine_pool_slots", "stale") == 0)
        #expect(try value("wtengine_pool_slots", "wanted") == 2)
        try await engine.drainPool()
        _ = try await engine.sweep()
        #expect(try value("wtengine_pool_slots", "wanted") == 0)
    }

    @Test func `no metric names a repository, an issue or a run`() async throws {
        let (metrics, run) = try await fixture()
        try await run.engine.detach(run.key, outcome: .ok)
        _ = try await run.engine.cleanup(run.engine.planCleanup(run.key))
        _ = try await run.engine.sweep()
        let all =
            metrics.timers.map { ($0.label, $0.dimensions) } + metrics.counters.map { ($0.label, $0.dimensions) }
            + metrics.meters.map { ($0.label, $0.dimensions) }
        #expect(!all.isEmpty)
        let words = Set(
            Materializer.allCases.map(\.rawValue) + RunState.allCases.map(\.rawValue)
                + EngineError.Disposition.allCases.map(\.rawValue) + ["ok", "none", "stale", "wanted"])
        for (label, dimensions) in all {
            #expect(label.hasPrefix("wtengine_"))
            #expect(
                dimensions.allSatisfy { ["materializer", "result", "state"].contains($0.0) && words.contains($0.1) })
        }
    }

    @Test func `without a backend a sweep asks nobody for gauges`() async throws {
        let scratch = try Scratch()
        let plain = try await scratch.engine()
        #expect(!plain.metrics.hasBackend)
        let watched = try await withMetricsFactory(TestMetrics()) { try await scratch.engine() }
        #expect(watched.metrics.hasBackend)
    }
}
