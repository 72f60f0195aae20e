import CLibGit2

/// One libgit2 repository handle and its object database.
///
/// Not copyable and used by one thread at a time: libgit2 asks for "an object from a single thread at a time"
/// (libgit2 `docs/threading.md`). Child handles never leave this module; values do.
public struct Repository: ~Copyable {
    let pointer: OpaquePointer
    let odb: OpaquePointer

    /// Opens a git directory: a common dir, or the admin entry of a linked worktree.
    ///
    /// Like every use of libgit2 here it ignores `GIT_DIR` and friends in the environment.
    /// - Throws: ``GitError``; ``GitError/safeDirectory`` is set when the owner is not trusted.
    public init(gitDirectory path: String) throws(GitError) {
        Libgit2.start
        var pointer: OpaquePointer?
        var opened = git_repository_open(&pointer, path)
        if opened == GIT_ENOTFOUND.rawValue {
            // `core.worktree` of a submodule leads nowhere while its files are in the trash; see ``useWorkdir(_:)``.
            let flags = GIT_REPOSITORY_OPEN_NO_SEARCH.rawValue | GIT_REPOSITORY_OPEN_BARE.rawValue
            opened = git_repository_open_ext(&pointer, path, flags, nil)
        }
        do throws(GitError) { try check(opened, "git_repository_open") } catch { throw error.ofOpening(path) }
        var odb: OpaquePointer?
        let code = git_repository_odb(&odb, pointer)
        guard code == 0, let handle = pointer, let database = odb else {
            defer { git_repository_free(pointer) }
            try check(code, "git_repository_odb")
            throw GitError(code: -1, message: "no handle", function: "git_repository_odb")
        }
        self.pointer = handle
        self.odb = database
    }

    deinit {
        git_odb_free(odb)
        git_repository_free(pointer)
    }

    /// Says where the files are, in memory only; `git_repository_open` would derive it from the admin entry.
    /// - Throws: ``GitError``.
    public borrowing func useWorkdir(_ path: String) throws(GitError) {
        try check(git_repository_set_workdir(pointer, path, 0), "git_repository_set_workdir")
    }

    /// Replaces the index of this handle by an empty one in memory, so that attributes come from the workdir's files
    /// alone and never from another worktree's index.
    /// - Throws: ``GitError``.
    public borrowing func useEmptyIndex() throws(GitError) {
        var index: OpaquePointer?
        try check(git_index_new(&index), "git_index_new")
        defer { git_index_free(index) }
        try check(git_repository_set_index(pointer, index), "git_repository_set_index")
    }

    /// The commit that a revision names, tags peeled. See: man gitrevisions.
    /// - Throws: ``GitError``; not found for an unknown revision, or one that is no commit.
    public borrowing func commit(_ revision: String) throws(GitError) -> ObjectID {
        var object: OpaquePointer?
        try check(git_revparse_single(&object, pointer, revision), "git_revparse_single")
        defer { git_object_free(object) }
        var commit: OpaquePointer?
        try check(git_object_peel(&commit, object, GIT_OBJECT_COMMIT), "git_object_peel")
        defer { git_object_free(commit) }
        return ObjectID(git_object_id(commit).pointee)
    }

    /// The tree of a commit.
    /// - Throws: ``GitError``.
    public borrowing func tree(ofCommit id: ObjectID) throws(GitError) -> ObjectID {
        var raw = id.raw
        var commit: OpaquePointer?
        try check(git_commit_lookup(&commit, pointer, &raw), "git_commit_lookup")
        defer { git_commit_free(commit) }
        return ObjectID(git_commit_tree_id(commit).pointee)
    }

    /// Whether the object is in the database.
    public borrowing func contains(_ id: ObjectID) -> Bool {
        var raw = id.raw
        return git_odb_exists(odb, &raw) == 1
    }

    /// Gives the bytes of an object to `body`; they are valid during the call only.
    /// - Throws: ``GitError`` of the read, or what `body` throws.
    public borrowing func withObject<T>(
        _ id: ObjectID, _ body: (UnsafeRawBufferPointer) throws -> T
    ) throws -> T {
        try read(id, as: nil, body)
    }

    /// Gives the bytes of a blob to `body`; see ``withObject(_:_:)``.
    /// - Throws: ``GitError``, also for an object of another type, since a tree may name anything as a file; or what
    ///   `body` throws.
    public borrowing func withBlob<T>(
        _ id: ObjectID, _ body: (UnsafeRawBufferPointer) throws -> T
    ) throws -> T {
        try read(id, as: GIT_OBJECT_BLOB, body)
    }

    borrowing func read<T>(
        _ id: ObjectID, as type: git_object_t?, _ body: (UnsafeRawBufferPointer) throws -> T
    ) throws -> T {
        var raw = id.raw
        var object: OpaquePointer?
        try check(git_odb_read(&object, odb, &raw), "git_odb_read")
        defer { git_odb_object_free(object) }
        if let type, git_odb_object_type(object) != type {
            throw GitError(
                code: GIT_ERROR.rawValue, category: Int32(GIT_ERROR_ODB.rawValue),
                message: "object \(id) has another type",
                function: "git_odb_object_type")
        }
        return try body(UnsafeRawBufferPointer(start: git_odb_object_data(object), count: git_odb_object_size(object)))
    }

    /// Gives the bytes that git would write for a blob at `path` to `body`: line endings and `ident` applied as the
    /// attributes in the workdir say.
    /// - Throws: ``GitError`` of the read or of a filter, or what `body` throws.
    public borrowing func withFilteredBlob<T>(
        _ id: ObjectID, path: [CChar], _ body: (UnsafeRawBufferPointer) throws -> T
    ) throws -> T {
        var raw = id.raw
        var blob: OpaquePointer?
        try check(git_blob_lookup(&blob, pointer, &raw), "git_blob_lookup")
        defer { git_blob_free(blob) }
        var filters: OpaquePointer?
        try check(
            git_filter_list_load(
                &filters, pointer, blob, path, GIT_FILTER_TO_WORKTREE, GIT_FILTER_DEFAULT.rawValue),
            "git_filter_list_load")
        guard filters != nil else {
            return try body(
                UnsafeRawBufferPointer(start: git_blob_rawcontent(blob), count: Int(git_blob_rawsize(blob))))
        }
        defer { git_filter_list_free(filters) }
        var out = git_buf()
        try check(git_filter_list_apply_to_blob(&out, filters, blob), "git_filter_list_apply_to_blob")
        defer { git_buf_dispose(&out) }
        return try body(UnsafeRawBufferPointer(start: out.ptr, count: out.size))
    }
}
