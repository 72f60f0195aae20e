import Git
import Glibc
import Logging
import Registry
import SystemPackage

extension Engine {
    /// Brings every run that a crash left half-way to a legal state, by the same steps that make and remove workdirs,
    /// and empties what nobody owns from stage and trash. Repeating it changes nothing; it may be killed too.
    /// - Throws: ``EngineError`` when the registry cannot be read; ``EngineError/Code/cancelled`` between two runs. What
    ///   fails for one run quarantines it.
    public func recover() async throws(EngineError) -> [Recovered] {
        try await Self.catching("recover") {
            var recovered: [Recovered] = []
            for run in try await self.registry.runs(states: [.creating, .cleaning]) {
                try Task.checkCancellation()
                guard let lease = try Lease(ifFree: run.key, state: self.configuration.state) else {
                    recovered.append(Recovered(run: run.key, action: "busy", detail: "its process is at work"))
                    continue
                }
                defer { lease.release() }
                // It may have been settled between the listing and the lease.
                guard let current = try await self.registry.run(run.key),
                    [.creating, .cleaning].contains(current.state)
                else { continue }
                recovered.append(try await self.settle(current))
            }
            // First what this has just removed: two that unlink the same tree do not wait for each other.
            _ = await self.finishTrash()
            for root in await self.visibleRoots() {
                do { _ = try await self.emptyPrivate(root) } catch  where !(error is RegistryError) {
                    // A root that cannot be written is in the way of no other.
                    self.logger.warning("a root is left", metadata: ["root": "\(root.path)", "error": "\(error)"])
                }
            }
            return recovered
        }
    }

    /// Finishes or undoes what was begun with one run. The caller holds its lease.
    func settle(_ run: Run) async throws -> Recovered {
        do {
            if run.state == .creating { return try await settleCreation(run) }
            _ = try await remove(run)
            return Recovered(run: run.key, action: "finished", detail: "the cleanup was completed")
        } catch {
            let failure = EngineError.wrap(error, "recover \(run.key)")
            let now = try await registry.run(run.key)
            if now?.state == .quarantined {
                return Recovered(run: run.key, action: "quarantined", detail: failure.message)
            }
            if now?.state == .creating || now?.state == .cleaning {
                // A removal that was checked has taken the admin entry away, and can only go on: when what is in its way is
                // gone, the next recovery finishes it.
                guard failure.disposition == .needsHuman, now?.removal?.isChecked != true else {
                    return Recovered(run: run.key, action: "failed", detail: failure.message)
                }
                try await registry.transition(
                    run.key, from: [.creating, .cleaning], to: .quarantined, action: .quarantined,
                    detail: failure.message
                ) { run in
                    run.reason = failure.message
                    run.removal = nil
                }
                return Recovered(run: run.key, action: "quarantined", detail: failure.message)
            }
            return Recovered(run: run.key, action: "returned", detail: failure.message)
        }
    }

    /// A workdir that stands at its path was complete: it appears there by the last rename of its creation. Anything
    /// less has been given to nobody, and goes.
    private func settleCreation(_ run: Run) async throws -> Recovered {
        let root = try await self.root(of: run)
        var run = run
        if run.materializer == .git, let relative = root.relative(run.path),
            let workdir = try? root.open().openBeneath(relative), (try? workdir.open(".git")) != nil
        {
            // git could not add a worktree, and a clone took its place.
            run.materializer = .clone
        }
        let settled = run
        let identity = try await blocking { () -> FileIdentity? in
            let run = settled
            guard let relative = root.relative(run.path), let workdir = try? root.open().openBeneath(relative),
                AdminEntry.mismatch(run, workdir: workdir) == nil
            else { return nil }
            return try workdir.identity()
        }
        if let identity {
            _ = try await registry.activate(run.key, materializer: run.materializer, identity: identity)
            return Recovered(run: run.key, action: "finished", detail: "the workdir was complete; the run is ready")
        }
        try await rollBack(run, detail: "left half-made by a crash")
        if let left = try await registry.run(run.key) {
            return Recovered(run: run.key, action: "quarantined", detail: left.reason ?? "rolling back failed")
        }
        return Recovered(
            run: run.key, action: "rolled-back", detail: "the workdir was not complete and given to nobody")
    }

