import CLinux
import Foundation
import Git
import Glibc
import Logging
import Registry
import SystemPackage

extension Engine {
    /// Ends what the engine does in the background: refills, watches of slots, unlinking, and the sequences of
    /// ``events(since:polling:)``. A slot that is being filled is finished first.
    ///
    /// Afterwards the engine works as before, but refills no pool by itself, and a sequence of events ends with the last
    /// that is there. Not needed before the process ends: what is left half-done then is found by the next
    /// ``recover()`` or ``sweep()``.
    public func close() async {
        registry.closeFollowers()
        await warm.close()
        _ = await finishTrash()
    }

    /// Waits until the pools have been refilled. For measurements and tests; a spawn never needs to wait.
    public func finishRefills() async { await warm.finishRefills() }

    /// Refills the pools that a spawn has found or taken from, and the one that the configuration asks for. The spawn is
    /// done, so a failure is only said.
    func refill(_ pools: [Pool], after target: Target, _ root: Root) async {
        guard target.native != nil else { return }
        let place = PoolDirectory(root: root, state: configuration.state)
        var wanted: Pool?
        if configuration.poolSize > 0 {
            wanted = Pool(target.location, base: target.revision, size: configuration.poolSize)
        }
        guard configuration.refillsPools else {
            guard let wanted else { return }
            do { try await blocking { try place.add(wanted) } } catch {
                logger.warning("a pool was not noted", metadata: ["repo": "\(wanted.repository)", "error": "\(error)"])
            }
            return
        }
        for pool in Set(pools + (wanted.map { [$0] } ?? [])) {
            let isNew = pool == wanted
            warm.startRefill(pool.name) { [weak self] in await self?.refillOnce(pool, isNew: isNew, place) }
        }
    }

    /// One round of a refill: nothing is begun while a spawn of this engine is under way.
    private func refillOnce(_ pool: Pool, isNew: Bool, _ place: PoolDirectory) async {
        do {
            let root = place.root
            guard let lease = try Lease(ifFree: "pool \(pool.name)", state: configuration.state) else { return }
            defer { lease.release() }
            if isNew { try await blocking { try place.add(pool) } }
            // The size may have been changed, or the pool drained.
            let pools = try await blocking { try place.pools(of: pool.commonDir) }
            guard let current = pools.first(where: { $0.name == pool.name }) else { return }
            let warm = warm
            _ = try await bringToSize(current, root, workers: 1) { body in
                while warm.isSpawning { try await Task.sleep(for: .milliseconds(5)) }
                try await atLowPriority(body)
            }
        } catch is CancellationError {
            // The engine is being closed, or the pool drained.
        } catch {
            logger.warning("a pool was not refilled", metadata: ["repo": "\(pool.repository)", "error": "\(error)"])
        }
    }

    /// Refills every pool of a root, and forgets those whose repositories or worktrees are gone. The report says what
    /// was done, and which pools could not be filled.
    func tendPools(_ root: Root, _ report: inout SweepReport) async throws {
        let place = PoolDirectory(root: root, state: configuration.state)
        for pool in try await blocking({ try place.pools() }) {
            try Task.checkCancellation()
            do {
                guard let lease = try Lease(ifFree: "pool \(pool.name)", state: configuration.state) else { continue }
                defer { lease.release() }
                if pool.isGone {
                    // The slots hold nobody's work, so nothing is lost if the repository comes back.
                    _ = try await empty(pool, root)
                } else if let reason = try await otherSettings(pool, place) {
                    report.poolsLeft.append((pool.repository, reason))
                } else {
                    let (filled, renewed) = try await bringToSize(pool, root, workers: checkoutWorkers) {
                        try await blocking($0)
                    }
                    report.slotsFilled += filled
                    report.slotsRenewed += renewed
                }
            } catch {
                report.poolsLeft.append((pool.repository, EngineError.wrap(error, pool.repository).message))
            }
        }
    }

    /// Why a sweep leaves a pool alone: its slots serve processes with other settings than this one, a cron job for
    /// example, whose own slots would serve nobody. Who spawns, or fills the pool by hand, decides.
    func otherSettings(_ pool: Pool, _ place: PoolDirectory) async throws -> String? {
        let target = try await target(pool.repository, base: pool.base)
        guard let native = target.native else { return nil }
        let records = try await blocking { try place.records(pool) }
        guard records.contains(where: { $0.fingerprint != native.fingerprint }) else { return nil }
        return "its slots were made with another umask, attributes or line ending settings than this process has; "
            + "`\(pool.fillCommand)` makes them anew with these"
    }
}

/// Runs blocking work on a thread of its own with a lower priority, of which the threads that it starts inherit. It ends
/// with the work, since its priority cannot be raised again. See: man 7 sched (nice)
private func atLowPriority(_ body: @escaping @Sendable () throws -> Void) async throws {
    try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
        let thread = Thread {
            // Only politeness: where it is not allowed, the work is done all the same.
            _ = linux_lower_priority()
            continuation.resume(with: Result(catching: body))
        }
        // As much as the main thread has: a deep tree is read recursively.
        thread.stackSize = 8 << 20
        thread.start()
    }
}
