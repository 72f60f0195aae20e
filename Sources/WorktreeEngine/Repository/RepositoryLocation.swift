import CLinux
import Glibc
import SystemPackage

/// Where a repository is, found by reading the same files as git does and without libgit2, which refuses repositories
/// that only git can serve. `GIT_DIR` and friends in the environment are ignored.
package struct RepositoryLocation: Hashable, Sendable {
    /// The git directory whose HEAD is meant: the common dir, or the admin entry of a linked worktree.
    package let gitDir: String
    /// The git directory that all worktrees share; the key of the repository.
    let commonDir: String
    /// The top of the worktree that was named; nil in a bare repository.
    package let workTree: String?

    /// The repository as people name it: its main worktree, or else its git directory.
    var name: String {
        gitDir == commonDir ? workTree ?? commonDir : Self.name(of: commonDir)
    }

    /// The main worktree of a common dir, or itself.
    static func name(of commonDir: String) -> String {
        commonDir.hasSuffix("/.git") ? String(commonDir.dropLast("/.git".count)) : commonDir
    }

    /// Whether worktrees can be added.
    var isWritable: Bool { access(commonDir, W_OK) == 0 }

    /// Finds the repository that a path lies in. See: man gitrepository-layout, git `setup.c`
    /// - Throws: ``EngineError`` when there is none.
    package static func find(_ path: String) throws -> RepositoryLocation {
        guard !path.isEmpty, let start = realPath(path) else {
            throw EngineError(
                .noRepository, .blocked,
                "there is no repository at \(path.debugDescription): no such directory. Clone it there first, or correct --repo."
            )
        }
        var directory = start
        while true {
            if let location = try at(directory) { return location }
            guard directory != "/", let slash = directory.lastIndex(of: "/") else { break }
            directory = slash == directory.startIndex ? "/" : String(directory[..<slash])
        }
        throw EngineError(
            .noRepository, .blocked,
            "there is no git repository at \(path) or above it. Clone it there first, or correct --repo.")
    }

    private static func at(_ directory: String) throws -> RepositoryLocation? {
        let dotGit = directory == "/" ? "/.git" : "\(directory)/.git"
        if let gitDir = gitDirectory(atDotGit: dotGit) {
            guard let commonDir = commonDirectory(of: gitDir) else { return nil }
            return RepositoryLocation(gitDir: gitDir, commonDir: commonDir, workTree: directory)
        }
        guard isGitDirectory(directory), let commonDir = commonDirectory(of: directory) else { return nil }
        // Inside the .git of a worktree, or a bare repository.
        let top = directory.hasSuffix("/.git") ? String(directory.dropLast("/.git".count)) : nil
        return RepositoryLocation(gitDir: directory, commonDir: commonDir, workTree: top)
    }

    /// The git directory that `.git`, a directory or a file with `gitdir: <path>`, leads to; nil when it leads nowhere.
    static func gitDirectory(atDotGit dotGit: String) -> String? {
        var value = stat()
        guard stat(dotGit, &value) == 0 else { return nil }
        if value.st_mode & S_IFMT == S_IFDIR {
            return realPath(dotGit).flatMap { isGitDirectory($0) ? $0 : nil }
        }
        guard let slash = dotGit.lastIndex(of: "/"), let target = gitFileTarget(dotGit) else { return nil }
        let base = String(dotGit[..<slash])
        guard let gitDir = realPath(target.hasPrefix("/") ? target : "\(base)/\(target)"), isGitDirectory(gitDir) else {
            return nil
        }
        return gitDir
    }

    /// What a `.git` file names, as it stands there.
    static func gitFileTarget(_ dotGit: String) -> String? {
        guard let slash = dotGit.lastIndex(of: "/"),
            let parent = try? Directory(String(dotGit[...slash]) + "."),
            let text = (try? parent.read(String(dotGit[dotGit.index(after: slash)...]))) ?? nil,
            text.hasPrefix("gitdir: ")
        else { return nil }
        return String(text.dropFirst("gitdir: ".count).prefix { $0 != "\n" && $0 != "\r\n" })
    }

    /// git's own test: a HEAD, and objects and refs there or in the common dir.
    private static func isGitDirectory(_ path: String) -> Bool {
        var value = stat()
        guard lstat("\(path)/HEAD", &value) == 0, let commonDir = commonDirectory(of: path) else { return false }
        return stat("\(commonDir)/objects", &value) == 0 && stat("\(commonDir)/refs", &value) == 0
    }

    private static func commonDirectory(of gitDir: String) -> String? {
        guard let directory = try? Directory(gitDir), let text = try? directory.read("commondir") else {
            return realPath(gitDir)
        }
        let target = String(text.prefix { $0 != "\n" })
        return realPath(target.hasPrefix("/") ? target : "\(gitDir)/\(target)")
    }

    /// The name of a worktree that `path` lies in; nil when it lies in none.
    static func worktree(above path: String) -> String? {
        var directory = path
        while true {
            var value = stat()
            let dotGit = directory == "/" ? "/.git" : "\(directory)/.git"
            if lstat(dotGit, &value) == 0, gitDirectory(atDotGit: dotGit) != nil { return directory }
            guard directory != "/", let slash = directory.lastIndex(of: "/") else { return nil }
            directory = slash == directory.startIndex ? "/" : String(directory[..<slash])
        }
    }
}
