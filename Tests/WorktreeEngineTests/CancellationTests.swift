import Foundation
import Glibc
import TestSupport
import Testing

@testable import WorktreeEngine

/// A task that is cancelled in the middle of an operation leaves nothing half-made: what it began is undone, or done.
@Suite struct CancellationTests {
    /// How often a spawn is cancelled, each time at another moment.
    private static let times = 50

    /// Runs an operation in a task that has been cancelled before it begins.
    private func alreadyCancelled<T: Sendable>(
        _ body: @escaping @Sendable () async throws -> T
    ) async -> Result<T, any Error> {
        let task = Task {
            while !Task.isCancelled { await Task.yield() }
            return try await body()
        }
        task.cancel()
        return await task.result
    }

    private func code(_ result: Result<some Any, any Error>) -> EngineError.Code? {
        guard case .failure(let error) = result else { return nil }
        return (error as? EngineError)?.code
    }

    /// A repository that is served in one way, and a pool for half of the spawns where that is the pool.
    private func prepare(_ way: Materializer) async throws -> (Scratch, TestRepository, Engine) {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        if way == .git { try await repository.refuseLibgit2() }
        let engine = try await scratch.engine { $0.refillsPools = false }
        if way == .pool { try await engine.fillPool(repository: repository.path, size: Self.times / 2) }
        return (scratch, repository, engine)
    }

    private func forced(_ way: Materializer) -> Materializer? { way == .checkout || way == .clone ? way : nil }

    /// Everything that a spawn makes, and a rollback or a cleanup takes away. Slots of a pool are used up by both.
    private func residue(_ repository: TestRepository, _ engine: Engine) async throws -> [String] {
        _ = await engine.finishTrash()
        let found = try await Footprint(repository.path, engine)
        let locks = try await TestSupport.run(
            ["find", ".git", "-name", "*.lock", "!", "-name", "wtengine.lock"], in: repository.path)
        return [found.worktrees, found.references, locks] + found.entries.filter { !$0.hasPrefix("pool-") }
            + found.stage + ["\(found.runs) runs"]
    }

    // MARK: Spawns

    @Test(arguments: [Materializer.checkout, .pool, .git, .clone])
    func `a spawn that is cancelled at any moment is ready or leaves nothing`(_ way: Materializer) async throws {
        let (scratch, repository, engine) = try await prepare(way)
        defer { withExtendedLifetime(scratch) {} }
        var ready: [Workdir] = []
        var moments = try await Moments {
            ready.append(
                try await engine.spawn(request(repository.path, issue: "local#1000", materializer: forced(way))))
        }
        for number in 1...Self.times {
            let before = try await residue(repository, engine)
            let result = await moments.cancel {
                try await engine.spawn(
                    request(repository.path, issue: "local#\(number)", materializer: forced(way)))
            }
            switch result {
            case .success(let workdir):
                #expect(try await engine.run(workdir.run).state == .ready)
                ready.append(workdir)
            case .failure(let error):
                #expect((error as? EngineError)?.code == .cancelled, "\(error)")
                let left = try await residue(repository, engine)
                #expect(left == before, "\(left.filter { !before.contains($0) })")
                #expect(try await engine.runs(issue: IssueRef("local#\(number)")).isEmpty)
                // The same request can be made again.
                if number % 10 == 0 {
                    ready.append(
                        try await engine.spawn(
                            request(repository.path, issue: "local#\(number)", materializer: forced(way))))
                }
            }
        }
        #expect(try await engine.recover().isEmpty)
        for workdir in ready {
            try await expectClean(workdir.path)
            _ = try await engine.cleanup(engine.planCleanup(workdir.run))
        }
        #expect(try await repository.worktreeCount() == 1)
        #expect(try await repository.branches() == ["main"])
    }

