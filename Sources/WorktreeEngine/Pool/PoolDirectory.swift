import CLinux
import Git
import Glibc
import Registry
import SystemPackage

/// What lies on disk of the pools of one root: `<root>/.wtengine/pool/<pool>/<slot>` and, in each repository's common
/// dir, `wtengine/pool-<slot>/` with the slot's index and record. The disk is the truth; no table says more.
///
/// Who fills, looks at, takes or removes a slot holds its lease. Calls block.
struct PoolDirectory: Sendable {
    let root: Root
    /// The state directory, of the leases.
    let state: String

    /// The directory of all pools, for its owner only.
    func open() throws -> Directory { try root.openPrivate("pool") }

    /// All pools of the root, or of one repository; what has no readable `pool.json` is left out.
    func pools(of commonDir: String? = nil) throws -> [Pool] {
        guard let top = try root.existingPrivate("pool") else { return [] }
        let prefix = commonDir.map(Pool.prefix) ?? ""
        return try top.entries().compactMap { entry in
            guard entry.name.hasPrefix(prefix), let directory = try? top.open(entry.name),
                let pool = Pool(in: directory, named: entry.name), commonDir == nil || pool.commonDir == commonDir
            else { return nil }
            return pool
        }.sorted { $0.name < $1.name }
    }

    /// Directories that are nobody's pool.
    func unknownNames() throws -> [String] {
        guard let top = try root.existingPrivate("pool") else { return [] }
        return try top.entries().map(\.name).filter { name in
            guard let directory = try? top.open(name) else { return false }
            return Pool(in: directory, named: name) == nil
        }
    }

    /// Writes `pool.json`, by one rename, unless it says the same already.
    func store(_ pool: Pool) throws {
        let directory = try open().openOrMake(pool.name, mode: 0o700)
        if Pool(in: directory, named: pool.name) != pool { try directory.replace(Pool.fileName, try pool.json) }
    }

    /// Writes `pool.json` unless there is one: a size that somebody has set stands.
    func add(_ pool: Pool) throws {
        if try !pools(of: pool.commonDir).contains(where: { $0.name == pool.name }) { try store(pool) }
    }

    /// Removes a pool that has no slots any more. The caller holds the pool's lease.
    func remove(_ pool: Pool) throws {
        let top = try open()
        guard let directory = try? top.open(pool.name) else { return }
        guard try slotNames(pool).isEmpty else {
            throw EngineError(
                .inProgress, .retry, "a slot of the pool \(directory.path) is in use at this moment. Try again.")
        }
        for entry in try directory.entries() { try directory.removeFile(entry.name) }
        try system("unlinkat", "\(top.path)/\(pool.name)") { unlinkat(top.descriptor, pool.name, AT_REMOVEDIR) }
    }

    func isSlot(_ name: String) -> Bool { name.hasPrefix(SlotRecord.prefix(root)) }

    /// The names of all slots of a pool.
    func slotNames(_ pool: Pool) throws -> [String] {
        guard let directory = try? open().open(pool.name) else { return [] }
        return try directory.entries().map(\.name).filter(isSlot)
    }

    func path(_ slot: String, _ pool: Pool) -> String { "\(root.path)/\(Root.privateName)/pool/\(pool.name)/\(slot)" }

    /// All slots of a pool whose records can be read. Not verified.
    func records(_ pool: Pool) throws -> [SlotRecord] {
        try slotNames(pool).compactMap(record(in: pool))
    }

    func record(in pool: Pool) -> (String) -> SlotRecord? {
        { SlotRecord(slot: $0, pool: pool.name, root: root.path, commonDir: pool.commonDir) }
    }

    // MARK: Filling

