import Foundation
import TestSupport
import Testing

/// The process is killed at its Nth call that changes a file, for many N; then `recover` has to mend what is left.
///
/// strace delivers the signal, so that the moments are exact and repeatable.
@Suite(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/strace"), "needs strace"))
struct CrashTests {
    private static let calls =
        "mkdirat,mkdir,renameat2,rename,unlinkat,unlink,link,symlinkat,fsync,fdatasync,pwrite64,write,ftruncate"

    /// A stride that is prime to the rhythm of the calls: over the arguments every phase of the operation is hit.
    private static let moments = Array(stride(from: 1, through: 120, by: 7))

    private func killing(at moment: Int) -> [String] {
        [
            "/usr/bin/strace", "-f", "-o", "/dev/null", "-e", "trace=\(Self.calls)", "-e",
            "inject=\(Self.calls):signal=SIGKILL:when=\(moment)",
        ]
    }

    /// git works, nothing is half-made, and a second recovery finds nothing to do.
    private func expectRecovers(_ tool: Tool, _ repository: TestRepository, _ comment: Comment) async throws {
        try await git("worktree", "list", in: repository.path)
        try await git("fsck", "--no-progress", in: repository.path)
        let first = try await tool("recover")
        #expect(first.status == 0, comment)
        let rows = try await tool("list", "--json").output
        let audit = try await tool("audit", "--json").output
        #expect(!rows.contains("\"state\":\"creating\"") && !rows.contains("\"state\":\"cleaning\""), comment)
        #expect(!rows.contains("\"state\":\"quarantined\""), comment)
        #expect(try await tool("recover").status == 0, comment)
        #expect(try await tool("list", "--json").output == rows, comment)
        #expect(try await tool("audit", "--json").output == audit, comment)
        for directory in ["\(tool.state)/workdirs/.wtengine/stage", "\(tool.state)/workdirs/.wtengine/trash"] {
            let left = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
            #expect(left == [], comment)
        }
    }

    @Test(arguments: moments) func `a spawn that is killed is undone or finished`(_ moment: Int) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let tool = try Tool(scratch)
        let spawn = ["spawn", "--repo", repository.path, "--issue", "local#1", "--run", "2026-02-14-backend-0001"]
        let killed = try await tool.run(spawn, wrapper: killing(at: moment))
        try await expectRecovers(tool, repository, "killed at \(moment), status \(killed.status)")
        let runs = try await tool("list", "--json").array
        if runs.isEmpty {
            // Nothing is left, so the very same request succeeds.
            #expect(try await tool.run(spawn).status == 0, "killed at \(moment)")
        }
        #expect(try await tool("verify", "local#1", "2026-02-14-backend-0001").status == 0, "killed at \(moment)")
    }

    /// Ready slots are whole, and every index in the common dir has its slot.
    private func expectPoolIsWhole(_ tool: Tool, _ repository: TestRepository, _ comment: Comment) throws {
        func names(_ path: String) -> [String] {
            ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
        }
        let top = "\(tool.state)/workdirs/.wtengine/pool"
        let slots = names(top).flatMap { names("\(top)/\($0)").filter { $0 != "pool.json" } }.sorted()
        let indexes = names("\(repository.path)/.git/wtengine")
        #expect(indexes == slots.map { "pool-\($0)" }, comment)
    }

    @Test(arguments: moments) func `a claim that is killed is undone or finished`(_ moment: Int) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let tool = try Tool(scratch)
        #expect(try await tool("pool", "fill", "--repo", repository.path, "--size", "2").status == 0)
        let spawn = [
            "spawn", "--repo", repository.path, "--issue", "local#1", "--run", "2026-02-14-backend-0001",
            "--materializer", "pool",
        ]
        let killed = try await tool.run(spawn, wrapper: killing(at: moment))
        let comment: Comment = "killed at \(moment), status \(killed.status)"
        try await expectRecovers(tool, repository, comment)
        try expectPoolIsWhole(tool, repository, comment)
        // At most one slot is gone, so the very same request finds one.
        if try await tool("list", "--json").array.isEmpty {
            #expect(try await tool.run(spawn).status == 0, comment)
        }
        #expect(try await tool("verify", "local#1", "2026-02-14-backend-0001").status == 0, comment)
        #expect(try await git("status", "--porcelain", "--ignored", in: try await path(tool)) == "", comment)
    }

    private func path(_ tool: Tool) async throws -> String {
        try await tool("show", "local#1", "2026-02-14-backend-0001", "--json").object["path"] as? String ?? ""
    }

    @Test(arguments: moments) func `a fill that is killed leaves whole slots only`(_ moment: Int) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let tool = try Tool(scratch)
        let killed = try await tool.run(
            ["pool", "fill", "--repo", repository.path, "--size", "2"], wrapper: killing(at: moment))
        let comment: Comment = "killed at \(moment), status \(killed.status)"
        try await expectRecovers(tool, repository, comment)
        try expectPoolIsWhole(tool, repository, comment)
        // What is there can be handed out, and the next fill goes on.
        #expect(try await tool("pool", "fill", "--repo", repository.path, "--size", "2").status == 0, comment)
        #expect(try await tool("pool", "status", "--json").array.first?["ready"] as? Int == 2, comment)
        let more = ["--materializer", "pool"]
        let workdir = try await tool.spawn(repository, issue: "local#1", run: "2026-02-14-backend-0001", more: more)
        #expect(try await git("status", "--porcelain", "--ignored", in: workdir) == "", comment)
        #expect(try await tool("verify", "local#1", "2026-02-14-backend-0001").status == 0, comment)
    }

    @Test(arguments: moments.prefix(10))
    func `a drain that is killed leaves whole slots only`(_ moment: Int) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let tool = try Tool(scratch)
        #expect(try await tool("pool", "fill", "--repo", repository.path, "--size", "2").status == 0)
        let killed = try await tool.run(["pool", "drain"], wrapper: killing(at: moment))
        let comment: Comment = "killed at \(moment), status \(killed.status)"
        try await expectRecovers(tool, repository, comment)
        try expectPoolIsWhole(tool, repository, comment)
        #expect(try await tool("pool", "drain").status == 0, comment)
        try expectPoolIsWhole(tool, repository, comment)
        #expect(try await tool("pool", "status", "--json").array.isEmpty, comment)
    }

    @Test(arguments: moments) func `a cleanup that is killed is finished or taken back`(_ moment: Int) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let tool = try Tool(scratch)
        let path = try await tool.spawn(repository, issue: "local#1", run: "2026-02-14-backend-0001")
        try "committed work\n".write(toFile: "\(path)/work.txt", atomically: true, encoding: .utf8)
        try await git("add", "work.txt", in: path)
        try await git("commit", "--quiet", "-m", "work", in: path)
        let commit = try await git("rev-parse", "HEAD", in: path)
        let token = try await tool.token("local#1", "2026-02-14-backend-0001")
        let killed = try await tool.run(
            ["cleanup", "local#1", "2026-02-14-backend-0001", "--confirm", token], wrapper: killing(at: moment))
        try await expectRecovers(tool, repository, "killed at \(moment), status \(killed.status)")
        // The run's commit is reached by nothing else, so its branch has to be there.
        let branch = try await git("rev-parse", "run/local#1/2026-02-14-backend-0001", in: repository.path)
        #expect(branch == commit, "killed at \(moment)")
        let run = try await tool("show", "local#1", "2026-02-14-backend-0001", "--json").object
        if run["state"] as? String == "ready" {
            #expect(try String(contentsOfFile: "\(path)/work.txt", encoding: .utf8) == "committed work\n")
        } else {
            #expect(run["state"] as? String == "removed", "killed at \(moment)")
            #expect(!FileManager.default.fileExists(atPath: path))
        }
    }
}
