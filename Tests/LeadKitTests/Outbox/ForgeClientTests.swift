import ForgeServers
import Foundation
import Registry
import Testing

@testable import LeadKit

/// How the client of the forges behaves towards servers that fail, limit, hang or lie.
@Suite struct ForgeClientTests {
    private func read(_ fixture: ForgeFixture) async throws -> OutboxError? {
        try await outboxError { _ = try await fixture.outbox.issue(fixture.ref(1)) }
    }

    @Test(
        arguments: FakeForge.Kind.allCases,
        [FakeForge.Failure.status(500), .status(502), .status(503), .status(429), .drop])
    func `what may pass is tried again with growing pauses`(
        _ kind: FakeForge.Kind, _ failure: FakeForge.Failure
    ) async throws {
        let fixture = try await ForgeFixture(kind)
        fixture.openTodo()
        fixture.forge.fail(failure, times: 3)
        #expect(try await read(fixture) == nil)
        #expect(fixture.forge.requests.count == 4)
        let pauses = fixture.pauses.all
        try #require(pauses.count == 3)
        for (pause, full) in zip(pauses, [Duration.milliseconds(500), .seconds(1), .seconds(2)]) {
            #expect(pause >= full / 2 && pause <= full)
        }
        #expect(fixture.log.all.filter { $0.hasPrefix("notice") }.count == 3)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `it gives up after the last attempt`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        fixture.openTodo()
        fixture.forge.fail(.status(502, message: "upstream is down"), times: .max)
        let error = try #require(await read(fixture))
        #expect(error.kind == .unreachable)
        #expect(error.message.contains("status 502 (upstream is down), after 4 of 4 attempts"))
        #expect(error.message.contains("GET /"))
        #expect(fixture.forge.requests.count == 4)
    }

    /// What the forge says, and how long it is waited for.
    static let limits: [(FakeForge.Failure, Duration)] = [
        (.status(429, headers: ["Retry-After": "7"]), .seconds(7)),
        (.status(503, headers: ["Retry-After": "3"]), .seconds(3)),
        (.status(403, headers: ["Retry-After": "5"]), .seconds(5)),
        (
            .status(
                429, headers: ["Date": "Sat, 14 Feb 2026 12:00:00 GMT", "Retry-After": "Sat, 14 Feb 2026 12:00:09 GMT"]),
            .seconds(10)
        ),
        (
            .status(
                403,
                headers: [
                    "Date": "Sat, 14 Feb 2026 12:00:00 GMT", "X-RateLimit-Remaining": "0",
                    "X-RateLimit-Reset": "1771070430",
                ]), .seconds(31)
        ),
        (
            .status(
                429,
                headers: [
                    "Date": "Sat, 14 Feb 2026 12:00:00 GMT", "RateLimit-Remaining": "0",
                    "RateLimit-Reset": "1771070410",
                ]), .seconds(11)
        ),
        (.status(403, message: "You have exceeded a secondary rate limit."), .seconds(60)),
    ]

    @Test(arguments: FakeForge.Kind.allCases, limits.indices)
    func `a limit is waited for as long as the forge says`(_ kind: FakeForge.Kind, _ index: Int) async throws {
        let (failure, pause) = Self.limits[index]
        let fixture = try await ForgeFixture(kind)
        fixture.openTodo()
        fixture.forge.fail(failure)
        #expect(try await read(fixture) == nil)
        #expect(fixture.pauses.all == [pause])
        #expect(fixture.forge.requests.count == 2)
    }

    @Test(
        arguments: FakeForge.Kind.allCases,
        ["3600", "Sat, 14 Feb 2026 13:00:00 GMT"])
    func `a limit that lasts too long is an error, and nothing is sent until it is over`(
        _ kind: FakeForge.Kind, _ text: String
    ) async throws {
        let fixture = try await ForgeFixture(kind)
        fixture.openTodo()
        fixture.forge.fail(
            .status(429, headers: ["Date": "Sat, 14 Feb 2026 12:00:00 GMT", "Retry-After": text]), times: .max)
        let first = try #require(await read(fixture))
        #expect(first.kind == .unreachable)
        #expect(first.retryAfter.map { $0 >= .seconds(3600) } == true)
        #expect(fixture.forge.requests.count == 1)
        let second = try #require(await read(fixture))
        #expect(second.kind == .unreachable)
        #expect(second.retryAfter.map { $0 > .seconds(3000) } == true)
        #expect(fixture.forge.requests.count == 1)
    }

