import Foundation

/// A repository under measurement: a clone of our own, so that no registration and no branch is ever made in another's.
struct Subject: Sendable {
    /// One file or directory of the commit.
    struct Entry: Sendable {
        let path: String
        /// As in a tree, for example 0o100644.
        let mode: UInt32
        let size: UInt64
    }

    let name: String
    /// The clone.
    let path: String
    /// The commit that every workdir is made of.
    let commit: String
    /// Directories come before what they hold.
    let entries: [Entry]

    var files: Int { entries.count { $0.mode != 0o040000 && $0.mode != 0o160000 } }
    var directories: Int { entries.count { $0.mode == 0o040000 } }
    var bytes: UInt64 { entries.reduce(0) { $0 + $1.size } }
    /// What the files take at least, in whole pages, with an inode each.
    var footprint: UInt64 { entries.reduce(0) { $0 + ($1.size + 4095) / 4096 * 4096 + 1024 } }

    /// Clones a repository into the workspace, so that objects and workdirs lie on one filesystem.
    init(cloning source: String, name: String, into path: String) async throws {
        self.name = name
        self.path = path
        do {
            try await Command.require([
                "git", "-c", "advice.detachedHead=false", "clone", "--quiet", "--no-hardlinks", "--no-checkout", "--",
                source, path,
            ])
        } catch {
            throw Failure("\(error)\n--repo takes the path of a complete local repository with a commit at HEAD.")
        }
        let git = Git(repository: path)
        // Nothing may start in the background while we measure.
        for (key, value) in [
            ("gc.auto", "0"), ("maintenance.auto", "false"), ("user.name", "b"), ("user.email", "b@b"),
        ] {
            try await git.require(["config", key, value])
        }
        commit = try await git.require(["rev-parse", "--verify", "HEAD^{commit}"]).output.firstLine
        let listing = try await git.require(["ls-tree", "-r", "-t", "-l", "-z", "--full-tree", commit]).output
        entries = try listing.utf8.split(separator: 0).map { try Self.entry(String(decoding: $0, as: UTF8.self)) }
        guard files > 0 else { throw Failure("\(source) has no files at HEAD, so there is nothing to measure.") }
    }

    /// `<mode> SP <type> SP <object> SP+ <size> TAB <path>`. See: man git-ls-tree
    private static func entry(_ line: String) throws -> Entry {
        let parts = line.split(separator: "\t", maxSplits: 1)
        let words = parts[0].split(separator: " ")
        guard parts.count == 2, words.count == 4, let mode = UInt32(words[0], radix: 8) else {
            throw Failure("git ls-tree said what is not understood: \(line)")
        }
        return Entry(path: String(parts[1]), mode: mode, size: UInt64(words[3]) ?? 0)
    }
}
