import Foundation
public import WorktreeEngine

/// One run in a workdir of its own: what most tests of the lifecycle begin with.
public struct RunFixture: Sendable {
    /// Holds everything.
    public let scratch: Scratch
    /// The source repository.
    public let repository: TestRepository
    /// The engine.
    public let engine: Engine
    /// The run's workdir.
    public let workdir: Workdir

    /// The run.
    public var key: RunKey { workdir.run }
    /// The workdir's path.
    public var path: String { workdir.path }

    /// Makes repository, engine and run.
    /// - Parameters:
    ///   - materializer: `git` puts a replace reference into the repository, which libgit2 does not follow.
    ///   - prepare: a shell script that runs in the repository before the spawn.
    public init(
        _ materializer: Materializer = .checkout, branch: SpawnRequest.Branch = .template, prepare: String = ":",
        _ change: (inout Configuration) -> Void = { _ in }
    ) async throws {
        scratch = try Scratch()
        repository = try await scratch.repository()
        if materializer == .git { try await repository.refuseLibgit2() }
        try await shell(prepare, in: repository.path, ["ROOT": scratch.path])
        engine = try await scratch.engine(change)
        if materializer == .pool { try await engine.fillPool(repository: repository.path, size: 1) }
        workdir = try await engine.spawn(
            SpawnRequest(
                issue: "local#1", run: "2026-02-14-backend-0001", repository: repository.path, branch: branch,
                materializer: materializer == .clone ? .clone : nil))
        // Only the run is under test: no refill beside it, no slot left.
        if materializer == .pool { try await engine.drainPool() }
        guard workdir.materializer == materializer else {
            throw CommandError(description: "served by \(workdir.materializer) instead of \(materializer)")
        }
    }

    /// Another run in the same repository.
    public func sibling(
        issue: String = "local#2", _ run: String = "2026-02-14-backend-0001", switching: Bool = false,
        base: String? = nil, branch: SpawnRequest.Branch = .template
    ) async throws -> Workdir {
        try await engine.spawn(
            SpawnRequest(
                issue: issue, run: run, repository: repository.path, base: base, branch: branch, switching: switching))
    }

    /// Runs a shell script in the workdir; see ``shell(_:in:_:)``. It knows `$REPO`, `$ROOT` (the scratch directory)
    /// and `$BRANCH`.
    @discardableResult
    public func sh(_ script: String) async throws -> String {
        try await shell(
            script, in: path, ["REPO": repository.path, "ROOT": scratch.path, "BRANCH": workdir.branch ?? ""])
    }

    /// Everything that a refused cleanup may not change.
    public func witness() async throws -> Witness {
        Witness(
            files: try snapshot(path), run: try await engine.run(key),
            worktrees: try await git("worktree", "list", "--porcelain", in: repository.path),
            references: try await git("for-each-ref", in: repository.path),
            head: try await git("rev-parse", "HEAD", in: path, expecting: nil))
    }

    /// What ``witness()`` saw.
    public struct Witness: Hashable, Sendable {
        /// The workdir, byte for byte.
        public let files: [String: String]
        /// The registry's row.
        public let run: Run
        /// What git lists.
        public let worktrees: String
        /// All references.
        public let references: String
        /// The workdir's HEAD.
        public let head: String
    }
}

extension TestRepository {
    /// Makes a repository that only a git process serves right: a replace reference, which libgit2 does not follow.
    public func refuseLibgit2() async throws {
        try await commit([], message: "second")
        try await git("replace", "--graft", "HEAD", in: path)
    }

    /// How many worktrees git lists, the main one included.
    public func worktreeCount() async throws -> Int {
        try await git("worktree", "list", "--porcelain", in: path).split(separator: "\n")
            .filter { $0.hasPrefix("worktree ") }.count
    }

    /// The names of all branches.
    public func branches() async throws -> [String] {
        try await git("for-each-ref", "--format=%(refname:short)", "refs/heads", in: path).split(separator: "\n")
            .map(String.init)
    }
}

/// Runs a shell script that ends at the first failing command; see ``run(_:in:expecting:environment:)``.
@discardableResult
public func shell(
    _ script: String, in directory: String, _ variables: [String: String] = [:]
) async throws -> String {
    try await run(["sh", "-ec", script], in: directory, environment: variables)
}

/// The code of the error that a call throws; nil when it throws none.
public func code(_ body: () async throws -> Void) async throws -> EngineError.Code? {
    do { try await body() } catch let error as EngineError { return error.code }
    return nil
}

/// The path of a program of this package. The test bundle and the programs are products of one build and lie in one
/// directory.
public func builtProgram(_ name: String) -> String {
    let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? CommandLine.arguments[0]
    return URL(fileURLWithPath: bundle).deletingLastPathComponent().appendingPathComponent(name).path
}
