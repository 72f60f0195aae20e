import CLibGit2

/// A failure of libgit2: which function, its code and class, and libgit2's own words.
public struct GitError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The return code, for example `GIT_ENOTFOUND` (-3).
    public let code: Int32
    /// The class of `git_error_last`, for example `GIT_ERROR_REFERENCE`.
    public let category: Int32
    /// libgit2's message, or a substitute when it left none.
    public let message: String
    /// The C function that failed.
    public let function: String

    /// One line for a log.
    public var description: String { "\(function): \(message) (libgit2 code \(code), class \(category))" }

    /// The thing asked for does not exist.
    public var isNotFound: Bool { code == GIT_ENOTFOUND.rawValue }
    /// The thing exists already.
    public var exists: Bool { code == GIT_EEXISTS.rawValue }
    /// Another process holds a `.lock` file.
    public var isLocked: Bool { code == GIT_ELOCKED.rawValue }
    /// What has to be listed in `safe.directory` before a repository of another user is opened; nil for other failures.
    public let safeDirectory: String?

    init(code: Int32, category: Int32 = 0, message: String, function: String, safeDirectory: String? = nil) {
        self.code = code
        self.category = category
        self.message = message
        self.function = function
        self.safeDirectory = safeDirectory
    }

    /// The failure of opening a git directory, in words of our own when its owner is not trusted.
    func ofOpening(_ gitDirectory: String) -> GitError {
        // libgit2 1.5 asks for the list and, where there is none, returns that instead of GIT_EOWNER.
        let hasNoList =
            isNotFound && category == Int32(GIT_ERROR_CONFIG.rawValue) && message.contains("'safe.directory'")
        guard hasNoList || code == GIT_EOWNER.rawValue else { return self }
        // The list has the tops of worktrees, and the directories of bare repositories. See: man git-config
        let top = gitDirectory.hasSuffix("/.git") ? String(gitDirectory.dropLast("/.git".count)) : gitDirectory
        return GitError(
            code: GIT_EOWNER.rawValue, category: category,
            message: "\(top) belongs to another user and is not listed in safe.directory", function: function,
            safeDirectory: top)
    }
}

/// The one place where a negative return becomes an error. `git_error_last` is thread-local, so it is read here, in
/// the same synchronous call. It may be NULL even after a failure. See: libgit2 `src/libgit2/errors.c`
@discardableResult
func check(_ code: Int32, _ function: String) throws(GitError) -> Int32 {
    guard code < 0 else { return code }
    guard let last = git_error_last() else {
        throw GitError(code: code, message: "no message", function: function)
    }
    throw GitError(
        code: code, category: last.pointee.klass, message: String(cString: last.pointee.message), function: function)
}

/// Process-wide state of libgit2.
public enum Libgit2 {
    /// Initialises libgit2 once. It costs some milliseconds (it loads a CA bundle), so nothing that only reads the
    /// registry may come here.
    static let start: Void = {
        git_libgit2_init()
        // git itself does not hash what it reads at a checkout; it halves the speed of reading blobs.
        _ = wt_git_opts_set_bool(Int32(GIT_OPT_ENABLE_STRICT_HASH_VERIFICATION.rawValue), 0)
        // Every worker of a checkout maps the packs for itself, and each mapping counts as memory of this process; a
        // bounded window keeps the peak below git's own.
        _ = wt_git_opts_set_size(Int32(GIT_OPT_SET_MWINDOW_SIZE.rawValue), 1 << 20)
        _ = wt_git_opts_set_size(Int32(GIT_OPT_SET_MWINDOW_MAPPED_LIMIT.rawValue), 8 << 20)
        // A tree is read once per operation, so a cache of trees only costs memory.
        _ = wt_git_opts_set_cache_limit(GIT_OBJECT_TREE, 0)
        _ = wt_git_opts_set_bool(Int32(GIT_OPT_ENABLE_FSYNC_GITDIR.rawValue), 1)
    }()

    /// The version of the library that is loaded, for example `1.5.1`.
    public static var version: String {
        var major: Int32 = 0
        var minor: Int32 = 0
        var revision: Int32 = 0
        git_libgit2_version(&major, &minor, &revision)
        return "\(major).\(minor).\(revision)"
    }
}
