import Foundation
import Registry
import TestSupport
import Testing

@Suite struct ConcurrencyTests {
    @Test func `of eight registries that begin one role at once exactly one wins, each round`() async throws {
        let scratch = try Scratch()
        let registries = try (0..<8).map { try scratch.registry(actor: "r\($0)") }
        for round in 1...10 {
            let results = await withTaskGroup(of: String?.self) { group in
                for (index, registry) in registries.enumerated() {
                    group.addTask {
                        await failure {
                            try await registry.spawn(makeRun("local#\(round)", "2026-01-01-qa-\(index)"))
                        }
                    }
                }
                return await group.reduce(into: [String?]()) { $0.append($1) }
            }
            #expect(results.filter { $0 == nil }.count == 1)
            #expect(results.allSatisfy { [nil, "activeRun", "creationInProgress"].contains($0) }, "\(results)")
        }
        #expect(try await registries[0].runs().count == 10)
    }

    @Test func `eight registries create a missing file at once`() async throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/registry.sqlite"
        let errors = await withTaskGroup(of: String?.self) { group in
            for index in 0..<8 {
                group.addTask {
                    await failure { try await Registry(path: path, actor: "r").spawn(makeRun("local#\(index + 1)")) }
                }
            }
            return await group.reduce(into: [String]()) { if let error = $1 { $0.append(error) } }
        }
        #expect(errors == [])
        #expect(try await scratch.registry().runs().count == 8)
    }

    @Test func `limits hold when many begin at once`() async throws {
        let scratch = try Scratch()
        let registries = try (0..<4).map { _ in try scratch.registry() }
        let results = await withTaskGroup(of: String?.self) { group in
            for index in 0..<24 {
                group.addTask {
                    await failure {
                        try await registries[index % 4].spawn(
                            makeRun("local#\(index + 1)"), limits: Limits(perRepository: 5))
                    }
                }
            }
            return await group.reduce(into: [String?]()) { $0.append($1) }
        }
        #expect(results.filter { $0 == nil }.count == 5)
        #expect(results.filter { $0 == "limitReached" }.count == 19)
    }

    @Test func `of many switches at once each supersedes the one before, and one run is active`() async throws {
        let scratch = try Scratch()
        let registries = try (0..<4).map { _ in try scratch.registry() }
        try await registries[0].spawn(makeRun("local#1", "2026-01-01-qa-0"))
        await withTaskGroup(of: Void.self) { group in
            for index in 1...16 {
                group.addTask {
                    // One creation per role at a time: the others are told to wait.
                    while await failure({
                        try await registries[index % 4].spawn(
                            makeRun("local#1", "2026-01-01-qa-\(index)"), switching: true)
                    }) == "creationInProgress" { try? await Task.sleep(for: .milliseconds(2)) }
                }
            }
        }
        let runs = try await registries[0].runs()
        #expect(runs.count == 17)
        #expect(runs.filter(\.isActive).count == 1)
        #expect(runs.filter(\.superseded).count == 16)
        #expect(Set(runs.compactMap(\.supersededBy)).count == 16)
    }

    @Test func `every change has its audit row, in order, however many write`() async throws {
        let scratch = try Scratch()
        let registries = try (0..<4).map { try scratch.registry(actor: "r\($0)") }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<12 {
                group.addTask {
                    let registry = registries[index % 4]
                    let (made, _) = try await registry.spawn(makeRun("local#\(index + 1)"))
                    try await registry.transition(made.key, from: [.ready], to: .attached, action: "attach")
                    try await registry.transition(
                        made.key, from: [.attached], to: .detached, action: "detach", durable: true)
                }
            }
            try await group.waitForAll()
        }
        for made in try await registries[0].runs() {
            let events = try await registries[1].audit(issue: made.key.issue, run: made.key.run)
            #expect(events.map(\.action) == ["spawn.begin", "spawn.ready", "attach", "detach"])
            #expect(events.map(\.to) == [.creating, .ready, .attached, .detached])
            #expect(zip(events, events.dropFirst()).allSatisfy { $0.id < $1.id && $0.to == $1.from })
        }
    }
}
