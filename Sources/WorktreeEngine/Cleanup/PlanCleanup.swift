import CLinux
import Foundation
import Git
import Glibc
import Registry
import SystemPackage

extension Engine {
    /// What a cleanup of the run would do: what would be lost, who is inside, what happens to the branch. Changes
    /// nothing.
    /// - Throws: ``EngineError/Code/unknownRun``; ``EngineError/Code/state`` for a run that is removed or being made;
    ///   ``EngineError/Code/identity`` when the workdir is not the one that was made, or its admin entry is gone.
    public func planCleanup(_ key: RunKey) async throws(EngineError) -> CleanupPlan {
        let run = try await self.run(key)
        return try await Self.catching("plan of cleanup \(key)") {
            switch run.state {
            case .removed: throw EngineError(.state, .retry, "the workdir of run \(key) is removed already.")
            case .creating, .cleaning:
                throw EngineError(
                    .inProgress, .blocked,
                    "run \(key) is \(run.state.rawValue). Wait for it; if its process died, run `wtengine recover`.")
            default: break
            }
            let root = try await self.root(of: run)
            guard let relative = root.relative(run.path) else {
                throw EngineError(.identity, .needsHuman, "\(run.path) is not below the root \(root.path).")
            }
            let isMissing = try await blocking {
                do {
                    let workdir = try root.open().openBeneath(relative)
                    if let mismatch = AdminEntry.mismatch(run, workdir: workdir) {
                        throw EngineError.mismatch(run, mismatch)
                    }
                    return false
                } catch let error as SystemError where error.errno == .noSuchFileOrDirectory {
                    return true
                }
            }
            return try await self.plan(run, workdir: isMissing ? nil : run.path)
        }
    }

    /// The plan for a workdir that stands at `workdir`: its path, or its place in the trash; nil when it is gone.
    func plan(_ run: Run, workdir: String?) async throws -> CleanupPlan {
        var lines = ["run \(run.key)", "path \(run.path)", "workdir \(workdir == nil ? "missing" : "present")"]
        var risks: [Risk] = []
        var ignored: [String] = []
        let gitDir = run.materializer == .clone ? workdir.map { "\($0)/.git" } : AdminEntry.path(run)
        let commonDir = run.materializer == .clone ? gitDir : run.commonDir
        var branch = BranchDecision()
        if let workdir, let mount = try await blocking({ try ProcessTable.mount(below: workdir) }) {
            throw EngineError(
                .inUse, .blocked,
                "a filesystem is mounted at \(mount), inside the workdir of run \(run.key). Unmount it, then try "
                    + "again.")
        }
        if workdir == nil, run.materializer != .clone, AdminEntry.exists(run),
            let mismatch = AdminEntry.entryMismatch(run)
        {
            // `git worktree move` or `repair` gave the entry to a directory elsewhere: the run is not gone.
            throw EngineError.mismatch(run, mismatch)
        }
        // Before the files, so that nobody writes unseen what has been compared already: in the trash, where a removal
        // comes here again, nobody gets in by the old path, so whoever can still write is inside by now. And before
        // anything is open there that is our own.
        let processes = try await insideProcesses(run, workdir: workdir)
        let isOrphan = run.materializer != .clone && access(run.commonDir, F_OK) != 0
        if let gitDir, let commonDir, !isOrphan, workdir != nil || AdminEntry.entryMismatch(run) == nil {
            let state = try await workingState(
                WorkingPlace(gitDir: gitDir, commonDir: commonDir, workdir: workdir))
            lines.append("head \(state.headBranch ?? "detached") \(state.headCommit ?? "unborn")")
            lines += state.status.compactMap(\.stagedID).map { "staged \($0)" }
            (risks, ignored) = fileRisks(state)
            if let operation = Operation.inProgress(gitDir) {
                risks.append(Risk(kind: .operation, path: operation, detail: "\(operation) in progress"))
            }
            risks += stashRisks(run, state)
            risks += try await commitRisks(run, state, gitDir: gitDir, commonDir: commonDir)
            risks += try await nestedRisks(run, state, workdir: workdir, gitDir: gitDir)
            branch = try await decideBranch(run, commonDir: commonDir)
            risks += branch.risks
        } else if isOrphan {
            // Nothing can be compared any more, so everything in the workdir counts.
            if workdir != nil {
                risks.append(
                    Risk(
                        kind: .untracked, path: ".",
                        detail: "the repository \(run.commonDir) is gone, so that nothing here can be compared with it")
                )
            }
        } else if run.materializer != .clone {
            // Somebody removed workdir and admin entry; the branch is all that is left.
            branch = try await decideBranch(run, commonDir: run.commonDir)
            risks += branch.risks
        }
        lines += risks.map { "risk \($0.kind.rawValue) \($0.path) \($0.detail) \(fingerprint($0.path, in: workdir))" }
        lines += ignored.map { "ignored \($0)" }
        lines.append("branch \(branch.delete ? "delete" : "keep") \(branch.tip ?? "none")")
        return CleanupPlan(
            run: run, token: ObjectID.ofBlob(Array(lines.joined(separator: "\n").utf8)).description, risks: risks,
            ignored: ignored, processes: processes, branchToDelete: branch.delete ? run.branch : nil,
            isMissing: workdir == nil, branchTip: branch.tip)
    }

