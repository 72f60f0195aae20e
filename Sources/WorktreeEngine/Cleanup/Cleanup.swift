import Foundation
import Git
import Glibc
import Logging
import Registry
import Synchronization
import SystemPackage

extension Engine {
    /// Removes the workdir of a run as planned.
    ///
    /// The intent is on disk before anything moves. Then the workdir is renamed into the trash, and everything that the
    /// plan saw is looked at again there; if anything differs, it is moved back and the cleanup is refused. Only then
    /// the admin entry and the branch go, and the trash is unlinked in the background. A task that is cancelled before
    /// that has the workdir moved back; later it changes nothing.
    /// - Parameter discard: drop the work at risk that the plan lists. The audit log says what it was.
    /// - Throws: ``EngineError/Code/workAtRisk``, ``EngineError/Code/inUse``, ``EngineError/Code/keepLocked``,
    ///   ``EngineError/Code/planChanged``, ``EngineError/Code/identity``; the workdir is as it was then.
    public func cleanup(_ plan: CleanupPlan, discard: Bool = false) async throws(EngineError) -> CleanupReport {
        let begun = ContinuousClock.now
        do {
            let report = try await carryOut(plan, discard: discard)
            metrics.cleanedUp(since: begun)
            return report
        } catch {
            let failure = EngineError.wrap(error, "cleanup \(plan.run.key)")
            metrics.cleanupFailed(failure, since: begun)
            throw failure
        }
    }

    private func carryOut(_ plan: CleanupPlan, discard: Bool) async throws -> CleanupReport {
        try Task.checkCancellation()
        let key = plan.run.key
        let lease = try Lease(key, state: configuration.state)
        defer { lease.release() }
        let run = try await self.run(key)
        try await checkMayRemove(run, plan, discard: discard)
        let intent = RemovalIntent(
            token: plan.token, discard: discard, previousState: run.state,
            deleteBranchAt: plan.branchToDelete == nil ? nil : plan.branchTip,
            publishBranchAt: run.materializer == .clone && plan.branchToDelete == nil ? plan.branchTip : nil,
            actor: configuration.actor ?? NSUserName())
        let risks = plan.risks.map { "\($0.kind.rawValue) \($0.path): \($0.detail)" }.joined(separator: "; ")
        let cleaning = try await registry.transition(
            key, from: [.ready, .attached, .detached, .quarantined], to: .cleaning, action: .cleanupIntent,
            detail: "token \(plan.token)" + (discard && !risks.isEmpty ? "; discards \(risks)" : ""), durable: true
        ) { $0.removal = intent }
        let (removed, deletedBranch) = try await remove(cleaning)
        return CleanupReport(
            run: removed, deletedBranch: deletedBranch, discarded: discard ? plan.risks : [],
            trashPending: !plan.isMissing)
    }

    private func checkMayRemove(_ run: Run, _ plan: CleanupPlan, discard: Bool) async throws {
        let refusal: EngineError? =
            if let reason = run.lockReason {
                EngineError(
                    .keepLocked, .blocked,
                    "run \(run.key) is locked: \(reason). `wtengine unlock \(run.key)` allows its cleanup.")
            } else if let process = plan.processes.first {
                EngineError.inUse(run, process, more: plan.processes.count - 1)
            } else if !plan.risks.isEmpty, !discard {
                EngineError.atRisk(run, plan.risks)
            } else { nil }
        guard let refusal else { return }
        try await registry.note(.cleanupRefused, run: run, detail: refusal.message)
        throw refusal
    }

    /// Carries out a recorded removal from wherever it stands; recovery comes here as well. May be repeated.
    /// - Returns: the run in state `removed`, and the branch that went with it.
    /// - Throws: ``EngineError``; the run is back in its former state then, or quarantined.
    func remove(_ run: Run) async throws -> (run: Run, deletedBranch: String?) {
        guard let intent = run.removal, let previous = RunState(rawValue: intent.previousState) else {
            throw EngineError(.state, .needsHuman, "run \(run.key) has no recorded removal.")
        }
        let root = try await self.root(of: run)
        do {
            let isMissing = try await blocking { try Trash.take(run, root: root) }
            if !intent.isChecked {
                try await recheck(run, intent, workdir: isMissing ? nil : root.trashPath(run))
                try await registry.transition(
                    run.key, from: [.cleaning], to: .cleaning, action: .cleanupChecked,
                    detail: "nothing changed since the plan"
                ) { $0.removal?.isChecked = true }
            }
            if run.materializer == .clone, !isMissing, let tip = intent.publishBranchAt, let branch = run.branch {
                try await publish(branch, tip, from: root.trashPath(run), of: run)
            }
        } catch {
            let failure = EngineError.wrap(error, "cleanup \(run.key)")
            try await putBack(run, to: previous, root: root, failure)
            throw failure
        }
        // From here on there is no way back.
        return try await uncancelled { [self] in try await finish(run, intent, root) }
    }