    /// Makes a slot: a checkout in the stage, verified, then published by one rename.
    /// - Returns: the slot, and the bytes that its files take.
    func fill(
        _ pool: Pool, _ native: Target.Native, workers: Int, _ contents: ContentCache
    ) throws -> (slot: Slot, bytes: Int64) {
        let name = SlotRecord.newName(root)
        guard let lease = try Lease(ifFree: SlotRecord.leaseName(name), state: state) else {
            throw EngineError(.inProgress, .retry, "the lease of the new slot \(name) is held. Try again.")
        }
        defer { lease.release() }
        do {
            let stage = try root.openPrivate("stage")
            try stage.makeDirectory(name)
            let checkout = try native.checkout(in: pool.commonDir, workers: workers, contents: contents)
            let filled = try checkout.fill("\(stage.path)/\(name)")
            let own = try Directory(pool.commonDir).openOrMake(AdminEntry.privateName)
            try own.makeDirectory(SlotRecord.directoryName(name))
            let files = try own.open(SlotRecord.directoryName(name))
            try files.createIndex(of: checkout, filled)
            return try publish(name, pool, native, stage, files)
        } catch {
            let failure = error
            try discardFiles(of: name, commonDir: pool.commonDir)
            try TreeDeletion.delete(name, in: root.openPrivate("stage"))
            throw failure
        }
    }

    /// Verifies a staged slot against its index, and moves it into its pool.
    func publish(
        _ name: String, _ pool: Pool, _ native: Target.Native, _ stage: borrowing Directory,
        _ own: borrowing Directory
    ) throws -> (slot: Slot, bytes: Int64) {
        let workdir = try stage.open(name)
        let index = try IndexFile(path: "\(own.path)/index")
        let (mismatch, watch) = try verify(workdir, index, rights: nil)
        if let mismatch {
            throw EngineError(
                .identity, .retry, "the slot \(workdir.path) was touched while it was filled: \(mismatch). Try again.")
        }
        let record = SlotRecord(
            slot: name, pool: pool, root: root, native: native, identity: try workdir.identity(),
            rights: try workdir.rights(), index: try own.fileVersion("index"))
        try own.create(SlotRecord.fileName, try record.json)
        try stage.rename(name, to: open().openOrMake(pool.name, mode: 0o700), as: name)
        let bytes = index.entries.reduce(Int64(0)) { $0 + (Int64($1.stat.byteCount) + 4095) & ~4095 }
        return (Slot(record: record, pool: pool, watch: watch), bytes)
    }

    private func verify(
        _ workdir: borrowing Directory, _ index: IndexFile, rights: DirectoryRights?
    ) throws -> (mismatch: String?, watch: SlotWatch?) {
        let watch = SlotWatch()
        let (mismatch, isWatched) = try SlotVerification.run(workdir, index, rights: rights, watch: watch)
        return (mismatch, isWatched ? watch : nil)
    }

    // MARK: Looking

    /// Looks at a slot that lies in `parent` under any name: whether it is the very directory with the very index, and
    /// all its files are as they were written.
    /// - Returns: what is wrong, nil when nothing is; and the watch that sees what happens from now on.
    func inspect(
        _ slot: Slot, _ name: String, in parent: borrowing Directory
    ) throws -> (problem: String?, watch: SlotWatch?) {
        let workdir: Directory
        do { workdir = try parent.open(name) } catch {
            guard [.permissionDenied, .notDirectory, .tooManySymbolicLinkLevels].contains(error.errno) else {
                throw error
            }
            return ("it is no directory that may be read", nil)
        }
        guard try workdir.identity() == slot.record.identity else { return ("it is another directory", nil) }
        guard let own = try? Directory(slot.record.commonDir).openBeneath(SlotRecord.place(slot.name)),
            try own.contains("index"), try own.fileVersion("index") == slot.record.index
        else { return ("its index is another or gone", nil) }
        if let watch = slot.watch { return (watch.isQuiet() ? nil : "something in it was touched", nil) }
        let (mismatch, watch) = try verify(
            workdir, IndexFile(path: "\(own.path)/index"), rights: slot.record.rights)
        return (mismatch, watch)
    }

