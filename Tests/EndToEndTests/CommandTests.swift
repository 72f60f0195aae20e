import Foundation
import TestSupport
import Testing

private let run1 = "2026-02-14-backend-0001"
private let run2 = "2026-02-14-backend-0002"

/// The contract of the command line: output, exit codes and JSON.
@Suite struct CommandTests {
    @Test func `spawn prints the path and nothing else`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let tool = try Tool(scratch)
        let answer = try await tool("spawn", "--repo", repository.path, "--issue", "local#1", "--run", run1)
        #expect(answer.status == 0)
        #expect(answer.output == "\(tool.state)/workdirs/local+1/\(run1)\n")
        #expect(answer.message == "")
    }

    @Test func `a run in JSON has every field of the contract`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let tool = try Tool(scratch)
        let path = try await tool.spawn(repository, issue: "org/repo#7", run: run1)
        let runs = try await tool("list", "--json").array
        #expect(runs.count == 1)
        let run = try #require(runs.first)
        for field in [
            "issue", "run", "role", "repo", "path", "branch", "base", "state", "materializer", "outcome", "pid",
            "createdAt", "updatedAt", "superseded",
        ] { #expect(run[field] != nil, "\(field)") }
        #expect(run["issue"] as? String == "org/repo#7")
        #expect(run["role"] as? String == "backend")
        #expect(run["repo"] as? String == repository.path)
        #expect(run["path"] as? String == path)
        #expect(run["branch"] as? String == "run/org/repo#7/\(run1)")
        #expect(run["base"] as? String == (try await repository.head()))
        #expect(run["state"] as? String == "ready")
        #expect(run["materializer"] as? String == "checkout")
        #expect(run["outcome"] is NSNull)
    }

    @Test func `a superseded run is refused with exit 2, which names the active run`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let tool = try Tool(scratch)
        _ = try await tool.spawn(repository, issue: "local#1", run: run1)
        let blocked = try await tool("spawn", "--repo", repository.path, "--issue", "local#1", "--run", run2)
        #expect(blocked.status == 3)
        #expect(blocked.message.contains(run1))
        _ = try await tool.spawn(repository, issue: "local#1", run: run2, more: ["--switch"])
        for command in [
            ["attach", "local#1", run1, "--pid", "\(getpid())"], ["detach", "local#1", run1, "--outcome", "ok"],
        ] {
            let late = try await tool.run(command)
            #expect(late.status == 2)
            #expect(late.message.contains(run2))
        }
        let actions = try await tool("audit", "--run", run1, "--json").output
        #expect(actions.contains("report.stale"))
    }

    @Test func `cleanup refuses work at risk with exit 5 and lists it`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let tool = try Tool(scratch)
        let path = try await tool.spawn(repository, issue: "local#1", run: run1)
        try "work".write(toFile: "\(path)/new.txt", atomically: true, encoding: .utf8)
        let plan = try await tool("cleanup", "local#1", run1, "--json")
        #expect(plan.status == 5)
        let risks = try plan.object["risks"] as? [[String: Any]]
        #expect(risks?.first?["kind"] as? String == "untracked")
        #expect(risks?.first?["path"] as? String == "new.txt")
        let token = try #require(try plan.object["token"] as? String)
        let refused = try await tool("cleanup", "local#1", run1, "--confirm", token)
        #expect(refused.status == 5)
        #expect(FileManager.default.fileExists(atPath: "\(path)/new.txt"))
        let wrong = try await tool("cleanup", "local#1", run1, "--confirm", "beef", "--discard")
        #expect(wrong.status == 1)
        #expect(FileManager.default.fileExists(atPath: "\(path)/new.txt"))
        let done = try await tool("cleanup", "local#1", run1, "--confirm", token, "--discard")
        #expect(done.status == 0)
        #expect(!FileManager.default.fileExists(atPath: path))
        #expect(try await tool("audit", "--json").output.contains("new.txt"))
    }

    @Test func `which finds the run from any path inside its workdir`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let tool = try Tool(scratch)
        let path = try await tool.spawn(repository, issue: "local#1", run: run1)
        #expect(try await tool("which", "\(path)/sub/deep/er/file.bat", "--json").object["run"] as? String == run1)
        #expect(try await tool("which", directory: "\(path)/sub").output.contains(run1))
        #expect(try await tool("which", scratch.path).status == 1)
    }

    @Test(arguments: [["list"], ["audit"], ["verify"], ["pool", "status"], ["show", "local#1", run1], ["which"]])
    func `looking makes no registry where there is none`(_ arguments: [String]) async throws {
        let scratch = try Scratch()
        let tool = try Tool(scratch)
        let answer = try await tool.run(arguments + ["--json", "--state", "\(scratch.path)/misspelt"])
        let isQuestionOfOne = ["show", "which"].contains(arguments[0])
        #expect(answer.status == (isQuestionOfOne ? 1 : 0), "\(answer.message)")
        #expect(answer.output == (isQuestionOfOne || arguments == ["audit"] ? "" : "[]\n"))
        #expect(!FileManager.default.fileExists(atPath: "\(scratch.path)/misspelt"))
    }

    @Test func `a misspelt command is named`() async throws {
        let scratch = try Scratch()
        let answer = try await Tool(scratch)("spwan", "--repo", ".")
        #expect(answer.status == 64 && answer.message.contains("\"spwan\" is not a command"), "\(answer.message)")
    }

    @Test func `a plan that cannot be confirmed is blocked`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let tool = try Tool(scratch)
        _ = try await tool.spawn(repository, issue: "local#1", run: run1)
        #expect(try await tool("lock", "local#1", run1, "--reason", "a demo").status == 0)
        let answer = try await tool("cleanup", "local#1", run1, "--json")
        #expect(answer.status == 3, "\(answer.message)")
        #expect(try answer.object["lockReason"] as? String == "a demo")
        #expect(try await tool("unlock", "local#1", run1).status == 0)
        #expect(try await tool("cleanup", "local#1", run1, "--json").status == 0)
    }

    @Test(arguments: [
        ["spawn"], ["spawn", "--repo", "."], ["detach", "local#1", "x", "--outcome", "great"], ["nonsense"],
        ["show", "local#0", "x"], ["show", "../evil#1", "x"], ["show", "local#1", "../x"], ["show", "local#1", "-x"],
        ["spawn", "--repo", ".", "--issue", "local#1", "--run", ".hidden"],
    ]) func `wrong usage exits 64 and changes nothing`(_ arguments: [String]) async throws {
        let scratch = try Scratch()
        let tool = try Tool(scratch)
        let answer = try await tool.run(arguments)
        #expect(answer.status == 64)
        #expect(!answer.message.isEmpty)
        #expect(answer.output == "")
    }

    @Test func `errors in JSON have a code, a message and a disposition`() async throws {
        let scratch = try Scratch()
        let tool = try Tool(scratch)
        let answer = try await tool("show", "local#1", run1, "--json")
        #expect(answer.status == 1)
        #expect(answer.output == "")
        let document = try JSONSerialization.jsonObject(with: Data(answer.message.utf8)) as? [String: [String: Any]]
        let error = document?["error"]
        #expect(error?["code"] as? String == "WT-RUN-UNKNOWN")
        #expect(error?["disposition"] as? String == "retry" && error?["mayRepeat"] as? Bool == false)
        #expect((error?["message"] as? String)?.contains(run1) == true)
    }

    @Test func `a configuration with an unknown key is refused with its name`() async throws {
        let scratch = try Scratch()
        let tool = try Tool(scratch, config: "[limits]\nper_repositroy = 3\n")
        let answer = try await tool("list")
        #expect(answer.status == 4)
        #expect(answer.message.contains("per_repositroy"))
        #expect(answer.message.contains("config.toml"))
    }

    @Test func `limits and the disk reserve refuse a spawn as blocked before anything is written`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let tool = try Tool(scratch, config: "[limits]\nper_repository = 1\ndisk_reserve = 0\n")
        _ = try await tool.spawn(repository, issue: "local#1", run: run1)
        let second = try await tool("spawn", "--repo", repository.path, "--issue", "local#2", "--run", run1)
        #expect(second.status == 3)
        #expect(second.message.contains("WT-LIMIT"))
        let poor = try Tool(scratch, config: "[limits]\ndisk_reserve = \"900000GiB\"\n")
        let third = try await poor("spawn", "--repo", repository.path, "--issue", "local#3", "--run", run1)
        #expect(third.status == 3)
        #expect(third.message.contains("WT-DISK"))
        #expect(try await git("branch", "--list", "run/*", in: repository.path).split(separator: "\n").count == 1)
    }

    @Test func `a supported repository is served without any process`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let tool = try Tool(scratch)
        // With nothing to be found in PATH no process can be started, and a fallback would fail.
        let bare: [String: String?] = ["PATH": "/nonexistent"]
        let arguments = ["spawn", "--repo", repository.path, "--issue", "local#1", "--run", run1]
        #expect(try await tool.run(arguments, environment: bare).status == 0)
        #expect(try await tool.run(["list"], environment: bare).status == 0)
        let plan = try await tool.run(["cleanup", "local#1", run1, "--json"], environment: bare)
        let token = try #require(try plan.object["token"] as? String)
        #expect(try await tool.run(["cleanup", "local#1", run1, "--confirm", token], environment: bare).status == 0)
    }

    @Test func `a pool is filled, claimed from, shown and drained without any process`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let tool = try Tool(scratch)
        let bare: [String: String?] = ["PATH": "/nonexistent"]
        let fill = ["pool", "fill", "--repo", repository.path, "--size", "2", "--json"]
        let filled = try await tool.run(fill, environment: bare)
        #expect(filled.status == 0, "\(filled.message)")
        #expect(try filled.object["ready"] as? Int == 2)
        let spawn = ["spawn", "--repo", repository.path, "--issue", "local#1", "--run", run1, "--json"]
        #expect(try await tool.run(spawn, environment: bare).object["materializer"] as? String == "pool")
        let status = try await tool("pool", "status", "--json").array
        #expect(status.map { $0["ready"] as? Int } == [1])
        #expect(status.first?["commit"] as? String == (try await repository.head()))
        #expect(try await tool("pool", "status").output.contains(repository.path))
        #expect(try await tool("sweep", "--json").object["slotsFilled"] as? Int == 1)
        #expect(try await tool.run(["pool", "drain", "--json"], environment: bare).object["drained"] as? Int == 2)
        let empty = try await tool(
            "spawn", "--repo", repository.path, "--issue", "local#2", "--run", run1, "--materializer", "pool")
        #expect(empty.status == 3)
        #expect(empty.message.contains("WT-POOL-EMPTY") && empty.message.contains("wtengine pool fill"))
        #expect(try await tool("pool", "fill", "--repo", repository.path, "--size", "-1").status == 64)
    }

    @Test(.enabled(if: geteuid() == 0, "needs root, to give a repository to another user"), arguments: [false, true])
    func `a repository of another user is refused, and served once it is listed as the message says`(
        hasList: Bool
    ) async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("it's theirs")
        try await shell("chown -R 12345 .", in: repository.path)
        let tool = try Tool(scratch)
        let home = "\(scratch.path)/home"
        try write(TestFile(".gitconfig", hasList ? "[safe]\n\tdirectory = /elsewhere\n" : ""), in: home)
        let environment = ["HOME": home, "GIT_CONFIG_GLOBAL": "\(home)/.gitconfig"]
        let spawn = ["spawn", "--repo", repository.path, "--issue", "local#1", "--run", run1]
        let refused = try await tool.run(spawn, environment: environment)
        #expect(refused.status == 4)
        #expect(refused.message.contains("WT-REPO-OWNER"), "\(refused.message)")
        let command = try #require(refused.message.split(separator: "`").first { $0.hasPrefix("git config") })
        try await run(["sh", "-ec", String(command)], in: scratch.path, environment: environment)
        let served = try await tool.run(spawn, environment: environment)
        #expect(served.status == 0, "\(served.message)")
    }
}
