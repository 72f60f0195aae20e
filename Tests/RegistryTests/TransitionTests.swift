import Foundation
import Registry
import TestSupport
import Testing

@Suite struct TransitionTests {
    /// The state machine of the design, written down a second time.
    private static let legal: [RunState: Set<RunState>] = [
        .creating: [.ready, .quarantined], .ready: [.attached, .detached, .cleaning, .quarantined],
        .attached: [.attached, .detached, .cleaning, .quarantined], .detached: [.cleaning, .quarantined],
        .cleaning: [.removed, .ready, .attached, .detached, .quarantined], .quarantined: [.cleaning, .quarantined],
        .removed: [],
    ]
    /// Steps from `creating` to each state.
    private static let ways: [RunState: [RunState]] = [
        .creating: [], .ready: [.ready], .attached: [.ready, .attached], .detached: [.ready, .detached],
        .cleaning: [.ready, .cleaning], .quarantined: [.quarantined], .removed: [.ready, .cleaning, .removed],
    ]

    @Test(arguments: RunState.allCases, RunState.allCases)
    func `a step is taken exactly when it is legal`(from: RunState, to: RunState) async throws {
        let scratch = try Scratch()
        let registry = try scratch.registry()
        let run = try await registry.begin(makeRun(), switching: false, limits: Limits())
        for state in try #require(Self.ways[from]) {
            try await registry.transition(run.key, from: Set(RunState.allCases), to: state, action: "way")
        }
        let rows = try await registry.audit().count
        let error = await failure {
            try await registry.transition(run.key, from: Set(RunState.allCases), to: to, action: "step", detail: "d")
        }
        let isLegal = try #require(Self.legal[from]).contains(to) || from == to
        #expect(error == (isLegal ? nil : "illegalTransition"))
        #expect(try await registry.run(run.key)?.state == (isLegal ? to : from))
        let added = try await registry.audit().dropFirst(rows)
        #expect(added.map(\.action) == (isLegal ? ["step"] : []))
        if let event = added.first {
            #expect(event.from == from)
            #expect(event.to == to)
            #expect(event.key == run.key)
            #expect(event.path == run.path)
            #expect(event.actor == "test")
            #expect(event.detail == "d")
        }
    }

    @Test func `a step from a state that was not expected is refused, and nothing is written`() async throws {
        let scratch = try Scratch()
        let registry = try scratch.registry()
        let (made, _) = try await registry.spawn(makeRun())
        let run = try #require(try await registry.run(made.key))
        let rows = try await registry.audit().count
        let error = await failure {
            try await registry.transition(run.key, from: [.attached], to: .detached, action: "x") { $0.outcome = .ok }
        }
        #expect(error == "illegalTransition")
        #expect(try await registry.run(run.key) == run)
        #expect(try await registry.audit().count == rows)
    }

    @Test func `an unknown run is named as such`() async throws {
        let scratch = try Scratch()
        let registry = try scratch.registry()
        let key = try RunKey(issue: "local#1", run: "x")
        #expect(
            await failure { try await registry.transition(key, from: [.ready], to: .attached, action: "x") }
                == "unknownRun")
        #expect(
            await failure {
                _ = try await registry.activate(key, materializer: .git, identity: FileIdentity(device: 1, inode: 1))
            }
                == "unknownRun")
        #expect(try await registry.run(key) == nil)
        #expect(try await registry.audit().isEmpty)
    }

    @Test func `every field of a run survives the file`() async throws {
        let scratch = try Scratch()
        let registry = try scratch.registry()
        let (made, _) = try await registry.spawn(makeRun())
        let written = try await registry.transition(made.key, from: [.ready], to: .cleaning, action: "x", durable: true)
        { run in
            run.outcome = .timeout
            run.worker = WorkerProcess(pid: .max, start: "boot:12", host: "h")
            run.identity = FileIdentity(device: .max, inode: 1 << 63)
            run.reason = "r\n'\";ü"
            run.lockReason = ""
            run.removal = RemovalIntent(
                token: "t", discard: true, previousState: .attached, deleteBranchAt: nil, publishBranchAt: "p",
                actor: "a")
            run.endedAt = Date(timeIntervalSince1970: 1_000_000.5)
        }
        let read = try #require(try await scratch.registry().run(made.key))
        #expect(read.worker == written.worker)
        #expect(read.identity == written.identity)
        #expect(read.reason == written.reason)
        #expect(read.lockReason == "")
        #expect(read.removal == written.removal)
        #expect(read.endedAt == written.endedAt)
        #expect(read.outcome == .timeout)
        #expect(read.branch == written.branch)
        #expect(read.id == made.id)
    }

    @Test func `an abandoned creation leaves only its audit rows, and its names are free again`() async throws {
        let scratch = try Scratch()
        let registry = try scratch.registry()
        let run = try await registry.begin(makeRun(), switching: false, limits: Limits())
        try await registry.abandon(run.key, detail: "why")
        try await registry.abandon(run.key, detail: "again")
        #expect(try await registry.runs().isEmpty)
        #expect(try await registry.audit().map(\.action) == ["spawn.begin", "spawn.rolled-back"])
        #expect(try await registry.audit().last?.detail == "why")
        let (again, _) = try await registry.spawn(makeRun())
        #expect(again.id > run.id)
        #expect(await failure { try await registry.abandon(again.key, detail: "late") } == "illegalTransition")
        #expect(try await registry.run(again.key)?.state == .ready)
    }

    @Test func `runs and audit rows are found by what they are asked for`() async throws {
        let scratch = try Scratch()
        let registry = try scratch.registry()
        try await registry.spawn(makeRun("local#1", "2026-01-01-qa-1", repo: "/a"))
        try await registry.spawn(makeRun("local#2", "2026-01-01-qa-1", repo: "/a"))
        let (third, _) = try await registry.spawn(makeRun("local#2", "2026-01-01-backend-1", repo: "/b"))
        try await registry.transition(third.key, from: [.ready], to: .attached, action: "attach")
        #expect(try await registry.runs().count == 3)
        #expect(try await registry.runs(commonDir: "/a/.git").count == 2)
        #expect(try await registry.runs(issue: third.key.issue).count == 2)
        #expect(try await registry.runs(commonDir: "/b/.git", states: [.attached, .ready]).map(\.key) == [third.key])
        #expect(try await registry.runs(states: []).isEmpty)
        #expect(try await registry.run(atPath: third.path)?.key == third.key)
        #expect(try await registry.run(atPath: third.path + "/") == nil)
        #expect(try await registry.audit(issue: third.key.issue, run: third.key.run).count == 3)
        #expect(try await registry.audit(since: Date(timeIntervalSinceNow: 60)).isEmpty)
        try await registry.note("engine.note", detail: nil)
        #expect(try await registry.audit().last?.key == nil)
    }
}