    /// Looks again, where nobody else looks for the workdir: who is inside, and whether the plan is still the same.
    private func recheck(_ run: Run, _ intent: RemovalIntent, workdir: String?) async throws {
        let plan = try await plan(run, workdir: workdir)
        if let process = plan.processes.first {
            throw EngineError.inUse(run, process, more: plan.processes.count - 1)
        }
        guard plan.token == intent.token else {
            throw EngineError(
                .planChanged, .retry,
                "something in \(run.path) changed since the cleanup was planned, so nothing was removed. Look at the new plan: "
                    + "`wtengine cleanup \(run.key)`.")
        }
    }

    private func finish(
        _ run: Run, _ intent: RemovalIntent, _ root: Root
    ) async throws -> (run: Run, deletedBranch: String?) {
        do {
            var deletedBranch: String?
            if run.materializer != .clone {
                let repository = actor(for: run.commonDir)
                if FileManager.default.fileExists(atPath: run.commonDir) {
                    try await repository.unregister(run)
                    try await blocking { try repository.discardPrivate(run) }
                    if let branch = run.branch, let tip = intent.deleteBranchAt {
                        let mayLose = intent.discard && configuration.deletesUnmergedBranches
                        let isGone = try await deleteBranch(branch, at: tip, of: run, onlyIfReached: !mayLose)
                        if isGone { deletedBranch = branch }
                    }
                }
            }
            // The references of a clone go with it.
            if run.materializer == .clone, intent.deleteBranchAt != nil { deletedBranch = run.branch }
            let removed = try await registry.transition(
                run.key, from: [.cleaning], to: .removed, action: .cleanupDone,
                detail: intent.discard ? "work at risk was discarded on request of \(intent.actor)" : nil
            ) { run in
                run.removal = nil
                run.reason = nil
            }
            startUnlinking(removed, root)
            return (removed, deletedBranch)
        } catch {
            let failure = EngineError.wrap(error, "cleanup \(run.key)")
            _ = try await registry.transition(
                run.key, from: [.cleaning], to: .cleaning, action: .cleanupFailed, detail: failure.description)
            throw failure
        }
    }

    /// Undoes the move into the trash, and gives the run its former state back.
    private func putBack(_ run: Run, to state: RunState, root: Root, _ failure: EngineError) async throws {
        do {
            try await blocking { try Trash.restore(run, root: root) }
            let isForPerson = failure.disposition == .needsHuman
            try await registry.transition(
                run.key, from: [.cleaning], to: isForPerson ? .quarantined : state,
                action: isForPerson ? .quarantined : .cleanupRefused, detail: failure.message
            ) { run in
                run.removal = nil
                if isForPerson { run.reason = failure.message }
            }
        } catch {
            logger.error("putting a workdir back failed", metadata: ["run": "\(run.key)", "error": "\(error)"])
            let reason =
                "its cleanup failed (\(failure.message)) and moving it back from \(root.trashPath(run)) failed: \(error)"
            try await registry.transition(
                run.key, from: [.cleaning], to: .quarantined, action: .quarantined, detail: reason
            ) { run in
                run.removal = nil
                run.reason = reason
            }
        }
    }

    /// Hands the branch of a clone to the source repository, which is where the branch of any run stays.
    private func publish(_ branch: String, _ tip: String, from clone: String, of run: Run) async throws {
        if access(run.commonDir, W_OK) != 0 {
            throw EngineError(
                .workAtRisk, .needsHuman,
                "branch \(branch) of run \(run.key) has commits, and \(run.repo) cannot be written to take them. Push them "
                    + "elsewhere from \(run.path), or make the repository writable.")
        }
        try await git.require(
            in: run.commonDir,
            [
                "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", clone,
                "refs/heads/\(branch):refs/heads/\(branch)",
            ])
        guard try await target(of: "refs/heads/\(branch)", in: run.commonDir) == tip else {
            throw EngineError(
                .git, .needsHuman, "branch \(branch) did not arrive in \(run.repo) as \(tip); nothing was removed.")
        }
    }

    // MARK: Trash

