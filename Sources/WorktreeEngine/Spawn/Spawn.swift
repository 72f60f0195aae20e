import Git
import Glibc
import Logging
import Registry
import SystemPackage

extension Engine {
    /// Creates a run and its workdir.
    ///
    /// The order is: decide everything that can be decided without writing; record the intent; fill a private
    /// directory; publish it under the repository's lock; make the run available. A failure after the intent undoes
    /// what was made and forgets the run, so that the same request can be made again. So does a cancellation of the
    /// task; one that comes after the run was made available changes nothing, and the workdir is returned.
    /// - Throws: ``EngineError``; the codes in ``EngineError/Code`` say what. Nothing half-made is left.
    public func spawn(_ request: SpawnRequest) async throws(EngineError) -> Workdir {
        let begun = ContinuousClock.now
        background.spawnBegins()
        defer { background.spawnEnds() }
        do {
            let workdir = try await create(request)
            metrics.spawned(workdir.materializer, since: begun)
            return workdir
        } catch {
            let failure = EngineError.wrap(error, "spawn \(request.issue) \(request.run)")
            metrics.spawnFailed(failure, since: begun)
            throw failure
        }
    }

    private func create(_ request: SpawnRequest) async throws -> Workdir {
        try Task.checkCancellation()
        let key = try RunKey(issue: request.issue, run: request.run)
        let role = try self.role(request, key)
        let lease = try Lease(key, state: configuration.state)
        defer { lease.release() }
        warm.beginSpawn()
        defer { warm.endSpawn() }
        let decided: Decision
        do { decided = try await decide(request, key, role) } catch {
            // What a run has made is in the way of a second one of its name, and that it exists is the reason.
            guard let known = try await registry.run(key) else { throw error }
            try await settle(left: known)
            decided = try await decide(request, key, role)
        }
        let (intent, target, root) = (decided.intent, decided.target, decided.root)
        let run = try await begin(intent, switching: request.switching)
        do {
            let (made, identity, pools) = try await materialize(
                run, target, root, isForced: request.materializer != nil)
            // Nobody is there any more to be given the workdir.
            try Task.checkCancellation()
            let (ready, superseded) = try await registry.activate(
                made.key, materializer: made.materializer, identity: identity)
            logger.info("spawned", metadata: ["run": "\(key)", "path": "\(ready.path)"])
            await refill(pools, after: target, root)
            return Workdir(
                run: ready.key, path: ready.path, branch: ready.branch, base: ready.base,
                materializer: ready.materializer, superseded: superseded?.key)
        } catch {
            let failure = EngineError.wrap(error, "spawn \(key)")
            try await rollBack(run, keepBranch: failure.code == .branchTaken, detail: failure.description)
            throw failure
        }
    }

    private struct Decision {
        let intent: Run
        let target: Target
        let root: Root
    }

    /// Decides everything that can be decided without writing.
    private func decide(_ request: SpawnRequest, _ key: RunKey, _ role: Role) async throws -> Decision {
        let target = try await self.target(request.repository, base: request.base)
        let root = try await rootForSpawn()
        try checkDisk(root)
        let branch = try await branchName(request, key, role, target)
        let materializer = try chooseMaterializer(request, target)
        let path = "\(root.path)/\(key.issue.pathComponent)/\(key.run)"
        let top = try root.open()
        if try top.contains(key.issue.pathComponent),
            try top.openBeneath(key.issue.pathComponent).contains(key.run.description)
        {
            throw EngineError.pathTaken(path)
        }
        let intent = Run(
            key: key, role: role, repo: target.location.name, commonDir: target.location.commonDir, root: root.path,
            path: path, adminID: "\(key.run.description.prefix(80))-\(randomHex(5))", branch: branch,
            base: target.base, materializer: materializer)
        return Decision(intent: intent, target: target, root: root)
    }

