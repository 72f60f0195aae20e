import Foundation
import Git
import Glibc
import Logging
import Registry
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
        try await cleanup(plan, discard: discard, why: "token \(plan.token)")
    }

    /// - Parameter why: what the audit log says of the intent.
    func cleanup(_ plan: CleanupPlan, discard: Bool, why: String) async throws(EngineError) -> CleanupReport {
        try await measured(plan.run.key) { run in
            try await self.checkMayRemove(run, plan, discard: discard)
            var intent = self.intent(token: plan.token, discard: discard, run)
            intent.decideBranch(as: plan)
            // A stash belongs to the repository, and only that of a clone goes with it.
            let lost = plan.risks.filter { $0.kind != .stash || run.materializer == .clone }
            let risks = lost.map { "\($0.kind.rawValue) \($0.path): \($0.detail)" }.joined(separator: "; ")
            let detail = why + (discard && !risks.isEmpty ? "; discards \(risks)" : "")
            let (removed, deletedBranch) = try await self.remove(self.record(intent, of: run, detail))
            return CleanupReport(
                run: removed, deletedBranch: deletedBranch, discarded: discard ? lost : [],
                trashPending: !plan.isMissing)
        }
    }

    /// Removes the workdir of a run unless work would be lost by it, or somebody is inside.
    ///
    /// That is a plan and its cleanup in one step, which looks at the files once instead of twice: only in the trash, where
    /// nobody looks for them. So a workdir that holds work is moved there, and back. Ignored files are no work, unless
    /// ``Configuration/keepsIgnoredFiles`` says so, and go with the workdir; the audit log names them.
    /// - Throws: ``EngineError``, with the codes of ``planCleanup(_:)`` and ``cleanup(_:discard:)``; the workdir is as it
    ///   was then. ``EngineError/Code/workAtRisk`` names the work.
    public func cleanup(ifClean key: RunKey) async throws(EngineError) -> CleanupReport {
        try await measured(key) { run in
            let workdir = try await self.presentWorkdir(of: run)
            async let tracked = self.trackedFiles(of: run, workdir: workdir)
            try await self.checkMayRemove(run, processes: self.look(into: workdir, of: run))
            let intent = self.intent(token: nil, discard: false, run)
            let (removed, deletedBranch) = try await self.remove(
                self.record(intent, of: run, "if it is clean"), await tracked)
            return CleanupReport(
                run: removed, deletedBranch: deletedBranch, discarded: [], trashPending: workdir != nil)
        }
    }

    /// Takes the lease of a run for a cleanup, which is told to the metrics.
    private func measured(
        _ key: RunKey, _ body: (Run) async throws -> CleanupReport
    ) async throws(EngineError) -> CleanupReport {
        let begun = ContinuousClock.now
        do {
            try Task.checkCancellation()
            let lease = try Lease(key, state: configuration.state)
            defer { lease.release() }
            let report = try await body(run(key))
            metrics.cleanedUp(since: begun)
            return report
        } catch {
            let failure = EngineError.wrap(error, "cleanup \(key)")
            metrics.cleanupFailed(failure, since: begun)
            throw failure
        }
    }

    private func intent(token: String?, discard: Bool, _ run: Run) -> RemovalIntent {
        RemovalIntent(
            token: token, discard: discard, previousState: run.state, deleteBranchAt: nil, publishBranchAt: nil,
            actor: configuration.actor ?? NSUserName())
    }

    /// On disk before anything moves.
    private func record(_ intent: RemovalIntent, of run: Run, _ detail: String) async throws -> Run {
        try await registry.transition(
            run.key, from: [.ready, .attached, .detached, .quarantined], to: .cleaning, action: .cleanupIntent,
            detail: detail, durable: true
        ) { $0.removal = intent }
    }

    private func checkMayRemove(_ run: Run, _ plan: CleanupPlan, discard: Bool) async throws {
        try await checkMayRemove(run, processes: plan.processes)
        if !plan.risks.isEmpty, !discard { try await refuse(run, EngineError.atRisk(run, plan.risks)) }
    }

    private func checkMayRemove(_ run: Run, processes: [ProcessInside]) async throws {
        if let reason = run.lockReason {
            try await refuse(
                run,
                EngineError(
                    .keepLocked, .blocked,
                    "run \(run.key) is locked: \(reason). `wtengine unlock \(run.key)` allows its cleanup."))
        }
        if let process = processes.first {
            try await refuse(run, EngineError.inUse(run, process, more: processes.count - 1))
        }
    }

    private func refuse(_ run: Run, _ refusal: EngineError) async throws {
        try await registry.note(.cleanupRefused, run: run, detail: refusal.message)
        throw refusal
    }

    /// Carries out a recorded removal from wherever it stands; recovery comes here as well. May be repeated.
    /// - Parameter tracked: what the index says, when that has been read already.
    /// - Returns: the run in state `removed`, and the branch that went with it.
    /// - Throws: ``EngineError``; the run is back in its former state then, or quarantined.
    func remove(_ run: Run, _ tracked: TrackedFiles? = nil) async throws -> (run: Run, deletedBranch: String?) {
        guard var intent = run.removal, let previous = RunState(rawValue: intent.previousState) else {
            throw EngineError(.state, .needsHuman, "run \(run.key) has no recorded removal.")
        }
        let root = try await self.root(of: run)
        var run = run
        do {
            let found = try await moveToTrash(&run, tracked, root)
            intent.workdirMode = run.removal?.workdirMode
            // One that was moved back after it was checked may have been worked in since.
            if !intent.isChecked || found == .home {
                let (checked, detail) = try await recheck(
                    run, intent, tracked, workdir: found == .nowhere ? nil : root.trashPath(run))
                try await registry.transition(
                    run.key, from: [.cleaning], to: .cleaning, action: .cleanupChecked, detail: detail
                ) { $0.removal = checked }
                intent = checked
            }
            if run.materializer == .clone, found != .nowhere, let tip = intent.publishBranchAt, let branch = run.branch
            {
                try await publish(branch, tip, from: root.trashPath(run), of: run)
            }
        } catch {
            let failure = EngineError.wrap(error, "cleanup \(run.key)")
            try await putBack(run, to: previous, root: root, failure)
            throw failure
        }
        // From here on there is no way back.
        return try await uncancelled { [self, run, intent] in try await finish(run, intent, root) }
    }

    /// Moves the workdir into the trash. If permissions prevent that, makes the directories writable and tries again.
    ///
    /// A removal without a plan is checked for work at risk first. The registry has the workdir's mode before it changes, so
    /// that recovery can restore it after a crash.
    private func moveToTrash(_ run: inout Run, _ tracked: TrackedFiles?, _ root: Root) async throws -> Trash.Found {
        do { return try await blocking { [run] in try Trash.take(run, root: root) } } catch let error as SystemError {
            guard error.isPermission else { throw error }
        }
        if let intent = run.removal, intent.token == nil {
            _ = try await recheck(run, intent, tracked, workdir: run.path)
        }
        if let mode = try await blocking({ [run] in try Trash.readOnlyMode(of: run, root: root) }) {
            run = try await registry.transition(
                run.key, from: [.cleaning], to: .cleaning, action: .cleanupIntent,
                detail: "makes \(run.path) writable (its mode was \(String(mode, radix: 8)))", durable: true
            ) { $0.removal?.workdirMode = mode }
        }
        do {
            return try await blocking { [run] in try Trash.take(run, root: root, makingWritable: true) }
        } catch let error as SystemError where error.isPermission {
            throw EngineError(
                .system, .blocked,
                "cannot move \(run.path) to the trash: \(error). Nothing was removed. Make it, its parent directory and "
                    + "\(root.path)/\(Root.privateName)/trash writable for user \(geteuid()) (chown, chmod; chattr -i if one is "
                    + "immutable), then try again.", cause: error)
        }
    }

    /// Looks where nobody else looks for the workdir: who is inside, and whether the plan is still the same. Where there
    /// was none, whether anything would be lost, and what is to happen to the branch.
    /// - Returns: the intent, as it is to be carried out, and words for the audit log.
    private func recheck(
        _ run: Run, _ intent: RemovalIntent, _ tracked: TrackedFiles?, workdir: String?
    ) async throws -> (RemovalIntent, detail: String) {
        let plan = try await plan(run, workdir: workdir, isBound: intent.token != nil, tracked: tracked)
        if let process = plan.processes.first {
            throw EngineError.inUse(run, process, more: plan.processes.count - 1)
        }
        var checked = intent
        checked.isChecked = true
        guard let token = intent.token else {
            guard plan.risks.isEmpty else { throw EngineError.atRisk(run, plan.risks) }
            checked.decideBranch(as: plan)
            let ignored = plan.ignored.isEmpty ? "" : "; ignored: \(plan.ignored.prefix(20).joined(separator: ", "))"
            return (checked, "nothing would be lost" + ignored + (plan.ignored.count > 20 ? ", ..." : ""))
        }
        guard plan.token == token else {
            throw EngineError(
                .planChanged, .retry,
                "something in \(run.path) changed since the cleanup was planned, so nothing was removed. Look at the new plan: "
                    + "`wtengine cleanup \(run.key)`.")
        }
        return (checked, "nothing changed since the plan")
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
                    try await blocking {
                        try repository.trashPrivate(run, root: root)
                        try repository.discardPrivate(run)
                    }
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
            // Where there was no plan, that work would be lost, or cannot be looked at, is the answer to a question.
            let isAnswer = run.removal?.token == nil && failure.code != .identity
            // Nor is there anything to look at where a mode is in the way: the message names it.
            let isPermission = (failure.cause as? SystemError)?.isPermission == true
            let isForPerson = failure.disposition == .needsHuman && !isAnswer && !isPermission
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
}

extension RemovalIntent {
    fileprivate mutating func decideBranch(as plan: CleanupPlan) {
        deleteBranchAt = plan.branchToDelete == nil ? nil : plan.branchTip
        publishBranchAt = plan.run.materializer == .clone && plan.branchToDelete == nil ? plan.branchTip : nil
    }
}

extension EngineError {
    static func atRisk(_ run: Run, _ risks: [Risk]) -> EngineError {
        let list = risks.prefix(20).map { "\($0.kind.rawValue) \($0.path): \($0.detail)" }.joined(separator: "\n  ")
        return EngineError(
            .workAtRisk, .needsHuman,
            "\(risks.count) item(s) of work in \(run.path) would be lost:\n  \(list)\(risks.count > 20 ? "\n  ..." : "")\n"
                + "Commit or remove them, or drop them with --discard.")
    }
}