    // MARK: Who is inside

    private func insideProcesses(_ run: Run, workdir: String?) async throws -> [ProcessInside] {
        var found: [ProcessInside] = []
        if run.state == .attached || run.removal?.previousState == RunState.attached.rawValue, let worker = run.worker,
            ProcessTable.isAlive(worker)
        {
            let name = worker.host == ProcessTable.host ? "worker" : "worker on \(worker.host)"
            found.append(ProcessInside(pid: worker.pid, name: name, holds: "worker"))
        }
        if let workdir { found += try await blocking { try ProcessTable.inside([workdir]) } }
        return found
    }

    // MARK: What would be lost

    private func fileRisks(_ state: WorkingState) -> ([Risk], ignored: [String]) {
        var risks: [Risk] = []
        var ignored: [String] = []
        for entry in state.status.sorted(by: { $0.path.lexicographicallyPrecedes($1.path) }) {
            let path = String(decoding: entry.path, as: UTF8.self)
            if entry.isConflicted { risks.append(Risk(kind: .conflicted, path: path, detail: "unresolved merge")) }
            if entry.isStaged { risks.append(Risk(kind: .staged, path: path, detail: "staged, not committed")) }
            if entry.isModified { risks.append(Risk(kind: .modified, path: path, detail: "differs from the index")) }
            if entry.isUntracked { risks.append(Risk(kind: .untracked, path: path, detail: "not tracked by git")) }
            if entry.isIgnored {
                if configuration.keepsIgnoredFiles {
                    risks.append(Risk(kind: .ignored, path: path, detail: "ignored, and the configuration keeps those"))
                } else {
                    ignored.append(path)
                }
            }
        }
        for path in state.editedHidden {
            let name = String(decoding: path, as: UTF8.self)
            risks.append(
                Risk(kind: .hidden, path: name, detail: "edited, and hidden by assume-unchanged or skip-worktree"))
        }
        return (risks, ignored)
    }

    private func stashRisks(_ run: Run, _ state: WorkingState) -> [Risk] {
        state.stashes.compactMap { stash in
            // git writes "WIP on <branch>: ..." or "On <branch>: ...". See: git `builtin/stash.c`
            let onBranch = run.branch.map { name in
                stash.message.hasPrefix("WIP on \(name):") || stash.message.hasPrefix("On \(name):")
            }
            let onDetached = stash.message.contains("n (no branch):") && stash.parent == (state.headCommit ?? run.base)
            guard run.materializer == .clone || onBranch == true || onDetached else { return nil }
            return Risk(kind: .stash, path: "refs/stash", detail: stash.message)
        }
    }

    private func commitRisks(
        _ run: Run, _ state: WorkingState, gitDir: String, commonDir: String
    ) async throws -> [Risk] {
        var risks: [Risk] = []
        func add(_ tip: String, _ name: String, excluding: [String] = [], onlyPrefix: String? = nil) async throws {
            for commit in try await ownCommits(of: tip, in: commonDir, excluding: excluding, onlyPrefix: onlyPrefix) {
                risks.append(
                    Risk(kind: .detachedCommits, path: name, detail: "\(commit.id.prefix(12)) \(commit.summary)"))
            }
        }
        if run.materializer == .clone {
            // The clone's references go with it; only the run's branch is handed to the source repository.
            if state.headBranch == nil, let head = state.headCommit {
                try await add(head, "HEAD", onlyPrefix: "refs/remotes/")
            }
            for reference in try await references(in: commonDir)
            where !reference.name.hasPrefix("refs/remotes/") && reference.name != "refs/stash"
                && reference.name != run.branch.map({ "refs/heads/\($0)" })
            {
                // A tag that the clone brought along is in the source repository still.
                if reference.id == (try? await target(of: reference.name, in: run.commonDir)) { continue }
                try await add(reference.id, reference.name, onlyPrefix: "refs/remotes/")
            }
            return risks
        }
        if state.headBranch == nil, let head = state.headCommit { try await add(head, "HEAD") }
        for reference in perWorktreeReferences(gitDir) { try await add(reference.id, reference.name) }
        return risks
    }

    /// References that live in the admin entry and go with it. See: man git-worktree (REFS)
    private func perWorktreeReferences(_ gitDir: String) -> [(name: String, id: String)] {
        var found: [(String, String)] = []
        var pending = ["refs/worktree", "refs/bisect", "refs/rewritten"]
        while let path = pending.popLast() {
            guard let directory = try? Directory("\(gitDir)/\(path)"), let entries = try? directory.entries() else {
                continue
            }
            for entry in entries {
                if entry.type == UInt8(DT_DIR) { pending.append("\(path)/\(entry.name)") }
                if let text = try? directory.read(entry.name), text.count >= 40, !text.hasPrefix("ref:") {
                    found.append(("\(path)/\(entry.name)", String(text.prefix { $0 != "\n" })))
                }
            }
        }
        return found.sorted { $0.0 < $1.0 }
    }

