import CLinux
import Dispatch
import Git
import Glibc
import Registry
import SystemPackage

/// Runs the jobs of one actor on a dispatch queue of its own, so that blocking git work never takes a thread of the
/// cooperative pool.
final class QueueExecutor: SerialExecutor {
    private let queue: DispatchQueue

    init(label: String) { queue = DispatchQueue(label: label) }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
    }

    func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }
}

/// Serializes the changes of references and admin entries of one repository, keyed by its common dir.
///
/// Methods that change something are synchronous, so that no await lets another call in, and hold a `flock` on
/// `<common dir>/wtengine.lock` against other processes. It is held for metadata only: no file of a workdir is written
/// or deleted under it.
actor RepositoryActor {
    let commonDir: String
    /// For what is asked of the common dir.
    nonisolated let handle: OpenRepository
    /// For questions about history: their answer may take long, and spawns do not wait for it.
    nonisolated let history: OpenRepository
    private let executor: QueueExecutor

    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    init(commonDir: String) {
        self.commonDir = commonDir
        handle = OpenRepository(gitDirectory: commonDir)
        history = OpenRepository(gitDirectory: commonDir)
        executor = QueueExecutor(label: "wtengine.repository")
    }

    /// Publishes a native run: branch, admin entry, workdir, in this order.
    ///
    /// Killed between any two steps, `rollBack` undoes what is there: the entry is complete before it appears, and
    /// locked, so git keeps working and prunes nothing.
    func register(_ run: Run, root: Root) throws {
        let lock = try RepositoryLock(commonDir)
        defer { lock.release() }
        if let branch = run.branch { try lock.changing("refs/heads/\(branch)") { try createBranch(branch, run) } }
        let common = try Directory(commonDir)
        _ = try common.openOrMake("worktrees")
        try common.open(AdminEntry.privateName).rename(
            AdminEntry.stageName(run), to: common.open("worktrees"), as: run.adminID)
        try publishWorkdir(run, root: root)
    }

    private func createBranch(_ branch: String, _ run: Run) throws {
        guard let base = ObjectID(run.base) else {
            throw EngineError(.unknownBase, .blocked, "\(run.base) is not the name of a commit.")
        }
        try handle.with { repository in
            do throws(GitError) {
                try repository.createReference(
                    "refs/heads/\(branch)", at: base, message: "branch: Created by wtengine for \(run.key)")
            } catch {
                throw error.exists ? EngineError.branchTaken(branch, run.repo) : error
            }
        }
    }

    /// Publishes a run whose admin entry git made for the staged workdir: our record, final path, lock reason, then the
    /// workdir.
    func adoptGitEntry(_ run: Run, root: Root) throws {
        let lock = try RepositoryLock(commonDir)
        defer { lock.release() }
        let entry = try Directory(commonDir).openBeneath("worktrees/\(run.adminID)")
        try entry.replace(RunRecord.fileName, try RunRecord(run).json)
        try entry.replace("gitdir", "\(run.path)/.git\n")
        try entry.replace("locked", AdminEntry.lockReason(run) + "\n")
        try publishWorkdir(run, root: root)
    }

    /// Moves a finished workdir from the stage to its final path, which appears complete or not at all.
    func publishWorkdir(_ run: Run, root: Root) throws {
        guard let relative = root.relative(run.path), let slash = relative.lastIndex(of: "/") else {
            throw EngineError(.identity, .needsHuman, "\(run.path) is not below the root \(root.path).")
        }
        let name = String(relative[relative.index(after: slash)...])
        // A cleanup may remove the directory when it is empty, between our making and our using it.
        var attempt = 1
        while true {
            do {
                return try root.openPrivate("stage").rename(
                    run.adminID, to: root.open().openOrMake(String(relative[..<slash])), as: name)
            } catch let error as SystemError {
                if error.errno == .fileExists { throw EngineError.pathTaken(run.path) }
                if error.errno != .noSuchFileOrDirectory || attempt == 10 { throw error }
                attempt += 1
            }
        }
    }

    /// Takes an admin entry of ours out of git's sight. Once it is gone, its detached commits may be collected, so this
    /// comes after every check.
    func unregister(_ run: Run) throws {
        let lock = try RepositoryLock(commonDir)
        defer { lock.release() }
        let common = try Directory(commonDir)
        guard let worktrees = try? common.open("worktrees"), try worktrees.contains(run.adminID) else { return }
        let entry = try worktrees.open(run.adminID)
        // git's own half-made entry of a killed `git worktree add` has no record yet; its name is ours alone.
        if let record = RunRecord(in: entry), !record.names(run) {
            throw EngineError(
                .identity, .needsHuman,
                "\(AdminEntry.path(run)) belongs to run \(record.issue) \(record.run), not to \(run.key); nothing was removed."
            )
        }
        let own = try common.openOwn(AdminEntry.privateName)
        try worktrees.moveDirectory(run.adminID, to: own, as: AdminEntry.trashName(run))
    }

    /// Puts what ``unregister(_:)`` left aside into the workdir in the trash, to be unlinked with it: an index is as large as
    /// many files. Where that cannot be, since it is gone or on another filesystem, nothing happens.
    nonisolated func trashPrivate(_ run: Run, root: Root) throws {
        let trash = try root.openPrivate("trash")
        guard let own = try? Directory(commonDir).open(AdminEntry.privateName),
            let workdir = try? trash.open(run.adminID)
        else { return }
        try? own.moveDirectory(AdminEntry.trashName(run), to: workdir, as: AdminEntry.trashName(run))
    }

    /// Deletes what ``unregister(_:)`` or a creation left aside. Not under the lock: nobody else uses these names.
    nonisolated func discardPrivate(_ run: Run) throws {
        guard let own = try? Directory(commonDir).open(AdminEntry.privateName) else { return }
        try own.whileWritable { () throws(SystemError) in
            for name in [AdminEntry.stageName(run), AdminEntry.trashName(run)] {
                try TreeDeletion.delete(name, in: own)
            }
        }
    }

    /// Deletes a branch by compare-and-swap, unless a worktree has it checked out.
    /// - Parameter onlyIfReached: and unless it has commits that no other reference reaches.
    /// - Returns: whether it is gone because of this call.
    func deleteBranch(_ branch: String, ifAt id: ObjectID, onlyIfReached: Bool) throws -> Bool {
        let lock = try RepositoryLock(commonDir)
        defer { lock.release() }
        if try isCheckedOut(branch) { return false }
        let repository = try Repository(gitDirectory: commonDir)
        let name = "refs/heads/\(branch)"
        if onlyIfReached, try !repository.ownCommits(of: id, excluding: [name, "refs/stash"], limit: 1).isEmpty {
            return false
        }
        try lock.begin(name)
        defer { lock.end() }
        return try repository.deleteReference(name, ifAt: id)
    }

    /// Whether a HEAD of the repository names the branch. Reads the files: libgit2's own test is wrong both ways.
    ///
    /// Not isolated: who holds the lock between processes may not wait for the actor, which may be waiting for that lock.
    nonisolated func isCheckedOut(_ branch: String) throws -> Bool {
        let common = try Directory(commonDir)
        let line = "ref: refs/heads/\(branch)"
        if try common.read("HEAD")?.split(separator: "\n").first.map(String.init) == line, try !isBare() { return true }
        if Self.isBeingRebased(branch, common) { return true }
        guard let worktrees = try? common.open("worktrees") else { return false }
        for entry in try worktrees.entries() {
            guard let directory = try? worktrees.open(entry.name) else { continue }
            if try directory.read("HEAD")?.split(separator: "\n").first.map(String.init) == line { return true }
            if Self.isBeingRebased(branch, directory) { return true }
        }
        return false
    }

    /// HEAD is detached during a rebase, which writes the branch at its end. See: git `branch.c`
    /// (`prepare_checked_out_branches`)
    private static func isBeingRebased(_ branch: String, _ gitDir: borrowing Directory) -> Bool {
        for name in ["rebase-merge", "rebase-apply"] {
            guard let operation = try? gitDir.open(name), let head = (try? operation.read("head-name")) ?? nil else {
                continue
            }
            if head == "refs/heads/\(branch)\n" { return true }
        }
        return false
    }

    private nonisolated func isBare() throws -> Bool {
        try ConfigFile.entries("\(commonDir)/config").last { $0.name == "core.bare" }?.isTrue ?? false
    }

    /// Writes the reason of the `locked` file anew.
    func rewriteLock(_ run: Run) throws {
        let lock = try RepositoryLock(commonDir)
        defer { lock.release() }
        let entry = try Directory(AdminEntry.gitDir(run))
        try entry.whileWritable { () throws(SystemError) in
            try entry.replace("locked", AdminEntry.lockReason(run) + "\n")
        }
    }
}

extension EngineError {
    static func branchTaken(_ branch: String, _ repo: String) -> EngineError {
        EngineError(
            .branchTaken, .blocked,
            "branch \(branch) exists already in \(repo), or a branch above or below that name does. Choose another with "
                + "--branch, or take none with --detach.")
    }

    static func pathTaken(_ path: String) -> EngineError {
        EngineError(
            .pathTaken, .blocked,
            "\(path) exists already and is not a workdir of this run. Move it away, or take another run id.")
    }
}