    /// Looks at a slot of a pool that this process has not seen yet, and watches it from now on.
    /// - Returns: nil when it was thrown away, or is in other hands.
    func adopt(_ record: SlotRecord, _ pool: Pool) throws -> Slot? {
        guard let lease = try Lease(ifFree: SlotRecord.leaseName(record.slot), state: state) else { return nil }
        defer { lease.release() }
        guard let directory = try? open().open(record.pool), try directory.contains(record.slot) else { return nil }
        let (problem, watch) = try inspect(Slot(record: record, pool: pool, watch: nil), record.slot, in: directory)
        guard problem == nil else {
            try moveToTrash(record.slot, in: directory, commonDir: record.commonDir)
            try unlink(record.slot)
            return nil
        }
        return Slot(record: record, pool: pool, watch: watch)
    }

    // MARK: Bringing forward

    /// Gives a verified slot that lies in the stage under `name` the files and the index of another tree.
    /// - Returns: false when a checkout is better; nothing is changed then.
    func bringForward(_ record: SlotRecord, _ name: String, to native: Target.Native) throws -> Bool {
        let own = try Directory(record.commonDir).openBeneath(SlotRecord.place(record.slot))
        let new = try native.files(in: record.commonDir)
        var change = BringForward(
            commonDir: record.commonDir, from: try IndexFile(path: "\(own.path)/index"), to: new)
        guard change.isWorthwhile else { return false }
        let stats = try change.run(root.openPrivate("stage").open(name))
        try own.removeFile("index")
        try own.create("index", new.indexFile(stats: stats))
        return true
    }

    /// Brings a slot of a pool forward in the stage, and publishes it again under its name.
    /// - Returns: nil when it is in other hands, or was thrown away.
    func renew(_ slot: Slot, to native: Target.Native) throws -> Slot? {
        guard let lease = try Lease(ifFree: SlotRecord.leaseName(slot.name), state: state) else { return nil }
        defer { lease.release() }
        let stage = try root.openPrivate("stage")
        guard let directory = try? open().open(slot.record.pool), try directory.contains(slot.name) else { return nil }
        do { try directory.rename(slot.name, to: stage, as: slot.name) } catch {
            guard error.errno == .permissionDenied else { throw error }
            try moveToTrash(slot.name, in: directory, commonDir: slot.record.commonDir)
            try unlink(slot.name)
            return nil
        }
        do {
            if try inspect(slot, slot.name, in: stage).problem == nil,
                try bringForward(slot.record, slot.name, to: native)
            {
                let own = try Directory(slot.record.commonDir).openBeneath(SlotRecord.place(slot.name))
                try own.removeFile(SlotRecord.fileName)
                return try publish(slot.name, slot.pool, native, stage, own).slot
            }
        } catch {
            let failure = error
            try moveToTrash(slot.name, in: stage, commonDir: slot.record.commonDir)
            try unlink(slot.name)
            throw failure
        }
        try moveToTrash(slot.name, in: stage, commonDir: slot.record.commonDir)
        try unlink(slot.name)
        return nil
    }

    // MARK: Removing

    /// Takes a slot out of its pool, into the trash, where the caller unlinks it.
    /// - Returns: false when it is gone or in other hands.
    func discard(_ slot: String, pool: Pool) throws -> Bool {
        guard let lease = try Lease(ifFree: SlotRecord.leaseName(slot), state: state) else { return false }
        defer { lease.release() }
        guard let directory = try? open().open(pool.name), try directory.contains(slot) else { return false }
        try moveToTrash(slot, in: directory, commonDir: pool.commonDir)
        return true
    }

    /// The caller holds the slot's lease. The directory first: without its index it would be a leftover.
    func moveToTrash(
        _ name: String, in directory: borrowing Directory, commonDir: String, as slot: String? = nil
    ) throws {
        let trash = try root.openPrivate("trash")
        try directory.moveDirectory(name, to: trash, as: slot ?? name)
        try discardFiles(of: slot ?? name, commonDir: commonDir)
    }

    /// Unlinks what was moved to the trash.
    func unlink(_ slot: String) throws { try TreeDeletion.delete(slot, in: root.openPrivate("trash")) }

    /// Removes index and record of a slot.
    func discardFiles(of slot: String, commonDir: String) throws {
        guard let own = try? Directory(commonDir).open(AdminEntry.privateName) else { return }
        try TreeDeletion.delete(SlotRecord.directoryName(slot), in: own)
    }
}
