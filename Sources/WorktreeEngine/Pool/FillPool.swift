import CLinux
import Foundation
import Git
import Glibc
import Logging
import Registry
import SystemPackage

/// A pool of prepared workdirs, as it is now.
public struct PoolStatus: Hashable, Sendable {
    /// The repository, as runs name it.
    public let repository: String
    /// The root that holds the slots.
    public let root: String
    /// The revision, as it was asked for; `HEAD` when none was.
    public let base: String
    /// The commit that it names now, in hexadecimal; nil when it names none, or the repository is gone.
    public let commit: String?
    /// How many slots there shall be.
    public let size: Int
    /// Slots for that commit.
    public let ready: Int
    /// Slots for another commit, or that no spawn can use. The next refill brings them forward or throws them away.
    public let stale: Int
}

extension Engine {
    /// Sets how many workdirs are kept ready for a revision of a repository, and fills up to that number now.
    ///
    /// The number is durable: an engine refills in the background after a claim, ``sweep()`` does it in between.
    /// - Parameters:
    ///   - repository: a path in the repository.
    ///   - base: the revision (man gitrevisions); nil for the repository's HEAD. As it moves, the slots follow.
    ///   - size: 0 to 1000; 0 empties the pool and forgets it.
    /// - Throws: ``EngineError/Code/unsupported`` for a repository that the checkout cannot serve or nobody can write,
    ///   ``EngineError/Code/disk`` when the reserve is reached (what is filled by then stays), and others.
    @discardableResult
    public func fillPool(
        repository: String, base: String? = nil, size: Int
    ) async throws(EngineError) -> PoolStatus {
        try await Self.catching("filling the pool of \(repository)") {
            guard (0...Pool.limit).contains(size) else {
                throw EngineError(.invalidInput, .retry, "a pool has 0 to \(Pool.limit) slots, not \(size).")
            }
            let target = try await self.target(repository, base: base)
            guard target.native != nil else {
                throw EngineError(
                    .unsupported, .retry,
                    "a pool cannot serve \(target.location.name): \(target.support.reasons.joined(separator: "; ")).")
            }
            let root = try await self.rootForSpawn()
            let pool = Pool(target.location, base: base, size: size)
            await self.warm.stopRefills(pool.name)
            let lease = try self.poolLease(pool)
            defer { lease.release() }
            if size == 0 {
                _ = try await self.empty(pool, root)
                return self.status(pool, root, target, [])
            }
            // Before the pool is noted, which every sweep would try to fill.
            guard target.location.isWritable else {
                throw EngineError(
                    .unsupported, .retry,
                    "\(target.location.name) cannot be written, so its runs get clones and no slots.")
            }
            let place = PoolDirectory(root: root, state: self.configuration.state)
            try await blocking { try place.store(pool) }
            let workers = self.checkoutWorkers
            _ = try await self.bringToSize(pool, root, workers: workers) { try await blocking($0) }
            return self.status(pool, root, target, try await blocking { try place.records(pool) })
        }
    }

    /// The pools of all visible roots.
    /// - Throws: ``EngineError``.
    public func poolStatus() async throws(EngineError) -> [PoolStatus] {
        try await Self.catching("pool status") {
            var result: [PoolStatus] = []
            for root in await self.visibleRoots() {
                let place = PoolDirectory(root: root, state: self.configuration.state)
                for pool in try await blocking({ try place.pools() }) {
                    let target = try? await self.target(pool.repository, base: pool.base)
                    let names = try await blocking { try place.slotNames(pool) }
                    let records = names.compactMap(place.record(in: pool))
                    result.append(self.status(pool, root, target, records, names.count))
                }
            }
            return result
        }
    }

    /// Empties the pools of a repository, or all, and forgets them. Snapshot templates go as well: they are read-only, so
    /// that nobody else can remove them by ordinary means.
    /// - Parameter repository: a path in the repository; nil for every pool and template.
    /// - Returns: how many slots were thrown away.
    /// - Throws: ``EngineError/Code/inProgress`` when another process is filling one.
    @discardableResult
    public func drainPool(repository: String? = nil) async throws(EngineError) -> Int {
        try await Self.catching("draining the pool") {
            let commonDir = try repository.map { try RepositoryLocation.find($0).commonDir }
            var count = 0
            var failure: (any Error)?
            for root in await self.visibleRoots() {
                let place = PoolDirectory(root: root, state: self.configuration.state)
                for pool in try await blocking({ try place.pools(of: commonDir) }) {
                    await self.warm.stopRefills(pool.name)
                    let lease = try self.poolLease(pool)
                    defer { lease.release() }
                    do { count += try await self.empty(pool, root) } catch { failure = failure ?? error }
                }
                let store = TemplateStore(root: root, state: self.configuration.state)
                for name in try await blocking({ try store.removeAll(of: commonDir) }) {
                    self.startUnlinking(name, root)
                }
            }
            if let failure { throw failure }
            return count
        }
    }

    private func status(
        _ pool: Pool, _ root: Root, _ target: Target?, _ records: [SlotRecord], _ slots: Int? = nil
    ) -> PoolStatus {
        let ready = target?.native.map { native in records.count { $0.fits(native) } } ?? 0
        return PoolStatus(
            repository: target?.location.name ?? pool.repository, root: root.path, base: pool.base ?? "HEAD",
            commit: target?.base, size: pool.size, ready: ready, stale: (slots ?? records.count) - ready)
    }

