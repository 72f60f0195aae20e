import Foundation

/// git as a process: the rival, and the judge of whether a workdir is right.
struct Git: Sendable {
    /// The repository.
    let repository: String

    /// Runs git in the repository; it must succeed.
    @discardableResult
    func require(_ arguments: [String]) async throws -> Outcome {
        try await Command.require(["git", "-C", repository] + arguments)
    }

    /// `git worktree add` with so many checkout workers, as `man git-config` has it under `checkout.workers`.
    func add(_ path: String, _ commit: String, workers: Int) async throws -> UInt64 {
        try await require(Self.adding(path, commit, workers: workers)).nanoseconds
    }

    /// Arguments of ``add(_:_:workers:)``. The threshold is lowered so that many workers are many on every repository.
    static func adding(_ path: String, _ commit: String, workers: Int) -> [String] {
        [
            "-c", "checkout.workers=\(workers)", "-c", "checkout.thresholdForParallelism=1", "worktree", "add",
            "--quiet",
            "--detach", path, commit,
        ]
    }

    /// `git worktree remove`, which refuses a worktree that is not clean, as a cleanup of ours does.
    func remove(_ path: String) async throws -> UInt64 {
        try await require(["worktree", "remove", path]).nanoseconds
    }

    /// Removes worktrees without a look at them.
    func drop(_ paths: [String]) async throws {
        try await Command.require(["rm", "-rf", "--"] + paths)
        try await require(["worktree", "prune", "--expire=now"])
    }

    /// `git status` in a workdir, as a worker would run it.
    static func status(_ path: String) async throws -> UInt64 {
        let outcome = try await Command.require(["git", "-C", path, "status", "--porcelain"])
        guard outcome.output.isEmpty else {
            throw Failure(
                "\(path) is not clean:\n\(outcome.output.prefix(2000))\nNothing is measured with wrong files.")
        }
        return outcome.nanoseconds
    }

    /// Checks with git that a workdir is exactly the commit: by the index it came with, and then by the content of
    /// every file, with an index that knows no file's stat.
    static func verify(_ path: String, _ commit: String) async throws {
        _ = try await status(path)
        let head = try await Command.require(["git", "-C", path, "rev-parse", "HEAD"]).output.firstLine
        guard head == commit else { throw Failure("\(path) is at \(head) instead of \(commit).") }
        let index = "\(path).verify-index"
        defer { try? FileManager.default.removeItem(atPath: index) }
        let git = ["env", "GIT_INDEX_FILE=\(index)", "git", "-C", path]
        try await Command.require(git + ["read-tree", "HEAD"])
        let outcome = try await Command.require(git + ["status", "--porcelain", "--ignored"])
        guard outcome.output.isEmpty else {
            throw Failure("\(path) differs from \(commit):\n\(outcome.output.prefix(2000))\nThat is a bug; report it.")
        }
    }
}
