import Foundation
import TestSupport
import Testing
import WorktreeEngine

/// Where a cleanup has to decide whose work something is.
@Suite struct NestedDecisionTests {
    @Test func `a bare mirror in an ignored directory is a copy and no work`() async throws {
        let run = try await RunFixture()
        try await run.sh("mkdir build; git clone -q --mirror $REPO build/mirror.git")
        let plan = try await run.engine.planCleanup(run.key)
        #expect(plan.risks.isEmpty)
        #expect(plan.ignored == ["build/"])
        #expect(try await run.engine.cleanup(plan).run.state == .removed)
    }

    @Test func `a bare repository that is no mirror is work`() async throws {
        let run = try await RunFixture()
        try await run.sh(
            "mkdir build; git init -q --bare build/own.git; git push -q build/own.git HEAD:refs/heads/main")
        #expect(try await run.engine.planCleanup(run.key).risks.map(\.kind) == [.nestedRepository])
    }

    @Test func `a submodule at another commit than the staged one is work, as for git`() async throws {
        let run = try await RunFixture(
            prepare: """
                git init -q -b main $ROOT/sub; cd $ROOT/sub; git commit -q --allow-empty -m one
                git commit -q --allow-empty -m two; cd - >/dev/null
                git -c protocol.file.allow=always submodule --quiet add $ROOT/sub module; git commit -qm submodule
                """)
        try await run.sh("git -c protocol.file.allow=always submodule --quiet update --init")
        #expect(try await run.engine.planCleanup(run.key).risks.isEmpty)
        try await run.sh("git -C module checkout -q HEAD~1")
        #expect(try await git("status", "--porcelain", in: run.path) == " M module\n")
        let risks = try await run.engine.planCleanup(run.key).risks
        #expect(risks.map(\.kind) == [.submodule])
        #expect(risks.first?.path == "module")
    }

    @Test func `without its repository everything in a workdir is at risk, and can be discarded`() async throws {
        let run = try await RunFixture()
        try FileManager.default.moveItem(atPath: run.repository.path, toPath: "\(run.scratch.path)/moved")
        let plan = try await run.engine.planCleanup(run.key)
        #expect(plan.risks.map(\.path) == ["."])
        #expect(plan.risks.first?.detail.contains(run.repository.path) == true)
        await #expect(throws: EngineError.self) { try await run.engine.cleanup(plan) }
        #expect(FileManager.default.fileExists(atPath: "\(run.path)/README.md"))
        // It comes back, and with it the run.
        try FileManager.default.moveItem(atPath: "\(run.scratch.path)/moved", toPath: run.repository.path)
        #expect(try await run.engine.planCleanup(run.key).risks.isEmpty)
        try FileManager.default.removeItem(atPath: run.repository.path)
        let last = try await run.engine.planCleanup(run.key)
        #expect(try await run.engine.cleanup(last, discard: true).run.state == .removed)
        #expect(!FileManager.default.fileExists(atPath: run.path))
    }
}
