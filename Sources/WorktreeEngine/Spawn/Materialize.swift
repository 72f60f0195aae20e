import Foundation
import Git
import Glibc
import Logging
import Registry
import SystemPackage

extension Engine {
    /// Fills the run's workdir in the stage and publishes it at its path.
    /// - Returns: the run, with the materializer that served it in the end; the workdir's identity; and the pools that
    ///   may want another slot.
    func materialize(
        _ run: Run, _ target: Target, _ root: Root, isForced: Bool
    ) async throws -> (Run, FileIdentity, [Pool]) {
        var run = run
        var pools: [Pool] = []
        switch run.materializer {
        case .checkout, .pool, .snapshot:
            guard let native = target.native else { preconditionFailure("chosen for native targets only") }
            do {
                (run.materializer, pools) = try await fill(run, target, native, root, isForced: isForced)
            } catch let error as EngineError where error.code == .git && !isForced {
                return try await addWorktree(insteadOf: run, target, root, after: error)
            }
            try await publish(run, native, root)
        case .git:
            do { try await addWorktree(run, target, root) } catch let error as EngineError
                where error.code == .git && !isForced
            {
                let first = error
                // Where not even git can add a worktree, a clone may still do; its words matter when it does not.
                logger.warning("git worktree add failed, trying a clone", metadata: ["error": "\(error)"])
                try await discardStage(run, root)
                run = try await registry.transition(
                    run.key, from: [.creating], to: .creating, action: .spawnFallback, detail: first.message
                ) { $0.materializer = .clone }
                do { try await clone(run, target, root) } catch {
                    if error is CancellationError { throw error }
                    throw EngineError(
                        .git, .needsHuman, "\(error) Before that: \(first.message)", cause: error)
                }
            }
        case .clone: try await clone(run, target, root)
        }
        return (run, try await verifyFresh(run, root), pools)
    }

    // MARK: In process

    /// Fills the stage, and begins the admin entry with the index, in the fastest way there is: a ready slot, a
    /// snapshot, or a checkout. A forced way has no other after it.
    private func fill(
        _ run: Run, _ target: Target, _ native: Target.Native, _ root: Root, isForced: Bool
    ) async throws -> (Materializer, [Pool]) {
        var pools: [Pool] = []
        if !isForced || run.materializer == .pool {
            let isClaimed: Bool
            (isClaimed, pools) = try await claimSlot(run, target, root)
            if isClaimed { return (.pool, pools) }
            if isForced { throw Self.noSlot(target) }
        }
        if !isForced || run.materializer == .snapshot {
            if try await snapshotTemplate(run, native, root) { return (.snapshot, pools) }
            if isForced { throw Self.noSnapshots(root) }
        }
        try await checkOut(run, native, root)
        return (.checkout, pools)
    }

    /// Fills the stage, and begins the admin entry with the index. Creations of one tree at the same time share the
    /// reading of it.
    private func checkOut(_ run: Run, _ native: Target.Native, _ root: Root) async throws {
        let (workers, contents) = (checkoutWorkers, contents)
        let destination = try await blocking {
            let stage = try root.openPrivate("stage")
            try stage.makeDirectory(run.adminID)
            return SharedCheckouts.Destination(
                stage: stage.path, name: run.adminID, adminStage: try AdminEntry.makeStage(run))
        }
        try await sharedCheckouts.fill(destination, key: native.key(in: run.commonDir)) {
            try native.checkout(in: run.commonDir, workers: workers, contents: contents)
        }
    }

    /// Completes the admin entry of a filled stage, and publishes both.
    private func publish(_ run: Run, _ native: Target.Native, _ root: Root) async throws {
        try await blocking {
            try AdminEntry.fillStage(run, identityLine: native.identityLine)
            try root.openPrivate("stage").open(run.adminID).create(".git", "gitdir: \(AdminEntry.path(run))\n")
        }
        try await actor(for: run.commonDir).register(run, root: root)
    }

    // MARK: By a git process

    /// git fills the staged directory and makes the admin entry, whose name is the directory's; only then is it moved.
    private func addWorktree(_ run: Run, _ target: Target, _ root: Root) async throws {
        _ = try root.openPrivate("stage")
        // Writing a tracking branch takes git's config lock, on which concurrent adds fail.
        let branch = run.branch.map { ["--no-track", "-b", $0] } ?? ["--detach"]
        let result = try await git.run(
            in: target.location.workTree ?? target.location.gitDir,
            ["worktree", "add", "--quiet", "--lock", "--reason", AdminEntry.lockReason(run)] + branch
                + ["--", root.stagePath(run), run.base])
        if result.status != 0, let name = run.branch, result.message.contains("already exists") {
            throw EngineError.branchTaken(name, run.repo)
        }
        guard result.status == 0 else {
            throw EngineError(
                .git, .needsHuman,
                "`git worktree add` in \(run.repo) failed with status \(result.status): \(result.message)")
        }
        try await actor(for: run.commonDir).adoptGitEntry(run, root: root)
    }

