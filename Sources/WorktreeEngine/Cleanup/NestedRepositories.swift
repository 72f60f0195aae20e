import Git
import Glibc
import Logging
import Registry

/// A repository inside a workdir: a populated submodule, or one that an agent made or cloned there.
struct NestedRepository: Hashable, Sendable {
    /// Below the workdir; for a submodule without files, its git directory.
    let path: String
    /// Its git directory; nil when its `.git` leads nowhere or its name is not UTF-8.
    let gitDir: String?
    /// Its files; nil for a bare repository and a submodule without files.
    let workTree: String?
    /// The path as it is on disk, which need not be UTF-8; nil for a submodule without files.
    var rawPath: [UInt8]?
}

enum NestedRepositories {
    /// Every repository inside a workdir, ignored directories included, and every submodule's git directory.
    ///
    /// - Parameters:
    ///   - workdir: where the files are now.
    ///   - home: where they belong: relative links in `.git` files count from there.
    ///   - modules: `<git dir>/modules`, which a removal destroys.
    ///   - extras: what stands beside the tracked files, when that is known: only there a repository can be.
    static func find(
        workdir: String, home: String, modules: String, extras: [StatProof.Extra]? = nil
    ) throws -> [NestedRepository] {
        var found: [NestedRepository] = []
        // Bytes: a name need not be UTF-8.
        var pending: [[CChar]] =
            extras?.filter(\.isDirectory).map { $0.path.map { CChar(bitPattern: $0) } + [0] } ?? [[0]]
        let top = try Directory(workdir)
        while let bytes = pending.popLast() {
            let relative = text(bytes)
            // Directories that vanish or may not be read hold nothing that git could have seen either.
            guard let directory = relative.isEmpty ? try Directory(workdir) : try? top.openBeneath(raw: bytes) else {
                continue
            }
            let entries = try directory.rawEntries()
            let names = Set(entries.map { text($0.name) })
            let raw = bytes.dropLast().map { UInt8(bitPattern: $0) }
            // The replaced text may name another directory.
            let isText = relative.utf8.elementsEqual(raw)
            if !relative.isEmpty {
                if names.contains(".git") {
                    found.append(
                        NestedRepository(
                            path: relative,
                            gitDir: isText ? gitDir(of: relative, workdir: workdir, home: home) : nil,
                            workTree: "\(workdir)/\(relative)", rawPath: raw))
                } else if names.isSuperset(of: ["HEAD", "objects", "refs"]) {
                    found.append(
                        NestedRepository(
                            path: relative, gitDir: isText ? "\(workdir)/\(relative)" : nil, workTree: nil, rawPath: raw
                        ))
                    continue
                }
            }
            for entry in entries
            where [UInt8(DT_DIR), UInt8(DT_UNKNOWN)].contains(entry.type) && text(entry.name) != ".git" {
                pending.append(relative.isEmpty ? entry.name : bytes.dropLast() + [CChar(47)] + entry.name)
            }
        }
        let known = Set(found.compactMap(\.gitDir))
        for gitDir in moduleDirectories(modules) where !known.contains(gitDir) {
            found.append(NestedRepository(path: gitDir, gitDir: gitDir, workTree: nil))
        }
        return found
    }

    /// Git directories below `modules/`; a submodule's name may have slashes.
    static func moduleDirectories(_ modules: String) -> [String] {
        var found: [String] = []
        var pending = [modules]
        while let path = pending.popLast() {
            guard let entries = try? Directory(path).entries() else { continue }
            let names = Set(entries.map(\.name))
            if names.isSuperset(of: ["HEAD", "objects", "refs"]) {
                found.append(path)
                pending.append("\(path)/modules")
            } else {
                for entry in entries where entry.type == UInt8(DT_DIR) { pending.append("\(path)/\(entry.name)") }
            }
        }
        return found
    }

    private static func gitDir(of relative: String, workdir: String, home: String) -> String? {
        let dotGit = "\(workdir)/\(relative)/.git"
        if let target = RepositoryLocation.gitFileTarget(dotGit), !target.hasPrefix("/") {
            return realPath(normalized("\(home)/\(relative)/\(target)"))
        }
        return RepositoryLocation.gitDirectory(atDotGit: dotGit)
    }

