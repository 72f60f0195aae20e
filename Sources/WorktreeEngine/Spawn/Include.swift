import CLinux
import Glibc
public import Registry
import SystemPackage

/// What became of the files that a run was to be given beside its commit.
public struct Included: Sendable, Hashable {
    /// Copied, or there already.
    public let copied: [String]
    /// Not there in the repository's main worktree.
    public let missing: [String]

    /// An answer.
    public init(copied: [String], missing: [String]) {
        self.copied = copied
        self.missing = missing
    }
}

extension Engine {
    /// Copies files that git ignores, such as `.env`, from the repository's main worktree into the workdir of a run.
    ///
    /// Only what git ignores in the workdir may be copied: anything else would be taken for the run's work. A file that is
    /// there already stays as it is, so that the call may be repeated.
    /// - Parameter paths: relative to the top, each of a regular file.
    /// - Throws: ``EngineError/Code/include`` for a path that git does not ignore, that leads through a symbolic link, or
    ///   that is no regular file; ``EngineError/Code/unknownRun``. Nothing is copied when any path is not ignored.
    public func include(_ paths: [String], in key: RunKey) async throws(EngineError) -> Included {
        try await Self.catching("copying files for \(key)") {
            if paths.isEmpty { return Included(copied: [], missing: []) }
            let run = try await self.run(key)
            guard run.repo != run.commonDir else {
                throw EngineError.include(
                    paths[0], "\(run.repo) is a bare repository, which has no main worktree to copy from")
            }
            for path in paths where try await !self.isIgnored(path, in: run.path) {
                throw EngineError.include(
                    path, "git does not ignore it in \(run.path), so it would be taken for work of the run")
            }
            return try await blocking {
                let missing = try paths.filter { path in
                    let components = path.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
                    guard components.allSatisfy({ !["", ".", "..", ".git"].contains($0) }) else {
                        throw EngineError.include(path, "it names no file below the top")
                    }
                    return try !Self.copy(path, components[...], from: Directory(run.repo), to: Directory(run.path))
                }
                return Included(copied: paths.filter { !missing.contains($0) }, missing: missing)
            }
        }
    }

    /// As git itself sees it: tracked files are not ignored. After `./` a colon has no special meaning.
    /// See: man git-check-ignore (EXIT STATUS)
    private func isIgnored(_ path: String, in workdir: String) async throws -> Bool {
        let answer = try await git.run(in: workdir, ["check-ignore", "--quiet", "--", "./\(path)"])
        guard [0, 1].contains(answer.status) else {
            throw EngineError.include(path, "git cannot say whether it ignores it: \(answer.message)")
        }
        return answer.status == 0
    }

    /// Goes down one directory at a time, on both sides, through no link.
    /// - Returns: false when there is no such file.
    private static func copy(
        _ path: String, _ components: ArraySlice<String>, from source: borrowing Directory,
        to target: borrowing Directory
    ) throws -> Bool {
        guard let name = components.first else { return false }
        do {
            if components.count > 1 {
                let inner = try source.open(name)
                return try copy(path, components.dropFirst(), from: inner, to: target.openOrMake(name))
            }
            var value = stat()
            // Locals, since a closure may not hold a borrowed directory.
            let (descriptor, place) = (source.descriptor, "\(source.path)/\(name)")
            try system("fstatat", place) { fstatat(descriptor, name, &value, AT_SYMLINK_NOFOLLOW) }
            guard value.st_mode & S_IFMT == S_IFREG else { throw EngineError.include(path, "it is no regular file") }
            if try target.contains(name) { return true }
            try source.copy(name, to: target)
            // A key that only its owner may read stays one.
            let (into, mode) = (target.descriptor, value.st_mode & 0o777)
            let placed = "\(target.path)/\(name)"
            try system("fchmodat", placed) { fchmodat(into, name, mode, 0) }
            return true
        } catch let error as SystemError {
            switch error.errno {
            case .noSuchFileOrDirectory: return false
            case .tooManySymbolicLinkLevels, .notDirectory:
                throw EngineError.include(path, "its way leads through something that is no directory (\(error))")
            default: throw error
            }
        }
    }
}

extension EngineError {
    fileprivate static func include(_ path: String, _ reason: String) -> EngineError {
        EngineError(
            .include, .blocked,
            "the file \(path.debugDescription) cannot be copied into a workdir: \(reason). Correct `include`, or add the "
                + "file to .gitignore.")
    }
}

extension EngineError.Code {
    /// A file that was to be copied into the workdir may not be.
    public static let include = Self(rawValue: "WT-INCLUDE")
}