    /// The record of a workdir in the trash whose removal did not come to its end.
    static func trashedRecord(_ name: String, _ root: Root) -> RunRecord? {
        guard let gitDir = RepositoryLocation.gitDirectory(atDotGit: "\(root.trashPath(name))/.git"),
            let directory = try? Directory(gitDir), let record = RunRecord(in: directory), record.adminID == name
        else { return nil }
        return record
    }

    /// The roots that can be seen now. One that cannot is not an error here: nothing in it is touched.
    func visibleRoots() async -> [Root] {
        let isDefault = configuration.roots.isEmpty
        var roots: [Root] = []
        for path in isDefault ? ["\(configuration.state)/workdirs"] : configuration.roots where realPath(path) != nil {
            do { roots.append(try await Root.prepare(path, make: false, registry: registry)) } catch {
                logger.warning("a root is not visible", metadata: ["root": "\(path)", "error": "\(error)"])
            }
        }
        return roots
    }

    /// Unlinks what stands in the stage and the trash of a root and belongs to no run that is being made or removed.
    /// - Returns: how many directories went, and those that could not, with the reason.
    func emptyPrivate(_ root: Root) async throws -> (emptied: Int, failed: [(path: String, reason: String)]) {
        let place = PoolDirectory(root: root, state: configuration.state)
        let templates = TemplateStore(root: root, state: configuration.state)
        let commonDirs = Set(try await registry.runs().map(\.commonDir))
        // In the trash now, from where they go with the rest.
        let forgotten = try await blocking {
            _ = try templates.removeUseless()
            return try place.removeLeftovers(commonDirs)
        }
        for (pool, slots) in forgotten {
            logger.warning(
                "forgot a pool whose \(Pool.fileName) could not be read: \(slots) slots", metadata: ["pool": "\(pool)"])
        }
        let leftovers = try await blocking {
            try ["stage", "trash"].flatMap { place in
                try root.existingPrivate(place)?.entries().map { (place: place, name: $0.name) } ?? []
            }
        }
        // Listed before the rows: whoever began since has its row already, so nothing of it is taken for a leftover. Nor is
        // a workdir that was in the trash for a look, is at its path now, and may come again.
        let owned = Set(
            try await registry.runs(states: Set(RunState.allCases).subtracting([.removed])).map(\.adminID))
        let removed = Set(try await registry.runs(states: [.removed]).map(\.adminID))
        var emptied = 0
        var failed: [(String, String)] = []
        for (place, name) in leftovers {
            try Task.checkCancellation()
            // A deletion that was interrupted leaves `<id>.<number>` beside `<id>`.
            let owner = name.split(separator: ".").dropLast().joined(separator: ".")
            if owned.contains(name) || owned.contains(owner) { continue }
            if place == "trash", !removed.contains(name), let record = Self.trashedRecord(name, root) {
                // The registry was lost in the middle of a removal, so nobody knows whether its work was looked at.
                failed.append(
                    (
                        "\(root.path)/\(Root.privateName)/trash/\(name)",
                        "it is the workdir of run \(record.issue) \(record.run), which the registry does not know as removed: "
                            + "`wtengine recover --rebuild`"
                    ))
                continue
            }
            do {
                // A slot that is being filled has no row; its lease tells. One whose deletion was interrupted is in parts.
                // So does that of a template.
                let isSlot = name.hasPrefix(SlotRecord.prefix(root))
                let isTemplate = name.hasPrefix(TemplateRecord.prefix)
                let leaf = String(name.prefix { $0 != "." })
                let leaseName = isSlot ? SlotRecord.leaseName(leaf) : isTemplate ? leaf : nil
                let lease = try leaseName.flatMap { try Lease(ifFree: $0, state: configuration.state) }
                defer { lease?.release() }
                if leaseName != nil, lease == nil { continue }
                try await background.unlink(name, in: place, of: root)
                emptied += 1
            } catch { failed.append(("\(root.path)/\(Root.privateName)/\(place)/\(name)", "\(error)")) }
        }
        return (emptied, failed)
    }
}
