import CLinux
import Git
import Glibc
import Registry
import SystemPackage

/// What git knows of a workdir: one value, read by libgit2 or by a git process.
struct WorkingState: Sendable {
    /// The branch that HEAD names, without `refs/heads/`; nil when it is detached.
    var headBranch: String?
    /// The commit of HEAD, in hexadecimal; nil for an unborn branch.
    var headCommit: String?
    var status: [StatusEntry] = []
    /// Files that git is told not to look at and that differ from the index.
    var editedHidden: [[UInt8]] = []
    /// Each with the commit in the index, in hexadecimal.
    var submodules: [(path: [UInt8], commit: String)] = []
    var stashes: [Stash] = []
    /// What stands beside the tracked files, when ``StatProof`` has found those as the index says; nil otherwise.
    /// Nested repositories can then be nowhere else.
    var extras: [StatProof.Extra]?

    struct Stash: Sendable {
        let message: String
        /// The commit that it was made on, in hexadecimal, when it is known.
        let parent: String?
    }
}

/// Where to look: a git directory with the files that belong to it, wherever they have been moved to.
struct WorkingPlace: Sendable {
    let gitDir: String
    let commonDir: String
    /// The files; nil when they are gone, and only the index can be compared.
    let workdir: String?
    /// Whether an agent may have made the git directory, and with it the configuration.
    var isForeign = false
    /// What its index says, when that has been read already; not to be used if it has changed since.
    var tracked: TrackedFiles?
}

extension WorkingState {
    /// Reads through libgit2; nil when something in the configuration or in HEAD's tree asks for git.
    /// - Parameter kept: the handle of the common dir that is kept, if there is one.
    static func native(_ place: WorkingPlace, _ kept: OpenRepository?) throws -> WorkingState? {
        let location = RepositoryLocation(gitDir: place.gitDir, commonDir: place.commonDir, workTree: place.workdir)
        guard try Support.repositoryReasons(location).isEmpty else { return nil }
        if let kept, let state = try untouched(place, kept) { return state }
        let repository = try Repository(gitDirectory: place.gitDir)
        if let workdir = place.workdir { try repository.useWorkdir(workdir) }
        let configuration = try repository.configuration()
        guard Support.configurationReasons(configuration).isEmpty else { return nil }
        var state = WorkingState()
        let head = try repository.head()
        if case .branch(let name, _) = head { state.headBranch = name }
        if let commit = head.commit {
            state.headCommit = commit.description
            let tree = try repository.tree(ofCommit: commit)
            // With the handle that is kept it has been tried.
            if kept == nil, let workdir = place.workdir, let extras = try proveClean(place, workdir, tree) {
                state.extras = extras
                state.status = try repository.untracked(extras.map { ($0.path, $0.isDirectory) })
                state.stashes = try stashes(repository)
                return state
            }
            let flat = try repository.flatten(tree: tree)
            let attributes = try Support.attributes(
                flat, repository, configuration: configuration, commonDir: place.commonDir)
            guard attributes.reasons.isEmpty else { return nil }
        }
        try place.checkFiles()
        state.status = try repository.status(indexOnly: place.workdir == nil)
        let flags = try repository.indexFlags()
        state.submodules = flags.submodules.map { ($0.path, $0.id.description) }
        if !flags.submodules.isEmpty, place.workdir != nil {
            let known = Set(flags.submodules.map(\.path))
            state.status += try repository.status(indexOnly: true).filter { known.contains($0.path) }
        }
        // libgit2's status looks at skip-worktree files as well; they are compared below.
        let hidden = Set(flags.hidden.map(\.path))
        state.status = state.status.compactMap { entry in
            guard entry.isModified, hidden.contains(entry.path) else { return entry }
            return entry.isStaged ? StatusEntry(path: entry.path, isStaged: true, stagedID: entry.stagedID) : nil
        }
        if let workdir = place.workdir {
            state.editedHidden = try flags.hidden.filter { try isEdited($0, repository, workdir) }.map(\.path)
        }
        state.stashes = try stashes(repository)
        return state
    }

