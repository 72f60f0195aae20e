import CLibGit2

extension Repository {
    /// Commits that `tip` reaches and no reference does, newest first.
    ///
    /// - Parameters:
    ///   - excluding: full names of references that do not count, for example the branch that is to be deleted.
    ///   - onlyPrefix: when given, only references below it count, for example `refs/remotes/`.
    ///   - limit: how many to list at most.
    /// - Throws: ``GitError``.
    public borrowing func ownCommits(
        of tip: ObjectID, excluding: Set<String> = [], onlyPrefix: String? = nil, limit: Int = 100
    ) throws(GitError) -> [ObjectID] {
        // The common case: the run made no commit and its base still is the tip of a branch, mostly the one that the main
        // worktree has checked out. That is known without a look at every reference.
        if onlyPrefix == nil, let main = checkedOutBranch(), main.id == tip, !excluding.contains(main.name) {
            return []
        }
        return try ownCommits(of: [tip], excluding: excluding, onlyPrefix: onlyPrefix, limit: limit)
    }

    /// Commits that any of `tips` reaches and no reference does, newest first, found by one walk.
    ///
    /// - Parameters: as of the one with a single tip.
    /// - Throws: ``GitError``.
    public borrowing func ownCommits(
        of tips: [ObjectID], excluding: Set<String> = [], onlyPrefix: String? = nil, limit: Int = 100
    ) throws(GitError) -> [ObjectID] {
        let others = try references().filter { reference in
            !excluding.contains(reference.name) && (onlyPrefix.map { reference.name.hasPrefix($0) } ?? true)
                && !Self.passing.contains { reference.name.hasPrefix($0) }
        }
        let reached = Set(others.map(\.id))
        let tips = tips.filter { !reached.contains($0) }
        if tips.isEmpty { return [] }
        var walk: OpaquePointer?
        try check(git_revwalk_new(&walk, pointer), "git_revwalk_new")
        defer { git_revwalk_free(walk) }
        // What is no commit has no history; it is reached only by name.
        var found: [ObjectID] = []
        for tip in tips {
            guard var start = peeledCommit(tip) else {
                found.append(tip)
                continue
            }
            try check(git_revwalk_push(walk, &start), "git_revwalk_push")
        }
        for reference in others {
            guard var commit = peeledCommit(reference.id) else { continue }
            try check(git_revwalk_hide(walk, &commit), "git_revwalk_hide")
        }
        var id = git_oid()
        while found.count < limit {
            let code = git_revwalk_next(&id, walk)
            if code == GIT_ITEROVER.rawValue { break }
            try check(code, "git_revwalk_next")
            found.append(ObjectID(id))
        }
        return found
    }

    /// The branch that HEAD names, with its full name; nil when there is none, it cannot be read, or it is no
    /// more than another name of one.
    private borrowing func checkedOutBranch() -> (name: String, id: ObjectID)? {
        guard case .branch(let short, .some)? = try? head() else { return nil }
        let name = "refs/heads/\(short)"
        var reference: OpaquePointer?
        guard git_reference_lookup(&reference, pointer, name) == 0 else { return nil }
        defer { git_reference_free(reference) }
        guard git_reference_type(reference) == GIT_REFERENCE_DIRECT else { return nil }
        return (name, ObjectID(git_reference_target(reference).pointee))
    }

    /// References that end with an operation or a worktree, so that nothing is safe because of them.
    /// See: man git-worktree (REFS)
    public static let passing = ["refs/bisect/", "refs/worktree/", "refs/rewritten/"]

    /// The first line of a commit's message, for a list of what is at risk.
    public borrowing func summary(ofCommit id: ObjectID) -> String {
        var raw = id.raw
        var commit: OpaquePointer?
        guard git_commit_lookup(&commit, pointer, &raw) == 0 else { return "" }
        defer { git_commit_free(commit) }
        return git_commit_summary(commit).map { String(cString: $0) } ?? ""
    }

    /// The messages of the stash, newest first, each with the commit that it was made on when that is known.
    /// - Throws: ``GitError``.
    public borrowing func stashes() throws(GitError) -> [(message: String, parent: ObjectID?)] {
        guard try target(of: "refs/stash") != nil else { return [] }
        var log: OpaquePointer?
        try check(git_reflog_read(&log, pointer, "refs/stash"), "git_reflog_read")
        defer { git_reflog_free(log) }
        return (0..<git_reflog_entrycount(log)).compactMap { position in
            guard let entry = git_reflog_entry_byindex(log, position),
                let message = git_reflog_entry_message(entry)
            else { return nil }
            var commit: OpaquePointer?
            defer { git_commit_free(commit) }
            let parent =
                git_commit_lookup(&commit, pointer, git_reflog_entry_id_new(entry)) == 0
                ? git_commit_parent_id(commit, 0).map { ObjectID($0.pointee) } : nil
            return (String(cString: message), parent)
        }
    }

    /// Whether the object database has a commit.
    public borrowing func hasCommit(_ id: ObjectID) -> Bool { peeledCommit(id) != nil }

    /// References may name blobs, trees and tags of those; they reach no commit.
    private borrowing func peeledCommit(_ id: ObjectID) -> git_oid? {
        var raw = id.raw
        var object: OpaquePointer?
        guard git_object_lookup(&object, pointer, &raw, GIT_OBJECT_ANY) == 0 else { return nil }
        defer { git_object_free(object) }
        var commit: OpaquePointer?
        guard git_object_peel(&commit, object, GIT_OBJECT_COMMIT) == 0 else { return nil }
        defer { git_object_free(commit) }
        return git_object_id(commit).pointee
    }
}