    private func nestedRisks(
        _ run: Run, _ state: WorkingState, workdir: String?, gitDir: String
    ) async throws -> [Risk] {
        let submodules = Dictionary(
            state.submodules.map { (String(decoding: $0.path, as: UTF8.self), $0.commit) }, uniquingKeysWith: { $1 })
        let nested = try await blocking { () -> [NestedRepository] in
            if let workdir {
                return try NestedRepositories.find(
                    workdir: workdir, home: run.path, modules: "\(gitDir)/modules", extras: state.extras)
            }
            return NestedRepositories.moduleDirectories("\(gitDir)/modules").map {
                NestedRepository(path: $0, gitDir: $0, workTree: nil)
            }
        }
        let ignored = state.status.filter(\.isIgnored).map { String(decoding: $0.path, as: UTF8.self) }
        var risks: [Risk] = []
        for repository in nested.sorted(by: { $0.path < $1.path }) {
            let staged = submodules[repository.path]
            let isSubmodule = staged != nil || repository.path.hasPrefix(gitDir)
            let isIgnored = ignored.contains { isInside("\(repository.path)/", $0) || repository.path + "/" == $0 }
            // Without a `.git` git sees its files one by one, and so did the status: many projects track such directories.
            if repository.workTree == nil, !isSubmodule, !isIgnored { continue }
            var reason = try await workAtRisk(in: repository)
            if reason == nil, let staged, let gitDir = repository.gitDir,
                let head = try await target(of: "HEAD", in: gitDir), head != staged
            {
                reason = "at commit \(head.prefix(12)), but \(staged.prefix(12)) is staged"
            }
            if isSubmodule, let reason {
                risks.append(Risk(kind: .submodule, path: repository.path, detail: reason))
            } else if !isSubmodule, reason != nil || !isIgnored {
                // git itself lists it as untracked, whatever is in it.
                risks.append(
                    Risk(
                        kind: .nestedRepository, path: repository.path,
                        detail: reason ?? "a repository that git does not track"))
            }
        }
        return risks
    }

    // MARK: The branch

    struct BranchDecision {
        var delete = false
        var tip: String?
        var risks: [Risk] = []
    }

    /// The run's branch stays when it has commits that no other reference reaches, and goes otherwise.
    private func decideBranch(_ run: Run, commonDir: String) async throws -> BranchDecision {
        guard let branch = run.branch, let tip = try await target(of: "refs/heads/\(branch)", in: commonDir) else {
            return BranchDecision()
        }
        let own = try await ownCommits(
            of: tip, in: commonDir, excluding: ["refs/heads/\(branch)"],
            onlyPrefix: run.materializer == .clone ? "refs/remotes/" : nil)
        if own.isEmpty { return BranchDecision(delete: true, tip: tip) }
        guard configuration.deletesUnmergedBranches else { return BranchDecision(tip: tip) }
        let risks = own.map {
            Risk(kind: .branchCommits, path: branch, detail: "\($0.id.prefix(12)) \($0.summary)")
        }
        return BranchDecision(delete: true, tip: tip, risks: risks)
    }

    /// Binds the token to the very state of a file at risk: a later edit makes another plan.
    private func fingerprint(_ path: String, in workdir: String?) -> String {
        guard let workdir, !path.hasPrefix("/") else { return "-" }
        var value = stat()
        guard lstat("\(workdir)/\(path)", &value) == 0 else { return "-" }
        guard value.st_mode & S_IFMT == S_IFDIR else { return Self.line(value) }
        // A nested repository: its files, and its objects and references, but not what a mere `git status` writes.
        let names = FileManager.default.enumerator(atPath: "\(workdir)/\(path)")?.compactMap { $0 as? String } ?? []
        return names.sorted().compactMap { name in
            guard !name.hasSuffix(".git/index"), lstat("\(workdir)/\(path)/\(name)", &value) == 0,
                value.st_mode & S_IFMT != S_IFDIR
            else { return nil }
            return "\(name) \(Self.line(value))"
        }.joined(separator: "\n")
    }

    /// The change time as well: an edit can set the modification time back. A move of the workdir leaves both.
    private static func line(_ value: stat) -> String {
        "\(value.st_ino) \(value.st_size) \(value.st_mode) \(value.st_mtim.tv_sec).\(value.st_mtim.tv_nsec) "
            + "\(value.st_ctim.tv_sec).\(value.st_ctim.tv_nsec)"
    }
}

extension EngineError {
    static func mismatch(_ run: Run, _ mismatch: String) -> EngineError {
        EngineError(
            .identity, .needsHuman,
            "\(mismatch), so it is not taken for the workdir of run \(run.key) and nothing is removed. Look at it, put back "
                + "what was moved (or `git worktree repair` it), then try again.")
    }
}
