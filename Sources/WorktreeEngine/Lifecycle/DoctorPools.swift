import CLinux
import Glibc
import Registry
import SystemPackage

extension Engine {
    /// What makes spawns on a root fast: whether the filesystem has snapshots for this process, and whether it may take
    /// them away as a whole. Tried, not looked up.
    static func snapshotAbility(_ root: Root) throws -> Finding {
        func without(_ reason: String) -> Finding {
            Finding(
                level: .info,
                message: "root \(root.path): no snapshots (\(reason)), so spawns claim slots or check out",
                remedy: nil)
        }
        let stage = try root.openPrivate("stage")
        guard linux_btrfs_id(stage.descriptor) != 0 else { return without(filesystem(root.path)) }
        let name = "probe-\(getpid())-\(randomHex(4))"
        let copy = "\(name)-copy"
        defer {
            // Empty, so that the kernel lets go of them as of any directory.
            for name in [copy, name] { _ = unlinkat(stage.descriptor, name, AT_REMOVEDIR) }
        }
        guard try Subvolume.make(name, in: stage) else { return without("this process may make no subvolume") }
        do throws(SystemError) { try Subvolume.snapshot(stage.open(name), as: copy, in: stage) } catch {
            return without("\(error)")
        }
        guard try Subvolume.destroy(copy, in: stage) else {
            return Finding(
                level: .warning,
                message:
                    "root \(root.path): spawns are snapshots, but this process may not drop them, so a removal unlinks "
                    + "file by file", remedy: "mount the filesystem with user_subvol_rm_allowed")
        }
        return Finding(
            level: .info, message: "root \(root.path): spawns are snapshots, and a removal drops them as a whole",
            remedy: nil)
    }

    /// What is ready in every pool, and why not all of it where it is not.
    func examinePools() async throws -> [Finding] {
        var findings: [Finding] = []
        for root in await visibleRoots() {
            let place = PoolDirectory(root: root, state: configuration.state)
            let (pools, unknown) = try await blocking { try (place.pools(), place.unknownNames()) }
            for name in unknown {
                findings.append(
                    Finding(
                        level: .warning,
                        message:
                            "\(root.path)/\(Root.privateName)/pool/\(name) has no \(Pool.fileName) that can be read",
                        remedy: "wtengine recover"))
            }
            for pool in pools { findings.append(await examine(pool, place)) }
        }
        return findings
    }

    private func examine(_ pool: Pool, _ place: PoolDirectory) async -> Finding {
        let name = "pool of \(pool.repository) at \(pool.base ?? "HEAD")"
        func wrong(_ message: String, _ remedy: String) -> Finding {
            Finding(level: .warning, message: "\(name): \(message)", remedy: remedy)
        }
        if pool.isGone { return wrong("the repository is gone", "wtengine sweep") }
        let drain = pool.drainCommand
        do {
            let target = try await self.target(pool.repository, base: pool.base)
            guard target.location.commonDir == pool.commonDir else {
                return wrong("it is another repository now", drain)
            }
            guard let native = target.native else {
                return wrong("the checkout cannot serve it: \(target.support.reasons.joined(separator: "; "))", drain)
            }
            if let reason = try await otherSettings(pool, place) {
                return wrong(reason, pool.fillCommand)
            }
            let names = try await blocking { try place.slotNames(pool) }
            let ready = names.compactMap(place.record(in: pool)).count { $0.fits(native) }
            let count = "\(ready) of \(pool.size) slots ready, \(names.count - ready) stale"
            guard ready < pool.size || names.count > pool.size else {
                return Finding(level: .info, message: "\(name): \(count)", remedy: nil)
            }
            guard let lease = try Lease(ifFree: "pool \(pool.name)", state: configuration.state) else {
                return Finding(level: .info, message: "\(name): \(count); it is being filled now", remedy: nil)
            }
            lease.release()
            return wrong(count, "wtengine sweep")
        } catch { return wrong(EngineError.wrap(error, name).message, drain) }
    }
}
