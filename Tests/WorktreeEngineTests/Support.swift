import Foundation
import TestSupport
import Testing
import WorktreeEngine

/// Runs a shell script.
@discardableResult
func sh(_ script: String, in directory: String) async throws -> String {
    try await run(["sh", "-ec", script], in: directory)
}

/// A request with the usual names.
func request(
    _ repository: String, issue: String = "local#1", run: String = "2026-02-14-backend-0001", base: String? = nil,
    branch: SpawnRequest.Branch = .template, switching: Bool = false, materializer: Materializer? = nil
) -> SpawnRequest {
    SpawnRequest(
        issue: issue, run: run, repository: repository, base: base, branch: branch, switching: switching,
        materializer: materializer)
}

/// Spawns, and compares the workdir with git's own of the same commit: files, modes, index and status.
@discardableResult
func expectEqualsGit(
    _ repository: String, materializer: Materializer = .checkout, base: String? = nil, scratch: Scratch
) async throws -> Workdir {
    let engine = try await scratch.engine()
    let workdir = try await engine.spawn(request(repository, base: base))
    #expect(workdir.materializer == materializer)
    let expected = try await gitsOwnCheckout(of: workdir.base, in: repository, scratch: scratch)
    #expect(try snapshot(workdir.path) == expected)
    try await expectClean(workdir.path)
    return workdir
}

/// A workdir that git finds nothing to say about.
func expectClean(_ path: String) async throws {
    #expect(try await git("diff-files", "--name-only", in: path) == "")
    #expect(try await git("diff-index", "--cached", "HEAD", in: path) == "")
    #expect(try await git("status", "--porcelain", "--ignored", in: path) == "")
    try await git("fsck", "--strict", in: path, expecting: nil)
}

/// What a failed spawn must leave as it was.
struct Footprint: Equatable {
    let worktrees: String
    let references: String
    let entries: [String]
    let stage: [String]
    let runs: Int

    init(_ repository: String, _ engine: Engine) async throws {
        worktrees = try await run(["git", "worktree", "list", "--porcelain"], in: repository, expecting: nil)
        references = try await run(["git", "for-each-ref"], in: repository, expecting: nil)
        let commonDir = try await run(
            ["git", "rev-parse", "--path-format=absolute", "--git-common-dir"], in: repository, expecting: nil
        )
        .trimmingCharacters(in: .whitespacesAndNewlines)
        func names(_ path: String) -> [String] {
            ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
        }
        entries = names("\(commonDir)/worktrees") + names("\(commonDir)/wtengine")
        let root = engine.configuration.roots.first ?? "\(engine.configuration.state)/workdirs"
        stage = names("\(root)/.wtengine/stage") + names("\(root)/.wtengine/trash")
        runs = try await engine.runs().count
    }
}

/// Expects a spawn to fail with a code, to leave nothing half-made, and to name what it was about.
func expectRefused(
    _ request: SpawnRequest, _ engine: Engine, code: EngineError.Code, mentions text: String? = nil,
    repository: String
) async throws {
    let before = try await Footprint(repository, engine)
    do {
        let workdir = try await engine.spawn(request)
        Issue.record("spawned \(workdir.path)")
    } catch {
        #expect(error.code == code, "\(error)")
        if let text { #expect(error.message.contains(text), "\(error)") }
    }
    #expect(try await Footprint(repository, engine) == before)
}