    /// The state of a workdir that holds nothing but its tracked files, each as HEAD says, which is the common case. It
    /// needs no handle of its own, since opening one costs more than all that is asked of it.
    /// - Returns: nil when it does not show that.
    private static func untouched(_ place: WorkingPlace, _ kept: OpenRepository) throws -> WorkingState? {
        guard let workdir = place.workdir, let content = contents(of: "\(place.gitDir)/HEAD") else { return nil }
        let line = String(decoding: content, as: UTF8.self)
        guard line.hasSuffix("\n") else { return nil }
        let branch = line.hasPrefix("ref: refs/heads/") ? String(line.dropFirst(16).dropLast()) : nil
        let asked = try kept.with { repository -> (WorkingState, ObjectID)? in
            guard try Support.configurationReasons(repository.configuration()).isEmpty,
                let commit = try branch.map({ try repository.target(of: "refs/heads/\($0)") })
                    ?? ObjectID(String(line.dropLast()))
            else { return nil }
            var state = WorkingState(headBranch: branch, headCommit: commit.description)
            state.stashes = try stashes(repository)
            return (state, try repository.tree(ofCommit: commit))
        }
        guard let (found, tree) = asked, let extras = try proveClean(place, workdir, tree) else { return nil }
        var state = found
        state.extras = extras
        if extras.isEmpty { return state }
        let repository = try Repository(gitDirectory: place.gitDir)
        try repository.useWorkdir(workdir)
        state.status = try repository.untracked(extras.map { ($0.path, $0.isDirectory) })
        return state
    }

    private static func stashes(_ repository: borrowing Repository) throws -> [Stash] {
        try repository.stashes().map { Stash(message: $0.message, parent: $0.parent?.description) }
    }

    /// Whether stat data alone shows that nothing is staged, modified, hidden or in conflict.
    /// - Returns: what stands beside the tracked files; nil when it does not show that, and everything must be looked at.
    private static func proveClean(
        _ place: WorkingPlace, _ workdir: String, _ tree: ObjectID
    ) throws -> [StatProof.Extra]? {
        var tracked = place.tracked
        if tracked?.isCurrent(place.gitDir) != true {
            tracked = TrackedFiles(gitDir: place.gitDir, isForeign: place.isForeign)
        }
        guard let tracked, tracked.index.rootTree == tree,
            case .holds(let extras) = try StatProof.examine(workdir, tracked)
        else { return nil }
        return extras
    }

