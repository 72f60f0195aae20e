import Foundation
import Registry
import TestSupport
import Testing

@Suite struct ActiveRunTests {
    @Test func `a run id, a path and the role of an issue are each given once`() async throws {
        let scratch = try Scratch()
        let registry = try scratch.registry()
        try await registry.spawn(makeRun("local#1", "2026-01-01-qa-1"))
        func begin(_ run: Run, switching: Bool = false) async -> String? {
            await failure { _ = try await registry.begin(run, switching: switching, limits: Limits()) }
        }
        #expect(await begin(try makeRun("local#1", "2026-01-01-qa-1")) == "runExists")
        #expect(await begin(try makeRun("local#1", "2026-01-01-qa-1"), switching: true) == "runExists")
        #expect(await begin(try makeRun("local#1", "2026-01-01-qa-2")) == "activeRun")
        #expect(
            await begin(try makeRun("local#2", "2026-01-01-qa-1", path: "/srv/local+1/2026-01-01-qa-1")) == "pathTaken"
        )
        #expect(await begin(try makeRun("local#2", "2026-01-01-qa-1")) == nil)
        #expect(await begin(try makeRun("local#2", "2026-01-01-qa-1")) == "creationInProgress")
        #expect(await begin(try makeRun("local#2", "2026-01-01-qa-2")) == "creationInProgress")
        #expect(await begin(try makeRun("local#1", "2026-01-01-backend-1")) == nil)
        #expect(try await registry.runs().count == 3)
        #expect(try await registry.audit().filter { $0.action == "spawn.begin" }.count == 3)
    }

    @Test(arguments: [RunState.detached, .removed, .quarantined])
    func `a run that has ended makes room for the next, but its id stays taken`(state: RunState) async throws {
        let scratch = try Scratch()
        let registry = try scratch.registry()
        let (run, _) = try await registry.spawn(makeRun("local#1", "2026-01-01-qa-1"))
        if state == .removed { try await registry.transition(run.key, from: [.ready], to: .cleaning, action: "x") }
        try await registry.transition(run.key, from: Set(RunState.allCases), to: state, action: "x")
        try await registry.spawn(makeRun("local#1", "2026-01-01-qa-2"))
        let again = await failure {
            _ = try await registry.begin(makeRun("local#1", "2026-01-01-qa-1"), switching: true, limits: Limits())
        }
        #expect(again == "runExists")
    }

    @Test func `while a removal of the active run may still be refused, nobody takes its place`() async throws {
        let scratch = try Scratch()
        let registry = try scratch.registry()
        let (run, _) = try await registry.spawn(makeRun("local#1", "2026-01-01-qa-1"))
        try await registry.transition(run.key, from: [.ready], to: .cleaning, action: "x") {
            $0.removal = RemovalIntent(
                token: "t", discard: false, previousState: .ready, deleteBranchAt: nil, publishBranchAt: nil, actor: "a"
            )
        }
        let next = try makeRun("local#1", "2026-01-01-qa-2")
        #expect(await failure { _ = try await registry.begin(next, switching: false, limits: Limits()) } == "activeRun")
        try await registry.transition(run.key, from: [.cleaning], to: .ready, action: "x") { $0.removal = nil }
        #expect(await failure { _ = try await registry.begin(next, switching: false, limits: Limits()) } == "activeRun")
    }

    @Test func `a switch supersedes at its end, not at its beginning`() async throws {
        let scratch = try Scratch()
        let registry = try scratch.registry()
        let (first, none) = try await registry.spawn(makeRun("local#1", "2026-01-01-qa-1"))
        #expect(none == nil)
        let second = try await registry.begin(makeRun("local#1", "2026-01-01-qa-2"), switching: true, limits: Limits())
        #expect(try await registry.run(first.key)?.superseded == false)
        try await registry.transition(first.key, from: [.ready], to: .attached, action: "attach", reporting: true)
        let (active, superseded) = try await registry.activate(
            second.key, materializer: .git, identity: FileIdentity(device: 1, inode: 1))
        #expect(active.isActive)
        #expect(active.materializer == .git)
        #expect(superseded?.key == first.key)
        #expect(superseded?.state == .attached)
        #expect(superseded?.supersededBy == "2026-01-01-qa-2")
        #expect(superseded?.outcome == .superseded)
        #expect(superseded?.endedAt != nil)
        #expect(superseded?.isActive == false)
        let refusal = await staleness {
            _ = try await registry.transition(
                first.key, from: [.attached], to: .detached, action: "detach", reporting: true)
        }
        #expect(refusal == "local#1 2026-01-01-qa-1, active 2026-01-01-qa-2")
        #expect(try await registry.audit().map(\.action).suffix(2) == ["superseded", "spawn.ready"])
    }

    @Test func `a switch that is abandoned leaves the active run as it was`() async throws {
        let scratch = try Scratch()
        let registry = try scratch.registry()
        let (made, _) = try await registry.spawn(makeRun("local#1", "2026-01-01-qa-1"))
        let first = try #require(try await registry.run(made.key))
        let second = try await registry.begin(makeRun("local#1", "2026-01-01-qa-2"), switching: true, limits: Limits())
        try await registry.abandon(second.key, detail: "x")
        #expect(try await registry.run(first.key) == first)
    }

    @Test func `a late report names the run that is active now, not the direct successor`() async throws {
        let scratch = try Scratch()
        let registry = try scratch.registry()
        let (first, _) = try await registry.spawn(makeRun("local#1", "2026-01-01-qa-1"))
        for number in 2...4 { try await registry.spawn(makeRun("local#1", "2026-01-01-qa-\(number)"), switching: true) }
        let refusal = await staleness {
            _ = try await registry.transition(
                first.key, from: [.ready], to: .attached, action: "attach", reporting: true)
        }
        #expect(refusal == "local#1 2026-01-01-qa-1, active 2026-01-01-qa-4")
    }

    @Test func `limits count workdirs that exist and roles that are active`() async throws {
        let scratch = try Scratch()
        let registry = try scratch.registry()
        let limits = Limits(perRepository: 3, perRole: 2)
        func begin(_ issue: String, _ run: String, _ repo: String = "/repo", switching: Bool = false) async -> String? {
            await failure {
                try await registry.spawn(makeRun(issue, run, repo: repo), switching: switching, limits: limits)
            }
        }
        #expect(await begin("local#1", "2026-01-01-qa-1") == nil)
        #expect(await begin("local#2", "2026-01-01-qa-1") == nil)
        #expect(await begin("local#3", "2026-01-01-qa-1") == "limitReached")
        #expect(await begin("local#3", "2026-01-01-qa-1", "/other") == nil)
        // A switch takes the place of the run that it supersedes.
        #expect(await begin("local#1", "2026-01-01-qa-2", switching: true) == nil)
        #expect(await begin("local#4", "2026-01-01-backend-1") == "limitReached")
        let first = try RunKey(issue: "local#1", run: "2026-01-01-qa-1")
        try await registry.transition(first, from: [.ready], to: .cleaning, action: "x")
        #expect(await begin("local#4", "2026-01-01-backend-1") == "limitReached")
        try await registry.transition(first, from: [.cleaning], to: .removed, action: "x")
        #expect(await begin("local#4", "2026-01-01-backend-1") == nil)
        #expect(try await registry.runs(states: [.creating]).isEmpty)
    }

    @Test func `an adopted run never displaces what the registry knows`() async throws {
        let scratch = try Scratch()
        let registry = try scratch.registry()
        let (made, _) = try await registry.spawn(makeRun("local#1", "2026-01-01-qa-1"))
        let known = try #require(try await registry.run(made.key))
        #expect(try await !registry.adopt(makeRun("local#1", "2026-01-01-qa-1", path: "/srv/x")))
        #expect(try await !registry.adopt(makeRun("local#2", "2026-01-01-qa-1", path: known.path)))
        #expect(try await registry.run(known.key) == known)
        var older = Run(
            key: try RunKey(issue: "local#1", run: "2026-01-01-qa-0"), role: known.role, repo: "/repo",
            commonDir: "/repo/.git",
            root: "/srv", path: "/srv/older", adminID: "older", branch: nil, base: "b", materializer: .git,
            createdAt: Date(timeIntervalSince1970: 1))
        older.state = .ready
        #expect(try await registry.adopt(older))
        #expect(try await registry.run(older.key)?.superseded == true)
        #expect(try await registry.run(known.key)?.isActive == true)
        #expect(try await registry.audit().last?.action == "rebuilt")
    }
}

/// The run that was refused as stale, and the one that is active.
private func staleness(_ body: () async throws -> Void) async -> String? {
    do {
        try await body()
        return nil
    } catch {
        guard case .stale(let run, let successor)? = error as? RegistryError else { return "\(error)" }
        return "\(run.key), active \(successor ?? "none")"
    }
}
