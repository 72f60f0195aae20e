import Glibc
import Registry
import SystemPackage

extension PoolDirectory {
    /// Removes what a fill, a claim or a drain that was killed has left: slots without index or record, and indexes and
    /// records without slot. The lease of a slot tells what is left over from what is under way.
    ///
    /// A slot of an earlier boot counts as left over, see ``SlotRecord/boot``. The slots are in the trash then, for the
    /// caller to unlink.
    /// - Parameter commonDirs: repositories to look at beside those of the pools: one whose pool is forgotten may still
    ///   have indexes of it.
    /// - Returns: pools that are forgotten since nobody knows what they are of, and how many slots they had.
    func removeLeftovers(_ commonDirs: Set<String>) throws -> [(pool: String, slots: Int)] {
        var commonDirs = commonDirs
        var forgotten: [(String, Int)] = []
        let top = try root.existingPrivate("pool")
        for entry in try top?.entries() ?? [] {
            guard let directory = try? top?.open(entry.name) else { continue }
            guard let pool = Pool(in: directory, named: entry.name) else {
                let slots = try removeUnknown(entry.name, directory)
                if slots > 0 { forgotten.append((directory.path, slots)) }
                continue
            }
            commonDirs.insert(pool.commonDir)
            for name in try directory.entries().map(\.name)
            where name != Pool.fileName && (isSlot(name) || name.hasPrefix(Pool.fileName)) {
                guard isSlot(name) else {
                    // What a killed `replace` has left; the lease of the pool tells it from one that is being written.
                    if let lease = try Lease(ifFree: "pool \(pool.name)", state: state) {
                        defer { lease.release() }
                        try directory.removeFile(name)
                    }
                    continue
                }
                if record(in: pool)(name) == nil, access(pool.commonDir, F_OK) == 0 {
                    try skippingImmovable { _ = try discard(name, pool: pool) }
                }
            }
        }
        // After the slots, whose indexes these are.
        for commonDir in commonDirs { try removeFilesWithoutSlot(commonDir) }
        return forgotten
    }

    /// Who empties or fills the pool says that it is left.
    private func skippingImmovable(_ body: () throws -> Void) throws {
        do { try body() } catch let error as SystemError where error.isImmovable {}
    }

    private func removeFilesWithoutSlot(_ commonDir: String) throws {
        guard let own = try? Directory(commonDir).open(AdminEntry.privateName) else { return }
        let prefix = SlotRecord.directoryName(SlotRecord.prefix(root))
        for name in try own.entries().map(\.name) where name.hasPrefix(prefix) {
            let slot = String(name.dropFirst(SlotRecord.directoryName("").count))
            guard let lease = try Lease(ifFree: SlotRecord.leaseName(leaf(slot)), state: state) else { continue }
            defer { lease.release() }
            // Looked for under the lease: until it could be had, the slot may have been on its way into a pool.
            if try !isInPool(leaf(slot)) { try TreeDeletion.delete(name, in: own) }
        }
    }

    /// A deletion that was interrupted leaves `<slot>.<number>` beside `<slot>`.
    private func leaf(_ slot: String) -> String { String(slot.prefix { $0 != "." }) }

    private func isInPool(_ slot: String) throws -> Bool {
        guard let top = try root.existingPrivate("pool") else { return false }
        return try top.entries().contains { entry in
            guard let directory = try? top.open(entry.name) else { return false }
            return try directory.contains(slot)
        }
    }

    /// A pool whose `pool.json` is gone or damaged: nobody knows what its slots are of.
    /// - Returns: how many slots it had.
    private func removeUnknown(_ name: String, _ directory: borrowing Directory) throws -> Int {
        var slots = 0
        guard let lease = try Lease(ifFree: "pool \(name)", state: state) else { return 0 }
        defer { lease.release() }
        let trash = try root.openPrivate("trash")
        for entry in try directory.entries() {
            if isSlot(entry.name) {
                guard let lease = try Lease(ifFree: SlotRecord.leaseName(entry.name), state: state) else { continue }
                defer { lease.release() }
                try skippingImmovable {
                    try directory.moveDirectory(entry.name, to: trash, as: entry.name)
                    slots += 1
                }
            } else if entry.name.hasPrefix(Pool.fileName) {
                try directory.removeFile(entry.name)
            }
        }
        let top = try open()
        if unlinkat(top.descriptor, name, AT_REMOVEDIR) != 0, Glibc.errno != ENOTEMPTY, Glibc.errno != ENOENT {
            throw SystemError.last("unlinkat", "\(top.path)/\(name)")
        }
        return slots
    }
}
