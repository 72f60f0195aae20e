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
            try await self.plan(run, workdir: self.presentWorkdir(of: run))
        }
    }

    /// The plan for a workdir that stands at `workdir`: its path, or its place in the trash; nil when it is gone.
    /// - Parameters:
    ///   - isBound: whether the token is to be bound to the content of the work at risk, all of which is read.
    ///   - tracked: what the index says, when that has been read already.
    func plan(
        _ run: Run, workdir: String?, isBound: Bool = true, tracked: TrackedFiles? = nil
    ) async throws -> CleanupPlan {
        var lines = ["run \(run.key)", "path \(run.path)", "workdir \(workdir == nil ? "missing" : "present")"]
        var risks: [Risk] = []
        var ignored: [[UInt8]] = []
        let gitDir = run.materializer == .clone ? workdir.map { "\($0)/.git" } : AdminEntry.path(run)
        let commonDir = run.materializer == .clone ? gitDir : run.commonDir
        var branch = BranchDecision()
        // Before the files, so that nobody writes unseen what has been compared already: in the trash, where a removal
        // comes here again, nobody gets in by the old path, so whoever can still write is inside by now. And before
        // anything is open there that is our own.
        async let reading = tracked == nil ? trackedFiles(of: run, workdir: workdir) : tracked
        let processes = try await look(into: workdir, of: run)
        let isOrphan = self.isOrphan(run)
        if let gitDir, let commonDir, !isOrphan, workdir != nil || AdminEntry.entryMismatch(run) == nil {
            let place = WorkingPlace(
                gitDir: gitDir, commonDir: commonDir, workdir: workdir, isForeign: run.materializer == .clone,
                tracked: await reading)
            do {
                let state = try await workingState(place)
                lines.append("head \(state.headBranch ?? "detached") \(state.headCommit ?? "unborn")")
                lines += state.status.compactMap(\.stagedID).map { "staged \($0)" }
                (risks, ignored) = fileRisks(state)
                if let operation = Operation.inProgress(gitDir) {
                    risks.append(Risk(kind: .operation, path: operation, detail: "\(operation) in progress"))
                }
                let left = try Self.leftHeads(gitDir)
                risks += stashRisks(run, state, left.all)
                risks += try await commitRisks(run, state, left.commits, gitDir: gitDir, commonDir: commonDir)
                risks += try await nestedRisks(run, state, workdir: workdir, gitDir: gitDir)
                branch = try await decideBranch(run, commonDir: commonDir)
                risks += branch.risks
            } catch let error as CannotLook {
                risks = [
                    Risk(
                        kind: .untracked, path: ".",
                        detail: "\(atHome(error.reason, run, workdir)), so that git cannot look and everything counts")
                ]
                // The references of a clone cannot be read either, and go with it.
                if run.materializer != .clone { branch = try await decideBranch(run, commonDir: commonDir) }
                risks += branch.risks
            }
        } else if isOrphan {
            // Nothing can be compared any more, so everything in the workdir counts.
            if workdir != nil {
                risks.append(
                    Risk(
                        kind: .untracked, path: ".",
                        detail:
                            "the repository \(run.commonDir) is gone, so that nothing here can be compared with it; put it back if it was moved"
                    )
                )
            }
        } else if run.materializer != .clone {
            // Somebody removed workdir and admin entry; the branch is all that is left.
            branch = try await decideBranch(run, commonDir: run.commonDir)
            risks += branch.risks
        }
        lines += risks.map { risk in
            "risk \(risk.kind.rawValue) \(Fingerprint.text(of: risk.rawPath)) \(risk.detail) "
                + (isBound ? Fingerprint.of(risk.rawPath, in: workdir) : "")
        }
        lines += ignored.map { "ignored \(Fingerprint.text(of: $0))" }
        lines.append("branch \(branch.delete ? "delete" : "keep") \(branch.tip ?? "none")")
        return CleanupPlan(
            run: run, token: ObjectID.ofBlob(Array(lines.joined(separator: "\n").utf8)).description, risks: risks,
            ignored: ignored.map { String(decoding: $0, as: UTF8.self) }, processes: processes,
            branchToDelete: branch.delete ? run.branch : nil,
            isMissing: workdir == nil, branchTip: branch.tip)
    }

    /// What the index of a run says; nil when there is nothing to compare, or only the full inspection can decide.
    func trackedFiles(of run: Run, workdir: String?) async -> TrackedFiles? {
        guard workdir != nil, run.materializer != .clone else { return nil }
        // An error is not possible.
        return try? await blocking { TrackedFiles(gitDir: AdminEntry.path(run), isForeign: false) }
    }

    // MARK: What would be lost

    private func fileRisks(_ state: WorkingState) -> ([Risk], ignored: [[UInt8]]) {
        var risks: [Risk] = []
        var ignored: [[UInt8]] = []
        func add(_ kind: Risk.Kind, _ path: [UInt8], _ detail: String) {
            risks.append(
                Risk(kind: kind, path: String(decoding: path, as: UTF8.self), detail: detail, rawPath: path))
        }
        for entry in state.status.sorted(by: { $0.path.lexicographicallyPrecedes($1.path) }) {
            if entry.isConflicted { add(.conflicted, entry.path, "unresolved merge") }
            if entry.isStaged { add(.staged, entry.path, "staged, not committed") }
            if entry.isModified { add(.modified, entry.path, "differs from the index") }
            if entry.isUntracked { add(.untracked, entry.path, "not tracked by git") }
            if entry.isIgnored, configuration.keepsIgnoredFiles {
                add(.ignored, entry.path, "ignored, and the configuration keeps those")
            } else if entry.isIgnored {
                ignored.append(entry.path)
            }
        }
        for path in state.editedHidden { add(.hidden, path, "edited, and hidden by assume-unchanged or skip-worktree") }
        return (risks, ignored)
    }

    /// - Parameter left: the commits at which a detached HEAD was left.
    private func stashRisks(_ run: Run, _ state: WorkingState, _ left: Set<String>) -> [Risk] {
        state.stashes.compactMap { stash in
            // git writes "WIP on <branch>: ..." or "On <branch>: ...". See: git `builtin/stash.c`
            let onBranch = run.branch.map { name in
                stash.message.hasPrefix("WIP on \(name):") || stash.message.hasPrefix("On \(name):")
            }
            // Runs that stand on the commit by a branch have nothing to do with it.
            let heads = state.headBranch == nil ? left.union([state.headCommit].compactMap(\.self)) : left
            let onDetached = stash.message.contains("n (no branch):") && stash.parent.map(heads.contains) == true
            let isClone = run.materializer == .clone
            guard isClone || onBranch == true || onDetached else { return nil }
            let fate = isClone ? "goes with the clone" : "stays in the repository; git stash drop ends this"
            return Risk(kind: .stash, path: "refs/stash", detail: "\(stash.message) (\(fate))")
        }
    }

    private func commitRisks(
        _ run: Run, _ state: WorkingState, _ left: [String], gitDir: String, commonDir: String
    ) async throws -> [Risk] {
        var risks: [Risk] = []
        var seen: Set<String> = []
        func add(_ commits: [OwnCommit], _ name: String) {
            for commit in commits where seen.insert(commit.id).inserted {
                risks.append(
                    Risk(kind: .detachedCommits, path: name, detail: "\(commit.id.prefix(12)) \(commit.summary)"))
            }
        }
        func add(_ tip: String, _ name: String, onlyPrefix: String? = nil) async throws {
            add(try await ownCommits(of: tip, in: commonDir, onlyPrefix: onlyPrefix), name)
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
        } else {
            if state.headBranch == nil, let head = state.headCommit { try await add(head, "HEAD") }
            for reference in perWorktreeReferences(gitDir) { try await add(reference.id, reference.name) }
        }
        add(try await ownCommits(ofAny: left, in: commonDir), "logs/HEAD")
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
            var reason = try await workAtRisk(in: repository).map { atHome($0, run, workdir) }
            if reason == nil, let staged, let gitDir = repository.gitDir,
                let head = try await target(of: "HEAD", in: gitDir), head != staged
            {
                reason = "at commit \(head.prefix(12)), but \(staged.prefix(12)) is staged"
            }
            if isSubmodule, let reason {
                risks.append(
                    Risk(
                        kind: .submodule, path: repository.path, detail: reason, rawPath: repository.rawPath))
            } else if !isSubmodule, reason != nil || !isIgnored {
                // git itself lists it as untracked, whatever is in it.
                risks.append(
                    Risk(
                        kind: .nestedRepository, path: repository.path,
                        detail: reason ?? "a repository that git does not track", rawPath: repository.rawPath))
            }
        }
        return risks
    }

    /// What git says names paths. The token is to be the same in the trash, so they are given as they were.
    private func atHome(_ text: String, _ run: Run, _ workdir: String?) -> String {
        workdir.map { text.replacing($0, with: run.path) } ?? text
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
        // The branch of a clone is handed to the source repository, if that takes it.
        let isLost = run.materializer == .clone && access(run.commonDir, W_OK) != 0
        guard configuration.deletesUnmergedBranches || isLost else { return BranchDecision(tip: tip) }
        let reason = isLost ? ", and \(run.repo) cannot be written to take it" : ""
        let risks = own.map {
            Risk(kind: .branchCommits, path: branch, detail: "\($0.id.prefix(12)) \($0.summary)\(reason)")
        }
        return BranchDecision(delete: true, tip: tip, risks: risks)
    }
}

extension EngineError {
    static func mismatch(_ run: Run, _ mismatch: String) -> EngineError {
        EngineError(
            .identity, .needsHuman,
            "\(mismatch), so it is not taken for the workdir of run \(run.key) and nothing is removed. Look at it, put back "
                + "what was moved (or `git -C \(shellQuoted(run.repo)) worktree repair`, without a path), then try again. Is it "
                + "a copy, or something else: move it away, then `wtengine cleanup \(run.key)` removes what is left of the run."
        )
    }
}
