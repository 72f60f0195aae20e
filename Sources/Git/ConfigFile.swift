import CLibGit2
import Glibc

/// One `name = value` of a git configuration.
public struct ConfigEntry: Hashable, Sendable {
    /// Section and variable in lower case, for example `core.bare`; a subsection keeps its case.
    public let name: String
    /// The value; empty for a variable without one, which means true.
    public let value: String

    /// The value read as git reads booleans.
    public var isTrue: Bool { ["", "true", "yes", "on", "1"].contains(value.lowercased()) }
}

/// Reads configuration without opening a repository, which libgit2 refuses for extensions that it does not know.
public enum ConfigFile {
    /// Every entry of one file, includes followed; empty when there is no such file.
    /// - Throws: ``GitError`` when it cannot be parsed, or is no regular file: libgit2 would wait at a FIFO for ever.
    public static func entries(_ path: String) throws(GitError) -> [ConfigEntry] {
        Libgit2.start
        var value = stat()
        if stat(path, &value) == 0, value.st_mode & S_IFMT != S_IFREG {
            throw GitError(code: GIT_ERROR.rawValue, message: "\(path) is no regular file", function: "stat")
        }
        var config: OpaquePointer?
        try check(git_config_open_ondisk(&config, path), "git_config_open_ondisk")
        defer { git_config_free(config) }
        return try ConfigFile.entries(of: config)
    }

    static func entries(of config: OpaquePointer?) throws(GitError) -> [ConfigEntry] {
        var iterator: OpaquePointer?
        try check(git_config_iterator_new(&iterator, config), "git_config_iterator_new")
        defer { git_config_iterator_free(iterator) }
        var result: [ConfigEntry] = []
        var entry: UnsafeMutablePointer<git_config_entry>?
        while true {
            let code = git_config_next(&entry, iterator)
            if code == GIT_ITEROVER.rawValue { return result }
            try check(code, "git_config_next")
            guard let raw = entry?.pointee, let name = raw.name else { continue }
            result.append(
                ConfigEntry(name: String(cString: name), value: raw.value.map { String(cString: $0) } ?? ""))
        }
    }
}

extension Repository {
    /// The whole configuration that applies here, system and user files first, so that the last entry of a name wins.
    /// - Throws: ``GitError``.
    public borrowing func configuration() throws(GitError) -> [ConfigEntry] {
        var config: OpaquePointer?
        try check(git_repository_config_snapshot(&config, pointer), "git_repository_config_snapshot")
        defer { git_config_free(config) }
        return try ConfigFile.entries(of: config)
    }
}