    private func role(_ request: SpawnRequest, _ key: RunKey) throws -> Role {
        let named = key.run.role
        guard let given = try request.role.map({ text throws(InvalidName) in try Role(text) }) ?? named else {
            throw EngineError(
                .invalidInput, .retry,
                "run id \(key.run) names no role. Give one with --role, or use <YYYY-MM-DD>-<role>-<seq>.")
        }
        if let named, named != given {
            throw EngineError(
                .invalidInput, .retry, "run id \(key.run) names the role \(named), but the role given is \(given).")
        }
        return given
    }

    /// Whether the root may take another workdir.
    func checkDisk(_ root: Root) throws {
        let free = try root.freeBytes()
        guard free >= configuration.diskReserve else { throw EngineError.disk(root, free, configuration.diskReserve) }
    }

    private func chooseMaterializer(_ request: SpawnRequest, _ target: Target) throws -> Materializer {
        let reasons = target.support.reasons.joined(separator: "; ")
        switch request.materializer {
        case .some(let forced) where forced != .clone && !target.location.isWritable:
            throw EngineError(
                .unsupported, .retry,
                "\(target.location.name) cannot be written, so it takes no worktree. Use --materializer auto or clone.")
        case .checkout where target.native == nil, .pool where target.native == nil,
            .snapshot where target.native == nil:
            throw EngineError(
                .unsupported, .retry,
                "the checkout cannot serve \(target.location.name): \(reasons). Use --materializer auto or git.")
        case .some(let forced): return forced
        case nil:
            // A repository that cannot be written takes no worktree.
            if !target.location.isWritable { return .clone }
            if target.native == nil {
                logger.info("served by git", metadata: ["repo": "\(target.location.name)", "reasons": "\(reasons)"])
                return .git
            }
            return .checkout
        }
    }

    /// Records the intent. A creation that a crash left for the same issue and role is settled first.
    private func begin(_ intent: Run, switching: Bool) async throws -> Run {
        do {
            return try await registry.begin(intent, switching: switching, limits: configuration.limits)
        } catch RegistryError.creationInProgress(let other) where other.key == intent.key {
            try await settle(left: other)
            return try await registry.begin(intent, switching: switching, limits: configuration.limits)
        } catch RegistryError.creationInProgress(let other) {
            guard let lease = try Lease(ifFree: other.key, state: configuration.state) else {
                throw RegistryError.creationInProgress(other)
            }
            defer { lease.release() }
            if let left = try await registry.run(other.key), left.state == .creating { _ = try await settle(left) }
            return try await registry.begin(intent, switching: switching, limits: configuration.limits)
        }
    }

    /// Settles what a crash has left of the very run that is to be created, so that the same request can be made again. The
    /// caller holds its lease, so nobody is at work on it.
    /// - Throws: ``RegistryError/runExists(_:)`` for a run that is more than that.
    private func settle(left run: Run) async throws {
        guard run.state == .creating else { throw RegistryError.runExists(run) }
        let settled = try await settle(run)
        guard let now = try await registry.run(run.key) else { return }
        throw EngineError(
            .runExists, .retry,
            now.state == .ready
                ? "run \(run.key) was created by a call that ended before it could answer. Its workdir is \(now.path), at "
                    + "\(now.base.prefix(12)) of \(now.repo): use it, or take a new run id."
                : "run \(run.key) was left half-made by a crash, and that could not be undone: \(settled.detail) "
                    + "`wtengine recover` tries again; or take a new run id.")
    }

    /// Undoes a creation, in any state that a crash may have left it in. May be repeated.
    ///
    /// Only what nobody has been given is removed: the staged workdir, the admin entry, and the branch while it still
    /// is at the base. A cancelled task undoes what it has made like any other.
    func rollBack(_ run: Run, keepBranch: Bool = false, detail: String) async throws {
        try await uncancelled { [self] in
            do {
                try await removeUnfinished(run, keepBranch: keepBranch)
                try await registry.abandon(run.key, detail: detail)
            } catch {
                // What is left stays recorded, so that a person or a later `recover` finds it.
                logger.error("rolling back failed", metadata: ["run": "\(run.key)", "error": "\(error)"])
                try await registry.transition(
                    run.key, from: [.creating], to: .quarantined, action: .quarantined,
                    detail: "\(detail); rolling back failed: \(error)"
                ) { $0.reason = "rolling back a failed creation failed: \(error)" }
            }
        }
    }

