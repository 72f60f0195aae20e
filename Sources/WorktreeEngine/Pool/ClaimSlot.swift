import Dispatch
import Git
import Glibc
import Logging
import Registry
import Synchronization
import SystemPackage

extension Engine {
    /// Turns a slot into the run's staged workdir, and its index into that of the staged admin entry. From then on the
    /// creation is the same as after a checkout; so are its rollback and recovery.
    ///
    /// The rename out of the pool decides who gets a slot. Slots that this process watches come first, since they need
    /// no look at their files; any other is verified before it is used. One that was touched is thrown away.
    /// - Returns: whether there was one, and the pools that may want another slot now.
    func claimSlot(_ run: Run, _ target: Target, _ root: Root) async throws -> (claimed: Bool, pools: [Pool]) {
        guard let native = target.native else { return (false, []) }
        let place = PoolDirectory(root: root, state: configuration.state)
        let warm = warm
        let (claimed, pools, left) = try await blocking { () -> (Bool, [Pool], [String]) in
            var trashed: [String] = []
            while let slot = warm.take(native, commonDir: run.commonDir, root: root) {
                if try self.take(slot, run, native, place, &trashed) { return (true, [slot.pool], trashed) }
            }
            let pools = try place.pools(of: run.commonDir)
            for pool in pools {
                for record in try place.records(pool) where record.fits(native) && !warm.isWatched(record.slot) {
                    let slot = Slot(record: record, pool: pool, watch: nil)
                    if try self.take(slot, run, native, place, &trashed) { return (true, [pool], trashed) }
                }
            }
            // The base has moved since its slots were filled.
            let moved = Pool(target.location, base: target.revision, size: 0).name
            for pool in pools where pool.name == moved {
                for record in try place.records(pool) where !record.fits(native) && record.canBecome(native) {
                    let slot = warm.take(record.slot) ?? Slot(record: record, pool: pool, watch: nil)
                    if try self.take(slot, run, native, place, &trashed) { return (true, [pool], trashed) }
                }
            }
            return (false, pools, trashed)
        }
        for name in left { startUnlinking(name, root) }
        return (claimed, pools)
    }

    /// - Returns: false when the slot was in other hands, or was thrown away.
    private func take(
        _ slot: Slot, _ run: Run, _ native: Target.Native, _ place: PoolDirectory, _ trashed: inout [String]
    ) throws -> Bool {
        guard let lease = try Lease(ifFree: SlotRecord.leaseName(slot.name), state: place.state) else { return false }
        defer { lease.release() }
        guard let pool = try? place.open().open(slot.record.pool) else { return false }
        let stage = try place.root.openPrivate("stage")
        do { try pool.rename(slot.name, to: stage, as: run.adminID) } catch {
            if error.errno == .noSuchFileOrDirectory { return false }
            if error.isImmovable {
                logger.warning("a slot cannot be taken", metadata: ["slot": "\(slot.name)", "error": "\(error)"])
                return false
            }
            guard error.errno == .permissionDenied else { throw error }
            logger.notice("a slot is thrown away", metadata: ["slot": "\(slot.name)", "reason": "\(error)"])
            try place.moveToTrash(slot.name, in: pool, commonDir: slot.record.commonDir)
            trashed.append(slot.name)
            return false
        }
        // After the rename: what happened in it until then has been seen by the watch, and its path is nobody's any more.
        var (problem, watch) = try place.inspect(slot, run.adminID, in: stage)
        endLater(slot.watch ?? watch)
        if problem == nil, !slot.record.fits(native) {
            do {
                if try !place.bringForward(slot.record, run.adminID, to: native) {
                    problem = "too much has changed since"
                }
            } catch { problem = "it cannot be brought forward: \(error)" }
        }
        if let problem {
            logger.notice("a slot is thrown away", metadata: ["slot": "\(slot.name)", "reason": "\(problem)"])
            try place.moveToTrash(run.adminID, in: stage, commonDir: slot.record.commonDir, as: slot.name)
            trashed.append(slot.name)
            return false
        }
        let own = try Directory(run.commonDir).open(AdminEntry.privateName)
        let files = SlotRecord.directoryName(slot.name)
        try own.open(files).removeFile(SlotRecord.fileName)
        try own.rename(files, to: own, as: AdminEntry.stageName(run))
        return true
    }

    /// The kernel takes its time to forget watches, which is not to be the spawn's: whoever else still holds this one has
    /// let go of it after a second.
    private func endLater(_ watch: SlotWatch?) {
        guard let watch else { return }
        DispatchQueue.global(qos: .utility).asyncAfter(deadline: .now() + 1) { withExtendedLifetime(watch) {} }
    }

    static func noSlot(_ target: Target) -> EngineError {
        EngineError(
            .noSlot, .blocked,
            "there is no ready slot for \(target.base) of \(target.location.name). Fill the pool, for example with "
                + "`\(Pool(target.location, base: target.revision, size: 1).fillCommand)`, or use --materializer auto.")
    }
}