    /// git finds another copy of an object where libgit2 stops at the first that is damaged. Where git does not either,
    /// the first error says what to mend.
    private func addWorktree(
        insteadOf run: Run, _ target: Target, _ root: Root, after error: EngineError
    ) async throws -> (Run, FileIdentity, [Pool]) {
        logger.warning("a checkout failed, trying git worktree add", metadata: ["error": "\(error)"])
        let repository = actor(for: run.commonDir)
        try await blocking {
            try TreeDeletion.delete(run.adminID, in: root.openPrivate("stage"))
            try repository.discardPrivate(run)
        }
        let run = try await registry.transition(
            run.key, from: [.creating], to: .creating, action: "spawn.fallback", detail: error.message
        ) { $0.materializer = .git }
        do { try await addWorktree(run, target, root) } catch let second as EngineError where second.code == .git {
            try await discardStage(run, root)
            throw error
        }
        return (run, try await verifyFresh(run, root), [])
    }

    private func clone(_ run: Run, _ target: Target, _ root: Root) async throws {
        let stage = root.stagePath(run)
        _ = try root.openPrivate("stage")
        let source = target.location.workTree ?? target.location.gitDir
        // No template: it would bring hooks. Objects are hard links where that can be, so the clone stays whole when the
        // source is packed. Not `--local`: git then fails instead of copying where links are refused, that is on another
        // filesystem, and for files of another owner (man 5 proc, fs.protected_hardlinks).
        try await git.require(in: nil, ["clone", "--quiet", "--no-checkout", "--template=", "--", source, stage])
        let known = try await git.run(in: stage, ["cat-file", "-e", "\(run.base)^{commit}"])
        if known.status != 0 { try await git.require(in: stage, ["fetch", "--quiet", "origin", run.base]) }
        let head = run.branch.map { ["--no-track", "-b", $0] } ?? ["--detach"]
        let checkout = try await git.require(in: stage, ["checkout", "--quiet"] + head + [run.base, "--"])
        // It leaves out what it cannot read, says so, and succeeds.
        let missing = try await git.require(in: stage, ["ls-files", "--deleted"]).text
        guard missing.isEmpty else {
            throw EngineError(
                .git, .needsHuman, "`git checkout` in a clone of \(run.repo) left files out: \(checkout.message)")
        }
        try await blocking {
            let gitDir = try root.openPrivate("stage").open(run.adminID).open(".git")
            try gitDir.create(RunRecord.fileName, try RunRecord(run).json, sync: true)
            try gitDir.create("locked", AdminEntry.lockReason(run) + "\n")
        }
        try await actor(for: run.commonDir).publishWorkdir(run, root: root)
    }

    private func discardStage(_ run: Run, _ root: Root) async throws {
        try await actor(for: run.commonDir).unregister(run)
        try await blocking { try TreeDeletion.delete(run.adminID, in: root.openPrivate("stage")) }
        if let branch = run.branch { try await deleteUnfinishedBranch(branch, of: run) }
    }

    // MARK: Before it is handed out

    /// Links in both directions, and HEAD at the base. That the files and the index are right follows from how they were
    /// written: into an empty private directory, each compared in size after the write.
    private func verifyFresh(_ run: Run, _ root: Root) async throws -> FileIdentity {
        guard let relative = root.relative(run.path) else {
            throw EngineError(.identity, .needsHuman, "\(run.path) is not below the root \(root.path).")
        }
        let isNative = ![.git, .clone].contains(run.materializer)
        var (identity, head) = try await blocking { () -> (FileIdentity, String?) in
            let workdir = try root.open().openBeneath(relative)
            if let mismatch = AdminEntry.mismatch(run, workdir: workdir) {
                throw EngineError(.identity, .needsHuman, "the new workdir is not as it was made: \(mismatch).")
            }
            guard isNative else { return (try workdir.identity(), nil) }
            // A `git pack-refs` may have moved the branch between the two; libgit2 then finds it.
            if let head = try? AdminEntry.plainHead(run) { return (try workdir.identity(), head) }
            let repository = try Repository(gitDirectory: AdminEntry.gitDir(run))
            return (try workdir.identity(), try repository.head().commit?.description)
        }
        if !isNative { head = try await git.require(in: run.path, ["rev-parse", "--verify", "HEAD"]).text }
        guard head == run.base else {
            throw EngineError(
                .identity, .retry,
                "HEAD of the new workdir is \(head ?? "unborn") and not the base \(run.base). Try again.")
        }
        return identity
    }
}