    @Test func `a spawn in a cancelled task begins nothing`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let engine = try await scratch.engine()
        let result = await alreadyCancelled { try await engine.spawn(request(repository.path)) }
        #expect(code(result) == .cancelled)
        #expect(try await engine.audit().isEmpty)
    }

    @Test func `a switch that is cancelled leaves the active run active, or is done`() async throws {
        let run = try await RunFixture()
        var moments = try await Moments { _ = try await run.sibling() }
        var active = run.key.run.description
        for number in 2...30 {
            let next = "2026-02-14-backend-\(1000 + number)"
            let result = await moments.cancel {
                try await run.engine.spawn(request(run.repository.path, run: next, switching: true))
            }
            if case .success(let workdir) = result {
                #expect(workdir.superseded?.run.description == active)
                active = next
            }
            let issue = run.key.issue
            #expect(
                try await run.engine.runs(issue: issue).filter(\.isActive).map(\.key.run.description) == [active])
        }
        #expect(try await run.engine.recover().isEmpty)
    }

    // MARK: Reports

    @Test func `a cancelled task reports the end of its run all the same`() async throws {
        let run = try await RunFixture()
        let engine = run.engine
        let key = run.key
        let attached = await alreadyCancelled { try await engine.attach(key, process: getpid()) }
        #expect(try attached.get().state == .attached)
        let detached = await alreadyCancelled { try await engine.detach(key, outcome: .ok) }
        #expect(try detached.get().outcome == .ok)
        #expect(try await engine.run(key).state == .detached)
    }

    @Test(arguments: [Materializer.checkout, .git])
    func `a detach with its cleanup that is cancelled is recorded, and the rest is left to a sweep`(
        _ way: Materializer
    ) async throws {
        let run = try await RunFixture(way) { $0.policies[.ok] = .immediate }
        let engine = run.engine
        var moments = try await Moments { try await engine.detach(run.key, outcome: .ok) }
        for number in 2...12 {
            let workdir = try await run.sibling(issue: "local#\(number)")
            let result = await moments.cancel {
                try await engine.detach(workdir.run, outcome: .ok)
            }
            #expect(try [.detached, .removed].contains(result.get().state))
        }
        #expect(try await engine.recover().isEmpty)
        _ = try await engine.sweep()
        #expect(try await engine.runs().allSatisfy { $0.state == .removed && $0.outcome == .ok })
        #expect(try await run.repository.worktreeCount() == 1)
    }

    // MARK: Cleanups

    @Test(arguments: [Materializer.checkout, .git, .clone])
    func `a cleanup that is cancelled at any moment is done, or has changed nothing`(
        _ way: Materializer
    ) async throws {
        let (scratch, repository, engine) = try await prepare(way)
        defer { withExtendedLifetime(scratch) {} }
        func make(_ number: Int) async throws -> Workdir {
            let workdir = try await engine.spawn(
                request(repository.path, issue: "local#\(number)", materializer: forced(way)))
            // The branch of every other one has to be kept; that of a clone is handed over then.
            if number % 2 == 0 { try await sh("git commit -q --allow-empty -m own-\(number)", in: workdir.path) }
            return workdir
        }
        @Sendable func cleanup(_ workdir: Workdir) async throws {
            _ = try await engine.cleanup(engine.planCleanup(workdir.run))
        }
        let first = try await make(1000)
        var moments = try await Moments { try await cleanup(first) }
        var kept: Set<String> = []
        for number in 1...(way == .checkout ? Self.times : 20) {
            let workdir = try await make(number)
            if number % 2 == 0 { kept.formUnion(workdir.branch.map { [$0] } ?? []) }
            let before = try snapshot(workdir.path)
            let result = await moments.cancel { try await cleanup(workdir) }
            if case .failure(let error) = result {
                #expect((error as? EngineError)?.code == .cancelled, "\(error)")
                #expect(try await engine.run(workdir.run).state == .ready)
                #expect(try snapshot(workdir.path) == before)
                try await cleanup(workdir)
            }
            #expect(try await engine.run(workdir.run).state == .removed)
            #expect(!FileManager.default.fileExists(atPath: workdir.path))
        }
        #expect(try await engine.recover().isEmpty)
        #expect(await engine.finishTrash() == 0)
        #expect(try await repository.worktreeCount() == 1)
        let branches = try await repository.branches()
        #expect(Set(branches).isSuperset(of: kept))
        #expect(branches.count { $0 != "main" } == kept.count + 1, "that of the first")
    }

    @Test func `a sweep that is cancelled has cleaned up some runs, and the next the others`() async throws {
        let run = try await RunFixture { $0.policies[.ok] = .ttl(.zero) }
        let engine = run.engine
        func end(_ numbers: ClosedRange<Int>) async throws {
            for number in numbers {
                try await engine.detach(run.sibling(issue: "local#\(number)").run, outcome: .ok)
            }
        }
        try await engine.detach(run.key, outcome: .ok)
        try await end(2...6)
        let none = await alreadyCancelled { try await engine.sweep() }
        #expect(code(none) == .cancelled)
        #expect(try await engine.runs().allSatisfy { $0.state == .detached })
        var moments = try await Moments { _ = try await engine.sweep() }
        #expect(try await engine.runs().allSatisfy { $0.state == .removed })
        try await end(7...12)
        let result = await moments.cancel { try await engine.sweep() }
        if case .failure = result { #expect(code(result) == .cancelled) }
        #expect(try await engine.runs().allSatisfy { [.detached, .removed].contains($0.state) })
        #expect(try await engine.recover().isEmpty)
        _ = try await engine.sweep()
        #expect(try await engine.runs().allSatisfy { $0.state == .removed })
    }

    // MARK: git

    @Test func `what git has started ends with it when the task is cancelled`() async throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/pid"
        try await expectCancelled(path) { try await $0.run(in: nil, Self.startingSleep(path)) }
    }

    @Test func `what git has started and takes no notice of its end is killed and waited for`() async throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/pid"
        let repository = try await scratch.repository()
        try await sh("echo '* filter=deaf' >.gitattributes; git add -A; git commit -qm filter", in: repository.path)
        // `git worktree add` and the `git reset` that it starts end at once; the filter of that does not.
        try await expectCancelled(path) {
            try await $0.run(
                in: repository.path,
                [
                    "-c", "filter.deaf.smudge=trap '' TERM; echo $$ > \(path).new; mv \(path).new \(path); sleep 600",
                    "worktree", "add", "--detach", "\(scratch.path)/workdir",
                ])
        }
    }

    /// Cancels a call of git when it has told a process, which has to be gone when the call has returned.
    /// - Parameter path: where the number of that process is told.
    private func expectCancelled(
        _ path: String, _ body: @escaping @Sendable (GitProcess) async throws -> GitProcess.Result
    ) async throws {
        let task = Task { try await body(GitProcess(timeout: .seconds(600))) }
        let deadline = ContinuousClock.now + .seconds(300)
        while access(path, F_OK) != 0, ContinuousClock.now < deadline { try await Task.sleep(for: .milliseconds(5)) }
        task.cancel()
        switch await task.result {
        case .success(let result): Issue.record("it ended with status \(result.status)")
        case .failure(let error): #expect(error is CancellationError, "\(error)")
        }
        try expectGone(path)
    }

    @Test func `what git has started ends with it when its time is over`() async throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/pid"
        // On a busy machine it may take some seconds until git has started anything.
        for seconds in [2, 10, 60, 300] where access(path, F_OK) != 0 {
            let git = GitProcess(timeout: .seconds(seconds))
            do {
                let result = try await git.run(in: nil, Self.startingSleep(path))
                Issue.record("it ended with status \(result.status)")
            } catch let error as EngineError {
                #expect(error.code == .git && error.disposition == .retry, "\(error)")
            }
        }
        try expectGone(path)
    }

    /// A git command that starts another process and waits for it.
    /// - Parameter path: gets the number of that process.
    private static func startingSleep(_ path: String) -> [String] {
        ["-c", "alias.work=!sleep 600 & echo $! > \(path).new; mv \(path).new \(path); wait", "work"]
    }

    private func expectGone(_ path: String) throws {
        let pid = try String(contentsOfFile: path, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
        // A zombie that nobody has reaped yet has ended as well. See: man 5 proc
        let state = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)
        #expect(state == nil || state?.contains(") Z ") == true, "\(state ?? "")")
    }
}

/// Random moments of the time that an operation takes.
private struct Moments {
    private var usual: Duration

    /// Measures it once.
    init(_ body: () async throws -> Void) async throws {
        usual = try await ContinuousClock().measure { try await body() }
    }

    /// Runs the operation in a task that is cancelled in the middle, or a little late.
    mutating func cancel<T: Sendable>(
        _ body: @escaping @Sendable () async throws -> T
    ) async -> Result<T, any Error> {
        let begun = ContinuousClock.now
        let task = Task { try await body() }
        let delay = usual * Double.random(in: 0...1.2)
        let timer = Task {
            try await Task.sleep(for: delay)
            task.cancel()
        }
        let result = await task.result
        timer.cancel()
        // What else the machine has to do changes.
        if case .success = result { usual = begun.duration(to: .now) }
        return result
    }
}
