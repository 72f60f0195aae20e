import Foundation
import TestSupport
import Testing

/// The moments at which a command is killed: before its 1st, 24th, 47th ... call that changes a file, until it ends by
/// itself. `WTENGINE_TEST_STEP=1` takes every one, which takes long.
enum Moments {
    static let step =
        ProcessInfo.processInfo.environment["WTENGINE_TEST_STEP"].flatMap { Int($0) }.map { max(1, $0) } ?? 23

    /// Each takes its part of the moments, so that they run beside each other.
    static let parts = 0..<4

    /// Calls `body` with one moment after the other.
    /// - Parameter body: returns the answer of the command, which tells whether it was killed.
    static func each(_ part: Int, _ body: (Int) async throws -> Answer) async throws {
        var moment = 1 + part * step
        while try await body(moment).isKilled { moment += parts.count * step }
    }
}

extension Answer {
    /// Ended by SIGKILL.
    var isKilled: Bool { status == 128 + 9 }
}

/// A repository and a state directory in which commands are killed.
struct Crash {
    let scratch: Scratch
    let repository: TestRepository
    let tool: Tool

    static let key = ["local#1", "2026-02-14-backend-0001"]

    /// - Parameter directory: where; nil for the usual place.
    init(below directory: String? = nil, files: [TestFile] = TestFile.assorted) async throws {
        scratch = try Scratch(below: directory)
        repository = try await scratch.repository("repo", files)
        tool = try Tool(scratch)
    }

    /// `spawn` of the run that all of these tests are about.
    func spawn(_ more: String...) -> [String] {
        ["spawn", "--repo", repository.path, "--issue", Self.key[0], "--run", Self.key[1]] + more
    }

    /// Runs a command and kills it before its Nth call that changes a file.
    func killing(at moment: Int, _ arguments: [String], program: String = Tool.path) async throws -> Answer {
        let killat = [Tool.product("killat"), "\(moment)"]
        let answer = try await tool.run(arguments, wrapper: killat, program: program)
        // It ended by itself then, which it does without an error.
        if !answer.isKilled { #expect(answer.status == 0, "\(arguments): \(answer.message)") }
        return answer
    }

    /// A command that has to work.
    @discardableResult
    func succeed(_ arguments: [String], _ comment: Comment? = nil, program: String = Tool.path) async throws -> Answer {
        let answer = try await tool.run(arguments, program: program)
        #expect(answer.status == 0, "\(comment ?? ""): \(arguments): \(answer.message)")
        return answer
    }

    private func names(_ path: String) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
    }

    private func own(_ place: String) -> [String] { names("\(tool.state)/workdirs/.wtengine/\(place)") }

    /// The ready slots of all pools.
    var slots: [String] { own("pool").flatMap { own("pool/\($0)").filter { $0 != "pool.json" } }.sorted() }

    /// The templates of snapshots.
    var templates: [String] { own("templates") }

    /// Runs whose workdirs exist.
    func runs() async throws -> [[String: Any]] {
        try await tool("list", "--json").array.filter { $0["state"] as? String != "removed" }
    }

    /// git works, recovery brings everything to a legal state and leaves nothing half-made, and a second one finds
    /// nothing to do.
    /// - Parameter moment: when the recovery itself is killed at first; nil for never.
    func expectRecovers(killedAt moment: Int? = nil, _ comment: Comment) async throws {
        try await git("worktree", "list", in: repository.path)
        #expect(try await git("status", "--porcelain", in: repository.path) == "", comment)
        try await git("fsck", "--no-progress", in: repository.path)
        if let moment { _ = try await killing(at: moment, ["recover"]) }
        try await succeed(["recover"], comment)
        try await expectNothingHalfMade(comment)
        let rows = try await tool("list", "--json").output
        let audit = try await tool("audit", "--json").output
        for state in ["creating", "cleaning", "quarantined"] {
            #expect(!rows.contains("\"state\":\"\(state)\""), comment)
        }
        #expect(try await succeed(["recover", "--json"], comment).array.isEmpty, comment)
        #expect(try await tool("list", "--json").output == rows, comment)
        #expect(try await tool("audit", "--json").output == audit, comment)
        try await git("worktree", "list", in: repository.path)
    }

    /// What lies on disk belongs to runs, slots and templates that are whole.
    func expectNothingHalfMade(_ comment: Comment) async throws {
        #expect(own("stage") == [], comment)
        #expect(own("trash") == [], comment)
        for pool in own("pool") {
            #expect(own("pool/\(pool)").allSatisfy { $0 == "pool.json" || $0.hasPrefix("slot-") }, comment)
        }
        for template in templates {
            // Directories are noted only when the filling took longer than a tick of the clock.
            let names = own("templates/\(template)").filter { $0 != "wtengine-directories" }
            #expect(names == ["files", "index", "template.json"], comment)
        }
        let gitDir = "\(repository.path)/.git"
        // Every index in the common dir has its slot.
        #expect(names("\(gitDir)/wtengine") == slots.map { "pool-\($0)" }, comment)
        #expect(try await repository.worktreeCount() == runs().count + 1, comment)
        let locks = FileManager.default.enumerator(atPath: gitDir)?.compactMap { $0 as? String }
            .filter { $0.hasSuffix(".lock") }
        #expect(locks == ["wtengine.lock"] || locks == [], comment)
    }

    /// The run is there, as git would have made it.
    func expectIsClean(_ comment: Comment, _ path: String? = nil) async throws {
        #expect(try await tool.run(["verify"] + Self.key).status == 0, comment)
        let shown = try await tool.run(["show"] + Self.key + ["--json"]).object["path"] as? String
        let path = try path ?? #require(shown, comment)
        #expect(try await git("diff-files", "--name-only", in: path) == "", comment)
        #expect(try await git("status", "--porcelain", "--ignored", in: path) == "", comment)
    }

    /// Cleans up what there is and empties the pools: then nothing is left but templates.
    func expectCleansUp(_ comment: Comment) async throws {
        for run in try await runs() {
            let key = [run["issue"], run["run"]].compactMap { $0 as? String }
            try await succeed(["cleanup"] + key + ["--confirm", try await tool.token(key[0], key[1])], comment)
        }
        try await succeed(["pool", "drain"], comment)
        try await expectNothingHalfMade(comment)
        #expect(slots == [], comment)
        #expect(names("\(tool.state)/workdirs") == [".wtengine"], comment)
    }
}