    /// `..` resolved in the text: the directories that it leads through may have been moved away.
    private static func normalized(_ path: String) -> String {
        var components: [Substring] = []
        for component in path.split(separator: "/") where component != "." {
            if component == ".." { _ = components.popLast() } else { components.append(component) }
        }
        return "/" + components.joined(separator: "/")
    }
}

extension Engine {
    /// Why a nested repository is work at risk; nil when all of it is reached by references of its remotes.
    func workAtRisk(in nested: NestedRepository) async throws -> String? {
        guard let gitDir = nested.gitDir else { return "its .git leads nowhere, or its name is not UTF-8" }
        do {
            let commonDir = try RepositoryLocation.find(gitDir).commonDir
            let place = WorkingPlace(gitDir: gitDir, commonDir: commonDir, workdir: nested.workTree, isForeign: true)
            // Its entry would be left behind, and it may hold detached commits.
            if commonDir != gitDir { return "a linked worktree of \(commonDir)" }
            try await blocking { try place.checkGitDirectory() }
            // Every reference of a bare mirror is a copy of one of its remote, such as package managers keep.
            if nested.workTree == nil, try isMirror(commonDir) { return nil }
            if let operation = Operation.inProgress(gitDir) { return "\(operation) in progress" }
            if nested.workTree != nil {
                let state = try await workingState(place)
                if let entry = state.status.first(where: { !$0.isIgnored }) {
                    return "uncommitted: \(String(decoding: entry.path, as: UTF8.self))"
                }
                if !state.editedHidden.isEmpty { return "edits hidden from git" }
                if !state.stashes.isEmpty { return "stash entries" }
                guard let head = state.headCommit else { return "no commit yet" }
                if try await !ownCommits(of: head, in: commonDir, onlyPrefix: "refs/remotes/").isEmpty {
                    return "commits that no remote-tracking branch reaches"
                }
            }
            if try await !ownCommits(ofAny: Self.leftHeads(gitDir).commits, in: commonDir).isEmpty {
                return "commits of a detached HEAD that was left"
            }
            for reference in try await references(in: commonDir) where !reference.name.hasPrefix("refs/remotes/") {
                if reference.name == "refs/stash" { return "stash entries" }
                if try await !ownCommits(of: reference.id, in: commonDir, onlyPrefix: "refs/remotes/").isEmpty {
                    return "\(reference.name) has commits that no remote-tracking branch reaches"
                }
            }
            return nil
        } catch let error as CannotLook {
            return error.reason
        } catch {
            return "it cannot be read: \(EngineError.wrap(error, "reading it").message)"
        }
    }

    private func isMirror(_ gitDir: String) throws -> Bool {
        let entries = try ConfigFile.entries("\(gitDir)/config")
        return entries.contains { $0.name == "core.bare" && $0.isTrue }
            && entries.contains { $0.name.hasPrefix("remote.") && $0.name.hasSuffix(".mirror") && $0.isTrue }
    }

    /// What git knows of a place, through libgit2 where that can.
    func workingState(_ place: WorkingPlace) async throws -> WorkingState {
        do {
            try await blocking { try place.checkGitDirectory() }
            let kept = place.gitDir == place.commonDir ? nil : knownActor(for: place.commonDir)?.history
            if let state = try await blocking({ try WorkingState.native(place, kept) }) { return state }
        } catch let error as GitError {
            // An agent may have changed what libgit2 cannot read, such as the form of the index. git knows better, or says
            // what is wrong.
            logger.info(
                "libgit2 cannot read it, asking git", metadata: ["gitDir": "\(place.gitDir)", "error": "\(error)"])
        }
        try await blocking { try place.checkFiles() }
        return try await WorkingState.process(place, place.isForeign ? git.confined(to: place.gitDir) : git)
    }
}

/// An operation of git that a person or agent has begun and not ended.
enum Operation {
    /// See: git `wt-status.c` (`wt_status_get_state`)
    static func inProgress(_ gitDir: String) -> String? {
        guard let directory = try? Directory(gitDir), let entries = try? directory.entries() else { return nil }
        let names = Set(entries.map(\.name))
        let signs = [
            ("rebase-merge", "rebase"), ("rebase-apply", "rebase or am"), ("MERGE_HEAD", "merge"),
            ("CHERRY_PICK_HEAD", "cherry-pick"), ("REVERT_HEAD", "revert"), ("sequencer", "cherry-pick or revert"),
            ("BISECT_LOG", "bisect"),
        ]
        return signs.first { names.contains($0.0) }?.1
    }
}
