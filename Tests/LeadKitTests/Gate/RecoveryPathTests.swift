import Registry
import TestSupport
import Testing
import WorktreeEngine

@testable import LeadKit

@Suite struct RecoveryPathTests {
    private func path(_ code: EngineError.Code, cause: (any Error)? = nil) throws -> RecoveryPath {
        RecoveryPath(
            EngineError(code, .blocked, "x", cause: cause), try RunKey(issue: "local#1", run: "r-1"), run: nil,
            repository: "/srv/my repo", state: "/state", finished: [])
    }

    @Test func `a disk that is full wants a lower reserve, a limit that is reached a higher limit`() throws {
        #expect(try path(.disk).remedy.contains("lower limits.disk_reserve in [workdir] of workflow.toml"))
        #expect(try path(.limit).remedy.contains("raise limits in [workdir] of workflow.toml"))
    }

    @Test func `a repository without a commit wants one, and nothing from its remote`() throws {
        let path = try path(.unbornHead)
        #expect(path.remedy.contains("first commit"))
        #expect(!path.commands.isEmpty && !path.commands.contains { $0.contains("fetch") })
    }

    @Test func `of a repository that is gone no command is given that would need it`() throws {
        let path = try path(.noRepository)
        #expect(path.remedy.contains("/srv/my repo") && path.remedy.contains("[repos]"))
        #expect(path.commands.isEmpty)
    }

    @Test func `the run that is active is ended by the last command`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository("repo", [TestFile("a", "x")])
        let engine = try await scratch.engine()
        func spawn(_ run: String) async throws(EngineError) {
            _ = try await engine.spawn(
                SpawnRequest(issue: "local#1", run: run, role: "backend", repository: repository.path))
        }
        try await spawn("2026-02-14-backend-0001")
        let error = await #expect(throws: EngineError.self) { try await spawn("2026-02-14-backend-0002") }
        let cause = try #require(error)
        #expect(cause.code == .runActive)
        let path = RecoveryPath(
            cause, try RunKey(issue: "local#1", run: "2026-02-14-backend-0002"), run: nil,
            repository: repository.path, state: "/state", finished: [])
        #expect(
            path.commands.last
                == "wtengine detach local#1 2026-02-14-backend-0001 --outcome fail --state /state")
    }
}
