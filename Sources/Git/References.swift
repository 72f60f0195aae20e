import CLibGit2
import Glibc

/// What a HEAD names.
public enum Head: Hashable, Sendable {
    /// `refs/heads/...` without its prefix, and its commit; a nil commit is an unborn branch.
    case branch(String, ObjectID?)
    /// A commit, by no branch.
    case detached(ObjectID)

    /// The commit; nil for an unborn branch.
    public var commit: ObjectID? {
        switch self {
        case .branch(_, let id): id
        case .detached(let id): id
        }
    }
}

extension Repository {
    /// The HEAD of this git directory.
    /// - Throws: ``GitError``.
    public borrowing func head() throws(GitError) -> Head {
        var reference: OpaquePointer?
        try check(git_reference_lookup(&reference, pointer, "HEAD"), "git_reference_lookup")
        defer { git_reference_free(reference) }
        guard git_reference_type(reference) == GIT_REFERENCE_SYMBOLIC else {
            return .detached(ObjectID(git_reference_target(reference).pointee))
        }
        let name = String(cString: git_reference_symbolic_target(reference))
        let branch = name.hasPrefix("refs/heads/") ? String(name.dropFirst("refs/heads/".count)) : name
        return .branch(branch, try target(of: name))
    }

    /// The object that a reference names, symbolic references followed; nil when there is none.
    /// - Throws: ``GitError``.
    public borrowing func target(of name: String) throws(GitError) -> ObjectID? {
        var id = git_oid()
        let code = git_reference_name_to_id(&id, pointer, name)
        if code == GIT_ENOTFOUND.rawValue { return nil }
        try check(code, "git_reference_name_to_id")
        return ObjectID(id)
    }

    /// Whether git accepts the full name. See: man git-check-ref-format.
    public static func isValidReference(_ name: String) -> Bool {
        Libgit2.start
        var valid: Int32 = 0
        // libgit2 lets DEL pass, git does not.
        return git_reference_name_is_valid(&valid, name) == 0 && valid == 1 && !name.utf8.contains(0x7F)
    }

    /// Creates a reference that must not exist yet, with a reflog entry as git writes it.
    /// - Throws: ``GitError``; ``GitError/exists`` when it exists or a name above or below it is in the way.
    public borrowing func createReference(_ name: String, at id: ObjectID, message: String) throws(GitError) {
        var raw = id.raw
        var zero = git_oid()
        do {
            // A zero "current" value is libgit2's compare-and-swap from nothing. See: libgit2 `refs.h`
            try retryingLock { () throws(GitError) in
                var reference: OpaquePointer?
                defer { git_reference_free(reference) }
                try check(
                    git_reference_create_matching(&reference, pointer, name, &raw, 0, &zero, message),
                    "git_reference_create_matching")
            }
        } catch {
            // libgit2 has a code of its own for each way in which a directory and a file collide.
            guard !error.exists, try isBlocked(name) else { throw error }
            throw GitError(
                code: GIT_EEXISTS.rawValue, category: error.category, message: error.message, function: error.function)
        }
    }

    /// Whether a reference above or below the name is in its way.
    private borrowing func isBlocked(_ name: String) throws(GitError) -> Bool {
        try references().contains { name.hasPrefix("\($0.name)/") || $0.name.hasPrefix("\(name)/") }
    }

    /// Deletes a reference only if it still names `id`, under its lock file.
    ///
    /// `git_reference_delete` drops the reflog before it compares, so this takes the lock first and compares inside.
    /// - Returns: false when the reference is gone or names something else; nothing is changed then.
    /// - Throws: ``GitError``.
    public borrowing func deleteReference(_ name: String, ifAt id: ObjectID) throws(GitError) -> Bool {
        try retryingLock { () throws(GitError) in
            var transaction: OpaquePointer?
            try check(git_transaction_new(&transaction, pointer), "git_transaction_new")
            defer { git_transaction_free(transaction) }
            try check(git_transaction_lock_ref(transaction, name), "git_transaction_lock_ref")
            guard try target(of: name) == id else { return false }
            try check(git_transaction_remove(transaction, name), "git_transaction_remove")
            try check(git_transaction_commit(transaction), "git_transaction_commit")
            // Its directory would be in the way of a branch below this name.
            let code = git_reflog_delete(pointer, name)
            if code != GIT_ENOTFOUND.rawValue { try check(code, "git_reflog_delete") }
            return true
        }
    }

    /// Every reference with the object that it names, tags not peeled. Broken and dangling ones reach nothing and are left
    /// out, and so are symbolic ones: they reach only what the one that they name reaches, and dangle when that goes.
    /// - Throws: ``GitError``.
    public borrowing func references() throws(GitError) -> [(name: String, id: ObjectID)] {
        var iterator: OpaquePointer?
        try check(git_reference_iterator_new(&iterator, pointer), "git_reference_iterator_new")
        defer { git_reference_iterator_free(iterator) }
        var result: [(String, ObjectID)] = []
        var name: UnsafePointer<CChar>?
        while true {
            let code = git_reference_next_name(&name, iterator)
            if code == GIT_ITEROVER.rawValue { return result }
            try check(code, "git_reference_next_name")
            guard let text = name.map({ String(cString: $0) }) else { continue }
            if try isSymbolic(text) { continue }
            if let id = try target(of: text) { result.append((text, id)) }
        }
    }

    private borrowing func isSymbolic(_ name: String) throws(GitError) -> Bool {
        var reference: OpaquePointer?
        let code = git_reference_lookup(&reference, pointer, name)
        // Deleted since it was listed, or broken.
        if code < 0 { return false }
        defer { git_reference_free(reference) }
        return git_reference_type(reference) == GIT_REFERENCE_SYMBOLIC
    }

    /// libgit2 fails at once where git waits for a `.lock` file (100 ms for a loose reference, 1 s for packed-refs), so
    /// wait here. See: git `refs/files-backend.c`
    private borrowing func retryingLock<T>(_ body: () throws(GitError) -> T) throws(GitError) -> T {
        var wait: UInt32 = 1000
        var waited: UInt32 = 0
        while true {
            do { return try body() } catch {
                guard error.isLocked, waited < 3_000_000 else { throw error }
                usleep(wait)
                waited += wait
                wait = min(wait * 2, 50_000)
            }
        }
    }
}