    private static func isEdited(
        _ entry: Repository.HiddenEntry, _ repository: borrowing Repository, _ workdir: String
    ) throws -> Bool {
        let path = Array(workdir.utf8) + [UInt8(ascii: "/")] + entry.path + [0]
        var value = stat()
        let found = path.withUnsafeBufferPointer { bytes in
            bytes.withMemoryRebound(to: CChar.self) { lstat($0.baseAddress!, &value) == 0 }
        }
        guard found else { return !entry.mayBeAbsent }
        let isLink = value.st_mode & S_IFMT == S_IFLNK
        guard isLink == (entry.mode == 0o120000), isLink || value.st_mode & S_IFMT == S_IFREG else { return true }
        if isLink {
            var target = [UInt8](repeating: 0, count: Int(PATH_MAX))
            let count = path.withUnsafeBufferPointer { name in
                name.withMemoryRebound(to: CChar.self) { name in
                    target.withUnsafeMutableBytes {
                        readlink(name.baseAddress!, $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
                    }
                }
            }
            return count < 0 || ObjectID.ofBlob(Array(target[..<count])) != entry.id
        }
        if (value.st_mode & 0o100 != 0) != (entry.mode & 0o100 != 0) { return true }
        return try repository.hash(file: entry.path) != entry.id
    }

    /// Reads through git, for repositories that libgit2 cannot serve.
    static func process(_ place: WorkingPlace, _ git: GitProcess) async throws -> WorkingState {
        var state = WorkingState()
        let top = ["--git-dir=\(place.gitDir)"] + (place.workdir.map { ["--work-tree=\($0)"] } ?? [])
        let head = try await git.run(in: nil, top + ["symbolic-ref", "--quiet", "HEAD"])
        if head.status == 0 {
            state.headBranch = head.text.hasPrefix("refs/heads/") ? String(head.text.dropFirst(11)) : head.text
        }
        let commit = try await git.run(in: nil, top + ["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])
        if commit.status == 0 { state.headCommit = commit.text }
        if let workdir = place.workdir {
            let status = try await git.require(
                in: workdir,
                top + [
                    "status", "--porcelain=v2", "-z", "--untracked-files=all", "--ignored=matching",
                    "--ignore-submodules=all", "--no-renames",
                ])
            state.status = parseStatus(status.output)
            let files = try await git.require(in: workdir, top + ["ls-files", "-v", "-z"])
            for line in files.output.split(separator: 0) where line.count > 2 {
                guard let tag = line.first, tag == UInt8(ascii: "S") || tag > UInt8(ascii: "Z") else { continue }
                let path = Array(line.dropFirst(2))
                if try await isEdited(path, tag, workdir, top, git) { state.editedHidden.append(path) }
            }
            let staged = try await git.require(in: workdir, top + ["ls-files", "-s", "-z"])
            for line in staged.output.split(separator: 0) where line.starts(with: "160000 ".utf8) {
                // `<mode> <object> <stage>TAB<path>`. See: man git-ls-files (--stage)
                guard let tab = line.firstIndex(of: 9) else { continue }
                let commit = line[..<tab].split(separator: 32).dropFirst().first ?? []
                state.submodules.append((Array(line[(tab + 1)...]), String(decoding: commit, as: UTF8.self)))
            }
            if !state.submodules.isEmpty, state.headCommit != nil {
                let changed = try await git.require(
                    in: workdir,
                    top + ["diff-index", "--cached", "--ignore-submodules=none", "--name-only", "-z", "HEAD"])
                let known = Set(state.submodules.map(\.path))
                state.status += changed.output.split(separator: 0).map(Array.init).filter(known.contains).map {
                    StatusEntry(path: $0, isStaged: true)
                }
            }
        } else if state.headCommit != nil {
            let staged = try await git.require(in: nil, top + ["diff-index", "--cached", "--name-only", "-z", "HEAD"])
            state.status = staged.output.split(separator: 0).map { StatusEntry(path: Array($0), isStaged: true) }
        }
        let stashes = try await git.run(in: nil, top + ["log", "-g", "--format=%gs%x00%P", "refs/stash", "--"])
        if stashes.status == 0 {
            state.stashes = String(decoding: stashes.output, as: UTF8.self).split(separator: "\n").map { line in
                let fields = line.split(separator: "\0", omittingEmptySubsequences: false)
                return Stash(
                    message: String(fields[0]), parent: fields.last?.split(separator: " ").first.map(String.init))
            }
        }
        return state
    }

    private static func isEdited(
        _ path: [UInt8], _ tag: UInt8, _ workdir: String, _ top: [String], _ git: GitProcess
    ) async throws -> Bool {
        let name = String(decoding: path, as: UTF8.self)
        var value = stat()
        let isSkipped = tag == UInt8(ascii: "S") || tag == UInt8(ascii: "s")
        guard lstat((Array("\(workdir)/".utf8) + path + [0]).map { CChar(bitPattern: $0) }, &value) == 0 else {
            return !isSkipped
        }
        // It cannot be named to git.
        guard name.utf8.elementsEqual(path) else { return true }
        // `<mode> <object> <stage>`. See: man git-ls-files (--stage)
        let staged = try await git.require(
            in: workdir, top + ["--literal-pathspecs", "ls-files", "-s", "--", name]
        ).text.split(separator: " ")
        guard staged.count >= 2, let mode = UInt32(staged[0], radix: 8) else { return true }
        let isLink = value.st_mode & S_IFMT == S_IFLNK
        guard isLink == (mode == 0o120000), isLink || value.st_mode & S_IFMT == S_IFREG else { return true }
        if isLink {
            // hash-object follows links.
            let target = try Directory(workdir).link("\(name)")
            let blob = try await git.run(in: workdir, top + ["cat-file", "blob", String(staged[1])])
            return blob.status != 0 || blob.output != target
        }
        if (value.st_mode & 0o100 != 0) != (mode & 0o100 != 0) { return true }
        let actual = try await git.run(in: workdir, top + ["hash-object", "--", name])
        return actual.status != 0 || actual.text != staged[1]
    }

    /// See: man git-status (Porcelain Format Version 2)
    private static func parseStatus(_ output: [UInt8]) -> [StatusEntry] {
        output.split(separator: 0).compactMap { record in
            func path(after spaces: Int) -> [UInt8] {
                Array(record.split(separator: 32, maxSplits: spaces, omittingEmptySubsequences: false).last ?? [])
            }
            let dot = UInt8(ascii: ".")
            switch record.first {
            case UInt8(ascii: "1"):
                let codes = Array(record.dropFirst(2).prefix(2))
                let object = record.split(separator: 32, maxSplits: 8).dropFirst(7).first ?? []
                return StatusEntry(
                    path: path(after: 8), isStaged: codes[0] != dot, isModified: codes[1] != dot,
                    stagedID: codes[0] != dot ? String(decoding: object, as: UTF8.self) : nil)
            case UInt8(ascii: "u"): return StatusEntry(path: path(after: 10), isConflicted: true)
            case UInt8(ascii: "?"): return StatusEntry(path: path(after: 1), isUntracked: true)
            case UInt8(ascii: "!"): return StatusEntry(path: path(after: 1), isIgnored: true)
            default: return nil
            }
        }
    }
}
