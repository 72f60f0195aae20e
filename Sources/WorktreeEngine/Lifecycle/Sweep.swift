import Foundation
import Git
import Glibc
import Logging
import Registry
import SystemPackage

extension Engine {
    /// Applies the policies: cleans up runs whose time has come, also those whose workdirs are gone, quarantines those
    /// that hold work, empties the trash, and refills the pools. Meant to be called every few minutes, or by hand.
    ///
    /// A workdir that is missing may only have been moved, and may come back: until its policy runs out, it is told in
    /// ``SweepReport/skipped`` and nothing of it is removed. ``prune()`` does not wait.
    /// - Throws: ``EngineError`` when the registry cannot be read; ``EngineError/Code/cancelled`` between two steps of a
    ///   cancelled task. What fails for one run is in the report.
    public func sweep() async throws(EngineError) -> SweepReport {
        try await Self.catching("sweep") {
            var report = SweepReport()
            let now = Date()
            let roots = await self.visibleRoots()
            for run in try await self.registry.runs(states: [.ready, .attached, .detached]) {
                try Task.checkCancellation()
                let isGone = try await self.isGone(run, roots)
                if isGone, self.isOrphan(run) {
                    // A disk that is not mounted looks the same, and what the entry there holds cannot be asked.
                    report.skipped.append(
                        (
                            run.key,
                            "neither \(run.path) nor its repository \(run.repo) is there. Put them back; or `wtengine prune` forgets the run."
                        ))
                } else if run.hasEnded, self.isDue(run, at: now) {
                    try await self.applyPolicy(run, isGone: isGone, &report)
                } else if isGone, let reason = run.lockReason {
                    report.skipped.append(
                        (run.key, "\(run.path) is gone, and locked: \(reason). Put it back, or unlock it."))
                } else if isGone {
                    report.skipped.append(
                        (
                            run.key,
                            "\(run.path) is gone. Put it back; or `wtengine prune` removes what is left of the run."
                        ))
                }
            }
            _ = await self.finishTrash()
            for root in roots {
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
            return report
        }
    }

    private func isDue(_ run: Run, at now: Date) -> Bool {
        switch configuration.policy(for: run.outcome ?? .superseded) {
        case .keep: false
        case .immediate: true
        case .ttl(let duration):
            // The registry rounds to milliseconds, which may be up.
            now.timeIntervalSince(run.endedAt ?? run.updatedAt) + 0.001 >= Double(duration.components.seconds)
        }
    }

    enum PolicyResult: Sendable {
        case cleaned
        case quarantined(String)
        case skipped(String)
    }

    private func applyPolicy(_ run: Run, isGone: Bool, _ report: inout SweepReport) async throws {
        switch try await applyPolicy(run, isGone: isGone) {
        case .cleaned where isGone: report.pruned.append(run.key)
        case .cleaned: report.cleaned.append(run.key)
        case .quarantined(let reason): report.quarantined.append((run.key, reason))
        case .skipped(let reason): report.skipped.append((run.key, reason))
        }
    }

    /// Cleans up one run that has ended, or whose workdir is gone. Work at risk outlives any policy: the run is then left
    /// for a person.
    /// - Parameter isGone: the workdir was missing, and what has come back since stays.
    func applyPolicy(_ run: Run, isGone: Bool = false) async throws -> PolicyResult {
        if let reason = run.lockReason { return .skipped("locked: \(reason)") }
        do {
            let plan = try await planCleanup(run.key)
            guard plan.isMissing || !isGone else { return .skipped("\(run.path) is back.") }
            let why =
                plan.isMissing
                ? "the workdir was gone" : "the policy of outcome \((run.outcome ?? .superseded).rawValue) ran out"
            guard plan.risks.isEmpty else {
                let holds = plan.isMissing ? "but its admin entry holds work" : "with work at risk"
                return try await quarantine(run, "\(why), \(holds): \(Self.summary(plan.risks))")
            }
            _ = try await cleanup(plan, discard: false, why: why)
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
    /// alive. A workdir below a root that cannot be seen is not gone; one that was moved away is, so put it back before.
    /// - Throws: ``EngineError`` when the registry cannot be read.
    public func prune() async throws(EngineError) -> SweepReport {
        try await Self.catching("prune") {
            var report = SweepReport()
            let roots = await self.visibleRoots()
            for run in try await self.registry.runs(states: [.ready, .attached, .detached]) {
                try Task.checkCancellation()
                guard try await self.isGone(run, roots) else { continue }
                try await self.applyPolicy(run, isGone: true, &report)
            }
            return report
        }
    }

    /// Whether nothing stands at the path of a run's workdir, though its root is there and no worker is at work.
    private func isGone(_ run: Run, _ roots: [Root]) async throws -> Bool {
        guard let root = roots.first(where: { $0.path == run.root }), let relative = root.relative(run.path),
            run.worker.map(ProcessTable.isAlive) != true || run.state != .attached
        else { return false }
        return try await blocking {
            do { _ = try root.open().openBeneath(relative) } catch let error as SystemError {
                return error.errno == .noSuchFileOrDirectory
            }
            return false
        }
    }
}