    private func removeUnfinished(_ run: Run, keepBranch: Bool) async throws {
        let repository = actor(for: run.commonDir)
        let root = try await self.root(of: run)
        let isOwnBranch = try !keepBranch && run.materializer != .clone && AdminEntry.mayHaveBranch(run)
        try await blocking { try Self.unpublish(run, root: root) }
        if run.materializer != .clone { try await repository.unregister(run) }
        // Before the entry, which is what tells after another crash that the branch is ours.
        if isOwnBranch, let branch = run.branch {
            try await deleteUnfinishedBranch(branch, of: run)
        }
        try await blocking {
            // A root that cannot be written may never have had a stage.
            if let stage = try root.existingPrivate("stage") { try TreeDeletion.delete(run.adminID, in: stage) }
            try repository.discardPrivate(run)
        }
    }

    /// Deletes the branch of a creation that is undone, if it still is at the base.
    func deleteUnfinishedBranch(_ branch: String, of run: Run) async throws {
        if run.materializer == .git {
            try await blocking {
                let lock = try RepositoryLock(run.commonDir)
                defer { lock.release() }
                try lock.removeDeadLock(of: "refs/heads/\(branch)", begun: run.createdAt)
            }
        }
        _ = try await deleteBranch(branch, at: run.base, of: run)
    }

    /// Moves a workdir that was published, but not handed out, back into the stage.
    private static func unpublish(_ run: Run, root: Root) throws {
        guard let relative = root.relative(run.path), let slash = relative.lastIndex(of: "/"),
            let parent = try? root.open().openBeneath(String(relative[..<slash]))
        else { return }
        let name = String(relative[relative.index(after: slash)...])
        guard let workdir = try? parent.openBeneath(name), AdminEntry.mismatch(run, workdir: workdir) == nil else {
            return
        }
        try parent.moveDirectory(name, to: root.openPrivate("stage"), as: run.adminID)
    }

    /// Deletes a branch if it still is at a commit and no worktree has it checked out.
    /// - Parameter onlyIfReached: and if other references still reach all of its commits. What the plan saw may be
    ///   gone: two branches that reach the same commits could otherwise both go, each because of the other.
    func deleteBranch(
        _ branch: String, at commit: String, of run: Run, onlyIfReached: Bool = false
    ) async throws -> Bool {
        guard let location = try? RepositoryLocation.find(run.commonDir) else { return false }
        let repository = actor(for: run.commonDir)
        if let id = ObjectID(commit), try Support.repositoryReasons(location).isEmpty {
            return try await repository.deleteBranch(branch, ifAt: id, onlyIfReached: onlyIfReached)
        }
        // Under the same lock as in process: of two branches that reach the same commits only one may go.
        let commonDir = run.commonDir
        let lock = try await blocking { try RepositoryLock(commonDir) }
        defer { lock.release() }
        if try await blocking({ try repository.isCheckedOut(branch) }) { return false }
        if onlyIfReached,
            try await !ownCommits(of: commit, in: run.commonDir, excluding: ["refs/heads/\(branch)"]).isEmpty
        {
            return false
        }
        return try await git.run(
            in: run.commonDir, ["update-ref", "-d", "refs/heads/\(branch)", commit]
        ).status == 0
    }
}

extension EngineError {
    static func disk(_ root: Root, _ free: Int64, _ reserve: Int64) -> EngineError {
        EngineError(
            .disk, .blocked,
            "only \(free >> 20) MiB are free at \(root.path), less than the reserve of \(reserve >> 20) MiB. "
                + "Free space (`wtengine sweep`), or lower [limits] disk_reserve.")
    }
}
