import CLibGit2
import Glibc

/// One path of `git status`.
public struct StatusEntry: Hashable, Sendable {
    /// The path, as bytes; a directory ends in `/`.
    public let path: [UInt8]
    /// The index differs from HEAD.
    public let isStaged: Bool
    /// The file differs from the index.
    public let isModified: Bool
    /// In neither, and not ignored.
    public let isUntracked: Bool
    /// Excluded by an ignore rule.
    public let isIgnored: Bool
    /// An unresolved merge.
    public let isConflicted: Bool
    /// The object in the index of a staged path, in hexadecimal; nil otherwise.
    public let stagedID: String?

    /// An entry read from another source, such as `git status --porcelain=v2`.
    public init(
        path: [UInt8], isStaged: Bool = false, isModified: Bool = false, isUntracked: Bool = false,
        isIgnored: Bool = false, isConflicted: Bool = false, stagedID: String? = nil
    ) {
        self.path = path
        self.isStaged = isStaged
        self.isModified = isModified
        self.isUntracked = isUntracked
        self.isIgnored = isIgnored
        self.isConflicted = isConflicted
        self.stagedID = stagedID
    }
}

extension Repository {
    /// Everything that `git status --untracked-files=all --ignored` would list. Writes nothing.
    ///
    /// What is ignored follows git's rules, not libgit2's: see ``IgnoreRules``.
    /// Submodules are left out, and an empty nested repository is not seen: look for those apart.
    /// - Parameter indexOnly: compare the index with HEAD and look at no file, for a workdir that is gone.
    /// - Throws: ``GitError``.
    public borrowing func status(indexOnly: Bool = false) throws(GitError) -> [StatusEntry] {
        var options = git_status_options()
        try check(
            git_status_options_init(&options, UInt32(GIT_STATUS_OPTIONS_VERSION)), "git_status_options_init")
        options.show = indexOnly ? GIT_STATUS_SHOW_INDEX_ONLY : GIT_STATUS_SHOW_INDEX_AND_WORKDIR
        options.flags = GIT_STATUS_OPT_INCLUDE_UNREADABLE.rawValue
        // Between HEAD and the index a submodule is a commit like any other entry; its files are looked at apart.
        if !indexOnly { options.flags |= GIT_STATUS_OPT_EXCLUDE_SUBMODULES.rawValue }
        var list: OpaquePointer?
        try check(git_status_list_new(&list, pointer, &options), "git_status_list_new")
        defer { git_status_list_free(list) }
        let entries = (0..<git_status_list_entrycount(list)).compactMap { position in
            git_status_byindex(list, position).flatMap { StatusEntry($0.pointee) }
        }
        return indexOnly ? entries : try entries + untracked()
    }
}

extension StatusEntry {
    fileprivate init?(_ raw: git_status_entry) {
        let bits = raw.status.rawValue
        let delta = raw.index_to_workdir ?? raw.head_to_index
        guard bits != GIT_STATUS_CURRENT.rawValue, let file = delta?.pointee,
            let path = file.new_file.path ?? file.old_file.path
        else { return nil }
        let staged =
            GIT_STATUS_INDEX_NEW.rawValue | GIT_STATUS_INDEX_MODIFIED.rawValue | GIT_STATUS_INDEX_DELETED.rawValue
            | GIT_STATUS_INDEX_RENAMED.rawValue | GIT_STATUS_INDEX_TYPECHANGE.rawValue
        let modified =
            GIT_STATUS_WT_MODIFIED.rawValue | GIT_STATUS_WT_DELETED.rawValue | GIT_STATUS_WT_TYPECHANGE.rawValue
            | GIT_STATUS_WT_RENAMED.rawValue | GIT_STATUS_WT_UNREADABLE.rawValue
        self.init(
            path: Array(UnsafeRawBufferPointer(start: path, count: strlen(path))), isStaged: bits & staged != 0,
            isModified: bits & modified != 0, isUntracked: bits & GIT_STATUS_WT_NEW.rawValue != 0,
            isIgnored: bits & GIT_STATUS_IGNORED.rawValue != 0,
            isConflicted: bits & GIT_STATUS_CONFLICTED.rawValue != 0,
            stagedID: raw.head_to_index.map { ObjectID($0.pointee.new_file.id).description })
    }
}
