import Foundation
import Registry
import TestSupport
import Testing

@Suite struct AllocationTests {
    let scratch: Scratch
    let registry: Registry

    init() throws {
        scratch = try Scratch()
        registry = try scratch.registry()
    }

    private let day = Date(timeIntervalSince1970: 1_771_113_599)  // 2026-02-14T23:59:59Z

    private func allocate(_ registry: Registry, _ issue: String = "local#1", role: String = "qa", on date: Date? = nil)
        async throws -> String
    {
        try await registry.allocate(IssueRef(issue), role: Role(role), on: date ?? day).description
    }

    @Test func `numbers count for each issue, over roles and days`() async throws {
        #expect(try await allocate(registry) == "2026-02-14-qa-0001")
        #expect(try await allocate(registry, role: "back-end.2") == "2026-02-14-back-end.2-0002")
        #expect(try await allocate(registry, "local#2") == "2026-02-14-qa-0001")
        #expect(try await allocate(registry, on: day + 1) == "2026-02-15-qa-0003")
    }

    @Test func `a number is not given again when its run was rolled back, or chosen by somebody else`() async throws {
        let rolledBack = try makeRun("local#1", "2026-02-14-qa-0007")
        _ = try await registry.begin(rolledBack, switching: false, limits: Limits())
        try await registry.abandon(rolledBack.key, detail: "x")
        #expect(try await allocate(registry) == "2026-02-14-qa-0008")
        try await registry.spawn(makeRun("local#1", "2026-01-01-dev-0041"))
        #expect(try await allocate(registry) == "2026-02-14-qa-0042")
        // Ids of other forms and numbers beyond reason do not count.
        try await registry.spawn(makeRun("local#1", "mine-99", path: "/srv/x"))
        try await registry.spawn(makeRun("local#1", "2026-01-01-ops-9999999999", path: "/srv/y"))
        #expect(try await allocate(registry) == "2026-02-14-qa-0043")
    }

    @Test func `there are more than 9999`() async throws {
        try await registry.spawn(makeRun("local#1", "2026-01-01-dev-9999"))
        #expect(try await allocate(registry) == "2026-02-14-qa-10000")
    }

    @Test func `the longest role makes an id that is not too long`() async throws {
        #expect(try await allocate(registry, role: String(repeating: "r", count: 64)).utf8.count == 80)
        #expect(try await allocate(registry) == "2026-02-14-qa-0002")
    }

    @Test func `of many processes that ask at once each gets another number`() async throws {
        let registries = try (0..<8).map { try scratch.registry(actor: "r\($0)") }
        let ids = try await withThrowingTaskGroup(of: [String].self) { group in
            for registry in registries {
                group.addTask {
                    var ids: [String] = []
                    for _ in 0..<20 { ids.append(try await allocate(registry)) }
                    return ids
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        #expect(Set(ids).count == 160)
        #expect(try await allocate(registries[0]) == "2026-02-14-qa-0161")
    }

    @Test func `an attempt is open until it is settled, together with its message`() async throws {
        let (issue, role) = (try IssueRef("local#1"), try Role("qa"))
        let first = try await registry.begin(issue, role: role, on: day, outbox: "o", group: "g")
        #expect(first.number == 1)
        #expect(try await registry.openAllocations(outbox: "o", role: role) == [first])
        #expect(try await registry.openAllocations(outbox: "other", role: role) == [])
        let second = try await registry.replace(first, on: day, because: "it died")
        #expect(second.number == 2)
        #expect(second.replaces == first.key.run)
        #expect(second.reason == "it died")
        #expect(second.key.run.description == "2026-02-14-qa-0002")
        #expect(try await registry.openAllocations(outbox: "o", role: role) == [second])
        let message = Message.Draft(outbox: "o", key: second.key, trigger: "t", content: "{}")
        try await registry.settle(second.key, keeping: message)
        #expect(try await registry.openAllocations(outbox: "o", role: role) == [])
        #expect(try await registry.messages(outbox: "o").map(\.draft) == [message])
    }

    @Test func `the first message of each issue is due, and one of a kind is kept`() async throws {
        func keep(_ issue: String, _ trigger: String) async throws -> Bool {
            try await registry.keep(
                Message.Draft(
                    outbox: "o", key: try RunKey(issue: issue, run: "2026-02-14-qa-0001"), trigger: trigger,
                    content: trigger))
        }
        for (issue, trigger) in [("local#1", "a"), ("local#1", "b"), ("local#2", "a")] {
            #expect(try await keep(issue, trigger))
        }
        #expect(try await !keep("local#1", "a"))
        func due(_ date: Date = Date()) async throws -> [Message] {
            try await registry.dueMessages(outbox: "o", at: date)
        }
        #expect(try await due().map(\.id) == [1, 3])
        let first = try await due()[0]
        try await registry.postponed(first, until: Date() + 60, error: "out of reach")
        #expect(try await due().map(\.id) == [3])
        #expect(try await due(Date() + 61).map(\.id) == [1, 3])
        try await registry.delivered(first, result: "applied")
        // Delivered twice changes nothing.
        try await registry.delivered(first, result: "applied")
        #expect(try await due().map(\.id) == [2, 3])
        try await registry.refused(due()[0], error: "gone")
        #expect(try await registry.messages(outbox: "o", state: .refused).map(\.id) == [2])
        #expect(try await registry.messages(outbox: "o", state: .pending).map(\.id) == [3])
        // Its trigger stays taken for ever.
        #expect(try await !keep("local#1", "b"))
        #expect(
            try await registry.audit(issue: first.draft.key.issue).map(\.action) == [
                "message.kept", "message.kept", "message.delivered", "message.refused",
            ])
    }
}
