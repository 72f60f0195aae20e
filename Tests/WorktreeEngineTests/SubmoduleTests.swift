import Foundation
import TestSupport
import Testing
import WorktreeEngine

@Suite struct SubmoduleTests {
    /// A repository with a submodule at `sub/mod`, whose source has a second commit.
    private func fixture(_ materializer: Materializer) async throws -> RunFixture {
        try await RunFixture(
            materializer,
            prepare: """
                git init -q -b main $ROOT/source
                git -C $ROOT/source commit -q --allow-empty -m one
                git -c protocol.file.allow=always submodule --quiet add $ROOT/source sub/mod
                git commit -qm 'a submodule'
                git -C $ROOT/source commit -q --allow-empty -m two
                [ -z "$(git for-each-ref refs/replace)" ] || git replace --graft HEAD
                """)
    }

    private static let populate = "git -c protocol.file.allow=always submodule --quiet update --init; cd sub/mod; "

    @Test(
        arguments: [
            RiskCase("not populated", "ls"),
            RiskCase("populated and clean", populate),
            RiskCase("an edit", populate + "echo x > new", "submodule sub/mod"),
            RiskCase("a commit", populate + "git commit -q --allow-empty -m x", "submodule sub/mod"),
            RiskCase(
                "a commit on a branch left",
                populate + "git checkout -q -b b; git commit -q --allow-empty -m x; git checkout -q --detach HEAD~1",
                "submodule sub/mod"),
            RiskCase("a stash", populate + "echo x > new; git add new; git stash -q", "submodule sub/mod"),
            RiskCase("an operation", populate + "git bisect start", "submodule sub/mod"),
            RiskCase(
                "a published commit, staged",
                populate + "git -c protocol.file.allow=always pull -q origin main; cd ../..; git add sub/mod",
                "staged sub/mod"),
        ], [Materializer.checkout, .pool, .git])
    func `work in a submodule`(_ work: RiskCase, _ materializer: Materializer) async throws {
        let run = try await fixture(materializer)
        try await run.sh(work.script)
        let plan = try await run.engine.planCleanup(run.key)
        #expect(Set(plan.risks.map { "\($0.kind.rawValue) \($0.path)" }) == work.risks)
        guard !work.risks.isEmpty else {
            #expect(try await run.engine.cleanup(plan).run.state == .removed)
            return
        }
        let before = try await run.witness()
        #expect(try await code { _ = try await run.engine.cleanup(plan) } == .workAtRisk)
        #expect(try await run.witness() == before)
        try await git("status", in: "\(run.path)/sub/mod")
        #expect(try await run.engine.cleanup(plan, discard: true).run.state == .removed)
    }

    @Test func `a commit in a submodule without files is found in the admin entry`() async throws {
        let run = try await fixture(.checkout)
        try await run.sh(
            Self.populate
                + "git checkout -q -b b; git commit -q --allow-empty -m x; cd ../..; git submodule --quiet deinit -f sub/mod"
        )
        #expect(try await run.engine.planCleanup(run.key).risks.map(\.kind) == [.submodule])
    }

    @Test func `a submodule serves as the repository of a run`() async throws {
        let run = try await fixture(.checkout)
        let workdir = try await run.engine.spawn(
            SpawnRequest(
                issue: "local#7", run: "2026-02-14-qa-0001", repository: "\(run.repository.path)/sub/mod"))
        #expect(try await run.engine.verify(workdir.run) == [])
        #expect(try await run.engine.cleanup(run.engine.planCleanup(workdir.run)).run.state == .removed)
    }
}
