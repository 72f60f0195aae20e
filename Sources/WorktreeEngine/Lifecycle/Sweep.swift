import Foundation
import Git
import Glibc
import Logging
import Registry
import SystemPackage

extension Engine {
    /// Applies the policies: cleans up runs whose time has come, quarantines those that hold work, prunes runs whose
    /// workdirs are gone, empties the trash, and refills the pools. Meant to be called every few minutes, or by hand.
    /// - Throws: ``EngineError`` when the registry cannot be read; ``EngineError/Code/cancelled`` between two steps of a
    ///   cancelled task. What fails for one run is in the report.
    public func sweep() async throws(EngineError) -> SweepReport {
        var report = try await prune()
        try await Self.catching("sweep") {
            let now = Date()
            for run in try await self.registry.runs(states: [.ready, .attached, .detached])
            where run.hasEnded && self.isDue(run, at: now) {
                try Task.checkCancellation()
                switch try await self.applyPolicy(run) {
                case .cleaned: report.cleaned.append(run.key)
                case .quarantined(let reason): report.quarantined.append((run.key, reason))
                case .skipped(let reason): report.skipped.append((run.key, reason))
                }
            }
            _ = await self.finishTrash()
            for root in await self.visibleRoots() {
                do {
                    let (emptied, failed) = try await self.emptyPrivate(root)
                    report.emptied += emptied
                    report.trashLeft += failed
                    try await self.tendPools(root, &report)
                } catch  where !(error is RegistryError) {
                    // A root that cannot be written is in the way of no other.
                    report.trashLeft.append((root.path, EngineError.wrap(error, root.path).message))
                }
            }
            try await self.showGauges()
        }
        return report
    }

    private func isDue(_ run: Run, at now: Date) -> Bool {
        switch configuration.policy(for: run.outcome ?? .superseded) {
        case .keep: false
        case .immediate: true
        case .ttl(let duration):
            now.timeIntervalSince(run.endedAt ?? run.updatedAt) >= Double(duration.components.seconds)
        }
    }

    enum PolicyResult: Sendable {
        case cleaned
        case quarantined(String)
        case skipped(String)
    }

    /// Cleans up one run that has ended. Work at risk outlives any policy: the run is then left for a person.
    func applyPolicy(_ run: Run) async throws -> PolicyResult {
        if let reason = run.lockReason { return .skipped("locked: \(reason)") }
        do {
            let plan = try await planCleanup(run.key)
            guard plan.risks.isEmpty else {
                return try await quarantine(run, "work at risk when its policy ran out: \(Self.summary(plan.risks))")
            }
            _ = try await cleanup(plan)
            return .cleaned
        } catch let error as EngineError {
            let now = try await registry.run(run.key)
            if now?.state == .quarantined { return .quarantined(now?.reason ?? error.message) }
            guard error.disposition == .needsHuman, now?.state != .cleaning, error.code != .root else {
                return .skipped(error.message)
            }
            return try await quarantine(run, error.message)
        }
    }

    private func quarantine(_ run: Run, _ reason: String) async throws -> PolicyResult {
        try await registry.transition(
            run.key, from: [.ready, .attached, .detached], to: .quarantined, action: .quarantined, detail: reason
        ) { $0.reason = reason }
        return .quarantined(reason)
    }

    private static func summary(_ risks: [Risk]) -> String {
        let counts = Dictionary(grouping: risks, by: \.kind.rawValue).mapValues(\.count)
        return counts.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(separator: ", ")
            + ", first \(risks[0].path)"
    }

    /// Removes the admin entries of runs whose workdirs somebody deleted, unless those entries are all that keeps work
    /// alive. A workdir below a root that cannot be seen is not gone.
    /// - Throws: ``EngineError`` when the registry cannot be read.
    public func prune() async throws(EngineError) -> SweepReport {
        try await Self.catching("prune") {
            var report = SweepReport()
            let roots = await self.visibleRoots()
            for run in try await self.registry.runs(states: [.ready, .attached, .detached]) {
                try Task.checkCancellation()
                guard let root = roots.first(where: { $0.path == run.root }), let relative = root.relative(run.path)
                else {
                    continue
                }
                let isGone = try await blocking { () -> Bool in
                    do { _ = try root.open().openBeneath(relative) } catch let error as SystemError {
                        return error.errno == .noSuchFileOrDirectory
                    }
                    return false
                }
                guard isGone, run.worker.map(ProcessTable.isAlive) != true || run.state != .attached else { continue }
                switch try await self.applyPolicy(run) {
                case .cleaned: report.pruned.append(run.key)
                case .quarantined(let reason): report.quarantined.append((run.key, reason))
                case .skipped(let reason): report.skipped.append((run.key, reason))
                }
            }
            return report
        }
    }
}