    func poolLease(_ pool: Pool) throws -> Lease {
        guard let lease = try Lease(ifFree: "pool \(pool.name)", state: configuration.state) else {
            throw EngineError(
                .inProgress, .blocked,
                "the pool of \(pool.repository) is being filled by another process. Try again when it has ended.")
        }
        return lease
    }

    // MARK: Up and down

    /// Verifies slots that this process has not seen, throws stale ones away, and fills up to the pool's size. The
    /// caller holds the pool's lease.
    /// - Parameter run: where the work is done: each call is one slot.
    /// - Returns: how many slots were filled, and how many brought forward.
    func bringToSize(
        _ pool: Pool, _ root: Root, workers: Int,
        _ run: (@escaping @Sendable () throws -> Void) async throws -> Void
    ) async throws -> (filled: Int, renewed: Int) {
        let place = PoolDirectory(root: root, state: configuration.state)
        let warm = warm
        var (filled, renewed) = (0, 0)
        // Those that cannot be watched are verified once only.
        var seen = Set<String>()
        // Left where they are, and counted for nothing.
        var immovable = Set<String>()
        while true {
            // The base may have moved since the last slot.
            let target = try await self.target(pool.repository, base: pool.base)
            guard let native = target.native, target.location.commonDir == pool.commonDir else {
                throw Self.noPool(pool)
            }
            let names = try await blocking { try place.slotNames(pool) }.filter { !immovable.contains($0) }
            let records = names.compactMap(place.record(in: pool))
            let fitting = records.filter { $0.fits(native) }
            for record in fitting where !warm.isWatched(record.slot) && !seen.contains(record.slot) {
                seen.insert(record.slot)
                try await unlessImmovable(record.slot, &immovable) {
                    try await run { if let slot = try place.adopt(record, pool) { warm.keep(slot) } }
                }
            }
            let surplus = names.filter { name in !fitting.contains { $0.slot == name } }
            for name in surplus + fitting.dropFirst(pool.size).map(\.slot) {
                let record = records.first { $0.slot == name && !$0.fits(native) && $0.canBecome(native) }
                guard let record, fitting.count < pool.size else {
                    try await unlessImmovable(name, &immovable) { _ = try await throwAway(name, pool, root) }
                    continue
                }
                let slot = warm.take(name) ?? Slot(record: record, pool: pool, watch: nil)
                seen.insert(name)
                try await unlessImmovable(name, &immovable) {
                    try await run { if let slot = try place.renew(slot, to: native) { warm.keep(slot) } }
                }
                // One that could not be was thrown away.
                if try await blocking({ place.record(in: pool)(name)?.fits(native) == true }) { renewed += 1 }
            }
            let left = try await blocking { try place.slotNames(pool) }.count { !immovable.contains($0) }
            guard left < pool.size, !Task.isCancelled else {
                return (filled, renewed)
            }
            try checkDisk(root)
            try await run { [configuration, contents] in
                let (slot, bytes) = try place.fill(pool, native, workers: workers, contents)
                guard try root.freeBytes() >= configuration.diskReserve else {
                    if try place.discard(slot.name, pool: pool) { try place.unlink(slot.name) }
                    throw EngineError.disk(root, try root.freeBytes() + bytes, configuration.diskReserve)
                }
                warm.keep(slot)
            }
            filled += 1
        }
    }

    /// Throws every slot of a pool away, and its target. The caller holds the pool's lease.
    func empty(_ pool: Pool, _ root: Root) async throws -> Int {
        let place = PoolDirectory(root: root, state: configuration.state)
        var count = 0
        var immovable = Set<String>()
        for name in try await blocking({ try place.slotNames(pool) }) {
            try await unlessImmovable(name, &immovable) {
                if try await throwAway(name, pool, root) { count += 1 }
            }
        }
        if let name = immovable.min() {
            throw EngineError(
                .system, .blocked,
                "\(place.path(name, pool)) cannot be moved away. Unmount it, or take its flag off (`chattr -i`), then "
                    + "try again.")
        }
        try await blocking { try place.remove(pool) }
        return count
    }

    /// Does something to a slot that moves it. One that cannot be moved is in nobody's way but its own.
    private func unlessImmovable(
        _ slot: String, _ immovable: inout Set<String>, _ body: () async throws -> Void
    ) async throws {
        do { try await body() } catch let error as SystemError where error.isImmovable {
            logger.warning("a slot cannot be moved", metadata: ["slot": "\(slot)", "error": "\(error)"])
            immovable.insert(slot)
        }
    }

    private func throwAway(_ name: String, _ pool: Pool, _ root: Root) async throws -> Bool {
        let place = PoolDirectory(root: root, state: configuration.state)
        _ = warm.take(name)
        guard try await blocking({ try place.discard(name, pool: pool) }) else { return false }
        startUnlinking(name, root)
        return true
    }

    private static func noPool(_ pool: Pool) -> EngineError {
        EngineError(
            .unsupported, .blocked,
            "the pool of \(pool.repository) cannot be filled: the repository is another one now, or the checkout cannot serve "
                + "it any more. `wtengine doctor --repo \(shellQuoted(pool.repository))` tells why; `\(pool.drainCommand)` "
                + "forgets the pool."
        )
    }
}