    @Test(arguments: FakeForge.Kind.allCases, [400, 401, 403, 404, 410, 422, 451])
    func `what the forge refuses is not tried again`(_ kind: FakeForge.Kind, _ status: Int) async throws {
        let fixture = try await ForgeFixture(kind)
        fixture.openTodo()
        fixture.forge.fail(.status(status, message: "it says\\n no"), times: .max)
        let error = try await outboxError {
            _ = try await fixture.outbox.issues(labelled: ["x"], assignedTo: "lead-backend")
        }
        #expect(error?.kind == .refused)
        #expect(error?.message.contains("status \(status) (it says no)") == true)
        #expect(fixture.forge.requests.count == 1)
        #expect(fixture.pauses.all.isEmpty)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `a wrong token is refused`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind, token: "wrong")
        fixture.openTodo()
        let error = try #require(await read(fixture))
        #expect(error.kind == .refused)
        #expect(error.message.contains("token"))
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `no answer in time is no answer`(_ kind: FakeForge.Kind) async throws {
        var patience = ForgePatience()
        patience.request = .milliseconds(300)
        patience.attempts = 1
        let fixture = try await ForgeFixture(kind, patience: patience)
        fixture.openTodo()
        fixture.forge.fail(.hang)
        let error = try #require(await read(fixture))
        #expect(error.kind == .unreachable)
        #expect(error.message.contains("no answer within"))
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `a call that is cancelled ends`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let (_, ref) = fixture.openTodo()
        fixture.forge.fail(.hang, times: .max)
        let (came, arrival) = AsyncStream.makeStream(of: Void.self)
        fixture.forge.interrupt { _ in arrival.finish() }
        let call = Task { try await outboxError { try await fixture.outbox.apply(fixture.update(ref)) } }
        for await _ in came {}
        call.cancel()
        let error = try await call.value
        #expect(error?.kind == .unreachable)
        #expect(fixture.forge.requests.count == 1)
    }

    @Test(arguments: ForgeKind.allCases)
    func `a server that is not there is out of reach`(_ kind: ForgeKind) async throws {
        // Nobody listens on port 1 of loopback: it is privileged, and its service is long gone.
        let fixture = try await ForgeFixture(
            FakeForge.Kind(rawValue: kind.rawValue)!, url: "http://127.0.0.1:1")
        let error = try #require(await read(fixture))
        #expect(error.kind == .unreachable)
        #expect(fixture.pauses.all.count == 3)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `nothing is sent unencrypted to a server that does not speak TLS`(_ kind: FakeForge.Kind) async throws {
        let plain = try await FakeForge(kind)
        let fixture = try await ForgeFixture(kind, url: plain.url.replacing("http:", with: "https:"))
        let error = try #require(await read(fixture))
        #expect(error.kind == .unreachable)
        #expect(plain.requests.isEmpty)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `an answer that is something else is damaged`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        fixture.openTodo()
        for failure in [
            FakeForge.Failure.garbage, .answer(200, headers: [:], body: ""), .answer(200, headers: [:], body: "[]"),
            .answer(200, headers: [:], body: #"{"number":1,"iid":1}"#),
            .answer(200, headers: [:], body: String(repeating: "[", count: 100_000)),
        ] {
            fixture.forge.fail(failure)
            #expect(try await read(fixture)?.kind == .damaged)
        }
        #expect(fixture.pauses.all.isEmpty)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `an answer that is too large is not read to its end`(_ kind: FakeForge.Kind) async throws {
        var patience = ForgePatience()
        patience.largestAnswer = 10_000
        let fixture = try await ForgeFixture(kind, patience: patience)
        let number = fixture.forge.open(body: String(repeating: "x", count: 20_000))
        let error = try await outboxError { _ = try await fixture.outbox.issue(fixture.ref(number)) }
        #expect(error?.kind == .damaged)
        #expect(error?.message.contains("10000 bytes") == true)
    }

    @Test(arguments: FakeForge.Kind.allCases, [301, 302, 303, 307, 308])
    func `no redirect is followed`(_ kind: FakeForge.Kind, _ status: Int) async throws {
        let fixture = try await ForgeFixture(kind)
        let (_, ref) = fixture.openTodo()
        let other = try await FakeForge(kind)
        fixture.forge.fail(.status(status, headers: ["Location": "\(other.url)/elsewhere"]), times: .max)
        let read = try await read(fixture)
        #expect(read?.kind == .refused)
        let written = try await outboxError { try await fixture.outbox.apply(fixture.update(ref)) }
        #expect(written?.kind == .refused)
        #expect(other.requests.isEmpty)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `no page of another server is fetched`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let other = try await FakeForge(kind)
        fixture.forge.fail(.answer(200, headers: ["Link": "<\(other.url)/x?page=2>; rel=\"next\""], body: "[]"))
        let error = try await outboxError {
            _ = try await fixture.outbox.issues(labelled: ["x"], assignedTo: "lead-backend")
        }
        #expect(error?.kind == .damaged)
        #expect(other.requests.isEmpty)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `a list without end is damaged`(_ kind: FakeForge.Kind) async throws {
        var patience = ForgePatience()
        patience.mostPages = 10
        let fixture = try await ForgeFixture(kind, patience: patience)
        fixture.forge.fail(
            .answer(200, headers: ["Link": "<\(fixture.forge.url)/again>; rel=\"next\""], body: "[]"), times: .max)
        let error = try await outboxError {
            _ = try await fixture.outbox.issues(labelled: ["x"], assignedTo: "lead-backend")
        }
        #expect(error?.kind == .damaged)
        #expect(fixture.forge.requests.count == 10)
    }

    @Test(arguments: FakeForge.Kind.allCases)
    func `every request says what the forge's documentation asks for`(_ kind: FakeForge.Kind) async throws {
        let fixture = try await ForgeFixture(kind)
        let (_, ref) = fixture.openTodo()
        try await fixture.outbox.apply(fixture.update(ref))
        for request in fixture.forge.requests {
            #expect(request.headers["user-agent"] == "wtengine")
            #expect(request.headers["content-type"] == (request.body.isEmpty ? nil : "application/json"))
            switch kind {
            case .github:
                #expect(request.headers["accept"] == "application/vnd.github+json")
                #expect(request.headers["x-github-api-version"] == "2022-11-28")
            case .gitlab:
                #expect(request.headers["accept"] == "application/json")
                #expect(request.headers["authorization"] == nil)
            }
        }
    }
}
