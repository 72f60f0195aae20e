import Foundation
import Synchronization
import TestSupport
import Testing
import WorktreeEngine

@Suite struct ConcurrencyTests {
    @Test func `many spawns by several engines succeed beside git commit, gc, prune and pack-refs`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let engines = try await [scratch.engine(), scratch.engine(), scratch.engine(), scratch.engine()]
        let isDone = Flag()
        let workdirs = try await withThrowingTaskGroup(of: [Workdir].self) { group in
            for command in [
                "git commit -q --allow-empty -m beside", "git -c gc.auto=1 gc --quiet",
                "git worktree prune --expire=now",
                "git pack-refs --all",
            ] {
                group.addTask {
                    while !isDone.isSet { try await sh(command, in: repository.path) }
                    return []
                }
            }
            group.addTask {
                defer { isDone.set() }
                return try await withThrowingTaskGroup(of: Workdir.self) { spawns in
                    for number in 0..<32 {
                        spawns.addTask {
                            try await engines[number % 4].spawn(request(repository.path, issue: "local#\(number + 1)"))
                        }
                    }
                    return try await spawns.reduce(into: []) { $0.append($1) }
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        #expect(Set(workdirs.map(\.path)).count == 32)
        #expect(Set(workdirs.map(\.branch)).count == 32)
        for workdir in workdirs {
            #expect(try await git("status", "--porcelain", "--ignored", in: workdir.path) == "")
            #expect(try await sh("git rev-parse HEAD", in: workdir.path) == workdir.base + "\n")
        }
        let listed = try await git("worktree", "list", "--porcelain", in: repository.path)
        #expect(listed.split(separator: "\n").filter { $0.hasPrefix("locked wtengine ") }.count == 32)
        try await git("fsck", "--strict", in: repository.path)
        // And back again, all at once.
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (number, workdir) in workdirs.enumerated() {
                group.addTask {
                    let engine = engines[(number + 1) % 4]
                    _ = try await engine.cleanup(engine.planCleanup(workdir.run))
                }
            }
            try await group.waitForAll()
        }
        for engine in engines { #expect(await engine.finishTrash() == 0) }
        #expect(try await git("branch", "--list", "run/*", in: repository.path) == "")
        #expect(try await git("worktree", "list", in: repository.path).split(separator: "\n").count == 1)
    }

    @Test func `of many spawns of one run exactly one succeeds`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let engines = try await [scratch.engine(), scratch.engine()]
        let codes = await withTaskGroup(of: String?.self) { group in
            for number in 0..<8 {
                group.addTask {
                    do {
                        _ = try await engines[number % 2].spawn(request(repository.path))
                        return nil
                    } catch { return (error as? EngineError)?.code.rawValue ?? "\(error)" }
                }
            }
            return await group.reduce(into: [String?]()) { $0.append($1) }
        }
        #expect(codes.filter { $0 == nil }.count == 1)
        #expect(codes.allSatisfy { [nil, "WT-RUN-EXISTS", "WT-IN-PROGRESS"].contains($0) }, "\(codes)")
        #expect(try await git("worktree", "list", in: repository.path).split(separator: "\n").count == 2)
    }

    @Test func `of many spawns of one branch exactly one succeeds, and the others leave nothing`() async throws {
        let scratch = try Scratch()
        let repository = try await scratch.repository()
        let engine = try await scratch.engine()
        let codes = await withTaskGroup(of: String?.self) { group in
            for number in 1...8 {
                group.addTask {
                    do {
                        _ = try await engine.spawn(
                            request(repository.path, issue: "local#\(number)", branch: .named("same")))
                        return nil
                    } catch { return (error as? EngineError)?.code.rawValue ?? "\(error)" }
                }
            }
            return await group.reduce(into: [String?]()) { $0.append($1) }
        }
        #expect(codes.filter { $0 == nil }.count == 1)
        #expect(codes.filter { $0 == "WT-BRANCH-TAKEN" }.count == 7, "\(codes)")
        #expect(try await engine.runs().count == 1)
        #expect(try await git("rev-parse", "same", in: repository.path) == repository.head() + "\n")
        #expect(try FileManager.default.contentsOfDirectory(atPath: "\(repository.path)/.git/worktrees").count == 1)
        #expect(try FileManager.default.contentsOfDirectory(atPath: "\(repository.path)/.git/wtengine").isEmpty)
    }
}

/// Set once, read by others.
private final class Flag: Sendable {
    private let value = Mutex(false)
    var isSet: Bool { value.withLock { $0 } }
    func set() { value.withLock { $0 = true } }
}