    private func startUnlinking(_ run: Run, _ root: Root) {
        startUnlinking(run.adminID, root) { Trash.removeEmptyParent(run, root: root) }
    }

    /// Unlinks an entry of the trash in the background.
    /// - Parameter then: what follows when it is gone. Blocks.
    func startUnlinking(_ name: String, _ root: Root, then: @escaping @Sendable () -> Void = {}) {
        unlinking.withLock { tasks in
            // One after the other: each has as many threads as are good for the disk and the spawns beside it.
            let previous = tasks.last
            tasks.append(
                Task { [logger, background] in
                    _ = await previous?.value
                    do {
                        try await background.unlink(name, in: "trash", of: root)
                        try await blocking(then)
                        return true
                    } catch {
                        logger.error(
                            "unlinking trash failed",
                            metadata: ["path": "\(root.trashPath(name))", "error": "\(error)"])
                        return false
                    }
                })
        }
    }

    /// Waits until the workdirs that this engine has cleaned up are unlinked.
    /// - Returns: how many could not be; the log says why, and ``sweep()`` tries again.
    public func finishTrash() async -> Int {
        let tasks = unlinking.withLock { tasks in
            defer { tasks = [] }
            return tasks
        }
        return await background.hurry {
            var failed = 0
            for task in tasks where await !task.value { failed += 1 }
            return failed
        }
    }
}

/// The move of a workdir into the trash of its root, and back.
enum Trash {
    /// Renames the workdir into the trash, after the last look at its identity and links.
    /// - Returns: true when there is no workdir, neither at its path nor in the trash.
    static func take(_ run: Run, root: Root) throws -> Bool {
        guard let relative = root.relative(run.path), let slash = relative.lastIndex(of: "/") else {
            throw EngineError(.identity, .needsHuman, "\(run.path) is not below the root \(root.path).")
        }
        let trash = try root.openPrivate("trash")
        if try trash.contains(run.adminID) { return false }
        let name = String(relative[relative.index(after: slash)...])
        let parent: Directory
        do { parent = try root.open().openBeneath(String(relative[..<slash])) } catch let error as SystemError {
            if error.errno == .noSuchFileOrDirectory { return true }
            throw error
        }
        guard try parent.contains(name) else { return true }
        let workdir = try parent.openBeneath(name)
        if let mismatch = AdminEntry.mismatch(run, workdir: workdir) { throw EngineError.mismatch(run, mismatch) }
        try parent.rename(name, to: trash, as: run.adminID)
        guard try trash.identity(of: run.adminID) == workdir.identity() else {
            // Another directory took the name between the check and the rename: it is not ours, so it goes back.
            try trash.rename(run.adminID, to: parent, as: name)
            throw EngineError.mismatch(run, "\(run.path) was replaced during the cleanup")
        }
        return false
    }

    /// Moves a workdir back to its path; nothing happens when it is not in the trash.
    static func restore(_ run: Run, root: Root) throws {
        let trash = try root.openPrivate("trash")
        guard try trash.contains(run.adminID), let relative = root.relative(run.path),
            let slash = relative.lastIndex(of: "/")
        else { return }
        try trash.rename(
            run.adminID, to: root.open().openOrMake(String(relative[..<slash])),
            as: String(relative[relative.index(after: slash)...]))
    }

    /// The directory of an issue goes with its last workdir; one that is not empty stays.
    static func removeEmptyParent(_ run: Run, root: Root) {
        guard let relative = root.relative(run.path), let slash = relative.lastIndex(of: "/"),
            let top = try? root.open()
        else { return }
        _ = unlinkat(top.descriptor, String(relative[..<slash]), AT_REMOVEDIR)
    }
}

extension EngineError {
    static func inUse(_ run: Run, _ process: ProcessInside, more: Int) -> EngineError {
        EngineError(
            .inUse, .blocked,
            "process \(process.pid) (\(process.name)) \(process.holds == "worker" ? "is the worker of" : "has its \(process.holds) in") "
                + "\(run.path)\(more > 0 ? ", and \(more) more" : ""). End it, then try again.")
    }

    static func atRisk(_ run: Run, _ risks: [Risk]) -> EngineError {
        let list = risks.prefix(20).map { "\($0.kind.rawValue) \($0.path): \($0.detail)" }.joined(separator: "\n  ")
        return EngineError(
            .workAtRisk, .needsHuman,
            "\(risks.count) item(s) of work in \(run.path) would be lost:\n  \(list)\(risks.count > 20 ? "\n  ..." : "")\n"
                + "Commit or remove them, or drop them with --discard.")
    }
}
